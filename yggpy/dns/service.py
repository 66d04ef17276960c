"""Names for a node: gathers what trusted nodes call themselves, and answers questions about names.

One per node with a ``DNS`` section, on the node's event loop. Who has which name is decided in ``yggpy/names``; the
questions to other nodes are the node's own (``getNodeInfo``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from yggpy.address import Address
from yggpy.config.dns import DnsConfig, Network, shown_endpoint
from yggpy.errors import YggpyError
from yggpy.keys import PublicKey
from yggpy.names.claims import Claims, Host, announced_name
from yggpy.names.labels import PK, Name, key_base32, text_of
from yggpy.names.rollcall import RollCall
from yggpy.names.zone import KeyOf, Zone
from yggpy.routing.limits import PerSecond
from yggpy.status import DnsCounters, HostStatus, NamesStatus, RejectedName

if TYPE_CHECKING:
    from yggpy.dns.forward import Forwarder
    from yggpy.dns.message import Query
    from yggpy.dns.server import Client, DnsServer

__all__ = ["MAX_QUERIES_PER_SECOND", "AskNode", "DnsService"]

MAX_QUERIES_PER_SECOND = 2000
"""Queries that are answered in one second, from all clients together; further ones are dropped."""
WAIT_FOR_NAME = 2.0
"""Seconds that a question about a name that nobody has may wait for nodes that are just being asked."""
MAX_WAITING = 64
"""Questions that may wait so; further ones are answered at once."""
_SHORTEST_PAUSE = 0.1

AskNode = Callable[[PublicKey], Awaitable[bytes]]
"""Gives the NodeInfo of a node; raises ``YggpyError`` when it does not answer."""


class DnsService:
    """The names that a node knows, and the responder if the configuration has one."""

    def __init__(
        self,
        config: DnsConfig,
        own_key: PublicKey,
        own_name: str,
        ask: AskNode,
        key_of: KeyOf,
        logger: logging.Logger,
        clock: Callable[[], float],
    ) -> None:
        """``own_name``: the name in this node's own NodeInfo. Raises ``ConfigError``."""
        self._own_key = own_key
        self._ask = ask
        self._key_of = key_of
        self._log = logger
        self._now = clock
        rules = config.rules()
        self._claims = Claims(own_key, rules, own_name)
        self._roll = RollCall(rules.keys_to_ask(own_key), clock())
        self._config = config
        self._zone = self._make_zone(config)
        self._clients = self._networks(config)
        self._forwarder: Forwarder | None = None
        self._server: DnsServer | None = None
        self._questions: set[asyncio.Task[None]] = set()
        self._caller: asyncio.Task[None] | None = None
        self._hurried = asyncio.Event()
        self._news: asyncio.Future[None] | None = None
        self._waiting = 0
        self._queries = PerSecond(MAX_QUERIES_PER_SECOND)
        self._counters = DnsCounters()
        self._told: set[tuple[PublicKey, str]] = set()

    def _make_zone(self, config: DnsConfig) -> Zone:
        return Zone(config.domain_name(), self._claims, self._key_of, int(self._now()))

    def _networks(self, config: DnsConfig) -> tuple[Network, ...]:
        """Return whose questions are answered beside those of this machine."""
        own = Address.for_key(self._own_key)
        return (IPv6Network(str(own)), IPv6Network(str(own.subnet)), *config.networks())

    # -- life --------------------------------------------------------------------------------------------

    async def start(self) -> list[str]:
        """Begin to gather and to answer. Return what does not work, in lines; nothing of that ends the node."""
        self._caller = asyncio.create_task(self._call_the_roll())
        return await self._listen()

    async def change(self, config: DnsConfig, own_name: str) -> list[str]:
        """Go by another section from now on, as ``start``. Sockets that both have stay open. Raises ``ConfigError``."""
        rules, clients = config.rules(), self._networks(config)
        config.upstreams(), config.endpoints()  # raise before anything has changed
        self._claims.change(rules, own_name)
        self._roll.change(rules.keys_to_ask(self._own_key), self._now())
        self._zone = self._make_zone(config)
        self._config, self._clients = config, clients
        self._tell()
        self._hurried.set()
        return await self._listen()

    async def _listen(self) -> list[str]:
        endpoints = self._config.endpoints()
        if endpoints and self._server is None:
            from yggpy.dns.server import DnsServer  # brings the DNS library

            self._server = DnsServer(self, self._log)
        if self._server is None:
            return []
        if self._forwarder is None:
            from yggpy.dns.forward import Forwarder

            self._forwarder = Forwarder()
        self._forwarder.change(self._config.upstreams())
        return await self._server.listen(endpoints)

    async def close(self) -> None:
        """Stop. Harmless when repeated."""
        if self._server is not None:
            await self._server.close()
        tasks = [*self._questions, *([self._caller] if self._caller else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- gathering ---------------------------------------------------------------------------------------

    async def _call_the_roll(self) -> None:
        while True:
            self._ask_due()
            due = self._roll.next_due()
            pause = None if due is None else max(due - self._now(), _SHORTEST_PAUSE)
            try:
                async with asyncio.timeout(pause):
                    await self._hurried.wait()
            except TimeoutError:
                pass
            self._hurried.clear()

    def _ask_due(self) -> None:
        for key in self._roll.take_due(self._now()):
            task = asyncio.create_task(self._question(key))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)

    async def _question(self, key: PublicKey) -> None:
        try:
            info = await self._ask(key)
        except YggpyError:
            self._roll.silent(key, self._now())
        else:
            self._roll.answered(key, self._now())
            self._claims.announce(key, announced_name(info), self._now())
            self._tell()
        self._hurried.set()
        if self._news is not None:
            self._news.set_result(None)
            self._news = None

    def _tell(self) -> None:
        """Log names that were not given, once."""
        rejected = {(each.key, each.name): each.reason for each in self._claims.rejections}
        for key, name in rejected.keys() - self._told:
            self._log.warning(
                'Node %s announces the name "%s", which it does not get: %s',
                key.hex(),
                name.encode("unicode_escape").decode(),
                rejected[key, name],
            )
        self._told = set(rejected)

    async def _wait_for_news(self, seconds: float) -> None:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._news], timeout=seconds)

    # -- answering (Handler) -----------------------------------------------------------------------------

    def may_ask(self, client: Client) -> bool:
        """Only this machine, its mesh addresses, and the networks of ``Clients`` get answers."""
        allowed = client.is_loopback or any(client in network for network in self._clients)
        self._counters.strangers += not allowed
        return allowed

    def answer(self, data: bytes, *, stream: bool) -> bytes | Awaitable[bytes] | None:
        """Return the answer to a message from a client, or what becomes it; None: it gets none."""
        from yggpy.dns.message import encode_refusal, read_query

        counters = self._counters
        if not self._queries.allow(self._now()):
            counters.dropped += 1
            return None
        query = read_query(data)
        if query is None or isinstance(query, bytes):
            counters.malformed += 1
            return query
        found = self._zone.resolve(query.name, query.kind)
        if found is None:
            if self._forwarder is None or not self._forwarder.is_on or not query.wants_recursion:
                counters.refused += 1
                return encode_refusal(query)
            counters.forwarded += 1
            return self._forwarder.ask(query, stream=stream)
        counters.answered += 1
        if not found.exists and self._may_come(query.name):
            return self._answer_later(query, stream)
        return self._encode(query, stream)

    def _may_come(self, name: Name) -> bool:
        """Whether to wait for a name that nobody has."""
        if self._waiting >= MAX_WAITING or not self._zone.may_be_announced(name):
            return False
        if self._roll.hurry(self._now()):
            self._ask_due()
            self._hurried.set()
        return self._roll.asked_since(self._now() - WAIT_FOR_NAME)

    async def _answer_later(self, query: Query, stream: bool) -> bytes:
        """Answer when the name has come, when all who were asked have answered, or when it takes too long."""
        self._waiting += 1
        try:
            end = self._now() + WAIT_FOR_NAME
            while (left := end - self._now()) > 0 and self._roll.asked_since(end - 2 * WAIT_FOR_NAME):
                found = self._zone.resolve(query.name, query.kind)
                if found is None or found.exists:
                    break
                await self._wait_for_news(left)
        finally:
            self._waiting -= 1
        return self._encode(query, stream)

    def _encode(self, query: Query, stream: bool) -> bytes:
        from yggpy.dns.message import encode_answer, encode_refusal

        found = self._zone.resolve(query.name, query.kind)
        if found is None:  # another domain since a reload
            return encode_refusal(query)
        recursion = self._forwarder is not None and self._forwarder.is_on
        return encode_answer(query, found, recursion=recursion, limit=0 if stream else query.udp_limit)

    # -- what it shows -----------------------------------------------------------------------------------

    def status(self, key: PublicKey | None = None) -> NamesStatus:
        """Return what ``getHosts`` shows; with ``key`` only what is about that node."""
        shown = self._own_key if key is None else key
        failures = self._forwarder.failures if self._forwarder is not None else 0
        rules = self._claims.rules
        return NamesStatus(
            domain=text_of(self._zone.domain),
            key=shown,
            key_names=(self._zone.key_name(shown), self._zone.full((key_base32(shown), PK))),
            hosts=tuple(
                self._host(host)
                for hosts in self._claims.hosts.values()
                for host in hosts
                if key in (None, host.key)
            ),
            rejected=tuple(
                RejectedName(each.key, each.name, each.reason)
                for each in self._claims.rejections
                if key in (None, each.key)
            ),
            silent=tuple(
                each
                for each in rules.keys_to_ask(self._own_key)
                if key in (None, each) and not self._claims.has_heard(each)
            ),
            listening=tuple(map(shown_endpoint, self._server.addresses)) if self._server is not None else (),
            counters=replace(self._counters, failed=failures),
        )

    def _host(self, host: Host) -> HostStatus:
        return HostStatus(self._zone.full(host.name), str(host.address), host.source.value, host.key)
