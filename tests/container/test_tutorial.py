"""The commands of docs/containers.md work, in the order in which they stand there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.container.engine import PROJECT
from tests.container.lab import DOCKER_FLAGS, ContainerLab

PAGE = (PROJECT / "docs" / "containers.md").read_text(encoding="utf-8")
NAMES = ("alice", "bob", "carol-state", "carol", "dave", "erin", "mesh", "router", "web")
"""What the commands call containers, volumes and networks."""
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
TIMEOUT = 300


def _in_lab(commands: str, lab: ContainerLab, tag: str) -> str:
    """Return the commands with the lab's names, base image and places, and nothing else changed."""
    commands = re.sub(rf"(?<![\w$-])({'|'.join(NAMES)})(?![\w-])", rf"{lab.prefix}\1", commands)
    commands = re.sub(r"(?<= )yggpy(?=\s)", tag, commands)
    commands = re.sub(r"(?<=BASE=)\S+", lab.images.base, commands)
    return re.sub(rf"(?<={re.escape(tag)}) \.$", f" {PROJECT}", commands, flags=re.M)


@pytest.mark.slow
def test_the_tutorial(docker: ContainerLab) -> None:
    assert len(BLOCKS) == 9
    assert docker.images.node  # from here on the build finds everything made
    tag = f"{docker.prefix}image"
    script = "set -eu\n" + "".join(_in_lab(block, docker, tag) for block in BLOCKS)
    path = docker.folder / "tutorial.sh"
    path.write_text(script, encoding="utf-8")
    try:
        done = subprocess.run(
            ["sh", "-x", path],
            cwd=docker.folder,
            env=docker.engine.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            check=False,
        )
    finally:
        docker.engine.docker("image", "rm", "--no-prune", tag, check=False)
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    assert len(re.findall(r" [1-3] received", output)) == 3
    assert "\nhealthy: " in output
    for kind in ("container", "network", "volume"):
        assert docker.engine.names(kind, f"{docker.prefix}.*") == [], "step 8 cleans up"


def test_the_flags_are_those_that_the_tests_use() -> None:
    flags = " ".join(DOCKER_FLAGS)
    starts = [command for block in BLOCKS for command in re.split(r"(?<!\\)\n", block) if "docker run -d" in command]
    assert len(starts) == 8
    assert [command for command in starts if flags not in command] == [next(c for c in starts if "--name web" in c)]
    assert "--privileged" not in "".join(BLOCKS)


def test_the_compose_file_gives_the_same() -> None:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.M | re.S)
    node = yaml.safe_load(text)["services"]["node"]
    assert node["cap_add"] == ["NET_ADMIN"]
    assert node["devices"] == ["/dev/net/tun"]
    assert node["sysctls"] == {"net.ipv6.conf.all.disable_ipv6": "0"}


def test_the_default_base_is_the_one_that_is_named() -> None:
    default = re.search(r"^ARG BASE=(\S+)$", Path(PROJECT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert default is not None
    assert f"--build-arg BASE={default[1]} " in PAGE
