"""Our packet filter with Go nodes as the rest of the network: what answers, what does not, and what is counted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import ping, tcp_transfer, wait_reachable
from tests.interop.nodes import MeshNode, YggNode
from yggpy.address import Address

PROBE = Path(__file__).with_name("firewall_probe.py")
TRANSFER_SIZE = 20_000_000
ASK_TIMEOUT = 3
"""Seconds that a port has to answer. A denied one never does."""
SERVE_TIME = 120


@contextmanager
def serving(node: MeshNode, kind: str, *ports: int) -> Iterator[None]:
    """Answer on these ports of the node's machine."""
    process = node.space.popen(map(str, (sys.executable, "-S", PROBE, "serve", kind, SERVE_TIME, *ports)))
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == "ready"
    try:
        yield
    finally:
        process.kill()
        process.wait()
        node.space.forget(process)


def ask(source: MeshNode, dest: MeshNode, kind: str, *ports: int) -> list[int]:
    """Return the ports of ``dest`` that answer."""
    command = [sys.executable, "-S", PROBE, "ask", kind, dest.address, ASK_TIMEOUT, *ports]
    answered: list[int] = json.loads(source.space.run(map(str, command)))
    return answered


def allowed_by_rule(node: MeshNode) -> dict[str, int]:
    return {rule["name"]: rule["allowed"] for rule in counters(node)["rules"]}


def counters(node: MeshNode) -> dict[str, Any]:
    return node.admin("getfirewall")


@pytest.fixture(params=["native", "pure"])
def guarded(lab: Lab, request: pytest.FixtureRequest) -> YggNode:
    """Our node, not yet started and without rules, with one data plane."""
    if lab.rehearsing:
        pytest.skip("the Go node has no packet filter")
    node = lab.node(OURS, name=f"guarded-{request.param}")
    assert isinstance(node, YggNode)
    node.choose_datapath(request.param)
    return node


@pytest.mark.slow
def test_what_rules_allow_and_what_answers_comes_in(lab: Lab, guarded: YggNode) -> None:
    friend, stranger = lab.node("0.5.14", name="friend"), lab.node("0.5.12", name="stranger")
    guarded.config["Firewall"] = {
        "Rules": [
            {"Name": "web", "Protocol": "tcp", "Ports": [8080, "9100-9101"]},
            {"Name": "friend", "From": friend.public_key.hex(), "Protocol": ["tcp", "udp"], "Ports": "2222"},
            {"Name": "ping", "From": str(Address.for_key(friend.public_key)), "Protocol": "ping"},
        ]
    }
    uri = guarded.listen("tls")
    friend.dial(uri)
    stranger.dial(uri)
    lab.start()
    wait_reachable(guarded, friend, timeout=20)
    wait_reachable(guarded, stranger, timeout=20)
    wait_reachable(friend, guarded, timeout=20)

    ports = (8080, 8081, 9100, 9101, 9102, 2222)
    with serving(guarded, "tcp", *ports), serving(guarded, "udp", 2222, 8080):
        assert ask(friend, guarded, "tcp", *ports) == [8080, 9100, 9101, 2222]
        assert ask(stranger, guarded, "tcp", *ports) == [8080, 9100, 9101]
        assert ask(friend, guarded, "udp", 2222, 8080) == [2222]
        assert ask(stranger, guarded, "udp", 2222, 8080) == []
    assert ping(friend, guarded, count=3).lost == 0
    assert ping(stranger, guarded, count=3, patience=ASK_TIMEOUT).lost == 3
    assert ping(guarded, stranger, count=3).lost == 0
    with serving(stranger, "tcp", 80), serving(stranger, "udp", 53):
        assert ask(guarded, stranger, "tcp", 80) == [80]
        assert ask(guarded, stranger, "udp", 53) == [53]
    # What passes between two others through this node is not judged.
    assert ping(friend, stranger, count=3).lost == 0

    shown = counters(guarded)
    assert shown["enabled"]
    assert shown["denied"] >= 3 * len([8081, 9102, 2222])
    assert shown["established"] > 0
    assert shown["malformed"] == shown["flows_evicted"] == 0
    assert 0 < shown["flows"] < 20
    assert all(count > 0 for count in allowed_by_rule(guarded).values())


def test_bulk_both_ways(lab: Lab, guarded: YggNode) -> None:
    """Super-packets and joined packets are judged as the packets that they stand for."""
    other = lab.node("0.5.14")
    guarded.config["Firewall"] = {"Rules": [{"Protocol": "tcp", "Ports": 5001}]}
    other.dial(guarded.listen("tls"))
    lab.start()
    wait_reachable(guarded, other, timeout=20)
    assert tcp_transfer(guarded, other, TRANSFER_SIZE, port=5002).intact
    assert tcp_transfer(other, guarded, TRANSFER_SIZE, port=5001).intact
    shown = counters(guarded)
    assert shown["established"] > 100
    assert allowed_by_rule(guarded)["rule 0"] > 100
    assert shown["denied"] == 0


@pytest.mark.slow
def test_errors_and_fragments_of_flows(lab: Lab, guarded: YggNode) -> None:
    """A ping larger than the other's MTU: "packet too big" comes in, and then the answer in fragments."""
    other = lab.node("0.5.14", IfMTU=1280)
    guarded.config["Firewall"] = {"Rules": []}
    other.dial(guarded.listen("tls"))
    lab.start()
    wait_reachable(guarded, other, timeout=20)
    deadline = time.monotonic() + 20
    while ping(guarded, other, count=3, size=5000).lost:
        assert time.monotonic() < deadline, "no large ping is answered"
    shown = counters(guarded)
    assert shown["icmp_errors"] > 0
    assert shown["fragments"] > 0
    # The same from the other side: nothing of it comes in.
    assert ping(other, guarded, count=3, size=5000, patience=ASK_TIMEOUT).lost == 3
    assert counters(guarded)["denied"] > shown["denied"]


def test_without_the_section_everything_comes_in(lab: Lab, guarded: YggNode) -> None:
    other = lab.node("0.5.14")
    other.dial(guarded.listen("tls"))
    lab.start()
    wait_reachable(other, guarded, timeout=20)
    with serving(guarded, "tcp", 8081):
        assert ask(other, guarded, "tcp", 8081) == [8081]
    assert counters(guarded) == {"enabled": False}


def test_the_go_node_takes_the_same_file_and_ctl_shows_the_counters(lab: Lab, guarded: YggNode) -> None:
    section = {"Rules": [{"Name": "web", "Protocol": "tcp", "Ports": [8080]}]}
    other = lab.node("0.5.14", Firewall=section)
    guarded.config["Firewall"] = section
    other.dial(guarded.listen("tls"))
    lab.start()
    wait_reachable(guarded, other, timeout=20)
    assert ping(other, guarded, count=2, patience=ASK_TIMEOUT).lost == 2
    ctl = lab.programs["0.5.14"].ctl
    for arguments in (["-json", "getFirewall"], ["getfirewall"]):
        shown = other.space.run([ctl, f"-endpoint=unix://{guarded.admin_path}", *arguments])
        assert json.loads(shown)["rules"] == [{"name": "web", "allowed": 0}]
