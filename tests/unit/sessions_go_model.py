"""A model of the Go node's session manager for tests: what it answers, and above all what it ignores.

It keeps to section 9 of the protocol without any of our improvements, so that tests can pair our sessions with it, and
compare how soon either recovers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.unit.sessions_lab import counting_entropy, make_init
from yggpy.keys import PrivateKey, verify
from yggpy.sessions.crypto import BoxKeyPair, box_private_key, open_box, shared_key
from yggpy.sessions.session import Session
from yggpy.sessions.traffic import OpenVerdict, SessionKeys, TrafficState
from yggpy.wire.errors import DecodeError
from yggpy.wire.session import InitMessage, InitPayload, MessageType

__all__ = ["GoEndpoint"]

TIMEOUT = 60.0


class _ForgetfulTraffic(TrafficState):
    """Go's nonce memory begins at 0 with every installation."""

    __slots__ = ()

    def install(self, keys: SessionKeys) -> None:
        self._recv_nonce = self._next_send_nonce = self._next_recv_nonce = 0
        super().install(keys)


@dataclass
class _GoSession:
    keys: Session
    traffic: _ForgetfulTraffic | None
    used: float


@dataclass
class _GoBuffer:
    message: bytes
    send: BoxKeyPair
    next: BoxKeyPair
    seq: int
    expires: float


@dataclass
class GoEndpoint:
    """A Go node with the interface of :class:`tests.unit.sessions_lab.Endpoint`."""

    key: PrivateKey
    entropy: Callable[[int], bytes] | None = None
    delivered: list[tuple[bytes, bytes]] = field(default_factory=list)
    sealed: list[tuple[bytes, int]] = field(default_factory=list)
    released: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._entropy = self.entropy or counting_entropy(f"go {self.key.public_key.hex()}")
        self._sessions: dict[bytes, _GoSession] = {}
        self._buffers: dict[bytes, _GoBuffer] = {}
        self._sent: list[bytes] = []

    @property
    def public(self) -> bytes:
        """The public key."""
        return self.key.public_key

    def messages(self) -> list[bytes]:
        """Return the messages delivered since the last call."""
        messages = [message for _, message in self.delivered]
        self.delivered.clear()
        return messages

    def write(self, dest: bytes, message: bytes, now: float) -> list[bytes]:
        """Send ``message``; return the payloads that go out now."""
        self.tick(now)
        session = self._sessions.get(dest)
        if session is not None:
            self._seal(session, message, now)
            return self._take()
        buffer = self._buffers.get(dest)
        if buffer is None:
            send, following = BoxKeyPair.generate(self._entropy), BoxKeyPair.generate(self._entropy)
            buffer = self._buffers[dest] = _GoBuffer(b"", send, following, int(now), 0.0)
        buffer.message = message
        buffer.expires = now + TIMEOUT
        self._init(dest, MessageType.INIT, buffer.send.public, buffer.next.public, 0, buffer.seq)
        return self._take()

    def receive(self, source: bytes, payload: bytes, now: float) -> list[bytes]:
        """Take a session message from ``source``; return the payloads that go out now."""
        self.tick(now)
        if payload[:1] == bytes((MessageType.TRAFFIC,)):
            self._traffic(source, payload, now)
        else:
            self._handshake(source, payload, now)
        return self._take()

    def tick(self, now: float) -> list[bytes]:
        """Judge expiries."""
        self._sessions = {key: session for key, session in self._sessions.items() if session.used + TIMEOUT > now}
        self._buffers = {key: buffer for key, buffer in self._buffers.items() if buffer.expires > now}
        return []

    def _take(self) -> list[bytes]:
        sent, self._sent = self._sent, []
        return sent

    def _init(self, dest: bytes, kind: MessageType, current: bytes, following: bytes, key_seq: int, seq: int) -> None:
        ephemeral = BoxKeyPair.generate(self._entropy)
        self._sent.append(
            make_init(
                self.key,
                dest,
                current=current,
                following=following,
                seq=seq,
                key_seq=key_seq,
                message_type=kind,
                ephemeral=ephemeral,
            )
        )

    def _offer(self, dest: bytes, kind: MessageType, session: _GoSession, now: float) -> None:
        keys = session.keys
        self._init(dest, kind, keys.send.public, keys.next.public, keys.local_key_seq, int(now))

    def _seal(self, session: _GoSession, message: bytes, now: float) -> None:
        assert session.traffic is not None
        self._sent.append(session.traffic.seal(message))
        self.sealed.append((session.traffic._keys.send_shared, session.traffic.nonces[0]))
        session.used = now

    def _handshake(self, source: bytes, payload: bytes, now: float) -> None:
        try:
            envelope = InitMessage.decode(payload)
        except DecodeError:
            return
        plaintext = open_box(envelope.box, 0, shared_key(envelope.eph_pub, box_private_key(self.key.seed)))
        if plaintext is None:
            return
        message = InitPayload.decode(plaintext)
        if not verify(source, message.signed_bytes(b"", envelope.eph_pub), message.signature):
            return
        session = self._sessions.get(source)
        answered = session is None or envelope.message_type is MessageType.INIT
        buffer = None
        if session is None:
            buffer = self._buffers.pop(source, None)
            if buffer is None:
                pairs = BoxKeyPair.generate(self._entropy), BoxKeyPair.generate(self._entropy)
            else:
                pairs = buffer.send, buffer.next
            session = _GoSession(Session(message, pairs, self._entropy, now), None, now)
            self._sessions[source] = session
        if message.seq > session.keys.seq:
            keys = session.keys.update(message)
            if session.traffic is None:
                session.traffic = _ForgetfulTraffic(keys)
            else:
                session.traffic.install(keys)
            session.used = now
            if answered:
                self._offer(source, MessageType.ACK, session, now)
        if buffer is not None:
            self.released.append(buffer.message)
            self._seal(session, buffer.message, now)

    def _traffic(self, source: bytes, payload: bytes, now: float) -> None:
        session = self._sessions.get(source)
        if session is None:
            current, following = BoxKeyPair.generate(self._entropy), BoxKeyPair.generate(self._entropy)
            self._init(source, MessageType.INIT, current.public, following.public, 0, int(now))
            return
        assert session.traffic is not None
        opened = session.traffic.open(payload)
        if opened.verdict is OpenVerdict.MISMATCH:
            self._offer(source, MessageType.INIT, session, now)
        if opened.verdict is not OpenVerdict.OPENED:
            return
        self.delivered.append((source, opened.message))
        session.used = now
        if opened.case is not None:
            keys = session.keys.ratchet(opened.nonce, opened.next_public, now)
            if keys is not None:
                session.traffic.install(keys)
