"""The forms that names have: labels and domains (RFC 1123), names made of public keys, names made of addresses.

A name is a tuple of labels in lower case, the leftmost first, without the root: ``("www", "example")``.

A label has at most 63 bytes (RFC 1035, 2.3.4) and a public key has 64 hexadecimal digits, so that ``<key>.pk`` cannot
be one label. The digits may be divided by dots at any place; the form that we write has one dot in the middle. In
base32 (RFC 4648, without padding) a key has 52 characters and is one label; that is understood, too.
"""

from __future__ import annotations

import base64
import binascii
import re
from ipaddress import IPv6Address
from typing import TypeAlias

from yggpy.keys import PUBLIC_KEY_SIZE

__all__ = [
    "MAX_LABEL",
    "MAX_NAME",
    "PK",
    "REVERSE_ZONES",
    "Name",
    "begins_an_address",
    "key_base32",
    "key_labels",
    "key_of_labels",
    "may_become_key",
    "parse_name",
    "reverse_address",
    "reverse_name",
    "text_of",
]

Name: TypeAlias = tuple[str, ...]

MAX_LABEL = 63
"""Bytes of a label."""
MAX_NAME = 253
"""Characters of a whole name, dots included."""
PK = "pk"
"""Under this label of the domain every public key has its name."""
_HALF = PUBLIC_KEY_SIZE
"""Hexadecimal digits in each of the two labels that we write."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_HEX = re.compile(r"[0-9a-f]+")
_BASE32_LENGTH = 52
_REVERSE = ("ip6", "arpa")
_NIBBLES = 32
_DIGITS = frozenset("0123456789abcdef")
REVERSE_ZONES: tuple[Name, ...] = (("2", "0", *_REVERSE), ("3", "0", *_REVERSE))
"""The names of the addresses in 200::/8 (nodes) and 300::/8 (their subnets)."""


def parse_name(text: str) -> Name | None:
    """Return the labels of a host name in any case, with or without a final dot; None if it cannot be one."""
    labels = tuple(text.lower().removesuffix(".").split("."))
    if not text.isascii() or len(text) > MAX_NAME + 1 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return labels


def text_of(name: Name) -> str:
    """Return the name with dots, without one at its end."""
    return ".".join(name)


def key_labels(key: bytes) -> Name:
    """Return the labels that stand for a public key: its hexadecimal digits in two halves."""
    digits = key.hex()
    return digits[:_HALF], digits[_HALF:]


def key_base32(key: bytes) -> str:
    """Return the one label that stands for a public key, too."""
    return base64.b32encode(key).decode().rstrip("=").lower()


def key_of_labels(labels: Name) -> bytes | None:
    """Return the public key that the labels stand for in either form; None if they do not."""
    if len(labels) == 1 and len(labels[0]) == _BASE32_LENGTH:
        try:
            key = base64.b32decode(labels[0].upper() + "====")
        except binascii.Error:
            return None
        # The last character has four bits too many, so that there are other spellings, which are no names.
        return key if key_base32(key) == labels[0] else None
    digits = "".join(labels)
    if len(digits) != 2 * PUBLIC_KEY_SIZE or not _HEX.fullmatch(digits):
        return None
    return bytes.fromhex(digits)


def may_become_key(labels: Name) -> bool:
    """Tell whether there are names of keys below these labels, which then exist although they mean nothing."""
    digits = "".join(labels)
    return len(digits) < 2 * PUBLIC_KEY_SIZE and (not digits or _HEX.fullmatch(digits) is not None)


def reverse_name(address: IPv6Address) -> Name:
    """Return the name under ``ip6.arpa`` that asks for the name of ``address`` (RFC 3596, 2.5)."""
    return (*reversed(address.packed.hex()), *_REVERSE)


def begins_an_address(name: Name) -> bool:
    """Tell whether a name under ``ip6.arpa`` is a part of those that are about whole addresses."""
    return len(name) < _NIBBLES + len(_REVERSE) and all(digit in _DIGITS for digit in name[: -len(_REVERSE)])


def reverse_address(name: Name) -> IPv6Address | None:
    """Return the address that a name under ``ip6.arpa`` is about; None if it is not about a whole address."""
    digits, end = name[:_NIBBLES], name[_NIBBLES:]
    if end != _REVERSE or len(digits) != _NIBBLES or not _DIGITS.issuperset(digits):
        return None
    return IPv6Address(bytes.fromhex("".join(reversed(digits))))
