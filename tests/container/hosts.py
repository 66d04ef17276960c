"""Two Docker hosts on this machine: what ``examples/hosts.sh`` makes, and a lab on each of them.

A host is a network namespace with a Docker daemon of its own, which has its own images, bridges, packet filter and
published ports; a cable joins the two. The examples are told of them as of any other hosts (:attr:`Hosts.variables`).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.container.engine import PROJECT, DockerError, Engine

__all__ = ["NGINX", "Host", "Hosts"]

SCRIPT = PROJECT / "examples" / "hosts.sh"
PREFIX = "yggpy-{}-"
TIMEOUT = 300.0
NGINX = (
    "yggpy-test-nginx",
    """\
ARG BASE
FROM ${BASE}
RUN apt-get -q update \\
 && DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends nginx-light \\
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
""",
)
"""An image with Debian's nginx, for :meth:`~tests.container.images.Images.build`."""


class Host(Engine):
    """One of the two: its daemon, and programs of this machine that run there."""

    def __init__(self, url: str, address: str, shell: str) -> None:
        """``url``: of the daemon. ``address``: at which the other host reaches it. ``shell``: runs commands on it."""
        super().__init__()
        self.environment = {**os.environ, "DOCKER_HOST": url}
        self.url = url
        self.address = address
        self.shell = shell

    def popen(
        self, command: Sequence[str | Path], *, output: int | IO[bytes] = subprocess.PIPE
    ) -> subprocess.Popen[bytes]:
        """Start a program of this machine on the host. The pid is the program's own."""
        words = [*shlex.split(self.shell), *map(str, command)]
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


class Hosts:
    """Both hosts. A context manager: when it ends, nothing of them is left."""

    def __init__(self, engine: Engine, images: Iterable[str]) -> None:
        """``images``: what the hosts get of ``engine``."""
        self._engine = engine
        self._images = tuple(images)
        self._prefix = PREFIX.format(os.getpid())
        self.variables: dict[str, str] = {}
        """How the examples reach the hosts."""

    def __enter__(self) -> Self:
        for prefix in _leftovers():
            self._script(prefix, "down")
        words = shlex.split(self._script(self._prefix, "up", *self._images))
        self.variables = dict(word.split("=", 1) for word in words if "=" in word)
        self.one, self.two = (
            Host(*(self.variables[f"{name}{number}"] for name in ("HOST", "ADDRESS", "SHELL"))) for number in (1, 2)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._script(self._prefix, "down")
        left = [
            name
            for place in ("/run", "/run/netns")
            for name in os.listdir(place)
            if name.startswith(self._prefix + "host")
        ]
        assert not left, f"hosts.sh down has left {left}"

    def _script(self, prefix: str, *arguments: str) -> str:
        done = subprocess.run(
            ["sh", SCRIPT, *arguments],
            env={**self._engine.environment, "PREFIX": prefix},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        if done.returncode != 0:
            raise DockerError(f"{SCRIPT.name} {arguments[0]}: exit code {done.returncode}: {done.stderr[-3000:]}")
        return done.stdout


def _leftovers() -> list[str]:
    """Return the prefixes of hosts whose test run is gone."""
    pattern = PREFIX.format(r"(\d+)") + "hosts"
    found = (re.fullmatch(pattern, place.name) for place in Path("/run").iterdir())
    return [PREFIX.format(match[1]) for match in found if match and not Path("/proc", match[1]).exists()]
