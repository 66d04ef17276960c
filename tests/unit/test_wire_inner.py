"""Messages inside sessions: what nodes ask each other, and JSON from nodes that mean no good."""

from __future__ import annotations

import json

import pytest

from yggpy.wire.errors import DecodeError
from yggpy.wire.inner import (
    MAX_JSON_DEPTH,
    MAX_KEYS,
    MAX_NODE_INFO,
    DebugCode,
    DebugMessage,
    NodeInfoRequest,
    NodeInfoResponse,
    ProtoMessage,
    check_json,
    decode_keys,
    decode_proto,
    encode_keys,
    encode_node_info,
    encode_self,
)

LAYOUTS: list[tuple[ProtoMessage, str]] = [
    (NodeInfoRequest(), "0201"),
    (NodeInfoResponse(b"{}"), "02027b7d"),
    (DebugMessage(DebugCode.GET_SELF_REQUEST), "02ff01"),
    (DebugMessage(DebugCode.GET_SELF_RESPONSE, b"{}"), "02ff027b7d"),
    (DebugMessage(DebugCode.GET_PEERS_REQUEST), "02ff03"),
    (DebugMessage(DebugCode.GET_PEERS_RESPONSE, b"\xaa"), "02ff04aa"),
    (DebugMessage(DebugCode.GET_TREE_REQUEST), "02ff05"),
    (DebugMessage(DebugCode.GET_TREE_RESPONSE, b"\xaa"), "02ff06aa"),
]


@pytest.mark.parametrize(("message", "encoded"), LAYOUTS, ids=[e for _, e in LAYOUTS])
def test_layouts(message: ProtoMessage, encoded: str) -> None:
    assert message.encode().hex() == encoded
    assert decode_proto(bytes.fromhex(encoded)) == message


def test_bytes_after_a_request_do_not_matter() -> None:
    assert decode_proto(b"\x02\x01anything") == NodeInfoRequest()
    assert decode_proto(b"\x02\xff\x01anything") == DebugMessage(DebugCode.GET_SELF_REQUEST, b"anything")


@pytest.mark.parametrize(
    "encoded", ["", "02", "01", "0101", "0200", "0203", "02fe", "02ff", "02ff00", "02ff07", "02ffff"]
)
def test_what_is_to_be_ignored(encoded: str) -> None:
    with pytest.raises(DecodeError):
        decode_proto(bytes.fromhex(encoded))


def test_keys() -> None:
    keys = [bytes((number,)) * 32 for number in range(3)]
    assert decode_keys(encode_keys(keys)) == keys
    assert decode_keys(b"") == []
    assert decode_keys(encode_keys(keys)[:-1]) == keys[:2]


def test_keys_are_cut_to_what_fits() -> None:
    assert MAX_KEYS == 2047
    assert len(encode_keys([bytes(32)] * 5000)) == 2047 * 32


def test_self() -> None:
    assert encode_self(b"\xab" * 32, 7) == b'{"key":"' + b"ab" * 32 + b'","routing_entries":"7"}'


def test_node_info_is_compact_sorted_and_escaped_as_in_go() -> None:
    members = {"name": "a<b>&c", "b": [1, {"y": None, "x": "ü"}], "a": True}
    expected = '{"a":true,"b":[1,{"x":"ü","y":null}],"name":"a\\u003cb\\u003e\\u0026c"}'
    assert encode_node_info(members) == expected.encode()
    assert json.loads(check_json(encode_node_info(members))) == members


def test_node_info_has_a_limit() -> None:
    overhead = len(encode_node_info({"k": ""}))
    assert len(encode_node_info({"k": "v" * (MAX_NODE_INFO - overhead)})) == MAX_NODE_INFO
    with pytest.raises(ValueError, match="NodeInfo exceeds max length of 16384 bytes"):
        encode_node_info({"k": "v" * (MAX_NODE_INFO - overhead + 1)})


@pytest.mark.parametrize("value", [b"bytes", float("nan"), {1, 2}, "\ud800"], ids=["bytes", "nan", "set", "surrogate"])
def test_node_info_that_is_no_json(value: object) -> None:
    with pytest.raises(ValueError, match="NodeInfo marshalling failed"):
        encode_node_info({"k": value})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{}{}",
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"01",
        b"1.",
        b'"\n"',
        b"\xef\xbb\xbf1",
        b"[" * 100_000,
        b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1),
        b'{"a":' * (MAX_JSON_DEPTH + 1) + b"1" + b"}" * (MAX_JSON_DEPTH + 1),
    ],
    ids=lambda d: d[:12].decode(),
)
def test_json_that_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        check_json(data)


@pytest.mark.parametrize(
    "data",
    [
        b' {"name": "node", "name": 1.50} ',
        b'"\\ud83d\\ude00 \\ud800"',
        b"null",
        b"1e999",
        b"9" * 5000,
        b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH,
        b"[" + b"{}," * 20_000 + b"1]",
    ],
    ids=lambda d: d[:12].decode(),
)
def test_json_is_taken_as_it_is_spelt(data: bytes) -> None:
    assert check_json(data) == data


def test_json_that_is_no_utf8_is_mended() -> None:
    assert check_json(b'"\xff"') == b'"\xef\xbf\xbd"'
