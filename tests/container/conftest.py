"""Fixtures of the container tests: the daemon and the images once for all, a lab for each test or each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.container.engine import DockerError, Engine, obstacle
from tests.container.hosts import NGINX, Hosts
from tests.container.images import Images
from tests.container.lab import ContainerLab
from tests.gates import gate
from tests.interop.go_node import GoPrograms


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The Docker daemon."""
    if reason := obstacle():
        gate(reason, "container")
    try:
        used = Engine()
        used.__enter__()
    except DockerError as error:
        gate(str(error), "container")
    with used:
        yield used


@pytest.fixture(scope="session")
def images(engine: Engine) -> Images:
    """The images. That ours cannot be built is a failure, wherever that is; the base needs Debian's packages."""
    made = Images(engine)
    try:
        made.base  # noqa: B018
    except DockerError as error:
        gate(str(error), "container")
    return made


@pytest.fixture(scope="session")
def go(go_programs: dict[str, GoPrograms]) -> GoPrograms:
    """The Go node that ours is compared with."""
    return go_programs["0.5.14"]


@pytest.fixture
def docker(request: pytest.FixtureRequest, engine: Engine, images: Images, go: GoPrograms) -> Iterator[ContainerLab]:
    """An empty lab; after a failed test the ends of all logs are printed."""
    failures = request.session.testsfailed
    with ContainerLab(engine, images, go) as lab:
        yield lab
        if request.session.testsfailed > failures:
            print(lab.tails())


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest, engine: Engine, images: Images, go: GoPrograms) -> Iterator[ContainerLab]:
    """A lab for all tests of a file, for containers that no test changes."""
    failures = request.session.testsfailed
    with ContainerLab(engine, images, go) as lab:
        yield lab
        if request.session.testsfailed > failures:
            print(lab.tails())


@pytest.fixture(scope="session")
def hosts(engine: Engine, images: Images, go: GoPrograms) -> Iterator[Hosts]:
    """Two Docker hosts, which have our image, the Go node's, and one with nginx."""
    with Hosts(engine, [images.node, images.go(go), images.build(*NGINX)]) as pair:
        yield pair


@pytest.fixture
def host_labs(
    request: pytest.FixtureRequest, hosts: Hosts, images: Images, go: GoPrograms
) -> Iterator[tuple[ContainerLab, ContainerLab]]:
    """An empty lab on each host, both with the same prefix."""
    failures = request.session.testsfailed
    first, second = (ContainerLab(host, images, go) for host in (hosts.one, hosts.two))
    second.prefix = first.prefix
    with first, second:
        yield first, second
        if request.session.testsfailed > failures:
            print(first.tails(), second.tails())
