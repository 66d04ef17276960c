"""Questions of other nodes about this one, and of this one about others."""

from __future__ import annotations

import json

import pytest

from yggpy.introspection import MAX_ANSWERS_PER_SECOND, Introspection
from yggpy.questions import MAX_QUESTIONS, Question, QuestionError, Questions
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
    answer = Introspection(facts or Facts(), b"{}").handle(OTHER, DebugMessage(code).encode(), 0.0)
    assert answer is not None and answer[:2] == b"\x02\xff" and answer[2] == code + 1
    return answer[3:]


def test_node_info_is_sent_as_it_is() -> None:
    answer = Introspection(Facts(), b'{"name":"x"}').handle(OTHER, NodeInfoRequest().encode() + b"trailing", 0.0)
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
        assert introspection.handle(OTHER, message, 0.0) is None


def test_a_flood_of_questions_is_answered_a_bounded_number_of_times() -> None:
    introspection = Introspection(Facts(), b"{}")
    question = NodeInfoRequest().encode()
    answers = [introspection.handle(OTHER, question, 10.5) for _ in range(1000)]
    assert sum(answer is not None for answer in answers) == MAX_ANSWERS_PER_SECOND
    assert introspection.handle(OTHER, question, 11.0) is not None


def answer_from(introspection: Introspection, source: bytes, message: bytes) -> None:
    assert introspection.handle(source, message, 0.0) is None


def test_answers_go_to_those_who_asked() -> None:
    introspection = Introspection(Facts(), b"{}")
    questions = introspection.questions
    heard: list[tuple[str, bytes | None]] = []
    questions.add(Question.NODE_INFO, OTHER, lambda data: heard.append(("first", data)))
    questions.add(Question.NODE_INFO, OTHER, lambda data: heard.append(("second", data)))
    questions.add(Question.SELF, OTHER, lambda data: heard.append(("self", data)))
    answer_from(introspection, KEY, NodeInfoResponse(b"forged").encode())
    answer_from(introspection, OTHER, DebugMessage(DebugCode.GET_TREE_RESPONSE, b"unasked").encode())
    answer_from(introspection, OTHER, DebugMessage(DebugCode.GET_PEERS_RESPONSE, b"unasked").encode())
    assert heard == []
    assert len(questions) == 3
    answer_from(introspection, OTHER, NodeInfoResponse(b"{}").encode())
    assert heard == [("first", b"{}"), ("second", b"{}")]
    answer_from(introspection, OTHER, NodeInfoResponse(b"again").encode())
    answer_from(introspection, OTHER, DebugMessage(DebugCode.GET_SELF_RESPONSE, b"me").encode())
    assert heard[2:] == [("self", b"me")]
    assert len(questions) == 0


def test_who_gives_up_hears_nothing_more() -> None:
    questions = Questions()
    heard: list[bytes | None] = []
    other: list[bytes | None] = []
    listen, listen_too = heard.append, other.append
    questions.add(Question.TREE, OTHER, listen)
    questions.add(Question.TREE, OTHER, listen_too)
    assert questions.discard(Question.TREE, OTHER, listen)
    assert not questions.discard(Question.TREE, OTHER, listen)
    questions.answered(OTHER, DebugMessage(DebugCode.GET_TREE_RESPONSE, b""))
    assert (heard, other) == ([], [b""])
    assert not questions.discard(Question.TREE, OTHER, listen_too)
    assert len(questions) == 0


def test_questions_that_wait_are_bounded() -> None:
    questions = Questions()
    for number in range(MAX_QUESTIONS):
        questions.add(Question.SELF, number.to_bytes(32, "big"), lambda data: None)
    with pytest.raises(QuestionError, match="256 questions to other nodes wait for an answer already"):
        questions.add(Question.SELF, OTHER, lambda data: None)
    questions.answered(OTHER, DebugMessage(DebugCode.GET_SELF_RESPONSE, b""))
    questions.add(Question.SELF, OTHER, lambda data: None)
