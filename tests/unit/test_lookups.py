"""The record of path look-ups that the admin command ``lookups`` shows."""

from __future__ import annotations

import pytest

from yggpy import lookups
from yggpy.address import Address
from yggpy.lookups import LOOKUP_MAX_AGE, LookupLog
from yggpy.status import LookupStatus

A, B, C = (bytes([letter]) * 32 for letter in b"abc")


def test_the_last_lookup_of_each_node_is_shown_by_key() -> None:
    log = LookupLog()
    log.record(B, (1, 2), 1000.9)
    log.record(A, (), 1001.0)
    log.record(B, (3,), 1002.5)
    assert log.status(1003.0) == [
        LookupStatus(A, str(Address.for_key(A)), (), 1001),
        LookupStatus(B, str(Address.for_key(B)), (3,), 1002),
    ]


def test_old_ones_are_forgotten() -> None:
    log = LookupLog()
    log.record(A, (1,), 0.0)
    log.record(B, (1,), 1.0)
    log.record(C, (1,), 5.0)
    log.record(A, (1,), 6.0)
    assert len(log.status(LOOKUP_MAX_AGE + 1.0)) == 3
    assert [entry.key for entry in log.status(LOOKUP_MAX_AGE + 1.5)] == [A, C]
    assert log.status(2 * LOOKUP_MAX_AGE) == []


def test_strangers_cannot_make_the_record_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUPS", 3)
    log = LookupLog()
    for number in range(100):
        log.record(number.to_bytes(32, "big"), (number,), float(number))
        log.record(A, (1,), float(number))
    assert [entry.key for entry in log.status(100.0)] == [
        (98).to_bytes(32, "big"),
        (99).to_bytes(32, "big"),
        A,
    ]


def test_nor_do_long_coordinates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookups, "MAX_LOOKUP_PORTS", 100)
    log = LookupLog()
    log.record(A, (1,) * 60, 1.0)
    log.record(A, (1,) * 60, 2.0)  # replaces the one before
    log.record(B, (1,) * 40, 3.0)
    assert len(log.status(4.0)) == 2
    log.record(C, (1,), 4.0)
    assert [entry.key for entry in log.status(5.0)] == [B, C]
    log.record(A, (1,) * 101, 5.0)
    assert log.status(5.0) == []
