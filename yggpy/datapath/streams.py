"""Byte streams over sockets, plain or TLS, for the data plane in Python.

A :class:`SocketStream` works on the non-blocking socket itself, on readiness callbacks of the event loop: no asyncio
transport, whose extra copies and queues cost more than the system calls. TLS is Python's ``SSLSocket`` on the same
socket, which OpenSSL reads and writes directly.

It has two lives. In the *handshake life* one coroutine reads exact counts of bytes; the socket is watched only while
that coroutine waits, so a flood in this phase stays in the kernel. ``start`` begins the *link life*: what was read
ahead is delivered first, then everything that arrives, as much of it per call as fits the read buffer, since a call
per TLS record would split every large frame into pieces.

Writing tries the kernel at once; what it does not take waits here, and small pieces are joined when it takes more. A
failed write is not reported by itself: the peer's last words may still be in the kernel, so reading goes on until it
ends, and the write's error is only used if reading has nothing to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache

from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed, TlsIdentity, TlsParameters
from yggpy.datapath.socktext import error_text, network_of, operation_error, sockaddr_text

__all__ = ["MAX_BUFFERED", "READ_BUFFER", "SocketStream", "open_stream"]

READ_BUFFER = 1 << 17
"""Bytes delivered at most in one call of ``on_data``; a frame of the greatest size just fits."""
MAX_BUFFERED = 1 << 22
"""Bytes that may wait for a peer that does not read, after which the stream fails. The data plane stops far earlier."""
READ_AHEAD = 4096
"""Bytes asked of the kernel at once during the handshake."""
WRITE_CHUNK = 1 << 16
"""Bytes given to the kernel or to OpenSSL in one call; OpenSSL takes a whole chunk or nothing."""
MAX_TLS_RECORD = 1 << 14
"""Plain bytes of the largest TLS record; a read of this size never leaves part of a record inside OpenSSL."""
CONTEXT_CACHE_SIZE = 16
"""Server identities whose TLS context is kept; a node has one, tests and multi-node programs a few."""

_WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


# -- TLS contexts --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Give ``data`` a path for the moment, without leaving it on a disk: OpenSSL loads keys from paths only."""
    if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
        fd = os.memfd_create("tls", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    with tempfile.NamedTemporaryFile() as file:  # mode 0600, removed on leaving
        file.write(data)
        file.flush()
        yield file.name


@lru_cache(maxsize=CONTEXT_CACHE_SIZE)
def _server_context(identity: TlsIdentity) -> ssl.SSLContext:
    """TLS 1.3 only, as Go's listeners; no client certificate is asked for, no session is kept."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_NONE
    context.num_tickets = 0
    with _as_file(identity.certificate_pem) as certificate, _as_file(identity.private_key_pem) as key:
        context.load_cert_chain(certificate, key)
    return context


@lru_cache(maxsize=1)
def _client_context() -> ssl.SSLContext:
    """TLS 1.2 or 1.3. Certificates prove nothing here: the handshake above TLS proves the node key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _wrap(sock: socket.socket, tls: TlsParameters) -> ssl.SSLSocket:
    if tls.server_side:
        return _server_context(tls.identity).wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
    name = tls.server_name
    if name is not None:
        try:
            name.encode("idna")
        except UnicodeError:
            name = None  # no legal server name, so none is sent
        else:
            name = None if not name or name.startswith(".") else name
    return _client_context().wrap_socket(sock, server_hostname=name, do_handshake_on_connect=False)


class _Scratch(threading.local):
    """The read buffer of a thread, and so of its event loop: what is in it is used up before another stream reads."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(READ_BUFFER))


_scratch = _Scratch()


# -- streams -------------------------------------------------------------------------------------------------


async def open_stream(sock: socket.socket, tls: TlsParameters | None) -> SocketStream:
    """Make a stream of a connected non-blocking socket; with ``tls``, run the TLS handshake first (no time limit here).

    Raises :class:`StreamClosed` with Go's words when TLS fails. On any failure, cancellation too, the socket is closed.
    """
    if tls is None:
        return SocketStream(sock)
    family = sock.family
    try:
        endpoints = f"{sockaddr_text(family, sock.getsockname())}->{sockaddr_text(family, sock.getpeername())}"
        secure = _wrap(sock, tls)
    except (OSError, ValueError) as error:
        sock.close()
        raise StreamClosed(error_text(error)) from error
    try:
        await _shake_hands(secure)
    except OSError as error:
        secure.close()
        raise StreamClosed(operation_error("read", network_of(family), endpoints, "read", error)) from error
    except BaseException:
        secure.close()
        raise
    return SocketStream(secure)


async def _shake_hands(secure: ssl.SSLSocket) -> None:
    while True:
        try:
            secure.do_handshake()
            return
        except ssl.SSLWantReadError:
            await _ready(secure.fileno(), writing=False)
        except ssl.SSLWantWriteError:
            await _ready(secure.fileno(), writing=True)


async def _ready(fd: int, *, writing: bool) -> None:
    """Wait until a descriptor is readable, or writable."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    watch, unwatch = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)
    watch(fd, _resolve, ready)
    try:
        await ready
    finally:
        unwatch(fd)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


class SocketStream:
    """A ``ByteStream`` over a connected, non-blocking socket, or an ``SSLSocket`` whose TLS handshake is done.

    Made by :func:`open_stream`; used on the event loop's thread only.
    """

    __slots__ = (
        "_ahead",
        "_buffered",
        "_chunk",
        "_closed",
        "_endpoints",
        "_fd",
        "_local",
        "_loop",
        "_on_data",
        "_on_end",
        "_on_writable",
        "_read_waits_for_write",
        "_reader",
        "_remote",
        "_sock",
        "_tls",
        "_view",
        "_waiting",
        "_write_error",
        "_writing",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._tls = sock if isinstance(sock, ssl.SSLSocket) else None
        self._fd = sock.fileno()
        try:
            self._local = sockaddr_text(sock.family, sock.getsockname())
            self._remote = sockaddr_text(sock.family, sock.getpeername())
        except OSError as error:
            sock.close()
            raise StreamClosed(error_text(error)) from error
        self._endpoints = f"{self._local}->{self._remote}"
        self._ahead = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._view = memoryview(b"")
        self._on_data: Callable[[bytes | memoryview], None] | None = None
        self._on_end: Callable[[LinkEnd], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._waiting: deque[bytes | memoryview] = deque()
        self._chunk: bytes | memoryview = b""  # being written; OpenSSL must be given the same bytes again
        self._buffered = 0
        self._writing = False  # watching for writability
        self._read_waits_for_write = False
        self._write_error: OSError | None = None
        self._closed = False

    @property
    def local_address(self) -> str:
        """See ``ByteStream``."""
        return self._local

    @property
    def remote_address(self) -> str:
        """See ``ByteStream``."""
        return self._remote

    @property
    def buffered(self) -> int:
        """Bytes written but not yet taken by the kernel."""
        return self._buffered

    # -- handshake life ----------------------------------------------------------------------------------

    async def read_exactly(self, count: int) -> bytes:
        """Return exactly ``count`` bytes.

        Raises :class:`StreamClosed`, whose text is ``EOF`` when the other side closed before the first byte,
        ``unexpected EOF`` when in the middle, else what the system said, in Go's words.
        """
        while len(self._ahead) < count:
            if self._closed:
                raise StreamClosed("use of closed network connection")
            try:
                data = self._sock.recv(READ_AHEAD)
            except _WOULD_BLOCK as blocked:
                if self._write_error is not None:
                    raise StreamClosed(self._text("write", self._write_error)) from self._write_error
                await self._wait_for_input(isinstance(blocked, ssl.SSLWantWriteError))
                continue
            except OSError as error:
                raise StreamClosed(self._text("read", error)) from error
            if not data:
                raise StreamClosed("unexpected EOF" if self._ahead else "EOF")
            self._ahead += data
        data = bytes(self._ahead[:count])
        del self._ahead[:count]
        return data

    async def _wait_for_input(self, for_write: bool) -> None:
        """Wait for the socket, or for ``close`` or a write that fails."""
        reader = self._reader = self._loop.create_future()
        self._read_waits_for_write = for_write
        if for_write:
            self._watch_writable()
        else:
            self._loop.add_reader(self._fd, self._wake_reader)
        try:
            await reader
        finally:
            self._reader = None
            if not self._closed and not for_write:
                self._loop.remove_reader(self._fd)

    def _wake_reader(self) -> None:
        if self._reader is not None:
            _resolve(self._reader)

    # -- link life ---------------------------------------------------------------------------------------

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        """See ``ByteStream``. What was read ahead is delivered before this returns."""
        self._on_data, self._on_end, self._on_writable = on_data, on_end, on_writable
        self._view = _scratch.view
        ahead = bytes(self._ahead)
        self._ahead.clear()
        if ahead:
            on_data(ahead)
        if self._closed:
            return
        self._loop.add_reader(self._fd, self._read)
        if self._tls is not None or self._write_error is not None:
            # OpenSSL may hold decrypted bytes, of which the descriptor shows nothing.
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        """Deliver what has arrived, up to one buffer of it; then the end, if it has come."""
        on_data = self._on_data
        if on_data is None:  # closed meanwhile, or not started
            return
        filled, end = self._fill()
        if filled:
            on_data(self._view[:filled])
        if self._closed:
            return
        if end is not None:
            self._finish(end)
        elif self._tls is not None and self._tls.pending():
            self._loop.call_soon(self._read)

    def _fill(self) -> tuple[int, LinkEnd | None]:
        view, sock, tls = self._view, self._sock, self._tls
        filled = 0
        self._read_waits_for_write = False
        while filled <= READ_BUFFER - MAX_TLS_RECORD:
            try:
                count = sock.recv_into(view[filled:], READ_BUFFER - filled)
            except ssl.SSLWantWriteError:
                self._read_waits_for_write = True
                self._watch_writable()
                break
            except _WOULD_BLOCK:
                if self._write_error is not None:
                    return filled, LinkEnd(CloseReason.ERROR, self._text("write", self._write_error))
                break
            except OSError as error:
                return filled, LinkEnd(CloseReason.ERROR, self._text("read", error))
            if not count:
                return filled, LinkEnd(CloseReason.EOF, "EOF")
            filled += count
            if tls is None:
                break
        return filled, None

    # -- writing -----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """See ``ByteStream``: at once as far as the kernel takes it; the rest waits, in order."""
        if not data or self._closed or self._write_error is not None:
            return
        self._buffered += len(data)
        if self._buffered > MAX_BUFFERED:
            self._fail_writing(ConnectionAbortedError(f"peer does not read: more than {MAX_BUFFERED} bytes wait"))
            return
        self._waiting.append(data)
        if not self._writing:
            self._push()
            if self._buffered and self._write_error is None:
                self._watch_writable()

    def _push(self) -> None:
        """Give the kernel what it takes."""
        while True:
            if not self._chunk:
                if not self._waiting:
                    return
                self._chunk = self._next_chunk()
            try:
                sent = self._sock.send(self._chunk)
            except _WOULD_BLOCK:
                return
            except OSError as error:
                self._fail_writing(error)
                return
            self._buffered -= sent
            self._chunk = b"" if sent == len(self._chunk) else memoryview(self._chunk)[sent:]

    def _next_chunk(self) -> bytes | memoryview:
        """Take up to ``WRITE_CHUNK`` bytes off the waiting pieces, small ones joined."""
        waiting = self._waiting
        first = waiting.popleft()
        if len(first) > WRITE_CHUNK:
            view = memoryview(first)
            waiting.appendleft(view[WRITE_CHUNK:])
            return view[:WRITE_CHUNK]
        if not waiting or len(first) + len(waiting[0]) > WRITE_CHUNK:
            return first
        pieces, size = [first], len(first)
        while waiting and size + len(waiting[0]) <= WRITE_CHUNK:
            piece = waiting.popleft()
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    def _watch_writable(self) -> None:
        if not self._writing:
            self._writing = True
            self._loop.add_writer(self._fd, self._writable)

    def _unwatch_writable(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)

    def _writable(self) -> None:
        if self._read_waits_for_write:
            self._read_waits_for_write = False
            self._wake_reader()
            self._read()
            if self._closed:
                return
        had_data = self._buffered > 0
        self._push()
        if self._buffered == 0 and not self._read_waits_for_write:
            self._unwatch_writable()
        if had_data and self._buffered == 0 and self._write_error is None and self._on_writable is not None:
            self._on_writable()

    def _fail_writing(self, error: OSError) -> None:
        """Stop writing, and let the reader find out: see the module's docstring."""
        self._write_error = error
        self._waiting.clear()
        self._chunk = b""
        self._buffered = 0
        self._unwatch_writable()
        self._wake_reader()
        self._loop.call_soon(self._read)

    # -- end ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See ``ByteStream``. Unwritten bytes are dropped; TLS peers are told that this is the end."""
        if self._closed:
            return
        self._closed = True
        self._on_data = None
        self._loop.remove_reader(self._fd)
        self._unwatch_writable()
        if self._tls is not None and not self._buffered and self._write_error is None:
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()  # sends close_notify; does not wait for the answer
        self._sock.close()
        self._waiting.clear()
        self._chunk = b""
        self._buffered = 0
        self._wake_reader()

    def _finish(self, end: LinkEnd) -> None:
        on_end = self._on_end
        self.close()
        if on_end is not None:
            on_end(end)

    def _text(self, operation: str, error: OSError) -> str:
        if isinstance(error, ConnectionAbortedError) and not error.errno:
            return str(error)
        return operation_error(operation, network_of(self._sock.family), self._endpoints, operation, error)
