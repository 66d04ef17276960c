"""A router among hostile peers: whatever they send in whatever order, it raises nothing but ``DecodeError``.

The peers have real keys, so that signatures, where they are to be good, are good; and what comes out of the router must
always be frames that can be decoded, for links that are up.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.test_fuzz_wire import KEYS as ANY_KEYS
from tests.fuzz.test_fuzz_wire import NUMBERS, PACKETS, PATHS
from tests.unit.routing_bench import KEYS, NOW, Bench, announce, notify, sig_res
from yggpy.address import x_key
from yggpy.routing.bloom import from_words, key_bits
from yggpy.routing.leaf import LeafRouter
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import (
    MAX_WATERMARK,
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    Traffic,
)

LABELS = st.sampled_from(sorted(KEYS))
SMALL = st.integers(0, 3)
LINKS = st.integers(1, 4)
SEQS = st.one_of(SMALL, NUMBERS)

NODES = st.one_of(LABELS.map(KEYS.__getitem__), ANY_KEYS)
ROUTES = st.one_of(PATHS, st.lists(st.integers(1, 3), max_size=4).map(tuple))

GOOD_PACKETS: st.SearchStrategy[Any] = st.one_of(
    st.builds(announce, LABELS, LABELS, SMALL, seq=SEQS, nonce=SMALL),
    st.builds(notify, LABELS, LABELS, ROUTES, SEQS, ROUTES),
    st.builds(PathLookup, NODES, NODES, ROUTES),
    st.builds(PathBroken, ROUTES, st.just(MAX_WATERMARK), NODES, NODES),
    *(PACKETS[kind] for kind in PACKETS if getattr(kind, "__module__", "").endswith("packets") and kind is not Traffic),
)

STEPS = st.one_of(
    st.tuples(st.just("add"), LINKS, LABELS, SMALL),
    st.tuples(st.just("remove"), LINKS),
    st.tuples(st.just("packet"), LINKS, GOOD_PACKETS),
    st.tuples(st.just("answer"), LINKS, SMALL),
    st.tuples(st.just("bytes"), LINKS, st.integers(0, 12), st.binary(max_size=200)),
    st.tuples(st.just("tick"), st.sampled_from([1.0, 2.0, 61.0, 241.0, 301.0])),
    st.tuples(st.just("search"), NODES),
    st.tuples(st.just("missing"), NODES, st.binary(max_size=40)),
    st.tuples(st.just("stuck"), PACKETS[Traffic]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_hostile_peers_cause_nothing_but_decode_errors(steps: list[tuple[Any, ...]]) -> None:
    bench = Bench("k5", max_infos=6)
    peers: dict[int, str] = {}
    for step in steps:
        kind, arguments = step[0], step[1:]
        before = set(peers)
        try:
            perform(bench, peers, kind, arguments)
        except DecodeError:
            bench.remove(arguments[0])
            peers.pop(arguments[0], None)
        for sent in bench.frames():  # decodes them all
            assert sent.link_id in before.union(peers)
        assert bench.router.routing_entries <= 6
        fib = bench.router.fib
        assert {link.link_id for link in fib.links} == set(peers)
        assert fib.next_hop((1, 2, 3), MAX_WATERMARK)[1] < MAX_WATERMARK
        assert KEYS["k5"] in bench.router.known_keys()


def perform(bench: Bench, peers: dict[int, str], kind: str, arguments: tuple[Any, ...]) -> None:
    router = bench.router
    match kind, arguments:
        case "add", (link_id, label, priority):
            if link_id not in peers and label != bench.own:
                peers[link_id] = label
                bench.add(link_id, label, priority)
        case "remove", (link_id,):
            peers.pop(link_id, None)
            bench.remove(link_id)
        case "packet", (link_id, packet):
            bench.receive(link_id, packet)
        case "answer", (link_id, port):
            if link_id in peers:
                bench.answer(link_id, port=port)
        case "bytes", (link_id, frame_type, data):
            router.handle_frame(link_id, frame_type, data, bench.now)
        case "tick", (seconds,):
            bench.now += seconds
            router.tick(bench.now)
        case "search", (key,):
            router.lookup(key, bench.now)
        case "missing", (key, payload):
            router.path_missing(key, payload, bench.now)
        case "stuck", (traffic,):
            router.traffic_unroutable(traffic, bench.now)
        case _:
            raise AssertionError(kind)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_whatever_peers_do_a_leaf_does_nothing_for_others(steps: list[tuple[Any, ...]]) -> None:
    bench = Bench("k5", max_infos=6, router_class=LeafRouter)
    own = bench.router.public_key
    peers: dict[int, str] = {}
    for step in steps:
        kind, arguments = step[0], step[1:]
        before = dict(peers)
        try:
            perform(bench, peers, kind, arguments)
        except DecodeError:
            bench.remove(arguments[0])
            peers.pop(arguments[0], None)
        for sent in bench.frames():
            peer = KEYS[{**before, **peers}[sent.link_id]]
            match sent.packet:
                case Announce(key=key, parent=parent) if key == own:
                    assert parent == peer and sent.packet.verify()
                case BloomFilter():
                    assert from_words(sent.packet) in (0, key_bits(x_key(own)))
                case PathLookup(source=source) | PathNotify(source=source):
                    assert source == own
                case PathBroken():
                    assert kind == "stuck"  # to the sender, by the data plane's word
                case SigRes():
                    raise AssertionError("somebody could become its child")
        fib = bench.router.fib
        assert not fib.transit and {link.link_id for link in fib.links} <= set(peers)
        assert own in bench.router.known_keys()
        assert bench.router.parent in (own, *(KEYS[peer] for peer in peers.values()))


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_long_walk_among_busy_peers(chance: random.Random) -> None:
    """Peers that mostly play by the rules, so that the router gets to states that random bytes do not reach."""
    bench = Bench("k5", max_infos=8)
    labels = [label for label in KEYS if label != "k5"]
    peers: dict[int, str] = {}
    for _ in range(120):
        link_id = chance.randint(1, 5)
        try:
            match chance.randint(0, 7):
                case 0 if link_id not in peers:
                    peers[link_id] = chance.choice(labels)
                    bench.add(link_id, peers[link_id])
                case 1 if chance.random() < 0.3 and link_id in peers:
                    del peers[link_id]
                    bench.remove(link_id)
                case 2 if link_id in peers:
                    bench.answer(link_id, chance.random() / 10, port=chance.randint(1, 5))
                case 3:
                    bench.receive(link_id, an_announce(chance, [*labels, "k5"]))
                case 4:
                    one, two = chance.choice(labels), chance.choice([*labels, "k5"])
                    bench.receive(link_id, PathLookup(KEYS[one], KEYS[two], tuple(chance.choices((1, 2), k=2))))
                case 5:
                    bench.receive(link_id, a_notify(chance, labels))
                case 6:
                    bench.router.path_missing(KEYS[chance.choice(labels)], b"payload", bench.now)
                case _:
                    bench.tick(chance.choice((1, 1, 1, 5)))
        except DecodeError:  # an honest-looking announcement with port 0
            bench.remove(link_id)
            peers.pop(link_id, None)
        bench.frames()
        own = [entry for entry in bench.router.tree() if entry.key == KEYS["k5"]]
        assert len(own) == 1
    for link_id in list(peers):
        bench.remove(link_id)
    bench.tick(400)
    # All have gone and all that they said has expired: what is left is a tree of one, and it is quiet.
    assert bench.parent == "k5" and bench.router.routing_entries == 1
    assert bench.router.paths() == [] and bench.router.fib.links == ()
    assert bench.now > NOW + 400


def an_announce(chance: random.Random, labels: list[str]) -> Announce:
    key, parent = chance.choices(labels, k=2)
    return announce(key, parent, chance.randint(0, 3), seq=chance.randint(1, 9), nonce=chance.randint(0, 3))


def a_notify(chance: random.Random, labels: list[str]) -> PathNotify:
    return notify(chance.choice(labels), "k5", tuple(chance.choices((1, 2), k=2)), chance.randint(1, 9))


def test_an_old_answer_that_comes_back_is_only_an_old_answer() -> None:
    """Replayed frames of an earlier link: nothing but a stale request's answer."""
    bench = Bench("k5")
    bench.join(1, "k0")
    (request,) = {bench._requests[1]}
    stale = sig_res(SigReq(1, request.nonce), "k5", "k0")
    assert isinstance(stale, SigRes)
    for _ in range(3):
        bench.router.handle_frame(1, FrameType.SIG_RES, stale.encode(), bench.now)
    bench.tick()
    assert bench.seq == 2 and bench.frames() == []
