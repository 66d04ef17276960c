"""A crowd of containers on one bridge, first with yggpy and then with the Go node: who reaches whom, memory, idle CPU.

    python -m benchmarks.containers [--count 30] [--settle 20] [--seconds 30] [--kinds yggpy go]

All start with ``-autoconf`` on one Docker network, so each of them finds all others: 30 nodes have 435 pairs of
neighbours. Then each pings each, and when that is done and some time has passed, CPU time and memory are read from
``/proc``. *PSS* counts a page that several processes share as a fraction for each, so its sum is what the machine is
short of; *RSS* counts it for each in full.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.procstat import cpu_seconds
from tests.container.engine import DockerError, Engine, obstacle
from tests.container.images import Images
from tests.container.lab import GO, OURS, Container, ContainerLab, wait_for
from tests.interop.go_node import GoNodeUnavailableError, obtain

GO_VERSION = "0.5.14"
LINKS_TIMEOUT = 180.0
"""Seconds until each must have a link with each."""
PING_TIMEOUT = 30
STARTERS = 4
"""Containers that are started at once."""


@dataclass(frozen=True)
class Crowd:
    """What was seen of the containers of one kind."""

    kind: str
    count: int
    started: float
    """Seconds until all had been started and each had a link with each."""
    links: int
    unreachable: int
    """Pairs (in one direction) without an answer."""
    pss_mib: float
    rss_mib: float
    cpu_percent: float
    """Idle, of one processor, all containers together."""

    @property
    def pairs(self) -> int:
        """Pairs, in both directions."""
        return self.count * (self.count - 1)


def measure(lab: ContainerLab, kind: str, count: int, settle: float, seconds: float) -> Crowd:
    """Start ``count`` containers of a kind, let them find each other, and look at them."""
    network = lab.network(f"{kind}-net")
    begun = time.monotonic()
    start = lab.node if kind == OURS else lab.go
    with ThreadPoolExecutor(STARTERS) as pool:
        containers = list(pool.map(lambda number: start(f"{kind}{number}", network), range(count)))
    for container in containers:
        container.wait_ready(LINKS_TIMEOUT)
    for container in containers:
        wait_for(f"{container} knows all", lambda: _neighbours(container) >= count - 1, LINKS_TIMEOUT)  # noqa: B023
    started = time.monotonic() - begun
    links = sum(len(container.peers_up()) for container in containers) // 2
    unreachable = sum(_unreachable(container, containers) for container in containers)
    time.sleep(settle)
    pids = [container.pid for container in containers]
    before, since = sum(map(cpu_seconds, pids)), time.monotonic()
    time.sleep(seconds)
    percent = 100 * (sum(map(cpu_seconds, pids)) - before) / (time.monotonic() - since)
    memory = [_memory_kib(pid) for pid in pids]
    pss, rss = (sum(values) / 1024 for values in zip(*memory, strict=True))
    return Crowd(kind, count, started, links, unreachable, pss, rss, percent)


def _neighbours(container: Container) -> int:
    return len({peer["key"] for peer in container.peers_up()})


def _unreachable(source: Container, containers: Sequence[Container]) -> int:
    """Ping all others at once; return how many did not answer."""
    others = [container for container in containers if container is not source]
    command = ["ping", "-6", "-n", "-q", "-c", "1", "-i", "0.5", "-w", str(PING_TIMEOUT)]
    pings = [source.popen([*command, other.address], output=subprocess.DEVNULL) for other in others]
    failed = sum(ping.wait() != 0 for ping in pings)
    for ping in pings:
        source.forget(ping)
    return failed


def _memory_kib(pid: int) -> tuple[int, int]:
    """Return PSS and RSS of a process in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    found = dict(re.findall(r"^(Pss|Rss):\s+(\d+) kB", text, re.M))
    return int(found["Pss"]), int(found["Rss"])


def table(crowds: Sequence[Crowd]) -> str:
    """Return the comparison as a table in Markdown."""
    rows = [
        ("pairs that reach each other", [f"{crowd.pairs - crowd.unreachable} of {crowd.pairs}" for crowd in crowds]),
        ("all started, each linked with each, s", [f"{crowd.started:.1f}" for crowd in crowds]),
        ("links", [str(crowd.links) for crowd in crowds]),
        ("memory (PSS), all together, MiB", [f"{crowd.pss_mib:.0f}" for crowd in crowds]),
        ("memory (PSS), each, MiB", [f"{crowd.pss_mib / crowd.count:.1f}" for crowd in crowds]),
        ("RSS, each, MiB", [f"{crowd.rss_mib / crowd.count:.1f}" for crowd in crowds]),
        ("idle CPU, all together, % of one core", [f"{crowd.cpu_percent:.1f}" for crowd in crowds]),
    ]
    head = ["", *(f"{crowd.count} × {crowd.kind}" for crowd in crowds)]
    lines = [head, ["---"] * len(head), *([name, *values] for name, values in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    """Run the comparison and print the table; 1 if a pair did not reach each other, or it could not be run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="containers of each kind")
    parser.add_argument("--settle", type=float, default=20, help="seconds between the pings and the idle measurement")
    parser.add_argument("--seconds", type=float, default=30, help="seconds of the idle measurement")
    parser.add_argument("--kinds", nargs="+", choices=(OURS, GO), default=[OURS, GO])
    options = parser.parse_args()
    if reason := obstacle():
        parser.error(reason)
    crowds = []
    try:
        with Engine() as engine:
            images, programs = Images(engine), obtain(GO_VERSION)
            for kind, image in ((OURS, images.node), (GO, images.go(programs))):  # made on nobody's time
                print(f"image with {kind}: {images.size(image) / 1e6:.0f} MB", file=sys.stderr)
            for kind in options.kinds:
                with ContainerLab(engine, images, programs) as lab:
                    crowds.append(measure(lab, kind, options.count, options.settle, options.seconds))
                print(crowds[-1], file=sys.stderr, flush=True)
    except (DockerError, GoNodeUnavailableError, AssertionError) as error:
        print(f"containers: {error}", file=sys.stderr)
        return 1
    print(table(crowds))
    return 1 if any(crowd.unreachable for crowd in crowds) else 0


if __name__ == "__main__":
    raise SystemExit(main())
