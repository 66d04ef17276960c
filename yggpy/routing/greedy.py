"""Greedy next hop over tree coordinates (protocol section 8): the forwarding table that both data planes use.

A node's *coordinates* are the ports from the root down to it; the distance between two nodes is the number of tree
edges between their coordinates. A packet goes to the cheapest link whose node is nearer to its destination than we
are, and carries the distance it has come down to as *watermark*, which must fall at every hop: so no packet circles.

A :class:`Fib` is a snapshot. The router makes a new one when anything in it changes and hands it to the data plane.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["FIB_CACHE_LIMIT", "FIB_CACHE_PORTS", "Coords", "Fib", "FibLink", "distance"]

Coords: TypeAlias = tuple[int, ...]

FIB_CACHE_LIMIT = 8192
"""Destinations whose next hop one Fib remembers; when full it forgets them all and starts again."""
FIB_CACHE_PORTS = 64
"""Longest path that is remembered. A frame has room for 130,000 ports: a stranger could fill the memory with them."""


@dataclass(frozen=True, slots=True)
class FibLink:
    """One link as the next hop sees it."""

    link_id: int
    key: bytes
    path: Coords
    """Coordinates of the node at the other end."""
    cost: int
    priority: int
    order: int
    """Rises with each link that came up; the oldest link has the lowest."""


def distance(one: Coords, two: Coords) -> int:
    """Return the number of tree edges between two nodes (section 8.2)."""
    common = 0
    for left, right in zip(one, two, strict=False):
        if left != right:
            break
        common += 1
    return len(one) + len(two) - 2 * common


class Fib:
    """Our own coordinates and the links that packets can leave by. Immutable but for what it remembers."""

    __slots__ = ("_best", "_memo", "links", "self_path", "transit")

    def __init__(self, self_path: Coords, links: Iterable[FibLink], *, transit: bool = True) -> None:
        self.self_path = self_path
        self.transit = transit
        """False: only packets of this node leave by it; what came in by a link is for this node or goes nowhere."""
        self.links = tuple(links)
        # All links of one key are equally far from anywhere, so only the best of them can ever be chosen: lowest
        # priority number, then lowest cost, then oldest.
        best: dict[bytes, FibLink] = {}
        for link in self.links:
            rival = best.get(link.key)
            if rival is None or _rank(link) < _rank(rival):
                best[link.key] = link
        self._best = tuple(best.values())
        self._memo: dict[Coords, tuple[int, int | None]] = {}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Fib):
            return False
        return (self.self_path, self.links, self.transit) == (other.self_path, other.links, other.transit)

    def __hash__(self) -> int:
        return hash((self.self_path, self.links, self.transit))

    @property
    def remembered(self) -> int:
        """Number of paths whose next hop is remembered."""
        return len(self._memo)

    def next_hop(self, path: Coords, watermark: int) -> tuple[int | None, int]:
        """Return (link id or None, new watermark) for a packet to ``path`` (section 8.3).

        None: nobody is nearer than we are, or the packet is not nearer than it already was; in the second case the
        watermark comes back unchanged.
        """
        known = self._memo.get(path)
        if known is None:
            known = self._find(path)
            if len(path) <= FIB_CACHE_PORTS:
                if len(self._memo) >= FIB_CACHE_LIMIT:
                    self._memo.clear()
                self._memo[path] = known
        own, link_id = known
        if own >= watermark:
            return None, watermark
        return link_id, own

    def next_hop_of_others(self, path: Coords, watermark: int) -> tuple[int | None, int]:
        """Return the same for a packet that came in by a link: nowhere, where nothing is passed on."""
        return self.next_hop(path, watermark) if self.transit else (None, watermark)

    def _find(self, path: Coords) -> tuple[int, int | None]:
        own = distance(path, self.self_path)
        chosen: int | None = None
        best: tuple[int, int, int, int] | None = None
        for link in self._best:
            far = distance(path, link.path)
            if far < own:
                rank = (link.cost * far, far, link.cost, link.order)
                if best is None or rank < best:
                    best, chosen = rank, link.link_id
        return own, chosen


def _rank(link: FibLink) -> tuple[int, int, int]:
    return link.priority, link.cost, link.order
