"""Either side of a link dies and comes back with the same key: traffic recovers by itself, no slower than Go to Go.

All combinations stand side by side in one lab, so that they are measured under the same load.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from statistics import median

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import PingStream, first_after, wait_reachable
from tests.interop.nodes import MeshNode

pytestmark = [pytest.mark.both_planes, pytest.mark.measures]

GO = "0.5.14"
COMBINATIONS = {"go-go": (GO, GO), "ours-restarts": (OURS, GO), "go-restarts": (GO, OURS), "ours-ours": (OURS, OURS)}
ROLES = ("dialler", "listener")
"""What the one that restarts does."""
ROUNDS = 3
DOWNTIME = 2.5
"""Seconds. A dialler tries again 2 s after the loss and 4 s after that: whoever restarts has 3.5 s to be there again.
(A shorter downtime would measure who is there just before such a moment and who just after it.)"""
RECOVERY_LIMIT = 12.0
TOLERANCE = 2.0
"""Seconds by which the median may exceed Go's: Python starts half a second slower, and eight of them start at once."""


@dataclass
class _Pair:
    restarting: MeshNode
    staying: MeshNode
    recoveries: list[float] = field(default_factory=list)


def _build(lab: Lab, kinds: tuple[str, str], role: str) -> _Pair:
    restarting, staying = lab.node(kinds[0], name="restarts"), lab.node(kinds[1], name="stays")
    if role == "dialler":
        restarting.dial(staying.listen("tls"))
    else:
        staying.dial(restarting.listen("tls"))
    return _Pair(restarting, staying)


@pytest.mark.slow
def test_restart(lab: Lab) -> None:
    pairs = {(role, name): _build(lab, kinds, role) for role in ROLES for name, kinds in COMBINATIONS.items()}
    lab.start()
    for pair in pairs.values():
        wait_reachable(pair.staying, pair.restarting, timeout=20)

    for _ in range(ROUNDS):
        streams = {which: PingStream(pair.staying, pair.restarting) for which, pair in pairs.items()}
        for pair in pairs.values():
            pair.restarting.kill()
        time.sleep(DOWNTIME)
        started = {}
        for which, pair in pairs.items():
            started[which] = time.time()
            pair.restarting.start()
        limit = time.time() + RECOVERY_LIMIT
        waiting = set(pairs)
        while waiting and time.time() < limit:
            time.sleep(0.2)
            waiting = {which for which in waiting if first_after(streams[which].replies(), started[which]) is None}
        for which, stream in streams.items():
            _, replies = stream.stop()
            recovery = first_after(replies, started[which])
            assert recovery is not None, f"{which}: no traffic {RECOVERY_LIMIT} s after the restart"
            pairs[which].recoveries.append(recovery)

    print({which: [round(recovery, 2) for recovery in pair.recoveries] for which, pair in pairs.items()})
    for (role, name), pair in pairs.items():
        assert median(pair.recoveries) <= median(pairs[role, "go-go"].recoveries) + TOLERANCE, (role, name)
