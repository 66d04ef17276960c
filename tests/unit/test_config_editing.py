"""Peers go into a configuration file and out of it, and nothing else changes."""

from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggpy.config import Config
from yggpy.config.editing import add_peer, remove_peers
from yggpy.errors import ConfigError

NEW = "tls://new:1?key=ab"

ADDED = [
    # (before, after)
    ("{\n  Peers: []\n}\n", '{\n  Peers: [\n    "NEW"\n  ]\n}\n'),
    (
        '{\n  # mine\n  Peers: [\n    "a" # one\n    b  \n    # last word\n  ] # end\n}',
        '{\n  # mine\n  Peers: [\n    "a" # one\n    b  \n    # last word\n    "NEW"\n  ] # end\n}',
    ),
    ('{ "Peers": ["a", "b"], "Listen": [] }', '{ "Peers": ["a", "b", "NEW"], "Listen": [] }'),
    ('{ "Peers": ["a", ], }', '{ "Peers": ["a", "NEW"], }'),
    ("peers: ['a' /* c */]", "peers: ['a', /* c */ \"NEW\"]"),
    ('{\n  "Peers": [\n    "a"\n  ]\n}', '{\n  "Peers": [\n    "a",\n    "NEW"\n  ]\n}'),
    ('{\n  "Peers": [\n    "a",\n  ]\n}', '{\n  "Peers": [\n    "a",\n    "NEW"\n  ]\n}'),
    ('{\r\n\t"Peers": [\r\n\t\t"a"\r\n\t]\r\n}', '{\r\n\t"Peers": [\r\n\t\t"a",\r\n\t\t"NEW"\r\n\t]\r\n}'),
    ("Peers: [\n  # none yet\n]", 'Peers: [\n  # none yet\n  "NEW"\n]'),
    ("Peers: [\n  'a' # b, c\n]", "Peers: [\n  'a', # b, c\n  \"NEW\"\n]"),
    ("Peers: null\nListen: []", 'Peers: [\n  "NEW"\n]\nListen: []'),
    ("{}", '{\n  "Peers": [\n    "NEW"\n  ]\n}'),
    ("{ Listen: [] }", '{\n  Peers: [\n    "NEW"\n  ]\n  Listen: [] }'),
    ("{\n  # c\n  Listen: []\n}", '{\n  Peers: [\n    "NEW"\n  ]\n  # c\n  Listen: []\n}'),
    ('{\n  "Listen": []\n}', '{\n  "Peers": [\n    "NEW"\n  ],\n  "Listen": []\n}'),
    ("# c\nListen: []", '# c\nPeers: [\n  "NEW"\n]\nListen: []'),
    ("", 'Peers: [\n  "NEW"\n]\n'),
    ("# c", '# c\nPeers: [\n  "NEW"\n]\n'),
    ("Peers: [a\n]\npeers: [b\n]", 'Peers: [a\n]\npeers: [b\n"NEW"\n]'),
    ("Peers: [a\n]\nPeers: []", 'Peers: [a\n]\nPeers: [\n  "NEW"\n]'),
]


def new(text: str) -> str:
    return text.replace("NEW", NEW)


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_a_peer_is_added(before: str, after: str) -> None:
    assert add_peer(before.encode(), NEW).decode() == new(after)


@pytest.mark.parametrize(("before", "after"), ADDED)
def test_what_was_added_goes_out_again(before: str, after: str) -> None:
    back = remove_peers(new(after).encode(), lambda uri: uri == NEW)
    assert NEW not in back.decode()
    assert Config.from_bytes(back).peers == Config.from_bytes(before.encode()).peers


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{\n  InterfacePeers: {}\n}", '{\n  InterfacePeers: {\n    eth0: [\n      "NEW"\n    ]\n  }\n}'),
        ("{\n  Peers: []\n}", '{\n  InterfacePeers: {\n    eth0: [\n      "NEW"\n    ]\n  }\n  Peers: []\n}'),
        ('{"InterfacePeers": {"eth0": ["a"]}}', '{"InterfacePeers": {"eth0": ["a", "NEW"]}}'),
        ("InterfacePeers: { ETH0: [] }", 'InterfacePeers: {\n  eth0: [\n    "NEW"\n  ]\n  ETH0: [] }'),
        ("InterfacePeers: { eth0: null }", 'InterfacePeers: { eth0: [\n  "NEW"\n] }'),
        ("InterfacePeers: null", 'InterfacePeers: {\n  eth0: [\n    "NEW"\n  ]\n}'),
    ],
)
def test_a_peer_of_an_interface(before: str, after: str) -> None:
    added = add_peer(before.encode(), NEW, "eth0")
    assert added.decode() == new(after)
    assert Config.from_bytes(added).interface_peers["eth0"][-1] == NEW
    back = Config.from_bytes(remove_peers(added, lambda uri: uri == NEW, "eth0"))
    assert NEW not in back.interface_peers["eth0"]
    assert remove_peers(added, lambda uri: uri == NEW) == added
    assert remove_peers(added, lambda uri: uri == NEW, "eth1") == added


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"Peers": ["x", "a", "x"]}', '{"Peers": ["a"]}'),
        ('{"Peers": ["x"]}', '{"Peers": []}'),
        ("Peers: [\n  # first\n  'x' # this one\n  a\n  x\n]", "Peers: [\n  # first\n  a\n]"),
        ('{\n  "Peers": [\n    "a",\n    "x"\n  ]\n}', '{\n  "Peers": [\n    "a"\n  ]\n}'),
        ('{\n  "Peers": [\n    "x",\n    "a"\n  ]\n}', '{\n  "Peers": [\n    "a"\n  ]\n}'),
        ("Peers: [ 'x' 'a', 'x' ]", "Peers: [ 'a' ]"),
        ("Peers: [\n  a\n]", "Peers: [\n  a\n]"),
        ("Listen: [x\n]", "Listen: [x\n]"),
        ("", ""),
    ],
)
def test_peers_are_removed(before: str, after: str) -> None:
    removed = remove_peers(before.encode(), lambda uri: uri == "x").decode()
    assert " ".join(removed.split()) == " ".join(after.split())
    assert Config.from_bytes(removed.encode()).peers == Config.from_bytes(after.encode()).peers


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ],
)
def test_the_encoding_stays(encoding: str, mark: bytes) -> None:
    before = mark + "# höhle\nPeers: []".encode(encoding)
    after = add_peer(before, "tls://é:1")
    assert after == mark + '# höhle\nPeers: [\n  "tls://é:1"\n]'.encode(encoding)


@pytest.mark.parametrize(
    "data",
    [
        b"Peers: [",
        b"Peers: {}",
        b"Peers: 7",
        b"InterfacePeers: { eth0: 7 }",
        b"\xff\xfe# \x00\xd8",
        b"# \xff\nPeers: []",
    ],
)
def test_what_cannot_be_edited_safely_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        add_peer(data, NEW, "eth0" if b"eth0" in data else "")


def test_a_uri_that_no_file_can_hold() -> None:
    with pytest.raises(ConfigError, match="characters"):
        add_peer(b"Peers: []", "tls://\ud800:1")


PIECES = st.sampled_from(
    ['"a"', '"a",', "'b'", "c\n", "d // x\n", ",", " ", "\n", "# r\n", "/* z */", '"x"', '"x", ', "x\n"]
)


@given(st.lists(PIECES, max_size=12), st.sampled_from(["Peers: [{}]", "{{ Peers: [{}]\n}}", "{{\n  peers: [\n{}\n]}}"]))
def test_any_list_gets_and_loses_a_peer_or_is_refused(pieces: list[str], frame: str) -> None:
    data = frame.format("".join(pieces)).encode()
    try:
        peers = Config.from_bytes(data).peers
    except ConfigError:
        return
    try:
        added = add_peer(data, NEW)
        assert Config.from_bytes(added).peers == [*peers, NEW]
        assert Config.from_bytes(remove_peers(added, lambda uri: uri == NEW)).peers == peers
        rest = remove_peers(added, lambda uri: uri in ("x", NEW))
    except ConfigError as error:
        assert "by hand" in str(error)
    else:
        assert Config.from_bytes(rest).peers == [uri for uri in peers if uri != "x"]


@given(st.lists(st.sampled_from(["a", "b", "x"]), max_size=5), st.sampled_from([None, 2]), st.booleans())
def test_json_stays_json(peers: list[str], indent: int | None, more: bool) -> None:
    tree = {"Peers": peers, **({"Listen": ["y"]} if more else {})}
    data = json.dumps(tree, indent=indent).encode()
    added = add_peer(data, NEW)
    assert json.loads(added) == {**tree, "Peers": [*peers, NEW]}
    assert json.loads(remove_peers(added, lambda uri: uri == "x"))["Peers"] == [p for p in [*peers, NEW] if p != "x"]
    assert json.loads(remove_peers(added, lambda uri: uri == NEW))["Peers"] == peers
