"""The option ``cost``: which of two ways our traffic takes, with Go nodes on both, that know nothing of it."""

from __future__ import annotations

import time

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import ping, wait_reachable
from tests.interop.nodes import MeshNode, new_key

PINGS = 50
PING_SIZE = 1000
SETTLE_LIMIT = 20
"""Seconds for a node to become the child of a new neighbour and to tell others: a tick on either side, and spare."""
DEAR = 5000
"""A cost beyond all that is measured in a lab, and beyond that of a link not yet measured."""


def give_lowest_key(node: MeshNode, others: list[MeshNode]) -> None:
    """Make a node the root: its neighbours are then equally far from it, and the cost alone decides between them."""
    while any(node.public_key > other.public_key for other in others):
        node.config["PrivateKey"], node.public_key = new_key()


def received_from(node: MeshNode, peer: MeshNode) -> int:
    """Return the bytes that came in on a node's link to a peer."""
    (entry,) = (entry for entry in node.peers_up() if entry["key"] == peer.public_key.hex())
    return int(entry["bytes_recvd"])


def wait_for_two_links(*nodes: MeshNode, timeout: float = 30) -> None:
    """Wait until each of the nodes has two links."""
    limit = time.monotonic() + timeout
    while any(len(node.peers_up()) < 2 for node in nodes):
        assert time.monotonic() < limit, f"not both links are up: {[node.peers_up() for node in nodes]}"
        time.sleep(0.1)


def wait_for_children(parent: MeshNode, *nodes: MeshNode, timeout: float = 30) -> None:
    """Wait until ``parent`` sees each of the nodes below itself in the tree."""
    limit = time.monotonic() + timeout
    while True:
        parents = {entry["key"]: entry["parent"] for entry in parent.admin("gettree")["tree"]}
        if all(parents.get(node.public_key.hex()) == parent.public_key.hex() for node in nodes):
            return
        assert time.monotonic() < limit, f"{parent!r} is not the parent of all: {parents}"
        time.sleep(0.1)


@pytest.mark.parametrize("version", GO_VERSIONS)
@pytest.mark.parametrize("role", ["dial", "listen"])
def test_cost_moves_the_traffic(lab: Lab, version: str, role: str) -> None:
    """Ours has two Go neighbours, both with a link to the destination: first one is dear, then the other."""
    if lab.rehearsing:
        pytest.skip("the Go node has no cost option")
    ours, left, right, dest = lab.node(OURS), lab.node(version), lab.node(version), lab.node(version)
    give_lowest_key(dest, [ours, left, right])
    uri = dest.listen("tls")
    for way in (left, right):
        way.dial(uri)
    if role == "dial":
        uris = {way: way.listen("tls") for way in (left, right)}
    for dear, cheap in ((left, right), (right, left)):
        if role == "dial":
            ours.config["Peers"] = [f"{uris[dear]}?cost={DEAR}", uris[cheap]]
        else:
            ours.config["Listen"] = []
            dear.config["Peers"] = [uri, ours.listen("tcp", f"?cost={DEAR}")]
            cheap.config["Peers"] = [uri, ours.listen("tls")]
        # Go stays with the parent that it has: if that were ours, it would be no way to the destination.
        lab.start([left, right, dest])
        wait_for_children(dest, left, right)
        lab.start([ours])
        wait_reachable(ours, dest, timeout=30)
        wait_for_two_links(ours, dest)
        limit = time.monotonic() + SETTLE_LIMIT
        while True:
            before = {way: received_from(dest, way) for way in (dear, cheap)}
            result = ping(ours, dest, count=PINGS, interval=0.02, size=PING_SIZE)
            gained = {way: received_from(dest, way) - before[way] for way in (dear, cheap)}
            if result.lost == 0 and gained[cheap] > PINGS * PING_SIZE > 10 * gained[dear]:
                break
            assert time.monotonic() < limit, f"{dear!r} is to be avoided: {gained}, {result.lost} pings lost"
            time.sleep(0.5)
        costs = {peer["key"]: peer["cost"] for peer in ours.peers_up()}
        assert costs[dear.public_key.hex()] == DEAR > costs[cheap.public_key.hex()]
        # Nobody else has heard of it.
        assert all(peer["cost"] < DEAR for peer in dear.peers_up())
        for node in lab.nodes:
            node.stop()


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_go_passes_over_the_option(lab: Lab, version: str) -> None:
    """A configuration with ``cost`` in its URIs and in ``MulticastInterfaces`` also runs a Go node."""
    theirs, ours = lab.node(version), lab.node(OURS)
    theirs.config["MulticastInterfaces"] = [{"Regex": "none", "Beacon": True, "Listen": True, "Cost": DEAR}]
    theirs.dial(ours.listen("tls") + f"?cost={DEAR}")
    ours.dial(theirs.listen("tcp", f"?cost={DEAR}") + "?cost=70")
    lab.start()
    wait_reachable(theirs, ours, timeout=20)
    wait_for_two_links(theirs, ours)
    assert all(peer["cost"] < DEAR for peer in theirs.peers_up())  # what it has measured
    assert 70 in {peer["cost"] for peer in ours.peers_up()}
