"""The table of links and listeners of a node, and the only door to it: add, remove, retry, listen, show.

A link is known by its URI without query and its source interface; the same identity twice is refused, and the refusal
never touches the link that is already there. Everything runs on the event loop's thread, a task for each link.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from yggpy.clock import SystemClock
from yggpy.datapath.base import ByteStream, StreamClosed, TlsParameters
from yggpy.errors import PeerUriError
from yggpy.events.hub import Publish, publish_nothing
from yggpy.keys import PrivateKey
from yggpy.links.listener import Listener
from yggpy.links.model import EstablishedLink, LinkHost, LinkInfo, LinkKind, LinkStatus
from yggpy.links.peering import Link, LinkContext, Peering
from yggpy.links.reasons import IncomingFailureLog
from yggpy.links.resolve import TransportError
from yggpy.links.transports import TransportContext, make_transports, parse_listener, parse_peering
from yggpy.links.uri import AlreadyConfiguredError, LinkOptions, LinkUri, NotConfiguredError
from yggpy.links.url import Url

__all__ = [
    "AlreadyConfiguredError",
    "EstablishedLink",
    "LinkHost",
    "LinkInfo",
    "LinkKind",
    "LinkManager",
    "LinkStatus",
    "Listener",
    "NotConfiguredError",
]

MAX_INCOMING_LINKS = 4096
"""Incoming links that may exist at a time; further ones are refused."""
_NODE_CLOSED = "the node is closed"


class LinkManager:
    """All links of one node. ``add_peer`` and ``listen`` need a running event loop."""

    def __init__(
        self,
        private_key: PrivateKey,
        host: LinkHost,
        *,
        allowed_keys: frozenset[bytes] = frozenset(),
        logger: logging.Logger | None = None,
        clock: Callable[[], float] | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        publish: Publish = publish_nothing,
    ) -> None:
        """``allowed_keys``: node keys that may connect to us (none given: all). ``clock`` times what ``links`` shows.

        ``pause`` waits the given seconds between two attempts to dial. ``publish`` is told of links (``yggpy.events``).
        """
        log = logger or logging.getLogger("yggpy")
        self.log = log
        self._allowed_keys = allowed_keys
        self._context = LinkContext(private_key, host, log, clock or SystemClock().now, pause, publish)
        self._transport_context = TransportContext(private_key, self._open_stream, log)
        self._transports = make_transports(self._transport_context)
        self._failures = IncomingFailureLog(log, self._context.clock)
        self._links: dict[tuple[str, str], Link] = {}
        self._incoming = 0
        self._listeners: set[Listener] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- peerings ----------------------------------------------------------------------------------------

    def add_peer(self, uri: str, interface: str = "", *, kind: LinkKind = LinkKind.PERSISTENT) -> None:
        """Begin to dial ``uri``, from ``interface`` unless that is empty.

        Raises ``PeerUriError`` with Go's words for a URI or option that cannot be used, ``AlreadyConfiguredError`` for
        an identity that exists (which is kicked). Says nothing about the connection itself: see ``links``.
        """
        parsed, options = parse_peering(uri)
        self._dial(parsed, interface, kind, options)

    def call_peer(
        self,
        address: str,
        port: int,
        interface: str,
        *,
        key: bytes,
        priority: int,
        password: bytes,
        on_up: Callable[[], None],
        on_end: Callable[[], None],
        cost: int | None = None,
    ) -> None:
        """Dial a neighbour found by multicast, at a link-local address, by TLS, once (section 12).

        ``key`` is pinned. ``on_up`` is called when the handshake is done, ``on_end`` when the attempt has failed or the
        link has ended. Raises ``PeerUriError``, and calls nothing, when there is such a link already.
        """
        uri = LinkUri(Url(scheme="tls", host=f"[{address}%{interface}]:{port}".encode(errors="surrogateescape")))
        options = LinkOptions(frozenset((key,)), priority, password, cost=cost)
        peering = self._dial(uri, interface, LinkKind.EPHEMERAL, options, on_up)
        assert peering.task is not None
        peering.task.add_done_callback(lambda _: on_end())

    def _dial(
        self,
        uri: LinkUri,
        interface: str,
        kind: LinkKind,
        options: LinkOptions,
        on_up: Callable[[], None] | None = None,
    ) -> Peering:
        transport = self._transports[uri.scheme]
        existing = self._links.get((str(uri), interface))
        if existing is not None:
            if isinstance(existing, Peering):
                existing.kick()
            raise AlreadyConfiguredError
        if self._closed:
            raise PeerUriError(_NODE_CLOSED)
        peering = Peering(self._context, uri, interface, kind, options, transport, on_up)
        self._register(peering)
        peering.task = self.spawn(peering.run())
        peering.task.add_done_callback(lambda _: self.forget(peering))
        return peering

    def remove_peer(self, uri: str, interface: str = "") -> None:
        """Close the link with this identity, outgoing or incoming, and forget it.

        Raises ``NotConfiguredError`` when there is none, ``PeerUriError`` for a URI that does not parse.
        """
        link = self._links.get((str(LinkUri.parse(uri)), interface))
        if link is None:
            raise NotConfiguredError
        self.forget(link)
        link.stop()

    def retry_peers_now(self) -> None:
        """Dial all peers that wait for their next attempt, for example since the network is back."""
        for link in list(self._links.values()):
            if isinstance(link, Peering):
                link.kick()

    # -- incoming ----------------------------------------------------------------------------------------

    async def listen(self, uri: str, interface: str = "", *, local: bool = False) -> Listener:
        """Listen on ``uri``; port 0: the system chooses. ``local`` (multicast): ``AllowedPublicKeys`` does not count.

        Raises ``PeerUriError`` when the URI does not parse, ``OSError`` for everything else, both with Go's words.
        """
        parsed, options = parse_listener(uri)
        return await self._listen(parsed, interface, options, local=local)

    async def listen_local(
        self, address: str, port: int, interface: str, *, priority: int, password: bytes, cost: int | None = None
    ) -> Listener:
        """Listen by TLS on a link-local address for neighbours found by multicast (section 12); port 0: any.

        ``AllowedPublicKeys`` does not count. Raises ``OSError`` with Go's words.
        """
        # The first certificate takes a quarter of a second of imports: the node has other things to do meanwhile.
        await asyncio.to_thread(self._transport_context.identity)
        uri = LinkUri(Url(scheme="tls", host=f"[{address}]:{port}".encode()))
        options = LinkOptions(priority=priority, password=password, cost=cost)
        return await self._listen(uri, interface, options, local=True)

    async def _listen(self, parsed: LinkUri, interface: str, options: LinkOptions, *, local: bool) -> Listener:
        if self._closing:  # perhaps one of them has the address that is wanted now
            await asyncio.wait(list(self._closing))
        acceptor = await self._transports[parsed.scheme].listen(parsed, interface)
        if self._closed:  # perhaps only since the name of the address was looked up
            acceptor.close()
            raise TransportError(_NODE_CLOSED)
        listener = Listener(self, acceptor, parsed, interface, options, local=local)
        self._listeners.add(listener)
        listener.start()
        return listener

    def new_incoming(self, uri: str, interface: str, options: LinkOptions, *, local: bool) -> Link | None:
        """Make and register the entry of an incoming link; None, with a line in the log, when it is not to be."""
        if self._closed:
            return None
        if (uri, interface) in self._links:
            self.log.debug("Refused incoming %s: there is a link with this address already", uri)
            return None
        if self._incoming >= MAX_INCOMING_LINKS:
            self._failures.report(uri, f"there are {MAX_INCOMING_LINKS} incoming links already")
            return None
        allowed = None if local else self._allowed_keys
        link = Link(self._context, uri, interface, LinkKind.INCOMING, options, allowed)
        self._register(link)
        return link

    def allow(self, keys: frozenset[bytes]) -> list[str]:
        """Let only these node keys connect to us from now on (none: all); neighbours found by multicast as before.

        Links that came in from others are closed; returns their URIs.
        """
        self._allowed_keys = keys
        return [link.uri for link in list(self._links.values()) if link.allow(keys)]

    def drop_neighbours(self, unwanted: Callable[[str], bool]) -> list[str]:
        """Close the links with neighbours found by multicast, incoming ones too, on ``unwanted`` interfaces.

        Calls that are under way are called off as well. Returns the URIs.
        """
        dropped = [link for link in self._links.values() if link.local and unwanted(link.interface)]
        for link in dropped:
            self.forget(link)
            link.stop()
        return [link.uri for link in dropped]

    def has_link(self, uri: str, interface: str) -> bool:
        """Whether there is a link with this identity, up or not."""
        return (uri, interface) in self._links

    def incoming_failed(self, uri: str, reason: str) -> None:
        """Report an incoming connection that came to nothing."""
        self._failures.report(uri, reason)

    def listener_closed(self, listener: Listener, accepting: asyncio.Task[None] | None) -> None:
        """Forget a listener; its socket is closed when ``accepting`` has ended."""
        self._listeners.discard(listener)
        if accepting is not None and not accepting.done():
            self._closing.add(accepting)
            accepting.add_done_callback(self._closing.discard)

    async def adopt(self, stream: ByteStream, *, inbound: bool, options: LinkOptions | None = None) -> None:
        """Make a link of a stream that came from elsewhere (in-memory links); returns when the handshake is done.

        Raises what the handshake raises: ``OSError``, or a ``YggpyError``; the stream is then closed.
        """
        if self._closed:
            stream.close()
            raise StreamClosed(_NODE_CLOSED)
        kind = LinkKind.INCOMING if inbound else LinkKind.EPHEMERAL
        uri, number = stream.remote_address, 1
        while (uri, "") in self._links:  # in-memory streams are not obliged to have names of their own
            number += 1
            uri = f"{stream.remote_address}#{number}"
        allowed = self._allowed_keys if inbound else None
        link = Link(self._context, uri, "", kind, options or LinkOptions(), allowed)
        self._register(link)
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        link.task = self.spawn(link.serve(stream, ready))

        def finish(_: asyncio.Task[None]) -> None:  # also of a task that was cancelled before it began
            self.forget(link)
            stream.close()
            if not ready.done():
                ready.set_exception(StreamClosed(_NODE_CLOSED if self._closed else "the link was removed"))

        link.task.add_done_callback(finish)
        try:
            await ready
        except asyncio.CancelledError:
            if ready.done() and not ready.cancelled():
                ready.exception()  # came at the same moment, and is of no interest any more
            link.stop()
            raise

    async def _open_stream(self, sock: socket.socket, tls: TlsParameters | None) -> ByteStream:
        # The data plane is looked up only here: the host may still be in the making when it makes its manager.
        return await self._context.host.datapath.open_stream(sock, tls)

    # -- table -------------------------------------------------------------------------------------------

    def links(self) -> list[LinkStatus]:
        """Return all peerings, up or down, and the incoming links whose handshake is done."""
        return [link.status() for link in self._links.values() if link.up or link.kind is not LinkKind.INCOMING]

    @property
    def listeners(self) -> list[Listener]:
        """The open listeners."""
        return list(self._listeners)

    def _register(self, link: Link) -> None:
        self._links[link.identity] = link
        self._incoming += link.kind is LinkKind.INCOMING

    def forget(self, link: Link) -> None:
        """Take ``link`` out of the table, unless another one has taken its place. Harmless when repeated."""
        if self._links.get(link.identity) is link:
            del self._links[link.identity]
            self._incoming -= link.kind is LinkKind.INCOMING

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine`` as a task that ``close`` waits for."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Close all listeners and links, and wait until their tasks are done. Harmless when already closed."""
        self._closed = True
        for listener in list(self._listeners):
            listener.close()
        for link in list(self._links.values()):
            link.stop()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for transport in self._transports.values():
            await transport.close()
