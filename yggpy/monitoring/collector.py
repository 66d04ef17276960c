"""From what a node shows of itself to Prometheus metrics. All is asked for when somebody looks, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from yggpy.datapath.base import PlaneCounters
from yggpy.links.url import without_secrets
from yggpy.monitoring.names import METRICS, Kind
from yggpy.monitoring.peers import MAX_LABELLED, OTHER, PeerLedger, PeerSeries
from yggpy.printable import printable
from yggpy.status import (
    FirewallStatus,
    HealthStatus,
    MulticastStatus,
    NamesStatus,
    PeerStatus,
    SelfStatus,
    TransitStatus,
    TreeStatus,
    TunStatus,
)
from yggpy.version import build_version

__all__ = ["MonitoredNode", "NodeCollector"]

_KINDS = ("configured", "multicast", "incoming")

Values = Iterable[tuple[tuple[str, ...], float]]
"""Label values, and the value that goes with them."""


class MonitoredNode(Protocol):
    """What the metrics ask of a node; ``yggpy.Node`` has it."""

    @property
    def datapath_name(self) -> str: ...
    def status_self(self) -> SelfStatus: ...
    def status_health(self) -> HealthStatus: ...
    def status_peers(self) -> list[PeerStatus]: ...
    def status_place(self) -> TreeStatus: ...
    def status_transit(self) -> TransitStatus: ...
    def status_tun(self) -> TunStatus: ...
    def status_firewall(self) -> FirewallStatus | None: ...
    def status_multicast(self) -> list[MulticastStatus]: ...
    def status_names(self) -> NamesStatus | None: ...
    def status_counters(self) -> PlaneCounters: ...


class NodeCollector(Collector):
    """The metrics of ``node``; ``requests`` counts those to the endpoint itself, by page and status code."""

    def __init__(self, node: MonitoredNode, requests: Mapping[tuple[str, int], int]) -> None:
        self._node = node
        self._requests = requests
        self._ledger = PeerLedger()

    def describe(self) -> list[Family]:
        """Keep the registry from collecting when the collector is registered."""
        return []

    def collect(self) -> Iterator[Family]:
        """Go through all families that have values, in the order of ``METRICS``."""
        values = self._values()
        for metric in METRICS:
            found = values.pop(metric.name, None)
            if found is None:
                continue
            family = (
                CounterMetricFamily(metric.name.removesuffix("_total"), metric.help, labels=metric.labels)
                if metric.kind is Kind.COUNTER
                else GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            )
            for labels, value in found:
                family.add_metric([printable(label) for label in labels], value)
            yield family
        assert not values, f"metrics without an entry in METRICS: {sorted(values)}"

    def _values(self) -> dict[str, list[tuple[tuple[str, ...], float]]]:
        node = self._node
        own, health, peers = node.status_self(), node.status_health(), node.status_peers()
        singles: dict[str, float] = {"ready": health.ready}
        several: dict[str, Values] = {
            "build_info": [((build_version(), node.datapath_name), 1)],
            "node_info": [((own.address, own.key.hex()), 1)],
            "http_requests_total": [((page, str(code)), count) for (page, code), count in self._requests.items()],
        }
        singles |= _plane(node.status_counters()) | _place(node.status_place()) | _tun(node.status_tun())
        several |= _peerings(peers) | _series(self._ledger.update(peers))
        transit = node.status_transit()
        singles |= {"transit_enabled": transit.enabled, "transit_resting_peers": len(transit.resting_peers)}
        several["transit_refused_total"] = [((frame,), count) for frame, count in transit.refused.items()]
        firewall = node.status_firewall()
        singles["firewall_enabled"] = firewall is not None
        if firewall is not None:
            singles |= _firewall(firewall)
            several["firewall_allowed_packets_total"] = _rules(firewall.rules)
        interfaces = node.status_multicast()
        several["multicast_interfaces"] = [
            (("beacon",), sum(interface.beacon for interface in interfaces)),
            (("listen",), sum(interface.listen for interface in interfaces)),
        ]
        names = node.status_names()
        if names is not None:
            singles |= {"dns_names": len(names.hosts), "dns_rejected_names": len(names.rejected)}
            several["dns_questions_total"] = [((outcome,), count) for outcome, count in asdict(names.counters).items()]
        several |= {name: [((), value)] for name, value in singles.items()}
        return {f"yggpy_{name}": list(values) for name, values in several.items()}


def _plane(counted: PlaneCounters) -> dict[str, float]:
    return {
        "link_received_bytes_total": counted.bytes_received,
        "link_sent_bytes_total": counted.bytes_sent,
        "link_dropped_packets_total": counted.dropped_packets,
        "link_queue_bytes": counted.queued_bytes,
        "session_received_bytes_total": counted.session_bytes_received,
        "session_sent_bytes_total": counted.session_bytes_sent,
        "transit_packets_total": counted.transit_packets,
        "transit_bytes_total": counted.transit_bytes,
        "tun_queue_bytes": counted.tun_queued_bytes,
        "tun_queue_packets": counted.tun_queued_packets,
        "tun_dropped_packets_total": counted.tun_dropped_packets,
        "questions_dropped_total": counted.questions_dropped,
    }


def _place(place: TreeStatus) -> dict[str, float]:
    return {
        "tree_depth": place.depth,
        "tree_is_root": place.is_root,
        "tree_nodes": place.nodes,
        "tree_parent_changes_total": place.parent_changes,
        "tree_root_changes_total": place.root_changes,
        "paths": place.paths,
        "sessions": place.sessions,
    }


def _tun(tun: TunStatus) -> dict[str, float]:
    return {"tun_up": tun.enabled, "tun_mtu_bytes": tun.mtu}


def _firewall(firewall: FirewallStatus) -> dict[str, float]:
    return {
        "firewall_established_packets_total": firewall.established,
        "firewall_icmp_error_packets_total": firewall.errors,
        "firewall_fragment_packets_total": firewall.fragments,
        "firewall_denied_packets_total": firewall.denied,
        "firewall_malformed_packets_total": firewall.malformed,
        "firewall_flows": firewall.flows,
        "firewall_flows_limit": firewall.max_flows,
        "firewall_evicted_flows_total": firewall.evicted,
    }


def _rules(rules: list[tuple[str, int]]) -> Values:
    """Sum up rules of one name, and those beyond the limit."""
    sums: dict[tuple[str], float] = {}
    for name, allowed in rules:
        label = (name if (name,) in sums or len(sums) < MAX_LABELLED else OTHER,)
        sums[label] = sums.get(label, 0) + allowed
    return list(sums.items())


def _peerings(peers: list[PeerStatus]) -> dict[str, Values]:
    """Return who is connected, of the configured peers one by one."""
    counts = {(kind, state): 0 for kind in _KINDS for state in ("up", "down")}
    up: dict[tuple[str], float] = {}
    info: dict[tuple[str, str], float] = {}
    for peer in peers:
        counts[peer.kind, "up" if peer.up else "down"] += 1
        if peer.kind != "configured":
            continue
        uri = without_secrets(peer.uri)
        known = (uri,) in up or len(up) < MAX_LABELLED
        label = uri if known else OTHER
        # The same URI from several interfaces is up when one of them is.
        up[label,] = max(up.get((label,), 0), peer.up) if known else up.get((label,), 0) + peer.up
        if known and peer.address is not None:
            info[uri, peer.address] = 1
    return {"links": list(counts.items()), "peer_up": list(up.items()), "peer_info": list(info.items())}


def _series(series: dict[str, PeerSeries]) -> dict[str, Values]:
    def each(value: Callable[[PeerSeries], float | None]) -> Values:
        found = ((name, value(entry)) for name, entry in series.items())
        return [((name,), number) for name, number in found if number is not None]

    return {
        "peer_links": each(lambda entry: entry.links),
        "peer_received_bytes_total": each(lambda entry: entry.bytes_received),
        "peer_sent_bytes_total": each(lambda entry: entry.bytes_sent),
        "peer_dropped_packets_total": each(lambda entry: entry.dropped_packets),
        "peer_queue_bytes": each(lambda entry: entry.queued_bytes),
        "peer_rtt_seconds": each(lambda entry: entry.latency),
        "peer_cost": each(lambda entry: entry.cost),
        "peer_uptime_seconds": each(lambda entry: entry.uptime),
    }
