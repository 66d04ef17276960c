"""Both data planes in one mesh with Go: each as end, as neighbour of the other and as the node in between."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import ping, require_all_pairs, tcp_transfer
from tests.interop.nodes import MeshNode, YggNode

TRANSFER_SIZE = 20_000_000
NATIVE, PURE, GO = "native", "pure", "0.5.14"


def place(lab: Lab, kind: str, number: int, mtu: int) -> MeshNode:
    """Add a node: a data plane of ours, or a version of Go's."""
    if kind == GO:
        return lab.node(GO, IfMTU=mtu)
    node = YggNode(f"{number:02}-{OURS}-{kind}", lab.space(), lab.folder, {"IfMTU": mtu})
    node.choose_datapath(kind)
    lab.nodes.append(node)
    return node


def require_plane(node: MeshNode, kind: str) -> None:
    """Fail if a node that was to run the engine does not: it has a thread for it; the plane in Python has none."""
    if kind == NATIVE:
        maps = Path(f"/proc/{node.pid}/maps").read_text(encoding="utf-8", errors="replace")
        assert "/_native." in maps, f"{node!r} has not loaded the engine"
        assert len(list(Path(f"/proc/{node.pid}/task").iterdir())) > 1, f"{node!r} does not run the engine"


@pytest.mark.parametrize("mtu", [1280, 65535])
@pytest.mark.parametrize(
    "kinds",
    [(NATIVE, PURE, GO, NATIVE), (PURE, NATIVE, PURE), (GO, NATIVE, NATIVE, GO), (NATIVE, GO, PURE)],
    ids="-".join,
)
def test_a_line_of_planes(lab: Lab, kinds: tuple[str, ...], mtu: int) -> None:
    nodes = [place(lab, kind, number, mtu) for number, kind in enumerate(kinds)]
    for number, (node, next_node) in enumerate(pairwise(nodes)):
        node.dial(next_node.listen(("tls", "tcp")[number % 2]))
    lab.start()
    require_all_pairs(nodes, timeout=60)
    for node, kind in zip(nodes, kinds, strict=True):
        require_plane(node, kind)
    for source, dest in ((nodes[0], nodes[-1]), (nodes[-1], nodes[0])):
        for size in (0, 1, 1193, 1400, 60000):
            result = ping(source, dest, count=5, interval=0.02, size=size)
            assert result.lost == 0, f"{size} bytes, {source!r} - {dest!r}: {result.output}"
        assert tcp_transfer(source, dest, TRANSFER_SIZE).intact
