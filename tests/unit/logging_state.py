"""Puts logging back as it was: the command line programs set it up for a whole process."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["restored_logging"]


@contextmanager
def restored_logging() -> Iterator[None]:
    """Undo, at the end, what ``configure_logging`` does."""
    loggers = [logging.getLogger(name) for name in ("yggpy", "asyncio")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    raising = logging.raiseExceptions
    try:
        yield
    finally:
        logging.raiseExceptions = raising
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            for handler in logger.handlers:
                if handler not in handlers:
                    with contextlib.suppress(OSError):  # a test may have given it a file that cannot be written
                        handler.close()
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
