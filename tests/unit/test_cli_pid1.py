"""Duties of the first process of a container. As one it is tested in ``tests/container/test_image.py``."""

from __future__ import annotations

import signal
import subprocess
import sys

from yggpy.cli.pid1 import is_first_process

ORPHANS = """
import asyncio, os, subprocess, sys
from yggpy.cli.pid1 import reap_orphans

async def main():
    early = subprocess.Popen(["true"])  # ends before anybody looks
    os.waitid(os.P_PID, early.pid, os.WEXITED | os.WNOWAIT)
    reap_orphans(asyncio.get_running_loop())
    children = [early, *(subprocess.Popen(["true"]) for _ in range(5))]
    for child in children:
        async with asyncio.timeout(30):
            while os.path.exists(f"/proc/{child.pid}"):
                await asyncio.sleep(0.01)
        child.returncode = 0  # waited for already
    print(len(children))

asyncio.run(main())
"""


def test_this_is_not_the_first_process() -> None:
    assert not is_first_process()


def test_children_that_ended_do_not_stay() -> None:
    # In a process of its own: this one waits for its children itself.
    done = subprocess.run([sys.executable, "-c", ORPHANS], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


def test_without_children_there_is_nothing_to_do() -> None:
    program = "from yggpy.cli.pid1 import reap; print(reap())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


def test_sigterm_before_the_loop_ends_the_process() -> None:
    start = "from yggpy.cli.pid1 import end_at_sigterm; end_at_sigterm(); print('begun', flush=True)"
    # Many short sleeps: a signal that comes just before a system call does not interrupt it.
    program = f"{start}; import time; [time.sleep(0.05) for _ in range(1200)]"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM
