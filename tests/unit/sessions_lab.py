"""A node's sessions for tests: a manager and its traffic states, joined as the core and the data plane join them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from yggpy.keys import PrivateKey
from yggpy.sessions.crypto import BoxKeyPair, box_private_key, box_public_key, open_box, seal_box, shared_key
from yggpy.sessions.effects import InstallKeys, RemoveKeys, SendMessage, SendPayload
from yggpy.sessions.manager import SessionLimits, SessionManager
from yggpy.sessions.traffic import NonceExhausted, OpenVerdict, TrafficState
from yggpy.wire.session import InitMessage, InitPayload, MessageType, signed_bytes

__all__ = ["KINDS", "START", "Endpoint", "counting_entropy", "kinds", "make_init", "private_key", "read_init"]

START = 1_700_000_000.0
"""Where the clocks of the tests begin."""

KINDS = {MessageType.INIT: "init", MessageType.ACK: "ack", MessageType.TRAFFIC: "traffic"}


def private_key(number: int) -> PrivateKey:
    """Return test key ``number``."""
    return PrivateKey.from_seed(hashlib.sha256(f"test key {number}".encode()).digest())


def counting_entropy(label: str) -> Callable[[int], bytes]:
    """Return a source of bytes that never repeats itself and is the same in every run."""
    count = 0

    def entropy(size: int) -> bytes:
        nonlocal count
        count += 1
        return hashlib.shake_256(f"{label} {count}".encode()).digest(size)

    return entropy


def kinds(payloads: list[bytes]) -> list[str]:
    """Name session messages by their first bytes."""
    return [KINDS[MessageType(payload[0])] for payload in payloads]


def make_init(
    sender: PrivateKey,
    receiver: bytes,
    *,
    current: bytes,
    following: bytes,
    seq: int,
    key_seq: int = 0,
    message_type: MessageType = MessageType.INIT,
    preimage: bytes = b"",
    ephemeral: BoxKeyPair | None = None,
) -> bytes:
    """Return an init or ack with any content, rightly signed and boxed."""
    ephemeral = ephemeral or BoxKeyPair.from_private(b"\x55" * 32)
    signature = sender.sign(signed_bytes(preimage, ephemeral.public, current, following, key_seq, seq))
    payload = InitPayload(signature, current, following, key_seq, seq).encode()
    box = seal_box(payload, 0, shared_key(box_public_key(receiver), ephemeral.private))
    return InitMessage(message_type, ephemeral.public, box).encode()


def read_init(receiver: PrivateKey, message: bytes) -> InitPayload:
    """Open an init or ack that was made for ``receiver``."""
    envelope = InitMessage.decode(message)
    plaintext = open_box(envelope.box, 0, shared_key(envelope.eph_pub, box_private_key(receiver.seed)))
    assert plaintext is not None
    return InitPayload.decode(plaintext)


@dataclass
class Endpoint:
    """One node: what it sent and what it received collect in ``sent`` and ``delivered``."""

    key: PrivateKey
    password: bytes = b""
    entropy: Callable[[int], bytes] | None = None
    limits: SessionLimits | None = None
    sent: list[tuple[bytes, bytes]] = field(default_factory=list)
    delivered: list[tuple[bytes, bytes]] = field(default_factory=list)
    states: dict[bytes, TrafficState] = field(default_factory=dict)
    activity: dict[bytes, float] = field(default_factory=dict)
    sealed: list[tuple[bytes, int]] = field(default_factory=list)
    """Shared key and nonce of every packet that was sealed."""
    released: list[bytes] = field(default_factory=list)
    """Messages that the manager gave back to be sealed, in order."""

    def __post_init__(self) -> None:
        entropy = self.entropy or counting_entropy(self.key.public_key.hex())
        self.manager = SessionManager(
            self.key, self.password, entropy=entropy, last_activity=self.activity.get, limits=self.limits
        )

    @property
    def public(self) -> bytes:
        """The public key, which is the address of a node."""
        return self.key.public_key

    def write(self, dest: bytes, message: bytes, now: float) -> list[bytes]:
        """Send ``message``; return the payloads that go out now."""
        self._send(dest, message, now)
        return self.take()

    def receive(self, source: bytes, payload: bytes, now: float) -> list[bytes]:
        """Take a session message from ``source``; return the payloads that go out now."""
        if payload and payload[0] == MessageType.TRAFFIC:
            self._open(source, payload, now)
        else:
            self.manager.handle_message(source, payload, now)
        self._apply(now)
        return self.take()

    def tick(self, now: float) -> list[bytes]:
        """Judge expiries; return the payloads that go out now."""
        self.manager.tick(now)
        self._apply(now)
        return self.take()

    def take(self) -> list[bytes]:
        """Return the payloads sent since the last call."""
        payloads = [payload for _, payload in self.sent]
        self.sent.clear()
        return payloads

    def messages(self) -> list[bytes]:
        """Return the messages delivered since the last call."""
        messages = [message for _, message in self.delivered]
        self.delivered.clear()
        return messages

    def _send(self, dest: bytes, message: bytes, now: float) -> None:
        state = self.states.get(dest)
        if state is None:
            self.manager.session_missing(dest, message, now)
            self._apply(now)
            return
        try:
            payload = state.seal(message)
        except NonceExhausted:
            self.manager.session_nonce_exhausted(dest, now)
            self._apply(now)
            payload = state.seal(message)
        self.sealed.append((state._keys.send_shared, state.nonces[0]))
        self.activity[dest] = now
        self.sent.append((dest, payload))

    def _open(self, source: bytes, payload: bytes, now: float) -> None:
        state = self.states.get(source)
        if state is None:
            self.manager.session_unknown(source, now)
            return
        opened = state.open(payload)
        if opened.verdict is OpenVerdict.MISMATCH:
            self.manager.session_mismatch(source, now)
        if opened.verdict is not OpenVerdict.OPENED:
            return
        self.activity[source] = now
        self.delivered.append((source, opened.message))
        if opened.case is not None:
            self.manager.session_ratchet(source, opened.case, opened.nonce, opened.next_public, now)

    def _apply(self, now: float) -> None:
        for effect in self.manager.take_effects():
            match effect:
                case SendPayload(dest, payload):
                    self.sent.append((dest, payload))
                case InstallKeys(remote, keys):
                    state = self.states.get(remote)
                    if state is None:
                        self.states[remote] = TrafficState(keys)
                    else:
                        state.install(keys)
                case RemoveKeys(remote):
                    self.states.pop(remote, None)
                    self.activity.pop(remote, None)
                case SendMessage(dest, message):
                    self.released.append(message)
                    self._send(dest, message, now)
