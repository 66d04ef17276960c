"""The seam between the control plane and the data plane.

The control plane (``routing``, ``sessions``, ``keystore``) *programs* a :class:`Datapath`; the data plane
*upcalls* (:class:`DatapathUpcalls`) what it cannot decide. There are two implementations, ``pure`` and
``native``, and they pass the same tests. Nothing above this file knows which one runs.

What the data plane owns: the TUN descriptor, the byte streams of peered links after their handshake
(framing, keep-alive, read deadline, the packet queue with its drop rule), sealing and opening of session
traffic with keys it was given, the greedy next hop over tables it was given, and counters.
What it never decides: who is a parent, which path leads where, when a key is replaced.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from yggpy.address import Address, Subnet
    from yggpy.firewall import FirewallCounters, Ruleset
    from yggpy.routing.greedy import Fib
    from yggpy.sessions.traffic import RatchetCase, SessionKeys
    from yggpy.wire.packets import Traffic

__all__ = [
    "MAX_KEPT_BYTES",
    "ByteStream",
    "CloseReason",
    "Datapath",
    "DatapathUpcalls",
    "LinkCounters",
    "LinkEnd",
    "PlaneCounters",
    "SessionCounters",
    "StreamClosed",
    "TlsIdentity",
    "TlsParameters",
]

MAX_KEPT_BYTES = 8 << 20
"""Bytes of the last payloads kept for all paths together (see ``set_path``); beyond that, those of the paths that have
kept one for longest are forgotten."""


class StreamClosed(ConnectionError):
    """The other side closed the stream, or it failed, while handshake bytes were awaited."""


class ByteStream(Protocol):
    """An ordered, reliable byte stream to one peer, before it is handed to the data plane as a link.

    The handshake reads and writes it; ``Datapath.attach_link`` then takes it, together with whatever it had
    read ahead, and calls ``start``, after which ``read_exactly`` is over.
    """

    @property
    def local_address(self) -> str:
        """``host:port`` (or path) of this end, as Go prints it."""
        ...

    @property
    def remote_address(self) -> str:
        """``host:port`` (or path) of the other end, as Go prints it."""
        ...

    async def read_exactly(self, count: int) -> bytes:
        """Return exactly ``count`` bytes; raise :class:`StreamClosed` (an ``OSError``) when they cannot come."""
        ...

    def write(self, data: bytes) -> None:
        """Send ``data`` (buffered when the kernel is not ready). Raises nothing; a failure shows in the next read."""
        ...

    @property
    def buffered(self) -> int:
        """Bytes written but not yet taken by the kernel (or whatever carries them)."""
        ...

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        """Begin the link life: read-ahead goes to ``on_data`` first, then all that arrives.

        A memoryview is valid only during the call. ``on_end`` comes once, and never after ``close``;
        ``on_writable`` comes when ``buffered`` has fallen back to 0.
        """
        ...

    def close(self) -> None:
        """Close at once; harmless when already closed."""
        ...


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """The node's certificate and key, both PEM (protocol section 14.5)."""

    certificate_pem: bytes
    private_key_pem: bytes


@dataclass(frozen=True, slots=True)
class TlsParameters:
    """How to run TLS over a connected socket (protocol section 2.6)."""

    identity: TlsIdentity
    server_side: bool
    server_name: str | None = None
    """Sent by a client; None sends no server name."""


class CloseReason(Enum):
    """Why a link ended; decides the log line and whether ``last_error`` is set."""

    LOCAL = "closed locally"
    EOF = "closed by the remote side"
    ERROR = "failed"


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """The end of a link: the reason, and for errors one line that an operator can read."""

    reason: CloseReason
    message: str = ""


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """Bytes of the stream inside TLS since attach (the handshake is counted by ``links``)."""

    bytes_received: int
    bytes_sent: int
    queued_bytes: int = 0
    dropped_packets: int = 0


@dataclass(frozen=True, slots=True)
class SessionCounters:
    """Message bytes of one session, including the type byte (protocol section 9.5)."""

    bytes_received: int
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class PlaneCounters:
    """What a data plane has counted since it was made, ended links and sessions included, and what waits in it now."""

    bytes_received: int
    """Of all links, as in ``LinkCounters``."""
    bytes_sent: int
    dropped_packets: int
    """By the links' queues."""
    queued_bytes: int
    """Waiting in the links' queues."""
    transit_packets: int
    """Passed on for others, or put into a link's queue for that."""
    transit_bytes: int
    session_bytes_received: int
    """Of all sessions, as in ``SessionCounters``."""
    session_bytes_sent: int
    tun_queued_bytes: int
    """Read from the TUN and waiting for a link. The pure plane leaves them in the kernel."""
    tun_queued_packets: int
    tun_dropped_packets: int
    """By that queue."""
    questions_dropped: int
    """Upcalls that found no room; their packets are lost. The pure plane asks at once."""


class DatapathUpcalls(Protocol):
    """What the data plane asks of the control plane. Called on the event loop's thread; must not block."""

    def protocol_frame(self, link_id: int, frame_type: int, payload: bytes, now: float) -> None:
        """A frame of type SigReq..PathBroken arrived. A ``DecodeError`` raised here closes the link with its text."""
        ...

    def link_ended(self, link_id: int, end: LinkEnd) -> None:
        """The link is gone (also after ``close_link``); called exactly once for each attached link."""
        ...

    def session_message(self, source: bytes, payload: bytes) -> None:
        """A session init or ack for this node arrived (``payload`` starts with its type byte)."""
        ...

    def session_mismatch(self, source: bytes) -> None:
        """Traffic from ``source`` fits no installed key (protocol 9.4 case D or a box that does not open)."""
        ...

    def session_unknown(self, source: bytes) -> None:
        """Traffic from ``source``, for which no session keys are installed."""
        ...

    def session_ratchet(self, source: bytes, case: RatchetCase, nonce: int, next_public: bytes) -> None:
        """Traffic opened under case B or C (protocol 9.4); the session layer decides whether to ratchet."""
        ...

    def session_nonce_exhausted(self, dest: bytes) -> None:
        """The send nonce of ``dest``'s session would wrap to 0 (protocol 9.4)."""
        ...

    def session_missing(self, dest: bytes, message: bytes) -> None:
        """A message for ``dest`` cannot be sealed: no keys are installed. ``message`` includes its type byte."""
        ...

    def path_missing(self, dest: bytes, payload: bytes) -> None:
        """A session-layer payload for ``dest`` cannot be sent: no path is installed."""
        ...

    def traffic_unroutable(self, traffic: Traffic) -> None:
        """Traffic that is not for this node and has no next hop (protocol 8.4: PathBroken)."""
        ...

    def destination_unknown(self, packet: bytes) -> None:
        """An IPv6 packet whose destination address or subnet has no key installed."""
        ...

    def source_learned(self, source: bytes) -> None:
        """An IPv6 packet for us came from ``source``, whose address is not installed (protocol section 11)."""
        ...

    def ipv6_received(self, source: bytes, packet: bytes) -> None:
        """A valid IPv6 packet arrived and there is no TUN to write it to."""
        ...

    def message_received(self, source: bytes, message: bytes) -> None:
        """Any other message of a session, with its type byte: ``typeSessionProto``, or a datagram that is no IPv6."""
        ...


class Datapath(Protocol):
    """The packet path. Methods are called on the event loop's thread and return at once, but for ``open_stream``."""

    @property
    def name(self) -> str:
        """Which one this is: ``native`` or ``pure``."""
        ...

    # -- streams and links -------------------------------------------------------------------------------

    async def open_stream(self, sock: socket.socket, tls: TlsParameters | None) -> ByteStream:
        """Take over a connected non-blocking socket; with ``tls`` also run the TLS handshake (no time limit here).

        Raises ``OSError`` (``ssl.SSLError`` is one) when TLS fails; the socket is then closed.
        """
        ...

    def attach_link(self, link_id: int, key: bytes, stream: ByteStream) -> None:
        """Start the frame protocol on ``stream``: a link to node ``key``. Bytes read ahead are not lost."""
        ...

    def close_link(self, link_id: int, end: LinkEnd) -> None:
        """Close a link; ``link_ended`` follows. Unknown links are ignored."""
        ...

    def send_direct(self, link_id: int, frame_type: int, payload: bytes) -> None:
        """Write a frame that overtakes the queue (protocol 3.2 'direct'). Unknown links are ignored."""
        ...

    def send_queued(self, link_id: int, frame_type: int, payload: bytes, source: bytes, dest: bytes) -> None:
        """Write a frame through the packet queue (protocol 3.4). Unknown links are ignored."""
        ...

    def link_counters(self, link_id: int) -> LinkCounters:
        """Counters of an attached link; zeros for an unknown one."""
        ...

    def counters(self) -> PlaneCounters:
        """What has been counted over all links and sessions, and what waits."""
        ...

    # -- tables ------------------------------------------------------------------------------------------

    def set_fib(self, fib: Fib) -> None:
        """Replace the forwarding table.

        Traffic that came in by a link and is not for this node goes by ``Fib.next_hop_of_others``; the rest by
        ``Fib.next_hop``.
        """
        ...

    def set_path(self, dest: bytes, path: tuple[int, ...]) -> None:
        """Install or replace the coordinates of ``dest``; the last payload sent to it is sent again (protocol 7).

        For that each path keeps its last payload, within ``MAX_KEPT_BYTES``.
        """
        ...

    def remove_path(self, dest: bytes) -> None:
        """Forget the coordinates and the kept payload of ``dest``."""
        ...

    def last_traffic(self, source: bytes) -> float | None:
        """When traffic addressed to us last came from ``source``; None if never (or forgotten)."""
        ...

    def set_session(self, remote: bytes, keys: SessionKeys) -> None:
        """Install or replace the session keys of ``remote``. Counters go on."""
        ...

    def remove_session(self, remote: bytes) -> None:
        """Forget the session keys and counters of ``remote``."""
        ...

    def session_counters(self, remote: bytes) -> SessionCounters:
        """Counters of an installed session; zeros for an unknown one."""
        ...

    def session_last_activity(self, remote: bytes) -> float | None:
        """When a message was last sealed for or opened from ``remote``; None if never since installed."""
        ...

    def set_address(self, key: bytes, address: Address, subnet: Subnet) -> None:
        """Map an address and its subnet to a node key."""
        ...

    def remove_address(self, key: bytes) -> None:
        """Forget the address and subnet of ``key``."""
        ...

    def address_last_used(self, key: bytes) -> float | None:
        """When the mapping last served a packet in either direction; None if never."""
        ...

    # -- packets from above ------------------------------------------------------------------------------

    def send_payload(self, dest: bytes, payload: bytes) -> None:
        """Send an init, ack or sealed traffic as Traffic along ``dest``'s path, or upcall ``path_missing``."""
        ...

    def send_message(self, dest: bytes, message: bytes) -> None:
        """Seal ``message`` (with its type byte) for ``dest`` and send it, or upcall ``session_missing``."""
        ...

    def send_ipv6(self, packet: bytes) -> None:
        """Treat ``packet`` as if read from the TUN: check, look up, seal, send (protocol section 11)."""
        ...

    # -- TUN and life ------------------------------------------------------------------------------------

    @property
    def takes_vnet_header(self) -> bool:
        """Whether a TUN with ``IFF_VNET_HDR``, on which packets come and go in bulk, is welcome."""
        ...

    def attach_tun(self, fd: int, mtu: int, on_error: Callable[[OSError], None]) -> None:
        """Start to read and write IPv6 packets on a non-blocking TUN descriptor (not closed by the data plane)."""
        ...

    def detach_tun(self) -> None:
        """Stop using the TUN descriptor."""
        ...

    def set_firewall(self, rules: Ruleset | None) -> None:
        """Let in what ``rules`` allow and what answers this machine; None: everything (docs/firewall.md)."""
        ...

    def firewall_counters(self) -> FirewallCounters | None:
        """What the filter has counted since its rules were set; None without one."""
        ...

    def close(self) -> None:
        """Close every link (upcalling ``link_ended``) and the TUN reader, and release all resources."""
        ...
