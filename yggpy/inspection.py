"""What a node shows of itself and can ask of others: the part of ``Node`` that the admin socket and programs look at.

Nothing here changes the node. Each ``status_*`` method takes a snapshot (``yggpy/status.py``) from the rooms that own
the facts; ``ask`` puts a question to another node, over the mesh.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from yggpy.address import Address
from yggpy.clock import Scheduler
from yggpy.config import Config
from yggpy.core import Core
from yggpy.datapath.base import LinkCounters, PlaneCounters
from yggpy.errors import YggpyError
from yggpy.firewall.flows import MAX_FLOWS
from yggpy.health import PeerFacts, judge
from yggpy.keys import PUBLIC_KEY_SIZE
from yggpy.links.manager import LinkKind, LinkManager, LinkStatus
from yggpy.links.reasons import explain
from yggpy.links.url import without_secrets
from yggpy.lookups import LookupLog
from yggpy.questions import ANSWER_TIMEOUT, Question
from yggpy.status import (
    FirewallStatus,
    HealthStatus,
    LookupStatus,
    MulticastStatus,
    NamesStatus,
    PathStatus,
    PeerStatus,
    SelfStatus,
    SessionStatus,
    TransitStatus,
    TreeEntry,
    TreeStatus,
    TunStatus,
)
from yggpy.tun import TunDevice

if TYPE_CHECKING:
    from yggpy.dns.service import DnsService
    from yggpy.multicast.service import MulticastService

__all__ = ["Inspectable", "LinkRates", "NoAnswerError"]


class NoAnswerError(YggpyError):
    """The node that was asked did not answer in time."""


class LinkRates:
    """Bytes of each link between the last two measurements."""

    def __init__(self) -> None:
        self._counters: dict[int, LinkCounters] = {}
        self._rates: dict[int, LinkCounters] = {}

    def begin(self, link_id: int) -> None:
        """A new link."""
        self._counters[link_id] = LinkCounters(0, 0)

    def end(self, link_id: int) -> None:
        """The link is gone."""
        self._counters.pop(link_id, None)
        self._rates.pop(link_id, None)

    def measure(self, core: Core) -> None:
        """Read the counters of all links."""
        for link_id, before in self._counters.items():
            now = core.datapath.link_counters(link_id)
            self._rates[link_id] = LinkCounters(
                now.bytes_received - before.bytes_received, now.bytes_sent - before.bytes_sent
            )
            self._counters[link_id] = now

    def of(self, link_id: int) -> LinkCounters:
        """Return the bytes between the last two measurements; zeros before them."""
        return self._rates.get(link_id, LinkCounters(0, 0))


class Inspectable(ABC):
    """The questions that a started node answers. ``Node`` has what they need."""

    config: Config
    _rates: LinkRates
    _tun: TunDevice | None
    _multicast: MulticastService | None
    _lookups: LookupLog | None
    """None without ``LogLookups``."""
    _names: DnsService | None
    """None without a ``DNS`` section."""
    _rule_names: tuple[str, ...]
    """Of the packet filter's rules."""

    @property
    @abstractmethod
    def core(self) -> Core:
        """The protocol machine inside."""

    @property
    @abstractmethod
    def links(self) -> LinkManager:
        """The node's peerings, incoming links and listeners."""

    @property
    @abstractmethod
    def scheduler(self) -> Scheduler:
        """The node's clock and timers."""

    @property
    @abstractmethod
    def listen_addresses(self) -> list[str]:
        """URIs of the configured listeners that are up."""

    def status_health(self) -> HealthStatus:
        """``getHealth``: whether this node is ready to be used, and if not, why."""
        router = self.core.router
        faults = []
        if self._tun is None and self.config.uses_tun:
            faults.append("there is no TUN device, so this machine has no traffic; the log says why")
        parent = "" if router.parent == self.core.public_key else str(Address.for_key(router.parent))
        return judge(
            [_peer_facts(link) for link in self.links.links()],
            parent=parent,
            joined=router.joined,
            doors=self._doors(),
            faults=faults,
        )

    def _doors(self) -> list[str]:
        """Return by what others can find this node, in words."""
        doors = [f"listening on {address}" for address in self.listen_addresses]
        if any(entry.beacon or entry.listen for entry in self.config.multicast_interfaces):
            doors.append("multicast")
        return doors

    def status_self(self) -> SelfStatus:
        """``getSelf``."""
        core = self.core
        return SelfStatus(core.public_key, str(core.address), str(core.subnet), core.router.routing_entries)

    def status_peers(self) -> list[PeerStatus]:
        """``getPeers``, in no particular order."""
        now = self.scheduler.now()
        return [self._peer_status(link, now) for link in self.links.links()]

    def _peer_status(self, link: LinkStatus, now: float) -> PeerStatus:
        router = self.core.router
        error_age = 0.0 if link.last_error_at is None else now - link.last_error_at
        kind = _kind(link)
        if not link.up or link.key is None or link.link_id is None:
            return PeerStatus(
                link.uri, False, link.inbound, last_error=link.last_error, last_error_age=error_age, kind=kind
            )
        counters = self.core.datapath.link_counters(link.link_id)
        rates = self._rates.of(link.link_id)
        return PeerStatus(
            uri=link.uri,
            up=True,
            inbound=link.inbound,
            key=link.key,
            address=str(Address.for_key(link.key)),
            port=router.port(link.key),
            priority=link.priority,
            cost=router.link_cost(link.link_id),
            bytes_received=counters.bytes_received + link.handshake_bytes_received,
            bytes_sent=counters.bytes_sent + link.handshake_bytes_sent,
            receive_rate=rates.bytes_received,
            send_rate=rates.bytes_sent,
            uptime=0.0 if link.established_at is None else now - link.established_at,
            latency=router.link_latency(link.link_id) or 0.0,
            last_error=link.last_error,
            last_error_age=error_age,
            kind=kind,
            link_id=link.link_id,
            queued_bytes=counters.queued_bytes,
            dropped_packets=counters.dropped_packets,
        )

    def status_tree(self) -> list[TreeEntry]:
        """``getTree``: all known nodes, by key."""
        return self.core.router.tree()

    def status_paths(self) -> list[PathStatus]:
        """``getPaths``, by key."""
        return self.core.router.paths()

    def status_sessions(self) -> list[SessionStatus]:
        """``getSessions``, by key."""
        now = self.scheduler.now()
        statuses = []
        for key, since in self.core.sessions.sessions():
            counters = self.core.datapath.session_counters(key)
            statuses.append(
                SessionStatus(key, str(Address.for_key(key)), counters.bytes_received, counters.bytes_sent, now - since)
            )
        return sorted(statuses, key=lambda status: status.key)

    def status_place(self) -> TreeStatus:
        """Where in the tree this node is, and how much it knows of others."""
        core = self.core
        router = core.router
        return TreeStatus(
            depth=len(router.own_coords()),
            is_root=router.root == core.public_key,
            nodes=router.routing_entries,
            parent_changes=core.watch.parent_changes,
            root_changes=core.watch.root_changes,
            paths=router.path_count,
            sessions=len(core.sessions.sessions()),
        )

    @property
    def datapath_name(self) -> str:
        """Which data plane runs: ``native`` or ``pure``."""
        return self.core.datapath.name

    def status_counters(self) -> PlaneCounters:
        """What the data plane has counted, over all links and sessions."""
        return self.core.datapath.counters()

    def status_tun(self) -> TunStatus:
        """``getTUN``."""
        if self._tun is None:
            return TunStatus(enabled=False)
        return TunStatus(enabled=True, name=self._tun.name, mtu=self._tun.mtu)

    def status_firewall(self) -> FirewallStatus | None:
        """``getFirewall``; None without one."""
        counters = self.core.datapath.firewall_counters()
        if counters is None:
            return None
        return FirewallStatus(
            MAX_FLOWS,
            counters.flows,
            counters.evicted,
            counters.established,
            counters.errors,
            counters.fragments,
            counters.denied,
            counters.malformed,
            list(zip(self._rule_names, counters.allowed, strict=True)),
        )

    def status_names(self, key: bytes | None = None) -> NamesStatus | None:
        """``getHosts``: the names that this node knows, or those of one node; None without a ``DNS`` section."""
        return None if self._names is None else self._names.status(key)

    def status_transit(self) -> TransitStatus:
        """``getTransit``."""
        router = self.core.router
        return TransitStatus(router.transit, tuple(router.resting_peers()), dict(router.refused))

    def status_multicast(self) -> list[MulticastStatus]:
        """``getMulticastInterfaces``, by name."""
        return [] if self._multicast is None else self._multicast.status()

    @property
    def logs_lookups(self) -> bool:
        """Whether the configuration has ``LogLookups``."""
        return self._lookups is not None

    def status_lookups(self) -> list[LookupStatus]:
        """``lookups``: who looked for other nodes lately, by key. Nobody without ``LogLookups``."""
        return [] if self._lookups is None else self._lookups.status(self.scheduler.now())

    async def ask(self, key: bytes, question: Question) -> bytes:
        """Ask the node with public key ``key`` and return the data of its answer, as it sent it (see ``Question``).

        Raises ``NoAnswerError`` after ``ANSWER_TIMEOUT`` seconds or when the node is closed, ``QuestionError``
        when it is closed or too many questions wait for an answer, ``ValueError`` for a wrong key length.
        """
        if len(key) != PUBLIC_KEY_SIZE:
            raise ValueError(f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(key)}")
        answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def answered(data: bytes | None) -> None:
            if not answer.done():  # whoever waited for it may have been cancelled
                answer.set_result(data)

        call_off = self.core.ask(question, key, answered)
        try:
            data = await answer
        finally:
            call_off()
        if data is None:
            raise NoAnswerError(
                f"no answer from {Address.for_key(key)} in {ANSWER_TIMEOUT:.0f} s, or before this node was closed"
            )
        return data


def _peer_facts(link: LinkStatus) -> PeerFacts:
    error = "" if link.last_error is None else without_secrets(explain(link.last_error))
    return PeerFacts(without_secrets(link.uri), link.up, link.kind is LinkKind.PERSISTENT, error)


def _kind(link: LinkStatus) -> str:
    if link.local:
        return "multicast"
    return "incoming" if link.inbound else "configured" if link.kind is LinkKind.PERSISTENT else "multicast"
