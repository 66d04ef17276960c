"""What happens to tests that this machine cannot run: skipped with the reason, but failed where they are required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

__all__ = ["REQUIRE_VARIABLE", "gate", "required"]

REQUIRE_VARIABLE = "YGGPY_REQUIRE_INTEROP"
"""Environment variable that, set to 1, makes every gate an error; ``CI=true`` does the same."""


def required() -> bool:
    """Whether all tests must run here."""
    return os.environ.get("CI") == "true" or os.environ.get(REQUIRE_VARIABLE) == "1"


def gate(reason: str, kind: str = "interop") -> NoReturn:
    """Leave the test out, or fail it where it is required."""
    if required():
        pytest.fail(f"{kind} tests are required (CI=true or {REQUIRE_VARIABLE}=1), but: {reason}", pytrace=False)
    pytest.skip(reason)
