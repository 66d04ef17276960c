"""What this machine has sent lately, so that the answers are known when they come.

A flow is a pair of addresses, a protocol and a pair of ports (for ICMPv6 echoes the identifier). Only what this machine
sends makes one. The table is bounded: a flow that finds no place takes that of the one idle for longest.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from yggpy.firewall.rules import ICMPV6, TCP, UDP

__all__ = ["MAX_FLOWS", "Flow", "FlowKey", "FlowState", "FlowTable"]

MAX_FLOWS = 32768
"""As many as ``native/src/firewall.h`` has places for."""

OTHER_IDLE = 600.0


class FlowState(Enum):
    """How far a flow has come; it decides how long it may be idle."""

    NEW = "not answered yet"
    ANSWERED = "answered"
    CLOSING = "one side has ended it"


# Seconds without a packet; native/src/firewall.c has the same. For TCP: RFC 5382, section 5.
_IDLE: dict[tuple[int, FlowState], float] = {
    (TCP, FlowState.NEW): 120.0,
    (TCP, FlowState.ANSWERED): 7440.0,
    (TCP, FlowState.CLOSING): 60.0,
    (UDP, FlowState.NEW): 30.0,
    (UDP, FlowState.ANSWERED): 180.0,
    (ICMPV6, FlowState.NEW): 30.0,
    (ICMPV6, FlowState.ANSWERED): 30.0,
}


class FlowKey(NamedTuple):
    """What the packets of a flow have in common."""

    remote: bytes
    local: bytes
    protocol: int
    remote_port: int
    local_port: int


@dataclass(slots=True)
class Flow:
    """The state of a flow, and when a packet of it last passed."""

    state: FlowState
    last: float


class FlowTable:
    """Flows by key, those idle for longest first."""

    def __init__(self, limit: int = MAX_FLOWS) -> None:
        self.evicted = 0
        """Flows that had to make room before their time."""
        self._limit = limit
        self._flows: OrderedDict[FlowKey, Flow] = OrderedDict()

    def get(self, key: FlowKey, now: float) -> Flow | None:
        """Return the flow if it has not expired."""
        flow = self._flows.get(key)
        if flow is None or self._alive(key, flow, now):
            return flow
        del self._flows[key]
        return None

    def touch(self, key: FlowKey, flow: Flow, now: float) -> None:
        """Note that a packet of a flow of the table has passed."""
        flow.last = now
        self._flows.move_to_end(key)

    def add(self, key: FlowKey, flow: Flow, now: float) -> None:
        """Add a flow that is not in the table."""
        if len(self._flows) >= self._limit:
            oldest, old = next(iter(self._flows.items()))
            if self._alive(oldest, old, now):
                self.evicted += 1
            del self._flows[oldest]
        self._flows[key] = flow

    def count(self, now: float) -> int:
        """Return how many flows have not expired; the others are forgotten."""
        for key in [key for key, flow in self._flows.items() if not self._alive(key, flow, now)]:
            del self._flows[key]
        return len(self._flows)

    @staticmethod
    def _alive(key: FlowKey, flow: Flow, now: float) -> bool:
        return now - flow.last <= _IDLE.get((key.protocol, flow.state), OTHER_IDLE)
