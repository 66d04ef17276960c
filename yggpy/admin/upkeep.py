"""What the admin socket can do to the configuration behind a node, and Go's cannot: the command ``reload``, and
``persist=true`` for ``addPeer`` and ``removePeer``, which keeps the change in the configuration file.

Without that argument both commands answer as Go's do, byte by byte, and ``list`` shows them as Go's does.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Protocol

from yggpy.admin.commands import Arguments, Command, CommandError, CommandRegistry, Handler, Streaming
from yggpy.admin.jsontext import EncodableJson
from yggpy.errors import YggpyError
from yggpy.reload import ReloadReport

__all__ = ["Upkeep", "add_upkeep"]

_PERSIST = "persist"
_YES_NO = {"": False, "false": False, "true": True}
_ALREADY_THERE = "peer is already configured"
_NOT_THERE = "peer is not configured"


class Upkeep(Protocol):
    """Whoever looks after the configuration of a running node."""

    async def reload(self) -> ReloadReport:
        """Read the configuration again and let the node follow. Raises ``YggpyError``."""
        ...

    async def keep_peer(self, uri: str, interface: str) -> bool:
        """Write the peer into the file; False if it is there already. Raises ``YggpyError`` if that cannot be done."""
        ...

    async def drop_peer(self, uri: str, interface: str) -> bool:
        """Take the peer out of the file; False if it is not there. Raises ``YggpyError`` if that cannot be done."""
        ...


def add_upkeep(commands: CommandRegistry, upkeep: Upkeep) -> None:
    """Give ``commands``, which have ``addPeer`` and ``removePeer``, what ``upkeep`` can do."""
    one_at_a_time = asyncio.Lock()

    async def reload(arguments: Arguments) -> EncodableJson:
        report = await upkeep.reload()
        return {"changes": report.changes, "warnings": report.warnings}

    def kept(add: Handler, remove: Handler) -> Handler:
        async def add_peer(arguments: Arguments) -> EncodableJson | Streaming:
            if not _persist(arguments):
                return await add(arguments)
            async with one_at_a_time:
                return await _add_and_keep(add, remove, upkeep, arguments)

        return add_peer

    def dropped(remove: Handler) -> Handler:
        async def remove_peer(arguments: Arguments) -> EncodableJson | Streaming:
            if not _persist(arguments):
                return await remove(arguments)
            async with one_at_a_time:
                return await _drop_and_remove(remove, upkeep, arguments)

        return remove_peer

    add, remove = commands.get("addPeer"), commands.get("removePeer")
    commands.add(Command("reload", "Read the configuration file again", reload, request_type=None))
    commands.replace(dataclasses.replace(add, handler=kept(add.handler, remove.handler), unlisted_fields=(_PERSIST,)))
    commands.replace(dataclasses.replace(remove, handler=dropped(remove.handler), unlisted_fields=(_PERSIST,)))


def _persist(arguments: Arguments) -> bool:
    answer = _YES_NO.get(arguments[_PERSIST].lower())
    if answer is None:
        raise CommandError(f'{_PERSIST} must be true or false, not "{arguments[_PERSIST]}"')
    return answer


async def _add_and_keep(add: Handler, remove: Handler, upkeep: Upkeep, arguments: Arguments) -> EncodableJson:
    """Add, then write; what cannot be written is not added either."""
    added = True
    try:
        await add(arguments)
    except YggpyError as error:
        if str(error) != _ALREADY_THERE:
            raise
        added = False  # perhaps not in the file yet
    try:
        written = await upkeep.keep_peer(arguments["uri"], arguments["interface"])
    except YggpyError:
        if added:
            await remove(arguments)
        raise
    if not written and not added:
        raise CommandError(_ALREADY_THERE)
    return {}


async def _drop_and_remove(remove: Handler, upkeep: Upkeep, arguments: Arguments) -> EncodableJson:
    """Write, then remove: what cannot be written stays."""
    written = await upkeep.drop_peer(arguments["uri"], arguments["interface"])
    try:
        await remove(arguments)
    except YggpyError as error:
        if not written or str(error) != _NOT_THERE:
            raise
    return {}
