"""The ``meta`` message, with which both ends of a new link introduce themselves (protocol section 2.7).

    "meta" || u16be length || fields || signature[64]          field = u16be type || u16be length || value

Both ends send theirs at once. The signature covers the BLAKE2b hash of the public key, keyed with the link's password:
so it proves both the key and the knowledge of the password. A reader takes ``HEADER_SIZE`` bytes, asks
:func:`decode_header` how many follow, and gives these to :func:`decode_body`. What comes after them already belongs to
the frame stream.

Error texts are those of yggdrasil-go, since people search for them.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from yggpy.keys import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, PrivateKey, verify
from yggpy.wire.errors import DecodeError

__all__ = [
    "HEADER_SIZE",
    "MAX_PASSWORD",
    "PROTOCOL_MAJOR",
    "PROTOCOL_MINOR",
    "HandshakeError",
    "HandshakeInfo",
    "decode_body",
    "decode_header",
    "encode_handshake",
    "password_hash",
]

HEADER_SIZE = 6
"""Bytes of the preamble and the length."""
MAX_PASSWORD = 64
"""Longest password in bytes: what BLAKE2b takes as its key."""
PROTOCOL_MAJOR = 0
PROTOCOL_MINOR = 5

_PREAMBLE = b"meta"
_FIELD_HEADER = struct.Struct(">HH")
_MAJOR, _MINOR, _PUBLIC_KEY, _PRIORITY = range(4)
_FIELD_SIZES = {_MAJOR: 2, _MINOR: 2, _PUBLIC_KEY: PUBLIC_KEY_SIZE, _PRIORITY: 1}
_BAD_LENGTH = "invalid handshake length, possible version mismatch"


class HandshakeError(DecodeError):
    """The remote side's handshake message cannot be accepted: the link must be closed."""


@dataclass(frozen=True, slots=True)
class HandshakeInfo:
    """What the remote side says of itself, verified."""

    major: int
    minor: int
    public_key: bytes
    priority: int
    """0..255, lower is preferred; both sides use the higher of theirs and the other's (2.8)."""


def password_hash(public_key: bytes, password: bytes) -> bytes:
    """Return the 64-byte hash that proves a password for a key, in handshakes and in beacons.

    Raises ``ValueError`` when the password is longer than ``MAX_PASSWORD``.
    """
    if len(password) > MAX_PASSWORD:
        raise ValueError(f"a password has at most {MAX_PASSWORD} bytes, not {len(password)}")
    return hashlib.blake2b(public_key, key=password).digest()


def encode_handshake(
    private_key: PrivateKey,
    password: bytes = b"",
    priority: int = 0,
    major: int = PROTOCOL_MAJOR,
    minor: int = PROTOCOL_MINOR,
) -> bytes:
    """Return our message. Raises ``ValueError`` for a password above ``MAX_PASSWORD`` or a priority outside 0..255."""
    if not 0 <= priority <= 255:
        raise ValueError(f"priority {priority} is not in 0..255")
    public_key = private_key.public_key
    signature = private_key.sign(password_hash(public_key, password))
    values = {
        _MAJOR: major.to_bytes(2, "big"),
        _MINOR: minor.to_bytes(2, "big"),
        _PUBLIC_KEY: public_key,
        _PRIORITY: bytes((priority,)),
    }
    fields = b"".join(_FIELD_HEADER.pack(kind, len(value)) + value for kind, value in values.items())
    length = len(fields) + len(signature)
    return b"".join((_PREAMBLE, length.to_bytes(2, "big"), fields, signature))


def decode_header(header: bytes) -> int:
    """Return how many bytes follow the first ``HEADER_SIZE``. Raises ``HandshakeError`` (checks 1 and 2)."""
    if len(header) < HEADER_SIZE:
        raise HandshakeError("unexpected EOF")
    if header[:4] != _PREAMBLE:
        raise HandshakeError("invalid handshake, remote side is not Yggdrasil")
    length = int.from_bytes(header[4:HEADER_SIZE], "big")
    if length < SIGNATURE_SIZE:
        raise HandshakeError(_BAD_LENGTH)
    return length


def decode_body(body: bytes, password: bytes = b"") -> HandshakeInfo:
    """Read what follows the header; ``password`` is our own. Raises ``HandshakeError`` (checks 4 to 8)."""
    if len(body) < SIGNATURE_SIZE:
        raise HandshakeError(_BAD_LENGTH)
    if len(password) > MAX_PASSWORD:
        raise HandshakeError("invalid password supplied, check your config")
    fields = _decode_fields(body[:-SIGNATURE_SIZE])
    public_key = fields.get(_PUBLIC_KEY)
    if public_key is None:
        raise HandshakeError("invalid hash length")
    if not verify(public_key, password_hash(public_key, password), body[-SIGNATURE_SIZE:]):
        raise HandshakeError("password does not match remote side")
    major = int.from_bytes(fields.get(_MAJOR, b""), "big")
    minor = int.from_bytes(fields.get(_MINOR, b""), "big")
    if (major, minor) != (PROTOCOL_MAJOR, PROTOCOL_MINOR):
        raise HandshakeError(
            f"remote node incompatible version (local {PROTOCOL_MAJOR}.{PROTOCOL_MINOR}, remote {major}.{minor})"
        )
    return HandshakeInfo(major, minor, public_key, int.from_bytes(fields.get(_PRIORITY, b""), "big"))


def _decode_fields(data: bytes) -> dict[int, bytes]:
    """Return the known fields by type; the last of equal types counts, unknown types are left out."""
    fields: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if len(data) - offset < _FIELD_HEADER.size:
            raise HandshakeError(_BAD_LENGTH)
        kind, size = _FIELD_HEADER.unpack_from(data, offset)
        offset += _FIELD_HEADER.size
        value = data[offset : offset + size]
        if len(value) != size or size != _FIELD_SIZES.get(kind, size):
            raise HandshakeError(_BAD_LENGTH)
        if kind in _FIELD_SIZES:
            fields[kind] = value
        offset += size
    return fields
