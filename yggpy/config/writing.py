"""Writes a configuration as HJSON with comments or as JSON, spelt as the Go node spells it.

Equal spelling matters to people who diff configurations, and to scripts that look for ``PrivateKey: `` in a file. Both
writers work on the same tree of keys and values and follow hjson-go and Go's encoding/json in quoting, escapes and
numbers. The comments say what Go's say, in our words and in as many lines.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from yggpy.config.firewall import firewall_tree
from yggpy.errors import ConfigError

if TYPE_CHECKING:
    from yggpy.config.model import Config, MulticastInterface

__all__ = ["compact_json", "config_to_hjson", "config_to_json"]

_INDENT = "  "
_SMALLEST_PLAIN_FLOAT = 1e-6
_LARGEST_PLAIN_FLOAT = 1e21
_SURROGATES = re.compile("[\ud800-\udfff]")
_JSON_EXTRA_ESCAPES = re.compile("[<>&\u2028\u2029]")

_COMMENTS = {
    "PrivateKey": "The secret key of this node: whoever knows it IS this node. Never share it!",
    "PrivateKeyPath": "A PEM file that holds the secret key of this node.",
    "Peers": """\
Peers to connect to, one URI each: tls://host:port, tcp://host:port, or
through a SOCKS proxy socks://proxyhost:proxyport/host:port. Options may
follow a "?": key, password, priority, maxbackoff, sni, cost. Options are on
https://yggdrasil-network.github.io/configurationref.html#peers
Traffic of the network passes through these connections; there are no
bootstrap servers that would only introduce nodes to each other. Choose
a few peers that are near and have good lines. Far-away peers make your
own connections slower, and those of others that pass through you.""",
    "InterfacePeers": """\
Peers to connect to from a certain network interface of this machine,
as lists of URIs by interface: { "eth0": [ "tls://host:port" ] }. This
is for machines with several ways out, where each connection shall use
a way of its own. In all other cases the list for your peers is
"Peers".""",
    "Listen": """\
Addresses on which other nodes may connect to this one, as URIs such as
tls://0.0.0.0:0 or tls://[::]:0 (all interfaces; port 0: any that is
free). Without a listener only this node can open connections to others
beyond the local network. To connect to your own "Peers" you need none.
Neighbours found by multicast connect to listeners of their own, which
do not stand here.""",
    "AdminListen": """\
Where yggdrasilctl and other tools reach this node: a unix:// or tcp://
URI. Give the same to yggdrasilctl as -endpoint=URI. The default is a
UNIX socket that only users with the right to it can open.
"none" means no admin socket.""",
    "HTTPListen": """\
Where monitoring reaches this node by HTTP (/healthz, /readyz, /metrics);
an addition of yggpy, which the Go node ignores. A unix:// or tcp:// URI
or host:port; empty or "none": nowhere. See docs/metrics.md.""",
    "MulticastInterfaces": """\
Which network interfaces to use for finding neighbours in the local
network. For an interface, the first entry counts whose Regex (a regular
expression) matches its name. Beacon: tell others there that this node
exists. Listen: hear others who tell so, and connect to them. An entry
may also have Port and Priority for the listener made for neighbours,
and a Password that neighbours must know, too; see
https://yggdrasil-network.github.io/configurationref.html#multicastinterfaces
for all that an entry can have.""",
    "AllowedPublicKeys": """\
Public keys of the nodes that may connect to a listener of this one.
An empty list lets every node connect. Peers that this node connects
to by itself are not checked, nor are neighbours found by multicast.
NOTE WELL: THIS IS NO FIREWALL. It decides who may be a direct peer,
not who in the whole network can reach the services of this machine.
To decide the latter, use a firewall, or GroupPassword, which is the
next option below.""",
    "GroupPassword": """\
Nodes exchange traffic with each other only if their group passwords
are the same. With a strong password, known to the members alone, some
nodes make a private network inside the public one: nobody else reaches
them. The price: with a password set you CANNOT reach anybody outside
the group. Without one, traffic with the public is possible as usual.
This does NOT decide who may be a peer, nor does it keep this node from
passing on the traffic of others.""",
    "IfName": """\
Name of the TUN interface to make; "auto" takes a free name and "none"
runs the node without an interface, as a router for others only.""",
    "IfMTU": """\
Largest packet (MTU) of the TUN interface in bytes, from 1280 to 65535.
The default is the largest value, and usually the best one: packets are
not cut on their way through the network.""",
    "NodeInfoPrivacy": """\
Nodes tell anyone who asks their platform, their architecture and the
name and version of their software. That helps to find out how the
network is doing and to look into problems of routing. With true this
node does not tell these, but only what stands in "NodeInfo", if
anything does.""",
    "NodeInfo": """\
Whatever you want to tell the network about this node, as an object like
{ "name": "my node", "contact": "me@example.org" }; null or {} to tell
nothing. Everybody who asks gets to see it.""",
    "Firewall": """\
Who in the network may send what to this machine; an addition of yggpy,
which the Go node ignores. What this machine sends is answered; what
else comes in must match a rule. See docs/firewall.md.""",
    "DNS": """\
Names of nodes, and a DNS responder that answers them; an addition of
yggpy, which the Go node ignores. "Listen": [] gathers names without
answering. A name counts if it stands in Hosts, or if a node announces it
in its NodeInfo whose key is in TrustedKeys, or in Pins with that name.
See docs/names.md.""",
}


# -- the tree that both writers print ------------------------------------------------------------------------


def _tree(config: Config) -> dict[str, Any]:
    """Return the configuration with Go's names and order; Go leaves the same ones out when they are empty."""

    def unless_null(key: str, value: Any) -> Any:
        return None if not value and key in config.null_keys else value

    tree: dict[str, Any] = {}
    if config.private_key_path:
        tree["PrivateKeyPath"] = config.private_key_path
    else:
        tree["PrivateKey"] = config.private_key.to_bytes().hex()
    tree["Peers"] = unless_null("Peers", config.peers)
    tree["InterfacePeers"] = unless_null(
        "InterfacePeers",
        {
            interface: unless_null(f"InterfacePeers.{interface}", uris)
            for interface, uris in sorted(config.interface_peers.items())
        },
    )
    tree["Listen"] = unless_null("Listen", config.listen)
    if config.admin_listen:
        tree["AdminListen"] = config.admin_listen
    if config.http_listen:
        tree["HTTPListen"] = config.http_listen
    tree["MulticastInterfaces"] = unless_null(
        "MulticastInterfaces", [_multicast_tree(interface) for interface in config.multicast_interfaces]
    )
    tree["AllowedPublicKeys"] = unless_null("AllowedPublicKeys", config.allowed_public_keys)
    tree["GroupPassword"] = config.group_password
    tree["IfName"] = config.if_name
    tree["IfMTU"] = config.if_mtu
    if config.log_lookups:
        tree["LogLookups"] = True
    if not config.transit:
        tree["Transit"] = False
    tree["NodeInfoPrivacy"] = config.node_info_privacy
    tree["NodeInfo"] = _checked(config.node_info)
    if config.firewall is not None:
        tree["Firewall"] = firewall_tree(config.firewall)
    if config.dns is not None:
        from yggpy.config.dns import dns_tree  # few have names

        tree["DNS"] = dns_tree(config.dns)
    return tree


def _multicast_tree(interface: MulticastInterface) -> dict[str, Any]:
    tree: dict[str, Any] = {"Regex": interface.regex, "Beacon": interface.beacon, "Listen": interface.listen}
    if interface.port:
        tree["Port"] = interface.port
    if interface.priority:
        tree["Priority"] = interface.priority
    tree["Password"] = interface.password
    if interface.cost:
        tree["Cost"] = interface.cost
    return tree


def _checked(value: Any) -> Any:
    """Return node info with sorted member names. Raises ``ConfigError`` for what JSON has no form for."""
    try:
        return _sorted(value)
    except RecursionError:
        raise ConfigError("NodeInfo is nested too deeply") from None


def _sorted(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_sorted(element) for element in value]
    raise ConfigError(f"NodeInfo holds {value!r}, which JSON cannot express")


# -- JSON ----------------------------------------------------------------------------------------------------


def config_to_json(config: Config) -> str:
    """Return ``config`` as JSON with two spaces of indent."""
    return _json(_tree(config), "\n")


def compact_json(value: Any) -> str:
    """Return node info as JSON without white space, members sorted. Raises ``ConfigError``."""
    return _json(_checked(value), None)


def _json(value: Any, newline: str | None) -> str:
    """Return the JSON of ``value``; ``newline`` is a line break and the current indent, or None for no white space."""
    inner = "" if newline is None else newline + _INDENT
    if isinstance(value, dict):
        colon = ":" if newline is None else ": "
        below = None if newline is None else inner
        items = [f"{_json_string(name)}{colon}{_json(member, below)}" for name, member in value.items()]
        return _json_block("{", items, "}", newline or "", inner)
    if isinstance(value, list):
        items = [_json(element, None if newline is None else inner) for element in value]
        return _json_block("[", items, "]", newline or "", inner)
    if isinstance(value, str):
        return _json_string(value)
    if isinstance(value, float):
        return _json_float(value)
    return json.dumps(value)


def _json_block(opening: str, items: list[str], closing: str, newline: str, inner: str) -> str:
    if not items:
        return opening + closing
    return opening + inner + f",{inner}".join(items) + newline + closing


def _json_string(text: str) -> str:
    quoted = json.dumps(_SURROGATES.sub("\ufffd", text), ensure_ascii=False)
    return _JSON_EXTRA_ESCAPES.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)


def _plain_digits(value: float) -> str:
    """Spell a float with its shortest digits and no exponent."""
    from decimal import Decimal  # seldom needed

    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _json_float(value: float) -> str:
    if value and not _SMALLEST_PLAIN_FLOAT <= abs(value) < _LARGEST_PLAIN_FLOAT:
        return _exponent_form(value).replace("e-0", "e-")
    return _plain_digits(value)


def _exponent_form(value: float) -> str:
    """Spell a float as ``1.5e+30``: shortest digits, an exponent of at least two digits."""
    from decimal import Decimal  # seldom needed

    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    fraction = "".join(map(str, digits[1:]))
    point = f".{fraction}" if fraction else ""
    return f"{'-' if sign else ''}{digits[0]}{point}e{exponent + len(digits) - 1:+03d}"


# -- HJSON ---------------------------------------------------------------------------------------------------

_INVISIBLE = "\x7f-\x9f\u00ad\u0600-\u0604\u070f\u17b4\u17b5\u200c-\u200f\u2028-\u202f\u2060-\u206f\ufeff\ufff0-\uffff"
_NEEDS_ESCAPE = re.compile(rf'[\\"\x00-\x1f{_INVISIBLE}]')
_NEEDS_QUOTES = re.compile(rf"""^(?:[\s"'#{{}}\[\]:,]|/[*/])|\s\Z|[\x00-\x1f{_INVISIBLE}]""", re.ASCII)
_UNFIT_FOR_MULTI_LINE = re.compile(rf"'''|^\s+\Z|[\x00-\x08\x0b-\x1f{_INVISIBLE}]", re.ASCII)
_END_OF_TOKEN = r"(?:\Z|[,}\]#]|//|/\*)"
_LOOKS_LIKE_KEYWORD = re.compile(rf"(?:true|false|null)\s*{_END_OF_TOKEN}", re.ASCII)
_LOOKS_LIKE_NUMBER = re.compile(rf"-?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?[\x01-\x20]*{_END_OF_TOKEN}")
_NAME_NEEDS_QUOTES = re.compile(r"""[,{\[}\]\s:#"']|//|/\*""", re.ASCII)
_SHORT_ESCAPES = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def config_to_hjson(config: Config) -> str:
    """Return ``config`` as HJSON, each key under its comment."""
    tree = _tree(config)
    last = next(reversed(tree))
    lines = ["{"]
    for key, value in tree.items():
        comment = _COMMENTS.get(key)
        if comment is not None:
            lines += [f"{_INDENT}# {line}" for line in comment.split("\n")]
        lines.append(f"{_INDENT}{key}:{_hjson_member(_hjson_value(key, value), 1)}")
        if comment is not None and key != last:
            lines.append("")
    lines.append("}")
    return "\n".join(lines)


class _Verbatim(str):
    """Text to be printed as it is."""

    __slots__ = ()


def _hjson_value(key: str, value: Any) -> Any:
    """Return the value of a key as HJSON shows it: null lists and maps as empty, numbers in node info as floats."""
    if value is None:
        return {} if key in ("InterfacePeers", "NodeInfo") else []
    if key == "InterfacePeers":
        return {interface: uris or [] for interface, uris in value.items()}
    return _spell_numbers(value) if key == "NodeInfo" else value


def _spell_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _spell_numbers(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_spell_numbers(element) for element in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _Verbatim(_hjson_number(value))
    return value


def _hjson_member(value: Any, level: int) -> str:
    """Return what follows a member's colon; ``level`` is the indent of the member's line."""
    text = _hjson(value, level)
    return text if text.startswith("\n") else f" {text}"


def _hjson(value: Any, level: int) -> str:
    """Return the HJSON of ``value``. A string of several lines begins with a line break."""
    newline = "\n" + _INDENT * level
    inner = newline + _INDENT
    if isinstance(value, dict):
        items = [f"{inner}{_hjson_name(name)}:{_hjson_member(member, level + 1)}" for name, member in value.items()]
        return "{" + "".join(items) + newline + "}" if items else "{}"
    if isinstance(value, list):
        items = [inner + _hjson(element, level + 1) for element in value]
        return "[" + "".join(items) + newline + "]" if items else "[]"
    if isinstance(value, str):
        return value if isinstance(value, _Verbatim) else _hjson_string(value, inner)
    return json.dumps(value)


def _hjson_number(value: int | float) -> str:
    if not value:
        return "0"
    try:
        plain, exponent = _plain_digits(float(value)), _exponent_form(float(value))
    except OverflowError:
        return str(value)
    return exponent if len(exponent) < len(plain) else plain


def _hjson_name(name: str) -> str:
    if not name or _NAME_NEEDS_QUOTES.search(name) or _NEEDS_ESCAPE.search(name):
        return f'"{_escaped(name)}"'
    return name


def _hjson_string(text: str, inner: str) -> str:
    text = _SURROGATES.sub("\ufffd", text)
    if not text:
        return '""'
    ambiguous = _LOOKS_LIKE_NUMBER.match(text) or _LOOKS_LIKE_KEYWORD.match(text)
    if not ambiguous and not _NEEDS_QUOTES.search(text) and text == text.strip():
        return text
    if not _NEEDS_ESCAPE.search(text):
        return f'"{text}"'
    if _UNFIT_FOR_MULTI_LINE.search(text):
        return f'"{_escaped(text)}"'
    lines = text.split("\n")
    if len(lines) == 1:
        # hjson-go does not see that the reader would drop leading space, and take a final quote for its own.
        unreadable = text[0].isspace() or text[-1] == "'"
        return f'"{_escaped(text)}"' if unreadable else f"'''{text}'''"
    body = "".join(inner + line if line else "\n" for line in lines)
    return f"{inner}'''{body}{inner}'''"


def _escaped(text: str) -> str:
    return _NEEDS_ESCAPE.sub(lambda match: _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}", text)
