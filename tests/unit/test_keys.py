"""Node keys: the forms of a private key, signing, and verdicts on signatures that must agree with Go's."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.keys import PrivateKey, verify

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
ORDER_FOUR_POINT = bytes(32)
"""The encoding of y = 0: lower than every honest key."""
NEUTRAL_POINT = (1).to_bytes(32, "little")
NON_CANONICAL_NEUTRAL_POINT = (2**255 - 19 + 1).to_bytes(32, "little")

MESSAGES = [m for m in load("meta")["messages"] if "seed" in m]


@pytest.mark.parametrize("entry", MESSAGES, ids=[m["description"] for m in MESSAGES])
def test_public_key_and_signature_are_those_of_go(entry: dict[str, Any]) -> None:
    key = PrivateKey.from_seed(bytes.fromhex(entry["seed"]))
    message, signature = bytes.fromhex(entry["hash"]), bytes.fromhex(entry["signature"])
    assert key.public_key.hex() == entry["public"]
    assert key.sign(message) == signature
    assert verify(key.public_key, message, signature)


def test_forms_of_a_private_key() -> None:
    key = PrivateKey.generate()
    assert key.to_bytes() == key.seed + key.public_key
    assert PrivateKey.from_bytes(key.to_bytes()) == key
    assert PrivateKey(key.seed) == key
    assert hash(PrivateKey(key.seed)) == hash(key)
    assert PrivateKey.generate() != key
    assert key != key.seed
    assert pickle.loads(pickle.dumps(key)) == key


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_seed_of_wrong_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"32 bytes, not {size}"):
        PrivateKey.from_seed(bytes(size))


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_private_key_of_wrong_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"64 bytes, not {size}"):
        PrivateKey.from_bytes(bytes(size))


def test_private_key_with_the_public_key_of_another() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        PrivateKey.from_bytes(PrivateKey.generate().seed + PrivateKey.generate().public_key)


def test_private_key_keeps_its_secret_and_its_value() -> None:
    key = PrivateKey.generate()
    assert key.public_key.hex() in repr(key)
    for text in (repr(key), str(key), f"{key}"):
        assert key.seed.hex() not in text
    with pytest.raises(AttributeError, match="immutable"):
        key._secret = bytes(64)
    with pytest.raises(AttributeError, match="immutable"):
        del key._secret
    assert not hasattr(key, "__dict__")


def test_every_change_spoils_a_signature() -> None:
    key = PrivateKey.from_seed(bytes(range(32)))
    message = b"message"
    signature = key.sign(message)
    assert verify(key.public_key, message, signature)
    assert not verify(key.public_key, message + b".", signature)
    assert not verify(PrivateKey.from_seed(bytes(32)).public_key, message, signature)
    for position in range(64):
        changed = bytearray(signature)
        changed[position] ^= 1
        assert not verify(key.public_key, message, bytes(changed))


def test_signature_with_too_large_a_scalar() -> None:
    key = PrivateKey.from_seed(bytes(range(32)))
    signature = key.sign(b"")
    scalar = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    assert not verify(key.public_key, b"", signature[:32] + scalar.to_bytes(32, "little"))


@pytest.mark.parametrize(("key_size", "signature_size"), [(0, 0), (31, 64), (33, 64), (32, 63), (32, 65), (64, 128)])
def test_wrong_lengths_are_not_valid(key_size: int, signature_size: int) -> None:
    assert not verify(bytes(key_size), b"message", bytes(signature_size))


@pytest.mark.parametrize("key", [b"\xff" * 32, b"\x02" + bytes(31), b"\xff" * 31 + b"\x7f"])
def test_keys_that_are_no_points_are_not_valid(key: bytes) -> None:
    assert not verify(key, b"message", bytes(64))
    assert not verify(key, b"message", PrivateKey.generate().sign(b"message"))


@pytest.mark.parametrize("key", [NEUTRAL_POINT, NON_CANONICAL_NEUTRAL_POINT])
def test_signature_by_the_neutral_point_is_valid_as_in_go(key: bytes) -> None:
    # [S]B - [k]A = [S]B whatever is signed, so R = neutral and S = 0 signs everything.
    assert verify(key, b"message", NEUTRAL_POINT + bytes(32))
    assert not verify(key, b"message", NEUTRAL_POINT + NEUTRAL_POINT)


def test_signature_by_a_point_of_order_four_is_valid_as_in_go() -> None:
    # With S = 0 and R neutral the equation holds when the hash is a multiple of 4, which some message soon gives.
    signature = NEUTRAL_POINT + bytes(32)
    verdicts = []
    for number in range(32):
        message = bytes((number,))
        digest = hashlib.sha512(NEUTRAL_POINT + ORDER_FOUR_POINT + message).digest()
        holds = int.from_bytes(digest, "little") % GROUP_ORDER % 4 == 0
        assert verify(ORDER_FOUR_POINT, message, signature) is holds
        verdicts.append(holds)
    assert set(verdicts) == {True, False}
