"""A UDP socket for QUIC: many datagrams for each turn of the event loop, and answers from the address that was asked.

A dialled connection has a connected socket of its own; a listener has one for all its connections. On that one the
kernel tells which of the machine's addresses each datagram came to, and is told to send the answers from there:
otherwise a machine with several addresses may answer from another one, and no NAT or firewall lets that through.

What the kernel does not take is kept, in order, and the connections are asked to make no more until it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from yggpy.datapath.socktext import sockaddr_text

__all__ = ["READ_BATCH", "Endpoint", "Source"]

READ_BATCH = 64
"""Datagrams read before others in the event loop get their turn."""
MAX_DATAGRAM = 65535
SOCKET_BUFFER = 1 << 21
"""Bytes that the kernel is asked to hold each way. It may grant less; then bursts are lost and sent again."""

_IP_PKTINFO = 8  # <linux/in.h>; Python names it from 3.14 on
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33  # <asm/socket.h>: the same beyond the system's limit, for root

Source: TypeAlias = bytes | None
"""The machine's own address that a datagram came to, packed; None where there is only one."""


class Endpoint:
    """A bound or connected non-blocking UDP socket, read from the start on. For the event loop's thread."""

    def __init__(
        self,
        sock: socket.socket,
        on_datagram: Callable[[bytes, Any, Source], None],
        on_batch: Callable[[], None],
        on_error: Callable[[OSError], None],
        *,
        connected: bool,
    ) -> None:
        """``on_datagram(data, sender, source)`` comes for each datagram, ``on_batch()`` when no more are there.

        ``on_error`` reports what is known of datagrams that were sent: nobody listens there. Connected sockets only.
        """
        self._sock = sock
        self._on_datagram = on_datagram
        self._on_batch = on_batch
        self._on_error = on_error
        self._connected = connected
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[tuple[bytes, Any, Source]] = deque()
        self._waiting: dict[Callable[[], None], None] = {}
        self._closed = False
        self.address = sockaddr_text(sock.family, sock.getsockname())
        """``host:port`` of this end."""
        self.peer: Any = sock.getpeername() if connected else None
        """The socket address of the other end of a connected socket."""
        _enlarge_buffers(sock)
        if not connected:
            _ask_for_destinations(sock)
        self._loop.add_reader(sock, self._read)

    @property
    def port(self) -> int:
        """The port of this end."""
        return int(self._sock.getsockname()[1])

    def source_text(self, source: Source) -> str:
        """Return ``host:port`` of the address that a datagram came to."""
        if source is None:
            return self.address
        host = socket.inet_ntop(socket.AF_INET if len(source) == 4 else socket.AF_INET6, source)
        address: Any = (host, self.port) if len(source) == 4 else (host, self.port, 0, 0)
        return sockaddr_text(socket.AF_INET if len(source) == 4 else socket.AF_INET6, address)

    # -- reading -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        for _ in range(READ_BATCH):
            if self._closed:
                return
            ancillary: list[tuple[int, int, bytes]] = []
            try:
                if self._connected:
                    data, sender = self._sock.recv(MAX_DATAGRAM), self.peer
                else:
                    data, ancillary, _, sender = self._sock.recvmsg(MAX_DATAGRAM, 64)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:  # an ICMP message about what we sent
                self._on_error(error)
                break
            self._on_datagram(data, sender, _destination(ancillary))
        if not self._closed:
            self._on_batch()

    # -- writing -----------------------------------------------------------------------------------------

    @property
    def blocked(self) -> bool:
        """True while the kernel takes no more; whoever has something to send calls ``when_writable`` then."""
        return bool(self._outbox)

    def when_writable(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` once the kernel takes datagrams again. Asking twice is asking once."""
        self._waiting[callback] = None

    def send(self, data: bytes, address: Any, source: Source) -> None:
        """Send a datagram, later if need be. Failures are losses, which QUIC repairs."""
        if self._closed:
            return
        if self._outbox:
            self._outbox.append((data, address, source))
            return
        try:
            self._send(data, address, source)
        except (BlockingIOError, InterruptedError):
            self._outbox.append((data, address, source))
            self._loop.add_writer(self._sock, self._writable)
        except OSError as error:
            self._report(error)

    def _send(self, data: bytes, address: Any, source: Source) -> None:
        if self._connected:
            self._sock.send(data)
        elif source is None:
            self._sock.sendto(data, address)
        else:
            self._sock.sendmsg((data,), (_from(source, address),), 0, address)

    def _writable(self) -> None:
        while self._outbox:
            try:
                self._send(*self._outbox[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._report(error)
                if self._closed:
                    return
            self._outbox.popleft()
        self._loop.remove_writer(self._sock)
        waiting, self._waiting = self._waiting, {}
        for callback in waiting:
            callback()

    def _report(self, error: OSError) -> None:
        if self._connected:
            self._loop.call_soon(self._on_error, error)  # whoever sends is not prepared to be closed

    def close(self) -> None:
        """Close the socket; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._outbox.clear()
        self._waiting.clear()


def _enlarge_buffers(sock: socket.socket) -> None:
    for forced, ordinary in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        for option in (ordinary, forced):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)


def _ask_for_destinations(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)


def _destination(ancillary: list[tuple[int, int, bytes]]) -> Source:
    """Return the address that the datagram was sent to, of ``in_pktinfo`` or ``in6_pktinfo``."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= 12:
            return data[8:12]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(data) >= 20:
            return data[:16]
    return None


def _from(source: bytes, address: Any) -> tuple[int, int, bytes]:
    """Return the ancillary data that sends a datagram from ``source``; the route chooses the interface."""
    if len(source) == 4:
        return socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("@i4s4s", 0, source, bytes(4))
    scope = address[3] if len(address) > 3 else 0  # link-local addresses mean something on one interface only
    return socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, source + struct.pack("@i", scope)
