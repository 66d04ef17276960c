"""Messages inside an encrypted session (protocol section 10): IPv6 packets, and questions that nodes ask each other.

    type 1 || IPv6 packet
    type 2 || 1                        node info request
    type 2 || 2 || JSON object         node info response
    type 2 || 255 || code || data      debug request or response

:func:`decode_proto` reads those of type 2. What it refuses with ``DecodeError`` is to be ignored: later versions may
mean something by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from yggpy.keys import PUBLIC_KEY_SIZE
from yggpy.wire.errors import DecodeError

__all__ = [
    "MAX_JSON_DEPTH",
    "MAX_KEYS",
    "MAX_NODE_INFO",
    "DebugCode",
    "DebugMessage",
    "InnerType",
    "NodeInfoRequest",
    "NodeInfoResponse",
    "ProtoMessage",
    "ProtoType",
    "check_json",
    "decode_keys",
    "decode_proto",
    "encode_keys",
    "encode_node_info",
    "encode_self",
]

MAX_NODE_INFO = 16384
"""Bytes of the longest node info that a node may be configured with."""
MAX_KEYS = (65535 - 2) // PUBLIC_KEY_SIZE
"""Keys in one debug response; the rest is cut off."""
MAX_JSON_DEPTH = 100
"""Nesting that is accepted in JSON from other nodes."""


class InnerType(IntEnum):
    """The first byte of a message in a session; others are ignored."""

    DUMMY = 0
    TRAFFIC = 1
    """An IPv6 packet follows."""
    PROTO = 2
    """A question or an answer follows."""


class ProtoType(IntEnum):
    """The second byte of a message of type PROTO."""

    DUMMY = 0
    NODE_INFO_REQUEST = 1
    NODE_INFO_RESPONSE = 2
    DEBUG = 255


class DebugCode(IntEnum):
    """The third byte of a debug message."""

    DUMMY = 0
    GET_SELF_REQUEST = 1
    GET_SELF_RESPONSE = 2
    GET_PEERS_REQUEST = 3
    GET_PEERS_RESPONSE = 4
    GET_TREE_REQUEST = 5
    GET_TREE_RESPONSE = 6


@dataclass(frozen=True, slots=True)
class NodeInfoRequest:
    """Asks for the node info."""

    def encode(self) -> bytes:
        """Return the whole message."""
        return bytes((InnerType.PROTO, ProtoType.NODE_INFO_REQUEST))


@dataclass(frozen=True, slots=True)
class NodeInfoResponse:
    """The node info: a JSON object, for :func:`check_json`."""

    info: bytes

    def encode(self) -> bytes:
        """Return the whole message."""
        return bytes((InnerType.PROTO, ProtoType.NODE_INFO_RESPONSE)) + self.info


@dataclass(frozen=True, slots=True)
class DebugMessage:
    """A debug request (without data) or response: JSON for GET_SELF, else keys for :func:`decode_keys`."""

    code: DebugCode
    data: bytes = b""

    def encode(self) -> bytes:
        """Return the whole message."""
        return bytes((InnerType.PROTO, ProtoType.DEBUG, self.code)) + self.data


ProtoMessage: TypeAlias = NodeInfoRequest | NodeInfoResponse | DebugMessage


def decode_proto(message: bytes) -> ProtoMessage:
    """Read a message whose first byte is ``InnerType.PROTO``. Raises ``DecodeError`` for what should be ignored."""
    if len(message) < 2 or message[0] != InnerType.PROTO:
        raise DecodeError("no protocol message")
    kind = message[1]
    if kind == ProtoType.NODE_INFO_REQUEST:
        return NodeInfoRequest()
    if kind == ProtoType.NODE_INFO_RESPONSE:
        return NodeInfoResponse(message[2:])
    if kind != ProtoType.DEBUG:
        raise DecodeError(f"protocol message of type {kind}")
    if len(message) < 3 or not DebugCode.DUMMY < message[2] <= DebugCode.GET_TREE_RESPONSE:
        raise DecodeError("debug message without a known code")
    return DebugMessage(DebugCode(message[2]), message[3:])


def encode_keys(keys: Iterable[bytes]) -> bytes:
    """Return the data of a GET_PEERS or GET_TREE response: the first ``MAX_KEYS`` of these public keys."""
    return b"".join(keys)[: MAX_KEYS * PUBLIC_KEY_SIZE]


def decode_keys(data: bytes) -> list[bytes]:
    """Return the whole keys in such data; an incomplete last one is left out, as in Go."""
    starts = range(0, len(data) - PUBLIC_KEY_SIZE + 1, PUBLIC_KEY_SIZE)
    return [data[start : start + PUBLIC_KEY_SIZE] for start in starts]


def encode_self(key: bytes, routing_entries: int) -> bytes:
    """Return the data of a GET_SELF response."""
    return _compact({"key": key.hex(), "routing_entries": str(routing_entries)})


def encode_node_info(members: Mapping[str, object]) -> bytes:
    """Return node info as it is sent: compact, with sorted names.

    Raises ``ValueError`` when it is no JSON (its message comes from ``json``) or longer than ``MAX_NODE_INFO``.
    """
    try:
        info = _compact(members)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"NodeInfo marshalling failed: {error}") from None
    if len(info) > MAX_NODE_INFO:
        raise ValueError(f"NodeInfo exceeds max length of {MAX_NODE_INFO} bytes")
    return info


def check_json(data: bytes) -> bytes:
    """Return the JSON text in a response from another node, fit to be printed again: its bytes, but valid UTF-8.

    Member order, repeated members and the spelling of numbers stay, as in Go. Raises ``DecodeError`` when it is no
    JSON, or nested deeper than ``MAX_JSON_DEPTH``.
    """
    text = data.decode("utf-8", "replace")
    try:
        # Numbers stay text: they may be larger than any Python type can print.
        value: object = json.loads(text, parse_constant=_refuse_constant, parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"invalid JSON from the remote node: {error}") from None
    _check_depth(value)
    return text.encode()


def _compact(value: object) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Go's encoder writes these as escapes; inside JSON they can only stand in strings.
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8")


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not allowed")


def _check_depth(value: object) -> None:
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_JSON_DEPTH:
            raise DecodeError(f"JSON from the remote node is nested deeper than {MAX_JSON_DEPTH}")
        members = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        pending.extend((member, depth + 1) for member in members)
