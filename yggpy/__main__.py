"""``python -m yggpy`` is ``yggpy-node``."""

from __future__ import annotations

from yggpy.cli.node import main

if __name__ == "__main__":
    raise SystemExit(main())
