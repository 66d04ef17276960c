"""A clock that stands still until it is told to run: the ``Scheduler`` of simulations and unit tests."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

__all__ = ["VirtualScheduler"]

START = 1_700_000_000.0
"""Time at which virtual clocks begin (seconds since the Unix epoch; any constant does)."""


class _Call:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget the call."""
        self.callback = None


class VirtualScheduler:
    """Runs timers in order of their time, and of their making when times are equal, as fast as it can."""

    def __init__(self, start: float = START) -> None:
        self._now = start
        self._calls: list[tuple[float, int, _Call]] = []
        self._order = count()

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> _Call:
        """Run ``callback()`` once ``run_until`` has passed ``delay`` seconds from now."""
        call = _Call(callback)
        heapq.heappush(self._calls, (self._now + delay, next(self._order), call))
        return call

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback()`` before time moves on."""
        self.call_later(0.0, callback)

    def run_until(self, time: float) -> None:
        """Run everything that is due up to and including ``time``; the clock then shows ``time``."""
        while self._calls and self._calls[0][0] <= time:
            due, _, call = heapq.heappop(self._calls)
            self._now = max(self._now, due)
            if call.callback is not None:
                call.callback()
        self._now = max(self._now, time)

    def stall(self, seconds: float) -> None:
        """Let ``seconds`` pass in which nothing can run, as in a process that stands still; timers are then late."""
        self._now += seconds

    def run_for(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.run_until(self._now + seconds)
