"""Well-signed nonsense from hostile peers, mixed with everything the node itself does, in any order.

Whatever comes: nothing but ``DecodeError`` is raised, what the router sends verifies, its tables keep their limits, and
what it remembers (coordinates, the Fib) is what it would find anew.
"""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.routing_bench import KEYS, SECRETS, Bench, announce, notify
from yggpy.routing.greedy import Coords
from yggpy.wire.errors import DecodeError
from yggpy.wire.packets import Announce, BloomFilter, PathBroken, PathLookup, SigReq, Traffic

LABELS = list(SECRETS)
NUMBERS = (1, 2, 3, 127, 128, 2**32, 2**63, 2**64 - 2, 2**64 - 1)
STEPS = 120


class World:
    """One router and its peers, who may be anybody, in all their links at once."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.own = self.chance.choice(LABELS)
        self.max_infos = self.chance.choice((2, 3, 5, 1000))
        self.bench = Bench(self.own, max_infos=self.max_infos)
        self.links: dict[int, str] = {}
        self.next_link = 1

    def step(self) -> None:
        """Let one thing happen."""
        bench, router, chance = self.bench, self.bench.router, self.chance
        match chance.randrange(12):
            case 0:
                peer = chance.choice([label for label in LABELS if label != self.own])
                bench.add(self.next_link, peer, chance.choice((0, 0, 5, 255)))
                self.links[self.next_link] = peer
                self.next_link += 1
            case 1:
                bench.now += chance.choice((0.0, 0.3, 1.0, 61.0, 241.0, 301.0))
                router.tick(bench.now)
            case 2:
                router.lookup(chance.choice((self.key(), chance.randbytes(32))), bench.now)
            case 3:
                router.path_missing(self.key(), chance.randbytes(chance.choice((0, 5, 900))), bench.now)
            case 4:
                traffic = Traffic(self.coords(), self.coords(), self.key(), self.key(), self.number(), b"x")
                router.traffic_unroutable(traffic, bench.now)
            case 5 if self.links:
                self.remove(chance.choice(list(self.links)))
            case _ if self.links:
                self.hear(chance.choice(list(self.links)))

    def hear(self, link_id: int) -> None:
        """Let a frame arrive; a ``DecodeError`` costs the link."""
        try:
            if self.chance.random() < 0.15:
                self.bench.answer(link_id, port=self.number())
            else:
                self.bench.receive(link_id, self.packet())
        except DecodeError:
            self.remove(link_id)

    def packet(self) -> Any:
        chance = self.chance
        match chance.randrange(9):
            case 0 | 1 | 2:
                key, parent = chance.choice(LABELS), chance.choice(LABELS)
                port = 0 if key == parent else self.number()
                return announce(key, parent, port, seq=self.number(), nonce=self.number())
            case 3:
                return SigReq(self.number(), self.number())
            case 4:
                return BloomFilter(tuple(chance.choice((0, 2**64 - 1, chance.getrandbits(64))) for _ in range(128)))
            case 5:
                return PathLookup(self.key(), chance.choice((self.key(), chance.randbytes(32))), self.coords())
            case 6 | 7:
                dest = chance.choice((self.own, chance.choice(LABELS)))
                return notify(chance.choice(LABELS), dest, self.coords(), self.number(), self.coords())
            case _:
                source = chance.choice((KEYS[self.own], self.key()))
                return PathBroken(self.coords(), self.number(), source, self.key())

    def remove(self, link_id: int) -> None:
        self.bench.remove(link_id)
        del self.links[link_id]

    def key(self) -> bytes:
        return KEYS[self.chance.choice(LABELS)]

    def number(self) -> int:
        return self.chance.choice(NUMBERS)

    def coords(self) -> Coords:
        """Return coordinates of somebody near, or of nobody."""
        fib = self.bench.router.fib
        nowhere = tuple(self.number() for _ in range(self.chance.randrange(5)))
        return self.chance.choice([fib.self_path, nowhere, *(link.path for link in fib.links)])

    def check(self) -> None:
        """Look at what was sent, at the limits, and at what is remembered."""
        for sent in self.bench.frames():
            if isinstance(sent.packet, Announce):
                assert sent.packet.verify()
        router = self.bench.router
        assert router.routing_entries <= self.max_infos
        walk = router._tree.root_and_coords  # the same as ``coords``, without the memory
        assert router.fib.self_path == walk(router.public_key)[1]
        for link in router.fib.links:
            assert link.path == walk(link.key)[1]
        assert [link.link_id for link in router.fib.links] == list(self.links)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_hostile_peers_break_nothing(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()
        world.check()
    for link_id in list(world.links):
        world.remove(link_id)
    world.bench.tick(400)
    assert (world.bench.router.routing_entries, world.bench.router.paths()) == (1, [])
