"""Commands of the admin socket that the Go node does not have; those that it has are in ``commands``."""

from __future__ import annotations

from dataclasses import asdict

from yggpy.address import Address
from yggpy.admin.commands import AdminNode, Arguments, Command
from yggpy.admin.jsontext import EncodableJson
from yggpy.admin.remote import read_public_key
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

    async def get_hosts(arguments: Arguments) -> EncodableJson:
        text = arguments["key"]
        status = node.status_names(read_public_key(text) if text else None)
        if status is None:
            return {"enabled": False}
        return {
            "enabled": True,
            "domain": status.domain,
            "key": status.key.hex(),
            "address": str(Address.for_key(status.key)),
            "pk_name": status.key_names[0],
            "pk_name_base32": status.key_names[1],
            "hosts": [
                {
                    "name": host.name,
                    "address": host.address,
                    "source": host.source,
                    **({} if host.key is None else {"key": host.key.hex()}),
                }
                for host in status.hosts
            ],
            "rejected": [
                {"key": each.key.hex(), "name": each.name, "reason": each.reason} for each in status.rejected
            ],
            "silent": [key.hex() for key in status.silent],
            "listening": list(status.listening),
            "queries": asdict(status.counters),
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
            "getHosts",
            "Show the names of nodes that this node knows, and where they come from",
            get_hosts,
            ("key",),
            request_type="admin.GetHostsRequest",
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
