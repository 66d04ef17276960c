"""Unsigned varints and the paths made of them (protocol section 3.1).

Seven bits a byte, least significant group first, the high bit set on all bytes but the last. Values have 64 bits.
Over-long encodings are valid: ``80 00`` is 0. Nearly every number in the protocol is below 128 and nearly every path
is made of such numbers, so both have a short way through here.
"""

from __future__ import annotations

from collections.abc import Iterable

from yggpy.wire.errors import DecodeError

__all__ = ["MAX_UVARINT", "MAX_UVARINT_SIZE", "decode_path", "decode_uvarint", "encode_path", "encode_uvarint"]

MAX_UVARINT = 2**64 - 1
MAX_UVARINT_SIZE = 10
"""Bytes of the longest encoding."""

_SHIFTS = range(7, 7 * MAX_UVARINT_SIZE, 7)
"""Where the bits of the bytes after the first belong."""
_SINGLE_BYTES = tuple(bytes((value,)) for value in range(0x80))


def encode_uvarint(value: int) -> bytes:
    """Return the shortest encoding of ``value``. Raises ``ValueError`` outside 0..2**64-1."""
    if 0 <= value < 0x80:
        return _SINGLE_BYTES[value]
    if 0 <= value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if not 0 <= value <= MAX_UVARINT:
        raise ValueError(f"{value} is no unsigned 64-bit number")
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decode_uvarint(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """Return the number at ``offset`` and the offset after it. Raises ``DecodeError``: cut short, or above 64 bits."""
    try:
        byte = data[offset]
        if byte < 0x80:
            return byte, offset + 1
        value = byte & 0x7F
        for shift in _SHIFTS:
            offset += 1
            byte = data[offset]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
    except IndexError:
        raise DecodeError("number cut short") from None
    if byte >= 0x80 or value > MAX_UVARINT:
        raise DecodeError("number overflows 64 bits")
    return value, offset + 1


def encode_path(ports: Iterable[int]) -> bytes:
    """Return a path with its final zero. Raises ``ValueError`` for a port that is 0 or has more than 64 bits."""
    ports = tuple(ports)
    if 0 in ports:
        raise ValueError("port 0 would end the path")
    if max(ports, default=0) < 0x80:
        return bytes(ports) + b"\0"
    return b"".join(map(encode_uvarint, ports)) + b"\0"


def decode_path(data: bytes, offset: int = 0) -> tuple[tuple[int, ...], int]:
    """Return the ports at ``offset`` and the offset after their final zero. Raises ``DecodeError``."""
    end = data.find(0, offset)
    if end < 0:
        raise DecodeError("path without end")
    ports = data[offset:end]
    if ports.isascii():
        return tuple(ports), end + 1
    numbers: list[int] = []
    while True:
        number, offset = decode_uvarint(data, offset)
        if not number:
            return tuple(numbers), offset
        numbers.append(number)
