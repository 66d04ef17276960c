"""What the packet filter reads of an IPv6 packet: addresses, upper protocol, ports, fragments.

Extension headers are followed (RFC 8200, section 4). Any bytes give a summary or None; nothing is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

from yggpy.firewall.rules import ICMPV6, PORT_PROTOCOLS, TCP
from yggpy.wire.ipv6 import HEADER_SIZE, is_ipv6

__all__ = ["ACK", "FIN", "RST", "SYN", "Summary", "summarize"]

MAX_HEADERS = 8
"""Extension headers that are followed; a packet with more is not let in."""
FIN, SYN, RST, ACK = 1, 2, 4, 16

_FRAGMENT = 44
_AUTHENTICATION = 51
_EXTENSIONS = frozenset((0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140))
_TCP_HEADER_SIZE = 20
_TCP_FLAGS = 13
_ICMP_HEADER_SIZE = 8


@dataclass(slots=True)
class Summary:
    """What was read."""

    source: bytes
    dest: bytes
    protocol: int = 0
    at: int = HEADER_SIZE
    """Offset of the upper header."""
    source_port: int = 0
    dest_port: int = 0
    flags: int = 0
    """Of TCP."""
    type: int = 0
    """Of ICMPv6."""
    fragment_id: int = 0
    first_fragment: bool = False
    """More fragments follow."""
    later_fragment: bool = False
    """It has no upper header."""


def summarize(packet: bytes, *, quoted: bool = False) -> Summary | None:
    """Read a packet; None if it is cut short, or has too many headers.

    Of one that is ``quoted`` by an ICMPv6 error, the upper header need not be whole.
    """
    if not is_ipv6(packet):
        return None
    summary = Summary(packet[8:24], packet[24:40])
    if not _find_upper(packet, summary):
        return None
    if summary.later_fragment:
        return summary
    at = summary.at
    left = len(packet) - at
    if summary.protocol in PORT_PROTOCOLS:
        if left < 4:
            return None
        summary.source_port = int.from_bytes(packet[at : at + 2], "big")
        summary.dest_port = int.from_bytes(packet[at + 2 : at + 4], "big")
        if summary.protocol == TCP and not quoted:
            if left < _TCP_HEADER_SIZE:
                return None
            summary.flags = packet[at + _TCP_FLAGS]
    elif summary.protocol == ICMPV6:
        if left < _ICMP_HEADER_SIZE:
            return None
        summary.type = packet[at]
    return summary


def _find_upper(packet: bytes, summary: Summary) -> bool:
    following = packet[6]
    at = HEADER_SIZE
    for _ in range(MAX_HEADERS + 1):
        if following not in _EXTENSIONS:
            summary.protocol = following
            summary.at = at
            return True
        if len(packet) - at < 8:
            return False
        length = (packet[at + 1] + 1) * 8
        if following == _AUTHENTICATION:
            length = (packet[at + 1] + 2) * 4
        elif following == _FRAGMENT:
            length = 8
            place = int.from_bytes(packet[at + 2 : at + 4], "big")
            summary.fragment_id = int.from_bytes(packet[at + 4 : at + 8], "big")
            if place >> 3:
                summary.later_fragment = True
                summary.protocol = packet[at]
                return True
            summary.first_fragment = bool(place & 1)
        if len(packet) - at < length:
            return False
        following = packet[at]
        at += length
    return False
