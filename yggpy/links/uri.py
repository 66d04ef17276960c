"""Peering and listening URIs: schemes, options, and the identity of a peering (protocol sections 2.1 to 2.3).

All checks happen when the peering is added, before anything is dialled; the texts of the errors are those of
yggdrasil-go, which tools show and people search for.
"""

from __future__ import annotations

import binascii
import ipaddress
import os
import re
from dataclasses import dataclass

from yggpy.errors import PeerUriError
from yggpy.keys import PUBLIC_KEY_SIZE
from yggpy.links.url import Url, parse_query, parse_url, split_host_port
from yggpy.routing.links import MAX_LINK_COST
from yggpy.wire.handshake import MAX_PASSWORD

__all__ = [
    "DEFAULT_MAX_BACKOFF",
    "MIN_MAX_BACKOFF",
    "AlreadyConfiguredError",
    "LinkOptions",
    "LinkUri",
    "NotConfiguredError",
    "parse_duration",
]

DEFAULT_MAX_BACKOFF = 4096.0
"""Longest wait in seconds between two attempts to dial a peer."""
MIN_MAX_BACKOFF = 5.0
"""Smallest ``maxbackoff`` in seconds that the option accepts."""

SCHEME_UNKNOWN = "link schema unknown"

_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_MAX_NANOSECONDS = (1 << 63) - 1


class AlreadyConfiguredError(PeerUriError):
    """There is a peering with this URI (without query) and source interface already; it has been kicked."""

    def __init__(self) -> None:
        super().__init__("peer is already configured")


class NotConfiguredError(PeerUriError):
    """There is no peering or incoming link with this URI and source interface."""

    def __init__(self) -> None:
        super().__init__("peer is not configured")


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """The query options of a URI, checked (section 2.2)."""

    pinned_keys: frozenset[bytes] = frozenset()
    """Node keys, one of which the other side must have; empty: any."""
    priority: int = 0
    password: bytes = b""
    max_backoff: float = DEFAULT_MAX_BACKOFF
    """Seconds."""
    server_name: str | None = None
    """What TLS carriers send as server name; None sends none."""
    cost: int | None = None
    """What routing takes the link to cost; None: what its round trip says. Ours alone: Go has no such option."""


@dataclass(frozen=True, slots=True)
class LinkUri:
    """A peering or listening URI. ``str()`` is the URI without its query: the identity, as ``getPeers`` shows it."""

    url: Url

    @classmethod
    def parse(cls, text: str) -> LinkUri:
        """Parse; raises ``PeerUriError``: ``parse "…": …``. Whether the scheme is known is not asked here."""
        return cls(parse_url(text))

    @property
    def scheme(self) -> str:
        """In lower case."""
        return self.url.scheme

    @property
    def host_port(self) -> str:
        """``host:port`` as written, without escapes; bytes that are no UTF-8 are replaced."""
        return self.url.host.decode("utf-8", "replace")

    @property
    def path(self) -> str:
        """The path as file names are written, without escapes: that of a unix socket."""
        return os.fsdecode(self.url.path)

    @property
    def origins(self) -> list[str]:
        """The ``origin`` options of a listener, in order, without the empty ones."""
        values = parse_query(self.url.query).get("origin", [])
        return [value.decode("utf-8", "replace") for value in values if value]

    def with_host(self, host_port: str) -> LinkUri:
        """Return the URI of an incoming link: this listener's, with the remote address."""
        return LinkUri(self.url.with_host(host_port))

    def __str__(self) -> str:
        return str(self.url.without_query())

    def dial_options(self) -> LinkOptions:
        """Check and return the options of a peering; raises ``PeerUriError`` for the first wrong one, in Go's order."""
        query = parse_query(self.url.query)
        pinned = frozenset(_pinned_key(value) for value in query.get("key", []))
        priority, password = _common_options(query)
        max_backoff = _max_backoff(query)
        return LinkOptions(pinned, priority, password, max_backoff, self._server_name(query), _cost(query))

    def listen_options(self) -> LinkOptions:
        """Check and return the options of a listener: ``priority``, ``password`` and ``cost``."""
        query = parse_query(self.url.query)
        priority, password = _common_options(query)
        return LinkOptions(priority=priority, password=password, cost=_cost(query))

    def _server_name(self, query: dict[str, list[bytes]]) -> str | None:
        """The ``sni`` option unless it is an address, else the host unless it is one, else none."""
        name = _first(query, "sni").decode("utf-8", "replace")
        if name and not _is_ip(name):
            return name
        try:
            host, _ = split_host_port(self.host_port)
        except ValueError:
            return None
        host = host.partition("%")[0].rstrip(".")
        return host if host and not _is_ip(host) else None


def _first(query: dict[str, list[bytes]], name: str) -> bytes:
    values = query.get(name)
    return values[0] if values else b""


def _pinned_key(value: bytes) -> bytes:
    """Hex of any even length, cut or zero-padded to the size of a key, as Go does."""
    try:
        key = binascii.unhexlify(value)
    except binascii.Error:
        raise PeerUriError("pinned public key is invalid") from None
    return key[:PUBLIC_KEY_SIZE].ljust(PUBLIC_KEY_SIZE, b"\0")


def _common_options(query: dict[str, list[bytes]]) -> tuple[int, bytes]:
    priority = 0
    text = _first(query, "priority")
    if text:
        digits = text.lstrip(b"0")
        if not text.isdigit() or len(digits) > 3 or int(digits or b"0") > 255:
            raise PeerUriError("priority value is invalid")
        priority = int(digits or b"0")
    password = _first(query, "password")
    if len(password) > MAX_PASSWORD:
        raise PeerUriError("invalid password supplied")
    return priority, password


def _cost(query: dict[str, list[bytes]]) -> int | None:
    text = _first(query, "cost")
    if not text:
        return None
    digits = text.lstrip(b"0")
    if not text.isdigit() or not 0 < len(digits) <= len(str(MAX_LINK_COST)) or int(digits) > MAX_LINK_COST:
        raise PeerUriError(f"cost value is invalid: it is a whole number from 1 to {MAX_LINK_COST}")
    return int(digits)


def _max_backoff(query: dict[str, list[bytes]]) -> float:
    text = _first(query, "maxbackoff")
    if not text:
        return DEFAULT_MAX_BACKOFF
    try:
        seconds = parse_duration(text.decode())
    except ValueError:
        raise PeerUriError("max backoff duration invalid") from None
    if seconds < MIN_MAX_BACKOFF:
        raise PeerUriError("max backoff duration invalid")
    return seconds


def parse_duration(text: str) -> float:
    """Return the seconds of a Go duration such as ``1m30s``, ``1.5h`` or ``300ms``; raises ``ValueError``."""
    from fractions import Fraction  # seldom needed

    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if body == "0":
        return 0.0
    total = Fraction(0)
    position = 0
    while position < len(body):
        match = _DURATION_PART.match(body, position)
        if match is None or not (match[1] or match[2]):
            break
        digits, fraction, unit = match[1] or "0", match[2] or "", match[3]
        if len(digits) + len(fraction) > 64:
            break  # no such number fits
        total += Fraction(int(digits + fraction) * _UNITS[unit], 10 ** len(fraction))
        position = match.end()
    if not body or position < len(body) or total > _MAX_NANOSECONDS:
        raise ValueError(f"invalid duration {text!r}")
    return float(sign * total / 10**9)


def _is_ip(text: str) -> bool:
    try:
        return ipaddress.ip_address(text) is not None and "%" not in text
    except ValueError:
        return False
