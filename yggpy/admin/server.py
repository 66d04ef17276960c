"""The admin socket: listens on a unix or TCP address and lets each client send requests (protocol section 13.1).

The socket has no authentication: whoever can connect may change peerings. A unix socket is therefore given mode
0660 before it accepts anyone, and a TCP address that other machines can reach is warned about.

Clients are bounded in number, in the size of a request, and in the time that they may idle or take to read an answer.
When a client comes and the house is full, the one that has been idle for longest has to go, be it that it asks nothing
or that it does not read: idlers cannot lock out the operator.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import stat
from ipaddress import ip_address
from typing import Any

from yggpy.admin.commands import AdminNode, AnswerStream, CommandRegistry, node_commands
from yggpy.admin.own import own_commands
from yggpy.admin.protocol import BadRequest, Request, RequestReader, failure
from yggpy.admin.remote import remote_commands
from yggpy.errors import PeerUriError, YggpyError
from yggpy.links.url import parse_url, split_host_port

__all__ = ["MAX_CLIENTS", "AdminError", "AdminServer", "check_listen"]

MAX_CLIENTS = 64
"""Connections at once. When full, the longest idle one is closed; when all are busy, the new one is."""

IDLE_TIMEOUT = 300.0
"""Seconds in which a client must complete its next request, else it is closed."""

WRITE_TIMEOUT = 10.0
"""Seconds in which a client must take an answer, else it is cut off."""

STREAM_WRITE_TIMEOUT = 60.0
"""Seconds in which a client must take the next piece of a stream; longer, since somebody may have halted a terminal."""

LINGER_TIMEOUT = 1.0
"""Seconds for which input is still read and thrown away after the last answer: an unread rest would make the kernel
reset the connection, and the answer could be lost with it."""

STALE_SOCKET_TIMEOUT = 2.0
"""Seconds that an existing unix socket has to accept a connection, when we find out whether someone uses it."""

ACCEPT_PAUSE = 1.0
"""Seconds without new clients after one could not be accepted."""

UNIX_SOCKET_MODE = 0o660
_BACKLOG = 1024
"""Clients that the kernel keeps until we accept them. With fewer, a client in a burst of them is refused at once: at a
unix socket that is full, a connection with a time limit fails instead of waiting."""
_READ_SIZE = 4096
_FAMILY_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_LISTEN_HINTS = {
    errno.ENOENT: "make the directory, or change AdminListen",
    errno.EACCES: "run with the permission to write there, or change AdminListen",
    errno.EADDRINUSE: "stop the program that uses it, or change AdminListen",
}


class AdminError(YggpyError):
    """The admin socket cannot be opened; the text is one line for the operator."""


class AdminServer:
    """The admin socket of one node. ``commands`` may be added to before and after :meth:`start`.

    ``listen`` is ``unix:///path``, ``tcp://host:port``, ``host:port``, or ``none`` (or empty) for no socket at all.
    """

    def __init__(
        self, node: AdminNode, listen: str, logger: logging.Logger, build_name: str, build_version: str
    ) -> None:
        commands = [
            *node_commands(node, build_name, build_version),
            *remote_commands(node),
            *own_commands(node),
        ]
        self.commands = CommandRegistry(commands, logger=logger)
        self._listen = listen
        self._logger = logger
        self._socket: socket.socket | None = None
        self._accept_pause: asyncio.TimerHandle | None = None
        self._clients: dict[asyncio.Task[None], float | None] = {}  # idle since; None while a command is carried out
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
    def _exposed(self) -> bool:
        """True when other machines may reach the socket."""
        if self._socket is None or self._unix_path is not None:
            return False
        host = str(self._socket.getsockname()[0])
        return not ip_address(host.partition("%")[0]).is_loopback

    async def start(self) -> None:
        """Begin to listen. Raises :class:`AdminError`."""
        if self._listen in ("", "none"):
            return
        path, host_port = _split_listen(self._listen)
        self._socket = await (self._open_tcp(host_port) if path is None else self._open_unix(path))
        self._accept_again()
        self._logger.info("%s admin socket listening on %s", "TCP" if path is None else "UNIX", self.address)
        if self._exposed:
            self._logger.warning(
                "WARNING: the admin socket has no password and other machines may reach %s", self.address
            )

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
            raise _cannot_listen("unix", path, error) from error
        sock.setblocking(False)
        return sock

    async def _remove_stale(self, path: str, mode: int) -> None:
        if not stat.S_ISSOCK(mode):
            raise AdminError(
                f"Admin socket {path} already exists and is not a socket; move it away or change AdminListen"
            )
        if await _answers(path):
            raise AdminError(
                f"Admin socket {path} already exists and is in use by another process; stop it, or change AdminListen"
            )
        try:
            os.unlink(path)
        except OSError as error:
            raise AdminError(f"Admin socket {path} already exists and was not cleaned up: {error.strerror}") from error
        self._logger.debug("%s was cleaned up", path)

    async def _open_tcp(self, host_port: str) -> socket.socket:
        host, port = _split_host_port(host_port)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise AdminError(f"Admin socket failed to listen: lookup {host_port}: {error.strerror}") from error
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
        raise _cannot_listen("tcp", host_port, failure)

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
            self._logger.warning("Admin socket cannot accept a client: %s; trying again soon", error)
            loop.remove_reader(listener)
            self._accept_pause = loop.call_later(ACCEPT_PAUSE, self._accept_again)
            return
        sock.setblocking(False)
        if self._make_room():
            self._begin(sock)
        else:
            sock.close()

    def _make_room(self) -> bool:
        if len(self._clients) < MAX_CLIENTS:
            return True
        idle = [(since, task) for task, since in self._clients.items() if since is not None]
        if not idle:
            self._logger.warning("Admin socket refused a client: all %d others are being served", len(self._clients))
            return False
        _, victim = min(idle, key=lambda item: item[0])
        self._logger.debug("Admin socket closed its longest idle client to make room")
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
        try:
            await self._serve(reader, writer)
        except TimeoutError:
            self._logger.debug("Admin socket closed a client that was idle or did not read")
        except OSError as error:
            self._logger.debug("Admin socket lost a client: %s", error)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        writer.transport.set_write_buffer_limits(high=0)  # so that drain() waits until the client has taken it all
        requests = RequestReader()
        streams: list[AnswerStream] = []
        keepalive = True
        while keepalive:
            async with asyncio.timeout(IDLE_TIMEOUT):
                request = await _next_request(requests, reader)
            self._clients[task] = None
            if isinstance(request, BadRequest):
                answer = failure(None, request.error)
            else:
                answer = await self.commands.answer(request, streams.append)
            if streams:
                await self._send_stream(answer, streams.pop(), reader, writer)
                break
            self._clients[task] = loop.time()  # from here on it is the client that keeps us waiting
            writer.write(answer)
            async with asyncio.timeout(WRITE_TIMEOUT):
                await writer.drain()
            keepalive = request.keepalive
            self._clients[task] = loop.time()
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_TIMEOUT):
                while await reader.read(_READ_SIZE):
                    pass

    async def _send_stream(
        self, first: bytes, stream: AnswerStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send ``first`` and all of ``stream``, until that or the client ends, or the client takes nothing for long."""
        writer.write(first)
        ending = asyncio.create_task(_until_end(reader))
        ending.add_done_callback(lambda _: stream.close())
        try:
            async for line in stream:
                async with asyncio.timeout(STREAM_WRITE_TIMEOUT):
                    await writer.drain()
                writer.write(line)
        finally:
            stream.close()
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def _until_end(reader: asyncio.StreamReader) -> None:
    """Throw away what a client says that has asked for a stream, until it says no more."""
    with contextlib.suppress(OSError):
        while await reader.read(_READ_SIZE):
            pass


async def _next_request(requests: RequestReader, reader: asyncio.StreamReader) -> Request | BadRequest:
    while True:
        await asyncio.sleep(0)  # reading what is buffered does not wait: a hasty client must not hold up the loop
        request = requests.next_request()
        if request is not None:
            return request
        data = await reader.read(_READ_SIZE)
        if data:
            requests.feed(data)
        else:
            requests.feed_eof()


def check_listen(listen: str) -> None:
    """Raise :class:`AdminError` for an ``AdminListen`` that is of no known form."""
    if listen not in ("", "none"):
        path, host_port = _split_listen(listen)
        if path is None:
            _split_host_port(host_port)


def _split_listen(listen: str) -> tuple[str | None, str]:
    """Return the path of a unix socket, or None and ``host:port``."""
    try:
        url = parse_url(listen)
    except PeerUriError:
        return None, listen  # such as 127.0.0.1:9001
    if url.scheme == "unix":
        if not url.path:
            raise AdminError(f"Admin socket failed to listen: {listen} has no path; write unix:///path in AdminListen")
        return os.fsdecode(url.path), ""
    if url.scheme == "tcp":
        return None, os.fsdecode(url.host)
    return None, listen


def _split_host_port(host_port: str) -> tuple[str, str]:
    try:
        return split_host_port(host_port)
    except ValueError as error:
        raise AdminError(
            f"Admin socket failed to listen: listen tcp: {error}; "
            "write unix:///path, tcp://host:port or none in AdminListen"
        ) from None


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


def _cannot_listen(network: str, where: str, error: OSError) -> AdminError:
    reason = error.strerror or str(error)
    hint = _LISTEN_HINTS.get(error.errno or 0, "change AdminListen")
    return AdminError(f"Admin socket failed to listen: listen {network} {where}: bind: {reason.lower()}; {hint}")
