"""The links of a router: who is at the other end, which port that key has, and how far away it seems (section 5.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from yggpy.routing.limits import PerSecond

__all__ = ["MAX_LINK_COST", "MAX_SIG_ANSWERS_PER_SECOND", "UNKNOWN_LAG", "LinkTable", "RouterLink"]

UNKNOWN_LAG = 2**32 - 1
"""Lag in nanoseconds of a link that has not answered yet: high, so that new links are not preferred."""
MAX_LINK_COST = 65535
"""Highest cost that may be set for a link: above all that is ever measured, and above that of an unmeasured one."""
MAX_SIG_ANSWERS_PER_SECOND = 64
"""SigReqs of one link that are answered in one second; more are ignored. An honest peer sends one for each change of
its own place in the tree."""
_NO_CLAIMS: Mapping[bytes, int] = MappingProxyType({})


class RouterLink:
    """One link. Times in seconds, the lag in whole nanoseconds (as in Go, so that costs come out the same)."""

    __slots__ = (
        "answers",
        "fixed_cost",
        "key",
        "lag",
        "latency",
        "link_id",
        "order",
        "priority",
        "requested_at",
        "responded",
    )

    def __init__(self, link_id: int, key: bytes, priority: int, order: int, fixed_cost: int | None = None) -> None:
        self.link_id = link_id
        self.key = key
        self.fixed_cost = fixed_cost
        """What the operator says that the link costs; None: what is measured."""
        self.priority = priority
        self.order = order
        self.lag = UNKNOWN_LAG
        self.latency: float | None = None
        """The last round trip in seconds; None before the first."""
        self.requested_at = 0.0
        """When the last SigReq was sent."""
        self.responded = False
        """Whether the outstanding request has been answered on this link."""
        self.answers = PerSecond(MAX_SIG_ANSWERS_PER_SECOND)

    @property
    def cost(self) -> int:
        """What the operator has set, else whole milliseconds of lag, at least 1."""
        if self.fixed_cost is not None:
            return self.fixed_cost
        return max(1, self.lag // 1_000_000)

    def measure(self, now: float) -> None:
        """Take the answer to the outstanding request into the lag."""
        self.responded = True
        self.latency = max(0.0, now - self.requested_at)
        round_trip = int(self.latency * 1e9)
        if self.lag == UNKNOWN_LAG:
            self.lag = 2 * round_trip
        else:
            self.lag = self.lag * 7 // 8 + min(round_trip, 2 * self.lag) // 8


class LinkTable:
    """All links, by id and by key, and the port numbers of the keys."""

    def __init__(self) -> None:
        self._by_id: dict[int, RouterLink] = {}
        self._by_key: dict[bytes, dict[int, RouterLink]] = {}
        self._ports: dict[bytes, int] = {}
        self._next_order = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[bytes]:
        """Go through the keys of all peers."""
        return iter(self._by_key)

    def add(
        self,
        link_id: int,
        key: bytes,
        priority: int,
        claims: Mapping[bytes, int] = _NO_CLAIMS,
        fixed_cost: int | None = None,
    ) -> RouterLink:
        """Add a link; its key gets the lowest free port from 1 unless it has one.

        ``claims`` are the ports that our children announce. One that is back after a short while gets its port again,
        and nobody else gets it as long as it is announced: two nodes would have the same coordinates.
        """
        link = RouterLink(link_id, key, priority, self._next_order, fixed_cost)
        self._next_order += 1
        self._by_id[link_id] = link
        if key not in self._by_key:
            used = set(self._ports.values())
            port = claims.get(key, 0)
            if not port or port in used:
                used.update(claims.values())
                port = next(port for port in range(1, len(used) + 2) if port not in used)
            self._ports[key] = port
            self._by_key[key] = {}
        self._by_key[key][link_id] = link
        return link

    def remove(self, link_id: int) -> RouterLink | None:
        """Remove a link and return it; the last of a key frees the port."""
        link = self._by_id.pop(link_id, None)
        if link is not None:
            siblings = self._by_key[link.key]
            del siblings[link_id]
            if not siblings:
                del self._by_key[link.key]
                del self._ports[link.key]
        return link

    def get(self, link_id: int) -> RouterLink | None:
        """Return a link, or None."""
        return self._by_id.get(link_id)

    def of(self, key: bytes) -> Iterable[RouterLink]:
        """Return the links to ``key``, oldest first; none for an unknown key."""
        return self._by_key.get(key, {}).values()

    def all(self) -> Iterable[RouterLink]:
        """Return every link, oldest first."""
        return self._by_id.values()

    def port(self, key: bytes) -> int:
        """Return the port of a peer, 0 if it has none."""
        return self._ports.get(key, 0)

    def cost(self, key: bytes) -> int:
        """Return the cost of the cheapest link to a peer."""
        return min(link.cost for link in self._by_key[key].values())

    def preferred(self, key: bytes) -> RouterLink:
        """Return a link to a peer with its lowest priority number."""
        return min(self._by_key[key].values(), key=lambda link: link.priority)
