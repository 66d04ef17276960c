"""Our admin socket beside Go's, text for text: every command, with good and bad arguments, and broken requests.

A Go node, the twin, stands in the same place as ours: both dial the hub, which is the root, and one peer that never
answers; both are dialled by one and the same neighbour. So their answers to one question may differ in numbers and in
who they are, which is masked, and in nothing else: not in a space, an order or a word.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import PingStream, require_all_pairs
from tests.interop.nodes import MeshNode, new_key

SAMPLES = 12
"""How often a question is put to both nodes until they agree: what is 0 now (a rate, say) is left out."""
CLOSED = "tcp://127.0.0.1:1"
"""A peer that never answers."""
NOBODY = "11" * 32
ANSWER_TIMEOUT = 6.0
"""Seconds after which Go gives up a question to another node."""
LIMIT = 30.0

REMOTE = ("getNodeInfo", "debug_remoteGetSelf", "debug_remoteGetPeers", "debug_remoteGetTree")
PLAIN = ("getSelf", "getTree", "getPaths", "getSessions", "getTUN", "getMulticastInterfaces", "lookups")
PEERING = ("addPeer", "removePeer")

OLD_WORDS = {
    "Failed to find request": "failed to find request",
    "Failed to unmarshal request": "failed to unmarshal request",
    "No request specified": "no request specified",
    "Unknown action": "unknown action",
    "No remote public key supplied": "no remote public key supplied",
    "Failed to decode public key": "failed to decode public key",
    "Timed out waiting for response": "timed out waiting for response",
}
"""How 0.5.12 begins the errors that 0.5.14 begins in lower case."""


def converse(node: MeshNode, sent: str) -> str:
    """Return all that the admin socket says to a client that sends this and then nothing more."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT)
        connection.connect(str(node.admin_path))
        connection.sendall(sent.encode())
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    return data.decode()


def request(name: str, **arguments: object) -> str:
    """Return the text of a request."""
    return json.dumps({"request": name, "arguments": arguments})


class _Scene:
    """Our node, its twin, and the two that both of them know."""

    def __init__(self, ours: MeshNode, twin: MeshNode, hub: MeshNode, neighbour: MeshNode) -> None:
        self.ours = ours
        self.twin = twin
        self.hub = hub
        self.neighbour = neighbour

    def masked(self, node: MeshNode, text: str) -> str:
        """Return an answer of ``node`` without what is its own and without numbers."""
        other = self.twin if node is self.ours else self.ours
        for name, known in (("own", node), ("other", other), ("hub", self.hub), ("neighbour", self.neighbour)):
            text = text.replace(known.public_key.hex(), f"<key of {name}>").replace(known.address, f"<{name}>")
        text = re.sub(r'("(?:build_name|build_version|subnet)": )".+"', r'\1"..."', text)
        text = re.sub(r'("address": )"\[fe80:[0-9a-f:]+%(\w+)\]:\d+"', r'\1"[<link-local>%\2]:<port>"', text)
        text = re.sub(r'("remote": "[a-z]+://[\d.]+:)\d{5}"', r'\1<ephemeral>"', text)
        text = re.sub(r"(?m)^(\s+(?:\"\w+\": )?)\d+\.\d+(,?)$", r"\1<float>\2", text)
        text = re.sub(r"(?m)^(\s+(?:\"\w+\": )?)\d+(,?)$", r"\1<int>\2", text)
        if node.kind == "0.5.12":
            for old, new in OLD_WORDS.items():
                text = text.replace(f'"error": "{old}', f'"error": "{new}')
        return text

    def compare(self, sent: str, view: Callable[[str], object] = str) -> None:
        """Put a question to both until they agree; fail if they never do. ``view`` is what is looked at."""
        views: list[object] = []
        for _ in range(SAMPLES):
            views = [view(self.masked(node, converse(node, sent))) for node in (self.ours, self.twin)]
            if views[0] == views[1]:
                return
            time.sleep(0.5)
        assert views[0] == views[1], sent


@contextmanager
def _scene(lab: Lab, version: str) -> Iterator[_Scene]:
    hub, ours = lab.node("0.5.14", name="hub"), lab.node(OURS, name="ours", LogLookups=True)
    twin, neighbour = lab.node(version, name="twin", LogLookups=True), lab.node("0.5.14", name="neighbour")
    keys = sorted((new_key() for _ in range(4)), key=lambda pair: pair[1])
    for node, (private, public) in zip((hub, ours, twin, neighbour), keys, strict=True):  # the least is the root
        node.config["PrivateKey"], node.public_key = private, public
    uri = hub.listen("tls")
    neighbour.dial(uri)
    for node in (ours, twin):
        node.dial(uri)
        node.dial(CLOSED)
        neighbour.dial(node.listen("tls"))
        # Of different passwords, so that they do not find each other.
        node.config["MulticastInterfaces"] = [
            {"Regex": "eth0", "Beacon": True, "Listen": True, "Password": node.label},
        ]
    lab.start([hub])
    lab.start([ours, twin])
    lab.start([neighbour])
    streams = []
    for node in (ours, twin):
        for other in (hub, neighbour):
            require_all_pairs((node, other))
            streams.append(PingStream(node, other, interval=0.05))  # keeps the rates above 0
    limit = time.monotonic() + LIMIT
    while not all(peer.get("rate_recvd") for node in (ours, twin) for peer in node.peers_up()):
        assert time.monotonic() < limit, "the pings do not show in the rates"
        time.sleep(0.1)
    yield _Scene(ours, twin, hub, neighbour)
    for stream in streams:
        stream.stop()


def _peers(text: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(text)["response"]["peers"]
    return entries


def _in_order(entries: list[dict[str, Any]], sort: str) -> bool:
    """Tell whether these entries of ``getPeers`` are in the order asked for (protocol section 13.3)."""

    def rank(entry: dict[str, Any]) -> tuple[object, ...]:
        if sort.lower() == "cost":
            return entry["cost"], entry["key"], entry["priority"]
        return entry["inbound"], entry["key"], entry["priority"], entry["cost"]

    if sort.lower() == "uptime":  # a difference of less than a second is none
        return all(b.get("uptime", 0) - a.get("uptime", 0) > -1 for a, b in pairwise(entries))
    return all(rank(a) <= rank(b) for a, b in pairwise(entries))


def _without_roles(text: str) -> str:
    """The hub lists its peers in no order."""
    return re.sub(r"<key of \w+>", "<key>", text)


def _shape_of_lookups(text: str) -> set[str]:
    """Who looked for whom is chance; what an entry looks like is not."""
    infos = json.loads(re.sub("<int>", "0", text))["response"]["infos"]
    assert infos
    return {json.dumps({name: type(value).__name__ for name, value in entry.items()}) for entry in infos}


def _listed(text: str, names: Collection[str]) -> str:
    """Return the answer to ``list``, of these commands: ours may have more."""
    answer = json.loads(text)
    answer["response"]["list"] = [entry for entry in answer["response"]["list"] if entry["command"] in names]
    return json.dumps(answer)


VIEWS: dict[str, Callable[[str], object]] = {
    "debug_remoteGetPeers": _without_roles,
    "debug_remoteGetTree": _without_roles,
    "lookups": _shape_of_lookups,
}


def _commands(node: MeshNode) -> dict[str, list[str]]:
    return {entry["command"]: entry.get("fields", []) for entry in node.admin("list")["list"]}


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_answers(lab: Lab, version: str) -> None:
    with _scene(lab, version) as scene:
        known = _commands(scene.twin)
        asked = {name.lower() for name in (*PLAIN, *REMOTE, *PEERING, "getPeers", "list")}
        assert asked == known.keys(), "this test is to ask for every command that Go knows"
        if version == "0.5.12":
            assert _commands(scene.ours).items() >= (known | {"getpeers": ["sort"]}).items()
        else:
            scene.compare(request("list"), lambda text: _listed(text, known))
        for name in PLAIN:
            scene.compare(request(name), VIEWS.get(name, str))
        hub = scene.hub.public_key.hex()
        for name in REMOTE:
            scene.compare(request(name, key=hub), VIEWS.get(name, str))
            scene.compare(request(name.upper(), KEY=hub.upper(), other=[1, {}]), VIEWS.get(name, str))
        scene.compare(request("getPeers"))
        if version == "0.5.14":
            for sort in ("", "nonsense", "cost", "COST", "uptime", "Uptime"):
                sent = request("getPeers", sort=sort)
                for node in (scene.ours, scene.twin):
                    entries = _peers(converse(node, sent))
                    assert _in_order(entries, sort), f"{sort} of {node!r}: {entries}"
                    assert len(entries) == 3
                scene.compare(sent, lambda text: sorted(text.splitlines()))
        # One after another on a connection that is kept, and an end without a request.
        kept = '{"request":"getTun","keepalive":true}'
        for sent in (
            kept,
            kept * 3,
            kept + '{"request":"getSelf"}',
            kept + '{"request":"nope","keepalive":true}' + kept,
        ):
            scene.compare(sent)


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_bad_requests(lab: Lab, version: str) -> None:
    with _scene(lab, version) as scene:
        for sent in BROKEN:
            scene.compare(sent)
        for name in ("getSelf", "getTree", "getPaths", "getSessions", "getTUN", "getMulticastInterfaces"):
            for arguments in ("5", "[1]", '"x"', "true"):
                scene.compare(f'{{"request":"{name}","arguments":{arguments}}}')
        fields = _commands(scene.twin)
        for name in (*REMOTE, *PEERING, "getPeers"):
            for value in ("5", "[1]", '"x"', "false"):
                scene.compare(f'{{"request":"{name}","arguments":{value}}}')
            for field in fields[name.lower()]:
                for value in ("5", "1.5e3", "[]", "{}", "true"):
                    scene.compare(f'{{"request":"{name}","arguments":{{"{field}":{value}}}}}')
        for name in REMOTE:
            scene.compare(f'{{"request":"{name}","arguments":null}}')  # of other commands, this is Go's end
            for key in ("", "zz", "0z0", "abc", "0\n", "0\u00e9", "\u2603", "00", "00" * 31, "00" * 33):
                padded = (
                    name == "getNodeInfo" and version == "0.5.12" and len(key) in (2, 62, 66) and not key.strip("0")
                )
                if not padded:  # 0.5.12 asks the node whose key is that with zeros, or the beginning of it
                    scene.compare(request(name, key=key))
            scene.compare(request(name))
        for uri in BAD_URIS:
            if version == "0.5.14" or uri.startswith(("tcp://", "tls://")):
                scene.compare(request("addPeer", uri=uri))
                scene.compare(request("removePeer", uri=uri))
        # In this order: a peer comes, is there already, and goes; each is asked once only.
        for name, options in (
            ("addPeer", {"uri": "tcp://127.0.0.1:2?priority=3"}),
            ("addPeer", {"uri": "tcp://127.0.0.1:2"}),
            ("addPeer", {"uri": "tcp://127.0.0.1:2", "interface": "lo"}),
            ("removePeer", {"uri": "tcp://127.0.0.1:2", "interface": "eth0"}),
            ("removePeer", {"uri": "tcp://127.0.0.1:2", "interface": "lo"}),
            ("removePeer", {"uri": "tcp://127.0.0.1:2"}),
            ("removePeer", {"uri": "tcp://127.0.0.1:2"}),
        ):
            sent = request(name, **options)
            ours, theirs = (scene.masked(node, converse(node, sent)) for node in (scene.ours, scene.twin))
            assert ours == theirs
        scene.compare(request("getPeers"))  # nothing is left of all that


BROKEN = (
    "",
    " \n",
    "hello",
    "{",
    '{"request":"getTun"',
    "[1,2]",
    "5 ",
    '"getTun"',
    "null",
    "{}",
    '{"request":""}',
    '{"request":null}',
    '{"request":5}',
    '{"request":["getTun"]}',
    '{"request":"noSuchThing"}',
    '{"request":"NoSuch<&>\\u2028\\ud800Thing\\u0000"}',
    '{"request":"getTun","keepalive":1}',
    '{"request":"getTun","keepalive":"true"}',
    '{"request":5,"keepalive":true}{"request":"getTun"}',
    '{"request":"getTun","foo":1,"arguments":{"bar":2,"bar":[1.50,{ }]}}',
    '{"REQUEST":"GETTUN","Arguments":{}}',
    '{"request":"a","request":"getTun"}',
    '{"request":"getTun","arguments":{},"arguments":7}',
    '{"request":"getTun"}}',
    '{"request":"getTun","keepalive":true} x',
    '{"request":"getTun","arguments":{"a":"\\ud800\u00e9<"}}',
)
BAD_URIS = (
    "",
    "nonsense",
    "foo://127.0.0.1:1",
    "tcp://[::1",
    "tcp://127.0.0.1:1:1",
    "tcp://127.0.0.1:99999?priority=256",
    "tcp://127.0.0.1:1?priority=256",
    "tcp://127.0.0.1:1?priority=-1",
    "tcp://127.0.0.1:1?key=zz",
    "tcp://127.0.0.1:1?password=" + "x" * 65,
    "tcp://127.0.0.1:1?maxbackoff=4s",
    "tcp://127.0.0.1:1?maxbackoff=30",
    "tcp://127.0.0.1%:1",
    "tcp://127.0.0.1:1\n",
)


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_nodes_that_do_not_answer(lab: Lab, version: str) -> None:
    """The same words after the same time."""
    with _scene(lab, version) as scene:

        def timed(node: MeshNode, name: str) -> tuple[str, float]:
            started = time.monotonic()
            text = scene.masked(node, converse(node, request(name, key=NOBODY)))
            return text, time.monotonic() - started

        with ThreadPoolExecutor(max_workers=2 * len(REMOTE)) as pool:
            waits = [(name, [pool.submit(timed, node, name) for node in (scene.ours, scene.twin)]) for name in REMOTE]
            for name, (ours, theirs) in waits:
                assert ours.result()[0] == theirs.result()[0], name
                for _, seconds in (ours.result(), theirs.result()):
                    assert ANSWER_TIMEOUT - 0.5 < seconds < ANSWER_TIMEOUT + 5, name


NODE_INFO: dict[str, object] = {
    "name": "a node <&> of ours \u00fc \u2028",
    "buildname": "is overwritten",
    "zeta": [1, 2.5, -0.25, 1e21, 1e-7, 100000000000000000000, True, None, [], {}],
    "alpha": {"deep": {"deeper": ["x" * 3000, {"b": 1, "a": 2}]}},
    "": "no name",
}
OWN_MEMBERS = ("buildname", "buildversion")


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_node_info_in_every_direction(lab: Lab, version: str) -> None:
    """Ours and Go, asked by ours and by Go, with and without NodeInfoPrivacy, tell the same text."""
    hub = lab.node("0.5.14", name="hub")
    uri = hub.listen("tls")
    nodes = {
        (kind, privacy): lab.node(kind, name=f"private-{privacy}", NodeInfo=NODE_INFO, NodeInfoPrivacy=privacy)
        for kind in (OURS, version)
        for privacy in (False, True)
    }
    for node in nodes.values():
        node.dial(uri)
    lab.start()
    for node in nodes.values():
        require_all_pairs((node, hub))
    for privacy in (False, True):
        texts: dict[str, MeshNode] = {}
        for asker in (nodes[OURS, False], nodes[version, False]):
            for kind in (OURS, version):
                asked = nodes[kind, privacy]
                if asked is asker:
                    continue  # Go does not always answer itself
                text = _eventually(asker, request("getNodeInfo", key=asked.public_key.hex()))
                members = json.loads(text)["response"][asked.public_key.hex()]
                assert ("buildplatform" in members) is not privacy
                text = text.replace(asked.public_key.hex(), "<key>")
                for name in () if privacy else OWN_MEMBERS:
                    text, count = re.subn(rf'"{name}": ".+"', f'"{name}": "..."', text)
                    assert count == 1
                texts[text] = asker
        assert len(texts) == 1, list(texts)


def _eventually(asker: MeshNode, sent: str) -> str:
    """Return the first answer that is no error: a question is one datagram, and may be lost."""
    for _ in range(3):
        text = converse(asker, sent)
        if '"status": "success"' in text:
            return text
    raise AssertionError(f"{asker!r}: {sent}: {text}")


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_debug_questions_in_both_directions(lab: Lab, version: str) -> None:
    with _scene(lab, version) as scene:
        for asker, asked in ((scene.ours, scene.twin), (scene.twin, scene.ours), (scene.ours, scene.ours)):
            key = asked.public_key.hex()

            def answer(name: str, asker: MeshNode = asker, asked: MeshNode = asked, key: str = key) -> Any:
                response = json.loads(_eventually(asker, request(name, key=key)))["response"]
                assert list(response) == [asked.address]
                return response[asked.address]

            own = answer("debug_remoteGetSelf")
            assert list(own.items()) == [
                ("key", key),
                ("routing_entries", str(asked.admin("getself")["routing_entries"])),
            ]
            peers = sorted(peer["key"] for peer in asked.peers_up())
            shown = answer("debug_remoteGetPeers")["keys"]
            assert sorted(shown) == peers
            assert sorted(answer("debug_remoteGetTree")["keys"]) == [e["key"] for e in asked.admin("gettree")["tree"]]
