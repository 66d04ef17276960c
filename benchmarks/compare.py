"""Throughput, latency and CPU of yggpy beside the real Go node: ``./dev bench``.

Two nodes in two network namespaces, joined by one link, carry a single iperf3 flow; the kinds take turns (Go, ours, Go,
ours …) so that the machine's moods hit both alike. Only the ratios of the medians mean anything: absolute figures
differ from machine to machine and from hour to hour.

A row of the table is a :class:`Measure`: how the two nodes are set up. Add rows there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.interop.go_node import GoNodeUnavailableError, obtain
from tests.interop.lab import OURS, Lab, LabError, obstacle
from tests.interop.measure import ping, wait_reachable
from tests.interop.nodes import MeshNode

GO_VERSION = "0.5.14"
DEFAULT_PAIRS = 5
DEFAULT_SECONDS = 5
SERVER_PATIENCE = 5.0
"""Seconds until the iperf3 server must listen."""
IPERF_MARGIN = 20.0
"""Seconds that iperf3 may take beyond its measured time."""
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measure:
    """One row: a name and the set-up of the link and the interfaces."""

    name: str
    scheme: str
    mtu: int


MEASURES = (
    Measure("one TCP flow, tls link, MTU 65535", "tls", 65535),
    Measure("one TCP flow, tcp link, MTU 65535", "tcp", 65535),
    Measure("one TCP flow, tls link, MTU 1500", "tls", 1500),
)


@dataclass
class Samples:
    """What one kind of node reached, one entry for each run."""

    gbit_per_second: list[float] = field(default_factory=list)
    cpu_seconds_per_gbit: list[float] = field(default_factory=list)
    """Both ends together."""
    rtt_ms: list[float] = field(default_factory=list)
    """Median of an idle ping."""
    retransmits: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table; return the exit code."""
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help="runs of each kind (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=DEFAULT_SECONDS, help="length of a flow (default %(default)s)")
    parser.add_argument("--only", default="", help="run the rows whose name contains this text")
    options = parser.parse_args(arguments)
    measures = [measure for measure in MEASURES if options.only in measure.name]
    if not measures:
        parser.error(f"no row contains {options.only!r}; there are: {', '.join(row.name for row in MEASURES)}")
    if reason := obstacle():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    try:
        programs = {GO_VERSION: obtain(GO_VERSION)}
    except GoNodeUnavailableError as error:
        print(f"bench: no Go node to compare with: {error}", file=sys.stderr)
        return 1

    print(f"medians of {options.pairs} runs of {options.seconds} s each, Go {GO_VERSION} and yggpy in turns")
    print(_line("", "", "Go", "yggpy", "ratio"))
    for measure in measures:
        samples = {GO_VERSION: Samples(), OURS: Samples()}
        for _ in range(options.pairs):
            for kind, kept in samples.items():
                with Lab(programs) as lab:
                    _run(lab, kind, measure, options.seconds, kept)
        _report(measure, samples[GO_VERSION], samples[OURS])
    return 0


def _run(lab: Lab, kind: str, measure: Measure, seconds: int, samples: Samples) -> None:
    listener, dialler = lab.node(kind, IfMTU=measure.mtu), lab.node(kind, IfMTU=measure.mtu)
    dialler.dial(listener.listen(measure.scheme))
    lab.start()
    wait_reachable(dialler, listener)
    wait_reachable(listener, dialler)
    idle = ping(dialler, listener, count=40, interval=0.02)
    samples.rtt_ms.append(median(_round_trips(idle.output)))
    before = _cpu_seconds(dialler) + _cpu_seconds(listener)
    result = _iperf(dialler, listener, seconds)
    cpu = _cpu_seconds(dialler) + _cpu_seconds(listener) - before
    gbit = result["end"]["sum_received"]["bytes"] * 8 / 1e9
    samples.gbit_per_second.append(result["end"]["sum_received"]["bits_per_second"] / 1e9)
    samples.retransmits.append(result["end"]["sum_sent"]["retransmits"])
    samples.cpu_seconds_per_gbit.append(cpu / gbit)


def _iperf(source: MeshNode, dest: MeshNode, seconds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Run one flow and return iperf3's own report."""
    server = dest.space.popen(["iperf3", "-s"], output=subprocess.DEVNULL)
    command = ["iperf3", "-6", "-c", dest.address, "-t", str(seconds), "-J", "--connect-timeout", "5000"]
    limit = time.monotonic() + SERVER_PATIENCE
    try:
        while True:
            output = source.space.run(command, timeout=seconds + IPERF_MARGIN)
            report: dict[str, dict[str, dict[str, float]]] = json.loads(output)
            if "sum_received" in report["end"]:  # with -J a failure is not in the exit code
                return report
            if time.monotonic() > limit:
                raise LabError(f"iperf3 from {source!r} to {dest!r} came to no result: {output[-500:]}")
            time.sleep(0.1)
    finally:
        server.kill()
        server.wait()
        dest.space.forget(server)


def _round_trips(output: str) -> list[float]:
    return [float(line.rpartition("time=")[2].split()[0]) for line in output.splitlines() if "time=" in line]


def _cpu_seconds(node: MeshNode) -> float:
    """User and system time of a node's process so far."""
    with open(f"/proc/{node.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _report(measure: Measure, go: Samples, ours: Samples) -> None:
    for title, unit, theirs, mine in (
        (measure.name, "Gbit/s", go.gbit_per_second, ours.gbit_per_second),
        ("", "CPU s/Gbit, both ends", go.cpu_seconds_per_gbit, ours.cpu_seconds_per_gbit),
        ("", "idle RTT, ms", go.rtt_ms, ours.rtt_ms),
        ("", "retransmits", go.retransmits, ours.retransmits),
    ):
        left, right = median(theirs), median(mine)
        ratio = f"{right / left:.2f}" if left else "-"
        print(_line(title, unit, f"{left:.2f}", f"{right:.2f}", ratio), flush=True)


def _line(title: str, unit: str, go: str, ours: str, ratio: str) -> str:
    return f"{title:36} {unit:22} {go:>9} {ours:>9} {ratio:>7}"


if __name__ == "__main__":
    sys.exit(main())
