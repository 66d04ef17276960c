"""What tests of discovery stand on: interfaces, rules and beacons in one line each."""

from __future__ import annotations

import re
from ipaddress import IPv6Address

from yggpy.keys import PrivateKey
from yggpy.multicast.model import (
    IFF_MULTICAST,
    IFF_RUNNING,
    IFF_UP,
    InterfaceRule,
    LinkLocalAddress,
    NetworkInterface,
)
from yggpy.wire.beacon import Beacon

OWN_KEY = PrivateKey.from_seed(bytes([1]) * 32).public_key
THEIR_KEY = PrivateKey.from_seed(bytes([2]) * 32).public_key
OWN_ADDRESS = IPv6Address("fe80::1")
OTHER_ADDRESS = IPv6Address("fe80::1:1")
THEIR_ADDRESS = IPv6Address("fe80::2")
GOOD_FLAGS = IFF_UP | IFF_RUNNING | IFF_MULTICAST


def eth(
    *addresses: IPv6Address, index: int = 4, name: str = "", flags: int = GOOD_FLAGS, usable: bool = True
) -> NetworkInterface:
    """Return an interface, ``eth`` and its index by name; without addresses it has none."""
    return NetworkInterface(
        name or f"eth{index}", index, flags, tuple(LinkLocalAddress(address, usable) for address in addresses)
    )


def rule(
    pattern: str = ".*",
    *,
    beacon: bool = True,
    listen: bool = True,
    port: int = 0,
    priority: int = 0,
    password: bytes = b"",
    cost: int | None = None,
) -> InterfaceRule:
    """Return a rule, by default Go's."""
    return InterfaceRule(re.compile(pattern), beacon, listen, port, priority, password, cost)


def beacon(key: bytes = THEIR_KEY, port: int = 1000, password: bytes = b"") -> bytes:
    """Return the datagram of a valid beacon."""
    return Beacon.create(key, port, password).encode()
