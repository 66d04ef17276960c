"""``examples/two-hosts-…``: containers on two hosts, each with a Docker daemon of its own, are one mesh."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

import pytest

from tests.container.hosts import Hosts
from tests.container.lab import Container, ContainerLab, wait_for
from tests.container.readme import EXAMPLES, Readme
from tests.interop.measure import require_all_pairs

LEAVES = (("leaf1", "leaf2"), ("leaf3", "leaf4"))
"""On host 1 and on host 2."""
ROUTERS = ("router1", "router2")


def _adopt(labs: Iterable[ContainerLab], routers: bool) -> dict[str, Container]:
    found = {}
    for number, lab in enumerate(labs):
        for name in (*LEAVES[number], *([ROUTERS[number]] if routers else [])):
            found[name] = lab.adopt(name)
    for node in found.values():
        node.wait_ready()
    return found


def _require_neighbours(nodes: dict[str, Container], expected: dict[str, set[str]]) -> None:
    """Wait until each node is linked with just these."""
    names = {node.admin("getself")["key"]: name for name, node in nodes.items()}

    def linked() -> dict[str, set[str]]:
        return {name: {names.get(peer["key"], "?") for peer in nodes[name].peers_up()} for name in expected}

    wait_for(f"the links are {expected}", lambda: linked() == expected)


def _finish(readmes: Iterable[Readme]) -> None:
    first, second = readmes
    first.run("./run.sh down")
    first.require_nothing_left()
    second.require_nothing_left()
    first.require_all_run()


@pytest.fixture
def readmes(request: pytest.FixtureRequest, hosts: Hosts, host_labs: tuple[ContainerLab, ContainerLab]) -> list[Readme]:
    """The page of the option that the test is named after, on each host."""
    name = f"two-hosts-{request.function.__name__[-1]}"
    made = [Readme(lab, name, hosts.variables) for lab in host_labs]
    made[0].run("./run.sh up")
    return made


def _ping(option: int) -> str:
    names = (f"two-hosts-{option}-leaf1", f"two-hosts-{option}-leaf3")
    return (
        f"docker -H $HOST1 exec {names[0]} ping -c 3 -w 30 "
        f"$(docker -H $HOST2 exec {names[1]} yggpy-node -autoconf -address)"
    )


def test_routers_everywhere_1(
    readmes: list[Readme], hosts: Hosts, host_labs: tuple[ContainerLab, ContainerLab]
) -> None:
    nodes = _adopt(host_labs, routers=True)
    star = {leaf: {router} for router, leaves in zip(ROUTERS, LEAVES, strict=True) for leaf in leaves}
    _require_neighbours(
        nodes, star | {"router1": {"leaf1", "leaf2", "router2"}, "router2": {"leaf3", "leaf4", "router1"}}
    )
    require_all_pairs(list(nodes.values()))
    table = readmes[0].run("docker -H $HOST2 exec two-hosts-1-router2 yggpy-ctl getPeers")
    assert f"tls://{hosts.one.address}:9001" in table
    assert table.count("│ Up ") == 3
    assert "3 received" in readmes[0].run(_ping(1))
    _finish(readmes)


def test_multicast_inside_2(readmes: list[Readme], host_labs: tuple[ContainerLab, ContainerLab]) -> None:
    nodes = _adopt(host_labs, routers=True)
    cliques = [{router, *leaves} for router, leaves in zip(ROUTERS, LEAVES, strict=True)]
    expected = {name: clique - {name} for clique in cliques for name in clique}
    _require_neighbours(nodes, expected | {ours: expected[ours] | {other} for ours, other in (ROUTERS, ROUTERS[::-1])})
    require_all_pairs(list(nodes.values()))
    assert "tls://[fe80::" in readmes[0].run("docker -H $HOST1 exec two-hosts-2-leaf1 yggpy-ctl getPeers")
    assert "3 received" in readmes[0].run(_ping(2))
    _finish(readmes)


def test_one_broadcast_domain_3(
    readmes: list[Readme], hosts: Hosts, host_labs: tuple[ContainerLab, ContainerLab]
) -> None:
    nodes = _adopt(host_labs, routers=False)
    _require_neighbours(nodes, {name: set(nodes) - {name} for name in nodes})
    require_all_pairs(list(nodes.values()))
    assert "tls://[fe80::" in readmes[0].run("docker -H $HOST1 exec two-hosts-3-leaf1 yggpy-ctl getPeers")
    assert "3 received" in readmes[0].run(_ping(3))
    # Between the hosts there is nothing but the tunnel.
    assert f"dst {hosts.two.address}" in readmes[0].run("$SHELL1 bridge fdb show dev vx-mesh")
    _finish(readmes)
    assert b"vx-mesh" not in hosts.one.popen(["ip", "link"]).communicate()[0]


@pytest.mark.parametrize("arguments", [(), ("sideways",)], ids=" ".join)
def test_a_wrong_call_of_hosts_shows_the_usage(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([EXAMPLES / "hosts.sh", *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "usage: hosts.sh up [IMAGE ...] | down\n")
