"""The rules of the packet filter: as the configuration has them, and as the filters use them.

A rule says who (public keys, addresses, prefixes; nobody named: everybody), by which protocol and to which ports. It is
*compiled* into entries of one sender and one range each, so that a filter compares numbers and nothing else.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass
from enum import IntEnum

from yggpy.address import NODE_PREFIX, SUBNET_PREFIX, Address
from yggpy.errors import ConfigError
from yggpy.keys import PUBLIC_KEY_SIZE

__all__ = ["ANY_PROTOCOL", "MAX_ENTRIES", "PORT_PROTOCOLS", "Entry", "From", "Rule", "Ruleset", "compile_rules"]

MAX_ENTRIES = 4096
"""Entries of all rules together: a packet that belongs to no flow is compared with each."""

ANY_PROTOCOL = -1
TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 6, 17, 33, 58, 132, 136
PORT_PROTOCOLS = frozenset((TCP, UDP, DCCP, SCTP, UDPLITE))
"""Protocols whose header begins with source and destination port."""
ECHO_REQUEST = 128
_MAX_NUMBER = 0xFFFF
_NAMES = {"tcp": TCP, "udp": UDP, "sctp": SCTP, "icmpv6": ICMPV6}
_KEY = re.compile(rf"[0-9a-fA-F]{{{2 * PUBLIC_KEY_SIZE}}}")
_PORTS = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5}))?")
_PACKED = struct.Struct(">BBBBHHH32s16s")
_MESH = ipaddress.IPv6Network((bytes((NODE_PREFIX,)) + bytes(15), 7))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of the configuration, in its own words. Empty lists: any."""

    name: str = ""
    """For the counters of ``getFirewall``."""
    senders: tuple[str, ...] = ()
    """Public keys in hex, addresses, prefixes."""
    protocols: tuple[str, ...] = ()
    """``tcp``, ``udp``, ``sctp``, ``icmpv6``, ``ping`` (echo requests), ``any``, or a number."""
    ports: tuple[str, ...] = ()
    """Destination ports, such as ``22`` or ``8000-8080``."""


class From(IntEnum):
    """What an entry compares with the sender."""

    ANYONE = 0
    PREFIX = 1
    KEY = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One sender and one range of what a rule allows."""

    number: int
    """Index of the rule."""
    kind: From = From.ANYONE
    key: bytes = bytes(PUBLIC_KEY_SIZE)
    address: bytes = bytes(16)
    """That of the key, or of the prefix."""
    bits: int = 0
    """Length of the prefix."""
    protocol: int = ANY_PROTOCOL
    low: int = 0
    """Ports; for ICMPv6, types."""
    high: int = _MAX_NUMBER

    def matches_address(self, remote: bytes) -> bool:
        """Tell whether ``remote`` (16 bytes) is an address of the sender, when the sender's key is not known."""
        if self.kind is From.ANYONE:
            return True
        if self.kind is From.PREFIX:
            shift = 128 - self.bits
            return int.from_bytes(remote, "big") >> shift == int.from_bytes(self.address, "big") >> shift
        if remote[0] == SUBNET_PREFIX:
            return remote[1:8] == self.address[1:8]
        return remote == self.address


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Compiled rules."""

    names: tuple[str, ...]
    """One for each rule."""
    entries: tuple[Entry, ...]

    def find(self, key: bytes | None, remote: bytes, protocol: int, port: int) -> Entry | None:
        """Return the first entry that lets in a packet of the node ``key`` from the address ``remote``, or None.

        ``port`` is the type for ICMPv6, and 0 where there are none. Without a key the address decides.
        """
        for entry in self.entries:
            if entry.protocol != ANY_PROTOCOL and (entry.protocol != protocol or not entry.low <= port <= entry.high):
                continue
            if entry.kind is From.KEY and key is not None:
                if entry.key == key:
                    return entry
            elif entry.matches_address(remote):
                return entry
        return None

    def pack(self) -> bytes:
        """Return the entries for ``native/src/firewall.c``, 58 bytes each."""
        return b"".join(
            _PACKED.pack(
                entry.kind,
                max(entry.protocol, 0),
                entry.protocol == ANY_PROTOCOL,
                entry.bits,
                entry.low,
                entry.high,
                entry.number,
                entry.key,
                entry.address,
            )
            for entry in self.entries
        )


def compile_rules(rules: tuple[Rule, ...] | list[Rule]) -> Ruleset:
    """Compile what the configuration says. Raises ``ConfigError``, which names the rule and what is wrong with it."""
    names: list[str] = []
    entries: list[Entry] = []
    for number, rule in enumerate(rules):
        place = f"Firewall.Rules[{number}]"
        names.append(rule.name or f"rule {number}")
        senders = [_sender(place, text) for text in rule.senders] or [(From.ANYONE, bytes(32), bytes(16), 0)]
        for protocol, low, high in _services(place, rule):
            entries += (Entry(number, *sender, protocol, low, high) for sender in senders)
        if len(entries) > MAX_ENTRIES:
            raise ConfigError(
                f"{place}: the rules come to more than {MAX_ENTRIES} pairs of a sender and a port range; "
                "use prefixes and ranges"
            )
    return Ruleset(tuple(names), tuple(entries))


def _sender(place: str, text: str) -> tuple[From, bytes, bytes, int]:
    text = text.strip()
    if _KEY.fullmatch(text):
        key = bytes.fromhex(text)
        return From.KEY, key, Address.for_key(key).packed, 0
    try:
        network = ipaddress.IPv6Network(text)
    except ValueError as error:
        reason = "has bits set behind its length" if "host bits" in str(error) else "is neither"
        raise ConfigError(
            f'{place}.From: "{text}" {reason}; give a public key (64 hexadecimal digits), an address, or a prefix such '
            "as 300:1:2:3::/64"
        ) from None
    if not network.subnet_of(_MESH) and not _MESH.subnet_of(network):
        raise ConfigError(f'{place}.From: "{text}" is outside of {_MESH}, so nobody in the mesh has such an address')
    return From.PREFIX, bytes(PUBLIC_KEY_SIZE), network.network_address.packed, network.prefixlen


def _services(place: str, rule: Rule) -> list[tuple[int, int, int]]:
    """Return (protocol, low, high) for all that the rule lets in."""
    services = []
    ports = [_ports(place, text) for text in rule.ports]
    for text in rule.protocols or ("any",):
        word = text.strip().lower()
        if word == "any":
            protocol = ANY_PROTOCOL
        elif word == "ping":
            protocol = ICMPV6
        elif word in _NAMES:
            protocol = _NAMES[word]
        elif word.isdecimal() and word.isascii() and len(word) <= 3 and int(word) <= 255:
            protocol = int(word)
        else:
            raise ConfigError(
                f'{place}.Protocol: "{text}" is unknown; it can be any, ping, {", ".join(_NAMES)}, or a number'
            )
        if ports and protocol not in PORT_PROTOCOLS:
            raise ConfigError(f'{place}.Ports: there are none with Protocol "{text}"; name tcp or udp')
        if word == "ping":
            services.append((protocol, ECHO_REQUEST, ECHO_REQUEST))
        else:
            services += ((protocol, low, high) for low, high in ports or [(0, _MAX_NUMBER)])
    return services


def _ports(place: str, text: str) -> tuple[int, int]:
    found = _PORTS.fullmatch(text.strip())
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not low <= high <= _MAX_NUMBER:
        raise ConfigError(f'{place}.Ports: "{text}" is neither a port nor a range such as 8000-8080')
    return low, high
