"""Writing configurations: Go's spelling, and that what is written is read back as it was."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yggpy.config import Config, MulticastInterface
from yggpy.config.writing import compact_json
from yggpy.keys import PrivateKey

from .vectors import load

PRIVATE_KEY = PrivateKey.from_seed(bytes(32))


def without_comments(text: str) -> str:
    return re.sub(r"(?m)^  # .*$", "  # <comment>", text)


def node_info_lines(info: dict[str, Any]) -> list[str]:
    text = Config(private_key=PRIVATE_KEY, node_info=info).to_hjson()
    return text[text.index("  NodeInfo: ") :].splitlines()[1:-2]


def test_genconf_looks_as_go_writes_it() -> None:
    text = Config(private_key=PRIVATE_KEY, admin_listen="").to_hjson()
    text = text.replace(PRIVATE_KEY.to_bytes().hex(), "<128 hex digits>")
    assert without_comments(text) == load("cli")["genconf_hjson"].strip()


def test_comments_fit_a_terminal() -> None:
    config = Config(private_key_path="/k.pem")
    for line in (Config().to_hjson() + config.to_hjson()).splitlines():
        if "PrivateKey:" not in line and "https:" not in line:
            assert len(line) <= 80


def test_admin_listen_is_written_unless_empty() -> None:
    assert "\n  AdminListen: tcp://[::1]:9001\n" in Config(admin_listen="tcp://[::1]:9001").to_hjson()
    assert "AdminListen" not in Config(admin_listen="").to_hjson()


def test_a_key_from_a_file_is_not_written() -> None:
    config = Config(private_key=PRIVATE_KEY, private_key_path="k.pem")
    for text in (config.to_hjson(), config.to_json()):
        assert "PrivateKeyPath" in text
        assert PRIVATE_KEY.seed.hex() not in text


def test_ports_are_whole_numbers_and_node_info_numbers_are_floats() -> None:
    config = Config(multicast_interfaces=[MulticastInterface(port=10000)], node_info={"a": 10000, "b": 100000})
    text = config.to_hjson()
    assert "      Port: 10000\n" in text
    assert "    a: 10000\n    b: 1e+05\n" in text


@pytest.mark.parametrize(
    ("value", "in_json", "in_hjson"),
    [
        (0, "0", "0"),
        (-0.0, "-0", "0"),
        (-5, "-5", "-5"),
        (1.5, "1.5", "1.5"),
        (123456.5, "123456.5", "123456.5"),
        (1e20, "100000000000000000000", "1e+20"),
        (1e21, "1e+21", "1e+21"),
        (1.5e30, "1.5e+30", "1.5e+30"),
        (1e-5, "0.00001", "1e-05"),
        (1e-6, "0.000001", "1e-06"),
        (1e-7, "1e-7", "1e-07"),
        (12345678901234567000, "12345678901234567000", "12345678901234567000"),
        (10**400, "1" + "0" * 400, "1" + "0" * 400),
        (True, "true", "true"),
        (None, "null", "null"),
        ({}, "{}", "{}"),
        ([], "[]", "[]"),
    ],
)
def test_values_are_spelt_as_go_spells_them(value: Any, in_json: str, in_hjson: str) -> None:
    assert compact_json({"x": value}) == f'{{"x":{in_json}}}'
    assert node_info_lines({"x": value}) == [f"    x: {in_hjson}"]


def test_json_strings_as_go_escapes_them() -> None:
    assert compact_json({"<&>": '\u2028é\x7f\x01\b\f\n\r\t"\\/😀\ud800'}) == (
        '{"\\u003c\\u0026\\u003e":"\\u2028é\x7f\\u0001\\b\\f\\n\\r\\t\\"\\\\/😀\ufffd"}'
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", '""'),
        ("plain text, # and all", "plain text, # and all"),
        ("12", '"12"'),
        ("12x", "12x"),
        ("007", "007"),
        ("12 # c", '"12 # c"'),
        ("1e5", '"1e5"'),
        ("true", '"true"'),
        ("true x", "true x"),
        ("null, x", '"null, x"'),
        (" lead", '" lead"'),
        ("trail ", '"trail "'),
        ("trail\u3000", '"trail\u3000"'),
        ("#x", '"#x"'),
        ("//x", '"//x"'),
        ("/x", "/x"),
        (":x", '":x"'),
        ("'x", '"\'x"'),
        ('"x', "'''\"x'''"),
        ('quo"te\\', 'quo"te\\'),
        ("tab\there", "'''tab\there'''"),
        ("a\u00adb", '"a\\u00adb"'),
        ("\n", '"\\n"'),
        ("'''\n", "\"'''\\n\""),
    ],
)
def test_hjson_strings(value: str, expected: str) -> None:
    assert node_info_lines({"x": value}) == [f"    x: {expected}"]


def test_hjson_strings_of_several_lines() -> None:
    assert node_info_lines({"x": "one\n\n two"}) == [
        "    x:",
        "      '''",
        "      one",
        "",
        "       two",
        "      '''",
    ]


def test_names_are_sorted_and_quoted_where_needed() -> None:
    lines = node_info_lines({"b": 1, "a b": 2, "": 3, "x:y": 4, "é": 5, "a\nb": 6})
    assert lines == ['    "": 3', '    "a\\nb": 6', '    "a b": 2', "    b: 1", '    "x:y": 4', "    é: 5"]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text("#/'\"{}[]:, \\\r\n\t1e-.true")
# Go reads all numbers as floats, so between 2**53 and 1e21 an integer of the same spelling is read for a float.
FLOATS = st.floats(-(2.0**53), 2.0**53) | st.floats(1e21, allow_infinity=False)
NODE_INFO: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
CONFIGS = st.builds(
    Config,
    private_key=st.just(PRIVATE_KEY),
    peers=st.lists(TEXT, max_size=3),
    interface_peers=st.dictionaries(TEXT, st.lists(TEXT, max_size=3), max_size=3),
    listen=st.lists(TEXT, max_size=3),
    admin_listen=TEXT.filter(bool),
    http_listen=TEXT,
    multicast_interfaces=st.lists(
        st.builds(
            MulticastInterface,
            regex=TEXT,
            beacon=st.booleans(),
            listen=st.booleans(),
            port=st.integers(0, 0xFFFF),
            priority=st.integers(0, 0xFF),
            password=TEXT,
        ),
        max_size=3,
    ),
    allowed_public_keys=st.lists(TEXT, max_size=3),
    group_password=TEXT,
    if_name=TEXT,
    if_mtu=st.integers(0, 2**64 - 1),
    log_lookups=st.booleans(),
    node_info_privacy=st.booleans(),
    node_info=st.dictionaries(TEXT, NODE_INFO, max_size=4),
)


@settings(deadline=None)
@given(CONFIGS)
def test_json_is_read_back_as_it_was(config: Config) -> None:
    assert Config.from_bytes(config.to_json().encode()) == config


@settings(deadline=None)
@given(CONFIGS)
def test_hjson_is_read_back_as_it_was(config: Config) -> None:
    assert Config.from_bytes(config.to_hjson().encode()) == config
