"""Frames: how packets lie in the byte stream of a link (protocol section 3.2).

    frame = uvarint length || type byte || payload          length counts the type byte

The decoder takes the stream in whatever pieces it arrives. A piece that holds whole frames is cut up where it lies;
only a frame that spans pieces is collected first. Each byte is copied a constant number of times, and no more than one
frame of ``MAX_FRAME_SIZE`` is ever held back.
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
        partial = self._partial
        if partial:
            partial += data
            if len(partial) < self._wanted:
                return
            chunk = bytes(partial)
            partial.clear()
        else:
            chunk = bytes(data)  # the same object when it already is bytes
        available = len(chunk)
        start = 0
        while start < available:
            size = chunk[start]
            body = start + 1
            if size >= 0x80:
                try:
                    size, body = decode_uvarint(chunk, start)
                except DecodeError:
                    if available - start >= MAX_UVARINT_SIZE:
                        raise DecodeError("oversized message, its length overflows 64 bits") from None
                    self._wanted = available - start + 1  # the length itself is cut short
                    break
                if size > MAX_FRAME_SIZE:
                    raise DecodeError(f"oversized message of {size} bytes, at most {MAX_FRAME_SIZE} are allowed")
            if not size:
                raise DecodeError("empty message")
            end = body + size
            if end > available:
                self._wanted = end - start
                break
            frame_type = chunk[body]
            if frame_type > _LAST_TYPE:
                raise DecodeError(f"unrecognised message type {frame_type}")
            yield frame_type, chunk[body + 1 : end]
            start = end
        if start < available:
            partial += memoryview(chunk)[start:]
