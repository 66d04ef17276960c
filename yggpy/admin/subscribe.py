"""``subscribe``: a client is told what happens in the node, one JSON object on a line, for as long as it stays.

The first line says that it began; ``docs/subscribe.md`` says what the others hold. The Go node has no such command.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from yggpy.admin.commands import AdminNode, Arguments, Command, Streaming
from yggpy.events.hub import Subscription
from yggpy.events.model import GROUPS

__all__ = ["subscribe_command"]


class _Lines:
    """A subscription as lines of JSON."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for event in self._subscription:
            yield json.dumps(event.as_json(), separators=(",", ":")).encode() + b"\n"

    def close(self) -> None:
        self._subscription.close()


def subscribe_command(node: AdminNode) -> Command:
    """Return the command for ``node``."""

    async def subscribe(arguments: Arguments) -> Streaming:
        names = [name.strip().lower() for name in arguments["events"].split(",")]
        subscription = node.events(*(name for name in names if name))
        groups = [group for group in GROUPS if group in subscription.groups]
        return Streaming({"events": groups}, _Lines(subscription))

    return Command(
        "subscribe",
        f"Tell what happens, one line of JSON each, until the client closes (events: some of {','.join(GROUPS)})",
        subscribe,
        ("events",),
        request_type="admin.SubscribeRequest",
    )
