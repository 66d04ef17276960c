"""What a question about a name is answered: a zone made of ``Claims``, of public keys and of the mesh's addresses.

Ours are the domain, with ``<name>``, ``<key>.pk`` and nothing else below it, and the reverse zones of 200::/8 and
300::/8. Names that exist in between, such as ``pk`` itself, have no records and are not "no such name" (RFC 8020),
since resolvers that ask label by label would look no further.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from yggpy.address import NODE_PREFIX, SUBNET_PREFIX, SUBNET_SIZE, Address
from yggpy.keys import PublicKey
from yggpy.names.claims import Claims, Host, Source
from yggpy.names.labels import (
    PK,
    REVERSE_ZONES,
    Name,
    begins_an_address,
    key_labels,
    key_of_labels,
    may_become_key,
    parse_name,
    reverse_address,
    text_of,
)

__all__ = ["ANNOUNCED_TTL", "KEY_TTL", "NEGATIVE_TTL", "STATIC_TTL", "Answer", "KeyOf", "Record", "Zone"]

STATIC_TTL = 60
"""Seconds for which an answer from ``Hosts`` may be kept; a reload can change it."""
ANNOUNCED_TTL = 30
"""The same for names that nodes announce, and for names of addresses."""
KEY_TTL = 3600
"""The same for names made of keys: they cannot change."""
NEGATIVE_TTL = 5
"""The same for "no such name": a node may come and announce it."""
_SOA_TIMES = "3600 600 86400"
"""Refresh, retry, expire: for secondary servers, of which there are none."""
_ANY = "ANY"

KeyOf = Callable[[IPv6Address], PublicKey | None]
"""Gives the key of the node that has an address, or the subnet of one, if it is known."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an answer; its owner is the name that was asked for, or the zone's for ``SOA``."""

    kind: str
    ttl: int
    value: str
    """As in a zone file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known about a name of ours."""

    exists: bool
    records: tuple[Record, ...]
    zone: Name
    """The zone that it lies in."""
    soa: Record
    """To go with an answer without records."""


class Zone:
    """Answers questions. It looks at ``claims`` as they are at that time."""

    def __init__(self, domain: Name, claims: Claims, key_of: KeyOf, first_serial: int = 0) -> None:
        """``first_serial``: of the SOA record; grows with each change of names."""
        self.domain = domain
        self._claims = claims
        self._key_of = key_of
        self._first_serial = first_serial
        self._revision = -1
        self._by_address: dict[IPv6Address, Host] = {}
        self._by_subnet: dict[bytes, Host] = {}
        self._between: set[Name] = set()

    def full(self, name: Name) -> str:
        """Return a name within the domain as a text, without a final dot."""
        return text_of((*name, *self.domain))

    def key_name(self, key: PublicKey) -> str:
        """Return the name that a public key has by itself."""
        return self.full((*key_labels(key), PK))

    def resolve(self, name: Name, kind: str) -> Answer | None:
        """Return what is known about ``name`` (labels in lower case); None if it is none of ours.

        ``kind`` is the type of record that was asked for, such as ``AAAA``; ``ANY`` gives all.
        """
        for zone in (self.domain, *REVERSE_ZONES):
            if name[-len(zone) :] == zone:
                break
        else:
            return self._static_address(name, kind)
        found = self._records(name[: -len(zone)], zone)
        soa = self._soa()
        if name == zone:
            found = (soa, Record("NS", STATIC_TTL, self._server()))
        return Answer(found is not None, _of_kind(found or (), kind), zone, soa)

    def may_be_announced(self, name: Name) -> bool:
        """Tell whether a node could announce ``name``, which may be anything."""
        length = len(name) - len(self.domain)
        if length < 1 or name[length:] != self.domain:
            return False
        within = name[:length]
        if within in self._claims.rules.pins:
            return True
        return length == 1 and within != (PK,) and parse_name(within[0]) == within

    def _records(self, within: Name, zone: Name) -> tuple[Record, ...] | None:
        """Return all records of a name within a zone; None if there is no such name."""
        if zone != self.domain:
            return self._reverse((*within, *zone))
        self._refresh()
        hosts = self._claims.hosts.get(within)
        if hosts is not None:
            ttl = STATIC_TTL if hosts[0].source is Source.STATIC else ANNOUNCED_TTL
            return tuple(Record("AAAA", ttl, str(host.address)) for host in hosts)
        if within[-1:] == (PK,):
            key = key_of_labels(within[:-1])
            if key is not None:
                return (Record("AAAA", KEY_TTL, str(Address.for_key(key))),)
            return () if may_become_key(within[:-1]) else None
        return () if within in self._between else None

    def _static_address(self, name: Name, kind: str) -> Answer | None:
        """The name of an address outside of the mesh counts if the operator gave the address a name."""
        address = reverse_address(name)
        if address is None:
            return None
        self._refresh()
        host = self._by_address.get(address)
        if host is None:
            return None
        return Answer(True, _of_kind((self._pointer(host),), kind), name, self._soa())

    def _reverse(self, name: Name) -> tuple[Record, ...] | None:
        address = reverse_address(name)
        if address is None:
            return () if begins_an_address(name) else None
        self._refresh()
        host = self._by_address.get(address) or self._by_subnet.get(_subnet_of(address))
        if host is not None:
            return (self._pointer(host),)
        key = self._key_of(address)
        return None if key is None else (Record("PTR", ANNOUNCED_TTL, f"{self.key_name(key)}."),)

    def _pointer(self, host: Host) -> Record:
        ttl = STATIC_TTL if host.source is Source.STATIC else ANNOUNCED_TTL
        return Record("PTR", ttl, f"{self.full(host.name)}.")

    def _server(self) -> str:
        return f"{self.key_name(self._claims.own_key)}."

    def _soa(self) -> Record:
        serial = (self._first_serial + self._claims.revision) % (1 << 32)
        value = f"{self._server()} hostmaster.{text_of(self.domain)}. {serial} {_SOA_TIMES} {NEGATIVE_TTL}"
        return Record("SOA", NEGATIVE_TTL, value)

    def _refresh(self) -> None:
        """Build the tables that ``hosts`` are looked up in the other way round, if names have changed."""
        if self._revision == self._claims.revision:
            return
        self._revision = self._claims.revision
        self._by_address, self._by_subnet, self._between = {}, {}, set()
        for name, hosts in self._claims.hosts.items():
            self._between.update(name[start:] for start in range(len(name)))
            for host in hosts:
                self._by_address.setdefault(host.address, host)
                if host.key is not None:
                    self._by_subnet.setdefault(Address.for_key(host.key).subnet.packed, host)


def _of_kind(records: tuple[Record, ...], kind: str) -> tuple[Record, ...]:
    return tuple(record for record in records if kind in (record.kind, _ANY))


def _subnet_of(address: IPv6Address) -> bytes:
    """Return the /64 that ``address`` lies in, if it is of the mesh's subnets; else nothing."""
    packed = address.packed
    assert packed[0] in (NODE_PREFIX, SUBNET_PREFIX)
    return packed[:SUBNET_SIZE] if packed[0] == SUBNET_PREFIX else b""
