"""Floods: tables keep their sizes, inits their rates, and those who do nothing wrong are served meanwhile."""

from __future__ import annotations

import pytest

from tests.unit.sessions_lab import START, Endpoint, kinds, make_init, private_key
from yggpy.sessions.crypto import BoxKeyPair
from yggpy.sessions.limits import INIT_BURST, INIT_RATE, SessionLimits

A, B = private_key(1), private_key(2)
PAIR_1, PAIR_2 = BoxKeyPair.from_private(b"\x11" * 32), BoxKeyPair.from_private(b"\x22" * 32)
JUNK = b"\x03\x7f\x7f\x01" + bytes(60)
SMALL = SessionLimits(
    sessions=20,
    buffers=8,
    buffered_bytes=1000,
    strangers=16,
    stranger_inits_per_second=30,
    repair_inits_per_second=30,
)


def init_from(number: int, now: float = START) -> tuple[bytes, bytes]:
    sender = private_key(1000 + number)
    init = make_init(sender, B.public_key, current=PAIR_1.public, following=PAIR_2.public, seq=int(now))
    return sender.public_key, init


def key(number: int) -> bytes:
    """A key that nobody has; traffic with it as its source can be made by anyone."""
    return private_key(5000 + number).public_key


# -- inits -------------------------------------------------------------------------------------------------


def flood(node: Endpoint, sources: list[bytes], seconds: float, per_second: int) -> list[float]:
    """Let junk come in turn from ``sources``; return when inits went out."""
    sent = []
    for step in range(int(seconds * per_second)):
        now = START + step / per_second
        sent += [now] * len(node.receive(sources[step % len(sources)], JUNK, now))
    return sent


@pytest.mark.parametrize("known", [True, False], ids=["in a session", "without a session"])
def test_junk_in_the_name_of_one_key(known: bool) -> None:
    node = Endpoint(B)
    source, init = init_from(0)
    if known:
        node.receive(source, init, START)
    sent = flood(node, [source], 5, 200)
    assert sent[:INIT_BURST] == [START + step / 200 for step in range(INIT_BURST)], "the first go out at once"
    assert len(sent) <= INIT_BURST + 5 * INIT_RATE + 5
    for second in range(5):
        assert any(second <= time - START < second + 0.01 for time in sent), "the first of a second has a new seq"


def test_junk_in_the_names_of_many_strangers() -> None:
    node = Endpoint(B, limits=SMALL)
    sent = flood(node, [key(number) for number in range(500)], 4, 500)
    assert len(sent) <= SMALL.stranger_inits_per_second * 5 + 4
    assert len(node.manager._strangers) == SMALL.strangers
    assert node.manager.sessions() == []


def test_junk_in_the_names_of_many_sessions() -> None:
    node = Endpoint(B, limits=SMALL)
    sources = []
    for number in range(SMALL.sessions):
        source, init = init_from(number)
        node.receive(source, init, START)
        sources.append(source)
    sent = flood(node, sources, 4, 500)
    assert len(sent) <= SMALL.repair_inits_per_second * 5 + 4
    # Those who flood us with strangers' names leave the repair of sessions alone.
    flood(node, [key(number) for number in range(500)], 4, 500)
    assert kinds(node.receive(sources[0], JUNK, START + 4)) == ["init"]


def test_a_write_asks_at_once_however_many_strangers_there_are() -> None:
    node = Endpoint(B, limits=SMALL)
    flood(node, [key(number) for number in range(500)], 1, 500)
    assert kinds(node.write(A.public_key, b"message", START + 1)) == ["init"]


def test_many_writes_before_there_is_a_session() -> None:
    node = Endpoint(A)
    sent = [START + step / 500 for step in range(1500) if node.write(B.public_key, b"m", START + step / 500)]
    assert sent[:INIT_BURST] == [START + step / 500 for step in range(INIT_BURST)]
    assert len(sent) <= INIT_BURST + 3 * INIT_RATE + 3


# -- tables ------------------------------------------------------------------------------------------------


def test_sessions_with_many_keys() -> None:
    node = Endpoint(B, limits=SMALL)
    friend = Endpoint(A)
    payloads = friend.write(B.public_key, b"hello", START)
    for payload in friend.receive(B.public_key, node.receive(A.public_key, payloads[0], START)[0], START):
        node.receive(A.public_key, payload, START)
    assert node.messages() == [b"hello"]
    for number in range(200):
        now = START + number / 100
        source, init = init_from(number, now)
        assert kinds(node.receive(source, init, now)) == ["ack"]
        assert len(node.manager.sessions()) == len(node.states) <= SMALL.sessions
        assert len(node.manager._expiries) <= 2 * SMALL.sessions + 17
        if number % 5 == 0:
            (packet,) = friend.write(B.public_key, b"still here", now)
            assert node.receive(A.public_key, packet, now) == []
            assert node.messages() == [b"still here"], "a session in use outlives a flood of new ones"


def test_buffers_for_many_keys_forget_the_oldest_message() -> None:
    node = Endpoint(A, limits=SMALL)
    for number in range(50):
        node.write(key(number), b"m", START + number / 100)
        node.write(key(0), b"newest", START + number / 100)
        assert len(node.manager._buffers) <= SMALL.buffers
    assert list(node.manager._buffers) == [*(key(number) for number in range(43, 50)), key(0)]


def test_buffers_hold_so_many_bytes() -> None:
    node = Endpoint(A, limits=SMALL)
    for number, size in enumerate((400, 400, 150, 100, 20, 900, 5)):
        node.write(key(number), b"m" * size, START)
        held = [len(buffer.message) for buffer in node.manager._buffers.values()]
        assert sum(held) == node.manager._buffered_bytes <= SMALL.buffered_bytes
    assert held == [20, 900, 5][-len(held) :]
    node.write(key(5), b"m", START)
    assert node.manager._buffered_bytes == sum(len(buffer.message) for buffer in node.manager._buffers.values())


def test_a_message_larger_than_all_buffers_together_is_dropped() -> None:
    node = Endpoint(A, limits=SMALL)
    node.write(key(0), b"m" * (SMALL.buffered_bytes + 1), START)
    assert not node.manager._buffers
    assert node.manager._buffered_bytes == 0


def test_the_default_limits_leave_room_for_the_largest_message() -> None:
    limits = SessionLimits()
    assert limits.buffered_bytes >= 131070
    assert min(limits.sessions, limits.buffers, limits.strangers, limits.stranger_inits_per_second) > 0
