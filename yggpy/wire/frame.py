"""Frames: how packets lie in the byte stream of a link (protocol section 3.2).

    frame = uvarint length || type byte || payload          length counts the type byte

The decoder takes the stream in whatever pieces it arrives. Whole frames are cut out of a piece where they lie, with one
copy of each payload; only a frame that spans pieces is collected first. No more than one frame is ever held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

from yggpy.wire.errors import DecodeError
from yggpy.wire.uvarint import MAX_UVARINT_SIZE, decode_uvarint, encode_uvarint

__all__ = ["MAX_FRAME_SIZE", "FrameDecoder", "FrameType", "encode_frame"]

MAX_FRAME_SIZE = 131070
"""Largest type byte + payload that may be sent (``peerMaxMessageSize``)."""


class FrameType(IntEnum):
    """The type byte of a frame."""

    DUMMY = 0
    KEEPALIVE = 1
    SIG_REQ = 2
    SIG_RES = 3
    ANNOUNCE = 4
    BLOOM_FILTER = 5
    PATH_LOOKUP = 6
    PATH_NOTIFY = 7
    PATH_BROKEN = 8
    TRAFFIC = 9


_LAST_TYPE = int(max(FrameType))
_TYPE_BYTES = tuple(bytes((frame_type,)) for frame_type in range(_LAST_TYPE + 1))


def encode_frame(frame_type: int, payload: bytes) -> bytes:
    """Return one frame. Raises ``ValueError`` when it would exceed ``MAX_FRAME_SIZE``, or for an unknown type."""
    size = len(payload) + 1
    if size > MAX_FRAME_SIZE:
        raise ValueError(f"a frame holds at most {MAX_FRAME_SIZE} bytes, not {size}")
    if not 0 <= frame_type <= _LAST_TYPE:
        raise ValueError(f"{frame_type} is no frame type")
    return b"".join((encode_uvarint(size), _TYPE_BYTES[frame_type], payload))


class FrameDecoder:
    """Cuts the byte stream of one link into frames.

    After a ``DecodeError`` there are no frame boundaries any more: the link must be closed and the decoder dropped.
    """

    __slots__ = ("_partial", "_wanted")

    def __init__(self) -> None:
        self._partial = bytearray()
        """The beginning of a frame whose end has not arrived."""
        self._wanted = 0
        """How long ``_partial`` must be before it is worth another look."""

    @property
    def buffered(self) -> int:
        """Bytes held back because their frame is not complete."""
        return len(self._partial)

    def feed(self, data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """Yield (type, payload) of each frame that ``data`` completes; run it to its end before feeding more.

        Lazy, so that the frames before a malformed one are still handled. Raises ``DecodeError`` for a length that is
        too large (before its body arrives) or zero, and for an unknown type.
        """
        available = len(data)
        start = 0
        partial = self._partial
        while partial:
            end = start + self._wanted - len(partial)
            partial += data[start:end]
            if end > available:
                return
            start = end
            body, self._wanted = _measure(partial, 0)
            if self._wanted == len(partial):
                frame_type = _known_type(partial[body])
                del partial[: body + 1]
                payload = bytes(partial)
                partial.clear()
                yield frame_type, payload
        while start < available:
            body, end = _measure(data, start)
            if end > available:
                partial += data[start:]
                self._wanted = end - start
                return
            yield _known_type(data[body]), bytes(data[body + 1 : end])  # bytes() does not copy what already is bytes
            start = end


def _measure(data: bytes | bytearray | memoryview, start: int) -> tuple[int, int]:
    """Return where the type byte of the frame at ``start`` is, and where the frame ends.

    While the length itself is cut short, the end is one byte beyond ``data``.
    """
    size = data[start]
    body = start + 1
    if size >= 0x80:
        try:
            size, body = decode_uvarint(data, start)
        except DecodeError:
            if len(data) - start < MAX_UVARINT_SIZE:
                return body, len(data) + 1
            raise DecodeError("oversized message, its length overflows 64 bits") from None
        if size > MAX_FRAME_SIZE:
            raise DecodeError(f"oversized message of {size} bytes, at most {MAX_FRAME_SIZE} are allowed")
    if not size:
        raise DecodeError("empty message")
    return body, body + size


def _known_type(frame_type: int) -> int:
    if frame_type > _LAST_TYPE:
        raise DecodeError(f"unrecognised message type {frame_type}")
    return frame_type
