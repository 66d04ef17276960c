"""Every metric of a node: name, kind, labels and meaning. docs/metrics.md shows the same table, and a test compares.

Names follow Prometheus' conventions: base units, ``_total`` for what only grows. ``peer`` is a node's address, ``uri``
a configured peer without its query and without secrets; of both there are ``MAX_LABELLED`` at most, and ``other``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["METRICS", "Kind", "Metric"]


class Kind(Enum):
    """What may become of a metric's value."""

    COUNTER = "counter"
    """It only grows, but for a restart."""
    GAUGE = "gauge"
    """It is what it is now."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One family."""

    name: str
    """As it stands in an expression: with ``_total`` if it is a counter."""
    kind: Kind
    labels: tuple[str, ...]
    help: str
    """One line."""


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"yggpy_{name}_total", Kind.COUNTER, labels, help)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"yggpy_{name}", Kind.GAUGE, labels, help)


METRICS = (
    _gauge("build_info", "Always 1; version of yggpy and which data plane runs", "version", "datapath"),
    _gauge("node_info", "Always 1; address and public key of this node", "address", "key"),
    _gauge("ready", "1 if the node is ready to be used, as /readyz says, else 0"),
    # links
    _gauge("links", "Links, by who wants them (configured, multicast, incoming) and state (up, down)", "kind", "state"),
    _counter("link_received_bytes", "Bytes received by all links after their handshakes, inside TLS"),
    _counter("link_sent_bytes", "Bytes sent by all links after their handshakes, inside TLS"),
    _counter("link_dropped_packets", "Packets that the queues of links dropped since the other side took too little"),
    _gauge("link_queue_bytes", "Bytes waiting in the queues of all links"),
    # peers
    _gauge("peer_up", "1 if the configured peer is connected, else 0; for other, how many are", "uri"),
    _gauge("peer_info", "Always 1; which node a configured peer that is up turned out to be", "uri", "peer"),
    _gauge("peer_links", "Links that are up with this node", "peer"),
    _counter("peer_received_bytes", "Bytes received from this node, handshakes included", "peer"),
    _counter("peer_sent_bytes", "Bytes sent to this node, handshakes included", "peer"),
    _counter("peer_dropped_packets", "Packets that the queues of the links with this node dropped", "peer"),
    _gauge("peer_queue_bytes", "Bytes waiting in the queues of the links with this node", "peer"),
    _gauge("peer_rtt_seconds", "Last round trip of the tree's protocol, of the quickest link with this node", "peer"),
    _gauge("peer_cost", "Cost in routing of the cheapest link with this node", "peer"),
    _gauge("peer_uptime_seconds", "Age of the oldest link with this node", "peer"),
    # the tree, paths and sessions
    _gauge("tree_depth", "Nodes between this node and the root of the tree, the root included; 0: it is the root"),
    _gauge("tree_is_root", "1 if this node is the root of its tree, else 0"),
    _gauge("tree_nodes", "Nodes whose place in the tree is known, this one included"),
    _counter("tree_parent_changes", "How often this node took another parent"),
    _counter("tree_root_changes", "How often this node came to be in a tree with another root"),
    _gauge("paths", "Nodes to which a path is known"),
    _gauge("sessions", "Encrypted sessions with other nodes"),
    _counter("session_received_bytes", "Bytes of the messages that all sessions received"),
    _counter("session_sent_bytes", "Bytes of the messages that all sessions sent"),
    # transit
    _gauge("transit_enabled", "1 if this node passes on what is for others, else 0"),
    _counter("transit_packets", "Packets passed on for others"),
    _counter("transit_bytes", "Bytes of the packets passed on for others"),
    _counter("transit_refused", "What was to be passed on and was not, since Transit is false", "frame"),
    _gauge("transit_resting_peers", "Peers whose links are up and not used, since Transit is false"),
    # the TUN and the engine
    _gauge("tun_up", "1 if the node has its TUN device, else 0"),
    _gauge("tun_mtu_bytes", "MTU of the TUN device; 0 without one"),
    _gauge("tun_queue_bytes", "Bytes read from the TUN that wait for a link to take them"),
    _gauge("tun_queue_packets", "Packets read from the TUN that wait for a link to take them"),
    _counter("tun_dropped_packets", "Packets read from the TUN and dropped since no link took them in time"),
    _counter("questions_dropped", "Packets dropped because too many asked for paths, sessions or keys at once"),
    # the packet filter
    _gauge("firewall_enabled", "1 with a packet filter, else 0; without one, the next ones are left out"),
    _counter("firewall_allowed_packets", "Packets that a rule let in, since the rules were set", "rule"),
    _counter("firewall_established_packets", "Packets let in since they answer this machine"),
    _counter("firewall_icmp_error_packets", "ICMPv6 errors let in since they are about a known flow"),
    _counter("firewall_fragment_packets", "Fragments let in behind the one that was allowed"),
    _counter("firewall_denied_packets", "Packets denied, the malformed ones included"),
    _counter("firewall_malformed_packets", "Packets denied because they cannot be read"),
    _gauge("firewall_flows", "Flows that the packet filter knows"),
    _gauge("firewall_flows_limit", "Flows that it may know at most"),
    _counter("firewall_evicted_flows", "Flows that had to make room for others"),
    # discovery
    _gauge("multicast_interfaces", "Interfaces on which neighbours are looked for, by what is done there", "role"),
    # names, with a DNS section
    _gauge("dns_names", "Names that are known, from the configuration and from other nodes"),
    _gauge("dns_rejected_names", "Names that nodes announce and do not get"),
    _counter("dns_questions", "Questions to the DNS responder, by what became of them", "outcome"),
    # the endpoint itself
    _counter("http_requests", "Requests to this endpoint, by page and status code", "page", "code"),
)
"""The families, in the order in which they are shown. Those of the process itself (``process_...``) come from
prometheus-client."""
