"""Many complete nodes around one hub in one process: all pairs start at once, and every first message arrives."""

from __future__ import annotations

import asyncio

from yggpy import testing
from yggpy.node import Node

LEAVES = 40
DEADLINE = 60.0


async def first_senders(node: Node, count: int) -> set[bytes]:
    senders: set[bytes] = set()
    while len(senders) < count:
        source, data = await node.receive()
        assert data == source
        senders.add(source)
    return senders


async def test_all_pairs_around_a_hub_start_at_once() -> None:
    async with testing.nodes(LEAVES + 1) as (hub, *leaves):
        for leaf in leaves:
            await testing.connect(leaf, hub)
        for one in leaves:
            for two in leaves:
                if one is not two:
                    await one.send(two.public_key, one.public_key)
            await asyncio.sleep(0)  # one loop serves both ends: seconds without a turn would look like a dead link
        async with asyncio.timeout(DEADLINE):
            received = await asyncio.gather(*(first_senders(leaf, LEAVES - 1) for leaf in leaves))
        keys = {leaf.public_key for leaf in leaves}
        for leaf, senders in zip(leaves, received, strict=True):
            assert senders == keys - {leaf.public_key}
        assert all(peer.up for peer in hub.status_peers()) and len(hub.status_peers()) == LEAVES
