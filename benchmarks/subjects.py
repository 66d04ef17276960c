"""Who is compared: the kinds of nodes, and the lab in which the benchmark places them.

A :class:`Kind` is a program with its settings: a version of the Go node, or ours with a choice of data plane. A
:class:`Subject` is one column of the table: the kind of the sending node and that of the receiving one, which differ
only in the mixed pairings. Nodes run as an operator starts them, with the default log level; the tests' nodes log more.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import yggpy
from tests.interop.lab import OURS, Lab, LabError
from tests.interop.nodes import GoNode, MeshNode, YggNode

__all__ = ["BenchLab", "Kind", "Subject", "best_datapath", "program_stamp"]

NATIVE_EXTENSION = "yggpy.datapath._native"


@dataclass(frozen=True)
class Kind:
    """A program under measurement."""

    program: str
    """:data:`OURS`, or a version of the Go node."""
    datapath: str = ""
    """Our data plane, ``pure`` or ``native``; empty for Go."""

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


def best_datapath() -> str:
    """Return the data plane that our node would choose by itself: ``native`` where it is built."""
    return "pure" if importlib.util.find_spec(NATIVE_EXTENSION) is None else "native"


def program_stamp() -> float:
    """Return when the files of our node last changed (Unix time), to notice a change while it is measured."""
    files = [str(file) for file in Path(yggpy.__file__).parent.rglob("*.py")]
    extension = importlib.util.find_spec(NATIVE_EXTENSION)
    if extension is not None and extension.origin:
        files.append(extension.origin)
    return max(os.stat(file).st_mtime for file in files)


class _QuietGoNode(GoNode):
    def command(self) -> list[str | Path]:
        return [self.programs.node]


class _ChosenYggNode(YggNode):
    datapath = ""

    def command(self) -> list[str | Path]:
        return list(self.program)  # at the default log level


class BenchLab(Lab):
    """A lab whose nodes are those that the benchmark measures."""

    def place(self, kind: Kind, name: str, **settings: object) -> MeshNode:
        """Add a node, not yet started, in a namespace of its own; ``settings`` are configuration keys."""
        label = f"{len(self.nodes):02}-{name}"
        node: MeshNode
        if kind.program == OURS:
            node = ours = _ChosenYggNode(label, self.space(), self.folder, settings)
            ours.datapath = kind.datapath
            ours.choose_datapath(kind.datapath)
        else:
            node = _QuietGoNode(label, self.space(), self.folder, settings, self.programs[kind.program])
        self.nodes.append(node)
        return node

    def require_datapaths(self) -> None:
        """Fail if a running node of ours uses another data plane than was asked for: its figures would be mislabelled.

        The node loads the extension only when it uses it, so the files that its process has mapped tell which it is.
        """
        file = f"/{NATIVE_EXTENSION.replace('.', '/')}."
        for node in self.nodes:
            if isinstance(node, _ChosenYggNode) and node.running:
                maps = Path(f"/proc/{node.pid}/maps").read_text(encoding="utf-8", errors="replace")
                used = "native" if file in maps else "pure"
                if used != node.datapath:
                    raise LabError(f"{node!r} uses the data plane {used}, not {node.datapath}")
