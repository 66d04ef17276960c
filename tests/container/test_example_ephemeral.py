"""``examples/ephemeral``: workers without state, one, then ten, then three; by the script and by Docker Compose."""

from __future__ import annotations

from collections.abc import Sequence

from tests.container.lab import Container, ContainerLab, wait_for
from tests.container.readme import Readme
from tests.interop.measure import require_all_pairs

PING = "docker exec ephemeral-worker1 ping -c 3 -w 30 $(docker exec ephemeral-worker10 yggpy-node -autoconf -address)"


def _require_only(workers: Sequence[Container]) -> None:
    """Wait until each of these has a link to every other and none, up or down, to anybody else."""
    keys = {worker: worker.admin("getself")["key"] for worker in workers}
    for worker, key in keys.items():
        others = set(keys.values()) - {key}

        def alone(worker: Container = worker, others: set[str] = others) -> bool:
            peers = worker.admin("getpeers")["peers"] or []
            return {peer["key"] for peer in peers} == others and all(peer["up"] for peer in peers)

        wait_for(f"{worker} has links to the others alone", alone)


def test_ephemeral(docker: ContainerLab) -> None:
    readme = Readme(docker, "ephemeral")
    assert "up: worker1 ;" in readme.run("./run.sh up")
    first = docker.adopt("worker1")
    address = first.address

    assert "worker10 ;" in readme.run("./run.sh scale 10")
    workers = [first, *(docker.adopt(f"worker{number}") for number in range(2, 11))]
    assert "3 received" in readme.run(PING)
    require_all_pairs(workers)
    assert len({worker.address for worker in workers}) == 10

    readme.run("./run.sh scale 3")
    stay = workers[:3]
    assert sorted(docker.engine.names("container", f"{docker.prefix}.*")) == sorted(worker.name for worker in stay)
    _require_only(stay)
    require_all_pairs(stay)
    assert first.admin("getself")["address"] == address  # it was left alone
    assert readme.run("docker exec ephemeral-worker1 yggpy-ctl getPeers").count("Up") >= 2
    lost = stay.pop()
    lost.kill()
    lost.wait_end()
    docker.containers.remove(lost)
    readme.run("./run.sh scale 3")  # starts what is missing
    stay.append(docker.adopt("worker3"))
    require_all_pairs(stay)
    readme.run("./run.sh down")
    readme.require_nothing_left()

    readme.run("docker compose up -d")
    readme.run("docker compose up -d --scale worker=10")
    workers = readme.services("worker")
    assert len(workers) == 10
    require_all_pairs(workers)
    docker.containers.clear()
    readme.run("docker compose up -d --scale worker=3")
    stay = readme.services("worker")
    assert len(stay) == 3
    _require_only(stay)
    readme.run("docker compose down")
    readme.require_nothing_left()
    readme.require_all_run()
