"""A rude peer, run as a program inside a namespace: connects to a node, misbehaves once, and says what came of it.

    rude.py HOST PORT SCHEME MANNER

Prints one JSON object: ``{"closed_after": seconds}`` until the node closed the connection, or null when it never did
within ``PATIENCE``.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import sys
import time

from yggpy.keys import PrivateKey
from yggpy.wire.frame import FrameType, encode_frame
from yggpy.wire.handshake import encode_handshake
from yggpy.wire.packets import Announce, SigRes
from yggpy.wire.uvarint import encode_uvarint

PATIENCE = 12.0
"""Seconds to wait for the end; the node's own limit for a handshake is 6."""

_random = random.Random(5)
_key = PrivateKey.generate()
_hello = encode_handshake(_key, b"", 0)


def _forged_announce() -> bytes:
    other = PrivateKey.generate().public_key
    return Announce(other, other, 1, 1, 0, bytes(64), bytes(64)).encode()


BEFORE: dict[str, bytes] = {
    "silence": b"",
    "random bytes": _random.randbytes(4096),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "half a handshake": _hello[:50],
    "a short length": b"meta\x00\x10" + bytes(16),
    "an oversize length": b"meta\xff\xff" + bytes(100),
    "a field that claims too much": b"meta\x00\x44\x00\x02\x00\xff" + bytes(64),
    "a wrong password": encode_handshake(_key, b"wrong", 0),
    "a future version": encode_handshake(_key, b"", 0, minor=6),
}
"""Manners before the handshake is complete."""
AFTER: dict[str, bytes] = {
    "garbage frames": _random.randbytes(65536),
    "an empty frame": b"\x00",
    "an oversize frame": encode_uvarint(131071),
    "an endless length": b"\xff" * 11,
    "an unknown type": b"\x02\x0a\x00",
    "a truncated announcement": encode_frame(FrameType.ANNOUNCE, bytes(50)),
    "a forged announcement": encode_frame(FrameType.ANNOUNCE, _forged_announce()),
    "a forged response": encode_frame(FrameType.SIG_RES, SigRes(1, 1, 1, bytes(64)).encode()),
    "a contradictory bloom filter": encode_frame(FrameType.BLOOM_FILTER, b"\xff" * 32),
    "a look-up without an end": encode_frame(FrameType.PATH_LOOKUP, bytes(64) + b"\x01"),
    "malformed traffic": encode_frame(FrameType.TRAFFIC, b"\x01\x02"),
    "half a frame, then silence": encode_uvarint(100) + b"\x09abc",
}
"""Manners after a valid handshake."""


class WebConnection:
    """A WebSocket that looks like a socket."""

    def __init__(self, sock: socket.socket, host: str) -> None:
        from websockets.sync.client import connect
        from websockets.typing import Subprotocol

        self._web = connect(f"ws://{host}/", sock=sock, subprotocols=[Subprotocol("ygg-ws")], proxy=None)
        self._timeout = PATIENCE

    def sendall(self, data: bytes) -> None:
        """Send a message."""
        self._web.send(data)

    def settimeout(self, seconds: float) -> None:
        """Set the time limit of the next ``recv``."""
        self._timeout = seconds

    def recv(self, _: int) -> bytes:
        """Return a message, or b"" at the end."""
        from websockets.exceptions import ConnectionClosed

        try:
            return bytes(self._web.recv(self._timeout, decode=False))
        except ConnectionClosed:
            return b""


def main(host: str, port: int, scheme: str, manner: str) -> None:
    """Misbehave once."""
    started = time.monotonic()
    connection: socket.socket | WebConnection
    connection = socket.create_connection((host, port), timeout=PATIENCE)
    if scheme == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    elif scheme == "ws":
        connection = WebConnection(connection, host)
    closed: float | None = None
    try:
        connection.sendall(BEFORE[manner] if manner in BEFORE else _hello + AFTER[manner])
        while time.monotonic() - started < PATIENCE:
            connection.settimeout(max(0.01, started + PATIENCE - time.monotonic()))
            if not connection.recv(65536):
                closed = time.monotonic() - started
                break
    except TimeoutError:
        pass
    except OSError:
        closed = time.monotonic() - started
    print(json.dumps({"closed_after": closed}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
