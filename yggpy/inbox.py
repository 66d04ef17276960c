"""What has come for the program around a node and waits until it is fetched."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from yggpy.errors import YggpyError

__all__ = ["RECEIVE_QUEUE_BYTES", "RECEIVE_QUEUE_LIMIT", "Inbox", "NodeClosedError"]

RECEIVE_QUEUE_LIMIT = 1024
"""Datagrams, and IPv6 packets, that may wait for ``receive``; when full, newly arrived ones are dropped."""
RECEIVE_QUEUE_BYTES = 8 << 20
"""Bytes of all those datagrams, and of all those packets. Same policy."""

_T = TypeVar("_T")


class NodeClosedError(YggpyError):
    """The node was closed while something was awaited from it."""


class Inbox(Generic[_T]):
    """A bounded queue whose readers are told when the node closes."""

    def __init__(self) -> None:
        self._items: deque[tuple[_T, int]] = deque()
        self._bytes = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._closed = False
        self.dropped = 0

    def put(self, item: _T, size: int) -> None:
        """Add an item of ``size`` bytes, if there is room."""
        if len(self._items) >= RECEIVE_QUEUE_LIMIT or self._bytes + size > RECEIVE_QUEUE_BYTES:
            self.dropped += 1
            return
        self._items.append((item, size))
        self._bytes += size
        self._wake()

    async def get(self) -> _T:
        """Wait for an item. Raises ``NodeClosedError``."""
        while not self._items:
            if self._closed:
                raise NodeClosedError("the node is closed")
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                else:
                    self._wake()  # what came for this reader is for the next one
                raise
        item, size = self._items.popleft()
        self._bytes -= size
        return item

    def close(self) -> None:
        """Let everybody who waits go."""
        self._closed = True
        while self._waiters:
            self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
