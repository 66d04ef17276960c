"""yggpy: a Yggdrasil node in Python, as a daemon (``yggpy-node``) and as a library (``Node``, ``Config``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yggpy.config import Config
    from yggpy.node import Node

__all__ = ["Config", "Node"]


def __getattr__(name: str) -> object:
    # Loaded on first use: importing, say, yggpy.address must not pull in sockets and ciphers.
    if name == "Node":
        from yggpy.node import Node

        return Node
    if name == "Config":
        from yggpy.config import Config

        return Config
    raise AttributeError(f"module 'yggpy' has no attribute {name!r}")
