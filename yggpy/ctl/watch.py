"""``yggpy-ctl watch``: peers, rates, the place in the tree and sessions, looked at again and again.

On a terminal it is one page that changes, cut to the terminal's size; into a pipe it is one block after the other, with
``-json`` one object on a line. All of it is what ``getSelf``, ``getPeers``, ``getTree`` and ``getSessions`` show, so
that it works with the Go node, too; our own adds the last events. A node that stops to answer is asked on: the last
that is known of it stays, with the reason above it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from yggpy.cli.program import until_told_to_stop
from yggpy.ctl.answers import Entry, shown_failure, shown_rate, shown_uri
from yggpy.ctl.client import AdminConnection, members
from yggpy.ctl.commands import write
from yggpy.ctl.errors import CtlError
from yggpy.ctl.feed import EventFeed
from yggpy.ctl.figures import data_size, milliseconds, whole_seconds
from yggpy.ctl.subscribe import one_line
from yggpy.ctl.tables import Table, render_table
from yggpy.printable import printable

if TYPE_CHECKING:
    from yggpy.ctl.commands import Invocation

__all__ = ["Snapshot", "page", "take", "watch"]

_DEFAULT_INTERVAL = 1.0
_MIN_INTERVAL = 0.1
_MAX_INTERVAL = 3600.0
_MAX_COUNT = 1 << 31
_PATIENCE = 2.0
"""Seconds without an answer after which the page says so."""
_DUMB = ("", "dumb", "unknown")
"""What ``TERM`` says of a terminal that can only print lines."""
_PEER_TITLES = ("Peer", "IP Address", "Uptime", "RTT", "Down", "Up", "Cost", "Last Error")
_SESSION_TITLES = ("Session with", "Uptime", "RX", "TX")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a node said of itself at one time; the lists are objects of its answers."""

    node: Entry
    peers: list[Entry]
    tree: list[Entry]
    sessions: list[Entry]
    said: dict[str, str] = field(default_factory=dict)
    """The same as the node spelt it: the JSON of ``self``, ``peers``, ``tree`` and ``sessions``."""


def take(connection: AdminConnection) -> Snapshot:
    """Ask a node for everything, on one connection. Raises ``CtlError``."""

    said: dict[str, str] = {}

    def ask(command: str, name: str) -> list[Entry]:
        answer = connection.request(command, keepalive=True)
        entries = Entry(answer.value()).entries(name)
        said[name] = members(answer.text)[name] if entries else "[]"
        return entries

    answer = connection.request("getSelf", keepalive=True)
    node = Entry(answer.value())
    said["self"] = answer.text or "{}"
    return Snapshot(node, ask("getPeers", "peers"), ask("getTree", "tree"), ask("getSessions", "sessions"), said)


def page(snapshot: Snapshot, height: int | None = None, events: Sequence[str] = (), trouble: str = "") -> list[str]:
    """Return the lines of one page, at most ``height`` of them: events give way first, then sessions, then peers.

    ``trouble`` stands above all, ``events`` at the end, the last of them lowest. Raises ``AnswerError`` for a snapshot
    that cannot be shown.
    """
    head = [*([trouble, ""] if trouble else []), *_head(snapshot), ""]
    peers = _lines(_PEER_TITLES, [_peer_row(peer) for peer in sorted(snapshot.peers, key=_by_rate)])
    sessions = _lines(_SESSION_TITLES, [_session_row(each) for each in sorted(snapshot.sessions, key=_by_bytes)])
    last = list(events)
    if height is not None:
        room = max(height - len(head) - 1, 2)
        reserved = min(len(last), room // 4)  # for events; they also get what the tables leave
        room = max(room - (reserved + 1 if reserved else 0), 2)
        peers = _cut(peers, max(room - len(sessions), room - room // 3))
        sessions = _cut(sessions, room - len(peers))
        last = last[max(len(last) - reserved - (room - len(peers) - len(sessions)), 0) :] if reserved else []
    lines = [*head, *peers, "", *sessions, *(["", *last] if last else [])]
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
    count = _count(invocation)
    with until_told_to_stop():
        show = _choose(invocation)
        with _Watcher(invocation, show) as watcher, show:
            watcher.begin()
            while watcher.shown != count:
                watcher.sleep(interval)
                watcher.go_on()
    return 0


class _Watcher:
    """Asks the node and shows pages; ``shown`` counts them."""

    def __init__(self, invocation: Invocation, show: _Blocks | _Lines | _Terminal) -> None:
        self.shown = 0
        self._show = show
        self._connection = invocation.connection(patience=_PATIENCE, waiting=self._waiting)
        self._feed = EventFeed(invocation.connection(answer_timeout=_PATIENCE))
        self._known: Snapshot | None = None
        self._trouble = ""
        self._last_answer = time.time()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._feed.close()
        self._connection.close()

    def begin(self) -> None:
        """Show the first page. Raises ``CtlError`` when there is no node, or it says what makes no sense."""
        self._show_page(self._ask())

    def go_on(self) -> None:
        """Ask again and show what is known now."""
        try:
            known = self._ask()
        except CtlError as error:
            if self._known is None:
                raise
            self._trouble, known = printable(str(error)), self._known
        self._show_page(known)

    def sleep(self, seconds: float) -> None:
        """Take events for that long."""
        self._feed.wait(seconds)

    def _ask(self) -> Snapshot:
        known = take(self._connection)
        page(known)  # raises for what cannot be shown, as long as the last that could be is still there
        self._known, self._trouble, self._last_answer = known, "", time.time()
        self._feed.begin()
        return known

    def _show_page(self, known: Snapshot) -> None:
        self._show(known, list(self._feed.events), self._silence() if self._trouble else "")
        self.shown += 1

    def _waiting(self) -> None:
        """The node has not answered for a while, but still may."""
        self._show.waiting(self._known, list(self._feed.events), self._silence())

    def _silence(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self._last_answer))
        return f"nothing new since {since}: {self._trouble or 'the node has not answered yet'}"


def _choose(invocation: Invocation) -> _Blocks | _Lines | _Terminal:
    if invocation.json:
        return _Lines()
    if sys.stdout is None or not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in _DUMB:
        return _Blocks()
    return _Terminal()


def _count(invocation: Invocation) -> int:
    text = invocation.arguments.get("count", "0")
    if not (text.isascii() and text.isdecimal() and int(text[:11]) <= _MAX_COUNT):
        raise CtlError(f'count="{text}" must be a whole number from 0 (no end) to {_MAX_COUNT}')
    return int(text) or -1


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


class _Blocks:
    """One block after the other, each ended by an empty line: into a pipe, or on a terminal that can nothing else."""

    def __init__(self) -> None:
        self._quiet = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, known: Snapshot, events: list[str], trouble: str) -> None:
        self._quiet = False
        write("\n".join(line.rstrip() for line in page(known, events=events, trouble=trouble)) + "\n\n")

    def waiting(self, known: Snapshot | None, events: list[str], trouble: str) -> None:
        """Say so, once."""
        if not self._quiet:
            self._quiet = True
            write(f"{trouble}\n\n")


class _Lines:
    """One JSON object on a line for each page, with all that the node said."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, known: Snapshot, events: list[str], trouble: str) -> None:
        said = {"error": json.dumps(trouble)} if trouble else known.said
        members = "".join(f',"{name}":{one_line(text)}' for name, text in said.items())
        write(f'{{"time":{time.time():.3f}{members}}}\n')

    def waiting(self, known: Snapshot | None, events: list[str], trouble: str) -> None:
        """Nothing: there will be an answer or an error."""


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

    def __call__(self, known: Snapshot, events: list[str], trouble: str) -> None:
        self._draw(page(known, self._console.height, events, trouble))

    def waiting(self, known: Snapshot | None, events: list[str], trouble: str) -> None:
        """Say so above the last page."""
        self._draw([trouble] if known is None else page(known, self._console.height, events, trouble))

    def _draw(self, lines: list[str]) -> None:
        from rich.text import Text

        self._live.update(Text("\n".join(lines), no_wrap=True, overflow="crop"), refresh=True)
