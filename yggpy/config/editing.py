"""Adds a peer to a configuration's text, or takes one out, and leaves all the rest as the operator wrote it.

Only the few characters that must change do: comments, order and spelling stay. What comes out is read again before it
is given back, and must say what it said before except for that one peer; a text for which that cannot be done is
refused, to be edited by hand. A text that is strict JSON stays so.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from dataclasses import replace

from yggpy.config.hjson import Marks, Span, read_hjson
from yggpy.config.model import Config
from yggpy.config.parsing import CONFIG_SHAPE, ConfigText
from yggpy.errors import ConfigError
from yggpy.keys import PrivateKey

__all__ = ["add_peer", "remove_peers"]

Path = tuple[str | int, ...]

_INDENT = "  "
_BOM = "\ufeff"
_BY_HAND = "; edit the file by hand"
_TAIL_OF_LINE = re.compile(r"[ \t]*(?:(?:#|//)[^\r\n]*)?(?:\r?\n|\Z)")
"""What may follow an element on its line and goes with it."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_TO_COMMA = re.compile(r"(?:\s|(?:#|//)[^\n]*+|/\*(?:(?!\*/).)*\*/)*,", re.DOTALL)


def add_peer(data: bytes, uri: str, interface: str = "") -> bytes:
    """Return the file ``data`` with ``uri`` at the end of ``Peers``, or of ``interface``'s list in ``InterfacePeers``.

    Raises ``ConfigError`` when the text cannot be read or is written in a way that cannot be edited safely.
    """
    edit = _Edit(data)
    edit.add(uri, interface)

    def expected(config: Config) -> Config:
        if not interface:
            return replace(config, peers=[*config.peers, uri])
        lists = config.interface_peers
        return replace(config, interface_peers={**lists, interface: [*lists.get(interface, []), uri]})

    return edit.result(expected)


def remove_peers(data: bytes, unwanted: Callable[[str], bool], interface: str = "") -> bytes:
    """Return the file ``data`` without the URIs of ``Peers``, or of ``interface``'s list, that are ``unwanted``.

    A comment on the same line goes, too. Raises ``ConfigError`` as ``add_peer`` does.
    """
    edit = _Edit(data)
    edit.remove(unwanted, interface)

    def without(uris: list[str]) -> list[str]:
        return [uri for uri in uris if not unwanted(uri)]

    def expected(config: Config) -> Config:
        if not interface:
            return replace(config, peers=without(config.peers))
        lists = dict(config.interface_peers)
        if interface in lists:
            lists[interface] = without(lists[interface])
        return replace(config, interface_peers=lists)

    return edit.result(expected)


class _Edit:
    def __init__(self, data: bytes) -> None:
        self._before = ConfigText(data)  # raises for what is too long or no object
        self._encoding = _encoding(data)
        try:
            text = data.decode(self._encoding)
        except UnicodeDecodeError:
            raise ConfigError(f"it has characters that are not {self._encoding}{_BY_HAND}") from None
        self.text = text.removeprefix(_BOM)
        self._mark = text[: len(text) - len(self.text)]
        self.newline = "\r\n" if "\r\n" in self.text else "\n"
        self._strict = _is_json(self.text)

    def result(self, expected: Callable[[Config], Config]) -> bytes:
        """Return the new file, if it says what it should."""
        try:
            data = (self._mark + self.text).encode(self._encoding)
        except UnicodeEncodeError:
            raise ConfigError(f"it would have characters that are not {self._encoding}") from None
        if not self._says(data, expected):
            raise ConfigError(f"it is written in a way that is not understood well enough to change it{_BY_HAND}")
        return data

    def _says(self, data: bytes, expected: Callable[[Config], Config]) -> bool:
        key = PrivateKey.generate()
        before = _config(self._before, key)
        try:
            after = _config(ConfigText(data), key)
        except ConfigError:
            return False
        return _plain(after) == _plain(expected(before)) and (not self._strict or _is_json(self.text))

    # -- finding -----------------------------------------------------------------------------------------

    def _marks(self) -> Marks:
        marks: Marks = {}
        read_hjson(self.text, CONFIG_SHAPE, marks)
        return marks

    @staticmethod
    def _member(marks: Marks, above: Path, name: str, *, fold: bool) -> str | None:
        """Return the name, as it was written last, of member ``name`` of the object at ``above``."""
        found = None
        for path in marks:
            if len(path) == len(above) + 1 and path[:-1] == above and isinstance(path[-1], str):
                given = path[-1]
                if given == name or (fold and given.lower() == name.lower()):
                    found = given
        return found

    def _steps(self, interface: str) -> list[tuple[str, bool]]:
        return [("InterfacePeers", True), (interface, False)] if interface else [("Peers", True)]

    # -- adding ------------------------------------------------------------------------------------------

    def add(self, uri: str, interface: str) -> None:
        """Put ``uri`` at the end of the list."""
        marks = self._marks()
        above: Path = ()
        steps = self._steps(interface)
        for depth, (name, fold) in enumerate(steps):
            given = self._member(marks, above, name, fold=fold)
            if given is None or self._is_null(marks[*above, given]):
                missing = [step for step, _ in steps[depth:]]
                self._make(marks, above, given, missing, uri)
                return
            above = (*above, given)
        self._append(marks, above, uri)

    def _is_null(self, span: Span) -> bool:
        return self.text[span.start : span.end] == "null"

    def _make(self, marks: Marks, above: Path, given: str | None, missing: list[str], uri: str) -> None:
        """Write a member that is not there, or is null, with the list in it."""
        if given is not None:
            name = marks[*above, given].name
            self._splice(marks[*above, given], self._value(missing[1:], uri, self._indent_at(name)))
            return
        whole = marks[above]
        braces = self.text[whole.start : whole.start + 1] == "{"
        at = whole.start + 1 if braces else whole.start
        others = any(len(path) == len(above) + 1 and path[:-1] == above for path in marks)
        indent = self._indent_at(whole.start) + _INDENT if braces else ""
        member = f"{self._name(missing[0])}: {self._value(missing[1:], uri, indent)}"
        comma = "," if others and self._strict else ""
        if not braces:
            begin = self.newline if at and self.text[at - 1] != "\n" else ""
            self.text = f"{self.text[:at]}{begin}{member}{self.newline}{self.text[at:]}"
            return
        rest = self.text[at:]
        end = "" if re.match(r"[ \t]*\r?\n", rest) else self.newline + (indent if others else indent[len(_INDENT) :])
        self.text = f"{self.text[:at]}{self.newline}{indent}{member}{comma}{end}{rest.lstrip(' ') if end else rest}"

    def _value(self, missing: list[str], uri: str, indent: str) -> str:
        """Return the text of a list with ``uri``, in as many objects as there are names ``missing``."""
        inner = indent + _INDENT
        if not missing:
            return f"[{self.newline}{inner}{json.dumps(uri, ensure_ascii=False)}{self.newline}{indent}]"
        below = self._value(missing[1:], uri, inner)
        return f"{{{self.newline}{inner}{self._name(missing[0])}: {below}{self.newline}{indent}}}"

    def _name(self, name: str) -> str:
        return name if not self._strict and _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)

    def _append(self, marks: Marks, path: Path, uri: str) -> None:
        """Put ``uri`` behind the last element of the list at ``path``."""
        whole = marks[path]
        if self.text[whole.start : whole.start + 1] != "[":
            raise ConfigError(f"{path[0]} is no list{_BY_HAND}")
        close = whole.end - 1
        element = json.dumps(uri, ensure_ascii=False)
        elements = self._elements(marks, path)
        if not elements and not self.text[whole.start + 1 : close].strip():
            self._splice(whole, self._value([], uri, self._indent_at(whole.name)))
            return
        line = self.text.rfind("\n", 0, close) + 1
        own_line = line > whole.start and not self.text[line:close].strip()
        if own_line:
            indent = self._indent_at(elements[-1].start) if elements else self._indent_at(line) + _INDENT
            self._insert(line, f"{indent}{element}{self.newline}")
        else:
            self._insert(close, f"{'' if self.text[close - 1].isspace() else ' '}{element}")
        if elements and self._needs_comma(elements[-1], close):
            self._insert(elements[-1].end, ",")

    def _needs_comma(self, last: Span, close: int) -> bool:
        """Whether a comma belongs behind the ``last`` element; one without quotes ends with its line."""
        comma = self._comma_behind(last.end)
        return self.text[last.end - 1] in "\"'" and (comma is None or comma > close)

    # -- removing ----------------------------------------------------------------------------------------

    def remove(self, unwanted: Callable[[str], bool], interface: str) -> None:
        """Take the unwanted elements out of the list, from the last to the first."""
        marks = self._marks()
        path: Path = ()
        value: object = self._before.members
        for name, fold in self._steps(interface):
            given = self._member(marks, path, name, fold=fold)
            if given is None or not isinstance(value, dict):
                return
            path, value = (*path, given), value[given]
        if not isinstance(value, list):
            return
        elements = self._elements(marks, path)
        for index in range(len(elements) - 1, -1, -1):
            if isinstance(value[index], str) and unwanted(value[index]):
                self._cut(elements, index)
                marks = self._marks()
                elements = self._elements(marks, path)

    def _cut(self, elements: list[Span], index: int) -> None:
        """Remove one element with its comma, and with its line if it has one to itself."""
        start, end = elements[index].start, elements[index].end
        comma = self._comma_behind(end)
        if comma is not None:
            self.text = self.text[:comma] + self.text[comma + 1 :]
        line = self.text.rfind("\n", 0, start) + 1
        tail = _TAIL_OF_LINE.match(self.text, end)
        if tail is not None and not self.text[line:start].strip():
            start, end = line, tail.end()
        elif index < len(elements) - 1:
            end = self._past_blanks(end)
        else:
            start -= len(self.text[:start]) - len(self.text[:start].rstrip(" \t"))
        self.text = self.text[:start] + self.text[end:]
        if comma is None and index == len(elements) - 1 and index:
            # Then the one before must not have a comma either, or strict JSON would not be that any more.
            comma = self._comma_behind(elements[index - 1].end)
            if comma is not None:
                self.text = self.text[:comma] + self.text[comma + 1 :]

    def _comma_behind(self, at: int) -> int | None:
        """Return the index of the comma that follows, perhaps behind comments and line breaks."""
        match = _TO_COMMA.match(self.text, at)
        return None if match is None else match.end() - 1

    def _past_blanks(self, at: int) -> int:
        return at + len(self.text[at:]) - len(self.text[at:].lstrip(" \t"))

    # -- text --------------------------------------------------------------------------------------------

    @staticmethod
    def _elements(marks: Marks, path: Path) -> list[Span]:
        whole, found = marks[path], list[Span]()
        while (span := marks.get((*path, len(found)))) is not None and whole.start < span.start < whole.end:
            found.append(span)
        return found

    def _indent_at(self, at: int) -> str:
        """Return the white space that begins the line of index ``at``."""
        line = self.text.rfind("\n", 0, at) + 1
        blank = re.compile(r"[ \t]*").match(self.text, line)
        return blank[0] if blank else ""

    def _insert(self, at: int, text: str) -> None:
        self.text = self.text[:at] + text + self.text[at:]

    def _splice(self, span: Span, text: str) -> None:
        self.text = self.text[: span.start] + text + self.text[span.end :]


def _encoding(data: bytes) -> str:
    if data.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"  # with the mark as the first character
    return "utf-16-be" if data.startswith(codecs.BOM_UTF16_BE) else "utf-8"


def _config(text: ConfigText, key: PrivateKey) -> Config:
    """Return the configuration; the node's key is of no interest, and its file is not read."""
    return text.build(lambda path: key, lambda: key)


def _plain(config: Config) -> Config:
    """Return ``config`` without what only says how it was written."""
    return replace(config, null_keys=frozenset())


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
