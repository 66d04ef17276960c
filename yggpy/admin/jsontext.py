"""JSON as the Go node reads and writes it: an incremental scanner for a byte stream and an encoder with Go's spelling.

Python's ``json`` cannot do either job alone. The admin socket has no framing but the values themselves, so a scanner
must tell where one ends, while its bytes trickle in; and it echoes the ``arguments`` of a request as they were spelt
(member order, repeated members, ``1e3``), which is lost once they have become Python objects.

The scanner is a recursive descent written as generators: each ``yield`` asks for the next byte, so that a value can
stop anywhere and go on later, and every byte is looked at once. Depth and size are limited.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from yggpy.errors import YggpyError

__all__ = [
    "MAX_NESTING",
    "MAX_VALUE_SIZE",
    "EncodableJson",
    "JsonError",
    "JsonLimitError",
    "JsonNumber",
    "JsonObject",
    "JsonSpan",
    "JsonStreamScanner",
    "JsonValue",
    "RawJson",
    "decode_json",
    "encode_json",
]

MAX_VALUE_SIZE = 65536
"""Bytes of one value, with the white space before it. A longer one ends the stream with :class:`JsonLimitError`."""

MAX_NESTING = 32
"""Depth of arrays and objects within each other. Same policy."""

_END = -1
_WHITE_SPACE = frozenset(b" \t\r\n")
_DIGITS = frozenset(b"0123456789")
_HEX_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_ESCAPED = frozenset(b'"\\/bfnrt')
_LITERALS = {ord("t"): b"rue", ord("f"): b"alse", ord("n"): b"ull"}
_FIRST_PRINTABLE = 0x20
_EXPONENT = frozenset(b"eE")
_SIGNS = frozenset(b"+-")
_ZERO, _MINUS, _DOT, _QUOTE, _BACKSLASH, _COMMA, _COLON, _LOWER_U = b'0-."\\,:u'
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY = b"{}[]"

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_UNSAFE_BYTES = re.compile(b"[<>&]|\xe2\x80[\xa8\xa9]")
_RAW_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^ \t\r\n{}\[\],:"]+')
_INDENT = b"  "
_OPENERS = (b"{", b"[")
_CLOSERS = (b"}", b"]")


class JsonError(YggpyError, ValueError):
    """The stream holds no (further) JSON value."""


class JsonLimitError(JsonError):
    """A value is larger or deeper than we allow; the text says which and the limit."""


@dataclass(frozen=True, slots=True)
class JsonSpan:
    """The text of one value and, when it is an object, that of its members: (name, value) in their order."""

    text: bytes
    members: tuple[tuple[bytes, bytes], ...] = ()


class JsonNumber(str):
    """A number as it was spelt. No request of the admin socket has one that we need to calculate with."""

    __slots__ = ()


class JsonObject(list[tuple[str, "JsonValue"]]):
    """The members of an object in order, repeated names included."""


JsonValue: TypeAlias = "bool | str | JsonNumber | JsonObject | list[JsonValue] | None"


@dataclass(frozen=True, slots=True)
class RawJson:
    """JSON text to be encoded as it is, but for white space and the escapes that Go adds."""

    text: bytes


EncodableJson: TypeAlias = (
    "bool | int | float | str | RawJson | Mapping[str, EncodableJson] | Sequence[EncodableJson] | None"
)

_Scan: TypeAlias = Generator[None, int, int | None]
"""Asks for bytes (``_END`` at the end of the stream); returns the byte after the value when it had to be read."""


class JsonStreamScanner:
    """Splits a byte stream into JSON values. ``feed`` bytes, take values by ``next_value`` until it returns None.

    An error is final: once :class:`JsonError` was raised, every further ``next_value`` raises it again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._error: JsonError | None = None
        self._ended = False
        self._begin()

    def _begin(self) -> None:
        self._members: list[tuple[bytes, bytes]] = []
        self._start = 0
        self._scan = self._document()
        next(self._scan)

    def feed(self, data: bytes) -> None:
        """Append what was received. The caller takes all values before it feeds more, which bounds the buffer."""
        self._buffer += data

    def feed_eof(self) -> None:
        """The stream has ended: no bytes will come."""
        self._ended = True

    def next_value(self) -> JsonSpan | None:
        """Return the next complete value, or None when more bytes are needed. Raises :class:`JsonError`."""
        if self._error is not None:
            raise self._error
        try:
            return self._advance()
        except JsonError as error:
            self._error = error
            raise

    def _advance(self) -> JsonSpan | None:
        buffer = self._buffer
        try:
            while self._position < len(buffer):
                if self._position >= MAX_VALUE_SIZE:
                    raise JsonLimitError(f"request is larger than {MAX_VALUE_SIZE} bytes")
                byte = buffer[self._position]
                self._position += 1
                self._scan.send(byte)
            if self._ended:
                self._position += 1
                self._scan.send(_END)
                raise JsonError("unexpected end of JSON input")
            return None
        except StopIteration as stop:
            if stop.value is not None:
                self._position -= 1
            span = JsonSpan(bytes(buffer[self._start : self._position]), tuple(self._members))
            del buffer[: self._position]
            self._position = 0
            self._begin()
            return span

    # Each of the following is sent bytes; a value's first byte is its argument. ``self._position`` is the offset
    # behind the byte that was sent last.

    def _document(self) -> _Scan:
        byte = yield from self._skip_space((yield))
        self._start = self._position - 1
        return (yield from self._value(byte, 0))

    def _skip_space(self, byte: int) -> Generator[None, int, int]:
        while byte in _WHITE_SPACE:
            byte = yield
        return byte

    def _value(self, byte: int, depth: int) -> _Scan:
        if byte == _QUOTE:
            yield from self._string()
        elif byte == _OPEN_OBJECT:
            yield from self._object(depth + 1)
        elif byte == _OPEN_ARRAY:
            yield from self._array(depth + 1)
        elif byte == _MINUS or byte in _DIGITS:
            return (yield from self._number(byte))
        elif byte in _LITERALS:
            for expected in _LITERALS[byte]:
                if (byte := (yield)) != expected:
                    raise _unexpected(byte, "in a literal")
        else:
            raise _unexpected(byte, "at the beginning of a value")
        return None

    def _object(self, depth: int) -> Generator[None, int, None]:
        _check_depth(depth)
        byte = yield from self._skip_space((yield))
        while byte != _CLOSE_OBJECT:
            if byte != _QUOTE:
                raise _unexpected(byte, "at the beginning of a member name")
            name_start = self._position - 1
            yield from self._string()
            name_end = self._position
            byte = yield from self._skip_space((yield))
            if byte != _COLON:
                raise _unexpected(byte, "after a member name")
            byte = yield from self._skip_space((yield))
            value_start = self._position - 1
            after = yield from self._value(byte, depth)
            value_end = self._position if after is None else self._position - 1
            if depth == 1:
                name = bytes(self._buffer[name_start:name_end])
                self._members.append((name, bytes(self._buffer[value_start:value_end])))
            byte = yield from self._skip_space((yield) if after is None else after)
            if byte == _COMMA:
                byte = yield from self._skip_space((yield))
                if byte == _CLOSE_OBJECT:
                    raise _unexpected(byte, "after a comma")
            elif byte != _CLOSE_OBJECT:
                raise _unexpected(byte, "after a member")

    def _array(self, depth: int) -> Generator[None, int, None]:
        _check_depth(depth)
        byte = yield from self._skip_space((yield))
        while byte != _CLOSE_ARRAY:
            after = yield from self._value(byte, depth)
            byte = yield from self._skip_space((yield) if after is None else after)
            if byte == _COMMA:
                byte = yield from self._skip_space((yield))
                if byte == _CLOSE_ARRAY:
                    raise _unexpected(byte, "after a comma")
            elif byte != _CLOSE_ARRAY:
                raise _unexpected(byte, "after an array element")

    def _string(self) -> Generator[None, int, None]:
        while (byte := (yield)) != _QUOTE:
            if byte < _FIRST_PRINTABLE:  # the end of the stream, too
                raise _unexpected(byte, "in a string")
            if byte == _BACKSLASH:
                byte = yield
                if byte == _LOWER_U:
                    for _ in range(4):
                        if (byte := (yield)) not in _HEX_DIGITS:
                            raise _unexpected(byte, "in a \\u escape")
                elif byte not in _ESCAPED:
                    raise _unexpected(byte, "in a string escape")

    def _number(self, byte: int) -> Generator[None, int, int]:
        if byte == _MINUS:
            byte = yield
        byte = (yield) if byte == _ZERO else (yield from self._digits(byte))
        if byte == _DOT:
            byte = yield from self._digits((yield))
        if byte in _EXPONENT:
            byte = yield
            byte = yield from self._digits((yield) if byte in _SIGNS else byte)
        return byte

    def _digits(self, byte: int) -> Generator[None, int, int]:
        if byte not in _DIGITS:
            raise _unexpected(byte, "in a number")
        while byte in _DIGITS:
            byte = yield
        return byte


def _check_depth(depth: int) -> None:
    if depth > MAX_NESTING:
        raise JsonLimitError(f"request is nested deeper than {MAX_NESTING} levels")


def _unexpected(byte: int, where: str) -> JsonError:
    if byte == _END:
        return JsonError("unexpected end of JSON input")
    return JsonError(f"invalid character {chr(byte)!r} {where}")


def decode_json(text: bytes) -> JsonValue:
    """Return the value of one JSON text that a scanner has found valid. Broken Unicode becomes U+FFFD."""
    value = json.loads(
        text.decode("utf-8", "replace"),
        object_pairs_hook=lambda pairs: JsonObject((_mend(name), _mend(member)) for name, member in pairs),
        parse_int=JsonNumber,
        parse_float=JsonNumber,
    )
    mended: JsonValue = _mend(value)
    return mended


def _mend(value: Any) -> Any:
    """Replace halves of surrogate pairs, which ``\\ud800`` makes and no output can carry."""
    return _SURROGATE.sub("\ufffd", value) if type(value) is str else value


def encode_json(value: EncodableJson) -> bytes:
    """Return ``value`` as Go's encoder prints it: two spaces of indent, ``<>&`` escaped, a newline at the end."""
    parts: list[bytes] = []
    _write(value, b"\n", parts)
    parts.append(b"\n")
    return b"".join(parts)


def _write(value: EncodableJson, newline: bytes, parts: list[bytes]) -> None:
    """Append the text of ``value``; ``newline`` is a line break with the indent of the line it stands on."""
    if isinstance(value, RawJson):
        _write_raw(value.text, newline, parts)
    elif isinstance(value, Mapping):
        _write_items(((_string_text(name) + b": ", item) for name, item in value.items()), b"{}", newline, parts)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        _write_items(((b"", item) for item in value), b"[]", newline, parts)
    else:
        parts.append(_scalar_text(value))


def _write_items(
    items: Iterable[tuple[bytes, EncodableJson]], brackets: bytes, newline: bytes, parts: list[bytes]
) -> None:
    inner = newline + _INDENT
    lead = brackets[:1] + inner
    empty = True
    for prefix, item in items:
        parts.append(lead + prefix)
        _write(item, inner, parts)
        lead = b"," + inner
        empty = False
    parts.append(brackets if empty else newline + brackets[1:])


def _write_raw(text: bytes, newline: bytes, parts: list[bytes]) -> None:
    previous = b""
    for token in _RAW_TOKEN.findall(text):
        if previous in _OPENERS:
            newline += _INDENT
        if token in _CLOSERS:
            newline = newline[: -len(_INDENT)]
            if previous not in _OPENERS:
                parts.append(newline)
        elif previous in _OPENERS or previous == b",":
            parts.append(newline)
        parts.append(b": " if token == b":" else _UNSAFE_BYTES.sub(_escape_bytes, token))
        previous = token


def _scalar_text(value: bool | float | str | None) -> bytes:
    if value is None:
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str):
        return _string_text(value)
    if isinstance(value, int):
        return b"%d" % value
    return _float_text(value)


def _string_text(value: str) -> bytes:
    return _UNSAFE.sub(_escape_character, json.dumps(value, ensure_ascii=False)).encode()


def _float_text(value: float) -> bytes:
    """Spell a float as Go does: shortest digits, an exponent only below 1e-6 and from 1e21 on, no ``.0``."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace("e-0", "e-").encode()
    text = repr(value)
    if "e" in text:
        from decimal import Decimal  # seldom needed

        text = format(Decimal(text), "f")
    return text.removesuffix(".0").encode()


def _escape_character(match: re.Match[str]) -> str:
    character = match.group()
    return "\\ufffd" if character >= "\ud800" else f"\\u{ord(character):04x}"


def _escape_bytes(match: re.Match[bytes]) -> bytes:
    return f"\\u{ord(match.group().decode()):04x}".encode()
