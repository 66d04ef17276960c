"""Which URI scheme is carried by what. The manager knows links; only this file knows schemes.

A transport dials a URI into a :class:`~yggpy.datapath.base.ByteStream`, or listens and hands out pending connections.
Another carrier is one more class in a file of its own, and one more line in :func:`make_transports`. Those that need a
library are imported when a URI first asks for them: most nodes have TLS links only, and start quicker without.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from yggpy.datapath.base import ByteStream, TlsIdentity, TlsParameters
from yggpy.errors import PeerUriError
from yggpy.keys import PrivateKey
from yggpy.links.dial import dial_tcp
from yggpy.links.listen import listen_tcp
from yggpy.links.resolve import Resolver, TransportError
from yggpy.links.uri import SCHEME_UNKNOWN, LinkOptions, LinkUri

__all__ = [
    "Acceptor",
    "NoLinkWantedError",
    "PendingStream",
    "Transport",
    "TransportContext",
    "make_transports",
    "parse_listener",
    "parse_peering",
]

OpenStream = Callable[[socket.socket, TlsParameters | None], Awaitable[ByteStream]]

SCHEMES = frozenset(("tcp", "tls", "unix", "socks", "sockstls", "ws", "wss", "quic"))
DIAL_ONLY_SCHEMES = frozenset(("socks", "sockstls"))
WSS_LISTENER = "WSS listener not supported, use WS listener behind reverse proxy instead"
SOCKS_LISTENER = "SOCKS listener not supported"


class NoLinkWantedError(OSError):
    """An incoming connection wanted something else than a link, and has got it: the answer to a health check."""


class PendingStream(Protocol):
    """An incoming connection before anything that needs the other side's cooperation."""

    remote_address: str

    async def open(self) -> ByteStream:
        """Complete the carrier's own handshake; raises ``OSError``, and cleans up when it fails or is cancelled."""
        ...

    def close(self) -> None:
        """Drop the connection (only before ``open``)."""
        ...


class Acceptor(Protocol):
    """An open listener of some carrier."""

    address: str
    """``host:port`` (or path), as Go prints it."""
    port: int
    """0 where there is none."""
    names_peers: bool
    """Whether no two connections have the same remote address at a time."""

    async def accept(self) -> PendingStream:
        """Wait for the next connection, for nothing else; raises ``OSError``."""
        ...

    def close(self) -> None:
        """Stop listening (when nobody waits in ``accept``)."""
        ...


class Transport(Protocol):
    """One carrier."""

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """Connect within the carrier's own time limits; raises ``OSError`` with Go's words."""
        ...

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """Open a listener; raises ``OSError`` with Go's words."""
        ...

    async def close(self) -> None:
        """Wait, for a moment at most, until closed streams have said their last words."""
        ...


@dataclass(slots=True)
class TransportContext:
    """What transports need from the node around them."""

    private_key: PrivateKey
    open_stream: OpenStream
    log: logging.Logger
    resolver: Resolver = field(default_factory=Resolver)
    _identity: TlsIdentity | None = None

    def identity(self) -> TlsIdentity:
        """The node's certificate, made when it is first needed."""
        if self._identity is None:
            from yggpy.datapath.certificate import make_identity  # plain TCP and in-memory nodes need none

            self._identity = make_identity(self.private_key)
        return self._identity


class TcpTransport:
    """``tcp://`` and, with ``secure``, ``tls://``."""

    def __init__(self, context: TransportContext, *, secure: bool) -> None:
        self._context = context
        self._secure = secure

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """See :class:`Transport`."""
        context = self._context
        tls = TlsParameters(context.identity(), False, options.server_name) if self._secure else None

        async def finish(sock: socket.socket) -> ByteStream:
            return await context.open_stream(sock, tls)

        return await dial_tcp(uri.host_port, interface, finish, context.resolver, context.log)

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """See :class:`Transport`."""
        context = self._context
        tls = TlsParameters(context.identity(), True) if self._secure else None

        async def finish(sock: socket.socket) -> ByteStream:
            return await context.open_stream(sock, tls)

        return await listen_tcp(uri.host_port, interface, finish, context.resolver)


    async def close(self) -> None:
        """See :class:`Transport`; nothing lingers."""


class DeferredTransport:
    """A transport that is made when it is first used."""

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._made: Transport | None = None

    def _transport(self) -> Transport:
        if self._made is None:
            self._made = self._make()
        return self._made

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """See :class:`Transport`."""
        return await self._transport().dial(uri, options, interface)

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """See :class:`Transport`."""
        return await self._transport().listen(uri, interface)

    async def close(self) -> None:
        """See :class:`Transport`."""
        if self._made is not None:
            await self._made.close()


def make_transports(context: TransportContext) -> Mapping[str, Transport]:
    """Return the transports of a node by scheme."""

    def unix() -> Transport:
        from yggpy.links.unix import UnixTransport

        return UnixTransport(context)

    def socks(*, secure: bool) -> Transport:
        from yggpy.links.socks import SocksTransport

        return SocksTransport(context, secure=secure)

    def websocket(*, secure: bool) -> Transport:
        from yggpy.links.websocket import WebSocketTransport

        return WebSocketTransport(context, secure=secure)

    def quic() -> Transport:
        from yggpy.links.quic import QuicTransport

        return QuicTransport(context)

    return {
        "tcp": TcpTransport(context, secure=False),
        "tls": TcpTransport(context, secure=True),
        "unix": DeferredTransport(unix),
        "socks": DeferredTransport(lambda: socks(secure=False)),
        "sockstls": DeferredTransport(lambda: socks(secure=True)),
        "ws": DeferredTransport(lambda: websocket(secure=False)),
        "wss": DeferredTransport(lambda: websocket(secure=True)),
        "quic": DeferredTransport(quic),
    }


def parse_peering(text: str) -> tuple[LinkUri, LinkOptions]:
    """Return a URI to dial, and its options, checked. Raises ``PeerUriError`` with Go's words."""
    uri = LinkUri.parse(text)
    if uri.scheme not in SCHEMES:  # an unknown scheme is told before a wrong option
        raise PeerUriError(SCHEME_UNKNOWN)
    return uri, uri.dial_options()


def parse_listener(text: str) -> tuple[LinkUri, LinkOptions]:
    """Return a URI to listen on, and its options, checked.

    Raises ``PeerUriError`` when it does not parse, ``OSError`` for all else, both with Go's words.
    """
    uri = LinkUri.parse(text)
    if uri.scheme == "wss":
        raise TransportError(WSS_LISTENER)
    if uri.scheme not in SCHEMES - DIAL_ONLY_SCHEMES:
        raise TransportError(SCHEME_UNKNOWN)
    try:
        return uri, uri.listen_options()
    except PeerUriError as error:
        raise TransportError(str(error)) from None
