"""Acting before the next tick: what calls for it, what follows, and how often anybody can cause it."""

from __future__ import annotations

import pytest

from tests.unit.routing_bench import KEYS, LABELS, Bench, announce
from yggpy.address import x_key
from yggpy.routing.bloom import from_words, key_bits, to_words
from yggpy.routing.reactions import (
    MAX_REACTIONS_PER_PEER,
    MAX_REACTIONS_PER_SECOND,
    REACTION_DELAY,
    ROOT_GRACE,
    STARTING,
    Reactions,
)
from yggpy.routing.router import ANSWER_GRACE
from yggpy.wire.packets import Announce, BloomFilter

FILTER = to_words(key_bits(x_key(KEYS["k8"])))


def settled(bench: Bench) -> Bench:
    """Return a bench at the begin of a second, when it is no longer starting and all that was to be done is done."""
    bench.tick(int(STARTING))
    while bench.react():
        pass
    bench.now = float(int(bench.now) + 1)
    bench.frames()
    return bench


# -- what calls for a reaction ---------------------------------------------------------------------------


def test_a_lost_parent_is_replaced_before_the_tick_and_children_hear_of_it() -> None:
    bench = Bench("k5")
    bench.join(1, "k2", parent="k0")
    bench.join(2, "k3", parent="k0", rtt=0.1)
    bench.answer(1)
    bench.join(3, "k8")
    bench.receive(3, announce("k8", "k5", 1, seq=2))
    settled(bench)
    bench.answer(2)
    assert bench.parent == "k2"
    lost_at = bench.now
    bench.remove(1)
    assert bench.router.reaction_at == lost_at + REACTION_DELAY
    bench.router.react(lost_at + REACTION_DELAY / 2)  # too early
    assert bench.parent == "k2"
    assert bench.react()
    assert bench.parent == "k3"
    told = [(sent.link_id, LABELS[sent.packet.parent]) for sent in bench.frames(Announce)]
    assert (3, "k3") in told and (2, "k3") in told


def test_without_a_candidate_a_node_is_a_root_after_a_short_grace() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    settled(bench)
    lost_at = bench.now
    bench.remove(1)
    assert bench.react() and bench.parent == "k0"
    assert bench.react() and bench.parent == "k5"
    assert bench.now == pytest.approx(lost_at + REACTION_DELAY + ROOT_GRACE)
    assert not bench.react()


def test_the_grace_is_longer_while_a_peer_owes_an_answer() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    settled(bench)
    lost_at = bench.now
    bench.remove(1)
    bench.add(2, "k1")  # asked right now
    due = bench.router.reaction_at
    while due is not None and due < lost_at + ANSWER_GRACE / 2:
        assert bench.react() and bench.parent == "k0"
        due = bench.router.reaction_at
    bench.now = lost_at + ANSWER_GRACE / 2
    bench.router.tick(bench.now)
    assert bench.parent == "k0"
    bench.receive(2, announce("k1", "k1", 0))
    bench.answer(2)
    while bench.react():
        pass
    assert bench.parent == "k1"


def test_a_peer_that_owes_an_answer_is_not_waited_for_until_the_tick() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    settled(bench)
    lost_at = bench.now
    bench.remove(1)
    bench.add(2, "k1")
    while bench.react():
        pass
    assert bench.parent == "k5"
    assert bench.now == pytest.approx(lost_at + REACTION_DELAY + ANSWER_GRACE)


def test_a_peer_that_comes_and_goes_and_never_answers_does_not_keep_a_node_from_being_a_root() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    settled(bench)
    lost_at = bench.now
    bench.remove(1)
    while bench.parent == "k0":
        assert bench.now < lost_at + 2 * ANSWER_GRACE + REACTION_DELAY
        bench.add(2, "k1")
        bench.now += 0.2
        bench.router.react(bench.now)
        if bench.now >= lost_at + ANSWER_GRACE:
            bench.router.tick(bench.now)
        bench.remove(2)


def test_a_tick_does_not_cut_the_grace_short() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    settled(bench)
    bench.remove(1)
    bench.react()
    bench.now += ROOT_GRACE / 2
    bench.router.tick(bench.now)
    assert bench.parent == "k0"


def test_a_better_root_is_joined_and_a_new_peer_told_before_the_tick() -> None:
    bench = settled(Bench("k5"))
    began = bench.now
    bench.add(1, "k0")
    bench.receive(1, announce("k0", "k0", 0))
    bench.answer(1)
    assert bench.react()
    assert bench.parent == "k0"
    assert "k5" in [LABELS[packet.key] for packet in bench.packets(Announce, link_id=1)]
    assert bench.now == began + REACTION_DELAY


def test_new_bits_travel_on_before_the_tick_and_their_absence_does_not() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.join(2, "k7")
    bench.receive(2, announce("k7", "k5", 1, seq=2))
    settled(bench)
    bench.receive(2, FILTER)
    assert bench.react()
    (packet,) = bench.packets(BloomFilter, link_id=1)
    both = key_bits(x_key(KEYS["k5"])) | key_bits(x_key(KEYS["k8"]))
    assert from_words(packet) & both == both
    bench.receive(2, to_words(0))
    assert not bench.react() and bench.frames() == []
    bench.receive(2, to_words(key_bits(x_key(KEYS["k9"]))))  # other bits: the old ones are not taken away between ticks
    assert bench.react()
    both |= key_bits(x_key(KEYS["k9"]))
    assert from_words(*bench.packets(BloomFilter, link_id=1)) & both == both
    bench.tick()
    (packet,) = bench.packets(BloomFilter, link_id=1)
    assert from_words(packet) == key_bits(x_key(KEYS["k5"])) | key_bits(x_key(KEYS["k9"]))


def test_what_moves_nobody_waits_for_the_tick() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k7")
    settled(bench)
    bench.receive(1, announce("k0", "k0", 0, seq=2))  # a refresh
    bench.receive(2, FILTER)  # from a peer that is neither parent nor child
    bench.remove(2)
    assert bench.router.reaction_at is None


# -- how often -------------------------------------------------------------------------------------------


def test_a_peer_that_flaps_is_served_by_the_tick_after_its_share_and_others_still_at_once() -> None:
    bench = settled(Bench("k5"))
    second, reactions = int(bench.now), 0
    for _ in range(10):
        bench.add(1, "k2")
        reactions += bench.react()
        bench.remove(1)
        bench.now += 0.01
    assert int(bench.now) == second
    assert reactions == MAX_REACTIONS_PER_PEER
    bench.add(2, "k3")
    assert bench.react()
    bench.now = second + 1.0
    bench.add(1, "k2")
    assert bench.react()


def test_all_peers_together_cause_so_many_reactions_a_second() -> None:
    reactions = Reactions()
    now, count = 1000.0, 0
    for number in range(100):
        reactions.ask(b"%d" % number, now)
        if reactions.at is not None:
            assert reactions.take(reactions.at)
            count += 1
        now += 0.001
    assert count == MAX_REACTIONS_PER_SECOND


def test_what_happens_together_is_one_reaction() -> None:
    reactions = Reactions()
    for number in range(50):
        reactions.ask(b"%d" % number, 1000.0 + number / 2000)
    assert reactions.at == 1000.0 + REACTION_DELAY
    assert not reactions.take(1000.0)
    assert reactions.take(1000.0 + REACTION_DELAY)
    assert not reactions.take(1000.5)  # done
    reactions.ask(b"one more", 1000.5)
    assert reactions.take(1001.0)


def test_a_node_that_starts_sends_filters_at_its_ticks() -> None:
    """A network that starts as a whole is not to be searched before it knows its root."""
    bench = Bench("k5")
    bench.add(1, "k0")
    bench.receive(1, announce("k0", "k0", 0))
    bench.answer(1)
    while bench.react():
        pass
    assert bench.parent == "k0"
    assert [packet for packet in bench.packets(BloomFilter) if from_words(packet)] == []
    bench.tick()
    assert [from_words(packet) for packet in bench.packets(BloomFilter)] == [key_bits(x_key(KEYS["k5"]))]
