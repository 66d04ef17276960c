"""Byte streams of the native data plane, while their link handshake still runs in Python.

A :class:`NativeStream` is a socket that C reads and writes, TLS included, and that the event loop watches only while
somebody waits for it. ``attach_link`` then gives it to the engine as a whole, with whatever was read ahead.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable
from functools import lru_cache

from yggpy.datapath._native import Stream, TlsContext, TlsError
from yggpy.datapath.base import LinkEnd, StreamClosed, TlsIdentity, TlsParameters
from yggpy.datapath.socktext import error_text, network_of, operation_error, sockaddr_text, tls_reason_text

__all__ = ["NativeStream", "open_stream"]

CONTEXT_CACHE_SIZE = 16
"""Server identities whose TLS context is kept; a node has one, tests and multi-node programs a few."""


@lru_cache(maxsize=CONTEXT_CACHE_SIZE)
def _server_context(identity: TlsIdentity) -> TlsContext:
    return TlsContext(identity.certificate_pem, identity.private_key_pem)


@lru_cache(maxsize=1)
def _client_context() -> TlsContext:
    return TlsContext()


def _server_name(name: str | None) -> str | None:
    """Return ``name`` if it may be sent: no legal server name means none."""
    if not name or name.startswith("."):
        return None
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name)
        return None  # an address is no name (RFC 6066)
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return None


async def open_stream(sock: socket.socket, tls: TlsParameters | None) -> NativeStream:
    """Make a stream of a connected non-blocking socket; with ``tls``, run the TLS handshake first (no time limit here).

    Raises :class:`StreamClosed` with Go's words when TLS fails. On any failure, cancellation too, the socket is closed.
    """
    try:
        local, remote = (sockaddr_text(sock.family, name) for name in (sock.getsockname(), sock.getpeername()))
        context = None
        if tls is not None:
            context = _server_context(tls.identity) if tls.server_side else _client_context()
        name = None if tls is None or tls.server_side else _server_name(tls.server_name)
        stream = Stream(sock.fileno(), context, name)
    except (OSError, TlsError) as error:
        sock.close()
        raise StreamClosed(error_text(error)) from error
    opened = NativeStream(stream, sock.detach(), sock.family, local, remote)
    if tls is not None:
        try:
            await opened.shake_hands()
        except BaseException:
            opened.close()
            raise
    return opened


class NativeStream:
    """A ``ByteStream`` in its first life. Made by :func:`open_stream`; used on the event loop's thread only."""

    __slots__ = (
        "_closed",
        "_endpoints",
        "_fd",
        "_loop",
        "_network",
        "_waiter",
        "local_address",
        "remote_address",
        "stream",
    )

    def __init__(self, stream: Stream, fd: int, family: int, local: str, remote: str) -> None:
        self.stream = stream
        self.local_address = local
        self.remote_address = remote
        self._network = network_of(family)
        self._endpoints = f"{local}->{remote}"
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    @property
    def buffered(self) -> int:
        """Bytes written but not yet taken by the kernel."""
        return self.stream.buffered

    def error_text(self, error: OSError | TlsError, operation: str = "read") -> str:
        """Return Go's text of a failure on this stream."""
        if isinstance(error, TlsError):
            return tls_reason_text(str(error))
        return operation_error(operation, self._network, self._endpoints, operation, error)

    async def shake_hands(self) -> None:
        """Run the TLS handshake. Raises :class:`StreamClosed`."""
        try:
            while not self.stream.handshake():
                await self._ready()
        except (OSError, TlsError) as error:
            raise StreamClosed(self.error_text(error)) from error

    async def read_exactly(self, count: int) -> bytes:
        """Return exactly ``count`` bytes.

        Raises :class:`StreamClosed`, whose text is ``EOF`` when the other side closed before the first byte,
        ``unexpected EOF`` when in the middle, else what the system said, in Go's words.
        """
        while not self._closed and self.stream.ahead < count:
            before = self.stream.ahead
            try:
                open_still = self.stream.read_ahead()
            except (OSError, TlsError) as error:
                raise StreamClosed(self.error_text(error)) from error
            if self.stream.ahead > before:
                continue
            if not open_still:
                raise StreamClosed("unexpected EOF" if before else "EOF")
            await self._ready()
        if self._closed:
            raise StreamClosed("use of closed network connection")
        return self.stream.take(count)

    async def _ready(self) -> None:
        """Wait until the socket has something, or takes what waits to be sent, or ``close``."""
        waiter = self._waiter = self._loop.create_future()
        self._loop.add_reader(self._fd, self._wake)
        if self.stream.buffered:
            self._loop.add_writer(self._fd, self._writable)
        try:
            await waiter
        finally:
            self._waiter = None
            if not self._closed:
                self._loop.remove_reader(self._fd)
                self._loop.remove_writer(self._fd)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _writable(self) -> None:
        self.stream.flush()
        if not self.stream.buffered:
            self._loop.remove_writer(self._fd)
            self._wake()

    def write(self, data: bytes) -> None:
        """See ``ByteStream``; a few bytes of a handshake, which any socket takes."""
        if not self._closed:
            with contextlib.suppress(MemoryError):
                self.stream.write(data)

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        """Never called: the engine takes the stream over. Raises ``RuntimeError``."""
        raise RuntimeError("a native stream can only become a link of the native data plane")

    def hand_over(self) -> Stream:
        """Return what is to become a link. The descriptor is the engine's from now on; ``close`` does nothing more."""
        self._closed = True
        return self.stream

    def close(self) -> None:
        """See ``ByteStream``. TLS peers are told that this is the end."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self.stream.close()
        self._wake()
