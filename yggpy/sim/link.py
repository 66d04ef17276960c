"""A simulated link: an ordered stream of frames each way, with latency, and delay where a real one loses packets."""

from __future__ import annotations

import random
from collections.abc import Callable

from yggpy.sim.clock import VirtualScheduler
from yggpy.wire.frame import FrameType

__all__ = ["RETRANSMIT_DELAY", "SimulatedLink"]

RETRANSMIT_DELAY = 0.2
"""Seconds after which TCP sends again what was lost; doubles each time."""

Receiver = Callable[[int, int, bytes], None]
"""Takes a frame: ``(link_id, frame_type, payload)``."""


class SimulatedLink:
    """A link between the nodes numbered ``ends``; both know it by ``link_id``. Frames in flight go with the link.

    ``latency`` is one way, in seconds; ``loss`` is the probability that a frame's packet is lost. Streams lose nothing:
    the frame, and all behind it, wait for the repeat.
    """

    def __init__(
        self,
        link_id: int,
        ends: tuple[int, int],
        receivers: tuple[Receiver, Receiver],
        scheduler: VirtualScheduler,
        chance: random.Random,
        latency: float,
        loss: float,
    ) -> None:
        self.link_id = link_id
        self.ends = ends
        self.latency = latency
        self.loss = loss
        self.is_up = True
        self.traffic_frames = 0
        """Traffic frames that were put on it, either way."""
        self._receivers = receivers
        self._scheduler = scheduler
        self._chance = chance
        self._last_arrival = [0.0, 0.0]
        self._last_filter: dict[int, bytes] = {}

    def repeats_filter(self, sender: int, frame_type: int, payload: bytes) -> bool:
        """Tell whether a frame is the filter that ``sender`` has sent over this link before. Ask once for each."""
        if frame_type != FrameType.BLOOM_FILTER:
            return False
        before, self._last_filter[sender] = self._last_filter.get(sender), payload
        return before == payload

    def transmit(self, sender: int, frame_type: int, payload: bytes) -> None:
        """Carry a frame from the node numbered ``sender`` to the other end."""
        if not self.is_up:
            return
        self.traffic_frames += frame_type == FrameType.TRAFFIC
        far = 1 if sender == self.ends[0] else 0
        now = self._scheduler.now()
        arrival = max(now + self.latency + self._repeats(), self._last_arrival[far])
        self._last_arrival[far] = arrival
        self._scheduler.call_later(arrival - now, lambda: self._arrive(far, frame_type, payload))

    def _repeats(self) -> float:
        delay, wait = 0.0, RETRANSMIT_DELAY
        while self.loss and self._chance.random() < self.loss:
            delay += wait
            wait *= 2
        return delay

    def _arrive(self, far: int, frame_type: int, payload: bytes) -> None:
        if self.is_up:
            self._receivers[far](self.link_id, frame_type, payload)
