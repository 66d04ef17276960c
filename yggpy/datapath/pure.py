"""The data plane in readable Python: the reference for ``native``, and the fall-back where it cannot be built.

The way of one packet out of this node:

1. ``TunPort`` reads it, ``send_ipv6`` checks version and source and finds the :class:`Remote` by destination address
   or subnet (else upcall ``destination_unknown``);
2. ``_send_message``: seal with the remote's session keys (else ``session_missing``);
3. ``_send_payload``: put our coordinates and the remote's in front (else ``path_missing``), keep a copy for the day
   the path changes;
4. ``_route``: the greedy next hop from the :class:`Fib`; the frame joins that link's current batch.

And in: a Traffic frame is routed again (``_on_traffic``); if nobody is nearer and it is for us, it is opened, checked
(``_deliver_ipv6``) and written to the TUN. Transit touches nothing but the watermark.

Everything per remote node lives in one record, so that a packet costs one look-up in each direction.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from yggpy.address import Address, Subnet
from yggpy.clock import Scheduler
from yggpy.datapath.base import (
    ByteStream,
    CloseReason,
    DatapathUpcalls,
    LinkCounters,
    LinkEnd,
    PlaneCounters,
    SessionCounters,
    TlsParameters,
)
from yggpy.datapath.link import PeerLink
from yggpy.datapath.remote import KeptPayloads, Remote
from yggpy.datapath.tun_port import TunPort
from yggpy.firewall import Firewall, FirewallCounters, Ruleset
from yggpy.routing.greedy import Fib
from yggpy.sessions.traffic import NonceExhausted, OpenVerdict, SessionKeys, TrafficState
from yggpy.wire.frame import MAX_FRAME_SIZE, FrameType, encode_frame
from yggpy.wire.inner import InnerType
from yggpy.wire.ipv6 import HEADER_SIZE as IPV6_HEADER_SIZE
from yggpy.wire.ipv6 import packet_too_big
from yggpy.wire.packets import MAX_TRAFFIC_PAYLOAD, MAX_WATERMARK, Traffic
from yggpy.wire.session import MAX_MESSAGE, MessageType
from yggpy.wire.uvarint import decode_uvarint, encode_path, encode_uvarint

__all__ = ["PureDatapath"]

DEFAULT_MTU = 1280
"""MTU of the IPv6 layer while there is no TUN (protocol section 11)."""

_TRAFFIC = int(FrameType.TRAFFIC)
_TRAFFIC_TYPE = bytes((_TRAFFIC,))
_PACKET_PREFIX = bytes((InnerType.TRAFFIC,))
_ZERO_PATH = b"\0"


class PureDatapath:
    """A :class:`~yggpy.datapath.base.Datapath` for the node with public key ``own_key``."""

    name = "pure"

    def __init__(self, own_key: bytes, scheduler: Scheduler, upcalls: DatapathUpcalls) -> None:
        self._own_key = own_key
        self._own_address = Address.for_key(own_key).packed
        self._own_subnet = Subnet.for_key(own_key).packed
        self._scheduler = scheduler
        self._up = upcalls
        self._links: dict[int, PeerLink] = {}
        self._dirty: list[PeerLink] = []
        self._flush_scheduled = False
        self._fib = Fib((), ())
        self._from_bytes = _ZERO_PATH
        self._remotes: dict[bytes, Remote] = {}
        self._kept = KeptPayloads()
        self._by_address: dict[bytes, Remote] = {}
        self._by_subnet: dict[bytes, Remote] = {}
        self._mtu = DEFAULT_MTU
        self._tun: TunPort | None = None
        self._firewall: Firewall | None = None
        self._ended = LinkCounters(0, 0)
        """What links that have ended had counted."""
        self._transit_packets = self._transit_bytes = 0
        self._session_received = self._session_sent = 0
        self._congested: PeerLink | None = None
        """The link that had to queue the last packet of this node, while it is full."""

    # -- streams and links -------------------------------------------------------------------------------

    async def open_stream(self, sock: socket.socket, tls: TlsParameters | None) -> ByteStream:
        """See :class:`Datapath`."""
        from yggpy.datapath.streams import open_stream  # ssl is not needed by a node on in-memory links

        return await open_stream(sock, tls)

    def attach_link(self, link_id: int, key: bytes, stream: ByteStream) -> None:
        """See :class:`Datapath`."""
        link = PeerLink(link_id, key, stream, self._scheduler, self, self._flush_dirty)
        self._links[link_id] = link
        link.start()

    def close_link(self, link_id: int, end: LinkEnd) -> None:
        """See :class:`Datapath`."""
        link = self._links.get(link_id)
        if link is not None:
            link.close(end)

    def send_direct(self, link_id: int, frame_type: int, payload: bytes) -> None:
        """See :class:`Datapath`."""
        link = self._links.get(link_id)
        if link is not None and len(payload) < MAX_FRAME_SIZE:  # larger ones are dropped, as Go does
            link.send_direct(frame_type, encode_frame(frame_type, payload))

    def send_queued(self, link_id: int, frame_type: int, payload: bytes, source: bytes, dest: bytes) -> None:
        """See :class:`Datapath`."""
        link = self._links.get(link_id)
        if link is not None and len(payload) < MAX_FRAME_SIZE:
            link.send_queued(frame_type, encode_frame(frame_type, payload), len(payload), source, dest)

    def link_counters(self, link_id: int) -> LinkCounters:
        """See :class:`Datapath`."""
        link = self._links.get(link_id)
        return LinkCounters(0, 0) if link is None else link.counters

    def counters(self) -> PlaneCounters:
        """See :class:`Datapath`."""
        links = [self._ended, *(link.counters for link in self._links.values())]
        return PlaneCounters(
            bytes_received=sum(link.bytes_received for link in links),
            bytes_sent=sum(link.bytes_sent for link in links),
            dropped_packets=sum(link.dropped_packets for link in links),
            queued_bytes=sum(link.queued_bytes for link in links),
            transit_packets=self._transit_packets,
            transit_bytes=self._transit_bytes,
            session_bytes_received=self._session_received,
            session_bytes_sent=self._session_sent,
            tun_queued_bytes=0,
            tun_queued_packets=0,
            tun_dropped_packets=0,
            questions_dropped=0,
        )

    # -- what links report (LinkOwner) -------------------------------------------------------------------

    def link_frame(self, link: PeerLink, frame_type: int, payload: bytes, now: float) -> None:
        """One frame from a peer."""
        if frame_type == _TRAFFIC:
            self._on_traffic(payload, now)
        else:
            self._up.protocol_frame(link.link_id, frame_type, payload, now)

    def link_dirty(self, link: PeerLink) -> None:
        """Flush ``link`` when the current input is done."""
        self._dirty.append(link)
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._scheduler.call_soon(self._scheduled_flush)

    def link_drained(self, link: PeerLink) -> None:
        """A link that held up the TUN takes packets again."""
        if link is self._congested:
            self._decongest()

    def link_closed(self, link: PeerLink, end: LinkEnd) -> None:
        """Forget the link and tell the control plane."""
        if self._links.pop(link.link_id, None) is None:
            return
        before, last = self._ended, link.counters
        self._ended = LinkCounters(
            before.bytes_received + last.bytes_received,
            before.bytes_sent + last.bytes_sent,
            dropped_packets=before.dropped_packets + last.dropped_packets,
        )
        if link is self._congested:
            self._decongest()
        self._up.link_ended(link.link_id, end)

    def _decongest(self) -> None:
        self._congested = None
        if self._tun is not None:
            self._tun.resume()

    def _scheduled_flush(self) -> None:
        self._flush_scheduled = False
        self._flush_dirty()

    def _flush_dirty(self) -> None:
        if self._dirty:
            dirty, self._dirty = self._dirty, []
            for link in dirty:
                link.flush()

    # -- tables ------------------------------------------------------------------------------------------

    def set_fib(self, fib: Fib) -> None:
        """See :class:`Datapath`."""
        self._fib = fib
        self._from_bytes = encode_path(fib.self_path)

    def set_path(self, dest: bytes, path: tuple[int, ...]) -> None:
        """See :class:`Datapath`."""
        remote = self._remote(dest)
        remote.path = path
        remote.path_bytes = encode_path(path)
        if remote.kept_payload is not None:
            self._send_along_path(remote, remote.kept_payload)

    def remove_path(self, dest: bytes) -> None:
        """See :class:`Datapath`."""
        remote = self._remotes.get(dest)
        if remote is not None:
            remote.path = None
            self._kept.forget(remote)
            remote.last_traffic = None
            self._release(remote)

    def last_traffic(self, source: bytes) -> float | None:
        """See :class:`Datapath`."""
        remote = self._remotes.get(source)
        return None if remote is None else remote.last_traffic

    def set_session(self, remote: bytes, keys: SessionKeys) -> None:
        """See :class:`Datapath`."""
        record = self._remote(remote)
        if record.session is None:
            record.session = TrafficState(keys)
        else:
            record.session.install(keys)

    def remove_session(self, remote: bytes) -> None:
        """See :class:`Datapath`."""
        record = self._remotes.get(remote)
        if record is not None:
            record.session = None
            record.bytes_received = record.bytes_sent = 0
            record.last_session_use = None
            self._release(record)

    def session_counters(self, remote: bytes) -> SessionCounters:
        """See :class:`Datapath`."""
        record = self._remotes.get(remote)
        return SessionCounters(0, 0) if record is None else SessionCounters(record.bytes_received, record.bytes_sent)

    def session_last_activity(self, remote: bytes) -> float | None:
        """See :class:`Datapath`."""
        record = self._remotes.get(remote)
        return None if record is None else record.last_session_use

    def set_address(self, key: bytes, address: Address, subnet: Subnet) -> None:
        """See :class:`Datapath`."""
        remote = self._remote(key)
        remote.address = address.packed
        remote.subnet = subnet.packed
        self._by_address[address.packed] = remote
        self._by_subnet[subnet.packed] = remote

    def remove_address(self, key: bytes) -> None:
        """See :class:`Datapath`."""
        remote = self._remotes.get(key)
        if remote is None or remote.address is None or remote.subnet is None:
            return
        for table, index in ((self._by_address, remote.address), (self._by_subnet, remote.subnet)):
            if table.get(index) is remote:  # another key may have the same address by now
                del table[index]
        remote.address = remote.subnet = remote.last_used = None
        self._release(remote)

    def address_last_used(self, key: bytes) -> float | None:
        """See :class:`Datapath`."""
        remote = self._remotes.get(key)
        return None if remote is None else remote.last_used

    def _remote(self, key: bytes) -> Remote:
        remote = self._remotes.get(key)
        if remote is None:
            remote = self._remotes[key] = Remote(key)
        return remote

    def _release(self, remote: Remote) -> None:
        """Drop a record that no table needs any more; so the records are bounded by the control plane's tables."""
        if remote.empty:
            self._remotes.pop(remote.key, None)

    # -- outbound ----------------------------------------------------------------------------------------

    def send_payload(self, dest: bytes, payload: bytes) -> None:
        """See :class:`Datapath`."""
        remote = self._remotes.get(dest)
        if remote is None or remote.path is None:
            if len(payload) <= MAX_TRAFFIC_PAYLOAD:
                self._up.path_missing(dest, payload)
            return
        self._send_along_path(remote, payload)

    def _send_along_path(self, remote: Remote, payload: bytes) -> None:
        if len(payload) > MAX_TRAFFIC_PAYLOAD:
            return
        assert remote.path is not None
        self._kept.keep(remote, payload)
        link_id, watermark = self._fib.next_hop(remote.path, MAX_WATERMARK)
        if link_id is None:
            self._arrived(remote.path, remote.key, payload)
            return
        link = self._links.get(link_id)
        if link is None:
            return
        head = b"".join(
            (_TRAFFIC_TYPE, remote.path_bytes, self._from_bytes, self._own_key, remote.key, encode_uvarint(watermark))
        )
        size = len(head) + len(payload)
        if size > MAX_FRAME_SIZE:  # only when the two nodes lie very deep in the tree
            return
        frame = b"".join((encode_uvarint(size), head, payload))
        if not link.send_queued(_TRAFFIC, frame, size - 1, self._own_key, remote.key):
            self._congested = link

    def _arrived(self, path: tuple[int, ...], dest: bytes, payload: bytes) -> None:
        """Our own packet ends here: addressed to ourselves, or nobody is nearer to where it should go."""
        if dest == self._own_key:
            self._deliver(self._own_key, payload, self._scheduler.now())
        else:
            self._up.traffic_unroutable(Traffic(path, self._fib.self_path, self._own_key, dest, MAX_WATERMARK, payload))

    def send_message(self, dest: bytes, message: bytes) -> None:
        """See :class:`Datapath`."""
        if len(message) > MAX_MESSAGE:
            return
        remote = self._remotes.get(dest)
        if remote is None or remote.session is None:
            self._up.session_missing(dest, message)
            return
        self._seal_and_send(remote, remote.session, message)

    def _seal_and_send(self, remote: Remote, session: TrafficState, message: bytes) -> None:
        try:
            payload = session.seal(message)
        except NonceExhausted:
            self._up.session_nonce_exhausted(remote.key)
            payload = session.seal(message)
        remote.bytes_sent += len(message)
        self._session_sent += len(message)
        remote.last_session_use = self._scheduler.now()
        if remote.path is None:
            self._up.path_missing(remote.key, payload)
        else:
            self._send_along_path(remote, payload)

    def send_ipv6(self, packet: bytes) -> None:
        """See :class:`Datapath`."""
        if len(packet) < IPV6_HEADER_SIZE or packet[0] >> 4 != 6:
            return
        if packet[8:24] != self._own_address and packet[8:16] != self._own_subnet:
            return
        if packet[24] == 0x02:
            remote = self._by_address.get(packet[24:40])
        elif packet[24] == 0x03:
            remote = self._by_subnet.get(packet[24:32])
        else:
            return
        if self._firewall is not None:
            self._firewall.outbound(packet, self._scheduler.now())
        if remote is None:
            self._up.destination_unknown(packet)
            return
        remote.last_used = self._scheduler.now()
        message = _PACKET_PREFIX + packet
        if remote.session is None:
            self._up.session_missing(remote.key, message)
        else:
            self._seal_and_send(remote, remote.session, message)

    # -- inbound -----------------------------------------------------------------------------------------

    def _on_traffic(self, payload: bytes, now: float) -> None:
        # Nearly every path is a few one-byte ports, so the two paths end at the next zero bytes; anything longer,
        # shorter or malformed takes the general decoder, which also has the errors.
        path_end = payload.find(0)
        from_end = payload.find(0, path_end + 1)
        addresses = from_end + 1
        tail = addresses + 64
        if path_end < 0 or from_end < 0 or not payload[:from_end].isascii() or len(payload) < tail + 1:
            self._on_traffic_slowly(payload, now)
            return
        watermark, body = decode_uvarint(payload, tail)
        link_id, next_watermark = self._fib.next_hop_of_others(tuple(payload[:path_end]), watermark)
        source = payload[addresses : addresses + 32]
        dest = payload[addresses + 32 : tail]
        if link_id is not None:
            link = self._links.get(link_id)
            if link is not None:
                self._transit_packets += 1
                self._transit_bytes += len(payload)
                view = memoryview(payload)
                mark = encode_uvarint(next_watermark)
                size = tail + len(mark) + len(payload) - body
                frame = b"".join((encode_uvarint(size + 1), _TRAFFIC_TYPE, view[:tail], mark, view[body:]))
                link.send_queued(_TRAFFIC, frame, size, source, dest)
        elif dest == self._own_key:
            self._deliver(source, payload[body:], now)
        else:
            self._up.traffic_unroutable(Traffic.decode(payload))

    def _on_traffic_slowly(self, payload: bytes, now: float) -> None:
        traffic = Traffic.decode(payload)
        link_id, watermark = self._fib.next_hop_of_others(traffic.path, traffic.watermark)
        if link_id is not None:
            forwarded = Traffic(
                traffic.path, traffic.from_path, traffic.source, traffic.dest, watermark, traffic.payload
            )
            if link_id in self._links:
                self._transit_packets += 1
                self._transit_bytes += len(payload)
            self.send_queued(link_id, _TRAFFIC, forwarded.encode(), traffic.source, traffic.dest)
        elif traffic.dest == self._own_key:
            self._deliver(traffic.source, traffic.payload, now)
        else:
            self._up.traffic_unroutable(traffic)

    def _deliver(self, source: bytes, payload: bytes, now: float) -> None:
        """A session-layer payload for this node."""
        remote = self._remotes.get(source)
        if remote is not None and remote.path is not None:
            remote.last_traffic = now
        if not payload:
            return
        kind = payload[0]
        if kind == MessageType.TRAFFIC:
            if remote is None or remote.session is None:
                self._up.session_unknown(source)
            else:
                self._open(remote, remote.session, payload, now)
        elif kind == MessageType.INIT or kind == MessageType.ACK:
            self._up.session_message(source, payload)

    def _open(self, remote: Remote, session: TrafficState, payload: bytes, now: float) -> None:
        opened = session.open(payload)
        if opened.verdict is not OpenVerdict.OPENED:
            if opened.verdict is OpenVerdict.MISMATCH:
                self._up.session_mismatch(remote.key)
            return
        message = opened.message
        remote.bytes_received += len(message)
        self._session_received += len(message)
        remote.last_session_use = now
        if opened.case is not None:
            self._up.session_ratchet(remote.key, opened.case, opened.nonce, opened.next_public)
        if not message:
            return
        if message[0] == InnerType.TRAFFIC and self._is_ipv6_for_us(message):
            self._deliver_ipv6(remote, message[1:], now)
        else:
            self._up.message_received(remote.key, message)

    def _is_ipv6_for_us(self, message: bytes) -> bool:
        """Tell an IPv6 packet (after the type byte) that is addressed to this node from an application's datagram."""
        return (
            len(message) > IPV6_HEADER_SIZE
            and message[1] >> 4 == 6
            and int.from_bytes(message[5:7], "big") + IPV6_HEADER_SIZE == len(message) - 1
            and (message[25:41] == self._own_address or message[25:33] == self._own_subnet)
        )

    def _deliver_ipv6(self, remote: Remote, packet: bytes, now: float) -> None:
        if remote.address is None:
            self._up.source_learned(remote.key)
        remote.last_used = now
        if packet[8:24] != remote.address and packet[8:16] != remote.subnet:
            return
        if self._firewall is not None and not self._firewall.inbound(remote.key, packet, now):
            return
        if len(packet) > self._mtu:  # only now, unlike Go: a forged source could send the answer anywhere
            self.send_ipv6(packet_too_big(packet, self._mtu))
        elif self._tun is None:
            self._up.ipv6_received(remote.key, packet)
        else:
            self._tun.write(packet)

    # -- TUN ---------------------------------------------------------------------------------------------

    @property
    def takes_vnet_header(self) -> bool:
        """See :class:`Datapath`."""
        return False

    def attach_tun(self, fd: int, mtu: int, on_error: Callable[[OSError], None]) -> None:
        """See :class:`Datapath`."""
        self._mtu = mtu
        self._tun = TunPort(fd, self._scheduler, self._packet_from_tun, self._flush_dirty, on_error)

    def detach_tun(self) -> None:
        """See :class:`Datapath`."""
        if self._tun is not None:
            self._tun.close()
            self._tun = None
        self._mtu = DEFAULT_MTU

    def set_firewall(self, rules: Ruleset | None) -> None:
        """See :class:`Datapath`."""
        if rules is None:
            self._firewall = None
        elif self._firewall is None:
            self._firewall = Firewall(rules)
        else:
            self._firewall.set_rules(rules)

    def firewall_counters(self) -> FirewallCounters | None:
        """See :class:`Datapath`."""
        return None if self._firewall is None else self._firewall.counters(self._scheduler.now())

    def _packet_from_tun(self, packet: bytes) -> bool:
        """Send a packet; False when a link has no more room, so that the TUN should wait for it."""
        self._congested = None
        self.send_ipv6(packet)
        return self._congested is None

    # -- end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See :class:`Datapath`."""
        self.detach_tun()
        for link in list(self._links.values()):
            link.close(LinkEnd(CloseReason.LOCAL))
