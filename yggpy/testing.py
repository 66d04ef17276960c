"""Test your own code against real nodes without root, sockets or a network: nodes joined by in-memory links.

    async with testing.nodes(2) as (alice, bob):
        await testing.connect(alice, bob)
        await alice.send(bob.public_key, b"hello")
        assert await bob.receive() == (alice.public_key, b"hello")

The nodes are complete: they run the handshake, build a tree, look up paths and encrypt end to end. Only what carries
the bytes between them is different from the daemon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from yggpy.config import Config
from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed
from yggpy.node import Node

__all__ = ["MemoryStream", "connect", "memory_stream_pair", "nodes", "quiet_config"]

CONNECT_TIMEOUT = 10.0
"""Seconds that ``connect`` waits for both ends of a link."""


class MemoryStream:
    """One end of an in-memory byte stream (a ``ByteStream``); bytes arrive after ``latency`` seconds, in order."""

    def __init__(self, local_address: str, remote_address: str, latency: float) -> None:
        self._local_address = local_address
        self._remote_address = remote_address
        self._latency = latency
        self._loop = asyncio.get_running_loop()
        self._other: MemoryStream | None = None
        self._arrived = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._flying: deque[bytes | None] = deque()  # None: the end of the stream
        self._flying_bytes = 0
        self._ended = False
        self._closed = False
        self._on_data: Callable[[bytes | memoryview], None] | None = None
        self._on_end: Callable[[LinkEnd], None] | None = None
        self._on_writable: Callable[[], None] | None = None

    @property
    def local_address(self) -> str:
        """A made-up name of this end."""
        return self._local_address

    @property
    def remote_address(self) -> str:
        """A made-up name of the other end."""
        return self._remote_address

    @property
    def buffered(self) -> int:
        """Bytes written here that have not yet arrived at the other end."""
        return self._flying_bytes

    async def read_exactly(self, count: int) -> bytes:
        """See ``ByteStream``."""
        while len(self._arrived) < count:
            if self._ended or self._closed:
                raise StreamClosed("the other end closed the stream")
            self._reader = self._loop.create_future()
            await self._reader
        data = bytes(self._arrived[:count])
        del self._arrived[:count]
        return data

    def write(self, data: bytes) -> None:
        """See ``ByteStream``."""
        if self._closed or self._ended:
            return
        self._flying.append(data)
        self._flying_bytes += len(data)
        self._later(self._land)

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        """See ``ByteStream``."""
        self._on_data, self._on_end, self._on_writable = on_data, on_end, on_writable
        if self._arrived:
            data = bytes(self._arrived)
            self._arrived.clear()
            on_data(data)
        if self._ended and not self._closed:
            self._loop.call_soon(self._report_end)

    def close(self) -> None:
        """See ``ByteStream``. What was written before still arrives, then the other end sees the end."""
        if self._closed:
            return
        self._closed = True
        self._wake()
        self._flying.append(None)
        self._later(self._land)

    def _later(self, callback: Callable[[], None]) -> None:
        if self._latency > 0:
            self._loop.call_later(self._latency, callback)
        else:
            self._loop.call_soon(callback)

    def _land(self) -> None:
        data = self._flying.popleft()
        assert self._other is not None
        if data is None:
            self._other._end()
            return
        self._flying_bytes -= len(data)
        self._other._receive(data)
        if not self._flying and not self._closed and self._on_writable is not None:
            self._on_writable()

    def _receive(self, data: bytes) -> None:
        if self._closed:
            return
        if self._on_data is not None:
            self._on_data(data)
        else:
            self._arrived += data
            self._wake()

    def _end(self) -> None:
        if self._ended or self._closed:
            return
        self._ended = True
        self._wake()
        self._report_end()

    def _report_end(self) -> None:
        if self._on_end is not None and not self._closed:
            self._closed = True
            self._on_end(LinkEnd(CloseReason.EOF))

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def memory_stream_pair(latency: float = 0.0) -> tuple[MemoryStream, MemoryStream]:
    """Return the two ends of a new in-memory stream. Needs a running event loop."""
    one = MemoryStream("memory:1", "memory:2", latency)
    two = MemoryStream("memory:2", "memory:1", latency)
    one._other, two._other = two, one
    return one, two


async def connect(dialler: Node, listener: Node, *, latency: float = 0.0) -> None:
    """Join two started nodes by an in-memory link and wait until both have done the handshake.

    Raises ``TimeoutError`` after ``CONNECT_TIMEOUT`` and the handshake's own error when it fails.
    """
    one, two = memory_stream_pair(latency)
    async with asyncio.timeout(CONNECT_TIMEOUT):
        await asyncio.gather(dialler.links.adopt(one, inbound=False), listener.links.adopt(two, inbound=True))


def quiet_config() -> Config:
    """Return a fresh config that touches nothing outside the process: no TUN, listeners, discovery or admin socket."""
    config = Config.generate()
    config.if_name = "none"
    config.admin_listen = "none"
    config.multicast_interfaces = []
    return config


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[tuple[Node, ...]]:
    """Start ``count`` unconnected nodes with ``quiet_config`` and close them at the end."""
    async with AsyncExitStack() as stack:
        yield tuple([await stack.enter_async_context(Node(quiet_config())) for _ in range(count)])
