"""The core between its rooms, on a virtual clock."""

from __future__ import annotations

from functools import partial

import pytest

from tests.unit.datapath_bench import make_datapath
from yggpy.core import MAINTENANCE_INTERVAL, Core
from yggpy.keys import PrivateKey
from yggpy.questions import Question
from yggpy.routing.reactions import REACTION_DELAY
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


def test_what_the_router_does_before_its_tick_is_done_and_not_after_the_end(plane: str) -> None:
    scheduler = VirtualScheduler()
    core = Core(PrivateKey(bytes(32)), scheduler, partial(make_datapath, plane), Events())
    core.start()
    scheduler.run_for(MAINTENANCE_INTERVAL / 2)
    peer = PrivateKey(b"\1" * 32).public_key
    reacted: list[float] = []
    react = core.router.react
    core.router.react = lambda now: (reacted.append(now), react(now))  # type: ignore
    core.router.add_link(1, peer, 0, scheduler.now())
    core.send_datagram(peer, b"any input will do")
    scheduler.run_for(REACTION_DELAY)
    assert reacted == [scheduler.now()]
    core.router.remove_link(1, scheduler.now())
    core.router.add_link(2, peer, 0, scheduler.now())
    core.send_datagram(peer, b"any input will do")
    assert core.router.reaction_at is not None
    core.close()
    scheduler.run_for(2 * MAINTENANCE_INTERVAL)
    assert len(reacted) == 1
