"""Bloom filters: hashes, wire forms and the sequence of filters sent, all as in Go."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.address import x_key
from yggpy.routing.bloom import (
    BITS,
    FORCED_RESEND_TICKS,
    BloomTable,
    contains,
    from_words,
    key_bits,
    locations,
    positions,
    to_words,
)
from yggpy.wire.packets import BloomFilter

HASHES = load("bloom")["hashes"]
SETS = load("bloom")["sets"]
KEEP_ONES = load("bloom")["keep_ones"]

OWN, P, Q, R = (bytes([n]) * 32 for n in (1, 2, 3, 4))


def decoded(text: str) -> int:
    return from_words(BloomFilter.decode(bytes.fromhex(text)))


@pytest.mark.parametrize("entry", HASHES, ids=lambda e: str(e["description"]))
def test_hashes(entry: dict[str, Any]) -> None:
    data = bytes.fromhex(entry["data"])
    if "key" in entry:
        assert x_key(bytes.fromhex(entry["key"])) == data
    assert [f"{location:016x}" for location in locations(data)] == entry["locations_u64"]
    assert positions(data) == entry["positions"]
    if len(data) == 32:
        assert to_words(key_bits(data)).encode().hex() == entry["encoded"]
        assert decoded(entry["encoded"]) == key_bits(data)


@pytest.mark.parametrize("entry", SETS, ids=lambda e: f"{len(e['encoded'])}-{e.get('inserted_count', 'listed')}")
def test_sets(entry: dict[str, Any]) -> None:
    if "inserted" in entry:
        inserted = [bytes.fromhex(text) for text in entry["inserted"]]
    else:
        inserted = [number.to_bytes(8, "big") + bytes(24) for number in range(int(entry["inserted_count"]))]
    bits = 0
    for key in inserted:
        bits |= key_bits(key)
    assert to_words(bits).encode().hex() == entry["encoded"]
    assert decoded(entry["encoded"]) == bits
    assert entry["membership"]
    for member in entry["membership"]:
        assert contains(bits, bytes.fromhex(member["data"])) == member["contains"]


def test_ones_travel_before_zeros_as_in_go() -> None:
    keys = {entry["label"]: bytes.fromhex(entry["public"]) for entry in KEEP_ONES["keys"]}
    table = BloomTable(x_key(keys["A"]))
    for name in "PQ":
        table.add(keys[name])
        table.set_on_tree(keys[name], True)
    for step in KEEP_ONES["steps"]:
        table.receive(keys["Q"], decoded(step["received_from_Q"]))
        due = dict(table.due())
        assert (keys["P"] in due) == step["sent_now"], step["description"]
        sent = table.sent(keys["P"])
        assert to_words(sent).encode().hex() == step["sent_to_P_after"], step["description"]
        assert due.get(keys["P"], sent) == sent
        assert table.keeps_stale_bits(keys["P"]) == step["zDirty_after"], step["description"]


def table_with(*on_tree: bytes) -> BloomTable:
    table = BloomTable(OWN)
    for key in (P, Q, R):
        table.add(key)
        table.set_on_tree(key, key in on_tree)
    return table


def test_each_on_tree_peer_gets_us_and_all_others() -> None:
    table = table_with(P, Q, R)
    for key in (P, Q, R):
        table.receive(key, key_bits(key))
    assert dict(table.due()) == {
        P: key_bits(OWN) | key_bits(Q) | key_bits(R),
        Q: key_bits(OWN) | key_bits(P) | key_bits(R),
        R: key_bits(OWN) | key_bits(P) | key_bits(Q),
    }
    assert table.due() == []


def test_off_tree_peers_give_and_get_nothing() -> None:
    table = table_with(P, Q)
    table.receive(R, key_bits(R))
    assert dict(table.due()) == {P: key_bits(OWN), Q: key_bits(OWN)}
    assert table.matching(R, b"") == []
    table.set_on_tree(R, True)  # what it sent before counts from now on
    assert dict(table.due())[P] == key_bits(OWN) | key_bits(R)
    assert table.matching(R, b"") == [R]


def test_a_peer_that_leaves_the_tree_starts_again_with_an_empty_filter() -> None:
    table = table_with(P, Q)
    table.due()
    assert table.sent(P) == key_bits(OWN)
    table.set_on_tree(P, False)
    assert table.sent(P) == 0 and not table.is_on_tree(P)
    table.set_on_tree(P, True)
    assert dict(table.due()) == {P: key_bits(OWN)}


def test_an_unchanged_filter_is_sent_again_once_an_hour() -> None:
    table = table_with(P)
    assert table.due() == [(P, key_bits(OWN))]
    for _ in range(FORCED_RESEND_TICKS - 1):
        assert table.due() == []
    assert table.due() == [(P, key_bits(OWN))]


def test_look_ups_go_where_they_may_find_something_but_not_back() -> None:
    table = table_with(P, Q)
    everything = (1 << BITS) - 1
    table.receive(P, everything)
    table.receive(Q, key_bits(x_key(R)))
    assert table.matching(x_key(R), b"") == [P, Q]
    assert table.matching(x_key(R), Q) == [P]
    assert table.matching(b"x" * 32, P) == []


def test_a_removed_or_unknown_peer_is_harmless() -> None:
    table = table_with(P)
    table.remove(P)
    table.remove(P)
    table.receive(P, 1)
    assert not table.is_on_tree(P) and not table.is_on_tree(b"?" * 32)
    assert table.due() == []
    table.add(P)
    assert table.sent(P) == table.received(P) == 0


def test_between_ticks_filters_only_grow() -> None:
    table = table_with(P, Q)
    table.due()
    assert table.grown() == []
    table.receive(Q, key_bits(Q))
    assert table.grown() == [(P, key_bits(OWN) | key_bits(Q))]
    assert not table.keeps_stale_bits(P)
    table.receive(Q, key_bits(R))
    assert table.grown() == [(P, key_bits(OWN) | key_bits(Q) | key_bits(R))]
    assert table.keeps_stale_bits(P)
    table.receive(Q, 0)
    assert table.grown() == []
    assert table.due() == [(P, key_bits(OWN))]
