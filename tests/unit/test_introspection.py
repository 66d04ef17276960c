"""Questions of other nodes about this one."""

from __future__ import annotations

import json

from yggpy.introspection import MAX_ANSWERS_PER_SECOND, Introspection
from yggpy.wire.inner import MAX_KEYS, DebugCode, DebugMessage, NodeInfoRequest, NodeInfoResponse, decode_keys

KEY = bytes(range(32))
OTHER = bytes(32)


class Facts:
    public_key = KEY
    routing_entries = 7

    def __init__(self) -> None:
        self.links = [OTHER, OTHER, KEY]

    def link_keys(self) -> list[bytes]:
        return self.links

    def known_keys(self) -> list[bytes]:
        return [KEY, OTHER]


def ask(code: DebugCode, facts: Facts | None = None) -> bytes:
    answer = Introspection(facts or Facts(), b"{}").handle(DebugMessage(code).encode(), 0.0)
    assert answer is not None and answer[:2] == b"\x02\xff" and answer[2] == code + 1
    return answer[3:]


def test_node_info_is_sent_as_it_is() -> None:
    answer = Introspection(Facts(), b'{"name":"x"}').handle(NodeInfoRequest().encode() + b"trailing", 0.0)
    assert answer == b'\x02\x02{"name":"x"}'


def test_self() -> None:
    assert json.loads(ask(DebugCode.GET_SELF_REQUEST)) == {"key": KEY.hex(), "routing_entries": "7"}


def test_peers_are_listed_once_for_each_link() -> None:
    assert decode_keys(ask(DebugCode.GET_PEERS_REQUEST)) == [OTHER, OTHER, KEY]


def test_tree() -> None:
    assert decode_keys(ask(DebugCode.GET_TREE_REQUEST)) == [KEY, OTHER]


def test_long_answers_are_cut() -> None:
    facts = Facts()
    facts.links = [OTHER] * 5000
    assert len(decode_keys(ask(DebugCode.GET_PEERS_REQUEST, facts))) == MAX_KEYS


def test_what_is_no_question_gets_no_answer() -> None:
    introspection = Introspection(Facts(), b"{}")
    for message in (
        b"\x02",
        b"\x02\x00",
        b"\x02\x07",
        b"\x02\xff",
        b"\x02\xff\x09",
        NodeInfoResponse(b"{}").encode(),
        DebugMessage(DebugCode.GET_SELF_RESPONSE, b"{}").encode(),
    ):
        assert introspection.handle(message, 0.0) is None


def test_a_flood_of_questions_is_answered_a_bounded_number_of_times() -> None:
    introspection = Introspection(Facts(), b"{}")
    question = NodeInfoRequest().encode()
    answers = [introspection.handle(question, 10.5) for _ in range(1000)]
    assert sum(answer is not None for answer in answers) == MAX_ANSWERS_PER_SECOND
    assert introspection.handle(question, 11.0) is not None
