"""The link handshake message: Go's bytes, Go's verdicts, Go's words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.keys import PrivateKey
from yggpy.wire.handshake import (
    HEADER_SIZE,
    MAX_PASSWORD,
    HandshakeError,
    HandshakeInfo,
    decode_body,
    decode_header,
    encode_handshake,
    password_hash,
)

MESSAGES = [m for m in load("meta")["messages"] if "message" in m]
REFUSED_PASSWORDS = [m for m in load("meta")["messages"] if "encode_error" in m]
MALFORMED = load("meta")["malformed"]
DECODE = [(message, verdict) for message in MESSAGES for verdict in message["decode"]]


def decode_stream(stream: bytes, password: bytes) -> HandshakeInfo:
    """Read a message from the beginning of a stream that then ends."""
    length = decode_header(stream[:HEADER_SIZE])
    if len(stream) < HEADER_SIZE + length:
        raise HandshakeError("unexpected EOF")
    return decode_body(stream[HEADER_SIZE : HEADER_SIZE + length], password)


@pytest.mark.parametrize("entry", MESSAGES, ids=lambda e: str(e["description"]))
def test_encode(entry: dict[str, Any]) -> None:
    key = PrivateKey(bytes.fromhex(entry["seed"]))
    password = entry["password"].encode()
    assert password_hash(key.public_key, password).hex() == entry["hash"]
    message = encode_handshake(key, password, entry["priority"], entry["major"], entry["minor"])
    assert message.hex() == entry["message"]


@pytest.mark.parametrize(("entry", "verdict"), DECODE, ids=[f"{m['description']}-{v['password']}" for m, v in DECODE])
def test_decode_with_several_passwords(entry: dict[str, Any], verdict: dict[str, Any]) -> None:
    stream, password = bytes.fromhex(entry["message"]), verdict["password"].encode()
    if verdict["error"] is not None:
        with pytest.raises(HandshakeError) as caught:
            decode_stream(stream, password)
        assert str(caught.value) == verdict["error"]
    elif not verdict["version_check"]:
        with pytest.raises(HandshakeError) as caught:
            decode_stream(stream, password)
        version = f"{entry['major']}.{entry['minor']}"
        assert str(caught.value) == f"remote node incompatible version (local 0.5, remote {version})"
    else:
        info = decode_stream(stream, password)
        assert info == HandshakeInfo(0, 5, bytes.fromhex(entry["public"]), entry["priority"])


@pytest.mark.parametrize("entry", MALFORMED, ids=lambda e: str(e["description"]))
def test_malformed(entry: dict[str, Any]) -> None:
    stream = bytes.fromhex(entry["message"])
    if entry["error"] is not None:
        with pytest.raises(HandshakeError) as caught:
            decode_stream(stream, b"")
        assert str(caught.value) == entry["error"]
    elif not entry["version_check"]:
        with pytest.raises(HandshakeError, match="incompatible version"):
            decode_stream(stream, b"")
    else:
        info = decode_stream(stream, b"")
        assert (info.major, info.minor, info.priority) == (entry["major"], entry["minor"], entry["priority"])
        assert info.public_key.hex() == entry["public"]


@pytest.mark.parametrize("entry", REFUSED_PASSWORDS, ids=lambda e: str(e["description"]))
def test_passwords_that_are_too_long(entry: dict[str, Any]) -> None:
    password = entry["password"].encode()
    assert len(password) > MAX_PASSWORD
    with pytest.raises(ValueError, match="at most 64 bytes"):
        encode_handshake(PrivateKey.generate(), password)
    message = bytes.fromhex(MESSAGES[0]["message"])
    with pytest.raises(HandshakeError, match="invalid password supplied, check your config"):
        decode_stream(message, password)


@pytest.mark.parametrize("priority", [-1, 256])
def test_priority_out_of_range(priority: int) -> None:
    with pytest.raises(ValueError, match=r"not in 0\.\.255"):
        encode_handshake(PrivateKey.generate(), b"", priority)


def test_a_body_shorter_than_a_signature() -> None:
    with pytest.raises(HandshakeError, match="invalid handshake length"):
        decode_body(bytes(63))
