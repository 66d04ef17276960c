"""Two sessions that are out of step, and what is done about it without taking or losing anything twice."""

from __future__ import annotations

import pytest

from tests.unit.sessions_go_model import GoEndpoint
from tests.unit.sessions_lab import START, Endpoint, kinds, make_init, private_key, read_init
from yggpy.sessions.crypto import BoxKeyPair
from yggpy.wire.session import MessageType, TrafficHeader

A, B = private_key(1), private_key(2)
PAIR_1, PAIR_2 = BoxKeyPair.from_private(b"\x11" * 32), BoxKeyPair.from_private(b"\x22" * 32)
STRANGE = TrafficHeader(99, 99, 1).encode() + bytes(60)
MAX = 2**64 - 1
Node = Endpoint | GoEndpoint


def deliver(to: Node, source: Node, payloads: list[bytes], now: float) -> list[bytes]:
    """Hand over payloads in order; return what goes back."""
    return [answer for payload in payloads for answer in to.receive(source.public, payload, now)]


def settle(one: Node, two: Node, payloads: list[bytes], now: float) -> None:
    """Carry ``payloads`` of ``one``, and all answers, to and fro until it is quiet."""
    for _ in range(20):
        if not payloads:
            return
        payloads = deliver(two, one, payloads, now)
        one, two = two, one
    raise AssertionError("the two never come to rest")


@pytest.mark.parametrize("step", [0.0, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("peer", [Endpoint, GoEndpoint])
def test_both_first_messages_arrive_on_a_line_of_any_delay(peer: type[Node], step: float) -> None:
    one, two = Endpoint(A), peer(B)
    to_two, to_one = one.write(B.public_key, b"from one", START), two.write(A.public_key, b"from two", START)
    now = START
    for _ in range(10):
        now += step
        to_two, to_one = deliver(one, two, to_one, now), deliver(two, one, to_two, now)
    assert (to_one, to_two) == ([], [])
    assert set(one.messages()) == {b"from two"}
    assert set(two.messages()) == {b"from one"}
    for number in range(3):
        settle(one, two, one.write(B.public_key, b"there %d" % number, now), now)
        settle(two, one, two.write(A.public_key, b"back %d" % number, now), now)
    assert two.messages() == [b"there 0", b"there 1", b"there 2"]
    assert one.messages() == [b"back 0", b"back 1", b"back 2"]


def test_an_own_init_ends_the_wait_for_the_ack_of_a_crossed_one() -> None:
    """Otherwise a lost ack would make us ignore the answer to the init that repairs the session."""
    one, two = Endpoint(A), Endpoint(B)
    to_two, to_one = one.write(B.public_key, b"one", START), two.write(A.public_key, b"two", START)
    deliver(one, two, to_one, START)
    deliver(two, one, to_two, START)  # both acks and both messages are lost
    assert one.manager._sessions[B.public_key].crossed
    (init,) = one.receive(B.public_key, STRANGE, START + 2)
    ack, *_ = two.receive(A.public_key, init, START + 2)
    before = one.manager._sessions[B.public_key].local_key_seq
    one.receive(B.public_key, ack, START + 2)
    assert one.manager._sessions[B.public_key].local_key_seq == before + 1
    settle(one, two, one.write(B.public_key, b"message", START + 2), START + 2)
    assert b"message" in two.messages()


def test_a_mismatch_offers_the_keys_of_the_session() -> None:
    one, two = Endpoint(A), Endpoint(B)
    settle(one, two, one.write(B.public_key, b"message", START), START)
    session = one.manager._sessions[B.public_key]
    (answer,) = one.receive(B.public_key, STRANGE, START + 2)
    offered = read_init(B, answer)
    assert (offered.current, offered.next) == (session.send.public, session.next.public)
    assert (offered.key_seq, offered.seq) == (session.local_key_seq, int(START) + 2)


def test_reports_about_sessions_that_have_just_ended_do_no_harm() -> None:
    node = Endpoint(B)
    node.manager.session_nonce_exhausted(A.public_key, START)
    assert node.manager.take_effects() == []
    node.manager.session_mismatch(A.public_key, START)
    node._apply(START)
    assert kinds(node.take()) == ["init"]


def test_replays_are_not_taken_after_new_keys_were_agreed() -> None:
    """The key of traffic that came early as the next one stays when an init names it, and so must its nonces."""
    for peer, taken in ((Endpoint, 0), (GoEndpoint, 4)):
        one, two = Endpoint(A), peer(B)
        settle(one, two, one.write(B.public_key, b"first", START), START)
        settle(two, one, two.write(A.public_key, b"moves our keys on", START), START)
        captured = [payload for number in range(5) for payload in one.write(B.public_key, b"%d" % number, START + 1)]
        deliver(two, one, captured[:4], START + 1)
        assert two.messages() == [b"first", b"0", b"1", b"2", b"3"]
        (init,) = one.receive(B.public_key, STRANGE, START + 2)
        deliver(two, one, [init], START + 2)  # the ack is under way when the copies come
        deliver(two, one, captured[:4], START + 2)
        assert len(two.messages()) == taken
        deliver(two, one, captured[4:], START + 2)
        assert two.messages() == [b"4"]


def test_the_first_message_is_kept_until_it_was_surely_read() -> None:
    """Traffic sealed for the keys that our init had says nothing; what is sealed for newer ones says that it was."""
    one, two = Endpoint(A), Endpoint(B)
    to_two, to_one = one.write(B.public_key, b"one", START), two.write(A.public_key, b"two", START)
    answers = deliver(one, two, to_one, START)
    data = [payload for payload in deliver(two, one, to_two, START) if payload[0] == MessageType.TRAFFIC]
    deliver(one, two, data, START)
    session = one.manager._sessions[B.public_key]
    assert session.first_message == b"one"
    settle(one, two, answers, START)
    settle(two, one, two.write(A.public_key, b"more", START), START)
    assert session.first_message is None


def test_an_old_ack_or_init_within_a_session_is_not_answered() -> None:
    receiver = Endpoint(B)
    receiver.receive(
        A.public_key, make_init(A, B.public_key, current=PAIR_1.public, following=PAIR_2.public, seq=int(START)), START
    )
    for message_type, key_seq in ((MessageType.ACK, 0), (MessageType.ACK, 5), (MessageType.INIT, 5)):
        for seq in (START - 1, START - 1000):
            message = make_init(
                A,
                B.public_key,
                current=PAIR_2.public,
                following=PAIR_1.public,
                seq=int(seq),
                key_seq=key_seq,
                message_type=message_type,
            )
            assert receiver.receive(A.public_key, message, START + 5) == []


@pytest.mark.parametrize("seq", [0, MAX])
def test_the_ends_of_seq_and_key_seq_make_sessions(seq: int) -> None:
    receiver = Endpoint(B)
    message = make_init(A, B.public_key, current=PAIR_1.public, following=PAIR_2.public, seq=seq, key_seq=MAX)
    assert kinds(receiver.receive(A.public_key, message, START)) == ["ack"]
    assert kinds(receiver.write(A.public_key, b"message", START)) == ["traffic"]
    assert receiver.receive(A.public_key, STRANGE, START) != []
