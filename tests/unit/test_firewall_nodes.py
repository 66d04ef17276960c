"""The packet filter inside two real nodes, with either data plane: what passes, what does not, what is counted."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from yggpy import testing
from yggpy.config import Config
from yggpy.config.firewall import FirewallConfig
from yggpy.firewall import Rule, compile_rules
from yggpy.node import Node

pytestmark = pytest.mark.usefixtures("plane")


def udp(source: Node, dest: Node, ports: tuple[int, int], data: bytes = b"data") -> bytes:
    length = 8 + len(data)
    header = struct.pack(">IHBB16s16s", 6 << 28, length, 17, 64, source.address.packed, dest.address.packed)
    return header + struct.pack(">HHHH", *ports, length, 0) + data


@asynccontextmanager
async def two_nodes(*rules: Rule) -> AsyncIterator[tuple[Node, Node]]:
    """Yield a node with a filter, and one without, joined and with a session."""
    config: Config = testing.quiet_config()
    config.firewall = FirewallConfig(rules)
    async with Node(config) as guarded, Node(testing.quiet_config()) as other:
        await testing.connect(guarded, other)
        yield guarded, other


async def passes(sender: Node, receiver: Node, packet: bytes) -> bool:
    """Send a packet three times, and datagrams, which no filter judges; tell whether the packet has arrived."""
    await sender.send(receiver.public_key, b"session")
    assert await receiver.receive() == (sender.public_key, b"session")
    for number in range(3):  # the first one may wait for an address, and be overtaken
        await sender.send_packet(packet)
        await asyncio.sleep(0.02)
        await sender.send(receiver.public_key, bytes((number,)))
        await receiver.receive()
    arrived = []
    try:
        while True:
            arrived.append(await asyncio.wait_for(receiver.receive_packet(), 0.1))
    except TimeoutError:
        return packet in arrived


async def test_only_what_a_rule_allows_comes_in() -> None:
    async with two_nodes(Rule("dns", protocols=("udp",), ports=("53",))) as (guarded, other):
        assert await passes(other, guarded, udp(other, guarded, (40000, 53)))
        assert not await passes(other, guarded, udp(other, guarded, (40000, 54)))
        status = guarded.status_firewall()
        assert status is not None
        assert (status.rules[0][0], status.denied) == ("dns", 3)
        assert status.rules[0][1] >= 1
        assert other.status_firewall() is None


async def test_answers_come_in() -> None:
    async with two_nodes() as (guarded, other):
        answer = udp(other, guarded, (53, 40000))
        assert not await passes(other, guarded, answer)
        assert await passes(guarded, other, udp(guarded, other, (40000, 53)))
        assert await passes(other, guarded, answer)
        status = guarded.status_firewall()
        assert status is not None
        assert (status.flows, status.evicted) == (1, 0)
        assert status.established >= 1


async def test_a_rule_for_a_key() -> None:
    async with two_nodes() as (guarded, other):
        packet = udp(other, guarded, (1, 2))
        guarded.set_firewall(compile_rules([Rule(senders=("ab" * 32,))]))
        assert not await passes(other, guarded, packet)
        guarded.set_firewall(compile_rules([Rule("friend", senders=(other.public_key.hex(),))]))
        assert await passes(other, guarded, packet)
        guarded.set_firewall(None)
        assert guarded.status_firewall() is None
        assert await passes(other, guarded, packet)


async def test_a_denied_packet_that_is_too_big_gets_no_answer() -> None:
    async with two_nodes() as (guarded, other):
        assert not await passes(other, guarded, udp(other, guarded, (1, 2), bytes(5000)))
        arrival = asyncio.create_task(other.receive_packet())
        await asyncio.sleep(0.1)
        assert not arrival.done()
        arrival.cancel()
        guarded.set_firewall(compile_rules([Rule()]))
        await other.send_packet(udp(other, guarded, (1, 2), bytes(5000)))
        answer = await asyncio.wait_for(other.receive_packet(), 5)
        assert answer[40] == 2  # packet too big
