"""How soon a new container is in the mesh, beside a container with the Go node.

From ``docker run`` to the first answer to a ping through the mesh, once with ``-autoconf`` (neighbours are discovered)
and once with a peer to dial. Both kinds start in turns against the same router, a Go node. Docker's own share counts,
as it does for who waits.
"""

from __future__ import annotations

import statistics
import subprocess
import time

import pytest

from tests.container.lab import GO, OURS, ContainerLab, Network

RATIO = 1.5
"""How much longer than Go's container ours may take."""
FIRST_ROUNDS = 3
MOST_ROUNDS = 9
"""Rounds of one start of each kind. A machine that is busy with other things is given more of them."""
START_TIMEOUT = 60.0


@pytest.mark.measures
@pytest.mark.parametrize("way", ["autoconf", "dialling"])
def test_first_ping_no_later_than_gos(docker: ContainerLab, way: str) -> None:
    network = docker.network("net")
    router = docker.go("router", network, config=None if way == "autoconf" else {"Listen": ["tls://0.0.0.0:9001"]})
    target = router.address
    seconds: dict[str, list[float]] = {OURS: [], GO: []}
    for number in range(MOST_ROUNDS):
        for kind in (OURS, GO) if number % 2 else (GO, OURS):
            seconds[kind].append(_start(docker, kind, f"{kind}{number}", network, way, target))
        ours, theirs = (statistics.median(seconds[kind]) for kind in (OURS, GO))
        if number + 1 >= FIRST_ROUNDS and ours <= RATIO * theirs:
            break
    print(f"{way}: first ping after {ours:.2f} s, Go {theirs:.2f} s, {ours / theirs:.2f} times; all: {seconds}")
    assert ours <= RATIO * theirs


def _start(docker: ContainerLab, kind: str, name: str, network: Network, way: str, target: str) -> float:
    """Start a container; return the seconds until a ping from it was answered."""
    peers = {"Peers": ["tls://router:9001"], "MulticastInterfaces": []}
    config = None if way == "autoconf" else peers
    started = time.monotonic()
    container = (docker.node if kind == OURS else docker.go)(name, network, config=config)
    pid = container.pid
    ping = ["ping", "-6", "-n", "-q", "-c", "1", "-i", "0.1", "-w", "60", target]
    command = ["nsenter", f"--net=/proc/{pid}/ns/net", *ping]
    # ping ends at once while there is no interface with an address in the mesh.
    while subprocess.run(command, capture_output=True, check=False).returncode != 0:
        assert time.monotonic() - started < START_TIMEOUT, container.logs()
        time.sleep(0.01)
    taken = time.monotonic() - started
    container.remove()
    return taken
