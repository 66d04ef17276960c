"""What a service manager is told: Go's ``-notifyfd``, and systemd's ``sd_notify`` protocol.

systemd gives the address of a datagram socket in ``NOTIFY_SOCKET``, and in ``WATCHDOG_USEC`` after what silence it
takes the service for dead. A message is lines of ``NAME=value``. Nothing here may keep a node from running: what cannot
be told is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import MutableMapping

__all__ = ["ServiceManager"]

SEND_TIMEOUT = 1.0
"""Seconds that a full socket of the service manager may hold us up; then the message is given up."""
_MIN_WATCHDOG_USEC = 2000
"""A shorter deadline could only be met by doing nothing else."""


class ServiceManager:
    """Whoever started the process and wants to hear of it; perhaps nobody."""

    def __init__(self, logger: logging.Logger, notify_fd: int, environment: MutableMapping[str, str]) -> None:
        """``notify_fd``: that of ``-notifyfd``; not positive: none.

        The variables of the protocol are taken out of ``environment``: they are for this process alone.
        """
        self._log = logger
        self._notify_fd = notify_fd
        self._address = _address(environment.pop("NOTIFY_SOCKET", ""), logger)
        self._watchdog_interval = _watchdog_interval(environment)
        self._beat: asyncio.TimerHandle | None = None
        self._complained = False

    def ready(self, status: str) -> None:
        """The node is up: write the newline, tell systemd, and begin to answer its watchdog (needs an event loop)."""
        if self._notify_fd > 0:
            try:
                os.write(self._notify_fd, b"\n")
                os.close(self._notify_fd)
            except OSError as error:
                self._log.warning(
                    "Cannot tell -notifyfd %d that the node is ready: %s", self._notify_fd, error.strerror
                )
            self._notify_fd = -1
        self._send("READY=1", f"STATUS={status}")
        if self._beat is None and self._watchdog_interval and self._address:
            self._tick()

    def reloading(self) -> None:
        """A reload begins; ``reloaded`` must follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Reloading the configuration")

    def reloaded(self, status: str) -> None:
        """The reload is over, well or not."""
        self._send("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """The node goes down. The watchdog goes on being answered until ``close``."""
        self._send("STOPPING=1", "STATUS=Stopping")

    def close(self) -> None:
        """Stop answering the watchdog. Harmless when repeated."""
        if self._beat is not None:
            self._beat.cancel()
        self._beat = None
        self._watchdog_interval = 0.0

    def _tick(self) -> None:
        # A callback of the event loop: when the loop hangs, the beats end, and that is what the watchdog is for.
        self._send("WATCHDOG=1")
        self._beat = asyncio.get_running_loop().call_later(self._watchdog_interval, self._tick)

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        message = "\n".join(line.replace("\n", " ") for line in lines).encode(errors="replace")
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(SEND_TIMEOUT)
                sock.sendto(message, self._address)
        except OSError as error:  # TimeoutError included
            if not self._complained:
                self._log.warning("Cannot tell the service manager (NOTIFY_SOCKET) how the node is doing: %s", error)
            self._complained = True


def _address(text: str, logger: logging.Logger) -> bytes:
    """Return the socket address that ``NOTIFY_SOCKET`` stands for; empty: nobody is to be told."""
    if not text:
        return b""
    name = os.fsencode(text)
    if name.startswith(b"@"):
        return b"\0" + name[1:]
    if name.startswith(b"/"):
        return name
    logger.warning("NOTIFY_SOCKET is neither a path nor an abstract socket (@…); the service manager hears nothing")
    return b""


def _watchdog_interval(environment: MutableMapping[str, str]) -> float:
    """Return half of the time after which silence counts as death, in seconds; 0: nobody watches."""
    microseconds, process = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if process and process != str(os.getpid()):
        return 0.0
    if not microseconds.isdecimal() or int(microseconds) < _MIN_WATCHDOG_USEC:
        return 0.0
    return int(microseconds) / 2e6
