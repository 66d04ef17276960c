"""Node identities: ed25519 keys, signing and verifying (protocol section 1).

A public key is 32 plain ``bytes``: keys are compared, hashed and put on the wire far more often than anything else
is done with them. The private key is an object, so that it cannot be printed, logged or sent by accident.

Verdicts on signatures must be the ones that Go gives, also for keys that no honest node has. Announcements of third
parties are passed on by Go nodes that found them valid, and a link that brings an invalid one is closed; a node that
judges more strictly than its neighbours could be cut off from all of them by one hostile announcement. libsodium is
quick but refuses small-order and non-canonical public keys, which Go accepts; so what libsodium refuses is judged once
more by OpenSSL, which applies the same equation as Go (no cofactor, R compared as bytes, S below the group order).
"""

from __future__ import annotations

import os
from typing import TypeAlias

import nacl.bindings
from nacl.exceptions import BadSignatureError

__all__ = ["PUBLIC_KEY_SIZE", "SEED_SIZE", "SIGNATURE_SIZE", "PrivateKey", "PublicKey", "verify"]

PublicKey: TypeAlias = bytes
"""The 32 bytes of an ed25519 public key; compared as bytes, lower is better."""

PUBLIC_KEY_SIZE = 32
SEED_SIZE = 32
SIGNATURE_SIZE = 64


class PrivateKey:
    """An ed25519 key pair; immutable. Equal when the seeds are equal."""

    __slots__ = ("_public_key", "_secret")

    _secret: bytes
    _public_key: PublicKey

    def __init__(self, seed: bytes) -> None:
        """Derive the pair from a seed of 32 bytes; raises ``ValueError`` for any other length."""
        if len(seed) != SEED_SIZE:
            raise ValueError(f"a private key seed has {SEED_SIZE} bytes, not {len(seed)}")
        public_key, secret = nacl.bindings.crypto_sign_seed_keypair(bytes(seed))
        object.__setattr__(self, "_secret", secret)
        object.__setattr__(self, "_public_key", public_key)

    @classmethod
    def generate(cls) -> PrivateKey:
        """Make a new random key."""
        return cls(os.urandom(SEED_SIZE))

    @classmethod
    def from_seed(cls, seed: bytes) -> PrivateKey:
        """Same as the constructor."""
        return cls(seed)

    @classmethod
    def from_bytes(cls, data: bytes) -> PrivateKey:
        """Read the 64-byte form ``seed || public key`` that configurations hold.

        Raises ``ValueError`` when the length is wrong or the public key is not the one of the seed.
        """
        if len(data) != SEED_SIZE + PUBLIC_KEY_SIZE:
            raise ValueError(f"a private key has {SEED_SIZE + PUBLIC_KEY_SIZE} bytes, not {len(data)}")
        key = cls(data[:SEED_SIZE])
        if key.public_key != data[SEED_SIZE:]:
            raise ValueError("the two halves of the private key do not belong together")
        return key

    @property
    def seed(self) -> bytes:
        """The secret: 32 bytes."""
        return self._secret[:SEED_SIZE]

    @property
    def public_key(self) -> PublicKey:
        """The node key that others know this node by: 32 bytes."""
        return self._public_key

    def to_bytes(self) -> bytes:
        """Return the 64-byte form ``seed || public key``."""
        return self._secret

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature of ``message`` (deterministic, RFC 8032 Ed25519)."""
        return nacl.bindings.crypto_sign(message, self._secret)[:SIGNATURE_SIZE]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"PrivateKey is immutable, cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"PrivateKey is immutable, cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PrivateKey):
            return NotImplemented
        return nacl.bindings.sodium_memcmp(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash((PrivateKey, self._public_key))

    def __repr__(self) -> str:
        return f"<PrivateKey of {self._public_key.hex()}>"

    def __reduce__(self) -> tuple[type[PrivateKey], tuple[bytes]]:
        return PrivateKey, (self.seed,)


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether ``signature`` (64 bytes) is one of ``message`` by ``public_key`` (32 bytes). Never raises.

    Anything of a wrong length, and any key that is no point of the curve, is simply not valid.
    """
    if len(signature) != SIGNATURE_SIZE or len(public_key) != PUBLIC_KEY_SIZE:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return _verify_as_go(public_key, message, signature)
    return True


def _verify_as_go(public_key: bytes, message: bytes, signature: bytes) -> bool:
    # Only hostile or broken signatures come here, and the library takes 8 MB.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
