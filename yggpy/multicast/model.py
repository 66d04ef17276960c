"""The nouns of discovery: the system's interfaces, the configuration's rules, neighbours, and effects.

An effect is what the core wants done; the service does it and reports back by a method call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TypeAlias

from yggpy.config import MulticastInterface
from yggpy.wire.handshake import MAX_PASSWORD

__all__ = [
    "CallNeighbour",
    "CloseListener",
    "Effect",
    "InterfaceRule",
    "JoinGroup",
    "LeaveGroup",
    "LinkLocalAddress",
    "Neighbour",
    "NetworkInterface",
    "OpenListener",
    "SendBeacon",
    "interface_rules",
]

IFF_UP = 0x1
IFF_POINTOPOINT = 0x10
IFF_RUNNING = 0x40
IFF_MULTICAST = 0x1000
_NEEDED_FLAGS = IFF_UP | IFF_RUNNING | IFF_MULTICAST


@dataclass(frozen=True, slots=True)
class LinkLocalAddress:
    """An address in fe80::/10 of an interface."""

    address: IPv6Address
    usable: bool = True
    """False while duplicate address detection has not approved of it (RFC 4862): it cannot be bound or sent from."""


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """A snapshot of one interface of this machine."""

    name: str
    index: int
    flags: int
    """Linux's ``IFF_*``."""
    addresses: tuple[LinkLocalAddress, ...] = ()
    """The link-local ones, in the system's order."""

    @property
    def suitable(self) -> bool:
        """True for an interface on which neighbours may be: up, running, multicast, not point to point (section 12)."""
        return self.flags & _NEEDED_FLAGS == _NEEDED_FLAGS and not self.flags & IFF_POINTOPOINT

    @property
    def usable_addresses(self) -> tuple[IPv6Address, ...]:
        """The addresses that can be bound now."""
        return tuple(found.address for found in self.addresses if found.usable)

    def has(self, address: IPv6Address) -> bool:
        """Tell whether ``address`` is one of the interface's, usable or not."""
        return any(found.address == address for found in self.addresses)


@dataclass(frozen=True, slots=True)
class InterfaceRule:
    """One entry of ``MulticastInterfaces``, ready for use."""

    pattern: re.Pattern[str]
    beacon: bool
    listen: bool
    port: int = 0
    priority: int = 0
    password: bytes = field(default=b"", repr=False)
    cost: int | None = None
    """What routing takes links of this rule to cost; None: what is measured."""


def interface_rules(entries: Iterable[MulticastInterface]) -> tuple[tuple[InterfaceRule, ...], list[str]]:
    """Return the rules of a configuration, and the patterns of those whose password is too long to be of use.

    As in Go, entries that neither beacon nor listen, and those with a password of more than 64 bytes, match no
    interface. Raises ``ConfigError`` for a pattern that cannot be compiled.
    """
    rules, refused = [], []
    for entry in entries:
        pattern = entry.pattern()
        password = entry.password.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
        if not entry.beacon and not entry.listen:
            continue
        if len(password) > MAX_PASSWORD:
            refused.append(entry.regex)
            continue
        cost = entry.cost or None
        rules.append(InterfaceRule(pattern, entry.beacon, entry.listen, entry.port, entry.priority, password, cost))
    return tuple(rules), refused


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Somebody whose beacon was heard: where it says it listens, and the key that it says it has."""

    interface: str
    address: IPv6Address
    """The beacon's source, never anything that its contents say."""
    port: int
    key: bytes


@dataclass(frozen=True, slots=True)
class OpenListener:
    """Open a TLS listener on the first of ``addresses`` that can be had: ``listener_opened`` or ``listener_failed``."""

    listener_id: int
    interface: str
    addresses: tuple[IPv6Address, ...]
    port: int
    """0: any."""
    priority: int
    password: bytes = field(repr=False)
    cost: int | None = None


@dataclass(frozen=True, slots=True)
class CloseListener:
    """Close a listener, or call off its opening. No answer."""

    listener_id: int
    interface: str


@dataclass(frozen=True, slots=True)
class JoinGroup:
    """Begin to receive beacons on an interface; repeated now and then, which must be harmless."""

    interface: str
    index: int


@dataclass(frozen=True, slots=True)
class LeaveGroup:
    """The interface is gone, or not ours any more."""

    interface: str
    index: int


@dataclass(frozen=True, slots=True)
class SendBeacon:
    """Multicast ``datagram`` on an interface, from ``source``: that is where neighbours will dial."""

    interface: str
    index: int
    source: IPv6Address
    datagram: bytes


@dataclass(frozen=True, slots=True)
class CallNeighbour:
    """Dial once, with the key pinned; report ``call_established`` perhaps, and ``call_ended`` for certain."""

    neighbour: Neighbour
    priority: int
    password: bytes = field(repr=False)
    cost: int | None = None


Effect: TypeAlias = OpenListener | CloseListener | JoinGroup | LeaveGroup | SendBeacon | CallNeighbour
