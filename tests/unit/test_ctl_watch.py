"""``yggpy-ctl watch``: what a page holds, how it is cut to a height, and what becomes of it when the node is gone."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ctl_fakes import LIMIT, Script, answering, dropping, running, serving, success, talking
from yggpy.ctl.answers import Entry
from yggpy.ctl.main import main
from yggpy.ctl.watch import Snapshot, page

OWN, PARENT, ROOT = ("11" * 32, "22" * 32, "33" * 32)
SELF = {"key": OWN, "address": "200::1", "build_name": "yggpy", "build_version": "1"}
TREE = [
    {"key": OWN, "address": "200::1", "parent": PARENT},
    {"key": PARENT, "address": "200::2", "parent": ROOT},
    {"key": ROOT, "address": "200::3", "parent": ROOT},
]
DOWN = {"remote": "tls://b:2?password=secret", "up": False, "last_error": "refused", "last_error_time": 5 * 10**9}


def peer(name: str, rate: int) -> dict[str, Any]:
    uri = f"tcp://{name}:1"
    return {
        "remote": uri,
        "up": True,
        "address": "200::2",
        "rate_recvd": rate,
        "cost": 7,
        "uptime": 61.0,
        "latency": 1500000,
    }


def session(address: str, size: int) -> dict[str, Any]:
    return {"address": address, "bytes_recvd": size, "bytes_sent": 1, "uptime": 3.0}


def snapshot(peers: list[dict[str, Any]], sessions: list[dict[str, Any]], tree: object = TREE) -> Snapshot:
    answer = Entry({"peers": peers, "sessions": sessions, "tree": tree})
    return Snapshot(Entry(SELF), answer.entries("peers"), answer.entries("tree"), answer.entries("sessions"))


def test_a_page() -> None:
    lines = page(
        snapshot([DOWN, peer("slow", 10), peer("quick", 2048)], [session("200::8", 5), session("200::9", 5000)])
    )
    text = "\n".join(lines)
    assert lines[0] == "200::1  yggpy 1"
    assert lines[1] == "2 of 3 peers up, 3 nodes in the tree, 2 below the root 200::3, parent 200::2"
    order = [re.search(word, text) for word in ("quick", "slow", "tls://b:2", "200::9", "200::8")]
    places = [found.start() for found in order if found]
    assert len(places) == 5 and places == sorted(places)
    assert re.search(r"tcp://quick:1 +200::2 +1m1s +1.50ms +2.0KB/s +- +7", text)
    assert "down" in text and "5s ago: refused" in text
    assert "secret" not in text


def test_the_root_and_a_tree_that_turns_in_a_circle() -> None:
    assert page(snapshot([], [], TREE[2:]))[1].endswith("the root")
    circle = [{"key": OWN, "parent": PARENT}, {"key": PARENT, "parent": OWN}]
    assert "1 below the root" in page(snapshot([], [], circle))[1]


EVENTS = [f"event {number}" for number in range(20)]


@pytest.mark.parametrize("height", range(1, 60))
def test_a_page_fits_any_height(height: int) -> None:
    crowd = snapshot([peer(f"p{number}", number) for number in range(30)], [session("200::8", n) for n in range(30)])
    for events, trouble in (([], ""), (EVENTS, ""), (EVENTS[:1], "away"), (EVENTS, "away")):
        lines = page(crowd, height, events, trouble)
        assert len(lines) <= height
        if height >= 16:
            assert 1 <= sum("more" in line for line in lines) <= 2
            assert any("tcp://p29:1" in line for line in lines), "the busiest peer is shown"
            assert not events or lines[-1] == events[-1], "the last event is shown, at the end"
            assert not trouble or lines[0] == trouble
    assert page(crowd, 200, EVENTS)[-len(EVENTS) :] == EVENTS, "all, where there is room"
    lines = page(crowd, height)
    if height >= 12:
        assert 1 <= sum("more" in line for line in lines) <= 2
        assert any("tcp://p29:1" in line for line in lines), "the busiest peer is shown"


def in_turn(*scripts: Script) -> Script:
    """Run one script for each connection but those of subscribers, the last one again and again; these are refused."""
    waiting = list(scripts)

    def script(connection: socket.socket) -> None:
        if b"subscribe" in connection.recv(65536, socket.MSG_PEEK):
            answering(UNKNOWN)(connection)
        else:
            (waiting.pop(0) if len(waiting) > 1 else waiting[0])(connection)

    return script


def hanging(connection: socket.socket) -> None:
    """Take the question and say nothing."""
    while connection.recv(65536):
        pass


UNKNOWN = b'{"status":"error","error":"unknown action \'subscribe\', try \'list\' for help"}'
ANSWERS = [success(SELF), success({"peers": [peer("a", 1)]}), success({"tree": TREE}), success({"sessions": []})]


def test_blocks_in_a_pipe(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "sock", talking(*ANSWERS, *ANSWERS)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "watch", "count=2", "interval=0.1"]) == 0
    assert capfd.readouterr().out.count("200::1  yggpy 1\n") == 2


def test_a_node_that_goes_away_is_asked_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One connection answers four questions; the next ones have to be asked anew, and get no answer at first."""
    with serving(tmp_path / "sock", in_turn(talking(*ANSWERS), dropping, talking(*ANSWERS))) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "watch", "count=4", "interval=0.1"]) == 0
    blocks = capfd.readouterr().out.split("200::1  yggpy 1\n")
    assert len(blocks) == 5
    assert "nothing new" not in blocks[0] and re.search(r"nothing new since \d\d:\d\d:\d\d: ", blocks[1])
    assert "nothing new" in blocks[2] and "nothing new" not in blocks[3], "it has come back"


def test_a_field_that_makes_no_sense_costs_one_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = [ANSWERS[0], success({"peers": [{"up": True, "cost": "much"}]}), *ANSWERS[2:]]
    with serving(tmp_path / "sock", in_turn(talking(*ANSWERS, *bad, *ANSWERS))) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "watch", "count=3", "interval=0.1"]) == 0
    blocks = capfd.readouterr().out.split("200::1  yggpy 1\n")
    assert "nothing new" not in blocks[0] + blocks[2]
    assert "response.peers[0].cost in the node's answer is not a number" in blocks[1]
    assert "tcp://a:1" in blocks[2], "what was known stays"
    with serving(tmp_path / "sock2", talking(*bad)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "watch"]) == 1
    assert "is not a number" in capfd.readouterr().err


def test_a_node_that_hangs_is_told_of_while_it_hangs(tmp_path: Path) -> None:
    """Also before its first answer, and long before the answer is given up."""

    def answering_once(connection: socket.socket) -> None:
        talking(*ANSWERS)(connection)
        hanging(connection)

    for number, script in enumerate((answering_once, hanging)):
        with (
            serving(tmp_path / f"{number}", in_turn(script)) as (endpoint, _),
            running(endpoint, "watch", "interval=0.1") as process,
        ):
            assert process.stdout is not None
            line = next(line for line in process.stdout if "nothing new" in line)
            assert re.search(r"since \d\d:\d\d:\d\d: the node has not answered yet", line)
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT) == 0


def test_json(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One object on a line, as the node spelt it; what goes wrong is one, too."""
    spelt = ANSWERS[0].replace(b'"200::1"', b'"200::1", "big": 12345678901234567890123, "x":\n[]')
    with serving(tmp_path / "sock", in_turn(talking(spelt, *ANSWERS[1:]), dropping)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "-json", "watch", "count=2", "interval=0.1"]) == 0
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert list(first) == ["time", "self", "peers", "tree", "sessions"]
    assert first["self"] == {**SELF, "big": 12345678901234567890123, "x": []}
    assert (first["peers"], first["tree"], first["sessions"]) == ([peer("a", 1)], TREE, [])
    assert list(second) == ["time", "error"] and "nothing new since" in second["error"]
    assert second["time"] > first["time"] > 1.6e9


def test_the_last_events_are_shown(tmp_path: Path) -> None:
    event = b'{"event":"path_lost","time":0,"key":"00","address":"200::7"}\n'

    def script(connection: socket.socket) -> None:
        if b"subscribe" in connection.recv(65536, socket.MSG_PEEK):
            connection.recv(65536)
            connection.sendall(success({"events": []}) + event + event[:9])
            connection.sendall(event[9:])
            connection.recv(65536)  # until the client closes
        else:
            talking(*ANSWERS * 100)(connection)

    with (
        serving(tmp_path / "sock", script) as (endpoint, _),
        running(endpoint, "watch", "interval=0.1", "count=100") as process,
    ):
        assert process.stdout is not None
        for _ in range(2):  # on more than one page
            assert any(line == "00:00:00 path_lost address=200::7\n" for line in process.stdout)


def test_without_a_node_there_is_nothing_to_watch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([f"-endpoint=unix://{tmp_path}/none", "watch"]) == 1
    assert "no admin socket" in capfd.readouterr().err


@pytest.mark.parametrize(
    "argument", ["interval=0", "interval=x", "interval=nan", "count=-1", "count=0.5", "count=1e3", "count="]
)
def test_bad_arguments(argument: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([f"-endpoint=unix://{tmp_path}/none", "watch", argument]) == 1
    assert re.search("must be a (whole )?number from", capfd.readouterr().err)


def on_a_terminal(endpoint: str, *arguments: str, kind: str = "xterm", until: bytes = b"", number: int = 0) -> bytes:
    """Run it on a terminal and return all that it wrote; once that has ``until`` it gets the signal ``number``."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = kind
        command = ["env", "--default-signal", sys.executable, "-m", "yggpy.ctl", f"-endpoint={endpoint}", "watch"]
        os.execvp("env", [*command, *arguments])
    seen = b""
    try:
        while data := os.read(terminal, 65536):
            seen += data
            if number and until in seen:
                os.kill(pid, number)
                number = 0
    except OSError:
        pass  # the other end is closed
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return seen


def test_on_a_terminal(tmp_path: Path) -> None:
    """On a screen of its own, which is left at the end."""
    with serving(tmp_path / "sock", talking(*ANSWERS, *ANSWERS)) as (endpoint, _):
        seen = on_a_terminal(endpoint, "count=2", "interval=0.1")
    assert b"200::1  yggpy 1" in seen and b"tcp://a:1" in seen
    assert seen.index(b"\x1b[?1049h") < seen.index(b"200::1") < seen.rindex(b"\x1b[?1049l")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(number: signal.Signals, tmp_path: Path) -> None:
    with serving(tmp_path / "sock", talking(*ANSWERS)) as (endpoint, _):
        seen = on_a_terminal(endpoint, "interval=60", until=b"tcp://a:1", number=number)
    assert seen.rindex(b"\x1b[?1049l") > seen.index(b"tcp://a:1")
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l"), "the cursor is back"
    assert b"Traceback" not in seen


@pytest.mark.parametrize("kind", ["dumb", "unknown", ""])
def test_a_terminal_that_can_nothing_gets_blocks(kind: str, tmp_path: Path) -> None:
    with serving(tmp_path / "sock", talking(*ANSWERS, *ANSWERS)) as (endpoint, _):
        seen = on_a_terminal(endpoint, "count=2", "interval=0.1", kind=kind)
    assert seen.count(b"200::1  yggpy 1\r\n") == 2 and b"\x1b" not in seen
