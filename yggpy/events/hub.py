"""Hands events to whoever listens. Those that happen never wait for those that listen.

A listener has a queue of its own, with a limit. When it is full the oldest event in it is dropped, and the next thing
that the listener gets is an :class:`EventsLost` with their number: what is newest tells most about the present.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

from yggpy.errors import YggpyError
from yggpy.events.model import GROUPS, Event, EventsLost

__all__ = [
    "MAX_QUEUED_EVENTS",
    "MAX_SUBSCRIBERS",
    "EventHub",
    "Publish",
    "Subscription",
    "SubscriptionError",
    "publish_nothing",
]

MAX_SUBSCRIBERS = 32
"""Listeners of one node at a time; a further one is refused."""
MAX_QUEUED_EVENTS = 1024
"""Events that wait for one listener; when there are more, the oldest are dropped and counted."""

Publish = Callable[[Callable[[float], Event]], None]
"""Tells of an event, given as a function of the time, so that nothing is made when nobody listens."""


def publish_nothing(make: Callable[[float], Event]) -> None:
    """Stands for ``publish`` where nobody can listen."""


class SubscriptionError(YggpyError):
    """Somebody cannot listen; the text says why and what to do."""


class Subscription:
    """The events of some groups, in order: ``async for event in subscription``. Ends with ``close`` or with the node.

    One task may read from it. Use as a context manager, or call ``close``.
    """

    def __init__(self, groups: frozenset[str], on_close: Callable[[Subscription], None]) -> None:
        self.groups = groups
        self._on_close = on_close
        self._queue: deque[Event] = deque()
        self._lost = 0
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, event: Event) -> None:
        """Add an event; the oldest one gives way where there is no room."""
        if self._closed:
            return
        if len(self._queue) >= MAX_QUEUED_EVENTS:
            self._queue.popleft()
            self._lost += 1
        self._queue.append(event)
        self._wake()

    def close(self) -> None:
        """Listen no longer. A reader gets what waits, then the end. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            self._on_close(self)
            self._wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            if self._waiter is not None:
                raise RuntimeError("two tasks read from one subscription")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(time=self._queue[0].time, count=lost)
        return self._queue.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class EventHub:
    """The listeners of one node. ``clock`` gives the events' time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._subscriptions: list[Subscription] = []
        self._closed = False

    @property
    def subscribers(self) -> int:
        """How many listen."""
        return len(self._subscriptions)

    def subscribe(self, groups: Iterable[str] = ()) -> Subscription:
        """Listen to the events of ``groups`` (none: all) from now on.

        Raises :class:`SubscriptionError` for a group that does not exist, and when too many listen already.
        """
        wanted = frozenset(groups) or frozenset(GROUPS)
        unknown = sorted(wanted - frozenset(GROUPS))
        if unknown:
            raise SubscriptionError(f'there are no events "{unknown[0]}"; there are: {", ".join(GROUPS)}')
        if self._closed:
            raise SubscriptionError("the node is closed")
        if len(self._subscriptions) >= MAX_SUBSCRIBERS:
            raise SubscriptionError(f"{MAX_SUBSCRIBERS} others subscribe already; close one of them and try again")
        subscription = Subscription(wanted, self._subscriptions.remove)
        self._subscriptions.append(subscription)
        return subscription

    def publish(self, make: Callable[[float], Event]) -> None:
        """Tell all that listen of ``make(time)``; when nobody does, it is not even made."""
        if not self._subscriptions:
            return
        event = make(self._clock())
        for subscription in self._subscriptions:
            if event.group in subscription.groups:
                subscription.put(event)

    def close(self) -> None:
        """End all subscriptions."""
        self._closed = True
        for subscription in list(self._subscriptions):
            subscription.close()
