"""Finding coordinates: look-ups, answers, broken paths, repeats, and what strangers may cost.

The router under test is k5 at (42,): its parent is k0 on link 1, its child k7 on link 2 at (42, 1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.routing_bench import KEYS, SECRETS, Bench, Sent, announce, notify, sig_res
from yggpy.address import Address, x_key
from yggpy.routing import pathfinder
from yggpy.routing.bloom import key_bits, to_words
from yggpy.routing.effects import LookupSeen, PathInstalled, PathNotified, PathRemoved, SendQueued
from yggpy.routing.limits import PerSecond
from yggpy.routing.pathfinder import (
    BROKEN_THROTTLE,
    MAX_ANSWERS_PER_SECOND,
    MAX_BROKEN_PER_SECOND,
    MAX_SEQ_LEAD,
    PATH_TIMEOUT,
    RETRY_DELAYS,
    STRANDED_DOUBT,
    STRANDED_RETRY_DELAYS,
    Pathfinder,
    PathHost,
)
from yggpy.routing.reactions import STARTING
from yggpy.wire.errors import DecodeError
from yggpy.wire.packets import (
    MAX_WATERMARK,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    Traffic,
    path_info_signed_bytes,
)

EVERYTHING = BloomFilter((2**64 - 1,) * 128)
OWN = (42,)
CHILD = (42, 1)


def bench(*, up: BloomFilter = EVERYTHING, down: BloomFilter | None = None) -> Bench:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k7")
    bench.receive(2, announce("k7", "k5", 1))
    bench.tick()
    bench.receive(1, up)
    bench.receive(2, down or to_words(key_bits(x_key(KEYS["k7"]))))
    bench.effects(PathInstalled)
    return bench


def with_path(source: str = "k9", coords: tuple[int, ...] = (3,), payload: bytes = b"first") -> Bench:
    node = bench()
    node.router.path_missing(KEYS[source], payload, node.now)
    node.receive(1, notify(source, "k5", coords, int(node.now), OWN))
    assert node.effects(PathInstalled) == [PathInstalled(KEYS[source], coords, payload)]
    return node


def look_ups(node: Bench) -> list[tuple[int, bytes]]:
    return [(sent.link_id, sent.packet.dest) for sent in node.frames(PathLookup)]


def paths(node: Bench) -> dict[bytes, tuple[tuple[int, ...], int]]:
    return {status.key: (status.path, status.sequence) for status in node.router.paths()}


# -- look-ups --------------------------------------------------------------------------------------------


def test_a_search_goes_where_the_filters_say_with_our_coordinates() -> None:
    node = bench()
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    assert node.frames() == [Sent(1, PathLookup(KEYS["k5"], KEYS["k9"], OWN), True)]
    node.router.path_missing(KEYS["k7"], b"payload", node.now)
    assert look_ups(node) == [(1, KEYS["k7"]), (2, KEYS["k7"])]


def test_a_partial_key_finds_its_node() -> None:
    node = bench(up=to_words(key_bits(x_key(KEYS["k9"]))))
    partial = Address.for_key(KEYS["k9"]).partial_key()
    assert partial != KEYS["k9"]
    node.router.lookup(partial, node.now)
    assert look_ups(node) == [(1, partial)]
    node.receive(1, notify("k9", "k5", (3,), int(node.now), OWN))
    assert node.effects(PathNotified) == [PathNotified(KEYS["k9"])]
    assert paths(node) == {KEYS["k9"]: ((3,), int(node.now))}


def test_a_look_up_is_passed_on_but_not_back_and_only_along_the_tree() -> None:
    node = bench(down=EVERYTHING)
    node.add(3, "k8", cost=1)
    node.receive(3, EVERYTHING)
    lookup = PathLookup(KEYS["k9"], KEYS["k6"], (1, 2, 3))
    node.frames()
    node.receive(1, lookup)
    assert node.frames() == [Sent(2, lookup, True)]
    node.receive(2, lookup)
    assert node.frames() == [Sent(1, lookup, True)]
    node.receive(3, lookup)  # neither parent nor child
    assert node.frames() == []


def test_look_ups_take_the_link_with_the_lowest_priority_number() -> None:
    node = bench()
    node.add(3, "k0", priority=4)
    node.router.lookup(KEYS["k9"], node.now)
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.remove(1)
    node.add(4, "k0", priority=2)
    node.router.lookup(KEYS["k8"], node.now)
    assert look_ups(node) == [(4, KEYS["k8"])]


def test_every_look_up_that_passes_is_reported() -> None:
    node = bench()
    node.router.lookup(KEYS["k9"], node.now)
    node.receive(2, PathLookup(KEYS["k7"], KEYS["k6"], CHILD))
    assert node.effects(LookupSeen) == [LookupSeen(KEYS["k5"], OWN), LookupSeen(KEYS["k7"], CHILD)]


def test_searches_for_one_node_are_a_second_apart() -> None:
    node = bench()
    for _ in range(5):
        node.router.path_missing(KEYS["k9"], b"payload", node.now)
        node.router.lookup(KEYS["k9"], node.now)
        node.now += 0.19
    assert len(look_ups(node)) == 1
    node.now += 0.1
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    assert len(look_ups(node)) == 1


# -- answers ---------------------------------------------------------------------------------------------


def test_a_look_up_for_us_is_answered_with_signed_coordinates() -> None:
    node = bench()
    node.receive(2, PathLookup(KEYS["k7"], KEYS["k5"], CHILD))
    sent = node.frames(PathNotify)
    answer = sent[0].packet
    assert [(one.link_id, one.queued) for one in sent] == [(2, True)]
    assert (answer.path, answer.watermark) == (CHILD, 1)
    assert (answer.source, answer.dest) == (KEYS["k5"], KEYS["k7"])
    assert (answer.info_seq, answer.info_path) == (int(node.now), OWN)
    assert answer.verify()
    partial = Address.for_key(KEYS["k5"]).partial_key()
    node.now += 1
    node.receive(2, PathLookup(KEYS["k7"], partial, CHILD))
    (later,) = node.packets(PathNotify)
    assert later.info_seq == answer.info_seq + 1 and later.verify()


def test_the_answer_from_ahead_of_the_asker_goes_nowhere() -> None:
    """No way to the asker's coordinates: nothing to send, nothing to complain about."""
    node = bench()
    node.receive(1, PathLookup(KEYS["k9"], KEYS["k5"], OWN))
    assert node.packets(PathNotify) == []


def test_answers_are_counted() -> None:
    node = bench()
    lookup = PathLookup(KEYS["k7"], KEYS["k5"], CHILD)
    for _ in range(MAX_ANSWERS_PER_SECOND + 50):
        node.receive(2, lookup)
    assert len(node.frames(PathNotify)) == MAX_ANSWERS_PER_SECOND
    node.now += 1
    node.receive(2, lookup)
    assert len(node.frames(PathNotify)) == 1


def test_an_answer_is_forwarded_towards_its_asker_with_a_falling_watermark() -> None:
    node = bench()
    passing = notify("k9", "k7", (3,), 1, CHILD)
    node.receive(1, passing)
    (sent,) = node.frames()
    assert (sent.link_id, sent.queued) == (2, True)
    assert sent.packet == PathNotify(CHILD, 1, KEYS["k9"], KEYS["k7"], 1, (3,), passing.info_sig)
    node.receive(1, PathNotify(CHILD, 1, KEYS["k9"], KEYS["k7"], 1, (3,), passing.info_sig))
    assert node.frames() == []  # it was no nearer than that before


def test_the_first_answer_makes_a_path_and_releases_the_payload() -> None:
    node = bench()
    node.router.path_missing(KEYS["k9"], b"old", node.now)
    node.router.path_missing(KEYS["k9"], b"new", node.now)
    node.receive(1, notify("k9", "k5", (3, 1), 77, OWN))
    node.frames()
    assert node.others[-2:] == [PathInstalled(KEYS["k9"], (3, 1), b"new"), PathNotified(KEYS["k9"])]
    assert paths(node) == {KEYS["k9"]: ((3, 1), 77)}


def test_the_payload_waits_for_exactly_its_destination() -> None:
    """Keys with the same first bits answer to the same look-up."""
    node = bench()
    twin = KEYS["k9"][:20] + bytes(12)
    assert x_key(twin) == x_key(KEYS["k9"])
    node.router.path_missing(twin, b"secret", node.now)
    node.receive(1, notify("k9", "k5", (3,), 1, OWN))
    assert node.effects(PathInstalled) == [PathInstalled(KEYS["k9"], (3,), None)]


def test_nobody_asked() -> None:
    node = bench()
    node.receive(1, notify("k9", "k5", (3,), 1, OWN))
    assert paths(node) == {} and node.effects(PathNotified) == []


@pytest.mark.parametrize("known", [False, True], ids=["new path", "known path"])
def test_a_forged_answer_is_dropped_but_the_link_lives(known: bool) -> None:
    node = with_path() if known else bench()
    node.router.lookup(KEYS["k9"], node.now + 5)
    before = paths(node)
    good = notify("k9", "k5", (6, 6), int(node.now) + 9, OWN)
    for bad in (
        PathNotify(OWN, MAX_WATERMARK, KEYS["k9"], KEYS["k5"], good.info_seq, (6,), good.info_sig),
        PathNotify(OWN, MAX_WATERMARK, KEYS["k9"], KEYS["k5"], good.info_seq + 1, (6, 6), good.info_sig),
        notify("k8", "k5", (6, 6), 1, OWN),
    ):
        node.receive(1, bad)
        assert paths(node) == before
    node.receive(1, good)
    assert paths(node) == {KEYS["k9"]: ((6, 6), good.info_seq)}


def test_an_answer_with_bad_layout_closes_the_link() -> None:
    node = bench()
    with pytest.raises(DecodeError):
        node.router.handle_frame(1, 7, notify("k9", "k5", (3,), 1, OWN).encode()[:-1], node.now)


def test_a_newer_answer_with_other_coordinates_moves_the_path() -> None:
    node = with_path()
    node.receive(1, notify("k9", "k5", (4, 4), int(node.now) + 1, OWN))
    node.frames()
    assert node.others == [PathInstalled(KEYS["k9"], (4, 4), None), PathNotified(KEYS["k9"])]


@pytest.mark.parametrize(("coords", "age"), [((3,), 1), ((4,), 0), ((4,), -1)], ids=["same", "same seq", "older"])
def test_an_answer_without_news_changes_nothing(coords: tuple[int, ...], age: int) -> None:
    node = with_path()
    node.now += 10
    node.receive(1, notify("k9", "k5", coords, int(node.now) - 10 + age, OWN))
    assert paths(node) == {KEYS["k9"]: ((3,), int(node.now) - 10)}
    node.tick(49)
    assert KEYS["k9"] in paths(node)
    node.tick(1)  # its time was not prolonged
    assert paths(node) == {}


def test_an_address_whose_path_is_known_is_still_reported() -> None:
    """The key store has forgotten the key, the path is alive because of other traffic: it must not wait for ever."""
    node = with_path()
    node.effects(PathNotified)
    node.now += 2
    node.router.lookup(Address.for_key(KEYS["k9"]).partial_key(), node.now)
    for _ in range(2):
        node.receive(1, notify("k9", "k5", (3,), int(node.now), OWN))
    assert node.effects(PathNotified) == [PathNotified(KEYS["k9"])]
    node.tick(10)
    assert look_ups(node) == []


def test_a_payload_for_a_path_that_is_there_goes_out_at_once() -> None:
    node = with_path()
    node.frames()
    node.router.path_missing(KEYS["k9"], b"more", node.now)
    assert node.effects(PathInstalled) == [PathInstalled(KEYS["k9"], (3,), b"more")]
    assert look_ups(node) == []


def test_a_node_finds_itself() -> None:
    node = bench(up=to_words(0))
    node.router.path_missing(KEYS["k5"], b"to myself", node.now)
    assert node.effects(PathInstalled) == [PathInstalled(KEYS["k5"], OWN, b"to myself")]


# -- expiry ----------------------------------------------------------------------------------------------


def test_a_silent_path_goes_after_a_minute_and_the_next_packet_searches_again() -> None:
    node = with_path()
    node.tick(59)
    assert node.effects(PathRemoved) == []
    node.tick()
    assert node.effects(PathRemoved) == [PathRemoved(KEYS["k9"])]
    node.router.path_missing(KEYS["k9"], b"again", node.now)
    assert look_ups(node) == [(1, KEYS["k9"])]


def test_traffic_keeps_a_path() -> None:
    node = with_path()
    node.tick(50)
    node.traffic[KEYS["k9"]] = node.now
    node.tick(59)
    assert KEYS["k9"] in paths(node)
    node.tick(1)
    assert KEYS["k9"] not in paths(node)


def test_traffic_does_not_keep_a_broken_path() -> None:
    node = with_path()
    node.tick(30)
    node.traffic[KEYS["k9"]] = node.now
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    for _ in range(59):
        node.tick()
        node.traffic[KEYS["k9"]] = node.now
    assert KEYS["k9"] in paths(node)  # what came before it broke counts
    node.tick()
    assert KEYS["k9"] not in paths(node)


def test_a_search_ends_after_a_minute_with_its_payload() -> None:
    node = bench()
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    node.tick(60)
    node.receive(1, notify("k9", "k5", (3,), int(node.now), OWN))
    assert paths(node) == {}


# -- broken paths ----------------------------------------------------------------------------------------


def traffic(source: str, dest: str, from_path: tuple[int, ...]) -> Traffic:
    return Traffic((9, 9), from_path, KEYS[source], KEYS[dest], 0, b"payload")


def test_stuck_traffic_is_reported_to_its_sender() -> None:
    node = bench()
    node.router.traffic_unroutable(traffic("k7", "k9", CHILD), node.now)
    assert node.frames() == [Sent(2, PathBroken(CHILD, 1, KEYS["k7"], KEYS["k9"]), True)]


def test_reports_of_stuck_traffic_are_counted() -> None:
    node = bench()
    for _ in range(MAX_BROKEN_PER_SECOND + 50):
        node.router.traffic_unroutable(traffic("k7", "k9", CHILD), node.now)
    assert len(node.frames(PathBroken)) == MAX_BROKEN_PER_SECOND
    node.now += 1
    node.router.traffic_unroutable(traffic("k7", "k9", CHILD), node.now)
    assert len(node.frames(PathBroken)) == 1


def test_a_report_is_forwarded_towards_the_sender() -> None:
    node = bench()
    node.receive(1, PathBroken(CHILD, MAX_WATERMARK, KEYS["k7"], KEYS["k9"]))
    assert node.frames() == [Sent(2, PathBroken(CHILD, 1, KEYS["k7"], KEYS["k9"]), True)]
    node.receive(1, PathBroken(CHILD, 0, KEYS["k7"], KEYS["k9"]))
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k7"], KEYS["k9"]))
    assert node.frames() == []


def test_reports_about_our_own_path_start_a_look_up_now_and_then() -> None:
    node = with_path()
    node.now += 1
    node.frames()
    for _ in range(10):
        node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k8"]))  # no such path
    assert look_ups(node) == []
    # The first answer may be one from a tree that is gone: sooner than where nothing is known to be wrong.
    for _ in range(3):
        node.now += BROKEN_THROTTLE / 2
        node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
        assert look_ups(node) == []
        node.now += BROKEN_THROTTLE / 2
        node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
        assert look_ups(node) == [(1, KEYS["k9"])]


def test_reports_cause_no_more_attempts_where_nobody_can_be_asked() -> None:
    """Anybody may send them."""
    node = with_path()
    node.receive(1, BloomFilter((0,) * 128))
    seconds = 2
    for _ in range(seconds * 100):
        node.now += 0.01
        node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    assert 0 < len(node.effects(LookupSeen)) <= seconds / BROKEN_THROTTLE + 1
    assert look_ups(node) == []


def test_our_own_stuck_traffic_starts_a_look_up() -> None:
    node = with_path()
    node.now += 1
    node.router.traffic_unroutable(traffic("k5", "k9", OWN), node.now)
    assert look_ups(node) == [(1, KEYS["k9"])]


def test_a_broken_path_is_mended_by_an_answer() -> None:
    node = with_path()
    node.now += 1
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    node.receive(1, notify("k9", "k5", (8,), int(node.now), OWN))
    assert node.effects(PathInstalled) == [PathInstalled(KEYS["k9"], (8,), None)]
    node.tick(59)
    assert look_ups(node) == [] and KEYS["k9"] in paths(node)


def test_the_look_up_for_a_broken_path_is_repeated_until_a_true_answer() -> None:
    node = with_path()
    node.now += 1
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    node.frames()
    node.tick()
    assert look_ups(node) == [(1, KEYS["k9"])]
    forged = PathNotify(OWN, MAX_WATERMARK, KEYS["k9"], KEYS["k5"], int(node.now), (3,), bytes(64))
    node.receive(1, forged)
    node.tick(2)
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.receive(1, notify("k9", "k5", (3,), int(node.now), OWN))
    node.tick(30)
    assert look_ups(node) == []


def test_of_two_answers_of_one_second_the_later_mends_a_broken_path() -> None:
    """The first may come from a place that its sender has just left."""
    node = with_path()
    seq = int(node.now)
    node.now += BROKEN_THROTTLE
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    node.receive(1, notify("k9", "k5", (8,), seq, OWN))
    assert node.effects(PathInstalled) == [PathInstalled(KEYS["k9"], (8,), None)]
    node.receive(1, notify("k9", "k5", (3,), seq, OWN))  # not broken any more: it may be late
    assert node.effects(PathInstalled) == []


def test_two_answers_of_one_second_cannot_be_replayed_without_end() -> None:
    """Anybody may send both, and reports of stuck packets, which nobody signs."""
    node = with_path()
    seq, seconds = int(node.now), 2
    for step in range(seconds * 100):
        node.now += 0.01
        node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
        node.receive(1, notify("k9", "k5", (8 + step % 2,), seq, OWN))
    assert 0 < len(node.effects(PathInstalled)) <= seconds / BROKEN_THROTTLE + 1


def test_a_peer_whose_filter_flickers_does_not_keep_others_from_being_asked() -> None:
    node = with_path()
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    asked = []
    for step in range(100):
        node.now += 0.1
        node.receive(2, EVERYTHING if step % 2 else to_words(key_bits(x_key(KEYS["k7"]))))
        node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
        asked += look_ups(node)
    to_parent = asked.count((1, KEYS["k9"]))
    assert to_parent >= 45 and asked.count((2, KEYS["k9"])) <= to_parent + 1


def test_a_filter_that_promises_the_destination_of_a_broken_path_repeats_the_look_up() -> None:
    node = with_path()
    node.receive(1, BloomFilter((0,) * 128))
    node.now += 1
    node.receive(1, PathBroken(OWN, MAX_WATERMARK, KEYS["k5"], KEYS["k9"]))
    assert look_ups(node) == []  # there is nobody to be asked
    node.receive(1, EVERYTHING)
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.receive(1, BloomFilter((0,) * 128))
    node.receive(1, EVERYTHING)
    assert look_ups(node) == []  # it has been asked
    node.tick(2)
    assert look_ups(node) == [(1, KEYS["k9"])]


def test_what_left_by_a_lost_link_is_searched_for_without_a_report() -> None:
    node = with_path()
    node.join(3, "k2", parent="k1")
    node.tick(int(STARTING))
    node.frames()
    node.remove(1)
    assert look_ups(node) == []  # there is no parent that an answer could come by
    node.answer(3)
    while node.react():
        pass
    assert node.parent == "k2" and look_ups(node) == []
    node.receive(3, EVERYTHING)
    assert look_ups(node) == [(3, KEYS["k9"])]
    node.receive(3, notify("k9", "k5", (1, 2), int(node.now), node.router.own_coords()))
    assert node.effects(PathInstalled) == [PathInstalled(KEYS["k9"], (1, 2), None)]
    node.tick(int(STRANDED_DOUBT))
    assert set(look_ups(node)) == {(3, KEYS["k9"])}  # it may have moved again
    node.receive(3, notify("k9", "k5", (1, 2), int(node.now), node.router.own_coords()))
    node.tick(30)
    assert look_ups(node) == []


def test_where_the_parent_stays_the_search_begins_with_the_loss_of_the_link() -> None:
    node = with_path(coords=(7, 5))
    node.add(3, "k8", cost=1)
    node.receive(3, announce("k8", "k0", 7))
    node.now += 1
    node.frames()
    node.remove(3)
    assert look_ups(node) == [(1, KEYS["k9"])]
    lost_at = node.now
    node.receive(1, notify("k9", "k5", (7, 5), int(node.now), OWN))  # it may not have noticed yet
    while node.react():
        pass
    assert node.now == pytest.approx(lost_at + STRANDED_RETRY_DELAYS[0])
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.tick()
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.tick(int(STRANDED_DOUBT))
    assert set(look_ups(node)) == {(1, KEYS["k9"])}
    node.receive(1, notify("k9", "k5", (7, 5), int(node.now), OWN))  # there is no better way
    node.tick(30)
    assert look_ups(node) == []


def test_what_lies_below_a_lost_peer_is_searched_for_even_where_it_left_by_another_link() -> None:
    node = with_path(coords=(7, 5))
    node.add(3, "k8", cost=1000)
    node.receive(3, announce("k8", "k0", 7))
    assert node.router.next_hop((7, 5), MAX_WATERMARK)[0] == 1
    node.now += 1
    node.frames()
    node.remove(3)
    assert look_ups(node) == [(1, KEYS["k9"])]


def test_one_of_two_links_to_a_peer_strands_nothing() -> None:
    node = with_path()
    node.add(3, "k0")
    node.now += 1
    node.frames()
    node.remove(1)
    node.tick(3)
    assert look_ups(node) == []


def test_so_many_paths_and_the_newest_are_searched_for_when_a_link_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    node = bench()
    monkeypatch.setattr(node.router._paths, "_stranded", PerSecond(2))
    node.add(3, "k8", cost=1)
    node.receive(3, announce("k8", "k0", 7))
    for label in ("k1", "k2", "k9"):
        node.router.path_missing(KEYS[label], b"payload", node.now)
        node.receive(1, notify(label, "k5", (7, 5), int(node.now), OWN))
    node.now += 1
    node.frames()
    node.remove(3)
    assert look_ups(node) == [(1, KEYS["k9"]), (1, KEYS["k2"])]


def test_answers_from_another_place_in_the_same_second_have_a_higher_seq() -> None:
    node = bench()
    node.now = float(int(node.now))
    seqs = []
    for port in (42, 43, 44, 45, 45):
        node.router._tree.replace_own(replace(node.router._tree.own, port=port))
        node.router._fib_stale = True
        node.frames()
        node.receive(1, PathLookup(KEYS["k0"], KEYS["k5"], ()))
        (answer,) = node.packets(PathNotify)
        assert answer.info_path == (port,) and answer.verify()
        seqs.append(answer.info_seq - int(node.now))
    assert seqs == [0, 1, MAX_SEQ_LEAD, MAX_SEQ_LEAD, MAX_SEQ_LEAD]
    node.now += MAX_SEQ_LEAD + 1
    node.receive(1, PathLookup(KEYS["k0"], KEYS["k5"], ()))
    assert [answer.info_seq for answer in node.packets(PathNotify)] == [int(node.now)]


# -- repeats ---------------------------------------------------------------------------------------------


def test_an_unanswered_search_is_repeated_for_a_while() -> None:
    node = bench()
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    begin = node.now
    times = []
    for _ in range(70):
        times += [node.now - begin] * len(look_ups(node))
        node.tick()
    sums = [sum(RETRY_DELAYS[:count]) for count in range(len(RETRY_DELAYS) + 1)]
    assert times == sums and sums[-1] < PATH_TIMEOUT


def test_an_answered_search_is_not_repeated() -> None:
    node = with_path()
    node.frames()
    node.tick(20)
    assert look_ups(node) == []


def test_a_filter_that_promises_the_destination_repeats_the_search_at_once() -> None:
    node = bench(up=to_words(0))
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    assert look_ups(node) == []
    promise = key_bits(x_key(KEYS["k9"]))
    node.receive(1, to_words(key_bits(x_key(KEYS["k8"]))))
    assert look_ups(node) == []
    node.receive(1, to_words(promise))
    assert look_ups(node) == [(1, KEYS["k9"])]
    node.receive(1, to_words(promise | 1))
    assert look_ups(node) == []  # it was asked already
    node.receive(2, EVERYTHING)
    assert look_ups(node) == [(2, KEYS["k9"])]


def test_a_new_filter_repeats_nothing_that_is_answered() -> None:
    node = with_path()
    node.receive(2, EVERYTHING)
    assert look_ups(node) == []


def test_a_peer_that_joins_the_tree_is_asked_what_it_promised_before() -> None:
    node = bench(up=to_words(0))
    node.add(3, "k8", cost=1)
    node.receive(3, EVERYTHING)
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    assert look_ups(node) == []
    node.receive(3, announce("k8", "k5", 2))
    assert look_ups(node) == []
    node.tick()
    assert (3, KEYS["k9"]) in look_ups(node)


# -- limits ----------------------------------------------------------------------------------------------


class Host(PathHost):
    """A router that has no links."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def next_hop(self, path: tuple[int, ...], watermark: int) -> tuple[int | None, int]:
        return None, watermark

    def coords_for(self, peer: bytes) -> tuple[int, ...]:
        return self.own_coords()

    def own_coords(self) -> tuple[int, ...]:
        return OWN

    def send_queued(self, link_id: int, frame_type: int, payload: bytes, source: bytes, dest: bytes) -> None:
        raise AssertionError("there is no link")

    def multicast(self, lookup: PathLookup, lookup_key: bytes, from_key: bytes) -> list[bytes]:
        self.asked.append(lookup.dest)
        return []

    def ask(self, peer: bytes, lookup: PathLookup) -> None:
        self.asked.append(lookup.dest)


def small(**limits: int) -> tuple[Pathfinder, Host, list[Any]]:
    host = Host()
    effects: list[Any] = []
    return Pathfinder(SECRETS["k5"], host, effects.append, lambda key: None, **limits), host, effects


def found(finder: Pathfinder, label: str, coords: tuple[int, ...], now: float, seq: int = 1) -> None:
    finder.path_missing(KEYS[label], b"payload", now)
    finder.handle_notify(notify(label, "k5", coords, seq), now)


def test_the_oldest_paths_make_room() -> None:
    finder, _, effects = small(max_paths=2)
    for label in ("k1", "k2", "k3"):
        found(finder, label, (1,), 0.0)
    assert [key for key, _, _ in finder.entries()] == [KEYS["k2"], KEYS["k3"]]
    assert effects[-1] == PathRemoved(KEYS["k1"])


def test_long_coordinates_count_for_what_they_are() -> None:
    finder, _, effects = small(max_path_ports=100)
    for label in ("k1", "k2", "k3"):
        found(finder, label, (1,) * 30, 0.0)
    found(finder, "k4", (1,) * 60, 0.0)
    assert [key for key, _, _ in finder.entries()] == [KEYS["k3"], KEYS["k4"]]
    finder.handle_notify(notify("k4", "k5", (1,) * 90, 2), 0.0)
    assert [key for key, _, _ in finder.entries()] == [KEYS["k4"]]
    finder.handle_notify(notify("k4", "k5", (1,) * 101, 3), 0.0)
    assert finder.entries() == []
    assert effects[-1] == PathRemoved(KEYS["k4"])
    found(finder, "k1", (1,) * 100, 2.0)
    assert [key for key, _, _ in finder.entries()] == [KEYS["k1"]]


def test_the_oldest_searches_make_room() -> None:
    finder, _, effects = small(max_rumors=2)
    for now, label in enumerate(("k1", "k2", "k1", "k3")):
        finder.path_missing(KEYS[label], label.encode(), now * 2.0)
    for label in ("k1", "k2", "k3"):
        finder.handle_notify(notify(label, "k5", (1,), 1), 9.0)
    installed = [effect.payload for effect in effects if isinstance(effect, PathInstalled)]
    assert installed == [b"k1", b"k3"]


def test_waiting_payloads_are_bounded_in_bytes() -> None:
    finder, _, effects = small(max_rumor_bytes=250)
    for label in ("k1", "k2", "k3"):
        for size in (10, 100):  # the newer replaces the older
            finder.path_missing(KEYS[label], bytes(size), 0.0)
    for label in ("k1", "k2", "k3"):
        finder.handle_notify(notify(label, "k5", (1,), 1), 9.0)
    assert [effect.key for effect in effects if isinstance(effect, PathInstalled)] == [KEYS["k2"], KEYS["k3"]]
    # What was delivered no longer counts.
    for label in ("k8", "k9"):
        finder.path_missing(KEYS[label], bytes(120), 10.0)
        finder.handle_notify(notify(label, "k5", (1,), 1), 10.0)
    assert len(finder.entries()) == 4


def test_limits_are_generous_for_honest_networks() -> None:
    assert pathfinder.MAX_PATHS >= 4096 and pathfinder.MAX_RUMORS >= 1024
    assert pathfinder.MAX_PATH_PORTS >= 32 * pathfinder.MAX_PATHS


# -- hostile lengths -------------------------------------------------------------------------------------


LONG = (1,) * 130_900
LONG_THROUGH_US = OWN + (1,) * 130_000
BIG = (2**64 - 1,) * 13_000


@pytest.mark.parametrize("path", [LONG, LONG_THROUGH_US, BIG], ids=["small ports", "through us", "large ports"])
def test_paths_as_long_as_a_frame_are_survived(path: tuple[int, ...]) -> None:
    """Whatever comes of them may be too large for a frame, which is for the data plane to see; nothing is raised."""
    node = bench(down=EVERYTHING)
    node.receive(1, PathLookup(KEYS["k7"], KEYS["k5"], path))
    node.receive(2, PathLookup(KEYS["k7"], KEYS["k9"], path))
    node.receive(1, PathBroken(path, MAX_WATERMARK, KEYS["k7"], KEYS["k9"]))
    node.router.path_missing(KEYS["k9"], b"payload", node.now)
    node.receive(1, PathNotify(path, MAX_WATERMARK, KEYS["k9"], KEYS["k7"], 1, (), bytes(64)))
    signature = SECRETS["k9"].sign(path_info_signed_bytes(2, path))
    node.receive(1, PathNotify(OWN, MAX_WATERMARK, KEYS["k9"], KEYS["k5"], 2, path, signature))
    node.router.traffic_unroutable(Traffic(path, path, KEYS["k7"], KEYS["k9"], 0, b""), node.now)
    node.tick(3)
    assert any(isinstance(effect, SendQueued) for effect in node.router.take_effects()) or path is not LONG_THROUGH_US


def test_deep_in_a_hostile_tree_we_still_ask_and_answer() -> None:
    """A parent can give us any port; ours makes the packets longer, no more."""
    node = Bench("k5")
    node.add(1, "k0")
    (request,) = node.packets(SigReq)
    node.receive(1, announce("k0", "k0", 0))
    node.receive(1, sig_res(request, "k5", "k0", 2**64 - 1))
    node.tick()
    node.receive(1, EVERYTHING)
    node.router.lookup(KEYS["k9"], node.now)
    assert PathLookup(KEYS["k5"], KEYS["k9"], (2**64 - 1,)) in node.packets(PathLookup)
    node.receive(1, PathLookup(KEYS["k0"], KEYS["k5"], ()))
    (answer,) = node.packets(PathNotify)
    assert answer.info_path == (2**64 - 1,) and answer.verify()
