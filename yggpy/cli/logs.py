"""Where log lines go and what they look like: ``2006/01/02 15:04:05 text``, as tools that read Go's log expect.

Levels are Go's, ``trace`` being one more below ``debug``; ``NOTICE`` lines are printed at every level. A message stays
on its line: control characters, which a peer may have put into it, are escaped. Tracebacks appear from ``debug`` on.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from dataclasses import dataclass
from io import TextIOWrapper

from yggpy.printable import CONTROL_ESCAPES

__all__ = ["NOTICE", "TRACE", "LogSetup", "configure_logging"]

TRACE = 5
NOTICE = 60
"""For what is printed at every level, such as the node's address; above ``CRITICAL``."""

LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_FILE_MODE = 0o644
_SYSLOG_SOCKET = "/dev/log"
_TIME_FORMAT = "%Y/%m/%d %H:%M:%S"


class _Formatter(logging.Formatter):
    def __init__(self, *, with_time: bool, with_traceback: bool) -> None:
        super().__init__("%(asctime)s %(message)s" if with_time else "%(message)s", _TIME_FORMAT)
        self._with_traceback = with_traceback

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage().rstrip("\n").translate(CONTROL_ESCAPES)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not self._with_traceback:
            record.message += f": {type(error).__name__}: {str(error).translate(CONTROL_ESCAPES)}"
        if self.usesTime():
            record.asctime = self.formatTime(record, self.datefmt)
        line = self.formatMessage(record)
        if record.exc_info and self._with_traceback:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _FileHandler(logging.FileHandler):
    def _open(self) -> TextIOWrapper:
        # Made beforehand with Go's mode, whatever the umask would let through.
        os.close(os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE))
        return super()._open()


def _syslog_handler(ident: str) -> logging.Handler:
    """Raises ``OSError``."""
    from logging.handlers import SysLogHandler  # brings pickle and more, and is seldom needed

    class Handler(SysLogHandler):
        def mapPriority(self, levelName: str) -> str:
            return {"NOTICE": "notice", "TRACE": "debug"}.get(levelName) or super().mapPriority(levelName)

    handler = Handler(_SYSLOG_SOCKET, SysLogHandler.LOG_DAEMON)
    handler.ident = ident
    return handler


@dataclass(frozen=True, slots=True)
class LogSetup:
    """What ``configure_logging`` made."""

    logger: logging.Logger
    to_terminal: bool
    """The lines go to standard output, so whoever sees standard error probably sees them, too."""


def configure_logging(target: str, level: str, program: str) -> LogSetup:
    """Send the log to ``stdout``, ``syslog`` or the file ``target`` (appended to) from ``level`` on.

    What cannot be opened becomes standard output, and an unknown level ``info``; a line in the log says so.
    """
    logging.addLevelName(TRACE, "TRACE")
    logging.addLevelName(NOTICE, "NOTICE")
    logging.raiseExceptions = False  # a log that cannot be written must not fill standard error with tracebacks
    threshold = LEVELS.get(level.lower(), logging.INFO)
    handler, problem = _open(target, program)
    handler.setFormatter(
        _Formatter(
            with_time=isinstance(handler, logging.StreamHandler),
            with_traceback=threshold <= logging.DEBUG,
        )
    )
    logger = logging.getLogger("yggpy")
    for source, lowest in ((logger, threshold), (logging.getLogger("asyncio"), max(threshold, logging.WARNING))):
        for old in list(source.handlers):
            source.removeHandler(old)
            old.close()
        source.addHandler(handler)
        source.setLevel(lowest)
        source.propagate = False
    if problem:
        logger.warning("Logging to standard output: %s", problem)
    if level.lower() not in LEVELS:
        logger.info("Unknown -loglevel %s: using info (one of %s)", level, ", ".join(LEVELS))
    return LogSetup(logger, to_terminal=type(handler) is logging.StreamHandler)


def _open(target: str, program: str) -> tuple[logging.Handler, str | None]:
    """Return a handler for ``target``, and why it is another than the one asked for."""
    problem = None
    if target == "syslog":
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:  # the handler would not tell of a failure
                probe.connect(_SYSLOG_SOCKET)
        except OSError as error:
            problem = f"cannot open {_SYSLOG_SOCKET}: {error.strerror or error}"
        else:
            return _syslog_handler(f"{program}[{os.getpid()}]: "), None
    elif target != "stdout":
        try:
            return _FileHandler(target, encoding="utf-8"), None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            problem = f'cannot open log file "{target}": {reason}'
    return logging.StreamHandler(sys.stdout), problem
