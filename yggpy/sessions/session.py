"""One session: the keys of both sides and how they move (protocol section 9.3). No messages, no timers of its own.

    local    recv   (number local_key_seq - 1)      remote   current  (number remote_key_seq)
             send   (number local_key_seq)                   next     (number remote_key_seq + 1)
             next   (number local_key_seq + 1)

An accepted init or ack replaces the remote keys and moves the local row on by one; traffic under the remote's next key
moves both. Each movement gives a new :class:`~yggpy.sessions.traffic.SessionKeys` for the data plane. It either happens
as a whole or, when the remote sent a weak key, not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from yggpy.sessions.crypto import BoxKeyPair, WeakKeyError, shared_key
from yggpy.sessions.limits import Allowance
from yggpy.sessions.traffic import SessionKeys
from yggpy.wire.session import InitPayload

__all__ = ["ROTATION_INTERVAL", "LocalPairs", "Session"]

LocalPairs: TypeAlias = tuple[BoxKeyPair, BoxKeyPair]
"""Our ``send`` and ``next`` pairs."""

ROTATION_INTERVAL = 60.0
"""Seconds that must have passed since the last ratchet before traffic may cause the next."""


class Session:
    """The key state with one remote node. ``since`` and ``touched`` are times in seconds."""

    __slots__ = (
        "_entropy",
        "acked_at",
        "crossed",
        "first_message",
        "init_current",
        "init_key_seq",
        "inits",
        "local_key_seq",
        "next",
        "recv",
        "remote_current",
        "remote_key_seq",
        "remote_next",
        "rotated",
        "send",
        "seq",
        "since",
        "touched",
    )

    def __init__(
        self,
        first: InitPayload,
        local: LocalPairs,
        entropy: Callable[[int], bytes],
        now: float,
    ) -> None:
        """Make a session from the first init or ack, which must still be given to ``update``.

        ``local`` are the pairs that our own init has announced, or fresh ones.
        """
        self._entropy = entropy
        self.recv = BoxKeyPair.generate(entropy)
        self.send, self.next = local
        self.local_key_seq = 0
        self.remote_current = first.current
        self.remote_next = first.next
        self.remote_key_seq = 0
        self.seq = first.seq - 1
        self.rotated: float | None = None
        self.since = now
        self.touched = now
        """When an init or ack was last accepted, or the session made."""
        self.acked_at = float("-inf")
        """When the last ack was sent."""
        self.inits = Allowance(now)
        """For inits that answer unreadable traffic."""
        self.init_current = first.current
        self.init_key_seq = 0
        """``current`` and ``key_seq`` of the last accepted init or ack."""
        self.crossed = False
        """Whether our own init was under way when theirs made the session, and its ack has not come yet."""
        self.first_message: bytes | None = None
        """What waited for the session, as long as it may have to be sent again."""

    def update(self, message: InitPayload) -> SessionKeys:
        """Accept an init or ack that is newer than ``seq``. Raises ``WeakKeyError``; then nothing has changed."""
        keys = self._move(message.current, message.next, message.key_seq, recv_nonce=0, send_nonce=None)
        self.seq = message.seq
        self.init_current = message.current
        self.init_key_seq = message.key_seq
        return keys

    def ratchet(self, nonce: int, next_public: bytes, now: float) -> SessionKeys | None:
        """Move on because traffic with ``nonce`` came under the remote's next key.

        Returns None when the last ratchet is too recent, or the announced next key is weak.
        """
        if self.rotated is not None and now - self.rotated <= ROTATION_INTERVAL:
            return None
        try:
            keys = self._move(
                self.remote_next, next_public, self.remote_key_seq + 1, recv_nonce=nonce, send_nonce=0
            )
        except WeakKeyError:
            return None
        self.rotated = now
        return keys

    def renew_local(self) -> SessionKeys:
        """Move the local row on because its send counter is used up. The remote's keys, accepted before, stay."""
        return self._move(self.remote_current, self.remote_next, self.remote_key_seq, recv_nonce=0, send_nonce=0)

    def _move(
        self, current: bytes, following: bytes, key_seq: int, *, recv_nonce: int, send_nonce: int | None
    ) -> SessionKeys:
        recv, send, fresh = self.send, self.next, BoxKeyPair.generate(self._entropy)
        keys = SessionKeys(
            remote_key_seq=key_seq,
            local_key_seq=self.local_key_seq + 1,
            recv_shared=shared_key(current, recv.private),
            send_shared=shared_key(current, send.private),
            next_send_shared=shared_key(following, send.private),
            next_recv_shared=shared_key(following, recv.private),
            next_public=fresh.public,
            recv_nonce=recv_nonce,
            send_nonce=send_nonce,
        )
        self.recv, self.send, self.next = recv, send, fresh
        self.local_key_seq += 1
        self.remote_current, self.remote_next, self.remote_key_seq = current, following, key_seq
        return keys
