"""Multicast beacons against Go's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.wire.beacon import BEACON_SIZE, Beacon
from yggpy.wire.errors import DecodeError

BEACONS = load("beacons")["beacons"]
MALFORMED = load("beacons")["malformed"]


@pytest.mark.parametrize("entry", BEACONS, ids=lambda e: str(e["description"]))
def test_beacon(entry: dict[str, Any]) -> None:
    datagram = bytes.fromhex(entry["datagram"])
    beacon = Beacon.decode(datagram)
    assert len(datagram) == BEACON_SIZE
    assert beacon.public_key.hex() == entry["public"]
    assert beacon.port == entry["port"]
    assert beacon.hash.hex() == entry["hash"]
    assert (beacon.major, beacon.minor) == (entry["major"], entry["minor"])
    assert beacon.is_compatible is (beacon.minor == 5)
    assert beacon.matches(entry["password"].encode())
    assert not beacon.matches(b"another password")
    assert beacon.encode() == datagram
    if beacon.is_compatible:
        assert Beacon.create(beacon.public_key, beacon.port, entry["password"].encode()) == beacon


@pytest.mark.parametrize("entry", MALFORMED, ids=lambda e: str(e["description"]))
def test_malformed(entry: dict[str, Any]) -> None:
    datagram = bytes.fromhex(entry["datagram"])
    if entry["error"] is not None:
        with pytest.raises(DecodeError) as caught:
            Beacon.decode(datagram)
        assert str(caught.value) == entry["error"]
    else:
        beacon = Beacon.decode(datagram)
        assert beacon.port == entry["port"]
        assert len(beacon.hash) == entry["hash_len"]
        assert beacon.matches(b"") is entry["hash_matches_no_password"]


@pytest.mark.parametrize(
    "beacon",
    [
        Beacon(bytes(31), 1, b""),
        Beacon(bytes(32), 65536, b""),
        Beacon(bytes(32), -1, b""),
        Beacon(bytes(32), 1, bytes(65536)),
        Beacon(bytes(32), 1, b"", minor=65536),
    ],
    ids=["key", "port", "negative port", "hash", "version"],
)
def test_beacons_that_cannot_be_encoded(beacon: Beacon) -> None:
    with pytest.raises(ValueError):
        beacon.encode()


def test_password_that_is_too_long() -> None:
    with pytest.raises(ValueError, match="at most 64 bytes"):
        Beacon.create(bytes(32), 1, bytes(65))
