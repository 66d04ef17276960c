"""Configuration keys from the environment: ``YGG_PEERS`` counts instead of ``Peers`` of the file, and so on for all.

A key's variable is its name in capitals with underscores. The names and the types come from the readers of the file, so
that a new key has its variable at once. ``YGG_..._FILE`` names a file with the value, as containers get their secrets.
A variable that is empty is as good as none. Nothing here tells a value: it may be a key or a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from yggpy.config.files import decode_text
from yggpy.config.hjson import MAX_NESTING, HjsonValue, Number
from yggpy.config.model import Config
from yggpy.config.parsing import CONFIG_KEYS, MAX_UNKNOWN_KEYS
from yggpy.config.pem import private_key_from_pem
from yggpy.config.problems import ConfigProblems, Problems
from yggpy.errors import ConfigError

__all__ = ["PREFIX", "STATE_DIRECTORY", "USER", "Environment", "UnknownVariable", "variable_name"]

PREFIX = "YGG_"
STATE_DIRECTORY = "YGG_STATE_DIR"
USER = "YGG_USER"
"""Like the one before, stands for a flag, not for a key."""
_FILE = "_FILE"
_LONGEST_MISSPELT_NAME = 64
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[,\r\n]")
_BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_RIVALS = {"PrivateKey": "PrivateKeyPath", "PrivateKeyPath": "PrivateKey"}
"""Either says what the other does: from the environment it takes the place of both."""

ReadFile = Callable[[str], bytes]


def variable_name(key: str) -> str:
    """Return the variable of a configuration key, such as ``YGG_IF_MTU`` of ``IfMTU``."""
    return PREFIX + _WORDS.sub("_", key).upper()


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that begins as ours do and means nothing."""

    name: str
    suggestion: str
    """The one that was probably meant; empty: none is like it."""

    def __str__(self) -> str:
        hint = f"; did you mean {self.suggestion}?" if self.suggestion else ""
        return f"unknown variable {self.name} is ignored{hint}"


@dataclass(frozen=True, slots=True)
class Environment:
    """What the variables of a process say."""

    members: Mapping[str, HjsonValue] = field(default_factory=dict, repr=False)
    """Values by configuration key, as if they had stood in a file."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Which variable each of them is from."""
    unknown: tuple[UnknownVariable, ...] = ()
    """``MAX_UNKNOWN_KEYS`` at most."""
    state_directory: str = ""
    user: str = ""
    """Whom a node that was started as root is to become."""

    @classmethod
    def read(cls, variables: Mapping[str, str], read_file: ReadFile) -> Environment:
        """Read a process's variables; ``read_file`` gives what is in a file, or raises ``ConfigError``.

        Raises ``ConfigError`` with all that is wrong; each line begins with the variable's name.
        """
        members: dict[str, HjsonValue] = {}
        used: dict[str, str] = {}
        problems = Problems()
        for key in CONFIG_KEYS:
            name = _given(problems, variables, key)
            if name:
                used[key] = name
                members[key] = problems.attempt(lambda: _value(key, name, variables, read_file), key)  # noqa: B023
        if {"PrivateKey", "PrivateKeyPath"} <= used.keys():
            problems.attempt(lambda: _either(used["PrivateKey"], used["PrivateKeyPath"]), "PrivateKey")
        problems.raise_any()
        unknown = tuple(_unknown(name) for name in _strangers(variables))
        return cls(members, used, unknown, variables.get(STATE_DIRECTORY, ""), variables.get(USER, ""))

    def over(self, members: Mapping[str, HjsonValue]) -> dict[str, HjsonValue]:
        """Return a file's members with those of the environment in their places, each as a whole."""
        replaced = {key.lower() for key in self.members} | {_RIVALS.get(key, key).lower() for key in self.members}
        return {given: value for given, value in members.items() if given.lower() not in replaced} | dict(self.members)

    def variable_of(self, key: str) -> str:
        """Return the variable that ``key``, such as ``Peers[2]``, was set by; empty: by none."""
        return self.variables.get(re.split(r"[.\[]", key, maxsplit=1)[0], "")

    def explain(self, error: ConfigError) -> ConfigError:
        """Return ``error`` with the variables named that the problems are about."""
        told = tuple(self._explained(problem) for problem in error.problems)
        return told[0] if len(told) == 1 else ConfigProblems(told)

    def _explained(self, problem: ConfigError) -> ConfigError:
        variable = self.variable_of(problem.key)
        if not variable or str(problem).startswith(f"{variable}: "):
            return problem
        return ConfigError(f"{variable}: {problem}", problem.key, problem.place)


_VARIABLES: Mapping[str, str] = MappingProxyType({variable_name(key): key for key in CONFIG_KEYS})
_TYPES: Mapping[str, str] = MappingProxyType(
    {f"{PREFIX}{item.name}".upper(): str(item.type) for item in fields(Config)}
)
_KNOWN = (*_VARIABLES, *(name + _FILE for name in _VARIABLES), STATE_DIRECTORY, USER)


def _given(problems: Problems, variables: Mapping[str, str], key: str) -> str:
    """Return the variable that sets ``key``; empty: none does."""
    names = [name for name in (variable_name(key), variable_name(key) + _FILE) if variables.get(name, "").strip()]
    if len(names) > 1:
        problems.attempt(lambda: _either(*names), key)
    return names[0] if names else ""


def _either(first: str, second: str) -> None:
    raise ConfigError(f"{first}: {second} is set as well; give one of the two")


def _value(key: str, name: str, variables: Mapping[str, str], read_file: ReadFile) -> HjsonValue:
    """Return a variable's value as a file would have it. Raises ``ConfigError``, which names the variable."""
    text = variables[name].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        if name.endswith(_FILE):
            text = decode_text(read_file(variables[name])).rstrip("\r\n")
        return _typed(_TYPES[variable_name(key)], text)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}", key) from None


def _typed(kind: str, text: str) -> HjsonValue:
    if kind == "PrivateKey":
        if "-----BEGIN" in text:
            return private_key_from_pem(text.strip().encode()).to_bytes().hex()
        return text.strip()
    if kind == "str":
        return text
    word = text.strip()
    if kind == "bool":
        if word.lower() not in _BOOLEANS:
            raise ConfigError("it must be true or false")
        return _BOOLEANS[word.lower()]
    if kind == "int":
        return Number(word)
    if kind == "list[str]" and not word.startswith("["):
        return [element for part in _SEPARATORS.split(word) if (element := part.strip())]
    return _json(word)


def _json(text: str) -> HjsonValue:
    """Return what JSON says, with numbers as they were spelt. Raises ``ConfigError`` without quoting it."""
    try:
        value: HjsonValue = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=Number)
    except json.JSONDecodeError as error:
        raise ConfigError(f"it must be JSON: mistake at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise ConfigError(f"it is nested deeper than {MAX_NESTING} levels") from None
    level = [value]
    for _ in range(MAX_NESTING):
        level = [below for element in level for below in _elements(element)]
    if level:
        raise ConfigError(f"it is nested deeper than {MAX_NESTING} levels")
    return value


def _elements(value: HjsonValue) -> list[HjsonValue]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _strangers(variables: Mapping[str, str]) -> list[str]:
    return sorted(name for name in variables if name.startswith(PREFIX) and name not in _KNOWN)[:MAX_UNKNOWN_KEYS]


def _unknown(name: str) -> UnknownVariable:
    import difflib  # seldom needed

    short = name.removeprefix(PREFIX).upper() if len(name) <= _LONGEST_MISSPELT_NAME else ""
    like = difflib.get_close_matches(short, [known.removeprefix(PREFIX) for known in _KNOWN], n=1)
    return UnknownVariable(name.encode("utf-8", "replace").decode(), PREFIX + like[0] if like else "")
