"""``examples/broadcast``: leaves on one Docker network find each other, and nobody else."""

from __future__ import annotations

from tests.container.lab import ContainerLab, wait_for
from tests.container.readme import Readme
from tests.interop.measure import require_all_pairs


def test_broadcast(docker: ContainerLab) -> None:
    readme = Readme(docker, "broadcast")
    outsider = docker.node("outsider", docker.network("other"), "-autoconf")
    assert "up: leaf1 leaf2 leaf3" in readme.run("./run.sh up")
    leaves = [docker.adopt(f"leaf{number}") for number in (1, 2, 3)]
    ping = "docker exec broadcast-leaf1 ping -c 3 -w 30 $(docker exec broadcast-leaf3 yggpy-node -autoconf -address)"
    assert "3 received" in readme.run(ping)
    require_all_pairs(leaves)
    for leaf in leaves:
        others = {other.admin("getself")["key"] for other in leaves if other is not leaf}
        wait_for(f"{leaf} has a link to each", lambda: {peer["key"] for peer in leaf.peers_up()} == others)  # noqa: B023
    table = readme.run("docker exec broadcast-leaf1 yggpy-ctl getPeers")
    assert table.count("%25eth0") >= 2
    assert "eth0" in readme.run("docker exec broadcast-leaf1 yggpy-ctl getMulticastInterfaces")
    # It began first, and heard nobody from there.
    outsider.wait_ready()
    assert outsider.admin("getpeers")["peers"] in (None, [])
    outsider.remove()
    readme.run("./run.sh down")
    assert docker.engine.names("container", f"{docker.prefix}.*") == []

    readme.run("docker compose up -d --scale leaf=3")
    require_all_pairs(readme.services("leaf"))
    readme.run("docker compose down")
    docker.engine.docker("network", "rm", f"{docker.prefix}other")
    readme.require_nothing_left()
    readme.require_all_run()
