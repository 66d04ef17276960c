"""Loads the recorded truths of ``tests/vectors``: what the real Go node encodes, decodes and refuses."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["VECTORS", "load", "public_keys"]

VECTORS = Path(__file__).resolve().parent.parent / "vectors"


@cache
def load(name: str) -> dict[str, Any]:
    """Return the content of ``tests/vectors/<name>.json``, read once; treat it as read-only.

    Byte strings in it are hex and 64-bit integers are decimal strings.
    """
    with open(VECTORS / f"{name}.json", encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return content


def public_keys(name: str) -> dict[str, bytes]:
    """Return the public keys of a vector file's ``keys`` list by their labels."""
    return {entry["label"]: bytes.fromhex(entry["public"]) for entry in load(name)["keys"]}
