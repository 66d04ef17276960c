"""Framing: the recorded streams, any way of cutting them, and the limits."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.wire import packets
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import MAX_FRAME_SIZE, FrameDecoder, FrameType, encode_frame

STREAMS = load("malformed")["frames"]
PACKETS = load("packets")["packets"]

PACKET_OF_TYPE: dict[int, Any] = {
    FrameType.SIG_REQ: packets.SigReq,
    FrameType.SIG_RES: packets.SigRes,
    FrameType.ANNOUNCE: packets.Announce,
    FrameType.BLOOM_FILTER: packets.BloomFilter,
    FrameType.PATH_LOOKUP: packets.PathLookup,
    FrameType.PATH_NOTIFY: packets.PathNotify,
    FrameType.PATH_BROKEN: packets.PathBroken,
    FrameType.TRAFFIC: packets.Traffic,
}
ERRORS = {
    "ErrEmptyMessage": "empty message",
    "ErrUnrecognizedMessage": "unrecognised message type",
    "ErrOversizedMessage": "oversized message",
    "binary: varint overflows a 64-bit integer": "oversized message",
    "ErrDecode": "cut short",
}


def read_stream(stream: bytes, chunk: int) -> list[tuple[int, bytes]]:
    """What a link does: cut into frames and decode the packet in each."""
    decoder = FrameDecoder()
    frames = []
    for start in range(0, len(stream), chunk):
        for frame_type, payload in decoder.feed(stream[start : start + chunk]):
            if frame_type in PACKET_OF_TYPE:
                PACKET_OF_TYPE[frame_type].decode(payload)
            frames.append((frame_type, payload))
    return frames


@pytest.mark.parametrize("entry", STREAMS, ids=lambda e: str(e["description"]))
@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_streams_that_close_a_link_of_go(entry: dict[str, Any], chunk: int) -> None:
    stream = bytes.fromhex(entry["hex"])
    if entry["closes_link"]:
        with pytest.raises(DecodeError, match=ERRORS[entry["reason"]]):
            read_stream(stream, chunk)
    else:
        read_stream(stream, chunk)


@pytest.mark.parametrize("entry", PACKETS, ids=lambda e: str(e["packet"]))
def test_frames_are_those_of_go(entry: dict[str, Any]) -> None:
    payload, frame = bytes.fromhex(entry["payload"]), bytes.fromhex(entry["frame"])
    assert encode_frame(entry["type"], payload) == frame
    assert list(FrameDecoder().feed(frame)) == [(entry["type"], payload)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100, 1448, 65536, 1_000_000])
@pytest.mark.parametrize("as_view", [False, True])
def test_any_cutting_gives_the_same_frames(chunk: int, as_view: bool) -> None:
    sizes = [0, 1, 126, 127, 128, 1400, 16382, 16383, 16384, 0, 40000]
    expected = [(FrameType.TRAFFIC, bytes((size % 251,)) * size) for size in sizes]
    stream = b"".join(encode_frame(kind, payload) for kind, payload in expected)
    decoder = FrameDecoder()
    frames = []
    for start in range(0, len(stream), chunk):
        piece = stream[start : start + chunk]
        frames += list(decoder.feed(memoryview(piece) if as_view else piece))
    assert frames == expected
    assert decoder.buffered == 0


def test_a_view_may_be_reused_after_the_call() -> None:
    buffer = bytearray(encode_frame(FrameType.TRAFFIC, b"first") + b"\x05\x09se")
    decoder = FrameDecoder()
    frames = list(decoder.feed(memoryview(buffer)))
    buffer[:] = bytes(len(buffer))
    frames += list(decoder.feed(b"co"))
    assert frames == [(9, b"first"), (9, b"seco")]


def test_frames_before_a_malformed_one_are_given() -> None:
    frames = FrameDecoder().feed(encode_frame(FrameType.SIG_REQ, b"\1\2") + b"\x01\xc8")
    assert next(frames) == (FrameType.SIG_REQ, b"\1\2")
    with pytest.raises(DecodeError, match="unrecognised message type 200"):
        next(frames)


def test_the_largest_frame_passes_and_one_byte_more_does_not() -> None:
    payload = bytes(MAX_FRAME_SIZE - 1)
    frame = encode_frame(FrameType.TRAFFIC, payload)
    assert list(FrameDecoder().feed(frame)) == [(FrameType.TRAFFIC, payload)]
    with pytest.raises(ValueError, match="131071"):
        encode_frame(FrameType.TRAFFIC, payload + b"\0")


def test_an_oversized_frame_is_refused_before_its_body() -> None:
    with pytest.raises(DecodeError, match="oversized message of 131071 bytes"):
        list(FrameDecoder().feed(bytes.fromhex("ffff07")))


def test_no_more_than_one_frame_is_held_back() -> None:
    decoder = FrameDecoder()
    frame = encode_frame(FrameType.TRAFFIC, bytes(MAX_FRAME_SIZE - 1))
    assert list(decoder.feed(frame[:-1])) == []
    assert decoder.buffered == len(frame) - 1
    assert [len(payload) for _, payload in decoder.feed(frame[-1:] + frame[:10])] == [MAX_FRAME_SIZE - 1]
    assert decoder.buffered == 10


@pytest.mark.parametrize("frame_type", [-1, 10, 256])
def test_unknown_types_are_not_encoded(frame_type: int) -> None:
    with pytest.raises(ValueError, match="no frame type"):
        encode_frame(frame_type, b"")
