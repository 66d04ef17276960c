"""When to ask which node how it calls itself. No clock: ``now`` is an argument.

Everybody is asked at the start and every ``REFRESH`` seconds; who does not answer, at growing intervals. A question
about a name that nobody has is a reason to ask sooner. What a client of the responder can cause by that is bounded: by
the gaps for each key, and by ``QUESTIONS_PER_SECOND`` and ``MAX_AT_ONCE`` for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from yggpy.keys import PublicKey

__all__ = ["MAX_AT_ONCE", "QUESTIONS_PER_SECOND", "REFRESH", "RollCall"]

REFRESH = 600.0
"""Seconds after which a node that has answered is asked again."""
FIRST_RETRY = 10.0
"""Seconds after which a node that has not answered is asked again; doubled each time, up to ``REFRESH``."""
SOONER_HEARD = 15.0
"""Least seconds between two questions to a node that answers, however many unknown names are asked for."""
SOONER_SILENT = 60.0
"""The same for a node that did not answer last time."""
QUESTIONS_PER_SECOND = 8
MAX_AT_ONCE = 16
"""Questions that may be on their way at a time."""


@dataclass(slots=True)
class _Entry:
    due: float
    asked_at: float = float("-inf")
    asking: bool = False
    silences: int = 0


class RollCall:
    """Whom to ask, and when."""

    def __init__(self, keys: Iterable[PublicKey], now: float) -> None:
        self._entries = {key: _Entry(now) for key in keys}
        self._second, self._asked = 0, 0

    def change(self, keys: Iterable[PublicKey], now: float) -> None:
        """Ask these from now on; who is among them already keeps his time."""
        self._entries = {key: self._entries.get(key) or _Entry(now) for key in keys}

    def take_due(self, now: float) -> list[PublicKey]:
        """Return whom to ask now. Each is to be followed by ``answered`` or ``silent``."""
        asking = sum(entry.asking for entry in self._entries.values())
        waiting = sorted(
            (entry.due, entry.silences, index, key)
            for index, (key, entry) in enumerate(self._entries.items())
            if entry.due <= now and not entry.asking
        )
        taken = []
        for _, _, _, key in waiting[: max(MAX_AT_ONCE - asking, 0)]:
            if not self._allow(now):
                break
            entry = self._entries[key]
            entry.asking, entry.asked_at = True, now
            taken.append(key)
        return taken

    def _allow(self, now: float) -> bool:
        if int(now) != self._second:
            self._second, self._asked = int(now), 0
        self._asked += 1
        return self._asked <= QUESTIONS_PER_SECOND

    def next_due(self) -> float | None:
        """Return when ``take_due`` may return somebody, who is not asked already; None: nobody."""
        return min((entry.due for entry in self._entries.values() if not entry.asking), default=None)

    def hurry(self, now: float) -> bool:
        """An unknown name was asked for: make due whom enough time has passed for. Whether there is anybody."""
        found = False
        for entry in self._entries.values():
            gap = SOONER_SILENT if entry.silences else SOONER_HEARD
            if not entry.asking and now - entry.asked_at >= gap:
                entry.due = min(entry.due, now)
                found = True
        return found

    def asked_since(self, then: float) -> bool:
        """Tell whether somebody asked at ``then`` or later has not answered yet."""
        return any(entry.asking and entry.asked_at >= then for entry in self._entries.values())

    def answered(self, key: PublicKey, now: float) -> None:
        """Node ``key`` has answered."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.asking, entry.silences, entry.due = False, 0, now + REFRESH

    def silent(self, key: PublicKey, now: float) -> None:
        """Node ``key`` has not answered in time."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.asking = False
            entry.due = now + min(FIRST_RETRY * 2 ** min(entry.silences, 10), REFRESH)
            entry.silences += 1
