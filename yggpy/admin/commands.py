"""The commands of the admin socket (protocol section 13.3): a registry, and the commands that every node has.

A command is a name, a description, the names of its text arguments and an async function. To add one:

    async def get_weather(arguments: Arguments) -> EncodableJson:
        return {"place": arguments["place"], "sunny": True}

    server.commands.add(Command("getWeather", "Show the weather", get_weather, fields=("place",)))

Member names, their order and which are left out when empty are those of the Go node: ``yggdrasilctl`` and many scripts
read them. Durations are seconds (``uptime``) or nanoseconds (``latency``, ``last_error_time``).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cmp_to_key
from typing import Protocol, TypeAlias

from yggpy.admin.jsontext import EncodableJson
from yggpy.admin.protocol import Request, failure, read_arguments, success, success_line
from yggpy.errors import PeerUriError, YggpyError
from yggpy.events.hub import Subscription
from yggpy.questions import Question
from yggpy.status import (
    FirewallStatus,
    HealthStatus,
    LookupStatus,
    MulticastStatus,
    NamesStatus,
    PathStatus,
    PeerStatus,
    SelfStatus,
    SessionStatus,
    TransitStatus,
    TreeEntry,
    TunStatus,
)

__all__ = [
    "AdminNode",
    "AnswerStream",
    "Arguments",
    "Command",
    "CommandError",
    "CommandRegistry",
    "Handler",
    "Streaming",
    "node_commands",
]

Arguments: TypeAlias = Mapping[str, str]


class AnswerStream(Protocol):
    """What follows the answer to a command that goes on: lines, until there are no more or it is closed."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Go through the lines; the clients' connection is closed after the last."""
        ...

    def close(self) -> None:
        """Nobody reads any more. Harmless when repeated."""
        ...


@dataclass(frozen=True, slots=True)
class Streaming:
    """A handler's response that is only the beginning: it is sent on one line, and ``stream`` follows."""

    response: EncodableJson
    stream: AnswerStream


Handler: TypeAlias = Callable[[Arguments], Awaitable["EncodableJson | Streaming"]]

_NANOSECONDS = 1_000_000_000
_UPTIME_DIGITS = 9


class AdminNode(Protocol):
    """What the commands ask of a node; ``yggpy.Node`` has it."""

    async def add_peer(self, uri: str, interface: str = "") -> None:
        """Configure a peering. Raises ``PeerUriError``."""
        ...

    async def remove_peer(self, uri: str, interface: str = "") -> None:
        """Drop a configured peering. Raises ``PeerUriError``."""
        ...

    def status_self(self) -> SelfStatus:
        """Return what ``getSelf`` shows."""
        ...

    def status_peers(self) -> list[PeerStatus]:
        """Return what ``getPeers`` shows, in any order."""
        ...

    def status_tree(self) -> list[TreeEntry]:
        """Return what ``getTree`` shows, in any order."""
        ...

    def status_paths(self) -> list[PathStatus]:
        """Return what ``getPaths`` shows, in any order."""
        ...

    def status_sessions(self) -> list[SessionStatus]:
        """Return what ``getSessions`` shows, in any order."""
        ...

    def status_tun(self) -> TunStatus:
        """Return what ``getTUN`` shows."""
        ...

    def status_firewall(self) -> FirewallStatus | None:
        """Return what ``getFirewall`` shows; None without a packet filter."""
        ...

    def status_multicast(self) -> list[MulticastStatus]:
        """Return what ``getMulticastInterfaces`` shows, in any order."""
        ...

    def status_names(self, key: bytes | None = None) -> NamesStatus | None:
        """Return what ``getHosts`` shows, of one node with ``key``; None: the node has no names."""
        ...

    def status_transit(self) -> TransitStatus:
        """Return what ``getTransit`` shows."""
        ...

    def status_health(self) -> HealthStatus:
        """Return what ``getHealth`` shows."""
        ...

    def events(self, *groups: str) -> Subscription:
        """Return what ``subscribe`` sends. Raises ``SubscriptionError``."""
        ...

    @property
    def logs_lookups(self) -> bool:
        """Whether there is a record of look-ups, and so the command ``lookups``."""
        ...

    def status_lookups(self) -> list[LookupStatus]:
        """Return what ``lookups`` shows, in this order."""
        ...

    async def ask(self, key: bytes, question: Question) -> bytes:
        """Return the answer of another node. Raises ``NoAnswerError``, ``QuestionError``."""
        ...


class CommandError(YggpyError):
    """A command cannot be carried out; the client is told the text."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command. ``fields`` are its text arguments; ``request_type`` is Go's name for them, used in error texts.

    ``handler(arguments)`` gets a string for each field ("" when absent) and returns the response. It raises any
    ``YggpyError`` to tell the client that it failed. A command with ``request_type`` None ignores arguments.
    """

    name: str
    description: str
    handler: Handler
    fields: tuple[str, ...] = ()
    unlisted_fields: tuple[str, ...] = dataclass_field(default=(), kw_only=True)
    """Further ones, which ``list`` does not show."""
    offered: Callable[[], bool] = dataclass_field(default=lambda: True, kw_only=True)
    """Whether there is such a command just now."""
    request_type: str | None = "admin.Request"


class CommandRegistry:
    """All commands of one admin socket, by name without regard to case. It brings ``list`` along."""

    def __init__(self, commands: Iterable[Command] = (), *, logger: logging.Logger | None = None) -> None:
        self._logger = logger if logger is not None else logging.getLogger("yggpy")
        self._commands: dict[str, Command] = {}
        self.add(Command("list", "List available commands", self._list, request_type=None))
        for command in commands:
            self.add(command)

    def add(self, command: Command) -> None:
        """Add ``command``. Raises ``ValueError`` when its name is taken."""
        name = command.name.lower()
        if name in self._commands:
            raise ValueError(f"admin command {command.name} exists already")
        self._commands[name] = command

    def get(self, name: str) -> Command:
        """Return the command ``name``. Raises ``KeyError``."""
        return self._commands[name.lower()]

    def replace(self, command: Command) -> None:
        """Put ``command`` in the place of the one with its name."""
        self._commands[command.name.lower()] = command

    async def answer(self, request: Request, go_on: Callable[[AnswerStream], None] | None = None) -> bytes:
        """Carry out ``request`` and return the answer to be sent. Raises nothing but ``CancelledError``.

        ``go_on`` gets what is to be sent after that, if the command is of that kind.
        """
        if not request.name:
            return failure(request, "no request specified")
        name = request.name.lower()
        command = self._commands.get(name)
        if command is None or not command.offered():
            return failure(request, f"unknown action '{name}', try 'list' for help")
        try:
            arguments: Arguments = {}
            if command.request_type is not None:
                arguments = read_arguments(
                    request.arguments, (*command.fields, *command.unlisted_fields), command.request_type
                )
            response = await command.handler(arguments)
            if not isinstance(response, Streaming):
                return success(request, response)
            if go_on is None:
                response.stream.close()
                return failure(request, f"{name} needs a connection of its own")
            go_on(response.stream)
            return success_line(request, response.response)
        except YggpyError as error:
            return failure(request, str(error))
        except Exception as error:
            self._logger.exception("Admin command %s failed; this is a bug in the node, please report it", command.name)
            return failure(request, f"internal error: {error!r}")

    async def _list(self, arguments: Arguments) -> EncodableJson:
        entries: list[EncodableJson] = []
        for name, command in sorted(self._commands.items()):
            if not command.offered():
                continue
            entry: dict[str, EncodableJson] = {"command": name, "description": command.description}
            if command.fields:
                entry["fields"] = command.fields
            entries.append(entry)
        return {"list": entries}


def node_commands(node: AdminNode, build_name: str, build_version: str) -> list[Command]:
    """Return the commands that show and change ``node``."""

    async def get_self(arguments: Arguments) -> EncodableJson:
        status = node.status_self()
        return {
            "build_name": build_name,
            "build_version": build_version,
            "key": status.key.hex(),
            "address": status.address,
            "routing_entries": status.routing_entries,
            "subnet": status.subnet,
        }

    async def get_peers(arguments: Arguments) -> EncodableJson:
        order = _PEER_ORDERS.get(arguments["sort"].lower(), _by_direction)
        return {"peers": [_peer(peer) for peer in sorted(node.status_peers(), key=cmp_to_key(order))]}

    async def get_tree(arguments: Arguments) -> EncodableJson:
        entries = sorted(node.status_tree(), key=lambda entry: entry.key)
        return {
            "tree": [
                {
                    "address": entry.address,
                    "key": entry.key.hex(),
                    "parent": entry.parent.hex(),
                    "sequence": entry.sequence,
                }
                for entry in entries
            ]
        }

    async def get_paths(arguments: Arguments) -> EncodableJson:
        paths = sorted(node.status_paths(), key=lambda path: path.key)
        return {
            "paths": [
                {"address": path.address, "key": path.key.hex(), "path": path.path, "sequence": path.sequence}
                for path in paths
            ]
        }

    async def get_sessions(arguments: Arguments) -> EncodableJson:
        sessions = sorted(node.status_sessions(), key=lambda session: session.key)
        return {
            "sessions": [
                {
                    "address": session.address,
                    "key": session.key.hex(),
                    "bytes_recvd": session.bytes_received,
                    "bytes_sent": session.bytes_sent,
                    "uptime": round(session.uptime, _UPTIME_DIGITS),
                }
                for session in sessions
            ]
        }

    async def get_tun(arguments: Arguments) -> EncodableJson:
        status = node.status_tun()
        return {"enabled": status.enabled, **_present(name=status.name, mtu=status.mtu)}

    async def get_multicast_interfaces(arguments: Arguments) -> EncodableJson:
        return {
            "multicast_interfaces": [
                {
                    "name": interface.name,
                    "address": interface.address or "-",
                    "beacon": interface.beacon,
                    "listen": interface.listen,
                    "password": interface.password,
                }
                for interface in sorted(node.status_multicast(), key=lambda interface: interface.name)
            ]
        }

    async def lookups(arguments: Arguments) -> EncodableJson:
        return {
            "infos": [
                {"addr": entry.address, "key": entry.key.hex(), "path": entry.path, "time": entry.time}
                for entry in node.status_lookups()
            ]
        }

    async def add_peer(arguments: Arguments) -> EncodableJson:
        await _peering(node.add_peer, arguments)
        return {}

    async def remove_peer(arguments: Arguments) -> EncodableJson:
        await _peering(node.remove_peer, arguments)
        return {}

    peer_fields = ("uri", "interface")
    return [
        Command("getSelf", "Show details about this node", get_self, request_type="admin.GetSelfRequest"),
        Command(
            "getPeers", "Show directly connected peers", get_peers, ("sort",), request_type="admin.GetPeersRequest"
        ),
        Command("getTree", "Show known Tree entries", get_tree, request_type="admin.GetTreeRequest"),
        Command(
            "getPaths", "Show established paths through this node", get_paths, request_type="admin.GetPathsRequest"
        ),
        Command(
            "getSessions",
            "Show established traffic sessions with remote nodes",
            get_sessions,
            request_type="admin.GetSessionsRequest",
        ),
        Command("getTUN", "Show information about the node's TUN interface", get_tun, request_type="tun.GetTUNRequest"),
        Command(
            "getMulticastInterfaces",
            "Show which interfaces multicast is enabled on",
            get_multicast_interfaces,
            request_type="multicast.GetMulticastInterfacesRequest",
        ),
        Command("addPeer", "Add a peer to the peer list", add_peer, peer_fields, request_type="admin.AddPeerRequest"),
        Command(
            "removePeer",
            "Remove a peer from the peer list",
            remove_peer,
            peer_fields,
            request_type="admin.RemovePeerRequest",
        ),
        # Go's text promises an hour and means a day; tools may compare it.
        Command(
            "lookups",
            "Dump a record of lookups received in the past hour",
            lookups,
            request_type=None,
            offered=lambda: node.logs_lookups,
        ),
    ]


async def _peering(change: Callable[[str, str], Awaitable[None]], arguments: Arguments) -> None:
    try:
        await change(arguments["uri"], arguments["interface"])
    except PeerUriError as error:
        text = str(error)
        # What net/url says of a URI that it cannot read begins with "parse"; only there Go's admin socket adds this.
        raise CommandError(f"unable to parse peering URI: {text}" if text.startswith("parse ") else text) from error


def _present(**members: EncodableJson) -> dict[str, EncodableJson]:
    """Return the members that are neither zero nor empty."""
    return {name: value for name, value in members.items() if value}


def _peer(peer: PeerStatus) -> dict[str, EncodableJson]:
    failed = peer.last_error is not None
    return {
        **_present(remote=peer.uri),
        "up": peer.up,
        "inbound": peer.inbound,
        **_present(address=peer.address),
        "key": _peer_key(peer),
        "port": peer.port,
        "priority": peer.priority,
        "cost": peer.cost,
        **_present(
            bytes_recvd=peer.bytes_received,
            bytes_sent=peer.bytes_sent,
            rate_recvd=peer.receive_rate,
            rate_sent=peer.send_rate,
            uptime=round(peer.uptime, _UPTIME_DIGITS),
            latency=max(0, round(peer.latency * _NANOSECONDS)),
            last_error_time=round(peer.last_error_age * _NANOSECONDS) if failed else 0,
            last_error=peer.last_error,
        ),
    }


def _peer_key(peer: PeerStatus) -> str:
    return "" if peer.key is None else peer.key.hex()


def _compare(first: tuple[object, ...], second: tuple[object, ...]) -> int:
    return (first > second) - (first < second)


# Go truncates a difference of uptimes to whole seconds, so less than one counts as equal.


def _by_direction(a: PeerStatus, b: PeerStatus) -> int:
    known = _compare(
        (a.inbound, _peer_key(a), a.priority, a.cost),
        (b.inbound, _peer_key(b), b.priority, b.cost),
    )
    return known or int(a.uptime - b.uptime)


def _by_cost(a: PeerStatus, b: PeerStatus) -> int:
    return _compare((a.cost, _peer_key(a), a.priority), (b.cost, _peer_key(b), b.priority)) or int(a.uptime - b.uptime)


def _by_uptime(a: PeerStatus, b: PeerStatus) -> int:
    if a.uptime != b.uptime:
        return int(a.uptime - b.uptime)
    return _compare((_peer_key(a), a.priority, a.cost), (_peer_key(b), b.priority, b.cost))


_PEER_ORDERS: dict[str, Callable[[PeerStatus, PeerStatus], int]] = {"cost": _by_cost, "uptime": _by_uptime}
