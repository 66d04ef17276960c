"""Addresses, subnets and partial keys against those that Go computes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.address import Address, Subnet, x_key

KEYS = load("addresses")["keys"]
PARTIAL = load("addresses")["partial"]


@pytest.mark.parametrize("entry", KEYS, ids=[k["description"] for k in KEYS])
def test_address_and_subnet_of_a_key(entry: dict[str, Any]) -> None:
    key = bytes.fromhex(entry["key"])
    address, subnet = Address.for_key(key), Subnet.for_key(key)
    assert address.packed.hex() == entry["address"]
    assert str(address) == entry["address_text"]
    assert subnet.packed.hex() == entry["subnet"]
    assert str(subnet) == entry["subnet_text"]
    assert address.subnet == subnet
    assert address.is_valid
    assert subnet.is_valid
    assert address.partial_key().hex() == entry["partial_key_of_address"]
    assert subnet.partial_key().hex() == entry["partial_key_of_subnet"]


@pytest.mark.parametrize("entry", KEYS, ids=[k["description"] for k in KEYS])
def test_a_key_and_its_partial_keys_have_one_x_key(entry: dict[str, Any]) -> None:
    expected = bytes.fromhex(entry["partial_key_of_subnet"])
    assert x_key(bytes.fromhex(entry["key"])) == expected
    if any(bytes.fromhex(entry["key"])):  # the zero key's address wraps to another one's
        assert x_key(bytes.fromhex(entry["partial_key_of_address"])) == expected
        assert x_key(expected) == expected


@pytest.mark.parametrize("entry", PARTIAL, ids=[p["address"] for p in PARTIAL])
def test_partial_keys_of_any_address(entry: dict[str, Any]) -> None:
    packed = bytes.fromhex(entry["address"])
    address, subnet = Address(packed), Subnet(packed[:8])
    assert address.is_valid is entry["address_is_valid"]
    assert subnet.is_valid is entry["subnet_is_valid"]
    assert address.partial_key().hex() == entry["partial_key_as_address"]
    assert subnet.partial_key().hex() == entry["partial_key_as_subnet"]


def test_addresses_are_values() -> None:
    key = bytes(range(32))
    assert Address.for_key(key) == Address.for_key(key)
    assert len({Address.for_key(key), Address.for_key(key), Address.for_key(bytes(32))}) == 2
    assert len({Subnet.for_key(key), Subnet.for_key(key), Subnet.for_key(bytes(32))}) == 2


@pytest.mark.parametrize("size", [0, 8, 15, 17])
def test_address_of_wrong_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"16 bytes, not {size}"):
        Address(bytes(size))


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_subnet_of_wrong_length(size: int) -> None:
    with pytest.raises(ValueError, match=f"8 bytes, not {size}"):
        Subnet(bytes(size))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_key_of_wrong_length(size: int) -> None:
    for function in (Address.for_key, Subnet.for_key, x_key):
        with pytest.raises(ValueError, match=f"32 bytes, not {size}"):
            function(bytes(size))
