"""``LeafRouter``: a node that has a place in the tree of others and passes nothing on for them (``Transit: false``).

Nothing in the protocol says "do not route through me". What makes a node a bad way to everywhere is its coordinates:
the child of a peer is one step further from every destination than that peer, and greedy routing never goes there,
except for the child itself. So a leaf-only node is a child of *each* of its peers at the same time. It tells every peer
the one announcement that names this very peer as parent, signed by it; peers never pass on the announcement of a node
that is nobody's parent, so the stories do not meet. Nobody can become its child, since it answers no SigReq, and its
bloom filters hold nothing but itself. Each peer finds it by its own link, and it is reached through any of them.

Its peers may belong to trees of their own, if nothing else joins them. The leaf then lives in the tree with the lowest
root, and its links to the others rest: with coordinates of two trees, it could not tell where a path leads.

What comes all the same, in the moments before a peer knows better, is dropped and counted, and the sender of traffic is
told that its path is broken.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from yggpy.address import x_key
from yggpy.routing.bloom import BloomTable
from yggpy.routing.effects import CloseLink
from yggpy.routing.greedy import Coords
from yggpy.routing.links import RouterLink
from yggpy.routing.router import Router
from yggpy.routing.tree import REFRESH_INTERVAL, is_better
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import Announce, PathLookup, SigReq, SigRes, Traffic, tree_signed_bytes

__all__ = ["LeafRouter"]

_MAX_SEQ = 2**64 - 1


class LeafRouter(Router):
    """A router that forwards nothing. Made and used as :class:`~yggpy.routing.router.Router`."""

    transit = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._blooms = BloomTable(x_key(self.public_key), joins=False)
        self._stories: dict[bytes, Announce] = {}
        """What each peer was told of us: that it is our parent."""
        self._alone: Announce | None = None
        """Our info while there is no parent. Nobody is told."""
        self._seq = 0
        """The highest seq of ours that was used, or heard of from before a restart."""

    # -- links -------------------------------------------------------------------------------------------

    def add_link(self, link_id: int, key: bytes, priority: int, now: float, cost: int | None = None) -> None:
        """See ``Router``; a further link hears the story, too."""
        super().add_link(link_id, key, priority, now, cost)
        link, story = self._links.get(link_id), self._stories.get(key)
        if story is not None and link is not None:
            self._direct(link, FrameType.ANNOUNCE, story.encode())

    def remove_link(self, link_id: int, now: float) -> None:
        """See ``Router``; without its last link a peer is no parent, and another one is at once."""
        super().remove_link(link_id, now)
        for key in [key for key in self._stories if key not in self._links]:
            del self._stories[key]
        self._settle_below(self._best_parent(refreshing=False))

    # -- stories -----------------------------------------------------------------------------------------

    def _handle_request(self, link: RouterLink, request: SigReq, now: float) -> None:
        """No answer: who has none cannot choose us as its parent. It will not know our round trip, either."""

    def _handle_response(self, link: RouterLink, response: SigRes, now: float) -> None:
        super()._handle_response(link, response, now)
        found, story = self._responses.get(link.key), self._stories.get(link.key)
        if found is None:
            return
        if story is not None and (story.seq, story.nonce, story.port) == (found.seq, found.nonce, found.port):
            return
        signed = tree_signed_bytes(self.public_key, link.key, found.seq, found.nonce, found.port)
        signature = self._private_key.sign(signed)
        story = Announce(self.public_key, link.key, found.seq, found.nonce, found.port, found.psig, signature)
        self._stories[link.key] = story
        self._seq = max(self._seq, story.seq)
        for each in self._links.of(link.key):
            self._direct(each, FrameType.ANNOUNCE, story.encode())
        self._fib_stale = True
        self._settle_below(self._best_parent(refreshing=False))
        self._reactions.ask(link.key, now)  # a filter for the peer, which others find us by

    def _handle_announce(self, link: RouterLink, announce: Announce, now: float) -> None:
        story = self._stories.get(link.key)
        if announce.key != self.public_key:
            super()._handle_announce(link, announce, now)
            if announce.key == link.key and announce.parent == self.public_key:
                self._send_away(link.key)
        elif announce != story and announce.verify():
            # The peer holds another story, from before a restart or out of an old corner of the tree.
            if story is not None and is_better(story, announce):
                self._direct(link, FrameType.ANNOUNCE, story.encode())
            else:
                self._seq = max(self._seq, announce.seq)
                self._ask(link.key, now)

    def _send_away(self, child: bytes) -> None:
        """Part from a peer that is below us since before we became a leaf, and did not see us go.

        It looks for another parent at its next tick without a link to us, and at no word of ours.
        """
        for link in self._links.of(child):
            self._effects.append(CloseLink(link.link_id, "the peer was below this node, which is no transit any more"))

    def _new_request(self) -> SigReq:
        return SigReq(min(self._seq + 1, _MAX_SEQ), int.from_bytes(self._entropy(8), "big"))

    def _ask(self, key: bytes, now: float) -> None:
        """Let a peer sign a better story."""
        self._responses.pop(key, None)
        self._requests[key] = self._new_request()
        for link in self._links.of(key):
            self._send_request(link, now)

    # -- the place in the tree ---------------------------------------------------------------------------

    def _choose_parent(self, now: float) -> None:
        """Live in the tree with the lowest root, below the peer that is there already or else the cheapest one."""
        if self._alone is None:
            self._become_root(now)
            self._alone = self._tree.own
            self._do_root1 = self._do_root2 = False
        refreshing = self._refresh
        if refreshing:
            self._settled(now)  # new answers, and with them new stories; the old ones stand until then
            self._tree.refresh_at = now + REFRESH_INTERVAL
        self._settle_below(self._best_parent(refreshing))

    def _settle_below(self, parent: bytes | None) -> None:
        info = self._alone if parent is None else self._stories[parent]
        if info is not None and info != self._tree.own:
            self._tree.replace_own(info)
            self._fib_stale = True

    def _best_parent(self, refreshing: bool) -> bytes | None:
        costs: dict[bytes, int] = {}
        best_root: bytes | None = None
        for key in self._stories:
            root, dists = self._tree.root_and_dists(key)
            if root is None or self.public_key in dists or (best_root is not None and root > best_root):
                continue
            if root != best_root:
                best_root = root
                costs.clear()
            costs[key] = dists[root] * self._links.cost(key)
        if not costs:
            return None
        cheapest = min(costs, key=lambda key: costs[key])
        current = self._tree.own.parent
        if current not in costs or (refreshing and costs[cheapest] * 2 < costs[current]):
            return cheapest
        return current

    def _is_at_home(self, key: bytes) -> bool:
        """Tell whether a peer is in the tree that we live in, and takes us for its child."""
        own = self._tree.own
        if own is self._alone or key not in self._stories:
            return False
        return self._tree.root_and_coords(key)[0] == self._tree.root_and_coords(own.parent)[0]

    def resting_peers(self) -> list[bytes]:
        """Return the peers in other trees, and those that have given us no place, as another leaf does."""
        return [key for key in self._links if not self._is_at_home(key)]

    def _is_tree_link(self, key: bytes) -> bool:
        return self._is_at_home(key)

    def _forwarding_links(self) -> list[RouterLink]:
        return [link for link in self._links.all() if self._is_at_home(link.key)]

    def _send_announces(self) -> None:
        """Nobody needs our line to the root, or hears of its own one from us."""

    # -- paths -------------------------------------------------------------------------------------------

    def coords_for(self, peer: bytes) -> Coords:
        """Return our coordinates below ``peer``, where a look-up comes from or goes to."""
        story = self._stories.get(peer)
        return self.own_coords() if story is None else (*self._tree.coords(peer), story.port)

    def multicast(self, lookup: PathLookup, lookup_key: bytes, from_key: bytes) -> list[bytes]:
        """Ask the peers behind which the destination may be, for ourselves; for others nobody."""
        if from_key != self.public_key:
            return []
        targets = self._blooms.matching(lookup_key, from_key)
        for key in targets:
            self.ask(key, lookup)
        return targets

    def ask(self, peer: bytes, lookup: PathLookup) -> None:
        """See ``PathHost``; the answer is to come by this peer."""
        super().ask(peer, replace(lookup, from_path=self.coords_for(peer)))

    def traffic_unroutable(self, traffic: Traffic, now: float) -> None:
        """Traffic for others: count it, and tell its sender, so that it looks for another way."""
        if traffic.source != self.public_key:
            self.refused["traffic"] += 1
        super().traffic_unroutable(traffic, now)
