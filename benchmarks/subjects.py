"""Who is compared: the kinds of nodes, and the lab in which the benchmark places them.

A :class:`Kind` is a program with its settings: a version of the Go node, or ours with a choice of data plane. A
:class:`Subject` is one column of the table: the kind of the sending node and that of the receiving one, which differ
only in the mixed pairings. Nodes run as an operator starts them, with the default log level; the tests' nodes log more.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.interop.lab import OURS, Lab, LabError
from tests.interop.nodes import GoNode, MeshNode, YggNode

__all__ = ["DATAPATH_VARIABLE", "BenchLab", "Kind", "Subject", "native_obstacle"]

DATAPATH_VARIABLE = "YGGPY_DATAPATH"
"""Environment variable that chooses our node's data plane: ``pure`` or ``native``."""

NATIVE_EXTENSION = "yggpy.datapath._native"


@dataclass(frozen=True)
class Kind:
    """A program under measurement."""

    program: str
    """:data:`OURS`, or a version of the Go node."""
    datapath: str = ""
    """Our data plane; empty: the node's own choice."""

    def __str__(self) -> str:
        if self.program != OURS:
            return f"Go {self.program}"
        return f"{OURS} {self.datapath}".strip()


@dataclass(frozen=True)
class Subject:
    """One column: who sends (and dials, forwards, is the hub), and who receives."""

    sender: Kind
    receiver: Kind

    def __str__(self) -> str:
        return str(self.sender) if self.sender == self.receiver else f"{self.sender} > {self.receiver}"


def native_obstacle() -> str | None:
    """Return why the native data plane can't be measured here, or None."""
    if importlib.util.find_spec(NATIVE_EXTENSION) is None:
        return f"there is no native data plane to measure: no {NATIVE_EXTENSION} is installed"
    return None


class _QuietGoNode(GoNode):
    def command(self) -> list[str | Path]:
        return [self.programs.node]


class _ChosenYggNode(YggNode):
    datapath = ""

    def command(self) -> list[str | Path]:
        # env(1) becomes the program that it starts, so the pid stays the node's.
        chosen: list[str | Path] = ["env", f"{DATAPATH_VARIABLE}={self.datapath}"] if self.datapath else []
        return [*chosen, sys.executable, "-m", "yggpy"]


class BenchLab(Lab):
    """A lab whose nodes are those that the benchmark measures."""

    def place(self, kind: Kind, name: str, **settings: object) -> MeshNode:
        """Add a node, not yet started, in a namespace of its own; ``settings`` are configuration keys."""
        label = f"{len(self.nodes):02}-{name}"
        node: MeshNode
        if kind.program == OURS:
            node = ours = _ChosenYggNode(label, self.space(), self.folder, settings)
            ours.datapath = kind.datapath
        else:
            node = _QuietGoNode(label, self.space(), self.folder, settings, self.programs[kind.program])
        self.nodes.append(node)
        return node

    def require_datapaths(self) -> None:
        """Fail if a node that was to use the native data plane has not even loaded it: its figures would be pure's."""
        file = f"/{NATIVE_EXTENSION.replace('.', '/')}."
        for node in self.nodes:
            if not isinstance(node, _ChosenYggNode) or node.datapath != "native" or not node.running:
                continue
            if file not in Path(f"/proc/{node.pid}/maps").read_text(encoding="utf-8", errors="replace"):
                raise LabError(f"{node!r} has not loaded {NATIVE_EXTENSION}")
