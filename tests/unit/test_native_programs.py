"""The C tests of the data plane, which need no Python: built with sanitizers and run one by one.

ASan and UBSan see errors of memory and arithmetic, TSan races between the engine's thread and its callers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "native"
TIMEOUT = 600


def run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-4000:]}"


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_c_tests_pass_under(sanitizers: str, tmp_path: Path) -> None:
    missing = [tool for tool in ("cmake", "gcc") if shutil.which(tool) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"the C tests need {' and '.join(missing)} (apt-packages.txt)")
    run(
        "cmake",
        "-S",
        NATIVE,
        "-B",
        tmp_path,
        "-DYGGPY_EXTENSION=OFF",
        "-DYGGPY_TESTS=ON",
        f"-DYGGPY_SANITIZE={sanitizers}",
    )
    run("cmake", "--build", tmp_path, "--parallel", "2")
    run("ctest", "--test-dir", tmp_path, "--output-on-failure", "--parallel", "2")
