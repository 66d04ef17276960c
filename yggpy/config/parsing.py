"""From the bytes of a configuration file to a :class:`~yggpy.config.model.Config`, type by type as Go's decoder does.

Keys are found without regard to case and unknown ones are noted and ignored, so that a file of a later version still
loads. A wrong type is an error that names the key; all of them are told at once. ``null`` leaves scalars at their
default and empties lists and maps.

One oddity of Go is kept, because files rely on it without knowing: the first entry of ``MulticastInterfaces`` inherits
what it leaves out from the default entry (Beacon and Listen are true there); later entries do not.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from yggpy.config.files import decode_text
from yggpy.config.firewall import read_firewall
from yggpy.config.hjson import ANY, TEXT, HjsonValue, Marks, Number, Shape, read_hjson
from yggpy.config.model import Config, MulticastInterface, UnknownKey, default_multicast_interfaces
from yggpy.config.pem import read_private_key
from yggpy.config.problems import Problems
from yggpy.errors import ConfigError
from yggpy.keys import PrivateKey

if TYPE_CHECKING:
    from yggpy.config.dns import DnsConfig

__all__ = ["CONFIG_KEYS", "CONFIG_SHAPE", "MAX_UNKNOWN_KEYS", "ConfigText", "parse_config"]

MAX_UNKNOWN_KEYS = 32
"""Unknown keys that are told; with more of them this is not a configuration."""
_MAX_UINT64_DIGITS = 20
_LONGEST_MISSPELT_KEY = 64
_EXACT_INTEGERS = 1e21
"""Go prints whole floats below this as integers."""
_T = TypeVar("_T")


ReadKey = Callable[[str], PrivateKey]


def parse_config(data: bytes) -> Config:
    """Read a configuration; see ``Config.from_bytes``. Raises ``ConfigError``."""
    return ConfigText(data).build()


class ConfigText:
    """A configuration's text, and where in it what stands."""

    def __init__(self, data: bytes) -> None:
        """Raises ``ConfigError`` for a text that is no object in HJSON."""
        self.text = decode_text(data)
        self.marks: Marks = {}
        self.members = read_hjson(self.text, CONFIG_SHAPE, self.marks)
        self._names = {_path_text(path).lower(): span.name for path, span in self.marks.items()}

    def build(
        self,
        read_key: ReadKey = read_private_key,
        make_key: Callable[[], PrivateKey] = PrivateKey.generate,
        members: dict[str, HjsonValue] | None = None,
    ) -> Config:
        """Return the configuration. Raises ``ConfigError``, which has all that is wrong with the types of values.

        ``read_key`` reads the key file that ``PrivateKeyPath`` names; ``make_key`` makes a key if the text has none.
        ``members`` are to count instead of the text's own ones.
        """
        return replace(
            _build(self.members if members is None else members, read_key, make_key), unknown_keys=self.unknown_keys()
        )

    def unknown_keys(self) -> tuple[UnknownKey, ...]:
        """Return the keys that mean nothing, ``MAX_UNKNOWN_KEYS`` at most."""
        return tuple(islice(self._all_unknown(), MAX_UNKNOWN_KEYS))

    def _all_unknown(self) -> Iterator[UnknownKey]:
        yield from self._unknown("", self.members, list(_KEYS))
        for given, value in self.members.items():
            name = _NAMES.get(given.lower())
            if name == "MulticastInterfaces" and isinstance(value, list):
                for index, element in enumerate(value):
                    if isinstance(element, dict):
                        yield from self._unknown(f"{name}[{index}].", element, list(_MULTICAST_KEYS))

    def _unknown(self, prefix: str, members: dict[str, HjsonValue], known: list[str]) -> Iterator[UnknownKey]:
        names = {name.lower(): name for name in known}
        for given in members:
            if given.lower() not in names:
                import difflib  # seldom needed

                # Two are compared in time that is the product of their lengths: a key of a megabyte is not looked at.
                short = given.lower() if len(given) <= _LONGEST_MISSPELT_KEY else ""
                like = difflib.get_close_matches(short, names, n=1)
                line, column = self.place(prefix + given)
                yield UnknownKey(prefix + given, line, column, names[like[0]] if like else "")

    def place(self, key: str) -> tuple[int, int]:
        """Return line and column, from 1, of ``key``, such as ``Peers[2]``, or of what is nearest to it."""
        key = key.lower()
        while key and key not in self._names:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        at = self._names[key]
        return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)


def _path_text(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


# -- values ------------------------------------------------------------------------------------------------


def _kind(value: HjsonValue) -> str:
    """Name the type of a value for a message; never the value, which may be a secret."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case Number():
            return "a number"
        case str():
            return "a string"
        case list():
            return "a list"
        case _:
            return "an object"


def _string(key: str, value: HjsonValue) -> str:
    # Numbers and keywords only get here as Number or bool when a list or object was expected around them.
    if not isinstance(value, str) or isinstance(value, Number):
        raise ConfigError(f"{key} must be a string, not {_kind(value)}")
    return value


def _boolean(key: str, value: HjsonValue) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, not {_kind(value)}")
    return value


def _integer(limit: int) -> Callable[[str, HjsonValue], int]:
    """Return a reader of whole numbers from 0 to ``limit``."""

    def read(key: str, value: HjsonValue) -> int:
        if not isinstance(value, Number):
            raise ConfigError(f"{key} must be a number without quotes, not {_kind(value)}")
        if not value.isdecimal() or len(value) > _MAX_UINT64_DIGITS or int(value) > limit:
            raise ConfigError(f"{key} must be a whole number from 0 to {limit}")
        return int(value)

    return read


def _strings(key: str, value: HjsonValue) -> list[str]:
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list of strings, not {_kind(value)}")
    return _each((f"{key}[{index}]", element) for index, element in enumerate(value))


def _each(values: Iterable[tuple[str, HjsonValue]]) -> list[str]:
    """Return values that must be strings; raises ``ConfigError`` with all that are not."""
    problems = Problems()
    strings = [problems.attempt(lambda: _string(key, value), key) or "" for key, value in values]  # noqa: B023
    problems.raise_any()
    return strings


def _object(key: str, value: HjsonValue) -> dict[str, HjsonValue]:
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object, not {_kind(value)}")
    return value


def _plain(key: str, value: HjsonValue) -> Any:
    """Turn a value inside NodeInfo into what JSON calls it: Go keeps all numbers as 64-bit floats, and so do we."""
    if isinstance(value, Number):
        number = float(value)
        if not math.isfinite(number):
            raise ConfigError(f"{key} holds a number that is too large")
        if not number.is_integer() or abs(number) >= _EXACT_INTEGERS or (not number and value.startswith("-")):
            return number
        from decimal import Decimal  # seldom needed

        return int(Decimal(repr(number)))
    if isinstance(value, list):
        return [_plain(key, element) for element in value]
    if isinstance(value, dict):
        return {name: _plain(key, member) for name, member in value.items()}
    return value


def _private_key(key: str, value: HjsonValue) -> bytes:
    try:
        return binascii.unhexlify(_string(key, value))
    except ValueError:
        raise ConfigError(f"{key} is not hexadecimal, or has an odd number of digits") from None


# -- keys --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Draft:
    """A configuration on its way: defaults, overwritten key by key."""

    values: dict[str, Any] = field(default_factory=dict)
    private_key: bytes | None = None
    multicast_interfaces: list[MulticastInterface] = field(default_factory=default_multicast_interfaces)
    null_keys: set[str] = field(default_factory=set)


_Apply = Callable[[_Draft, str, HjsonValue], None]


def _scalar(attribute: str, read: Callable[[str, HjsonValue], _T]) -> _Apply:
    def apply(draft: _Draft, key: str, value: HjsonValue) -> None:
        if value is not None:
            draft.values[attribute] = read(key, value)

    return apply


def _list(attribute: str) -> _Apply:
    def apply(draft: _Draft, key: str, value: HjsonValue) -> None:
        draft.values[attribute] = [] if _is_null(draft, key, value) else _strings(key, value)

    return apply


def _is_null(draft: _Draft, key: str, value: HjsonValue) -> bool:
    if value is None:
        draft.null_keys.add(key)
        return True
    draft.null_keys.discard(key)
    return False


def _apply_private_key(draft: _Draft, key: str, value: HjsonValue) -> None:
    draft.private_key = _private_key(key, value)


def _apply_interface_peers(draft: _Draft, key: str, value: HjsonValue) -> None:
    if _is_null(draft, key, value):
        draft.values["interface_peers"] = {}
        return
    peers = draft.values.setdefault("interface_peers", {})
    problems = Problems()
    for interface, uris in _object(key, value).items():
        name = f"{key}.{interface}"
        null = _is_null(draft, name, uris)
        peers[interface] = [] if null else problems.attempt(lambda: _strings(name, uris), name)  # noqa: B023
    problems.raise_any()


def _apply_node_info(draft: _Draft, key: str, value: HjsonValue) -> None:
    if value is None:
        draft.values["node_info"] = None
        return
    info = _plain(key, _object(key, value))
    draft.values["node_info"] = {**(draft.values.get("node_info") or {}), **info}


_MULTICAST_KEYS: Mapping[str, tuple[str, Callable[[str, HjsonValue], Any]]] = MappingProxyType(
    {
        "Regex": ("regex", _string),
        "Beacon": ("beacon", _boolean),
        "Listen": ("listen", _boolean),
        "Port": ("port", _integer(0xFFFF)),
        "Priority": ("priority", _integer(0xFF)),
        "Password": ("password", _string),
        "Cost": ("cost", _integer(0xFFFF)),
    }
)


def _apply_multicast_interfaces(draft: _Draft, key: str, value: HjsonValue) -> None:
    if _is_null(draft, key, value):
        draft.multicast_interfaces = []
        return
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list of objects, not {_kind(value)}")
    bases = chain(draft.multicast_interfaces, repeat(MulticastInterface()))
    problems = Problems()
    draft.multicast_interfaces = []
    for index, (element, base) in enumerate(zip(value, bases, strict=False)):
        where = f"{key}[{index}]"
        entry = problems.attempt(lambda: _multicast_interface(where, element, base), where)  # noqa: B023
        draft.multicast_interfaces.append(entry or base)
    problems.raise_any()


def _multicast_interface(key: str, value: HjsonValue, base: MulticastInterface) -> MulticastInterface:
    names = {name.lower(): name for name in _MULTICAST_KEYS}
    changes: dict[str, Any] = {}
    problems = Problems()
    for given, member in _object(key, {} if value is None else value).items():
        name = names.get(given.lower())
        if name is not None and member is not None:
            attribute, read = _MULTICAST_KEYS[name]
            where = f"{key}.{name}"
            changes[attribute] = problems.attempt(lambda: read(where, member), where)  # noqa: B023
    problems.raise_any()
    return replace(base, **changes)


def _dns(key: str, value: HjsonValue) -> DnsConfig:
    from yggpy.config.dns import read_dns  # few have names

    return read_dns(key, value)


_KEYS: Mapping[str, _Apply] = MappingProxyType(
    {
        "PrivateKey": _apply_private_key,
        "PrivateKeyPath": _scalar("private_key_path", _string),
        "Peers": _list("peers"),
        "InterfacePeers": _apply_interface_peers,
        "Listen": _list("listen"),
        "AdminListen": _scalar("admin_listen", _string),
        "HTTPListen": _scalar("http_listen", _string),
        "MulticastInterfaces": _apply_multicast_interfaces,
        "AllowedPublicKeys": _list("allowed_public_keys"),
        "GroupPassword": _scalar("group_password", _string),
        "IfName": _scalar("if_name", _string),
        "IfMTU": _scalar("if_mtu", _integer(2**64 - 1)),
        "LogLookups": _scalar("log_lookups", _boolean),
        "Transit": _scalar("transit", _boolean),
        "NodeInfoPrivacy": _scalar("node_info_privacy", _boolean),
        "NodeInfo": _apply_node_info,
        "Firewall": _scalar("firewall", read_firewall),
        "DNS": _scalar("dns", _dns),
    }
)
CONFIG_KEYS = tuple(_KEYS)
"""All keys, as Go spells them."""
_NAMES = {name.lower(): name for name in _KEYS}

_LIST_OF_TEXT = Shape(elements=TEXT)
CONFIG_SHAPE = Shape(
    members={
        **dict.fromkeys(("privatekey", "privatekeypath", "adminlisten", "httplisten", "grouppassword", "ifname"), TEXT),
        **dict.fromkeys(("peers", "listen", "allowedpublickeys"), _LIST_OF_TEXT),
        "interfacepeers": Shape(elements=_LIST_OF_TEXT),
        "multicastinterfaces": Shape(elements=Shape(members={"regex": TEXT, "password": TEXT})),
        "nodeinfo": ANY,
        "dns": Shape(
            members={
                "domain": TEXT,
                **dict.fromkeys(("listen", "trustedkeys", "clients", "forward"), _LIST_OF_TEXT),
                **dict.fromkeys(("hosts", "pins"), Shape(elements=TEXT)),
            }
        ),
    }
)


def _build(members: dict[str, HjsonValue], read_key: ReadKey, make_key: Callable[[], PrivateKey]) -> Config:
    draft = _Draft()
    problems = Problems()
    for given, value in members.items():
        name = _NAMES.get(given.lower())
        if name is not None:
            problems.attempt(lambda: _KEYS[name](draft, name, value), name)  # noqa: B023
    key_name = "PrivateKeyPath" if draft.values.get("private_key_path") else "PrivateKey"
    key = problems.attempt(lambda: _choose_private_key(draft, read_key, make_key), key_name)
    problems.raise_any()
    assert key is not None
    return Config(
        private_key=key,
        multicast_interfaces=draft.multicast_interfaces,
        null_keys=frozenset(draft.null_keys),
        **draft.values,
    )


def _choose_private_key(draft: _Draft, read_key: ReadKey, make_key: Callable[[], PrivateKey]) -> PrivateKey:
    path = draft.values.get("private_key_path")
    if path:
        return read_key(path)
    if draft.private_key is None:
        return make_key()
    try:
        return PrivateKey.from_bytes(draft.private_key)
    except ValueError as error:
        raise ConfigError(f"PrivateKey: {error}; it must be the 128 hexadecimal digits that -genconf made") from None
