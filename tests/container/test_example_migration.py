"""``examples/migration``: a service moves between two hosts with its key; both hosts' reverse proxies find it again."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest

from tests.container.engine import DockerError
from tests.container.hosts import NGINX, Host, Hosts
from tests.container.lab import GO, Container, ContainerLab, wait_for
from tests.container.readme import EXAMPLES, Readme
from tests.interop.measure import PingStream, longest_silence, reachable_after, require_all_pairs
from tests.interop.nodes import new_key

CURL = "$SHELL1 curl --silent --fail --retry 5 http://$ADDRESS1:8080/ http://$ADDRESS2:8080/"
MOVES = (2, 1)
"""To which host, one after the other."""
INTERVAL = 0.1
QUIET = 1.0
"""Seconds of answers on both ways that end an observation."""
LIMIT = 30.0
"""Seconds that a service may be away, on a machine that does much else."""
TOLERANCE = 3.0
"""Seconds by which the outage may exceed that of a Go node that moves in the same way. Nodes tell each other of changes
by timers of a second, several in a row on this way, and it depends on when they last fired."""
MAX_OUTPUT = 1 << 20
Labs = tuple[ContainerLab, ContainerLab]


class PageWatch:
    """A user on a host who reloads a page all the time."""

    def __init__(self, host: Host, url: str) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        program = Path(__file__).with_name("http_watch.py")
        self._process = host.popen([sys.executable, "-S", program, url, str(INTERVAL)], output=self._output)

    def pages(self) -> list[tuple[float, str]]:
        """Return the pages so far, each with the Unix time at which it came."""
        # Not by read(): the other one writes at the same position.
        data = os.pread(self._output.fileno(), MAX_OUTPUT, 0)
        return [(at, line) for at, line in map(json.loads, data[: data.rfind(b"\n") + 1].splitlines())]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._output.close()


@contextlib.contextmanager
def _watching(hosts: Hosts) -> Iterator[list[PageWatch]]:
    """Users on each host, who come to the proxy of the other one."""
    ways = ((hosts.two, hosts.one), (hosts.one, hosts.two))
    watches = [PageWatch(user, f"http://{proxy.address}:8080/") for user, proxy in ways]
    try:
        yield watches
    finally:
        for watch in watches:
            watch.close()


@contextlib.contextmanager
def _silences(
    groups: Mapping[str, tuple[Sequence[Container], Container]], into: dict[str, list[float]]
) -> Iterator[None]:
    """Let proxies ping the service's address while the body moves it; add how long each had no answer.

    ``groups``: the proxies' nodes and the service's, by name.
    """
    streams = [
        (name, proxy, service, PingStream(proxy, service, interval=INTERVAL))
        for name, (proxies, service) in groups.items()
        for proxy in proxies
    ]
    time.sleep(QUIET)
    begun_at = time.time()
    yield
    for _, proxy, service, _ in streams:
        reachable_after(proxy, service, LIMIT)
    time.sleep(QUIET)
    ended_at = time.time()
    for name, _, _, stream in streams:
        into[name].append(longest_silence(stream.stop()[1], begun_at, ended_at))


class GoService:
    """The same with Go nodes: routers, proxies' nodes, and a service that moves."""

    def __init__(self, hosts: Hosts, labs: Labs) -> None:
        networks = [lab.network("go") for lab in labs]
        listen = {"Listen": ["tls://[::]:9001"], "MulticastInterfaces": []}
        leaf = {"Peers": ["tls://go-router:9001"], "MulticastInterfaces": []}
        across = {"Peers": [f"tls://{hosts.one.address}:9011"]}
        routers = [
            labs[0].go("go-router", networks[0], config=listen, options=["-p", "9011:9001"]),
            labs[1].go("go-router", networks[1], config=listen | across),
        ]
        self.proxies = [lab.go("go-proxy", network, config=leaf) for lab, network in zip(labs, networks, strict=True)]
        config = leaf | {"PrivateKey": new_key()[0]}
        self._places = [
            lab.go("go-service", network, config=config, verb="create")
            for lab, network in zip(labs, networks, strict=True)
        ]
        self._places[0].start()
        for node in (*routers, *self.proxies, self.service):
            node.wait_ready()

    @property
    def service(self) -> Container:
        """Where it runs."""
        return next(place for place in self._places if place.running)

    def move(self, to: int) -> None:
        """As ``run.sh move`` does it."""
        there, here = self._places[to - 1], self._places[2 - to]
        here.stop()
        there.start()
        there.wait_ready()


@pytest.fixture
def readme(hosts: Hosts, host_labs: Labs) -> Readme:
    """The example, started."""
    made = Readme(host_labs[0], "migration", hosts.variables | {"NGINX_IMAGE": host_labs[0].images.build(*NGINX)})
    made.run("./run.sh up")
    return made


def test_migration(
    readme: Readme, hosts: Hosts, host_labs: Labs, record_property: Callable[[str, object], None]
) -> None:
    go = GoService(hosts, host_labs)
    proxies = [lab.adopt("proxy") for lab in host_labs]
    nginxes = [lab.adopt("nginx", "") for lab in host_labs]
    places = [lab.adopt("service") for lab in host_labs]
    started = [nginx.inspect()["State"]["StartedAt"] for nginx in nginxes]
    address = places[0].address
    require_all_pairs([*proxies, places[0]])
    require_all_pairs([*go.proxies, go.service])
    assert readme.run(CURL) == "hello from host 1\n" * 2

    outages: dict[str, list[float]] = {"pages": [], "pings": [], "pings to Go": []}
    for to in MOVES:
        groups = {"pings": (proxies, places[2 - to]), "pings to Go": (go.proxies, go.service)}
        with _watching(hosts) as watches, ThreadPoolExecutor(1) as pool:
            wait_for("pages come", lambda: all(watch.pages() for watch in watches))
            begun_at = time.time()
            with _silences(groups, outages):
                other = pool.submit(go.move, to)
                assert f"runs on host {to}" in readme.run(f"./run.sh move {to}")
                other.result()
            for watch in watches:
                wait_for("new pages come", lambda: watch.pages()[-1][1] == f"hello from host {to}", LIMIT)  # noqa: B023
                times = enumerate(at for at, _ in watch.pages())
                outages["pages"].append(longest_silence(times, begun_at, time.time()))
        if to == 2:
            assert readme.run(CURL) == "hello from host 2\n" * 2
            assert address in readme.run("docker -H $HOST2 exec migration-service yggpy-ctl getSelf")
        assert [_has_key(lab) for lab in host_labs] == [to == 1, to == 2]
    rounded = {what: [round(value, 1) for value in values] for what, values in outages.items()}
    print(f"seconds for which the service was away: {rounded}")
    record_property("migration_seconds", rounded)
    assert [nginx.inspect()["State"]["StartedAt"] for nginx in nginxes] == started
    assert max(outages["pages"]) < LIMIT
    assert median(outages["pings"]) <= median(outages["pings to Go"]) + TOLERANCE

    _a_move_that_fails(hosts, host_labs, places)
    readme.run("./run.sh down")
    for lab in host_labs:
        for container in [container for container in lab.containers if container.kind == GO]:
            container.remove()
        lab.engine.docker("network", "rm", f"{lab.prefix}go")
        kinds = ("container", "network", "volume")
        assert not [name for kind in kinds for name in lab.engine.names(kind, lab.prefix + ".*")]
    readme.require_all_run()


def _a_move_that_fails(hosts: Hosts, labs: Labs, places: Sequence[Container]) -> None:
    """To a host that is cut off, and to where the service is already: it goes on where it was."""
    script, variables = EXAMPLES / "migration" / "run.sh", hosts.variables | {"READY_TIMEOUT": "2"}
    with pytest.raises(DockerError, match="no key of the service is on host 2: is it on host 1 already"):
        labs[0].script(script, "move", "1", env=variables)
    labs[1].engine.docker("kill", f"{labs[1].prefix}router")
    with pytest.raises(DockerError, match="not in the mesh from host 2 within 2 s; back to host 1"):
        labs[0].script(script, "move", "2", env=variables)
    assert [place.running for place in places] == [True, False]
    assert [_has_key(lab) for lab in labs] == [True, False]
    with _watching(hosts) as (watch, _):
        wait_for(
            "pages come from host 1", lambda: [line for _, line in watch.pages()][-1:] == ["hello from host 1"], LIMIT
        )


def _has_key(lab: ContainerLab) -> bool:
    try:
        lab.engine.docker("cp", f"{lab.prefix}service:/var/lib/yggpy/key.pem", "-")
    except DockerError as error:
        assert "key.pem" in str(error)
        return False
    return True
