"""A simulated network: nodes and links made from a topology, and what may happen to them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Container, Iterable
from functools import partial

from yggpy.keys import PrivateKey
from yggpy.sim.clock import VirtualScheduler
from yggpy.sim.link import SimulatedLink
from yggpy.sim.node import SimulatedNode
from yggpy.sim.topology import Topology
from yggpy.wire.frame import FrameType

__all__ = ["NotQuiet", "Simulation"]

QUIET = 4.0
"""Seconds without a frame after which a network has settled: longer than the grace of a node that lost its root.
Traffic does not count, nor does a filter that was sent before, to see whether a parent still answers."""


REDIAL_DELAY = 2.0
"""Seconds after which a link that a node has closed is there again: the first step of a peering's back-off."""


class NotQuiet(Exception):
    """The network went on talking longer than it was given time for."""


class Simulation:
    """``topology`` with a router at each node.

    ``latency`` is the range of the links' one-way latencies in seconds, ``loss`` the probability that a packet must be
    repeated. Nodes in ``leaves`` pass nothing on for others; those in ``ticking`` act at their ticks only, as Go nodes
    do.

    Keys, latencies, losses and the nodes' ticks come from ``seed``.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        seed: int = 0,
        latency: tuple[float, float] = (0.001, 0.030),
        loss: float = 0.0,
        leaves: Container[int] = (),
        ticking: Container[int] = (),
    ) -> None:
        self.scheduler = VirtualScheduler()
        self.frames_sent: int = 0
        """Frames so far, Traffic included."""
        self._chance = random.Random(seed)
        self._latency = latency
        self._loss = loss
        self._last_frame = self.scheduler.now()
        self._next_link_id = 1
        self.links: dict[int, SimulatedLink] = {}
        """The links that are up, by id."""
        self.nodes = [
            SimulatedNode(
                number,
                _key(seed, number),
                self.scheduler,
                self._chance,
                self._transmit,
                self._close,
                transit=number not in leaves,
                reacts=number not in ticking,
            )
            for number in range(topology.size)
        ]
        # All start within the first second; links come up when both ends have started, as in life.
        self.scheduler.run_for(1.0)
        for one, two in topology.edges:
            self.connect(one, two)

    # -- what happens ------------------------------------------------------------------------------------

    def connect(self, one: int, two: int, *, latency: float | None = None, cost: int | None = None) -> SimulatedLink:
        """Join two living nodes by a new link, with a random latency unless one is given.

        ``cost``: what the node ``one`` takes the link to cost; the other end knows nothing of it.
        """
        ends = self.nodes[one], self.nodes[two]
        link = SimulatedLink(
            self._next_link_id,
            (one, two),
            (ends[0].receive, ends[1].receive),
            self.scheduler,
            self._chance,
            self._chance.uniform(*self._latency) if latency is None else latency,
            self._loss,
        )
        self._next_link_id += 1
        self.links[link.link_id] = link
        ends[0].link_up(link.link_id, ends[1].public_key, cost)
        ends[1].link_up(link.link_id, ends[0].public_key)
        return link

    def disconnect(self, link: SimulatedLink) -> None:
        """Take a link down; both ends notice at once."""
        if link.is_up:
            link.is_up = False
            del self.links[link.link_id]
            for end in link.ends:
                self.nodes[end].link_down(link.link_id)

    def flap(self, link: SimulatedLink, down_for: float) -> None:
        """Take a link down, and join its ends by a like one ``down_for`` seconds later if both are alive."""
        self.disconnect(link)
        self.scheduler.call_later(down_for, partial(self._rejoin, link))

    def _rejoin(self, link: SimulatedLink) -> None:
        if all(self.nodes[end].is_alive for end in link.ends):
            self.connect(*link.ends, latency=link.latency)

    def kill(self, number: int) -> None:
        """Let a node vanish with all its links."""
        self.nodes[number].is_alive = False
        for link in [link for link in self.links.values() if number in link.ends]:
            self.disconnect(link)

    def partition(self, group: Iterable[int]) -> list[SimulatedLink]:
        """Cut every link between the nodes in ``group`` and the others; return these links, for ``heal``."""
        inside = set(group)
        cut = [link for link in self.links.values() if len(inside.intersection(link.ends)) == 1]
        for link in cut:
            self.disconnect(link)
        return cut

    def heal(self, cut: Iterable[SimulatedLink]) -> None:
        """Join again what ``partition`` has cut."""
        for link in cut:
            self._rejoin(link)

    def send(self, source: int, dest: int, payload: bytes) -> None:
        """Let one node send a payload to another."""
        self.nodes[source].send(self.nodes[dest].public_key, payload)

    # -- time --------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.scheduler.run_for(seconds)

    def run_until_quiet(self, limit: float = 120.0) -> float:
        """Run until nobody has sent anything for ``QUIET`` seconds; return the seconds until the last frame.

        Raises ``NotQuiet`` when that takes more than ``limit`` seconds.
        """
        begin = self.scheduler.now()
        while self.scheduler.now() < max(self._last_frame, begin) + QUIET:
            if self.scheduler.now() > begin + limit:
                raise NotQuiet(f"frames are still being sent after {limit} s")
            self.scheduler.run_for(0.5)
        return max(0.0, self._last_frame - begin)

    # -- what has become of it ---------------------------------------------------------------------------

    @property
    def alive(self) -> list[SimulatedNode]:
        """The nodes that have not been killed."""
        return [node for node in self.nodes if node.is_alive]

    def roots(self) -> set[bytes]:
        """Return the roots that living nodes follow."""
        return {node.router.root for node in self.alive}

    def delivered(self, source: int, dest: int, payload: bytes) -> bool:
        """Tell whether a payload has arrived at least once."""
        return (self.nodes[source].public_key, payload) in self.nodes[dest].received

    def _close(self, link_id: int) -> None:
        link = self.links.get(link_id)
        if link is not None:
            self.flap(link, REDIAL_DELAY)

    def _transmit(self, sender: int, link_id: int, frame_type: int, payload: bytes) -> None:
        link = self.links.get(link_id)
        if link is not None:
            self.frames_sent += 1
            if frame_type != FrameType.TRAFFIC and not link.repeats_filter(sender, frame_type, payload):
                self._last_frame = self.scheduler.now()
            link.transmit(sender, frame_type, payload)


def _key(seed: int, number: int) -> PrivateKey:
    return PrivateKey.from_seed(hashlib.sha256(f"{seed}/{number}".encode()).digest())
