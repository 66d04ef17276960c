"""Who is joined to whom in a simulated network. Nodes are numbers from 0."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Topology", "line", "mesh", "ring", "star", "tree"]


@dataclass(frozen=True, slots=True)
class Topology:
    """``size`` nodes and the pairs of them that have a link."""

    size: int
    edges: tuple[tuple[int, int], ...]


def line(size: int) -> Topology:
    """Return a line of nodes."""
    return Topology(size, tuple((number, number + 1) for number in range(size - 1)))


def ring(size: int) -> Topology:
    """Return a ring of at least three nodes."""
    return Topology(size, (*line(size).edges, (size - 1, 0)))


def star(leaves: int) -> Topology:
    """Return a hub, which is node 0, and its leaves."""
    return Topology(leaves + 1, tuple((0, number) for number in range(1, leaves + 1)))


def tree(size: int, *, seed: int) -> Topology:
    """Return a random tree: each node but the first joins one of those before it."""
    chance = random.Random(seed)
    return Topology(size, tuple((chance.randrange(number), number) for number in range(1, size)))


def mesh(size: int, degree: float, *, seed: int) -> Topology:
    """Return a random connected mesh whose nodes have ``degree`` links on average (2 or more).

    Raises ``ValueError`` when that many links would join every node to every other.
    """
    chance = random.Random(seed)
    wanted = int(size * degree / 2)
    if wanted > size * (size - 1) // 2:
        raise ValueError(f"{size} nodes cannot have {degree} links each")
    edges = dict.fromkeys(tree(size, seed=seed).edges)
    while len(edges) < wanted:
        one, two = sorted(chance.sample(range(size), 2))
        edges[one, two] = None
    return Topology(size, tuple(edges))
