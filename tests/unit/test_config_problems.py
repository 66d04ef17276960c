"""Everything that is wrong with a configuration is told at once, with its place; unknown keys are only warned about."""

from __future__ import annotations

import json

import pytest

from yggpy.config import Config, MulticastInterface
from yggpy.config.hjson import Marks, read_hjson
from yggpy.config.parsing import MAX_UNKNOWN_KEYS, ConfigText
from yggpy.errors import ConfigError

MANY_PROBLEMS = """
{
  Peers: [
    "tls://a:1"
    [], { }
  ]
  InterfacePeers: { eth0: [ [] ], eth1: 7
  }
  MulticastInterfaces: [
    { Beacon: 1, Port: 99999 }
    "x"
    { Password: p
      Priority: 256 }
  ]
  privatekey: zz
  IfMTU: "1280"
  NodeInfoPrivacy: 1
}
"""


def problems_of(text: str) -> list[tuple[tuple[int, int], str]]:
    config = ConfigText(text.encode())
    with pytest.raises(ConfigError) as caught:
        config.build()
    return [(config.place(problem.key), str(problem)) for problem in caught.value.problems]


def test_all_wrong_values_are_told_with_their_places() -> None:
    found = problems_of(MANY_PROBLEMS)
    assert [(line, text.split()[0]) for (line, _), text in found] == [
        (5, "Peers[1]"),
        (5, "Peers[2]"),
        (7, "InterfacePeers.eth0[0]"),
        (7, "InterfacePeers.eth1"),
        (10, "MulticastInterfaces[0].Beacon"),
        (10, "MulticastInterfaces[0].Port"),
        (11, "MulticastInterfaces[1]"),
        (13, "MulticastInterfaces[2].Priority"),
        (15, "PrivateKey"),
        (16, "IfMTU"),
        (17, "NodeInfoPrivacy"),
    ]
    assert [column for (_, column), _ in found][:3] == [5, 9, 29]


def test_as_one_line_it_is_the_first_and_a_count() -> None:
    with pytest.raises(ConfigError, match=r"^Peers must be a list of strings, not a number \(and 1 more problem\)$"):
        Config.from_bytes(b"Peers: 1\nListen: 2")
    with pytest.raises(ConfigError, match=r"^Peers must be a list of strings, not a number$") as caught:
        Config.from_bytes(b"Peers: 1")
    assert caught.value.problems == (caught.value,)
    assert caught.value.key == "Peers"


def test_a_syntax_error_has_a_place() -> None:
    with pytest.raises(ConfigError) as caught:
        ConfigText(b"{\n  Peers: [ ]]\n}")
    assert caught.value.place == (2, 13)


def test_check_tells_all_that_types_do_not_show() -> None:
    config = Config(
        allowed_public_keys=["zz", "00" * 32, "00"],
        node_info={"x": "y" * 20000},
        multicast_interfaces=[MulticastInterface(), MulticastInterface(regex="(")],
    )
    with pytest.raises(ConfigError) as caught:
        config.check()
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["AllowedPublicKeys[0]", "AllowedPublicKeys[2]", "NodeInfo", "MulticastInterfaces[1].Regex"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Peerz: []", 'unknown key "Peerz" is ignored; did you mean "Peers"?'),
        ("AllowedEncryptionPublicKeys: []", '"AllowedPublicKeys"?'),
        ("multicastinterface: []", 'did you mean "MulticastInterfaces"?'),
        ("Firewood99: {}", 'unknown key "Firewood99" is ignored'),
        ("NodeInfo: { Peerz: 1 }", None),
        ("InterfacePeers: { Peerz: [] }", None),
        ("PEERS: []", None),
        (
            "MulticastInterfaces: [{Regex: a\n}, {Prot: 1}]",
            'unknown key "MulticastInterfaces[1].Prot" is ignored; did you mean "Port"?',
        ),
        ("multicastinterfaces: [{Peers: 1}]", 'unknown key "MulticastInterfaces[0].Peers" is ignored'),
        ("MulticastInterfaces: null", None),
    ],
)
def test_unknown_keys_are_noted(text: str, said: str | None) -> None:
    config = Config.from_bytes(text.encode())
    if said is None:
        assert config.unknown_keys == ()
    else:
        [unknown] = config.unknown_keys
        assert said in str(unknown)


def test_where_unknown_keys_are() -> None:
    config = Config.from_bytes(b'{\n  "Peers": [],\n  "Listten": [], "MulticastInterfaces": [\n{ "becon": true }]}')
    assert [(key.key, key.line, key.column, key.suggestion) for key in config.unknown_keys] == [
        ("Listten", 3, 3, "Listen"),
        ("MulticastInterfaces[0].becon", 4, 3, "Beacon"),
    ]
    assert config == Config(private_key=config.private_key, multicast_interfaces=config.multicast_interfaces)


def test_a_file_of_junk_is_not_looked_through_for_ever() -> None:
    text = json.dumps({f"{'x' * 5000}{number}": number for number in range(500)})
    assert len(Config.from_bytes(text.encode()).unknown_keys) == MAX_UNKNOWN_KEYS


def test_marks_tell_where_values_stand() -> None:
    text = "{ a: [ 1, 'two' ]\n b: no quotes  \n c: {d: null} }"
    marks: Marks = {}
    read_hjson(text, marks=marks)
    assert {path: text[span.start : span.end] for path, span in marks.items()} == {
        ("a", 0): "1",
        ("a", 1): "'two'",
        ("a",): "[ 1, 'two' ]",
        ("b",): "no quotes",
        ("c", "d"): "null",
        ("c",): "{d: null}",
        (): text,
    }
    assert text[marks["c",].name :].startswith("c:")
    marks.clear()
    read_hjson("a: 1\n", marks=marks)
    assert marks[()] == (0, 0, 5)
