"""Finding the coordinates of a node by its key (protocol section 7).

A search without an answer is a *rumour*; an answer makes a *path*. Both live 60 s; a path lives on while traffic comes
from its node, which only the data plane sees (``last_traffic``). The data plane also keeps the last payload of each
path and sends it again when the path changes; a rumour keeps its own, the newest one.

Four things are done better than in Go, within the protocol. A look-up that nobody has answered is repeated, at once
when a peer's new bloom filter promises its destination, and now and then anyhow: it may have come before the filters
did, and one-way traffic would otherwise wait until its receiver speaks. Two places in one second are told apart:
answers are dated by the second, and the first may come from where a node was for a moment only. When a link is lost,
what left by it is searched for without waiting to be told that it is stuck. And every table and every answer to a
stranger is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Protocol

from yggpy.address import x_key
from yggpy.keys import PrivateKey
from yggpy.routing.bloom import contains
from yggpy.routing.effects import LookupSeen, PathInstalled, PathNotified, PathRemoved, RoutingEffect
from yggpy.routing.greedy import Coords, distance
from yggpy.routing.limits import PerSecond
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import (
    MAX_WATERMARK,
    PathBroken,
    PathLookup,
    PathNotify,
    Traffic,
    path_info_signed_bytes,
)

__all__ = ["BROKEN_THROTTLE", "MAX_PATHS", "MAX_PATH_PORTS", "MAX_RUMORS", "PathHost", "Pathfinder"]

PATH_TIMEOUT = 60.0
"""Seconds that a path lives after its last confirmation, and a rumour after its last look-up."""
PATH_THROTTLE = 1.0
"""Least seconds between two look-ups for one node."""
BROKEN_THROTTLE = 0.125
"""The same where packets are stuck on the old path, or seem to be. A node that was asked while the tree was still
changing gives an answer that is worth nothing, and its next one of the same second is not taken: so ask again soon (Go
does so for every stuck packet)."""
RETRY_DELAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 16.0)
"""Seconds after which an unanswered look-up is repeated, one after the other."""
STRANDED_RETRY_DELAYS = (0.3, 0.7, 1.0, 2.0, 4.0, 8.0)
"""The same for what a lost link was needed for: most who miss the same peer do so within a few tenths of a second."""
MAX_SEQ_LEAD = 2
"""Seconds by which the seq of our answers may be ahead of the time. Of two answers with one seq the second is not
taken, so who moves twice in a second counts on; a restart forgets that, and must not be too far behind then."""
MAX_PATHS = 16384
MAX_PATH_PORTS = 1 << 20
"""Ports in all paths together: a node may claim coordinates of 130,000 ports."""
MAX_RUMORS = 4096
MAX_RUMOR_BYTES = 8 << 20
"""Payload bytes that wait with rumours. When one of these limits is reached, the oldest entries go."""
MAX_ANSWERS_PER_SECOND = 1000
"""Look-ups for this node that are answered in one second; more are ignored."""
MAX_STRANDED_PATHS = 256
"""Paths that are searched for anew in one second because peers are lost; the newest go first."""
MAX_STRANDED_SCAN = 2048
"""Paths that are looked at when a peer is lost; the newest count."""
STRANDED_DOUBT = 4.0
"""Seconds after the loss of a link in which no answer ends such a search: its sender may not have noticed yet what we
have, or have moved and be about to move again; whoever hangs is missed by others up to three seconds later
(``READ_TIMEOUT``)."""
MAX_BROKEN_PER_SECOND = 1000
"""Packets of others whose senders are told in one second that they are stuck here; more are dropped in silence."""


class PathHost(Protocol):
    """What path finding needs of the router."""

    def next_hop(self, path: Coords, watermark: int) -> tuple[int | None, int]:
        """Return (link id or None, new watermark)."""
        ...

    def own_coords(self) -> Coords:
        """Return this node's coordinates."""
        ...

    def coords_for(self, peer: bytes) -> Coords:
        """Return the coordinates to be given to whoever has asked by way of ``peer``, which may be this node."""
        ...

    def send_queued(self, link_id: int, frame_type: int, payload: bytes, source: bytes, dest: bytes) -> None:
        """Send a frame through a link's queue."""
        ...

    def multicast(self, lookup: PathLookup, lookup_key: bytes, from_key: bytes) -> list[bytes]:
        """Send a look-up to the peers behind which its destination may lie, and return their keys."""
        ...

    def ask(self, peer: bytes, lookup: PathLookup) -> None:
        """Send a look-up to one peer."""
        ...


class _Retry:
    """When an unanswered look-up is to be repeated."""

    __slots__ = ("at", "count", "delays")

    def __init__(self) -> None:
        self.at = float("inf")
        self.count = 0
        self.delays: tuple[float, ...] = RETRY_DELAYS

    def begin(self, now: float, delays: tuple[float, ...] = RETRY_DELAYS) -> None:
        self.delays = delays
        self.at = now + delays[0]
        self.count = 1

    @property
    def is_running(self) -> bool:
        return self.at != float("inf")

    def stop(self) -> None:
        self.at = float("inf")

    def is_due(self, now: float) -> bool:
        """Tell whether to repeat now, and plan the next time."""
        if now < self.at:
            return False
        self.at = now + self.delays[self.count] if self.count < len(self.delays) else float("inf")
        self.count += 1
        return True


class _Path:
    __slots__ = (
        "asked",
        "broken",
        "coords",
        "expires",
        "in_doubt_until",
        "may_repeat_seq",
        "requested_at",
        "retry",
        "seq",
        "tried_at",
    )

    def __init__(self, coords: Coords, seq: int, now: float) -> None:
        self.coords = coords
        self.seq = seq
        self.requested_at = now
        """When somebody was last asked."""
        self.tried_at = float("-inf")
        """When that was last to be done, though there may have been nobody."""
        self.expires = now + PATH_TIMEOUT
        self.broken = False
        self.asked: set[bytes] = set()
        """Peers that the last look-up has gone to."""
        self.may_repeat_seq = False
        """Whether a look-up has gone out since an answer was last taken: for each, one answer may have the old seq."""
        self.in_doubt_until = float("-inf")
        """Until when no answer is believed to be the last word."""
        self.retry = _Retry()


class _Rumor:
    __slots__ = ("answered", "asked", "dest", "expires", "payload", "retry", "sent_at")

    def __init__(self, dest: bytes) -> None:
        self.dest = dest
        """The key last asked for: full or partial."""
        self.payload: bytes | None = None
        self.answered = False
        self.asked: set[bytes] = set()
        """Peers that the look-up has gone to since the search began anew."""
        self.sent_at = float("-inf")
        self.expires = 0.0
        self.retry = _Retry()


class Pathfinder:
    """Paths and rumours of one node. Effects go to ``emit``."""

    def __init__(
        self,
        private_key: PrivateKey,
        host: PathHost,
        emit: Callable[[RoutingEffect], None],
        last_traffic: Callable[[bytes], float | None],
        *,
        max_paths: int = MAX_PATHS,
        max_path_ports: int = MAX_PATH_PORTS,
        max_rumors: int = MAX_RUMORS,
        max_rumor_bytes: int = MAX_RUMOR_BYTES,
    ) -> None:
        self._private_key = private_key
        self._own_key = private_key.public_key
        self._own_lookup_key = x_key(self._own_key)
        self._host = host
        self._emit = emit
        self._last_traffic = last_traffic
        self._max_paths = max_paths
        self._max_path_ports = max_path_ports
        self._max_rumors = max_rumors
        self._max_rumor_bytes = max_rumor_bytes
        self._paths: OrderedDict[bytes, _Path] = OrderedDict()
        self._rumors: OrderedDict[bytes, _Rumor] = OrderedDict()
        self._path_ports = 0
        self._rumor_bytes = 0
        self._seq = 0
        """The seq of our last answer."""
        self._place: Coords | None = None
        """Where we were when we first gave it."""
        self._signed: tuple[int, Coords, bytes] | None = None
        self._answers = PerSecond(MAX_ANSWERS_PER_SECOND)
        self._brokens = PerSecond(MAX_BROKEN_PER_SECOND)
        self._stranded = PerSecond(MAX_STRANDED_PATHS)

    # -- from this node ----------------------------------------------------------------------------------

    def path_missing(self, dest: bytes, payload: bytes, now: float) -> None:
        """Keep ``payload``, the newest only, until coordinates of ``dest`` are found."""
        if dest in self._paths:
            # The data plane has just lost it, or never had it: give it both again.
            self._emit(PathInstalled(dest, self._paths[dest].coords, payload))
            return
        rumor = self._rumor_for(dest)
        self._rumor_bytes += len(payload) - len(rumor.payload or b"")
        rumor.payload = payload
        rumor.dest = dest
        self._search(rumor, dest, now)  # may find the node at once, if it is this one
        while self._rumor_bytes > self._max_rumor_bytes:
            self._forget_oldest_rumor()

    def lookup(self, partial_key: bytes, now: float) -> None:
        """Search for the node behind a full or partial key (``SendLookup``)."""
        self._search(self._rumor_for(partial_key), partial_key, now)

    def _rumor_for(self, dest: bytes) -> _Rumor:
        lookup_key = x_key(dest)
        rumor = self._rumors.get(lookup_key)
        if rumor is None:
            while len(self._rumors) >= self._max_rumors:
                self._forget_oldest_rumor()
            rumor = self._rumors[lookup_key] = _Rumor(dest)
        return rumor

    def _search(self, rumor: _Rumor, dest: bytes, now: float) -> None:
        if now - rumor.sent_at < PATH_THROTTLE:
            return
        rumor.sent_at = now
        rumor.expires = now + PATH_TIMEOUT
        self._rumors.move_to_end(x_key(dest))
        if not rumor.retry.is_running:
            rumor.retry.begin(now)
        rumor.answered = False
        rumor.asked = set(self._send_lookup(dest, now))

    def _send_lookup(self, dest: bytes, now: float) -> list[bytes]:
        """Search for ``dest`` unless that was done just now; return the peers that were asked."""
        path = self._paths.get(dest)
        if path is None:
            return self._handle_lookup(self._make_lookup(dest), self._own_key, now)
        throttle = BROKEN_THROTTLE if path.retry.is_running else PATH_THROTTLE
        if now < max(path.requested_at + throttle, path.tried_at + BROKEN_THROTTLE):
            return []
        path.tried_at = now
        path.asked.clear()
        asked = self._handle_lookup(self._make_lookup(dest), self._own_key, now)
        if asked:
            path.requested_at = now
            path.asked.update(asked)
            path.may_repeat_seq = True
        return asked

    def _make_lookup(self, dest: bytes) -> PathLookup:
        return PathLookup(self._own_key, dest, self._host.own_coords())

    def filter_changed(self, peer: bytes, bits: int, now: float) -> None:
        """An on-tree peer has a new filter: ask it for what is still searched for and now seems to lie behind it."""
        for lookup_key, rumor in self._rumors.items():
            if not rumor.answered and peer not in rumor.asked and contains(bits, lookup_key):
                rumor.sent_at = now
                rumor.asked.add(peer)
                self._ask(peer, rumor.dest)
        for dest, path in self._paths.items():
            if path.retry.is_running and peer not in path.asked and contains(bits, x_key(dest)):
                path.asked.add(peer)
                path.may_repeat_seq = True
                self._ask(peer, dest)

    def _ask(self, peer: bytes, dest: bytes) -> None:
        lookup = self._make_lookup(dest)
        self._emit(LookupSeen(lookup.source, lookup.from_path))
        self._host.ask(peer, lookup)

    def peer_lost(self, place: Coords, now: float, *, at_once: bool) -> bool:
        """The last link to the peer at ``place`` is gone: look for what is below it or nearer to it than to us.

        That is done at once or when a filter promises a destination, and whenever ``repeat`` is called. Who only lost
        the way there may never hear that its packets are stuck: where the next node has not noticed yet that its
        neighbour hangs, they just vanish. Returns whether there is anything to be looked for.
        """
        own = self._host.own_coords()
        stranded = [
            (key, path)
            for key, path in islice(reversed(self._paths.items()), MAX_STRANDED_SCAN)
            if now >= path.in_doubt_until
            and (
                path.coords[: len(place)] == place or distance(path.coords, place) < distance(path.coords, own)
            )
        ]
        for key, path in stranded:
            if not self._stranded.allow(now):
                break
            path.in_doubt_until = now + STRANDED_DOUBT
            path.retry.begin(now, STRANDED_RETRY_DELAYS)
            if at_once:
                self._send_lookup(key, now)
        return bool(stranded)

    # -- from the network --------------------------------------------------------------------------------

    def handle_lookup(self, lookup: PathLookup, from_key: bytes, now: float) -> None:
        """A look-up from an on-tree peer: pass it on, and answer if it is for us."""
        self._handle_lookup(lookup, from_key, now)

    def _handle_lookup(self, lookup: PathLookup, from_key: bytes, now: float) -> list[bytes]:
        self._emit(LookupSeen(lookup.source, lookup.from_path))
        lookup_key = x_key(lookup.dest)
        asked = self._host.multicast(lookup, lookup_key, from_key)
        if lookup_key == self._own_lookup_key and self._answers.allow(now):
            seq, coords, signature = self._sign_coords(self._answer_seq(now), self._host.coords_for(from_key))
            self.handle_notify(
                PathNotify(lookup.from_path, MAX_WATERMARK, self._own_key, lookup.source, seq, coords, signature), now
            )
        return asked

    def _answer_seq(self, now: float) -> int:
        """Return the Unix time, or more if we have moved since an answer of this second."""
        seq, place = int(now), self._host.own_coords()
        if place != self._place:
            seq = max(seq, min(self._seq + 1, seq + MAX_SEQ_LEAD))
            if seq > self._seq:
                self._place = place
        self._seq = max(self._seq, seq)
        return self._seq

    def _sign_coords(self, seq: int, coords: Coords) -> tuple[int, Coords, bytes]:
        """Return our coordinates with a signature, the same one while nothing has changed."""
        if self._signed is None or self._signed[:2] != (seq, coords):
            self._signed = seq, coords, self._private_key.sign(path_info_signed_bytes(seq, coords))
        return self._signed

    def handle_notify(self, notify: PathNotify, now: float, *, for_others: bool = True) -> None:
        """An answer: pass it on if somebody is nearer to its asker, else take it if it is for us.

        ``for_others``: whether it may be passed on at all; here and in ``handle_broken``.
        """
        link_id, watermark = self._host.next_hop(notify.path, notify.watermark) if for_others else (None, 0)
        if link_id is not None:
            forwarded = PathNotify(
                notify.path,
                watermark,
                notify.source,
                notify.dest,
                notify.info_seq,
                notify.info_path,
                notify.info_sig,
            )
            self._host.send_queued(link_id, FrameType.PATH_NOTIFY, forwarded.encode(), notify.source, notify.dest)
        elif notify.dest == self._own_key:
            self._accept_notify(notify, now)

    def _accept_notify(self, notify: PathNotify, now: float) -> None:
        source = notify.source
        path = self._paths.get(source)
        if path is not None:
            self._update_path(path, notify, now)
            return
        rumor = self._rumors.get(x_key(source))
        if rumor is None or not notify.verify():
            return
        rumor.answered = True
        rumor.retry.stop()
        payload: bytes | None = None
        if rumor.payload is not None and rumor.dest == source:
            payload, rumor.payload = rumor.payload, None
            self._rumor_bytes -= len(payload)
        self._paths[source] = _Path(notify.info_path, notify.info_seq, now)
        self._path_ports += len(notify.info_path)
        self._emit(PathInstalled(source, notify.info_path, payload))
        self._emit(PathNotified(source))
        self._enforce_path_limits()

    def _update_path(self, path: _Path, notify: PathNotify, now: float) -> None:
        source = notify.source
        rumor = self._rumors.get(x_key(source))
        if rumor is not None and not rumor.answered:
            # Somebody asked for an address whose path we have had all the time.
            rumor.answered = True
            rumor.retry.stop()
            self._emit(PathNotified(source))
        if notify.info_seq < path.seq or (notify.info_seq == path.seq and not (path.broken and path.may_repeat_seq)):
            return
        if notify.info_path == path.coords:
            if notify.info_seq > path.seq and path.retry.is_running and now >= path.in_doubt_until and notify.verify():
                path.retry.stop()  # there is no better path to be had
            return
        if not notify.verify():
            return
        self._path_ports += len(notify.info_path) - len(path.coords)
        path.coords, path.seq = notify.info_path, notify.info_seq
        path.expires = now + PATH_TIMEOUT
        path.broken = path.may_repeat_seq = False
        if now >= path.in_doubt_until:
            path.retry.stop()
        self._emit(PathInstalled(source, path.coords, None))
        self._emit(PathNotified(source))
        self._enforce_path_limits()

    def _enforce_path_limits(self) -> None:
        while len(self._paths) > self._max_paths or self._path_ports > self._max_path_ports:
            self._remove_path(next(iter(self._paths)))

    def handle_broken(self, broken: PathBroken, now: float, *, for_others: bool = True) -> None:
        """A packet was stuck: pass the message back to its sender, or look for a new path if that is us."""
        link_id, watermark = self._host.next_hop(broken.path, broken.watermark) if for_others else (None, 0)
        if link_id is not None:
            forwarded = PathBroken(broken.path, watermark, broken.source, broken.dest)
            self._host.send_queued(link_id, FrameType.PATH_BROKEN, forwarded.encode(), broken.source, broken.dest)
            return
        path = self._paths.get(broken.dest)
        if broken.source != self._own_key or path is None:
            return
        if not path.broken:
            self._prolong(broken.dest, path)  # from now on traffic does not keep it alive
            path.broken = True
        if not path.retry.is_running:
            path.retry.begin(now)
        self._send_lookup(broken.dest, now)

    def traffic_unroutable(self, traffic: Traffic, now: float) -> None:
        """Traffic ends here, but it is not for us: tell its sender."""
        if traffic.source != self._own_key and not self._brokens.allow(now):
            return
        self.handle_broken(PathBroken(traffic.from_path, MAX_WATERMARK, traffic.source, traffic.dest), now)

    # -- time --------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Repeat look-ups and judge expiries; call about once a second."""
        for key, path in list(self._paths.items()):
            if path.expires <= now:
                self._prolong(key, path)
                if path.expires <= now:
                    self._remove_path(key)
        self.repeat(now)
        for lookup_key, rumor in list(self._rumors.items()):
            if rumor.expires <= now:
                self._forget_rumor(lookup_key)
            elif rumor.retry.is_due(now):
                rumor.sent_at = now
                rumor.asked.update(self._send_lookup(rumor.dest, now))

    def repeat(self, now: float) -> None:
        """Repeat the look-ups for paths that are due; ``tick`` does that, too."""
        for key, path in list(self._paths.items()):
            if path.retry.is_due(now):
                self._send_lookup(key, now)

    def _prolong(self, key: bytes, path: _Path) -> None:
        """Traffic from the node keeps its path, unless the path was reported broken."""
        if not path.broken:
            seen = self._last_traffic(key)
            if seen is not None:
                path.expires = max(path.expires, seen + PATH_TIMEOUT)

    def _remove_path(self, key: bytes) -> None:
        self._path_ports -= len(self._paths.pop(key).coords)
        self._emit(PathRemoved(key))

    def _forget_oldest_rumor(self) -> None:
        self._forget_rumor(next(iter(self._rumors)))

    def _forget_rumor(self, lookup_key: bytes) -> None:
        self._rumor_bytes -= len(self._rumors.pop(lookup_key).payload or b"")

    def entries(self) -> list[tuple[bytes, Coords, int]]:
        """Return (key, coordinates, seq) of every path."""
        return [(key, path.coords, path.seq) for key, path in self._paths.items()]
