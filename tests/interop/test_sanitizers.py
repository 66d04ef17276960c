"""The native data plane under gcc's sanitizers, in real nodes under load: no bad memory access, no data race.

Three nodes of ours run a sanitized build of the extension, one of them as the router in the middle; a Go node is the
fourth. They ping, transfer with small and large packets, lose links and come back, and end; whatever a sanitizer has to
say would be in a node's log, and such a node aborts.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import ping, require_all_pairs, wait_reachable
from tests.interop.nodes import MeshNode, YggNode

PROJECT = Path(__file__).parents[2]
LAUNCHER = Path(__file__).with_name("preloaded.py")
GO = "0.5.14"
SMALL_MTU, LARGE_MTU = 1500, 65535
SECONDS = 2
SPEECH = ("Sanitizer", "runtime error:")
"""What the reports of all sanitizers have in common."""


class Sanitizer(NamedTuple):
    """How to build with a sanitizer, and to run with it in a program that was not built with it."""

    flags: str
    libraries: tuple[str, ...]
    environment: dict[str, str]


SANITIZERS = {
    "address": Sanitizer(
        "address,undefined",
        ("libasan.so", "libubsan.so"),
        {
            "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
            "PYTHONMALLOC": "malloc",  # so that what Python hands over is watched as well
        },
    ),
    "thread": Sanitizer("thread", ("libtsan.so",), {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}),
}


def _library(name: str) -> str:
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        pytest.skip(f"gcc has no {name} here")
    return found


def _command(name: str, folder: Path) -> list[str | Path]:
    """Build the extension and return what starts a node with it."""
    for program in ("cmake", "gcc", "iperf3", "setarch"):
        if shutil.which(program) is None:
            pytest.skip(f"no program {program}")
    sanitizer = SANITIZERS[name]
    libraries = " ".join(_library(library) for library in sanitizer.libraries)
    settings = [f"-DYGGPY_SANITIZE={sanitizer.flags}", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run(["cmake", "-S", PROJECT / "native", "-B", folder, *settings], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "-j2", "--target", "_native"], check=True, stdout=subprocess.DEVNULL)
    (extension,) = folder.glob("_native*.so")
    environment = {**sanitizer.environment, "LD_PRELOAD": libraries}
    assignments = [f"{variable}={value}" for variable, value in environment.items()]
    # Without random addresses: the shadow memory of ThreadSanitizer has fixed places.
    return ["setarch", "-R", "env", *assignments, sys.executable, "-P", LAUNCHER, extension]


def _transfer(source: MeshNode, dest: MeshNode, *options: str) -> None:
    """Run iperf3 between two nodes."""
    server = dest.space.popen(["iperf3", "-s", "-1"])
    time.sleep(0.3)
    source.space.run(["iperf3", "-c", dest.address, "-t", str(SECONDS), *options], timeout=30)
    server.communicate(timeout=10)
    dest.space.forget(server)


@pytest.mark.slow
@pytest.mark.measures  # builds with all processors, and its nodes take ten times what others do
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers(lab: Lab, sanitizer: str, tmp_path: Path) -> None:
    if lab.rehearsing:
        pytest.skip("there is nothing of ours to sanitize")
    command = _command(sanitizer, tmp_path)
    router, large, other = (lab.node(OURS, name=name, IfMTU=LARGE_MTU) for name in ("router", "large", "other"))
    go = lab.node(GO, IfMTU=SMALL_MTU)
    ours = [router, large, other]
    for node in ours:
        assert isinstance(node, YggNode)
        node.program = command
    uri = router.listen("tls")
    large.dial(uri)
    other.dial(router.listen("tcp"))
    go.dial(uri)
    lab.start()
    require_all_pairs(lab.nodes, timeout=30)

    for dest in (other, go, router):
        for size in (56, 1400, 60000):
            in_pieces = dest is go and size > SMALL_MTU
            result = ping(large, dest, count=10, interval=0.1 if in_pieces else 0.02, size=size)
            # Where one finds out the MTU first, and each is forty packets then, of which a busy node may drop some.
            assert result.lost <= (5 if in_pieces else 0), result.output
    _transfer(large, other)
    _transfer(large, go)
    _transfer(large, go, "-R")

    # Links end under load: by a kill, by an order, and with their node.
    load = large.space.popen(["ping", "-6", "-q", "-i", "0.002", "-s", "1400", go.address])
    more = large.space.popen(["ping", "-6", "-q", "-i", "0.002", "-s", "1400", other.address])
    time.sleep(0.5)
    go.kill()
    large.admin("removepeer", uri=uri)
    assert other.stop() == 0, other.log_text()[-3000:]
    large.admin("addpeer", uri=uri)
    go.start()
    other.start()
    for node in (go, other):
        node.wait_ready()
        wait_reachable(large, node, timeout=20)
    for process in (load, more):
        process.kill()
        process.communicate()
        large.space.forget(process)

    codes = [node.stop() for node in ours]
    for node in ours:
        log = node.log_text()
        assert not any(word in log for word in SPEECH), log[-6000:]
    assert codes == [0, 0, 0]
