"""``yggpy-ctl subscribe``: events line by line as they come, in words or as JSON, and all the ways in which it ends."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.unit.ctl_fakes import LIMIT, Script, answering, running, serving, success
from yggpy.ctl.client import MAX_EVENT_SIZE, AdminConnection
from yggpy.ctl.endpoint import Endpoint
from yggpy.ctl.errors import AnswerError
from yggpy.ctl.main import main
from yggpy.ctl.subscribe import event_line, event_object, one_line

BEGIN = success({"events": ["links"]}) + b"\n"
UP = (
    b'{"event":"link_up","time":1700000000.25,"uri":"tls://a:1","interface":"","inbound":false,'
    b'"key":"11","address":"200::2","priority":0}'
)
LOST = b'{"event":"events_lost","time":1700000001.0,"count":3}'
UNKNOWN = b'{"status":"error","error":"unknown action \'subscribe\', try \'list\' for help"}'


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


def streaming(*pieces: bytes, stay: bool = False) -> Script:
    """Answer, send ``pieces`` one by one, and close, or wait until the client does."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        for piece in (BEGIN, *pieces):
            connection.sendall(piece)
        while stay and connection.recv(65536):
            pass

    return script


# -- what is printed -----------------------------------------------------------------------------------------


def test_lines_for_people() -> None:
    time.tzset()
    assert event_line(event_object(UP.decode())) == (
        "2023/11/14 22:13:20 link_up uri=tls://a:1 address=200::2 priority=0"
    )
    assert event_line({"event": "link_down", "time": 0, "inbound": True, "reason": "no \x1b[2J more", "key": "11"}) == (
        '1970/01/01 00:00:00 link_down inbound reason="no \\u001b[2J more" key=11'
    )
    assert event_line({"event": "path_found", "time": None, "path": [1, 2], "delay": 2.5}) == (
        "(no time) path_found path=[1,2] delay=2.5"
    )
    assert event_line({"time": 1e300, "event": 7}) == "(no time) 7"


def test_json_stays_on_one_line_and_says_the_same() -> None:
    text = '{\n  "event": "x",\r\n "a": "\\n\x9b" }'
    assert "\n" not in one_line(text) and "\x9b" not in one_line(text)
    assert json.loads(one_line(text)) == json.loads(text)


def test_events_come_as_they_happen(tmp_path: Path) -> None:
    """Each line is there while the stream goes on, also when it comes in pieces."""
    with serving(tmp_path / "s", streaming(UP[:9], UP[9:] + b"\n" + LOST, stay=True)) as (endpoint, questions):
        with running(endpoint, "-json", "subscribe", "events=links") as process:
            assert process.stdout is not None
            assert [json.loads(process.stdout.readline()) for _ in range(2)] == [json.loads(UP), json.loads(LOST)]
            assert process.poll() is None
        assert json.loads(questions[0]) == {"request": "subscribe", "arguments": {"events": "links"}}
        with running(endpoint, "subscribe") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "2023/11/14 22:13:20 link_up uri=tls://a:1 address=200::2 priority=0\n"
            assert process.stdout.readline() == "2023/11/14 22:13:21 events_lost count=3\n"


# -- how it ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_in_peace(number: signal.Signals, tmp_path: Path) -> None:
    with (
        serving(tmp_path / "s", streaming(LOST, stay=True)) as (endpoint, _),
        running(endpoint, "subscribe") as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(LIMIT) == 0
        assert (process.stdout.read(), process.stderr.read()) == ("", "")


def test_it_ends_when_nobody_reads_even_if_nothing_happens(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "s", streaming(LOST, stay=True)) as (endpoint, _),
        running(endpoint, "subscribe") as process,
    ):
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(LIMIT) == 0
        assert process.stderr.read() == ""


def test_the_end_of_the_node_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "s", streaming(LOST)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "subscribe"]) == 1
    out, err = capfd.readouterr()
    assert out.endswith("events_lost count=3\n")
    assert len(err.splitlines()) == 1 and "the node has ended the stream" in err


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (UP[:20], "only the beginning of an event"),
        (b"what?", "not a node's answer"),
        (b'{"event": nonsense}', "cannot be used"),
        (b"{" + b'"' + b"x" * (MAX_EVENT_SIZE + 70000), "longer than"),
        (b'{"a":' + b"[" * 300, "nested deeper"),
    ],
)
def test_what_is_no_event_ends_it_with_one_line(
    piece: bytes, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path / "s", streaming(LOST, piece)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "subscribe"]) == 1
    out, err = capfd.readouterr()
    assert "events_lost" in out
    assert len(err.splitlines()) == 1 and message in err


def test_a_node_without_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "s", answering(UNKNOWN)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "subscribe"]) == 1
    assert "this node tells no events, as Go's does not" in capfd.readouterr().err


def test_a_node_that_refuses(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "s", answering(b'{"status":"error","error":"there are no events \\"x\\""}')) as (
        endpoint,
        _,
    ):
        assert main([f"-endpoint={endpoint}", "subscribe", "events=x"]) == 1
    assert capfd.readouterr().out == 'Admin socket returned an error: there are no events "x"\n'


def test_as_a_library(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "s", streaming(LOST + LOST, UP[:4])) as (endpoint, _),
        AdminConnection(Endpoint.parse(endpoint)) as node,
    ):
        assert node.fileno() == -1
        assert node.stream("subscribe").value() == {"events": ["links"]}
        assert node.fileno() >= 0
        found: list[str] = []
        with pytest.raises(AnswerError, match="only the beginning"):
            while (values := node.read_values()) is not None:
                found += values
        assert [json.loads(text)["count"] for text in found] == [3, 3]
        assert node.fileno() == -1
