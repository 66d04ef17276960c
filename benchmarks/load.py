"""Traffic for the scenarios: iperf3 flows and pings between nodes of a lab, and what their reports say.

A flow that breaks is an error, never a low figure: iperf3's report must hold the result of the receiving end.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.procstat import Udp6Counters, udp6_counters, wait_listening
from tests.interop.lab import LabError
from tests.interop.measure import PingResult, ping, require_all_pairs
from tests.interop.nodes import MeshNode

__all__ = ["Flood", "Flow", "connect", "idle_rtt", "round_trips", "tcp_flows", "udp_flood"]

PORT = 5201
SETTLE_MARGIN = 20.0
"""Seconds that iperf3 may take beyond its measured time."""
IDLE_PINGS = 120
PING_INTERVAL = 0.01
"""Seconds between idle pings."""


@dataclass(frozen=True)
class Flow:
    """What a transfer reached; of parallel transfers, the sum."""

    gigabytes: float
    """10^9 bytes that the receiving programs got."""
    gbit_per_s: float
    retransmits: int
    """TCP segments that the sending kernel sent again."""

    def __add__(self, other: Flow) -> Flow:
        return Flow(
            self.gigabytes + other.gigabytes,
            self.gbit_per_s + other.gbit_per_s,
            self.retransmits + other.retransmits,
        )


@dataclass(frozen=True)
class Flood:
    """What a stream of datagrams without any back-pressure came to."""

    sent: int
    counters: Udp6Counters
    """The receiving kernel's: iperf3's own count of losses lags behind under a flood."""
    seconds: float
    """How long was sent."""


def connect(source: MeshNode, dest: MeshNode) -> None:
    """Wait until both can reach each other; both speak first, since a Go node may wait for the other to."""
    require_all_pairs([source, dest])


def round_trips(result: PingResult) -> list[float]:
    """Return the round-trip times of a ping's answers in ms."""
    return [float(line.rpartition("time=")[2].split()[0]) for line in result.output.splitlines() if "time=" in line]


def idle_rtt(source: MeshNode, dest: MeshNode) -> float:
    """Return the median round-trip time in ms while nothing else is on the way."""
    times = round_trips(ping(source, dest, count=IDLE_PINGS, interval=PING_INTERVAL))
    if len(times) < IDLE_PINGS * 0.9:
        raise LabError(f"of {IDLE_PINGS} idle pings only {len(times)} were answered")
    return median(times)


@contextlib.contextmanager
def _servers(nodes: Sequence[MeshNode]) -> Iterator[None]:
    started = []
    try:
        for node in nodes:
            started.append((node, node.space.popen(["iperf3", "-s"], output=subprocess.DEVNULL)))
        for node, _ in started:
            wait_listening(node.pid, PORT)
        yield
    finally:
        for node, process in started:
            process.kill()
            process.wait()
            node.space.forget(process)


def _run_clients(source: MeshNode, dests: Sequence[MeshNode], seconds: int, *options: str) -> list[dict[str, Any]]:
    """Run one iperf3 client for each destination, all at once, and return the ``end`` of their reports."""
    with _servers(dests):
        clients = []
        for dest in dests:
            command = ["iperf3", "-6", "-J", "-c", dest.address, "-t", str(seconds), "--connect-timeout", "5000"]
            clients.append(source.space.popen([*command, *options], output=subprocess.PIPE))
        limit = time.monotonic() + seconds + SETTLE_MARGIN
        outputs = []
        try:
            for client in clients:
                data, _ = client.communicate(timeout=max(0.1, limit - time.monotonic()))
                outputs.append(data.decode(errors="replace"))
        except subprocess.TimeoutExpired:
            raise LabError(f"iperf3 from {source!r}: no end after {seconds + SETTLE_MARGIN} s") from None
        finally:
            for client in clients:
                client.kill()
                client.wait()
                source.space.forget(client)
    return [_end_of(output) for output in outputs]


def _end_of(output: str) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(output)
    except ValueError:
        raise LabError(f"iperf3 printed no report: {output[-300:]}") from None
    end: dict[str, Any] = report.get("end") or {}
    if "error" in report or not end:  # with -J a failure is not in the exit code
        raise LabError(f"iperf3: {report.get('error', 'no result')}")
    return end


def tcp_flows(source: MeshNode, dests: Sequence[MeshNode], seconds: int, flows_each: int = 1) -> Flow:
    """Send as much as goes through TCP for ``seconds``, by ``flows_each`` connections to each destination."""
    total = Flow(0.0, 0.0, 0)
    for end in _run_clients(source, dests, seconds, "-P", str(flows_each)):
        received, sent = end["sum_received"], end["sum_sent"]
        if not received["bytes"]:
            raise LabError("iperf3: nothing was received")
        total += Flow(received["bytes"] / 1e9, received["bits_per_second"] / 1e9, int(sent["retransmits"]))
    return total


def udp_flood(source: MeshNode, dest: MeshNode, seconds: int, size: int) -> Flood:
    """Send UDP datagrams of ``size`` bytes as fast as one program can."""
    before = udp6_counters(dest.pid)
    (end,) = _run_clients(source, [dest], seconds, "-u", "-b", "0", "-l", str(size))
    counters = udp6_counters(dest.pid) - before
    return Flood(int(end["sum"]["packets"]), counters, float(end["sum"]["seconds"]))
