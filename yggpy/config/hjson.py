"""Reads HJSON as hjson-go does, which means: knowing what is wanted.

In HJSON a string may go without quotes, and then it ends with its line. ``Password: 99 # mine`` is the number 99 and a
comment where a number is wanted or nothing is known, but the string ``99 # mine`` where a string is wanted. The Go node
decides by the type of the field that it is about to fill, so this reader takes a :class:`Shape` that says where the
strings are. The ``hjson`` package cannot be told, and would give other passwords than Go: hence a reader of our own.

The reader is total: any text gives a value or ``ConfigError`` with line and column. The error never quotes the text,
which may be a key or a password. Depth is limited; time is linear in the length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from yggpy.errors import ConfigError

__all__ = ["ANY", "MAX_NESTING", "TEXT", "HjsonValue", "Marks", "Number", "Shape", "Span", "read_hjson"]

MAX_NESTING = 64
"""Depth of lists and objects within each other; deeper is an error."""


class Number(str):
    """A number as it was spelt: which range and form it may have is for the key to say."""

    __slots__ = ()


HjsonValue: TypeAlias = "bool | str | Number | list[HjsonValue] | dict[str, HjsonValue] | None"


@dataclass(frozen=True, slots=True)
class Shape:
    """What is wanted of a value: a string, or something whose members and elements have shapes of their own."""

    text: bool = False
    members: Mapping[str, Shape] = field(default_factory=dict)
    """By member name in lower case."""
    elements: Shape | None = None
    """Of list elements, and of members that ``members`` does not have; None: anything."""


class Span(NamedTuple):
    """Where a value stands in the text: indices of its name (of the value where there is none), its begin and end."""

    name: int
    start: int
    end: int


Marks: TypeAlias = "dict[tuple[str | int, ...], Span]"
"""Where each value stands, by the names and indices that lead to it."""

ANY = Shape()
TEXT = Shape(text=True)

# No possessive repeat of a group here: Python 3.11.2, which is Debian 12's, gets those wrong. None is needed, since the
# alternatives begin with different characters and nothing follows for which the matcher would go back.
_SPACE = re.compile(r"(?:[\x01-\x20]++|#[^\n]*+|//[^\n]*+|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_KEY = re.compile(r"[^\x00-\x20{}\[\],:]++")
_BLANKS = re.compile(r"[\x01-\x20]*+")
_LINE = re.compile(r"[^\r\n]*+")
_TOKEN = re.compile(r"[^,}\]#/\r\n]*+(?:/(?![/*])[^,}\]#/\r\n]*+)*")
"""The part of a line that may be a number or a keyword: up to what could end it."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_CHUNKS = {'"': re.compile(r'[^"\\\r\n]*+'), "'": re.compile(r"[^'\\\r\n]*+")}
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_KEYWORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_PUNCTUATION = frozenset("{}[],:")
_TRIPLE = "'''"
_INDENT_CHARACTERS = "".join(chr(code) for code in range(1, 0x21) if code != 0x0A)
_HIGH_SURROGATES = range(0xD800, 0xDC00)
_LOW_SURROGATES = range(0xDC00, 0xE000)
_REPLACEMENT = "\ufffd"
_SWALLOWED = ", or belongs to a string without quotes, which goes on to the end of its line"


def read_hjson(text: str, shape: Shape = ANY, marks: Marks | None = None) -> dict[str, HjsonValue]:
    """Return the members of the object that ``text`` is; its braces may be missing.

    Of several members with one name the last counts, at the place of the first. ``marks`` is filled with the places of
    all values (and of some that do not count); the whole has an empty path. Raises ``ConfigError``.
    """
    return _Reader(text, {} if marks is None else marks).document(shape)


class _Reader:
    """A recursive descent over ``text``; ``at`` is the index of the next character."""

    def __init__(self, text: str, marks: Marks) -> None:
        self.text = text
        self.at = 0
        self.marks = marks
        self.path: tuple[str | int, ...] = ()

    def document(self, shape: Shape) -> dict[str, HjsonValue]:
        nul = self.text.find("\0")
        if nul >= 0:
            self.at = nul
            raise self.error("NUL character; is this UTF-16 without a byte order mark?")
        self.skip_space()
        if self.peek() == "[":
            raise self.error("the whole must be an object, not a list")
        start = self.at
        if self.peek() != "{":
            value = self.members(shape, 1, braces=False)
            self.marks[()] = Span(start, start, self.at)
            return value
        self.at += 1
        value = self.members(shape, 1, braces=True)
        self.marks[()] = Span(start, start, self.at)
        self.skip_space()
        if self.peek():
            raise self.error("there is something behind the object's closing '}'")
        return value

    def peek(self) -> str:
        """Return the next character; empty at the end."""
        return self.text[self.at : self.at + 1]

    def take(self, pattern: re.Pattern[str]) -> str:
        """Pass over what ``pattern``, which matches anything, matches here."""
        match = pattern.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        return match[0]

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def error(self, reason: str) -> ConfigError:
        line = self.text.count("\n", 0, self.at) + 1
        column = self.at - self.text.rfind("\n", 0, self.at)
        return ConfigError(f"syntax error at line {line}, column {column}: {reason}", place=(line, column))

    def marked(self, step: str | int, name: int, shape: Shape, depth: int) -> HjsonValue:
        """Read the value that begins here and note where it stands: at ``step`` from where the reader is."""
        above, start = self.path, self.at
        self.path = (*above, step)
        value = self.value(shape, depth)
        end = self.at
        while self.text[end - 1] in _INDENT_CHARACTERS:  # a string without quotes takes all of its line
            end -= 1
        self.marks[self.path] = Span(name, start, end)
        self.path = above
        return value

    def value(self, shape: Shape, depth: int) -> HjsonValue:
        character = self.peek()
        if character in ("{", "["):
            if depth >= MAX_NESTING:
                raise self.error(f"nested deeper than {MAX_NESTING} levels")
            self.at += 1
            return self.members(shape, depth + 1, braces=True) if character == "{" else self.elements(shape, depth + 1)
        if self.text.startswith(_TRIPLE, self.at):
            return self.multi_line_string()
        if character in _CHUNKS:
            return self.quoted_string()
        if not character:
            raise self.error("the text ends where a value should be")
        if character in _PUNCTUATION:
            raise self.error(f"found '{character}' where a value should be")
        return self.quoteless(shape)

    def members(self, shape: Shape, depth: int, *, braces: bool) -> dict[str, HjsonValue]:
        """Read members behind the opening brace, up to the closing one, or to the end of the text without braces."""
        members: dict[str, HjsonValue] = {}
        self.skip_space()
        while character := self.peek():
            if character == "}" and braces:
                self.at += 1
                return members
            start = self.at
            name = self.key()
            self.at += 1
            self.skip_space()
            wanted = shape.members.get(name.lower(), shape.elements or ANY)
            members[name] = self.marked(name, start, wanted, depth)
            self.skip_separator()
        if braces:
            raise self.error(f"the text ends inside an object; a closing '}}' is missing{_SWALLOWED}")
        return members

    def elements(self, shape: Shape, depth: int) -> list[HjsonValue]:
        elements: list[HjsonValue] = []
        self.skip_space()
        while character := self.peek():
            if character == "]":
                self.at += 1
                return elements
            elements.append(self.marked(len(elements), self.at, shape.elements or ANY, depth))
            self.skip_separator()
        raise self.error(f"the text ends inside a list; a closing ']' is missing{_SWALLOWED}")

    def skip_separator(self) -> None:
        """Pass over white space with at most one comma; lines separate as well."""
        self.skip_space()
        if self.peek() == ",":
            self.at += 1
            self.skip_space()

    def key(self) -> str:
        """Read a member's name and go to the colon behind it."""
        if self.peek() in _CHUNKS:
            name = self.quoted_string()
            self.skip_space()
        else:
            match = _KEY.match(self.text, self.at)
            if match is None:
                raise self.error(f"found '{self.peek()}' where a key should be")
            name = match[0]
            self.at = match.end()
            self.take(_BLANKS)
        if self.peek() != ":":
            raise self.error("a ':' should follow the key (names with spaces need quotes)")
        return name

    def quoteless(self, shape: Shape) -> HjsonValue:
        if not shape.text:
            start = self.at
            token = self.take(_TOKEN).strip()
            if token in _KEYWORDS:
                return _KEYWORDS[token]
            if _NUMBER.fullmatch(token):
                return Number(token)
            self.at = start
        return self.take(_LINE).strip()

    def quoted_string(self) -> str:
        quote = self.peek()
        chunk = _CHUNKS[quote]
        self.at += 1
        parts = []
        while True:
            parts.append(self.take(chunk))
            end = self.peek()
            if end == quote:
                self.at += 1
                return "".join(parts)
            if end != "\\":
                raise self.error("a quoted string does not end on its line")
            self.at += 1
            parts.append(self.escape())

    def escape(self) -> str:
        """Read what follows a backslash. Halves of surrogate pairs that are alone become U+FFFD."""
        character = self.peek()
        if character != "u":
            if character not in _ESCAPES:
                raise self.error("unknown escape in a string; write \\\\ for a backslash")
            self.at += 1
            return _ESCAPES[character]
        code = self.code_unit()
        if code in _HIGH_SURROGATES and self.text.startswith("\\u", self.at):
            before = self.at
            self.at += 1
            low = self.code_unit()
            if low in _LOW_SURROGATES:
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
            self.at = before
        return _REPLACEMENT if 0xD800 <= code < 0xE000 else chr(code)

    def code_unit(self) -> int:
        match = _HEX4.match(self.text, self.at + 1)
        if match is None:
            raise self.error("four hexadecimal digits must follow \\u")
        self.at = match.end()
        return int(match[0], 16)

    def multi_line_string(self) -> str:
        """Read a string between triple quotes. Its lines lose the indent that the opening quotes have."""
        line_start = self.text.rfind("\n", 0, self.at) + 1
        indent = len(self.text[line_start : self.at].encode())
        start = self.at + len(_TRIPLE)
        end = self.text.find(_TRIPLE, start)
        if end < 0:
            raise self.error("a multi-line string is not closed by '''")
        self.at = end + len(_TRIPLE)
        first, *others = self.text[start:end].lstrip(_INDENT_CHARACTERS).split("\n")
        lines = [_without_indent(line, indent) for line in others]
        if first or not lines:
            lines.insert(0, first)
        return "\n".join(lines).replace("\r", "").removesuffix("\n")


def _without_indent(line: str, indent: int) -> str:
    """Remove up to ``indent`` white-space characters from the front."""
    blank = len(line) - len(line.lstrip(_INDENT_CHARACTERS))
    return line[min(blank, indent) :]
