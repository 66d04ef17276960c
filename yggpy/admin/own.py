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

    async def get_health(arguments: Arguments) -> EncodableJson:
        return {**node.status_health().members()}

    async def get_firewall(arguments: Arguments) -> EncodableJson:
        status = node.status_firewall()
        if status is None:
            return {"enabled": False}
        return {
            "enabled": True,
            "max_flows": status.max_flows,
            "flows": status.flows,
            "flows_evicted": status.evicted,
            "established": status.established,
            "icmp_errors": status.errors,
            "fragments": status.fragments,
            "denied": status.denied,
            "malformed": status.malformed,
            "rules": [{"name": name, "allowed": allowed} for name, allowed in status.rules],
        }

    return [
        subscribe_command(node),
        Command(
            "getFirewall",
            "Show what the packet filter has let in and denied",
            get_firewall,
            request_type="admin.GetFirewallRequest",
        ),
        Command(
            "getHealth",
            "Show whether this node is ready to be used, and if not, why",
            get_health,
            request_type="admin.GetHealthRequest",
        ),
        Command(
            "getTransit",
            "Show whether this node forwards for others, and what it has refused to",
            get_transit,
            request_type="admin.GetTransitRequest",
        ),
    ]
