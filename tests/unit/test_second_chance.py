"""``tests/second_chance.py`` on small suites of its own: what is forgiven, what is not, and what is said of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.second_chance import MOST_FAILURES, Notes, deserve_one

PROJECT = Path(__file__).parents[2]
PREAMBLE = """
import pathlib, pytest

def attempt(name):
    path = pathlib.Path(__file__).with_name(name + ".attempts")
    with path.open("a") as file:
        file.write("x")
    return path.stat().st_size
"""
FLAKY = """
def test_flaky():
    assert attempt("flaky") > 1, "the first time goes wrong"
"""
FLAKY_SETUP = """
@pytest.fixture
def place():
    if attempt("place") == 1:
        raise RuntimeError("no place yet")

@pytest.mark.parametrize("address", ["[::1]:80/a b"])
def test_placed(place, address):
    pass
"""
BROKEN = """
def test_broken():
    attempt("broken")
    assert False, "always wrong"
"""
GIVES_UP = """
def test_gives_up():
    if attempt("gives-up") > 1:
        pytest.skip("no longer")
    assert False, "wrong once"
"""
GOOD = """
def test_good():
    attempt("good")
"""


def run(folder: Path, suite: str, *arguments: str) -> tuple[int, list[str]]:
    """Run a suite with a second chance; return the exit code and the lines of output."""
    (folder / "test_suite.py").write_text(PREAMBLE + suite)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "tests.second_chance", f"--rootdir={folder}", "-pno:cacheprovider", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout.strip().splitlines()


def attempts(folder: Path, name: str) -> int:
    return len((folder / f"{name}.attempts").read_text())


def test_who_passes_alone_is_listed_as_unstable(tmp_path: Path) -> None:
    code, lines = run(tmp_path, GOOD + FLAKY + FLAKY_SETUP, "-n", "2")
    assert code == 0, lines
    assert "2 passed in" in lines[-1]
    begin = lines.index("UNSTABLE: failed beside others, passed alone")
    listed = [line for line in lines[begin:] if line.startswith("  test_suite.py::")]
    assert listed == ["  test_suite.py::test_flaky", "  test_suite.py::test_placed[[::1]:80/a b]"]
    assert any("the first time goes wrong" in line for line in lines[begin:])
    assert any("no place yet" in line for line in lines[begin:])
    assert any(line.startswith("The first run: 1 passed, 1 failed, 1 error in ") for line in lines)
    assert attempts(tmp_path, "good") == 1


def test_who_fails_twice_or_gives_up_has_failed(tmp_path: Path) -> None:
    code, lines = run(tmp_path, FLAKY + BROKEN)
    assert code == 1
    assert lines.index("UNSTABLE: failed beside others, passed alone") < lines.index("FAILED TWICE")
    assert lines[lines.index("FAILED TWICE") + 1] == "  test_suite.py::test_broken"
    assert "1 failed, 1 passed in" in lines[-1]
    assert attempts(tmp_path, "broken") == 2

    code, lines = run(tmp_path, GOOD + GIVES_UP)
    assert code == 1
    assert lines[lines.index("FAILED, then skipped or not found") + 1] == "  test_suite.py::test_gives_up"


def test_without_failures_or_with_a_file_that_cannot_be_collected_there_is_one_run(tmp_path: Path) -> None:
    code, lines = run(tmp_path, GOOD)
    assert code == 0 and "1 passed in" in lines[-1]
    (tmp_path / "test_torn.py").write_text("import nothing_of_that_name")
    code, lines = run(tmp_path, GOOD + BROKEN, "--continue-on-collection-errors")
    assert code == 1 and "1 failed, 1 passed, 1 error in" in lines[-1]
    assert attempts(tmp_path, "broken") == 1


@pytest.mark.parametrize(
    ("code", "failures", "collected_all", "expected"),
    [
        (1, 1, True, True),
        (1, MOST_FAILURES, True, True),
        (1, MOST_FAILURES + 1, True, False),
        (1, 0, True, False),  # it failed for another reason than a test
        (1, 1, False, False),
        (2, 1, True, False),  # interrupted
        (3, 1, True, False),
    ],
)
def test_who_deserves_one(code: int, failures: int, collected_all: bool, expected: bool) -> None:
    notes = Notes({f"test_{number}": "" for number in range(failures)}, collected_all)
    assert deserve_one(code, notes) is expected
