"""What to tell people about links that fail: one line, the cause, and what to do about it; but not the same line twice.

A peer that is away for a week is worth one line, not ten thousand; somebody who throws junk at a listener must not be
able to fill a disk. So a peering reports a failure when its reason is a new one, and all incoming failures share a
small budget per minute. The rest goes to the debug level.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from yggpy.datapath.socktext import error_text

__all__ = ["INCOMING_LINES_PER_MINUTE", "IncomingFailureLog", "explain", "reason_of", "same_reason"]

INCOMING_LINES_PER_MINUTE = 20
"""Failed incoming connections that are logged at info level within a minute; further ones at debug level."""
MINUTE = 60.0

_LOCAL_END = re.compile(r"\S+->")
_CLOSED_EARLY = (
    "the other side closed the connection in the handshake: wrong password, our key is not allowed there, or not tcp://"
)
_ADVICE = {
    "EOF": _CLOSED_EARLY,
    "unexpected EOF": _CLOSED_EARLY,
    "password does not match remote side": "check the password option on both sides",
    "node public key that does not match pinned keys": "check the key option, or whether the peer has a new key",
    "node cannot connect to self": "this peering leads to this very node and is not dialled again; remove it",
    "peer has no suitable addresses": "addresses inside 200::/7 cannot carry a peering",
    "tls: first record does not look like a TLS handshake": "perhaps the peer expects tcp:// here",
    "invalid handshake, remote side is not Yggdrasil": "wrong port, or the peer expects tls:// here",
    "link-local address requires a zone": "give the interface by InterfacePeers or addPeer interface=…",
}


def reason_of(error: Exception) -> str:
    """Return the one line that ``last_error`` shows."""
    return error_text(error)


def explain(reason: str) -> str:
    """Return ``reason`` with advice, where there is some."""
    advice = _ADVICE.get(reason)
    return reason if advice is None else f"{reason} ({advice})"


def same_reason(one: str | None, other: str | None) -> bool:
    """Tell whether two reasons differ in nothing but the port that our end happened to have."""
    if one is None or other is None:
        return one is other
    return _LOCAL_END.sub("", one) == _LOCAL_END.sub("", other)


class IncomingFailureLog:
    """Logs failed incoming connections within a budget per minute."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float]) -> None:
        self._log = log
        self._clock = clock
        self._since = clock()
        self._lines = 0
        self._hidden = 0

    def report(self, uri: str, reason: str) -> None:
        """Log that the incoming connection ``uri`` came to nothing."""
        now = self._clock()
        if now - self._since >= MINUTE:
            if self._hidden:
                self._log.info("%d more incoming connections failed (log level debug shows them)", self._hidden)
            self._since, self._lines, self._hidden = now, 0, 0
        if self._lines < INCOMING_LINES_PER_MINUTE:
            self._lines += 1
            self._log.info("Incoming connection %s failed: %s", uri, reason)
        else:
            self._hidden += 1
            self._log.debug("Incoming connection %s failed: %s", uri, reason)
