"""The one error of every decoder. Whatever bytes a peer sends, a decoder gives a value or raises this."""

from __future__ import annotations

from yggpy.errors import YggpyError

__all__ = ["DecodeError"]


class DecodeError(YggpyError, ValueError):
    """Bytes from outside that do not have the layout they should have; the message is one line for an operator."""
