"""Which node key stands behind an IPv6 address or a /64: the key store of the IPv6 layer (protocol section 11).

An address holds only part of a key, so the full key must be learned before anything can be sealed for it:

    packet for an unknown address --> keep the newest packet, look the partial key up
    path notification, or a packet from a key --> install its address and /64, send what was kept

Entries live two minutes after their last use. The data plane holds the installed table and sees every packet, so it is
asked (``last_used``) when an entry falls due; the heap of due times holds exactly one item for each entry.

Sans-I/O: time comes in as ``now``, effects are collected and taken by the caller.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from yggpy.address import Address, Subnet
from yggpy.keys import PublicKey

__all__ = [
    "BUFFER_TIMEOUT",
    "ENTRY_TIMEOUT",
    "MAX_BUFFERED_BYTES",
    "MAX_BUFFERED_PACKETS",
    "MAX_ENTRIES",
    "InstallAddress",
    "KeyStore",
    "KeyStoreEffect",
    "Lookup",
    "RemoveAddress",
    "SendPacket",
]

ENTRY_TIMEOUT = 120.0
"""Seconds that an entry lives after its last use."""

BUFFER_TIMEOUT = 120.0
"""Seconds that a packet waits for the key of its destination."""

MAX_ENTRIES = 16384
"""Keys installed at once. When full, the entry that was not used for longest makes room."""

MAX_BUFFERED_PACKETS = 1024
"""Destinations for which a packet waits. When full, the packet that has waited longest is dropped."""

MAX_BUFFERED_BYTES = 8 << 20
"""Bytes of all waiting packets. Same policy."""

_IPV6_HEADER_SIZE = 40
_ADDRESS_FIRST_BYTE = 0x02
_SUBNET_FIRST_BYTE = 0x03


@dataclass(frozen=True, slots=True)
class Lookup:
    """Search for the node whose key begins with ``partial_key`` (32 bytes, unknown bits 1)."""

    partial_key: bytes


@dataclass(frozen=True, slots=True)
class InstallAddress:
    """Map ``address`` and ``subnet`` to ``key`` in the data plane."""

    key: PublicKey
    address: Address
    subnet: Subnet


@dataclass(frozen=True, slots=True)
class RemoveAddress:
    """Forget the address and subnet of ``key`` in the data plane."""

    key: PublicKey


@dataclass(frozen=True, slots=True)
class SendPacket:
    """Send an IPv6 packet whose destination has just been installed."""

    packet: bytes


KeyStoreEffect: TypeAlias = Lookup | InstallAddress | RemoveAddress | SendPacket


@dataclass(slots=True)
class _Entry:
    address: Address
    subnet: Subnet
    known_at: float


@dataclass(frozen=True, slots=True)
class _Waiting:
    packet: bytes
    since: float


class KeyStore:
    """The table of known keys and the packets that wait for unknown ones.

    ``last_used(key)`` tells when the data plane last used an installed mapping; None means never.
    """

    def __init__(self, own_key: PublicKey, *, last_used: Callable[[PublicKey], float | None]) -> None:
        self._own_address = Address.for_key(own_key).packed
        self._own_subnet = Subnet.for_key(own_key).packed
        self._last_used = last_used
        self._entries: dict[PublicKey, _Entry] = {}
        self._keys: dict[bytes, PublicKey] = {}  # by subnet, the one that was installed last
        self._due: list[tuple[float, PublicKey]] = []
        # By address (16 bytes) or subnet (8 bytes), the longest waiting first.
        self._waiting: dict[bytes, _Waiting] = {}
        self._waiting_bytes = 0
        self._effects: list[KeyStoreEffect] = []

    def destination_unknown(self, packet: bytes, now: float) -> None:
        """Keep ``packet`` (the newest one for its destination) and ask for the key behind its destination.

        Packets for no node's address are ignored, and so are those for this node, which nobody else could answer.
        """
        if len(packet) < _IPV6_HEADER_SIZE:
            return
        if packet[24] == _ADDRESS_FIRST_BYTE:
            target = bytes(packet[24:40])
            if target == self._own_address:
                return
            partial_key = Address(target).partial_key()
        elif packet[24] == _SUBNET_FIRST_BYTE:
            target = bytes(packet[24:32])
            if target == self._own_subnet:
                return
            partial_key = Subnet(target).partial_key()
        else:
            return
        self._forget_waiting(target)
        self._waiting[target] = _Waiting(bytes(packet), now)
        self._waiting_bytes += len(packet)
        while len(self._waiting) > MAX_BUFFERED_PACKETS or self._waiting_bytes > MAX_BUFFERED_BYTES:
            self._forget_waiting(next(iter(self._waiting)))
        # Asked for every packet: the path finder decides how often a look-up really goes out.
        self._effects.append(Lookup(partial_key))

    def key_known(self, key: PublicKey, now: float) -> None:
        """A path to ``key`` was confirmed or a packet came from it: install it and send what waits for it."""
        entry = self._entries.get(key)
        if entry is None:
            if len(self._entries) >= MAX_ENTRIES:
                self._evict()
            entry = _Entry(Address.for_key(key), Subnet.for_key(key), now)
            self._entries[key] = entry
            self._keys[entry.subnet.packed] = key
            heapq.heappush(self._due, (now + ENTRY_TIMEOUT, key))
            self._effects.append(InstallAddress(key, entry.address, entry.subnet))
        else:
            entry.known_at = now
            # Packets wait for a known key only if another key of the same address replaced it and then expired.
            if entry.address.packed in self._waiting or entry.subnet.packed in self._waiting:
                self._effects.append(InstallAddress(key, entry.address, entry.subnet))
        for target in (entry.address.packed, entry.subnet.packed):
            waiting = self._forget_waiting(target)
            if waiting is not None:
                self._effects.append(SendPacket(waiting.packet))

    def key_of(self, address: bytes) -> PublicKey | None:
        """Return the key of the node that has ``address`` (16 bytes), or whose subnet holds it, if it is known now."""
        subnet = Subnet(bytes((_SUBNET_FIRST_BYTE,)) + address[1:8])
        key = self._keys.get(subnet.packed)
        if key is None or address[0] not in (_ADDRESS_FIRST_BYTE, _SUBNET_FIRST_BYTE):
            return None
        return key if address[0] == _SUBNET_FIRST_BYTE or self._entries[key].address.packed == address else None

    def tick(self, now: float) -> None:
        """Remove entries unused for ``ENTRY_TIMEOUT`` and packets that waited for ``BUFFER_TIMEOUT``."""
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            expires = self._expires(key)
            if expires <= now:
                self._remove(key)
            else:
                heapq.heappush(self._due, (expires, key))
        while self._waiting:
            target, waiting = next(iter(self._waiting.items()))
            if now - waiting.since < BUFFER_TIMEOUT:
                break
            self._forget_waiting(target)

    def take_effects(self) -> list[KeyStoreEffect]:
        """Return what is to be done since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def _expires(self, key: PublicKey) -> float:
        known_at = self._entries[key].known_at
        used_at = self._last_used(key)
        return (known_at if used_at is None else max(known_at, used_at)) + ENTRY_TIMEOUT

    def _evict(self) -> None:
        """Remove the entry that would expire first; due times found to be old are corrected on the way."""
        while True:
            due, key = self._due[0]
            expires = self._expires(key)
            if expires <= due:
                heapq.heappop(self._due)
                self._remove(key)
                return
            heapq.heapreplace(self._due, (expires, key))

    def _remove(self, key: PublicKey) -> None:
        subnet = self._entries.pop(key).subnet.packed
        if self._keys.get(subnet) == key:
            del self._keys[subnet]
        self._effects.append(RemoveAddress(key))

    def _forget_waiting(self, target: bytes) -> _Waiting | None:
        waiting = self._waiting.pop(target, None)
        if waiting is not None:
            self._waiting_bytes -= len(waiting.packet)
        return waiting
