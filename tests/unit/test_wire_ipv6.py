"""IPv6 headers and "packet too big" against Go's answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.wire import ipv6

CASES = load("packet_too_big")["cases"]


def offending_packet(entry: dict[str, Any]) -> bytes:
    packet = bytes.fromhex(entry["offending_first_512_bytes"])
    return packet + bytes((7 * index) & 0xFF for index in range(len(packet), entry["offending_length"]))


@pytest.mark.parametrize("entry", CASES, ids=lambda e: str(e["offending_length"]))
def test_header_fields(entry: dict[str, Any]) -> None:
    packet = offending_packet(entry)
    assert ipv6.is_ipv6(packet)
    assert ipv6.source(packet).hex() == entry["offending_source"]
    assert ipv6.destination(packet).hex() == entry["offending_destination"]
    assert ipv6.payload_length(packet) == len(packet) - ipv6.HEADER_SIZE
    assert ipv6.next_header(packet) == 17


@pytest.mark.parametrize("entry", CASES, ids=lambda e: str(e["offending_length"]))
def test_packet_too_big(entry: dict[str, Any]) -> None:
    reply = ipv6.packet_too_big(offending_packet(entry), entry["own_mtu"])
    assert reply.hex() == entry["reply"]
    assert len(reply) == entry["reply_length"]
    assert ipv6.next_header(reply) == ipv6.ICMPV6
    assert ipv6.checksum(ipv6.source(reply), ipv6.destination(reply), ipv6.ICMPV6, reply[40:]) == 0


def test_what_is_no_ipv6() -> None:
    header = ipv6.encode_header(bytes(16), bytes(16), 17, 0)
    assert ipv6.is_ipv6(header)
    assert not ipv6.is_ipv6(b"")
    assert not ipv6.is_ipv6(header[:-1])
    assert not ipv6.is_ipv6(b"\x45" + header[1:])


def test_checksum_of_an_odd_length_counts_the_last_byte_as_high() -> None:
    # Addresses zero: 0x0100 (data) + 1 (length) + 17 (protocol).
    assert ipv6.checksum(bytes(16), bytes(16), 17, b"\x01") == 0x0112 ^ 0xFFFF
