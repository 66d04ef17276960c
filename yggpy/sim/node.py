"""A simulated node: a real router, and of the data plane just the way of Traffic (protocol sections 7 and 8).

There are no sessions, so a payload that is sent again because its path has changed may arrive twice; the real session
layer drops the second by its nonce, and here ``received`` counts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

from yggpy.keys import PrivateKey
from yggpy.routing.effects import CloseLink, FibChanged, PathInstalled, PathRemoved, SendDirect, SendQueued
from yggpy.routing.greedy import Coords
from yggpy.routing.leaf import LeafRouter
from yggpy.routing.router import Router
from yggpy.sim.clock import VirtualScheduler
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import MAX_WATERMARK, Traffic

__all__ = ["TICK", "SimulatedNode"]

TICK = 1.0
"""Seconds between maintenance ticks."""


class SimulatedNode:
    """Node ``number``. ``transmit(number, link_id, frame_type, payload)`` sends a frame over one of its links.

    ``close(link_id)`` closes one, which is there again a while later. ``reacts``: whether it acts before its next tick,
    which a Go node does not.
    """

    def __init__(
        self,
        number: int,
        private_key: PrivateKey,
        scheduler: VirtualScheduler,
        chance: random.Random,
        transmit: Callable[[int, int, int, bytes], None],
        close: Callable[[int], None],
        *,
        transit: bool = True,
        reacts: bool = True,
    ) -> None:
        self.number = number
        self.public_key = private_key.public_key
        self.is_alive = True
        self.received: Counter[tuple[bytes, bytes]] = Counter()
        """How often each (source key, payload) has arrived."""
        self._scheduler = scheduler
        self._transmit = transmit
        self._close = close
        self._last_traffic: dict[bytes, float] = {}
        router_class = Router if transit else LeafRouter
        self.router = router_class(private_key, entropy=chance.randbytes, last_traffic=self._last_traffic.get)
        self._fib = self.router.fib
        self._paths: dict[bytes, Coords] = {}
        self._kept: dict[bytes, bytes] = {}
        self._pumping = False
        self._reacts = reacts
        self._reaction_due: float | None = None
        scheduler.call_later(chance.random() * TICK, self._start)

    def _start(self) -> None:
        self.router.start(self._scheduler.now())
        self._pump()
        self._scheduler.call_later(TICK, self._tick)

    def _tick(self) -> None:
        if self.is_alive:
            self.router.tick(self._scheduler.now())
            self._pump()
            self._scheduler.call_later(TICK, self._tick)

    def _plan_reaction(self) -> None:
        due, now = self.router.reaction_at, self._scheduler.now()
        if due is not None and self._reacts and (self._reaction_due is None or due < self._reaction_due):
            self._reaction_due = due
            self._scheduler.call_later(max(0.0, due - now), lambda: self._react(due))

    def _react(self, due: float) -> None:
        if self._reaction_due == due:
            self._reaction_due = None
        if self.is_alive:
            self.router.react(self._scheduler.now())
            self._pump()

    # -- links -------------------------------------------------------------------------------------------

    def link_up(self, link_id: int, peer: bytes, cost: int | None = None) -> None:
        """A link to the node with key ``peer`` is up; ``cost``: what this end takes it to cost."""
        self.router.add_link(link_id, peer, 0, self._scheduler.now(), cost)
        self._pump()

    def link_down(self, link_id: int) -> None:
        """A link is gone."""
        self.router.remove_link(link_id, self._scheduler.now())
        self._pump()

    def receive(self, link_id: int, frame_type: int, payload: bytes) -> None:
        """A frame has arrived. ``DecodeError`` comes through: in a simulation everybody is honest."""
        if not self.is_alive:
            return
        if frame_type == FrameType.TRAFFIC:
            traffic = Traffic.decode(payload)
            self._route(traffic, self._fib.next_hop_of_others(traffic.path, traffic.watermark))
        else:
            self.router.handle_frame(link_id, frame_type, payload, self._scheduler.now())
        self._pump()

    # -- traffic -----------------------------------------------------------------------------------------

    def send(self, dest: bytes, payload: bytes) -> None:
        """Send ``payload`` to the node with key ``dest``, wherever it is."""
        self._send(dest, payload)
        self._pump()

    def _send(self, dest: bytes, payload: bytes) -> None:
        path = self._paths.get(dest)
        if path is None:
            self.router.path_missing(dest, payload, self._scheduler.now())
            return
        self._kept[dest] = payload
        traffic = Traffic(path, self._fib.self_path, self.public_key, dest, MAX_WATERMARK, payload)
        self._route(traffic, self._fib.next_hop(path, MAX_WATERMARK))

    def _route(self, traffic: Traffic, hop: tuple[int | None, int]) -> None:
        link_id, watermark = hop
        if link_id is not None:
            onward = Traffic(traffic.path, traffic.from_path, traffic.source, traffic.dest, watermark, traffic.payload)
            self._transmit(self.number, link_id, FrameType.TRAFFIC, onward.encode())
        elif traffic.dest == self.public_key:
            self.received[traffic.source, traffic.payload] += 1
            if traffic.source in self._paths:
                self._last_traffic[traffic.source] = self._scheduler.now()
        else:
            self.router.traffic_unroutable(traffic, self._scheduler.now())

    # -- effects -----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        while effects := self.router.take_effects():
            for effect in effects:
                match effect:
                    case SendDirect(link_id, frame_type, payload) | SendQueued(link_id, frame_type, payload, _, _):
                        self._transmit(self.number, link_id, frame_type, payload)
                    case CloseLink(link_id):
                        self._close(link_id)
                    case FibChanged():
                        self._fib = self.router.fib
                    case PathInstalled(key, path, kept):
                        self._paths[key] = path
                        again = self._kept.get(key) if kept is None else kept
                        if again is not None:
                            self._send(key, again)
                    case PathRemoved(key):
                        del self._paths[key]
                        self._kept.pop(key, None)
                        self._last_traffic.pop(key, None)
        self._pumping = False
        self._plan_reaction()
