"""``Config``: everything that a node can be told, with Go's defaults.

A ``Config`` always holds a usable private key. What else may be wrong in it (keys to allow, node info, patterns) shows
when a node is made from it, as in Go: ``-normaliseconf`` prints such a configuration, running it fails.
"""

from __future__ import annotations

import binascii
import os
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from yggpy.config.files import DEFAULT_ADMIN_LISTEN
from yggpy.config.problems import Problems
from yggpy.errors import ConfigError
from yggpy.keys import PUBLIC_KEY_SIZE, PrivateKey
from yggpy.version import BUILD_NAME, build_version

if TYPE_CHECKING:
    from yggpy.config.dns import DnsConfig
    from yggpy.config.firewall import FirewallConfig
    from yggpy.firewall import Ruleset

__all__ = [
    "DEFAULT_IF_MTU",
    "DEFAULT_IF_NAME",
    "MAX_NODE_INFO_SIZE",
    "Config",
    "MulticastInterface",
    "UnknownKey",
    "default_multicast_interfaces",
]

DEFAULT_IF_NAME = "auto"
DEFAULT_IF_MTU = 65535
MAX_NODE_INFO_SIZE = 16384
"""Bytes of the node info's JSON; with more the node does not start (section 10)."""

_GO_PLATFORMS = {"win32": "windows", "cygwin": "windows"}
_GO_ARCHITECTURES = {
    "x86_64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "loongarch64": "loong64",
}
"""What the kernel calls a machine and Go calls otherwise; all other names are the same."""


@dataclass(frozen=True, slots=True)
class UnknownKey:
    """A key in a configuration file that means nothing, perhaps since it is misspelt. Go says nothing of them."""

    key: str
    """With what leads to it, such as ``MulticastInterfaces[1].Prot``."""
    line: int
    column: int
    suggestion: str
    """The key that was probably meant; empty: none is like it."""

    def __str__(self) -> str:
        hint = f'; did you mean "{self.suggestion}"?' if self.suggestion else ""
        return f'unknown key "{self.key}" is ignored{hint}'


@dataclass(slots=True)
class MulticastInterface:
    """One entry of ``MulticastInterfaces``: which interfaces it is for, and what is done there."""

    regex: str = ""
    beacon: bool = False
    listen: bool = False
    port: int = 0
    """Port of the TLS listener; 0: any."""
    priority: int = 0
    password: str = field(default="", repr=False)
    cost: int = 0
    """What routing takes links made here to cost; 0: what their round trips say. Not a key of the Go node's."""

    def pattern(self) -> re.Pattern[str]:
        """Return ``regex`` compiled, to be searched in interface names. Raises ``ConfigError``."""
        try:
            return re.compile(self.regex)
        except (re.error, RecursionError, OverflowError) as error:
            raise ConfigError(f'MulticastInterfaces: cannot use Regex "{self.regex}": {error}') from None


def default_multicast_interfaces() -> list[MulticastInterface]:
    """Return Go's default: beacons out and in on every interface."""
    return [MulticastInterface(regex=".*", beacon=True, listen=True)]


@dataclass(slots=True)
class Config:
    """A node's configuration; attributes are Go's keys in snake case. Without arguments: the defaults and a new key."""

    private_key: PrivateKey = field(default_factory=PrivateKey.generate)
    private_key_path: str = ""
    """PEM file that ``private_key`` was read from; such a configuration is written without the key itself."""
    peers: list[str] = field(default_factory=list)
    interface_peers: dict[str, list[str]] = field(default_factory=dict)
    listen: list[str] = field(default_factory=list)
    admin_listen: str = DEFAULT_ADMIN_LISTEN
    """``unix://`` or ``tcp://`` URI or host:port; ``none`` or empty: no admin socket."""
    http_listen: str = ""
    """The same for the HTTP endpoint of the daemon (docs/metrics.md). Not a key of the Go node's."""
    multicast_interfaces: list[MulticastInterface] = field(default_factory=default_multicast_interfaces)
    allowed_public_keys: list[str] = field(default_factory=list)
    """Hex; read them by ``allowed_keys``."""
    group_password: str = field(default="", repr=False)
    if_name: str = DEFAULT_IF_NAME
    """``auto``, a name, or ``none`` or ``dummy`` for no TUN."""
    if_mtu: int = DEFAULT_IF_MTU
    log_lookups: bool = False
    transit: bool = True
    """False: pass nothing on for others. Not a key of the Go node's."""
    node_info_privacy: bool = False
    node_info: dict[str, Any] | None = None
    firewall: FirewallConfig | None = None
    """The packet filter at the TUN (docs/firewall.md); None: everybody may send everything to this machine."""
    dns: DnsConfig | None = None
    """Names of nodes and the DNS responder (docs/names.md); None: there are none."""
    null_keys: frozenset[str] = frozenset()
    """Go names of lists and maps that were given as ``null``. They mean the same as empty ones, but -normaliseconf
    shows them as they were."""
    unknown_keys: tuple[UnknownKey, ...] = field(default=(), compare=False)
    """What the file has besides, to be warned about."""

    @classmethod
    def generate(cls) -> Config:
        """Return the default configuration with a new random key, as ``-genconf`` does."""
        return cls()

    @classmethod
    def from_bytes(cls, data: bytes) -> Config:
        """Read HJSON or JSON, in UTF-8, or UTF-16 with a byte order mark; missing keys get their defaults.

        Reads the file that ``PrivateKeyPath`` names. Raises ``ConfigError``, whose one line names the key or the place.
        """
        from yggpy.config.parsing import parse_config

        return parse_config(data)

    def to_hjson(self) -> str:
        """Return the commented HJSON text that ``-genconf`` prints, without a newline at its end.

        ``AdminListen`` is part of it unless empty.
        """
        from yggpy.config.writing import config_to_hjson

        return config_to_hjson(self)

    def to_json(self) -> str:
        """Return the JSON text that ``-genconf -json`` prints, without a newline at its end."""
        from yggpy.config.writing import config_to_json

        return config_to_json(self)

    def allowed_keys(self) -> frozenset[bytes]:
        """Return ``allowed_public_keys`` decoded; empty: everybody may connect. Raises ``ConfigError``.

        Go pads and cuts keys of a wrong length, which then let nobody in; here they are an error.
        """
        return frozenset(_allowed_key(index, text) for index, text in enumerate(self.allowed_public_keys))

    @property
    def uses_tun(self) -> bool:
        """Whether ``if_name`` asks for a TUN device."""
        return self.if_name not in ("none", "dummy")

    def firewall_rules(self) -> Ruleset | None:
        """Return the rules of the packet filter, compiled; None without one. Raises ``ConfigError``."""
        return None if self.firewall is None else self.firewall.ruleset()

    def public_node_info(self) -> bytes:
        """Return the JSON that others get when they ask for this node's info (section 10).

        Unless ``node_info_privacy``, it also tells name, version, platform and architecture of this build. Raises
        ``ConfigError`` when it is longer than ``MAX_NODE_INFO_SIZE`` or holds what JSON cannot express.
        """
        from yggpy.config.writing import compact_json

        info = dict(self.node_info or {})
        if not self.node_info_privacy:
            machine = os.uname().machine
            info["buildname"] = BUILD_NAME
            info["buildversion"] = build_version()
            info["buildplatform"] = _GO_PLATFORMS.get(sys.platform, sys.platform)
            info["buildarch"] = _GO_ARCHITECTURES.get(machine, machine)
        text = compact_json(info).encode()
        if len(text) > MAX_NODE_INFO_SIZE:
            raise ConfigError(
                f"NodeInfo exceeds max length of {MAX_NODE_INFO_SIZE} bytes: it has {len(text)}; shorten it",
                "NodeInfo",
            )
        return text

    def check(self) -> None:
        """Raise ``ConfigError`` for all that can be seen to be unusable before a node is made from this configuration.

        URIs are not looked at here, since only the links know them.
        """
        problems = Problems()
        for index, text in enumerate(self.allowed_public_keys):
            problems.attempt(lambda: _allowed_key(index, text))  # noqa: B023  called at once
        problems.attempt(self.public_node_info)
        problems.attempt(self.firewall_rules, "Firewall")
        if self.dns is not None:
            problems.attempt(self.dns.check, "DNS")
        for index, interface in enumerate(self.multicast_interfaces):
            problems.attempt(interface.pattern, f"MulticastInterfaces[{index}].Regex")
        problems.raise_any()


def _allowed_key(index: int, text: str) -> bytes:
    where = f"AllowedPublicKeys[{index}]"
    try:
        key = binascii.unhexlify(text)
    except ValueError:
        raise ConfigError(f'AllowedPublicKeys: "{text}" is not hexadecimal', where) from None
    if len(key) != PUBLIC_KEY_SIZE:
        raise ConfigError(
            f'AllowedPublicKeys: "{text}" is {len(key)} bytes long; a public key has {PUBLIC_KEY_SIZE}', where
        )
    return key
