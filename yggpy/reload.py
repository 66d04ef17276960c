"""Going over to another configuration while the node runs, without harm to what both configurations want.

``compare`` looks at the two (no I/O) and ``go_over`` carries out what it finds. Everything is checked before anything
is touched, so a configuration with a mistake changes nothing at all. What changes:

* ``Peers``, ``InterfacePeers``: those that are gone are closed, new ones dialled, those with other options too.
  What ``addPeer`` added stays, what ``removePeer`` removed comes back if the file has it.
* ``Listen``: the same for listeners; links that came in by them stay.
* ``AllowedPublicKeys``: links that came in from other keys are closed.
* ``MulticastInterfaces``: discovery begins anew. Links with neighbours stay where the new entries would make the same
  ones.
* ``Firewall``: its rules; flows that it knows go on.
* ``DNS``: names and who may announce them; the responder's sockets stay open where both configurations have them.
* ``NodeInfo``, ``NodeInfoPrivacy``, ``LogLookups``.
* ``HTTPListen``: the daemon follows, not the node.

All other keys need a restart, and are named in a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

from yggpy.config import Config, MulticastInterface
from yggpy.config.problems import Problems
from yggpy.core import Core
from yggpy.errors import ConfigError, PeerUriError
from yggpy.firewall import Ruleset
from yggpy.links.manager import AlreadyConfiguredError, LinkManager, NotConfiguredError
from yggpy.links.transports import parse_listener, parse_peering
from yggpy.links.uri import LinkUri
from yggpy.links.url import without_secrets
from yggpy.multicast.model import interface_rules
from yggpy.status import NamesStatus

__all__ = ["Changes", "ReloadReport", "ReloadableNode", "check_config", "compare", "go_over"]

_FOLLOWED = frozenset(
    (
        "peers",
        "interface_peers",
        "listen",
        "allowed_public_keys",
        "multicast_interfaces",
        "node_info",
        "node_info_privacy",
        "log_lookups",
        "firewall",
        "http_listen",  # by the daemon, whose it is
        "dns",
    )
)
_NO_KEYS = frozenset(("private_key_path", "null_keys", "unknown_keys"))
"""Attributes that say how something was written, not what."""
_SPELT_OTHERWISE = {"if_mtu": "IfMTU"}
FIXED = {
    _SPELT_OTHERWISE.get(attribute.name, attribute.name.title().replace("_", "")): attribute.name
    for attribute in fields(Config)
    if attribute.name not in _FOLLOWED | _NO_KEYS
}
"""Keys that need a restart, and their attributes: all that nobody has taught to follow."""

Peering = tuple[str, str]
"""URI and source interface."""


@dataclass(frozen=True, slots=True)
class ReloadReport:
    """What a reload did, in lines for the operator."""

    changes: tuple[str, ...]
    warnings: tuple[str, ...]
    """What was asked for and could not be done."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How two configurations differ, as far as a running node can follow. None: that has not changed."""

    peers: tuple[Peering, ...] = ()
    """All that the new one has, without those that are there twice."""
    peers_gone: tuple[Peering, ...] = ()
    """To be closed, perhaps to be dialled anew with other options."""
    listeners: tuple[str, ...] = ()
    listeners_gone: tuple[str, ...] = ()
    allowed_keys: frozenset[bytes] | None = None
    multicast: tuple[MulticastInterface, ...] | None = None
    neighbour_unwanted: Callable[[str], bool] = field(default=lambda interface: False, compare=False)
    """Whether links with neighbours on this interface are not what the new ``multicast`` would make."""
    node_info: bytes | None = None
    log_lookups: bool | None = None
    firewall: bool = False
    """Whether the packet filter has changed; what it is then may be None, too."""
    dns: bool = False
    """Whether names have changed; there may be none then."""
    fixed: tuple[str, ...] = ()
    """Keys that differ and need a restart."""


class ReloadableNode(Protocol):
    """What ``go_over`` asks of a node."""

    config: Config

    @property
    def links(self) -> LinkManager: ...
    @property
    def core(self) -> Core: ...
    def listening_on(self, uri: str) -> bool: ...
    async def listen(self, uri: str) -> bool: ...
    def stop_listening(self, uri: str) -> None: ...
    def set_firewall(self, rules: Ruleset | None) -> None: ...
    def record_lookups(self, on: bool) -> None: ...
    async def restart_multicast(self) -> None: ...
    async def apply_dns(self) -> list[str]: ...
    def status_names(self) -> NamesStatus | None: ...


def check_config(config: Config) -> None:
    """Raise ``ConfigError`` with all that is wrong in ``config``, URIs included, which ``Config.check`` leaves out."""
    problems = Problems()
    problems.attempt(config.check)
    lists = {"Peers": config.peers, **{f"InterfacePeers.{name}": uris for name, uris in config.interface_peers.items()}}
    for key, uris in lists.items():
        for index, uri in enumerate(uris):
            _check_uri(problems, f"{key}[{index}]", uri, parse_peering)
    for index, uri in enumerate(config.listen):
        _check_uri(problems, f"Listen[{index}]", uri, parse_listener)
    problems.raise_any()


def _check_uri(problems: Problems, key: str, uri: str, parse: Callable[[str], object]) -> None:
    def attempt() -> None:
        try:
            parse(uri)
        except (PeerUriError, OSError) as error:
            reason = without_secrets(str(error))
            raise ConfigError(f'{key}: cannot use "{without_secrets(uri)}": {reason}', key) from None

    problems.attempt(attempt)


def compare(old: Config, new: Config) -> Changes:
    """Return what is to be done to go from ``old``, which a node has been running with, to ``new``.

    Raises ``ConfigError`` with all that is wrong in ``new``.
    """
    check_config(new)
    peers, peers_before = _peers(new), _peers(old)
    allowed = new.allowed_keys()
    info = new.public_node_info()
    multicast = tuple(new.multicast_interfaces) if new.multicast_interfaces != old.multicast_interfaces else None
    return Changes(
        peers=tuple(peers.values()),
        peers_gone=tuple(peer for identity, peer in peers_before.items() if peers.get(identity) != peer),
        listeners=tuple(dict.fromkeys(new.listen)),
        listeners_gone=tuple(uri for uri in dict.fromkeys(old.listen) if uri not in new.listen),
        allowed_keys=allowed if allowed != old.allowed_keys() else None,
        multicast=multicast,
        neighbour_unwanted=_judge_of_neighbours(old.multicast_interfaces, new.multicast_interfaces),
        node_info=info if info != old.public_node_info() else None,
        log_lookups=new.log_lookups if new.log_lookups != old.log_lookups else None,
        firewall=new.firewall != old.firewall,
        dns=new.dns != old.dns,
        fixed=tuple(key for key, attribute in FIXED.items() if getattr(new, attribute) != getattr(old, attribute)),
    )


def _peers(config: Config) -> Mapping[tuple[str, str], Peering]:
    """Return the peerings by identity; the first of two with the same one counts, as at the start."""
    found: dict[tuple[str, str], Peering] = {}
    for interface, uris in (("", config.peers), *config.interface_peers.items()):
        for uri in uris:
            found.setdefault((str(LinkUri.parse(uri)), interface), (uri, interface))
    return found


def _judge_of_neighbours(old: Iterable[MulticastInterface], new: Iterable[MulticastInterface]) -> Callable[[str], bool]:
    before, after = interface_rules(old)[0], interface_rules(new)[0]

    def unwanted(interface: str) -> bool:
        terms = []
        for rules in (before, after):
            rule = next((rule for rule in rules if rule.pattern.search(interface)), None)
            terms.append(rule and (rule.priority, rule.password, rule.cost))
        return terms[1] is None or terms[0] != terms[1]

    return unwanted


async def go_over(node: ReloadableNode, new: Config) -> ReloadReport:
    """Let ``node`` become what ``new`` says. Raises ``ConfigError``; then nothing has changed."""
    changes = compare(node.config, new)
    kept = {attribute: getattr(node.config, attribute) for attribute in (*FIXED.values(), "private_key_path")}
    node.config = replace(new, **kept)
    done: list[str] = []
    warnings = [f"{key} has changed, which needs a restart" for key in changes.fixed]
    _change_peers(node.links, changes, done)
    for uri in changes.listeners_gone:
        if node.listening_on(uri):
            node.stop_listening(uri)
            done.append(f"listener {_shown(uri)} closed")
    for uri in changes.listeners:
        if not node.listening_on(uri):
            if await node.listen(uri):
                done.append(f"listener {_shown(uri)} opened")
            else:
                warnings.append(f"listener {_shown(uri)} could not be opened; the log says why")
    if changes.allowed_keys is not None:
        closed = node.links.allow(changes.allowed_keys)
        done += [
            "AllowedPublicKeys changed",
            *(f"link {uri} closed: its key is not allowed any more" for uri in closed),
        ]
    if changes.multicast is not None:
        await node.restart_multicast()
        dropped = node.links.drop_neighbours(changes.neighbour_unwanted)
        done += ["MulticastInterfaces changed", *(f"link {uri} closed: not with these settings" for uri in dropped)]
    if changes.node_info is not None:
        node.core.introspection.node_info = changes.node_info
        done.append("NodeInfo changed")
    if changes.firewall:
        node.set_firewall(node.config.firewall_rules())
        done.append("Firewall changed")
    if changes.dns or node.config.dns is not None:  # NodeInfo may have another name, and sockets that failed are tried
        before = _dns_sockets(node)
        warnings += await node.apply_dns()
        opened = [where for where in _dns_sockets(node) if where not in before]
        done += ["DNS changed"] if changes.dns else [f"DNS responder listens on {where} now" for where in opened]
    if changes.log_lookups is not None:
        node.record_lookups(changes.log_lookups)
        done.append(f"LogLookups is {str(changes.log_lookups).lower()} now")
    return ReloadReport(tuple(done), tuple(warnings))


def _dns_sockets(node: ReloadableNode) -> tuple[str, ...]:
    names = node.status_names()
    return () if names is None else names.listening


def _change_peers(links: LinkManager, changes: Changes, done: list[str]) -> None:
    for uri, interface in changes.peers_gone:
        try:
            links.remove_peer(uri, interface)
        except NotConfiguredError:
            continue  # removePeer was quicker
        if (uri, interface) not in changes.peers:
            done.append(f"peer {_shown(uri, interface)} removed")
    for uri, interface in changes.peers:
        if links.has_link(str(LinkUri.parse(uri)), interface):
            continue
        try:
            links.add_peer(uri, interface)
        except AlreadyConfiguredError:
            continue
        done.append(f"peer {_shown(uri, interface)} added")


def _shown(uri: str, interface: str = "") -> str:
    """Return ``uri`` without its query, which may hold a password, and without a proxy's user and password."""
    return f"{without_secrets(str(LinkUri.parse(uri)))}{f' via {interface}' if interface else ''}"
