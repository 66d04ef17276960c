"""``yggpy-ctl subnet``: the commands that make a node's subnet a Docker network, and what must not get into them."""

from __future__ import annotations

import json
import shlex
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from tests.unit.ctl_fakes import answering, serving, success
from yggpy.ctl.main import main
from yggpy.ctl.subnet import docker_commands

Capture = pytest.CaptureFixture[str]
SUBNET = "302:1234:5678:9abc::/64"
GATEWAY = "302:1234:5678:9abc::1"


def ask(tmp_path: Path, *words: str, subnet: str = SUBNET) -> int:
    place = tmp_path / f"{len(list(tmp_path.iterdir()))}"
    with serving(place, answering(success({"subnet": subnet}))) as (endpoint, _):
        return main([f"-endpoint={endpoint}", *words])


def test_the_subnet_by_itself(tmp_path: Path, capfd: Capture) -> None:
    assert ask(tmp_path, "subnet") == 0
    assert capfd.readouterr() == (f"{SUBNET}\n", "")
    assert ask(tmp_path, "-json", "Subnet") == 0
    assert json.loads(capfd.readouterr().out) == {"subnet": SUBNET, "gateway": GATEWAY}


def test_commands_for_docker(tmp_path: Path, capfd: Capture) -> None:
    assert ask(tmp_path, "subnet", "docker", "network=mesh", "bridge=br-mesh") == 0
    out, err = capfd.readouterr()
    lines = [shlex.split(line, comments=True) for line in out.splitlines()]
    forwarding, create = [line for line in lines if line]
    assert (forwarding, err) == (["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"], "")
    assert create[:3] == ["docker", "network", "create"]
    assert create[-1] == "mesh"
    assert create[create.index("--subnet") + 1] == SUBNET
    assert create[create.index("--gateway") + 1] == GATEWAY
    assert "--ipv6" in create
    assert "com.docker.network.bridge.name=br-mesh" in create

    assert ask(tmp_path, "-json", "subnet", "docker") == 0
    commands = docker_commands(IPv6Network(SUBNET), "yggdrasil")
    assert json.loads(capfd.readouterr().out) == {
        "subnet": SUBNET,
        "gateway": GATEWAY,
        "network": "yggdrasil",
        "commands": [*commands],
    }


@pytest.mark.parametrize(
    "words",
    [
        ("podman",),
        ("docker", "docker"),
        ("docker", "network=-x"),
        ("docker", "network="),
        ("docker", "network=a;reboot"),
        ("docker", "network=a\nreboot"),
        ("docker", "bridge=seventeen-letters"),
        ("docker", "bridge=a b"),
    ],
)
def test_what_is_no_name_is_an_error(words: tuple[str, ...], tmp_path: Path, capfd: Capture) -> None:
    assert ask(tmp_path, "subnet", *words) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "subnet", ["", "300::/7", "200::/64", "302::/63", "302::1/64", "302::/64; reboot", "10.0.0.0/24"]
)
def test_a_node_that_names_no_subnet_gets_nothing_into_the_shell(subnet: str, tmp_path: Path, capfd: Capture) -> None:
    assert ask(tmp_path, "subnet", "docker", subnet=subnet) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "no /64 of 300::/8" in err


def test_other_commands_take_no_words(tmp_path: Path, capfd: Capture) -> None:
    assert ask(tmp_path, "-json", "getSelf", "docker") == 0
    assert 'ignoring "docker"' in capfd.readouterr().err
