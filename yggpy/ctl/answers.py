"""What each answer of a node looks like to people: the columns of ``yggdrasilctl`` (protocol sections 13.3 and 14.4).

A renderer turns the answer to one command into a table, or into text, or into None for nothing at all. To add one:

    @renders("getWeather")
    def _weather(answer: Answer) -> Table:
        place = Entry(answer.value())
        return Table(("Place", "Sunny"), [(place.text("place"), yes_or_dash(place.flag("sunny")))])

A command without a renderer is shown as the JSON that came.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from yggpy.ctl.client import Answer, members
from yggpy.ctl.errors import AnswerError
from yggpy.ctl.figures import data_size, milliseconds, rounded_seconds, whole_seconds
from yggpy.ctl.tables import Table
from yggpy.errors import PeerUriError
from yggpy.links.url import parse_url
from yggpy.printable import printable, printable_json

__all__ = ["Entry", "Renderer", "render", "renders", "shown_failure", "shown_rate", "shown_uri", "yes_or_dash"]

Renderer: TypeAlias = Callable[[Answer], Table | str | None]

_renderers: dict[str, Renderer] = {}
_LIMIT = 1 << 64
_FIREWALL_COUNTERS = (
    *("flows", "max_flows", "flows_evicted", "established"),
    *("icmp_errors", "fragments", "denied", "malformed"),
)
_KINDS = {bool: "a truth value", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def renders(*commands: str) -> Callable[[Renderer], Renderer]:
    """Register the decorated function for these commands. Raises ``ValueError`` when one has a renderer."""

    def register(renderer: Renderer) -> Renderer:
        for command in commands:
            if _renderers.setdefault(command.lower(), renderer) is not renderer:
                raise ValueError(f"{command} has a renderer already")
        return renderer

    return register


def render(command: str, answer: Answer) -> Table | str | None:
    """Return what is shown of the answer to ``command``; text without a newline at its end.

    Raises ``AnswerError`` when the answer is not of the form that the command has.
    """
    renderer = _renderers.get(command.lower())
    return printable_json(answer.text) if renderer is None else renderer(answer)


class Entry:
    """An object of an answer. What is absent or null reads as empty or zero; of a wrong type is an ``AnswerError``."""

    def __init__(self, value: Any, name: str = "response") -> None:
        self._members = _checked({} if value is None else value, dict, name)
        self._name = name

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self._get(name, str, ""))

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return bool(self._get(name, bool, False))

    def whole(self, name: str) -> int:
        """Return a whole number."""
        return _whole(self._get(name, int, 0), self._path(name))

    def seconds(self, name: str) -> int:
        """Return the whole seconds of a number that may have a fraction."""
        value = self._get(name, float, 0)
        if not math.isfinite(value) or abs(value) >= _LIMIT:
            raise AnswerError(f"{self._path(name)} in the node's answer is too large")
        return int(value)

    def names(self) -> list[str]:
        """Return the names of all members, in their order."""
        return list(self._members)

    def entry(self, name: str) -> Entry:
        """Return an object."""
        return Entry(self._members.get(name), self._path(name))

    def entries(self, name: str) -> list[Entry]:
        """Return a list of objects."""
        path = self._path(name)
        return [Entry(value, f"{path}[{index}]") for index, value in enumerate(self._get(name, list, []))]

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        path = self._path(name)
        return [_checked(value, str, f"{path}[{index}]") for index, value in enumerate(self._get(name, list, []))]

    def numbers(self, name: str) -> list[int]:
        """Return a list of whole numbers."""
        path = self._path(name)
        return [_whole(value, f"{path}[{index}]") for index, value in enumerate(self._get(name, list, []))]

    def _path(self, name: str) -> str:
        return f"{self._name}.{name}"

    def _get(self, name: str, kind: type, default: Any) -> Any:
        value = self._members.get(name)
        return default if value is None else _checked(value, kind, self._path(name))


def _checked(value: Any, kind: type, path: str) -> Any:
    # JSON has no whole numbers, Python's true is one, and a float is what may be whole.
    fits = type(value) in (int, float) if kind in (int, float) else type(value) is kind
    if not fits:
        raise AnswerError(f"{path} in the node's answer is not {_KINDS[kind]}; -json shows the answer as it is")
    return value


def _whole(value: Any, path: str) -> int:
    number = _checked(value, int, path)
    if not math.isfinite(number) or number != int(number) or abs(number) >= _LIMIT:
        raise AnswerError(f"{path} in the node's answer is not a whole number of 64 bits; -json shows it as it is")
    return int(number)


def yes_or_dash(value: bool) -> str:
    """Return a truth value as ``yggdrasilctl`` shows it in a column."""
    return "Yes" if value else "-"


# -- commands ------------------------------------------------------------------------------------------------


@renders("list")
def _list(answer: Answer) -> Table:
    return Table(
        ("Command", "Arguments", "Description"),
        [
            (
                entry.text("command"),
                ", ".join(f"{field}=..." for field in entry.texts("fields")),
                entry.text("description"),
            )
            for entry in Entry(answer.value()).entries("list")
        ],
    )


@renders("getSelf")
def _self(answer: Answer) -> Table:
    node = Entry(answer.value())
    return Table(
        (),
        [
            ("Build name:", node.text("build_name")),
            ("Build version:", node.text("build_version")),
            ("IPv6 address:", node.text("address")),
            ("IPv6 subnet:", node.text("subnet")),
            ("Routing table size:", str(node.whole("routing_entries"))),
            ("Public key:", node.text("key")),
        ],
    )


@renders("getPeers")
def _peers(answer: Answer) -> Table:
    titles = (
        *("URI", "State", "Dir", "IP Address", "Uptime", "RTT", "RX", "TX"),
        *("Down", "Up", "Pr", "Cost", "Last Error"),
    )
    return Table(titles, [_peer(entry) for entry in Entry(answer.value()).entries("peers")])


def _peer(peer: Entry) -> tuple[str, ...]:
    up = peer.flag("up")
    return (
        shown_uri(peer.text("remote")),
        "Up" if up else "Down",
        "In" if peer.flag("inbound") else "Out",
        peer.text("address"),
        whole_seconds(peer.seconds("uptime")),
        (up and milliseconds(peer.whole("latency"))) or "-",
        data_size(peer.whole("bytes_recvd")),
        data_size(peer.whole("bytes_sent")),
        shown_rate(peer.whole("rate_recvd")),
        shown_rate(peer.whole("rate_sent")),
        str(peer.whole("priority")),
        str(peer.whole("cost")),
        "-" if up else shown_failure(peer),
    )


def shown_failure(peer: Entry) -> str:
    """Return why a peer of ``getPeers`` is down, and since when."""
    failure = peer.text("last_error")
    return f"{rounded_seconds(peer.whole('last_error_time'))} ago: {failure}" if failure else "-"


def shown_rate(size: int) -> str:
    """Return bytes in a second for a table."""
    return f"{data_size(size)}/s" if size else "-"


def shown_uri(uri: str) -> str:
    """Return ``uri`` without its query, which may hold a password."""
    try:
        return str(parse_url(uri).without_query())
    except PeerUriError:
        return uri


@renders("getTree")
def _tree(answer: Answer) -> Table:
    return Table(
        ("Public Key", "IP Address", "Parent", "Sequence"),
        [
            (entry.text("key"), entry.text("address"), entry.text("parent"), str(entry.whole("sequence")))
            for entry in Entry(answer.value()).entries("tree")
        ],
    )


@renders("getPaths")
def _paths(answer: Answer) -> Table:
    return Table(
        ("Public Key", "IP Address", "Path", "Seq"),
        [
            (
                entry.text("key"),
                entry.text("address"),
                f"[{' '.join(map(str, entry.numbers('path')))}]",
                str(entry.whole("sequence")),
            )
            for entry in Entry(answer.value()).entries("paths")
        ],
    )


@renders("getSessions")
def _sessions(answer: Answer) -> Table:
    return Table(
        ("Public Key", "IP Address", "Uptime", "RX", "TX"),
        [
            (
                entry.text("key"),
                entry.text("address"),
                whole_seconds(entry.seconds("uptime")),
                data_size(entry.whole("bytes_recvd")),
                data_size(entry.whole("bytes_sent")),
            )
            for entry in Entry(answer.value()).entries("sessions")
        ],
    )


@renders("getMulticastInterfaces")
def _multicast_interfaces(answer: Answer) -> Table:
    return Table(
        ("Name", "Listen Address", "Beacon", "Listen", "Password"),
        [
            (
                entry.text("name"),
                entry.text("address"),
                *(yes_or_dash(entry.flag(name)) for name in ("beacon", "listen", "password")),
            )
            for entry in Entry(answer.value()).entries("multicast_interfaces")
        ],
    )


@renders("getTUN")
def _tun(answer: Answer) -> Table:
    tun = Entry(answer.value())
    rows = [("TUN enabled:", str(tun.flag("enabled")).lower())]
    if tun.flag("enabled"):
        rows += [("Interface name:", tun.text("name")), ("Interface MTU:", str(tun.whole("mtu")))]
    return Table((), rows)


@renders("getNodeInfo")
def _node_info(answer: Answer) -> str | None:
    """Show the info as it was spelt, without the key that stands before it; the question had it."""
    if answer.value() is None:
        return None
    return next((printable_json(text) for text in members(answer.text).values()), None)


@renders("addPeer", "removePeer")
def _nothing(answer: Answer) -> None:
    return None


@renders("reload")
def _reload(answer: Answer) -> str:
    report = Entry(answer.value())
    lines = [*report.texts("changes"), *(f"warning: {text}" for text in report.texts("warnings"))]
    return "\n".join(printable(line) for line in lines or ["nothing has changed"])


@renders("getFirewall")
def _firewall(answer: Answer) -> Table:
    status = Entry(answer.value())
    if not status.flag("enabled"):
        return Table((), [("Firewall enabled:", "false")])
    counters = [(f"{name.replace('_', ' ').capitalize()}:", str(status.whole(name))) for name in _FIREWALL_COUNTERS]
    rules = [(f"Allowed by {rule.text('name')}:", str(rule.whole("allowed"))) for rule in status.entries("rules")]
    return Table((), [("Firewall enabled:", "true"), *counters, *rules])


@renders("getHealth")
def _health(answer: Answer) -> Table:
    status = Entry(answer.value())
    return Table(
        (),
        [
            ("Ready:", str(status.flag("ready")).lower()),
            ("Reason:", status.text("reason")),
            ("Peers up:", f"{status.whole('up')} of {status.whole('peers')}"),
            ("Configured peers up:", f"{status.whole('configured_up')} of {status.whole('configured')}"),
            ("Parent:", status.text("parent") or "-"),
            *(("Failing peer:", f"{peer.text('remote')} {peer.text('error')}") for peer in status.entries("failing")),
        ],
    )


@renders("getHosts")
def _hosts(answer: Answer) -> Table:
    status = Entry(answer.value())
    if not status.flag("enabled"):
        return Table((), [("Names enabled:", "false")])
    return Table(
        ("Name", "IP Address", "Source", "Public Key"),
        [
            *(
                (host.text("name"), host.text("address"), host.text("source"), host.text("key") or "-")
                for host in status.entries("hosts")
            ),
            (status.text("pk_name"), status.text("address"), "key", status.text("key")),
            *(
                (each.text("name"), "-", f"rejected: {each.text('reason')}", each.text("key"))
                for each in status.entries("rejected")
            ),
        ],
    )


@renders("getTransit")
def _transit(answer: Answer) -> Table:
    status = Entry(answer.value())
    refused = status.entry("refused")
    return Table(
        (),
        [
            ("Transit enabled:", str(status.flag("enabled")).lower()),
            *((f"Refused {name}:", str(refused.whole(name))) for name in refused.names()),
            *(("Resting peer:", key) for key in status.texts("resting_peers")),
        ],
    )
