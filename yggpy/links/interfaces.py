"""Network interfaces as far as dialling through one needs them: does it exist, is it up, what source address to use."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["Interface", "IpAddress", "find_interface", "is_global_unicast", "source_address"]

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_NAME = 15
"""Characters of the longest interface name (IFNAMSIZ without its final zero)."""
_SIOCGIFFLAGS = 0x8913
_IFF_UP = 1
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Interface:
    """A snapshot of one interface."""

    name: str
    index: int
    up: bool
    addresses: tuple[IpAddress, ...]
    """In the system's order."""


def find_interface(name: str) -> Interface | None:
    """Return the interface called ``name``, None if there is none."""
    import ifaddr  # only nodes that dial through a named interface need it

    try:
        index = socket.if_nametoindex(name)
        up = _is_up(name)
    except (OSError, ValueError):
        return None
    addresses: list[IpAddress] = []
    for adapter in ifaddr.get_adapters():
        if adapter.name == name:
            addresses += [
                ipaddress.ip_address(ip.ip if isinstance(ip.ip, str) else ip.ip[0].partition("%")[0])
                for ip in adapter.ips
            ]
    return Interface(name, index, up, tuple(addresses))


def _is_up(name: str) -> bool:
    request = struct.pack("16sh14x", name.encode()[:MAX_NAME], 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        reply = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
    return bool(struct.unpack("16sh14x", reply)[1] & _IFF_UP)


def is_global_unicast(address: IpAddress) -> bool:
    """Tell whether Go calls ``address`` global unicast: private ones are, loopback and link-local are not."""
    return not (
        address.is_unspecified
        or address.is_loopback
        or address.is_multicast
        or address.is_link_local
        or address == _BROADCAST
    )


def source_address(interface: Interface, destination: IpAddress) -> IpAddress | None:
    """Return the address of ``interface`` to dial ``destination`` from (protocol section 2.5), None if none suits."""
    for source in interface.addresses:
        if source.version != destination.version or not (is_global_unicast(source) or source.is_link_local):
            continue
        if (
            is_global_unicast(source) == is_global_unicast(destination)
            or source.is_link_local == destination.is_link_local
        ):
            return source
    return None
