"""Listening over TCP, as Go's ``net.Listen("tcp", …)`` does, and the socket of a UDP listener.

``accept`` only takes the connection from the kernel. Whatever needs the other side's cooperation, the TLS handshake
first of all, happens in :meth:`PendingSocket.open`, which the caller runs apart: a silent client holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from yggpy.datapath.base import ByteStream
from yggpy.datapath.socktext import join_host_port, operation_error, sockaddr_text
from yggpy.links.interfaces import IpAddress
from yggpy.links.resolve import Resolver, TransportError, as_address
from yggpy.links.url import split_host_port

__all__ = [
    "BACKLOG",
    "FinishStream",
    "PendingSocket",
    "SocketAcceptor",
    "TcpAcceptor",
    "listen_tcp",
    "listening_socket",
]

FinishStream: TypeAlias = Callable[[socket.socket], Awaitable[ByteStream]]
"""Makes a byte stream of a connected socket, after a TLS handshake where there is one."""

BACKLOG = 512
"""Connections that the kernel keeps for us until we accept them."""
MAX_PORT = 65535


class PendingSocket:
    """An accepted connection that has not said anything yet."""

    def __init__(self, sock: socket.socket, peer: Any, finish: FinishStream) -> None:
        self._sock = sock
        self._finish = finish
        self.remote_address = sockaddr_text(sock.family, peer)

    async def open(self) -> ByteStream:
        """Make it a byte stream (no time limit here); raises ``OSError``. On failure the socket is closed."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return await self._finish(self._sock)

    def close(self) -> None:
        """Drop the connection instead."""
        self._sock.close()


class SocketAcceptor:
    """A listening stream socket."""

    names_peers = True

    def __init__(self, sock: socket.socket, finish: FinishStream) -> None:
        self._sock = sock
        self._finish = finish
        self.address = sockaddr_text(sock.family, sock.getsockname())
        self.port = 0

    async def accept(self) -> PendingSocket:
        """Wait for the next connection; raises ``OSError``."""
        while True:
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                await self._readable()
            else:
                sock.setblocking(False)
                return PendingSocket(sock, peer, self._finish)

    async def _readable(self) -> None:
        """Wait for a caller. The loop's own ``sock_accept`` loses one who comes just when it is cancelled."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._sock)

    def close(self) -> None:
        """Stop listening. Nobody may be waiting in ``accept``."""
        self._sock.close()


class TcpAcceptor(SocketAcceptor):
    """A listening TCP socket."""

    def __init__(self, sock: socket.socket, finish: FinishStream) -> None:
        super().__init__(sock, finish)
        self.port = int(sock.getsockname()[1])


async def listen_tcp(host_port: str, interface: str, finish: FinishStream, resolver: Resolver) -> TcpAcceptor:
    """Listen on ``host_port``, as ``listening_socket`` says. ``finish`` makes a stream of an accepted socket."""
    return TcpAcceptor(await listening_socket(host_port, interface, resolver), finish)


async def listening_socket(
    host_port: str, interface: str, resolver: Resolver, *, network: str = "tcp"
) -> socket.socket:
    """Return a non-blocking socket that listens on ``host_port`` (``udp``: is bound to it); port 0: the system chooses.

    An empty or unspecified host means all addresses, IPv4 and IPv6 alike (``0.0.0.0`` too, as in Go). ``interface`` is
    the zone of a link-local host. Raises ``OSError``: ``listen tcp 127.0.0.1:5000: bind: address already in use``.
    """
    what = f"listen {network}"
    try:
        host, port_text = split_host_port(host_port)
    except ValueError as error:
        raise TransportError(f"{what}: {error}") from None
    port = int(port_text or 0) if len(port_text) <= len(str(MAX_PORT)) else MAX_PORT + 1
    if port > MAX_PORT:
        raise TransportError(f"{what}: address {port_text}: invalid port")
    zone = interface or host.partition("%")[2]
    try:
        address = await _listen_address(host, resolver)
    except TransportError as error:
        raise TransportError(f"{what}: {error}") from None
    return _listening_socket(network, address, port, zone)


async def _listen_address(host: str, resolver: Resolver) -> IpAddress | None:
    """Return the one address to bind, None for all of them."""
    if not host:
        return None
    address = as_address(host)
    if address is None:
        addresses = await resolver.addresses(host)
        address = next((found for found in addresses if found.version == 4), addresses[0])
    return None if address.is_unspecified else address


def _listening_socket(network: str, address: IpAddress | None, port: int, zone: str) -> socket.socket:
    if address is None:
        try:
            return _bind(network, socket.AF_INET6, ("::", port), f"[::]:{port}", v6_only=False)
        except TransportError:
            if socket.has_ipv6 and _ipv6_works():
                raise
        return _bind(network, socket.AF_INET, ("0.0.0.0", port), f"0.0.0.0:{port}")  # all addresses were asked for
    if address.version == 4:
        return _bind(network, socket.AF_INET, (str(address), port), f"{address}:{port}")
    scope = 0
    if address.is_link_local and zone:
        try:
            scope = socket.if_nametoindex(zone)
        except OSError:
            raise TransportError(f'listen {network}: interface "{zone}" not found') from None
    text = join_host_port(f"{address}%{zone}" if scope else str(address), port)
    return _bind(network, socket.AF_INET6, (str(address), port, 0, scope), text)


def _ipv6_works() -> bool:
    """Tell whether this machine has IPv6 at all; containers often do not."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(
    network: str, family: socket.AddressFamily, address: Any, text: str, *, v6_only: bool = True
) -> socket.socket:
    call, sock = "socket", None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM if network == "tcp" else socket.SOCK_DGRAM)
        sock.setblocking(False)
        if network == "tcp":  # two UDP sockets with this option could share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(v6_only))
        call = "bind"
        sock.bind(address)
        if network == "tcp":
            call = "listen"
            sock.listen(BACKLOG)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise TransportError(operation_error("listen", network, text, call, error)) from error
    return sock
