"""Text from elsewhere, made fit for a terminal or a line of a log.

Error texts, interface names and node info come from other machines. A control character in them could move the cursor,
recolour the screen or forge a line, so it is shown as an escape instead.
"""

from __future__ import annotations

import re

__all__ = ["CONTROL_ESCAPES", "printable", "printable_json"]

_TAB = 0x09
CONTROL_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code != _TAB}
"""What ``str.translate`` puts in the place of each control character; tabs stay."""
CONTROL_ESCAPES |= {0x0A: "\\n", 0x0D: "\\r"}
_SURROGATES = re.compile("[\ud800-\udfff]")
_CONTROLS_IN_JSON = re.compile("[\x7f-\x9f]")


def printable(text: str) -> str:
    """Return ``text`` on one line and without control characters; lone surrogates become U+FFFD."""
    return _SURROGATES.sub("\ufffd", text.translate(CONTROL_ESCAPES))


def printable_json(text: str) -> str:
    """Return JSON text of the same value with the control characters escaped that JSON itself allows, DEL and C1."""
    return _CONTROLS_IN_JSON.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
