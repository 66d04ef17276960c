"""A stream server for the operator's own clients: the admin socket and the HTTP endpoint listen by it.

It opens a unix or TCP address, takes clients in and makes room for them. Clients are bounded in number: when one comes
and the house is full, the one that has been idle for longest has to go, be it that it asks nothing or that it does not
read, so idlers cannot lock out the operator. What is said on a connection, and for how long, is the owner's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from yggpy.errors import PeerUriError, YggpyError
from yggpy.links.url import parse_url, split_host_port

__all__ = ["Purpose", "ServingError", "StreamServer"]

STALE_SOCKET_TIMEOUT = 2.0
"""Seconds that an existing unix socket has to accept a connection, when we find out whether someone uses it."""

ACCEPT_PAUSE = 1.0
"""Seconds without new clients after one could not be accepted."""

UNIX_SOCKET_MODE = 0o660
_BACKLOG = 1024
"""Clients that the kernel keeps until we accept them. With fewer, a client in a burst of them is refused at once: at a
unix socket that is full, a connection with a time limit fails instead of waiting."""
_MAX_PORT = 0xFFFF
_NOWHERE = ("", "none")
_FAMILY_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_HINTS = {
    errno.ENOENT: "make the directory",
    errno.EACCES: "run with the permission to write there",
    errno.EADDRINUSE: "stop the program that uses it",
}


class ServingError(YggpyError):
    """The server cannot listen; the text is one line for the operator."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a server is for, in the words for the operator."""

    name: str
    """Such as ``admin socket``."""
    key: str
    """Of the configuration, that says where to listen."""
    error: type[ServingError] = ServingError
    """What is raised for an address that cannot be had."""

    @property
    def title(self) -> str:
        """The name at the beginning of a sentence."""
        return self.name[0].upper() + self.name[1:]

    def check_listen(self, listen: str) -> None:
        """Raise ``error`` for a value of the key that is of no known form."""
        if listen not in _NOWHERE:
            path, host_port = self.split_listen(listen)
            if path is None:
                self.split_host_port(host_port)

    def split_listen(self, listen: str) -> tuple[str | None, str]:
        """Return the path of a unix socket, or None and ``host:port``."""
        try:
            url = parse_url(listen)
        except PeerUriError:
            return None, listen  # such as 127.0.0.1:9001
        if url.scheme == "unix":
            if not url.path:
                raise self.error(
                    f"{self.title} failed to listen: {listen} has no path; write unix:///path in {self.key}"
                )
            return os.fsdecode(url.path), ""
        if url.scheme == "tcp":
            return None, os.fsdecode(url.host)
        return None, listen

    def split_host_port(self, host_port: str) -> tuple[str, str]:
        """Return host and port. Raises ``error``."""
        try:
            host, port = split_host_port(host_port)
            if port.removeprefix("-").isdecimal() and not 0 <= int(port) <= _MAX_PORT:
                raise ValueError(f"address {port}: invalid port")  # the system would cut it to 16 bits
            return host, port
        except ValueError as error:
            raise self.error(
                f"{self.title} failed to listen: listen tcp: {error}; "
                f"write unix:///path, tcp://host:port or none in {self.key}"
            ) from None

    def cannot_listen(self, network: str, where: str, error: OSError) -> ServingError:
        """Return what to raise when an address cannot be had."""
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "")
        if network == "tcp" and error.errno == errno.EACCES:
            hint = "take a port from 1024 up"
        advice = f"{hint}, or change {self.key}" if hint else f"change {self.key}"
        return self.error(f"{self.title} failed to listen: listen {network} {where}: bind: {reason.lower()}; {advice}")


class StreamServer:
    """Listens where ``listen`` says: ``unix:///path``, ``tcp://host:port``, ``host:port``; ``none`` or empty: nowhere.

    ``serve`` talks to a client until it returns; that closes the connection. It says by ``idle`` and ``busy`` whether
    the client keeps us waiting. ``OSError`` and ``TimeoutError`` from it are an ordinary end.
    """

    def __init__(
        self,
        purpose: Purpose,
        listen: str,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
        logger: logging.Logger,
        max_clients: int,
    ) -> None:
        self._purpose = purpose
        self._listen = listen
        self._serve = serve
        self._logger = logger
        self._max_clients = max_clients
        self._socket: socket.socket | None = None
        self._accept_pause: asyncio.TimerHandle | None = None
        self._clients: dict[asyncio.Task[None], float | None] = {}  # idle since; None while it is served
        self._unix_path: str | None = None
        self._unix_inode: tuple[int, int] | None = None

    @property
    def address(self) -> str:
        """Where it listens: the path, or ``host:port`` with the real port; "" when it does not."""
        if self._socket is None:
            return ""
        return self._unix_path or _host_port(self._socket.getsockname())

    @property
    def client_count(self) -> int:
        """Connections being served or kept."""
        return len(self._clients)

    @property
    def exposed(self) -> bool:
        """True when other machines may reach it."""
        if self._socket is None or self._unix_path is not None:
            return False
        host = str(self._socket.getsockname()[0])
        return not ip_address(host.partition("%")[0]).is_loopback

    async def start(self) -> None:
        """Begin to listen. Raises the purpose's ``error``."""
        if self._listen in _NOWHERE:
            return
        path, host_port = self._purpose.split_listen(self._listen)
        self._socket = await (self._open_tcp(host_port) if path is None else self._open_unix(path))
        self._accept_again()
        network = "TCP" if path is None else "UNIX"
        self._logger.info("%s %s listening on %s", network, self._purpose.name, self.address)

    async def close(self) -> None:
        """Stop listening, drop all clients and remove the socket file. Harmless when not started."""
        if self._socket is None:
            return
        if self._accept_pause is not None:
            self._accept_pause.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        tasks = list(self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._unix_path is not None:
            with contextlib.suppress(OSError):
                if _inode(self._unix_path) == self._unix_inode:  # else another process has put its own there
                    os.unlink(self._unix_path)

    def idle(self) -> None:
        """Called by ``serve``: from here on it is the client that keeps us waiting."""
        self._mark(asyncio.get_running_loop().time())

    def busy(self) -> None:
        """Called by ``serve``: the client waits for us."""
        self._mark(None)

    def _mark(self, since: float | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients[task] = since

    # -- opening -----------------------------------------------------------------------------------------

    async def _open_unix(self, path: str) -> socket.socket:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            pass  # nothing there, or bind will say what is wrong
        else:
            await self._remove_stale(path, mode)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(path)
            self._unix_path, self._unix_inode = path, _inode(path)
            try:
                os.chmod(path, UNIX_SOCKET_MODE)
            except OSError as error:
                self._logger.warning("WARNING: %s may have unsafe permissions! (%s)", path, error.strerror)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            raise self._purpose.cannot_listen("unix", path, error) from error
        sock.setblocking(False)
        return sock

    async def _remove_stale(self, path: str, mode: int) -> None:
        title, key, error_type = self._purpose.title, self._purpose.key, self._purpose.error
        if not stat.S_ISSOCK(mode):
            raise error_type(f"{title} {path} already exists and is not a socket; move it away or change {key}")
        if await _answers(path):
            raise error_type(
                f"{title} {path} already exists and is in use by another process; stop it, or change {key}"
            )
        try:
            os.unlink(path)
        except OSError as error:
            raise error_type(f"{title} {path} already exists and was not cleaned up: {error.strerror}") from error
        self._logger.debug("%s was cleaned up", path)

    async def _open_tcp(self, host_port: str) -> socket.socket:
        host, port = self._purpose.split_host_port(host_port)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise self._purpose.error(
                f"{self._purpose.title} failed to listen: lookup {host_port}: {error.strerror}"
            ) from error
        # Like Go: IPv4 first for a name; without a host, one IPv6 socket for both families.
        preferred = socket.AF_INET if host else socket.AF_INET6
        found.sort(key=lambda info: info[0] != preferred)
        failure = OSError("no address")
        for family, _, _, _, address in found:
            try:
                return _bind_tcp(family, address, dual_stack=not host)
            except OSError as error:
                failure = error
                if error.errno not in _FAMILY_MISSING:  # an address in use must not silently become another one
                    break
        raise self._purpose.cannot_listen("tcp", host_port, failure)

    # -- clients -----------------------------------------------------------------------------------------

    def _accept_again(self) -> None:
        self._accept_pause = None
        if self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._accept, self._socket)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # most likely out of descriptors; the client stays in the kernel's queue
            self._logger.warning("%s cannot accept a client: %s; trying again soon", self._purpose.title, error)
            loop.remove_reader(listener)
            self._accept_pause = loop.call_later(ACCEPT_PAUSE, self._accept_again)
            return
        sock.setblocking(False)
        if self._make_room():
            self._begin(sock)
        else:
            sock.close()

    def _make_room(self) -> bool:
        if len(self._clients) < self._max_clients:
            return True
        title, count = self._purpose.title, len(self._clients)
        idle = [(since, task) for task, since in self._clients.items() if since is not None]
        if not idle:
            self._logger.warning("%s refused a client: all %d others are being served", title, count)
            return False
        _, victim = min(idle, key=lambda item: item[0])
        self._logger.debug("%s closed its longest idle client to make room", title)
        del self._clients[victim]
        victim.cancel()
        return True

    def _begin(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._run(sock))
        self._clients[task] = loop.time()

        def ended(_: asyncio.Task[None]) -> None:
            self._clients.pop(task, None)
            sock.close()  # if the task was cancelled before its first step, else the stream has closed it

        task.add_done_callback(ended)

    async def _run(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=sock)
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() waits until the client has taken it all
        try:
            await self._serve(reader, writer)
        except TimeoutError:
            self._logger.debug("%s closed a client that was idle or did not read", self._purpose.title)
        except OSError as error:
            self._logger.debug("%s lost a client: %s", self._purpose.title, error)
        finally:
            writer.transport.abort()


def _bind_tcp(family: int, address: tuple[Any, ...], *, dual_stack: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual_stack else 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


async def _answers(path: str) -> bool:
    """Tell whether some process accepts connections on the unix socket ``path``, or does not say no in time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(STALE_SOCKET_TIMEOUT):
                await asyncio.get_running_loop().sock_connect(sock, path)
        except TimeoutError:
            return True
        except OSError:
            return False
        return True


def _inode(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _host_port(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
