"""Commands of the admin socket that the Go node does not have; those that it has are in ``commands``."""

from __future__ import annotations

from yggpy.admin.commands import AdminNode, Arguments, Command
from yggpy.admin.jsontext import EncodableJson
from yggpy.admin.subscribe import subscribe_command

__all__ = ["own_commands"]


def own_commands(node: AdminNode) -> list[Command]:
    """Return the commands for ``node``."""

    async def get_transit(arguments: Arguments) -> EncodableJson:
        status = node.status_transit()
        return {
            "enabled": status.enabled,
            "resting_peers": [key.hex() for key in status.resting_peers],
            "refused": status.refused,
        }

    return [
        subscribe_command(node),
        Command(
            "getTransit",
            "Show whether this node forwards for others, and what it has refused to",
            get_transit,
            request_type="admin.GetTransitRequest",
        ),
    ]
