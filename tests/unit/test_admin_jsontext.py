"""The JSON scanner against Python's own parser and byte by byte, its limits, and Go's spelling of output."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yggpy.admin.jsontext import (
    MAX_NESTING,
    MAX_VALUE_SIZE,
    EncodableJson,
    JsonError,
    JsonLimitError,
    JsonNumber,
    JsonObject,
    JsonSpan,
    JsonStreamScanner,
    RawJson,
    decode_json,
    encode_json,
)

VALID = [
    b"{}",
    b"[]",
    b"[ ]",
    b"{ }",
    b'""',
    b'"a\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00"',
    b"null",
    b"true",
    b"false",
    b"[0, -0, 10, 1.5, -1.25e+10, 1E-2, 0e0]",
    b'{"a": {"b": [{}, {"c": null}]}, "a": 2}',
    '{"ключ": "знач\u2028"}'.encode(),
    b'"\xff\xfe"',
]
INVALID = [
    b"hello",
    b"{hello",
    b"{,",
    b"{]",
    b'{"a"}',
    b'{"a":}',
    b'{"a":1,}',
    b'{"a":1 "b"',
    b"{'a'",
    b"[1,]",
    b"[,",
    b"[1 2",
    b"]",
    b"}",
    b"nul ",
    b"nall",
    b"tru]",
    b"True",
    b"NaN",
    b"Infinity",
    b"-]",
    b"+1",
    b".5",
    b"[01",
    b"[1.]",
    b"[1e]",
    b"[1e+]",
    b"[0x10",
    b'"\n',
    b'"\x00',
    b'"\\x',
    b'"\\u12g',
    b"\xef\xbb\xbf{}",
    b"\x0b{}",
]


def scan(*chunks: bytes, end: bool = True) -> list[JsonSpan | str]:
    """Feed chunks; return the values, and at last the text of the error if one came."""
    scanner = JsonStreamScanner()
    found: list[JsonSpan | str] = []
    for chunk in [*chunks, None]:
        if chunk is not None:
            scanner.feed(chunk)
        elif end:
            scanner.feed_eof()
        try:
            while (value := scanner.next_value()) is not None:
                found.append(value)
        except JsonError as error:
            found.append(str(error))
            break
    return found


def texts(found: list[JsonSpan | str]) -> list[bytes]:
    return [value.text for value in found if isinstance(value, JsonSpan)]


@pytest.mark.parametrize("text", VALID)
def test_valid_values_are_found_whole_and_bytewise(text: bytes) -> None:
    assert texts(scan(text)) == [text]
    assert texts(scan(*(text[i : i + 1] for i in range(len(text))))) == [text]
    assert texts(scan(b" \r\n\t" + text + b"\n" + text)) == [text, text]


@pytest.mark.parametrize("text", INVALID)
def test_invalid_input_is_refused_at_the_byte_that_breaks_it(text: bytes) -> None:
    *values, error = scan(text, end=False)
    assert values == []
    assert isinstance(error, str)
    assert error.startswith("invalid character ")


@pytest.mark.parametrize(
    "text", [b"", b" ", b"{", b'{"a"', b'"', b'"\\', b'"\\u1', b"[1,", b"nul", b"-", b"1.", b"1e+"]
)
def test_the_end_within_a_value(text: bytes) -> None:
    assert scan(text, end=False) == []
    assert scan(text) == ["unexpected end of JSON input"]


def test_values_follow_each_other_without_space() -> None:
    assert texts(scan(b'{}[1]"x"null5 6')) == [b"{}", b"[1]", b'"x"', b"null", b"5", b"6"]


def test_a_number_is_complete_only_when_something_follows() -> None:
    assert scan(b"12", end=False) == []
    assert texts(scan(b"12", b"34 ", end=False)) == [b"1234"]


def test_an_object_is_complete_at_its_brace() -> None:
    assert texts(scan(b'{"a":1}', end=False)) == [b'{"a":1}']


def test_members_of_the_outer_object_only() -> None:
    [value, _] = scan(b' {"a" : 1 ,"b":{"c":[ 2 ]}, "a":"}"} ')
    assert isinstance(value, JsonSpan)
    assert value.members == ((b'"a"', b"1"), (b'"b"', b'{"c":[ 2 ]}'), (b'"a"', b'"}"'))
    [array, _] = scan(b'[{"a":1}]')
    assert array == JsonSpan(b'[{"a":1}]')


def test_an_error_is_final() -> None:
    scanner = JsonStreamScanner()
    scanner.feed(b"oops")
    for _ in range(2):
        with pytest.raises(JsonError, match="invalid character 'o' at the beginning of a value"):
            scanner.next_value()
        scanner.feed(b"{}")


def test_depth_is_limited() -> None:
    deepest = b"[" * MAX_NESTING + b"]" * MAX_NESTING
    assert texts(scan(deepest)) == [deepest]
    for opening in (b"[" * (MAX_NESTING + 1), b'{"a":' * (MAX_NESTING + 1)):
        scanner = JsonStreamScanner()
        scanner.feed(opening)
        with pytest.raises(JsonLimitError, match="deeper than 32 levels"):
            scanner.next_value()


def test_size_is_limited() -> None:
    largest = b'"' + b"x" * (MAX_VALUE_SIZE - 2) + b'"'
    assert texts(scan(largest, largest)) == [largest, largest]
    for too_large in (b'"' + b"x" * MAX_VALUE_SIZE, b" " * (MAX_VALUE_SIZE + 1)):
        scanner = JsonStreamScanner()
        scanner.feed(too_large)
        with pytest.raises(JsonLimitError, match="larger than 65536 bytes"):
            scanner.next_value()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=3), st.booleans(), st.integers(1, 7))
@settings(deadline=None)
def test_what_python_writes_is_split_as_it_was(values: list[object], escaped: bool, step: int) -> None:
    written = [json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass") for value in values]
    stream = b"\n".join(written)
    assert texts(scan(*(stream[i : i + step] for i in range(0, len(stream), step)))) == written


@given(st.text('{}[]",:\\ \n0123456789.-+eEtruefalsn', max_size=30))
@settings(deadline=None, max_examples=300)
def test_text_is_accepted_exactly_when_python_accepts_it(text: str) -> None:
    within = f"[{text}]"
    try:
        json.loads(within)
        valid = True
    except ValueError:
        valid = False
    assert (texts(scan(within.encode())) == [within.encode()]) == valid


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_any_bytes_give_values_or_one_error(data: bytes) -> None:
    found = scan(data)
    assert isinstance(found[-1], str)
    for text in texts(found):
        decode_json(text)
        encode_json(RawJson(text))


def test_decoding_keeps_order_repetition_and_spelling() -> None:
    value = decode_json(b'{"b": 1.50, "a": [true, null], "b": {"c": 1e9999}}')
    assert isinstance(value, JsonObject)
    assert value == [("b", "1.50"), ("a", [True, None]), ("b", [("c", "1e9999")])]
    assert [type(member[1]) for member in value if isinstance(member, tuple)] == [JsonNumber, list, JsonObject]
    assert isinstance(decode_json(b"1.50"), JsonNumber)
    assert isinstance(decode_json(b"1" * 20000), JsonNumber)


def test_broken_unicode_becomes_the_replacement_character() -> None:
    assert decode_json(b'"\\ud800x"') == "\ufffdx"
    assert decode_json(b'{"\\udfff": "\\ud83d\\ude00"}') == [("\ufffd", "\U0001f600")]
    assert decode_json(b'"\xff"') == "\ufffd"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (2**64 - 1, "18446744073709551615"),
        (0.0, "0"),
        (8.0, "8"),
        (8.019765804, "8.019765804"),
        (1e-6, "0.000001"),
        (1.5e-7, "1.5e-7"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-2.5, "-2.5"),
        ("a<b>&c\u2028\u2029", '"a\\u003cb\\u003e\\u0026c\\u2028\\u2029"'),
        (
            'quote" back\\ \n\r\t\b\f\x01\x7f é \U0001f600',
            '"quote\\" back\\\\ \\n\\r\\t\\b\\f\\u0001\x7f é \U0001f600"',
        ),
        ("half \ud800", '"half \\ufffd"'),
        ([], "[]"),
        ({}, "{}"),
        ((1, 2), "[\n  1,\n  2\n]"),
        ({"a": {"b": []}, "c": [{}]}, '{\n  "a": {\n    "b": []\n  },\n  "c": [\n    {}\n  ]\n}'),
    ],
)
def test_output_is_spelt_as_go_does(value: EncodableJson, text: str) -> None:
    assert encode_json(value) == text.encode() + b"\n"


def test_raw_text_keeps_its_spelling_but_not_its_space() -> None:
    raw = RawJson(b'{"a" :[ 1e3,-0.0 , {}],"a":{ },\n"<":"\\u003c&\xe2\x80\xa8\\"", "b":[ ]}')
    assert encode_json({"x": raw}) == (
        b'{\n  "x": {\n    "a": [\n      1e3,\n      -0.0,\n      {}\n    ],\n    "a": {},\n'
        b'    "\\u003c": "\\u003c\\u0026\\u2028\\"",\n    "b": []\n  }\n}\n'
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_floats_that_json_cannot_hold(value: float) -> None:
    with pytest.raises(ValueError, match="has no JSON form"):
        encode_json(value)


@given(json_values)
@settings(deadline=None)
def test_raw_text_is_spelt_like_the_value_itself(value: EncodableJson) -> None:
    encoded = encode_json(value)
    assert encode_json(RawJson(encoded)) == encoded


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_floats_lose_nothing(value: float) -> None:
    assert float(encode_json(value)) == value
