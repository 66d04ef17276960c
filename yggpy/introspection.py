"""What nodes ask about each other inside a session (protocol section 10): node info and debug requests.

Any node that has a session with us may ask, and an answer can be a thousand times longer than the question. So
``MAX_ANSWERS_PER_SECOND`` bounds what a flood of questions makes us send. Answers to what this node has asked go to
``questions``.
"""

from __future__ import annotations

from typing import Protocol

from yggpy.questions import Questions
from yggpy.routing.limits import PerSecond
from yggpy.wire.errors import DecodeError
from yggpy.wire.inner import (
    DebugCode,
    DebugMessage,
    NodeInfoRequest,
    NodeInfoResponse,
    decode_proto,
    encode_keys,
    encode_self,
)

__all__ = ["MAX_ANSWERS_PER_SECOND", "Introspection", "RoutingFacts"]

MAX_ANSWERS_PER_SECOND = 64
"""Answers sent in one second to all askers together; further questions of that second are ignored."""


class RoutingFacts(Protocol):
    """The part of the router that may be asked about."""

    @property
    def public_key(self) -> bytes:
        """The node's own key."""
        ...

    @property
    def routing_entries(self) -> int:
        """Number of nodes whose info is known."""
        ...

    def link_keys(self) -> list[bytes]:
        """The peer key of every link; a key with two links is there twice."""
        ...

    def known_keys(self) -> list[bytes]:
        """The keys of all nodes whose info is known."""
        ...


class Introspection:
    """Answers questions from ``facts`` and the ready-made ``node_info`` (compact JSON); keeps our own questions."""

    def __init__(self, facts: RoutingFacts, node_info: bytes) -> None:
        self._facts = facts
        self.node_info = node_info
        """What whoever asks for it gets; may be changed at any time."""
        self._answers = PerSecond(MAX_ANSWERS_PER_SECOND)
        self.questions = Questions()

    def handle(self, source: bytes, message: bytes, now: float) -> bytes | None:
        """Return the answer to a message of type PROTO from ``source``, or None when there is nothing to answer."""
        try:
            question = decode_proto(message)
        except DecodeError:
            return None  # unknown kinds are ignored, as in Go
        answer: NodeInfoResponse | DebugMessage | None = None
        match question:
            case NodeInfoRequest():
                answer = NodeInfoResponse(self.node_info)
            case DebugMessage(code=DebugCode.GET_SELF_REQUEST):
                facts = self._facts
                answer = DebugMessage(DebugCode.GET_SELF_RESPONSE, encode_self(facts.public_key, facts.routing_entries))
            case DebugMessage(code=DebugCode.GET_PEERS_REQUEST):
                answer = DebugMessage(DebugCode.GET_PEERS_RESPONSE, encode_keys(self._facts.link_keys()))
            case DebugMessage(code=DebugCode.GET_TREE_REQUEST):
                answer = DebugMessage(DebugCode.GET_TREE_RESPONSE, encode_keys(self._facts.known_keys()))
            case NodeInfoResponse() | DebugMessage():
                self.questions.answered(source, question)
        if answer is None or not self._answers.allow(now):
            return None
        return answer.encode()
