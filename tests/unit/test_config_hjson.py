"""HJSON reading: the forms that files have in the wild, hjson-go's rules for them, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yggpy.config.hjson import ANY, MAX_NESTING, TEXT, HjsonValue, Number, Shape, read_hjson
from yggpy.errors import ConfigError

NAMED_TEXT = Shape(members={"t": TEXT, "l": Shape(elements=TEXT)})


def test_comments_of_all_kinds_are_white_space() -> None:
    assert read_hjson("# a\n{ // b\n/* c\n */ x: /*y*/ 1 # d\n} // e") == {"x": "1"}


def test_numbers_keep_their_spelling_and_keywords_are_values() -> None:
    value = read_hjson("a: 1e5\nb: -0.50\nc: true\nd: false\ne: null")
    assert value == {"a": "1e5", "b": "-0.50", "c": True, "d": False, "e": None}
    assert isinstance(value["a"], Number)
    assert isinstance(value["b"], Number)


@pytest.mark.parametrize("text", ["007", "1x", "1 2", "+1", "1.", ".5", "1e", "-", "truely", "nullx", "0x10", "1_000"])
def test_what_is_no_number_or_keyword_is_a_string(text: str) -> None:
    value = read_hjson(f"a: {text}")["a"]
    assert value == text
    assert not isinstance(value, Number)


def test_a_quoteless_string_runs_to_the_end_of_its_line() -> None:
    assert read_hjson("{a: tls://[::1]:1, b # } ]\r\n b: 2}") == {"a": "tls://[::1]:1, b # } ]", "b": "2"}


def test_a_number_ends_at_a_comma_a_bracket_or_a_comment() -> None:
    assert read_hjson("{a: [1, 2 , 3# x\n4/* y */ 5// z\n], b: true}") == {"a": ["1", "2", "3", "4", "5"], "b": True}


def test_where_text_is_wanted_numbers_and_comments_are_text() -> None:
    value = read_hjson("t: 99 # mine\nl: [true\n5, 6\n null ]\n]", NAMED_TEXT)
    assert value == {"t": "99 # mine", "l": ["true", "5, 6", "null ]"]}
    assert not isinstance(value["t"], Number)


def test_shapes_are_found_without_regard_to_case() -> None:
    assert read_hjson("T: 1 # x", NAMED_TEXT) == {"T": "1 # x"}
    assert read_hjson("U: 1 # x", NAMED_TEXT) == {"U": "1"}


def test_commas_are_optional_and_may_trail() -> None:
    assert read_hjson('{"a":[1,2,],"b":["x" "y"\n"z"],}') == {"a": ["1", "2"], "b": ["x", "y", "z"]}


def test_the_last_of_equal_keys_counts() -> None:
    assert read_hjson("a: 1\nb: 2\na: 3") == {"a": "3", "b": "2"}


def test_strings_in_either_quotes_and_their_escapes() -> None:
    text = r"""{a: "it's \"\\\/\b\f\n\r\t\u00e9", b: 'say "hi"\'', "c d": "", '': 'tab	'}"""
    assert read_hjson(text) == {"a": "it's \"\\/\b\f\n\r\té", "b": 'say "hi"\'', "c d": "", "": "tab\t"}


def test_surrogate_pairs_join_and_halves_are_replaced() -> None:
    assert read_hjson(r'{a: "\ud83d\ude00", b: "\ud83d", c: "\ude00x", d: "\ud83d\u0041"}') == {
        "a": "😀",
        "b": "\ufffd",
        "c": "\ufffdx",
        "d": "\ufffdA",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  '''\n  one\n   two\n  '''", "one\n two"),
        ("a: '''one'''", "one"),
        ("a: ''''''", ""),
        ("a: '''  one\n   two\n'''", "one\ntwo"),
        ("  a: '''\r\n     one\r\n     two\r\n     '''", "one\ntwo"),
        ("a:\n'''\nit's ''quoted''\n\n\n'''", "it's ''quoted''\n\n"),
    ],
)
def test_multi_line_strings(text: str, expected: str) -> None:
    assert read_hjson(text) == {"a": expected}


def test_braces_of_the_whole_may_be_missing() -> None:
    assert read_hjson("") == {}
    assert read_hjson(" # nothing\n") == {}
    assert read_hjson("a: 1\n b: {c: 2}\n") == {"a": "1", "b": {"c": "2"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1, column 2: the text ends inside an object"),
        ("{ a: [1,\n2", "line 2, column 2: the text ends inside a list"),
        ("{a: 1} x", "line 1, column 8: there is something behind"),
        ("[1]", "must be an object, not a list"),
        ("foo", "a ':' should follow the key"),
        ("a b: 1", "a ':' should follow the key"),
        (": 1", "found ':' where a key should be"),
        ("a: }", "found '}' where a value should be"),
        ("a:", "the text ends where a value should be"),
        ('a: "x', "a quoted string does not end on its line"),
        ('a: "x\n"', "a quoted string does not end on its line"),
        (r'a: "\x"', "unknown escape"),
        (r'a: "\u12"', "four hexadecimal digits"),
        ("a: '''x", "a multi-line string is not closed"),
        ("a: 1 /* x", ""),
        ("{a: 1 /* x", "the text ends inside an object"),
        ("a\0: 1", "NUL character"),
        ("a: 1}", "found '}' where a key should be"),
        ("a: 1,,b: 2", "found ',' where a key should be"),
    ],
)
def test_syntax_errors_tell_the_place(text: str, message: str) -> None:
    if not message:
        assert read_hjson(text) == {"a": "1"}
        return
    with pytest.raises(ConfigError) as caught:
        read_hjson(text)
    assert message in str(caught.value)


def test_errors_do_not_quote_the_text() -> None:
    with pytest.raises(ConfigError) as caught:
        read_hjson('{Password: "hunter2')
    assert "hunter2" not in str(caught.value)


def test_nesting_is_limited() -> None:
    inside = MAX_NESTING - 1
    value: HjsonValue = read_hjson("a:" + "[" * inside + "]" * inside)["a"]
    for _ in range(inside - 1):
        assert isinstance(value, list)
        value = value[0]
    assert value == []
    for opening in ("[", "{a:"):
        with pytest.raises(ConfigError, match="nested deeper than 64 levels"):
            read_hjson("a:" + opening * 100_000)


def test_long_input_is_read_in_linear_time() -> None:
    # Each of these took quadratic time or deep recursion in some reader or other.
    size = 200_000
    assert read_hjson("a: n" + ",n" * size) == {"a": "n" + ",n" * size}
    assert read_hjson("a: '''" + "x\n" * size + "'''") == {"a": ("x\n" * size)[:-1]}
    assert read_hjson("/* " * size) == {}
    assert read_hjson("# x\n" * size) == {}
    with pytest.raises(ConfigError):
        read_hjson("a" * size)


@given(st.text())
def test_any_text_gives_a_value_or_a_config_error(text: str) -> None:
    for shape in (ANY, TEXT, NAMED_TEXT):
        try:
            read_hjson(text, shape)
        except ConfigError as error:
            assert "\n" not in str(error)


@given(st.text(alphabet="{}[]:,'\"\\#/*\n abn1-.eu"))
def test_any_text_of_hjson_characters_gives_a_value_or_a_config_error(text: str) -> None:
    try:
        read_hjson(text)
    except ConfigError as error:
        assert "syntax error at line" in str(error)


JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def _spelt(value: Any) -> Any:
    """Numbers as the reader gives them."""
    if isinstance(value, dict):
        return {name: _spelt(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_spelt(element) for element in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON_VALUES), st.sampled_from([None, 2]))
def test_json_is_hjson(value: dict[str, Any], indent: int | None) -> None:
    assert read_hjson(json.dumps(value, indent=indent)) == _spelt(value)
