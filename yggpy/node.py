"""``Node``: a Yggdrasil node on an asyncio event loop; what the daemon runs and what applications embed.

It owns the tasks and descriptors that ``Core`` must not know: listeners and dialled peers (``LinkManager``), discovery
on the local network (``MulticastService``), the TUN device, the event loop's timers. Several nodes live happily in one
process; nothing here is global.

    async with Node(Config.generate()) as node:
        await node.add_peer("tls://192.0.2.1:443")
        await node.send(key, b"hello")
        source, data = await node.receive()
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ipaddress import IPv6Address
from types import TracebackType
from typing import TYPE_CHECKING, Self

from yggpy.address import Address
from yggpy.clock import Scheduler, SystemClock, TimerHandle
from yggpy.config import Config
from yggpy.core import Core, DatapathFactory
from yggpy.datapath.base import ByteStream, CloseReason, Datapath, LinkEnd
from yggpy.datapath.choice import choose_datapath
from yggpy.errors import ConfigError, PeerUriError
from yggpy.events.hub import EventHub, Subscription
from yggpy.events.model import TunDown, TunUp
from yggpy.firewall import Ruleset
from yggpy.inbox import RECEIVE_QUEUE_BYTES, RECEIVE_QUEUE_LIMIT, Inbox, NodeClosedError
from yggpy.inspection import Inspectable, LinkRates
from yggpy.links.manager import AlreadyConfiguredError, EstablishedLink, LinkInfo, LinkManager, Listener
from yggpy.links.url import without_secrets
from yggpy.lookups import LookupLog
from yggpy.questions import Question
from yggpy.reload import ReloadReport, go_over
from yggpy.tun import MAX_MTU, MIN_MTU, TunDevice
from yggpy.wire.session import MAX_MESSAGE

if TYPE_CHECKING:
    from yggpy.dns.service import DnsService
    from yggpy.multicast.service import MulticastService

__all__ = ["MAX_DATAGRAM", "RECEIVE_QUEUE_BYTES", "RECEIVE_QUEUE_LIMIT", "Node", "NodeClosedError"]

MAX_DATAGRAM = MAX_MESSAGE - 1
"""Longest datagram that ``Node.send`` takes, in bytes (one byte of each message is its type)."""
SEND_BATCH = 32
"""Datagrams or packets sent before the event loop gets its turn, however busy the sender is."""
RATE_INTERVAL = 1.0
"""Seconds over which ``getPeers`` measures rates."""


class LoopScheduler:
    """The running event loop as a :class:`~yggpy.clock.Scheduler`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._clock = SystemClock()
        self.now = self._clock.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Run ``callback()`` after ``delay`` seconds."""
        return self._loop.call_later(delay, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback()`` in the loop's next turn."""
        self._loop.call_soon(callback)


class Node(Inspectable):
    """A node made from a :class:`~yggpy.config.Config`. Use as an async context manager, or ``start`` and ``close``.

    What it shows of itself is in :class:`~yggpy.inspection.Inspectable`. The admin socket is not part of it (see
    ``yggpy.admin``).
    """

    def __init__(
        self,
        config: Config,
        *,
        logger: logging.Logger | None = None,
        datapath_factory: DatapathFactory | None = None,
    ) -> None:
        """``datapath_factory``: the data plane to use; by default the best there is (see ``yggpy.datapath.choice``)."""
        self.config = config
        self.private_key = config.private_key
        self.public_key: bytes = config.private_key.public_key
        self.address = Address.for_key(self.public_key)
        self.subnet = self.address.subnet
        self._log = logger or logging.getLogger("yggpy")
        self._datapath_factory = datapath_factory
        self._scheduler: LoopScheduler | None = None
        self._core: Core | None = None
        self._links: LinkManager | None = None
        self._multicast: MulticastService | None = None
        self._tun: TunDevice | None = None
        self._rates = LinkRates()
        self._lookups = LookupLog() if config.log_lookups else None
        self._rate_timer: TimerHandle | None = None
        self._listeners: dict[str, Listener] = {}  # by the URI in the configuration
        self._reloading = asyncio.Lock()
        self._datagrams: Inbox[tuple[bytes, bytes]] = Inbox()
        self._packets: Inbox[bytes] = Inbox()
        self._sent_in_turn = 0
        self._rule_names: tuple[str, ...] = ()
        self._names: DnsService | None = None
        self._closed = False
        self._hub = EventHub(SystemClock().now)

    # -- life --------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Start all: ``start_links``, ``start_multicast``, ``start_tun`` and ``apply_dns``.

        On failure the node is closed.
        """
        try:
            await self.start_links()
            self.start_multicast()
            self.start_tun()
            await self.apply_dns()
        except BaseException:
            await self.close()
            raise

    async def start_links(self) -> None:
        """Join the mesh: start listeners and peers. For callers with something to do before the TUN is there.

        Raises ``ConfigError`` for a configured peer or key that cannot be used, ``DatapathError`` when the data plane
        that the environment asks for cannot be had, ``NodeClosedError`` when the node is
        closed meanwhile. A listener that fails is only logged, as Go does. ``close`` the node after an error.
        """
        if self._core is not None:
            raise RuntimeError("a node can be started only once")
        self._check_open()
        config = self.config
        if self._datapath_factory is None:
            choice = choose_datapath()
            self._datapath_factory = choice.factory
            if choice.shortcoming:
                self._log.info("%s", choice.shortcoming)
        self._scheduler = LoopScheduler()
        self._core = Core(
            self.private_key,
            self._scheduler,
            self._datapath_factory,
            self,
            group_password=config.group_password.encode(),
            node_info=config.public_node_info(),
            transit=config.transit,
            publish=self._hub.publish,
        )
        self._links = LinkManager(
            self.private_key,
            self,
            allowed_keys=config.allowed_keys(),
            logger=self._log,
            clock=self._scheduler.now,
            publish=self._hub.publish,
        )
        self.set_firewall(config.firewall_rules())
        if not config.transit:
            self._log.info("Transit is off: this node passes nothing on for others")
        self._core.start()
        self._rate_timer = self._scheduler.call_later(RATE_INTERVAL, self._measure_rates)
        for uri in config.listen:
            await self.listen(uri)
        for interface, uris in (("", config.peers), *config.interface_peers.items()):
            for uri in uris:
                self._add_configured_peer(uri, interface)

    def start_multicast(self) -> None:
        """Begin to look for neighbours as ``MulticastInterfaces`` says, if it does. Returns at once; never fails later.

        Raises ``ConfigError`` for a pattern that cannot be used; ``close`` the node then.
        """
        from yggpy.multicast.service import MulticastService  # not before the node has begun to answer

        self._check_open()
        assert self._scheduler is not None
        entries = self.config.multicast_interfaces
        self._multicast = MulticastService(
            self.public_key, entries, self.links, self._log, self._scheduler.now, publish=self._hub.publish
        )
        self._multicast.start()

    def start_tun(self) -> None:
        """Make the TUN that the config asks for, if any. Raises ``TunError``; ``close`` the node then."""
        self._check_open()
        if self.config.uses_tun:
            self._open_tun()
        else:
            self._log.debug("Not starting TUN as ifname is none or dummy")

    async def apply_dns(self) -> list[str]:
        """Know names and answer questions about them as the ``DNS`` section says now; without one, do not.

        Return what does not work, such as a port that is taken, in lines that are in the log as well. Comes after the
        TUN, whose address it may listen on, and before ``-user``. Raises ``ConfigError``.
        """
        self._check_open()
        section, service = self.config.dns, self._names
        name = (self.config.node_info or {}).get("name")
        own_name = name if isinstance(name, str) else ""
        trouble: list[str] = []
        if section is None:
            self._names = None
            if service is not None:
                await service.close()
        elif service is not None:
            trouble = await service.change(section, own_name)
        else:
            from yggpy.dns.service import DnsService  # not for those without names

            self._names = DnsService(
                section, self.public_key, own_name, self._node_info_of, self._key_of, self._log, self.scheduler.now
            )
            trouble = await self._names.start()
        for line in trouble:
            self._log.error("%s", line)
        return trouble

    async def _node_info_of(self, key: bytes) -> bytes:
        return await self.ask(key, Question.NODE_INFO)

    def _key_of(self, address: IPv6Address) -> bytes | None:
        """Return the key of the node that has ``address``, or whose subnet holds it, if it is known."""
        packed = address.packed
        if packed == self.address.packed or packed[:8] == self.subnet.packed:
            return self.public_key
        return self.core.keystore.key_of(packed)

    def _check_open(self) -> None:
        if self._closed:
            raise NodeClosedError("the node is closed")

    async def listen(self, uri: str) -> bool:
        """Open a listener. Whether that worked; if not, the log says why. Raises ``NodeClosedError``."""
        try:
            self._listeners[uri] = await self.links.listen(uri)
        except PeerUriError as error:
            shown, reason = without_secrets(uri), without_secrets(str(error))
            self._log.error('Invalid listener URI "%s" specified, ignoring: %s', shown, reason)
        except OSError as error:
            self._log.error('Failed to start listener "%s": %s', without_secrets(uri), error)
        self._check_open()
        return self.listening_on(uri)

    def listening_on(self, uri: str) -> bool:
        """Whether the listener that was asked for by ``uri`` is open."""
        return uri in self._listeners

    def stop_listening(self, uri: str) -> None:
        """Close the listener that was asked for by ``uri``; links that came in by it stay."""
        self._listeners.pop(uri).close()

    async def reload(self, config: Config) -> ReloadReport:
        """Become what ``config`` says, without harm to what stays the same; ``yggpy.reload`` tells how far that goes.

        Raises ``ConfigError`` when there is anything wrong with it; then nothing has changed.
        """
        async with self._reloading:
            self._check_open()
            return await go_over(self, config)

    async def restart_multicast(self) -> None:
        """Let discovery begin anew with ``config.multicast_interfaces``. Links that came about stay."""
        if self._multicast is not None:
            await self._multicast.close()
            self.start_multicast()

    def _add_configured_peer(self, uri: str, interface: str) -> None:
        assert self._links is not None
        try:
            self._links.add_peer(uri, interface)
        except AlreadyConfiguredError:
            pass  # a repeated line is harmless
        except PeerUriError as error:
            reason = without_secrets(str(error))
            key = "InterfacePeers" if interface else "Peers"
            raise ConfigError(f'cannot use peer "{without_secrets(uri)}": {reason}', key) from None

    def _open_tun(self) -> None:
        assert self._core is not None
        wanted = self.config.if_mtu
        datapath = self._core.datapath
        self._tun = TunDevice.open(self.config.if_name, self.address, wanted, vnet_header=datapath.takes_vnet_header)
        if self._tun.mtu != wanted:
            self._log.warning("IfMTU %d is outside %d..%d; using %d", wanted, MIN_MTU, MAX_MTU, self._tun.mtu)
        datapath.attach_tun(self._tun.fd, self._tun.mtu, self._tun_failed)
        self._log.info("Interface name: %s", self._tun.name)
        self._log.info("Interface IPv6: %s/7", self.address)
        self._log.info("Interface MTU: %d", self._tun.mtu)
        name, mtu = self._tun.name, self._tun.mtu
        self._hub.publish(lambda time: TunUp(time=time, interface=name, mtu=mtu))

    def _tun_failed(self, error: OSError) -> None:
        self._log.error("TUN interface is gone: %s; traffic of this machine stops, routing for others goes on", error)
        self._close_tun(str(error))

    def _close_tun(self, reason: str) -> None:
        if self._tun is not None:
            tun, self._tun = self._tun, None
            tun.close()
            self._hub.publish(lambda time: TunDown(time=time, interface=tun.name, reason=reason))

    async def close(self) -> None:
        """Stop: TUN, discovery, links, listeners. Waiting readers get ``NodeClosedError``. Harmless when closed."""
        if self._closed:
            return
        self._closed = True
        if self._rate_timer is not None:
            self._rate_timer.cancel()
        if self._core is not None:
            self._core.datapath.detach_tun()
        self._close_tun("closed by this node")
        if self._names is not None:
            await self._names.close()
        if self._multicast is not None:
            await self._multicast.close()
        if self._links is not None:
            await self._links.close()
        if self._core is not None:
            self._core.close()
        self._datagrams.close()
        self._packets.close()
        self._hub.close()

    def events(self, *groups: str) -> Subscription:
        """Listen from now on: ``async for event in node.events("links", "paths")``; without groups, to everything.

        Works before ``start``, too. A listener that is slow loses the oldest events and is told how many. Raises
        ``SubscriptionError`` for an unknown group, or when too many listen. See ``yggpy.events.model``.
        """
        return self._hub.subscribe(groups)

    def set_firewall(self, rules: Ruleset | None) -> None:
        """Let in only what ``rules`` allow and what answers this machine; None lets in everything.

        It judges IPv6 packets for this node, TUN or not, and neither datagrams nor transit. Flows survive a change of
        rules.
        """
        self.core.datapath.set_firewall(rules)
        self._rule_names = () if rules is None else rules.names

    # -- peers -------------------------------------------------------------------------------------------

    @property
    def links(self) -> LinkManager:
        """The node's peerings, incoming links and listeners."""
        if self._links is None:
            raise RuntimeError("the node is not started")
        return self._links

    @property
    def core(self) -> Core:
        """The protocol machine inside."""
        if self._core is None:
            raise RuntimeError("the node is not started")
        return self._core

    @property
    def scheduler(self) -> Scheduler:
        """The event loop's clock and timers."""
        if self._scheduler is None:
            raise RuntimeError("the node is not started")
        return self._scheduler

    @property
    def datapath(self) -> Datapath:
        """The data plane (``LinkHost``)."""
        return self.core.datapath

    @property
    def listen_addresses(self) -> list[str]:
        """URIs of the configured listeners that are up, with the port that they really got."""
        return [listener.address for listener in self._listeners.values()]

    async def add_peer(self, uri: str, interface: str = "") -> None:
        """Dial ``uri`` and keep dialling it. Raises ``PeerUriError``; says nothing about the connection itself."""
        self.links.add_peer(uri, interface)

    async def remove_peer(self, uri: str, interface: str = "") -> None:
        """Close a peering or an incoming link and forget it. Raises ``PeerUriError`` if there is none."""
        self.links.remove_peer(uri, interface)

    def link_established(self, info: LinkInfo, stream: ByteStream) -> EstablishedLink:
        """Give a stream whose handshake is done to the protocol (``LinkHost``)."""
        core = self.core
        ended: asyncio.Future[LinkEnd] = asyncio.get_running_loop().create_future()

        def report(end: LinkEnd) -> None:
            if not ended.done():  # whoever waited for it may have been cancelled
                ended.set_result(end)

        link_id = core.add_link(info.key, info.priority, stream, report, cost=info.cost)
        if not ended.done():
            self._rates.begin(link_id)
            ended.add_done_callback(lambda _: self._rates.end(link_id))
        return EstablishedLink(
            link_id=link_id,
            ended=ended,
            counters=lambda: core.datapath.link_counters(link_id),
            close=lambda: core.close_link(link_id, LinkEnd(CloseReason.LOCAL)),
        )

    # -- datagrams and packets ---------------------------------------------------------------------------

    async def send(self, key: bytes, data: bytes) -> None:
        """Send a datagram of at most ``MAX_DATAGRAM`` bytes to the node with public key ``key``.

        It is end-to-end encrypted, unordered and may be lost; the first ones wait briefly for a path and a session.
        Raises ``ValueError`` for a wrong key length or too much data.
        """
        if len(key) != 32:
            raise ValueError(f"a public key has 32 bytes, not {len(key)}")
        if len(data) > MAX_DATAGRAM:
            raise ValueError(f"a datagram has at most {MAX_DATAGRAM} bytes, not {len(data)}")
        self.core.send_datagram(key, data)
        await self._give_way()

    async def receive(self) -> tuple[bytes, bytes]:
        """Wait for a datagram; return (public key of the sender, data). Raises ``NodeClosedError``."""
        return await self._datagrams.get()

    async def send_packet(self, packet: bytes) -> None:
        """Send an IPv6 packet, whose source must be this node's address or subnet; others are dropped."""
        self.core.send_ipv6(packet)
        await self._give_way()

    async def _give_way(self) -> None:
        """Let the event loop write, read and answer now and then, while a program sends and sends."""
        self._sent_in_turn += 1
        if self._sent_in_turn >= SEND_BATCH:
            self._sent_in_turn = 0
            await asyncio.sleep(0)

    async def receive_packet(self) -> bytes:
        """Wait for an IPv6 packet to this node's address or subnet (only without a TUN). Raises ``NodeClosedError``."""
        return await self._packets.get()

    # -- what the core reports (CoreEvents) --------------------------------------------------------------

    def ipv6_received(self, source: bytes, packet: bytes) -> None:
        """Keep a packet for ``receive_packet``."""
        self._packets.put(packet, len(packet))

    def datagram_received(self, source: bytes, data: bytes) -> None:
        """Keep a datagram for ``receive``."""
        self._datagrams.put((source, data), len(data))

    def record_lookups(self, on: bool) -> None:
        """Keep a record of path look-ups from now on, or forget it (``LogLookups``)."""
        self._lookups = (self._lookups or LookupLog()) if on else None

    def lookup_seen(self, source: bytes, path: tuple[int, ...]) -> None:
        """Record a path look-up, if the configuration asks for it."""
        if self._lookups is not None:
            self._lookups.record(source, path, self.scheduler.now())

    def _measure_rates(self) -> None:
        self._rates.measure(self.core)
        self._rate_timer = self.scheduler.call_later(RATE_INTERVAL, self._measure_rates)
