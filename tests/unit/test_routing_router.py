"""The router: parents as Go chooses them, announcements, links coming and going, and what hostile peers may not do."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.unit.routing_bench import KEYS, LABELS, NOW, Bench, Sent, announce, sig_res
from tests.unit.vectors import load
from yggpy.routing.effects import FibChanged
from yggpy.routing.links import MAX_SIG_ANSWERS_PER_SECOND, UNKNOWN_LAG
from yggpy.routing.router import PARENT_PROBE_INTERVAL
from yggpy.routing.tree import INFO_TIMEOUT, REFRESH_INTERVAL
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import Announce, BloomFilter, SigReq, SigRes

EMPTY = BloomFilter((0,) * 128)


def announced(sent: list[Sent]) -> list[tuple[int, str]]:
    return [(one.link_id, LABELS[one.packet.key]) for one in sent if isinstance(one.packet, Announce)]


# -- choosing a parent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", load("router")["fix"], ids=lambda case: str(case["description"]))
def test_one_choice_of_a_parent_is_that_of_go(case: dict[str, Any]) -> None:
    own = case["self"]
    bench = Bench(own, start=False)
    router = bench.router
    for entry in case["infos"]:
        router._tree.update(announce(entry["key"], entry["parent"], int(entry["port"])), KEYS[own], NOW)
    for link_id, entry in enumerate(case["links"]):
        bench.add(link_id, entry["key"])
        link = router._links.get(link_id)
        assert link is not None
        link.lag = UNKNOWN_LAG if entry["lag_ms"] < 0 else entry["lag_ms"] * 1_000_000
    for label in case["responses_from"]:
        router._responses[KEYS[label]] = sig_res(router._requests[KEYS[label]], own, label, 42)
    router._refresh, router._do_root1, router._do_root2 = case["refresh"], case["doRoot1"], case["doRoot2"]
    before = router._tree.own

    router._choose_parent(NOW)

    after, info = case["after"], router._tree.own
    assert (router._refresh, router._do_root1, router._do_root2) == (
        after["refresh"],
        after["doRoot1"],
        after["doRoot2"],
    )
    assert (LABELS[info.parent], info.port, info.seq) == (after["parent"], int(after["port"]), int(after["seq"]))
    assert (info != before) == after["own_info_changed"]
    if info != before:
        assert info.verify()
        # New requests for the next change went to every peer, and old answers are worth nothing any more.
        assert [one.packet.seq for one in bench.frames(SigReq)][len(case["links"]) :] == [info.seq + 1] * len(
            case["links"]
        )
        assert not router._responses


def test_start_makes_a_tree_of_one() -> None:
    bench = Bench("k5")
    assert (bench.parent, bench.seq) == ("k5", 1)
    assert bench.router.fib.self_path == () and bench.router.routing_entries == 1
    bench.tick(10)
    assert bench.frames() == [] and bench.seq == 1


def test_a_better_root_is_joined_at_the_next_tick() -> None:
    bench = Bench("k5")
    bench.add(1, "k2")
    bench.receive(1, announce("k0", "k0", 0))
    bench.receive(1, announce("k2", "k0", 7))
    bench.answer(1, port=42)
    assert bench.parent == "k5"
    bench.tick()
    assert bench.parent == "k2" and bench.seq == 2
    assert bench.router.fib.self_path == (7, 42)
    own = next(packet for packet in bench.packets(Announce, link_id=1) if packet.key == KEYS["k5"])
    assert own.verify() and own.port == 42


def test_an_answer_to_an_older_request_is_no_candidate() -> None:
    bench = Bench("k5")
    bench.add(1, "k0")
    (request,) = bench.packets(SigReq)
    bench.receive(1, announce("k0", "k0", 0))
    bench.receive(1, sig_res(SigReq(request.seq, request.nonce + 1), "k5", "k0"))
    bench.tick()
    assert bench.parent == "k5"
    bench.receive(1, sig_res(request, "k5", "k0"))
    bench.tick()
    assert bench.parent == "k0"


def test_of_two_ways_to_the_root_the_one_that_is_said_to_cost_less_is_taken() -> None:
    bench = Bench("k5")
    bench.add(1, "k2", cost=300)
    bench.add(2, "k3", cost=200)
    bench.receive(1, announce("k0", "k0", 0))
    for link_id, peer in ((1, "k2"), (2, "k3")):
        bench.receive(link_id, announce(peer, "k0", link_id))
    bench.answer(1, rtt=0.001)
    bench.answer(2, rtt=0.150)  # no matter: the operator has spoken
    bench.tick()
    assert bench.parent == "k3"
    assert [bench.router.link_cost(link_id) for link_id in (1, 2)] == [300, 200]
    assert bench.router.link_latency(1) == pytest.approx(0.001, abs=1e-6)  # still measured, and shown


def test_a_set_cost_chooses_the_next_hop_and_a_measured_one_does_not_change_it() -> None:
    bench = Bench("k5")
    bench.add(1, "k2", cost=50)
    bench.add(2, "k3")
    bench.receive(1, announce("k0", "k0", 0))
    for link_id, peer in ((1, "k2"), (2, "k3")):
        bench.receive(link_id, announce(peer, "k0", link_id))
    bench.answer(1)
    bench.answer(2, rtt=0.010)
    bench.tick()
    assert 19 <= bench.router.link_cost(2) <= 20  # twice the round trip, in whole milliseconds
    assert bench.router.fib.next_hop((), 2**64 - 1)[0] == 2
    bench.remove(1)
    bench.add(1, "k2", cost=5)  # dialled again, with another word from the operator
    assert bench.router.fib.next_hop((), 2**64 - 1)[0] == 1


def test_losing_the_only_parent_makes_a_root_within_two_ticks() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    assert bench.parent == "k0"
    bench.remove(1)
    bench.tick()
    assert bench.parent == "k0"  # a second of grace: another answer may come
    bench.tick()
    assert (bench.parent, bench.seq) == ("k5", 3)
    bench.tick(5)
    assert bench.seq == 3


def test_losing_the_parent_moves_at_once_to_another_that_answered() -> None:
    bench = Bench("k5")
    bench.join(1, "k2", parent="k0")
    bench.join(2, "k3", parent="k0", rtt=0.1)
    bench.answer(1)
    assert bench.parent == "k2"
    bench.remove(1)
    bench.tick()
    assert bench.parent == "k3"


def test_a_parent_whose_info_expires_is_lost() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.receive(1, announce("k0", "k0", 0, seq=2))
    bench.now += INFO_TIMEOUT - REFRESH_INTERVAL / 2
    bench.tick()
    assert bench.parent == "k0"
    bench.now += REFRESH_INTERVAL / 2
    bench.tick(4)
    assert bench.parent == "k5"
    assert bench.router.known_keys() == [KEYS["k5"]]


def test_our_info_is_renewed_every_four_minutes() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    joined, seq = bench.now, bench.seq
    bench.answer(1)  # the answer to the request for the next change waits for its time
    while bench.now < joined + REFRESH_INTERVAL - 1:
        bench.tick()
        assert bench.seq == seq
    bench.tick()
    assert (bench.parent, bench.seq) == ("k0", seq + 1)
    assert (1, "k5") in announced(bench.frames())


def test_a_root_renews_its_info_too() -> None:
    bench = Bench("k5")
    bench.tick(int(REFRESH_INTERVAL) - 1)
    assert bench.seq == 1
    bench.tick(3)  # doRoot1, then doRoot2
    assert (bench.parent, bench.seq) == ("k5", 2)


def test_a_cheaper_parent_is_taken_at_refresh_only() -> None:
    bench = Bench("k5")
    bench.join(1, "k2", parent="k0", rtt=0.2)
    bench.add(2, "k3")
    bench.receive(2, announce("k3", "k0", 2))
    bench.answer(2, 0.001)
    bench.answer(1)
    bench.tick(5)
    assert bench.parent == "k2"
    bench.now += REFRESH_INTERVAL
    bench.tick()
    assert bench.parent == "k3"


def test_our_own_info_from_before_a_restart_is_superseded() -> None:
    bench = Bench("k5")
    bench.add(1, "k0")
    bench.answer(1)
    bench.receive(1, announce("k0", "k0", 0))
    bench.receive(1, announce("k5", "k0", 9, seq=100))
    assert (bench.parent, bench.seq) == ("k0", 100)
    bench.tick(3)
    assert bench.seq == 101  # whoever the parent is by now
    bench.answer(1)
    bench.tick(2)
    assert (bench.parent, bench.seq) == ("k0", 102)
    own = bench.packets(Announce)[-1]
    assert own.key == KEYS["k5"] and own.seq == 102


def test_the_largest_seq_is_survived() -> None:
    """Only another node with our key can bring us there; nothing may be raised then."""
    bench = Bench("k5")
    bench.add(1, "k0")
    bench.receive(1, announce("k5", "k0", 9, seq=2**64 - 1))
    bench.tick(5)
    bench.add(2, "k1")
    assert bench.packets(SigReq, link_id=2) == [SigReq(2**64 - 1, bench._nonces)]
    bench.tick(5)
    assert bench.seq == 2**64 - 1


# -- links -----------------------------------------------------------------------------------------------


def test_a_fresh_link_starts_with_a_request_and_an_empty_filter() -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    request, bloom = bench.frames()
    assert request == Sent(1, SigReq(2, request.packet.nonce), False)
    assert bloom == Sent(1, EMPTY, False)
    bench.tick()
    assert announced(bench.frames()) == [(1, "k5")]


def test_ports_are_the_lowest_that_are_free() -> None:
    bench = Bench("k5")
    for link_id, label in enumerate(("k1", "k2", "k3")):
        bench.add(link_id, label)
    bench.add(9, "k2")
    assert [bench.router.port(KEYS[label]) for label in ("k1", "k2", "k3", "k4")] == [1, 2, 3, 0]
    bench.remove(1)
    assert bench.router.port(KEYS["k2"]) == 2  # its other link is still up
    bench.remove(9)
    bench.add(4, "k4")
    assert [bench.router.port(KEYS[label]) for label in ("k2", "k4")] == [0, 2]


def test_a_port_is_kept_for_a_child_that_announces_it() -> None:
    bench = Bench("k1")
    for link_id, label in enumerate(("k6", "k7")):
        bench.add(link_id, label)
        bench.receive(link_id, announce(label, "k1", bench.router.port(KEYS[label])))
    bench.remove(0)
    bench.remove(1)
    bench.add(2, "k8")
    bench.add(3, "k7")
    bench.add(4, "k6")
    assert [bench.router.port(KEYS[label]) for label in ("k6", "k7", "k8")] == [1, 2, 3]
    bench.remove(4)
    bench.tick(301)  # nobody thinks any more that k6 is there
    bench.add(5, "k9")
    assert bench.router.port(KEYS["k9"]) == 1


def test_a_child_with_a_new_port_says_so_at_once() -> None:
    """Our parent lost us for less than a tick, and gave our port away."""
    bench = Bench("k5")
    bench.join(1, "k1")
    before = bench.seq
    bench.remove(1)
    bench.add(1, "k1")
    bench.answer(1, port=7)
    bench.tick()
    assert (bench.parent, bench.seq) == ("k1", before + 1)
    assert bench.router.fib.self_path == (7,)
    bench.answer(1, port=7)
    bench.tick(5)
    assert bench.seq == before + 1


def test_a_request_is_answered_with_the_port_of_its_peer() -> None:
    bench = Bench("k5")
    bench.add(1, "k6")
    bench.add(2, "k7")
    bench.frames()
    bench.receive(2, SigReq(2**64 - 1, 5))
    ((link_id, response, queued),) = bench.frames()
    assert (link_id, queued) == (2, False)
    assert (response.seq, response.nonce, response.port) == (2**64 - 1, 5, 2)
    assert response.verify(KEYS["k7"], KEYS["k5"])


def test_a_second_link_shares_the_request_and_gets_what_the_first_got() -> None:
    bench = Bench("k5")
    bench.join(1, "k2", parent="k0")
    bench.answer(1)
    bench.tick(2)
    (current,) = {request.packet for request in [Sent(1, bench._requests[1], False)]}
    bench.frames()
    bench.add(2, "k2")
    sent = bench.frames()
    assert {link_id for link_id, _, _ in sent} == {2}
    assert {label for _, label in announced(sent)} == {"k0", "k2", "k5"}
    assert [one.packet for one in sent if isinstance(one.packet, SigReq)] == [current]
    (bloom,) = (one.packet for one in sent if isinstance(one.packet, BloomFilter))
    assert bloom != EMPTY
    assert bench.router.link_keys() == [KEYS["k2"], KEYS["k2"]]


def test_announcements_and_filters_go_out_on_every_link_to_a_key() -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    bench.add(2, "k7")
    bench.frames()
    bench.receive(1, announce("k7", "k5", 1))
    bench.tick()
    sent = bench.frames()
    assert sorted(announced(sent)) == [(1, "k5"), (2, "k5")]
    assert [one.link_id for one in sent if isinstance(one.packet, BloomFilter)] == [1, 2]


def test_losing_one_of_two_links_repeats_the_filter_on_the_other() -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    bench.add(2, "k7")
    bench.receive(1, announce("k7", "k5", 1))
    bench.tick()
    bloom = bench.packets(BloomFilter, link_id=2)[-1]
    bench.remove(1)
    assert bench.frames() == [Sent(2, bloom, False)]
    bench.tick()
    assert bench.frames() == []


def test_everything_about_a_peer_goes_with_its_last_link() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.remove(1)
    bench.tick(2)
    bench.add(1, "k0")
    sent = bench.frames()
    assert [type(one.packet) for one in sent] == [SigReq, BloomFilter]
    assert sent[1].packet == EMPTY
    bench.tick()
    # We still know k0's info (it lives five minutes), so it is sent along; the fresh link starts from nothing.
    assert announced(bench.frames()) == [(1, "k5"), (1, "k0")]


def test_round_trips_make_the_cost() -> None:
    bench = Bench("k5")
    bench.add(1, "k0")
    assert bench.router.link_cost(1) == 4294 and bench.router.link_latency(1) is None
    bench.receive(1, announce("k0", "k0", 0))
    bench.answer(1, 1 / 32)
    assert bench.router.link_cost(1) == 62  # twice the first one
    assert bench.router.link_latency(1) == 1 / 32
    bench.now += 1
    bench.answer(1)  # the same request again: measured once
    assert bench.router.link_cost(1) == 62
    bench.tick()  # joins k0: a new request
    bench.answer(1, 1 / 64)
    assert bench.router.link_cost(1) == 56  # 62.5 ms * 7/8 + 15.6 ms / 8
    bench.remove(1)
    bench.tick(2)
    bench.add(2, "k0")
    assert bench.router.link_cost(2) == 4294
    assert bench.router.link_cost(77) == 0 and bench.router.link_latency(77) is None


def test_an_outlier_counts_at_most_twice_the_lag() -> None:
    bench = Bench("k5")
    bench.join(1, "k0", rtt=1 / 128)
    bench.answer(1, 30.0)
    assert bench.router.link_cost(1) == 17  # 15.6 ms * 7/8 + 31.2 ms / 8


def test_frames_and_ends_of_unknown_links_are_ignored() -> None:
    bench = Bench("k5")
    bench.receive(5, SigReq(1, 1))
    bench.remove(5)
    bench.router.handle_frame(5, FrameType.ANNOUNCE, b"garbage", bench.now)
    assert bench.frames() == []


# -- announcements ---------------------------------------------------------------------------------------


def test_each_peer_hears_our_line_and_its_own_root_first_and_once() -> None:
    bench = Bench("k5")
    bench.join(1, "k1", parent="k0")
    bench.add(2, "k7")
    bench.tick()
    assert announced(bench.frames()) == [(2, "k0"), (2, "k1"), (2, "k5")]
    bench.receive(2, announce("k8", "k8", 0))
    bench.receive(2, announce("k7", "k8", 3))
    bench.tick(3)
    assert announced(bench.frames()) == []
    bench.add(3, "k9")
    bench.receive(3, announce("k9", "k7", 1))
    bench.tick()
    # k9 has said that it is k9; k7 and k8 are its line.
    assert announced(bench.frames()) == [(3, "k0"), (3, "k1"), (3, "k5"), (3, "k8"), (3, "k7")]


def test_a_new_info_goes_to_all_but_the_peer_it_came_from() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k7")
    bench.tick()
    bench.frames()
    bench.receive(1, announce("k0", "k0", 0, seq=2))
    bench.tick()
    assert announced(bench.frames()) == [(2, "k0")]


def test_a_peer_with_an_older_info_is_told_ours_at_once_on_that_link() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k7")
    bench.add(3, "k7")
    newer = announce("k0", "k0", 0, seq=8)
    bench.receive(1, newer)
    bench.frames()
    bench.receive(3, announce("k0", "k0", 0, seq=7))
    assert bench.frames() == [Sent(3, newer, False)]
    bench.tick()
    assert announced(bench.frames()) == [(2, "k5"), (3, "k5")]  # k0's is known to be known


def test_the_info_we_hold_already_needs_no_answer() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k7")
    bench.frames()
    bench.receive(2, announce("k0", "k0", 0))
    assert bench.frames() == []
    bench.tick()
    assert announced(bench.frames()) == [(2, "k5")]


def test_expired_infos_may_be_told_again() -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    bench.receive(1, announce("k7", "k8", 3))
    bench.receive(1, announce("k8", "k8", 0))
    bench.tick(int(INFO_TIMEOUT))
    assert bench.router.known_keys() == [KEYS["k5"]]
    bench.frames()
    bench.add(2, "k7")
    assert announced(bench.frames()) == [(2, "k5")]


def test_status_lists_the_tree_by_key() -> None:
    bench = Bench("k5")
    bench.join(1, "k1", parent="k0")
    entries = bench.router.tree()
    assert [LABELS[entry.key] for entry in entries] == ["k0", "k1", "k5"]
    assert [LABELS[entry.parent] for entry in entries] == ["k0", "k0", "k1"]
    assert bench.router.routing_entries == 3


def test_the_fib_changes_only_with_what_it_is_made_of() -> None:
    bench = Bench("k5")
    bench.join(1, "k1", parent="k0")
    bench.effects(FibChanged)
    bench.receive(1, announce("k8", "k8", 0))
    bench.receive(1, announce("k0", "k0", 0, seq=2))
    assert bench.effects(FibChanged) == []
    bench.receive(1, announce("k1", "k0", 6, seq=2))
    assert bench.effects(FibChanged) == [FibChanged()]
    assert bench.router.fib.self_path == (6, 42)


# -- the on-tree rule ------------------------------------------------------------------------------------


def test_filters_go_to_parent_and_children_and_an_empty_one_to_those_that_leave() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k7")
    bench.add(3, "k8")
    bench.frames()
    bench.receive(2, announce("k7", "k5", 2))
    bench.receive(3, announce("k8", "k8", 0))
    bench.tick()
    assert [one.link_id for one in bench.frames(BloomFilter)] == [2]
    bench.receive(2, announce("k7", "k0", 1, seq=2))
    bench.tick()
    assert bench.frames(BloomFilter) == [Sent(2, EMPTY, False)]


# -- hostile peers ---------------------------------------------------------------------------------------


def forged(packet: Any, **changes: Any) -> Any:
    fields = {name: getattr(packet, name) for name in packet.__dataclass_fields__}
    return type(packet)(**(fields | changes))


@pytest.mark.parametrize(
    "bad",
    [
        forged(announce("k3", "k0"), seq=2),
        forged(announce("k3", "k0"), psig=announce("k3", "k1").psig),
        forged(announce("k3", "k0"), sig=bytes(64)),
        announce("k3", "k0", 0),
    ],
    ids=["seq", "parent's signature", "signature", "port 0"],
)
def test_a_forged_announcement_closes_the_link_and_changes_nothing(bad: Announce) -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    with pytest.raises(DecodeError):
        bench.receive(1, bad)
    assert bench.router.known_keys() == [KEYS["k5"]]
    bench.tick()
    assert announced(bench.frames()) == [(1, "k5")]


def test_a_forged_answer_closes_the_link() -> None:
    bench = Bench("k5")
    bench.add(1, "k0")
    (request,) = bench.packets(SigReq)
    bench.receive(1, announce("k0", "k0", 0))
    with pytest.raises(DecodeError):
        bench.receive(1, sig_res(request, "k5", "k1"))
    bench.tick()
    assert bench.parent == "k5" and bench.router.link_latency(1) is None


def test_an_answer_with_port_zero_closes_the_link() -> None:
    """Our announcement would be invalid, and every other peer would close its link with us."""
    bench = Bench("k5")
    bench.add(1, "k0")
    bench.receive(1, announce("k0", "k0", 0))
    with pytest.raises(DecodeError):
        bench.answer(1, port=0)
    bench.tick(3)
    assert bench.parent == "k5"


@pytest.mark.parametrize("frame_type", range(FrameType.SIG_REQ, FrameType.TRAFFIC))
def test_garbage_closes_the_link(frame_type: int) -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    with pytest.raises(DecodeError):
        bench.router.handle_frame(1, frame_type, b"\xff" * 11, bench.now)


@pytest.mark.parametrize("frame_type", [FrameType.TRAFFIC, 10, 255])
def test_frames_of_other_types_are_no_business_of_the_router(frame_type: int) -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    with pytest.raises(DecodeError):
        bench.router.handle_frame(1, frame_type, b"", bench.now)


def test_requests_are_answered_so_many_times_a_second() -> None:
    bench = Bench("k5")
    bench.add(1, "k7")
    bench.add(2, "k8")
    bench.frames()
    for nonce in range(3 * MAX_SIG_ANSWERS_PER_SECOND):
        bench.receive(1, SigReq(1, nonce))
    assert len(bench.frames(SigRes)) == MAX_SIG_ANSWERS_PER_SECOND
    bench.receive(2, SigReq(1, 1))
    assert len(bench.frames(SigRes)) == 1
    bench.now += 1
    bench.receive(1, SigReq(1, 1))
    assert len(bench.frames(SigRes)) == 1


def test_invented_nodes_push_out_their_inventors_own() -> None:
    bench = Bench("k5", max_infos=6)
    bench.join(1, "k1", parent="k0")
    bench.add(2, "k7")
    for label in ("k7", "k8", "k9", "k6", "k3", "k4", "k2"):
        bench.receive(2, announce(label, label, 0))
        assert bench.router.routing_entries <= 6
    assert {"k0", "k1", "k5"} < {LABELS[key] for key in bench.router.known_keys()}
    bench.tick()
    assert bench.parent == "k1"
    # The sent marks of evicted infos are gone too: a further link is not sent what we do not have.
    bench.add(3, "k7")
    assert {label for _, label in announced(bench.frames())} <= {LABELS[key] for key in bench.router.known_keys()}


def test_a_long_line_is_told_from_the_root_down() -> None:
    bench = Bench("k9")
    labels = [f"k{number}" for number in range(8, -1, -1)]
    bench.add(1, "k8")
    for one, two in zip(labels, [*labels[1:], "k0"], strict=True):
        bench.receive(1, announce(one, two, 0 if one == two else 1))
    bench.answer(1)
    bench.tick()
    assert bench.parent == "k8" and len(bench.router.fib.self_path) == 9
    bench.add(2, "k7")
    bench.tick()
    assert [label for _, label in announced(bench.frames(link_id=2))] == [f"k{number}" for number in range(10)]


def test_a_parent_is_sent_the_filter_again_now_and_then_so_that_it_is_missed_when_it_hangs() -> None:
    bench = Bench("k5")
    bench.join(1, "k0")
    bench.add(2, "k8")
    bench.tick(3)
    bench.frames()
    sent = []
    for second in range(20):
        bench.tick()
        sent += [(second, frame.link_id) for frame in bench.frames(BloomFilter)]
    assert [link_id for _, link_id in sent] == [1] * 4
    assert {later - earlier for (earlier, _), (later, _) in pairwise(sent)} == {int(PARENT_PROBE_INTERVAL)}
    bench.remove(1)
    bench.tick(3)
    bench.frames()
    bench.tick(20)
    assert bench.parent == "k5" and bench.frames(BloomFilter) == []
