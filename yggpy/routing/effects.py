"""What a :class:`~yggpy.routing.router.Router` wants done, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

__all__ = [
    "CloseLink",
    "FibChanged",
    "LookupSeen",
    "PathInstalled",
    "PathNotified",
    "PathRemoved",
    "RoutingEffect",
    "SendDirect",
    "SendQueued",
]


@dataclass(frozen=True, slots=True)
class SendDirect:
    """Send a frame that overtakes the link's queue."""

    link_id: int
    frame_type: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class SendQueued:
    """Send a frame through the link's packet queue, where ``source`` and ``dest`` name its flow."""

    link_id: int
    frame_type: int
    payload: bytes
    source: bytes
    dest: bytes


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Close a link, for ``reason``; a configured one may be dialled again, a second or more later."""

    link_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class FibChanged:
    """``Router.fib`` is a new one."""


@dataclass(frozen=True, slots=True)
class PathInstalled:
    """The coordinates of ``key`` are known, or have changed.

    ``payload`` waited for them and is to be sent now; if None, the data plane sends the last payload that it kept for
    this path once more.
    """

    key: bytes
    path: tuple[int, ...]
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class PathRemoved:
    """The coordinates of ``key`` have expired."""

    key: bytes


@dataclass(frozen=True, slots=True)
class PathNotified:
    """Node ``key`` has answered a look-up: the key store may have been waiting for its key."""

    key: bytes


@dataclass(frozen=True, slots=True)
class LookupSeen:
    """A path look-up by node ``source`` at coordinates ``path`` came by (our own ones too)."""

    source: bytes
    path: tuple[int, ...]


RoutingEffect: TypeAlias = (
    SendDirect | SendQueued | CloseLink | FibChanged | PathInstalled | PathRemoved | PathNotified | LookupSeen
)
