"""Whatever a server sends to ``yggpy-ctl``, in whatever pieces: an answer, or an error of one line."""

from __future__ import annotations

import json
import socket
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggpy.ctl.answers import render
from yggpy.ctl.client import AdminConnection, Answer
from yggpy.ctl.endpoint import Endpoint
from yggpy.ctl.errors import CtlError
from yggpy.ctl.subscribe import event_line, event_object
from yggpy.ctl.subscribe import one_line as same_on_one_line
from yggpy.ctl.tables import Table, render_table

COMMANDS = (
    *("list", "getSelf", "getPeers", "getTree", "getPaths", "getSessions", "getTUN", "getNodeInfo"),
    *("getMulticastInterfaces", "addPeer", "lookups"),
)
LISTS = ("list", "peers", "tree", "paths", "sessions", "multicast_interfaces")
MEMBERS = (
    *("command", "fields", "description", "build_name", "key", "address", "routing_entries", "subnet", "remote", "up"),
    *("inbound", "priority", "cost", "bytes_recvd", "rate_sent", "uptime", "latency", "last_error", "last_error_time"),
    *("path", "sequence", "enabled", "name", "mtu", "beacon"),
)
TIMEOUT = 10.0

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
entries = st.dictionaries(st.sampled_from(MEMBERS), scalars | st.lists(scalars))
responses = entries | st.dictionaries(st.sampled_from(LISTS), st.lists(entries | scalars, max_size=4)) | values


class _Connected(AdminConnection):
    """A connection whose other end is already there."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(Endpoint(path="/fuzz"), answer_timeout=TIMEOUT)
        self._socket = connected


def received(data: bytes, cuts: list[int]) -> Answer:
    """Return what the client makes of ``data``, cut in pieces, with the end of the stream behind it."""
    ours, theirs = socket.socketpair()
    with theirs, _Connected(ours) as connection:
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            theirs.sendall(data[start:end])
        theirs.shutdown(socket.SHUT_WR)
        return connection.request("x")


def one_line(error: CtlError) -> None:
    text = str(error)
    assert text
    assert len(text.splitlines()) == 1
    assert text.isprintable()


@given(st.binary(max_size=200) | st.text('{}[]":,\\ truefalsnu01"status"', max_size=60).map(str.encode))
def test_anything_instead_of_an_answer(data: bytes) -> None:
    try:
        received(data, [])
    except CtlError as error:
        one_line(error)


@given(values, st.data())
def test_an_answer_is_found_wherever_it_is_cut(value: Any, data: st.DataObject) -> None:
    text = json.dumps({"status": "success", "response": value}).encode()
    valid = not any(word in text for word in (b"NaN", b"Infinity"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    try:
        assert json.dumps(received(text + b'{"more"', cuts).value()) == json.dumps(value)
        assert valid
    except CtlError as error:
        one_line(error)
        assert not valid


@given(st.sampled_from(COMMANDS), responses, st.booleans())
def test_any_response_is_shown_or_refused(command: str, response: Any, borders: bool) -> None:
    try:
        shown = render(command, Answer(None, json.dumps(response)))
    except CtlError as error:
        one_line(error)
        return
    if isinstance(shown, Table):
        text = render_table(shown, borders=borders)
        assert not any(unicodedata.category(character) == "Cc" for character in text.replace("\n", ""))
        lines = len(shown.rows) + bool(shown.titles) + borders * (2 + bool(shown.titles and shown.rows))
        assert text.count("\n") == lines


members_of_events = st.sampled_from(("event", "time", "uri", "key", "address", "inbound", "path", "delay", "\x1b[2J"))


@given(st.lists(st.dictionaries(members_of_events, values), max_size=5), st.binary(max_size=30), st.data())
def test_a_stream_is_lines_or_an_error_wherever_it_is_cut(
    events: list[dict[str, Any]], rest: bytes, data: st.DataObject
) -> None:
    """Whatever is good comes through, each event on a line of its own, and then there is an end or one error."""
    text = b'{"status":"success"}' + b"\n".join(json.dumps(event).encode() for event in events) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    ours, theirs = socket.socketpair()
    shown = []
    with theirs, _Connected(ours) as connection:
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            theirs.sendall(text[start:end])
        theirs.shutdown(socket.SHUT_WR)
        try:
            assert connection.stream("x").ok
            while (found := connection.read_values()) is not None:
                for value in found:
                    shown.append((event_line(event_object(value)), same_on_one_line(value)))
        except CtlError as error:
            one_line(error)
        else:
            assert len(shown) >= len(events)
    for line, spelt in shown:
        assert line and "\n" not in line + spelt
        assert not any(unicodedata.category(character) == "Cc" for character in line)
    valid = [not any(word in json.dumps(event) for word in ("NaN", "Infinity")) for event in events]
    good = valid.index(False) if False in valid else len(events)
    assert [json.loads(spelt) for _, spelt in shown[:good]] == events[:good]


def test_the_strategies_reach_the_tables() -> None:
    peer = {"remote": "a", "up": True, "cost": 1}
    assert isinstance(render("getPeers", Answer(None, json.dumps({"peers": [peer]}))), Table)
    with pytest.raises(CtlError):
        received(b"", [])
