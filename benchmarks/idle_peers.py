"""Many idle peers in one process: nodes without a TUN that dial one address and then only keep their links alive.

They are ours, on the pure-Python data plane, whichever node is measured: sixty nodes of another kind would be sixty
processes or more memory than the machine has, and the burden on the measured node is the same for all: a link each, its
keep-alives, and its part in the tree. Their own CPU and memory are not counted.

    idle_peers.py URI COUNT     prints "ready" when all are started; runs until it is killed
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import AsyncExitStack

from yggpy import Config, Node
from yggpy.datapath.pure import PureDatapath


def _config(uri: str) -> Config:
    config = Config.generate()
    config.if_name = "none"
    config.multicast_interfaces = []
    config.peers = [uri]
    return config


async def idle(uri: str, count: int) -> None:
    """Run ``count`` nodes that dial ``uri``, for ever."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(Node(_config(uri), datapath_factory=PureDatapath))
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(idle(sys.argv[1], int(sys.argv[2])))
