"""Configuration keys from the environment: names, types, precedence, and errors that name the variable and no value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest

from yggpy.config.environment import Environment, variable_name
from yggpy.config.model import Config
from yggpy.config.parsing import CONFIG_KEYS, ConfigText
from yggpy.config.pem import private_key_to_pem
from yggpy.errors import ConfigError
from yggpy.keys import PrivateKey

KEY = PrivateKey.generate()
SECRET = "c0ffee-not-to-be-told"


def no_file(path: str) -> bytes:
    raise ConfigError(f'cannot read the file "{path}": not there')


def environment(files: Mapping[str, bytes] | None = None, /, **variables: str) -> Environment:
    return Environment.read(variables, no_file if files is None else files.__getitem__)


def config(text: str = "", files: Mapping[str, bytes] | None = None, /, **variables: str) -> Config:
    """Return the configuration of a file's text and variables."""
    parsed, found = ConfigText(text.encode()), environment(files, **variables)
    return parsed.build(members=found.over(parsed.members))


# -- names ---------------------------------------------------------------------------------------------------

NOT_KEYS = {"null_keys", "unknown_keys"}
"""Attributes of a ``Config`` that say how it was written."""
EXAMPLES: dict[str, tuple[str, Any]] = {
    "YGG_PRIVATE_KEY": (KEY.to_bytes().hex(), KEY),
    "YGG_PEERS": ("tls://a:1, tcp://b:2", ["tls://a:1", "tcp://b:2"]),
    "YGG_INTERFACE_PEERS": ('{"eth0": ["tls://a:1"]}', {"eth0": ["tls://a:1"]}),
    "YGG_LISTEN": ('["tls://[::]:1", "tcp://[::]:2"]', ["tls://[::]:1", "tcp://[::]:2"]),
    "YGG_ADMIN_LISTEN": ("none", "none"),
    "YGG_HTTP_LISTEN": (":9101", ":9101"),
    "YGG_ALLOWED_PUBLIC_KEYS": (f"{'11' * 32},\n{'ab' * 32}\n", ["11" * 32, "ab" * 32]),
    "YGG_GROUP_PASSWORD": (" 99 # true, [x", " 99 # true, [x"),
    "YGG_IF_NAME": ("none", "none"),
    "YGG_IF_MTU": ("1300", 1300),
    "YGG_LOG_LOOKUPS": ("yes", True),
    "YGG_TRANSIT": ("0", False),
    "YGG_NODE_INFO_PRIVACY": ("True", True),
    "YGG_NODE_INFO": ('{"name": "x", "n": 1.5}', {"name": "x", "n": 1.5}),
}


def test_every_attribute_of_the_configuration_has_a_variable() -> None:
    names = {variable_name(key) for key in CONFIG_KEYS}
    assert names == {f"YGG_{item.name.upper()}" for item in fields(Config) if item.name not in NOT_KEYS}
    assert len(names) == len(CONFIG_KEYS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_value_gets_where_it_belongs(name: str) -> None:
    text, value = EXAMPLES[name]
    for made in (config(**{name: text}), config("", {"/run/x": f"{text}\n".encode()}, **{f"{name}_FILE": "/run/x"})):
        found = getattr(made, name.removeprefix("YGG_").lower())
        assert found.to_bytes() == value.to_bytes() if isinstance(value, PrivateKey) else found == value


def test_every_variable_is_tried_here_or_below() -> None:
    elsewhere = {"YGG_PRIVATE_KEY_PATH", "YGG_MULTICAST_INTERFACES", "YGG_FIREWALL", "YGG_DNS"}
    assert EXAMPLES.keys() | elsewhere == {variable_name(key) for key in CONFIG_KEYS}


def test_objects_are_json() -> None:
    made = config(
        YGG_MULTICAST_INTERFACES='[{"Regex": "eth.*", "Port": 9, "Password": "123"}, {"Regex": "x"}]',
        YGG_FIREWALL='{"Rules": [{"Protocol": "tcp", "Ports": [80, "443"]}]}',
        YGG_DNS='{"Hosts": {"db": "300::1"}, "Listen": []}',
    )
    assert made.dns is not None
    assert (made.dns.hosts, made.dns.listen) == ({"db": ("300::1",)}, ())
    first, second = made.multicast_interfaces
    assert (first.regex, first.port, first.password, first.beacon) == ("eth.*", 9, "123", True)
    assert (second.regex, second.beacon) == ("x", False)
    assert made.firewall is not None
    assert made.firewall.rules[0].ports == ("80", "443")


def test_a_misspelt_variable_is_told() -> None:
    found = environment(YGG_PEER="x", YGG_ALLOWEDPUBLICKEYS="x", YGG_PRIVATE_KEYFILE="x", YGG_QQQQQQ="x", YGGPY_X="x")
    assert [str(unknown) for unknown in found.unknown] == [
        "unknown variable YGG_ALLOWEDPUBLICKEYS is ignored; did you mean YGG_ALLOWED_PUBLIC_KEYS?",
        "unknown variable YGG_PEER is ignored; did you mean YGG_PEERS?",
        "unknown variable YGG_PRIVATE_KEYFILE is ignored; did you mean YGG_PRIVATE_KEY_FILE?",
        "unknown variable YGG_QQQQQQ is ignored",
    ]
    assert found.members == {}
    assert environment(YGG_STATE_DIR="/x").unknown == ()
    assert environment(YGG_STATE_DIR="/x").state_directory == "/x"
    assert environment(YGG_USER="somebody").unknown == ()
    assert environment(YGG_USER="somebody").user == "somebody"


def test_there_is_a_limit_to_what_is_told() -> None:
    found = environment(**{f"YGG_{number}{'A' * 5000}": "x" for number in range(500)})
    assert len(found.unknown) == 32


# -- precedence ----------------------------------------------------------------------------------------------


def test_a_variable_counts_over_the_file_as_a_whole() -> None:
    text = 'peers: ["tls://a:1"], LISTEN: ["tls://[::]:1"], NodeInfo: {a: 1}, InterfacePeers: {eth0: []}'
    made = config(text, YGG_PEERS="tls://b:1", YGG_NODE_INFO='{"b": 2}', YGG_INTERFACE_PEERS="{}")
    assert (made.peers, made.listen) == (["tls://b:1"], ["tls://[::]:1"])
    assert (made.node_info, made.interface_peers) == ({"b": 2}, {})


@pytest.mark.parametrize("blank", ["", "  ", "\n"])
def test_an_empty_variable_is_as_good_as_none(blank: str) -> None:
    made = config("Peers: [\ntls://a:1\n], IfMTU: 1300", YGG_PEERS=blank, YGG_IF_MTU=blank, YGG_GROUP_PASSWORD=blank)
    assert (made.peers, made.if_mtu, made.group_password) == (["tls://a:1"], 1300, "")


def test_an_empty_list_empties_the_files_list() -> None:
    assert config("Peers: [\ntls://a:1\n]", YGG_PEERS="[]").peers == []


def test_a_key_counts_over_the_files_key_in_either_form(tmp_path: Any) -> None:
    path = tmp_path / "key.pem"
    path.write_text(private_key_to_pem(KEY))
    other = PrivateKey.generate().to_bytes().hex()
    hexadecimal = KEY.to_bytes().hex()
    for made in (
        config("PrivateKeyPath: /nonexistent", YGG_PRIVATE_KEY=hexadecimal),
        config("PrivateKeyPath: /nonexistent", YGG_PRIVATE_KEY=private_key_to_pem(KEY)),
        config(f"PrivateKey: {other}", {"/x": hexadecimal.encode() + b"\r\n"}, YGG_PRIVATE_KEY_FILE="/x"),
        config(f"PrivateKey: {other}", {"/x": path.read_bytes()}, YGG_PRIVATE_KEY_FILE="/x"),
        config(f"PrivateKey: {other}", YGG_PRIVATE_KEY_PATH=str(path)),
    ):
        assert made.private_key.to_bytes() == KEY.to_bytes()


def test_the_same_thing_twice_is_refused() -> None:
    for variables in (
        {"YGG_PRIVATE_KEY": "a", "YGG_PRIVATE_KEY_FILE": "b"},
        {"YGG_PRIVATE_KEY": "a", "YGG_PRIVATE_KEY_PATH": "b"},
    ):
        with pytest.raises(ConfigError, match=r"^YGG_PRIVATE_KEY: YGG_PRIVATE_KEY_.* is set as well; give one"):
            environment({"b": b"x"}, **variables)


# -- mistakes ------------------------------------------------------------------------------------------------

WRONG = {
    "YGG_PRIVATE_KEY": [SECRET, "abcd", "-----BEGIN PRIVATE KEY-----\n" + SECRET],
    "YGG_PEERS": [f'["{SECRET}"', f'["{SECRET}", 7]'],
    "YGG_INTERFACE_PEERS": [SECRET, f'{{"eth0": "{SECRET}"}}', f'["{SECRET}"]'],
    "YGG_IF_MTU": [SECRET, "-1", "1.5"],
    "YGG_LOG_LOOKUPS": [SECRET, "2"],
    "YGG_MULTICAST_INTERFACES": [SECRET, f'[{{"Password": ["{SECRET}"]}}]', '{"Regex": "x"}', "[" * 60000],
    "YGG_NODE_INFO": [SECRET, f'"{SECRET}"', f'{{"{SECRET}": NaN}}', '{"a": ' + "[" * 100 + "]" * 100 + "}"],
    "YGG_FIREWALL": [SECRET, f'["{SECRET}"]'],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in WRONG.items() for text in texts])
def test_a_mistake_names_the_variable_and_not_the_value(name: str, text: str) -> None:
    def build(**variables: str) -> None:
        parsed, found = ConfigText(b""), environment({"/x": text.encode()}, **variables)
        try:
            parsed.build(members=found.over(parsed.members))
        except ConfigError as error:
            raise found.explain(error) from None

    for given, value in ((name, text), (f"{name}_FILE", "/x")):
        with pytest.raises(ConfigError) as caught:
            build(**{given: value})
        assert str(caught.value).startswith(f"{given}: ")
        assert SECRET not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_all_mistakes_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        environment(YGG_NODE_INFO="x", YGG_TRANSIT="x", YGG_PRIVATE_KEY_FILE="/gone")
    assert {str(problem) for problem in caught.value.problems} == {
        "YGG_NODE_INFO: it must be JSON: mistake at line 1, column 1",
        "YGG_TRANSIT: it must be true or false",
        'YGG_PRIVATE_KEY_FILE: cannot read the file "/gone": not there',
    }


def test_what_shows_later_names_the_variable_too() -> None:
    found = environment(YGG_ALLOWED_PUBLIC_KEYS="zz", YGG_PEERS="x")
    made = config(YGG_ALLOWED_PUBLIC_KEYS="zz")
    with pytest.raises(ConfigError) as caught:
        made.check()
    assert str(found.explain(caught.value)) == 'YGG_ALLOWED_PUBLIC_KEYS: AllowedPublicKeys: "zz" is not hexadecimal'
    assert str(found.explain(ConfigError("elsewhere", "Listen[0]"))) == "elsewhere"


def test_bytes_that_are_no_text_become_replacements() -> None:
    assert config(YGG_GROUP_PASSWORD="a\udcff").group_password == "a\ufffd"


def test_a_representation_holds_no_value() -> None:
    assert SECRET not in repr(environment(YGG_GROUP_PASSWORD=SECRET, YGG_PEERS=f"tls://a:1?password={SECRET}"))
