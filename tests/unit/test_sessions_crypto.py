"""The box of a session: conversions, shared keys, nonces and sealed boxes as the Go node makes them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.keys import PrivateKey
from yggpy.sessions.crypto import (
    BoxKeyPair,
    WeakKeyError,
    box_private_key,
    box_public_key,
    group_preimage,
    nonce_bytes,
    open_box,
    seal_box,
    shared_key,
)

E2C = load("e2c")
SEALED = [entry for entry in E2C["box"] if "boxed" in entry]
DEGENERATE = [entry for entry in E2C["box"] if "boxed" not in entry]

# Every u for which X25519 gives zero, whatever the private key: the points of order 1, 2, 4 and 8 of curve and twist.
P = 2**255 - 19
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
WEAK = [0, 1, *ORDER_8, P - 1, P, P + 1]


@pytest.mark.parametrize("entry", E2C["pairs"], ids=lambda e: str(e["ed25519_public"][:8]))
def test_ed25519_keys_become_x25519_keys(entry: dict[str, Any]) -> None:
    seed = bytes.fromhex(entry["seed"])
    assert PrivateKey.from_seed(seed).public_key.hex() == entry["ed25519_public"]
    assert box_private_key(seed).hex() == entry["x25519_private"]
    assert box_public_key(bytes.fromhex(entry["ed25519_public"])).hex() == entry["x25519_public"]
    assert BoxKeyPair.from_private(box_private_key(seed)).public.hex() == entry["x25519_public"]


@pytest.mark.parametrize("entry", E2C["public_edge_cases"], ids=lambda e: str(e["description"]))
def test_public_keys_at_the_edges(entry: dict[str, Any]) -> None:
    assert box_public_key(bytes.fromhex(entry["ed25519_public"])).hex() == entry["x25519_public"]


@pytest.mark.parametrize("entry", SEALED, ids=lambda e: f"nonce {e['nonce']}")
def test_boxes(entry: dict[str, Any]) -> None:
    private, public = bytes.fromhex(entry["x25519_private"]), bytes.fromhex(entry["x25519_public"])
    plaintext, boxed, nonce = bytes.fromhex(entry["plaintext"]), bytes.fromhex(entry["boxed"]), int(entry["nonce"])
    shared = shared_key(public, private)
    assert shared.hex() == entry["shared"]
    assert nonce_bytes(nonce).hex() == entry["nonce_bytes"]
    assert seal_box(plaintext, nonce, shared) == boxed
    assert open_box(boxed, nonce, shared) == plaintext


def test_a_box_opens_only_as_it_was_made() -> None:
    shared = shared_key(BoxKeyPair.from_private(b"a" * 32).public, b"b" * 32)
    box = seal_box(b"message", 7, shared)
    assert open_box(box, 7, shared) == b"message"
    assert open_box(box, 8, shared) is None
    assert open_box(box, 7, bytes(32)) is None
    for position in range(len(box)):
        damaged = bytearray(box)
        damaged[position] ^= 1
        assert open_box(bytes(damaged), 7, shared) is None
    for length in range(len(box)):
        assert open_box(box[:length], 7, shared) is None


def test_the_empty_plaintext_has_a_box() -> None:
    box = seal_box(b"", 1, bytes(32))
    assert len(box) == 16
    assert open_box(box, 1, bytes(32)) == b""


def test_both_sides_share_the_same_key() -> None:
    one, two = BoxKeyPair.generate(lambda n: b"\x01" * n), BoxKeyPair.generate(lambda n: b"\x02" * n)
    assert shared_key(one.public, two.private) == shared_key(two.public, one.private)


@pytest.mark.parametrize("u", WEAK)
def test_weak_public_keys_are_refused(u: int) -> None:
    for private in (b"\x01" * 32, b"\xfe" * 32):
        with pytest.raises(WeakKeyError):
            shared_key(u.to_bytes(32, "little"), private)


@pytest.mark.parametrize("entry", DEGENERATE, ids=lambda e: str(e["description"]))
def test_the_key_that_go_shares_with_a_zero_public_key_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(WeakKeyError):
        shared_key(bytes.fromhex(entry["x25519_public"]), bytes.fromhex(entry["x25519_private"]))


def test_ed25519_keys_that_convert_to_weak_ones_are_refused() -> None:
    neutral = (1).to_bytes(32, "little")
    with pytest.raises(WeakKeyError):
        shared_key(box_public_key(neutral), b"\x01" * 32)


def test_group_preimages() -> None:
    assert group_preimage(b"") == b""
    seen = set()
    for message in load("session_init")["messages"]:
        preimage = group_preimage(str(message["group_password"]).encode())
        assert preimage.hex() == message["preimage"]
        seen.add(preimage)
    assert len(seen) == 3


def test_a_key_pair_does_not_show_its_secret() -> None:
    pair = BoxKeyPair.from_private(b"s" * 32)
    for text in (repr(pair), str(pair), f"{pair}"):
        assert pair.private.hex() not in text
        assert repr(pair.private) not in text
