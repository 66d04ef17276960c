"""``examples/mixed``: Go nodes on stand-ins for machines and our containers, in one mesh."""

from __future__ import annotations

from tests.container.lab import ContainerLab, wait_for
from tests.container.readme import Readme
from tests.interop.go_node import GoPrograms
from tests.interop.measure import require_all_pairs


def test_mixed(docker: ContainerLab, go: GoPrograms) -> None:
    readme = Readme(docker, "mixed", {"YGGDRASIL": str(go.node)})
    assert "up: metal1 metal2 (Go), gate box1 box2 (yggpy)" in readme.run("./run.sh up")
    # The files of the machines say where the admin socket is, and that is where ours is.
    metal1, metal2, gate, box1, box2 = (docker.adopt(name) for name in ("metal1", "metal2", "gate", "box1", "box2"))
    for metal in (metal1, metal2):
        assert metal.exec("cat", "/proc/1/comm").strip() == "yggdrasil"
        assert metal.admin("getself")["build_name"] == "yggdrasil"
    require_all_pairs([metal1, metal2, gate, box1, box2])
    ping = "docker exec mixed-box1 ping -c 3 -w 30 $(docker exec mixed-box2 yggpy-node -autoconf -address)"
    assert "3 received" in readme.run(ping)

    # As it is drawn: metal1 has the gate alone, and the rack's four have each other.
    keys = {node: node.admin("getself")["key"] for node in (metal1, metal2, gate, box1, box2)}
    assert {peer["key"] for peer in metal1.peers_up()} == {keys[gate]}
    rack = {keys[node] for node in (metal2, gate, box1, box2)}
    for node in (metal2, box1, box2):
        wait_for(f"{node} has the rack", lambda: {peer["key"] for peer in node.peers_up()} == rack - {keys[node]})  # noqa: B023

    table = readme.run("docker exec mixed-gate yggpy-ctl getPeers")
    assert "tls://metal1:9001" in table
    assert "yggdrasil" in readme.run("docker exec mixed-metal1 yggpy-ctl getSelf")
    assert gate.address in readme.run("docker exec mixed-metal1 yggpy-ctl getPeers")
    readme.run("./run.sh down")
    readme.require_nothing_left()
    readme.require_all_run()
