"""What ``yggpy-ctl`` prints, against what ``yggdrasilctl`` printed for the same answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.ctl_fakes import answering, serving, success
from tests.unit.vectors import load
from yggpy.ctl.answers import Entry, render, renders
from yggpy.ctl.client import Answer
from yggpy.ctl.errors import AnswerError
from yggpy.ctl.figures import data_size, milliseconds, rounded_seconds, whole_seconds
from yggpy.ctl.main import main
from yggpy.ctl.tables import Table, render_table

RUNS = load("ctl_tables")["runs"]
RECORDED = load("yggdrasilctl")["runs"]
CHANGING = ("-json", "getpeers", "getsessions", "lookups", "addpeer", "nosuch")
"""Runs of a real node that cannot be compared: the -json run was asked at another moment, whose figures or order are
other ones, or there is none."""


def table_runs() -> list[Any]:
    """Return each table that a real node's tool printed, with the -json output of the same command."""
    answers = {tuple(run["argv"][1:]): run["stdout"] for run in RECORDED if run["argv"][0] == "-json"}
    return [
        pytest.param(run, answers[command], id=" ".join(run["argv"][:2]))
        for run in RECORDED
        if not any(word.lower() in CHANGING for word in run["argv"])
        for command in [tuple(word for word in run["argv"] if not word.startswith("-"))]
    ]


def printed(path: Path, argv: list[str], answer: bytes, capfdbinary: pytest.CaptureFixture[bytes]) -> tuple[int, str]:
    with serving(path, answering(answer)) as (endpoint, _):
        code = main([f"-endpoint={endpoint}", *argv])
    output = capfdbinary.readouterr()
    assert output.err == b""
    return code, output.out.decode()


@pytest.mark.parametrize("run", RUNS, ids=lambda run: " ".join(run["argv"]))
def test_as_gos_tool(run: dict[str, Any], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    found = printed(tmp_path / "s", run["argv"], run["answer"].encode(), capfdbinary)
    assert found == (run["exit"], run["stdout"])


@pytest.mark.parametrize(("run", "answer"), table_runs())
def test_as_gos_tool_at_a_real_node(
    run: dict[str, Any], answer: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    spelt = '{\n  "status": "success",\n  "response": ' + answer.rstrip("\n").replace("\n", "\n  ") + "\n}\n"
    found = printed(tmp_path / "s", run["argv"], spelt.encode(), capfdbinary)
    assert found == (run["exit"], run["stdout"])


def test_the_vectors_cover_every_table() -> None:
    asked = {run["argv"][-1].lower() for run in RUNS}
    assert asked >= {"list", "getself", "getpeers", "gettree", "getpaths", "getsessions", "gettun", "getnodeinfo"}
    assert len(table_runs()) > 10


def test_a_pipe_gets_whole_lines_in_utf8_whatever_the_environment_says(tmp_path: Path) -> None:
    run = max(RUNS, key=lambda run: max(map(len, run["stdout"].split("\n"))) * ("-json" not in run["argv"]))
    assert max(map(len, run["stdout"].split("\n"))) > 500
    environment = {**os.environ, "COLUMNS": "40", "LC_ALL": "C", "TERM": "dumb", "FORCE_COLOR": "1", "PYTHONUTF8": "0"}
    with serving(tmp_path / "s", answering(run["answer"].encode())) as (endpoint, _):
        done = subprocess.run(
            [sys.executable, "-m", "yggpy.ctl", f"-endpoint={endpoint}", *run["argv"]],
            capture_output=True,
            env=environment,
            check=False,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == run["stdout"]


def test_control_characters_from_elsewhere_do_not_reach_the_terminal(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    nasty = "red\x1b[31m\x9b1m line\nfeed\r\x7f \ud800"
    peers = {"peers": [{"up": False, "last_error": nasty}]}
    answers = {
        "getPeers": success(peers),
        "getNodeInfo": success({"key": {"name": nasty}}).replace(b"\\u009b", b"\xc2\x9b"),
        "lookups": b'{"status":"success","response":"\xc2\x9b \x7f"}',
        "nosuch": json.dumps({"status": "error", "error": nasty}).encode(),
    }
    for command, answer in answers.items():
        for flags in ([], ["-borders=false"], ["-json"]):
            _, text = printed(tmp_path / f"{command}{len(flags[:1])}{flags}", [*flags, command], answer, capfdbinary)
            assert not set(text) & {"\x1b", "\x9b", "\r", "\x7f"}, (command, flags)
    _, text = printed(tmp_path / "last", ["-json", "lookups"], answers["lookups"], capfdbinary)
    assert json.loads(text) == "\x9b \x7f"
    _, text = printed(tmp_path / "t", ["getPeers"], answers["getPeers"], capfdbinary)
    assert len(text.splitlines()) == 5
    assert "red\\x1b[31m\\x9b1m line\\nfeed\\r\\x7f \ufffd" in text


@pytest.mark.parametrize(
    ("command", "response", "where"),
    [
        ("getPeers", 5, "response in"),
        ("getPeers", {"peers": 5}, "response.peers in"),
        ("getPeers", {"peers": [{}, "x"]}, "response.peers[1] in"),
        ("getPeers", {"peers": [{"up": 1}]}, "response.peers[0].up in"),
        ("getPeers", {"peers": [{"cost": True}]}, "response.peers[0].cost in"),
        ("getPeers", {"peers": [{"cost": 1.5}]}, "response.peers[0].cost in"),
        ("getPeers", {"peers": [{"uptime": "1"}]}, "response.peers[0].uptime in"),
        ("getSessions", {"sessions": [{"bytes_sent": 1 << 64}]}, "response.sessions[0].bytes_sent in"),
        ("getPaths", {"paths": [{"path": [1, "x"]}]}, "response.paths[0].path[1] in"),
        ("list", {"list": [{"fields": [1]}]}, "response.list[0].fields[0] in"),
        ("getSelf", {"key": []}, "response.key in"),
        ("getNodeInfo", [], "not JSON"),
    ],
)
def test_an_answer_of_another_form_says_where(command: str, response: object, where: str) -> None:
    with pytest.raises(AnswerError) as caught:
        render(command, Answer(None, json.dumps(response)))
    assert where in str(caught.value)


def test_numbers_that_are_not() -> None:
    for text in ('{"n": 1e999}', '{"n": -1e999}', '{"n": 1e300}'):
        entry = Entry(Answer(None, text).value())
        with pytest.raises(AnswerError):
            entry.seconds("n")
        with pytest.raises(AnswerError):
            entry.whole("n")
    assert Entry({"n": 98.0}).whole("n") == 98


def test_one_command_has_one_renderer() -> None:
    with pytest.raises(ValueError, match="getSelf has a renderer"):
        renders("getSelf")(lambda answer: None)


def test_a_large_table_is_laid_out_whole() -> None:
    rows = [(f"{number:064x}", "x" * (number % 50)) for number in range(500)]
    lines = render_table(Table(("Key", "Text"), rows)).splitlines()
    assert len(lines) == 504
    assert len({len(line) for line in lines}) == 1


def test_figures() -> None:
    assert [data_size(size) for size in (0, 99, 100, 1 << 20, 3 << 40)] == ["0B", "99B", "0.1KB", "1.0MB", "3.0TB"]
    assert [whole_seconds(number) for number in (0, 61, 7201, -61)] == ["0s", "1m1s", "2h0m1s", "-1m1s"]
    assert [rounded_seconds(number) for number in (499_999_999, 500_000_000, -500_000_000)] == ["0s", "1s", "-1s"]
    assert [milliseconds(number) for number in (999, 1_000, 1_234_567, -5)] == ["", "0.00ms", "1.23ms", ""]


@pytest.mark.parametrize(
    ("command", "response", "shown"),
    [
        ("reload", {"changes": [], "warnings": []}, "nothing has changed"),
        ("reload", {"changes": ["peer a added"], "warnings": ["b\x1b"]}, "peer a added\nwarning: b\\x1b"),
        ("getFirewall", {"enabled": False}, " Firewall enabled:  false \n"),
        (
            "getFirewall",
            {"enabled": True, "flows": 3, "denied": 4, "rules": [{"name": "web", "allowed": 5}]},
            " Firewall enabled:  true \n"
            " Flows:             3    \n"
            " Max flows:         0    \n"
            " Flows evicted:     0    \n"
            " Established:       0    \n"
            " Icmp errors:       0    \n"
            " Fragments:         0    \n"
            " Denied:            4    \n"
            " Malformed:         0    \n"
            " Allowed by web:    5    \n",
        ),
        ("getHosts", {"enabled": False}, " Names enabled:  false \n"),
        (
            "getHosts",
            {
                "enabled": True,
                "hosts": [{"name": "a.ygg", "address": "200::1", "source": "static"}],
                "pk_name": "0.1.pk.ygg", "address": "200::2", "key": "01",
                "rejected": [{"key": "02", "name": "b\x1b", "reason": "taken"}],
            },
            "    Name     IP Address      Source       Public Key \n"
            " a.ygg       200::1      static           -          \n"
            " 0.1.pk.ygg  200::2      key              01         \n"
            " b\\x1b       -           rejected: taken  02         \n",
        ),
        (
            "getHealth",
            {"ready": True, "reason": "so", "up": 1, "peers": 2, "failing": [{"remote": "tcp://a:1", "error": "EOF"}]},
            " Ready:                true          \n"
            " Reason:               so            \n"
            " Peers up:             1 of 2        \n"
            " Configured peers up:  0 of 0        \n"
            " Parent:               -             \n"
            " Failing peer:         tcp://a:1 EOF \n",
        ),
        (
            "getTransit",
            {"enabled": False, "refused": {"traffic": 2}, "resting_peers": ["ab"]},
            " Transit enabled:  false \n Refused traffic:  2     \n Resting peer:     ab    \n",
        ),
    ],
)
def test_answers_to_commands_of_ours(command: str, response: dict[str, Any], shown: str) -> None:
    output = render(command, Answer(None, json.dumps(response)))
    assert (render_table(output, borders=False) if isinstance(output, Table) else output) == shown
