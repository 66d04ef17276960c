"""``yggpy-ctl watch``: peers, rates, the place in the tree and sessions, looked at again and again.

On a terminal it is one page that changes, cut to the terminal's size; into a pipe it is one block after the other. All
of it is what ``getSelf``, ``getPeers``, ``getTree`` and ``getSessions`` show, so that it works with the Go node, too. A
node that stops to answer is asked on: the last that is known of it stays, with the reason above it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from yggpy.ctl.answers import Entry, shown_failure, shown_rate, shown_uri
from yggpy.ctl.client import AdminConnection
from yggpy.ctl.errors import CtlError
from yggpy.ctl.figures import data_size, milliseconds, whole_seconds
from yggpy.ctl.tables import Table, render_table
from yggpy.printable import printable

if TYPE_CHECKING:
    from yggpy.ctl.commands import Invocation

__all__ = ["Snapshot", "page", "take", "watch"]

_DEFAULT_INTERVAL = 1.0
_MIN_INTERVAL = 0.1
_MAX_INTERVAL = 3600.0
_PEER_TITLES = ("Peer", "IP Address", "Uptime", "RTT", "Down", "Up", "Cost", "Last Error")
_SESSION_TITLES = ("Session with", "Uptime", "RX", "TX")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a node said of itself at one time; the lists are objects of its answers."""

    node: Entry
    peers: list[Entry]
    tree: list[Entry]
    sessions: list[Entry]


def take(connection: AdminConnection) -> Snapshot:
    """Ask a node for everything, on one connection. Raises ``CtlError``."""

    def ask(command: str) -> Entry:
        return Entry(connection.request(command, keepalive=True).value())

    return Snapshot(
        ask("getSelf"),
        ask("getPeers").entries("peers"),
        ask("getTree").entries("tree"),
        ask("getSessions").entries("sessions"),
    )


def page(snapshot: Snapshot, height: int | None = None) -> list[str]:
    """Return the lines of one page, at most ``height`` of them: sessions give way first, then peers."""
    head = [*_head(snapshot), ""]
    peers = _lines(_PEER_TITLES, [_peer_row(peer) for peer in sorted(snapshot.peers, key=_by_rate)])
    sessions = _lines(_SESSION_TITLES, [_session_row(each) for each in sorted(snapshot.sessions, key=_by_bytes)])
    if height is not None:
        room = max(height - len(head) - 1, 2)
        peers = _cut(peers, max(room - len(sessions), room - room // 3))
        sessions = _cut(sessions, room - len(peers))
    lines = [*head, *peers, "", *sessions]
    return lines if height is None else lines[:height]


def _head(snapshot: Snapshot) -> list[str]:
    node = snapshot.node
    up = sum(peer.flag("up") for peer in snapshot.peers)
    parents = {entry.text("key"): entry.text("parent") for entry in snapshot.tree}
    addresses = {entry.text("key"): entry.text("address") for entry in snapshot.tree}
    way = [node.text("key")]
    while (above := parents.get(way[-1], way[-1])) not in way:
        way.append(above)
    if len(way) == 1:
        place = "the root"
    else:
        parent, root = (addresses.get(key, key) for key in (way[1], way[-1]))
        place = f"{len(way) - 1} below the root {root}, parent {parent}"
    return [
        printable(f"{node.text('address')}  {node.text('build_name')} {node.text('build_version')}"),
        printable(f"{up} of {len(snapshot.peers)} peers up, {len(snapshot.tree)} nodes in the tree, {place}"),
    ]


def _by_rate(peer: Entry) -> tuple[bool, int, str]:
    return (not peer.flag("up"), -peer.whole("rate_recvd") - peer.whole("rate_sent"), peer.text("remote"))


def _by_bytes(session: Entry) -> int:
    return -session.whole("bytes_recvd") - session.whole("bytes_sent")


def _peer_row(peer: Entry) -> tuple[str, ...]:
    if not peer.flag("up"):
        return (shown_uri(peer.text("remote")), "-", "down", "-", "-", "-", "-", shown_failure(peer))
    return (
        shown_uri(peer.text("remote")),
        peer.text("address"),
        whole_seconds(peer.seconds("uptime")),
        milliseconds(peer.whole("latency")) or "-",
        shown_rate(peer.whole("rate_recvd")),
        shown_rate(peer.whole("rate_sent")),
        str(peer.whole("cost")),
        "-",
    )


def _session_row(session: Entry) -> tuple[str, ...]:
    return (
        session.text("address"),
        whole_seconds(session.seconds("uptime")),
        data_size(session.whole("bytes_recvd")),
        data_size(session.whole("bytes_sent")),
    )


def _lines(titles: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    return render_table(Table(titles, rows), borders=False).rstrip("\n").split("\n")


def _cut(lines: list[str], room: int) -> list[str]:
    if len(lines) <= room:
        return lines
    kept = max(room - 1, 0)
    return [*lines[:kept], f" ... and {len(lines) - kept} more"][: max(room, 0)]


def watch(invocation: Invocation) -> int:
    """Show a page every ``interval`` seconds, ``count`` times or until Ctrl-C. The first may raise ``CtlError``."""
    interval = _number(invocation, "interval", _DEFAULT_INTERVAL, _MIN_INTERVAL, _MAX_INTERVAL)
    count = int(_number(invocation, "count", 0, 0, 1 << 31))
    with invocation.connection() as connection:
        show = _Terminal() if sys.stdout is not None and sys.stdout.isatty() else _Pipe()
        with show:
            return _go_on(connection, show, interval, count)


def _go_on(connection: AdminConnection, show: _Pipe | _Terminal, interval: float, count: int) -> int:
    known = take(connection)
    trouble, since, shown = "", "", 0
    try:
        while True:
            lines = page(known, show.height(2 if trouble else 0))
            show([f"no answer since {since}: {trouble}", "", *lines] if trouble else lines)
            shown += 1
            if shown == count:
                return 0
            time.sleep(interval)
            try:
                known, trouble = take(connection), ""
            except CtlError as error:
                since = since if trouble else time.strftime("%H:%M:%S")
                trouble = printable(str(error))
    except KeyboardInterrupt:
        return 0


def _number(invocation: Invocation, name: str, default: float, least: float, most: float) -> float:
    text = invocation.arguments.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise CtlError(f'{name}="{text}" must be a number from {least:g} to {most:g}')
    return number


class _Pipe:
    """One block after the other, each ended by an empty line."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def height(self, taken: int) -> int | None:
        """Lines that there are for a page."""
        return None

    def __call__(self, lines: list[str]) -> None:
        from yggpy.ctl.commands import write

        write("\n".join(line.rstrip() for line in lines) + "\n\n")


class _Terminal:
    """One page on a screen of its own; what was on the terminal comes back at the end."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(markup=False, emoji=False, highlight=False)
        self._live = Live(console=self._console, screen=True, auto_refresh=False)

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def height(self, taken: int) -> int | None:
        """Lines that there are for a page."""
        return self._console.height - taken

    def __call__(self, lines: list[str]) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
