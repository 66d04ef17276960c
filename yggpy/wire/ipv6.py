"""The little of IPv6 that a node needs: header fields, the checksum, and "packet too big" (protocol section 11)."""

from __future__ import annotations

import struct

__all__ = [
    "HEADER_SIZE",
    "ICMPV6",
    "QUOTED_SIZE",
    "checksum",
    "destination",
    "encode_header",
    "is_ipv6",
    "next_header",
    "packet_too_big",
    "payload_length",
    "source",
]

HEADER_SIZE = 40
ICMPV6 = 58
"""Next header value of ICMPv6."""
QUOTED_SIZE = 512
"""Bytes of the offending packet that a "packet too big" quotes."""

_HEADER = struct.Struct(">IHBB16s16s")
_VERSION_WORD = 6 << 28
_HOP_LIMIT = 255
_PACKET_TOO_BIG = 2


def is_ipv6(packet: bytes) -> bool:
    """Tell whether ``packet`` has a whole IPv6 header; the readers below need one."""
    return len(packet) >= HEADER_SIZE and packet[0] >> 4 == 6


def source(packet: bytes) -> bytes:
    """Return the source address, 16 bytes."""
    return packet[8:24]


def destination(packet: bytes) -> bytes:
    """Return the destination address, 16 bytes."""
    return packet[24:40]


def payload_length(packet: bytes) -> int:
    """Return the length field: bytes after the header, as the sender says."""
    return packet[4] << 8 | packet[5]


def next_header(packet: bytes) -> int:
    """Return the type of what follows the header."""
    return packet[6]


def encode_header(src: bytes, dst: bytes, protocol: int, length: int) -> bytes:
    """Return a header for ``length`` bytes of ``protocol``, with hop limit 255, traffic class 0 and flow label 0."""
    return _HEADER.pack(_VERSION_WORD, length, protocol, _HOP_LIMIT, src, dst)


def checksum(src: bytes, dst: bytes, protocol: int, payload: bytes) -> int:
    """Return the Internet checksum over the pseudo-header and ``payload``, whose own checksum field must be zero."""
    data = b"".join((src, dst, struct.pack(">II", len(payload), protocol), payload, b"\0" * (len(payload) & 1)))
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return total ^ 0xFFFF


def packet_too_big(offending: bytes, mtu: int) -> bytes:
    """Return the ICMPv6 answer to a packet that :func:`is_ipv6` accepts: at most ``mtu`` bytes, please."""
    src, dst = destination(offending), source(offending)
    rest = struct.pack(">I", mtu) + offending[:QUOTED_SIZE]
    head = struct.pack(">BB", _PACKET_TOO_BIG, 0)
    value = checksum(src, dst, ICMPV6, head + b"\0\0" + rest)
    message = b"".join((head, struct.pack(">H", value), rest))
    return encode_header(src, dst, ICMPV6, len(message)) + message
