"""The commands of an example's README, run as they stand there.

A test runs them one by one, in any order and with its own checks between them. What is not in the README it cannot run,
and what it has left out :meth:`Readme.require_all_run` finds. Two things are changed on the way: names begin with the
lab's prefix instead of the example's, and ``docker compose`` becomes ``docker-compose`` where that is what there is.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from functools import cache

from tests.container.engine import PROJECT, DockerError
from tests.container.lab import Container, ContainerLab, wait_for
from tests.gates import gate

__all__ = ["EXAMPLES", "Readme"]

EXAMPLES = PROJECT / "examples"
_FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


class Readme:
    """An example's README in a lab."""

    def __init__(self, lab: ContainerLab, name: str, env: Mapping[str, str] | None = None) -> None:
        """``name``: the example's folder. ``env``: variables besides ``PREFIX`` and ``YGGPY_IMAGE``."""
        self._lab = lab
        self._name = name
        self._folder = EXAMPLES / name
        self._env = dict(env or {})
        blocks = _FENCE.findall((self._folder / "README.md").read_text(encoding="utf-8"))
        self.commands = [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]
        """All of them, in their order."""
        self._left = set(self.commands)

    @property
    def project(self) -> str:
        """What Docker Compose calls the example."""
        return self._lab.prefix + self._name

    def run(self, command: str, timeout: float = 120) -> str:
        """Run one of the commands in the example's folder; return its output. Raises :class:`DockerError`."""
        assert command in self.commands, f"examples/{self._name}/README.md has no line {command!r}"
        self._left.discard(command)
        words = re.sub(rf"\b{self._name}-(?=[a-z])", self._lab.prefix, command)
        if words.startswith("docker compose "):
            words = words.replace("docker compose", _compose(), 1)
        done = subprocess.run(
            ["sh", "-c", words],
            cwd=self._folder,
            env={
                **self._lab.engine.environment,
                "PREFIX": self._lab.prefix,
                "YGGPY_IMAGE": self._lab.images.node,
                "COMPOSE_PROJECT_NAME": self.project,
                **self._env,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise DockerError(f"{words}: exit code {done.returncode}: {text[-3000:]}")
        return text

    def services(self, service: str) -> list[Container]:
        """Return the running containers of one of Docker Compose's services."""
        chosen = [f"label=com.docker.compose.project={self.project}", f"label=com.docker.compose.service={service}"]
        filters = [word for rule in chosen for word in ("--filter", rule)]
        names = self._lab.engine.docker("ps", *filters, "--format", "{{.Names}}").split()
        return [self._lab.adopt(name.removeprefix(self._lab.prefix)) for name in sorted(names)]

    def require_nothing_left(self) -> None:
        """Fail if a container, a network or a volume is there that the example has made."""
        self._lab.containers.clear()
        pattern = re.escape(self._lab.prefix) + ".*"
        kinds = ("container", "network", "volume")
        wait_for("all is removed", lambda: not any(self._lab.engine.names(kind, pattern) for kind in kinds), timeout=20)

    def require_all_run(self) -> None:
        """Fail if a command of the README was not run."""
        assert not self._left, f"examples/{self._name}/README.md: not tested: {sorted(self._left)}"


@cache
def _compose() -> str:
    """Return how Docker Compose is called on this machine."""
    for words in ("docker compose", "docker-compose"):
        try:
            done = subprocess.run(
                [*words.split(), "version"], env=os.environ, capture_output=True, timeout=60, check=False
            )
        except OSError:
            continue
        if done.returncode == 0:
            return words
    gate("no Docker Compose: apt-get install docker-compose", "container")
