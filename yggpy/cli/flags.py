"""Command line flags as Go's ``flag`` package reads them, since scripts and unit files are written for that.

One dash or two; ``-flag=value`` or ``-flag value``; a boolean takes a value only behind ``=``. The first word that is
not a flag, or ``--``, ends them. The texts of errors and of the list of flags are Go's, too.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FlagError", "FlagSet", "HelpRequestedError", "ParsedFlags"]

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))
_SHORT_NAME = 4
"""Columns that a flag may take for its description to stand on the same line."""

_Value = bool | int | str


class FlagError(ValueError):
    """The command line cannot be understood; the text is Go's."""


class HelpRequestedError(Exception):
    """``-h`` or ``-help`` was given."""



def _go_integer(text: str) -> int:
    """Return a number as Go's ``ParseInt`` reads it: with a prefix, underscores, and octal behind a zero.

    Raises ``ValueError``, and ``OverflowError`` beyond 64 bits.
    """
    if not text.isascii() or text != text.strip():
        raise ValueError(text)
    digits = text.lstrip("+-")
    octal = len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_"
    number = int(text, 8 if octal else 0)
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(text)
    return number

@dataclass(frozen=True, slots=True)
class _Flag:
    name: str
    default: _Value
    description: str

    def convert(self, text: str) -> _Value:
        """Return the value that ``text`` stands for. Raises ``FlagError``."""
        if isinstance(self.default, bool):
            if text in _TRUE or text in _FALSE:
                return text in _TRUE
            raise FlagError(f'invalid boolean value "{text}" for -{self.name}: parse error')
        if isinstance(self.default, int):
            try:
                return _go_integer(text)
            except ValueError:
                raise FlagError(f'invalid value "{text}" for flag -{self.name}: parse error') from None
            except OverflowError:
                raise FlagError(f'invalid value "{text}" for flag -{self.name}: value out of range') from None
        return text

    @property
    def argument(self) -> str:
        """The type of what must follow; empty for booleans."""
        if isinstance(self.default, bool):
            return ""
        return "int" if isinstance(self.default, int) else "string"

    @property
    def default_note(self) -> str:
        """What tells the default, unless that is nothing."""
        if not self.default:
            return ""
        shown = f'"{self.default}"' if isinstance(self.default, str) else str(self.default)
        return f"(default {shown.lower() if isinstance(self.default, bool) else shown})"

    def help_text(self) -> str:
        head = f"  -{self.name}{' ' if self.argument else ''}{self.argument}"
        tail = f" {self.default_note}" if self.default_note else ""
        gap = "\t" if len(head) <= _SHORT_NAME else "\n    \t"
        return f"{head}{gap}{self.description}{tail}\n"


class ParsedFlags:
    """The values of all flags of a command line, and the words behind them."""

    def __init__(self, values: dict[str, _Value], arguments: list[str]) -> None:
        self._values = values
        self.arguments = arguments

    def enabled(self, name: str) -> bool:
        """Return the value of a boolean flag."""
        value = self._values[name]
        assert isinstance(value, bool)
        return value

    def text(self, name: str) -> str:
        """Return the value of a string flag."""
        value = self._values[name]
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        """Return the value of an integer flag."""
        value = self._values[name]
        assert isinstance(value, int)
        return value


class FlagSet:
    """The flags that a program has. Define them, then ``parse``."""

    def __init__(self, program: str) -> None:
        self.program = program
        self._flags: dict[str, _Flag] = {}

    def add(self, name: str, default: bool | int | str, description: str) -> None:
        """Define a flag; the type of its default is its type."""
        self._flags[name] = _Flag(name, default, description)

    def listed(self) -> list[_Flag]:
        """Return all flags by name."""
        return [flag for _, flag in sorted(self._flags.items())]

    def help_text(self) -> str:
        """Return the list of all flags by name, each with its description (``PrintDefaults``)."""
        return "".join(flag.help_text() for flag in self.listed())

    def usage(self) -> str:
        """Return the text that answers ``-h``."""
        return f"Usage of {self.program}:\n{self.help_text()}"

    def parse(self, argv: list[str]) -> ParsedFlags:
        """Read the words after the program's name; of a repeated flag the last counts.

        Raises ``FlagError`` and ``HelpRequestedError``.
        """
        values = {name: flag.default for name, flag in self._flags.items()}
        words = list(argv)
        while words and words[0].startswith("-") and words[0] != "-":
            word = words.pop(0)
            if word == "--":
                break
            body = word[2:] if word.startswith("--") else word[1:]
            if not body or body[0] in "-=":
                raise FlagError(f"bad flag syntax: {word}")
            name, equals, text = body.partition("=")
            flag = self._flags.get(name)
            if flag is None:
                if name in ("h", "help"):
                    raise HelpRequestedError
                raise FlagError(f"flag provided but not defined: -{name}")
            if not equals:
                if isinstance(flag.default, bool):
                    text = "true"
                elif words:
                    text = words.pop(0)
                else:
                    raise FlagError(f"flag needs an argument: -{name}")
            values[name] = flag.convert(text)
        return ParsedFlags(values, words)
