"""What bounds the sessions of a node: allowances for inits, sizes of tables, and who makes room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.sessions_lab import START, Endpoint, make_init, private_key
from yggpy.sessions.crypto import BoxKeyPair
from yggpy.sessions.limits import INIT_BURST, INIT_RATE, Allowance, SessionLimits
from yggpy.sessions.manager import SESSION_TIMEOUT
from yggpy.wire.session import MessageType, TrafficHeader

A, B = private_key(1), private_key(2)
PAIR_1, PAIR_2 = BoxKeyPair.from_private(b"\x11" * 32), BoxKeyPair.from_private(b"\x22" * 32)
STRANGE = TrafficHeader(99, 99, 1).encode() + bytes(60)
"""Traffic that fits no session."""


def init_from(number: int, receiver: bytes, seq: float = START) -> bytes:
    return make_init(private_key(number), receiver, current=PAIR_1.public, following=PAIR_2.public, seq=int(seq))


def waiting(node: Endpoint, now: float) -> list[bytes]:
    return node.write(B.public_key, b"message", now)


def unknown(node: Endpoint, now: float) -> list[bytes]:
    return node.receive(B.public_key, b"\x03", now)


def mismatch(node: Endpoint, now: float) -> list[bytes]:
    if B.public_key not in node.states:
        node.receive(B.public_key, init_from(2, A.public_key), START)
    return node.receive(B.public_key, STRANGE, now)


def too_early(node: Endpoint, now: float) -> list[bytes]:
    if B.public_key not in node.states:
        node.receive(B.public_key, init_from(2, A.public_key, START + 100), START)
    other = make_init(B, A.public_key, current=PAIR_2.public, following=PAIR_1.public, seq=int(START))
    return node.receive(B.public_key, other, now)


def test_an_allowance_gives_a_burst_a_rate_and_one_in_every_second() -> None:
    allowance = Allowance(START, rate=4, burst=3)
    assert [allowance.take(START) for _ in range(5)] == [True] * 3 + [False] * 2
    assert not allowance.take(START + 0.2)
    assert allowance.take(START + 0.25)
    assert not allowance.take(START + 0.25)
    assert [allowance.take(START + 10) for _ in range(5)] == [True] * 3 + [False] * 2
    slow = Allowance(START + 0.9, rate=1, burst=1)
    assert [slow.take(START + time) for time in (0.9, 0.95, 1.0, 1.05, 2.0)] == [True, False, True, False, True]


@pytest.mark.parametrize("cause", [waiting, unknown, mismatch, too_early])
def test_the_first_inits_go_out_at_once_and_then_some_every_second(
    cause: Callable[[Endpoint, float], list[bytes]],
) -> None:
    node = Endpoint(A)
    answers = [cause(node, START) for _ in range(INIT_BURST)]
    assert [[payload[0] for payload in payloads] for payloads in answers] == [[MessageType.INIT]] * INIT_BURST
    # Ten seconds at 100 a second: the rate, and what a new second grants in addition.
    later = sum(len(cause(node, START + number / 100)) for number in range(1, 1000))
    assert INIT_RATE * 9 <= later <= INIT_RATE * 11


def test_the_first_init_of_a_second_always_goes_out() -> None:
    """Its seq is the first that is new to the other side."""
    node = Endpoint(A)
    for number in range(990):
        mismatch(node, START + number / 1000)
    assert mismatch(node, START + 0.999) == []
    assert len(mismatch(node, START + 1.0)) == 1


def test_inits_to_strangers_are_limited_all_together() -> None:
    node = Endpoint(B, limits=SessionLimits(stranger_inits_per_second=20, strangers=10))
    keys = [private_key(number).public_key for number in range(100)]
    for second in range(3):
        assert sum(len(node.receive(key, b"\x03", START + second)) for key in keys) == 20
    assert len(node.manager._strangers) == 10


def test_inits_that_repair_sessions_are_limited_all_together() -> None:
    node = Endpoint(B, limits=SessionLimits(repair_inits_per_second=5))
    for number in range(10, 30):
        node.receive(private_key(number).public_key, init_from(number, B.public_key), START)
    answers = [node.receive(private_key(number).public_key, STRANGE, START + 5) for number in range(10, 30)]
    assert sum(map(len, answers)) == 5


def test_strangers_do_not_use_up_what_sessions_need() -> None:
    node = Endpoint(B, limits=SessionLimits(stranger_inits_per_second=3))
    node.receive(A.public_key, init_from(1, B.public_key), START)
    for number in range(10, 20):
        node.receive(private_key(number).public_key, b"\x03", START)
    assert len(node.receive(A.public_key, STRANGE, START)) == 1


def test_a_session_clears_what_was_remembered_of_the_stranger() -> None:
    node = Endpoint(B)
    node.receive(A.public_key, b"\x03", START)
    assert list(node.manager._strangers) == [A.public_key]
    node.receive(A.public_key, init_from(1, B.public_key), START)
    assert node.manager._strangers == {}


def test_buffers_are_limited_in_number_and_the_oldest_goes() -> None:
    node = Endpoint(A, limits=SessionLimits(buffers=3))
    dests = [private_key(number).public_key for number in range(10, 15)]
    for dest in dests:
        node.write(dest, b"message", START)
    assert list(node.manager._buffers) == dests[2:]
    node.write(dests[2], b"newer", START)
    node.write(dests[0], b"again", START)
    assert list(node.manager._buffers) == [dests[4], dests[2], dests[0]]


def test_buffers_are_limited_in_bytes_and_the_oldest_goes() -> None:
    node = Endpoint(A, limits=SessionLimits(buffered_bytes=1000))
    dests = [private_key(number).public_key for number in range(10, 14)]
    for dest, size in zip(dests, (300, 300, 400, 500), strict=True):
        node.write(dest, bytes(size), START)
    assert list(node.manager._buffers) == [dests[2], dests[3]]
    assert node.manager._buffered_bytes == 900
    node.write(dests[3], bytes(600), START)
    assert node.manager._buffered_bytes == 1000
    node.write(dests[3], bytes(601), START)
    assert list(node.manager._buffers) == [dests[3]]
    assert node.manager._buffered_bytes == 601


def test_sessions_are_limited_and_those_in_use_stay() -> None:
    node = Endpoint(B, limits=SessionLimits(sessions=20))
    node.receive(A.public_key, init_from(1, B.public_key), START)
    for number in range(100, 160):
        now = START + number - 99
        node.write(A.public_key, b"use", now)
        node.receive(private_key(number).public_key, init_from(number, B.public_key, now), now)
        assert len(node.manager.sessions()) <= 20
        assert len(node.states) == len(node.manager.sessions())
        assert len(node.manager._expiries) <= 2 * 20 + 17
    assert A.public_key in node.states
    assert private_key(159).public_key in node.states


def test_sessions_that_come_and_go_leave_nothing_behind() -> None:
    node = Endpoint(B, limits=SessionLimits(sessions=1))
    for second in range(100):
        for number in (1, 3):
            now = START + second
            node.receive(private_key(number).public_key, init_from(number, B.public_key, now), now)
    assert len(node.manager._expiries) <= 20
    node.tick(START + 99 + SESSION_TIMEOUT)
    assert node.manager.sessions() == []
    assert node.manager._expiries == []
