"""``ws://`` and ``wss://`` links (protocol section 2.12): made for the web's proxies and for networks that let nothing
else through.

An HTTP upgrade with sub-protocol ``ygg-ws``, then a :class:`WebSocketStream`. The HTTP heads are read here, byte by
byte up to a limit, so that neither side can fill our memory before it has said what it wants; the ``websockets``
library judges them. ``wss`` can only be dialled: who wants to be reached by it puts a reverse proxy in front of a
``ws`` listener, and the proxy asks that listener's ``/health`` how it is doing.
"""

from __future__ import annotations

import asyncio
import http
import logging
import os
import re
import socket
import string
from collections.abc import Awaitable, Sequence
from urllib.parse import quote, unquote_plus, urlsplit

from websockets.client import ClientProtocol
from websockets.frames import CloseCode
from websockets.http11 import Request
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from yggpy.datapath.base import ByteStream, StreamClosed, TlsParameters
from yggpy.datapath.socktext import join_host_port
from yggpy.datapath.streams import SocketStream, open_stream
from yggpy.links.dial import DIAL_TIMEOUT, dial_tcp, peer_host_and_port
from yggpy.links.listen import FinishStream, listen_tcp
from yggpy.links.resolve import TransportError, as_address
from yggpy.links.transports import WSS_LISTENER, Acceptor, NoLinkWantedError, TransportContext
from yggpy.links.uri import LinkOptions, LinkUri
from yggpy.links.url import go_quote
from yggpy.links.webproxy import WebProxy, web_proxy
from yggpy.links.websocket_stream import MAX_FRAME, WebSocketStream

__all__ = ["MAX_HEAD", "SUBPROTOCOL", "WebSocketTransport", "origin_allowed"]

SUBPROTOCOL = Subprotocol("ygg-ws")
MAX_HEAD = 1 << 14
"""Bytes of the longest HTTP request or response head that is read."""
HEALTH_PATHS = frozenset(("/health", "/healthz"))
WRONG_SUBPROTOCOL = "client must speak the ygg-ws subprotocol"
OWN_OPTIONS = frozenset(("key", "priority", "password", "maxbackoff", "sni", "cost"))
"""Query options that are for us, and that nobody on the way needs to know. Go sends them along."""

_QUIET = logging.getLogger("yggpy.websockets")
_QUIET.setLevel(logging.ERROR)  # the library logs each frame, unless it finds that nobody listens


class WebSocketTransport:
    """``ws://`` and, with ``secure``, ``wss://``."""

    def __init__(self, context: TransportContext, *, secure: bool) -> None:
        self._context = context
        self._secure = secure

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """See :class:`~yggpy.links.transports.Transport`.

        As in Go, the server name and the ``Host`` are the URI's host, whatever ``sni`` says.
        """
        context = self._context
        host, port = peer_host_and_port(uri.host_port)
        tls = None
        if self._secure:
            tls = TlsParameters(context.identity(), False, None if as_address(host) is not None else host)

        async def finish(sock: socket.socket) -> ByteStream:
            stream = await open_stream(sock, tls)
            return await _or_close(stream, _upgrade(stream, uri, host))

        phase = "tls and WebSocket handshake" if self._secure else "WebSocket handshake"
        proxy = web_proxy(self._secure, host, port, os.environ)
        if proxy is None:
            return await dial_tcp(uri.host_port, interface, finish, context.resolver, context.log, phase=phase)
        return await self._dial_through(proxy, host, port, interface, finish)

    async def _dial_through(
        self, proxy: WebProxy, host: str, port: int, interface: str, finish: FinishStream
    ) -> ByteStream:
        from python_socks import ProxyType

        from yggpy.links.socks import PROXY_TIMEOUT, tunnel  # few nodes have such a proxy

        kind = ProxyType.HTTP if proxy.scheme == "http" else ProxyType.SOCKS5

        async def through(sock: socket.socket) -> ByteStream:
            try:
                await tunnel(sock, kind, host, port, proxy.user, proxy.password)
            except TransportError as error:
                raise TransportError(f"failed to WebSocket dial: proxy {proxy.host_port}: {error}") from error
            async with asyncio.timeout(DIAL_TIMEOUT):
                return await finish(sock)

        context = self._context
        patience = PROXY_TIMEOUT + DIAL_TIMEOUT
        return await dial_tcp(
            proxy.host_port, interface, through, context.resolver, context.log, phase="proxy", patience=patience
        )

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """See :class:`~yggpy.links.transports.Transport`. ``interface`` means nothing here, as in Go."""
        if self._secure:
            raise TransportError(WSS_LISTENER)
        origins = uri.origins

        async def finish(sock: socket.socket) -> ByteStream:
            stream = await open_stream(sock, None)
            return await _or_close(stream, _welcome(stream, origins))

        return await listen_tcp(uri.host_port, "", finish, self._context.resolver)

    async def close(self) -> None:
        """See :class:`~yggpy.links.transports.Transport`; nothing lingers."""


async def _or_close(stream: SocketStream, work: Awaitable[WebSocketStream]) -> WebSocketStream:
    """Await ``work``; if nothing comes of it, cancellation included, close ``stream``."""
    try:
        return await work
    except BaseException:
        stream.close()
        raise


async def _read_head(stream: SocketStream) -> bytes:
    """Read an HTTP head up to its empty line and not a byte more. Raises ``StreamClosed``."""
    head = bytearray()
    end = b"\r\n\r\n"
    while not head.endswith(end):
        if len(head) > MAX_HEAD:
            raise StreamClosed(f"HTTP head longer than {MAX_HEAD} bytes")
        matched = next(size for size in (3, 2, 1, 0) if head.endswith(end[:size]))
        try:
            head += await stream.read_exactly(len(end) - matched)
        except StreamClosed as error:
            raise StreamClosed("unexpected EOF" if head and str(error) == "EOF" else str(error)) from None
    return bytes(head)


def _send(stream: SocketStream, protocol: Protocol) -> None:
    for data in protocol.data_to_send():
        if data:
            stream.write(data)


# -- dialling ------------------------------------------------------------------------------------------------


async def _upgrade(stream: SocketStream, uri: LinkUri, host: str) -> WebSocketStream:
    """Ask for a WebSocket; raises ``OSError`` with Go's words."""
    protocol = ClientProtocol(_target(uri, host), subprotocols=[SUBPROTOCOL], max_size=MAX_FRAME, logger=_QUIET)
    request = protocol.connect()
    del request.headers["Host"]
    request.headers["Host"] = _host_header(host)
    protocol.send_request(request)
    _send(stream, protocol)
    try:
        head = await _read_head(stream)
    except StreamClosed as error:
        raise TransportError(f"failed to WebSocket dial: {error}") from None
    status_line = head.partition(b"\r\n")[0]
    status = re.match(rb"HTTP/1\.[01] ([0-9]{3})(?: |$)", status_line)
    if status is None:
        raise TransportError(f"failed to WebSocket dial: malformed HTTP response {go_quote(status_line[:80])}")
    if status[1] != b"101":
        raise TransportError(
            f"failed to WebSocket dial: expected handshake response status code 101 but got {status[1].decode()}"
        )
    protocol.receive_data(head)
    protocol.events_received()
    if protocol.handshake_exc is not None:
        raise TransportError(f"failed to WebSocket dial: WebSocket protocol violation: {protocol.handshake_exc}")
    return WebSocketStream(stream, protocol)


def _host_header(host: str) -> str:
    """Return ``host`` for HTTP: ASCII, an IPv6 address in brackets, without the port as Go has it."""
    try:
        return join_host_port(host if host.isascii() else host.encode("idna").decode(), "").removesuffix(":")
    except UnicodeError:
        raise TransportError(f"failed to WebSocket dial: no legal host name: {host}") from None


def _target(uri: LinkUri, host: str) -> WebSocketURI:
    """Return what the library needs of ``uri``: path, query and login. The connection itself is ours."""
    url = uri.url
    query = quote(url.query, safe=string.punctuation)
    foreign = [part for part in query.split("&") if unquote_plus(part.partition("=")[0]) not in OWN_OPTIONS]
    login = None if url.user is None else url.user.decode("utf-8", "replace")
    password = None if login is None else (url.password or b"").decode("utf-8", "replace")
    return WebSocketURI(uri.scheme == "wss", host, 0, urlsplit(str(uri)).path, "&".join(foreign), login, password)


# -- listening -----------------------------------------------------------------------------------------------


async def _welcome(stream: SocketStream, origins: Sequence[str]) -> WebSocketStream:
    """Answer an HTTP request; raises ``OSError`` without a link for it, ``NoLinkWantedError`` after a health check."""
    head = await _read_head(stream)
    method, path = _request_line(head)
    if path in HEALTH_PATHS:
        stream.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain; charset=utf-8\r\n")
        stream.write(b"Connection: close\r\n\r\n" + (b"" if method == "HEAD" else b"OK"))
        raise NoLinkWantedError("health check answered")
    protocol = ServerProtocol(
        subprotocols=[SUBPROTOCOL], select_subprotocol=_select_subprotocol, max_size=MAX_FRAME, logger=_QUIET
    )
    protocol.receive_data(head)
    request = next((event for event in protocol.events_received() if isinstance(event, Request)), None)
    if request is None:
        answer = b"".join(protocol.data_to_send())
        stream.write(answer or b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        raise TransportError("WebSocket upgrade refused: no valid HTTP request")
    refusal = _origin_refusal(request, origins)
    if refusal:
        protocol.send_response(protocol.reject(http.HTTPStatus.FORBIDDEN, refusal + "\n"))
        _send(stream, protocol)
        raise TransportError(f"WebSocket upgrade refused: {refusal}")
    response = protocol.accept(request)
    protocol.send_response(response)
    _send(stream, protocol)
    if protocol.handshake_exc is not None:
        raise TransportError(f"WebSocket upgrade refused: {protocol.handshake_exc}")
    made = WebSocketStream(stream, protocol)
    if protocol.subprotocol is None:
        made.close(CloseCode.POLICY_VIOLATION, WRONG_SUBPROTOCOL)
        raise TransportError(WRONG_SUBPROTOCOL)
    return made


def _request_line(head: bytes) -> tuple[str, str]:
    """Return method and path, both "" if this is no request."""
    parts = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return "", ""
    try:
        return parts[0], urlsplit(parts[1]).path
    except ValueError:
        return "", ""


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return SUBPROTOCOL if any(name.lower() == SUBPROTOCOL for name in offered) else None


def _origin_refusal(request: Request, origins: Sequence[str]) -> str:
    """Return why a browser's page from elsewhere may not connect, "" if it may, or if this is no browser."""
    origin, host = ", ".join(request.headers.get_all("Origin")), ", ".join(request.headers.get_all("Host"))
    if origin_allowed(origin, host, origins):
        return ""
    return f"request Origin {go_quote(origin.encode())} is not authorized for Host {go_quote(host.encode())}"


def origin_allowed(origin: str, host: str, patterns: Sequence[str]) -> bool:
    """Judge an ``Origin`` header as Go does: none, the host itself, or one that a pattern of the listener matches.

    A pattern is compared with the origin's ``host:port``, or with ``scheme://host:port`` if it contains ``://``; in it
    ``*`` and ``?`` stand for anything but slashes, ``[a-z]`` and ``[^a-z]`` for one character. ``*`` allows all.
    """
    if not origin or "*" in patterns:
        return True
    try:
        parsed = urlsplit(origin)
    except ValueError:
        return False
    site = parsed.netloc.rpartition("@")[2].lower()
    if site == host.lower():
        return True
    full = f"{parsed.scheme}://{site}".lower()
    for pattern in patterns:
        try:
            if re.fullmatch(_glob(pattern.lower()), full if "://" in pattern else site):
                return True
        except re.error:  # a malformed pattern ends the search in Go, too
            return False
    return False


def _glob(pattern: str) -> str:
    """Return the regular expression for a pattern of Go's ``path.Match``; raises ``re.error`` for malformed ones."""
    out, index = "", 0
    while index < len(pattern):
        character = pattern[index]
        index += 1
        if character == "*":
            out += "[^/]*"
        elif character == "?":
            out += "[^/]"
        elif character == "[":
            end = pattern.find("]", index + 1)
            if end < 0:
                raise re.error("syntax error in pattern")
            inside = pattern[index:end]
            negated = inside.startswith("^")
            out += "[" + "^" * negated + re.sub(r"([\[\]&~|])", r"\\\1", inside[negated:]) + "]"
            index = end + 1
        elif character == "\\":
            if index == len(pattern):
                raise re.error("syntax error in pattern")
            out += re.escape(pattern[index])
            index += 1
        else:
            out += re.escape(character)
    return out
