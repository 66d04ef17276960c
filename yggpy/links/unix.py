"""``unix://`` links (protocol section 2.10): stream sockets with a path, for nodes that share a machine.

Two things go past Go. A socket file that a killed node left behind is taken over, instead of keeping the listener away
until somebody removes it; one that somebody answers on is left alone. And since all clients of such a socket have the
same address, ``@``, the listener tells the manager that addresses are no names here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat

from yggpy.datapath.base import ByteStream
from yggpy.datapath.socktext import IO_TIMEOUT, operation_error
from yggpy.links.listen import BACKLOG, FinishStream, SocketAcceptor
from yggpy.links.resolve import TransportError
from yggpy.links.transports import Acceptor, TransportContext
from yggpy.links.uri import LinkOptions, LinkUri

__all__ = ["UNIX_DIAL_TIMEOUT", "UnixAcceptor", "UnixTransport"]

UNIX_DIAL_TIMEOUT = 5.0
"""Seconds that a listener may leave us in its backlog."""
BACKLOG_RETRY = 0.05
"""Seconds between two attempts while the listener's backlog is full: the kernel tells nobody when that is over."""
PROBE_TIMEOUT = 1.0
"""Seconds after which a socket file that neither refuses nor takes a connection counts as used."""


class UnixTransport:
    """Dials and listens on paths. ``interface`` means nothing here, as in Go."""

    def __init__(self, context: TransportContext) -> None:
        self._context = context

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """See :class:`~yggpy.links.transports.Transport`."""
        path = uri.path
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(UNIX_DIAL_TIMEOUT):
                await _connect(sock, path)
        except TimeoutError:
            sock.close()
            raise TransportError(f"dial unix {path}: {IO_TIMEOUT}") from None
        except OSError as error:
            sock.close()
            raise TransportError(operation_error("dial", "unix", path, "connect", error)) from error
        except BaseException:
            sock.close()
            raise
        return await self._context.open_stream(sock, None)

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """See :class:`~yggpy.links.transports.Transport`."""
        path = uri.path

        async def finish(sock: socket.socket) -> ByteStream:
            return await self._context.open_stream(sock, None)

        await _remove_stale(path)
        return UnixAcceptor(path, finish)

    async def close(self) -> None:
        """See :class:`~yggpy.links.transports.Transport`; nothing lingers."""


class UnixAcceptor(SocketAcceptor):
    """A listening unix socket; closing it removes its file."""

    names_peers = False

    def __init__(self, path: str, finish: FinishStream) -> None:
        """Raises ``OSError`` with Go's words: ``listen unix /run/x: bind: address already in use``."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        call = "bind"
        try:
            sock.setblocking(False)
            _check_length(path)
            sock.bind(path)
            self._path, self._inode = path, _inode(path)
            call = "listen"
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            raise TransportError(operation_error("listen", "unix", path, call, error)) from error
        super().__init__(sock, finish)

    def close(self) -> None:
        """Stop listening and remove the file, unless another one has taken its place."""
        super().close()
        with contextlib.suppress(OSError):
            if _inode(self._path) == self._inode:
                os.unlink(self._path)


async def _connect(sock: socket.socket, path: str) -> None:
    _check_length(path)
    while True:
        try:
            sock.connect(path)
        except BlockingIOError:  # EAGAIN, not "in progress": the backlog is full, and there is nothing to wait for
            await asyncio.sleep(BACKLOG_RETRY)
        else:
            return


async def _remove_stale(path: str) -> None:
    """Remove a socket file that nobody listens on any more. Whatever else is there, ``bind`` will complain about."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                await _connect(probe, path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
        except OSError:
            pass


def _check_length(path: str) -> None:
    """Python has an error of its own, without a number, for a path that does not fit; Go has the system's."""
    if len(os.fsencode(path)) >= 108 or "\0" in path:  # sun_path in <sys/un.h>, with its final zero
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def _inode(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino
