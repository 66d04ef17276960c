"""What this build calls itself, for ``-version``, the first log lines, ``getSelf`` and node info.

The name is ``yggpy`` rather than ``yggdrasil``: who surveys the network, or debugs a mixed one, must be able to tell
the implementations apart. The version is that of the installed package.
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["BUILD_NAME", "build_version"]

BUILD_NAME = "yggpy"
_DISTRIBUTION = "yggpy"


@lru_cache(maxsize=1)
def build_version() -> str:
    """Return the package's version, or ``unknown`` when it runs from a tree that was never installed."""
    from importlib.metadata import PackageNotFoundError, version  # slow to load, and seldom asked for

    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"
