"""Which peers get series of their own, and what is summed up for the rest.

Each label value is a time series in somebody's database, so that there must not be thousands of them, nor a new one
each time that a peer comes back. Series are by node, not by link: an incoming link has another port each time. The
nodes with a configured peering come first, then those whose link is oldest; the others are ``other`` together.

A link's counters end with it, and a node may move to ``other`` and back. So that counters never fall, what has been
added to a link's counters since the last look is added here to the series that its node has now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yggpy.status import PeerStatus

__all__ = ["MAX_LABELLED", "OTHER", "PeerLedger", "PeerSeries"]

MAX_LABELLED = 64
"""Peers with series of their own."""
OTHER = "other"


@dataclass(slots=True)
class PeerSeries:
    """The values of one node, or of all others."""

    links: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    dropped_packets: int = 0
    queued_bytes: int = 0
    latency: float | None = None
    """Seconds, of the quickest link; None: not known, and for ``other``."""
    cost: int | None = None
    uptime: float | None = None


@dataclass(slots=True)
class _Seen:
    bytes_received: int = 0
    bytes_sent: int = 0
    dropped_packets: int = 0


class PeerLedger:
    """Remembers from one look to the next what was counted. Bounded by the links that are up."""

    def __init__(self, limit: int = MAX_LABELLED) -> None:
        self._limit = limit
        self._links: dict[int, _Seen] = {}
        self._sums: dict[str, _Seen] = {}

    def update(self, peers: Iterable[PeerStatus]) -> dict[str, PeerSeries]:
        """Return the series by address, and ``OTHER`` if there ever were others."""
        up = [peer for peer in peers if peer.up and peer.address is not None and peer.link_id is not None]
        named = _first_nodes(up, self._limit)
        series: dict[str, PeerSeries] = {name: PeerSeries() for name in named}
        links: dict[int, _Seen] = {}
        sums = {name: total for name, total in self._sums.items() if name in series or name == OTHER}
        for peer in up:
            assert peer.address is not None and peer.link_id is not None
            name = peer.address if peer.address in series else OTHER
            shown = series.setdefault(name, PeerSeries())
            _add_state(shown, peer, alone=name != OTHER)
            total = sums.setdefault(name, _Seen())
            before = self._links.get(peer.link_id, _Seen())
            # The link's counters cannot fall, but a closed data plane shows zeros.
            total.bytes_received += max(0, peer.bytes_received - before.bytes_received)
            total.bytes_sent += max(0, peer.bytes_sent - before.bytes_sent)
            total.dropped_packets += max(0, peer.dropped_packets - before.dropped_packets)
            links[peer.link_id] = _Seen(peer.bytes_received, peer.bytes_sent, peer.dropped_packets)
        self._links, self._sums = links, sums
        for name, total in sums.items():
            shown = series.setdefault(name, PeerSeries())
            shown.bytes_received, shown.bytes_sent = total.bytes_received, total.bytes_sent
            shown.dropped_packets = total.dropped_packets
        return series


def _first_nodes(up: list[PeerStatus], limit: int) -> list[str]:
    ranked = sorted(up, key=lambda peer: (peer.kind != "configured", -peer.uptime, peer.address or ""))
    return list(dict.fromkeys(peer.address for peer in ranked if peer.address is not None))[:limit]


def _add_state(series: PeerSeries, peer: PeerStatus, *, alone: bool) -> None:
    series.links += 1
    series.queued_bytes += peer.queued_bytes
    if not alone:
        return
    series.cost = peer.cost if series.cost is None else min(series.cost, peer.cost)
    series.uptime = peer.uptime if series.uptime is None else max(series.uptime, peer.uptime)
    if peer.latency > 0:
        series.latency = peer.latency if series.latency is None else min(series.latency, peer.latency)
