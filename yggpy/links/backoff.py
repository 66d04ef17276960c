"""How long to wait before a peer is dialled again (protocol section 2.4): 2, 4, 8, … seconds up to a limit."""

from __future__ import annotations

__all__ = ["MAX_DOUBLINGS", "Backoff"]

MAX_DOUBLINGS = 32
"""Failures in a row after which the wait grows no more, whatever the limit."""


class Backoff:
    """Counts failures in a row; ``limit`` is the longest wait in seconds."""

    __slots__ = ("_failures", "_limit")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._failures = 0

    def reset(self) -> None:
        """A handshake was completed: begin again with the shortest wait."""
        self._failures = 0

    def next_delay(self) -> float:
        """Count one more failure (or disconnect) and return the seconds to wait."""
        self._failures = min(self._failures + 1, MAX_DOUBLINGS)
        return min(float(1 << self._failures), self._limit)
