"""Two routers and three leaves that list both: when a router dies or hangs, the leaves go on by way of the other.

Such set-ups stand side by side in one lab: all Go (the measure), all ours, and our routers with Go leaves, each of them
three times. What the death of a router does to the tree depends on the keys, so those of the three kinds are the same.
Every leaf pings every other; what counts is how long a stream was silent.
"""

from __future__ import annotations

import time
from itertools import permutations
from statistics import median

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import PingStream, longest_silence, require_all_pairs
from tests.interop.nodes import MeshNode, new_key

pytestmark = [pytest.mark.both_planes, pytest.mark.measures]

GO = "0.5.14"
SETUPS = {"go": (GO, GO), "ours": (OURS, OURS), "our-routers": (OURS, GO)}
"""Kinds of the routers and of the leaves."""
LEAVES = 3
ROOTS = ("dying router", "dying router", "leaf")
"""Who is the root in the set-ups of each kind. (Where it is the other router, nothing breaks off, with Go neither.)"""
SETTLING = 3.0
OBSERVATION = {"killed": 8.0, "hangs": 16.0}
"""Seconds. Where a router hangs, three go by before a leaf notices, and often three more until the other router does.
Go leaves were seen silent for ten; ours wait for the other router only where it is below the one that hangs."""
SILENCE = 0.5
"""Seconds from which on a stream counts as broken off; the streams that did not pass the killed router go on."""
TOLERANCES: dict[str, dict[str, tuple[float, float | None]]] = {
    "killed": {"ours": (0.5, 1.5), "our-routers": (1.5, 2.5)},
    "hangs": {"ours": (0.5, 2.5), "our-routers": (1.5, None)},
}
"""Seconds by which the silence of the broken streams may exceed Go's: the median one, and the worst. Go nodes act on
timers of a second, and it depends on when they last fired: runs of Go alone differ by as much. Where a router hangs, a
leaf of ours that sends nothing to it misses it after 8 s, one of Go's may not for minutes, and no router helps that."""


def _build(lab: Lab, kinds: tuple[str, str], root: str, keys: list[tuple[str, bytes]]) -> list[MeshNode]:
    """Add two routers, of which the first is to die, and leaves; ``keys`` begin with that of the root."""
    router_kind, leaf_kind = kinds
    routers = [lab.node(router_kind, name="router") for _ in range(2)]
    leaves = [lab.node(leaf_kind, name="leaf") for _ in range(LEAVES)]
    by_key = [*routers, *leaves]
    by_key.insert(0, by_key.pop({"dying router": 0, "leaf": 2}[root]))
    for node, (private, public) in zip(by_key, keys, strict=True):
        node.config["PrivateKey"], node.public_key = private, public
    uris = [router.listen("tls") for router in routers]
    routers[1].dial(uris[0])
    for leaf in leaves:
        for uri in uris:
            leaf.dial(uri)
    return [*routers, *leaves]


@pytest.mark.slow
@pytest.mark.parametrize("death", OBSERVATION)
def test_router_lost(lab: Lab, death: str) -> None:
    setups: list[tuple[str, list[MeshNode]]] = []
    for root in ROOTS:
        keys = sorted((new_key() for _ in range(2 + LEAVES)), key=lambda pair: pair[1])
        setups += [(name, _build(lab, kinds, root, keys)) for name, kinds in SETUPS.items()]
    lab.start()
    for _, nodes in setups:
        require_all_pairs(nodes, timeout=30)
    time.sleep(SETTLING)
    streams = [
        (name, PingStream(source, dest)) for name, nodes in setups for source, dest in permutations(nodes[2:], 2)
    ]
    time.sleep(1)
    lost_at = time.time()
    for _, nodes in setups:
        if death == "killed":
            nodes[0].kill()
        else:
            nodes[0].hang()
    time.sleep(OBSERVATION[death])
    ended_at = time.time()
    silences: dict[str, list[float]] = {name: [] for name in SETUPS}
    for name, stream in streams:
        _, replies = stream.stop()
        silences[name].append(longest_silence(replies, lost_at - 0.5, ended_at))

    print({name: [round(silence, 1) for silence in values] for name, values in silences.items()})
    for name, (median_tolerance, worst_tolerance) in TOLERANCES[death].items():
        assert _typical(silences[name]) <= _typical(silences["go"]) + median_tolerance
        if worst_tolerance is not None:
            assert max(silences[name]) < OBSERVATION[death], f"{name}: leaves did not find each other again"
            assert max(silences[name]) <= max(silences["go"]) + worst_tolerance


def _typical(silences: list[float]) -> float:
    """Return the median of those streams that were broken off."""
    broken = [silence for silence in silences if silence > SILENCE]
    return median(broken) if broken else 0.0
