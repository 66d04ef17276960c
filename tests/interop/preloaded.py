"""Our node with another build of its extension, run as a program inside a namespace.

    preloaded.py EXTENSION yggpy-node's flags...

EXTENSION is the path of a built ``_native`` module; it takes the place of the installed one.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location

NAME = "yggpy.datapath._native"


def preload(path: str) -> None:
    """Put the extension at ``path`` where the import of the installed one would look first."""
    spec = spec_from_file_location(NAME, path, loader=ExtensionFileLoader(NAME, path))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NAME] = module


if __name__ == "__main__":
    preload(sys.argv.pop(1))
    os.environ["YGGPY_DATAPATH"] = "native"
    from yggpy.cli.node import main

    raise SystemExit(main())
