"""The manager between two nodes: starts, restarts, lost messages, expiry and the ratchet, step by step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from tests.unit.sessions_go_model import GoEndpoint
from tests.unit.sessions_lab import START, Endpoint, counting_entropy, kinds, make_init, private_key, read_init
from yggpy.sessions.crypto import BoxKeyPair
from yggpy.sessions.effects import SendMessage
from yggpy.sessions.manager import (
    ACK_INTERVAL,
    BUFFER_TIMEOUT,
    FIRST_MESSAGE_LIMIT,
    FIRST_MESSAGE_TIMEOUT,
    INIT_REFRESH,
    SESSION_TIMEOUT,
    STRANGER_TIMEOUT,
)
from yggpy.sessions.session import ROTATION_INTERVAL
from yggpy.wire.session import TrafficHeader

A, B = private_key(1), private_key(2)
MAX = 2**64 - 1
PAIR_1, PAIR_2 = BoxKeyPair.from_private(b"\x11" * 32), BoxKeyPair.from_private(b"\x22" * 32)
Node = Endpoint | GoEndpoint


def ours(key_number: int, life: int = 0) -> Endpoint:
    return Endpoint(private_key(key_number), entropy=counting_entropy(f"{key_number} {life}"))


def go(key_number: int) -> GoEndpoint:
    return GoEndpoint(private_key(key_number))


PEERS: dict[str, Callable[[int], Node]] = {"ours": ours, "go": go}


def deliver(sender: Node, receiver: Node, payloads: list[bytes], now: float) -> list[str]:
    """Carry ``payloads``, and all that answers them, until nothing more is sent; return the kinds of the answers."""
    told: list[str] = []
    while payloads:
        payloads = [answer for payload in payloads for answer in receiver.receive(sender.public, payload, now)]
        told += kinds(payloads)
        sender, receiver = receiver, sender
        assert len(told) < 20, "two nodes must not go on answering each other"
    return told


def connected(now: float = START, a: Node | None = None, b: Node | None = None) -> tuple[Node, Node]:
    """Two nodes in the middle of a session."""
    a, b = a or ours(1), b or ours(2)
    deliver(a, b, a.write(b.public, b"first", now), now)
    assert b.messages() == [b"first"]
    check_both_ways(a, b, now)
    return a, b


def check_both_ways(a: Node, b: Node, now: float) -> None:
    for sender, receiver in ((a, b), (b, a)) * 2:
        payloads = sender.write(receiver.public, b"ping", now)
        assert kinds(payloads) == ["traffic"]
        assert deliver(sender, receiver, payloads, now) == []
        assert receiver.messages() == [b"ping"]


# -- starts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [0.0, 1.0], ids=["same second", "next second"])
def test_a_session_starts_with_three_messages_and_the_first_one_arrives(late: float) -> None:
    a, b = ours(1), ours(2)
    init = a.write(b.public, b"hello", START)
    ack = b.receive(a.public, init[0], START + late)
    answer = a.receive(b.public, ack[0], START + late)
    assert (kinds(init), kinds(ack), kinds(answer)) == (["init"], ["ack"], ["ack", "traffic"])
    assert deliver(a, b, answer, START + late) == []
    assert b.messages() == [b"hello"]
    assert [remote for remote, _ in a.manager.sessions()] == [b.public]
    assert b.manager.sessions() == [(a.public, START + late)]
    check_both_ways(a, b, START + late)


@pytest.mark.parametrize("peer", PEERS)
def test_both_sides_may_start_at_once(peer: str) -> None:
    a, b = ours(1), PEERS[peer](2)
    from_a, from_b = a.write(b.public, b"from a", START), b.write(a.public, b"from b", START)
    answer_b = b.receive(a.public, from_a[0], START)
    answer_a = a.receive(b.public, from_b[0], START)
    assert kinds(answer_a) == kinds(answer_b) == ["ack", "traffic"]
    assert deliver(a, b, answer_a, START) == deliver(b, a, answer_b, START) == []
    assert (a.messages(), b.messages()) == ([b"from b"], [b"from a"])
    check_both_ways(a, b, START)


def test_acks_that_cross_in_a_later_second_cost_no_message() -> None:
    a, b = ours(1), ours(2)
    from_a, from_b = a.write(b.public, b"from a", START), b.write(a.public, b"from b", START)
    answer_b, answer_a = b.receive(a.public, from_a[0], START + 1), a.receive(b.public, from_b[0], START + 1)
    assert deliver(a, b, answer_a, START + 2) == deliver(b, a, answer_b, START + 2) == []
    assert (a.messages(), b.messages()) == ([b"from b"], [b"from a"])
    check_both_ways(a, b, START + 2)


def test_the_newest_message_waits_and_every_one_asks_again() -> None:
    a, b = ours(1), ours(2)
    for message in (b"one", b"two", b"three"):
        payloads = a.write(b.public, message, START)
        assert kinds(payloads) == ["init"]
    deliver(a, b, payloads, START)
    assert b.messages() == [b"three"]


def test_traffic_that_comes_before_any_init_starts_a_session() -> None:
    a, b = connected()
    restarted = ours(2, life=1)
    answers = deliver(a, restarted, a.write(b.public, b"lost", START + 5), START + 5)
    assert answers == ["init", "ack", "ack"]
    assert restarted.messages() == []
    check_both_ways(a, restarted, START + 5)


def test_the_init_for_a_stranger_announces_the_keys_that_wait_for_it() -> None:
    a, b = connected()
    restarted = ours(2, life=1)
    (waiting,) = restarted.write(a.public, b"waiting", START + 5)  # and it is lost
    (init,) = restarted.receive(a.public, a.write(b.public, b"lost", START + 5.5)[0], START + 6.5)
    one, two = read_init(A, waiting), read_init(A, init)
    assert (one.current, one.next) == (two.current, two.next)
    assert two.seq == int(START + 6.5)
    deliver(restarted, a, [init], START + 6.5)
    assert a.messages() == [b"waiting"]
    check_both_ways(a, restarted, START + 6.5)


def test_a_stranger_is_offered_the_same_keys_for_a_while() -> None:
    a, _ = connected()
    restarted = ours(2, life=1)
    inits = [
        read_init(A, restarted.receive(a.public, b"\x03" + bytes(60), START + age)[0])
        for age in (1.0, 1.5, 30.0)
    ]
    assert len({(init.current, init.next, init.key_seq) for init in inits}) == 1
    assert [init.seq for init in inits] == [int(START + 1), int(START + 1), int(START + 30)]
    assert restarted.manager.sessions() == []
    waiting = read_init(A, restarted.write(a.public, b"waiting", START + 31)[0])
    assert waiting.current == inits[0].current
    restarted.tick(START + 1 + STRANGER_TIMEOUT)
    assert not restarted.manager._strangers


def test_a_go_node_loses_nothing_more_once_it_has_acked_the_init_for_a_stranger() -> None:
    """It ignores our ack, which is of the same second, and seals for the keys of that init."""
    a = GoEndpoint(A)
    connected(a=a)
    restarted = ours(2, life=1)
    deliver(a, restarted, a.write(restarted.public, b"lost", START + 5), START + 5)
    assert restarted.messages() == []
    check_both_ways(a, restarted, START + 5)


# -- restarts --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("later", [1.0, 30.0])
@pytest.mark.parametrize("peer", PEERS)
def test_a_restart_costs_only_what_was_sealed_for_the_lost_keys(peer: str, later: float) -> None:
    a, _ = connected(a=PEERS[peer](1))
    now = START + later
    restarted = ours(2, life=1)
    for message in (b"one", b"two", b"three"):
        deliver(a, restarted, a.write(restarted.public, message, now), now)
    assert restarted.messages() == [b"two", b"three"]
    check_both_ways(a, restarted, now)


@pytest.mark.parametrize("later", [1.0, 30.0])
def test_the_restart_of_a_go_node_costs_one_more(later: float) -> None:
    """It forgets the keys that it offers; its next init, of the same second, is accepted by the number of its keys."""
    a, _ = connected(b=go(2))
    now = START + later
    restarted = GoEndpoint(B, entropy=counting_entropy("another life"))
    for message in (b"one", b"two", b"three"):
        deliver(a, restarted, a.write(restarted.public, message, now), now)
    assert restarted.messages() == [b"three"]
    check_both_ways(a, restarted, now)


@pytest.mark.parametrize("later", [1.0, 30.0])
@pytest.mark.parametrize("peer", PEERS)
def test_a_node_that_restarts_and_writes_loses_nothing(peer: str, later: float) -> None:
    a, _ = connected(a=PEERS[peer](1))
    now = START + later
    restarted = ours(2, life=1)
    for message in (b"one", b"two", b"three"):
        deliver(restarted, a, restarted.write(a.public, message, now), now)
    assert a.messages() == [b"one", b"two", b"three"]
    check_both_ways(a, restarted, now)


@pytest.mark.parametrize("writer", ["the one that stays", "the one that restarts"])
def test_restarts_within_one_second_are_over_with_it(writer: str) -> None:
    """Their inits have no newer seq than the one before; Go then keeps silent until its own session has ended."""
    a, _ = connected()
    for life in (1, 2, 3):
        restarted = ours(2, life)
        sender, receiver = (a, restarted) if writer == "the one that stays" else (restarted, a)
        for tenth in range(3):
            now = START + life / 10 + tenth / 100
            deliver(sender, receiver, sender.write(receiver.public, b"early", now), now)
    receiver.messages()
    for message in (b"repair", b"one", b"two"):
        deliver(sender, receiver, sender.write(receiver.public, message, START + 1), START + 1)
    assert receiver.messages()[-2:] == [b"one", b"two"]
    check_both_ways(a, restarted, START + 1)


def test_a_node_whose_clock_went_back_is_answered_with_an_init() -> None:
    a, _ = connected()
    restarted = ours(2, life=1)
    early = restarted.write(a.public, b"from the past", START - 3600)
    (init,) = a.receive(restarted.public, early[0], START + 5)
    assert kinds([init]) == ["init"]
    acks = restarted.receive(a.public, init, START - 3600)
    assert kinds(acks) == ["ack", "traffic"]


def test_both_sides_restart_at_once() -> None:
    connected()
    a, b = ours(1, life=1), ours(2, life=1)
    from_a, from_b = a.write(b.public, b"from a", START), b.write(a.public, b"from b", START)
    answer_b, answer_a = b.receive(a.public, from_a[0], START), a.receive(b.public, from_b[0], START)
    deliver(a, b, answer_a, START)
    deliver(b, a, answer_b, START)
    assert (a.messages(), b.messages()) == ([b"from b"], [b"from a"])


# -- lost and repeated inits and acks ----------------------------------------------------------------------


def test_a_repeated_init_is_acked_again_but_not_at_once() -> None:
    a, b = ours(1), ours(2)
    (init,) = a.write(b.public, b"hello", START)
    assert kinds(b.receive(a.public, init, START)) == ["ack"]  # and it is lost
    (again,) = a.write(b.public, b"hello", START + 0.5)
    assert b.receive(a.public, again, START + 0.5) == []
    assert b.receive(a.public, init, START + ACK_INTERVAL - 0.01) == []
    ack = b.receive(a.public, again, START + ACK_INTERVAL)
    assert kinds(ack) == ["ack"]
    assert b.receive(a.public, again, START + ACK_INTERVAL) == []
    deliver(b, a, ack, START + ACK_INTERVAL)
    assert b.messages() == [b"hello"]
    check_both_ways(a, b, START + ACK_INTERVAL)


def test_a_lost_ack_of_a_go_node_costs_no_more_than_the_refresh() -> None:
    """Go does not ack a repeated init, so that one-way traffic would wait until its session has ended."""
    a, b = ours(1), GoEndpoint(B)
    b.receive(a.public, a.write(b.public, b"0.0", START)[0], START)  # the ack is lost
    for tenth in range(1, 30):
        now = START + tenth / 10
        deliver(a, b, a.write(b.public, f"{tenth / 10}".encode(), now), now)
    arrived = b.messages()
    assert float(arrived[0]) <= INIT_REFRESH
    assert len(arrived) == 30 - round(float(arrived[0]) * 10)


def test_the_init_of_a_buffer_keeps_its_seq_until_it_is_old() -> None:
    a = ours(1)
    seqs = [
        read_init(B, a.write(B.public_key, b"message", START + age)[0]).seq - int(START)
        for age in (0.0, 1.0, INIT_REFRESH - 0.01, INIT_REFRESH, INIT_REFRESH + 1, 2 * INIT_REFRESH)
    ]
    assert seqs == [0, 0, 0, 2, 2, 4]


def test_an_old_init_moves_nothing() -> None:
    a, b = ours(1), ours(2)
    (init,) = a.write(b.public, b"hello", START)
    deliver(a, b, [init], START)
    assert b.messages() == [b"hello"]
    check_both_ways(a, b, START)
    deliver(b, a, b.receive(a.public, init, START + 3), START + 3)
    check_both_ways(a, b, START + 3)


def test_a_newer_init_of_the_same_second_is_accepted_by_its_key_number() -> None:
    b = ours(2)
    for key_seq, answers in ((1, ["ack"]), (1, []), (2, ["ack"]), (1, [])):
        init = make_init(
            A, b.public, current=PAIR_1.public, following=PAIR_2.public, seq=int(START), key_seq=key_seq
        )
        assert kinds(b.receive(A.public_key, init, START)) == answers


@pytest.mark.parametrize("case", ["in time", "too late", "too big"])
def test_the_first_message_is_sent_again_when_it_was_not_understood(case: str) -> None:
    message = b"m" * (FIRST_MESSAGE_LIMIT + (case == "too big"))
    later = START + (FIRST_MESSAGE_TIMEOUT if case == "too late" else 1.0)
    a, b = ours(1), ours(2)
    ack = b.receive(a.public, a.write(b.public, message, START)[0], START)
    a.receive(b.public, ack[0], START)  # the traffic comes to nothing
    init = make_init(B, a.public, current=PAIR_1.public, following=PAIR_2.public, seq=int(later), key_seq=1)
    assert kinds(a.receive(b.public, init, later)) == (["ack", "traffic"] if case == "in time" else ["ack"])
    again = make_init(B, a.public, current=PAIR_1.public, following=PAIR_2.public, seq=int(later) + 1, key_seq=2)
    assert kinds(a.receive(b.public, again, later + 1)) == ["ack"]


def test_the_first_message_is_not_for_the_next_life_of_a_node() -> None:
    a, b, restarted = ours(1), ours(2), ours(2, life=1)
    deliver(a, b, a.write(b.public, b"before", START), START)
    assert b.messages() == [b"before"]
    deliver(a, restarted, a.write(b.public, b"lost", START + 1), START + 1)
    deliver(a, restarted, a.write(b.public, b"after", START + 1), START + 1)
    assert restarted.messages() == [b"after"]


def test_a_message_that_meets_a_session_on_its_way_is_given_back() -> None:
    a, b = connected()
    assert isinstance(a, Endpoint)
    a.manager.session_missing(b.public, b"late", START)
    assert a.manager.take_effects() == [SendMessage(b.public, b"late")]
    a.manager.session_unknown(b.public, START)
    assert a.manager.take_effects() == []


# -- expiry ------------------------------------------------------------------------------------------------


def test_a_session_ends_after_its_last_use() -> None:
    a, b = connected()
    payloads = a.write(b.public, b"used", START + 50)
    deliver(a, b, payloads, START + 50)
    for node in (a, b):
        assert isinstance(node, Endpoint)
        node.tick(START + SESSION_TIMEOUT)
        node.tick(START + 50 + SESSION_TIMEOUT - 0.01)
        assert len(node.manager.sessions()) == len(node.states) == 1
        node.tick(START + 50 + SESSION_TIMEOUT)
        assert node.manager.sessions() == []
        assert node.states == {}
        assert not node.manager._expiries
    assert kinds(a.write(b.public, b"anew", START + 120)) == ["init"]


def test_an_accepted_init_keeps_a_session_alive() -> None:
    b = ours(2)
    for at in (0, 40):
        init = make_init(
            A, b.public, current=PAIR_1.public, following=PAIR_2.public, seq=int(START) + at, key_seq=at
        )
        b.receive(A.public_key, init, START + at)
    b.tick(START + 40 + SESSION_TIMEOUT - 0.01)
    assert b.manager.sessions() == [(A.public_key, START)]
    b.tick(START + 40 + SESSION_TIMEOUT)
    assert b.manager.sessions() == []


def test_a_buffer_ends_after_its_newest_message() -> None:
    a = ours(1)
    a.write(B.public_key, b"one", START)
    a.write(B.public_key, b"two", START + 30)
    a.tick(START + 30 + BUFFER_TIMEOUT - 0.01)
    assert len(a.manager._buffers) == 1
    a.tick(START + 30 + BUFFER_TIMEOUT)
    assert not a.manager._buffers
    assert a.manager._buffered_bytes == 0


def test_the_heap_of_expiries_does_not_grow_with_sessions_that_come_and_go() -> None:
    b = Endpoint(B, limits=replace(ours(2).manager._limits, sessions=4))
    for number in range(200):
        sender = private_key(10 + number % 7)
        init = make_init(
            sender, b.public, current=PAIR_1.public, following=PAIR_2.public, seq=int(START) + number
        )
        b.receive(sender.public_key, init, START)
        assert len(b.manager._expiries) <= 2 * 4 + 17
    b.tick(START + SESSION_TIMEOUT)
    assert b.manager.sessions() == []
    assert not b.manager._expiries


# -- ratchet -----------------------------------------------------------------------------------------------


def test_traffic_ratchets_at_most_once_in_a_while() -> None:
    a, b = connected()
    assert isinstance(a, Endpoint)
    numbers = [a.states[b.public]._keys.local_key_seq]
    times = [START + step * 5 for step in range(40)]
    for now in times:
        deliver(a, b, a.write(b.public, b"ping", now), now)
        deliver(b, a, b.write(a.public, b"pong", now), now)
        numbers.append(a.states[b.public]._keys.local_key_seq)
    assert len(a.messages()) == len(b.messages()) == len(times)
    moves = sum(after - before for before, after in pairwise(numbers))
    assert 2 <= moves <= (times[-1] - START) / ROTATION_INTERVAL + 1


def test_one_way_traffic_goes_on_for_ever_under_the_same_keys() -> None:
    a, b = connected()
    for second in range(0, 300, 7):
        assert deliver(a, b, a.write(b.public, b"ping", START + second), START + second) == []
    assert len(b.messages()) == len(range(0, 300, 7))


def test_a_used_up_counter_moves_to_fresh_keys_and_nothing_is_lost() -> None:
    a, b = connected()
    assert isinstance(a, Endpoint)
    state = a.states[b.public]
    before = TrafficHeader.decode(state.seal(b""))
    state._send_nonce = MAX - 1
    last, first = (a.write(b.public, message, START + 61)[0] for message in (b"last", b"first"))
    assert TrafficHeader.decode(last).nonce == MAX
    assert TrafficHeader.decode(first)[:3] == (before[0] + 1, before[1], 1)
    assert deliver(a, b, [last, first], START + 61) == []
    assert b.messages() == [b"last", b"first"]
    # As with Go, the next ratchet finds A one step too far; that is repaired as ever.
    deliver(b, a, b.write(a.public, b"pong", START + 61), START + 61)
    deliver(a, b, a.write(b.public, b"ping", START + 61), START + 61)
    a.messages(), b.messages()
    check_both_ways(a, b, START + 61)


def test_a_weak_next_key_in_traffic_is_not_followed() -> None:
    a, b = connected()
    assert isinstance(b, Endpoint)
    session = b.manager._sessions[a.public]
    before = (session.local_key_seq, session.remote_key_seq, session.send, session.rotated)
    session.rotated = None
    assert session.ratchet(1, bytes(32), START + 100) is None
    session.rotated = before[3]
    assert (session.local_key_seq, session.remote_key_seq, session.send, session.rotated) == before
