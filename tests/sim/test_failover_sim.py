"""How long a network is silent when a root dies or a node moves, in virtual time, and what answering early costs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import permutations

import pytest

from yggpy.routing.reactions import MAX_REACTIONS_PER_PEER, STARTING
from yggpy.sim import Simulation, Topology, line, mesh

STEP = 0.02
"""Seconds between the payloads of a stream."""
LAN = (0.0002, 0.001)


def longest_silence(simulation: Simulation, pairs: Sequence[tuple[int, int]], seconds: float) -> float:
    """Let each pair send all the time, for ``seconds``; return for how long at most one of them got nothing through."""
    now = simulation.scheduler.now
    end = now() + seconds
    last = dict.fromkeys(pairs, now())
    waiting: dict[tuple[int, int], list[bytes]] = {pair: [] for pair in pairs}
    longest, number = 0.0, 0
    while now() < end:
        for pair in pairs:
            number += 1
            waiting[pair].append(b"%d" % number)
            simulation.send(*pair, waiting[pair][-1])
        simulation.run_for(STEP)
        for pair in pairs:
            if any(simulation.delivered(*pair, payload) for payload in waiting[pair]):
                waiting[pair].clear()
                longest, last[pair] = max(longest, now() - last[pair]), now()
    return max(longest, *(end - at for at in last.values()))


def lowest(simulation: Simulation) -> int:
    return min(simulation.alive, key=lambda node: node.public_key).number


def two_routers(seed: int, ticking: Sequence[int] = (), leaves: Sequence[int] = ()) -> Simulation:
    """0 and 1 are routers, of which 0 is the root; 2, 3 and 4 are leaves at both, and children of the root."""
    topology = Topology(5, ())
    while lowest(simulation := Simulation(topology, seed=seed, latency=LAN, ticking=ticking, leaves=leaves)) != 0:
        seed += 1000
    for number in (1, 2, 3, 4):
        simulation.connect(0, number)
    simulation.run_until_quiet()
    for number in (2, 3, 4):
        simulation.connect(1, number)
    simulation.run_for(STARTING)
    return simulation


@pytest.mark.parametrize("seed", range(4))
def test_leaves_go_on_without_their_root_within_a_second(seed: int) -> None:
    silences = []
    for ticking in ((), range(5)):
        simulation = two_routers(seed, ticking)
        pairs = list(permutations((2, 3, 4), 2))
        assert longest_silence(simulation, pairs, 2.0) < 1.0
        simulation.kill(0)
        silences.append(longest_silence(simulation, pairs, 6.0))
    assert silences[0] < 0.8
    assert silences[0] < silences[1] < 4.0  # nodes that act at their ticks only


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("without_transit", [(), (2, 3, 4)])
def test_leaves_do_not_wait_until_the_other_router_notices_that_their_root_hangs(
    without_transit: Sequence[int], seed: int
) -> None:
    simulation = two_routers(seed, leaves=without_transit)
    pairs = list(permutations((2, 3, 4), 2))
    longest_silence(simulation, pairs, 1.0)
    simulation.nodes[0].is_alive = False  # and its links stay
    simulation.run_for(1.0)
    for link in [link for link in simulation.links.values() if link.ends in {(0, 2), (0, 3), (0, 4)}]:
        simulation.disconnect(link)
        simulation.run_for(0.1)
    assert longest_silence(simulation, pairs, 3.0) < 1.0
    assert all(node.router.root == simulation.nodes[0].public_key for node in simulation.alive)


@pytest.mark.parametrize("seed", range(4))
def test_a_node_that_moves_is_found_half_a_second_after_its_link_is_up(seed: int) -> None:
    """Two routers in a row, a user at each, and a service that goes from the one to the other."""
    simulation = Simulation(Topology(5, ((0, 1), (2, 0), (3, 1), (4, 0))), seed=seed, latency=LAN)
    simulation.run_for(2 * STARTING)
    users = [(2, 4), (3, 4), (4, 2), (4, 3)]
    longest_silence(simulation, users, 1.0)
    (link,) = (link for link in simulation.links.values() if 4 in link.ends)
    simulation.disconnect(link)
    longest_silence(simulation, users, 0.3)
    simulation.connect(1, 4)
    assert longest_silence(simulation, users, 3.0) < 0.5


def test_a_mesh_finds_its_next_root_within_two_seconds() -> None:
    simulation = Simulation(mesh(60, 4, seed=1), seed=1)
    simulation.run_until_quiet()
    root = lowest(simulation)
    others = [node.number for node in simulation.nodes if node.number != root]
    chance = random.Random(1)
    pairs = [(one, two) for one, two in (chance.sample(others, 2) for _ in range(20))]
    longest_silence(simulation, pairs, 3.0)
    simulation.kill(root)
    assert longest_silence(simulation, pairs, 5.0) < 2.0
    assert simulation.roots() == {simulation.nodes[lowest(simulation)].public_key}


def flapping_frames(seed: int, ticking: Sequence[int]) -> int:
    """Return how many frames a mesh of 100 sends while links go and come twice a second."""
    simulation = Simulation(mesh(100, 4, seed=seed), seed=seed, ticking=ticking)
    simulation.run_until_quiet()
    before, chance = simulation.frames_sent, random.Random(seed)
    for _ in range(40):
        simulation.run_for(chance.uniform(0.05, 1.0))
        simulation.flap(chance.choice(list(simulation.links.values())), chance.uniform(0.05, 3.0))
    simulation.run_for(3.0)
    simulation.run_until_quiet()
    assert simulation.roots() == {simulation.nodes[lowest(simulation)].public_key}
    return simulation.frames_sent - before


def test_flapping_links_cost_little_more_than_among_nodes_that_only_tick() -> None:
    frames = [sum(flapping_frames(seed, ticking) for seed in range(6)) for ticking in ((), range(100))]
    print(f"frames of meshes with flapping links, early answers and ticks alone: {frames}")
    assert frames[0] < 1.5 * frames[1]


def test_nodes_that_only_tick_and_others_heal_together() -> None:
    simulation = Simulation(mesh(60, 4, seed=2), seed=2, ticking=range(0, 60, 2))
    chance = random.Random(2)
    for _ in range(30):
        simulation.run_for(chance.uniform(0.05, 1.0))
        simulation.flap(chance.choice(list(simulation.links.values())), chance.uniform(0.05, 3.0))
    simulation.kill(lowest(simulation))
    simulation.run_for(4.0)
    simulation.run_until_quiet()
    assert simulation.roots() == {simulation.nodes[lowest(simulation)].public_key}
    coords = [node.router.fib.self_path for node in simulation.alive]
    assert len(set(coords)) == len(coords)


def test_a_link_that_flaps_all_the_time_makes_a_node_move_so_often_and_no_more() -> None:
    simulation = Simulation(line(6), seed=6)
    simulation.run_until_quiet()
    link = next(iter(simulation.links.values()))
    before = {node.number: node.router._tree.own.seq for node in simulation.nodes}
    seconds = 10
    for _ in range(seconds * 10):
        simulation.disconnect(link)
        simulation.run_for(0.05)
        link = simulation.connect(*link.ends, latency=0.001)
        simulation.run_for(0.05)
    # Each reaction may be followed by another at the end of the grace; then there is the tick.
    limit = (seconds + 1) * (2 * MAX_REACTIONS_PER_PEER + 1)
    for node in simulation.nodes:
        assert node.router._tree.own.seq - before[node.number] < limit
    simulation.run_until_quiet()
    assert len(simulation.roots()) == 1
