"""The packet queue of one link (protocol section 3.4): what waits while the socket does not take more.

Packets leave in the order in which they came, whatever flow they belong to. When the queue is over its cap, the
flow that fills it pays: of the destination with the most queued bytes, the source with the most queued bytes
loses its oldest packet. So a bulk transfer that overruns a link cannot push out somebody else's few packets.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MAX_QUEUED_BYTES", "PacketQueue", "QueuedPacket"]

MAX_QUEUED_BYTES = 131070
"""Cap of one link's queue, in payload bytes (Go: ``peerMaxMessageSize``)."""

_COMPACT_SLACK = 64
"""Dropped packets may linger in the arrival order up to the number of live ones plus this, then are swept."""


class QueuedPacket:
    """A frame that waits: its wire bytes, and the flow and size by which it is judged."""

    __slots__ = ("dest", "frame", "order", "size", "source")

    def __init__(self, frame: bytes, size: int, source: bytes, dest: bytes) -> None:
        self.frame: bytes | None = frame
        """None once the packet was dropped."""
        self.size = size
        self.source = source
        self.dest = dest
        self.order = 0


class _Flows:
    """The FIFOs of one destination, by source."""

    __slots__ = ("by_source", "size")

    def __init__(self) -> None:
        self.by_source: dict[bytes, _Fifo] = {}
        self.size = 0


class _Fifo:
    """The packets of one source to one destination."""

    __slots__ = ("packets", "size")

    def __init__(self) -> None:
        self.packets: deque[QueuedPacket] = deque()
        self.size = 0


class PacketQueue:
    """A bounded FIFO over flows. ``size`` is the sum of the payload bytes of all that waits."""

    __slots__ = ("_arrivals", "_by_dest", "_count", "_next_order", "dropped", "size")

    def __init__(self) -> None:
        self._by_dest: dict[bytes, _Flows] = {}
        self._arrivals: deque[QueuedPacket] = deque()
        self._next_order = 0
        self._count = 0
        self.size = 0
        self.dropped = 0
        """Packets dropped since the queue was made."""

    def __len__(self) -> int:
        return self._count

    def push(self, packet: QueuedPacket) -> list[QueuedPacket]:
        """Add ``packet`` and return what had to be dropped for it: possibly the packet itself."""
        packet.order = self._next_order
        self._next_order += 1
        flows = self._by_dest.get(packet.dest)
        if flows is None:
            flows = self._by_dest[packet.dest] = _Flows()
        fifo = flows.by_source.get(packet.source)
        if fifo is None:
            fifo = flows.by_source[packet.source] = _Fifo()
        fifo.packets.append(packet)
        self._arrivals.append(packet)
        self._count += 1
        fifo.size += packet.size
        flows.size += packet.size
        self.size += packet.size
        victims = []
        while self.size > MAX_QUEUED_BYTES:
            victims.append(self._drop())
        return victims

    def pop(self) -> QueuedPacket | None:
        """Remove and return the packet that came first; None when nothing waits."""
        while self._arrivals:
            packet = self._arrivals.popleft()
            if packet.frame is not None:
                self._remove_head(packet)
                return packet
        return None

    def _drop(self) -> QueuedPacket:
        flows = max(self._by_dest.values(), key=_dest_rank)
        victim = max(flows.by_source.values(), key=_source_rank).packets[0]
        self._remove_head(victim)
        victim.frame = None
        self.dropped += 1
        if len(self._arrivals) > 2 * self._count + _COMPACT_SLACK:
            self._arrivals = deque(packet for packet in self._arrivals if packet.frame is not None)
        return victim

    def _remove_head(self, packet: QueuedPacket) -> None:
        """Take ``packet``, the head of its FIFO, out of the accounts."""
        flows = self._by_dest[packet.dest]
        fifo = flows.by_source[packet.source]
        fifo.packets.popleft()
        fifo.size -= packet.size
        flows.size -= packet.size
        self.size -= packet.size
        self._count -= 1
        if not fifo.packets:
            del flows.by_source[packet.source]
            if not flows.by_source:
                del self._by_dest[packet.dest]


def _source_rank(fifo: _Fifo) -> tuple[int, int]:
    """Most bytes first; among equals the one whose head has waited longest."""
    return fifo.size, -fifo.packets[0].order


def _dest_rank(flows: _Flows) -> tuple[int, int]:
    return flows.size, max(-fifo.packets[0].order for fifo in flows.by_source.values())
