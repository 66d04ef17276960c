"""Options and gates of the whole suite: what this machine can't run is skipped with a plain reason, but fails in CI."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.workermanage import WorkerController

from tests import sharing
from tests.container import engine as containers
from tests.gates import gate, required
from tests.interop import lab as labs
from tests.interop.go_node import GoNodeUnavailableError, GoPrograms, obtain, pins

NATIVE_VARIABLE = "YGGPY_NATIVE"
"""Environment variable that, set to ``require``, makes a missing native data plane an error; ``CI=true`` does too."""
NATIVE_ONLY = frozenset(
    (
        "test_datapath_choice.py",
        "test_native_box.py",
        "test_native_datapath.py",
        "test_native_programs.py",
        "test_native_streams.py",
        "test_planes.py",
        "test_sanitizers.py",
    )
)
"""Files that cannot do without the native data plane."""
FOLDER_MARKERS = ("interop", "container")
"""Folders whose tests bear a marker of the same name."""
_failed_tests = pytest.StashKey[bool]()
_kinds_folder = pytest.StashKey["tempfile.TemporaryDirectory[str]"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--soak``."""
    parser.addoption("--soak", action="store_true", help="also run the soak tests, which take minutes by intent")


def _native_left_out() -> str:
    """Return why tests of the native data plane are left out; empty when they are not."""
    if os.environ.get("CI") == "true" or os.environ.get(NATIVE_VARIABLE) == "require":
        return ""
    try:
        import yggpy.datapath.native  # noqa: F401
    except ImportError as error:
        return f"the native data plane is not built ({error})"
    return ""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files that cannot even be imported without the native data plane."""
    return True if collection_path.name in NATIVE_ONLY and _native_left_out() else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by their folder, and leave the soak tests out unless they are asked for."""
    for item in items:
        for name in FOLDER_MARKERS:
            if name in item.path.parent.parts:
                item.add_marker(name)
    if native := _native_left_out():
        for item in items:
            if "native" in getattr(getattr(item, "callspec", None), "params", {}).values():
                item.add_marker(pytest.mark.skip(reason=native))
    workerinput = getattr(config, "workerinput", {})
    if workerinput.get("workerid") == "gw0":
        sharing.write_kinds(Path(workerinput["kinds_file"]), items)
    if config.getoption("--soak"):
        return
    left_out = [item for item in items if item.get_closest_marker("soak")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say what is left out before the first test runs."""
    lines = []
    if not config.getoption("--soak"):
        lines.append("soak tests: left out (--soak runs them)")
    if subject := os.environ.get(labs.SUBJECT_VARIABLE):
        lines.append(f"interop: REHEARSAL, the Go node {subject} takes the part of yggpy")
    if native := _native_left_out():
        lines.append(f"native data plane: left out: {native}")
    reason = labs.obstacle()
    if reason:
        lines.append(f"interop: {'REQUIRED, but ' if required() else 'left out: '}{reason}")
    if reason := containers.obstacle():
        lines.append(f"container: {'REQUIRED, but ' if required() else 'left out: '}{reason}")
    return lines


@pytest.fixture(scope="session")
def go_programs() -> dict[str, GoPrograms]:
    """The real Go node's programs by the version that the tests ask for."""
    try:
        return {version: obtain(version) for version in dict.fromkeys(pin.upstream for pin in pins())}
    except GoNodeUnavailableError as error:
        gate(f"no Go node: {error}")


@pytest.fixture(scope="session")
def _namespaces() -> None:
    if reason := labs.obstacle():
        gate(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note on the test whether it failed, for the ``lab`` fixture's report."""
    report = yield
    if report.when == "call":
        item.stash[_failed_tests] = report.failed
    return report


def _kinds_file(config: pytest.Config) -> Path:
    """Return where one of the processes that share the tests (``-n``) leaves word of their kinds."""
    if _kinds_folder not in config.stash:
        config.stash[_kinds_folder] = tempfile.TemporaryDirectory(prefix="yggpy-tests-")
        config.add_cleanup(config.stash[_kinds_folder].cleanup)
    return Path(config.stash[_kinds_folder].name, "kinds.json")


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: WorkerController) -> None:
    """Tell a process that runs a share of the tests where to leave word of their kinds."""
    node.workerinput["kinds_file"] = str(_kinds_file(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> sharing.Sharing:
    """Say who runs what when several processes share the tests (``-n``)."""
    return sharing.Sharing(config, log, _kinds_file(config))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked ``both_planes`` twice, with our nodes on the one data plane and on the other."""
    if metafunc.definition.get_closest_marker("both_planes"):
        metafunc.parametrize("plane", ["native", "pure"], indirect=True)


@pytest.fixture
def plane(request: pytest.FixtureRequest) -> str | None:
    """The data plane of our nodes; None: the one that a user would get."""
    chosen: str | None = getattr(request, "param", None)
    return chosen


@pytest.fixture
def lab(
    request: pytest.FixtureRequest, _namespaces: None, go_programs: dict[str, GoPrograms], plane: str | None
) -> Iterator[labs.Lab]:
    """An empty lab; after a failed test the ends of all logs are printed."""
    with labs.Lab(go_programs, plane) as made:
        yield made
        if request.node.stash.get(_failed_tests, False):
            print(made.tails())
