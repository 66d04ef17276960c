"""The spanning tree as one node sees it: infos, their update rule, ancestry, coordinates (protocol section 5).

An *info* is a node's latest announcement: who its parent is, signed by both. The update rule is the same on every node,
so that two nodes with different infos for one key always agree on which is better.

Infos of others expire; our own is only refreshed. The number of infos is bounded: when the table is full, the peer
that introduced the most nodes loses the one that was not renewed for longest, so that a peer that invents nodes pushes
out its own. Our line to the root is left alone as long as there is anything else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from yggpy.routing.greedy import Coords
from yggpy.wire.packets import Announce

__all__ = ["INFO_TIMEOUT", "MAX_INFOS", "REFRESH_INTERVAL", "Tree", "is_better"]

REFRESH_INTERVAL = 240.0
"""Seconds after which our own info is renewed (``routerRefresh``)."""
INFO_TIMEOUT = 300.0
"""Seconds after which the info of another node is forgotten (``routerTimeout``)."""
MAX_INFOS = 32768
"""Infos kept (at least 2: our own and another)."""


class Tree:
    """All infos known to the node with key ``own_key``."""

    def __init__(self, own_key: bytes, max_infos: int = MAX_INFOS) -> None:
        self._own_key = own_key
        self._max_infos = max_infos
        self._infos: dict[bytes, Announce] = {}
        self._expiries: OrderedDict[bytes, float] = OrderedDict()  # others' infos, oldest update first
        self._introduced: dict[bytes, OrderedDict[bytes, None]] = {}  # others' infos by peer, oldest update first
        self._introducer: dict[bytes, bytes] = {}
        self._coords: dict[bytes, Coords] = {}
        self.refresh_at = float("inf")
        """When our own info is due for renewal."""

    def __len__(self) -> int:
        return len(self._infos)

    def __contains__(self, key: bytes) -> bool:
        return key in self._infos

    def __iter__(self) -> Iterator[bytes]:
        """Go through the keys of all nodes whose info is known."""
        return iter(self._infos)

    def get(self, key: bytes) -> Announce | None:
        """Return the info of ``key``, or None."""
        return self._infos.get(key)

    @property
    def own(self) -> Announce:
        """Our own info. It is there from the router's start on."""
        return self._infos[self._own_key]

    # -- changing ----------------------------------------------------------------------------------------

    def update(self, announce: Announce, introducer: bytes, now: float) -> list[bytes] | None:
        """Take ``announce`` if it is better than what is known (section 5.5); None if it is not.

        Returns the keys whose infos had to make room for it. ``introducer`` is the peer it came from (ourselves for our
        own). Signatures are the caller's business.
        """
        known = self._infos.get(announce.key)
        if known is not None and not is_better(announce, known):
            return None
        if known is None or (known.parent, known.port) != (announce.parent, announce.port):
            self._coords.clear()
        evicted = []
        if known is None and len(self._infos) >= self._max_infos:
            evicted.append(self._make_room())
        self._infos[announce.key] = announce
        if announce.key == self._own_key:
            self.refresh_at = now + REFRESH_INTERVAL
            return evicted
        self._expiries[announce.key] = now + INFO_TIMEOUT
        self._expiries.move_to_end(announce.key)
        introduced = self._introduced.setdefault(self._introducer.setdefault(announce.key, introducer), OrderedDict())
        introduced[announce.key] = None
        introduced.move_to_end(announce.key)
        return evicted

    def replace_own(self, announce: Announce) -> None:
        """Replace our own info without asking the update rule: for a node that tells each peer another one."""
        self._infos[self._own_key] = announce
        self._coords.clear()

    def expire(self, now: float) -> list[bytes]:
        """Forget infos that have not been renewed; return their keys."""
        expired = []
        while self._expiries:
            key, due = next(iter(self._expiries.items()))
            if due > now:
                break
            self._forget(key)
            expired.append(key)
        return expired

    def _make_room(self) -> bytes:
        busiest = max(self._introduced.values(), key=len)
        line = set(self.ancestry(self._own_key))
        victim = next((key for key in busiest if key not in line), next(iter(busiest)))
        self._forget(victim)
        return victim

    def _forget(self, key: bytes) -> None:
        self._coords.clear()
        del self._infos[key]
        del self._expiries[key]
        introducer = self._introducer.pop(key)
        introduced = self._introduced[introducer]
        del introduced[key]
        if not introduced:
            del self._introduced[introducer]

    # -- reading -----------------------------------------------------------------------------------------

    def ancestry(self, key: bytes) -> list[bytes]:
        """Return the chain of known infos from the root side down to ``key``; it stops at a repeat or a gap."""
        chain: dict[bytes, None] = {}
        here = key
        while here not in chain:
            info = self._infos.get(here)
            if info is None:
                break
            chain[here] = None
            here = info.parent
        return list(chain)[::-1]

    def basis(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """Return all nodes on whose infos, known or missing, the coordinates of ``keys`` depend."""
        seen: set[bytes] = set()
        for key in keys:
            here = key
            while here not in seen:
                seen.add(here)
                info = self._infos.get(here)
                if info is None:
                    break
                here = info.parent
        return frozenset(seen)

    def ports_under(self, parent: bytes) -> dict[bytes, int]:
        """Return the ports that the children of ``parent`` announce, by their keys."""
        return {key: info.port for key, info in self._infos.items() if info.parent == parent != key}

    def root_and_dists(self, key: bytes) -> tuple[bytes | None, dict[bytes, int]]:
        """Return the root that ``key`` leads to (None if its info is unknown) and the distance of each ancestor."""
        dists: dict[bytes, int] = {}
        root: bytes | None = None
        here = key
        while here not in dists:
            info = self._infos.get(here)
            if info is None:
                break
            root = here
            dists[here] = len(dists)
            here = info.parent
        return root, dists

    def root_and_coords(self, key: bytes) -> tuple[bytes, Coords]:
        """Return the root of ``key`` and its coordinates; ``(key, ())`` when its ancestry has a gap or a loop."""
        ports: list[int] = []
        visited: set[bytes] = set()
        here = key
        while True:
            info = self._infos.get(here)
            if info is None or here in visited:
                return key, ()
            if info.parent == here:
                return here, tuple(reversed(ports))
            visited.add(here)
            ports.append(info.port)
            here = info.parent

    def coords(self, key: bytes) -> Coords:
        """Return the coordinates of ``key`` (section 8.1), remembered until an info changes."""
        coords = self._coords.get(key)
        if coords is None:
            coords = self._coords[key] = self.root_and_coords(key)[1]
        return coords


def is_better(announce: Announce, known: Announce) -> bool:
    """The update rule. It MUST be the same on all nodes, or they announce to each other for ever."""
    if announce.seq != known.seq:
        return announce.seq > known.seq
    if announce.parent != known.parent:
        return announce.parent < known.parent
    return announce.nonce < known.nonce
