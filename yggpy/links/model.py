"""What the manager shares with its neighbours: what a link is, what the node gives back for it, what status shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from yggpy.datapath.base import ByteStream, Datapath, LinkCounters, LinkEnd

__all__ = ["EstablishedLink", "LinkHost", "LinkInfo", "LinkKind", "LinkStatus"]


class LinkKind(Enum):
    """Who wants the link, which decides what happens when it ends (protocol section 2.3)."""

    PERSISTENT = "persistent"
    """Configured, or added by hand: dialled again for ever."""
    EPHEMERAL = "ephemeral"
    """Found by multicast: dialled once."""
    INCOMING = "incoming"
    """Dialled by the other side."""


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """A link whose handshake is done."""

    key: bytes
    """The other side's node key."""
    priority: int
    """The higher of both sides' (section 2.8)."""
    kind: LinkKind
    uri: str
    """Without its query."""
    interface: str
    local_address: str
    remote_address: str
    cost: int | None = None
    """What the link is taken to cost in routing (option ``cost``); None: what its round trip says."""

    @property
    def inbound(self) -> bool:
        """True when the other side dialled."""
        return self.kind is LinkKind.INCOMING


@dataclass(frozen=True, slots=True)
class EstablishedLink:
    """What the node gives back for a :class:`LinkInfo` and its stream."""

    link_id: int
    ended: asyncio.Future[LinkEnd]
    """Resolves once, whatever ends the link."""
    counters: Callable[[], LinkCounters]
    close: Callable[[], None]
    """End the link; ``ended`` follows."""


class LinkHost(Protocol):
    """The node, as the link manager sees it."""

    @property
    def datapath(self) -> Datapath:
        """Opens streams over connected sockets."""
        ...

    def link_established(self, info: LinkInfo, stream: ByteStream) -> EstablishedLink:
        """Take over a stream whose handshake is done, bytes read ahead included."""
        ...


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """One peering or incoming link, as ``getPeers`` needs it. Times are those of the manager's clock."""

    uri: str
    up: bool
    inbound: bool
    interface: str = ""
    kind: LinkKind = LinkKind.PERSISTENT
    key: bytes | None = None
    """This and the following are None or 0 while the link is down."""
    priority: int = 0
    link_id: int | None = None
    established_at: float | None = None
    handshake_bytes_received: int = 0
    handshake_bytes_sent: int = 0
    last_error: str | None = None
    """Why the last attempt failed or the last connection ended; None since a handshake succeeded."""
    last_error_at: float | None = None
    local: bool = False
    """Whether it is with a neighbour found by multicast, whoever of the two dialled."""
