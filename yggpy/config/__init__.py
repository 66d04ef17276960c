"""A node's configuration (protocol section 14.2): what it is, how it is read and how it is written.

``model`` has the data, ``hjson`` turns text into values, ``parsing`` values into a ``Config``, ``writing`` a ``Config``
into HJSON or JSON, and ``pem`` does key files. All of them do as yggdrasil-go does, so that a file works in both.
"""

from __future__ import annotations

from yggpy.config.model import (
    DEFAULT_ADMIN_LISTEN,
    DEFAULT_CONFIG_FILE,
    MAX_CONFIG_SIZE,
    MAX_NODE_INFO_SIZE,
    Config,
    MulticastInterface,
)

__all__ = [
    "DEFAULT_ADMIN_LISTEN",
    "DEFAULT_CONFIG_FILE",
    "MAX_CONFIG_SIZE",
    "MAX_NODE_INFO_SIZE",
    "Config",
    "MulticastInterface",
]
