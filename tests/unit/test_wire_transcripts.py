"""Replays recorded links between real nodes: every byte is understood, and written again as it was."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.unit.test_wire_frame import PACKET_OF_TYPE
from tests.unit.vectors import load
from yggpy.address import Address
from yggpy.keys import PrivateKey
from yggpy.wire.frame import FrameDecoder, FrameType, encode_frame
from yggpy.wire.handshake import HEADER_SIZE, decode_body, decode_header, encode_handshake
from yggpy.wire.packets import Announce, PathNotify, SigReq, SigRes, Traffic
from yggpy.wire.session import InitMessage, MessageType, TrafficHeader

NAMES = ["transcript_tcp_1", "transcript_tcp_2", "transcript_tcp_3"]
PASSWORDS = {"transcript_tcp_2": b"link secret"}
PRIORITIES = {("transcript_tcp_2", "dialer"): 4, ("transcript_tcp_2", "listener"): 2}
OTHER = {"dialer": "listener", "listener": "dialer"}

DIRECTIONS = [(name, sender) for name in NAMES for sender in OTHER]


class Direction(NamedTuple):
    """All that one side of a recorded link sent."""

    transcript: dict[str, Any]
    sender: bytes
    receiver: bytes
    handshake: bytes
    stream: bytes
    frames: list[tuple[int, bytes]]


def replay(name: str, sender: str) -> Direction:
    """Read one direction of a transcript in the pieces in which it was recorded."""
    transcript = load(name)
    direction = f"{sender}->{OTHER[sender]}"
    chunks = [bytes.fromhex(chunk["hex"]) for chunk in transcript["chunks"] if chunk["dir"] == direction]
    decoder = FrameDecoder()
    frames: list[tuple[int, bytes]] = []
    size = HEADER_SIZE + decode_header(chunks[0][:HEADER_SIZE])
    assert len(chunks[0]) >= size
    for chunk in [chunks[0][size:], *chunks[1:]]:
        frames += decoder.feed(chunk)
    assert decoder.buffered == 0
    keys = [bytes.fromhex(transcript[side]["public_key"]) for side in (sender, OTHER[sender])]
    stream = b"".join(chunks)
    return Direction(transcript, keys[0], keys[1], stream[:size], stream[size:], frames)


@pytest.mark.parametrize("name", NAMES)
def test_nodes(name: str) -> None:
    transcript = load(name)
    for side in ("dialer", "listener", "third"):
        if side in transcript:
            key = PrivateKey.from_bytes(bytes.fromhex(transcript[side]["private_key"]))
            assert key.public_key.hex() == transcript[side]["public_key"]
            assert str(Address.for_key(key.public_key)) == transcript[side]["address"]


@pytest.mark.parametrize(("name", "sender"), DIRECTIONS)
def test_handshake(name: str, sender: str) -> None:
    link = replay(name, sender)
    password, priority = PASSWORDS.get(name, b""), PRIORITIES.get((name, sender), 0)
    info = decode_body(link.handshake[HEADER_SIZE:], password)
    assert (info.public_key, info.priority) == (link.sender, priority)
    key = PrivateKey.from_bytes(bytes.fromhex(link.transcript[sender]["private_key"]))
    assert encode_handshake(key, password, priority) == link.handshake


@pytest.mark.parametrize(("name", "sender"), DIRECTIONS)
def test_every_frame_is_written_again_as_it_was(name: str, sender: str) -> None:
    link = replay(name, sender)
    written = []
    for frame_type, payload in link.frames:
        if frame_type in PACKET_OF_TYPE:
            assert PACKET_OF_TYPE[frame_type].decode(payload).encode() == payload
        else:
            assert (frame_type, payload) == (FrameType.KEEPALIVE, b"")
        written.append(encode_frame(frame_type, payload))
    assert len(written) > 20
    assert b"".join(written) == link.stream


@pytest.mark.parametrize(("name", "sender"), DIRECTIONS)
def test_every_signature_is_good(name: str, sender: str) -> None:
    link = replay(name, sender)
    requests = [SigReq.decode(p) for kind, p in replay(name, OTHER[sender]).frames if kind == FrameType.SIG_REQ]
    seen = set()
    for frame_type, payload in link.frames:
        if frame_type == FrameType.SIG_RES:
            response = SigRes.decode(payload)
            assert response.verify(node=link.receiver, parent=link.sender)
            assert SigReq(response.seq, response.nonce) in requests
        elif frame_type == FrameType.ANNOUNCE:
            assert Announce.decode(payload).verify()
        elif frame_type == FrameType.PATH_NOTIFY:
            assert PathNotify.decode(payload).verify()
        else:
            continue
        seen.add(frame_type)
    assert {FrameType.SIG_RES, FrameType.ANNOUNCE} <= seen


@pytest.mark.parametrize(("name", "sender"), DIRECTIONS)
def test_session_messages(name: str, sender: str) -> None:
    seen = set()
    for frame_type, payload in replay(name, sender).frames:
        if frame_type != FrameType.TRAFFIC:
            continue
        message = Traffic.decode(payload).payload
        seen.add(message[0])
        if message[0] == MessageType.TRAFFIC:
            header = TrafficHeader.decode(message)
            assert header.nonce > 0
            assert message.startswith(header.encode())
        else:
            assert InitMessage.decode(message).encode() == message
    assert MessageType.TRAFFIC in seen
    assert seen & {MessageType.INIT, MessageType.ACK}
