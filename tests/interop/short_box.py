"""A peer whose sealed traffic holds less than the 32 bytes of a key, run as a program inside a namespace.

    short_box.py URI TARGET_KEY

It opens a session with the node TARGET_KEY by a ping, sends boxes that open properly but are too short (over-long
numbers before them keep the packet above the least length), and pings again through the same session. Prints
``{"before": true, "after": true}`` for the pings that were answered.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys

from nacl.bindings import crypto_box_easy_afternm

from yggpy import Config, Node
from yggpy.address import Address
from yggpy.sessions.traffic import TrafficState
from yggpy.wire.ipv6 import checksum, encode_header
from yggpy.wire.session import MessageType
from yggpy.wire.uvarint import encode_uvarint

SHORT_SIZES = (31, 16, 5)
PATIENCE = 15.0
ICMPV6 = 58


def _overlong(number: int) -> bytes:
    """Return an encoding of ``number`` in ten bytes, which is valid, though not the shortest."""
    digits = [number >> shift & 0x7F for shift in range(0, 70, 7)]
    return bytes([digit | 0x80 for digit in digits[:-1]] + digits[-1:])


def _seal_short(state: TrafficState, message: bytes) -> bytes:
    """Stand in for ``TrafficState.seal``: the plaintext is ``message`` alone, without our next key before it."""
    state._send_nonce += 1
    keys, nonce = state._keys, state._send_nonce
    box = crypto_box_easy_afternm(message, bytes(16) + nonce.to_bytes(8, "big"), keys.send_shared)
    numbers = _overlong(keys.local_key_seq) + _overlong(keys.remote_key_seq) + encode_uvarint(nonce)
    return bytes((MessageType.TRAFFIC,)) + numbers + box


def _echo_request(source: Address, dest: Address, number: int) -> bytes:
    body = struct.pack(">BBHHH", 128, 0, 0, 7, number)
    body = body[:2] + struct.pack(">H", checksum(source.packed, dest.packed, ICMPV6, body)) + body[4:]
    return encode_header(source.packed, dest.packed, ICMPV6, len(body)) + body


async def _ping(node: Node, dest: Address) -> bool:
    """Ping until there is an answer."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + PATIENCE
    number = 0
    while loop.time() < limit:
        number += 1
        await node.send_packet(_echo_request(node.address, dest, number))
        try:
            await asyncio.wait_for(node.receive_packet(), 0.5)
            return True
        except TimeoutError:
            continue
    return False


async def _run(uri: str, target: bytes) -> None:
    config = Config.generate()
    config.if_name = "none"
    config.multicast_interfaces = []
    config.peers = [uri]
    dest = Address.for_key(target)
    async with Node(config) as node:
        before = await _ping(node, dest)
        seal = TrafficState.seal
        # mypy has no way to allow a replaced method across its versions but this one
        setattr(TrafficState, "seal", _seal_short)  # noqa: B010
        for size in SHORT_SIZES:
            await node.send(target, bytes(size - 1))  # the type byte comes before it
        setattr(TrafficState, "seal", seal)  # noqa: B010
        after = await _ping(node, dest)
    print(json.dumps({"before": before, "after": after}))


if __name__ == "__main__":
    asyncio.run(_run(sys.argv[1], bytes.fromhex(sys.argv[2])))
