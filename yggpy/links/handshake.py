"""The conversation at the start of a link (protocol section 2.7): each side says who it is, then judges the other.

``exchange`` does the talking and the checks on the message itself; ``judge`` decides whether we want this node.
Both sides speak at once, so nobody waits for the other before sending.
"""

from __future__ import annotations

from dataclasses import dataclass

from yggpy.datapath.base import ByteStream
from yggpy.errors import YggpyError
from yggpy.keys import PrivateKey
from yggpy.links.uri import LinkOptions
from yggpy.wire.handshake import HEADER_SIZE, HandshakeInfo, decode_body, decode_header, encode_handshake

__all__ = ["HANDSHAKE_TIMEOUT", "HandshakeResult", "PeerRefusedError", "SelfConnectionError", "exchange", "judge"]

HANDSHAKE_TIMEOUT = 6.0
"""Seconds within which both messages must have passed; for incoming links the TLS handshake counts too."""


class PeerRefusedError(YggpyError):
    """The other side is a proper node, but not one that this link may lead to."""


class SelfConnectionError(PeerRefusedError):
    """The other side is this very node."""

    def __init__(self) -> None:
        super().__init__("node cannot connect to self")


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """What the other side said, and how many bytes it took (they count as traffic of the link)."""

    remote: HandshakeInfo
    bytes_sent: int
    bytes_received: int


async def exchange(stream: ByteStream, private_key: PrivateKey, options: LinkOptions) -> HandshakeResult:
    """Send our message and read the other side's. Bytes that follow it stay in the stream. No time limit here.

    Raises ``HandshakeError`` for a message that is wrong (checks 1 to 8) and ``OSError`` when the stream ends.
    """
    ours = encode_handshake(private_key, options.password, options.priority)
    stream.write(ours)
    length = decode_header(await stream.read_exactly(HEADER_SIZE))
    remote = decode_body(await stream.read_exactly(length), options.password)
    return HandshakeResult(remote, len(ours), HEADER_SIZE + length)


def judge(
    remote_key: bytes, own_key: bytes, pinned_keys: frozenset[bytes], allowed_keys: frozenset[bytes] | None
) -> None:
    """Raise ``PeerRefusedError`` when the link must not be (checks 9 to 11).

    ``allowed_keys`` is None, or empty, where ``AllowedPublicKeys`` does not apply: outgoing and multicast links.
    """
    if remote_key == own_key:
        raise SelfConnectionError
    if pinned_keys and remote_key not in pinned_keys:
        raise PeerRefusedError("node public key that does not match pinned keys")
    if allowed_keys and remote_key not in allowed_keys:
        raise PeerRefusedError(f'node public key "{remote_key.hex()}" is not in AllowedPublicKeys')
