"""Leaf-only nodes among routers: reached and reaching like anybody, carrying nothing, and in nobody's way."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from yggpy.routing.leaf import LeafRouter
from yggpy.sim import Simulation, Topology, mesh, ring, star


def lowest_first(topology: Topology, leaf: int, *, lowest: bool, **options: float) -> Simulation:
    """Return a simulation in which ``leaf`` has the lowest key of all, or has not."""
    for seed in range(500):
        keys = Simulation(Topology(topology.size, ()), seed=seed)
        first = min(keys.nodes, key=lambda node: node.public_key).number
        if (first == leaf) == lowest:
            return Simulation(topology, seed=seed, leaves={leaf}, **options)  # type: ignore[arg-type]
    raise AssertionError("no such seed")


def join(simulation: Simulation, seconds: float = 8.0) -> None:
    simulation.run_for(seconds)
    simulation.run_until_quiet()


def routers(simulation: Simulation) -> list[int]:
    return [node.number for node in simulation.alive if node.router.transit]


def leaves(simulation: Simulation) -> list[int]:
    return [node.number for node in simulation.alive if not node.router.transit]


def check_leaves(simulation: Simulation) -> None:
    """Nobody is below a leaf, and every peer sees it as its own child: one step further from all than that peer."""
    for node in simulation.alive:
        for number in leaves(simulation):
            leaf = simulation.nodes[number]
            if node is leaf:
                continue
            assert node.router.parent != leaf.public_key
            for link in node.router.fib.links:
                if link.key == leaf.public_key:
                    own = node.router.fib.self_path
                    assert link.path[:-1] == own and len(link.path) == len(own) + 1


def exchange(simulation: Simulation, pairs: list[tuple[int, int]], payload: bytes, seconds: float = 5.0) -> None:
    for one, two in pairs:
        simulation.send(one, two, payload)
    simulation.run_for(seconds)
    missing = [(one, two) for one, two in pairs if not simulation.delivered(one, two, payload)]
    assert missing == []


def refused(simulation: Simulation) -> int:
    return sum(sum(simulation.nodes[number].router.refused.values()) for number in leaves(simulation))


@pytest.mark.parametrize("lowest", [True, False], ids=["lowest-key", "another-key"])
def test_a_leaf_between_two_routers_carries_nothing_of_theirs(lowest: bool) -> None:
    """A triangle: 0 and 1 are routers with a bad link, 2 is the leaf, which would be the better way."""
    simulation = lowest_first(Topology(3, ()), 2, lowest=lowest)
    direct = simulation.connect(0, 1, latency=0.4)
    simulation.connect(0, 2, latency=0.001)
    simulation.connect(1, 2, latency=0.001)
    join(simulation)
    check_leaves(simulation)
    assert simulation.roots() == {min(simulation.nodes[number].public_key for number in (0, 1))}
    before = direct.traffic_frames
    exchange(simulation, list(permutations(range(3), 2)), b"hello")
    assert direct.traffic_frames > before
    assert refused(simulation) == 0


@pytest.mark.parametrize("seed", range(12))
def test_random_meshes_with_leaves(seed: int) -> None:
    """Routers form a connected mesh; leaves have one to three links to them. Everybody reaches everybody."""
    chance = random.Random(seed)
    size, count = 30, 12
    topology = mesh(size, 3, seed=seed)
    extra = tuple(
        (router, leaf) for leaf in range(size, size + count) for router in chance.sample(range(size), 1 + leaf % 3)
    )
    simulation = Simulation(Topology(size + count, topology.edges + extra), seed=seed, leaves=range(size, size + count))
    join(simulation)
    check_leaves(simulation)
    assert simulation.roots() == {min(simulation.nodes[number].public_key for number in range(size))}
    pairs = [tuple(chance.sample(range(size + count), 2)) for _ in range(150)]
    exchange(simulation, [(one, two) for one, two in pairs], b"hello")
    # Once settled nothing is asked of a leaf, whoever talks.
    settled = refused(simulation)
    exchange(simulation, [(one, two) for one, two in pairs], b"again", 3.0)
    simulation.run_for(600.0)  # refreshes of everybody, and expiries if a story were not renewed
    check_leaves(simulation)
    exchange(simulation, [(one, two) for one, two in pairs], b"later")
    assert refused(simulation) == settled


@pytest.mark.parametrize("lowest", [True, False], ids=["lowest-key", "another-key"])
def test_routers_joined_by_a_leaf_alone_are_not_joined(lowest: bool) -> None:
    """0-1 and 3-4 are networks of two; 2 is a leaf with a link to both."""
    simulation = lowest_first(Topology(5, ((0, 1), (3, 4), (1, 2), (2, 3))), 2, lowest=lowest)
    join(simulation)
    keys = [node.public_key for node in simulation.nodes]
    left, right = min(keys[0], keys[1]), min(keys[3], keys[4])
    assert [simulation.nodes[number].router.root for number in (0, 1, 3, 4)] == [left, left, right, right]
    for one, two in ((0, 4), (3, 1)):
        simulation.send(one, two, b"too far")
    simulation.run_for(20.0)
    assert not simulation.delivered(0, 4, b"too far") and not simulation.delivered(3, 1, b"too far")
    assert simulation.nodes[0].router.paths() == []  # not found, and not sent into nowhere
    # The leaf lives in the tree with the lowest root, and is reached there.
    home = (0, 1) if left < right else (3, 4)
    assert simulation.nodes[2].router.root == min(left, right)
    exchange(simulation, [(2, home[0]), (home[0], 2), (2, home[1]), (home[1], 2)], b"hello")
    exchange(simulation, [(0, 1), (1, 0), (3, 4), (4, 3)], b"inside")
    # Nobody changes its mind.
    before = simulation.frames_sent
    simulation.run_for(100.0)
    assert simulation.frames_sent - before < 100
    assert refused(simulation) == 0


def test_a_leaf_stays_reachable_when_one_of_its_routers_dies() -> None:
    simulation = Simulation(Topology(7, (*ring(6).edges, (0, 6), (3, 6))), seed=4, leaves={6})
    join(simulation)
    exchange(simulation, [(1, 6), (6, 1), (5, 6), (6, 5)], b"before")
    parent = simulation.nodes[6].router.parent
    dead = next(node.number for node in simulation.nodes if node.public_key == parent)
    simulation.kill(dead)
    assert simulation.nodes[6].router.parent != parent  # at once
    simulation.run_for(10.0)
    simulation.run_until_quiet()
    check_leaves(simulation)
    exchange(simulation, [(1, 6), (6, 1), (5, 6), (6, 5)], b"after", 15.0)


def restart_as_leaf(simulation: Simulation, number: int) -> None:
    """Let a router vanish and come back as a leaf, with its key and its links, and nothing in its memory."""
    node = simulation.nodes[number]
    ends = []
    for link in [link for link in simulation.links.values() if number in link.ends]:
        simulation.disconnect(link)
        ends.append(next(end for end in link.ends if end != number))
    simulation.run_for(0.1)
    router = node.router
    node.router = LeafRouter(router._private_key, last_traffic=router._paths._last_traffic)
    node.router.start(simulation.scheduler.now())
    for end in ends:
        simulation.connect(number, end)


def test_a_router_that_comes_back_as_a_leaf_is_left_by_its_children() -> None:
    """Others still hold its old announcement, with a higher seq and another parent, and some are its children."""
    simulation = Simulation(Topology(6, (*ring(5).edges, (0, 5), (2, 5), (3, 5))), seed=8)
    simulation.run_until_quiet()
    simulation.run_for(700.0)  # refreshes: the old seq is higher than what a fresh start begins with
    assert simulation.nodes[5].router._tree.own.seq > 2
    restart_as_leaf(simulation, 5)
    join(simulation)
    check_leaves(simulation)
    exchange(simulation, list(permutations(range(6), 2)), b"hello", 8.0)


@pytest.mark.parametrize("lowest", [True, False], ids=["lowest-key", "another-key"])
def test_routers_that_had_a_leaf_between_them_part(lowest: bool) -> None:
    """Before, it was the hub of all and perhaps the root; its old announcement makes it no parent now."""
    simulation = next(
        found
        for found in (Simulation(star(4), seed=seed) for seed in range(100))
        if (found.nodes[0].public_key == min(node.public_key for node in found.nodes)) == lowest
    )
    simulation.run_until_quiet()
    simulation.run_for(300.0)
    assert len(simulation.roots()) == 1
    restart_as_leaf(simulation, 0)
    join(simulation)
    check_leaves(simulation)
    assert [node.router.root for node in simulation.nodes[1:]] == [node.public_key for node in simulation.nodes[1:]]
    home = min(simulation.nodes[1:], key=lambda node: node.public_key).number
    exchange(simulation, [(0, home), (home, 0)], b"hello")


def test_links_that_flap_do_not_make_a_leaf_a_way() -> None:
    simulation = Simulation(
        Topology(12, (*mesh(10, 3, seed=3).edges, (0, 10), (5, 10), (7, 11), (2, 11))), seed=3, leaves={10, 11}
    )
    join(simulation)
    chance = random.Random(3)
    for _ in range(30):
        simulation.flap(chance.choice(list(simulation.links.values())), chance.uniform(0.05, 3.0))
        one, two = chance.sample(range(12), 2)
        simulation.send(one, two, b"noise")
        simulation.run_for(chance.uniform(0.2, 2.0))
    simulation.run_for(10.0)
    simulation.run_until_quiet()
    check_leaves(simulation)
    settled = refused(simulation)
    exchange(simulation, list(permutations(range(12), 2)), b"calm", 8.0)
    assert refused(simulation) == settled
