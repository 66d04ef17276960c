"""How long each stage of the native packet path takes by itself: ``.venv/bin/python -m benchmarks.stages``.

Builds the C programs ``bench_stages`` and ``bench_box`` of ``native/tests`` as the extension is built, and runs them.
There are no sockets and no Go node: it compares one version of a stage with another, on one machine.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "stages"
PROGRAMS = ("bench_stages", "bench_box")


def main() -> int:
    """Build and run; return the first exit code that is not 0."""
    options = ["-DYGGPY_EXTENSION=OFF", "-DYGGPY_TESTS=ON"]
    configure: list[str | Path] = ["cmake", "-S", ROOT / "native", "-B", BUILD, *options]
    build: list[str | Path] = ["cmake", "--build", BUILD, "--target", *PROGRAMS]
    commands: list[list[str | Path]] = [configure, build]
    for command in commands:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode:
            print(done.stdout, file=sys.stderr)
            return done.returncode
    for program in PROGRAMS:
        done = subprocess.run([BUILD / program], text=True, check=False)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
