"""All carriers of links, in every role that the Go node has, beside both of its versions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import socks_server, tls_proxy
from tests.interop.lab import GO_VERSIONS, OURS, Lab, Space
from tests.interop.measure import ping, tcp_transfer, wait_reachable
from tests.interop.nodes import MeshNode
from yggpy.datapath.certificate import make_identity
from yggpy.keys import PrivateKey

MEGABYTE = 1_000_000
TRANSFER_SIZE = 8 * MEGABYTE
PROXY_PORT = 1080
WEB_PORT = 8443


def carry(ours: MeshNode, theirs: MeshNode) -> None:
    """Small, large and many packets, both ways."""
    for source, dest in ((ours, theirs), (theirs, ours)):
        small = ping(source, dest, count=10, interval=0.05)
        assert small.lost == 0, small.output
        large = ping(source, dest, count=3, interval=0.1, size=60000)
        assert large.lost == 0, large.output
        assert tcp_transfer(source, dest, TRANSFER_SIZE).intact


def only_peer(node: MeshNode) -> str:
    """Return the ``remote`` of a node's only peer."""
    (peer,) = node.peers_up()
    return str(peer["remote"])


def program(space: Space, file: str | None, *arguments: object) -> subprocess.Popen[bytes]:
    """Start a helper in a namespace and wait until it is ready."""
    assert file is not None
    process = space.popen([sys.executable, file, *map(str, arguments)])
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"ready"
    return process


def pair(lab: Lab, go_version: str, role: str) -> tuple[MeshNode, MeshNode, MeshNode, MeshNode]:
    """Return our node and the other one, then the dialler and the listener of the two."""
    ours, theirs = lab.node(OURS), lab.node(go_version)
    return (ours, theirs, ours, theirs) if role == "dials" else (ours, theirs, theirs, ours)


@pytest.mark.parametrize("role", ["dials", "listens"])
@pytest.mark.parametrize("scheme", ["quic", "ws"])
@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_over_the_network(lab: Lab, go_version: str, scheme: str, role: str) -> None:
    ours, theirs, dialler, listener = pair(lab, go_version, role)
    uri = listener.listen(scheme, "?password=word&priority=2")
    dialler.dial(f"{uri}?password=word&key={listener.public_key.hex()}&maxbackoff=1m&sni=x.example")
    lab.start()
    wait_reachable(dialler, listener, timeout=20)
    assert only_peer(dialler) == uri
    assert only_peer(listener).startswith(f"{scheme}://{dialler.space.address}:")
    assert dialler.peers_up()[0]["priority"] == 2
    carry(ours, theirs)


@pytest.mark.parametrize("role", ["dials", "listens"])
@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_unix(lab: Lab, go_version: str, role: str) -> None:
    ours, theirs, dialler, listener = pair(lab, go_version, role)
    uri = f"unix://{lab.folder}/link.sock"
    listener.config["Listen"].append(f"{uri}?password=word")
    dialler.dial(f"{uri}?password=word&key={listener.public_key.hex()}")
    lab.start()
    wait_reachable(dialler, listener, timeout=20)
    assert only_peer(dialler) == uri
    assert only_peer(listener) == f"unix://%40{lab.folder}/link.sock"
    carry(ours, theirs)


@pytest.mark.parametrize("login", ["", "user:word@"])
@pytest.mark.parametrize("scheme", ["socks", "sockstls"])
@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_through_a_socks_proxy(lab: Lab, go_version: str, scheme: str, login: str) -> None:
    """Only dialling exists; the listener sees a tcp or tls link from the proxy."""
    ours, theirs = lab.node(OURS), lab.node(go_version)
    proxy = lab.space()
    program(proxy, socks_server.__file__, "0.0.0.0", PROXY_PORT, *login.rstrip("@").split(":") if login else ())
    listening = theirs.listen("tls" if scheme == "sockstls" else "tcp")
    target = listening.partition("://")[2]
    uri = f"{scheme}://{login}{proxy.address}:{PROXY_PORT}/{target}"
    ours.dial(uri)
    lab.start()
    wait_reachable(ours, theirs, timeout=20)
    assert only_peer(ours) == uri
    assert f"//{proxy.address}:" in only_peer(theirs)
    carry(ours, theirs)


@pytest.mark.parametrize("role", ["dials", "listens"])
@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_wss_through_a_web_server(lab: Lab, go_version: str, role: str) -> None:
    """Only dialling exists; a web server ends TLS in front of a ``ws`` listener."""
    ours, theirs, dialler, listener = pair(lab, go_version, role)
    identity = make_identity(PrivateKey.generate())
    certificate = Path(lab.folder, "web.pem")
    certificate.write_bytes(identity.certificate_pem + identity.private_key_pem)
    port = listener.listen("ws").rpartition(":")[2]
    program(listener.space, tls_proxy.__file__, WEB_PORT, port, certificate)
    uri = f"wss://{listener.space.address}:{WEB_PORT}/some/path"
    dialler.dial(uri)
    lab.start()
    wait_reachable(dialler, listener, timeout=20)
    assert only_peer(dialler) == uri
    assert only_peer(listener).startswith("ws://127.0.0.1:")
    carry(ours, theirs)


def health(node: MeshNode, path: str) -> str:
    """Return what a node's first ``ws`` listener answers to a health check."""
    script = (
        "import sys, urllib.request as r; a = r.urlopen(sys.argv[1], timeout=5); print(a.status, a.read().decode())"
    )
    port = node.config["Listen"][0].rpartition(":")[2]
    return node.space.run([sys.executable, "-S", "-c", script, f"http://127.0.0.1:{port}{path}"]).strip()


def test_health_checks(lab: Lab) -> None:
    ours, theirs = lab.node(OURS), lab.node("0.5.14")
    for node in (ours, theirs):
        node.listen("ws")
    lab.start()
    for path in ("/health", "/healthz"):
        assert health(ours, path) == health(theirs, path) == "200 OK"
    assert "failed" not in ours.log_text()


@pytest.mark.parametrize("scheme", ["quic", "ws", "unix"])
@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_either_side_restarts(lab: Lab, go_version: str, scheme: str) -> None:
    """A killed node says no word; both sides must be able to begin again, in both roles."""
    ours, theirs = lab.node(OURS), lab.node(go_version)
    if scheme == "unix":
        if lab.rehearsing:
            pytest.skip("a socket file left behind keeps the Go node from listening")
        uri = f"unix://{lab.folder}/link.sock"
        ours.config["Listen"].append(uri)
    else:
        uri = ours.listen(scheme)
    theirs.dial(uri)
    lab.start()
    wait_reachable(theirs, ours, timeout=20)
    theirs.restart()
    wait_reachable(theirs, ours, timeout=30)
    ours.restart()
    wait_reachable(theirs, ours, timeout=30)


@pytest.mark.parametrize("scheme", ["quic", "ws"])
def test_a_clean_stop_is_seen_at_once(lab: Lab, scheme: str) -> None:
    if lab.rehearsing and scheme == "quic":
        pytest.skip("the Go node leaves a QUIC link without a word")
    ours, theirs = lab.node(OURS), lab.node("0.5.14")
    theirs.dial(ours.listen(scheme))
    lab.start()
    wait_reachable(theirs, ours, timeout=20)
    assert ours.stop() == 0
    assert theirs.peers_up() == []


def test_listeners_are_logged_as_in_go(lab: Lab) -> None:
    ours, theirs = lab.node(OURS), lab.node("0.5.14")
    for node in (ours, theirs):
        for scheme in ("quic", "ws"):
            node.listen(scheme)
        node.config["Listen"] += [f"unix://{lab.folder}/{node.label[:2]}.sock", "wss://127.0.0.1:1", "socks://[::]:1"]
    lab.start()
    for node in (ours, theirs):
        for line in (
            "QUIC listener started on [::]:9001",
            "WS listener started on [::]:9002",
            f"UNIX listener started on {lab.folder}/{node.label[:2]}.sock",
            "WSS listener not supported, use WS listener behind reverse proxy instead",
            "link schema unknown",
        ):
            assert line in node.log_text()
