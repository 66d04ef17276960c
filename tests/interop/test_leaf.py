"""``Transit: false``: a leaf-only node of ours, with either data plane, among Go routers that know no such thing."""

from __future__ import annotations

import time

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import all_pairs, ping, require_all_pairs, tcp_transfer
from tests.interop.nodes import MeshNode, YggNode, new_key

PLANES = ("native", "pure")
PAIRS = tuple(zip(GO_VERSIONS, reversed(PLANES), strict=True))
"""Each Go version and each data plane once: these tests wait for the tree again and again."""
REACH_LIMIT = 40.0
TRANSFER_SIZE = 5_000_000
TREE_SECONDS = 6.0
"""Time for routers to take parents among each other, and for a leaf to tell its peers where it is: ticks, and spare."""
APART_SECONDS = 8
"""Time in which two nodes that can reach each other would have done so."""
REFRESH_SECONDS = 600.0
"""Two refreshes and an expiry of everybody's place in the tree."""


def add_leaf(lab: Lab, plane: str) -> MeshNode:
    """Add a leaf-only node that uses the data plane ``plane``."""
    if lab.rehearsing:
        pytest.skip("the Go node cannot be a leaf")
    leaf = lab.node(OURS, name="leaf", Transit=False)
    assert isinstance(leaf, YggNode)
    leaf.choose_datapath(plane)
    return leaf


def order_keys(nodes: list[MeshNode]) -> None:
    """Give new keys to the nodes, lowest first."""
    keys = sorted((new_key() for _ in nodes), key=lambda pair: pair[1])
    for node, (private, public) in zip(nodes, keys, strict=True):
        node.config["PrivateKey"], node.public_key = private, public


def counted(node: MeshNode, peer: MeshNode) -> int:
    """Return the bytes in and out on the links of a node to a peer."""
    entries = [entry for entry in node.peers_up() if entry["key"] == peer.public_key.hex()]
    return sum(int(entry["bytes_recvd"]) + int(entry["bytes_sent"]) for entry in entries)


def parents(nodes: list[MeshNode]) -> dict[str, str]:
    """Return each node's parent as that node sees itself."""
    return {
        node.label: entry["parent"]
        for node in nodes
        for entry in node.admin("gettree")["tree"]
        if entry["key"] == node.public_key.hex()
    }


@pytest.mark.parametrize("order", ["leaf-lowest", "leaf-highest"])
@pytest.mark.parametrize(("version", "plane"), PAIRS)
def test_two_routers_use_their_own_link(lab: Lab, version: str, plane: str, order: str) -> None:
    """A triangle with the leaf: it reaches both routers, and nothing of theirs goes through it."""
    leaf, one, two = add_leaf(lab, plane), lab.node(version), lab.node(version)
    order_keys([leaf, one, two] if order == "leaf-lowest" else [one, two, leaf])
    first, second = one.listen("tls"), two.listen("tcp")
    one.dial(second)
    leaf.dial(first)
    leaf.dial(second)
    lab.start()
    require_all_pairs(lab.nodes, timeout=REACH_LIMIT)
    time.sleep(TREE_SECONDS)
    found = parents([one, two, leaf])
    assert found[one.label] == found[two.label] == min(one.public_key, two.public_key).hex()
    assert found[leaf.label] in (one.public_key.hex(), two.public_key.hex())
    before = counted(leaf, one) + counted(leaf, two)
    assert tcp_transfer(one, two, TRANSFER_SIZE).intact
    assert counted(leaf, one) + counted(leaf, two) - before < TRANSFER_SIZE // 20
    transit = leaf.admin("gettransit")
    assert transit["enabled"] is False and transit["resting_peers"] == []
    for peer in (one, two):
        assert tcp_transfer(leaf, peer, TRANSFER_SIZE, port=5002).intact
        assert tcp_transfer(peer, leaf, TRANSFER_SIZE, port=5003).intact
        assert ping(peer, leaf, count=5).lost == 0


@pytest.mark.parametrize(("version", "plane"), PAIRS)
def test_a_leaf_hears_and_reaches_far_nodes_and_outlives_its_router(lab: Lab, version: str, plane: str) -> None:
    """Routers in a line, the leaf at both ends: a shortcut for everybody, if it were one."""
    leaf = add_leaf(lab, plane)
    line = [lab.node(version) for _ in range(4)]
    order_keys([leaf, line[1], line[0], line[2], line[3]])
    uris = [node.listen("tls") for node in line]
    for number, node in enumerate(line[:-1]):
        node.dial(uris[number + 1])
    leaf.dial(uris[0])
    leaf.dial(uris[3])
    lab.start()
    require_all_pairs(lab.nodes, timeout=REACH_LIMIT)
    time.sleep(TREE_SECONDS)
    before = counted(leaf, line[0]) + counted(leaf, line[3])
    assert tcp_transfer(line[0], line[3], TRANSFER_SIZE).intact
    assert counted(leaf, line[0]) + counted(leaf, line[3]) - before < TRANSFER_SIZE // 20
    # The router that is its parent dies; it is reached by the other one.
    parent = parents([leaf])[leaf.label]
    dead = next(node for node in line if node.public_key.hex() == parent)
    dead.kill()
    require_all_pairs([leaf, line[2 if dead is line[3] else 3]], timeout=REACH_LIMIT)


@pytest.mark.parametrize("order", ["leaf-lowest", "leaf-highest"])
@pytest.mark.parametrize(("version", "plane"), PAIRS)
def test_routers_with_nothing_but_a_leaf_between_them_are_apart(lab: Lab, version: str, plane: str, order: str) -> None:
    leaf, one, two = add_leaf(lab, plane), lab.node(version), lab.node(version)
    order_keys([leaf, one, two] if order == "leaf-lowest" else [one, two, leaf])
    leaf.dial(one.listen("tls"))
    leaf.dial(two.listen("tls"))
    lab.start()
    require_all_pairs([leaf, one], timeout=REACH_LIMIT)  # the tree with the lowest root is where the leaf lives
    _, failed = all_pairs([one, two], timeout=APART_SECONDS)
    assert len(failed) == 2, f"only {failed} had no answer"
    assert leaf.admin("gettransit")["resting_peers"] == [two.public_key.hex()]
    # Each is the root of a tree of its own, and stays that.
    for _ in range(3):
        found = parents([one, two])
        assert found == {one.label: one.public_key.hex(), two.label: two.public_key.hex()}
        time.sleep(1)
    assert {entry["key"] for entry in one.admin("getpaths").get("paths") or []} <= {leaf.public_key.hex()}
    # A link between them puts all together.
    one.admin("addpeer", uri=f"tls://{two.space.address}:9001")
    require_all_pairs(lab.nodes, timeout=REACH_LIMIT)
    assert parents([one, two])[two.label] == one.public_key.hex()


@pytest.mark.parametrize("plane", PLANES)
def test_a_router_becomes_a_leaf(lab: Lab, plane: str) -> None:
    """Ours first is the only way between two Go nodes, then their worst; they leave it for the link that they have."""
    node, one, two = add_leaf(lab, plane), lab.node("0.5.14"), lab.node("0.5.12")
    order_keys([node, one, two])
    node.config["Transit"] = True
    node.dial(one.listen("tls"))
    node.dial(two.listen("tls"))
    lab.start()
    require_all_pairs(lab.nodes, timeout=REACH_LIMIT)
    time.sleep(TREE_SECONDS)
    assert set(parents([one, two]).values()) == {node.public_key.hex()}
    node.kill()
    node.config["Transit"] = False
    node.start()
    node.wait_ready()
    one.admin("addpeer", uri=f"tls://{two.space.address}:9001")
    require_all_pairs(lab.nodes, timeout=REACH_LIMIT)
    time.sleep(TREE_SECONDS)
    assert parents([one, two]) == {one.label: one.public_key.hex(), two.label: one.public_key.hex()}
    before = counted(node, one) + counted(node, two)
    assert tcp_transfer(one, two, TRANSFER_SIZE).intact
    assert counted(node, one) + counted(node, two) - before < TRANSFER_SIZE // 20


@pytest.mark.soak
@pytest.mark.parametrize("version", GO_VERSIONS)
def test_a_leaf_over_refreshes(lab: Lab, version: str) -> None:
    """What Go nodes know of a leaf is renewed before they forget it."""
    leaf, one, two = add_leaf(lab, "native"), lab.node(version), lab.node(version)
    order_keys([leaf, one, two])
    uri = two.listen("tls")
    one.dial(uri)
    leaf.dial(one.listen("tls"))
    leaf.dial(uri)
    lab.start()
    require_all_pairs(lab.nodes, timeout=REACH_LIMIT)
    until = time.monotonic() + REFRESH_SECONDS
    while time.monotonic() < until:
        for source in (one, two):
            assert ping(source, leaf, count=10, interval=1.0).lost == 0
    assert set(parents([one, two]).values()) == {one.public_key.hex()}
