"""Layouts of session messages; what is inside the boxes is given by the vectors, nothing is opened here."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load, public_keys
from yggpy.keys import verify
from yggpy.wire.errors import DecodeError
from yggpy.wire.session import (
    BOX_OVERHEAD,
    INIT_PAYLOAD_SIZE,
    INIT_SIZE,
    MAX_MESSAGE,
    MIN_TRAFFIC_SIZE,
    InitMessage,
    InitPayload,
    MessageType,
    TrafficHeader,
    signed_bytes,
)

INITS = load("session_init")["messages"]
MALFORMED = load("session_init")["malformed"]
KEYS = public_keys("session_init")
TRAFFIC = load("session_traffic")["packets"]
HOSTILE = load("session_traffic")["hostile"]
TYPES = {"init": MessageType.INIT, "ack": MessageType.ACK, "1": MessageType.INIT, "2": MessageType.ACK}


def test_sizes_of_the_protocol() -> None:
    assert (INIT_PAYLOAD_SIZE, INIT_SIZE, MIN_TRAFFIC_SIZE, MAX_MESSAGE) == (144, 193, 52, 130914)


@pytest.mark.parametrize("entry", INITS, ids=lambda e: str(e["description"]))
def test_init(entry: dict[str, Any]) -> None:
    message = InitMessage.decode(bytes.fromhex(entry["message"]))
    assert message.message_type is TYPES[str(entry["type"])]
    assert message.eph_pub.hex() == entry["eph_public"]
    assert message.encode().hex() == entry["message"]
    assert len(message.box) == BOX_OVERHEAD + INIT_PAYLOAD_SIZE


@pytest.mark.parametrize("entry", INITS, ids=lambda e: str(e["description"]))
def test_init_payload(entry: dict[str, Any]) -> None:
    payload = InitPayload(
        bytes.fromhex(entry["signature"]),
        bytes.fromhex(entry["current"]),
        bytes.fromhex(entry["next"]),
        int(entry["keySeq"]),
        int(entry["seq"]),
    )
    assert payload.encode().hex() == entry["box_plaintext"]
    assert InitPayload.decode(bytes.fromhex(entry["box_plaintext"])) == payload
    preimage, eph_pub = bytes.fromhex(entry["preimage"]), bytes.fromhex(entry["eph_public"])
    signed = payload.signed_bytes(preimage, eph_pub)
    assert signed.hex() == entry["signed_bytes"]
    assert signed == signed_bytes(preimage, eph_pub, payload.current, payload.next, payload.key_seq, payload.seq)
    assert verify(KEYS[entry["sender"]], signed, payload.signature)
    assert not verify(KEYS[entry["receiver"]], signed, payload.signature)


@pytest.mark.parametrize("entry", MALFORMED, ids=lambda e: str(e["description"]))
def test_only_the_layout_of_an_init_is_judged(entry: dict[str, Any]) -> None:
    message = bytes.fromhex(entry["message"])
    if len(message) == INIT_SIZE and message[0] in (1, 2):
        assert InitMessage.decode(message).encode() == message
    else:
        assert not entry["accepted"]
        with pytest.raises(DecodeError):
            InitMessage.decode(message)


@pytest.mark.parametrize("size", [0, 143, 145])
def test_init_payload_of_wrong_length(size: int) -> None:
    with pytest.raises(DecodeError, match="instead of 144"):
        InitPayload.decode(bytes(size))


def test_inits_that_cannot_be_encoded() -> None:
    key, signature = bytes(32), bytes(64)
    for payload in (
        InitPayload(signature[1:], key, key, 0, 0),
        InitPayload(signature + b"\0", key[1:], key, 0, 0),
        InitPayload(signature, key + b"\0", key[1:], 0, 0),
        InitPayload(signature, key, key, 2**64, 0),
        InitPayload(signature, key, key, 0, -1),
    ):
        with pytest.raises(ValueError):
            payload.encode()
    for message in (InitMessage(MessageType.INIT, key[1:], bytes(160)), InitMessage(MessageType.ACK, key, bytes(159))):
        with pytest.raises(ValueError):
            message.encode()


@pytest.mark.parametrize("entry", TRAFFIC, ids=lambda e: f"nonce {e['nonce']}")
def test_traffic_header(entry: dict[str, Any]) -> None:
    packet = bytes.fromhex(entry["packet"])
    header = TrafficHeader.decode(packet)
    local_key_seq, remote_key_seq, nonce, box_offset = header
    assert local_key_seq == int(entry["localKeySeq"])
    assert remote_key_seq == int(entry["remoteKeySeq"])
    assert nonce == int(entry["nonce"])
    assert len(packet) - box_offset == BOX_OVERHEAD + len(entry["box_plaintext"]) // 2
    assert header.encode() == packet[:box_offset]


@pytest.mark.parametrize("entry", HOSTILE, ids=lambda e: str(e["packet"])[:20])
def test_over_long_numbers_leave_a_short_box(entry: dict[str, Any]) -> None:
    packet = bytes.fromhex(entry["packet"])
    header = TrafficHeader.decode(packet)
    assert len(packet) == MIN_TRAFFIC_SIZE
    assert len(packet) - header.box_offset < BOX_OVERHEAD + 32


@pytest.mark.parametrize("tail", [b"", bytes(50), b"\xff" * 60, b"\x80" * 11 + bytes(60)])
def test_malformed_traffic(tail: bytes) -> None:
    packet = b"\x03" + tail
    with pytest.raises(DecodeError):
        TrafficHeader.decode(packet)
