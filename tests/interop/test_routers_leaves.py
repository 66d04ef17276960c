"""Two routers and three leaves that list both: when a router is killed, the leaves go on by way of the other.

Three such set-ups stand side by side: all Go (the measure), all ours, and our routers with Go leaves. Each router is
killed in its turn while every leaf pings every other; what counts is how long a stream was silent.
"""

from __future__ import annotations

import time
from itertools import permutations
from statistics import median

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import PingStream, longest_silence, require_all_pairs
from tests.interop.nodes import MeshNode

pytestmark = [pytest.mark.both_planes, pytest.mark.measures]

GO = "0.5.14"
SETUPS = {"go": (GO, GO), "ours": (OURS, OURS), "our-routers": (OURS, GO)}
LEAVES = 3
SETTLING = 3.0
OBSERVATION = 8.0
SILENCE = 0.5
"""Seconds from which on a stream counts as broken off; the streams that did not pass the killed router go on."""
MEDIAN_TOLERANCE = 1.5
WORST_TOLERANCE = 2.5
"""Seconds by which the silence of the broken streams may exceed Go's. Both nodes act on timers of a second, and it
depends on when they last fired: runs of Go alone differ by as much."""


def _build(lab: Lab, router_kind: str, leaf_kind: str) -> tuple[list[MeshNode], list[MeshNode]]:
    routers = [lab.node(router_kind, name="router") for _ in range(2)]
    leaves = [lab.node(leaf_kind, name="leaf") for _ in range(LEAVES)]
    uris = [router.listen("tls") for router in routers]
    routers[1].dial(uris[0])
    for leaf in leaves:
        for uri in uris:
            leaf.dial(uri)
    return routers, leaves


@pytest.mark.slow
def test_router_killed(lab: Lab) -> None:
    setups = {name: _build(lab, *kinds) for name, kinds in SETUPS.items()}
    lab.start()
    silences: dict[str, list[float]] = {name: [] for name in setups}
    for turn in range(2):
        for routers, leaves in setups.values():
            require_all_pairs([*routers, *leaves], timeout=30)
        time.sleep(SETTLING)
        streams = [
            (name, PingStream(source, dest))
            for name, (_, leaves) in setups.items()
            for source, dest in permutations(leaves, 2)
        ]
        time.sleep(1)
        killed_at = time.time()
        for routers, _ in setups.values():
            routers[turn].kill()
        time.sleep(OBSERVATION)
        ended_at = time.time()
        for name, stream in streams:
            _, replies = stream.stop()
            silences[name].append(longest_silence(replies, killed_at - 0.5, ended_at))
        for routers, _ in setups.values():
            routers[turn].start()
            routers[turn].wait_ready()

    print({name: [round(silence, 1) for silence in sorted(values)] for name, values in silences.items()})
    for name in ("ours", "our-routers"):
        assert max(silences[name]) < OBSERVATION, f"{name}: leaves did not find each other again"
        assert _typical(silences[name]) <= _typical(silences["go"]) + MEDIAN_TOLERANCE
        assert max(silences[name]) <= max(silences["go"]) + WORST_TOLERANCE


def _typical(silences: list[float]) -> float:
    """Return the median of those streams that were broken off."""
    broken = [silence for silence in silences if silence > SILENCE]
    return median(broken) if broken else 0.0
