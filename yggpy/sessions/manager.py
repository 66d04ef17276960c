"""All sessions of one node (protocol sections 9.2 to 9.6): init and ack, buffers before a session, expiry, limits.

Outbound, a message without a session waits in a *buffer* while inits go out; the init or ack that comes back makes the
session and frees it. Inbound, an init makes the session and is answered with an ack. Traffic never passes here: the
data plane opens it with the keys installed by :class:`InstallKeys` and reports what it cannot open.

Some things differ from Go, all compatible with it, because a lost or late packet can otherwise cost the first message
or even stop one-way traffic for good:

* when both sides start at once, the ack of an init that has crossed the other side's is ignored even when it comes in a
  later second: what the other side has sealed meanwhile is for the keys that it would take away;
* an init with the seq of the last accepted one but a higher key number is accepted: it says that the sender's keys have
  moved on within the same second;
* the first message of a session is sent once more when the other side answers it with an init, which says that it could
  not be read (should it mean a later packet, the first one arrives twice, as any datagram may); but not to a node that
  has begun a new life meanwhile, and comes with keys that this session does not know;
* a repeated init that was already accepted is answered with the ack again (its first ack may be lost);
* the init of a buffer that has waited for ``INIT_REFRESH`` gets a new ``seq`` (a Go node then answers again);
* an init that comes too early for its seq, from a node that has no session (it may have restarted twice in a second),
  is answered with an init of ours, which makes it one; Go keeps silent until its own session has ended;
* the keys of the init that answers traffic without a session are remembered for a while (Go forgets them at once, so
  that what the other side seals for them is lost until the next second); if a message waits, they are its buffer's;
* the inits sent to one key, and to all, are limited, as are all tables in number (``limits.py``).
"""

from __future__ import annotations

import heapq
import os
from collections import OrderedDict
from collections.abc import Callable

from yggpy.keys import PrivateKey, verify
from yggpy.sessions.crypto import (
    BoxKeyPair,
    WeakKeyError,
    box_private_key,
    box_public_key,
    group_preimage,
    open_box,
    seal_box,
    shared_key,
)
from yggpy.sessions.effects import InstallKeys, RemoveKeys, SendMessage, SendPayload, SessionEffect
from yggpy.sessions.limits import Allowance, SessionLimits
from yggpy.sessions.session import LocalPairs, Session
from yggpy.sessions.traffic import RatchetCase
from yggpy.wire.errors import DecodeError
from yggpy.wire.session import InitMessage, InitPayload, MessageType, signed_bytes

__all__ = ["SessionLimits", "SessionManager"]

SESSION_TIMEOUT = 60.0
"""Seconds without use after which a session ends."""
BUFFER_TIMEOUT = 60.0
"""Seconds after the newest message for which a buffer waits for its session."""
INIT_REFRESH = 2.0
"""Age in seconds at which the init of a buffer is made anew, with the current time as its seq."""
ACK_INTERVAL = 1.0
"""Least seconds between two acks that answer the same init."""
FIRST_MESSAGE_LIMIT = 2048
"""Bytes up to which the first message of a session is kept for that."""
FIRST_MESSAGE_TIMEOUT = 10.0
"""Age in seconds of a session up to which its first message is sent again."""
STRANGER_TIMEOUT = 60.0
"""Seconds for which the keys offered to a node without a session are remembered."""
EVICTION_SAMPLE = 16
"""Sessions looked at to find one that makes room for a new one."""


class _Buffer:
    """What waits for a session: the newest message, and the (send, next) key pairs that our init announces."""

    __slots__ = ("expires", "inits", "local", "made", "message", "seq")

    def __init__(self, message: bytes, local: LocalPairs, now: float) -> None:
        self.message = message
        self.local = local
        self.seq = int(now)
        self.made = now
        self.expires = now + BUFFER_TIMEOUT
        self.inits = Allowance(now)

    def renew(self, now: float) -> None:
        """Give the init a seq that its receiver has not seen."""
        self.seq = int(now)
        self.made = now


class _Stranger:
    """A node that sent traffic without a session: the key pairs that we offered it. They may be those of a buffer."""

    __slots__ = ("expires", "inits", "local")

    def __init__(self, local: LocalPairs, now: float) -> None:
        self.local = local
        self.expires = now + STRANGER_TIMEOUT
        self.inits = Allowance(now)


class SessionManager:
    """The sessions of the node with ``private_key``.

    ``entropy(n)`` gives n random bytes; ``last_activity(remote)`` asks the data plane when traffic of a session was
    last sealed or opened (seconds, None if never).
    """

    def __init__(
        self,
        private_key: PrivateKey,
        group_password: bytes = b"",
        *,
        entropy: Callable[[int], bytes] = os.urandom,
        last_activity: Callable[[bytes], float | None] = lambda remote: None,
        limits: SessionLimits | None = None,
    ) -> None:
        self._private_key = private_key
        self._box_private = box_private_key(private_key.seed)
        self._preimage = group_preimage(group_password)
        self._entropy = entropy
        self._last_activity = last_activity
        self._limits = limits or SessionLimits()
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()
        self._expiries: list[tuple[float, bytes]] = []  # one item for each session, never too late, and some stale ones
        self._buffers: OrderedDict[bytes, _Buffer] = OrderedDict()  # in order of their newest message
        self._buffered_bytes = 0
        self._strangers: OrderedDict[bytes, _Stranger] = OrderedDict()  # in order of their first traffic
        self._stranger_inits = _all_together(self._limits.stranger_inits_per_second)
        self._repair_inits = _all_together(self._limits.repair_inits_per_second)
        self._effects: list[SessionEffect] = []

    def take_effects(self) -> list[SessionEffect]:
        """Return what is to be done since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def sessions(self) -> list[tuple[bytes, float]]:
        """Return (remote key, time of its making) of every session, in no particular order."""
        return [(remote, session.since) for remote, session in self._sessions.items()]

    # -- init and ack ------------------------------------------------------------------------------------

    def handle_message(self, source: bytes, payload: bytes, now: float) -> None:
        """Handle an init or ack from ``source``; whatever else ``payload`` is, it is ignored (section 9.2)."""
        try:
            envelope = InitMessage.decode(payload)
            message = self._open_init(source, envelope)
        except (DecodeError, WeakKeyError):
            return
        if message is None:
            return
        session = self._sessions.get(source)
        if session is not None:
            self._handle_known(source, session, envelope.message_type, message, now)
            return
        buffer = self._buffers.get(source)
        local = self._announced(source)
        session = Session(message, local or self._new_pairs(), self._entropy, now)
        session.crossed = local is not None and envelope.message_type is MessageType.INIT
        try:
            keys = session.update(message)
        except WeakKeyError:
            return
        self._remember(source, session, now)
        self._effects.append(InstallKeys(source, keys))
        # An ack that finds no session is treated as an init: the other side may know a session that we have lost.
        self._send_ack(source, session, now)
        if buffer is not None:
            self._forget_buffer(source)
            if len(buffer.message) <= FIRST_MESSAGE_LIMIT:
                session.first_message = buffer.message
            self._effects.append(SendMessage(source, buffer.message))

    def _handle_known(
        self, source: bytes, session: Session, message_type: MessageType, message: InitPayload, now: float
    ) -> None:
        is_init = message_type is MessageType.INIT
        if session.crossed and not is_init:
            session.crossed = False
            return
        if message.seq > session.seq or (
            is_init and message.seq == session.seq and message.key_seq > session.init_key_seq
        ):
            # A node that lost its session has other keys. It may have had the first message in its former life.
            is_same_life = message.key_seq > 0 or message.current == session.init_current
            try:
                keys = session.update(message)
            except WeakKeyError:
                return
            session.touched = now
            self._sessions.move_to_end(source)
            self._effects.append(InstallKeys(source, keys))
            first_message, session.first_message = session.first_message, None
            if is_init:
                self._send_ack(source, session, now)
                if first_message is not None and is_same_life and now - session.since < FIRST_MESSAGE_TIMEOUT:
                    self._effects.append(SendMessage(source, first_message))
        elif (
            is_init
            and message.seq == session.seq
            and message.current == session.remote_current
            and message.key_seq == session.remote_key_seq
            and now - session.acked_at >= ACK_INTERVAL
        ):
            self._send_ack(source, session, now)
        elif is_init and message.key_seq == 0 and message.current != session.init_current:
            self._offer_keys(source, session, now)

    def _open_init(self, source: bytes, envelope: InitMessage) -> InitPayload | None:
        plaintext = open_box(envelope.box, 0, shared_key(envelope.eph_pub, self._box_private))
        if plaintext is None:
            return None
        message = InitPayload.decode(plaintext)
        if not verify(source, message.signed_bytes(self._preimage, envelope.eph_pub), message.signature):
            return None
        return message

    def _send_ack(self, dest: bytes, session: Session, now: float) -> None:
        session.acked_at = now
        self._send_keys(
            dest, MessageType.ACK, session.send.public, session.next.public, session.local_key_seq, int(now)
        )

    def _send_keys(
        self, dest: bytes, message_type: MessageType, current: bytes, following: bytes, key_seq: int, seq: int
    ) -> None:
        """Box and send an init or ack. A destination with a weak key cannot be sent anything."""
        ephemeral = BoxKeyPair.generate(self._entropy)
        try:
            shared = shared_key(box_public_key(dest), ephemeral.private)
        except WeakKeyError:
            return
        signature = self._private_key.sign(
            signed_bytes(self._preimage, ephemeral.public, current, following, key_seq, seq)
        )
        box = seal_box(InitPayload(signature, current, following, key_seq, seq).encode(), 0, shared)
        self._effects.append(SendPayload(dest, InitMessage(message_type, ephemeral.public, box).encode()))

    # -- what the data plane reports ---------------------------------------------------------------------

    def session_missing(self, dest: bytes, message: bytes, now: float) -> None:
        """Keep ``message`` until there is a session with ``dest``, and ask for one (section 9.6)."""
        if dest in self._sessions:
            self._effects.append(SendMessage(dest, message))
            return
        buffer = self._buffers.get(dest)
        if buffer is None:
            buffer = self._buffers[dest] = _Buffer(message, self._announced(dest) or self._new_pairs(), now)
        else:
            self._buffered_bytes -= len(buffer.message)
            buffer.message = message
            buffer.expires = now + BUFFER_TIMEOUT
            self._buffers.move_to_end(dest)
            if now - buffer.made >= INIT_REFRESH:
                buffer.renew(now)
        self._buffered_bytes += len(message)
        while len(self._buffers) > self._limits.buffers or self._buffered_bytes > self._limits.buffered_bytes:
            self._forget_buffer(next(iter(self._buffers)))
        if buffer.inits.take(now):
            self._send_pairs(dest, buffer.local, buffer.seq)

    def session_mismatch(self, source: bytes, now: float) -> None:
        """Traffic from ``source`` fits no key of its session: offer our keys anew (section 9.4, case D)."""
        session = self._sessions.get(source)
        if session is None:
            self.session_unknown(source, now)
        else:
            self._offer_keys(source, session, now)

    def _offer_keys(self, dest: bytes, session: Session, now: float) -> None:
        """Send an init with the session's keys, within the limits."""
        if not (session.inits.take(now) and self._repair_inits.take(now)):
            return
        session.crossed = False  # from now on an ack answers this init
        self._send_keys(
            dest, MessageType.INIT, session.send.public, session.next.public, session.local_key_seq, int(now)
        )

    def session_unknown(self, source: bytes, now: float) -> None:
        """Traffic from ``source``, with which there is no session: make it start one."""
        if source in self._sessions:
            return
        stranger = self._strangers.get(source)
        if stranger is not None and not stranger.inits.take(now):
            return
        if not self._stranger_inits.take(now):
            return
        if stranger is None:
            stranger = self._strangers[source] = _Stranger(self._announced(source) or self._new_pairs(), now)
            stranger.inits.take(now)
            if len(self._strangers) > self._limits.strangers:
                self._strangers.popitem(last=False)
        buffer = self._buffers.get(source)
        if buffer is not None:
            buffer.renew(now)
        self._send_pairs(source, stranger.local, int(now))

    def _announced(self, remote: bytes) -> LocalPairs | None:
        """The pairs that our inits have announced to ``remote``, with which there is no session: the same in all."""
        waiting = self._buffers.get(remote) or self._strangers.get(remote)
        return None if waiting is None else waiting.local

    def _new_pairs(self) -> LocalPairs:
        return BoxKeyPair.generate(self._entropy), BoxKeyPair.generate(self._entropy)

    def _send_pairs(self, dest: bytes, local: LocalPairs, seq: int) -> None:
        send, following = local
        self._send_keys(dest, MessageType.INIT, send.public, following.public, 0, seq)

    def session_ratchet(self, source: bytes, case: RatchetCase, nonce: int, next_public: bytes, now: float) -> None:
        """Traffic with ``nonce`` opened under the remote's next key; in both cases the keys move on (section 9.4)."""
        session = self._sessions.get(source)
        if session is not None:
            if case is RatchetCase.NEXT_SEND or session.local_key_seq > 1:
                session.first_message = None  # sealed for newer keys than our init had, so the other side can read us
            keys = session.ratchet(nonce, next_public, now)
            if keys is not None:
                self._effects.append(InstallKeys(source, keys))

    def session_nonce_exhausted(self, dest: bytes, now: float) -> None:
        """The send counter of ``dest``'s session is used up: go over to our next keys."""
        session = self._sessions.get(dest)
        if session is not None:
            self._effects.append(InstallKeys(dest, session.renew_local()))

    # -- tables ------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Judge expiries; call about once a second."""
        while self._expiries and self._expiries[0][0] <= now:
            _, remote = heapq.heappop(self._expiries)
            session = self._sessions.get(remote)
            if session is None:
                continue
            expires = self._used_at(remote, session) + SESSION_TIMEOUT
            if expires <= now:
                self._remove(remote)
            else:
                heapq.heappush(self._expiries, (expires, remote))
        while self._buffers:
            dest, buffer = next(iter(self._buffers.items()))
            if buffer.expires > now:
                break
            self._forget_buffer(dest)
        while self._strangers:
            source, stranger = next(iter(self._strangers.items()))
            if stranger.expires > now:
                break
            del self._strangers[source]

    def _used_at(self, remote: bytes, session: Session) -> float:
        return max(session.touched, self._last_activity(remote) or 0.0)

    def _remember(self, remote: bytes, session: Session, now: float) -> None:
        if len(self._sessions) >= self._limits.sessions:
            self._make_room()
        self._sessions[remote] = session
        heapq.heappush(self._expiries, (now + SESSION_TIMEOUT, remote))
        self._strangers.pop(remote, None)

    def _make_room(self) -> None:
        """End the longest unused of the sessions that shook hands longest ago; the others get a second chance."""
        sample = [remote for remote, _ in zip(self._sessions, range(EVICTION_SAMPLE), strict=False)]
        victim = min(sample, key=lambda remote: self._used_at(remote, self._sessions[remote]))
        for remote in sample:
            self._sessions.move_to_end(remote)
        self._remove(victim)

    def _remove(self, remote: bytes) -> None:
        del self._sessions[remote]
        self._effects.append(RemoveKeys(remote))
        # A removed session leaves its item in the heap behind; sweep before such items outnumber the sessions.
        if len(self._expiries) > 2 * len(self._sessions) + EVICTION_SAMPLE:
            live = {remote: due for due, remote in self._expiries if remote in self._sessions}
            self._expiries = [(due, remote) for remote, due in live.items()]
            heapq.heapify(self._expiries)

    def _forget_buffer(self, dest: bytes) -> None:
        self._buffered_bytes -= len(self._buffers.pop(dest).message)


def _all_together(rate: int) -> Allowance:
    """An allowance for ``rate`` inits a second to no matter whom."""
    return Allowance(0.0, rate=rate, burst=rate)
