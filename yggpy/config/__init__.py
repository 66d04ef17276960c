"""A node's configuration (protocol section 14.2): what it is, how it is read and how it is written.

``model`` has the data, ``files`` where it is kept, ``hjson`` turns text into values, ``parsing`` values into a
``Config``, ``writing`` a ``Config`` into HJSON or JSON, ``problems`` gathers what is wrong, and ``pem`` does key files.
All of them do as yggdrasil-go does, so that a file works in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from yggpy.config.files import DEFAULT_ADMIN_LISTEN, DEFAULT_CONFIG_FILE, MAX_CONFIG_SIZE

if TYPE_CHECKING:
    from yggpy.config.model import MAX_NODE_INFO_SIZE, Config, MulticastInterface, UnknownKey

__all__ = [
    "DEFAULT_ADMIN_LISTEN",
    "DEFAULT_CONFIG_FILE",
    "MAX_CONFIG_SIZE",
    "MAX_NODE_INFO_SIZE",
    "Config",
    "MulticastInterface",
    "UnknownKey",
]


def __getattr__(name: str) -> object:
    # The model holds keys, and with them comes libsodium; who only looks for a file must not wait for that.
    if name in __all__:
        from yggpy.config import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
