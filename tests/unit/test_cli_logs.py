"""Log lines: their form, levels and targets."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from yggpy.cli import logs
from yggpy.cli.logs import NOTICE, TRACE, configure_logging

from .logging_state import restored_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    with restored_logging():
        yield


def log_one_of_each(logger: logging.Logger) -> None:
    for level in (NOTICE, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, TRACE):
        logger.log(level, "%d", level)


@pytest.mark.parametrize(
    ("level", "printed"),
    [
        ("error", [60, 40]),
        ("warn", [60, 40, 30]),
        ("INFO", [60, 40, 30, 20]),
        ("debug", [60, 40, 30, 20, 10]),
        ("trace", [60, 40, 30, 20, 10, 5]),
    ],
)
def test_levels(level: str, printed: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    setup = configure_logging("stdout", level, "prog")
    assert setup.to_terminal
    log_one_of_each(setup.logger)
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[-1]) for line in lines] == printed


def test_lines_look_as_go_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("stdout", "info", "prog")
    logging.getLogger("yggpy.links").info("Connected: %s", "x\n")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d Connected: x\n", capsys.readouterr().out)


def test_a_message_cannot_forge_lines(capsys: pytest.CaptureFixture[str]) -> None:
    setup = configure_logging("stdout", "info", "prog")
    setup.logger.info("peer said %s", "hi\r\n2026/01/01 00:00:00 \x1b[2J\x85done\ttab")
    assert capsys.readouterr().out.endswith(" peer said hi\\r\\n2026/01/01 00:00:00 \\x1b[2J\\x85done\ttab\n")


@pytest.mark.parametrize("level", ["info", "debug"])
def test_tracebacks_appear_from_debug_on(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    setup = configure_logging("stdout", level, "prog")
    try:
        raise ValueError("no\ngood")
    except ValueError:
        setup.logger.exception("it broke")
    lines = capsys.readouterr().out.splitlines()
    if level == "info":
        assert len(lines) == 1
        assert lines[0].endswith(" it broke: ValueError: no\\ngood")
    else:
        assert lines[0].endswith(" it broke")
        assert lines[1] == "Traceback (most recent call last):"


def test_an_unknown_level_is_info(capsys: pytest.CaptureFixture[str]) -> None:
    setup = configure_logging("stdout", "loud", "prog")
    assert setup.logger.level == logging.INFO
    assert "Unknown -loglevel loud: using info" in capsys.readouterr().out


def test_a_file_is_appended_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    setup = configure_logging(str(path), "info", "prog")
    assert not setup.to_terminal
    setup.logger.info("é")
    configure_logging("stdout", "info", "prog")
    assert re.fullmatch(r"before\n.{19} é\n", path.read_text(encoding="utf-8"))
    assert capsys.readouterr().out == ""


def test_a_new_file_has_gos_mode(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        configure_logging(str(tmp_path / "log"), "info", "prog")
    finally:
        os.umask(before)
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("target", ["/nonexistent/log", "syslog", "a\0b"])
def test_what_cannot_be_opened_becomes_standard_output(
    target: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_SYSLOG_SOCKET", "/nonexistent/dev-log")
    setup = configure_logging(target, "info", "prog")
    assert setup.to_terminal
    assert "Logging to standard output: cannot open" in capsys.readouterr().out


def test_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "dev-log")
    monkeypatch.setattr(logs, "_SYSLOG_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        setup = configure_logging("syslog", "trace", "prog")
        assert not setup.to_terminal
        log_one_of_each(setup.logger)
        received = [receiver.recv(1000).rstrip(b"\0").decode() for _ in range(6)]
    daemon_facility = 3 << 3
    severities = [5, 3, 4, 6, 7, 7]
    for message, severity in zip(received, severities, strict=True):
        assert re.fullmatch(rf"<{daemon_facility + severity}>prog\[\d+\]: \d+", message)


def test_a_log_that_cannot_be_written_stays_silent(capsys: pytest.CaptureFixture[str]) -> None:
    setup = configure_logging("/dev/full", "info", "prog")
    setup.logger.info("lost")
    assert capsys.readouterr().err == ""
