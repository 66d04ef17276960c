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


class PeerUriError(YggpyError, ValueError):
    """A peering or listening URI cannot be used; the message is the one that yggdrasil-go gives."""
