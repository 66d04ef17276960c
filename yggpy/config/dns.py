"""The ``DNS`` section of a configuration (docs/names.md): read from HJSON values, checked, and written back.

It is an addition of ours: Go ignores it, and without it a configuration is written as Go writes it. What is read is
kept as it was written; ``DnsConfig`` gives it in the forms that the responder works with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeAlias, TypeVar

from yggpy.config.hjson import HjsonValue
from yggpy.config.problems import Problems
from yggpy.errors import ConfigError
from yggpy.keys import PUBLIC_KEY_SIZE, PublicKey
from yggpy.names.claims import NameRules
from yggpy.names.labels import MAX_NAME, PK, Name, parse_name

__all__ = [
    "DEFAULT_DNS_LISTEN",
    "DEFAULT_DOMAIN",
    "DNS_PORT",
    "MAX_ENTRIES",
    "DnsConfig",
    "Endpoint",
    "dns_tree",
    "read_dns",
    "shown_endpoint",
]

DEFAULT_DOMAIN = "ygg"
DEFAULT_DNS_LISTEN = ("127.0.0.1:53", "[::1]:53")
DNS_PORT = 53
MAX_ENTRIES = 1024
"""Names in ``Hosts`` and in ``Pins``, keys in ``TrustedKeys``, and entries of each other list of the section."""
_MAX_ADDRESSES = 16
"""Addresses of one name."""
_ROOM_FOR_KEYS = 2 * PUBLIC_KEY_SIZE + len(PK) + 3
_MAX_PORT = 0xFFFF
_LONGEST_MISSPELT_KEY = 64

Endpoint: TypeAlias = tuple[str, int]
"""Address, as Python writes it, and port."""
Network: TypeAlias = IPv4Network | IPv6Network
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DnsConfig:
    """The section, as it was written."""

    listen: tuple[str, ...] = DEFAULT_DNS_LISTEN
    domain: str = DEFAULT_DOMAIN
    hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    trusted_keys: tuple[str, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    clients: tuple[str, ...] = ()
    forward: tuple[str, ...] = ()

    def check(self, key: str = "DNS") -> None:
        """Raise ``ConfigError`` with all that cannot be used; ``key`` is what the section is called."""
        problems = Problems()
        for read in (self.endpoints, self.upstreams, self.domain_name, self.rules, self.networks):
            problems.attempt(lambda: read(key), key)  # noqa: B023
        problems.raise_any()

    def endpoints(self, key: str = "DNS") -> tuple[Endpoint, ...]:
        """Return where to listen. Raises ``ConfigError``."""
        return _each(f"{key}.Listen", dict.fromkeys(self.listen), _endpoint)

    def upstreams(self, key: str = "DNS") -> tuple[Endpoint, ...]:
        """Return the resolvers that other questions go to. Raises ``ConfigError``."""
        own = set[Endpoint]()
        for listen in self.listen:
            with suppress(ConfigError):  # which ``endpoints`` tells of
                own.add(_endpoint("", listen))

        def read(where: str, text: str) -> Endpoint:
            endpoint = _endpoint(where, text)
            if _leads_to(endpoint, own):
                raise ConfigError(f'{where}: "{text}" is where this node listens itself', where)
            if ip_address(endpoint[0]).is_unspecified:
                raise ConfigError(f'{where}: "{text}" is no address of a resolver', where)
            if not endpoint[1]:
                raise ConfigError(f'{where}: "{text}" needs a port other than 0', where)
            return endpoint

        return _each(f"{key}.Forward", self.forward, read)

    def domain_name(self, key: str = "DNS") -> Name:
        """Return the domain's labels. Raises ``ConfigError``."""
        where = f"{key}.Domain"
        name = parse_name(self.domain)
        if name is None:
            raise ConfigError(f'{where}: "{self.domain}" is no domain, such as "{DEFAULT_DOMAIN}"', where)
        if len(self.domain) > MAX_NAME - _ROOM_FOR_KEYS:
            raise ConfigError(f"{where} is too long for names below it", where)
        if name[-1] == "arpa":
            raise ConfigError(f'{where}: "{self.domain}" is where the names of addresses are', where)
        return name

    def rules(self, key: str = "DNS") -> NameRules:
        """Return who may have which name. Raises ``ConfigError``."""
        problems = Problems()
        hosts: dict[Name, tuple[PublicKey | IPv6Address, ...]] = {}
        pins: dict[Name, PublicKey] = {}
        for text, values in self.hosts.items():
            where = f"{key}.Hosts.{text}"
            name = problems.attempt(lambda: self._name(where, text, hosts), where)  # noqa: B023
            targets = problems.attempt(lambda: tuple(_target(where, value) for value in values), where)  # noqa: B023
            hosts[name or ()] = targets or ()
        for text, value in self.pins.items():
            where = f"{key}.Pins.{text}"
            name = problems.attempt(lambda: self._name(where, text, {**hosts, **pins}), where)  # noqa: B023
            pins[name or ()] = problems.attempt(lambda: _key(where, value), where) or b""  # noqa: B023
        trusted = problems.attempt(lambda: _each(f"{key}.TrustedKeys", self.trusted_keys, _key))
        problems.raise_any()
        assert trusted is not None
        return NameRules(hosts, pins, trusted)

    def networks(self, key: str = "DNS") -> tuple[Network, ...]:
        """Return whose questions are answered, beside this machine's and its own mesh addresses' ones.

        Raises ``ConfigError``.
        """
        return _each(f"{key}.Clients", self.clients, _network)

    def _name(self, where: str, text: str, taken: Mapping[Name, object]) -> Name:
        name = parse_name(text)
        if name is None or text.endswith("."):
            raise ConfigError(f'{where}: "{text}" is no host name: letters, digits, hyphens (RFC 1123)', where)
        if name[-1] == PK:
            raise ConfigError(f'{where}: names below "{PK}" are those of keys', where)
        if name in taken:
            raise ConfigError(f'{where}: the name "{text}" is there twice, in Hosts or Pins', where)
        if len(text) + 1 + len(self.domain) > MAX_NAME:
            raise ConfigError(f"{where} is too long together with the domain", where)
        return name


def _each(key: str, texts: Any, read: Callable[[str, str], _T]) -> tuple[_T, ...]:
    """Return what ``read`` makes of each text; raises ``ConfigError`` with all that it cannot read."""
    problems = Problems()
    found = [problems.attempt(lambda: read(f"{key}[{i}]", text), f"{key}[{i}]") for i, text in enumerate(texts)]  # noqa: B023
    problems.raise_any()
    return tuple(each for each in found if each is not None)


def _endpoint(where: str, text: str) -> Endpoint:
    """Read ``address``, ``address:port`` or ``[address]:port``."""
    host, port = text, str(DNS_PORT)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            host = ""
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ip_address(host)
        number = int(port) if port.isascii() and port.isdecimal() else -1
        if not 0 <= number <= _MAX_PORT:
            raise ValueError(port)
    except ValueError:
        raise ConfigError(
            f'{where}: "{text}" must be an address and a port, such as 127.0.0.1:53 or [::1]:53', where
        ) from None
    return str(address), number


def _leads_to(target: Endpoint, listeners: set[Endpoint]) -> bool:
    """Tell whether what is sent to ``target`` certainly comes to one of these, on this machine."""
    address, port = ip_address(target[0]), target[1]
    everywhere = "::" if address.version == 6 else "0.0.0.0"
    return target in listeners or (address.is_loopback and (everywhere, port) in listeners)


def _key(where: str, text: str) -> PublicKey:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_SIZE or len(text) != 2 * PUBLIC_KEY_SIZE:
        raise ConfigError(
            f'{where}: "{text}" is no public key, which has {2 * PUBLIC_KEY_SIZE} hexadecimal digits', where
        )
    return key


def _target(where: str, text: str) -> PublicKey | IPv6Address:
    if len(text) == 2 * PUBLIC_KEY_SIZE:
        return _key(where, text)
    try:
        address = IPv6Address(text)
        if address.scope_id is not None:
            raise ValueError(text)
    except ValueError:
        raise ConfigError(f'{where}: "{text}" is neither a public key nor an IPv6 address', where) from None
    return address


def _network(where: str, text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError as error:
        reason = "host bits are set" if "host bits" in str(error) else "it must be like 172.17.0.0/16 or 300:1:2:3::/64"
        raise ConfigError(f'{where}: "{text}" is no network: {reason}', where) from None


def shown_endpoint(endpoint: Endpoint) -> str:
    """Return ``address:port`` for people."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- reading and writing -------------------------------------------------------------------------------------


def _text(key: str, value: HjsonValue) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a string", key)
    return value.strip()


def _texts(key: str, value: HjsonValue) -> tuple[str, ...]:
    """Read a list of strings, or one string for a list of one."""
    elements = value if isinstance(value, list) else [value]
    if len(elements) > MAX_ENTRIES:
        raise ConfigError(f"{key} has {len(elements)} entries; it can have {MAX_ENTRIES}", key)
    problems = Problems()
    texts = tuple(
        problems.attempt(lambda: _text(f"{key}[{index}]", element)) or ""  # noqa: B023
        for index, element in enumerate(elements)
    )
    problems.raise_any()
    return texts


def _addresses(key: str, value: HjsonValue) -> tuple[str, ...]:
    texts = _texts(key, value)
    if not 0 < len(texts) <= _MAX_ADDRESSES:
        raise ConfigError(f"{key} must have 1 to {_MAX_ADDRESSES} keys or addresses", key)
    return texts


def _members(read: Callable[[str, HjsonValue], _T]) -> Callable[[str, HjsonValue], Mapping[str, _T]]:
    def members(key: str, value: HjsonValue) -> Mapping[str, _T]:
        if not isinstance(value, dict):
            raise ConfigError(f"{key} must be an object of names", key)
        if len(value) > MAX_ENTRIES:
            raise ConfigError(f"{key} has {len(value)} names; it can have {MAX_ENTRIES}", key)
        problems = Problems()
        found = {name: problems.attempt(lambda: read(f"{key}.{name}", below)) for name, below in value.items()}  # noqa: B023
        problems.raise_any()
        return {name: each for name, each in found.items() if each is not None}

    return members


_MEMBERS: Mapping[str, tuple[str, Callable[[str, HjsonValue], Any]]] = {
    "Listen": ("listen", _texts),
    "Domain": ("domain", _text),
    "Hosts": ("hosts", _members(_addresses)),
    "TrustedKeys": ("trusted_keys", _texts),
    "Pins": ("pins", _members(_text)),
    "Clients": ("clients", _texts),
    "Forward": ("forward", _texts),
}


def read_dns(key: str, value: HjsonValue) -> DnsConfig:
    """Read the section. Raises ``ConfigError`` with all that is wrong in it, also for names that are unknown.

    Unknown names are an error here, as in ``Firewall``: a name that is not answered, or not from whom it should be,
    would go unnoticed. ``null`` stands for the default.
    """
    if not isinstance(value, dict):
        raise ConfigError(f"{key} must be an object with {', '.join(_MEMBERS)}")
    names = {name.lower(): name for name in _MEMBERS}
    problems = Problems()
    values: dict[str, Any] = {}
    for given, member in value.items():
        name = names.get(given.lower())
        if name is None:
            problems.attempt(lambda: _unknown(key, given, names), f"{key}.{given}")  # noqa: B023
        elif member is not None:
            attribute, read = _MEMBERS[name]
            values[attribute] = problems.attempt(lambda: read(f"{key}.{name}", member), f"{key}.{name}")  # noqa: B023
    problems.raise_any()
    config = DnsConfig(**values)
    config.check(key)
    return config


def _unknown(key: str, given: str, names: Mapping[str, str]) -> None:
    import difflib  # seldom needed

    short = given.lower() if len(given) <= _LONGEST_MISSPELT_KEY else ""
    like = difflib.get_close_matches(short, names, n=1)
    hint = f'; did you mean "{names[like[0]]}"?' if like else f"; it can have {', '.join(names.values())}"
    raise ConfigError(f'{key} has no "{given}"{hint}')


def dns_tree(config: DnsConfig) -> dict[str, Any]:
    """Return the section as the writers print it."""
    return {
        "Listen": list(config.listen),
        "Domain": config.domain,
        "Hosts": {name: values[0] if len(values) == 1 else list(values) for name, values in config.hosts.items()},
        "TrustedKeys": list(config.trusted_keys),
        "Pins": dict(config.pins),
        "Clients": list(config.clients),
        "Forward": list(config.forward),
    }
