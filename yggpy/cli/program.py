"""What every program does at its edges: text in UTF-8 whatever the locale, and one exit code for each kind of end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from yggpy.errors import YggpyError

__all__ = ["exit_code", "let_go_of_output", "until_told_to_stop", "write_text"]

_INTERRUPTED = 130
_FAILED = 1
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def write_text(text: str, errors: str = "strict") -> None:
    """Write to standard output at once, in UTF-8; ``errors`` as for ``str.encode``. Raises ``OSError``."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", errors))
    sys.stdout.flush()


def let_go_of_output() -> int:
    """Whoever read our output has gone: keep Python from complaining as it flushes the rest. Returns the exit code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _FAILED


def exit_code(run: Callable[[], int], complain: Callable[[str], None]) -> int:
    """Return what ``run`` returns, or the exit code for how it ended; ``complain`` prints a line for the operator."""
    try:
        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        return let_go_of_output()
    except (YggpyError, OSError) as error:
        complain(str(error))
        return _FAILED


@contextmanager
def until_told_to_stop() -> Iterator[None]:
    """SIGINT (Ctrl-C), SIGTERM or SIGHUP (the terminal is gone) ends the block as if it had been done.

    For what would never end else. The block is left as by an exception, so that it can clean up; further signals do
    not disturb it then. One that is ignored from outside, as by ``nohup``, stays so. Only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _STOPPING}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]

    def stop(number: int, frame: FrameType | None) -> None:
        for each in taken:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    try:
        for number in taken:
            signal.signal(number, stop)
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number in taken:
            signal.signal(number, before[number])
