"""The box of a session (protocol section 9.1): X25519 key pairs, ed25519 keys mapped to X25519, shared keys, nonces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from nacl.bindings import (
    crypto_box_beforenm,
    crypto_box_easy_afternm,
    crypto_box_open_easy_afternm,
    crypto_scalarmult_base,
)
from nacl.exceptions import CryptoError

from yggpy.wire.session import BOX_KEY_SIZE, BOX_OVERHEAD

__all__ = [
    "BoxKeyPair",
    "WeakKeyError",
    "box_private_key",
    "box_public_key",
    "group_preimage",
    "nonce_bytes",
    "open_box",
    "seal_box",
    "shared_key",
]

_FIELD = 2**255 - 19
_TOP_BIT_CLEARED = 2**255 - 1
_PUBLIC_KEY_CACHE = 4096
"""Remote keys whose X25519 form is remembered; it takes a modular inversion to make one."""

_NONCE_PREFIX = bytes(16)
_GROUP_DOMAIN = b"ironwood/encrypted\0"


class WeakKeyError(ValueError):
    """A public key with which every private key gives an all-zero secret. Go accepts it; nobody honest sends it."""


class BoxKeyPair(NamedTuple):
    """An X25519 key pair."""

    private: bytes
    public: bytes

    @classmethod
    def generate(cls, entropy: Callable[[int], bytes]) -> BoxKeyPair:
        """Make a key pair from 32 random bytes of ``entropy``."""
        return cls.from_private(entropy(BOX_KEY_SIZE))

    @classmethod
    def from_private(cls, private: bytes) -> BoxKeyPair:
        """Return the pair of a 32-byte private key (clamped where it is used)."""
        return cls(private, crypto_scalarmult_base(private))

    def __repr__(self) -> str:
        return f"BoxKeyPair(public={self.public.hex()})"


def box_private_key(seed: bytes) -> bytes:
    """Return the X25519 private key of an ed25519 seed."""
    return hashlib.sha512(seed).digest()[:BOX_KEY_SIZE]


@lru_cache(maxsize=_PUBLIC_KEY_CACHE)
def box_public_key(public_key: bytes) -> bytes:
    """Return the X25519 public key of an ed25519 one: u = (1 + y) / (1 - y); y = 1 gives 0."""
    y = int.from_bytes(public_key, "little") & _TOP_BIT_CLEARED
    u = (1 + y) * pow(1 - y, _FIELD - 2, _FIELD) % _FIELD
    return u.to_bytes(BOX_KEY_SIZE, "little")


def shared_key(public: bytes, private: bytes) -> bytes:
    """Return the key of the box between two X25519 keys. Raises :class:`WeakKeyError`."""
    try:
        return crypto_box_beforenm(public, private)
    except CryptoError as error:
        raise WeakKeyError("X25519 gives an all-zero secret") from error


def nonce_bytes(nonce: int) -> bytes:
    """Return the 24 bytes of nonce number ``nonce``: sixteen zeros and the number."""
    return _NONCE_PREFIX + nonce.to_bytes(8, "big")


def seal_box(plaintext: bytes, nonce: int, shared: bytes) -> bytes:
    """Return tag and ciphertext, 16 bytes longer than ``plaintext``."""
    return crypto_box_easy_afternm(plaintext, nonce_bytes(nonce), shared)


def open_box(box: bytes, nonce: int, shared: bytes) -> bytes | None:
    """Return the plaintext, or None when the box was not made with this key and nonce."""
    if len(box) < BOX_OVERHEAD:
        return None
    try:
        return crypto_box_open_easy_afternm(box, nonce_bytes(nonce), shared)
    except CryptoError:
        return None


def group_preimage(password: bytes) -> bytes:
    """Return what a group password puts in front of signed session bytes: nothing, or 32 bytes."""
    return hashlib.sha256(_GROUP_DOMAIN + password).digest() if password else b""
