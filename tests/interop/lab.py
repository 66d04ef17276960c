"""A lab of network namespaces: every node has a namespace of its own, and a virtual switch joins them all.

The switch gives each node an underlay address (``10.55.x.y``); which nodes are neighbours in the mesh is told by their
``Peers`` alone, so one cabling serves lines, rings and hubs. No interface, route or process outside of the lab's own
namespaces is touched. A lab is a context manager; when it ends, its processes are killed by their pid and its
namespaces removed. Namespaces that a killed run left behind are cleared away by the next run.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.interop.go_node import GoPrograms
from tests.interop.nodes import GoNode, MeshNode, YggNode

__all__ = ["GO_VERSIONS", "OURS", "SUBJECT_VARIABLE", "Lab", "LabError", "Space", "obstacle"]

OURS = "yggpy"
"""The kind of node under test; any other kind is a version of the Go node."""
GO_VERSIONS = ("0.5.12", "0.5.14")
"""The versions of the Go node that ours must work with."""
SUBJECT_VARIABLE = "YGGPY_INTEROP_SUBJECT"
"""Environment variable with a Go version that takes the part of yggpy: a rehearsal that tests the tests."""
NAME_PREFIX = "yggpy"
MAX_SPACES = 250
_labs = itertools.count()


class LabError(RuntimeError):
    """The lab could not be set up; the message has the failed command's words."""


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode != 0:
        raise LabError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def obstacle() -> str | None:
    """Return why no lab can be set up on this machine, or None if one can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "not root: network namespaces and TUN devices need it"
    for program, package in (("ip", "iproute2"), ("ping", "iputils-ping")):
        if shutil.which(program) is None:
            return f"no program {program}: apt-get install {package}"
    name = f"{NAME_PREFIX}-{os.getpid()}-probe"
    try:
        _ip("netns", "add", name)
    except LabError as error:
        return f"no network namespaces here ({error})"
    try:
        _ip("-n", name, "tuntap", "add", "probe", "mode", "tun")
        _ip("-n", name, "link", "add", "br0", "type", "bridge")
        _ip("-n", name, "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    except LabError as error:
        return f"no TUN, bridge or veth devices here ({error})"
    finally:
        _ip("netns", "del", name)
    return None


class Space:
    """A network namespace with one cable to the lab's switch, and what runs in it."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        """Underlay IPv4 address."""
        self._processes: list[subprocess.Popen[bytes]] = []

    def popen(
        self, command: Iterable[str | Path], *, output: int | IO[bytes] = subprocess.PIPE, folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` inside; standard output and error go to ``output``. The pid is the command's own."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,  # a Ctrl-C is for pytest, which then tears all down in order
        )
        self._processes.append(process)
        return process

    def run(self, command: Iterable[str | Path], *, timeout: float = 60) -> str:
        """Run ``command`` inside to its end and return what it printed; raise :class:`LabError` if it fails."""
        arguments = [str(argument) for argument in command]
        process = self.popen(arguments)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            raise LabError(f"{' '.join(arguments)}: no end after {timeout} s; so far: {output.decode()}") from None
        finally:
            self.forget(process)
        text = output.decode(errors="replace")
        if process.returncode != 0:
            raise LabError(f"{' '.join(arguments)}: exit code {process.returncode}: {text.strip()}")
        return text

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """The process has ended and been waited for: its pid may be another's soon."""
        with contextlib.suppress(ValueError):
            self._processes.remove(process)

    def ip(self, *arguments: str) -> str:
        """Run ``ip`` on the namespace's own interfaces and return what it printed."""
        return _ip("-n", self.name, *arguments)

    def set_cable(self, plugged: bool) -> None:
        """Pull the cable to the switch out, or put it in again."""
        _ip("-n", self.name, "link", "set", "eth0", "up" if plugged else "down")

    def end(self) -> None:
        """Kill what runs inside and remove the namespace."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
        for process in self._processes:
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()
        _remove_namespace(self.name)


class Lab:
    """Namespaces, their switch and the nodes in them."""

    def __init__(self, programs: Mapping[str, GoPrograms], plane: str | None = None) -> None:
        """``programs``: the Go node by version. ``plane``: the data plane of our nodes; None: their own choice."""
        self.programs = programs
        self._plane = plane
        self.folder = Path(tempfile.mkdtemp(prefix="yggpy-lab-"))  # short: socket paths have 107 bytes
        self.nodes: list[MeshNode] = []
        self._prefix = f"{NAME_PREFIX}-{os.getpid()}-{next(_labs)}"
        self._switch = f"{self._prefix}-switch"
        self._spaces: list[Space] = []
        self._cables = 0
        self._subject = os.environ.get(SUBJECT_VARIABLE) or OURS

    def __enter__(self) -> Self:
        try:
            _remove_leftovers()
            _ip("netns", "add", self._switch)
            _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
            _ip("-n", self._switch, "link", "set", "br0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process of the lab and remove its namespaces and files."""
        for space in self._spaces:
            space.end()
        self._spaces.clear()
        if self._switch in _namespaces():
            _remove_namespace(self._switch)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def rehearsing(self) -> bool:
        """Whether a Go node takes the part of yggpy."""
        return self._subject != OURS

    def space(self) -> Space:
        """Add a namespace with a cable to the switch."""
        number = len(self._spaces) + 1
        if number > MAX_SPACES:
            raise LabError(f"a lab has at most {MAX_SPACES} namespaces")
        space = Space(f"{self._prefix}-{number}", f"10.55.0.{number}")
        _ip("netns", "add", space.name)
        self._spaces.append(space)
        port = f"port{number}"
        _ip("-n", space.name, "link", "set", "lo", "up")
        _ip("-n", space.name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", space.name, "addr", "add", f"{space.address}/16", "dev", "eth0")
        _ip("-n", space.name, "link", "set", "eth0", "up")
        _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        return space

    def add_cable(self, space: Space, interface: str) -> None:
        """Give ``space`` one more cable to the switch, with no address but the link-local one that the kernel makes."""
        self._cables += 1
        port = f"cable{self._cables}"
        _ip("-n", space.name, "link", "add", interface, "type", "veth", "peer", "name", port, "netns", self._switch)
        _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        _ip("-n", space.name, "link", "set", interface, "up")

    def node(self, kind: str, *, name: str = "", **settings: object) -> MeshNode:
        """Add a node, not yet started, in a namespace of its own.

        ``kind`` is :data:`OURS` or a version of the Go node. ``settings`` are configuration keys, such as ``IfMTU``.
        """
        if kind == OURS:
            kind = self._subject
        label = f"{len(self.nodes):02}-{name or 'node'}-{kind}"
        node: MeshNode
        if kind == OURS:
            node = YggNode(label, self.space(), self.folder, settings)
            if self._plane is not None:
                node.choose_datapath(self._plane)
        else:
            node = GoNode(label, self.space(), self.folder, settings, self.programs[kind])
        self.nodes.append(node)
        return node

    def start(self, nodes: Iterable[MeshNode] | None = None) -> None:
        """Start these nodes (default: all that do not run), all at once, and wait until each is ready.

        Who dialled another before that one was there dials again.
        """
        chosen = [node for node in self.nodes if not node.running] if nodes is None else list(nodes)
        for node in chosen:
            node.start()
        for node in chosen:
            node.wait_ready()
        for node in chosen:
            node.dial_again()

    def tails(self, lines: int = 40) -> str:
        """Return the last lines of every node's log, for the report of a failed test."""
        parts = []
        for node in self.nodes:
            tail = node.log_text().splitlines()[-lines:]
            parts.append("\n".join([f"---- log of {node.label} ({node.address}), last {len(tail)} lines", *tail]))
        return "\n".join(parts)


def _namespaces() -> list[str]:
    return [line.split()[0] for line in _ip("netns", "list").splitlines() if line.strip()]


def _remove_namespace(name: str) -> None:
    """Kill what still runs in one of our namespaces (strays of a killed run), then remove it."""
    with contextlib.suppress(LabError):
        for pid in _ip("netns", "pids", name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    with contextlib.suppress(LabError):
        _ip("netns", "del", name)


def _remove_leftovers() -> None:
    """Remove the namespaces of runs whose process is gone."""
    for name in _namespaces():
        found = re.fullmatch(rf"{NAME_PREFIX}-(\d+)-.*", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            _remove_namespace(name)
