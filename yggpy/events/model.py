"""The kinds of events, one frozen class each, in six groups. ``docs/subscribe.md`` is their description for readers.

An event is told after the fact: what it says was true at its ``time``. Keys are the nodes' public keys (32 bytes);
``as_json`` gives the same in types that JSON has, which is what the admin socket sends.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

__all__ = [
    "GROUPS",
    "Event",
    "EventsLost",
    "LinkDown",
    "LinkUp",
    "MulticastDown",
    "MulticastUp",
    "ParentChanged",
    "PathChanged",
    "PathFound",
    "PathLost",
    "PeerRetrying",
    "RootChanged",
    "SessionClosed",
    "SessionOpened",
    "TunDown",
    "TunUp",
]

GROUPS = ("links", "paths", "sessions", "tree", "tun", "multicast")
"""What a listener can choose from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened at ``time``, in seconds since the Unix epoch."""

    name: ClassVar[str] = ""
    """What ``event`` says in JSON."""
    group: ClassVar[str] = ""
    """The one of ``GROUPS`` that it belongs to."""
    time: float

    def as_json(self) -> dict[str, Any]:
        """Return the event as JSON has it: ``event`` first, then the members; those that are None are left out."""
        members: dict[str, Any] = {"event": self.name}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                members[field.name] = value.hex() if isinstance(value, bytes) else value
        return members


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp(Event):
    """The handshake of a link is done."""

    name: ClassVar[str] = "link_up"
    group: ClassVar[str] = "links"
    uri: str
    """As ``getPeers`` shows it in ``remote``, but without a proxy's user and password."""
    interface: str
    inbound: bool
    key: bytes
    address: str
    """The peer's address in the mesh."""
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDown(Event):
    """A link has ended."""

    name: ClassVar[str] = "link_down"
    group: ClassVar[str] = "links"
    uri: str
    interface: str
    inbound: bool
    key: bytes
    address: str
    reason: str
    """``closed by this node``, ``EOF`` (the other side closed it), or the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerRetrying(Event):
    """A configured peer is not there, and will be dialled again."""

    name: ClassVar[str] = "peer_retrying"
    group: ClassVar[str] = "links"
    uri: str
    interface: str
    reason: str
    """Why the last attempt failed, or the last link ended."""
    delay: float | None
    """Seconds until the next attempt; None: not before somebody asks for it (the peer is this node itself)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathFound(Event):
    """A look-up was answered: the node with ``key`` is at the coordinates ``path``."""

    name: ClassVar[str] = "path_found"
    group: ClassVar[str] = "paths"
    key: bytes
    address: str
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathChanged(Event):
    """A node whose path is known has other coordinates now."""

    name: ClassVar[str] = "path_changed"
    group: ClassVar[str] = "paths"
    key: bytes
    address: str
    path: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PathLost(Event):
    """A path was forgotten: no traffic came from the node for a minute, or nobody answers for a broken path."""

    name: ClassVar[str] = "path_lost"
    group: ClassVar[str] = "paths"
    key: bytes
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(Event):
    """There are keys for traffic with a node."""

    name: ClassVar[str] = "session_opened"
    group: ClassVar[str] = "sessions"
    key: bytes
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionClosed(Event):
    """A session was forgotten, since it was not used for a while or had to make room."""

    name: ClassVar[str] = "session_closed"
    group: ClassVar[str] = "sessions"
    key: bytes
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentChanged(Event):
    """This node has another parent in the spanning tree; its own key: it is the root of its tree."""

    name: ClassVar[str] = "parent_changed"
    group: ClassVar[str] = "tree"
    parent: bytes
    previous: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RootChanged(Event):
    """This node's line of parents leads to another root."""

    name: ClassVar[str] = "root_changed"
    group: ClassVar[str] = "tree"
    root: bytes
    previous: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TunUp(Event):
    """The TUN interface is there."""

    name: ClassVar[str] = "tun_up"
    group: ClassVar[str] = "tun"
    interface: str
    mtu: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TunDown(Event):
    """The TUN interface is gone."""

    name: ClassVar[str] = "tun_down"
    group: ClassVar[str] = "tun"
    interface: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastUp(Event):
    """An interface is used for discovery, or in another way than before."""

    name: ClassVar[str] = "multicast_up"
    group: ClassVar[str] = "multicast"
    interface: str
    address: str | None
    """``[address%interface]:port`` of its listener; None: it has none, or not yet."""
    beacon: bool
    listen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastDown(Event):
    """An interface is no longer used for discovery."""

    name: ClassVar[str] = "multicast_down"
    group: ClassVar[str] = "multicast"
    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """This listener was too slow: so many events that it wanted were dropped, the oldest, just before the next one."""

    name: ClassVar[str] = "events_lost"
    count: int
