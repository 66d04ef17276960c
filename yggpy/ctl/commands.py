"""What ``yggpy-ctl`` does itself, beside passing a command on to the node.

Such a command gets an ``Invocation`` and returns the program's exit code. To add one, put it into ``LOCAL_COMMANDS``;
what only it needs is imported where it runs, so that no other command waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from yggpy.admin.jsontext import EncodableJson, encode_json
from yggpy.cli.program import write_text
from yggpy.ctl.client import AdminConnection, Answer
from yggpy.ctl.endpoint import FoundEndpoint
from yggpy.ctl.errors import CtlError
from yggpy.ctl.tables import Table, render_table
from yggpy.printable import printable

__all__ = ["LOCAL_COMMANDS", "Invocation", "LocalCommand", "find_local", "write"]


def write(text: str) -> None:
    """Write to standard output in UTF-8, whatever the locale: tables have lines that ASCII has not.

    Raises ``CtlError`` when there is no standard output, and ``OSError`` when it takes nothing.
    """
    if sys.stdout is None:
        raise CtlError("standard output is closed, so nothing can be shown")
    write_text(text, "replace")


@dataclass(frozen=True)
class Invocation:
    """One run of the program: what was asked of it, and the means to answer."""

    found: FoundEndpoint
    arguments: dict[str, str] = field(default_factory=dict)
    json: bool = False
    borders: bool = True
    words: tuple[str, ...] = ()
    """What a command that takes words was given without ``name=``."""

    def connection(self, **limits: Any) -> AdminConnection:
        """Return a connection to the node, not yet made. Use it in ``with``; ``limits`` as of the class."""
        return AdminConnection(self.found.endpoint, origin=self.found.origin, **limits)

    def ask(self, name: str, arguments: dict[str, str] | None = None) -> Answer:
        """Put one question to the node. Raises ``CtlError``."""
        with self.connection() as connection:
            return connection.request(name, arguments)

    def refused(self, error: str) -> int:
        """Print a node's error as the Go node's tool does; returns the exit code."""
        reason = f": {printable(error)}" if error else " but didn't specify any error text"
        write(f"Admin socket returned an error{reason}\n")
        return 1

    def show(self, output: Table | str) -> None:
        """Print a table, or a line of text."""
        write(render_table(output, borders=self.borders) if isinstance(output, Table) else f"{output}\n")

    def show_json(self, value: EncodableJson) -> None:
        """Print ``value`` as the Go node's tools spell JSON."""
        write(encode_json(value).decode())


@dataclass(frozen=True, slots=True)
class LocalCommand:
    """A command of the program's own. ``run`` returns the exit code and may raise ``CtlError``."""

    name: str
    summary: str
    run: Callable[[Invocation], int]
    takes_words: bool = False
    """Whether it has arguments without ``name=``, too."""


def _health(invocation: Invocation) -> int:
    from yggpy.ctl.health import find_health

    verdict = find_health(invocation.found)
    if invocation.json:
        invocation.show_json(verdict.members())
    else:
        invocation.show(verdict.line())
    return 0 if verdict.healthy else 1


def _watch(invocation: Invocation) -> int:
    from yggpy.ctl.watch import watch

    return watch(invocation)


def _hosts(invocation: Invocation) -> int:
    from yggpy.ctl.hosts import hosts

    return hosts(invocation)


def _subscribe(invocation: Invocation) -> int:
    from yggpy.ctl.subscribe import subscribe

    return subscribe(invocation)


def _subnet(invocation: Invocation) -> int:
    from yggpy.ctl.subnet import subnet

    return subnet(invocation)


LOCAL_COMMANDS = (
    LocalCommand("health", "exit code 0 if the node has a peer and a place in the tree, or needs none", _health),
    LocalCommand(
        "hosts",
        "names that the node knows, as lines for /etc/hosts (names=full|short|both, default full);\n"
        "    \tformat=add-host: as flags for docker run",
        _hosts,
    ),
    LocalCommand("subscribe", "print what happens in the node until Ctrl-C, by line (events=GROUP,...)", _subscribe),
    LocalCommand(
        "subnet",
        'print the node\'s subnet; "subnet docker" how to make it a Docker network (network=NAME, bridge=INTERFACE)',
        _subnet,
        takes_words=True,
    ),
    LocalCommand(
        "watch", "show peers, rates, tree, sessions and events until Ctrl-C (interval=SECONDS, count=TIMES)", _watch
    ),
)


def find_local(name: str) -> LocalCommand | None:
    """Return the program's own command of that name, without regard to case as for the node's."""
    return next((command for command in LOCAL_COMMANDS if command.name.lower() == name.lower()), None)
