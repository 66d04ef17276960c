"""A line of seven nodes, Go and ours by turns: everything between the ends goes through both as transit."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import ping, require_all_pairs, tcp_transfer

pytestmark = pytest.mark.both_planes

TRANSIT_SIZE = 50_000_000
GO_ENDS = ("0.5.14", OURS, "0.5.12", OURS, "0.5.14", OURS, "0.5.12")
OUR_ENDS = (OURS, "0.5.14", OURS, "0.5.12", OURS, "0.5.14", OURS)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [GO_ENDS, OUR_ENDS], ids=["go-ends", "our-ends"])
def test_line(lab: Lab, kinds: tuple[str, ...]) -> None:
    nodes = [lab.node(kind) for kind in kinds]
    for number, (node, next_node) in enumerate(pairwise(nodes)):
        scheme = ("tls", "tcp")[number % 2]
        if number % 3:
            node.dial(next_node.listen(scheme))
        else:
            next_node.dial(node.listen(scheme))
    lab.start()

    require_all_pairs(nodes, timeout=60)
    for i, node in enumerate(nodes):
        for other in nodes[i + 1 :]:
            result = ping(node, other, count=3)
            assert result.lost == 0, f"{node!r} - {other!r}: {result.output}"
    assert tcp_transfer(nodes[0], nodes[-1], TRANSIT_SIZE).intact
    large = ping(nodes[-1], nodes[0], count=5, size=60000)
    assert large.lost == 0, large.output
