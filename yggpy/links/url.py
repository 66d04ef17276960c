"""URLs as Go's ``net/url`` reads and prints them, with its error texts.

Peerings are known by the printed form of their URI: in configurations, in ``getPeers`` and for ``removePeer``. Python's
``urllib`` differs in what it accepts, in what it normalises and in what it says, so a URI that names a peering in a Go
node would name none here, or another one. This is the generic part; what a peering URI's query means is in ``uri``.

Text is handled as UTF-8 bytes, as in Go: an escape may decode to any byte (a password need not be text).
"""

from __future__ import annotations

import ipaddress
import re
import string
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from yggpy.errors import PeerUriError

__all__ = ["MAX_URL_LENGTH", "Url", "go_quote", "parse_query", "parse_url", "split_host_port", "without_secrets"]

MAX_URL_LENGTH = 4096
"""Characters of the longest URI that is looked at; far more than any peering needs."""

_ALWAYS_PLAIN = frozenset((string.ascii_letters + string.digits + "-_.~").encode())
_HEX_DIGITS = frozenset(string.hexdigits.encode())
_SCHEME = re.compile(rb"[a-zA-Z][a-zA-Z0-9+.-]*")
_SURROGATES = re.compile("[\ud800-\udfff]")
_PASSWORD = re.compile(r'(?i)(?<=[?&]password=)(?:[^&#"\\]|\\.|"(?!$|:\x20))*')
"""The value of the option, also within Go's quotes, which end at the message's end or before a colon."""
_OPTIONAL_PORT = re.compile(rb"(?::[0-9]*)?")
_USERINFO = re.compile(rb"[A-Za-z0-9._:~!$&'()*+,;=%@-]*")
_QUOTED_CONTROLS = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


class _Part(Enum):
    """The parts of a URL that have rules of their own about which characters stand for themselves."""

    PATH = auto()
    HOST = auto()
    ZONE = auto()
    USER = auto()
    QUERY = auto()
    FRAGMENT = auto()


_PLAIN = {
    _Part.PATH: _ALWAYS_PLAIN | frozenset(b"$&+,/:;=@"),
    _Part.HOST: _ALWAYS_PLAIN | frozenset(b"!$&'()*+,;=:[]<>\""),
    _Part.ZONE: _ALWAYS_PLAIN | frozenset(b"!$&'()*+,;=:[]<>\""),
    _Part.USER: _ALWAYS_PLAIN | frozenset(b"$&+,;="),
    _Part.QUERY: _ALWAYS_PLAIN,
    _Part.FRAGMENT: _ALWAYS_PLAIN | frozenset(b"$&+,/:;=?@!()*"),
}
# Characters that Go does not write itself, but keeps when the user wrote them.
_TOLERATED = {_Part.PATH: frozenset(b"!$&'()*+,;=:@[]"), _Part.FRAGMENT: frozenset(b"!$&'()*+,;=:@[]")}


def go_quote(text: bytes) -> str:
    """Return ``text`` as Go's ``%q`` prints it: in double quotes, with escapes."""
    quoted = []
    for character in text.decode("utf-8", "surrogateescape"):
        code = ord(character)
        if code in _QUOTED_CONTROLS:
            quoted.append(_QUOTED_CONTROLS[code])
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
            quoted.append(f"\\x{code - 0xDC00:02x}")
        elif code < 0x80 and not character.isprintable():
            quoted.append(f"\\x{code:02x}")
        elif not character.isprintable():
            quoted.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
        else:
            quoted.append(character)
    return '"' + "".join(quoted) + '"'


class _InvalidUrlError(Exception):
    """What is wrong, without the URL; never leaves this file."""


def _unescape(text: bytes, part: _Part) -> bytes:
    """Resolve ``%XX`` (and ``+`` in queries) of one part."""
    out = bytearray()
    index = 0
    while index < len(text):
        byte = text[index]
        if byte == 0x25:
            triplet = text[index : index + 3]
            if len(triplet) < 3 or triplet[1] not in _HEX_DIGITS or triplet[2] not in _HEX_DIGITS:
                raise _InvalidUrlError(f"invalid URL escape {go_quote(triplet)}")
            value = int(triplet[1:], 16)
            # A host may escape only what is no ASCII, and the % before a zone; a zone also spaces and host characters.
            if part is _Part.HOST and value < 0x80 and triplet != b"%25":
                raise _InvalidUrlError(f"invalid URL escape {go_quote(triplet)}")
            if part is _Part.ZONE and triplet != b"%25" and value != 0x20 and value not in _PLAIN[_Part.HOST]:
                raise _InvalidUrlError(f"invalid URL escape {go_quote(triplet)}")
            out.append(value)
            index += 3
            continue
        if part is _Part.QUERY and byte == 0x2B:
            byte = 0x20
        elif part in (_Part.HOST, _Part.ZONE) and byte < 0x80 and byte not in _PLAIN[part]:
            raise _InvalidUrlError(f"invalid character {go_quote(text[index : index + 1])} in host name")
        out.append(byte)
        index += 1
    return bytes(out)


def _escape(text: bytes, part: _Part) -> str:
    plain = _PLAIN[part]
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text)


def _escape_as_written(text: bytes, written: bytes, part: _Part) -> str:
    """Print ``text`` the way it was written when that was legal, else escape it afresh."""
    legal = _PLAIN[part] | _TOLERATED[part] | {0x25}
    if all(byte in legal for byte in written):
        return written.decode()
    return _escape(text, part)


@dataclass(frozen=True, slots=True)
class Url:
    """A parsed URL. ``str()`` prints it as Go does; equal text means the same peering."""

    scheme: str = ""
    opaque: bytes = b""
    """What follows ``scheme:`` when that is not a slash."""
    user: bytes | None = None
    password: bytes | None = None
    host: bytes = b""
    """``host:port`` without escapes; an IPv6 host has brackets."""
    path: bytes = b""
    written_path: bytes = field(default=b"", compare=False)
    no_authority: bool = False
    query: bytes = b""
    """As written, without the question mark."""
    force_query: bool = False
    fragment: bytes = b""
    written_fragment: bytes = field(default=b"", compare=False)

    def without_query(self) -> Url:
        """Return the URL by which a peering is known (a bare ``?`` stays, as in Go)."""
        return replace(self, query=b"")

    def with_host(self, host: str) -> Url:
        """Return the URL with another ``host:port``."""
        return replace(self, host=_encode(host))

    def __str__(self) -> str:
        text = f"{self.scheme}:" if self.scheme else ""
        if self.opaque:
            text += self.opaque.decode("utf-8", "replace")
        else:
            text += self._authority_text()
            path = "*" if self.path == b"*" else _escape_as_written(self.path, self.written_path, _Part.PATH)
            text += ("/" if path and path[0] != "/" and self.host else "") + path
        if self.force_query or self.query:
            text += "?" + self.query.decode("utf-8", "replace")
        if self.fragment:
            text += "#" + _escape_as_written(self.fragment, self.written_fragment, _Part.FRAGMENT)
        return text

    def _authority_text(self) -> str:
        if not self.scheme and not self.host and self.user is None:
            return ""
        if self.no_authority and not self.host and self.user is None:
            return ""
        text = "//" if self.host or self.path or self.user is not None else ""
        if self.user is not None:
            text += _escape(self.user, _Part.USER)
            if self.password is not None:
                text += ":" + _escape(self.password, _Part.USER)
            text += "@"
        return text + _escape(self.host, _Part.HOST)


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # lone surrogates, which JSON can bring; Go reads them as U+FFFD
        return _SURROGATES.sub("\ufffd", text).encode()


def without_secrets(text: str) -> str:
    """Return a URI, or an error's text that quotes one, for a log: with ``***`` instead of passwords."""
    scheme, separator, rest = text.partition("://")
    authority, mark, query = rest.partition("?")
    user, at, host = authority.rpartition("@")
    if at and ":" in user:
        authority = f"***@{host}"
    return _PASSWORD.sub("***", f"{scheme}{separator}{authority}{mark}{query}")


def parse_url(text: str) -> Url:
    """Parse ``text``; raises ``PeerUriError`` with Go's words (``parse "tcp://[::1": missing ']' in host``)."""
    data = _encode(text)
    if len(data) > MAX_URL_LENGTH:
        raise PeerUriError(f"URI is longer than {MAX_URL_LENGTH} bytes")
    rest, _, fragment = data.partition(b"#")
    try:
        url = _parse(rest)
    except _InvalidUrlError as error:
        raise PeerUriError(f"parse {go_quote(rest)}: {error}") from None
    if not fragment:
        return url
    try:
        return replace(url, fragment=_unescape(fragment, _Part.FRAGMENT), written_fragment=fragment)
    except _InvalidUrlError as error:
        raise PeerUriError(f"parse {go_quote(data)}: {error}") from None


def _parse(text: bytes) -> Url:
    if any(byte < 0x20 or byte == 0x7F for byte in text):
        raise _InvalidUrlError("net/url: invalid control character in URL")
    if text == b"*":
        return Url(path=b"*")
    scheme, rest = _split_scheme(text)
    force_query = rest.endswith(b"?") and rest.count(b"?") == 1
    rest, _, query = rest.partition(b"?")
    url = Url(scheme=scheme, query=query, force_query=force_query)
    if not rest.startswith(b"/"):
        if scheme:
            return replace(url, opaque=rest)
        if b":" in rest.partition(b"/")[0]:
            raise _InvalidUrlError("first path segment in URL cannot contain colon")
    if rest.startswith(b"//") and (scheme or not rest.startswith(b"///")):
        authority, slash, tail = rest[2:].partition(b"/")
        url = _with_authority(url, authority)
        rest = slash + tail
    elif scheme and rest.startswith(b"/"):
        url = replace(url, no_authority=True)
    return replace(url, path=_unescape(rest, _Part.PATH), written_path=rest)


def _split_scheme(text: bytes) -> tuple[str, bytes]:
    match = _SCHEME.match(text)
    if match is not None and text[match.end() : match.end() + 1] == b":":
        return match.group().decode().lower(), text[match.end() + 1 :]
    if text.startswith(b":"):
        raise _InvalidUrlError("missing protocol scheme")
    return "", text


def _with_authority(url: Url, authority: bytes) -> Url:
    userinfo, at, host = authority.rpartition(b"@")
    url = replace(url, host=_parse_host(host))
    if not at:
        return url
    if not _USERINFO.fullmatch(userinfo):
        raise _InvalidUrlError("net/url: invalid userinfo")
    user, colon, password = userinfo.partition(b":")
    return replace(url, user=_unescape(user, _Part.USER), password=_unescape(password, _Part.USER) if colon else None)


def _parse_host(host: bytes) -> bytes:
    bracket = host.rfind(b"[")
    if bracket > 0:
        raise _InvalidUrlError("invalid IP-literal")
    if bracket == 0:
        return _parse_ip_literal(host)
    colon = host.rfind(b":")
    if colon >= 0:
        _check_port(host[colon:])
    return _unescape(host, _Part.HOST)


def _parse_ip_literal(host: bytes) -> bytes:
    end = host.rfind(b"]")
    if end < 0:
        raise _InvalidUrlError("missing ']' in host")
    _check_port(host[end + 1 :])
    name = host[1:end]
    zone = name.find(b"%25")
    if zone >= 0:
        name = _unescape(name[:zone], _Part.HOST) + _unescape(name[zone:], _Part.ZONE)
    else:
        name = _unescape(name, _Part.HOST)
    _check_ip(name)
    return b"[" + name + b"]" + _unescape(host[end + 1 :], _Part.HOST)


def _check_port(port: bytes) -> None:
    if not _OPTIONAL_PORT.fullmatch(port):
        raise _InvalidUrlError(f"invalid port {go_quote(port)} after host")


def _check_ip(name: bytes) -> None:
    """Brackets may hold an IPv6 address with an optional zone, and nothing else."""
    text = name.decode("utf-8", "surrogateescape")
    address, percent, zone = text.partition("%")
    if percent and not zone:
        raise _InvalidUrlError(f"invalid host: ParseAddr({go_quote(name)}): zone must be a non-empty string")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        raise _InvalidUrlError(f"invalid host: ParseAddr({go_quote(name)}): unable to parse IP") from None
    if version != 6:
        raise _InvalidUrlError("invalid IP-literal")


def parse_query(query: bytes) -> dict[str, list[bytes]]:
    """Return the values of each name, in order. Malformed parts (bad escapes, semicolons) are left out, as in Go."""
    values: dict[str, list[bytes]] = {}
    for part in query.split(b"&"):
        if not part or b";" in part:
            continue
        name, _, value = part.partition(b"=")
        try:
            key = _unescape(name, _Part.QUERY).decode("utf-8", "replace")
            decoded = _unescape(value, _Part.QUERY)
        except _InvalidUrlError:
            continue
        values.setdefault(key, []).append(decoded)
    return values


def split_host_port(text: str) -> tuple[str, str]:
    """Split ``host:port`` or ``[host]:port``; raises ``ValueError`` with Go's words (``address X: missing port …``)."""
    where = f"address {text}: " if text else ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise ValueError(where + "missing ']' in address")
        if not rest.startswith(":"):
            raise ValueError(where + "missing port in address")
        port = rest[1:]
        if ":" in port:
            raise ValueError(where + "too many colons in address")
    else:
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(where + "missing port in address")
        if ":" in host:
            raise ValueError(where + "too many colons in address")
    for bracket in "[]":
        if bracket in host or bracket in port:
            raise ValueError(where + f"unexpected '{bracket}' in address")
    return host, port
