"""The core between its rooms, on a virtual clock."""

from __future__ import annotations

from functools import partial

import pytest

from tests.unit.datapath_bench import make_datapath
from yggpy.core import MAINTENANCE_INTERVAL, Core
from yggpy.keys import PrivateKey
from yggpy.questions import Question
from yggpy.sim.clock import VirtualScheduler


class Events:
    """Nobody listens."""

    def ipv6_received(self, source: bytes, packet: bytes) -> None: ...

    def datagram_received(self, source: bytes, data: bytes) -> None: ...

    def lookup_seen(self, source: bytes, path: tuple[int, ...]) -> None: ...


def test_a_defect_in_one_maintenance_tick_does_not_end_maintenance(plane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = VirtualScheduler()
    core = Core(PrivateKey(bytes(32)), scheduler, partial(make_datapath, plane), Events())
    core.start()
    ticks: list[float] = []

    def tick(now: float) -> None:
        ticks.append(now)
        if len(ticks) == 1:
            raise RuntimeError("a defect")

    monkeypatch.setattr(core.router, "tick", tick)
    with pytest.raises(RuntimeError):
        scheduler.run_for(MAINTENANCE_INTERVAL)
    scheduler.run_for(2 * MAINTENANCE_INTERVAL)
    assert len(ticks) == 3
    core.close()
    scheduler.run_for(2 * MAINTENANCE_INTERVAL)
    assert len(ticks) == 3


def test_a_question_waits_for_six_seconds(plane: str) -> None:
    scheduler = VirtualScheduler()
    core = Core(PrivateKey(bytes(32)), scheduler, partial(make_datapath, plane), Events())
    core.start()
    sent: list[float] = []
    send = core.datapath.send_message
    core.datapath.send_message = lambda key, message: (sent.append(scheduler.now()), send(key, message))  # type: ignore
    heard: list[tuple[float, bytes | None]] = []
    started = scheduler.now()

    def listen(answer: bytes | None) -> None:
        heard.append((scheduler.now() - started, answer))

    unheard: list[bytes | None] = []
    core.ask(Question.TREE, b"\1" * 32, listen)
    core.ask(Question.TREE, b"\2" * 32, unheard.append)()  # and called off at once
    scheduler.run_for(5.9)
    assert heard == []
    scheduler.run_for(10.0)
    ((after, answer),) = heard
    assert after == pytest.approx(6.0)
    assert answer is None
    assert unheard == []
    assert [round(moment - started, 3) for moment in sent] == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]  # one was called off
    assert len(core.introspection.questions) == 0
    core.close()
