"""The router of a leaf-only node: a child of each of its peers, nobody's parent, and deaf to what is for others."""

from __future__ import annotations

from typing import Any

from tests.unit.routing_bench import KEYS, Bench, announce, notify, sig_res
from yggpy.address import x_key
from yggpy.routing.bloom import from_words, key_bits
from yggpy.routing.effects import CloseLink, PathInstalled
from yggpy.routing.leaf import LeafRouter
from yggpy.routing.reactions import STARTING
from yggpy.wire.packets import (
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    Traffic,
)

ALL = BloomFilter((2**64 - 1,) * 128)
MAX = 2**64 - 1


def leaf(own: str = "k5") -> Bench:
    return Bench(own, router_class=LeafRouter)


def two_routers() -> Bench:
    """A leaf with links 1 and 2 to k2 and k3, which are children 1 and 2 of the root k0; they call it 7 and 8."""
    bench = leaf()
    for link_id, peer, port in ((1, "k2", 7), (2, "k3", 8)):
        bench.add(link_id, peer)
        bench.receive(link_id, announce("k0", "k0", 0))
        bench.receive(link_id, announce(peer, "k0", link_id))
        bench.answer(link_id, port=port)
    return bench


def stories(bench: Bench) -> dict[int, tuple[str, int]]:
    """Return parent and port of our info as told on each link since the last look."""
    labels = {key: label for label, key in KEYS.items()}
    return {
        one.link_id: (labels[one.packet.parent], one.packet.port)
        for one in bench.frames(Announce)
        if one.packet.key == bench.router.public_key and one.packet.verify()
    }


def test_each_peer_hears_that_it_is_the_parent_and_nothing_else() -> None:
    bench = leaf()
    heard = []
    for link_id, peer in ((1, "k2"), (2, "k3")):
        bench.add(link_id, peer)
        (request,) = bench.packets(SigReq)
        bench.receive(link_id, announce("k0", "k0", 0))
        bench.receive(link_id, announce(peer, "k0", link_id))
        bench.receive(link_id, sig_res(request, "k5", peer, 7))
        heard.append(stories(bench))
    bench.tick(10)
    assert heard == [{1: ("k2", 7)}, {2: ("k3", 7)}]
    assert bench.frames(Announce) == []


def test_nobody_is_answered_who_would_be_its_child() -> None:
    bench = two_routers()
    bench.frames()
    bench.receive(1, SigReq(5, 77))
    assert bench.packets(SigRes) == []


def test_its_filters_hold_nothing_but_itself() -> None:
    bench = two_routers()
    bench.receive(1, ALL)
    bench.frames()
    bench.tick()
    sent = {one.link_id: from_words(one.packet) for one in bench.frames(BloomFilter)}
    assert sent == dict.fromkeys((1, 2), key_bits(x_key(bench.router.public_key)))


def test_a_peer_that_has_given_us_a_place_gets_our_filter_before_the_tick() -> None:
    bench = leaf()
    bench.now += STARTING
    bench.tick()
    bench.add(1, "k2")
    bench.receive(1, announce("k2", "k2", 0))
    assert bench.react()
    began = bench.now
    bench.answer(1, rtt=0.1)
    assert bench.react()
    assert [from_words(packet) for packet in bench.packets(BloomFilter)] == [key_bits(x_key(KEYS["k5"]))]
    assert bench.now - began < 0.2


def test_it_lives_below_one_of_them_even_with_the_lowest_key() -> None:
    bench = leaf("k0")
    bench.add(1, "k2")
    bench.receive(1, announce("k2", "k2", 0))
    bench.answer(1, port=7)
    assert bench.parent == "k2" and bench.router.fib.self_path == (7,)
    assert bench.router.root == KEYS["k2"]
    assert bench.router.fib.transit is False


def test_losing_the_parent_leads_to_another_peer_at_once_and_the_last_to_none() -> None:
    bench = two_routers()
    assert (bench.parent, bench.router.fib.self_path) == ("k2", (1, 7))
    bench.remove(1)
    assert (bench.parent, bench.router.fib.self_path) == ("k3", (2, 8))
    bench.remove(2)
    assert (bench.parent, bench.router.fib.self_path) == ("k5", ())


def test_a_story_is_renewed_before_it_expires() -> None:
    bench = two_routers()
    bench.frames()
    for _ in range(250):
        bench.tick()
    requests = {one.link_id: one.packet for one in bench.frames(SigReq)}
    assert {link_id: request.seq for link_id, request in requests.items()} == {1: 3, 2: 3}  # 1 and 2 are used
    bench.receive(1, sig_res(requests[1], "k5", "k2", 7))
    bench.receive(2, sig_res(requests[2], "k5", "k3", 8))
    assert stories(bench) == {1: ("k2", 7), 2: ("k3", 8)} and bench.seq == 3


def test_an_old_story_at_a_peer_is_superseded() -> None:
    bench = two_routers()
    bench.frames()
    bench.receive(1, announce("k5", "k3", 4, seq=90))
    (request,) = bench.packets(SigReq)
    assert request.seq == 91
    bench.receive(1, sig_res(request, "k5", "k2", 7))
    assert stories(bench) == {1: ("k2", 7)}
    assert bench.parent == "k2" and bench.seq == 91
    bench.receive(1, announce("k5", "k3", 4, seq=3))  # older than what we said: we say it again
    assert stories(bench) == {1: ("k2", 7)} and bench.packets(SigReq) == []


def test_a_parent_that_gives_another_port_each_time_makes_one_round_a_tick() -> None:
    bench = two_routers()
    bench.frames()
    for port in range(20, 40):
        bench.answer(1, port=port)
    bench.frames()
    asked = 0
    for port in range(40, 60):
        bench.answer(1, port=port)
        asked += len([one for one in bench.frames(SigReq) if one.link_id == 2])
    assert asked == 0  # the other one hears nothing of it
    bench.tick()
    assert len(bench.frames(SigReq, link_id=2)) == 1


def test_a_peer_that_is_still_below_it_is_parted_from() -> None:
    bench = two_routers()
    bench.add(3, "k3")
    bench.effects(CloseLink)
    bench.receive(1, announce("k3", "k5", 4, seq=5))  # somebody else says so: that is history
    assert bench.effects(CloseLink) == []
    bench.receive(2, announce("k3", "k5", 4, seq=5))
    assert sorted(effect.link_id for effect in bench.effects(CloseLink)) == [2, 3]


def test_a_second_link_to_a_peer_hears_the_story() -> None:
    bench = two_routers()
    bench.frames()
    bench.add(3, "k2")
    assert stories(bench) == {3: ("k2", 7)}


def test_peers_of_another_tree_rest() -> None:
    bench = leaf()
    for link_id, peer in ((1, "k3"), (2, "k2")):
        bench.add(link_id, peer)
        bench.receive(link_id, announce(peer, peer, 0))
        bench.answer(link_id, port=7)
    bench.tick()
    assert bench.parent == "k2"
    assert [link.link_id for link in bench.router.fib.links] == [2]
    assert bench.router.resting_peers() == [KEYS["k3"]]
    bench.frames()
    bench.receive(1, announce("k2", "k2", 0))
    bench.receive(1, announce("k3", "k2", 1, seq=2))  # now they are joined
    bench.tick()
    assert [link.link_id for link in bench.router.fib.links] == [1, 2]
    assert bench.router.resting_peers() == []


def test_a_search_gives_each_peer_the_coordinates_below_it() -> None:
    bench = two_routers()
    for link_id in (1, 2):
        bench.receive(link_id, ALL)
    bench.tick()
    bench.frames()
    bench.router.lookup(KEYS["k4"], bench.now)
    assert {one.link_id: one.packet.from_path for one in bench.frames(PathLookup)} == {1: (1, 7), 2: (2, 8)}
    # The answer comes by the second one, to coordinates that are not those we live at.
    bench.receive(2, notify("k4", "k5", (2, 9), int(bench.now), path=(2, 8)))
    (installed,) = bench.effects(PathInstalled)
    assert (installed.key, installed.path) == (KEYS["k4"], (2, 9))


def test_look_ups_for_it_are_answered_with_the_coordinates_below_whoever_asked() -> None:
    bench = two_routers()
    bench.tick()
    bench.frames()
    for link_id, coords in ((1, (1, 7)), (2, (2, 8))):
        bench.receive(link_id, PathLookup(KEYS["k4"], KEYS["k5"], (2, 9)))
        (answer,) = bench.packets(PathNotify)
        assert answer.info_path == coords and answer.verify()
    assert sum(bench.router.refused.values()) == 0


def test_what_is_for_others_is_dropped_and_counted() -> None:
    bench = two_routers()
    for link_id in (1, 2):
        bench.receive(link_id, ALL)
    bench.tick()
    bench.frames()
    bench.receive(1, PathLookup(KEYS["k0"], KEYS["k4"], ()))
    bench.receive(1, notify("k4", "k3", (2, 9), 1, path=(2,)))
    bench.receive(1, PathBroken((2,), MAX, KEYS["k3"], KEYS["k4"]))
    assert bench.frames() == []
    assert bench.router.refused == {"path_lookup": 1, "path_notify": 1, "path_broken": 1, "traffic": 0}


def test_the_sender_of_traffic_for_others_is_told() -> None:
    bench = two_routers()
    bench.tick()
    bench.frames()
    traffic: Any = Traffic((2, 9), (1, 5), KEYS["k1"], KEYS["k4"], MAX, b"sealed")
    bench.router.traffic_unroutable(traffic, bench.now)
    (broken,) = bench.frames(PathBroken)
    assert broken.link_id == 1
    assert (broken.packet.path, broken.packet.source, broken.packet.dest) == ((1, 5), KEYS["k1"], KEYS["k4"])
    assert bench.router.refused["traffic"] == 1
