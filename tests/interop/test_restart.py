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
ROUNDS = 3
DOWNTIME = 1.0
OBSERVATION = 8.0
TOLERANCE = 2.0
"""Seconds by which the median may exceed Go's: Python starts half a second slower, and eight of them start at once."""


@dataclass
class _Pair:
    restarting: MeshNode
    staying: MeshNode
    recoveries: list[float] = field(default_factory=list)


@pytest.mark.slow
@pytest.mark.parametrize("restarting_role", ["dialler", "listener"])
def test_restart(lab: Lab, restarting_role: str) -> None:
    pairs = {}
    for name, (restarting_kind, staying_kind) in COMBINATIONS.items():
        pair = pairs[name] = _Pair(lab.node(restarting_kind, name="restarts"), lab.node(staying_kind, name="stays"))
        if restarting_role == "dialler":
            pair.restarting.dial(pair.staying.listen("tls"))
        else:
            pair.staying.dial(pair.restarting.listen("tls"))
    lab.start()
    for pair in pairs.values():
        wait_reachable(pair.staying, pair.restarting, timeout=20)

    for _ in range(ROUNDS):
        streams = {name: PingStream(pair.staying, pair.restarting) for name, pair in pairs.items()}
        time.sleep(1)
        for pair in pairs.values():
            pair.restarting.kill()
        time.sleep(DOWNTIME)
        started = {}
        for name, pair in pairs.items():
            started[name] = time.time()
            pair.restarting.start()
        time.sleep(OBSERVATION)
        for name, stream in streams.items():
            _, replies = stream.stop()
            recovery = first_after(replies, started[name])
            assert recovery is not None, f"{name}: no traffic {OBSERVATION} s after the restart"
            pairs[name].recoveries.append(recovery)

    print({name: [round(recovery, 2) for recovery in pair.recoveries] for name, pair in pairs.items()})
    for name, pair in pairs.items():
        assert median(pair.recoveries) <= median(pairs["go-go"].recoveries) + TOLERANCE, name
