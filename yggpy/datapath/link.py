"""One peered link of the pure data plane: frames in and out of a byte stream, keep-alive, read deadline, queue.

Outbound, a frame takes one of two ways (protocol sections 3.2 and 3.4). *Direct* frames (the tree's protocol) go to
the stream at once. *Queued* frames (traffic and path finding) go too while the kernel takes what we write; once it
does not, they wait in the :class:`PacketQueue`, which knows what to drop. Frames of one batch of input are joined
and written together, so a burst costs one system call and one TLS record stream, not one for each packet.

Inbound, complete frames are handed up one by one; the first malformed one ends the link.

Liveness (section 3.3): what we send must be answered within 3 s by anything at all; what we receive we answer within
1 s, with a keep-alive if there is nothing else to say. One lazy timer serves both, so that a busy link, which moves
these deadlines thousands of times a second, does not touch the event loop's timers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from yggpy.clock import Scheduler, TimerHandle
from yggpy.datapath.base import ByteStream, CloseReason, LinkCounters, LinkEnd
from yggpy.datapath.queue import PacketQueue, QueuedPacket
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import FrameDecoder, FrameType

__all__ = ["MAX_DIRECT_BACKLOG", "WRITE_AHEAD_LIMIT", "LinkOwner", "PeerLink"]

KEEPALIVE_DELAY = 1.0
"""Seconds after a received frame within which something must be sent back (``peerKeepAliveDelay``)."""
READ_TIMEOUT = 3.0
"""Seconds after a sent frame within which something must arrive (``peerTimeout``)."""
STALL_GRACE = 0.5
"""Seconds by which a timer may be late before this process, not the peer, is taken to have stood still; and the time
in which what has arrived meanwhile can then be read before the read deadline is judged."""
FLUSH_THRESHOLD = 65536
"""Bytes of one batch that are worth a write of their own before the batch ends."""
WRITE_AHEAD_LIMIT = 131072
"""Bytes that may wait between this class and the kernel before queued frames go to the packet queue."""
MAX_DIRECT_BACKLOG = 1 << 20
"""Bytes of unsent data at which a peer that does not read is cut off: direct frames have no other bound."""

_KEEPALIVE_FRAME = bytes((1, FrameType.KEEPALIVE))
_QUIET_TYPES = frozenset((int(FrameType.DUMMY), int(FrameType.KEEPALIVE)))


class LinkOwner(Protocol):
    """What a link asks of the data plane that owns it."""

    def link_frame(self, link: PeerLink, frame_type: int, payload: bytes, now: float) -> None:
        """Handle one frame (not Dummy or KeepAlive). A ``DecodeError`` closes the link."""
        ...

    def link_dirty(self, link: PeerLink) -> None:
        """The link has unwritten frames: call its ``flush`` when the current input has been handled."""
        ...

    def link_drained(self, link: PeerLink) -> None:
        """The kernel takes data again and the queue is empty."""
        ...

    def link_closed(self, link: PeerLink, end: LinkEnd) -> None:
        """The link is over; called once."""
        ...


class PeerLink:
    """A link to node ``key`` over ``stream``. Made by ``Datapath.attach_link``; for the event loop's thread."""

    __slots__ = (
        "_batch_end",
        "_closed",
        "_decoder",
        "_dirty",
        "_keepalive_at",
        "_out",
        "_out_bytes",
        "_owner",
        "_queue",
        "_read_by",
        "_received",
        "_scheduler",
        "_sent",
        "_stream",
        "_timer",
        "_timer_at",
        "key",
        "link_id",
    )

    def __init__(
        self,
        link_id: int,
        key: bytes,
        stream: ByteStream,
        scheduler: Scheduler,
        owner: LinkOwner,
        batch_end: Callable[[], None],
    ) -> None:
        self.link_id = link_id
        self.key = key
        self._stream = stream
        self._scheduler = scheduler
        self._owner = owner
        self._batch_end = batch_end
        self._decoder = FrameDecoder()
        self._queue = PacketQueue()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._dirty = False
        self._closed = False
        self._received = 0
        self._sent = 0
        self._keepalive_at: float | None = None
        self._read_by: float | None = None
        self._timer: TimerHandle | None = None
        self._timer_at = 0.0

    def start(self) -> None:
        """Begin to read. Bytes that the handshake read ahead are handled before this returns."""
        self._stream.start(self._on_data, self._on_end, self._on_writable)

    @property
    def counters(self) -> LinkCounters:
        """Bytes both ways since ``start``, and the state of the queue."""
        return LinkCounters(self._received, self._sent, self._queue.size, self._queue.dropped)

    # -- outbound ----------------------------------------------------------------------------------------

    def send_direct(self, frame_type: int, frame: bytes) -> None:
        """Send an encoded frame ahead of whatever is queued."""
        if self._closed:
            return
        if self._stream.buffered + self._out_bytes > MAX_DIRECT_BACKLOG:
            self.close(LinkEnd(CloseReason.ERROR, f"peer does not read: more than {MAX_DIRECT_BACKLOG} bytes wait"))
            return
        self._emit(frame_type, frame)

    def send_queued(self, frame_type: int, frame: bytes, size: int, source: bytes, dest: bytes) -> bool:
        """Send an encoded frame in turn; ``size`` is its payload length. False when it had to be queued."""
        if self._closed:
            return True
        if not self._queue.size and self._has_room():
            self._emit(frame_type, frame)
            if self._out_bytes >= FLUSH_THRESHOLD:
                self.flush()
            return True
        self._queue.push(QueuedPacket(frame, size, source, dest))
        return False

    def flush(self) -> None:
        """Write what has been collected, then refill from the queue while the kernel takes it."""
        self._dirty = False
        while not self._closed:
            if self._out:
                data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
                self._out.clear()
                self._out_bytes = 0
                self._sent += len(data)
                self._stream.write(data)
            if not self._queue.size or not self._has_room():
                return
            self._refill()

    def _has_room(self) -> bool:
        return self._stream.buffered + self._out_bytes < WRITE_AHEAD_LIMIT

    def _refill(self) -> None:
        while self._has_room():
            packet = self._queue.pop()
            if packet is None:
                return
            assert packet.frame is not None
            self._out.append(packet.frame)
            self._out_bytes += len(packet.frame)
            self._note_sent(FrameType.TRAFFIC)

    def _emit(self, frame_type: int, frame: bytes) -> None:
        self._out.append(frame)
        self._out_bytes += len(frame)
        self._note_sent(frame_type)
        if not self._dirty:
            self._dirty = True
            self._owner.link_dirty(self)

    # -- inbound -----------------------------------------------------------------------------------------

    def _on_data(self, data: bytes | memoryview) -> None:
        self._received += len(data)
        now = self._scheduler.now()
        try:
            for frame_type, payload in self._decoder.feed(data):
                self._read_by = None
                if frame_type not in _QUIET_TYPES:
                    if self._keepalive_at is None:
                        self._keepalive_at = now + KEEPALIVE_DELAY
                        self._arm(self._keepalive_at)
                    self._owner.link_frame(self, frame_type, payload, now)
                if self._closed:
                    break
        except DecodeError as error:
            self.close(LinkEnd(CloseReason.ERROR, str(error)))
        except Exception as error:  # a defect of ours, and where the next frame begins is lost with it
            self.close(LinkEnd(CloseReason.ERROR, f"internal error: {error!r}"))
            raise
        finally:
            self._batch_end()

    def _on_end(self, end: LinkEnd) -> None:
        self._finish(end)

    def _on_writable(self) -> None:
        self.flush()
        if not self._closed and not self._queue.size:
            self._owner.link_drained(self)

    # -- liveness ----------------------------------------------------------------------------------------

    def _note_sent(self, frame_type: int) -> None:
        self._keepalive_at = None
        if self._read_by is None and frame_type not in _QUIET_TYPES:
            self._read_by = self._scheduler.now() + READ_TIMEOUT
            self._arm(self._read_by)

    def _arm(self, at: float) -> None:
        """Make sure that the timer fires no later than ``at``; it may fire sooner and find nothing to do."""
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._scheduler.call_later(max(0.0, at - self._scheduler.now()), self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._closed:
            return
        now = self._scheduler.now()
        if self._read_by is not None and now >= self._read_by and now - self._timer_at > STALL_GRACE:
            self._read_by = now + STALL_GRACE
        if self._read_by is not None and now >= self._read_by:
            self.close(LinkEnd(CloseReason.ERROR, f"no answer for {READ_TIMEOUT:g} s (read deadline passed)"))
            return
        if self._keepalive_at is not None and now >= self._keepalive_at:
            self._emit(FrameType.KEEPALIVE, _KEEPALIVE_FRAME)
        for due in (self._read_by, self._keepalive_at):
            if due is not None:
                self._arm(due)

    # -- end ---------------------------------------------------------------------------------------------

    def close(self, end: LinkEnd) -> None:
        """Close the stream and report ``end``; harmless when already closed. Unsent frames are dropped."""
        if not self._closed:
            self._stream.close()
            self._finish(end)

    def _finish(self, end: LinkEnd) -> None:
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._out.clear()
        dropped, self._queue = self._queue.dropped, PacketQueue()
        self._queue.dropped = dropped
        self._owner.link_closed(self, end)
