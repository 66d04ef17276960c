"""The tree: Go's update rule, ancestry and coordinates; expiry, refresh and the limit on infos."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load, public_keys
from yggpy.routing.tree import INFO_TIMEOUT, REFRESH_INTERVAL, Tree
from yggpy.wire.packets import Announce

KEYS = public_keys("router")
LABELS = {key: label for label, key in KEYS.items()}
SCENARIOS = load("router")["routing"]
NOW = 1000.0


def info(key: str, parent: str, port: int = 1, *, seq: int = 1, nonce: int = 0) -> Announce:
    return Announce(KEYS[key], KEYS[parent], seq, nonce, port, bytes(64), bytes(64))


def tree_of(scenario: dict[str, Any]) -> Tree:
    tree = Tree(KEYS[scenario["self"]])
    for entry in scenario["infos"]:
        tree.update(info(entry["key"], entry["parent"], int(entry["port"])), KEYS[scenario["self"]], NOW)
    return tree


def test_the_vectors_name_keys_by_rank() -> None:
    assert list(KEYS.values()) == sorted(KEYS.values())


def test_updates_are_taken_and_refused_as_in_go() -> None:
    tree = Tree(KEYS["k9"])
    for step in load("router")["update"]:
        announce = Announce.decode(bytes.fromhex(step["announce"]))
        assert announce.verify()
        assert (tree.update(announce, KEYS["k0"], NOW) is not None) == step["accepted"], step["description"]
        held = tree.get(KEYS[step["key"]])
        assert held is not None
        after = step["held_after"]
        assert (LABELS[held.parent], held.seq, held.nonce, held.port) == (
            after["parent"],
            int(after["seq"]),
            int(after["nonce"]),
            int(after["port"]),
        ), step["description"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: str(s["description"]))
def test_roots_distances_and_coordinates_are_those_of_go(scenario: dict[str, Any]) -> None:
    tree = tree_of(scenario)
    assert scenario["coordinates"]
    for entry in scenario["coordinates"]:
        key = KEYS[entry["key"]]
        root, dists = tree.root_and_dists(key)
        assert (None if root is None else LABELS[root]) == entry["root_and_dists"]["root"]
        assert {LABELS[ancestor]: dist for ancestor, dist in dists.items()} == entry["root_and_dists"]["dists"]
        end, coords = tree.root_and_coords(key)
        assert LABELS[end] == entry["root_and_path"]["root"]
        assert coords == tree.coords(key) == tuple(map(int, entry["root_and_path"]["path"]))


def test_ancestry_runs_from_the_root_down_and_stops_at_gaps_and_loops() -> None:
    tree = Tree(KEYS["k9"])
    for announce in (info("k0", "k0", 0), info("k1", "k0"), info("k2", "k1"), info("k5", "k6"), info("k7", "k8")):
        tree.update(announce, KEYS["k1"], NOW)
    tree.update(info("k8", "k7"), KEYS["k1"], NOW)
    assert [LABELS[key] for key in tree.ancestry(KEYS["k2"])] == ["k0", "k1", "k2"]
    assert [LABELS[key] for key in tree.ancestry(KEYS["k5"])] == ["k5"]
    assert [LABELS[key] for key in tree.ancestry(KEYS["k7"])] == ["k8", "k7"]
    assert tree.ancestry(KEYS["k6"]) == []


def test_coordinates_follow_every_change() -> None:
    tree = Tree(KEYS["k9"])
    for announce in (info("k0", "k0", 0), info("k1", "k0", 3), info("k2", "k1", 4)):
        tree.update(announce, KEYS["k1"], NOW)
    assert tree.coords(KEYS["k2"]) == (3, 4)
    tree.update(info("k1", "k0", 7, seq=2), KEYS["k1"], NOW + INFO_TIMEOUT)
    assert tree.coords(KEYS["k2"]) == (7, 4)
    tree.expire(NOW + INFO_TIMEOUT)
    assert tree.coords(KEYS["k2"]) == ()


def test_infos_of_others_expire_and_renewed_ones_later() -> None:
    tree = Tree(KEYS["k9"])
    tree.update(info("k9", "k9", 0), KEYS["k9"], NOW)
    tree.update(info("k1", "k0"), KEYS["k1"], NOW)
    tree.update(info("k2", "k1"), KEYS["k1"], NOW + 1)
    tree.update(info("k1", "k0", seq=2), KEYS["k1"], NOW + 100)
    assert tree.expire(NOW + INFO_TIMEOUT) == []
    assert tree.expire(NOW + INFO_TIMEOUT + 1) == [KEYS["k2"]]
    assert tree.expire(NOW + INFO_TIMEOUT + 99) == []
    assert tree.expire(NOW + INFO_TIMEOUT + 100) == [KEYS["k1"]]
    assert list(tree) == [KEYS["k9"]]  # our own stays


def test_a_refused_info_does_not_live_longer() -> None:
    tree = Tree(KEYS["k9"])
    tree.update(info("k1", "k0", seq=5), KEYS["k1"], NOW)
    assert tree.update(info("k1", "k0", seq=5), KEYS["k1"], NOW + 200) is None
    assert tree.expire(NOW + INFO_TIMEOUT) == [KEYS["k1"]]


def test_only_our_own_info_sets_the_refresh_time() -> None:
    tree = Tree(KEYS["k9"])
    tree.update(info("k1", "k0"), KEYS["k1"], NOW)
    assert tree.refresh_at == float("inf")
    tree.update(info("k9", "k9", 0), KEYS["k9"], NOW + 5)
    assert tree.refresh_at == NOW + 5 + REFRESH_INTERVAL
    assert tree.own == info("k9", "k9", 0)


def test_a_full_table_drops_the_oldest_info_of_the_peer_that_introduced_most() -> None:
    tree = Tree(KEYS["k9"], 6)
    tree.update(info("k9", "k9", 0), KEYS["k9"], NOW)
    for honest in ("k0", "k1"):
        assert tree.update(info(honest, "k0"), KEYS["k0"], NOW) == []
    for invented in ("k3", "k4", "k5"):
        assert tree.update(info(invented, "k7"), KEYS["k7"], NOW + 1) == []
    assert len(tree) == 6
    tree.update(info("k3", "k7", seq=2), KEYS["k7"], NOW + 2)  # renewed: no longer the oldest
    assert tree.update(info("k6", "k7"), KEYS["k7"], NOW + 3) == [KEYS["k4"]]
    assert tree.update(info("k8", "k0"), KEYS["k0"], NOW + 3) == [KEYS["k5"]]
    assert {LABELS[key] for key in tree} == {"k0", "k1", "k3", "k6", "k8", "k9"}


def test_our_line_to_the_root_outlives_a_flood_from_our_own_parent() -> None:
    tree = Tree(KEYS["k9"], 5)
    for announce in (info("k0", "k0", 0), info("k1", "k0")):
        tree.update(announce, KEYS["k1"], NOW)
    tree.update(info("k9", "k1"), KEYS["k9"], NOW)
    for number in range(50):
        fake = Announce(bytes([number]) * 32, KEYS["k1"], 1, 0, 1, bytes(64), bytes(64))
        tree.update(fake, KEYS["k1"], NOW + number)
        assert len(tree) <= 5
        assert [LABELS[key] for key in tree.ancestry(KEYS["k9"])] == ["k0", "k1", "k9"]


def test_a_chain_that_fills_the_table_still_leaves_our_own_info() -> None:
    """A hostile parent that invents a long line above itself: the line breaks, nothing else."""
    tree = Tree(KEYS["k9"], 4)
    tree.update(info("k9", "k1"), KEYS["k9"], NOW)
    tree.update(info("k1", "k2"), KEYS["k1"], NOW)
    for one, two in (("k2", "k3"), ("k3", "k4"), ("k4", "k5"), ("k5", "k6")):
        tree.update(info(one, two), KEYS["k1"], NOW)
        assert KEYS["k9"] in tree and len(tree) <= 4
    assert tree.own.parent == KEYS["k1"]


def test_coordinates_rest_on_known_and_missing_infos() -> None:
    tree = Tree(KEYS["k9"])
    for announce in (info("k0", "k0", 0), info("k1", "k0"), info("k2", "k1"), info("k5", "k6"), info("k7", "k7", 0)):
        tree.update(announce, KEYS["k1"], NOW)
    assert tree.basis([KEYS["k2"], KEYS["k1"]]) == {KEYS[label] for label in ("k0", "k1", "k2")}
    assert tree.basis([KEYS["k5"]]) == {KEYS["k5"], KEYS["k6"]}
    assert tree.basis([]) == frozenset()
