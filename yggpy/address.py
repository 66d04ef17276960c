"""Node keys as IPv6 addresses (protocol section 1).

An address keeps the *interesting* bits of a key: how many leading zero bits it has (a number that a node can raise by
searching for a better key), then 112 bits of what follows. A subnet keeps the first 48 of these and leaves 64 bits for
hosts behind the node. Neither holds the whole key, so a node that wants to send to an address looks for the *partial
key*: all the key bits that the address reveals, with ones for those it does not.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache

from yggpy.keys import PUBLIC_KEY_SIZE

__all__ = ["ADDRESS_SIZE", "SUBNET_SIZE", "Address", "Subnet", "x_key"]

ADDRESS_SIZE = 16
SUBNET_SIZE = 8
NODE_PREFIX = 0x02
"""First byte of every node address."""
SUBNET_PREFIX = 0x03
"""First byte of every routed subnet."""
X_KEY_CACHE_SIZE = 16384
"""Keys for which :func:`x_key` is remembered; the least recently asked for goes first."""

_KEY_BITS = 8 * PUBLIC_KEY_SIZE
_KEY_MASK = (1 << _KEY_BITS) - 1
_BODY_BITS = 8 * (ADDRESS_SIZE - 2)


@dataclass(frozen=True, slots=True)
class Address:
    """A node's IPv6 address, as its 16 bytes. Any 16 bytes will do; ``is_valid`` tells whether a node can have them.

    Raises ``ValueError`` for another length.
    """

    packed: bytes

    def __post_init__(self) -> None:
        if len(self.packed) != ADDRESS_SIZE:
            raise ValueError(f"an address has {ADDRESS_SIZE} bytes, not {len(self.packed)}")

    @classmethod
    def for_key(cls, key: bytes) -> Address:
        """Return the address of the node with this public key (``AddrForKey``)."""
        return cls(_address_bytes(key))

    @property
    def is_valid(self) -> bool:
        """True inside 200::/8."""
        return self.packed[0] == NODE_PREFIX

    @property
    def subnet(self) -> Subnet:
        """The /64 that is routed to the node which has this address."""
        return Subnet(bytes((SUBNET_PREFIX,)) + self.packed[1:SUBNET_SIZE])

    def partial_key(self) -> bytes:
        """Return the 32 bytes that are known of the node's key, padded with one bits (``Address.GetKey``)."""
        return _partial_key(self.packed)

    def __str__(self) -> str:
        return str(ipaddress.IPv6Address(self.packed))


@dataclass(frozen=True, slots=True)
class Subnet:
    """The /64 that is routed to a node, as its first 8 bytes. Raises ``ValueError`` for another length."""

    packed: bytes

    def __post_init__(self) -> None:
        if len(self.packed) != SUBNET_SIZE:
            raise ValueError(f"a subnet has {SUBNET_SIZE} bytes, not {len(self.packed)}")

    @staticmethod
    def for_key(key: bytes) -> Subnet:
        """Return the subnet of the node with this public key (``SubnetForKey``)."""
        return Address.for_key(key).subnet

    @property
    def is_valid(self) -> bool:
        """True inside 300::/8."""
        return self.packed[0] == SUBNET_PREFIX

    def partial_key(self) -> bytes:
        """Return the 32 bytes that are known of the node's key, padded with one bits (``Subnet.GetKey``)."""
        return _partial_key(self.packed + bytes(ADDRESS_SIZE - SUBNET_SIZE))

    def __str__(self) -> str:
        return f"{ipaddress.IPv6Address(self.packed + bytes(ADDRESS_SIZE - SUBNET_SIZE))}/64"


@lru_cache(maxsize=X_KEY_CACHE_SIZE)
def x_key(key: bytes) -> bytes:
    """Return the form of a key, full or partial, under which lookups and bloom filters know it (32 bytes).

    It depends on the key's /64 alone: a node's key and the partial keys of its address and of its subnet all give
    the same value.
    """
    return _partial_key(_address_bytes(key)[:SUBNET_SIZE] + bytes(ADDRESS_SIZE - SUBNET_SIZE))


def _address_bytes(key: bytes) -> bytes:
    if len(key) != PUBLIC_KEY_SIZE:
        raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(key)}")
    number = int.from_bytes(key, "big")
    ones = _KEY_BITS - number.bit_length()  # leading zeros of the key are leading ones of its inverse
    left = max(0, _KEY_BITS - ones - 1)
    body = (number ^ _KEY_MASK) & ((1 << left) - 1)
    # Only whole bytes of what is left are taken.
    body >>= left % 8
    left -= left % 8
    body = body >> (left - _BODY_BITS) if left >= _BODY_BITS else body << (_BODY_BITS - left)
    return bytes((NODE_PREFIX, ones & 0xFF)) + body.to_bytes(_BODY_BITS // 8, "big")


def _partial_key(address: bytes) -> bytes:
    # The first byte, which tells an address from a subnet, plays no part.
    ones = address[1]
    body = int.from_bytes(address[2:], "big")
    shift = _KEY_BITS - ones - 1 - _BODY_BITS
    known = body << shift if shift >= 0 else body >> -shift
    known |= _KEY_MASK ^ ((1 << (_KEY_BITS - ones)) - 1)
    return (known ^ _KEY_MASK).to_bytes(PUBLIC_KEY_SIZE, "big")
