"""The root of every exception that yggpy raises on purpose, and the two that concern the person who configures it.

A room with errors of its own derives them from :class:`YggpyError` in its own files, so that an embedding program
can catch everything of ours with one clause.
"""

from __future__ import annotations

__all__ = ["ConfigError", "PeerUriError", "YggpyError"]


class YggpyError(Exception):
    """Base class of all yggpy exceptions."""


class ConfigError(YggpyError, ValueError):
    """The configuration cannot be used; the message says which key of it, and why."""

    def __init__(self, message: str, key: str = "", place: tuple[int, int] | None = None) -> None:
        """``key``: which one, such as ``Peers[2]``, if it is one; ``place``: line and column, if known, from 1."""
        super().__init__(message)
        self.key = key
        self.place = place

    @property
    def problems(self) -> tuple[ConfigError, ...]:
        """All that is wrong, one by one."""
        return (self,)


class PeerUriError(YggpyError, ValueError):
    """A peering or listening URI cannot be used; the message is the one that yggdrasil-go gives."""
