"""What a node owes to others as the first process of a container, where no init does it.

The kernel ends process 1 by no signal that it does not handle, so a stop must be understood from the first moment on,
before there is an event loop. And whoever loses its parent in the container (what ``docker exec`` or a health check
left behind) becomes a child of process 1, and stays a zombie until that one asks how it ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
from types import FrameType

__all__ = ["end_at_sigterm", "is_first_process", "reap", "reap_orphans"]

_TERMINATED = 128 + signal.SIGTERM


def is_first_process() -> bool:
    """Whether this is process 1, in its own view."""
    return os.getpid() == 1


def end_at_sigterm() -> None:
    """Let SIGTERM end the process as it would any other; until the event loop takes the signal for a clean stop."""
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(_TERMINATED)


def reap_orphans(loop: asyncio.AbstractEventLoop) -> None:
    """Take the ends of all children from now on. The node has none of its own, which others would wait for."""
    loop.add_signal_handler(signal.SIGCHLD, reap)
    loop.call_soon(reap)  # those that ended before


def reap() -> int:
    """Take the ends of the children that have ended, without waiting; return how many."""
    count = 0
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return count
        if pid == 0:
            return count
        count += 1
