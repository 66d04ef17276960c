"""Two neighbours: ours dials and listens over tls and tcp, with both versions of the Go node."""

from __future__ import annotations

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import ping, tcp_transfer, wait_reachable

pytestmark = pytest.mark.both_planes

MEGABYTE = 1_000_000
TRANSFER_SIZE = 20 * MEGABYTE


@pytest.mark.parametrize("role", ["dials", "listens"])
@pytest.mark.parametrize("scheme", ["tls", "tcp"])
@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_pair(lab: Lab, go_version: str, scheme: str, role: str) -> None:
    ours = lab.node(OURS)
    theirs = lab.node(go_version)
    dialler, listener = (ours, theirs) if role == "dials" else (theirs, ours)
    dialler.dial(listener.listen(scheme))
    lab.start()
    wait_reachable(dialler, listener, timeout=20)

    for source, dest in ((ours, theirs), (theirs, ours)):
        small = ping(source, dest, count=20, interval=0.05)
        assert small.lost == 0, small.output
        large = ping(source, dest, count=5, interval=0.1, size=60000)
        assert large.lost == 0, large.output
        assert tcp_transfer(source, dest, TRANSFER_SIZE).intact


@pytest.mark.parametrize(("go_version", "our_mtu", "their_mtu"), [("0.5.12", 1280, 65535), ("0.5.14", 65535, 1280)])
def test_tcp_between_unequal_mtus(lab: Lab, go_version: str, our_mtu: int, their_mtu: int) -> None:
    ours = lab.node(OURS, IfMTU=our_mtu)
    theirs = lab.node(go_version, IfMTU=their_mtu)
    ours.dial(theirs.listen("tls"))
    lab.start()
    wait_reachable(ours, theirs, timeout=20)

    assert ours.admin("gettun")["mtu"] == our_mtu
    assert tcp_transfer(ours, theirs, 5 * MEGABYTE).intact
    assert tcp_transfer(theirs, ours, 5 * MEGABYTE).intact


def test_subnet_traffic(lab: Lab) -> None:
    """A host address in a node's 300::/8 subnet is as reachable as the node itself, both ways."""
    ours = lab.node(OURS)
    theirs = lab.node("0.5.14")
    ours.dial(theirs.listen("tls"))
    lab.start()
    wait_reachable(ours, theirs, timeout=20)
    for source, dest in ((ours, theirs), (theirs, ours)):
        subnet = dest.admin("getself")["subnet"]
        assert subnet.endswith("::/64")
        host = subnet.replace("::/64", "::1")
        dest.space.run(["ip", "-6", "addr", "add", f"{host}/64", "dev", "lo", "nodad"])
        source.space.run(["ip", "-6", "route", "replace", "300::/8", "dev", "ygg0"])
        source.space.run(["ping", "-6", "-n", "-c", "5", "-i", "0.1", "-W", "5", host])


@pytest.mark.parametrize("go_version", GO_VERSIONS)
def test_clean_stop(lab: Lab, go_version: str) -> None:
    """SIGTERM ends our node with exit code 0, and neither TUN device nor admin socket stay behind."""
    ours = lab.node(OURS)
    theirs = lab.node(go_version)
    ours.dial(theirs.listen("tls"))
    lab.start()
    wait_reachable(theirs, ours, timeout=20)
    assert "ygg0" in ours.space.run(["ip", "-o", "link"])

    assert ours.stop() == 0
    assert "ygg0" not in ours.space.run(["ip", "-o", "link"])
    assert not ours.admin_path.exists()


def test_link_options(lab: Lab) -> None:
    """``key``, ``priority``, ``password`` and ``maxbackoff`` of a peer URI, towards and from the Go node."""
    ours = lab.node(OURS)
    theirs = lab.node("0.5.14")
    uri = theirs.listen("tls", "?password=secret&priority=2")
    ours.dial(f"{uri}?key={theirs.public_key.hex()}&password=secret&priority=3&maxbackoff=5s")
    back = ours.listen("tcp", "?password=other")
    theirs.dial(f"{back}?password=other&key={ours.public_key.hex()}")
    wrong_password = lab.node("0.5.14", name="wrong-password")
    wrong_password.dial(f"{back}?password=mistaken")
    wrong_key = lab.node(OURS, name="wrong-key")
    wrong_key.dial(f"{uri}?password=secret&key={wrong_password.public_key.hex()}")
    lab.start()

    wait_reachable(ours, theirs, timeout=20)
    assert {peer["priority"] for peer in ours.peers_up()} == {3, 0}
    assert len(theirs.peers_up()) == 2
    assert wrong_password.peers_up() == []
    assert wrong_key.peers_up() == []


def test_allowed_public_keys(lab: Lab) -> None:
    """Our listener takes links from allowed keys only; whom it dials itself need not be on the list."""
    ours = lab.node(OURS)
    allowed = lab.node("0.5.14", name="allowed")
    stranger = lab.node("0.5.14", name="stranger")
    dialled = lab.node("0.5.12", name="dialled")
    ours.config["AllowedPublicKeys"] = [allowed.public_key.hex()]
    uri = ours.listen("tls")
    allowed.dial(uri)
    stranger.dial(uri)
    ours.dial(dialled.listen("tls"))
    lab.start()

    wait_reachable(allowed, dialled, timeout=20)
    assert {peer["key"] for peer in ours.peers_up()} == {allowed.public_key.hex(), dialled.public_key.hex()}
    assert stranger.peers_up() == []
