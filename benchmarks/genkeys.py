"""Keys per second of ``yggpy-genkeys`` and of ``yggdrasil-genkeys``, in turns on all cores of this machine.

``.venv/bin/python -m benchmarks.genkeys [--seconds S] [--rounds N]``. The Go program adds up only what each of its
threads had tried at its last winner, so one process with one thread is started for each core: there, the count beside
a winner is right.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.interop.go_node import GoNodeUnavailableError, obtain
from yggpy.links.uri import parse_duration

GO_VERSION = "0.5.14"
_GO_LINE = re.compile(r"^----- (\S+) --- (\d+) keys tried$", re.MULTILINE)
_OUR_LINE = re.compile(r": (\d+) keys tried in (\S+)$", re.MULTILINE)


def go_rate(program: Path, seconds: float, cores: int) -> float:
    """Return the keys per second that ``cores`` processes of Go's program try together."""
    environment = os.environ | {"GOMAXPROCS": "1"}
    processes = [subprocess.Popen([program], env=environment, stdout=subprocess.PIPE, text=True) for _ in range(cores)]
    outputs = ["" for _ in processes]

    def read(index: int) -> None:
        outputs[index] = processes[index].communicate()[0]

    readers = [threading.Thread(target=read, args=(index,)) for index in range(cores)]
    for reader in readers:
        reader.start()
    time.sleep(seconds)
    for process in processes:
        process.send_signal(signal.SIGINT)
    for reader in readers:
        reader.join()
    total = 0.0
    for output in outputs:
        elapsed, tried = _GO_LINE.findall(output)[-1]
        total += int(tried) / parse_duration(elapsed)
    return total


def our_rate(seconds: float) -> float:
    """Return the keys per second that our program tries."""
    command = [sys.executable, "-m", "yggpy.cli.genkeys", "-time", f"{seconds}s"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = _OUR_LINE.search(done.stderr)
    if found is None:
        raise RuntimeError(f"yggpy-genkeys did not say how many keys it tried: {done.stderr!r}")
    return int(found[1]) / parse_duration(found[2])


def main() -> int:
    """Measure and print; 1 when Go's program cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.genkeys", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are measured (default %(default)s)")
    options = parser.parse_args()
    try:
        program = obtain(GO_VERSION).node.with_name("yggdrasil-genkeys")
    except GoNodeUnavailableError as error:
        print(f"benchmarks.genkeys: {error}", file=sys.stderr)
        return 1
    cores = len(os.sched_getaffinity(0))
    pairs = [(go_rate(program, options.seconds, cores), our_rate(options.seconds)) for _ in range(options.rounds)]
    for go, ours in pairs:
        print(f"yggdrasil-genkeys {go:12,.0f} keys/s    yggpy-genkeys {ours:12,.0f} keys/s    ratio {ours / go:6.1f}")
    print(f"median ratio on {cores} cores: {statistics.median(ours / go for go, ours in pairs):.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
