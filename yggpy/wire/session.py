"""Session messages, the payload of Traffic packets, as layouts without any cipher (protocol sections 9.2 and 9.4).

    init, ack   type || ephemeral key[32] || box[160]          box holds an InitPayload
    traffic     type || uvarint sender's key number || uvarint receiver's || uvarint nonce || box

``sessions/`` seals and opens the boxes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from yggpy.keys import SIGNATURE_SIZE
from yggpy.wire.errors import DecodeError
from yggpy.wire.packets import MAX_TRAFFIC_PAYLOAD
from yggpy.wire.uvarint import decode_uvarint, encode_uvarint

__all__ = [
    "BOX_KEY_SIZE",
    "BOX_OVERHEAD",
    "INIT_PAYLOAD_SIZE",
    "INIT_SIZE",
    "MAX_MESSAGE",
    "MIN_TRAFFIC_SIZE",
    "InitMessage",
    "InitPayload",
    "MessageType",
    "TrafficHeader",
    "signed_bytes",
]

BOX_KEY_SIZE = 32
"""Bytes of an X25519 key."""
BOX_OVERHEAD = 16
"""Bytes that sealing adds."""
INIT_PAYLOAD_SIZE = SIGNATURE_SIZE + 2 * BOX_KEY_SIZE + 16
INIT_SIZE = 1 + BOX_KEY_SIZE + BOX_OVERHEAD + INIT_PAYLOAD_SIZE
"""Bytes of every init and ack: 193."""
MIN_TRAFFIC_SIZE = 1 + 3 + BOX_OVERHEAD + BOX_KEY_SIZE
"""Bytes of a traffic message with the smallest numbers and an empty message: 52."""
MAX_MESSAGE = MAX_TRAFFIC_PAYLOAD - MIN_TRAFFIC_SIZE - 27
"""Longest message that can be sealed, with its type byte; 27 = what the three numbers may take beyond a byte each."""

_NUMBERS = struct.Struct(">QQ")


class MessageType(IntEnum):
    """The first byte of a session message; others are ignored."""

    DUMMY = 0
    INIT = 1
    ACK = 2
    TRAFFIC = 3


def signed_bytes(preimage: bytes, eph_pub: bytes, current: bytes, next: bytes, key_seq: int, seq: int) -> bytes:
    """Return what the signature of an init covers; ``preimage`` is empty or comes from the group password (9.1)."""
    return b"".join((preimage, eph_pub, current, next, _NUMBERS.pack(key_seq, seq)))


_TRAFFIC_TYPE = bytes((MessageType.TRAFFIC,))


@dataclass(frozen=True, slots=True)
class InitPayload:
    """The sealed part of an init or ack."""

    signature: bytes
    current: bytes
    """The sender's public key for its traffic, number ``key_seq``."""
    next: bytes
    """The one that it will use after that."""
    key_seq: int
    seq: int
    """Unix time in seconds."""

    def encode(self) -> bytes:
        """Return the 144 bytes to seal. Raises ``ValueError`` for fields of a wrong size or range."""
        try:
            numbers = _NUMBERS.pack(self.key_seq, self.seq)
        except struct.error as error:
            raise ValueError(f"key_seq or seq is no unsigned 64-bit number: {error}") from None
        encoded = b"".join((self.signature, self.current, self.next, numbers))
        if len(encoded) != INIT_PAYLOAD_SIZE or len(self.current) != BOX_KEY_SIZE or len(self.next) != BOX_KEY_SIZE:
            raise ValueError("an init payload has a signature of 64 bytes and two keys of 32")
        return encoded

    @classmethod
    def decode(cls, payload: bytes) -> InitPayload:
        """Read the opened box. Raises ``DecodeError`` unless it has 144 bytes."""
        if len(payload) != INIT_PAYLOAD_SIZE:
            raise DecodeError(f"session init payload of {len(payload)} bytes instead of {INIT_PAYLOAD_SIZE}")
        current = SIGNATURE_SIZE + BOX_KEY_SIZE
        numbers = current + BOX_KEY_SIZE
        key_seq, seq = _NUMBERS.unpack_from(payload, numbers)
        return cls(payload[:SIGNATURE_SIZE], payload[SIGNATURE_SIZE:current], payload[current:numbers], key_seq, seq)

    def signed_bytes(self, preimage: bytes, eph_pub: bytes) -> bytes:
        """Return what ``signature`` must cover in a message with the ephemeral key ``eph_pub``."""
        return signed_bytes(preimage, eph_pub, self.current, self.next, self.key_seq, self.seq)


@dataclass(frozen=True, slots=True)
class InitMessage:
    """An init or ack as it travels."""

    message_type: MessageType
    """INIT or ACK; not protected by the box."""
    eph_pub: bytes
    box: bytes

    def encode(self) -> bytes:
        """Return the 193 bytes. Raises ``ValueError`` for fields of a wrong size."""
        if len(self.eph_pub) != BOX_KEY_SIZE or len(self.box) != BOX_OVERHEAD + INIT_PAYLOAD_SIZE:
            raise ValueError("an init has a key of 32 bytes and a box of 160")
        return b"".join((bytes((self.message_type,)), self.eph_pub, self.box))

    @classmethod
    def decode(cls, message: bytes) -> InitMessage:
        """Read an init or ack. Raises ``DecodeError`` unless it has 193 bytes and one of these types."""
        if len(message) != INIT_SIZE:
            raise DecodeError(f"session init of {len(message)} bytes instead of {INIT_SIZE}")
        if message[0] not in (MessageType.INIT, MessageType.ACK):
            raise DecodeError(f"session message type {message[0]} is neither init nor ack")
        box = 1 + BOX_KEY_SIZE
        return cls(MessageType(message[0]), message[1:box], message[box:])


class TrafficHeader(NamedTuple):
    """The clear numbers in front of a traffic box, named from the sender's point of view."""

    local_key_seq: int
    remote_key_seq: int
    nonce: int
    box_offset: int = 0
    """Where the box begins in the decoded message; ``encode`` ignores it."""

    def encode(self) -> bytes:
        """Return type byte and numbers; the box follows. Raises ``ValueError`` for numbers outside 64 bits."""
        numbers = (self.local_key_seq, self.remote_key_seq, self.nonce)
        return _TRAFFIC_TYPE + b"".join(map(encode_uvarint, numbers))

    @classmethod
    def decode(cls, message: bytes) -> TrafficHeader:
        """Read the beginning of a traffic message, whose first byte is not looked at. Raises ``DecodeError``.

        Over-long numbers may leave a box with less than the 48 bytes of key and tag: the opener must check (9.4).
        """
        if len(message) < MIN_TRAFFIC_SIZE:
            raise DecodeError(f"session traffic of {len(message)} bytes, the least is {MIN_TRAFFIC_SIZE}")
        local_key_seq, offset = decode_uvarint(message, 1)
        remote_key_seq, offset = decode_uvarint(message, offset)
        nonce, offset = decode_uvarint(message, offset)
        return cls(local_key_seq, remote_key_seq, nonce, offset)
