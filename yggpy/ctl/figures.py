"""Durations and amounts of data as the Go node's tools print them (protocol section 14.4)."""

from __future__ import annotations

__all__ = ["data_size", "milliseconds", "rounded_seconds", "whole_seconds"]

_KILO = 1024
_SMALL = 100
"""Bytes from which on an amount is given in KB."""
_MINUTE, _HOUR = 60, 3600
_SECOND = 1_000_000_000
_MICROSECOND = 1000


def data_size(size: int) -> str:
    """Return ``size`` bytes as ``99B``, ``0.1KB``, ``2.5GB``; TB is the largest unit."""
    if size < _SMALL:
        return f"{size}B"
    value = size / _KILO
    for unit in ("KB", "MB", "GB"):
        # The unit goes by the exact size, so just below a border it may read 1024.0.
        if size < _KILO * _KILO:
            return f"{value:.1f}{unit}"
        size //= _KILO
        value /= _KILO
    return f"{value:.1f}TB"


def whole_seconds(seconds: int) -> str:
    """Return a duration as ``0s``, ``5m0s``, ``27h0m1s``: hours are the largest unit, and zeros in between stay."""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    text = f"{seconds % _MINUTE}s"
    if seconds >= _MINUTE:
        text = f"{seconds // _MINUTE % _MINUTE}m{text}"
    if seconds >= _HOUR:
        text = f"{seconds // _HOUR}h{text}"
    return sign + text


def rounded_seconds(nanoseconds: int) -> str:
    """Return a duration rounded to whole seconds, halves away from zero."""
    seconds = (abs(nanoseconds) + _SECOND // 2) // _SECOND
    return whole_seconds(-seconds if nanoseconds < 0 else seconds)


def milliseconds(nanoseconds: int) -> str:
    """Return a duration as ``1.23ms``; "" below a microsecond."""
    micros = nanoseconds // _MICROSECOND
    return f"{micros / 1000:.2f}ms" if micros > 0 else ""
