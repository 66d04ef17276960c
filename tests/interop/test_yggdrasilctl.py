"""The real ``yggdrasilctl`` looks into our node: same tables, same field names and JSON types as from a Go node.

A Go node, the twin, stands in the same place of the mesh as ours: one link out, one in, one that never comes up, and
traffic with both neighbours. Every question is put to both.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import PingStream, require_all_pairs, wait_reachable
from tests.interop.nodes import MeshNode

QUESTIONS = (
    "list",
    "getSelf",
    "getPeers",
    "getTree",
    "getPaths",
    "getSessions",
    "getTUN",
    "getMulticastInterfaces",
    "lookups",
)
TABLES = frozenset(QUESTIONS) - {"lookups"}
"""What is shown as a table; the rest is printed as it came."""
REMOTE = ("getNodeInfo", "debug_remoteGetSelf", "debug_remoteGetPeers", "debug_remoteGetTree")
SAMPLES = 5
"""How often a question is put to both nodes until the answers have the same shape."""
CLOSED = "tcp://127.0.0.1:1"
"""A peer that never answers."""


class _Scene:
    """Our node and its twin, both in use, and the control program."""

    def __init__(self, lab: Lab, ours: MeshNode, twin: MeshNode) -> None:
        self.lab = lab
        self.ours = ours
        self.twin = twin

    def ask(self, node: MeshNode, *arguments: str, version: str = "0.5.14") -> subprocess.CompletedProcess[str]:
        """Run ``yggdrasilctl`` against a node's admin socket."""
        command: list[str | Path] = [self.lab.programs[version].ctl, f"-endpoint=unix://{node.admin_path}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@contextmanager
def _scene(lab: Lab) -> Iterator[_Scene]:
    ours, twin = (lab.node(kind, name=name, LogLookups=True) for kind, name in ((OURS, "ours"), ("0.5.14", "twin")))
    listener, dialler = lab.node("0.5.14", name="listener"), lab.node("0.5.12", name="dialler")
    uri = listener.listen("tls")
    for node in (ours, twin):
        node.dial(uri)
        node.dial(CLOSED)
        dialler.dial(node.listen("tls"))
        # Of different passwords, so that they do not find each other.
        node.config["MulticastInterfaces"] = [{"Regex": "eth0", "Beacon": True, "Listen": True, "Password": node.label}]
    lab.start()
    streams = []
    for node in (ours, twin):
        for neighbour in (listener, dialler):
            require_all_pairs((node, neighbour))
            streams.append(PingStream(node, neighbour, interval=0.05))  # keeps rates, which are left out at 0, above it
    time.sleep(3)
    yield _Scene(lab, ours, twin)
    for stream in streams:
        stream.stop()


def _shape(value: object) -> object:
    """Return the field names and JSON types of a value; the elements of a list count together."""
    if isinstance(value, dict):
        return {key: _shape(field) for key, field in value.items()}
    if isinstance(value, list):
        if not any(isinstance(element, dict) for element in value):
            return sorted({type(element).__name__ for element in value} | {"int"})  # coordinates, the root's are empty
        merged: dict[str, set[str]] = {}
        for element in value:
            for key, field in element.items():
                merged.setdefault(key, set()).add(json.dumps(_shape(field), sort_keys=True))
        return merged
    return type(value).__name__


def _headings(table: str) -> list[str]:
    """Return what names the values of a table: its column titles, or the first column if that has the names."""
    # How far a title is padded depends on the values below it.
    rows = [re.split(r"\s*(?:\t|\s{2})\s*", line.strip()) for line in table.splitlines() if line.strip()]
    if rows and rows[0][0].endswith(":"):
        return [row[0] for row in rows]
    return rows[0] if rows else []


def test_answers_have_gos_shape(lab: Lab) -> None:
    with _scene(lab) as scene:
        for question in QUESTIONS:
            # Fields that are left out when they are zero (rates, say) may be so in one sample; a difference that stays
            # is a difference.
            for _ in range(SAMPLES):
                shapes = []
                for node in (scene.ours, scene.twin):
                    done = scene.ask(node, "-json", question)
                    assert done.returncode == 0, f"{question} of {node!r}: {done.stderr}"
                    shapes.append(_shape(json.loads(done.stdout)))
                if shapes[0] == shapes[1]:
                    break
                time.sleep(1)
            assert shapes[0] == shapes[1], question


def test_tables(lab: Lab) -> None:
    plain = {"0.5.12": [], "0.5.14": ["-borders=false"]}
    with _scene(lab) as scene:
        for version, question in product(GO_VERSIONS, sorted(TABLES)):
            tables = []
            for node in (scene.ours, scene.twin):
                done = scene.ask(node, *plain[version], question, version=version)
                assert done.returncode == 0, f"{question} of {node!r}: {done.stderr}{done.stdout}"
                tables.append(done.stdout)
            assert len(_headings(tables[0])) > 1, tables[0]
            assert _headings(tables[0]) == _headings(tables[1]), question
            if question in ("getPeers", "getPaths", "getSessions", "getMulticastInterfaces"):
                assert len(tables[0].splitlines()) == len(tables[1].splitlines()), tables[0] + tables[1]
        assert scene.ask(scene.ours, "getPeers").stdout.startswith("\N{BOX DRAWINGS LIGHT DOWN AND RIGHT}")


def test_questions_to_other_nodes(lab: Lab) -> None:
    """Both versions of the program get from ours what they get from Go, about one and the same node."""
    with _scene(lab) as scene:
        listener = next(node for node in lab.nodes if "listener" in node.label)
        key = f"key={listener.public_key.hex()}"
        for version, question, json_flag in product(GO_VERSIONS, REMOTE, ([], ["-json"])):
            printed = []
            for node in (scene.ours, scene.twin):
                done = scene.ask(node, *json_flag, question, key, version=version)
                assert done.returncode == 0, f"{question} of {node!r}: {done.stderr}{done.stdout}"
                printed.append(sorted(done.stdout.splitlines()))  # the listener has its peers in no order
            assert len(printed[0]) > 2, printed[0]
            assert _without_commas(printed[0]) == _without_commas(printed[1]), question
        done = scene.ask(scene.ours, "-json", "getNodeInfo", key)
        assert json.loads(done.stdout)[listener.public_key.hex()]["buildname"] == "yggdrasil"
        for version in GO_VERSIONS:
            for arguments in ((), ("key=",), ("key=zz",), ("key=123",)):
                for question in REMOTE:
                    ours, theirs = (
                        scene.ask(node, question, *arguments, version=version) for node in (scene.ours, scene.twin)
                    )
                    assert ours.returncode == theirs.returncode == 1
                    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


def _without_commas(lines: list[str]) -> list[str]:
    return sorted(line.rstrip(",") for line in lines)


def test_peers_in_the_order_that_is_asked_for(lab: Lab) -> None:
    with _scene(lab) as scene:
        for sort in ("cost", "uptime"):
            done = scene.ask(scene.ours, "-json", "getPeers", f"sort={sort}")
            values = [peer.get(sort, 0) for peer in json.loads(done.stdout)["peers"]]
            assert len(values) == 3
            assert [int(value) for value in values] == sorted(int(value) for value in values)
        assert scene.ask(scene.ours, "getPeers", "sort=whatever").returncode == 0


def test_values_agree_with_the_neighbours(lab: Lab) -> None:
    """What ours says of a link, a session and the tree is what the Go node at the other end says."""
    with _scene(lab) as scene:
        listener = next(node for node in lab.nodes if "listener" in node.label)
        own = scene.ours.public_key.hex()
        ours = next(p for p in scene.ours.peers_up() if p["key"] == listener.public_key.hex())
        theirs = next(p for p in listener.peers_up() if p["key"] == own)
        assert (ours["inbound"], theirs["inbound"]) == (False, True)
        assert ours["address"] == listener.address
        assert abs(ours["uptime"] - theirs["uptime"]) < 3
        assert 0 < ours["latency"] < 5e9
        assert ours["bytes_recvd"] > 1000
        assert ours["bytes_sent"] > 1000
        tree = {entry["key"]: entry["parent"] for entry in scene.ours.admin("gettree")["tree"]}
        their_tree = {entry["key"]: entry["parent"] for entry in listener.admin("gettree")["tree"]}
        common = tree.keys() & their_tree.keys()
        assert {own, listener.public_key.hex()} <= common
        assert {key: tree[key] for key in common} == {key: their_tree[key] for key in common}
        session = next(s for s in scene.ours.admin("getsessions")["sessions"] if s["key"] == listener.public_key.hex())
        assert session["bytes_sent"] > 1000
        assert session["bytes_recvd"] > 1000
        paths = {path["key"] for path in scene.ours.admin("getpaths")["paths"]}
        assert listener.public_key.hex() in paths


def test_peers_by_command(lab: Lab) -> None:
    """``addPeer`` and ``removePeer`` act, and answer with Go's words, also when they refuse."""
    with _scene(lab) as scene:
        newcomer = lab.node("0.5.14", name="newcomer")
        uri = newcomer.listen("tls")
        lab.start([newcomer])
        commands = (
            ("addPeer", f"uri={uri}"),
            ("addPeer", f"uri={uri}"),
            ("addPeer", "uri=nonsense://127.0.0.1:1"),
            ("addPeer", "uri=tcp://127.0.0.1:1?key=zz"),
            ("removePeer", "uri=tcp://127.0.0.1:2"),
            ("removePeer", f"uri={CLOSED}"),
            ("nosuchcommand",),
        )
        for arguments in commands:
            ours, theirs = (scene.ask(node, *arguments) for node in (scene.ours, scene.twin))
            assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
        wait_reachable(scene.ours, newcomer, timeout=10)
        removed = scene.ask(scene.ours, "removePeer", f"uri={uri}")
        assert removed.returncode == 0, removed.stderr
        limit = time.monotonic() + 10
        while any(peer["key"] == newcomer.public_key.hex() for peer in scene.ours.peers_up()):
            assert time.monotonic() < limit, "removePeer left the link up"
            time.sleep(0.1)
        remotes = [peer["remote"] for peer in scene.ours.admin("getpeers")["peers"]]
        assert uri not in remotes
        assert CLOSED not in remotes
