"""The socket that beacons go out of and come in by: UDP port 9001, group ff02::114 (protocol section 12).

One socket serves all interfaces. Several nodes on one machine share the port, each gets every beacon.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv6Address

__all__ = ["GROUP", "MAX_DATAGRAM", "PORT", "BeaconSocket", "ReceivedDatagram"]

GROUP = IPv6Address("ff02::114")
PORT = 9001
MAX_DATAGRAM = 2048
"""Bytes of a datagram that are looked at; a beacon has 104."""

_PKTINFO = struct.Struct("=16sI")  # in6_pktinfo: address, interface index
_IPV6_MULTICAST_ALL = 29  # linux/in6.h, since Linux 4.20


@dataclass(frozen=True, slots=True)
class ReceivedDatagram:
    """A datagram that was sent to the group."""

    index: int
    """Of the interface."""
    source: IPv6Address
    data: bytes


class BeaconSocket:
    """Made open; raises ``OSError``."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            with contextlib.suppress(OSError):  # what other programs joined is not for us
                self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
            self._sock.bind(("::", PORT))
        except OSError:
            self._sock.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to be watched for reading."""
        return self._sock.fileno()

    def join(self, index: int) -> None:
        """Receive the group's datagrams on an interface, harmless when it does already. Raises ``OSError``."""
        try:
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, GROUP.packed + struct.pack("=I", index))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise

    def leave(self, index: int) -> None:
        """Undo ``join``; an interface that is gone is no error."""
        with contextlib.suppress(OSError):
            request = GROUP.packed + struct.pack("=I", index)
            self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_LEAVE_GROUP, request)

    def send(self, index: int, source: IPv6Address, datagram: bytes) -> None:
        """Send to the group on one interface, from an address of that interface. Raises ``OSError``."""
        # Left to itself the kernel might take another link-local address than the one that the listener has.
        origin = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO.pack(source.packed, index))
        self._sock.sendmsg([datagram], [origin], 0, (str(GROUP), PORT, 0, index))

    def receive(self) -> ReceivedDatagram | None:
        """Take the next datagram; None for one that was not sent to the group.

        Raises ``BlockingIOError`` when there is none, ``OSError`` for errors of the socket.
        """
        data, ancillary, _, sender = self._sock.recvmsg(MAX_DATAGRAM, socket.CMSG_SPACE(_PKTINFO.size))
        for level, kind, value in ancillary:
            if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO and len(value) == _PKTINFO.size:
                destination, index = _PKTINFO.unpack(value)
                if destination == GROUP.packed:
                    return ReceivedDatagram(index, IPv6Address(str(sender[0]).partition("%")[0]), data)
        return None

    def close(self) -> None:
        """Close the socket; its memberships end."""
        self._sock.close()
