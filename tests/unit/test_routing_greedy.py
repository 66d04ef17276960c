"""Greedy next hop: Go's choices for many paths and watermarks, ties, and what a hostile path may cost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load, public_keys
from yggpy.routing import greedy
from yggpy.routing.greedy import FIB_CACHE_LIMIT, FIB_CACHE_PORTS, Coords, Fib, FibLink, distance
from yggpy.routing.links import UNKNOWN_LAG, RouterLink
from yggpy.wire.packets import MAX_WATERMARK

KEYS = public_keys("router")
SCENARIOS = load("router")["routing"]


def coords_of(scenario: dict[str, Any]) -> dict[str, Coords]:
    return {entry["key"]: tuple(map(int, entry["root_and_path"]["path"])) for entry in scenario["coordinates"]}


def fib_of(scenario: dict[str, Any]) -> Fib:
    coords = coords_of(scenario)
    links = [
        FibLink(link["id"], KEYS[link["key"]], coords[link["key"]], link["cost"], link["priority"], link["order"])
        for link in scenario["links"]
    ]
    return Fib(coords[scenario["self"]], links)


def link(link_id: int, path: Coords, *, cost: int = 1, priority: int = 0, key: bytes | None = None) -> FibLink:
    return FibLink(link_id, key or bytes([link_id]) * 32, path, cost, priority, link_id)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: str(s["description"]))
def test_next_hops_are_those_of_go(scenario: dict[str, Any]) -> None:
    fib = fib_of(scenario)
    assert scenario["lookups"]
    for lookup in scenario["lookups"] * 2:  # the second time from what the Fib remembers
        path = tuple(map(int, lookup["path"]))
        assert distance(path, fib.self_path) == lookup["self_distance"]
        hop, watermark = fib.next_hop(path, int(lookup["watermark_in"]))
        assert (hop, watermark) == (lookup["next_hop"], int(lookup["watermark_out"])), lookup


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: str(s["description"]))
def test_lags_cost_what_they_cost_in_go(scenario: dict[str, Any]) -> None:
    for entry in scenario["links"]:
        one = RouterLink(entry["id"], KEYS[entry["key"]], entry["priority"], entry["order"])
        assert one.lag == UNKNOWN_LAG
        if entry["lag_ms"] >= 0:
            one.lag = entry["lag_ms"] * 1_000_000
        assert one.cost == entry["cost"]


@pytest.mark.parametrize(
    ("one", "two", "edges"),
    [
        ((), (), 0),
        ((1, 2), (1, 2), 0),
        ((1, 2), (), 2),
        ((1, 2), (1, 3), 2),
        ((1, 2, 3), (2, 2, 3), 6),
        ((1,), (1, 2, 3), 2),
    ],
)
def test_distance_counts_tree_edges(one: Coords, two: Coords, edges: int) -> None:
    assert distance(one, two) == distance(two, one) == edges


def test_nobody_nearer_lowers_the_watermark_all_the_same() -> None:
    fib = Fib((1,), [link(1, (2,))])
    assert fib.next_hop((1, 5), MAX_WATERMARK) == (None, 1)


def test_packet_that_is_not_nearer_than_before_goes_nowhere() -> None:
    fib = Fib((1,), [link(1, ())])
    assert fib.next_hop((2,), 3) == (1, 2)
    assert fib.next_hop((2,), 2) == (None, 2)
    assert fib.next_hop((2,), 0) == (None, 0)


def test_equal_products_prefer_the_nearer_link() -> None:
    far_and_cheap, near_and_dear = link(1, (1, 2), cost=1), link(2, (1, 2, 3), cost=2)
    fib = Fib((), [far_and_cheap, near_and_dear])
    assert fib.next_hop((1, 2, 3, 4), MAX_WATERMARK) == (2, 4)


def test_link_to_the_destination_wins_whatever_it_costs() -> None:
    fib = Fib((), [link(1, (1,), cost=1), link(2, (1, 2), cost=4000)])
    assert fib.next_hop((1, 2), MAX_WATERMARK) == (2, 2)


def test_oldest_link_breaks_a_tie() -> None:
    fib = Fib((), [link(2, (1,)), link(1, (1,))])
    assert fib.next_hop((1,), MAX_WATERMARK) == (1, 1)


def test_priority_decides_among_the_links_of_one_key_only() -> None:
    key = b"k" * 32
    mine = [link(1, (1,), cost=1, priority=5, key=key), link(2, (1,), cost=9, priority=1, key=key)]
    fib = Fib((), [*mine, link(3, (1,), cost=5, priority=200)])
    assert fib.next_hop((1, 1), MAX_WATERMARK) == (3, 2)  # 2 stands for its key; 3 is cheaper
    assert Fib((), mine).next_hop((1, 1), MAX_WATERMARK) == (2, 2)


def test_watermark_falls_at_every_hop() -> None:
    """A cheap detour must not bring a packet back: whatever the costs, the distance shrinks."""
    destination = (1, 1, 1)
    here = Fib((2, 1), [link(1, (2,), cost=4000), link(2, (2, 1, 1), cost=1), link(3, (2, 2), cost=1)])
    assert here.next_hop(destination, MAX_WATERMARK) == (1, 5)


def test_what_a_fib_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greedy, "FIB_CACHE_LIMIT", 4)
    fib = Fib((), [link(1, (1,))])
    for port in range(20):
        assert fib.next_hop((1, port), MAX_WATERMARK) == (1, 2)
        assert fib.remembered <= 4
    assert FIB_CACHE_LIMIT >= 1024


def test_long_hostile_paths_are_not_remembered() -> None:
    fib = Fib((), [link(1, (1,))])
    for length in (FIB_CACHE_PORTS + 1, 130_000):
        assert fib.next_hop((1,) * length, MAX_WATERMARK) == (1, length)
    assert fib.remembered == 0
    fib.next_hop((1,) * FIB_CACHE_PORTS, MAX_WATERMARK)
    assert fib.remembered == 1


def test_equal_fibs_compare_equal_and_others_do_not() -> None:
    one, same, other = Fib((1,), [link(1, ())]), Fib((1,), [link(1, ())]), Fib((1,), [link(1, (), cost=2)])
    one.next_hop((2,), MAX_WATERMARK)
    assert one == same and hash(one) == hash(same)
    assert one != other and one != Fib((2,), [link(1, ())])
