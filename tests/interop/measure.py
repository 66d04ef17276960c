"""What the tests measure between nodes: reachability, loss, recovery after a break, and bulk transfers.

All of it is ordinary traffic over the mesh addresses, made by ``ping`` and by ``traffic.py`` inside the namespaces.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Protocol

from tests.interop.lab import LabError

__all__ = [
    "PingResult",
    "PingStream",
    "Place",
    "Reachable",
    "Traffic",
    "Transfer",
    "all_pairs",
    "first_after",
    "longest_silence",
    "ping",
    "reachable_after",
    "require_all_pairs",
    "tcp_transfer",
    "wait_reachable",
    "wait_until",
]

TRAFFIC_PROGRAM = Path(__file__).with_name("traffic.py")
REACH_INTERVAL = 0.2
"""Seconds between the pings that wait for a destination to be reachable."""
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")
_REPLY = re.compile(r"^\[(\d+\.\d+)\] \d+ bytes from .*icmp_seq=(\d+) .*time=([\d.]+) ms", re.MULTILINE)


class Place(Protocol):
    """Where programs run: a namespace (``Space`` of ``lab.py``) or a container's network."""

    def popen(
        self, command: Iterable[str | Path], *, output: int | IO[bytes] = ..., folder: Path | None = ...
    ) -> subprocess.Popen[bytes]:
        """Start a program there; it is to be forgotten when it has ended."""

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """The process has ended and been waited for."""


class Reachable(Protocol):
    """A node of either lab, in a namespace or in a container."""

    @property
    def space(self) -> Place:
        """Where its traffic is made."""

    @property
    def address(self) -> str:
        """Its mesh address."""


@dataclass(frozen=True)
class PingResult:
    """The outcome of one ``ping``."""

    sent: int
    received: int
    output: str

    @property
    def lost(self) -> int:
        """How many were not answered."""
        return self.sent - self.received


@dataclass(frozen=True)
class Transfer:
    """A TCP transfer that came to its end: size, duration, and both ends' digests."""

    size: int
    seconds: float
    sent_sha256: str
    received_sha256: str

    @property
    def intact(self) -> bool:
        """Whether what arrived is what was sent."""
        return self.sent_sha256 == self.received_sha256

    @property
    def mbit_per_second(self) -> float:
        """Goodput."""
        return self.size * 8 / self.seconds / 1e6


def ping(
    source: Reachable, dest: Reachable, *, count: int = 10, interval: float = 0.1, size: int = 56, patience: int = 5
) -> PingResult:
    """Ping ``dest`` and count the answers; ``size`` is that of the ICMPv6 payload in bytes.

    ``patience``: seconds that an answer may take. Where none is to come, a short one will do. The last answers have
    less: ping waits for them as long as twice the longest round trip so far, or one ``interval`` if that is more.
    """
    limit = count * interval + 2 * patience
    options = {"-c": count, "-i": interval, "-W": patience, "-s": size}
    words = [str(word) for option in options.items() for word in option]
    process = source.space.popen(["ping", "-6", "-n", *words, dest.address])
    return _ping_result(source.space, process, limit)


def _ping_result(space: Place, process: subprocess.Popen[bytes], limit: float) -> PingResult:
    try:
        data, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)  # it then prints its summary
        data, _ = process.communicate()
    space.forget(process)
    return _parse_ping(data)


def _parse_ping(data: bytes) -> PingResult:
    output = data.decode(errors="replace")
    found = _SUMMARY.search(output)
    if found is None:
        raise LabError(f"ping printed no summary: {output}")
    return PingResult(int(found[1]), int(found[2]), output)


def _first_reply(source: Reachable, dest: Reachable, timeout: float) -> subprocess.Popen[bytes]:
    """Start a ping that ends at the first reply, or with failure after ``timeout`` seconds."""
    limits = ["-c", "1", "-i", str(REACH_INTERVAL), "-w", str(max(1, round(timeout)))]
    return source.space.popen(["ping", "-6", "-n", "-q", *limits, dest.address])


def reachable_after(source: Reachable, dest: Reachable, timeout: float = 60) -> float | None:
    """Return how many seconds it took until ``dest`` answered a ping, or None if it never did."""
    started = time.monotonic()
    process = _first_reply(source, dest, timeout)
    process.communicate()
    source.space.forget(process)
    return time.monotonic() - started if process.returncode == 0 else None


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until ``condition()`` holds; fail after ``timeout`` seconds with ``what`` did not come about."""
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, f"not within {timeout} s: {what}"
        time.sleep(0.05)


def wait_reachable(source: Reachable, dest: Reachable, timeout: float = 60) -> float:
    """Wait until ``dest`` answers a ping and return how long it took; fail after ``timeout`` seconds."""
    seconds = reachable_after(source, dest, timeout)
    assert seconds is not None, f"{source!r} could not reach {dest!r} within {timeout} s"
    return seconds


def all_pairs(nodes: Sequence[Reachable], timeout: float = 60) -> tuple[float, list[str]]:
    """Ping from every node to every other at once; return when the last was answered, and which never were.

    Both ends of a pair speak: between two Go nodes, the first one-way traffic may wait for ever until the other end
    speaks too. ``test_flaws.py`` holds ours to more.
    """
    for node in nodes:
        assert node.address, node  # a container's is there when its TUN is; without that ping ends at once
    started = time.monotonic()
    waits = [(a, b, _first_reply(a, b, timeout)) for a in nodes for b in nodes if a is not b]
    failed = []
    for a, b, process in waits:
        process.communicate()
        a.space.forget(process)
        if process.returncode != 0:
            failed.append(f"{a!r} -> {b!r}")
    return time.monotonic() - started, failed


def require_all_pairs(nodes: Sequence[Reachable], timeout: float = 60) -> float:
    """Like :func:`all_pairs`, but fail if somebody did not reach another."""
    seconds, failed = all_pairs(nodes, timeout)
    pairs = len(nodes) * (len(nodes) - 1)
    assert not failed, f"{len(failed)} of {pairs} pings had no answer in {timeout} s: {'; '.join(failed)}"
    return seconds


class PingStream:
    """A ping that goes on in the background while the test breaks and mends things."""

    def __init__(self, source: Reachable, dest: Reachable, *, interval: float = 0.1, size: int = 56) -> None:
        self._space = source.space
        # Not a pipe: nobody would read it, and a full one stops ping.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        command = ["ping", "-6", "-n", "-D", "-i", str(interval), "-s", str(size), dest.address]
        self._process = source.space.popen(command, output=self._output)

    def replies(self) -> list[tuple[int, float]]:
        """Return the replies so far as (sequence number, Unix time of its coming)."""
        size = os.fstat(self._output.fileno()).st_size
        return _replies(os.pread(self._output.fileno(), size, 0).decode(errors="replace"))

    def stop(self) -> tuple[PingResult, list[tuple[int, float]]]:
        """End it; return the totals and all :meth:`replies`.

        ping does not wait for an answer that is still on its way: if only the last one is missing, it was not sent.
        """
        self._process.send_signal(signal.SIGINT)
        self._process.wait(10)
        self._space.forget(self._process)
        with self._output:
            self._output.seek(0)
            result = _parse_ping(self._output.read())
        replies = _replies(result.output)
        if result.lost and result.sent not in (number for number, _ in replies):
            result = replace(result, sent=result.sent - 1)
        return result, replies


def _replies(output: str) -> list[tuple[int, float]]:
    return [(int(number), float(at)) for at, number, _ in _REPLY.findall(output)]


def first_after(replies: Iterable[tuple[int, float]], moment: float) -> float | None:
    """Return how many seconds after ``moment`` (Unix time) the first reply came, or None."""
    return min((at - moment for _, at in replies if at > moment), default=None)


def longest_silence(replies: Iterable[tuple[int, float]], begin: float, end: float) -> float:
    """Return the longest time (seconds) without a reply between two moments (Unix time)."""
    moments = [begin, *(at for _, at in replies if begin < at < end), end]
    return max(later - earlier for earlier, later in pairwise(moments))


class Traffic:
    """One run of ``traffic.py`` in a node's namespace."""

    def __init__(self, node: Reachable, *arguments: object) -> None:
        self._node = node
        self._what = " ".join(map(str, arguments))
        self._process = node.space.popen([sys.executable, "-S", TRAFFIC_PROGRAM, *map(str, arguments)])

    def wait_ready(self) -> None:
        """Wait for the line that receivers print when they listen."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line.strip() != b"ready":
            raise LabError(f"{self._what}: {line!r} instead of 'ready'")

    def result(self, timeout: float = 120) -> dict[str, Any]:
        """Wait for the end and return what it printed; an end with an error is an assertion failure."""
        try:
            data, _ = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            data, _ = self._process.communicate()
            raise AssertionError(f"{self._what} on {self._node!r}: no end after {timeout} s") from None
        finally:
            self._node.space.forget(self._process)
        text = data.decode(errors="replace").strip()
        assert self._process.returncode == 0, f"{self._what} on {self._node!r}: {text}"
        answer: dict[str, Any] = json.loads(text.splitlines()[-1])
        return answer


def tcp_transfer(source: Reachable, dest: Reachable, size: int, *, port: int = 5001, timeout: float = 120) -> Transfer:
    """Send ``size`` bytes through TCP over the mesh and compare what arrived."""
    receiver = Traffic(dest, "tcp-receive", port)
    receiver.wait_ready()
    sent = Traffic(source, "tcp-send", dest.address, port, size).result(timeout)
    received = receiver.result(timeout)
    assert received["bytes"] == size, f"{received['bytes']} of {size} bytes arrived"
    return Transfer(size, received["seconds"], sent["sha256"], received["sha256"])
