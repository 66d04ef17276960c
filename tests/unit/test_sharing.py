"""``tests/sharing.py``: which process is given which tests, with processes that only write down what they are told."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.sharing import BUSY, CONTAINER, MEASURES, TURNS, WAITS, Sharing

KINDS = {
    "busy-1": (BUSY, False),
    "busy-2": (BUSY, False),
    "busy-slow": (BUSY, True),
    "container-1": (CONTAINER, False),
    "container-2": (CONTAINER, False),
    "measures-1": (MEASURES, True),
    "measures-2": (MEASURES, False),
    "waits-1": (WAITS, False),
    "waits-2": (WAITS, False),
    "waits-slow": (WAITS, True),
}
NAMES = list(KINDS)


class _Process:
    """What the scheduler sees of an xdist worker."""

    def __init__(self) -> None:
        self.gateway = SimpleNamespace(id="process")
        self.given: list[str] = []
        self.shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += [NAMES[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


@pytest.fixture
def sharing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sharing:
    path = tmp_path / "kinds.json"
    path.write_text(json.dumps(KINDS))
    monkeypatch.setattr("xdist.scheduler.loadscope.parse_tx_spec_config", lambda config: [None] * 4)
    config: Any = SimpleNamespace(option=SimpleNamespace(loadscopereorder=False))
    return Sharing(config, None, path)


def begin(sharing: Sharing, count: int) -> list[Any]:
    """Let that many processes begin."""
    sharing.numnodes = count
    processes = [_Process() for _ in range(count)]
    for process in processes:
        sharing.add_node(process)
        sharing.add_node_collection(process, NAMES)
    sharing.schedule()
    return processes


def finish(sharing: Sharing, process: Any) -> None:
    """Let a process finish the first test that it has been given and not finished."""
    done = {name for unit in sharing.assigned_work[process].values() for name, ended in unit.items() if ended}
    name = next(name for name in process.given if name not in done)
    sharing.mark_test_complete(process, NAMES.index(name))


def test_each_process_begins_with_a_queue_of_its_own(sharing: Sharing) -> None:
    measures, busy, container, waits = begin(sharing, len(TURNS))
    assert measures.given == ["measures-2", "measures-1"]
    assert busy.given == ["busy-slow", "busy-1"]
    assert container.given == ["container-1", "container-2"]
    assert waits.given == ["waits-slow", "waits-1"]


def test_nobody_is_idle_before_all_is_given_away_and_each_test_runs_once(sharing: Sharing) -> None:
    processes = begin(sharing, len(TURNS))
    finish(sharing, processes[0])  # the last one that measures begins only when its process knows what comes next
    assert processes[0].given == ["measures-2", "measures-1", "waits-2"]
    finish(sharing, processes[2])
    assert processes[2].given == ["container-1", "container-2", "busy-2"]
    finish(sharing, processes[3])
    assert processes[3].shutting_down  # it runs what it was given, and ends
    assert sorted(name for process in processes for name in process.given) == NAMES


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_processes_runs_all(sharing: Sharing, count: int) -> None:
    processes = begin(sharing, count)
    while any(len(process.given) > done(sharing, process) for process in processes):
        for process in processes:
            if len(process.given) > done(sharing, process):
                finish(sharing, process)
    assert sorted(name for process in processes for name in process.given) == NAMES
    assert sharing.tests_finished
    for kind in (MEASURES, CONTAINER):  # in turn, on one process
        assert sum(any(name.startswith(kind) for name in process.given) for process in processes) == 1


def done(sharing: Sharing, process: Any) -> int:
    return sum(list(unit.values()).count(True) for unit in sharing.assigned_work[process].values())


def test_who_follows_a_process_that_crashed_takes_its_place(sharing: Sharing) -> None:
    processes = begin(sharing, len(TURNS))
    assert sharing.remove_node(processes[0]) == "measures-2"
    follower: Any = _Process()
    sharing.add_node(follower)
    sharing.add_node_collection(follower, NAMES)
    sharing.schedule()
    assert follower.given == ["measures-1", "waits-2"]  # not again what its predecessor died of
