"""Runs pytest as CI does: a few tests that failed beside others run once more, one after the other, on a quiet machine.

    python -m tests.second_chance [pytest arguments]

Real daemons on a busy machine fail now and then through no fault of theirs, and one such failure must not cost a whole
run. Nothing is hidden by it: who fails twice has failed, more than ``MOST_FAILURES`` failures get no second chance, and
who passes the second time stands in a list of unstable tests, with the first failure's message.

The module is also the pytest plugin of both runs: in the first one it writes down what failed (``--note-failures``), in
the second one it judges and reports (``--second-chance-of``). pytest's closing line stays the last one printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

__all__ = ["MOST_FAILURES", "Notes", "main"]

MOST_FAILURES = 5
"""Failed tests that get a second chance; more of them are no accident."""
MESSAGE_LINES = 30
"""Last lines of a first failure that are shown again."""
HANG_SECONDS = 480
"""A test that takes longer hangs (not with ``--soak``): its process is ended, with the stacks of all threads in the
output. With ``-n`` another process takes its place, and the rest of the tests goes on."""
KEPT_OPTIONS = ("--soak",)
"""Arguments of the first run that the second one needs to find its tests; all others say which tests run, or how."""


@dataclass
class Notes:
    """What the first run leaves for the second."""

    failures: dict[str, str] = field(default_factory=dict)
    """The message of each failed test by its name (node id)."""
    collected_all: bool = True
    """False if a file could not be collected: then it is unknown what else would have failed."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many tests ended how: ``{"passed": 100, "failed": 2}``."""
    seconds: float = 0.0


class _NoteFailures:
    """Plugin of the first run."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes = Notes()
        self._started = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure: of the test, or of what is set up or torn down for it."""
        if report.failed:
            self._notes.failures.setdefault(report.nodeid, report.longreprtext)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Note that a file could not be collected."""
        if report.failed:
            self._notes.collected_all = False

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write it all down."""
        stats = terminalreporter.stats
        outcomes = ("passed", "failed", "error", "skipped", "xfailed", "xpassed")
        self._notes.counts = {name: len(stats[name]) for name in outcomes if stats.get(name)}
        self._notes.seconds = time.monotonic() - self._started
        self._path.write_text(json.dumps(asdict(self._notes)), encoding="utf-8")


class _Judge:
    """Plugin of the second run."""

    def __init__(self, first: Notes) -> None:
        self._first = first
        self._passed: set[str] = set()
        self._failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count who passes: with all that is set up and torn down."""
        if report.failed:
            self._failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self._passed.add(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Fail unless each of them has passed: one that was skipped, or was not found, has not."""
        if exitstatus == pytest.ExitCode.OK and self._unstable() != self._first.failures.keys():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Tell how each of them fared, and what the first run said."""
        unstable = self._unstable()
        counts = ", ".join(f"{number} {name}" for name, number in self._first.counts.items())
        terminalreporter.section("second chance")
        terminalreporter.line(f"The first run: {counts} in {self._first.seconds:.0f} s.")
        for title, names in (
            ("UNSTABLE: failed beside others, passed alone", unstable),
            ("FAILED TWICE", self._failed),
            ("FAILED, then skipped or not found", self._first.failures.keys() - unstable - self._failed),
        ):
            if names:
                terminalreporter.line("")
                terminalreporter.line(title)
            for name in sorted(names):
                terminalreporter.line(f"  {name}")
                for line in self._first.failures.get(name, "").splitlines()[-MESSAGE_LINES:]:
                    terminalreporter.line(f"    | {line}")

    def _unstable(self) -> set[str]:
        return (self._passed - self._failed) & self._first.failures.keys()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose which run this is."""
    group = parser.getgroup("second chance")
    group.addoption("--note-failures", metavar="FILE", help="write down what failed, for --second-chance-of")
    group.addoption("--second-chance-of", metavar="FILE", help="judge tests that failed in the run that wrote FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Take up the plugin of this run, in the process that reports."""
    if hasattr(config, "workerinput"):
        return
    if path := config.getoption("--note-failures"):
        config.pluginmanager.register(_NoteFailures(Path(path)))
    if path := config.getoption("--second-chance-of"):
        config.pluginmanager.register(_Judge(read_notes(Path(path))))


def read_notes(path: Path) -> Notes:
    """Return what the first run has left."""
    return Notes(**json.loads(path.read_text(encoding="utf-8")))


def deserve_one(code: int, notes: Notes) -> bool:
    """Whether the tests that failed in a first run, which ended with exit code ``code``, run once more."""
    few = 0 < len(notes.failures) <= MOST_FAILURES
    return code == pytest.ExitCode.TESTS_FAILED and notes.collected_all and few


def main(arguments: Sequence[str]) -> int:
    """Run pytest with ``arguments`` and then, if that is due, its failed tests alone; return the exit code."""
    pytest_command = [sys.executable, "-m", "pytest", "-p", "tests.second_chance"]
    if "--soak" not in arguments:
        hanging = {"faulthandler_timeout": HANG_SECONDS, "faulthandler_exit_on_timeout": "true"}
        pytest_command += [f"--override-ini={name}={value}" for name, value in hanging.items()]
    with tempfile.TemporaryDirectory(prefix="yggpy-tests-") as folder:
        path = Path(folder, "first-run.json")
        code = subprocess.call([*pytest_command, f"--note-failures={path}", *arguments])
        if not path.exists():  # it ended before it had anything to report
            return code
        notes = read_notes(path)
        if not deserve_one(code, notes):
            return code
        print(f"\n{len(notes.failures)} failed: once more, one after the other, with nothing beside them\n", flush=True)
        kept = [argument for argument in arguments if argument in KEPT_OPTIONS]
        command = [*pytest_command, f"--second-chance-of={path}", *kept, *notes.failures]
        return subprocess.call(command, env=os.environ | {"PYTEST_ADDOPTS": ""})


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
