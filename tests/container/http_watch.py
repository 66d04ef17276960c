"""Runs on a host of the tests: gets a web page again and again, and prints when it came and what it said.

usage: http_watch.py URL INTERVAL. Prints a line of JSON, ``[Unix time, first line of the page]``, for each answer of
status 200, until it is ended. What fails is tried again at once: nothing is printed of that.
"""

from __future__ import annotations

import json
import sys
import time
from urllib.request import ProxyHandler, build_opener

TIMEOUT = 5.0
"""Seconds that one attempt may take."""


def main() -> None:
    """Get the page until killed."""
    url, interval = sys.argv[1], float(sys.argv[2])
    opener = build_opener(ProxyHandler({}))
    while True:
        try:
            with opener.open(url, timeout=TIMEOUT) as answer:
                line = answer.read().decode().splitlines()[0]
        except (OSError, IndexError):  # refused, reset, 502, 504; empty
            pass
        else:
            print(json.dumps([time.time(), line]), flush=True)
        time.sleep(interval)


if __name__ == "__main__":
    main()
