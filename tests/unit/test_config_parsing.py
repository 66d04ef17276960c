"""From file bytes to ``Config``: types, defaults, Go's oddities, and messages that name the key."""

from __future__ import annotations

import codecs
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggpy.config import MAX_CONFIG_SIZE, MAX_NODE_INFO_SIZE, Config, MulticastInterface
from yggpy.config.pem import private_key_from_pem, private_key_to_pem
from yggpy.errors import ConfigError
from yggpy.keys import PrivateKey

from .vectors import load

VECTORS = load("cli")
PRIVATE_KEY = PrivateKey.from_bytes(bytes.fromhex(VECTORS["private_key"]))
DEFAULT_MULTICAST = [MulticastInterface(regex=".*", beacon=True, listen=True)]


def parse(text: str) -> Config:
    return Config.from_bytes(text.encode())


def test_an_empty_file_gives_the_defaults_and_a_new_key() -> None:
    config = parse("")
    assert (config.peers, config.interface_peers, config.listen, config.allowed_public_keys) == ([], {}, [], [])
    assert config.admin_listen == "unix:///var/run/yggdrasil.sock"
    assert config.multicast_interfaces == DEFAULT_MULTICAST
    assert (config.group_password, config.if_name, config.if_mtu) == ("", "auto", 65535)
    assert (config.log_lookups, config.node_info_privacy, config.node_info) == (False, False, None)
    assert config.private_key != parse("").private_key


def test_generated_configurations_share_nothing() -> None:
    one, two = Config.generate(), Config.generate()
    one.peers.append("tcp://192.0.2.1:1")
    one.multicast_interfaces[0].beacon = False
    assert two.peers == []
    assert two.multicast_interfaces == DEFAULT_MULTICAST


@pytest.mark.parametrize(
    "data",
    [
        "GroupPassword: é".encode(),
        codecs.BOM_UTF8 + "GroupPassword: é".encode(),
        codecs.BOM_UTF16_LE + "GroupPassword: é".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "GroupPassword: é".encode("utf-16-be"),
    ],
)
def test_encodings(data: bytes) -> None:
    assert Config.from_bytes(data).group_password == "é"


def test_broken_characters_are_replaced() -> None:
    assert Config.from_bytes(b"GroupPassword: a\xffb").group_password == "a\ufffdb"
    assert Config.from_bytes(codecs.BOM_UTF16_LE + "IfName: x".encode("utf-16-le") + b"\xd8").if_name == "x\ufffd"


def test_utf16_without_a_mark_is_recognised() -> None:
    with pytest.raises(ConfigError, match="is this UTF-16 without a byte order mark"):
        Config.from_bytes("IfName: x".encode("utf-16-le"))


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="this is not a configuration"):
        Config.from_bytes(b" " * (MAX_CONFIG_SIZE + 1))


def test_numbers_and_keywords_given_for_strings_are_taken_as_spelt() -> None:
    config = parse(
        "GroupPassword: 12345\nIfName: true\nMulticastInterfaces: [{Regex: 1e5\nPassword: 99 # x\n}]\nListen: [5\n]"
    )
    assert config.group_password == "12345"
    assert config.if_name == "true"
    assert config.multicast_interfaces[0].regex == "1e5"
    assert config.multicast_interfaces[0].password == "99 # x"
    assert config.listen == ["5"]


def test_keys_in_any_case_and_the_last_counts() -> None:
    config = parse("IFNAME: a\nifmtu: 1300\nIfMTU: 1400\nUnknown: {x: [1]}\nmulticastinterfaces: []")
    assert (config.if_name, config.if_mtu, config.multicast_interfaces) == ("a", 1400, [])


def test_maps_given_twice_in_different_case_merge() -> None:
    config = parse('NodeInfo: {a: 1}\nnodeinfo: {b: 2}\nInterfacePeers: {x: ["1"]}\ninterfacepeers: {y: []}')
    assert config.node_info == {"a": 1, "b": 2}
    assert config.interface_peers == {"x": ["1"], "y": []}


def test_only_the_first_multicast_entry_inherits() -> None:
    config = parse("MulticastInterfaces: [{Regex: e\n}, {Regex: w\nPort: 5, Priority: 255, Cost: 65535}, {}]")
    assert config.multicast_interfaces == [
        MulticastInterface(regex="e", beacon=True, listen=True),
        MulticastInterface(regex="w", port=5, priority=255, cost=65535),
        MulticastInterface(),
    ]


def test_the_http_endpoint_is_off_unless_given() -> None:
    assert parse("").http_listen == parse('HTTPListen: ""').http_listen == ""
    assert parse("httplisten: localhost:9101").http_listen == "localhost:9101"
    assert parse('HTTPListen: ":9101"').to_json().count('"HTTPListen": ":9101"') == 1
    assert "HTTPListen" not in parse("").to_hjson()


def test_transit_is_on_unless_turned_off() -> None:
    assert parse("").transit is parse("Transit: null").transit is parse("transit: true").transit is True
    assert parse("TRANSIT: false").transit is False
    with pytest.raises(ConfigError, match=r"Transit must be true or false"):
        parse("Transit: maybe")


def test_null_is_the_default_or_empty() -> None:
    config = parse(
        "Peers: null\nListen: null\nInterfacePeers: {a: null\n}\nMulticastInterfaces: null\nIfMTU: null\n"
        "LogLookups: null\nNodeInfo: null"
    )
    assert (config.peers, config.listen, config.multicast_interfaces) == ([], [], [])
    assert config.interface_peers == {"a": []}
    assert (config.if_mtu, config.log_lookups, config.node_info) == (65535, False, None)
    assert parse("MulticastInterfaces: [null, {Regex: a\nBeacon: null\n}]").multicast_interfaces == [
        *DEFAULT_MULTICAST,
        MulticastInterface(regex="a"),
    ]


def test_numbers_in_node_info_are_floats_in_their_shortest_form() -> None:
    info = parse("NodeInfo: {a: 1e3, b: 1.0, c: 12345678901234567890, d: 0.5, e: -3, f: 1e30}").node_info
    assert info == {"a": 1000, "b": 1, "c": 12345678901234567000, "d": 0.5, "e": -3, "f": 1e30}
    assert [type(value) for value in info.values()] == [int, int, int, float, int, float]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Peers: 5", "Peers must be a list of strings, not a number"),
        ('Peers: ["a", {b: 1}]', "Peers[1] must be a string, not an object"),
        ('Listen: "x"', "Listen must be a list of strings, not a string"),
        ("InterfacePeers: [1]", "InterfacePeers must be an object, not a list"),
        ("InterfacePeers: {eth0: 5}", "InterfacePeers.eth0 must be a list of strings, not a number"),
        ('IfMTU: "1500"', "IfMTU must be a number without quotes, not a string"),
        ("IfMTU: -1", "IfMTU must be a whole number from 0 to 18446744073709551615"),
        ("IfMTU: 1500.0", "IfMTU must be a whole number"),
        ("IfMTU: 1" + "0" * 5000, "IfMTU must be a whole number"),
        ("ifmtu: true", "IfMTU must be a number without quotes, not true"),
        ("IfName: [1]", "IfName must be a string, not a list"),
        ("GroupPassword: {a: 1}", "GroupPassword must be a string, not an object"),
        ("LogLookups: 1", "LogLookups must be true or false, not a number"),
        ('NodeInfoPrivacy: "true"', "NodeInfoPrivacy must be true or false, not a string"),
        ("NodeInfo: [1]", "NodeInfo must be an object, not a list"),
        ("NodeInfo: {a: [1e999]}", "NodeInfo holds a number that is too large"),
        ("MulticastInterfaces: 5", "MulticastInterfaces must be a list of objects, not a number"),
        ("MulticastInterfaces: [5]", "MulticastInterfaces[0] must be an object, not a number"),
        (
            "MulticastInterfaces: [{Port: 65536}]",
            "MulticastInterfaces[0].Port must be a whole number from 0 to 65535",
        ),
        ("MulticastInterfaces: [{Cost: 65536}]", "MulticastInterfaces[0].Cost must be a whole number"),
        ("MulticastInterfaces: [{}, {Priority: 256}]", "MulticastInterfaces[1].Priority must be a whole number"),
        ("PrivateKey: abc", "PrivateKey is not hexadecimal, or has an odd number of digits"),
        ("PrivateKey: zz", "PrivateKey is not hexadecimal"),
        ("PrivateKey: null", "PrivateKey is not hexadecimal"),
        ('PrivateKey: ""', "PrivateKey: a private key has 64 bytes, not 0"),
        ("PrivateKey: " + "ab" * 32, "PrivateKey: a private key has 64 bytes, not 32"),
        ("PrivateKey: " + "ab" * 64, "PrivateKey: the two halves"),
        ("PrivateKeyPath: /nonexistent/k.pem", 'PrivateKeyPath: cannot read "/nonexistent/k.pem": No such file'),
        ('PrivateKeyPath: "a\\u0000b"', "PrivateKeyPath: cannot read"),
    ],
)
def test_wrong_values_name_their_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}") as caught:
        parse(text)
    assert "abab" not in str(caught.value)


@given(st.binary())
def test_any_bytes_give_a_configuration_or_a_config_error(data: bytes) -> None:
    for prefix in (b"", codecs.BOM_UTF16_LE, b"{Peers: ", b"NodeInfo: {"):
        try:
            config = Config.from_bytes(prefix + data)
        except ConfigError:
            continue
        config.to_hjson()
        config.to_json()


def test_secrets_are_not_in_the_repr() -> None:
    config = parse('GroupPassword: hunter2\nMulticastInterfaces: [{Password: "hunter3"}]')
    assert "hunter" not in repr(config)
    assert config.private_key.seed.hex() not in repr(config)


# -- what is judged when a node is made ----------------------------------------------------------------------


def test_allowed_keys_are_decoded() -> None:
    key = PRIVATE_KEY.public_key
    assert Config(allowed_public_keys=[key.hex(), key.hex().upper()]).allowed_keys() == {key}
    assert Config().allowed_keys() == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zz", "is not hexadecimal"),
        ("abc", "is not hexadecimal"),
        ("ab cd", "is not hexadecimal"),
        ("é", "is not hexadecimal"),
        ("ab" * 31, "is 31 bytes long"),
        ("ab" * 33, "is 33 bytes long"),
    ],
)
def test_allowed_keys_that_are_none(text: str, message: str) -> None:
    config = Config(allowed_public_keys=[text])
    with pytest.raises(ConfigError, match=f'^AllowedPublicKeys: "{text}" {message}'):
        config.allowed_keys()
    with pytest.raises(ConfigError):
        config.check()


def test_public_node_info_tells_the_build_unless_private() -> None:
    public = Config(node_info={"name": "<n>", "buildname": "x"}).public_node_info()
    assert re.fullmatch(
        rb'\{"buildarch":"[a-z0-9_]+","buildname":"yggpy","buildplatform":"[a-z]+","buildversion":"[^"]+",'
        rb'"name":"\\u003cn\\u003e"\}',
        public,
    )
    assert Config(node_info={"b": 1, "a": [None, 1.5]}, node_info_privacy=True).public_node_info() == (
        b'{"a":[null,1.5],"b":1}'
    )
    assert Config(node_info_privacy=True).public_node_info() == b"{}"


def test_public_node_info_has_a_longest_length() -> None:
    longest = MAX_NODE_INFO_SIZE - len('{"x":""}')
    info = Config(node_info={"x": "y" * longest}, node_info_privacy=True)
    assert len(info.public_node_info()) == MAX_NODE_INFO_SIZE
    info.node_info = {"x": "y" * (longest + 1)}
    with pytest.raises(ConfigError, match="NodeInfo exceeds max length of 16384 bytes"):
        info.check()


@pytest.mark.parametrize("value", [b"x", object(), float("nan"), {1: 2}, {"a": {2}}])
def test_node_info_that_json_cannot_express(value: object) -> None:
    config = Config(node_info={"x": value})
    for call in (config.public_node_info, config.to_json, config.to_hjson, config.check):
        with pytest.raises(ConfigError, match="NodeInfo holds"):
            call()


def test_node_info_that_holds_itself() -> None:
    info: dict[str, object] = {}
    info["x"] = info
    with pytest.raises(ConfigError, match="nested too deeply"):
        Config(node_info=info).public_node_info()


def test_multicast_patterns() -> None:
    assert MulticastInterface(regex="th0$").pattern().search("eth0")
    with pytest.raises(ConfigError, match=r'^MulticastInterfaces: cannot use Regex "\("'):
        Config(multicast_interfaces=[MulticastInterface(regex="(")]).check()


# -- PEM ---------------------------------------------------------------------------------------------------


def test_pem_as_go_writes_it() -> None:
    assert private_key_to_pem(PRIVATE_KEY) == VECTORS["pem"].strip() + "\n"
    assert private_key_from_pem(VECTORS["pem"].encode()) == PRIVATE_KEY


def test_the_usual_pem_form_is_read_without_the_large_library() -> None:
    program = (
        "import sys; from yggpy.config.pem import *; from yggpy.keys import PrivateKey; key = PrivateKey.generate()\n"
        "assert private_key_from_pem(private_key_to_pem(key).encode()) == key\n"
        "assert 'cryptography.hazmat.bindings._rust' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_pem_with_other_line_ends_and_text_around() -> None:
    text = "Key of my node\n" + VECTORS["pem"].replace("\n", "\r\n") + "\nend\n"
    assert private_key_from_pem(text.encode()) == PRIVATE_KEY


def _pem(kind: str, body: str) -> bytes:
    return f"-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n".encode()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "failed to parse PEM file"),
        (b"-----BEGIN PRIVATE KEY-----\nMC4C", "failed to parse PEM file"),
        (_pem("PRIVATE KEY", "!!!"), "failed to parse PEM file"),
        (_pem("CERTIFICATE", "MC4C"), 'unexpected PEM type "CERTIFICATE"'),
        (_pem("ENCRYPTED PRIVATE KEY", "MC4C"), 'unexpected PEM type "ENCRYPTED PRIVATE KEY"'),
        (_pem("PRIVATE KEY", "MC4C"), "failed to unmarshal PKCS8 key: "),
        (_pem("PRIVATE KEY", ""), "failed to unmarshal PKCS8 key: "),
        # An X25519 key: the same layout with another algorithm.
        (
            _pem("PRIVATE KEY", "MC4CAQAwBQYDK2VuBCIEIIjWuwqNBGa8WS4idpSIYen7zZi9JZois1yYPa9i6kRS"),
            "private key must be ed25519 key",
        ),
    ],
)
def test_pem_that_cannot_be_used(data: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        private_key_from_pem(data)


@given(st.binary(max_size=100))
def test_any_pem_body_gives_a_key_or_a_config_error(body: bytes) -> None:
    import base64

    try:
        private_key_from_pem(_pem("PRIVATE KEY", base64.b64encode(body).decode()))
    except ConfigError as error:
        assert "\n" not in str(error)


def test_a_key_path_overrides_the_key(tmp_path: Path) -> None:
    path = tmp_path / "pk.pem"
    path.write_text(VECTORS["pem"])
    config = parse(f"PrivateKey: {'ab' * 32}\nPrivateKeyPath: {path}")
    assert config.private_key == PRIVATE_KEY
    assert config.private_key_path == str(path)
    path.write_text("x")
    with pytest.raises(ConfigError, match=f'^PrivateKeyPath: cannot use "{path}": failed to parse PEM file'):
        parse(f"PrivateKeyPath: {path}")
