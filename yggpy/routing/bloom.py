"""Bloom filters: which nodes lie behind which tree link (protocol section 6).

A filter is 8192 bits, held as one Python int (bit i of the int is bit i of the filter), so that joining two filters is
one machine-speed operation. :class:`BloomTable` keeps what was received from and sent to each peer key, and decides
what to send next: new bits at once, cleared bits one round later, so that bits travel faster than their absence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache

import mmh3

from yggpy.wire.packets import BLOOM_WORDS, BloomFilter

__all__ = ["BloomTable", "contains", "from_words", "key_bits", "locations", "positions", "to_words"]

BITS = 8192
HASHES = 8
FORCED_RESEND_TICKS = 3600
"""Ticks after which a filter is sent again although it has not changed."""
_BITS_CACHE = 16384
"""Lookup keys whose bit positions are remembered."""

_WORDS = struct.Struct(f"<{BLOOM_WORDS}Q")
_MASK = 2**64 - 1


@lru_cache(maxsize=_BITS_CACHE)
def key_bits(lookup_key: bytes) -> int:
    """Return the filter that contains ``lookup_key`` (see ``address.x_key``) alone."""
    bits = 0
    for position in positions(lookup_key):
        bits |= 1 << position
    return bits


def locations(data: bytes) -> list[int]:
    """Return the 64-bit hashes of ``data`` that the library ``bits-and-blooms`` makes (section 6.2)."""
    h0, h1 = mmh3.hash64(data, 0, True, signed=False)
    h2, h3 = mmh3.hash64(data + b"\x01", 0, True, signed=False)
    h = (h0, h1, h2, h3)
    return [(h[i % 2] + i * h[2 + ((i + i % 2) % 4) // 2]) & _MASK for i in range(HASHES)]


def positions(data: bytes) -> list[int]:
    """Return the bits of a filter that stand for ``data``."""
    return [location % BITS for location in locations(data)]


def contains(bits: int, lookup_key: bytes) -> bool:
    """Tell whether the filter may hold ``lookup_key``; never wrong when it says no."""
    wanted = key_bits(lookup_key)
    return bits & wanted == wanted


def from_words(packet: BloomFilter) -> int:
    """Return the filter in a packet."""
    return int.from_bytes(_WORDS.pack(*packet.words), "little")


def to_words(bits: int) -> BloomFilter:
    """Return the packet that holds a filter."""
    return BloomFilter(_WORDS.unpack(bits.to_bytes(BITS // 8, "little")))


class _Entry:
    __slots__ = ("dirty", "idle_ticks", "on_tree", "received", "sent")

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.idle_ticks = 0
        self.on_tree = False
        self.dirty = False
        """Bits that have become unnecessary were kept in the last filter sent; the next one is made afresh."""


class BloomTable:
    """The filters of one node, by peer key. ``own_key`` is the node's lookup key."""

    def __init__(self, own_lookup_key: bytes, *, joins: bool = True) -> None:
        """``joins``: whether a filter that is sent also holds those received; not in a leaf's."""
        self._own_bits = key_bits(own_lookup_key)
        self._joins = joins
        self._entries: dict[bytes, _Entry] = {}

    def add(self, key: bytes) -> None:
        """A peer key has its first link."""
        self._entries[key] = _Entry()

    def remove(self, key: bytes) -> None:
        """A peer key has lost its last link."""
        self._entries.pop(key, None)

    def is_on_tree(self, key: bytes) -> bool:
        """Tell whether the peer is our parent or our child, as of the last tick."""
        entry = self._entries.get(key)
        return entry is not None and entry.on_tree

    def receive(self, key: bytes, bits: int) -> None:
        """A filter came from a peer."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.received = bits

    def sent(self, key: bytes) -> int:
        """Return the filter last sent to a peer."""
        return self._entries[key].sent

    def received(self, key: bytes) -> int:
        """Return the filter last received from a peer."""
        return self._entries[key].received

    def keeps_stale_bits(self, key: bytes) -> bool:
        """Tell whether the filter last sent to a peer holds bits that it need not have (Go: ``zDirty``)."""
        return self._entries[key].dirty

    def set_on_tree(self, key: bytes, on_tree: bool) -> None:
        """Note whether a peer is parent or child. When it ceases to be it must be sent an empty filter."""
        entry = self._entries[key]
        if entry.on_tree and not on_tree:
            entry.sent = 0
        entry.on_tree = on_tree

    def due(self) -> list[tuple[bytes, int]]:
        """Make this tick's filters; return (peer key, filter) for those that must be sent."""
        messages = []
        for key, entry, fresh in self._fresh():
            is_new = self._replace(entry, fresh)
            entry.idle_ticks += 1
            if is_new or entry.idle_ticks >= FORCED_RESEND_TICKS:
                entry.idle_ticks = 0
                messages.append((key, entry.sent))
        return messages

    def grown(self) -> list[tuple[bytes, int]]:
        """Return (peer key, filter) for those that have new bits, between two ticks. No bit is taken away here."""
        messages = []
        for key, entry, fresh in self._fresh():
            if fresh & ~entry.sent:
                entry.sent |= fresh
                entry.dirty = entry.sent != fresh
                entry.idle_ticks = 0
                messages.append((key, entry.sent))
        return messages

    def _fresh(self) -> Iterator[tuple[bytes, _Entry, int]]:
        """Go through the on-tree peers, with what the filter for each would be if it were made anew."""
        on_tree = [(key, entry) for key, entry in self._entries.items() if entry.on_tree]
        # A peer's filter joins those of all others: what lies before it in the list, and what lies behind.
        behind = [0]
        for _, entry in reversed(on_tree):
            behind.append(behind[-1] | entry.received * self._joins)
        before = self._own_bits
        for (key, entry), after in zip(on_tree, behind[-2::-1], strict=True):
            yield key, entry, before | after
            before |= entry.received * self._joins

    @staticmethod
    def _replace(entry: _Entry, fresh: int) -> bool:
        """Decide on the next filter; True when it differs from the last one."""
        if entry.dirty:
            following, dirty = fresh, False
        else:
            following = fresh | entry.sent
            dirty = following != fresh
        if following == entry.sent:
            return False  # ``dirty`` is left alone, as in Go: clearing bits waits for the next new bit
        entry.sent, entry.dirty = following, dirty
        return True

    def matching(self, lookup_key: bytes, but_not: bytes) -> list[bytes]:
        """Return the on-tree peers behind which ``lookup_key`` may lie, leaving out ``but_not``."""
        return [
            key
            for key, entry in self._entries.items()
            if entry.on_tree and key != but_not and contains(entry.received, lookup_key)
        ]
