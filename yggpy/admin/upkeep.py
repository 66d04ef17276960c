"""What the admin socket can do to the configuration behind a node, and Go's cannot: the command ``reload``."""

from __future__ import annotations

from typing import Protocol

from yggpy.admin.commands import Arguments, Command, CommandRegistry
from yggpy.admin.jsontext import EncodableJson
from yggpy.reload import ReloadReport

__all__ = ["Upkeep", "add_upkeep"]


class Upkeep(Protocol):
    """Whoever looks after the configuration of a running node."""

    async def reload(self) -> ReloadReport:
        """Read the configuration again and let the node follow. Raises ``YggpyError``."""
        ...


def add_upkeep(commands: CommandRegistry, upkeep: Upkeep) -> None:
    """Give ``commands`` what ``upkeep`` can do."""

    async def reload(arguments: Arguments) -> EncodableJson:
        report = await upkeep.reload()
        return {"changes": report.changes, "warnings": report.warnings}

    commands.add(Command("reload", "Read the configuration file again", reload, request_type=None))
