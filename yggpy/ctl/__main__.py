"""``python -m yggpy.ctl`` is ``yggpy-ctl``."""

from __future__ import annotations

import sys

from yggpy.ctl.main import main

if __name__ == "__main__":
    sys.exit(main())
