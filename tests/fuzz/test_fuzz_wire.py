"""Hostile bytes for every decoder: a value or a ``DecodeError``, whatever comes; and round trips of all values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.vectors import load
from yggpy.address import Address, Subnet, x_key
from yggpy.keys import PrivateKey, verify
from yggpy.wire import inner, ipv6
from yggpy.wire.beacon import Beacon
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import MAX_FRAME_SIZE, FrameDecoder, FrameType, encode_frame
from yggpy.wire.handshake import HEADER_SIZE, decode_body, decode_header, encode_handshake
from yggpy.wire.packets import (
    BLOOM_WORDS,
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    Traffic,
)
from yggpy.wire.session import InitMessage, InitPayload, MessageType, TrafficHeader
from yggpy.wire.uvarint import MAX_UVARINT, decode_path, decode_uvarint, encode_path, encode_uvarint

KEY = PrivateKey(bytes(range(32)))

# Numbers that sit on the edges of an encoding are worth more than any others.
NUMBERS = st.one_of(
    st.integers(0, MAX_UVARINT), st.integers(0, 300), st.sampled_from([(1 << bits) - 1 for bits in range(0, 65, 7)])
)
PORTS = st.one_of(st.integers(1, 127), NUMBERS.filter(bool))
PATHS = st.lists(PORTS, max_size=12).map(tuple)
KEYS = st.binary(min_size=32, max_size=32)
SIGNATURES = st.binary(min_size=64, max_size=64)
WORDS = st.one_of(st.just(0), st.just(2**64 - 1), st.integers(0, 2**64 - 1))

PACKETS: dict[Any, st.SearchStrategy[Any]] = {
    SigReq: st.builds(SigReq, NUMBERS, NUMBERS),
    SigRes: st.builds(SigRes, NUMBERS, NUMBERS, NUMBERS, SIGNATURES),
    Announce: st.builds(Announce, KEYS, KEYS, NUMBERS, NUMBERS, NUMBERS, SIGNATURES, SIGNATURES),
    BloomFilter: st.builds(BloomFilter, st.lists(WORDS, min_size=BLOOM_WORDS, max_size=BLOOM_WORDS).map(tuple)),
    PathLookup: st.builds(PathLookup, KEYS, KEYS, PATHS),
    PathNotify: st.builds(PathNotify, PATHS, NUMBERS, KEYS, KEYS, NUMBERS, PATHS, SIGNATURES),
    PathBroken: st.builds(PathBroken, PATHS, NUMBERS, KEYS, KEYS),
    Traffic: st.builds(Traffic, PATHS, PATHS, KEYS, KEYS, NUMBERS, st.binary(max_size=200)),
    InitMessage: st.builds(
        InitMessage,
        st.sampled_from([MessageType.INIT, MessageType.ACK]),
        KEYS,
        st.binary(min_size=160, max_size=160),
    ),
    InitPayload: st.builds(InitPayload, SIGNATURES, KEYS, KEYS, NUMBERS, NUMBERS),
    Beacon: st.builds(
        Beacon, KEYS, st.integers(0, 65535), st.binary(max_size=80), st.integers(0, 65535), st.integers(0, 65535)
    ),
}

DECODERS: dict[str, Callable[[bytes], object]] = {
    **{kind.__name__: kind.decode for kind in PACKETS},
    "uvarint": decode_uvarint,
    "path": decode_path,
    "handshake header": decode_header,
    "handshake body": decode_body,
    "traffic header": TrafficHeader.decode,
    "proto message": inner.decode_proto,
    "keys": inner.decode_keys,
    "JSON": inner.check_json,
    "frames": lambda data: list(FrameDecoder().feed(data)),
}


def seeds_of(name: str) -> list[bytes]:
    """Well-formed input for a decoder, as a start for mutations."""
    recorded = [bytes.fromhex(p["payload"]) for p in load("packets")["packets"] if p["packet"] == name]
    if recorded:
        return recorded
    handshake = encode_handshake(KEY, b"", 3)
    return {
        "InitMessage": [bytes.fromhex(m["message"]) for m in load("session_init")["messages"]],
        "InitPayload": [bytes.fromhex(m["box_plaintext"]) for m in load("session_init")["messages"]],
        "Beacon": [bytes.fromhex(b["datagram"]) for b in load("beacons")["beacons"]],
        "uvarint": [encode_uvarint(MAX_UVARINT), bytes.fromhex("80808000")],
        "path": [encode_path((1, 300, 5, MAX_UVARINT)), encode_path(tuple(range(1, 40)))],
        "handshake header": [handshake[:HEADER_SIZE]],
        "handshake body": [handshake[HEADER_SIZE:]],
        "traffic header": [bytes.fromhex(p["packet"]) for p in load("session_traffic")["packets"]],
        "proto message": [b"\x02\x01", b"\x02\x02{}", b"\x02\xff\x04" + bytes(64)],
        "keys": [bytes(96)],
        "JSON": [b'{"name": "x", "list": [1, 2.5e3, null, "\\ud83d\\ude00"], "deep": {"a": {"b": [[]]}}}'],
        "frames": [bytes.fromhex("".join(p["frame"] for p in load("packets")["packets"]))],
    }[name]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """One of ``seeds`` with a few bytes changed, cut out, put in or doubled."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 9)))
        change = draw(st.sampled_from(["set", "cut", "insert", "double", "end"]))
        if change == "set" and start < len(data):
            data[start] = draw(st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255)))
        elif change == "cut":
            del data[start:end]
        elif change == "insert":
            data[start:start] = draw(st.binary(max_size=12))
        elif change == "double":
            data[start:start] = data[start:end]
        else:
            del data[start:]
    return bytes(data)


def check_total(name: str, data: bytes) -> None:
    value: Any = None
    reason = "none"
    try:
        value = DECODERS[name](data)
    except DecodeError as error:
        reason = str(error)
    assert reason
    assert "\n" not in reason
    if type(value) in PACKETS:
        # What was understood can be passed on, and is understood as the same again.
        assert type(value).decode(value.encode()) == value


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_total_on_random_bytes(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.binary(max_size=300))
    def run(data: bytes) -> None:
        check_total(name, data)

    run()


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_are_total_on_mutations(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(mutated(seeds_of(name)))
    def run(data: bytes) -> None:
        check_total(name, data)

    run()


@pytest.mark.parametrize("kind", PACKETS, ids=lambda kind: str(kind.__name__))
def test_round_trip(kind: Any) -> None:
    @settings(max_examples=60, deadline=None)
    @given(PACKETS[kind])
    def run(packet: Any) -> None:
        encoded = packet.encode()
        decoded = kind.decode(encoded)
        assert decoded == packet
        for field in fields(packet):
            assert type(getattr(decoded, field.name)) is type(getattr(packet, field.name))

    run()


@settings(max_examples=300, deadline=None)
@given(NUMBERS, st.binary(max_size=12), st.binary(max_size=12))
def test_uvarint_round_trip(value: int, before: bytes, after: bytes) -> None:
    encoded = encode_uvarint(value)
    assert len(encoded) == max(1, (value.bit_length() + 6) // 7)
    assert decode_uvarint(before + encoded + after, len(before)) == (value, len(before) + len(encoded))


@settings(max_examples=300, deadline=None)
@given(NUMBERS, st.integers(0, 10))
def test_over_long_uvarints_have_the_same_value(value: int, padding: int) -> None:
    encoded = encode_uvarint(value)
    padding = min(padding, 10 - len(encoded))
    if padding:
        encoded = encoded[:-1] + bytes((encoded[-1] | 0x80,)) + b"\x80" * (padding - 1) + b"\0"
    assert decode_uvarint(encoded) == (value, len(encoded))


@settings(max_examples=300, deadline=None)
@given(PATHS, st.binary(max_size=12), st.binary(max_size=12))
def test_path_round_trip(path: tuple[int, ...], before: bytes, after: bytes) -> None:
    encoded = encode_path(path)
    assert decode_path(before + encoded + after, len(before)) == (path, len(before) + len(encoded))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(FrameType)), st.binary(max_size=400)), max_size=12),
    st.lists(st.integers(1, 600), max_size=40),
    st.booleans(),
)
def test_frames_do_not_depend_on_the_chunks(
    sent: list[tuple[int, bytes]], sizes: list[int], malformed_at_end: bool
) -> None:
    stream = b"".join(encode_frame(frame_type, payload) for frame_type, payload in sent)
    if malformed_at_end:
        stream += b"\0"
    decoder = FrameDecoder()
    received: list[tuple[int, bytes]] = []
    refused = False
    for size in [*sizes, max(1, len(stream))]:
        piece, stream = stream[:size], stream[size:]
        try:
            for frame in decoder.feed(memoryview(piece)):
                received.append(frame)
        except DecodeError:
            refused = True
            assert not stream
    assert received == sent
    assert refused is malformed_at_end


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), mutated(seeds_of("frames"))), max_size=8))
def test_the_frame_decoder_never_holds_more_than_a_frame(chunks: list[bytes]) -> None:
    decoder = FrameDecoder()
    try:
        for chunk in chunks:
            for frame_type, payload in decoder.feed(chunk):
                assert 0 <= frame_type <= 9
                assert len(payload) < MAX_FRAME_SIZE
            assert decoder.buffered < MAX_FRAME_SIZE + 10
    except DecodeError:
        return


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=70), st.binary(max_size=40), st.binary(max_size=70))
@example(bytes(32), b"", bytes(64))
@example(b"\xff" * 32, b"", b"\xff" * 64)
def test_verify_never_raises(key: bytes, message: bytes, signature: bytes) -> None:
    assert verify(key, message, signature) in (True, False)


@settings(max_examples=200, deadline=None)
@given(SIGNATURES, KEYS)
def test_verify_of_right_sizes_never_raises(signature: bytes, key: bytes) -> None:
    assert verify(key, b"message", signature) in (True, False)
    assert verify(KEY.public_key, b"message", signature) is False


@settings(max_examples=300, deadline=None)
@given(st.one_of(KEYS, st.integers(0, 256).map(lambda bits: ((1 << bits) - 1).to_bytes(33, "big")[1:])))
def test_addresses_of_all_keys(key: bytes) -> None:
    address, subnet = Address.for_key(key), Subnet.for_key(key)
    assert address.is_valid
    assert subnet.is_valid
    assert subnet == address.subnet
    if any(key):
        # What an address reveals of its key leads back to the same subnet, which is what lookups go by.
        assert Subnet.for_key(address.partial_key()) == subnet
        assert x_key(key) == x_key(address.partial_key()) == x_key(subnet.partial_key()) == subnet.partial_key()


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_partial_keys_of_all_addresses(packed: bytes) -> None:
    assert len(Address(packed).partial_key()) == 32
    assert len(Subnet(packed[:8]).partial_key()) == 32
    assert str(Address(packed))
    assert str(Subnet(packed[:8])).endswith("/64")


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=40, max_size=600), st.integers(0, 2**32 - 1))
def test_packet_too_big_has_a_good_checksum(offending: bytes, mtu: int) -> None:
    reply = ipv6.packet_too_big(offending, mtu)
    assert ipv6.is_ipv6(reply)
    assert ipv6.payload_length(reply) == len(reply) - ipv6.HEADER_SIZE
    assert ipv6.checksum(ipv6.source(reply), ipv6.destination(reply), ipv6.ICMPV6, reply[40:]) == 0
