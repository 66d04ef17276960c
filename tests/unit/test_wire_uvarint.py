"""Varints and paths against Go's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.wire.errors import DecodeError
from yggpy.wire.uvarint import MAX_UVARINT, decode_path, decode_uvarint, encode_path, encode_uvarint

VECTORS = load("uvarint")


@pytest.mark.parametrize("entry", VECTORS["encode"], ids=lambda e: str(e["value"]))
def test_encode(entry: dict[str, Any]) -> None:
    encoded = bytes.fromhex(entry["hex"])
    assert encode_uvarint(int(entry["value"])) == encoded
    assert decode_uvarint(encoded) == (int(entry["value"]), len(encoded))


@pytest.mark.parametrize("entry", VECTORS["decode"], ids=lambda e: str(e["description"]))
@pytest.mark.parametrize("before", [b"", b"\x80\x00\xff"])
def test_decode(entry: dict[str, Any], before: bytes) -> None:
    data = before + bytes.fromhex(entry["hex"])
    if entry["ok"]:
        assert decode_uvarint(data, len(before)) == (int(entry["value"]), len(before) + entry["consumed"])
    else:
        with pytest.raises(DecodeError):
            decode_uvarint(data, len(before))


@pytest.mark.parametrize("entry", VECTORS["path_encode"], ids=lambda e: str(e["hex"]))
def test_encode_path(entry: dict[str, Any]) -> None:
    path = tuple(map(int, entry["path"]))
    encoded = bytes.fromhex(entry["hex"])
    assert encode_path(path) == encoded
    assert decode_path(encoded) == (path, len(encoded))


@pytest.mark.parametrize("entry", VECTORS["path_decode"], ids=lambda e: str(e["description"]))
@pytest.mark.parametrize("before", [b"", b"\x05\x00\xff"])
def test_decode_path(entry: dict[str, Any], before: bytes) -> None:
    data = before + bytes.fromhex(entry["hex"])
    if entry["ok"]:
        assert decode_path(data, len(before)) == (tuple(map(int, entry["path"])), len(before) + entry["consumed"])
    else:
        with pytest.raises(DecodeError):
            decode_path(data, len(before))


def test_a_zero_inside_a_longer_number_does_not_end_the_path() -> None:
    assert decode_path(bytes.fromhex("018100028000")) == ((1, 1, 2), 6)


@pytest.mark.parametrize("value", [-1, MAX_UVARINT + 1])
def test_numbers_outside_64_bits_are_not_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        encode_uvarint(value)
    with pytest.raises(ValueError):
        encode_path((1, value))


def test_port_zero_is_not_encoded_in_a_path() -> None:
    for path in [(0,), (1, 0, 2), (300, 0)]:
        with pytest.raises(ValueError, match="port 0"):
            encode_path(path)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 9])
def test_cut_short_is_told_from_overflow(data: bytes) -> None:
    with pytest.raises(DecodeError, match="cut short"):
        decode_uvarint(data)


@pytest.mark.parametrize("data", [b"\xff" * 9 + b"\x02", b"\x80" * 10, b"\x80" * 10 + b"\x00", b"\xff" * 20])
def test_overflow_is_told_from_cut_short(data: bytes) -> None:
    with pytest.raises(DecodeError, match="overflows"):
        decode_uvarint(data)
