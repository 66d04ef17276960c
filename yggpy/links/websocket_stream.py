"""A byte stream inside a WebSocket connection whose upgrade is done: ``ws://`` and ``wss://`` links.

The bytes travel as binary messages, whose borders mean nothing: a message may hold several frames of the link, or a
part of one (Go writes a message for each of its writes). The ``websockets`` library does the framing without I/O; below
it is an ordinary :class:`~yggpy.datapath.streams.SocketStream`, plain or TLS, which brings its back-pressure along:
in the handshake life nothing is read from the peer that nobody waits for, in the link life all that arrives is passed
on at once, and what the kernel does not take counts in ``buffered``.
"""

from __future__ import annotations

from collections.abc import Callable

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import Protocol, State

from yggpy.datapath.base import ByteStream, CloseReason, LinkEnd, StreamClosed

__all__ = ["MAX_FRAME", "MAX_PONG_BACKLOG", "WebSocketStream"]

MAX_FRAME = 1 << 20
"""Bytes of the longest WebSocket frame that is taken. Go's are far shorter; a message may be any number of frames."""
MAX_PONG_BACKLOG = 1 << 20
"""Bytes of unsent data at which a peer that sends a ping, too, is cut off: the answers have no other bound."""
READ_PIECE = 1 << 14
"""Bytes of a frame that are read at once in the handshake life."""
UNEXPECTED_TEXT = "unexpected frame type read (expected MessageBinary): MessageText"
"""Go's words."""

_ENDINGS = frozenset((CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY))
"""Close codes that are an ordinary end of the stream, as in Go."""
_STATUS_NAMES = {
    1000: "StatusNormalClosure",
    1001: "StatusGoingAway",
    1002: "StatusProtocolError",
    1003: "StatusUnsupportedData",
    1005: "StatusNoStatusRcvd",
    1007: "StatusInvalidFramePayloadData",
    1008: "StatusPolicyViolation",
    1009: "StatusMessageTooBig",
    1011: "StatusInternalError",
}


class WebSocketStream:
    """A ``ByteStream`` of binary messages. ``protocol`` is open, and ``inner`` has given nothing beyond the upgrade."""

    def __init__(self, inner: ByteStream, protocol: Protocol) -> None:
        self._inner = inner
        self._protocol = protocol
        self._ahead = bytearray()
        self._end: LinkEnd | None = None
        self._closed = False
        self._on_data: Callable[[bytes | memoryview], None] | None = None
        self._on_end: Callable[[LinkEnd], None] | None = None

    @property
    def local_address(self) -> str:
        """See ``ByteStream``: of the TCP connection (Go's dialler has ``websocket/unknown-addr``)."""
        return self._inner.local_address

    @property
    def remote_address(self) -> str:
        """See ``ByteStream``: of the TCP connection, so of a reverse proxy where there is one."""
        return self._inner.remote_address

    @property
    def buffered(self) -> int:
        """Bytes written but not yet taken by the kernel, with what WebSocket adds to them."""
        return self._inner.buffered

    # -- handshake life ----------------------------------------------------------------------------------

    async def read_exactly(self, count: int) -> bytes:
        """See ``ByteStream``. At most one frame is read ahead."""
        while len(self._ahead) < count:
            if self._closed:
                raise StreamClosed("use of closed network connection")
            if self._end is not None:
                raise StreamClosed(self._end_text())
            await self._read_frame()
        data = bytes(self._ahead[:count])
        del self._ahead[:count]
        return data

    def _end_text(self) -> str:
        assert self._end is not None
        if self._end.reason is CloseReason.EOF:
            return "unexpected EOF" if self._ahead else "EOF"
        return self._end.message

    async def _read_frame(self) -> None:
        """Read one frame and not a byte more: its length decides how much to ask for."""
        head = await self._read(2, begun=bool(self._ahead))
        size = head[1] & 0x7F
        if size >= 126:
            size = int.from_bytes(await self._read(2 if size == 126 else 8), "big")
        if head[1] & 0x80 and self._end is None:
            await self._read(4)  # the key that the payload is masked with
        while size and self._end is None:
            size -= len(await self._read(min(size, READ_PIECE)))

    async def _read(self, count: int, *, begun: bool = True) -> bytes:
        try:
            data = await self._inner.read_exactly(count)
        except StreamClosed as error:
            if begun and str(error) == "EOF":
                raise StreamClosed("unexpected EOF") from None
            raise
        self._ahead += self._decode(data)
        return data

    # -- link life ---------------------------------------------------------------------------------------

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        """See ``ByteStream``. What was read ahead is delivered before this returns."""
        self._on_data, self._on_end = on_data, on_end
        ahead = bytes(self._ahead)
        self._ahead.clear()
        if ahead:
            on_data(ahead)
        if not self._closed:
            self._inner.start(self._arrived, self._inner_ended, on_writable)

    def _arrived(self, data: bytes | memoryview) -> None:
        payload = self._decode(bytes(data)) if self._end is None else b""
        if payload and self._on_data is not None:
            self._on_data(payload)
        if self._end is not None and not self._closed:
            self._finish(self._end)

    def _inner_ended(self, end: LinkEnd) -> None:
        self._finish(end if self._end is None else self._end)

    # -- framing -----------------------------------------------------------------------------------------

    def _decode(self, data: bytes) -> bytes:
        """Return the payload of the frames that ``data`` completes; answer pings; note the end when it has come."""
        protocol = self._protocol
        protocol.receive_data(data)
        payloads = []
        for event in protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode in (Opcode.BINARY, Opcode.CONT):
                payloads.append(bytes(event.data))
            elif event.opcode is Opcode.TEXT:
                protocol.fail(CloseCode.UNSUPPORTED_DATA, "unexpected text message")
                self._end = LinkEnd(CloseReason.ERROR, UNEXPECTED_TEXT)
                break
            elif event.opcode is Opcode.CLOSE:
                self._end = _end_of(protocol)
            elif event.opcode is Opcode.PING and self._inner.buffered > MAX_PONG_BACKLOG:
                self._end = LinkEnd(CloseReason.ERROR, f"peer does not read: more than {MAX_PONG_BACKLOG} bytes wait")
                break
        if self._end is None and protocol.parser_exc is not None:
            self._end = LinkEnd(CloseReason.ERROR, f"WebSocket protocol violation: {protocol.parser_exc}")
        self._push()
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def _push(self) -> None:
        for data in self._protocol.data_to_send():
            if data:  # an empty one asks for half a close; the whole one follows anyway
                self._inner.write(data)

    def write(self, data: bytes) -> None:
        """See ``ByteStream``: one binary message."""
        if data and not self._closed and self._protocol.state is State.OPEN:
            self._protocol.send_binary(data)
            self._push()

    # -- end ---------------------------------------------------------------------------------------------

    def close(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """See ``ByteStream``. The other side is told the code and the reason, and not waited for."""
        if self._closed:
            return
        self._closed = True
        self._on_data = self._on_end = None
        if self._protocol.state is State.OPEN and not self._inner.buffered:
            self._protocol.send_close(code, reason)
            self._push()
        self._inner.close()

    def _finish(self, end: LinkEnd) -> None:
        on_end = self._on_end
        self.close()
        if on_end is not None:
            on_end(end)


def _end_of(protocol: Protocol) -> LinkEnd:
    """Return what the close frame that came means."""
    close = protocol.close_rcvd
    assert close is not None
    if close.code in _ENDINGS:
        return LinkEnd(CloseReason.EOF, "EOF")
    name = _STATUS_NAMES.get(close.code, f"StatusCode({close.code})")
    return LinkEnd(CloseReason.ERROR, f'received close frame: status = {name} and reason = "{close.reason}"')
