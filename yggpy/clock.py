"""The one notion of time: seconds as a float whose origin is the Unix epoch and which never goes back.

The protocol needs two clocks: durations (timers, round trips) and Unix seconds (the ``seq`` of session
inits and path notifications). A single float serves both when it advances monotonically but is anchored
to the wall clock once, at start. A later step of the wall clock (NTP) is deliberately ignored: sequence
numbers must not go back while the node runs, and what a stale anchor breaks heals within the 60 s that
remote entries live.

Everything below ``node.py`` takes ``now`` as an argument; only the daemon and the benchmarks own a ``Clock``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["CLOCK_ID", "Scheduler", "SystemClock", "TimerHandle"]

# CLOCK_BOOTTIME goes on while the machine sleeps, so peers' 60 s and 5 min limits are judged rightly on waking.
CLOCK_ID = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Reads the machine's clock; ``now()`` is Unix-anchored, monotonic seconds."""

    def __init__(self) -> None:
        self._offset = time.time() - time.clock_gettime(CLOCK_ID)

    def now(self) -> float:
        """Return the current time in seconds."""
        return time.clock_gettime(CLOCK_ID) + self._offset


class TimerHandle(Protocol):
    """What ``Scheduler.call_later`` returns; ``asyncio.TimerHandle`` fits."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has already run."""
        ...


class Scheduler(Protocol):
    """Time and timers as the data plane sees them: the event loop in the daemon, a virtual clock in ``yggpy.sim``."""

    def now(self) -> float:
        """Return the current time in seconds (see the module's docstring)."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        """Run ``callback()`` after ``delay`` seconds."""
        ...

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run ``callback()`` when the current input has been handled."""
        ...
