"""What every program does at its edges: text in UTF-8 whatever the locale, and one exit code for each kind of end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from yggpy.errors import YggpyError

__all__ = ["exit_code", "let_go_of_output", "write_text"]

_INTERRUPTED = 130
_FAILED = 1


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
