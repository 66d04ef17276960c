"""The responder's sockets: UDP and TCP on the same ports, who may ask, and how much.

A stranger gets no answer at all, not even a refusal: by UDP anybody can write anybody's address on a question. By TCP
he is hung up on.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol, TypeAlias

from yggpy.config.dns import Endpoint, shown_endpoint
from yggpy.dns.message import MAX_QUERY

__all__ = ["MAX_CLIENTS", "MAX_PENDING", "Client", "DnsServer", "Handler"]

MAX_CLIENTS = 64
"""TCP connections of a listener at a time. When full, the longest idle one is closed; if all wait for answers, the new
one is."""
IDLE_TIMEOUT = 10.0
"""Seconds that a TCP client may take for one question, and for taking its answer."""
MAX_PENDING = 512
"""Questions by UDP that wait for others' answers; further ones are dropped, and the client asks again."""
READ_BATCH = 32
"""Datagrams read in a row before others get their turn."""
ERROR_PAUSE = 1.0
"""Seconds without reading after an unexpected error of a socket."""
_BACKLOG = 64
_ANCILLARY = 128
_PORT_ATTEMPTS = 16
"""How often another free port is tried, where any will do, if only UDP can have it."""
_IP_PKTINFO = 8
"""``socket`` has no name for it before Python 3.14."""
_LENGTH = struct.Struct(">H")

Client: TypeAlias = IPv4Address | IPv6Address
_Ancillary: TypeAlias = list[tuple[int, int, bytes]]


class Handler(Protocol):
    """What answers."""

    def may_ask(self, client: Client) -> bool:
        """Whether ``client`` gets answers."""
        ...

    def answer(self, data: bytes, *, stream: bool) -> bytes | Awaitable[bytes] | None:
        """Return the answer to a message, or what becomes it; None: there is none."""
        ...


class DnsServer:
    """Listens for questions and hands them to ``handler``. Needs a running event loop."""

    def __init__(self, handler: Handler, logger: logging.Logger) -> None:
        self._handler = handler
        self._log = logger
        self._listeners: dict[Endpoint, _Listener] = {}

    @property
    def addresses(self) -> list[Endpoint]:
        """Where it listens, with the ports that it really has."""
        return [listener.address for listener in self._listeners.values()]

    async def listen(self, endpoints: Iterable[Endpoint]) -> list[str]:
        """Listen there and nowhere else; what is open already stays. Return what does not work, in lines."""
        wanted = dict.fromkeys(endpoints)
        for endpoint in [endpoint for endpoint in self._listeners if endpoint not in wanted]:
            await self._listeners.pop(endpoint).close()
        trouble = []
        for endpoint in wanted:
            if endpoint in self._listeners:
                continue
            try:
                self._listeners[endpoint] = await _Listener.open(endpoint, self._handler, self._log)
            except OSError as error:
                trouble.append(f"Cannot listen for DNS on {shown_endpoint(endpoint)}: {_reason(error, endpoint)}")
                continue
            self._log.info("DNS responder listening on %s", shown_endpoint(self._listeners[endpoint].address))
        return trouble

    async def close(self) -> None:
        """Stop."""
        await self.listen(())


def _reason(error: OSError, endpoint: Endpoint) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            hint = f"; another program has the port (ss -lnp 'sport = {endpoint[1]}' tells which)"
        case errno.EACCES:
            hint = "; a port below 1024 needs root or CAP_NET_BIND_SERVICE"
        case errno.EADDRNOTAVAIL:
            hint = "; this machine has no such address"
        case _:
            hint = ""
    text = os.strerror(error.errno) if error.errno else str(error)
    return f"{text[:1].lower()}{text[1:]}{hint}"


class _Listener:
    """One UDP and one TCP socket."""

    def __init__(self, udp: socket.socket, handler: Handler, logger: logging.Logger) -> None:
        self._udp = udp
        self._handler = handler
        self._log = logger
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: dict[asyncio.Task[None], float | None] = {}  # idle since; None: its question is being answered
        self._pause: asyncio.TimerHandle | None = None
        self._server: asyncio.Server | None = None
        name = udp.getsockname()
        self.address: Endpoint = (name[0], name[1])

    @classmethod
    async def open(cls, endpoint: Endpoint, handler: Handler, logger: logging.Logger) -> _Listener:
        """Raises ``OSError``."""
        udp, tcp = _pair(endpoint)
        listener = cls(udp, handler, logger)
        try:
            listener._server = await asyncio.start_server(
                listener._connected, sock=tcp, limit=MAX_QUERY + _LENGTH.size, backlog=_BACKLOG
            )
        except BaseException:
            udp.close()
            tcp.close()
            raise
        listener._resume()
        return listener

    async def close(self) -> None:
        self._suspend()
        if self._pause is not None:
            self._pause.cancel()
        self._udp.close()
        if self._server is not None:
            self._server.close()
        tasks = [*self._tasks, *self._clients]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- UDP ---------------------------------------------------------------------------------------------

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._udp.fileno(), self._readable)

    def _suspend(self) -> None:
        if self._pause is None:
            self._loop.remove_reader(self._udp.fileno())

    def _readable(self) -> None:
        for _ in range(READ_BATCH):
            try:
                data, ancillary, flags, source = self._udp.recvmsg(MAX_QUERY, _ANCILLARY)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # an earlier answer could not be delivered
            except OSError as error:
                self._log.error("DNS responder on %s: %s", shown_endpoint(self.address), error)
                self._suspend()
                self._pause = self._loop.call_later(ERROR_PAUSE, self._resume)
                return
            if not flags & socket.MSG_TRUNC:
                self._datagram(data, ancillary, source)

    def _datagram(self, data: bytes, ancillary: _Ancillary, source: tuple[str, int]) -> None:
        if not self._handler.may_ask(_client(source)):
            return
        answer = self._handler.answer(data, stream=False)
        if isinstance(answer, bytes):
            self._send(answer, ancillary, source)
        elif answer is not None:
            if len(self._tasks) >= MAX_PENDING:
                _drop(answer)
                return
            task = asyncio.ensure_future(self._send_later(answer, ancillary, source))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_later(self, answer: Awaitable[bytes], ancillary: _Ancillary, source: tuple[str, int]) -> None:
        self._send(await answer, ancillary, source)

    def _send(self, data: bytes, ancillary: _Ancillary, source: tuple[str, int]) -> None:
        # What came with the question says to which of our addresses; the answer must come from the same.
        with suppress(OSError):
            self._udp.sendmsg([data], ancillary, 0, source)

    # -- TCP ---------------------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        if task is None or peer is None or not self._handler.may_ask(_client(peer)) or not self._make_room():
            writer.close()
            return
        try:
            # Cancelled by ``close``: some versions of asyncio would report that as an error of this task.
            with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._converse(task, reader, writer)
        finally:
            self._clients.pop(task, None)
            writer.transport.abort()

    def _make_room(self) -> bool:
        if len(self._clients) < MAX_CLIENTS:
            return True
        idle = [(since, task) for task, since in self._clients.items() if since is not None]
        if not idle:
            return False
        _, victim = min(idle, key=lambda item: item[0])
        del self._clients[victim]
        victim.cancel()
        return True

    async def _converse(
        self, task: asyncio.Task[None], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one question after the other, until the client ends it or takes too long."""
        while True:
            self._clients[task] = self._loop.time()
            async with asyncio.timeout(IDLE_TIMEOUT):
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                if length > MAX_QUERY:
                    return
                data = await reader.readexactly(length)
            self._clients[task] = None
            answer = self._handler.answer(data, stream=True)
            if answer is None:
                return
            if not isinstance(answer, bytes):
                answer = await answer
            self._clients[task] = self._loop.time()
            writer.write(_LENGTH.pack(len(answer)) + answer)
            async with asyncio.timeout(IDLE_TIMEOUT):
                await writer.drain()


def _drop(answer: Awaitable[bytes]) -> None:
    """Nobody will wait for it; coroutines complain about that otherwise."""
    close: Callable[[], None] | None = getattr(answer, "close", None)
    if close is not None:
        close()


def _client(source: tuple[str, int]) -> Client:
    return ip_address(source[0].partition("%")[0])


def _pair(endpoint: Endpoint) -> tuple[socket.socket, socket.socket]:
    """Return a UDP and a TCP socket on one port. Raises ``OSError``."""
    left = 1 if endpoint[1] else _PORT_ATTEMPTS
    while True:
        left -= 1
        udp = _socket(socket.SOCK_DGRAM, endpoint)
        try:
            return udp, _socket(socket.SOCK_STREAM, udp.getsockname()[:2])
        except OSError as error:
            udp.close()
            if error.errno != errno.EADDRINUSE or not left:
                raise


def _socket(kind: socket.SocketKind, endpoint: Endpoint) -> socket.socket:
    """Return a socket bound there. Raises ``OSError``."""
    address = ip_address(endpoint[0])
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    made = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        elif address.is_unspecified:
            if family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        made.bind(endpoint)
    except BaseException:
        made.close()
        raise
    return made
