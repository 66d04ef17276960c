"""Sessions under steady traffic for longer than every timer: key rotations each minute, a tree refresh after four.

Go, ours, and both mixed stand side by side, each as two leaves of a router. Ours may lose nothing that Go does not.
"""

from __future__ import annotations

import time

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import PingStream, wait_reachable
from tests.interop.nodes import MeshNode

GO = "0.5.14"
SETUPS = {"go": (GO, GO, GO), "ours": (OURS, OURS, OURS), "mixed": (OURS, GO, "0.5.12"), "our-router": (GO, OURS, OURS)}
"""Kinds of one leaf, the router and the other leaf."""
DURATION = 330.0
"""Seconds; more than the 240 between tree refreshes, the 300 of a session's age, and five key rotations."""
SETTLING = 3.0
INTERVAL = 0.1


@pytest.mark.soak
@pytest.mark.slow
def test_sessions_survive(lab: Lab) -> None:
    leaves: dict[str, tuple[MeshNode, MeshNode]] = {}
    for name, kinds in SETUPS.items():
        one, router, other = (lab.node(kind, name=name) for kind in kinds)
        one.dial(router.listen("tls"))
        other.dial(router.listen("tcp"))
        leaves[name] = (one, other)
    lab.start()
    for one, other in leaves.values():
        wait_reachable(one, other, timeout=30)
        wait_reachable(other, one, timeout=30)
    time.sleep(SETTLING)

    streams = {
        name: (
            PingStream(one, other, interval=INTERVAL, size=1000),
            PingStream(other, one, interval=INTERVAL, size=30000),
        )
        for name, (one, other) in leaves.items()
    }
    time.sleep(DURATION)
    totals = {name: [stream.stop()[0] for stream in pair] for name, pair in streams.items()}
    lost = {name: sum(total.lost for total in pair) for name, pair in totals.items()}
    print(lost)

    for name, (one, other) in leaves.items():
        assert min(total.sent for total in totals[name]) > 0.9 * DURATION / INTERVAL, "the pings did not go on"
        assert lost[name] <= lost["go"], f"{name}: {lost}"
        session = next(s for s in one.admin("getsessions")["sessions"] if s["key"] == other.public_key.hex())
        assert session["uptime"] > DURATION, f"{name}: the session was replaced underway"
