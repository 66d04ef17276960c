"""Collects what is wrong with a configuration, so that whoever mends it is told all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from yggpy.errors import ConfigError

__all__ = ["ConfigProblems", "Problems"]

_T = TypeVar("_T")


class ConfigProblems(ConfigError):
    """More than one thing is wrong; as a line it is the first one and how many there are besides."""

    def __init__(self, problems: tuple[ConfigError, ...]) -> None:
        more = len(problems) - 1
        super().__init__(f"{problems[0]} (and {more} more problem{'s' if more > 1 else ''})", problems[0].key)
        self._problems = problems

    @property
    def problems(self) -> tuple[ConfigError, ...]:
        """See ``ConfigError``."""
        return self._problems


class Problems:
    """Tries one thing after the other and keeps what went wrong."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []

    def attempt(self, act: Callable[[], _T], key: str = "") -> _T | None:
        """Return what ``act`` returns; None when it raises ``ConfigError``, which is about ``key`` if it names none."""
        try:
            return act()
        except ConfigError as error:
            for problem in error.problems:
                problem.key = problem.key or key
                self._found.append(problem)
            return None

    def raise_any(self) -> None:
        """Raise what has been found, if anything, as one ``ConfigError``."""
        if len(self._found) == 1:
            raise self._found[0] from None
        if self._found:
            raise ConfigProblems(tuple(self._found))
