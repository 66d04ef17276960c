"""What a node can tell about itself: plain snapshots, taken by ``Node`` and printed by the admin socket and tools.

Names follow the admin protocol (section 13.3); times are seconds unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DnsCounters",
    "FailingPeer",
    "FirewallStatus",
    "HealthStatus",
    "HostStatus",
    "LookupStatus",
    "MulticastStatus",
    "NamesStatus",
    "PathStatus",
    "PeerStatus",
    "RejectedName",
    "SelfStatus",
    "SessionStatus",
    "TransitStatus",
    "TreeEntry",
    "TreeStatus",
    "TunStatus",
]


@dataclass(frozen=True, slots=True)
class SelfStatus:
    """``getSelf``."""

    key: bytes
    address: str
    subnet: str
    routing_entries: int


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One entry of ``getPeers``: a configured peering, up or down, or an incoming link."""

    uri: str
    """The URI without its query."""
    up: bool
    inbound: bool
    key: bytes | None = None
    """None while the link is down."""
    address: str | None = None
    port: int = 0
    """The tree port that this node gave the peer's key."""
    priority: int = 0
    cost: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0
    receive_rate: int = 0
    """Bytes in the last whole second."""
    send_rate: int = 0
    uptime: float = 0.0
    latency: float = 0.0
    """Last SigReq/SigRes round trip; 0 when unknown."""
    last_error: str | None = None
    last_error_age: float = 0.0
    kind: str = "configured"
    """Who wants the link: ``configured`` (or added by hand), ``multicast``, or ``incoming``."""
    link_id: int | None = None
    """What tells this link from all others that the node has had; None while it is down."""
    queued_bytes: int = 0
    dropped_packets: int = 0


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One entry of ``getTree``."""

    key: bytes
    address: str
    parent: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class TreeStatus:
    """This node's place in the tree, and how much it knows of others."""

    depth: int
    """Nodes between this one and the root, the root included; 0: it is the root itself."""
    is_root: bool
    nodes: int
    """Whose place is known, this one included."""
    parent_changes: int
    """Since the start."""
    root_changes: int
    paths: int
    sessions: int


@dataclass(frozen=True, slots=True)
class PathStatus:
    """One entry of ``getPaths``."""

    key: bytes
    address: str
    path: tuple[int, ...]
    sequence: int


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """One entry of ``getSessions``."""

    key: bytes
    address: str
    bytes_received: int
    bytes_sent: int
    uptime: float


@dataclass(frozen=True, slots=True)
class LookupStatus:
    """One entry of ``lookups``: a node that looked for another."""

    key: bytes
    address: str
    path: tuple[int, ...]
    """Its coordinates, as it claims."""
    time: int
    """Unix time of its last look-up, in seconds."""


@dataclass(frozen=True, slots=True)
class TunStatus:
    """``getTUN``."""

    enabled: bool
    name: str = ""
    mtu: int = 0


@dataclass(frozen=True, slots=True)
class FirewallStatus:
    """``getFirewall``: counts of packets, but for the flows."""

    max_flows: int
    flows: int
    evicted: int
    """Flows that had to make room for others."""
    established: int
    errors: int
    fragments: int
    denied: int
    malformed: int
    """Denied because they cannot be read; part of ``denied``."""
    rules: list[tuple[str, int]]
    """Name of each rule, and how many packets it has let in."""


@dataclass(frozen=True, slots=True)
class TransitStatus:
    """``getTransit``, which the Go node does not have."""

    enabled: bool
    """Whether this node passes on what is for others."""
    resting_peers: tuple[bytes, ...]
    """If it does not: peers whose links are up and rest, since they are in another tree, or leaf-only, too."""
    refused: dict[str, int]
    """If it does not: how often it was asked to, by kind of frame. Of a flood of traffic not all is counted."""


@dataclass(frozen=True, slots=True)
class FailingPeer:
    """A configured peer that is not up."""

    uri: str
    """Without its query, and without secrets."""
    error: str
    """Why; empty: no attempt has ended yet."""


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """``getHealth``, which the Go node does not have: see ``yggpy/health.py``."""

    ready: bool
    reason: str
    """One line that says why, ready or not."""
    up: int
    peers: int
    """All peerings, up or down, and the incoming links."""
    configured_up: int
    configured: int
    """Peers of the configuration, and those added by hand."""
    parent: str
    """Its address; empty without one."""
    failing: tuple[FailingPeer, ...]
    """The first few configured peers that are not up."""

    def members(self) -> dict[str, bool | int | str | list[dict[str, str]]]:
        """Return what ``getHealth`` and ``/readyz`` answer."""
        return {
            "ready": self.ready,
            "reason": self.reason,
            "peers": self.peers,
            "up": self.up,
            "configured": self.configured,
            "configured_up": self.configured_up,
            "parent": self.parent,
            "failing": [{"remote": peer.uri, "error": peer.error} for peer in self.failing],
        }


@dataclass(frozen=True, slots=True)
class MulticastStatus:
    """One entry of ``getMulticastInterfaces``: an interface that an entry of ``MulticastInterfaces`` matches."""

    name: str
    address: str
    """``[address%interface]:port`` of its listener, empty when it has none."""
    beacon: bool
    listen: bool
    password: bool
    """Whether beacons must know one."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One entry of ``getHosts``: a name with one of its addresses."""

    name: str
    """With the domain."""
    address: str
    source: str
    """``static``, ``pinned``, ``own`` or ``announced``."""
    key: bytes | None
    """Of the node; None: the configuration gives the address alone."""


@dataclass(frozen=True, slots=True)
class RejectedName:
    """A name that a node announces and does not get."""

    key: bytes
    name: str
    reason: str


@dataclass(slots=True)
class DnsCounters:
    """Messages to the DNS responder, by what became of them."""

    answered: int = 0
    """From the node's own names, "no such name" included."""
    forwarded: int = 0
    failed: int = 0
    """Forwarded, and no resolver has answered."""
    refused: int = 0
    malformed: int = 0
    dropped: int = 0
    """Too many at a time."""
    strangers: int = 0
    """From addresses that get no answer."""


@dataclass(frozen=True, slots=True)
class NamesStatus:
    """``getHosts``, which the Go node does not have."""

    domain: str
    key: bytes
    """The node that ``key_names`` are of: this one, or the one that was asked about."""
    key_names: tuple[str, str]
    """Its names made of the key, in hexadecimal digits and in base32."""
    hosts: tuple[HostStatus, ...]
    rejected: tuple[RejectedName, ...]
    silent: tuple[bytes, ...]
    """Keys whose names would count and that have not answered since the start."""
    listening: tuple[str, ...]
    """Where the DNS responder is reached."""
    counters: DnsCounters
