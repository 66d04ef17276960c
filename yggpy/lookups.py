"""The nodes that looked for others lately, as far as their path look-ups came by here (``LogLookups``); no clock.

Look-ups are not signed: any peer may make up who asked and from where. So the record is bounded, and the one that was
heard of longest ago goes first.
"""

from __future__ import annotations

from collections import OrderedDict

from yggpy.address import Address
from yggpy.keys import PUBLIC_KEY_SIZE
from yggpy.status import LookupStatus

__all__ = ["LOOKUP_MAX_AGE", "MAX_LOOKUPS", "MAX_LOOKUP_PORTS", "LookupLog"]

MAX_LOOKUPS = 16384
"""Nodes on record. When full, the one heard of longest ago is forgotten."""
MAX_LOOKUP_PORTS = 1 << 18
"""Length of all coordinates on record together. Same policy."""
LOOKUP_MAX_AGE = 24 * 3600.0
"""Seconds after its last look-up for which a node is shown."""


class LookupLog:
    """The last look-up of each node."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[tuple[int, ...], float]] = OrderedDict()
        self._ports = 0

    def record(self, source: bytes, path: tuple[int, ...], now: float) -> None:
        """Node ``source``, whose coordinates are ``path``, looked for another."""
        assert len(source) == PUBLIC_KEY_SIZE
        self._forget(source)
        self._seen[source] = (path, now)
        self._ports += len(path)
        while len(self._seen) > MAX_LOOKUPS or self._ports > MAX_LOOKUP_PORTS:
            self._forget(next(iter(self._seen)))

    def status(self, now: float) -> list[LookupStatus]:
        """Return what is on record, by key."""
        for source, (_, seen) in list(self._seen.items()):
            if now - seen <= LOOKUP_MAX_AGE:
                break  # all others are younger
            self._forget(source)
        return [
            LookupStatus(source, str(Address.for_key(source)), path, int(seen))
            for source, (path, seen) in sorted(self._seen.items())
        ]

    def _forget(self, source: bytes) -> None:
        entry = self._seen.pop(source, None)
        if entry is not None:
            self._ports -= len(entry[0])
