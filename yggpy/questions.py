"""Questions of this node to others, and who waits for the answers (protocol section 10); no sockets, no clock.

A question is a datagram in a session: it may be lost, not least because only the newest message waits for a session to
begin. Go asks once; we ask again. The other node need not answer. An answer counts only if it comes from the node that
was asked (sessions prove that) while somebody waits for it. All who asked one node the same thing get the first answer;
in Go only the newest asker does, and the others wait in vain.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from yggpy.errors import YggpyError
from yggpy.wire.inner import DebugCode, DebugMessage, NodeInfoRequest, NodeInfoResponse

__all__ = ["ANSWER_TIMEOUT", "ATTEMPTS", "MAX_QUESTIONS", "OnAnswer", "Question", "QuestionError", "Questions"]

MAX_QUESTIONS = 256
"""Questions that may wait for an answer; when so many do, a further one is refused."""
ANSWER_TIMEOUT = 6.0
"""Seconds in which an answer must come, as in Go."""
ATTEMPTS = 6
"""How often a question is sent in that time, at equal intervals, while there is no answer."""

OnAnswer: TypeAlias = Callable[[bytes | None], None]
"""Called once: with the data of the answer, as the other node sent it, or with None when there is none."""


class Question(Enum):
    """What can be asked. An answer is JSON for NODE_INFO and SELF, else keys for ``wire.inner.decode_keys``."""

    NODE_INFO = NodeInfoRequest()
    SELF = DebugMessage(DebugCode.GET_SELF_REQUEST)
    PEERS = DebugMessage(DebugCode.GET_PEERS_REQUEST)
    TREE = DebugMessage(DebugCode.GET_TREE_REQUEST)

    def encode(self) -> bytes:
        """Return the whole message."""
        message: NodeInfoRequest | DebugMessage = self.value
        return message.encode()


_ANSWERED_BY = {
    DebugCode.GET_SELF_RESPONSE: Question.SELF,
    DebugCode.GET_PEERS_RESPONSE: Question.PEERS,
    DebugCode.GET_TREE_RESPONSE: Question.TREE,
}


class QuestionError(YggpyError):
    """A question cannot be asked now; the text says why."""


class Questions:
    """Who waits for which answer."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Question, bytes], list[OnAnswer]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, question: Question, key: bytes, on_answer: OnAnswer) -> None:
        """Wait for the answer of node ``key``. Raises ``QuestionError`` when too many wait already."""
        if self._count >= MAX_QUESTIONS:
            raise QuestionError(f"{MAX_QUESTIONS} questions to other nodes wait for an answer already; try again soon")
        self._waiting.setdefault((question, key), []).append(on_answer)
        self._count += 1

    def is_open(self, question: Question, key: bytes, on_answer: OnAnswer) -> bool:
        """Tell whether ``on_answer`` still waits."""
        return on_answer in self._waiting.get((question, key), ())

    def discard(self, question: Question, key: bytes, on_answer: OnAnswer) -> bool:
        """Wait no longer; False when the answer has come already. ``on_answer`` is not called."""
        waiting = self._waiting.get((question, key), [])
        if on_answer not in waiting:
            return False
        waiting.remove(on_answer)
        self._count -= 1
        if not waiting:
            del self._waiting[question, key]
        return True

    def answered(self, source: bytes, message: NodeInfoResponse | DebugMessage) -> None:
        """A message from node ``source``: hand it to those who wait for it, if any."""
        if isinstance(message, NodeInfoResponse):
            self._hand_out(Question.NODE_INFO, source, message.info)
        elif message.code in _ANSWERED_BY:
            self._hand_out(_ANSWERED_BY[message.code], source, message.data)

    def abandon(self) -> None:
        """No answer will come any more: tell all who wait."""
        waiting, self._waiting, self._count = self._waiting, {}, 0
        for everyone in waiting.values():
            for on_answer in everyone:
                on_answer(None)

    def _hand_out(self, question: Question, source: bytes, data: bytes) -> None:
        waiting = self._waiting.pop((question, source), [])
        self._count -= len(waiting)
        for on_answer in waiting:
            on_answer(data)
