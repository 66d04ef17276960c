"""The multicast beacon: "here is a node, and it listens on this port" (protocol section 12).

    u16be major || u16be minor || public key[32] || u16be port || u16be hash length || hash

The hash proves that the sender knows the interface's password; nothing is signed, the handshake of the link that
follows will tell whether the key is the right one.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass

from yggpy.keys import PUBLIC_KEY_SIZE
from yggpy.wire.errors import DecodeError
from yggpy.wire.handshake import PROTOCOL_MAJOR, PROTOCOL_MINOR, password_hash

__all__ = ["BEACON_SIZE", "Beacon"]

_HEADER = struct.Struct(f">HH{PUBLIC_KEY_SIZE}sHH")
BEACON_SIZE = _HEADER.size + 64
"""Bytes of the beacons that nodes send: 104."""


@dataclass(frozen=True, slots=True)
class Beacon:
    """One beacon; ``hash`` is as long as the sender made it."""

    public_key: bytes
    port: int
    hash: bytes
    major: int = PROTOCOL_MAJOR
    minor: int = PROTOCOL_MINOR

    @classmethod
    def create(cls, public_key: bytes, port: int, password: bytes = b"") -> Beacon:
        """Make the beacon of a listener. Raises ``ValueError`` for a password of more than 64 bytes."""
        return cls(public_key, port, password_hash(public_key, password))

    def encode(self) -> bytes:
        """Return the datagram. Raises ``ValueError`` for fields of a wrong size or range."""
        if len(self.public_key) != PUBLIC_KEY_SIZE:
            raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(self.public_key)}")
        try:
            header = _HEADER.pack(self.major, self.minor, self.public_key, self.port, len(self.hash))
        except struct.error as error:
            raise ValueError(f"beacon field out of range: {error}") from None
        return header + self.hash

    @classmethod
    def decode(cls, datagram: bytes) -> Beacon:
        """Read a datagram; bytes after the hash are ignored. Raises ``DecodeError`` when it is too short."""
        if len(datagram) < _HEADER.size:
            raise DecodeError("invalid multicast beacon")
        major, minor, public_key, port, size = _HEADER.unpack_from(datagram)
        if len(datagram) < _HEADER.size + size:
            raise DecodeError("invalid multicast beacon")
        return cls(public_key, port, datagram[_HEADER.size : _HEADER.size + size], major, minor)

    @property
    def is_compatible(self) -> bool:
        """True when the sender speaks our version of the protocol."""
        return (self.major, self.minor) == (PROTOCOL_MAJOR, PROTOCOL_MINOR)

    def matches(self, password: bytes) -> bool:
        """Tell whether the sender knows ``password``. Raises ``ValueError`` when that has more than 64 bytes."""
        return hmac.compare_digest(self.hash, password_hash(self.public_key, password))
