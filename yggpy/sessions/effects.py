"""What a :class:`~yggpy.sessions.manager.SessionManager` wants done, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from yggpy.sessions.traffic import SessionKeys

__all__ = ["InstallKeys", "RemoveKeys", "SendMessage", "SendPayload", "SessionEffect"]


@dataclass(frozen=True, slots=True)
class SendPayload:
    """Send an init or ack to ``dest`` as it is."""

    dest: bytes
    payload: bytes


@dataclass(frozen=True, slots=True)
class InstallKeys:
    """Give the data plane the keys of ``remote``, new or replaced."""

    remote: bytes
    keys: SessionKeys


@dataclass(frozen=True, slots=True)
class RemoveKeys:
    """The session with ``remote`` is over."""

    remote: bytes


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Seal ``message`` (with its type byte) under the keys just installed for ``dest``, and send it."""

    dest: bytes
    message: bytes


SessionEffect: TypeAlias = SendPayload | InstallKeys | RemoveKeys | SendMessage
