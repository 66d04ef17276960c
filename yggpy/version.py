"""What this build calls itself, for ``-version``, the first log lines, ``getSelf`` and node info.

The name is ``yggpy`` rather than ``yggdrasil``: who surveys the network, or debugs a mixed one, must be able to tell
the implementations apart. The package takes its version from here; to ask ``importlib.metadata`` costs a megabyte.
"""

from __future__ import annotations

__all__ = ["BUILD_NAME", "build_version"]

BUILD_NAME = "yggpy"
VERSION = "0.1.0"


def build_version() -> str:
    """Return the package's version."""
    return VERSION
