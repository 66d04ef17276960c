"""Who has which name. The rules that keep names from being stolen are here, and nowhere else (docs/names.md).

In this order a name belongs to

1. ``Hosts``: what the operator wrote, always;
2. ``Pins``: the pinned key alone, once it announces the name;
3. this node, for the name in its own NodeInfo;
4. the key of ``TrustedKeys`` that has announced it for longest, as far as this node has seen. It keeps the name until
   it announces another one or none; that it does not answer takes nothing from it.

What any other key announces is not even asked for. No clock: ``now`` is an argument.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv6Address
from types import MappingProxyType

from yggpy.address import Address
from yggpy.keys import PublicKey
from yggpy.names.labels import PK, Name, parse_name, text_of

__all__ = ["Claims", "Host", "NameRules", "Rejection", "Source", "announced_name"]

_MAX_SHOWN = 80
"""Characters of a rejected name that are kept to be shown."""


class Source(Enum):
    """Where a name comes from."""

    STATIC = "static"
    PINNED = "pinned"
    OWN = "own"
    ANNOUNCED = "announced"


@dataclass(frozen=True, slots=True)
class Host:
    """One name with one address."""

    name: Name
    """Within the domain."""
    address: IPv6Address
    source: Source
    key: PublicKey | None = None
    """Of the node; None: the operator gave the address alone."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A name that a node announces and does not get."""

    key: PublicKey
    name: str
    """As it was announced, cut to a bearable length."""
    reason: str


@dataclass(frozen=True, slots=True)
class NameRules:
    """What the operator says of names."""

    hosts: Mapping[Name, tuple[PublicKey | IPv6Address, ...]] = field(default_factory=dict)
    pins: Mapping[Name, PublicKey] = field(default_factory=dict)
    trusted: tuple[PublicKey, ...] = ()

    def keys_to_ask(self, own_key: PublicKey) -> tuple[PublicKey, ...]:
        """Return whose NodeInfo counts, each once, in the operator's order; without this node."""
        return tuple(key for key in dict.fromkeys((*self.pins.values(), *self.trusted)) if key != own_key)


def announced_name(info: bytes) -> str:
    """Return the member ``name`` of a node's NodeInfo, as it was sent; empty: it has none, or is no JSON."""
    try:
        value = json.loads(info)
    except (ValueError, RecursionError):
        return ""
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""


class Claims:
    """The table of names."""

    def __init__(self, own_key: PublicKey, rules: NameRules, own_name: str = "") -> None:
        self.own_key = own_key
        self._rules = rules
        self._own_name = own_name
        self._announced: dict[PublicKey, tuple[str, float]] = {}
        self.revision = 0
        """Grows with every change of ``hosts``."""
        self.hosts: Mapping[Name, tuple[Host, ...]] = MappingProxyType({})
        self.rejections: tuple[Rejection, ...] = ()
        self._settle()

    @property
    def rules(self) -> NameRules:
        """What the operator says now."""
        return self._rules

    def change(self, rules: NameRules, own_name: str) -> None:
        """Go by other rules from now on. Whose word still counts keeps what it has."""
        self._rules, self._own_name = rules, own_name
        asked = set(rules.keys_to_ask(self.own_key))
        self._announced = {key: claim for key, claim in self._announced.items() if key in asked}
        self._settle()

    def announce(self, key: PublicKey, name: str, now: float) -> None:
        """Node ``key`` says that its name is ``name``; empty: that it has none. Ignored if its word does not count."""
        if key == self.own_key or not (key in self._rules.trusted or key in self._rules.pins.values()):
            return
        before = self._announced.get(key)
        if before is not None and before[0] == name:
            return
        if before is not None and before[0].lower() == name.lower():  # case does not count
            now = before[1]
        self._announced[key] = (name, now)
        self._settle()

    def has_heard(self, key: PublicKey) -> bool:
        """Whether it is known how ``key`` calls itself."""
        return key in self._announced

    def _settle(self) -> None:
        """Decide anew who has which name."""
        rules, rejections = self._rules, list[Rejection]()
        hosts: dict[Name, tuple[Host, ...]] = {
            name: tuple(_static_host(name, value) for value in values) for name, values in rules.hosts.items()
        }
        claims = sorted(self._announced.items(), key=lambda item: item[1][1])  # stable: else as they were heard
        wanted = [(self.own_key, self._own_name), *((key, name) for key, (name, _) in claims)]
        for key, text in wanted:
            if not text:
                continue
            name = parse_name(text)
            reason = self._objection(key, text, name, hosts)
            if reason or name is None:
                rejections.append(Rejection(key, text[:_MAX_SHOWN], reason))
            else:
                source = Source.OWN if key == self.own_key else Source.ANNOUNCED
                source = Source.PINNED if name in rules.pins else source
                hosts[name] = (Host(name, _address(key), source, key),)
        if hosts != self.hosts:
            self.hosts = MappingProxyType(hosts)
            self.revision += 1
        self.rejections = tuple(rejections)

    def _objection(self, key: PublicKey, text: str, name: Name | None, taken: Mapping[Name, tuple[Host, ...]]) -> str:
        """Return why ``key`` does not get ``name``; empty: it does."""
        if name is None or text.endswith("."):
            return "no host name: letters, digits and hyphens, at most 63 (RFC 1123)"
        pin = self._rules.pins.get(name)
        if name in self._rules.hosts:
            return "taken by Hosts in the configuration"
        if pin is not None and pin != key:
            return f"pinned to {pin.hex()}"
        if pin is None:
            if len(name) > 1:
                return "a name that a node announces has no dots"
            if name == (PK,):
                return f'"{PK}" is where the names of keys are'
            if key != self.own_key and key not in self._rules.trusted:
                return "the key is pinned to other names only"
        if name in taken:
            owner = taken[name][0].key
            return f"taken by {owner.hex() if owner else text_of(name)}, who announced it first"
        return ""


def _address(key: PublicKey) -> IPv6Address:
    return IPv6Address(Address.for_key(key).packed)


def _static_host(name: Name, value: PublicKey | IPv6Address) -> Host:
    if isinstance(value, IPv6Address):
        return Host(name, value, Source.STATIC)
    return Host(name, _address(value), Source.STATIC, value)
