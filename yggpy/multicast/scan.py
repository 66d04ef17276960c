"""The machine's interfaces as discovery needs them, asked of the system once for each call.

``ifaddr`` knows interfaces and addresses, an ioctl the flags. Whether duplicate address detection is done with an
address stands in ``/proc/net/if_inet6``; where that cannot be read, all pass as usable, and binding will tell.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv6Address

from yggpy.multicast.model import LinkLocalAddress, NetworkInterface

__all__ = ["scan_interfaces"]

_SIOCGIFFLAGS = 0x8913
_IFREQ = struct.Struct("16sH22x")
_IF_INET6 = "/proc/net/if_inet6"
_IFA_F_OPTIMISTIC = 0x04  # RFC 4429: may be used during the detection
_IFA_F_TENTATIVE = 0x40


def scan_interfaces() -> list[NetworkInterface]:
    """Return all interfaces, with or without addresses. Raises ``OSError``."""
    import ifaddr  # only when there is something to discover

    tentative = _tentative_addresses()
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for adapter in ifaddr.get_adapters(include_unconfigured=True):
            if adapter.index is None:
                continue
            try:
                flags = _flags(sock, adapter.name)
            except OSError:  # it went away meanwhile
                continue
            addresses = []
            for ip in adapter.ips:
                if isinstance(ip.ip, str):
                    continue
                address = IPv6Address(ip.ip[0].partition("%")[0])
                if address.is_link_local:
                    usable = (adapter.index, address) not in tentative
                    addresses.append(LinkLocalAddress(address, usable))
            found.append(NetworkInterface(adapter.name, adapter.index, flags, tuple(addresses)))
    return found


def _flags(sock: socket.socket, name: str) -> int:
    reply = fcntl.ioctl(sock, _SIOCGIFFLAGS, _IFREQ.pack(name.encode(errors="surrogateescape"), 0))
    return int(_IFREQ.unpack(reply)[1])


def _tentative_addresses() -> set[tuple[int, IPv6Address]]:
    """Return (interface index, address) of what cannot be used yet."""
    try:
        with open(_IF_INET6, encoding="ascii", errors="replace") as lines:
            return parse_if_inet6(lines.read())
    except OSError:
        return set()


def parse_if_inet6(text: str) -> set[tuple[int, IPv6Address]]:
    """Return (interface index, address) of the tentative addresses in the text of ``/proc/net/if_inet6``.

    A line is: address, interface index, prefix length, scope, flags (all hexadecimal), interface name.
    """
    tentative = set()
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 6:
            continue
        flags = int(fields[4], 16)
        if flags & _IFA_F_TENTATIVE and not flags & _IFA_F_OPTIMISTIC:
            tentative.add((int(fields[1], 16), IPv6Address(int(fields[0], 16))))
    return tentative
