"""A limit on what strangers may make this node do in one second."""

from __future__ import annotations

__all__ = ["PerSecond"]


class PerSecond:
    """Lets ``limit`` events happen in each second of the clock."""

    __slots__ = ("_count", "_limit", "_second")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = 0
        self._count = 0

    def allow(self, now: float) -> bool:
        """Count an event; False when this second's are used up."""
        if int(now) != self._second:
            self._second = int(now)
            self._count = 0
        self._count += 1
        return self._count <= self._limit
