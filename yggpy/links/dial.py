"""Dialling (protocol section 2.5): which addresses, from where, how long, and what to say when it fails.

Most carriers begin with a TCP connection: ``dial_tcp`` makes it and gives the socket to ``finish``, which does the rest
(TLS, a proxy's handshake, an HTTP upgrade). QUIC has a UDP socket instead: ``dial_each`` and ``connect_udp``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from yggpy.datapath.base import ByteStream
from yggpy.datapath.socktext import IO_TIMEOUT, error_text, join_host_port, operation_error
from yggpy.links.interfaces import Interface, IpAddress, find_interface, source_address
from yggpy.links.resolve import Resolver, TransportError
from yggpy.links.url import split_host_port

__all__ = ["DIAL_TIMEOUT", "connect_udp", "dial_each", "dial_tcp", "is_suitable", "peer_host_and_port"]

DIAL_TIMEOUT = 5.0
"""Seconds for one address: the connection, and the handshake of what lies above it (TLS, WebSocket, QUIC)."""
MAX_PORT = 65535

_MESH = ipaddress.IPv6Network("200::/7")


def is_suitable(address: IpAddress) -> bool:
    """Tell whether a peer may have this address. Addresses inside the mesh would tunnel it through itself."""
    in_mesh = isinstance(address, ipaddress.IPv6Address) and address in _MESH
    return not (address.is_unspecified or address.is_multicast or in_mesh)


async def dial_each(
    host_port: str, resolver: Resolver, log: logging.Logger, attempt: Callable[[IpAddress, int], Awaitable[ByteStream]]
) -> ByteStream:
    """Return what ``attempt(address, port)`` makes of the first suitable address of ``host_port`` that works.

    Raises ``OSError`` with the last address's error, in Go's words.
    """
    host, port = peer_host_and_port(host_port)
    addresses = [address for address in await resolver.addresses(host) if is_suitable(address)]
    if not addresses:
        raise TransportError("peer has no suitable addresses")
    failure: OSError | None = None
    for address in addresses:
        try:
            return await attempt(address, port)
        except OSError as error:
            failure = error
            log.debug("Dialling %s reported error: %s", join_host_port(str(address), port), error)
    assert failure is not None
    raise failure


async def dial_tcp(
    host_port: str,
    interface: str,
    finish: Callable[[socket.socket], Awaitable[ByteStream]],
    resolver: Resolver,
    log: logging.Logger,
    *,
    phase: str = "tls handshake",
    patience: float | None = None,
) -> ByteStream:
    """Connect to the first address of ``host_port`` that works and return what ``finish`` makes of the socket.

    ``interface`` is the source interface, "" for any. ``finish`` owns the socket from its call on, whatever happens;
    ``phase`` is what it does, for the error when time is up, and ``patience`` the seconds that it has, by default what
    the connection left of ``DIAL_TIMEOUT``. Raises ``OSError`` with the last address's error, in Go's words.
    """

    async def attempt(address: IpAddress, port: int) -> ByteStream:
        route = _Route(address, port, interface)
        doing = f"dial tcp {route.text}"
        try:
            async with asyncio.timeout(DIAL_TIMEOUT) as limit:
                sock = await _connect(route, log)
                doing = f"{phase} with {join_host_port(str(address), port)}"
                if patience is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + patience)
                return await finish(sock)
        except TimeoutError:
            raise TransportError(f"{doing}: {IO_TIMEOUT}") from None

    return await dial_each(host_port, resolver, log, attempt)


def connect_udp(address: IpAddress, port: int, interface: str, log: logging.Logger) -> socket.socket:
    """Return a non-blocking UDP socket connected to ``address``; raises ``OSError``.

    A connected one hears at once when nobody listens there, and takes datagrams from nobody else.
    """
    return _prepare(_Route(address, port, interface), "udp", log)


def peer_host_and_port(host_port: str) -> tuple[str, int]:
    """Split ``host:port`` of a URI that is dialled; raises ``TransportError`` with Go's words."""
    try:
        host, port = split_host_port(host_port)
    except ValueError as error:
        raise TransportError(str(error)) from None
    if not port:
        raise TransportError('strconv.Atoi: parsing "": invalid syntax')
    number = int(port) if len(port) <= len(str(MAX_PORT)) else MAX_PORT + 1
    if number > MAX_PORT:
        raise TransportError(f"dial tcp: address {port}: invalid port")
    return host, number


class _Route:
    """From where to where one attempt goes."""

    def __init__(self, destination: IpAddress, port: int, interface: str) -> None:
        self.family = socket.AF_INET6 if destination.version == 6 else socket.AF_INET
        self.interface = _usable_interface(interface) if interface else None
        zone = ""
        if destination.is_link_local:
            if not interface:
                raise TransportError("link-local address requires a zone")
            zone = "%" + interface
        self.source = None if self.interface is None else _source(self.interface, destination)
        self.text = join_host_port(f"{destination}{zone}", port)
        if self.source is not None:
            self.text = f"{join_host_port(f'{self.source}%{interface}', 0)}->{self.text}"
        self.remote = self._sockaddr(destination, port)

    def _sockaddr(self, address: IpAddress, port: int) -> Any:
        if self.family == socket.AF_INET:
            return (str(address), port)
        scope = self.interface.index if self.interface is not None and address.is_link_local else 0
        return (str(address), port, 0, scope)

    @property
    def local(self) -> Any:
        """What to bind the socket to, or None."""
        return None if self.source is None else self._sockaddr(self.source, 0)


def _usable_interface(name: str) -> Interface:
    interface = find_interface(name)
    if interface is None:
        raise TransportError(f'interface "{name}" not found')
    if not interface.up:
        raise TransportError(f'interface "{name}" is not up')
    return interface


def _source(interface: Interface, destination: IpAddress) -> IpAddress | None:
    source = source_address(interface, destination)
    if source is None and not destination.is_link_local:
        raise TransportError(f'no suitable source address found on interface "{interface.name}"')
    return source


async def _connect(route: _Route, log: logging.Logger) -> socket.socket:
    sock = _prepare(route, "tcp", log)
    try:
        await asyncio.get_running_loop().sock_connect(sock, route.remote)
        if sock.getsockname() == sock.getpeername():
            # Both ends chose the same ephemeral port: TCP met itself, nobody listens there.
            raise TransportError(f"dial tcp {route.text}: connect: connection refused")
    except TransportError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        raise TransportError(operation_error("dial", "tcp", route.text, "connect", error)) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _prepare(route: _Route, network: str, log: logging.Logger) -> socket.socket:
    """Return a non-blocking socket for ``route``, bound as it wants; a UDP socket is connected, too."""
    call, sock = "socket", None
    try:
        sock = socket.socket(route.family, socket.SOCK_STREAM if network == "tcp" else socket.SOCK_DGRAM)
        sock.setblocking(False)
        if network == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if route.interface is not None:
            _bind_to_device(sock, route.interface.name, log)
        if route.local is not None:
            call = "bind"
            sock.bind(route.local)
        if network == "udp":
            call = "connect"
            sock.connect(route.remote)
    except OSError as error:
        if sock is not None:
            sock.close()
        raise TransportError(operation_error("dial", network, route.text, call, error)) from error
    return sock


def _bind_to_device(sock: socket.socket, name: str, log: logging.Logger) -> None:
    """Keep the connection on the interface whatever the routes say; old kernels allow it to root only."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
    except OSError as error:
        log.debug("Failed to set SO_BINDTODEVICE: %s: %s", name, error_text(error))
