"""Sealing and opening the traffic of one session (protocol section 9.4): the hot path, and the reference for C.

    0x03 || uvarint sender's key number || uvarint receiver's || uvarint nonce || box(next public key[32] || message)

A :class:`TrafficState` holds what the data plane needs: four shared keys, the numbers that choose among them, and the
nonces. It decides nothing: which keys come next is the session manager's business, who installs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from yggpy.sessions.crypto import open_box, seal_box
from yggpy.wire.session import BOX_KEY_SIZE, MIN_TRAFFIC_SIZE, MessageType
from yggpy.wire.uvarint import decode_uvarint, encode_uvarint

__all__ = ["NonceExhausted", "OpenResult", "OpenVerdict", "RatchetCase", "SessionKeys", "TrafficState"]

MAX_NONCE = 2**64 - 1
_TRAFFIC_TYPE = bytes((MessageType.TRAFFIC,))


class NonceExhausted(Exception):
    """The send counter is at its end: the local keys must move on before anything can be sealed."""


class RatchetCase(Enum):
    """Traffic under the sender's next key, which moves the session forward (the letters are those of section 9.4)."""

    NEXT_SEND = "B"
    """Sealed for our current key."""
    NEXT_RECV = "C"
    """Sealed for the one before."""


class OpenVerdict(Enum):
    """What became of a received packet."""

    OPENED = "opened"
    REPLAY = "replay"
    """The nonce is not new: a duplicate, or a packet that was overtaken. Dropped silently."""
    MISMATCH = "mismatch"
    """It fits none of our keys: the sender needs to be told by an init."""
    MALFORMED = "malformed"
    """Not a traffic packet, or one whose plaintext is too short to be honest. Dropped silently."""


class OpenResult(NamedTuple):
    """The outcome of ``open``; all but the verdict is only set when it is OPENED."""

    verdict: OpenVerdict
    message: bytes = b""
    case: RatchetCase | None = None
    nonce: int = 0
    next_public: bytes = b""


_REPLAY = OpenResult(OpenVerdict.REPLAY)
_MISMATCH = OpenResult(OpenVerdict.MISMATCH)
_MALFORMED = OpenResult(OpenVerdict.MALFORMED)


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """One generation of a session's keys, as the session manager installs it."""

    remote_key_seq: int
    local_key_seq: int
    recv_shared: bytes
    """Case A: the remote's current key with our previous one."""
    send_shared: bytes
    """What we seal with."""
    next_send_shared: bytes
    """Case B."""
    next_recv_shared: bytes
    """Case C."""
    next_public: bytes
    """Our next public key, put into every packet."""
    recv_nonce: int
    """The last nonce accepted under ``recv_shared``."""
    send_nonce: int | None
    """The last nonce used for sending; None lets the counter go on."""


class TrafficState:
    """The sealing and opening end of one session."""

    __slots__ = ("_header", "_keys", "_next_recv_nonce", "_next_send_nonce", "_recv_nonce", "_send_nonce")

    def __init__(self, keys: SessionKeys) -> None:
        self._keys = keys
        self._send_nonce = 0
        self._recv_nonce = self._next_send_nonce = self._next_recv_nonce = 0
        self.install(keys)

    def install(self, keys: SessionKeys) -> None:
        """Go over to new keys.

        A receiving key that stays, though perhaps for another case, keeps the last nonce that came with it. Go starts
        again at 0 after an init or ack and then takes packets of that key a second time. An honest sender is not hurt:
        it never counts anew under the same key.
        """
        old = self._keys
        seen = {
            old.recv_shared: self._recv_nonce,
            old.next_send_shared: self._next_send_nonce,
            old.next_recv_shared: self._next_recv_nonce,
        }
        self._keys = keys
        self._recv_nonce = max(keys.recv_nonce, seen.get(keys.recv_shared, 0))
        self._next_send_nonce = seen.get(keys.next_send_shared, 0)
        self._next_recv_nonce = seen.get(keys.next_recv_shared, 0)
        if keys.send_nonce is not None:
            self._send_nonce = keys.send_nonce
        self._header = b"".join(
            (_TRAFFIC_TYPE, encode_uvarint(keys.local_key_seq), encode_uvarint(keys.remote_key_seq))
        )

    @property
    def nonces(self) -> tuple[int, int, int, int]:
        """The last nonces: (sent, received under the current keys, under case B, under case C)."""
        return self._send_nonce, self._recv_nonce, self._next_send_nonce, self._next_recv_nonce

    def seal(self, message: bytes) -> bytes:
        """Return the traffic packet for ``message``. Raises :class:`NonceExhausted`."""
        if self._send_nonce >= MAX_NONCE:
            raise NonceExhausted
        self._send_nonce = nonce = self._send_nonce + 1
        keys = self._keys
        box = seal_box(keys.next_public + message, nonce, keys.send_shared)
        return b"".join((self._header, encode_uvarint(nonce), box))

    def open(self, packet: bytes) -> OpenResult:
        """Open a traffic packet, whose first byte is not looked at. Nonces are remembered when it opens."""
        if len(packet) < MIN_TRAFFIC_SIZE:
            return _MALFORMED
        try:
            sender_seq, offset = decode_uvarint(packet, 1)
            receiver_seq, offset = decode_uvarint(packet, offset)
            nonce, offset = decode_uvarint(packet, offset)
        except ValueError:
            return _MALFORMED
        keys = self._keys
        local = keys.local_key_seq
        case: RatchetCase | None
        if sender_seq == keys.remote_key_seq and receiver_seq + 1 == local:
            case, shared, last = None, keys.recv_shared, self._recv_nonce
        elif sender_seq != keys.remote_key_seq + 1:
            return _MISMATCH
        elif receiver_seq == local:
            case, shared, last = RatchetCase.NEXT_SEND, keys.next_send_shared, self._next_send_nonce
        elif receiver_seq + 1 == local:
            case, shared, last = RatchetCase.NEXT_RECV, keys.next_recv_shared, self._next_recv_nonce
        else:
            return _MISMATCH
        if nonce <= last:
            return _REPLAY
        plaintext = open_box(packet[offset:], nonce, shared)
        if plaintext is None:
            return _MISMATCH
        if len(plaintext) < BOX_KEY_SIZE:
            return _MALFORMED  # stops a Go node; over-long numbers let it pass the length check
        if case is None:
            self._recv_nonce = nonce
        elif case is RatchetCase.NEXT_SEND:
            self._next_send_nonce = nonce
        else:
            self._next_recv_nonce = nonce
        return OpenResult(OpenVerdict.OPENED, plaintext[BOX_KEY_SIZE:], case, nonce, plaintext[:BOX_KEY_SIZE])
