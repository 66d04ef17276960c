"""Requests and answers against what the Go node was recorded to say, byte for byte, with a fake node behind them."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.address import Address
from yggpy.admin.commands import Arguments, Command, CommandError, CommandRegistry, node_commands
from yggpy.admin.jsontext import MAX_NESTING, EncodableJson
from yggpy.admin.own import own_commands
from yggpy.admin.protocol import BadRequest, Request, RequestReader, failure
from yggpy.admin.remote import remote_commands
from yggpy.config.dns import DnsConfig
from yggpy.dns.service import DnsService
from yggpy.errors import PeerUriError
from yggpy.events.hub import EventHub, Subscription
from yggpy.inspection import NoAnswerError
from yggpy.questions import Question
from yggpy.status import (
    FailingPeer,
    FirewallStatus,
    HealthStatus,
    LookupStatus,
    MulticastStatus,
    NamesStatus,
    PathStatus,
    PeerStatus,
    SelfStatus,
    SessionStatus,
    TransitStatus,
    TreeEntry,
    TunStatus,
)

VECTORS = load("admin")
CAPTURES = VECTORS["captures"]
PARSE_PREFIX = "unable to parse peering URI: "


def peer_of(entry: dict[str, Any]) -> PeerStatus:
    """Return the status that the recorded entry of ``getPeers`` shows."""
    return PeerStatus(
        uri=entry.get("remote", ""),
        up=entry["up"],
        inbound=entry["inbound"],
        key=bytes.fromhex(entry["key"]) or None,
        address=entry.get("address"),
        port=entry["port"],
        priority=entry["priority"],
        cost=entry["cost"],
        bytes_received=entry.get("bytes_recvd", 0),
        bytes_sent=entry.get("bytes_sent", 0),
        receive_rate=entry.get("rate_recvd", 0),
        send_rate=entry.get("rate_sent", 0),
        uptime=entry.get("uptime", 0.0),
        latency=entry.get("latency", 0) / 1e9,
        last_error=entry.get("last_error"),
        last_error_age=entry.get("last_error_time", 0) / 1e9,
    )


class FakeNode:
    """A node whose state is what a recorded response says; peerings fail with ``peering_error``."""

    def __init__(self, response: dict[str, Any] | None = None, peering_error: str | None = None) -> None:
        self.response = response or {}
        self.peering_error = peering_error
        self.peerings: list[tuple[str, str, str]] = []
        self.firewall: FirewallStatus | None = None
        self.names: DnsService | None = None
        self.hub = EventHub(lambda: 1700000000.0)
        self.logs_lookups = True
        self.asked: list[tuple[bytes, Question]] = []
        self.answer: bytes | None = None

    def events(self, *groups: str) -> Subscription:
        return self.hub.subscribe(groups)

    async def add_peer(self, uri: str, interface: str = "") -> None:
        self.change("add", uri, interface)

    async def remove_peer(self, uri: str, interface: str = "") -> None:
        self.change("remove", uri, interface)

    def change(self, what: str, uri: str, interface: str) -> None:
        self.peerings.append((what, uri, interface))
        if self.peering_error is not None:
            raise PeerUriError(self.peering_error)

    def status_transit(self) -> TransitStatus:
        return TransitStatus(False, (bytes(32),), {"traffic": 3, "path_lookup": 0})

    def status_health(self) -> HealthStatus:
        failing = (FailingPeer("tcp://a:1", "EOF"),)
        return HealthStatus(False, "none of 1 configured peer is up", 1, 2, 0, 1, "", failing)

    def status_self(self) -> SelfStatus:
        own = self.response
        return SelfStatus(bytes.fromhex(own["key"]), own["address"], own["subnet"], own["routing_entries"])

    def status_peers(self) -> list[PeerStatus]:
        return [peer_of(entry) for entry in self.response["peers"]]

    def status_tree(self) -> list[TreeEntry]:
        return [
            TreeEntry(bytes.fromhex(e["key"]), e["address"], bytes.fromhex(e["parent"]), e["sequence"])
            for e in reversed(self.response["tree"])
        ]

    def status_paths(self) -> list[PathStatus]:
        return [
            PathStatus(bytes.fromhex(e["key"]), e["address"], tuple(e["path"]), e["sequence"])
            for e in reversed(self.response["paths"])
        ]

    def status_sessions(self) -> list[SessionStatus]:
        return [
            SessionStatus(bytes.fromhex(e["key"]), e["address"], e["bytes_recvd"], e["bytes_sent"], e["uptime"])
            for e in reversed(self.response["sessions"])
        ]

    def status_tun(self) -> TunStatus:
        return TunStatus(self.response["enabled"], self.response.get("name", ""), self.response.get("mtu", 0))

    def status_firewall(self) -> FirewallStatus | None:
        return self.firewall

    def status_names(self, key: bytes | None = None) -> NamesStatus | None:
        return None if self.names is None else self.names.status(key)

    def status_multicast(self) -> list[MulticastStatus]:
        return [MulticastStatus(**entry) for entry in self.response["multicast_interfaces"]]

    def status_lookups(self) -> list[LookupStatus]:
        return [
            LookupStatus(bytes.fromhex(e["key"]), e["addr"], tuple(e["path"]), e["time"])
            for e in self.response.get("infos", [])
        ]

    async def ask(self, key: bytes, question: Question) -> bytes:
        self.asked.append((key, question))
        if self.answer is not None:
            return self.answer
        if len(self.response) != 1:
            raise NoAnswerError("nobody")
        (recorded,) = self.response.values()
        if question in (Question.NODE_INFO, Question.SELF):
            return json.dumps(recorded).encode()
        return b"".join(map(bytes.fromhex, recorded["keys"]))


def registry_of(node: FakeNode) -> CommandRegistry:
    return CommandRegistry([*node_commands(node, "yggdrasil", "0.5.14"), *remote_commands(node)])


async def converse(registry: CommandRegistry, sent: bytes) -> bytes:
    """Return all that a connection answers on which ``sent`` arrives, and then the end."""
    reader = RequestReader()
    reader.feed(sent)
    reader.feed_eof()
    answers = b""
    keepalive = True
    while keepalive:
        request = reader.next_request()
        assert request is not None
        if isinstance(request, BadRequest):
            answers += failure(None, request.error)
        else:
            answers += await registry.answer(request)
        keepalive = request.keepalive
    return answers


def last_object(text: str) -> dict[str, Any]:
    """Return the last of the JSON objects in ``text`` that has a response, or the last one."""
    decoder = json.JSONDecoder()
    objects: list[dict[str, Any]] = []
    position = 0
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        position += len(text[position:]) - len(text[position:].lstrip())
        objects.append(value)
    return next((value for value in reversed(objects) if value["response"]), objects[-1])


@pytest.mark.parametrize("capture", CAPTURES, ids=[capture["description"] for capture in CAPTURES])
async def test_recorded_exchanges(capture: dict[str, str]) -> None:
    recorded = last_object(capture["response_text"])
    error = recorded.get("error")
    node = FakeNode(recorded["response"], error.removeprefix(PARSE_PREFIX) if error is not None else None)
    answer = await converse(registry_of(node), capture["request_text"].encode())
    assert answer.decode() == capture["response_text"]


def test_the_recorded_exchanges_are_all_there() -> None:
    assert len(CAPTURES) == 62
    names = {word for capture in CAPTURES for word in capture["description"].split()}
    assert {
        "list",
        "getSelf",
        "getPeers",
        "getTree",
        "getPaths",
        "getSessions",
        "getTUN",
        "getMulticastInterfaces",
        "addPeer",
        "removePeer",
        "getNodeInfo",
        "lookups",
        "debug_remoteGetSelf",
        "debug_remoteGetPeers",
        "debug_remoteGetTree",
    } <= names


@pytest.mark.parametrize("index", range(len(VECTORS["extra"])))
async def test_recorded_responses_of_the_other_set_up(index: int) -> None:
    recorded = VECTORS["extra"][index]["response"]
    command = "getPeers" if "peers" in recorded else "getTUN"
    answer = await converse(registry_of(FakeNode(recorded)), b'{"request": "%s"}' % command.encode())
    response = json.loads(answer)["response"]
    assert response == recorded
    assert json.dumps(response) == json.dumps(recorded)  # the order of members, too


# What Go 0.5.14 answers to odd requests, observed on a node without a TUN: (sent, error or None, echo of the request).
ODD_REQUESTS: list[tuple[bytes, str | None, str]] = [
    (
        b'{"request":"addPeer","arguments":[1]}',
        "json: cannot unmarshal array into Go value of type admin.AddPeerRequest",
        '{"request": "addPeer", "arguments": [1]}',
    ),
    (
        b'{"request":"addPeer","arguments":"x"}',
        "json: cannot unmarshal string into Go value of type admin.AddPeerRequest",
        '{"request": "addPeer", "arguments": "x"}',
    ),
    (
        b'{"request":"addPeer","arguments":5}',
        "json: cannot unmarshal number into Go value of type admin.AddPeerRequest",
        '{"request": "addPeer", "arguments": 5}',
    ),
    (
        b'{"request":"getTUN","arguments":true}',
        "json: cannot unmarshal bool into Go value of type tun.GetTUNRequest",
        '{"request": "getTUN", "arguments": true}',
    ),
    (
        b'{"request":"getPeers","arguments":{"sort":[1],"SORT":false}}',
        "json: cannot unmarshal array into Go struct field GetPeersRequest.sort of type string",
        '{"request": "getPeers", "arguments": {"sort": [1], "SORT": false}}',
    ),
    (
        b'{"request":"addPeer","arguments":{"uri":{},"interface":1e3}}',
        "json: cannot unmarshal object into Go struct field AddPeerRequest.uri of type string",
        '{"request": "addPeer", "arguments": {"uri": {}, "interface": 1e3}}',
    ),
    (
        b'{"request":"addPeer","arguments":{"URI":null,"Interface":true}}',
        "json: cannot unmarshal bool into Go struct field AddPeerRequest.interface of type string",
        '{"request": "addPeer", "arguments": {"URI": null, "Interface": true}}',
    ),
    (b"null", "no request specified", '{"request": "", "arguments": {}}'),
    (b'{"request":null}', "no request specified", '{"request": "", "arguments": {}}'),
    (b' "hello" ', "failed to unmarshal request", '{"request": ""}'),
    (b"5 ", "failed to unmarshal request", '{"request": ""}'),
    (b'{"keepalive":1,"request":"getTun"}', "failed to unmarshal request", '{"request": ""}'),
    (
        b'{"request":"a","REQUEST":"b\\u0000\\b\\f\\t\\u2028<\\ud800x"}',
        "unknown action 'b\0\b\f\t\u2028<\ufffdx', try 'list' for help",
        '{"request": "b\\u0000\\b\\f\\t\\u2028\\u003c\ufffdx", "arguments": {}}',
    ),
    (b'{"request":"getTun","keepalive":null}', None, '{"request": "getTun", "arguments": {}}'),
    (b'{"request":"getTun","keepalive":false}', None, '{"request": "getTun", "arguments": {}}'),
    (
        b'{"request":"getTun","arguments":{},"arguments":7}',
        "json: cannot unmarshal number into Go value of type tun.GetTUNRequest",
        '{"request": "getTun", "arguments": 7}',
    ),
    (b'{"reque\\u017ft":"getTun"}', None, '{"request": "getTun", "arguments": {}}'),
    (
        b'{"request":"getTun","arguments" : { "z" : 1.50 , "z":[ ], "<&>":"\\u003c\\u2028\\/" }}',
        None,
        '{"request": "getTun", "arguments": {"z": 1.50, "z": [], "\\u003c\\u0026\\u003e": "\\u003c\\u2028\\/"}}',
    ),
]


@pytest.mark.parametrize(("sent", "error", "echo"), ODD_REQUESTS)
async def test_odd_requests_are_understood_as_go_does(sent: bytes, error: str | None, echo: str) -> None:
    answer = (await converse(registry_of(FakeNode({"enabled": False})), sent)).decode()
    flat = " ".join(line.strip() for line in answer.splitlines())
    for bracket in "{[":
        flat = flat.replace(bracket + " ", bracket)
    for bracket in "}]":
        flat = flat.replace(" " + bracket, bracket)
    assert f'"request": {echo}, "response": ' in flat
    assert json.loads(answer).get("error") == error
    assert json.loads(answer)["response"] == (None if error else {"enabled": False})


async def test_keepalive_holds_even_when_the_rest_is_of_the_wrong_type() -> None:
    answers = await converse(
        registry_of(FakeNode({"enabled": False})), b'{"request":5,"keepalive":true}{"request":"getTun"}'
    )
    assert answers == failure(None, "failed to unmarshal request") + await converse(
        registry_of(FakeNode({"enabled": False})), b'{"request":"getTun"}'
    )


@pytest.mark.parametrize("command", ["getPeers", "addPeer", "removePeer"])
async def test_null_arguments_are_no_arguments(command: str) -> None:
    # They end a Go node with a nil pointer.
    node = FakeNode({"peers": []})
    answer = json.loads(await converse(registry_of(node), b'{"request":"%s","arguments":null}' % command.encode()))
    assert answer["status"] == "success"
    assert answer["request"]["arguments"] is None


async def test_peerings_reach_the_node_with_their_interface() -> None:
    node = FakeNode()
    registry = registry_of(node)
    await converse(registry, b'{"request":"addPeer","arguments":{"uri":"tls://a:1?key=b","interface":"eth0"}}')
    await converse(registry, b'{"request":"removepeer","arguments":{"URI":"tls://a:1"}}')
    assert node.peerings == [("add", "tls://a:1?key=b", "eth0"), ("remove", "tls://a:1", "")]


async def asked(node: FakeNode, command: str, **arguments: str) -> dict[str, Any]:
    """Return what the command answers."""
    sent = json.dumps({"request": command, "arguments": arguments})
    answer: dict[str, Any] = json.loads(await converse(registry_of(node), sent.encode()))
    return answer


OTHER = "ab" * 32
REMOTE = {
    "getNodeInfo": Question.NODE_INFO,
    "debug_remoteGetSelf": Question.SELF,
    "debug_remoteGetPeers": Question.PEERS,
    "debug_remoteGetTree": Question.TREE,
}


@pytest.mark.parametrize("command", REMOTE)
async def test_the_node_with_the_key_is_asked(command: str) -> None:
    node = FakeNode()
    node.answer = b""
    answer = await asked(node, command, key=OTHER.upper())
    assert node.asked == [(bytes.fromhex(OTHER), REMOTE[command])]
    name = OTHER if command == "getNodeInfo" else str(Address.for_key(bytes.fromhex(OTHER)))
    assert answer["response"] == {name: {} if command in ("debug_remoteGetPeers", "debug_remoteGetTree") else None}


@pytest.mark.parametrize("command", REMOTE)
@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("zz", "encoding/hex: invalid byte: U+007A 'z'"),
        ("0z0", "encoding/hex: invalid byte: U+007A 'z'"),
        ("0\n", "encoding/hex: invalid byte: U+000A"),
        ("0é", "encoding/hex: invalid byte: U+00C3 'Ã'"),
        ("abc", "encoding/hex: odd length hex string"),
        ("00" * 31, "invalid public key length"),
        ("00" * 33, "invalid public key length"),
        ("", "invalid public key length"),
    ],
)
async def test_keys_that_are_none(command: str, key: str, error: str) -> None:
    node = FakeNode()
    if command == "getNodeInfo":
        if not key:
            error = "no remote public key supplied"
        elif "hex" in error:
            error = f"failed to decode public key: {error}"
    assert (await asked(node, command, key=key))["error"] == error
    assert node.asked == []


@pytest.mark.parametrize("command", ["getNodeInfo", "debug_remoteGetSelf"])
async def test_answers_of_others_are_shown_as_they_were_spelt(command: str) -> None:
    node = FakeNode()
    node.answer = b'{"b":1e999,"a":[],"b":"<\\ud800\xff"}'
    sent = b'{"request":"%s","arguments":{"key":"%s"}}' % (command.encode(), OTHER.encode())
    text = (await converse(registry_of(node), sent)).decode()
    assert '      "b": 1e999,\n      "a": [],\n      "b": "\\u003c\\ud800\ufffd"\n    }\n' in text


@pytest.mark.parametrize("command", ["getNodeInfo", "debug_remoteGetSelf"])
@pytest.mark.parametrize("junk", [b"{", b"\0", b"NaN", b"{}{}", b"[" * 60000, b"[" * 101 + b"]" * 101])
async def test_junk_from_others_is_an_error(command: str, junk: bytes) -> None:
    node = FakeNode()
    node.answer = junk
    assert (await asked(node, command, key=OTHER))["error"].startswith("failed to marshal response: ")


async def test_half_a_key_at_the_end_is_left_out() -> None:
    node = FakeNode()
    node.answer = bytes(32) + b"\1" * 40
    (keys,) = (await asked(node, "debug_remoteGetTree", key=OTHER))["response"].values()
    assert keys == {"keys": ["00" * 32, "01" * 32]}


async def test_lookups_are_there_only_with_a_record_of_them() -> None:
    node = FakeNode()
    assert (await asked(node, "lookups"))["response"] == {"infos": []}
    node.logs_lookups = False
    assert (await asked(node, "lookups"))["error"] == "unknown action 'lookups', try 'list' for help"
    listed = (await asked(node, "list"))["response"]["list"]
    assert "lookups" not in [entry["command"] for entry in listed]


def peer(name: str, **members: Any) -> PeerStatus:
    return PeerStatus(**{"uri": name, "up": True, "inbound": False, "key": b"\1" * 32, "address": "200::1", **members})


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        (None, ["down", "low key", "low cost", "short", "long", "bad priority", "high key", "inbound"]),
        ("nonsense", ["down", "low key", "low cost", "short", "long", "bad priority", "high key", "inbound"]),
        ("COST", ["down", "low cost", "low key", "short", "inbound", "long", "bad priority", "high key"]),
        ("uptime", ["down", "short", "high key", "long", "low key", "low cost", "bad priority", "inbound"]),
    ],
)
async def test_orders_of_get_peers(sort: str | None, expected: list[str]) -> None:
    peers = [
        peer("inbound", inbound=True, cost=9, uptime=90.0),
        peer("high key", key=b"\2" * 32, cost=9, uptime=20.0),
        peer("bad priority", priority=5, cost=9, uptime=80.0),
        peer("long", cost=9, uptime=50.0),
        peer("short", cost=9, uptime=10.0),
        peer("low cost", cost=2, uptime=70.0),
        peer("low key", key=b"\0" * 32, cost=9, uptime=60.0),
        peer("down", up=False, key=None, address=None, cost=0, uptime=0.0),
    ]
    if sort == "COST":
        peers[0] = peer("inbound", inbound=True, cost=9, uptime=40.0)
    node = FakeNode()
    node.status_peers = lambda: peers  # type: ignore[method-assign]
    arguments = b"{}" if sort is None else b'{"sort":"%s"}' % sort.encode()
    answer = json.loads(await converse(registry_of(node), b'{"request":"getPeers","arguments":%s}' % arguments))
    assert [entry["remote"] for entry in answer["response"]["peers"]] == expected


async def test_uptimes_less_than_a_second_apart_count_as_equal() -> None:
    node = FakeNode()
    node.status_peers = lambda: [peer("b", uptime=8.9), peer("a", uptime=8.1)]  # type: ignore[method-assign]
    for arguments in (b"{}", b'{"sort":"uptime"}', b'{"sort":"cost"}'):
        answer = json.loads(await converse(registry_of(node), b'{"request":"getPeers","arguments":%s}' % arguments))
        assert [entry["remote"] for entry in answer["response"]["peers"]] == ["b", "a"]


async def test_durations_are_exact_numbers() -> None:
    node = FakeNode()
    node.status_peers = lambda: [  # type: ignore[method-assign]
        peer("x", uptime=1.0000000009313226, latency=0.00182, last_error="gone", last_error_age=2.019583394)
    ]
    text = (await converse(registry_of(node), b'{"request":"getPeers"}')).decode()
    for line in ('"uptime": 1.000000001,', '"latency": 1820000,', '"last_error_time": 2019583394,'):
        assert line in text


async def test_a_session_shows_its_zeros() -> None:
    node = FakeNode(
        {"sessions": [{"key": "00" * 32, "address": "200::", "bytes_recvd": 0, "bytes_sent": 0, "uptime": 0.0}]}
    )
    text = (await converse(registry_of(node), b'{"request":"getSessions"}')).decode()
    assert '"bytes_recvd": 0,' in text
    assert '"uptime": 0\n' in text


async def test_get_health() -> None:
    registry = CommandRegistry(own_commands(FakeNode()))
    answers = await converse(registry, b'{"request": "getHealth"}')
    assert json.loads(answers)["response"] == {
        "ready": False,
        "reason": "none of 1 configured peer is up",
        "peers": 2,
        "up": 1,
        "configured": 1,
        "configured_up": 0,
        "parent": "",
        "failing": [{"remote": "tcp://a:1", "error": "EOF"}],
    }


async def test_a_leaf_shows_what_it_has_refused() -> None:
    registry = CommandRegistry(own_commands(FakeNode()))
    answers = await converse(registry, b'{"request": "getTransit"}')
    assert json.loads(answers)["response"] == {
        "enabled": False,
        "resting_peers": ["00" * 32],
        "refused": {"traffic": 3, "path_lookup": 0},
    }


async def test_a_command_is_added_by_a_few_lines() -> None:
    async def get_weather(arguments: Arguments) -> EncodableJson:
        if not arguments["place"]:
            raise CommandError("no place supplied")
        return {"place": arguments["place"], "sunny": True}

    registry = registry_of(FakeNode())
    registry.add(Command("getWeather", "Show the weather", get_weather, fields=("place",)))
    answer = json.loads(await converse(registry, b'{"request":"GETWEATHER","arguments":{"place":"here"}}'))
    assert answer["response"] == {"place": "here", "sunny": True}
    answer = json.loads(await converse(registry, b'{"request":"getweather"}'))
    assert (answer["status"], answer["error"], answer["response"]) == ("error", "no place supplied", None)
    listed = json.loads(await converse(registry, b'{"request":"list"}'))["response"]["list"]
    assert {"command": "getweather", "description": "Show the weather", "fields": ["place"]} in listed
    assert [entry["command"] for entry in listed] == sorted(entry["command"] for entry in listed)
    with pytest.raises(ValueError, match="getWEATHER exists already"):
        registry.add(Command("getWEATHER", "", get_weather))


async def test_a_bug_in_a_command_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(arguments: Arguments) -> EncodableJson:
        raise KeyError("oops")

    registry = CommandRegistry([Command("broken", "", broken)])
    answer = json.loads(await registry.answer(Request("broken")))
    assert answer["error"] == "internal error: KeyError('oops')"
    assert "Admin command broken failed" in caplog.text


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (b"{" + b" " * 70000, "request is larger than 65536 bytes"),
        (b'{"arguments":' + b"[" * MAX_NESTING, "request is nested deeper than 32 levels"),
    ],
)
async def test_requests_over_a_limit_end_the_conversation(sent: bytes, error: str) -> None:
    assert await converse(registry_of(FakeNode()), sent) == failure(None, error)


def test_requests_arrive_in_pieces() -> None:
    reader = RequestReader()
    for byte in b'{"request":"a","keepalive":tru':
        reader.feed(bytes([byte]))
        assert reader.next_request() is None
    reader.feed(b'e} {"requ')
    assert reader.next_request() == Request("a", keepalive=True)
    assert reader.next_request() is None
    reader.feed(b'est":"b","arguments":{"c":1}}')
    assert reader.next_request() == Request("b", b'{"c":1}')


async def test_get_hosts() -> None:
    node = FakeNode()
    registry = CommandRegistry(own_commands(node))
    answer = json.loads(await converse(registry, b'{"request": "getHosts"}'))
    assert answer["response"] == {"enabled": False}

    own, other = bytes([1] * 32), bytes([2] * 32)
    section = DnsConfig(listen=(), hosts={"db": ("300::1", other.hex())}, trusted_keys=(other.hex(),))

    async def ask(key: bytes) -> bytes:
        raise NoAnswerError("nobody")

    node.names = DnsService(section, own, "a b", ask, lambda address: None, logging.getLogger("test"), lambda: 1.0)
    answer = json.loads(await converse(registry, b'{"request": "getHosts"}'))
    address = str(Address.for_key(other))
    assert answer["response"] == {
        "enabled": True,
        "domain": "ygg",
        "key": own.hex(),
        "address": str(Address.for_key(own)),
        "pk_name": f"{own.hex()[:32]}.{own.hex()[32:]}.pk.ygg",
        "pk_name_base32": "aeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaqcaibaeaq.pk.ygg",
        "hosts": [
            {"name": "db.ygg", "address": "300::1", "source": "static"},
            {"name": "db.ygg", "address": address, "source": "static", "key": other.hex()},
        ],
        "rejected": [
            {
                "key": own.hex(),
                "name": "a b",
                "reason": "no host name: letters, digits and hyphens, at most 63 (RFC 1123)",
            }
        ],
        "silent": [other.hex()],
        "listening": [],
        "queries": {
            **dict.fromkeys(("answered", "forwarded", "failed", "refused"), 0),
            **dict.fromkeys(("malformed", "dropped", "strangers"), 0),
        },
    }
    request = json.dumps({"request": "gethosts", "arguments": {"key": other.hex().upper()}}).encode()
    shown = json.loads(await converse(registry, request))["response"]
    assert (shown["key"], shown["address"], len(shown["hosts"]), shown["rejected"]) == (other.hex(), address, 1, [])
    bad = json.loads(await converse(registry, b'{"request": "gethosts", "arguments": {"key": "xy"}}'))
    assert (bad["status"], bad["error"]) == ("error", "encoding/hex: invalid byte: U+0078 'x'")


async def test_get_firewall() -> None:
    node = FakeNode()
    registry = CommandRegistry(own_commands(node))
    request = b'{"request": "getFirewall"}'
    answer = json.loads(await converse(registry, request))
    assert answer["response"] == {"enabled": False}
    node.firewall = FirewallStatus(100, 7, 1, 500, 2, 3, 40, 4, [("web", 9), ("rule 1", 0)])
    answer = json.loads(await converse(registry, request))
    assert answer["response"] == {
        "enabled": True,
        "max_flows": 100,
        "flows": 7,
        "flows_evicted": 1,
        "established": 500,
        "icmp_errors": 2,
        "fragments": 3,
        "denied": 40,
        "malformed": 4,
        "rules": [{"name": "web", "allowed": 9}, {"name": "rule 1", "allowed": 0}],
    }
