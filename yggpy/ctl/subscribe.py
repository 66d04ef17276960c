"""``yggpy-ctl subscribe``: what happens in a node, one line for each event, until either side ends.

The node's command of that name sends JSON objects (docs/subscribe.md); with ``-json`` they are printed as they come,
without it as a line for people. Events and members that this program does not know are shown like the others.
"""

from __future__ import annotations

import json
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from yggpy.cli.program import let_go_of_output, until_told_to_stop
from yggpy.ctl.client import AdminConnection, parse_json
from yggpy.ctl.errors import AnswerError, CtlError
from yggpy.printable import printable, printable_json

if TYPE_CHECKING:
    from yggpy.ctl.commands import Invocation

__all__ = ["event_line", "event_object", "is_unknown_command", "one_line", "subscribe"]

COMMAND = "subscribe"
_UNKNOWN = "unknown action"
_TIME = "%H:%M:%S"
_DATE_AND_TIME = f"%Y/%m/%d {_TIME}"
_FAR_AHEAD = 1 << 40
"""Seconds since 1970 beyond which a time is no time."""


def is_unknown_command(error: str) -> bool:
    """Whether a node's error text says that it does not have the command: a Go node, or an old one of ours."""
    return error.lower().startswith(_UNKNOWN)


def event_object(text: str) -> dict[str, Any]:
    """Return the members of an event. Raises ``AnswerError`` for what is none."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise AnswerError("it is no JSON object")
    return value


def event_line(event: dict[str, Any], *, date: bool = True) -> str:
    """Return an event in words: its time here, its name, and each member that says something as ``name=value``.

    The key of a node is left out where its address says the same; ``date=False`` leaves the day out.
    """
    words = [_clock(event.get("time"), _DATE_AND_TIME if date else _TIME), str(event.get("event", "(no name)"))]
    for name, value in event.items():
        if name in ("event", "time") or value in (None, "") or value is False:
            continue
        if name == "key" and event.get("address"):
            continue
        words.append(name if value is True else f"{name}={_word(value)}")
    return printable(" ".join(words))


def _clock(seconds: Any, form: str) -> str:
    if type(seconds) not in (int, float) or not 0 <= seconds < _FAR_AHEAD:
        return "(no time)"
    return time.strftime(form, time.localtime(seconds))


def _word(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if " " in value or '"' in value else value
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def one_line(text: str) -> str:
    """Return JSON text of the same value on one line; in a string there cannot be a line feed."""
    return printable_json(text.replace("\r", "").replace("\n", " "))


def subscribe(invocation: Invocation) -> int:
    """Print events until Ctrl-C or SIGTERM, until nobody reads them any more, or until the node ends the stream."""
    from yggpy.ctl.commands import write

    with until_told_to_stop(), invocation.connection() as connection:
        answer = connection.stream(COMMAND, invocation.arguments)
        if answer.error is not None:
            if is_unknown_command(answer.error):
                raise CtlError(f'this node tells no events, as Go\'s does not: "{printable(answer.error)}"')
            return invocation.refused(answer.error)
        try:
            values = connection.read_values()
            while values is not None:
                for text in values:
                    write(_shown(text, as_json=invocation.json))
                if not _wait(connection):
                    return 0
                values = connection.read_values()
            raise CtlError("the node has ended the stream; it was stopped, or restarted, or found us too slow")
        except BrokenPipeError:
            let_go_of_output()
    return 0


def _shown(text: str, *, as_json: bool) -> str:
    try:
        event = event_object(text)
    except AnswerError as error:
        raise AnswerError(f"the node sent an event that cannot be used: {error}") from None
    return f"{one_line(text) if as_json else event_line(event)}\n"


def _wait(connection: AdminConnection) -> bool:
    """Wait until the node says something; False when nobody reads our output any more, even if nothing happens."""
    if connection.fileno() < 0 or sys.stdout is None:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    output = sys.stdout.fileno()
    poll.register(output, 0)  # errors are always told
    ready = dict(poll.poll())
    if ready.get(output, 0) & (select.POLLERR | select.POLLHUP):
        let_go_of_output()
        return False
    return True
