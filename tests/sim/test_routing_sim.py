"""Trees of many routers: they form, break and heal, and payloads find their way. All on a virtual clock."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import permutations

import pytest

from yggpy.sim import NotQuiet, Simulation, Topology, line, mesh, ring, star, tree


def lowest_key(simulation: Simulation) -> bytes:
    return min(node.public_key for node in simulation.alive)


def random_pairs(simulation: Simulation, count: int, *, seed: int = 0) -> list[tuple[int, int]]:
    alive = [node.number for node in simulation.alive]
    chance = random.Random(seed)
    return [(one, two) for one, two in (chance.sample(alive, 2) for _ in range(count))]


def missing(simulation: Simulation, pairs: list[tuple[int, int]], payload: bytes) -> list[tuple[int, int]]:
    return [(one, two) for one, two in pairs if not simulation.delivered(one, two, payload)]


def check_tree(simulation: Simulation) -> None:
    """All follow the lowest key, have coordinates of their own, and see their peers where these see themselves."""
    assert simulation.roots() == {lowest_key(simulation)}
    coords = {node.public_key: node.router.fib.self_path for node in simulation.alive}
    assert len(set(coords.values())) == len(coords)
    for node in simulation.alive:
        assert {link.key: link.path for link in node.router.fib.links}.items() <= coords.items()


@pytest.mark.parametrize(
    "topology",
    [line(40), ring(60), tree(120, seed=5), star(80), mesh(60, 6, seed=6)],
    ids=["line", "ring", "tree", "star", "mesh"],
)
def test_any_connected_network_grows_one_tree(topology: Topology) -> None:
    simulation = Simulation(topology, seed=3)
    simulation.run_until_quiet()
    check_tree(simulation)
    pairs = random_pairs(simulation, 60)
    for one, two in pairs:
        simulation.send(one, two, b"hello")
    simulation.run_for(5.0)
    assert missing(simulation, pairs, b"hello") == []


def test_two_hundred_nodes_find_each_other_through_their_filters() -> None:
    simulation = Simulation(mesh(200, 4, seed=1), seed=1)
    simulation.run_until_quiet()
    check_tree(simulation)
    pairs = random_pairs(simulation, 400)
    before = simulation.frames_sent
    for one, two in pairs:
        simulation.send(one, two, b"hello")
    simulation.run_for(3.0)
    assert missing(simulation, pairs, b"hello") == []
    # A flood would take 199 look-ups for each pair; the filters leave little more than the way there and back.
    assert simulation.frames_sent - before < len(pairs) * 100
    for one, two in pairs:
        simulation.send(one, two, b"again")
    simulation.run_for(0.5)  # the paths are known: no search, just latency
    assert missing(simulation, pairs, b"again") == []
    assert not any(node.router.paths() == [] for node in (simulation.nodes[one] for one, _ in pairs))


def test_the_same_seed_gives_the_same_network() -> None:
    runs = []
    for _ in range(2):
        simulation = Simulation(mesh(40, 3, seed=2), seed=2, loss=0.02)
        simulation.run_for(20.0)
        runs.append((simulation.frames_sent, [node.router.fib.self_path for node in simulation.nodes]))
    assert runs[0] == runs[1]


def test_a_lost_root_is_replaced_by_the_next_lowest_key() -> None:
    simulation = Simulation(mesh(100, 5, seed=4), seed=4)
    simulation.run_until_quiet()
    for payload in (b"one", b"two", b"three"):
        root = next(node.number for node in simulation.alive if node.public_key == lowest_key(simulation))
        simulation.kill(root)
        simulation.run_until_quiet(30.0)
        check_tree(simulation)
        pairs = random_pairs(simulation, 80, seed=root)
        for one, two in pairs:
            simulation.send(one, two, payload)
        simulation.run_for(5.0)
        assert missing(simulation, pairs, payload) == []


def test_the_halves_of_a_network_live_alone_and_join_again() -> None:
    simulation = Simulation(mesh(80, 4, seed=7), seed=7)
    simulation.run_until_quiet()
    # Halves that are connected in themselves: whoever is nearer to one of two nodes.
    group = half_of(simulation, mesh(80, 4, seed=7))
    cut = simulation.partition(group)
    assert cut
    simulation.run_until_quiet()
    assert len(simulation.roots()) == 2
    inside = {simulation.nodes[number].router.root for number in group}
    assert inside == {min(simulation.nodes[number].public_key for number in group)}
    far = next(number for number in range(80) if number not in group)
    near = min(group)
    simulation.send(near, far, b"too far")
    simulation.run_for(10.0)
    assert not simulation.delivered(near, far, b"too far")

    simulation.heal(cut)
    simulation.run_until_quiet()
    check_tree(simulation)
    assert simulation.delivered(near, far, b"too far")  # its search went on
    pairs = random_pairs(simulation, 80)
    for one, two in pairs:
        simulation.send(one, two, b"together")
    simulation.run_for(5.0)
    assert missing(simulation, pairs, b"together") == []


def half_of(simulation: Simulation, topology: Topology) -> set[int]:
    """Return a connected half of a network whose other nodes are connected too: a branch of its spanning tree."""
    numbers = {node.public_key: node.number for node in simulation.nodes}
    parents = {
        numbers[entry.key]: numbers[entry.parent]
        for node in simulation.nodes
        for entry in node.router.tree()
        if entry.key == node.public_key
    }
    branches: dict[int, set[int]] = {number: set() for number in range(topology.size)}
    for number in range(topology.size):
        here = number
        while True:
            branches[here].add(number)
            if parents[here] == here:
                break
            here = parents[here]
    return min(branches.values(), key=lambda branch: abs(len(branch) - topology.size // 2))


def start_cold(simulation: Simulation) -> None:
    """Do not wait for the tree."""


def start_warm(simulation: Simulation) -> None:
    simulation.run_until_quiet()


@pytest.mark.parametrize("begin", [start_cold, start_warm], ids=["cold", "warm"])
def test_all_pairs_around_a_hub_start_at_once(begin: Callable[[Simulation], None]) -> None:
    leaves = range(1, 61)
    simulation = Simulation(star(len(leaves)), seed=8)
    begin(simulation)
    for one, two in permutations(leaves, 2):
        simulation.send(one, two, b"hello")
    simulation.run_for(10.0)
    assert missing(simulation, list(permutations(leaves, 2)), b"hello") == []


def test_a_first_message_arrives_though_the_tree_was_not_there_and_nobody_answers() -> None:
    """One-way traffic: the search comes before tree and filters, and its receiver never speaks."""
    simulation = Simulation(line(15), seed=9)
    simulation.send(0, 14, b"one way")
    simulation.run_for(40.0)
    assert simulation.delivered(0, 14, b"one way")


def test_losses_and_flapping_links_are_lived_with() -> None:
    simulation = Simulation(mesh(60, 4, seed=10), seed=10, loss=0.05)
    chance = random.Random(10)
    for _ in range(40):
        simulation.run_for(chance.uniform(0.2, 2.0))
        links = list(simulation.links.values())
        simulation.flap(chance.choice(links), chance.uniform(0.1, 5.0))
        one, two = chance.sample(range(60), 2)
        simulation.send(one, two, b"noise")
    simulation.run_for(6.0)
    simulation.run_until_quiet()
    check_tree(simulation)
    pairs = random_pairs(simulation, 80)
    for one, two in pairs:
        simulation.send(one, two, b"calm")
    simulation.run_for(8.0)
    assert missing(simulation, pairs, b"calm") == []


def test_links_that_are_back_before_anybody_ticks_leave_coordinates_unique() -> None:
    leaves = 12
    simulation = Simulation(star(leaves), seed=15)
    simulation.run_until_quiet()
    chance = random.Random(15)
    for _ in range(10):
        for link in chance.sample(list(simulation.links.values()), 4):
            simulation.flap(link, chance.uniform(0.05, 0.3))
        simulation.run_for(6.0)
        check_tree(simulation)


def test_a_conversation_follows_a_node_that_moves() -> None:
    """The path that the sender knows breaks; the report of it leads to the new one, and the payload goes out again."""
    simulation = Simulation(Topology(12, (*ring(11).edges, (0, 11))), seed=11)
    simulation.run_until_quiet()
    mover, sender = 11, 5
    simulation.send(sender, mover, b"before")
    simulation.run_for(3.0)
    assert simulation.delivered(sender, mover, b"before")
    for stop in (4, 8, 2):
        (link,) = (link for link in simulation.links.values() if mover in link.ends)
        simulation.disconnect(link)
        simulation.connect(stop, mover)
        payload = b"at %d" % stop
        simulation.send(sender, mover, payload)
        simulation.run_for(25.0)
        assert simulation.delivered(sender, mover, payload)


def test_parallel_links_carry_on_for_one_another() -> None:
    simulation = Simulation(Topology(3, ((0, 1), (0, 1), (1, 2), (1, 2), (1, 2))), seed=12)
    simulation.run_until_quiet()
    check_tree(simulation)
    coords = [node.router.fib.self_path for node in simulation.nodes]
    for number, link in enumerate(list(simulation.links.values())[1:4]):
        simulation.disconnect(link)
        payload = b"%d" % number
        simulation.send(0, 2, payload)
        simulation.run_for(3.0)
        assert simulation.delivered(0, 2, payload)
    assert [node.router.fib.self_path for node in simulation.nodes] == coords


@pytest.mark.parametrize("dear", [1, 2])
def test_traffic_takes_the_way_that_is_said_to_cost_less(dear: int) -> None:
    """0 has two neighbours, both next to 3; 3 is the root, so that both are equally near to it."""
    seed = next(seed for seed in range(100) if lowest_number(Simulation(Topology(4, ()), seed=seed)) == 3)
    simulation = Simulation(Topology(4, ((1, 3), (2, 3))), seed=seed, latency=(0.010, 0.011))
    links = {one: simulation.connect(0, one, cost=2000 if one == dear else None) for one in (1, 2)}
    simulation.run_until_quiet()
    check_tree(simulation)
    for number in range(10):
        simulation.send(0, 3, b"%d" % number)
        simulation.run_for(1.0)
        assert simulation.delivered(0, 3, b"%d" % number)
    assert links[dear].traffic_frames == 0 and links[3 - dear].traffic_frames >= 10
    # The other end goes by what it measures: a cost is one node's own affair.
    assert simulation.nodes[dear].router.link_cost(links[dear].link_id) < 100


def lowest_number(simulation: Simulation) -> int:
    return next(node.number for node in simulation.nodes if node.public_key == lowest_key(simulation))


def test_a_settled_network_is_silent_but_for_refreshes() -> None:
    simulation = Simulation(mesh(50, 4, seed=13), seed=13)
    simulation.run_until_quiet()
    before = simulation.frames_sent
    simulation.run_for(1000.0)  # four refreshes of every info; without them they would expire
    check_tree(simulation)
    assert simulation.frames_sent - before < 50 * 4 * 150
    assert all(node.router.routing_entries > 1 for node in simulation.nodes)


def test_quiet_has_a_limit() -> None:
    simulation = Simulation(line(30), seed=14)
    with pytest.raises(NotQuiet):
        simulation.run_until_quiet(2.0)


def test_topologies() -> None:
    assert line(3).edges == ((0, 1), (1, 2))
    assert ring(3).edges == ((0, 1), (1, 2), (2, 0))
    assert star(2).edges == ((0, 1), (0, 2))
    assert len(tree(50, seed=1).edges) == 49
    random_mesh = mesh(50, 5, seed=1)
    assert len(random_mesh.edges) == len(set(random_mesh.edges)) == 125
    assert all(one < two < 50 for one, two in random_mesh.edges)
    assert random_mesh == mesh(50, 5, seed=1) != mesh(50, 5, seed=2)
    with pytest.raises(ValueError, match="5 nodes"):
        mesh(5, 5, seed=1)
