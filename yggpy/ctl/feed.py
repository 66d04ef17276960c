"""The last events of a node for a page that shows them: taken while nothing else is to be done, kept in words.

It is an extra: a node that has no room for a further subscriber, or that ends the stream, is asked again; one that does
not know ``subscribe`` is not. Neither costs more than the events.
"""

from __future__ import annotations

import select
import time
from collections import deque

from yggpy.ctl.client import AdminConnection
from yggpy.ctl.errors import CtlError
from yggpy.ctl.subscribe import COMMAND, event_line, event_object, is_unknown_command

__all__ = ["MAX_EVENTS", "EventFeed"]

MAX_EVENTS = 100
"""Events that are remembered; no terminal shows more."""


class EventFeed:
    """Subscribes over ``connection``, which it has for itself. Nothing here raises but ``KeyboardInterrupt``."""

    def __init__(self, connection: AdminConnection) -> None:
        self.events: deque[str] = deque(maxlen=MAX_EVENTS)
        """In words, the oldest first."""
        self._connection = connection
        self._wanted = True

    def close(self) -> None:
        """End the subscription."""
        self._connection.close()

    def begin(self) -> None:
        """Subscribe, if that has not been done and the node can be asked for it."""
        if not self._wanted or self._connection.fileno() >= 0:
            return
        try:
            answer = self._connection.stream(COMMAND)
        except CtlError:
            return
        if answer.error is None:
            self._take()
        elif is_unknown_command(answer.error):
            self._wanted = False

    def wait(self, seconds: float) -> None:
        """Take events for ``seconds``."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            number = self._connection.fileno()
            if number < 0:
                time.sleep(left)
                return
            poll = select.poll()
            poll.register(number, select.POLLIN)
            if poll.poll(left * 1000):
                self._take()

    def _take(self) -> None:
        try:
            for text in self._connection.read_values() or ():
                self.events.append(event_line(event_object(text), date=False))
        except CtlError:
            self._connection.close()
