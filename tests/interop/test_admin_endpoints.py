"""Where the admin socket listens, and what becomes of the socket file: ours and Go's, the same steps for both."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.nodes import MeshNode, NodeFailedError

KINDS = (OURS, "0.5.14")
LIMIT = 20.0
"""Seconds for a start that is to fail, or for a line in the log."""


def _wait_for_log(node: MeshNode, text: str) -> None:
    limit = time.monotonic() + LIMIT
    while text not in node.log_text():
        assert time.monotonic() < limit, f"{node!r} never said {text}: {node.log_text()}"
        time.sleep(0.05)


def _refused_with(node: MeshNode) -> str:
    """Start a node that is to end by itself with exit code 1, and return its log."""
    node.start()
    limit = time.monotonic() + LIMIT
    while node.running:
        assert time.monotonic() < limit, f"{node!r} runs: {node.log_text()}"
        time.sleep(0.05)
    with pytest.raises(NodeFailedError, match="exit code 1"):
        node.wait_ready()
    return node.log_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_socket_file(lab: Lab, kind: str) -> None:
    node, rival = lab.node(kind, name="first"), lab.node(kind, name="rival")
    lab.start([node])
    path = node.admin_path
    status = path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o660
    assert (status.st_uid, status.st_gid) == (0, 0)
    _wait_for_log(node, f"UNIX admin socket listening on {path}")

    rival.config["AdminListen"] = f"unix://{path}"
    assert f"Admin socket {path} already exists and is in use by another process" in _refused_with(rival)
    assert node.admin("getself")["key"] == node.public_key.hex()

    node.kill()
    assert path.is_socket()  # stale now
    node.start()
    node.wait_ready()
    assert path.stat().st_ino != status.st_ino or path.stat().st_ctime_ns != status.st_ctime_ns
    assert node.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:7001", "127.0.0.1:7001", "TCP://localhost:7001", "tcp://:7001"])
def test_tcp(lab: Lab, kind: str, listen: str) -> None:
    node = lab.node(kind, AdminListen=listen)
    node.start()
    _wait_for_log(node, "TCP admin socket listening on ")
    ctl = lab.programs["0.5.14"].ctl
    time.sleep(1)  # a question during Go's start may end it
    printed = node.space.run([ctl, "-endpoint=tcp://127.0.0.1:7001", "-json", "getSelf"])
    assert node.public_key.hex() in printed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("listen", ["none", ""])
def test_no_socket_at_all(lab: Lab, kind: str, listen: str) -> None:
    node = lab.node(kind, AdminListen=listen)
    node.start()
    _wait_for_log(node, "Interface MTU")  # all that comes after the admin socket
    assert "admin socket" not in node.log_text()
    assert node.running
    assert node.stop() == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("listen", "complaint"),
    [
        ("unix:///no/such/folder/socket", "listen unix /no/such/folder/socket: bind: no such file or directory"),
        ("nonsense", "listen tcp: address nonsense: missing port in address"),
        ("tcp://127.0.0.1", "listen tcp: address 127.0.0.1: missing port in address"),
        ("tcp://192.0.2.1:7001", "listen tcp 192.0.2.1:7001: bind: cannot assign requested address"),
        ("http://127.0.0.1:7001", "listen tcp: address http://127.0.0.1:7001: too many colons in address"),
    ],
)
def test_endpoints_that_cannot_be(lab: Lab, kind: str, listen: str, complaint: str) -> None:
    assert f"Admin socket failed to listen: {complaint}" in _refused_with(lab.node(kind, AdminListen=listen))


def test_a_file_that_is_no_socket_stays(lab: Lab) -> None:
    """Go removes it, whatever it is."""
    if lab.rehearsing:
        pytest.skip("the Go node has this flaw")
    path: Path = lab.folder / "precious"
    path.write_text("do not lose me", encoding="utf-8")
    log = _refused_with(lab.node(OURS, AdminListen=f"unix://{path}"))
    assert f"Admin socket {path} already exists and is not a socket; move it away or change AdminListen" in log
    assert path.read_text(encoding="utf-8") == "do not lose me"
