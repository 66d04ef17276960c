"""``yggpy-node`` against what the real ``yggdrasil`` printed for the same command lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from yggpy.cli.configfile import ConfigSource
from yggpy.cli.node import main
from yggpy.config import Config
from yggpy.version import build_version

from .logging_state import restored_logging
from .vectors import load

VECTORS = load("cli")
KEY = VECTORS["private_key"]
RUNS: list[dict[str, Any]] = [run for run in VECTORS["runs"] if run["program"] == "yggdrasil"]
PRINTING_RUNS = [run for run in RUNS if run["exit"] == 0]
REFUSED_CONFIGS = [run for run in RUNS if run["exit"] == 2 and "-normaliseconf" in run["argv"]]
FAILING_STARTS = [run for run in RUNS if run["exit"] == 2 and run["argv"] == ["-useconf"]]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    """Let descriptor 0 be a file with this content."""
    saved = os.dup(0)
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(saved, 0)
            os.close(saved)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    def run_main(*argv: str, stdin: bytes | str = b"") -> Result:
        with standard_input(stdin.encode() if isinstance(stdin, str) else stdin):
            code = main(list(argv))
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    with restored_logging():
        yield run_main


def input_of(vector: dict[str, Any]) -> bytes:
    if "stdin_hex" in vector:
        return bytes.fromhex(vector["stdin_hex"])
    return str(vector.get("stdin") or "").encode()


def named(vectors: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["description"])


def flag_names(text: str) -> list[str]:
    """Return the flags in a usage text, without those that Go's node has not."""
    ours = ("  -checkconf", "  -statedir")
    return [line for line in text.splitlines() if line.startswith("  -") and not line.startswith(ours)]


def without_comments(text: str) -> str:
    return re.sub(r"(?m)^  # .*$", "  # <comment>", text)


def test_every_recorded_run_is_covered() -> None:
    others = [run["description"] for run in RUNS if run not in PRINTING_RUNS + REFUSED_CONFIGS + FAILING_STARTS]
    assert others == ["unknown flag", "file not found"]
    assert (len(PRINTING_RUNS), len(REFUSED_CONFIGS), len(FAILING_STARTS)) == (24, 9, 5)


@named(PRINTING_RUNS)
def test_prints_what_go_prints(
    vector: dict[str, Any], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pk.pem").write_text(VECTORS["pem"])
    monkeypatch.chdir(tmp_path)
    result = run(*vector["argv"], stdin=input_of(vector))
    expected = vector["stdout"]
    if vector["argv"] == ["-version"]:
        expected = f"Build name: yggpy\nBuild version: {build_version()}\n"
    assert without_comments(result.out) == expected
    assert flag_names(result.err) == flag_names(vector["stderr"])
    assert result.code == 0


@named(REFUSED_CONFIGS)
def test_a_bad_configuration_is_one_line_and_code_1(vector: dict[str, Any], run: Run) -> None:
    result = run(*vector["argv"], stdin=input_of(vector))
    assert result.code == 1
    assert result.out == vector["stdout"] == ""
    assert re.fullmatch(r"yggpy-node: cannot use the configuration from standard input: [^\n]+\n", result.err)


START_ERRORS = {
    "bad peer URI scheme at start": 'cannot use peer "foo://192.0.2.1:1": link schema unknown',
    "unparsable peer URI at start": "missing ']' in host",
    "bad AllowedPublicKeys": 'AllowedPublicKeys: "zz" is not hexadecimal',
    "NodeInfo too long": "NodeInfo exceeds max length of 16384 bytes",
    "bad multicast regex": 'cannot use Regex "("',
}


@named(FAILING_STARTS)
def test_a_failing_start_is_one_line_and_code_1(vector: dict[str, Any], run: Run) -> None:
    stdin = input_of(vector)
    if vector["description"] == "NodeInfo too long":
        assert stdin.startswith(b"(as above")
        stdin = f'IfName: none\nAdminListen: none\nPrivateKey: {KEY}\nNodeInfo: {{x: "{"y" * 16384}"}}'.encode()
    result = run(*vector["argv"], stdin=stdin)
    assert result.code == 1
    assert START_ERRORS[vector["description"]] in result.err
    assert re.fullmatch(r"yggpy-node: [^\n]+\n", result.err)
    for line in result.out.splitlines():
        assert re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \S", line)
    assert [line[20:] for line in result.out.splitlines()][:2] == [
        "Build name: yggpy",
        f"Build version: {build_version()}",
    ]


def test_an_unknown_flag_is_usage_and_code_2(run: Run) -> None:
    [vector] = [entry for entry in RUNS if entry["description"] == "unknown flag"]
    result = run(*vector["argv"])
    assert (result.code, result.out) == (2, "")
    first, second = vector["stderr"].splitlines()[:2]
    assert result.err.splitlines()[:2] == [first, second.replace("yggdrasil", "yggpy-node")]
    assert flag_names(result.err) == flag_names(vector["stderr"])


def test_a_missing_file_is_one_line_and_code_1(run: Run, tmp_path: Path) -> None:
    result = run("-useconffile", "/nonexistent/x.conf", "-address")
    assert result == Result(
        1, "", "yggpy-node: cannot read the configuration from /nonexistent/x.conf: No such file or directory\n"
    )
    assert run("-useconffile", str(tmp_path), "-address").err.endswith(f"from {tmp_path}: Is a directory\n")


def test_a_file_is_read_as_standard_input_is(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text(f"PrivateKey: {KEY}\n")
    assert run("-useconffile", str(path), "-publickey").out == KEY[64:] + "\n"
    path.write_text("{")
    assert run(f"-useconffile={path}", "-publickey").err.startswith(
        f"yggpy-node: cannot use the configuration from {path}: syntax error at line 1, column 2: "
    )


def test_genconf_makes_a_new_key_each_time(run: Run) -> None:
    first, second = (Config.from_bytes(run("-genconf").out.encode()) for _ in range(2))
    assert first.private_key != second.private_key
    assert Config.from_bytes(run("-genconf", "-json").out.encode()).node_info is None


def test_which_of_several_flags_counts(run: Run) -> None:
    text = f"PrivateKey: {KEY}"
    assert run("-useconf", "-genconf", "-publickey", stdin=text).out == KEY[64:] + "\n"
    assert run("-version", "-useconf", "-address", stdin=text).out.startswith("Build name: ")
    assert run("-autoconf", "-useconf", "-publickey", stdin=text).out != KEY[64:] + "\n"
    assert run("-useconf", "-exportkey", "-normaliseconf", "-subnet", "-address", stdin=text).out.startswith("203:")


def test_output_is_utf8_in_any_locale(run: Run) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-m", "yggpy", "-useconf", "-normaliseconf"],
        input="GroupPassword: é".encode(),
        capture_output=True,
        env=environment,
        check=True,
    )
    assert "\n  GroupPassword: é\n".encode() in result.stdout


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-m", "yggpy", "-genconf"],
        stdout=write_end,
        stderr=subprocess.PIPE,
        env=environment,
        check=False,
    )
    os.close(write_end)
    assert (result.returncode, result.stderr) == (1, b"")


BAD_CONFIG = """{
  Peers: [
    "nonsense://a:1"
    "tls://a:1?key=zz"
  ]
  Peerz: []
  Listen: [ "socks://a:1" ]
  AllowedPublicKeys: [ "zz" ]
  MulticastInterfaces: [ { Regex: "(", Prot: 1 } ]
  IfName: abcdefghijklmnopq
  IfMTU: 100
  AdminListen: tcp://x
}"""


def test_checkconf_lists_all_problems_with_their_places(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text(BAD_CONFIG)
    result = run("-checkconf", "-useconffile", str(path))
    assert (result.code, result.err) == (1, "")
    lines = [line.removeprefix(f"{path}:") for line in result.out.splitlines()]
    assert lines[:3] == [
        '3:5: Peers[0]: cannot use "nonsense://a:1": link schema unknown',
        '4:5: Peers[1]: cannot use "tls://a:1?key=zz": pinned public key is invalid',
        '6:3: warning: unknown key "Peerz" is ignored; did you mean "Peers"?',
    ]
    assert [line[: line.index(": ")] for line in lines[3:-1]] == [
        "7:13",
        "8:24",
        "9:28",
        "9:40",
        "10:3",
        "11:3",
        "12:3",
    ]
    assert lines[-1] == " 7 problems, 3 warnings"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("", 0, "standard input: no problems, no warnings"),
        ("Peerz: []", 0, "standard input: no problems, 1 warning"),
        ("Peers: [", 1, "standard input:1:9: syntax error at line 1, column 9"),
        ("Peers: 1\nListen: 1", 1, "standard input:2:1: Listen must be a list of strings, not a number"),
        ("PrivateKey: 00", 1, "standard input:1:1: PrivateKey: "),
        ("\nPrivateKeyPath: /nonexistent/key", 1, "standard input:2:1: PrivateKeyPath: cannot read"),
        ("AdminListen: none\nIfName: none\n", 0, "no problems"),
        ("AdminListen: unix://", 1, "standard input:1:1: AdminListen: "),
        ("\nHTTPListen: localhost", 1, "standard input:2:1: HTTPListen: HTTP endpoint failed to listen: "),
        ("HTTPListen: localhost:9101", 0, "no problems, no warnings"),
    ],
)
def test_checkconf_of_standard_input(text: str, code: int, said: str, run: Run) -> None:
    result = run("-useconf", "-checkconf", stdin=text)
    assert (result.code, result.err) == (code, "")
    assert said in result.out


def test_checkconf_has_a_limit_and_a_configuration(run: Run) -> None:
    lines = run("-useconf", "-checkconf", stdin="Peers: [" + '"x"\n' * 1000 + "]").out.splitlines()
    assert lines[-2:] == ["standard input: 800 more are not listed", "standard input: 1000 problems, no warnings"]
    assert run("-checkconf").code == 1
    assert "give -useconf, -useconffile or -autoconf as well" in run("-checkconf").err
    assert run("-checkconf", "-useconffile", "/nonexistent/x").err.startswith("yggpy-node: cannot read")


def test_an_unknown_user_is_refused_before_anything_starts(run: Run) -> None:
    result = run("-useconf", "-user", "no such user", stdin="IfName: none")
    assert (result.code, result.out) == (1, "")
    assert result.err == ("yggpy-node: -user: unknown user no such user; make the account, or name one that exists\n")


def test_an_error_reaches_a_log_that_is_elsewhere(run: Run, tmp_path: Path) -> None:
    log = tmp_path / "log"
    result = run("-useconf", f"-logto={log}", stdin="IfName: none\nAllowedPublicKeys: [zz\n]")
    assert result.out == ""
    assert 'AllowedPublicKeys: "zz" is not hexadecimal' in result.err
    assert 'AllowedPublicKeys: "zz" is not hexadecimal' in log.read_text()


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_an_internal_error_is_one_line_and_a_traceback_only_for_who_asks(
    level: str, shown: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: Config) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(Config, "check", broken)
    result = run("-autoconf", "-loglevel", level)
    assert result.code == 1
    assert result.err == "yggpy-node: internal error: RuntimeError: bug (-loglevel debug shows where)\n"
    assert ("Traceback" in result.out) is shown


def test_an_interrupt_while_reading_is_quiet(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ConfigSource, "load", interrupted)
    assert run("-useconf") == Result(130, "", "")
