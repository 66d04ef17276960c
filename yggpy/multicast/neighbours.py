"""Whom to dial when a beacon comes: everyone once, and strangers within limits (protocol section 12).

Beacons are not signed and cost nothing to make: with an empty password everybody on the network can send valid ones, as
many as they like, with any key and port and under any link-local address. So each dial is paid for, first from what its
source address may cause, then from what all strangers together may cause. Whoever has proven a key at an address before
is no stranger, at whatever port, and has a budget of its own: it is found again at once while others exhaust theirs.
(Newcomers then find us by our beacons.)

A beacon leads to a dial of the address that it came from and to nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address

from yggpy.multicast.model import Neighbour

__all__ = [
    "KNOWN_BURST",
    "KNOWN_RATE",
    "MAX_CALLS",
    "MAX_CALLS_PER_SOURCE",
    "MAX_DIALLING",
    "MAX_NEIGHBOURS",
    "MAX_SOURCES",
    "RETRY_LIMIT",
    "SOURCE_BURST",
    "SOURCE_RATE",
    "STRANGER_BURST",
    "STRANGER_RATE",
    "NeighbourTable",
]

MAX_NEIGHBOURS = 2048
"""Neighbours that are remembered, and keys that were proven; the one that was dialled longest ago makes room."""
MAX_CALLS = 1024
"""Links that beacons have brought about and that are being dialled or up."""
MAX_CALLS_PER_SOURCE = 64
"""Of those, to one address (nodes on one machine share it)."""
MAX_DIALLING = 32
"""Strangers that are being dialled at a time; and as many who are not."""
STRANGER_BURST, STRANGER_RATE = 64.0, 32.0
"""Dials to strangers: so many at once, then so many a second."""
SOURCE_BURST, SOURCE_RATE = 8.0, 1.0
"""The same for one source address."""
KNOWN_BURST, KNOWN_RATE = 4.0, 1.0
"""The same for one proven key at one address; what goes beyond is a stranger's."""
MAX_SOURCES = 1024
"""Source addresses whose spending is remembered; the one that was heard longest ago makes room."""
RETRY_LIMIT = 8.0
"""Longest wait in seconds after failures, below the 15 s at which neighbours in the end beacon."""
RETRY_SLACK = 0.5
"""After n failures we wait n seconds less this: a neighbour whose n-th beacon comes n seconds later is heard."""
SETTLED = 10.0
"""A link that lasted so many seconds was no failure."""


class _Bucket:
    """A token bucket."""

    __slots__ = ("_at", "_rate", "_size", "_tokens")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self._size = self._tokens = size
        self._rate = rate
        self._at = now

    def has_token(self, now: float) -> bool:
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens >= 1.0

    def take(self) -> None:
        self._tokens -= 1.0


@dataclass(slots=True)
class _Entry:
    dialled_at: float
    failures: int = 0
    active: bool = True
    up_since: float | None = None
    known: bool = False
    """Its last dial was no stranger's."""

    @property
    def dialling(self) -> bool:
        return self.active and self.up_since is None

    @property
    def retry_at(self) -> float:
        return self.dialled_at + max(1.0, min(float(self.failures), RETRY_LIMIT)) - RETRY_SLACK


class NeighbourTable:
    """Known neighbours, and the budget for dialling them."""

    def __init__(self) -> None:
        self._entries: dict[Neighbour, _Entry] = {}  # dialled longest ago first
        self._sources: dict[tuple[str, IPv6Address], _Bucket] = {}  # heard longest ago first
        self._calls_of: dict[tuple[str, IPv6Address], int] = {}
        self._proven: dict[tuple[str, IPv6Address, bytes], _Bucket] = {}  # dialled longest ago first
        self._strangers: _Bucket | None = None
        self._dialling = {False: 0, True: 0}  # by: known
        self._calls = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def calls(self) -> int:
        """Links that are being dialled or up."""
        return self._calls

    @property
    def dialling(self) -> int:
        """Links that are being dialled."""
        return sum(self._dialling.values())

    def admit(self, neighbour: Neighbour, now: float) -> bool:
        """Tell whether to dial ``neighbour`` now, and count that as done: ``ended`` must follow."""
        entry = self._entries.get(neighbour)
        if entry is not None and (entry.active or now < entry.retry_at):
            return False
        source = (neighbour.interface, neighbour.address)
        if self._calls >= MAX_CALLS or self._calls_of.get(source, 0) >= MAX_CALLS_PER_SOURCE:
            return False
        known = self._pay_known(neighbour, now)
        if not known and not self._pay(source, now):
            return False
        if entry is None:
            self._make_room()
            entry = _Entry(dialled_at=now)
        else:
            del self._entries[neighbour]  # to come in again at the end
            entry.dialled_at, entry.active = now, True
        entry.known = known
        self._entries[neighbour] = entry
        self._calls_of[source] = self._calls_of.get(source, 0) + 1
        self._calls += 1
        self._dialling[known] += 1
        return True

    def established(self, neighbour: Neighbour, now: float) -> None:
        """The handshake with a neighbour that was admitted has succeeded. Harmless when repeated, or too late."""
        entry = self._entries.get(neighbour)
        if entry is None or not entry.dialling:
            return
        self._dialling[entry.known] -= 1
        entry.up_since = now
        self._proven.setdefault(_who(neighbour), _Bucket(KNOWN_BURST, KNOWN_RATE, now))
        if len(self._proven) > MAX_NEIGHBOURS:
            del self._proven[next(iter(self._proven))]

    def ended(self, neighbour: Neighbour, now: float) -> None:
        """A dial has failed, or its link has ended. Harmless when repeated."""
        entry = self._entries.get(neighbour)
        if entry is None or not entry.active:
            return
        if entry.dialling:
            self._dialling[entry.known] -= 1
        settled = entry.up_since is not None and now - entry.up_since >= SETTLED
        entry.failures = 0 if settled else entry.failures + 1
        entry.active, entry.up_since = False, None
        self._calls -= 1
        source = (neighbour.interface, neighbour.address)
        self._calls_of[source] -= 1
        if not self._calls_of[source]:
            del self._calls_of[source]

    def _pay_known(self, neighbour: Neighbour, now: float) -> bool:
        """Take a dial from the neighbour's own budget, if it has one that can afford it."""
        bucket = self._proven.pop(_who(neighbour), None)
        if bucket is None:
            return False
        self._proven[_who(neighbour)] = bucket
        if self._dialling[True] >= MAX_DIALLING or not bucket.has_token(now):
            return False
        bucket.take()
        return True

    def _pay(self, source: tuple[str, IPv6Address], now: float) -> bool:
        """Take a stranger's dial from both budgets, if both can afford it."""
        if self._dialling[False] >= MAX_DIALLING:
            return False
        bucket = self._sources.pop(source, None) or _Bucket(SOURCE_BURST, SOURCE_RATE, now)
        self._sources[source] = bucket
        if len(self._sources) > MAX_SOURCES:
            del self._sources[next(iter(self._sources))]
        if self._strangers is None:
            self._strangers = _Bucket(STRANGER_BURST, STRANGER_RATE, now)
        if not bucket.has_token(now) or not self._strangers.has_token(now):
            return False
        bucket.take()
        self._strangers.take()
        return True

    def _make_room(self) -> None:
        """Forget the idle neighbour that was dialled longest ago, when the table is full.

        There always is an idle one: at most ``MAX_CALLS`` are not, which is less than ``MAX_NEIGHBOURS``.
        """
        if len(self._entries) >= MAX_NEIGHBOURS:
            del self._entries[next(found for found, entry in self._entries.items() if not entry.active)]


def _who(neighbour: Neighbour) -> tuple[str, IPv6Address, bytes]:
    """Return what a neighbour keeps when it is started anew: its port is mostly another then."""
    return neighbour.interface, neighbour.address, neighbour.key
