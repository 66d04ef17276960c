"""Configuration files: where they and the admin socket are unless someone says otherwise, and the text in them.

Apart from the rest of the package, since ``yggpy-ctl`` needs this and must start quickly: no keys, no ciphers.
"""

from __future__ import annotations

import codecs

from yggpy.errors import ConfigError

__all__ = [
    "CONFIG_FILES",
    "DEBIAN_ADMIN_LISTEN",
    "DEFAULT_ADMIN_LISTEN",
    "DEFAULT_CONFIG_FILE",
    "MAX_CONFIG_SIZE",
    "decode_text",
]

DEFAULT_ADMIN_LISTEN = "unix:///var/run/yggdrasil.sock"
DEBIAN_ADMIN_LISTEN = "unix:///var/run/yggdrasil/yggdrasil.sock"
"""The same in Debian's build of the Go node (section 13.1)."""
DEFAULT_CONFIG_FILE = "/etc/yggdrasil.conf"
"""Where ``yggdrasilctl`` looks for ``AdminListen`` when it is not told an endpoint."""
CONFIG_FILES = (DEFAULT_CONFIG_FILE, "/etc/yggdrasil/yggdrasil.conf")
"""Where a configuration may be: upstream's place, then Debian's."""
MAX_CONFIG_SIZE = 4 << 20
"""Bytes of a configuration file; a longer one is refused, since it is something else given by mistake."""


def decode_text(data: bytes) -> str:
    """Return a configuration file's text: UTF-8, or UTF-16 with a byte order mark. Broken characters become U+FFFD."""
    if len(data) > MAX_CONFIG_SIZE:
        raise ConfigError(f"longer than {MAX_CONFIG_SIZE} bytes; this is not a configuration")
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig", "replace")
