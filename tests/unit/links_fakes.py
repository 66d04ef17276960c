"""What tests of links stand on: a node that keeps what it is given, connected sockets, and a pause under control."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, cast

from yggpy.datapath.base import ByteStream, CloseReason, Datapath, LinkCounters, LinkEnd, TlsParameters
from yggpy.datapath.streams import SocketStream, open_stream
from yggpy.keys import PrivateKey
from yggpy.links.manager import LinkManager
from yggpy.links.model import EstablishedLink, LinkInfo, LinkStatus

KEY_A = PrivateKey.from_seed(bytes([1]) * 32)
KEY_B = PrivateKey.from_seed(bytes([2]) * 32)
WAIT = 5.0
"""Seconds after which a test that waits has failed."""


class FakeDatapath:
    """Opens streams, nothing else."""

    async def open_stream(self, sock: socket.socket, tls: TlsParameters | None) -> ByteStream:
        return await open_stream(sock, tls)


class FakeLink:
    """A link that the fake node was given."""

    def __init__(self, info: LinkInfo, stream: ByteStream) -> None:
        self.info = info
        self.stream = stream
        self.received = bytearray()
        self.ended: asyncio.Future[LinkEnd] = asyncio.get_running_loop().create_future()
        stream.start(self.received.extend, self.end, lambda: None)

    def end(self, end: LinkEnd) -> None:
        self.stream.close()
        if not self.ended.done():
            self.ended.set_result(end)


class StreamSink:
    """Collects what a started stream delivers; its end may come only once. ``then`` is called after each piece."""

    def __init__(self, stream: ByteStream, then: Callable[[], None] = lambda: None) -> None:
        self.data = bytearray()
        self.end: LinkEnd | None = None
        self.writable = 0
        self._then = then
        stream.start(self._on_data, self._on_end, self._on_writable)

    def _on_data(self, data: bytes | memoryview) -> None:
        self.data += data
        self._then()

    def _on_end(self, end: LinkEnd) -> None:
        assert self.end is None
        self.end = end

    def _on_writable(self) -> None:
        self.writable += 1


class FakeHost:
    """A ``LinkHost`` that keeps its links in a list."""

    def __init__(self) -> None:
        self.links: list[FakeLink] = []
        self.broken = False

    @property
    def datapath(self) -> Datapath:
        return cast(Datapath, FakeDatapath())

    def link_established(self, info: LinkInfo, stream: ByteStream) -> EstablishedLink:
        if self.broken:
            raise RuntimeError("a defect")
        link = FakeLink(info, stream)
        self.links.append(link)
        return EstablishedLink(
            len(self.links), link.ended, lambda: LinkCounters(0, 0), lambda: link.end(LinkEnd(CloseReason.LOCAL))
        )


class Pauses:
    """Stands for ``asyncio.sleep`` between two attempts: keeps what was asked for, returns when told to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._current: asyncio.Future[None] | None = None

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        self._current = asyncio.get_running_loop().create_future()
        await self._current

    @property
    def pausing(self) -> bool:
        return self._current is not None and not self._current.done()

    def end(self) -> None:
        assert self._current is not None
        self._current.set_result(None)


class Side:
    """A fake node with a manager."""

    def __init__(self, key: PrivateKey, **options: Any) -> None:
        self.key = key
        self.host = FakeHost()
        self.pauses = Pauses()
        logger = logging.getLogger(f"test.{key.public_key.hex()[:4]}")
        logger.setLevel(logging.DEBUG)
        self.manager = LinkManager(key, self.host, logger=logger, pause=self.pauses, **options)

    def status(self, uri: str) -> LinkStatus:
        return next(link for link in self.manager.links() if link.uri == uri)

    async def __aenter__(self) -> Side:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.manager.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until ``condition()`` holds."""
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110  conditions of many kinds, none of which has an event
            await asyncio.sleep(0.002)


def socket_pair(*, tcp: bool = False) -> tuple[socket.socket, socket.socket]:
    """Return two connected non-blocking sockets."""
    if not tcp:
        one, two = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = socket.create_connection(server.getsockname())
            two, _ = server.accept()
    one.setblocking(False)
    two.setblocking(False)
    return one, two


def stream_and_socket(*, tcp: bool = False) -> tuple[SocketStream, socket.socket]:
    """Return a plain stream and the bare other end."""
    one, two = socket_pair(tcp=tcp)
    return SocketStream(one), two
