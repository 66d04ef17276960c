"""Which data plane a node uses: the one in C where it was built, else the one in Python.

``YGGPY_DATAPATH`` decides against that: ``native`` makes its absence an error, ``pure`` does without it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from yggpy.errors import YggpyError

if TYPE_CHECKING:
    from yggpy.core import DatapathFactory

__all__ = ["DATAPATH_VARIABLE", "DatapathChoice", "DatapathError", "choose_datapath"]

DATAPATH_VARIABLE = "YGGPY_DATAPATH"
"""The environment variable that chooses: ``native``, ``pure``, or empty for the best there is."""


class DatapathError(YggpyError):
    """The data plane that was asked for cannot be used; the text says why and what to do."""


class DatapathChoice(NamedTuple):
    """A data plane and why it was chosen."""

    name: str
    """``native`` or ``pure``."""
    factory: DatapathFactory
    shortcoming: str
    """Why it is not the native one, as one line for the log; empty when nothing is missing."""


def choose_datapath(wanted: str | None = None) -> DatapathChoice:
    """Return the data plane called ``wanted`` (default: what the environment says). Raises :class:`DatapathError`."""
    if wanted is None:
        wanted = os.environ.get(DATAPATH_VARIABLE, "")
    if wanted not in ("", "native", "pure"):
        raise DatapathError(f'{DATAPATH_VARIABLE} is "{wanted}"; it can be native or pure')
    shortcoming = ""
    if wanted != "pure":
        try:
            from yggpy.datapath.native import NativeDatapath
        except ImportError as error:
            if wanted == "native":
                raise DatapathError(
                    f"the native data plane does not load ({error}); build it (a C compiler and OpenSSL's headers are "
                    f"needed when yggpy is installed), or set {DATAPATH_VARIABLE}=pure"
                ) from None
            shortcoming = f"Using the data plane in Python, which is slower: the native one does not load ({error})"
        else:
            return DatapathChoice("native", NativeDatapath, "")
    from yggpy.datapath.pure import PureDatapath

    return DatapathChoice("pure", PureDatapath, shortcoming)
