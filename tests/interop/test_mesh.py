"""A random mesh of twelve, half Go and half ours: it converges, and what is left after deaths finds itself again."""

from __future__ import annotations

import random

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import require_all_pairs

pytestmark = pytest.mark.both_planes

SIZE = 12
EXTRA_LINKS = 8
DEATHS = 3
CONVERGENCE_LIMIT = 60.0
SEED = 20240510


def _random_links(generator: random.Random) -> set[tuple[int, int]]:
    """Return a connected graph: a random tree and some links more."""
    links = {(generator.randrange(node), node) for node in range(1, SIZE)}
    while len(links) < SIZE - 1 + EXTRA_LINKS:
        a, b = sorted(generator.sample(range(SIZE), 2))
        links.add((a, b))
    return links


def _components(nodes: set[int], links: set[tuple[int, int]]) -> list[list[int]]:
    """Return the connected parts of what is left of the graph."""
    left, parts = set(nodes), []
    while left:
        part, border = set(), {min(left)}
        while border:
            part |= border
            neighbours = {b for a, b in links if a in border} | {a for a, b in links if b in border}
            border = (neighbours & nodes) - part
        left -= part
        parts.append(sorted(part))
    return parts


@pytest.mark.slow
def test_random_mesh(lab: Lab) -> None:
    generator = random.Random(SEED)
    kinds = [OURS] * (SIZE // 2) + [GO_VERSIONS[number % 2] for number in range(SIZE // 2)]
    generator.shuffle(kinds)
    nodes = [lab.node(kind) for kind in kinds]
    links = _random_links(generator)
    for number, (a, b) in enumerate(sorted(links)):
        dialler, listener = generator.sample((nodes[a], nodes[b]), 2)
        dialler.dial(listener.listen(("tls", "tcp")[number % 2]))
    lab.start()
    require_all_pairs(nodes, timeout=CONVERGENCE_LIMIT)

    dead = generator.sample(range(SIZE), DEATHS)
    for number in dead:
        nodes[number].kill()
    parts = _components(set(range(SIZE)) - set(dead), links)
    assert max(map(len, parts)) >= SIZE // 2, "the seed leaves too little of the mesh to say anything"
    for part in parts:
        require_all_pairs([nodes[number] for number in part], timeout=CONVERGENCE_LIMIT)
