"""Private keys as PEM files (protocol section 14.3): PKCS#8 with an Ed25519 seed, as OpenSSL writes them, too.

Writing is a fixed prefix before the seed, and what was written so is read so: a node with a key file, as every
container with a state directory has one, need not load ``cryptography`` and its 8 MB. All other forms that PKCS#8 may
take are left to that.
"""

from __future__ import annotations

import binascii
import re

from yggpy.errors import ConfigError
from yggpy.keys import SEED_SIZE, PrivateKey

__all__ = ["MAX_PEM_SIZE", "private_key_from_pem", "private_key_to_pem", "read_private_key"]

MAX_PEM_SIZE = 65536
"""Bytes that are read of a key file; the key must be within them."""

_PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")
"""DER of a PKCS#8 Ed25519 key up to the seed, which ends it."""
_BLOCK = re.compile(rb"^-----BEGIN ([^\r\n-]*)-----[ \t]*\r?\n(.*?)^-----END \1-----", re.MULTILINE | re.DOTALL)


def private_key_to_pem(key: PrivateKey) -> str:
    """Return ``key`` as a PEM file's text, with its final newline."""
    body = binascii.b2a_base64(_PKCS8_ED25519 + key.seed, newline=False).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"


def private_key_from_pem(data: bytes) -> PrivateKey:
    """Return the key in the first PEM block of ``data``. Raises ``ConfigError`` with Go's texts."""
    block = _BLOCK.search(data)
    if block is None:
        raise ConfigError("failed to parse PEM file")
    kind = block[1].decode("utf-8", "replace")
    if kind != "PRIVATE KEY":
        raise ConfigError(f'unexpected PEM type "{kind}"')
    try:
        der = binascii.a2b_base64(b"".join(block[2].split()), strict_mode=True)
    except binascii.Error:
        raise ConfigError("failed to parse PEM file") from None
    return _from_pkcs8(der)


def _from_pkcs8(der: bytes) -> PrivateKey:
    if der.startswith(_PKCS8_ED25519) and len(der) == len(_PKCS8_ED25519) + SEED_SIZE:
        return PrivateKey.from_seed(der[len(_PKCS8_ED25519) :])
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(der, password=None)
    except UnsupportedAlgorithm:
        raise ConfigError("private key must be ed25519 key") from None
    except (ValueError, TypeError):
        raise ConfigError("failed to unmarshal PKCS8 key: not a valid, unencrypted PKCS#8 structure") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("private key must be ed25519 key")
    return PrivateKey.from_seed(key.private_bytes_raw())


def read_private_key(path: str) -> PrivateKey:
    """Return the key in the PEM file at ``path``. Raises ``ConfigError`` naming the file."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PEM_SIZE)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f'PrivateKeyPath: cannot read "{path}": {reason}') from None
    try:
        return private_key_from_pem(data)
    except ConfigError as error:
        raise ConfigError(f'PrivateKeyPath: cannot use "{path}": {error}') from None
