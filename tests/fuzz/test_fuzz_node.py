"""A whole node among peers that know the protocol and do not play by it.

They shake hands, answer what they are asked, sign and seal properly, and for the rest send valid frames that make no
sense, as themselves and in the name of others, the node's own name too; now and then junk, and their links come and go.
Nothing may reach the event loop's exception handler, and afterwards the node must still serve honest ones.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import pytest

from yggpy import testing
from yggpy.datapath.choice import DATAPATH_VARIABLE
from yggpy.keys import PrivateKey
from yggpy.node import Node
from yggpy.sessions.crypto import BoxKeyPair, box_public_key, seal_box, shared_key
from yggpy.wire.frame import FrameDecoder, FrameType, encode_frame
from yggpy.wire.handshake import HEADER_SIZE, decode_header, encode_handshake
from yggpy.wire.packets import (
    MAX_WATERMARK,
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    Traffic,
    path_info_signed_bytes,
    tree_signed_bytes,
)
from yggpy.wire.session import InitMessage, InitPayload, MessageType, signed_bytes

KEYS = [PrivateKey(bytes([number]) * 32) for number in range(1, 7)]
NUMBERS = (0, 1, 2, 3, 2**32, 2**63, MAX_WATERMARK - 1, MAX_WATERMARK)
PORTS = (1, 1, 2, 3, 127, 128, 2**63, MAX_WATERMARK)
LINKS_OF_EACH = 6
FRAMES_PER_LINK = 300
RECOVERY = 20.0

Frame = tuple[int, bytes]


class Mallory:
    """One such peer of ``node``, with a key of its own."""

    def __init__(self, node: Node, key: PrivateKey, seed: int) -> None:
        self._node = node
        self._own = node.public_key
        self._key = key
        self._random = random.Random(seed)
        self._received: list[Frame] = []

    async def misbehave(self) -> None:
        for _ in range(LINKS_OF_EACH):
            await self._one_link()

    async def _one_link(self) -> None:
        near, far = testing.memory_stream_pair()
        near.write(encode_handshake(self._key))
        await self._node.links.adopt(far, inbound=True)
        await near.read_exactly(decode_header(await near.read_exactly(HEADER_SIZE)))
        decoder = FrameDecoder()
        ends: list[object] = []
        self._received.clear()
        near.start(lambda data: self._received.extend(decoder.feed(data)), ends.append, lambda: None)
        for _ in range(self._random.randrange(FRAMES_PER_LINK)):
            if ends:
                break
            near.write(encode_frame(*self._frame()))
            if self._random.random() < 0.2:
                await asyncio.sleep(self._random.choice((0, 0, 0, 0.02)))
        near.close()
        await asyncio.sleep(0)

    def _frame(self) -> Frame:
        if self._received and self._random.random() < 0.3:
            answer = self._answer(*self._received.pop(0))
            if answer is not None:
                return answer
        pick = self._random.choice
        match self._random.randrange(40):
            case 0:
                return self._random.randrange(10), self._random.randbytes(self._random.randrange(100))
            case 1 | 2 | 3 | 4:
                return FrameType.SIG_REQ, SigReq(pick(NUMBERS), pick(NUMBERS)).encode()
            case 5 | 6 | 7 | 8:
                return FrameType.ANNOUNCE, self._announce()
            case 9 | 10 | 11:
                words = tuple(pick((0, MAX_WATERMARK, self._random.getrandbits(64))) for _ in range(128))
                return FrameType.BLOOM_FILTER, BloomFilter(words).encode()
            case 12 | 13 | 14:
                return FrameType.PATH_LOOKUP, PathLookup(self._anybody(), self._anybody(), self._path()).encode()
            case 15 | 16 | 17:
                return FrameType.PATH_NOTIFY, self._notify(self._path(), self._anybody())
            case 18 | 19 | 20:
                broken = PathBroken(self._path(), pick(NUMBERS), self._anybody(), self._anybody())
                return FrameType.PATH_BROKEN, broken.encode()
            case 21 | 22 | 23 | 24 | 25 | 26:
                payload = bytes([self._random.randrange(5)]) + self._random.randbytes(pick((0, 10, 51, 60, 192, 1000)))
                return self._traffic(self._anybody(), self._anybody(), payload, self._path(), pick(NUMBERS))
            case _:
                sender = self._somebody()
                return self._traffic(sender.public_key, self._own, self._init(sender))

    def _answer(self, frame_type: int, payload: bytes) -> Frame | None:
        """What an honest peer would say, more or less."""
        if frame_type == FrameType.SIG_REQ:
            request, port = SigReq.decode(payload), self._random.choice((1, 1, 2, MAX_WATERMARK))
            signed = tree_signed_bytes(self._own, self._key.public_key, request.seq, request.nonce, port)
            return FrameType.SIG_RES, SigRes(request.seq, request.nonce, port, self._key.sign(signed)).encode()
        if frame_type == FrameType.PATH_LOOKUP:
            return FrameType.PATH_NOTIFY, self._notify(PathLookup.decode(payload).from_path, self._own)
        if frame_type == FrameType.TRAFFIC:  # back to the sender, perhaps in its own name
            source = self._random.choice((self._key.public_key, self._own))
            return self._traffic(source, self._own, Traffic.decode(payload).payload)
        return None

    def _somebody(self) -> PrivateKey:
        return self._random.choice((self._key, *KEYS))

    def _anybody(self) -> bytes:
        return self._random.choice((self._own, self._own, self._somebody().public_key))

    def _path(self) -> tuple[int, ...]:
        return tuple(self._random.choices(PORTS, k=self._random.choice((0, 0, 1, 1, 2, 3, 5))))

    def _announce(self) -> bytes:
        node, parent = self._somebody(), self._somebody()
        seq, nonce, port = (self._random.choice(choices) for choices in (NUMBERS, NUMBERS, (1, 2, 3)))
        signed = tree_signed_bytes(node.public_key, parent.public_key, seq, nonce, port)
        return Announce(
            node.public_key, parent.public_key, seq, nonce, port, parent.sign(signed), node.sign(signed)
        ).encode()

    def _notify(self, path: tuple[int, ...], dest: bytes) -> bytes:
        source, seq, coords = self._somebody(), self._random.choice(NUMBERS), self._path()
        signature = source.sign(path_info_signed_bytes(seq, coords))
        return PathNotify(path, MAX_WATERMARK, source.public_key, dest, seq, coords, signature).encode()

    def _init(self, sender: PrivateKey) -> bytes:
        """A session init or ack that opens and verifies."""
        current, following = (BoxKeyPair.generate(os.urandom).public for _ in range(2))
        once = BoxKeyPair.generate(os.urandom)
        current = self._random.choice((current, bytes(32), b"\1" + bytes(31)))
        key_seq = self._random.choice(NUMBERS)
        seq = self._random.choice((*NUMBERS, int(self._node.core._scheduler.now())))
        signature = sender.sign(signed_bytes(b"", once.public, current, following, key_seq, seq))
        box = seal_box(
            InitPayload(signature, current, following, key_seq, seq).encode(),
            0,
            shared_key(box_public_key(self._own), once.private),
        )
        kind = self._random.choice((MessageType.INIT, MessageType.ACK))
        return InitMessage(kind, once.public, box).encode()

    def _traffic(
        self,
        source: bytes,
        dest: bytes,
        payload: bytes,
        path: tuple[int, ...] = (),
        watermark: int = MAX_WATERMARK,
    ) -> Frame:
        return FrameType.TRAFFIC, Traffic(path, self._path(), source, dest, watermark, payload).encode()


@pytest.mark.parametrize(("plane", "seed"), [("pure", 0), ("native", 0), ("native", 1)])
async def test_a_node_outlives_peers_that_know_the_protocol(
    plane: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATAPATH_VARIABLE, plane)
    problems: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with testing.nodes(2) as (node, honest):
        for key in KEYS:
            await node.send(key.public_key, b"something to search for")
        await asyncio.gather(
            *(Mallory(node, key, 10 * seed + number).misbehave() for number, key in enumerate(KEYS[:3]))
        )
        assert problems == []
        await testing.connect(honest, node)
        async with asyncio.timeout(RECOVERY):
            await honest.send(node.public_key, b"still there?")
            while await node.receive() != (honest.public_key, b"still there?"):
                pass
    assert problems == []
