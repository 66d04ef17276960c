"""``socks://`` and ``sockstls://`` (protocol section 2.11): a TCP connection through a SOCKS5 proxy, Tor's for example.

``socks://[user:password@]proxy:port/peer:port``. The name of the peer is for the proxy to resolve. Once the proxy has
connected us its part is over: the socket goes to the data plane like any other. Only the dialling side exists.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any

from python_socks import ProxyError, ProxyType
from python_socks.async_.asyncio import Proxy

from yggpy.datapath.base import ByteStream, TlsParameters
from yggpy.datapath.socktext import IO_TIMEOUT, error_text, sockaddr_text
from yggpy.links.dial import dial_tcp
from yggpy.links.handshake import HANDSHAKE_TIMEOUT
from yggpy.links.resolve import TransportError
from yggpy.links.transports import SOCKS_LISTENER, Acceptor, TransportContext
from yggpy.links.uri import LinkOptions, LinkUri
from yggpy.links.url import split_host_port

__all__ = ["PROXY_TIMEOUT", "SocksTransport", "tunnel"]

PROXY_TIMEOUT = 60.0
"""Seconds for the proxy to connect us (Go waits for ever); a Tor circuit to an onion service may well take 20."""
MAX_CREDENTIAL = 255
"""Bytes of a user name or password (RFC 1929)."""
MAX_NAME = 255
"""Bytes of a host name (RFC 1928)."""

# RFC 1928's replies in the words of Go's SOCKS client.
_REPLIES = {
    1: "general SOCKS server failure",
    2: "connection not allowed by ruleset",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
_WORDS = (
    (re.compile("No acceptable authentication methods"), "no acceptable authentication methods"),
    (re.compile("Username and password authentication failure"), "username/password authentication failed"),
    (re.compile(r"Unexpected SOCKS version number: (\w+)"), "unexpected protocol version %d"),
    (re.compile(r"Invalid reply code: (\w+)"), "unknown error unknown code: %d"),
    (re.compile("Connection closed unexpectedly"), "EOF"),
)


class _Credential(str):
    """A user name or password that python-socks sends as Go does: any bytes, and the password may be empty.

    The library leaves empty ones out and knows ASCII only; it asks these three.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return True

    def __len__(self) -> int:
        return len(self.encode())

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return str.encode(self, "utf-8", "surrogateescape")


class _AlreadyConnected:
    """Stands where python-socks expects a proxy before the proxy: the connection is there, made our way."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def connect(self, **_: object) -> socket.socket:
        return self._sock


class SocksTransport:
    """``socks://`` and, with ``secure``, ``sockstls://``."""

    def __init__(self, context: TransportContext, *, secure: bool) -> None:
        self._context = context
        self._secure = secure

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """See :class:`~yggpy.links.transports.Transport`. ``interface`` is where the proxy is reached."""
        context = self._context
        # As in Go the server name is the proxy's, when the URI gives none by ``sni`` and the proxy has a name.
        tls = TlsParameters(context.identity(), False, options.server_name) if self._secure else None

        async def finish(sock: socket.socket) -> ByteStream:
            await _through(sock, uri)
            if tls is None:
                return await context.open_stream(sock, None)
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                return await context.open_stream(sock, tls)

        return await dial_tcp(
            uri.host_port,
            interface,
            finish,
            context.resolver,
            context.log,
            phase="socks connect",
            patience=PROXY_TIMEOUT + HANDSHAKE_TIMEOUT,
        )

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """Not in Go either; raises ``OSError``."""
        raise TransportError(SOCKS_LISTENER)

    async def close(self) -> None:
        """See :class:`~yggpy.links.transports.Transport`; nothing lingers."""


async def _through(sock: socket.socket, uri: LinkUri) -> None:
    """Let the proxy at the other end of ``sock`` connect us to the peer; on any failure the socket is closed."""
    target = _target(uri)
    where = f"socks connect tcp {sockaddr_text(sock.family, sock.getpeername())}->{target}"
    try:
        host, port = _host_and_port(target)
        await tunnel(sock, ProxyType.SOCKS5, host, port, uri.url.user, uri.url.password or b"")
    except TransportError as error:
        raise TransportError(f"{where}: {error}") from error
    except ValueError as error:
        sock.close()
        raise TransportError(f"{where}: {error}") from None


async def tunnel(
    sock: socket.socket, kind: ProxyType, host: str, port: int, user: bytes | None, password: bytes
) -> None:
    """Let the proxy at the other end of ``sock``, of whatever kind, connect us to ``host:port`` within its time limit.

    Raises ``TransportError``; on any failure the socket is closed.
    """
    try:
        name, secret = _credentials(user, password)
        # All that the library does with host and port of the proxy itself is to hand them to ``forward``.
        connected: Any = _AlreadyConnected(sock)
        proxy = Proxy(kind, "", 0, name, secret, rdns=True, forward=connected)
        async with asyncio.timeout(PROXY_TIMEOUT):
            await proxy.connect(host, port, timeout=PROXY_TIMEOUT + 1)
    except TimeoutError:
        sock.close()
        raise TransportError(IO_TIMEOUT) from None
    except (ProxyError, OSError, ValueError) as error:
        sock.close()
        raise TransportError(_words(error)) from error
    except BaseException:
        sock.close()
        raise


def _target(uri: LinkUri) -> str:
    """The first part of the path, as in Go: ``/peer.example:443``."""
    return uri.url.path.decode("utf-8", "surrogateescape").strip("/").partition("/")[0]


def _host_and_port(target: str) -> tuple[str, int]:
    """Split and check; raises ``ValueError`` with Go's words."""
    host, port = split_host_port(target)
    if not re.fullmatch("[0-9]+", port):
        raise ValueError(f'strconv.Atoi: parsing "{port}": invalid syntax')
    if len(port) > 5 or not 1 <= int(port) <= 65535:
        raise ValueError(f"port number out of range {port}")
    if len(host.encode("utf-8", "surrogateescape")) > MAX_NAME:
        raise ValueError("FQDN too long")
    return host, int(port)


def _credentials(user: bytes | None, password: bytes) -> tuple[str | None, str | None]:
    if not user:
        return None, None
    if len(user) > MAX_CREDENTIAL or len(password) > MAX_CREDENTIAL:
        raise ValueError("invalid username/password")
    name, secret = (part.decode("utf-8", "surrogateescape") for part in (user, password))
    return _Credential(name), _Credential(secret)


def _words(error: Exception) -> str:
    """Say what went wrong as Go's SOCKS client does."""
    if not isinstance(error, ProxyError):
        return error_text(error)
    code = error.error_code
    if code is not None and int(code) >= 100:  # an HTTP status; SOCKS5 has no replies that high
        return str(error)
    if code is not None:
        return "unknown error " + _REPLIES.get(int(code), f"unknown code: {int(code)}")
    for pattern, words in _WORDS:
        found = pattern.search(str(error))
        if found is not None:
            return words % tuple(int(number, 0) for number in found.groups())
    return str(error)
