"""``HTTPListen`` of our daemon, as a probe and Prometheus see it: a Go peer comes, carries traffic and dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import tcp_transfer, wait_reachable, wait_until
from tests.interop.nodes import MeshNode
from yggpy.address import Address

WAIT = 40.0
SIZE = 2_000_000


@pytest.fixture(autouse=True)
def _own_ways(lab: Lab) -> None:
    if lab.rehearsing:
        pytest.skip("the Go node has no HTTP endpoint")


def http_path(node: MeshNode) -> Path:
    """Let the node serve HTTP on a unix socket, which needs no way into its namespace; return the path."""
    path = node.admin_path.with_suffix(".http")
    node.config["HTTPListen"] = f"unix://{path}"
    return path


def get(path: Path, page: str) -> tuple[int, str]:
    """Return status and body of a page."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(WAIT)
        connection.connect(str(path))
        connection.sendall(f"GET {page} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def metrics(path: Path) -> dict[tuple[str, str], float]:
    """Return values by name and the label that tells series apart, if any."""
    status, body = get(path, "/metrics")
    assert status == 200
    return parsed(body)


def parsed(body: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("peer") or sample.labels.get("uri", "")): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


def fetch(node: MeshNode, url: str) -> str:
    """Return what a program in the node's namespace gets."""
    program = "import sys, urllib.request as web; print(web.urlopen(sys.argv[1], timeout=20).read().decode(), end='')"
    return node.space.run([sys.executable, "-c", program, url])


@pytest.mark.both_planes
@pytest.mark.parametrize("version", GO_VERSIONS[-1:])
def test_a_peer_comes_carries_traffic_and_dies(lab: Lab, version: str) -> None:
    ours, theirs = lab.node(OURS, name="ours"), lab.node(version, name="theirs")
    uri = theirs.listen("tls")
    ours.dial(uri)
    path = http_path(ours)
    lab.start([ours])
    assert get(path, "/healthz") == (200, "up\n")
    status, body = get(path, "/readyz")
    assert (status, body[: body.index(uri)]) == (503, "not ready: none of 1 configured peer is up: ")
    assert metrics(path)["yggpy_ready", ""] == metrics(path)["yggpy_peer_up", uri] == 0

    lab.start([theirs])
    wait_until(lambda: get(path, "/readyz")[0] == 200, WAIT, "the node is ready")
    wait_reachable(ours, theirs, timeout=WAIT)
    place = f"parent {theirs.address}" if theirs.public_key < ours.public_key else "root of the tree"
    wait_until(lambda: get(path, "/readyz") == (200, f"ready: 1 of 1 peer up, {place}\n"), WAIT, "its place")
    before = metrics(path)
    assert (before["yggpy_peer_up", uri], before["yggpy_tun_up", ""], before["yggpy_ready", ""]) == (1, 1, 1)
    tcp_transfer(ours, theirs, SIZE)
    wait_until(lambda: _grown(before, metrics(path), "session_sent_bytes", "") > SIZE, WAIT, "newer metrics")
    after = metrics(path)
    for name, label in (("link_sent_bytes", ""), ("peer_sent_bytes", theirs.address), ("session_sent_bytes", "")):
        assert SIZE < _grown(before, after, name, label) < 2 * SIZE, name
    assert 0 < _grown(before, after, "link_received_bytes", "") < SIZE
    assert after["yggpy_peer_rtt_seconds", theirs.address] > 0
    assert after["yggpy_transit_packets_total", ""] == 0

    theirs.kill()
    wait_until(lambda: get(path, "/readyz")[0] == 503, WAIT, "the node is not ready any more")
    assert f"none of 1 configured peer is up: {uri} (" in get(path, "/readyz")[1]
    wait_until(lambda: metrics(path)["yggpy_peer_up", uri] == 0, WAIT, "metrics of a second later")
    last = metrics(path)
    assert last["yggpy_link_sent_bytes_total", ""] >= after["yggpy_link_sent_bytes_total", ""], "counters never fall"
    assert ("yggpy_peer_sent_bytes_total", theirs.address) not in last
    assert ours.stop() == 0
    assert not path.exists()


def _grown(before: dict[tuple[str, str], float], after: dict[tuple[str, str], float], name: str, label: str) -> float:
    key = f"yggpy_{name}_total", label
    return after[key] - before[key]


def test_transit_is_counted_and_shown_on_the_mesh_address(lab: Lab) -> None:
    """A Go node, in the role of Prometheus, asks through the mesh."""
    left, ours, right = lab.node(GO_VERSIONS[-1]), lab.node(OURS, name="ours"), lab.node(GO_VERSIONS[-1])
    ours.dial(left.listen("tcp"))
    ours.dial(right.listen("tcp"))
    listen = f"[{Address.for_key(ours.public_key)}]:9101"
    ours.config["HTTPListen"] = listen
    lab.start()
    wait_reachable(left, right, timeout=WAIT)
    wait_reachable(left, ours, timeout=WAIT)

    def shown() -> dict[tuple[str, str], float]:
        return parsed(fetch(left, f"http://{listen}/metrics"))

    before = shown()
    tcp_transfer(left, right, SIZE)
    wait_until(lambda: _grown(before, shown(), "transit_bytes", "") > SIZE, WAIT, "metrics of a second later")
    assert shown()["yggpy_session_sent_bytes_total", ""] < SIZE


def test_reloads_and_another_user(lab: Lab) -> None:
    ours = lab.node(OURS, name="ours")
    ours.listen("tcp")
    ours.flags = ("-user", "nobody")
    lab.folder.chmod(0o755)
    path = http_path(ours)
    lab.start()
    ours.config_path.chmod(0o644)
    wait_until(lambda: get(path, "/readyz")[0] == 200, WAIT, "the node is ready")
    assert path.owner() == "nobody"
    log = reloaded(ours, HTTPListen="unix:///nowhere/at/all")
    assert f"make the directory, or change HTTPListen; it goes on at {path}" in log
    assert reachable(path)
    log = reloaded(ours, HTTPListen="tcp://127.0.0.1:9101")
    assert "Reload: HTTP endpoint listens on 127.0.0.1:9101 now" in log
    assert not reachable(path)
    assert fetch(ours, "http://127.0.0.1:9101/healthz") == "up\n"
    assert "Reload: HTTP endpoint closed" in reloaded(ours, HTTPListen="none")
    assert ours.stop() == 0


def reachable(path: Path) -> bool:
    try:
        get(path, "/healthz")
    except OSError:
        return False
    return True


def reloaded(node: MeshNode, **settings: object) -> str:
    """Change the configuration, send SIGHUP and return what the log says of it."""
    node.config.update(settings)
    node.config_path.write_text(json.dumps(node.config))
    before = len(node.log_text())
    os.kill(node.pid, signal.SIGHUP)
    told: Callable[[], bool] = lambda: "Configuration reloaded" in node.log_text()[before:]  # noqa: E731
    wait_until(told, WAIT, "word of the reload")
    return node.log_text()[before:]


@pytest.mark.parametrize(
    ("listen", "words"),
    [
        ("localhost", "HTTP endpoint failed to listen: listen tcp: "),
        ("unix:///nowhere/at/all", "make the directory, or change HTTPListen"),
        ("tcp://192.0.2.1:80", "cannot assign requested address; change HTTPListen"),
    ],
)
def test_an_address_that_cannot_be_had_is_told_at_the_start(lab: Lab, listen: str, words: str) -> None:
    ours = lab.node(OURS, name="ours", HTTPListen=listen)
    ours.start()
    wait_until(lambda: not ours.running, WAIT, "the end of the daemon")
    assert ours.exit_code == 1
    assert words in ours.log_text()
