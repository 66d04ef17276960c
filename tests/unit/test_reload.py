"""Going over to another configuration: what differs, and that the rest is left alone."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from yggpy import testing
from yggpy.config import Config, MulticastInterface
from yggpy.errors import ConfigError
from yggpy.node import Node, NodeClosedError
from yggpy.reload import FIXED, Changes, check_config, compare

WAIT = 10.0


def config(**settings: Any) -> Config:
    return replace(testing.quiet_config(), **settings)


def difference(old: dict[str, Any], new: dict[str, Any]) -> Changes:
    before = config(**old)
    return compare(before, replace(before, **{name: getattr(Config(), name) for name in old if name not in new} | new))


# -- what differs --------------------------------------------------------------------------------------------


def test_equal_configurations() -> None:
    settings = {
        "peers": ["tcp://a:1"],
        "listen": ["tcp://b:1"],
        "allowed_public_keys": ["00" * 32],
        "node_info": {"a": 1},
        "multicast_interfaces": [MulticastInterface(beacon=True)],
    }
    changes = difference(settings, settings)
    assert changes == Changes(peers=(("tcp://a:1", ""),), listeners=("tcp://b:1",))


def test_peers_differ_by_uri_options_and_interface() -> None:
    changes = difference(
        {"peers": ["tcp://a:1", "tcp://b:1?priority=1", "tcp://c:1"], "interface_peers": {"eth0": ["tcp://a:1"]}},
        {"peers": ["tcp://a:1", "tcp://b:1?priority=2", "tcp://d:1"], "interface_peers": {"eth1": ["tcp://a:1"]}},
    )
    assert changes.peers == (("tcp://a:1", ""), ("tcp://b:1?priority=2", ""), ("tcp://d:1", ""), ("tcp://a:1", "eth1"))
    assert changes.peers_gone == (("tcp://b:1?priority=1", ""), ("tcp://c:1", ""), ("tcp://a:1", "eth0"))


def test_of_two_peers_with_one_identity_the_first_counts() -> None:
    changes = difference(
        {"peers": ["tcp://a:1?priority=1", "tcp://a:1?priority=2"]},
        {"peers": ["tcp://a:1?priority=1", "tcp://a:1?priority=3"]},
    )
    assert changes.peers == (("tcp://a:1?priority=1", ""),)
    assert changes.peers_gone == ()


def test_listeners_differ_by_their_text() -> None:
    changes = difference(
        {"listen": ["tcp://a:1", "tcp://b:1", "nonsense"]}, {"listen": ["tcp://a:1?priority=1", "tcp://b:1"]}
    )
    assert changes.listeners == ("tcp://a:1?priority=1", "tcp://b:1")
    assert changes.listeners_gone == ("tcp://a:1", "nonsense")


def test_single_values() -> None:
    key = "00" * 32
    assert difference({}, {"allowed_public_keys": [key]}).allowed_keys == frozenset((bytes(32),))
    assert difference({"allowed_public_keys": [key]}, {}).allowed_keys == frozenset()
    assert difference({"allowed_public_keys": [key, key]}, {"allowed_public_keys": [key]}).allowed_keys is None
    assert difference({}, {"log_lookups": True}).log_lookups is True
    info = difference({"node_info": {"x": 1}}, {"node_info": {"x": 2}, "node_info_privacy": True}).node_info
    assert info == b'{"x":2}'
    assert difference({}, {"node_info_privacy": True}).node_info == b"{}"


def test_what_needs_a_restart() -> None:
    new = {"group_password": "x", "if_name": "y", "if_mtu": 1280, "admin_listen": "z"}
    assert difference({}, new).fixed == ("AdminListen", "GroupPassword", "IfName", "IfMTU")
    assert compare(config(), config()).fixed == ("PrivateKey",)


def test_every_key_follows_or_is_named() -> None:
    assert set(FIXED) >= {"PrivateKey", "AdminListen", "GroupPassword", "IfName", "IfMTU"}
    assert not set(FIXED) & {"Peers", "NullKeys", "UnknownKeys", "PrivateKeyPath", "HTTPListen", "HttpListen"}


def entries(*settings: dict[str, Any]) -> list[MulticastInterface]:
    return [MulticastInterface(**{"beacon": True, "listen": True} | entry) for entry in settings]


@pytest.mark.parametrize(
    ("old", "new", "unwanted"),
    [
        ([{"regex": "eth"}], [{"regex": "eth0"}, {"regex": "wlan"}], {"wlan0"}),
        ([{"regex": ".*"}], [{"regex": "eth"}], {"wlan0"}),
        ([{"regex": ".*"}], [{"regex": "eth", "password": "x"}, {"regex": "wlan"}], {"eth0"}),
        ([{"regex": ".*"}], [{"regex": ".*", "priority": 1}], {"eth0", "wlan0"}),
        ([{"regex": ".*"}], [{"regex": ".*", "cost": 9}], {"eth0", "wlan0"}),
        ([{"regex": ".*"}], [{"regex": ".*", "port": 1, "beacon": False}], set()),
        ([{"regex": ".*"}], [{"regex": "e", "beacon": False, "listen": False}, {"regex": "w"}], {"eth0"}),
        ([{"regex": ".*"}], [], {"eth0", "wlan0"}),
    ],
)
def test_which_neighbours_would_not_come_about(
    old: list[dict[str, Any]], new: list[dict[str, Any]], unwanted: set[str]
) -> None:
    changes = difference({"multicast_interfaces": entries(*old)}, {"multicast_interfaces": entries(*new)})
    assert changes.multicast == tuple(entries(*new))
    assert {name for name in ("eth0", "wlan0") if changes.neighbour_unwanted(name)} == unwanted


def test_all_that_is_wrong_is_told() -> None:
    wrong = config(
        peers=["tcp://a:1", "foo://a:1", "tcp://a:1?key=zz"],
        interface_peers={"eth0": ["tcp://["]},
        listen=["socks://a:1", "wss://a:1", "tcp://a:1?priority=x"],
        allowed_public_keys=["00"],
        node_info={"x": "y" * 20000},
        multicast_interfaces=[MulticastInterface(regex="(")],
    )
    for act in (lambda: check_config(wrong), lambda: compare(config(), wrong)):
        with pytest.raises(ConfigError) as caught:
            act()
        assert [problem.key for problem in caught.value.problems] == [
            "AllowedPublicKeys[0]",
            "NodeInfo",
            "MulticastInterfaces[0].Regex",
            "Peers[1]",
            "Peers[2]",
            "InterfacePeers.eth0[0]",
            "Listen[0]",
            "Listen[1]",
            "Listen[2]",
        ]


# -- a node that runs ----------------------------------------------------------------------------------------


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def peers(node: Node) -> dict[str, bool]:
    return {link.uri: link.up for link in node.links.links()}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_links_that_did_not_change_live_on() -> None:
    servers = [Node(config(listen=["tcp://127.0.0.1:0"])) for _ in range(3)]
    for server in servers:
        await server.start()
    stays, goes, comes = (server.listen_addresses[0] for server in servers)
    async with Node(config(peers=[stays, goes])) as node:
        await until(lambda: peers(node) == {stays: True, goes: True})
        [before] = [link for link in node.links.links() if link.uri == stays]
        await node.add_peer("tcp://127.0.0.1:1")
        report = await node.reload(replace(node.config, peers=[comes, stays], node_info={"name": "x"}))
        assert report.changes == (f"peer {goes} removed", f"peer {comes} added", "NodeInfo changed")
        assert report.warnings == ()
        await until(lambda: peers(node) == {stays: True, comes: True, "tcp://127.0.0.1:1": False})
        [after] = [link for link in node.links.links() if link.uri == stays]
        assert (after.link_id, after.established_at) == (before.link_id, before.established_at)
        assert b'"name":"x"' in node.core.introspection.node_info
        await node.remove_peer(stays)
        assert (await node.reload(node.config)).changes == (f"peer {stays} added",)
        await node.reload(replace(node.config, peers=[f"{stays}?priority=7"]))
        await until(lambda: any(link.up and link.priority == 7 for link in node.links.links()))
    for server in servers:
        await server.close()


async def test_listeners_close_and_open_and_keep_their_links() -> None:
    kept, other = free_port(), free_port()
    async with (
        Node(config(listen=[f"tcp://127.0.0.1:{kept}", f"tcp://127.0.0.1:{other}"])) as server,
        Node(config(peers=[f"tcp://127.0.0.1:{other}"])) as node,
    ):
        await until(lambda: len(server.links.links()) == 1 and server.links.links()[0].up)
        # The same address with other options: closed and opened again within one reload.
        listen = [f"tcp://127.0.0.1:{kept}", f"tcp://127.0.0.1:{other}?priority=9", f"quic://127.0.0.1:{kept}"]
        report = await server.reload(replace(server.config, listen=listen))
        assert report.changes == (
            f"listener tcp://127.0.0.1:{other} closed",
            f"listener tcp://127.0.0.1:{other} opened",
            f"listener quic://127.0.0.1:{kept} opened",
        )
        assert sorted(server.listen_addresses) == sorted(uri.partition("?")[0] for uri in listen)
        assert server.links.links()[0].up and server.links.links()[0].priority == 0
        await node.remove_peer(f"tcp://127.0.0.1:{other}")
        await node.add_peer(f"tcp://127.0.0.1:{other}")
        await until(lambda: any(link.up and link.priority == 9 for link in server.links.links()))
        report = await server.reload(replace(server.config, listen=[f"quic://127.0.0.1:{kept}?password=x"]))
        assert server.listen_addresses == [f"quic://127.0.0.1:{kept}"]


async def test_a_listener_that_cannot_be_opened_is_a_warning_and_tried_again() -> None:
    async with Node(config()) as node:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            uri = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
            report = await node.reload(replace(node.config, listen=[uri]))
            assert report.changes == ()
            assert report.warnings == (f"listener {uri} could not be opened; the log says why",)
        assert (await node.reload(node.config)).changes == (f"listener {uri} opened",)


async def test_links_of_keys_that_are_not_allowed_any_more_are_closed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yggpy")
    async with (
        Node(config(listen=["tcp://127.0.0.1:0"])) as server,
        Node(config(peers=server.listen_addresses)) as friend,
        Node(config(peers=server.listen_addresses)) as stranger,
    ):
        await until(lambda: [link.up for link in server.links.links()] == [True, True])
        await server.add_peer("tcp://127.0.0.1:1")
        report = await server.reload(replace(server.config, allowed_public_keys=[friend.public_key.hex()]))
        assert report.changes[0] == "AllowedPublicKeys changed"
        assert len(report.changes) == 2 and "its key is not allowed any more" in report.changes[1]
        await until(lambda: {link.key for link in server.links.links() if link.up} == {friend.public_key})
        assert any("its key is not in AllowedPublicKeys any more" in line for line in caplog.messages)
        await until(lambda: not any(link.up for link in stranger.links.links()))
        await server.reload(replace(server.config, allowed_public_keys=[]))
        stranger.links.retry_peers_now()
        await until(lambda: sum(link.up for link in server.links.links()) == 2)


async def test_the_firewall_follows() -> None:
    async with Node(config()) as node:
        assert node.status_firewall() is None
        strict = Config.from_bytes(
            b'{"Firewall": {"Rules": [{"Name": "web", "Ports": 80, "Protocol": "tcp"}]}}'
        ).firewall
        assert (await node.reload(replace(node.config, firewall=strict))).changes == ("Firewall changed",)
        status = node.status_firewall()
        assert status is not None and "web" in str(status)
        assert (await node.reload(node.config)).changes == ()
        assert (await node.reload(replace(node.config, firewall=None))).changes == ("Firewall changed",)
        assert node.status_firewall() is None


async def test_the_record_of_lookups_follows() -> None:
    async with Node(config()) as node:
        assert node.status_lookups() == []
        report = await node.reload(replace(node.config, log_lookups=True))
        assert report.changes == ("LogLookups is true now",)
        assert node.logs_lookups
        await node.reload(replace(node.config, log_lookups=False))
        assert not bool(node.logs_lookups)


async def test_a_bad_configuration_changes_nothing() -> None:
    async with Node(config(peers=["tcp://127.0.0.1:1"])) as node:
        before = node.config
        with pytest.raises(ConfigError, match=r"Peers\[1\].* \(and 1 more problem\)"):
            await node.reload(replace(before, peers=["tcp://127.0.0.1:2", "x://a"], listen=["y://b"]))
        assert node.config is before
        assert peers(node) == {"tcp://127.0.0.1:1": False}


async def test_what_needs_a_restart_is_named_and_stays() -> None:
    async with Node(config()) as node:
        key = node.config.private_key
        new = config(group_password="x", if_mtu=1280)
        report = await node.reload(new)
        assert report.changes == ()
        assert report.warnings == tuple(
            f"{name} has changed, which needs a restart" for name in ("PrivateKey", "GroupPassword", "IfMTU")
        )
        assert (node.config.private_key, node.config.group_password) == (key, "")
        assert (await node.reload(new)).warnings == report.warnings


async def test_a_closed_node_does_not_reload() -> None:
    node = Node(config())
    await node.start()
    await node.close()
    with pytest.raises(NodeClosedError):
        await node.reload(config())
