"""The one stream of a QUIC connection, as a byte stream for a link.

As in the Go node a link is a connection of its own with a single bidirectional stream, which the dialling side opens.
The protocol itself is aioquic's, which does no I/O; this class gives it datagrams and time, and sends what it makes.

Both directions are bounded. *Sending*: the library keeps all that it is given until it is acknowledged, so it is given
little more than it can send at once; the rest waits here and counts in ``buffered``. *Receiving*: the library raises
the flow control limits by itself, doubling them as data arrives, up to any size. It gets a :class:`ReceiveWindow`
instead, which moves with what the consumer has taken: nobody reads, so nobody sends, and what is out of order is no
more than a window. One stream is all that the other side may open.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.connection import Limit, QuicConnection

from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed
from yggpy.datapath.streams import MAX_BUFFERED, WRITE_CHUNK
from yggpy.links.quic_endpoint import Endpoint, Source

__all__ = ["HANDSHAKE_WINDOW", "LINK_WINDOW", "QuicStream", "ReceiveWindow", "termination"]

HANDSHAKE_WINDOW = 1 << 16
"""Bytes that a peer may send us before its handshake has been read."""
LINK_WINDOW = 1 << 21
"""Bytes that may be on their way to us on a link."""
KEEPALIVE_PERIOD = 20.0
"""Seconds of silence after which a ping is sent (Go: KeepAlivePeriod); links themselves say nothing when idle."""
CLOSE_LINGER = 0.25
"""Seconds that the other side has to see the end of the stream before the connection is closed."""

# The library warns of what peers do wrong; without any handler that would go to standard error, as often as they like.
logging.getLogger("quic").addHandler(logging.NullHandler())

IDLE = "timeout: no recent network activity"
"""Go's words for a connection on which nothing arrives any more."""
CRYPTO_ERRORS = range(0x100, 0x200)


class ReceiveWindow:
    """Stands for aioquic's MAX_DATA limit: ``value`` is what the other side may send in all."""

    def __init__(self, limit: Limit) -> None:
        self.frame_type = limit.frame_type
        self.name = limit.name
        self.sent = limit.sent
        self.used = limit.used
        self.taken = 0
        """Bytes that the consumer has taken."""
        self.size = limit.value
        self._value = limit.value

    @property
    def value(self) -> int:
        """The limit that holds."""
        return self._value

    @value.setter
    def value(self, _: int) -> None:
        """The library wants more: grant a window from what was taken on, and not for the sake of a few bytes."""
        if self.taken + self.size - self._value >= self.size // 2:
            self._value = self.taken + self.size


class StreamOwner(Protocol):
    """What a stream asks of the dialler or listener that it belongs to."""

    def connection_id_issued(self, stream: QuicStream, connection_id: bytes) -> None:
        """Datagrams may come to ``connection_id`` from now on."""
        ...

    def connection_id_retired(self, stream: QuicStream, connection_id: bytes) -> None:
        """And no more."""
        ...

    def stream_gone(self, stream: QuicStream) -> None:
        """The connection is over; called once."""
        ...


class QuicStream:
    """A ``ByteStream``; usable when ``opened`` has a result. Made by a dialler or a listener, which feeds it."""

    def __init__(
        self, quic: QuicConnection, endpoint: Endpoint, owner: StreamOwner, remote_address: str, source: Source = None
    ) -> None:
        self._quic = quic
        self._endpoint = endpoint
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._local = endpoint.source_text(source)
        self._remote = remote_address
        self._source = source
        self._window = _limit(quic)
        self._stream_id: int | None = None
        self._ahead = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._queued: deque[bytes] = deque()
        self._queued_bytes = 0
        self._full = False
        self._end: LinkEnd | None = None
        self._closed = False
        self._gone = False
        self._heard_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._keepalive: asyncio.TimerHandle | None = None
        self._linger: asyncio.TimerHandle | None = None
        self._on_data: Callable[[bytes | memoryview], None] | None = None
        self._on_end: Callable[[LinkEnd], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self.opened: asyncio.Future[None] = self._loop.create_future()
        """Done when there is a stream; fails with ``StreamClosed``."""
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when nothing is left of the connection."""
        self.heard = False
        """Whether anything has come from the other side."""

    @property
    def local_address(self) -> str:
        """See ``ByteStream``."""
        return self._local

    @property
    def remote_address(self) -> str:
        """See ``ByteStream``: where the connection began; QUIC may move on from there."""
        return self._remote

    @property
    def buffered(self) -> int:
        """Bytes written that have not been sent yet; those sent and not acknowledged do not count."""
        return self._queued_bytes + self._unsent()

    # -- driving the library -----------------------------------------------------------------------------

    def connect(self) -> None:
        """Begin the QUIC handshake (dialler)."""
        self._quic.connect(self._endpoint.peer, now=self._loop.time())
        self._pump()

    def receive(self, data: bytes, address: Any, source: Source) -> None:
        """Take a datagram; ``advance`` must follow when those that are there have been taken."""
        if self._gone:
            return
        self._heard_at = self._loop.time()
        self._source = source
        try:
            self._quic.receive_datagram(data, address, now=self._heard_at)
        except Exception as error:  # nothing that a peer sends may reach beyond its connection
            self._stop(LinkEnd(CloseReason.ERROR, f"QUIC library failed: {error!r}"))

    def advance(self) -> None:
        """Handle what has come of datagrams or of time: pass data on, answer, and report the end."""
        if self._gone:
            self._report_end()
            return
        pieces: list[bytes] = []
        while (event := self._quic.next_event()) is not None:
            self._handle(event, pieces)
        if pieces and not self._closed:
            self._deliver(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        self._report_end()
        self._pump()
        if self._full and not self._gone and self.buffered == 0:
            self._full = False
            if self._on_writable is not None and not self._closed:
                self._on_writable()

    def _handle(self, event: events.QuicEvent, pieces: list[bytes]) -> None:
        if isinstance(event, events.StreamDataReceived):
            self._open(event.stream_id)
            if event.stream_id != self._stream_id:
                return
            pieces.append(event.data)
            if event.end_stream:
                self._stop(LinkEnd(CloseReason.EOF, "EOF"))
        elif isinstance(event, events.HandshakeCompleted):
            self.heard = True
            self._keepalive = self._loop.call_later(KEEPALIVE_PERIOD, self._keep_alive)
            if self._quic.configuration.is_client:
                self._open(self._quic.get_next_available_stream_id())
        elif isinstance(event, events.ConnectionIdIssued):
            self._owner.connection_id_issued(self, event.connection_id)
        elif isinstance(event, events.ConnectionIdRetired):
            self._owner.connection_id_retired(self, event.connection_id)
        elif isinstance(event, events.StreamReset | events.StopSendingReceived):
            what = f"stream {event.stream_id} canceled by remote with error code {event.error_code}"
            self._stop(LinkEnd(CloseReason.ERROR, what))
        elif isinstance(event, events.ConnectionTerminated):
            self._stop(termination(event))
            self._leave()

    def _open(self, stream_id: int) -> None:
        self.heard = True
        if self._stream_id is None:
            self._stream_id = stream_id
        if not self.opened.done():
            self.opened.set_result(None)

    def _stop(self, end: LinkEnd) -> None:
        """Note why nothing more will come."""
        if self._end is None:
            self._end = end
        if not self.opened.done():
            self.opened.set_exception(StreamClosed(end.message))
            self.opened.exception()  # whoever waits gets it; nobody need wait
        if self._linger is not None:
            self._release()
        self._wake()

    def fail(self, message: str) -> None:
        """End the connection for a reason that the library does not see."""
        if not self._gone:
            self._stop(LinkEnd(CloseReason.ERROR, message))
            self.advance()

    def _pump(self) -> None:
        """Send what can be sent, and see to it that we are called when there is more to do."""
        if self._gone:
            return
        now = self._loop.time()
        try:
            while not self._endpoint.blocked:
                self._feed()
                for data, address in self._quic.datagrams_to_send(now=now):
                    self._endpoint.send(data, address, self._source)
                if not self._queued or self._unsent():
                    break
            self._arm(self._quic.get_timer())
        except Exception as error:
            self._loop.call_soon(self.fail, f"QUIC library failed: {error!r}")
        if self._endpoint.blocked:
            self._endpoint.when_writable(self.advance)

    def _feed(self) -> None:
        """Give the library the next chunk, if it has sent the one before."""
        if not self._queued or self._stream_id is None or self._unsent() or self._end is not None:
            return
        pieces: list[bytes] = []
        size = 0
        while self._queued and (not pieces or size + len(self._queued[0]) <= WRITE_CHUNK):
            pieces.append(self._queued.popleft())
            size += len(pieces[-1])
        self._queued_bytes -= size
        self._quic.send_stream_data(self._stream_id, b"".join(pieces))

    def _unsent(self) -> int:
        """Bytes that the library has been given and has not sent, or must send again."""
        stream = None if self._stream_id is None else self._quic._streams.get(self._stream_id)
        return 0 if stream is None else sum(part.stop - part.start for part in stream.sender._pending)

    def _arm(self, at: float | None) -> None:
        """Make sure that the timer fires no later than ``at``; firing sooner does no harm."""
        if at is None or (self._timer is not None and self._timer_at <= at):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._quic.handle_timer(now=max(self._timer_at, self._loop.time()))
        except Exception as error:
            self._stop(LinkEnd(CloseReason.ERROR, f"QUIC library failed: {error!r}"))
        self.advance()

    def _keep_alive(self) -> None:
        silence = self._loop.time() - self._heard_at
        if silence >= KEEPALIVE_PERIOD:
            self._quic.send_ping(0)
            self._pump()
            silence = 0.0
        self._keepalive = self._loop.call_later(KEEPALIVE_PERIOD - silence, self._keep_alive)

    # -- both lives --------------------------------------------------------------------------------------

    async def read_exactly(self, count: int) -> bytes:
        """See ``ByteStream``. No more than ``HANDSHAKE_WINDOW`` bytes are read ahead."""
        while len(self._ahead) < count:
            if self._closed:
                raise StreamClosed("use of closed network connection")
            if self._end is not None:
                ended = self._end.reason is CloseReason.EOF
                raise StreamClosed(("unexpected EOF" if self._ahead else "EOF") if ended else self._end.message)
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = bytes(self._ahead[:count])
        del self._ahead[:count]
        self._window.taken += count
        self._pump()
        return data

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        """See ``ByteStream``. What was read ahead is delivered before this returns."""
        self._on_data, self._on_end, self._on_writable = on_data, on_end, on_writable
        self._window.size = LINK_WINDOW
        ahead = bytes(self._ahead)
        self._ahead.clear()
        if ahead:
            self._deliver(ahead)
        if not self._closed:
            self._loop.call_soon(self.advance)  # grants the wider window, and reports an end that came before

    def _deliver(self, data: bytes) -> None:
        if self._on_data is None:
            self._ahead += data
            self._wake()
            return
        self._window.taken += len(data)
        self._on_data(data)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def write(self, data: bytes) -> None:
        """See ``ByteStream``."""
        if not data or self._closed or self._end is not None:
            return
        self._queued.append(data)
        self._queued_bytes += len(data)
        if self._queued_bytes > MAX_BUFFERED:
            self._queued.clear()
            self._queued_bytes = 0
            self._loop.call_soon(self.fail, f"peer does not read: more than {MAX_BUFFERED} bytes wait")
            return
        self._pump()
        self._full = self._full or self.buffered > 0

    # -- end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See ``ByteStream``. The other side sees the stream end; the connection goes when it has, or soon after."""
        if self._closed:
            return
        self._closed = True
        self._on_data = self._on_end = self._on_writable = None
        self._queued.clear()
        self._queued_bytes = 0
        self._wake()
        if self._gone or self._end is not None or self._stream_id is None:
            self._release()
            return
        with contextlib.suppress(Exception):
            self._quic.send_stream_data(self._stream_id, b"", end_stream=True)
        self._linger = self._loop.call_later(CLOSE_LINGER, self._release)
        self._pump()

    def _report_end(self) -> None:
        end, on_end = self._end, self._on_end
        if end is not None and on_end is not None and not self._closed:
            self.close()
            on_end(end)

    def _release(self) -> None:
        """Close the connection and leave."""
        if self._gone:
            return
        with contextlib.suppress(Exception):
            self._quic.close()
            for data, address in self._quic.datagrams_to_send(now=self._loop.time()):
                self._endpoint.send(data, address, self._source)
        self._leave()

    def _leave(self) -> None:
        if self._gone:
            return
        self._gone = True
        for timer in (self._timer, self._keepalive, self._linger):
            if timer is not None:
                timer.cancel()
        self._stop(LinkEnd(CloseReason.LOCAL, "use of closed network connection"))
        self._owner.stream_gone(self)
        if not self.gone.done():
            self.gone.set_result(None)


def _limit(quic: QuicConnection) -> ReceiveWindow:
    """Put our limits in the place of the library's; nothing has been sent yet."""
    window = ReceiveWindow(quic._local_max_data)
    quic._local_max_data = window  # type: ignore[assignment]
    for limit, count in (
        (quic._local_max_streams_bidi, 0 if quic.configuration.is_client else 1),
        (quic._local_max_streams_uni, 0),
    ):
        limit.value = limit.sent = count
    return window


def termination(event: events.ConnectionTerminated) -> LinkEnd:
    """Return what the end of a connection means, in the words of Go's QUIC library."""
    code, reason = int(event.error_code), event.reason_phrase
    suffix = f": {reason}" if reason else ""
    if reason == "Idle timeout":
        return LinkEnd(CloseReason.ERROR, IDLE)
    if event.frame_type is None:
        if code == 0:
            return LinkEnd(CloseReason.EOF, "EOF")
        return LinkEnd(CloseReason.ERROR, f"Application error 0x{code:x} (remote){suffix}")
    name = f"CRYPTO_ERROR 0x{code:x}" if code in CRYPTO_ERRORS else f"QUIC error 0x{code:x}"
    return LinkEnd(CloseReason.ERROR, name + suffix)
