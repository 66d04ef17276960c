"""``yggpy-ctl watch``: what a page holds, how it is cut to a height, and what becomes of it when the node is gone."""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ctl_fakes import serving, success, talking
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


@pytest.mark.parametrize("height", range(1, 60))
def test_a_page_fits_any_height(height: int) -> None:
    crowd = snapshot([peer(f"p{number}", number) for number in range(30)], [session("200::8", n) for n in range(30)])
    lines = page(crowd, height)
    assert len(lines) <= height
    if height >= 12:
        assert 1 <= sum("more" in line for line in lines) <= 2
        assert any("tcp://p29:1" in line for line in lines), "the busiest peer is shown"


ANSWERS = [success(SELF), success({"peers": [peer("a", 1)]}), success({"tree": TREE}), success({"sessions": []})]


def test_blocks_in_a_pipe(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "sock", talking(*ANSWERS, *ANSWERS)) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "watch", "count=2", "interval=0.1"]) == 0
    assert capfd.readouterr().out.count("200::1  yggpy 1\n") == 2


def test_a_node_that_goes_away_is_asked_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with serving(tmp_path / "sock", talking(*ANSWERS)) as (endpoint, _):
        # One connection answers four questions; the next ones have to be asked anew, and get no answer at first.
        assert main([f"-endpoint={endpoint}", "watch", "count=2", "interval=0.1"]) == 0
    blocks = capfd.readouterr().out.split("200::1  yggpy 1\n")
    assert len(blocks) == 3
    assert "no answer" not in blocks[0] and re.search(r"no answer since \d\d:\d\d:\d\d: ", blocks[1])


def test_without_a_node_there_is_nothing_to_watch(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([f"-endpoint=unix://{tmp_path}/none", "watch"]) == 1
    assert "no admin socket" in capfd.readouterr().err


@pytest.mark.parametrize("argument", ["interval=0", "interval=x", "interval=nan", "count=-1"])
def test_bad_arguments(argument: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([f"-endpoint=unix://{tmp_path}/none", "watch", argument]) == 1
    assert "must be a number from" in capfd.readouterr().err


def test_on_a_terminal(tmp_path: Path) -> None:
    """On a screen of its own, which is left at the end."""
    with serving(tmp_path / "sock", talking(*ANSWERS, *ANSWERS)) as (endpoint, _):
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ["TERM"] = "xterm"
            arguments = [f"-endpoint={endpoint}", "watch", "count=2", "interval=0.1"]
            os.execv(sys.executable, [sys.executable, "-m", "yggpy.ctl", *arguments])
        seen = b""
        try:
            while data := os.read(terminal, 65536):
                seen += data
        except OSError:
            pass  # the other end is closed
        os.close(terminal)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert b"200::1  yggpy 1" in seen and b"tcp://a:1" in seen
    assert seen.index(b"\x1b[?1049h") < seen.index(b"200::1") < seen.rindex(b"\x1b[?1049l")
