"""``yggpy-ctl`` beside the real ``yggdrasilctl``: same questions to the same nodes, same bytes.

What a node tells changes from one moment to the next. So each node's answers are recorded from its socket and played to
both tools; what does not change, and what changes the node, is asked of the nodes themselves.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise, product
from pathlib import Path

import pytest

from tests.interop.go_node import GoNodeUnavailableError, obtain
from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import wait_reachable, wait_until
from tests.interop.nodes import MeshNode
from tests.unit.ctl_fakes import answering, serving
from tests.unit.vectors import load
from yggpy.ctl.health import DERIVED

TOOL_VERSION = "0.5.14"
"""The ``yggdrasilctl`` whose output is the measure; older ones draw no borders."""
OUR_TOOL = (sys.executable, "-m", "yggpy.ctl")
STYLES = ((), ("-borders=false",), ("-json",))
STEADY = ("list", "getSelf", "getTUN", "getMulticastInterfaces", "getTree", "nosuch", "GETSELF")
CHANGING = ("getPeers", "getPaths", "getSessions", "lookups")
OF_A_KEY = ("getNodeInfo", "debug_remoteGetSelf", "debug_remoteGetPeers", "debug_remoteGetTree")
CLOSED = "tcp://127.0.0.1:1"
"""A peer that never answers."""
TIMEOUT = 60
ATTEMPTS = 3
"""How often a question is put to a node until the measure itself, asked before and after, stays the same."""

Result = tuple[int, str]


def run_tool(tool: tuple[str | Path, ...], endpoint: str, *words: str) -> Result:
    """Run a tool and return exit code and output; it must have no complaints."""
    done = subprocess.run([*tool, f"-endpoint={endpoint}", *words], capture_output=True, check=False, timeout=TIMEOUT)
    assert done.stderr == b"", f"{tool[-1]} {words}: {done.stderr.decode()}"
    return done.returncode, done.stdout.decode()


def raw_answer(path: Path, command: str, **arguments: str) -> bytes:
    """Return all that a node's admin socket sends."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT)
        connection.connect(str(path))
        connection.sendall(json.dumps({"request": command, "arguments": arguments}).encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@contextmanager
def mesh(lab: Lab) -> Iterator[list[MeshNode]]:
    """Ours between both versions of the Go node, all with a peer that never comes up."""
    nodes = [lab.node(kind, LogLookups=True) for kind in (GO_VERSIONS[0], OURS, GO_VERSIONS[1])]
    for node, next_node in pairwise(nodes):
        node.dial(next_node.listen("tls"))
    for node in nodes:
        node.dial(CLOSED)
    lab.start()
    for node in nodes:
        for other in nodes:
            if other is not node:
                wait_reachable(node, other, timeout=30)
    yield nodes


def test_both_tools_print_the_same(lab: Lab) -> None:
    theirs = (lab.programs[TOOL_VERSION].ctl,)
    with mesh(lab) as nodes:
        for node, other in zip(nodes, (nodes[1], nodes[2], nodes[0]), strict=True):
            questions: list[tuple[str, dict[str, str]]] = [(command, {}) for command in (*STEADY, *CHANGING)]
            questions += [(command, {"key": other.public_key.hex()}) for command in OF_A_KEY]
            for number, (command, arguments) in enumerate(questions):
                answer = raw_answer(node.admin_path, command, **arguments)
                with serving(lab.folder / f"{node.label[:2]}{number}", answering(answer)) as (endpoint, _):
                    for style in STYLES:
                        expected = run_tool(theirs, endpoint, *style, command)
                        assert run_tool(OUR_TOOL, endpoint, *style, command) == expected, (node, command, style)
                if command in ("getPeers", "getPaths", "getSessions"):
                    assert expected[1].count('"key"') > 1, "an empty table proves little"


def test_both_tools_at_the_nodes_themselves(lab: Lab) -> None:
    theirs = (lab.programs[TOOL_VERSION].ctl,)
    with mesh(lab) as nodes:
        for node in nodes:
            endpoint = f"unix://{node.admin_path}"
            for command, style in product(STEADY, STYLES):
                for _ in range(ATTEMPTS):
                    before, ours, after = (
                        run_tool(tool, endpoint, *style, command) for tool in (theirs, OUR_TOOL, theirs)
                    )
                    if before == after:
                        break
                assert ours == before == after, (node, command, style)
            for command in CHANGING:
                code, text = run_tool(OUR_TOOL, endpoint, "-json", command)
                assert code == run_tool(theirs, endpoint, "-json", command)[0]
                assert code or json.loads(text), (node, command)


@pytest.mark.parametrize("kind", [*GO_VERSIONS, OURS])
def test_peers_come_and_go_by_command(lab: Lab, kind: str) -> None:
    """Each change is made by one tool and undone by the other, and both get the same words for it."""
    node = lab.node(kind)
    lab.start()
    endpoint = f"unix://{node.admin_path}"
    uri = "uri=tls://127.0.0.1:2?priority=3"
    changes = (
        ("addPeer", uri),
        ("addPeer", uri),
        ("-json", "removePeer", uri),
        ("removePeer", uri),
        ("-json", "addPeer", "uri=tcp://[::1"),
        ("addPeer", "uri=tcp://127.0.0.1:1?key=zz"),
    )
    tools = ((lab.programs[TOOL_VERSION].ctl,), OUR_TOOL)
    told = [[run_tool(tool, endpoint, *change) for change in changes] for tool in tools]
    assert told[0] == told[1]
    assert [code for code, _ in told[0]] == [0, 1, 0, 1, 1, 1]
    assert run_tool(OUR_TOOL, endpoint, "addPeer", uri) == (0, "")
    assert [peer["remote"] for peer in node.admin("getpeers")["peers"]] == ["tls://127.0.0.1:2"]
    assert run_tool(tools[0], endpoint, "removePeer", uri) == (0, "")
    assert not node.admin("getpeers")["peers"]


@pytest.mark.parametrize("kind", [*GO_VERSIONS, OURS])
def test_health(lab: Lab, kind: str) -> None:
    node, neighbour = lab.node(kind), lab.node(OURS)
    node.listen("tcp")
    uri = neighbour.listen("tcp")
    lab.start()
    endpoint = f"unix://{node.admin_path}"
    suffix = "" if kind == OURS else f" ({DERIVED})"
    code, text = run_tool(OUR_TOOL, endpoint, "health")
    assert (code, text.startswith("healthy: root by intent: no peers are configured")) == (0, True), text
    assert run_tool(OUR_TOOL, endpoint, "addPeer", f"uri={CLOSED}")[0] == 0
    refused = f"unhealthy: none of 1 configured peer is up: {CLOSED} ("
    wait_until(lambda: "connection refused" in run_tool(OUR_TOOL, endpoint, "health")[1], 20, "the peer fails")
    code, text = run_tool(OUR_TOOL, endpoint, "health")
    assert (code, text[: len(refused)], text.endswith(f"{suffix}\n")) == (1, refused, True)
    assert run_tool(OUR_TOOL, endpoint, "addPeer", f"uri={uri}")[0] == 0
    wait_reachable(node, neighbour, timeout=20)
    place = f"parent {neighbour.address}" if neighbour.public_key < node.public_key else "root of the tree"
    healthy = 0, f"healthy: 1 of 2 peers up, {place}{suffix}\n"
    wait_until(lambda: run_tool(OUR_TOOL, endpoint, "health") == healthy, 20, "the node is healthy")
    node.stop()
    code, text = run_tool(OUR_TOOL, endpoint, "health")
    assert (code, text.split(":")[0]) == (1, "unhealthy")


@pytest.mark.parametrize("kind", [*GO_VERSIONS, OURS])
def test_watch(lab: Lab, kind: str) -> None:
    watched, peer = lab.node(kind, name="watched"), lab.node(GO_VERSIONS[-1], name="peer")
    watched.dial(peer.listen("tcp"))
    lab.start()
    wait_reachable(watched, peer)
    code, text = run_tool(OUR_TOOL, f"unix://{watched.admin_path}", "watch", "count=2", "interval=0.2")
    assert code == 0
    blocks = text.strip().split(f"{watched.address}  ")[1:]
    assert len(blocks) == 2
    for block in blocks:
        assert "1 of 1 peers up, 2 nodes in the tree" in block
        assert block.count(peer.address) >= 2, "as a peer and as the other end of a session"


def test_the_recorded_tables_are_still_true(tmp_path: Path) -> None:
    """The vectors of the unit tests, asked of the real tool again."""
    try:
        tool = obtain(TOOL_VERSION).ctl
    except GoNodeUnavailableError as error:
        pytest.skip(str(error))
    for number, run in enumerate(load("ctl_tables")["runs"]):
        with serving(tmp_path / str(number), answering(run["answer"].encode())) as (endpoint, _):
            assert run_tool((tool,), endpoint, *run["argv"]) == (run["exit"], run["stdout"]), run["argv"]
