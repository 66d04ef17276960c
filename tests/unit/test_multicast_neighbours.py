"""Whom to dial: everyone once, strangers within limits, known neighbours whatever strangers do."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv6Address

from tests.unit.multicast_fakes import THEIR_ADDRESS, THEIR_KEY
from yggpy.multicast import neighbours as limits
from yggpy.multicast.model import Neighbour
from yggpy.multicast.neighbours import NeighbourTable

FRIEND = Neighbour("eth0", THEIR_ADDRESS, 1000, THEIR_KEY)


def stranger(number: int, *, port: int = 1000, source: int | None = None) -> Neighbour:
    """Return a neighbour with a key of its own, and an address of its own unless ``source`` says otherwise."""
    address = IPv6Address((0xFE80 << 112) + (number if source is None else source) + 100)
    return Neighbour("eth0", address, port, number.to_bytes(32, "big"))


def befriend(table: NeighbourTable, neighbour: Neighbour, now: float) -> None:
    assert table.admit(neighbour, now)
    table.established(neighbour, now)
    table.ended(neighbour, now + limits.SETTLED)


def test_waits_after_failures_grow_and_stay_below_the_beacons() -> None:
    table, now, waits = NeighbourTable(), 0.0, []
    assert table.admit(FRIEND, now)
    for _ in range(12):
        dialled = now
        table.ended(FRIEND, now)
        while not table.admit(FRIEND, now):
            now += 0.25
        waits.append(now - dialled)
    assert waits == sorted(waits) and waits[0] == 0.5 and waits[-1] == limits.RETRY_LIMIT - limits.RETRY_SLACK


def test_every_beacon_of_a_neighbour_that_fails_is_followed() -> None:
    """The n-th beacon of a node comes n seconds after the one before, or more: no slower than Go, without limits."""
    table, now = NeighbourTable(), 0.0
    for number in range(1, 30):
        assert table.admit(FRIEND, now), number
        table.ended(FRIEND, now + 0.4)
        now += min(number, 15)


def test_a_link_that_lasted_is_no_failure() -> None:
    table = NeighbourTable()
    for _ in range(5):
        table.admit(FRIEND, 0.0)
        table.ended(FRIEND, 0.0)
    befriend(table, FRIEND, 100.0)
    assert table.admit(FRIEND, 100.0 + limits.SETTLED)
    table.established(FRIEND, 120.0)
    table.ended(FRIEND, 120.1)
    assert not table.admit(FRIEND, 110.2)
    assert table.admit(FRIEND, 121.0)


def test_reports_are_harmless_when_repeated_or_unexpected() -> None:
    table = NeighbourTable()
    table.established(FRIEND, 0.0)
    table.ended(FRIEND, 0.0)
    assert table.admit(FRIEND, 0.0)
    for _ in range(2):
        table.established(FRIEND, 0.0)
    assert (table.calls, table.dialling) == (1, 0)
    for _ in range(2):
        table.ended(FRIEND, 0.0)
    table.established(FRIEND, 1.0)
    assert (table.calls, table.dialling) == (0, 0)


def test_one_source_causes_few_dials() -> None:
    table, admitted = NeighbourTable(), 0
    for number in range(10_000):
        now = number / 1000
        if table.admit(stranger(number, source=1), now):
            admitted += 1
            table.ended(stranger(number, source=1), now)
    assert limits.SOURCE_BURST <= admitted <= limits.SOURCE_BURST + 10 * limits.SOURCE_RATE
    assert table.admit(stranger(1, source=2), 10.0), "which is no loss to others"


def test_all_strangers_together_cause_a_bounded_number_of_dials() -> None:
    table, admitted = NeighbourTable(), 0
    for number in range(100_000):
        now = number / 10_000
        if table.admit(stranger(number), now):
            admitted += 1
            table.ended(stranger(number), now)
    assert admitted <= limits.STRANGER_BURST + 10 * limits.STRANGER_RATE
    assert len(table) <= limits.MAX_NEIGHBOURS


def test_few_strangers_are_dialled_at_a_time() -> None:
    table = NeighbourTable()
    admitted = [number for number in range(1000) if table.admit(stranger(number), number / 10)]
    assert len(admitted) == table.dialling == limits.MAX_DIALLING
    table.ended(stranger(admitted[0]), 100.0)
    assert table.admit(stranger(2000), 100.0)


def test_links_are_bounded_altogether_and_for_each_source() -> None:
    table, now = NeighbourTable(), 0.0
    for number in range(3 * limits.MAX_CALLS):
        now += 1.0
        if table.admit(stranger(number), now):
            table.established(stranger(number), now)
    assert table.calls == limits.MAX_CALLS
    table = NeighbourTable()
    for number in range(3 * limits.MAX_CALLS_PER_SOURCE):
        now += 1.0
        if table.admit(stranger(number, source=1), now):
            table.established(stranger(number, source=1), now)
    assert table.calls == limits.MAX_CALLS_PER_SOURCE


def test_a_known_neighbour_is_found_again_in_the_middle_of_a_flood() -> None:
    table = NeighbourTable()
    befriend(table, FRIEND, 0.0)
    assert stranger(0, source=-98).address == FRIEND.address
    for number in range(50_000):
        table.admit(stranger(number), 20.0 + number / 10_000)
        table.admit(stranger(number, port=2, source=-98), 20.0 + number / 10_000)
    assert table.admit(FRIEND, 25.0)
    assert table.admit(replace(FRIEND, port=1001), 25.0), "it may have been restarted"


def test_who_pretends_to_be_a_known_neighbour_causes_few_dials() -> None:
    table, admitted = NeighbourTable(), 0
    befriend(table, FRIEND, 0.0)
    for port in range(1, 10_001):
        now = 20.0 + port / 1000
        if table.admit(replace(FRIEND, port=port), now):
            admitted += 1
            table.ended(replace(FRIEND, port=port), now)
    limit = limits.KNOWN_BURST + limits.SOURCE_BURST + 10 * (limits.KNOWN_RATE + limits.SOURCE_RATE)
    assert limits.KNOWN_BURST < admitted <= limit
    assert table.dialling == 0


def test_the_table_forgets_who_was_dialled_longest_ago() -> None:
    table, now = NeighbourTable(), 0.0
    befriend(table, FRIEND, 0.0)
    held = stranger(1)
    table.admit(held, 20.0)
    table.established(held, 20.0)
    now = 30.0
    for number in range(2, 3 * limits.MAX_NEIGHBOURS):
        now += 1.0
        assert table.admit(stranger(number), now)
        table.ended(stranger(number), now)
    assert len(table) == limits.MAX_NEIGHBOURS
    assert not table.admit(held, now), "links that are up are remembered"
    assert len(table._sources) <= limits.MAX_SOURCES
    assert table.admit(FRIEND, now)


def test_a_table_full_of_known_neighbours_still_takes_new_ones() -> None:
    table, now = NeighbourTable(), 0.0
    for number in range(limits.MAX_NEIGHBOURS + 10):
        now += 20.0
        befriend(table, stranger(number), now)
    assert len(table) == len(table._proven) == limits.MAX_NEIGHBOURS
    assert table.calls == table.dialling == 0
