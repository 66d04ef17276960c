"""Who runs what when several processes share the tests (``-n``).

Tests are of four kinds, each with a queue of its own. Those that *measure* compare times with Go's, or need most of the
machine: they run one after the other on one process. *Container* tests do too, since they share an engine and images
that take long to build. *Busy* tests (unit, fuzz, sim) keep a processor busy all the time: one process begins with
them, so that they leave the other processor to those who measure. The rest of the interop tests mostly *wait*; any
number of processes runs them side by side. Each process turns to the queues in an order of its own, so that nobody is
idle before all are empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

__all__ = ["BUSY", "CONTAINER", "MEASURES", "WAITS", "Sharing", "kind_of", "read_kinds", "write_kinds"]

MEASURES = "measures"
CONTAINER = "container"
BUSY = "busy"
WAITS = "waits"
IN_TURN = frozenset((MEASURES, CONTAINER))
"""Kinds whose tests all run on one process, in turn."""
TURNS = (
    (MEASURES, WAITS, BUSY, CONTAINER),
    (BUSY, WAITS, CONTAINER, MEASURES),
    (CONTAINER, WAITS, BUSY, MEASURES),
    (WAITS, CONTAINER, BUSY, MEASURES),
)
"""The order in which each process turns to the queues; a fifth process does as the last one of these."""
AHEAD = 2
"""Tests that a process is given at once: pytest starts a test when it knows the one after it."""


def kind_of(item: pytest.Item) -> str:
    """Return the queue that a test belongs to."""
    if item.get_closest_marker("measures"):
        return MEASURES
    for kind, marker in ((CONTAINER, "container"), (WAITS, "interop")):
        if item.get_closest_marker(marker):
            return kind
    return BUSY


def write_kinds(path: Path, items: Iterable[pytest.Item]) -> None:
    """Write down the kind of each test, and whether it is slow, for the process that shares them out.

    That one collects no tests itself, and xdist tells it no more than their names.
    """
    kinds = {item.nodeid: (kind_of(item), item.get_closest_marker("slow") is not None) for item in items}
    path.write_text(json.dumps(kinds), encoding="utf-8")


def read_kinds(path: Path) -> dict[str, tuple[str, bool]]:
    """Return what :func:`write_kinds` wrote."""
    kinds: dict[str, tuple[str, bool]] = {}
    for name, (kind, slow) in json.loads(path.read_text(encoding="utf-8")).items():
        kinds[name] = (kind, slow)
    return kinds


class Sharing(LoadScopeScheduling):  # type: ignore[misc]
    """Shares out the tests by their kinds; a unit of work is a test, or all tests of a kind that runs in turn."""

    def __init__(self, config: pytest.Config, log: Producer | None, kinds_file: Path) -> None:
        """``kinds_file``: where :func:`write_kinds` has written before :meth:`schedule` is called."""
        super().__init__(config, log)
        self._kinds_file = kinds_file
        self._kinds: Mapping[str, tuple[str, bool]] = {}
        self._places: dict[WorkerController, int] = {}

    def add_node(self, node: WorkerController) -> None:
        """Begin with a process: its place decides what it does first."""
        super().add_node(node)
        taken = set(self._places.values())  # by processes that live, so that who follows one that crashed goes on
        self._places[node] = next(place for place in range(len(taken) + 1) if place not in taken)

    def remove_node(self, node: WorkerController) -> str | None:
        """Forget a process that ended; return the test that it died of, which is not tried again by another one."""
        self._places.pop(node, None)
        units = self.assigned_work[node].values()
        crashed: str | None = next((name for unit in units for name, ended in unit.items() if not ended), None)
        for unit in units:
            if crashed in unit:
                unit[crashed] = True
        super().remove_node(node)
        return crashed

    def schedule(self) -> None:
        """Begin: see :class:`LoadScopeScheduling`."""
        if not self._kinds:
            self._kinds = read_kinds(self._kinds_file)
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        kind, _ = self._kinds[nodeid]
        return kind if kind in IN_TURN else nodeid

    def _next_unit(self, place: int) -> str:
        """Return what the process at ``place`` does next: of its first queue that has something, slow ones first."""
        turns = TURNS[min(place, len(TURNS) - 1)]

        def rank(unit: str) -> tuple[int, bool]:
            kind, slow = (unit, True) if unit in IN_TURN else self._kinds[unit]
            return turns.index(kind), not slow

        unit: str = min(self.workqueue, key=rank)
        return unit

    def _assign_work_unit(self, node: WorkerController) -> None:
        unit = self._next_unit(self._places[node])
        self.workqueue.move_to_end(unit, last=False)
        if unit == MEASURES:
            # Backwards: those in containers find the images that another process has made by then, and the builds for
            # the sanitizers fall together with those of the busy tests, when nothing is measured yet.
            self.workqueue[unit] = dict(reversed(self.workqueue[unit].items()))
        super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if not self.workqueue or node.shutting_down:
            super()._reschedule(node)  # it finishes what it has
        while self.workqueue and not node.shutting_down and self._pending_of(self.assigned_work[node]) < AHEAD:
            self._assign_work_unit(node)
