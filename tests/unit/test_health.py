"""Whether a node is ready: the judge by itself, and nodes in memory that it judges."""

from __future__ import annotations

import pytest

from tests.unit.links_fakes import until
from yggpy.config import Config, MulticastInterface
from yggpy.health import MAX_FAILING, PeerFacts, judge
from yggpy.node import Node
from yggpy.status import HealthStatus

UP = PeerFacts("tcp://up:1", True, True)
DOWN = PeerFacts("tcp://down:1", False, True, "connection refused")
NEW = PeerFacts("tcp://new:1", False, True)
OTHER = PeerFacts("tcp://other:1", True, False)


def verdict(
    *peers: PeerFacts, parent: str = "", joined: bool = True, doors: tuple[str, ...] = ("multicast",), fault: str = ""
) -> HealthStatus:
    return judge(peers, parent=parent, joined=joined, doors=doors, faults=(fault,) if fault else ())


@pytest.mark.parametrize(
    ("status", "ready", "reason"),
    [
        (verdict(UP, parent="200::1"), True, "1 of 1 peer up, parent 200::1"),
        (verdict(UP, DOWN, parent="200::1"), True, "1 of 2 peers up, parent 200::1"),
        (verdict(UP), True, "1 of 1 peer up, root of the tree"),
        (verdict(OTHER), True, "1 of 1 peer up, root of the tree"),
        (verdict(UP, joined=False), False, "1 peer up, but no place in the tree: no parent, and nobody below; "),
        (verdict(OTHER, UP, joined=False), False, "2 peers up, but no place in the tree: "),
        (verdict(), True, "root by intent: no peers are configured, and it waits for others (multicast)"),
        (verdict(doors=()), False, "nobody can be met: no peers are configured, no listener is open"),
        (verdict(DOWN), False, "none of 1 configured peer is up: tcp://down:1 (connection refused)"),
        (verdict(DOWN, OTHER), False, "none of 1 configured peer is up: tcp://down:1 (connection refused)"),
        (verdict(NEW), False, "none of 1 configured peer is up: tcp://new:1 (no attempt has ended yet)"),
        (verdict(UP, parent="200::1", fault="no TUN"), False, "no TUN"),
    ],
)
def test_judgements(status: HealthStatus, ready: bool, reason: str) -> None:
    assert status.ready is ready
    assert status.reason.startswith(reason)


def test_of_many_failing_peers_some_are_named_and_more_are_listed() -> None:
    status = verdict(*[DOWN] * 50)
    assert status.reason.endswith(", and 47 more")
    assert status.reason.count("tcp://down:1") == 3
    assert len(status.failing) == MAX_FAILING
    assert (status.peers, status.up, status.configured, status.configured_up) == (50, 0, 50, 0)


def quiet(**settings: object) -> Config:
    """Return the configuration of a node without TUN, multicast and admin socket."""
    return Config(if_name="none", admin_listen="none", multicast_interfaces=[], **settings)  # type: ignore[arg-type]


async def until_reason(node: Node, begin: str) -> HealthStatus:
    """Wait until the node's reason begins like this, and return its judgement."""
    await until(lambda: node.status_health().reason.startswith(begin))
    return node.status_health()


async def test_a_router_waits_for_others_and_a_leaf_needs_its_router() -> None:
    async with Node(quiet(listen=["tcp://127.0.0.1:0"])) as router:
        (uri,) = router.listen_addresses
        status = router.status_health()
        assert status.ready
        assert status.reason.endswith(f"it waits for others (listening on {uri})")
        async with Node(quiet(peers=[uri])) as leaf:
            top = min(leaf, router, key=lambda node: node.public_key)
            expected = [f"1 of 1 peer up, parent {top.address}", "1 of 1 peer up, root of the tree"]
            await until(lambda: sorted(node.status_health().reason for node in (leaf, router)) == expected)
            assert leaf.status_health().ready and router.status_health().ready
            await router.close()
            status = await until_reason(leaf, f"none of 1 configured peer is up: {uri} (")
            assert not status.ready
            assert [peer.uri for peer in status.failing] == [uri]


async def test_without_any_way_to_meet_others_a_node_is_not_ready() -> None:
    async with Node(quiet(listen=["tcp://192.0.2.1:1"])) as node:  # not an address of this machine
        assert node.status_health().reason.startswith("nobody can be met: ")
        assert not node.status_health().ready
        node.config.multicast_interfaces = [MulticastInterface(regex=".*", listen=True)]
        assert node.status_health().reason.endswith("(multicast)")
        assert node.status_health().ready


async def test_passwords_in_uris_are_not_told() -> None:
    async with Node(quiet(peers=["socks://user:secret@127.0.0.1:1/127.0.0.1:2"])) as node:
        await until(lambda: bool(node.status_health().failing[0].error))
        status = node.status_health()
        assert "secret" not in f"{status}"
        assert "socks://***@127.0.0.1:1" in status.reason


async def test_a_node_that_should_have_a_tun_and_has_none_is_not_ready() -> None:
    async with Node(quiet(listen=["tcp://127.0.0.1:0"])) as node:
        node.config.if_name = "auto"
        assert node.status_health().reason.startswith("there is no TUN device")
        assert not node.status_health().ready
