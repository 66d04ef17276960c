"""``Router``: the routing core of one node (protocol sections 5 to 8), without sockets or a clock.

Inputs are method calls with ``now``; what is to be done comes out of ``take_effects``. ``tick`` is the heartbeat: once
a second it chooses a parent, sends announcements and bloom filters, repeats look-ups, and judges what has expired.
``react`` does the first three early, when ``reaction_at`` says that something calls for it.

How a tree forms: every node starts as its own root. Each link exchanges SigReq and SigRes, which makes the peer a
possible parent and measures the link. Announcements travel along lines of ancestry; a node that learns of a better
(lower) root through a peer takes that peer as its parent, and so one root is left.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable

from yggpy.address import x_key
from yggpy.keys import PrivateKey
from yggpy.routing.bloom import BloomTable, from_words, to_words
from yggpy.routing.effects import FibChanged, RoutingEffect, SendDirect, SendQueued
from yggpy.routing.greedy import Coords, Fib, FibLink
from yggpy.routing.links import LinkTable, RouterLink
from yggpy.routing.pathfinder import STRANDED_RETRY_DELAYS, Pathfinder
from yggpy.routing.reactions import ROOT_GRACE, STARTING, Reactions
from yggpy.routing.tree import MAX_INFOS, Tree
from yggpy.routing.view import RouterView
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import (
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    Traffic,
    tree_signed_bytes,
)

__all__ = ["Router"]

ANSWER_GRACE = 1.0
"""Seconds for which a node without a candidate waits for answers that its peers owe it, before it becomes a root."""
PARENT_PROBE_INTERVAL = 5.0
"""Seconds after which a parent is sent our filter again. It must react to that, as to any frame, and a link on which
nothing is sent never misses an answer: whoever sends by other links would be lost to others below a parent that hangs,
without noticing, until its next refresh."""
_INFINITE_COST = 2**64 - 1
_MAX_SEQ = 2**64 - 1


class Router(RouterView):
    """Tree, bloom filters and path finding of the node with ``private_key``.

    ``entropy(n)`` gives n random bytes; ``last_traffic(key)`` asks the data plane when traffic for us last came from a
    node (None if never).
    """

    transit = True
    """Whether it passes on what is for others; see :class:`~yggpy.routing.leaf.LeafRouter`."""

    def __init__(
        self,
        private_key: PrivateKey,
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        last_traffic: Callable[[bytes], float | None] = lambda key: None,
        max_infos: int = MAX_INFOS,
    ) -> None:
        self._effects: list[RoutingEffect] = []
        paths = Pathfinder(private_key, self, self._effects.append, last_traffic)
        super().__init__(private_key.public_key, Tree(private_key.public_key, max_infos), LinkTable(), paths)
        self._private_key = private_key
        self._entropy = entropy
        self._blooms = BloomTable(x_key(self.public_key))
        self._sent: dict[bytes, dict[bytes, None]] = {}
        """Per peer key: the keys whose infos that peer is known to have (a dict, for the order)."""
        self._requests: dict[bytes, SigReq] = {}
        self._responses: dict[bytes, SigRes] = {}
        self._refresh = False
        self._do_root1 = False
        self._do_root2 = True
        self._lost_at: float | None = None
        """Since when we have been without a candidate (``_do_root1``)."""
        self._reactions = Reactions()
        self._started_at = 0.0
        self._search_at = float("inf")
        """When to repeat the look-ups for what the last lost link was needed for, without waiting for the tick."""
        self._probed, self._probe_at = self.public_key, 0.0
        """The parent that is to be probed, and when."""
        self.refused: Counter[str] = Counter(traffic=0, path_lookup=0, path_notify=0, path_broken=0)
        """What was to be passed on and was not, since this node is no transit."""
        self._fib = Fib((), ())
        self._fib_stale = True
        self._fib_keys: frozenset[bytes] = frozenset()
        """The keys whose infos the Fib was made of, and those that were missing."""

    # -- life and time -----------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """Become the root of a tree of one."""
        self._started_at = now
        self._maintain(now)

    def tick(self, now: float) -> None:
        """Do the maintenance of section 5.2; call once a second."""
        for key in self._tree.expire(now):
            self._info_gone(key)
        if now >= self._tree.refresh_at:
            self._refresh = True
        self._maintain(now)
        self._probe_parent(now)
        self._paths.tick(now)

    @property
    def reaction_at(self) -> float | None:
        """When ``react`` is to be called; None: not before the next tick. Look again after each input."""
        return self._reactions.at

    def react(self, now: float) -> None:
        """Do early what the next tick would do, if it is time for that (section 5.2)."""
        if self._reactions.take(now):
            self._maintain(now, early=True)
            if now >= self._search_at:
                self._search_at = float("inf")
                self._paths.repeat(now)
            elif self._search_at != float("inf"):
                self._reactions.plan(self._search_at)

    def _maintain(self, now: float, *, early: bool = False) -> None:
        self._do_root2 = self._do_root2 or (self._do_root1 and self._grace_is_over(now))
        self._choose_parent(now)
        if not self._do_root1:
            self._lost_at = None
        else:
            if self._lost_at is None:
                self._lost_at = now
            for grace in (ROOT_GRACE, ANSWER_GRACE):
                if now < self._lost_at + grace:
                    self._reactions.plan(self._lost_at + grace)
                    break
        self._send_announces()
        if not early or now >= self._started_at + STARTING:
            self._send_blooms(now, early=early)

    def _grace_is_over(self, now: float) -> bool:
        """Tell whether a node without a candidate need not wait any longer before it becomes a root."""
        if self._lost_at is None or now >= self._lost_at + ANSWER_GRACE:
            return True
        if now < self._lost_at + ROOT_GRACE:
            return False
        return all(link.responded or now >= link.requested_at + ANSWER_GRACE for link in self._links.all())

    def _probe_parent(self, now: float) -> None:
        parent = self.parent
        if parent == self._probed and now < self._probe_at:
            return
        if parent == self._probed and parent in self._links:
            self._send_filter(parent, self._blooms.sent(parent))
        self._probed, self._probe_at = parent, now + PARENT_PROBE_INTERVAL

    def take_effects(self) -> list[RoutingEffect]:
        """Return what is to be done since the last call, in order."""
        if self._fib_stale:
            self._refresh_fib()
        effects = self._effects[:]
        self._effects.clear()
        return effects

    # -- links -------------------------------------------------------------------------------------------

    def add_link(self, link_id: int, key: bytes, priority: int, now: float, cost: int | None = None) -> None:
        """A link to ``key`` is up (section 5.6). ``cost``: what it is taken to cost, instead of what is measured."""
        claims: dict[bytes, int] = {}
        if key not in self._links:
            self._sent[key] = {}
            self._blooms.add(key)
            claims = self._tree.ports_under(self.public_key)
            self._reactions.ask(key, now)
        link = self._links.add(link_id, key, priority, claims, cost)
        self._fib_stale = True
        for known in self._sent[key]:
            info = self._tree.get(known)
            if info is not None:
                self._direct(link, FrameType.ANNOUNCE, info.encode())
        if key not in self._requests:
            self._requests[key] = self._new_request()
        self._send_request(link, now)
        self._direct(link, FrameType.BLOOM_FILTER, to_words(self._blooms.sent(key)).encode())

    def remove_link(self, link_id: int, now: float) -> None:
        """A link is down (section 5.6). Unknown links are ignored."""
        link = self._links.remove(link_id)
        if link is None:
            return
        key = link.key
        self._fib_stale = True
        if key in self._links:
            # What the peer holds as our filter may have travelled over the lost link only.
            self._send_filter(key, self._blooms.sent(key))
            return
        del self._sent[key]
        self._requests.pop(key, None)
        self._responses.pop(key, None)
        self._blooms.remove(key)
        if key == self.parent:
            self._reactions.ask(key, now)
        root, place = self._tree.root_and_coords(key)
        # Without a parent we cannot say where an answer should go; the next one's filter will remind us. A leaf can: to
        # each peer it names the place below that one.
        at_once = self.parent == self.public_key or self.parent in self._links or not self.transit
        if root == self.root and self._paths.peer_lost(place, now, at_once=at_once):
            self._search_at = now + STRANDED_RETRY_DELAYS[0]
            self._reactions.plan(self._search_at)

    # -- frames ------------------------------------------------------------------------------------------

    def handle_frame(self, link_id: int, frame_type: int, payload: bytes, now: float) -> None:
        """Handle a frame of type SigReq to PathBroken. Raises ``DecodeError`` when the link must be closed."""
        link = self._links.get(link_id)
        if link is None:
            return
        if frame_type == FrameType.PATH_LOOKUP:
            lookup = PathLookup.decode(payload)
            if self._blooms.is_on_tree(link.key):
                self._paths.handle_lookup(lookup, link.key, now)
                if not self.transit and x_key(lookup.dest) != x_key(self.public_key):
                    self.refused["path_lookup"] += 1
        elif frame_type == FrameType.PATH_NOTIFY:
            notify = PathNotify.decode(payload)
            if self._may_take("path_notify", notify.dest):
                self._paths.handle_notify(notify, now, for_others=self.transit)
        elif frame_type == FrameType.PATH_BROKEN:
            broken = PathBroken.decode(payload)
            if self._may_take("path_broken", broken.source):
                self._paths.handle_broken(broken, now, for_others=self.transit)
        elif frame_type == FrameType.ANNOUNCE:
            self._handle_announce(link, Announce.decode(payload), now)
        elif frame_type == FrameType.BLOOM_FILTER:
            before = self._blooms.received(link.key)
            bits = from_words(BloomFilter.decode(payload))
            self._blooms.receive(link.key, bits)
            if bits & ~before:
                self._search_behind(link.key, now)
                if self._blooms.is_on_tree(link.key):
                    self._reactions.ask(link.key, now)
        elif frame_type == FrameType.SIG_REQ:
            self._handle_request(link, SigReq.decode(payload), now)
        elif frame_type == FrameType.SIG_RES:
            self._handle_response(link, SigRes.decode(payload), now)
        else:
            raise DecodeError(f"unrecognised message type {frame_type}")

    def _may_take(self, kind: str, receiver: bytes) -> bool:
        """Tell whether to look at a frame for ``receiver``; count it if not."""
        if self.transit or receiver == self.public_key:
            return True
        self.refused[kind] += 1
        return False

    def _handle_request(self, link: RouterLink, request: SigReq, now: float) -> None:
        if not link.answers.allow(now):
            return
        port = self._links.port(link.key)
        signed = tree_signed_bytes(link.key, self.public_key, request.seq, request.nonce, port)
        response = SigRes(request.seq, request.nonce, port, self._private_key.sign(signed))
        self._direct(link, FrameType.SIG_RES, response.encode())

    def _handle_response(self, link: RouterLink, response: SigRes, now: float) -> None:
        if not response.verify(self.public_key, link.key):
            raise DecodeError("bad message: the signature of a SigRes does not verify")
        if not response.port:
            # Nodes count ports from 1; an announcement with 0 would make our peers close their links with us.
            raise DecodeError("bad message: a SigRes gives port 0")
        request = self._requests.get(link.key)
        if request is None or (request.seq, request.nonce) != (response.seq, response.nonce):
            return
        known = self._responses.get(link.key)
        if known is None or known.port != response.port:
            self._responses[link.key] = response
        own = self._tree.get(self.public_key)
        if own is not None and own.parent == link.key and own.port != response.port:
            # We were away for less than a tick, and our port may be another node's by now. A Go node lives with that
            # until its next refresh; we say at once where we are.
            self._refresh = True
            self._reactions.ask(link.key, now)
        if not link.responded:
            link.measure(now)
            self._fib_stale = True
        if known is None and (self._do_root1 or self._leads_higher(link.key)):
            self._reactions.ask(link.key, now)

    def _leads_higher(self, key: bytes) -> bool:
        """Tell whether a peer leads to a better root than ours."""
        root, _ = self._tree.root_and_dists(key)
        return root is not None and root < self.root

    def _handle_announce(self, link: RouterLink, announce: Announce, now: float) -> None:
        known = self._tree.get(announce.key)
        sent = self._sent[link.key]
        if known == announce:  # its signatures were verified when it first came
            sent[announce.key] = None
            return
        if not announce.verify():
            raise DecodeError(f"bad message: the announcement of {announce.key.hex()} does not verify")
        if self._update(announce, link.key, now):
            if announce.key == self.public_key:
                # An echo from before a restart, newer than what we say now: it must be superseded.
                self._refresh = True
            if known is None or (known.parent, known.port) != (announce.parent, announce.port):
                self._reactions.ask(link.key, now)
        else:
            assert known is not None
            self._direct(link, FrameType.ANNOUNCE, known.encode())
        sent[announce.key] = None

    # -- the tree ----------------------------------------------------------------------------------------

    def _update(self, announce: Announce, introducer: bytes, now: float) -> bool:
        known = self._tree.get(announce.key)
        evicted = self._tree.update(announce, introducer, now)
        if evicted is None:
            return False
        is_refresh = known is not None and (known.parent, known.port) == (announce.parent, announce.port)
        self._info_gone(announce.key, moved=not is_refresh)
        for key in evicted:
            self._info_gone(key)
        return True

    def _info_gone(self, key: bytes, *, moved: bool = True) -> None:
        """The info of ``key`` was replaced or forgotten: no peer has the current one. A mere refresh moves nobody."""
        for sent in self._sent.values():
            sent.pop(key, None)
        if moved and key in self._fib_keys:
            self._fib_stale = True

    def _choose_parent(self, now: float) -> None:
        """Section 5.4. Follows the Go node step by step, since all nodes' choices together make the tree."""
        tree, own_key = self._tree, self.public_key
        own = tree.get(own_key)
        current_parent = None if own is None else own.parent
        best_root, best_parent, best_cost = own_key, own_key, _INFINITE_COST
        if current_parent is not None and current_parent in self._links:
            root, dists = tree.root_and_dists(own_key)
            if root is not None and root < best_root:
                best_root, best_parent = root, current_parent
                best_cost = dists[root] * self._links.cost(current_parent)
        for key in self._responses:
            root, dists = tree.root_and_dists(key)
            if root is None or own_key in dists:
                continue
            cost = dists[root] * self._links.cost(key)
            if root < best_root:
                best_root, best_parent, best_cost = root, key, cost
            elif root != best_root:
                continue
            if (self._refresh and cost * 2 < best_cost) or (best_parent != current_parent and cost < best_cost):
                best_root, best_parent, best_cost = root, key, cost
        if not (self._refresh or self._do_root1 or self._do_root2 or best_parent != current_parent):
            return
        response = self._responses.get(best_parent)
        if best_root != own_key and response is not None and self._adopt(best_parent, response, now):
            self._settled(now)
        elif self._do_root2:
            self._become_root(now)
            self._settled(now)
        elif not self._do_root1:
            self._do_root1 = True

    def _settled(self, now: float) -> None:
        self._refresh = self._do_root1 = self._do_root2 = False
        self._requests.clear()
        self._responses.clear()
        for key in self._links:
            self._requests[key] = self._new_request()
            for link in self._links.of(key):
                self._send_request(link, now)

    def _adopt(self, parent: bytes, response: SigRes, now: float) -> bool:
        signed = tree_signed_bytes(self.public_key, parent, response.seq, response.nonce, response.port)
        announce = Announce(
            self.public_key,
            parent,
            response.seq,
            response.nonce,
            response.port,
            response.psig,
            self._private_key.sign(signed),
        )
        return self._update(announce, self.public_key, now)

    def _become_root(self, now: float) -> None:
        request = self._new_request()
        signed = tree_signed_bytes(self.public_key, self.public_key, request.seq, request.nonce, 0)
        signature = self._private_key.sign(signed)
        announce = Announce(self.public_key, self.public_key, request.seq, request.nonce, 0, signature, signature)
        self._update(announce, self.public_key, now)

    def _new_request(self) -> SigReq:
        own = self._tree.get(self.public_key)
        # The largest seq is only reached by another node with our key; there is nothing better to be asked for.
        seq = 1 if own is None else min(own.seq + 1, _MAX_SEQ)
        return SigReq(seq, int.from_bytes(self._entropy(8), "big"))

    def _send_request(self, link: RouterLink, now: float) -> None:
        link.responded = False
        link.requested_at = now
        self._direct(link, FrameType.SIG_REQ, self._requests[link.key].encode())

    def _send_announces(self) -> None:
        """Tell each peer what it lacks of our line to the root, then of its own (section 5.5)."""
        own_line = self._tree.ancestry(self.public_key)
        for key, sent in self._sent.items():
            missing = dict.fromkeys(known for known in own_line if known not in sent)
            missing.update(dict.fromkeys(known for known in self._tree.ancestry(key) if known not in sent))
            if not missing:
                continue
            sent.update(missing)
            for known in missing:
                info = self._tree.get(known)
                assert info is not None
                packet = info.encode()
                for link in self._links.of(key):
                    self._direct(link, FrameType.ANNOUNCE, packet)

    # -- bloom filters -----------------------------------------------------------------------------------

    def _send_blooms(self, now: float, *, early: bool) -> None:
        for key in self._links:
            was_on_tree = self._blooms.is_on_tree(key)
            on_tree = self._is_tree_link(key)
            self._blooms.set_on_tree(key, on_tree)
            if was_on_tree and not on_tree:
                self._send_filter(key, 0)
            elif on_tree and not was_on_tree:
                self._search_behind(key, now)
        for key, bits in self._blooms.grown() if early else self._blooms.due():
            self._send_filter(key, bits)

    def _is_tree_link(self, key: bytes) -> bool:
        """Tell whether a peer is our parent or our child."""
        info = self._tree.get(key)
        return self._tree.own.parent == key or (info is not None and info.parent == self.public_key)

    def _search_behind(self, key: bytes, now: float) -> None:
        """A peer's filter or place has changed: what is searched for may lie behind it now."""
        if self._blooms.is_on_tree(key):
            self._paths.filter_changed(key, self._blooms.received(key), now)

    def _send_filter(self, key: bytes, bits: int) -> None:
        packet = to_words(bits).encode()
        for link in self._links.of(key):
            self._direct(link, FrameType.BLOOM_FILTER, packet)

    # -- paths -------------------------------------------------------------------------------------------

    def lookup(self, partial_key: bytes, now: float) -> None:
        """Search for the node behind a full or partial key."""
        self._paths.lookup(partial_key, now)

    def path_missing(self, dest: bytes, payload: bytes, now: float) -> None:
        """The data plane has no path for ``dest``: keep ``payload`` and search."""
        self._paths.path_missing(dest, payload, now)

    def traffic_unroutable(self, traffic: Traffic, now: float) -> None:
        """Traffic that is not for us has no next hop (section 8.4)."""
        self._paths.traffic_unroutable(traffic, now)

    def next_hop(self, path: Coords, watermark: int) -> tuple[int | None, int]:
        """Return (link id or None, new watermark) by the current tree (``PathHost``)."""
        return self.fib.next_hop(path, watermark)

    def own_coords(self) -> Coords:
        """Return our coordinates (``PathHost``)."""
        return self._tree.coords(self.public_key)

    def coords_for(self, peer: bytes) -> Coords:
        """Return our coordinates as the answer to a look-up that came from ``peer`` (``PathHost``)."""
        return self.own_coords()

    def send_queued(self, link_id: int, frame_type: int, payload: bytes, source: bytes, dest: bytes) -> None:
        """Send a frame through a link's queue (``PathHost``)."""
        self._effects.append(SendQueued(link_id, frame_type, payload, source, dest))

    def multicast(self, lookup: PathLookup, lookup_key: bytes, from_key: bytes) -> list[bytes]:
        """Send a look-up along the tree where its destination may be; return whom (section 6.5; ``PathHost``)."""
        targets = self._blooms.matching(lookup_key, from_key)
        if targets:
            packet = lookup.encode()
            for key in targets:
                self._send_lookup(key, packet, lookup)
        return targets

    def ask(self, peer: bytes, lookup: PathLookup) -> None:
        """Send a look-up to one peer (``PathHost``)."""
        self._send_lookup(peer, lookup.encode(), lookup)

    def _send_lookup(self, peer: bytes, packet: bytes, lookup: PathLookup) -> None:
        link = self._links.preferred(peer)
        self.send_queued(link.link_id, FrameType.PATH_LOOKUP, packet, lookup.source, lookup.dest)

    # -- the forwarding table ----------------------------------------------------------------------------

    @property
    def fib(self) -> Fib:
        """The current forwarding table."""
        if self._fib_stale:
            self._refresh_fib()
        return self._fib

    def _forwarding_links(self) -> Iterable[RouterLink]:
        return self._links.all()

    def _refresh_fib(self) -> None:
        self._fib_stale = False
        tree = self._tree
        keys = (self.public_key, *self._links)
        coords = {key: tree.coords(key) for key in keys}
        self._fib_keys = tree.basis(keys)
        fib = Fib(
            coords[self.public_key],
            [
                FibLink(link.link_id, link.key, coords[link.key], link.cost, link.priority, link.order)
                for link in self._forwarding_links()
            ],
            transit=self.transit,
        )
        if fib != self._fib:
            self._fib = fib
            self._effects.append(FibChanged())

    def _direct(self, link: RouterLink, frame_type: int, payload: bytes) -> None:
        self._effects.append(SendDirect(link.link_id, frame_type, payload))
