"""Two nodes over a channel that loses, delays, reorders and repeats, with restarts: once it is good, all arrives again.

The clock is virtual. Each world is drawn from a seed; ours meet ours, and ours meet a model of the Go node.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.sessions_go_model import GoEndpoint
from tests.unit.sessions_lab import START, Endpoint, counting_entropy, make_init, private_key
from yggpy.sessions.crypto import BoxKeyPair
from yggpy.sessions.limits import SessionLimits
from yggpy.wire.session import TrafficHeader

Node: TypeAlias = Endpoint | GoEndpoint
Make: TypeAlias = Callable[[int, str], Node]

BAD_TIME = 12.0
"""Seconds of a bad channel."""
RECOVERY_TIME = 4.0
"""Seconds after which everything must arrive: old packets are gone and the clock has gone on far enough."""
GOOD_TIME = 4.0
"""Seconds during which nothing may be lost after that."""
INTERVAL = 0.05
"""Mean seconds between two messages of a writer."""


def ours(number: int, label: str) -> Node:
    return Endpoint(private_key(number), entropy=counting_entropy(label))


def go(number: int, label: str) -> Node:
    return GoEndpoint(private_key(number), entropy=counting_entropy(label))


@dataclass
class Channel:
    """How bad the way between the nodes is."""

    loss: float = 0.0
    duplicates: float = 0.0
    delay: tuple[float, float] = (0.02, 0.02)


@dataclass
class World:
    """Two nodes and what is under way between them."""

    random: Random
    makers: tuple[Make, Make]
    channel: Channel = field(default_factory=Channel)
    now: float = START
    written: dict[bytes, float] = field(default_factory=dict)
    arrived: Counter[bytes] = field(default_factory=Counter)
    released: Counter[bytes] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.now += self.random.random()
        self.lives = itertools.count()
        self.nodes = [self._born(0), self._born(1)]
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._seals: set[tuple[bytes, int]] = set()

    def _born(self, index: int) -> Node:
        return self.makers[index](index + 1, f"life {next(self.lives)}")

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (time, next(self._order), action))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = until

    def restart(self, index: int) -> None:
        """A node comes back with nothing but its key."""
        self.nodes[index] = self._born(index)

    def write(self, index: int) -> None:
        """A node sends a message that no other is like."""
        message = f"message {len(self.written)}".encode()
        self.written[message] = self.now
        node, peer = self.nodes[index], self.nodes[1 - index]
        self._carry(index, node.write(peer.public, message, self.now))

    def tick(self) -> None:
        """Both managers judge their expiries."""
        for index, node in enumerate(self.nodes):
            self._carry(index, node.tick(self.now))

    def _carry(self, index: int, payloads: list[bytes]) -> None:
        node = self.nodes[index]
        for seal in node.sealed:
            assert seal not in self._seals, "a nonce was used twice with the same key"
            self._seals.add(seal)
        node.sealed.clear()
        self.released.update(node.released)
        node.released.clear()
        for payload in payloads:
            copies = 0 if self.random.random() < self.channel.loss else 1
            while self.random.random() < self.channel.duplicates and copies < 4:
                copies += 1
            for _ in range(copies):
                self.at(self.now + self.random.uniform(*self.channel.delay), self._arrival(1 - index, payload))

    def _arrival(self, index: int, payload: bytes) -> Callable[[], None]:
        def arrive() -> None:
            node, peer = self.nodes[index], self.nodes[1 - index]
            self._carry(index, node.receive(peer.public, payload, self.now))
            for message in node.messages():
                self.arrived[message] += 1
                # A message goes out twice only if the sender's manager itself wants that. Go takes more copies.
                assert isinstance(node, GoEndpoint) or self.arrived[message] <= max(1, self.released[message])

        return arrive

    def write_for(self, writers: list[int], seconds: float) -> None:
        """Plan the messages of ``writers``, and the ticks."""
        for index in writers:
            time = self.now + self.random.expovariate(1 / INTERVAL)
            while time < self.now + seconds:
                self.at(time, partial(self.write, index))
                time += self.random.expovariate(1 / INTERVAL)
        for second in range(1, int(seconds) + 1):
            self.at(self.now + second, self.tick)

    def lost(self, since: float, until: float) -> list[bytes]:
        """Messages written in a span of time that have not arrived."""
        return [m for m, time in self.written.items() if since <= time < until and not self.arrived[m]]


def bad_times(world: World, writers: list[int], restarts: int, loss: float) -> None:
    """A channel as bad as it gets, with restarts of either side."""
    world.channel = Channel(loss=loss, duplicates=0.2, delay=(0.001, world.random.choice((0.05, 0.3, 1.5))))
    world.write_for(writers, BAD_TIME)
    for _ in range(restarts):
        index = world.random.randrange(2)
        world.at(world.now + world.random.uniform(0, BAD_TIME), partial(world.restart, index))
    world.run(world.now + BAD_TIME)


def good_times(world: World, writers: list[int]) -> tuple[int, int]:
    """The channel is good from now on. Return how many messages it costs to recover, and how many more are lost."""
    since = world.now
    world.channel = Channel()
    world.write_for(writers, RECOVERY_TIME + GOOD_TIME)
    begin = world.now + RECOVERY_TIME
    world.run(begin + GOOD_TIME + 1.0)
    return len(world.lost(since, begin)), len(world.lost(begin, begin + GOOD_TIME))


PAIRS = {"ours": (ours, ours), "ours to go": (ours, go), "go to ours": (go, ours)}
WRITERS = {"first": [0], "second": [1], "both": [0, 1]}


@pytest.mark.parametrize("writers", WRITERS.values(), ids=list(WRITERS))
@pytest.mark.parametrize("makers", PAIRS.values(), ids=list(PAIRS))
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), restarts=st.integers(0, 4), loss=st.sampled_from((0.0, 0.1, 0.5, 0.9)))
def test_sessions_recover(makers: tuple[Make, Make], writers: list[int], seed: int, restarts: int, loss: float) -> None:
    world = World(Random(seed), makers)
    bad_times(world, writers, restarts, loss)
    _, lost = good_times(world, writers)
    assert lost == 0


@pytest.mark.parametrize("writers", WRITERS.values(), ids=list(WRITERS))
def test_recovery_costs_no_more_than_go(writers: list[int]) -> None:
    costs = []
    for make in (ours, go):
        cost = 0
        for seed in range(20):
            world = World(Random(seed), (make, make))
            bad_times(world, writers, restarts=seed % 4, loss=(0.1, 0.5, 0.9)[seed % 3])
            cost += sum(good_times(world, writers))
        costs.append(cost)
    assert costs[0] <= costs[1]


PEER = private_key(2).public_key
JUNK = st.one_of(
    st.binary(max_size=250),
    st.binary(min_size=192, max_size=192).map(lambda rest: b"\x01" + rest),
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.binary(min_size=48, max_size=80)).map(
        lambda parts: TrafficHeader(*parts[:3]).encode() + parts[3]
    ),
)


@settings(max_examples=100, deadline=None)
@given(junk=st.lists(JUNK, max_size=20), connected=st.booleans())
def test_junk_does_no_harm(junk: list[bytes], connected: bool) -> None:
    node, peer = Endpoint(private_key(1)), Endpoint(private_key(2))
    if connected:
        payloads = node.write(PEER, b"message", START)
        for receiver, sender in ((peer, node), (node, peer), (peer, node)):
            payloads = [answer for payload in payloads for answer in receiver.receive(sender.public, payload, START)]
        assert peer.messages() == [b"message"]
    keys = {remote: state._keys for remote, state in node.states.items()}
    for payload in junk:
        node.receive(PEER, payload, START + 2)
    assert node.messages() == []
    assert {remote: state._keys for remote, state in node.states.items()} == keys


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_tables_stay_within_their_limits_in_a_flood(seed: int) -> None:
    random = Random(seed)
    limits = SessionLimits(
        sessions=16,
        buffers=8,
        buffered_bytes=4000,
        strangers=12,
        stranger_inits_per_second=50,
        repair_inits_per_second=50,
    )
    node = Endpoint(private_key(1), limits=limits)
    manager = node.manager
    keys = [private_key(number) for number in range(100, 160)]
    pair = BoxKeyPair.from_private(b"\x11" * 32)
    now, sent_in_second = START, 0
    for step in range(1500):
        key = random.choice(keys)
        match random.randrange(4):
            case 0:
                init = make_init(key, node.public, current=pair.public, following=pair.public, seq=int(now))
                node.receive(key.public_key, init, now)
                node.take()
            case 1:
                node.write(key.public_key, random.randbytes(random.randrange(1500)), now)
                node.take()
            case 2:
                sent_in_second += len(node.receive(key.public_key, b"\x03", now))
            case _:
                strange = TrafficHeader(99, 99, 1).encode() + bytes(60)
                sent_in_second += len(node.receive(key.public_key, strange, now))
        assert len(manager._sessions) == len(node.states) <= limits.sessions
        assert len(manager._buffers) <= limits.buffers
        assert manager._buffered_bytes == sum(len(b.message) for b in manager._buffers.values())
        assert manager._buffered_bytes <= limits.buffered_bytes
        assert not set(manager._buffers) & set(manager._sessions)
        assert len(manager._strangers) <= limits.strangers
        assert len(manager._expiries) <= 2 * limits.sessions + 17
        if step % 500 == 499:
            assert sent_in_second <= limits.stranger_inits_per_second + limits.repair_inits_per_second
            now, sent_in_second = now + 1, 0
            node.tick(now)
    node.tick(now + 200)
    assert not (manager._sessions or manager._buffers or manager._expiries or node.states)
    assert manager._buffered_bytes == 0
