"""A lab of containers: nodes of ours and Go's in real containers on networks of their own.

Everything that a lab makes has a name that begins with ``yggpy-<pid>-<number>-``, so that labs of several test runs
live side by side on one daemon, and what a killed run left behind is found and removed by the next one. A lab is a
context manager; when it ends, nothing of it is left.

Containers are driven from outside, as an operator would. What an image does not have the machine's own programs do in
the container's network (:meth:`Container.popen`), so the functions of ``tests/interop/measure.py`` work with
containers, too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from tests.container.engine import DockerError, Engine
from tests.container.images import Images
from tests.interop.go_node import GoPrograms
from tests.interop.nodes import AdminError, admin_request

__all__ = ["DOCKER_FLAGS", "GO", "OURS", "Container", "ContainerLab", "Network", "wait_for"]

OURS = "yggpy"
GO = "go"
DOCKER_FLAGS = ("--cap-add=NET_ADMIN", "--device=/dev/net/tun", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
"""What a container needs for a node in it, and all that it needs."""
NAME_PREFIX = "yggpy"
WAIT_TIMEOUT = 60.0
"""Seconds that anything may take that a test waits for, unless told otherwise; generous, since machines are busy."""
SUBNETS = range(256)
SUBNET = "10.199.{}.0/24"
"""Where the lab's networks lie."""
ADMIN_SOCKETS = {OURS: "run/yggdrasil.sock", GO: "run/yggdrasil/yggdrasil.sock"}
CONFIG_PLACE = "/etc/yggdrasil.conf"
_labs = itertools.count()
_T = TypeVar("_T")


def wait_for(what: str, condition: Callable[[], _T | None], timeout: float = WAIT_TIMEOUT, pause: float = 0.1) -> _T:
    """Ask ``condition`` until it returns something true, and return that; fail after ``timeout`` seconds.

    What is not there yet may answer with any of the lab's errors.
    """
    limit = time.monotonic() + timeout
    while True:
        problem = ""
        try:
            if found := condition():
                return found
        except (DockerError, AdminError, OSError, ValueError) as error:
            problem = f" (last: {error})"
        assert time.monotonic() < limit, f"{what}: not within {timeout} s{problem}"
        time.sleep(pause)


class Network:
    """A network of the lab, as ``docker network`` knows it."""

    def __init__(self, lab: ContainerLab, name: str, subnet: str) -> None:
        self.name = name
        self.subnet = subnet
        self._engine = lab.engine

    def connect(self, container: Container, *options: str) -> None:
        """Plug a running container in as well; ``options`` as for ``docker network connect``."""
        self._engine.docker("network", "connect", *options, self.name, container.name)

    def disconnect(self, container: Container) -> None:
        """Pull a container's plug."""
        self._engine.docker("network", "disconnect", "--force", self.name, container.name)


class Container:
    """A container of the lab. Its short name is also its host name, by which others in its network find it."""

    def __init__(self, lab: ContainerLab, name: str, kind: str = "") -> None:
        """``kind``: :data:`OURS`, :data:`GO`, or nothing if no node runs in it."""
        self.name = name
        """The name for ``docker``."""
        self.kind = kind
        self._lab = lab
        self._engine = lab.engine
        self._address = ""
        self._processes: list[subprocess.Popen[bytes]] = []

    def __repr__(self) -> str:
        return f"<{self.name} {self.kind}>"

    # ---- what docker does ----

    def inspect(self) -> dict[str, Any]:
        """Return ``docker inspect``'s answer."""
        return self._engine.inspect(self.name)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return bool(self.inspect()["State"]["Running"])

    @property
    def exit_code(self) -> int:
        """What its first process ended with."""
        return int(self.inspect()["State"]["ExitCode"])

    @property
    def health(self) -> str:
        """``starting``, ``healthy`` or ``unhealthy``; empty without a health check."""
        return str(self.inspect()["State"].get("Health", {}).get("Status", ""))

    @property
    def pid(self) -> int:
        """Its first process, as the machine numbers it; 0: it does not run."""
        return int(self.inspect()["State"]["Pid"])

    def underlay_address(self, network: Network) -> str:
        """Return its IPv4 address in a network."""
        return str(self.inspect()["NetworkSettings"]["Networks"][network.name]["IPAddress"])

    def exec(self, *command: str, user: str = "", timeout: float = WAIT_TIMEOUT) -> str:
        """Run a command inside, as ``docker exec`` does, and return its output. Raises :class:`DockerError`."""
        options = ["--user", user] if user else []
        return self._engine.docker("exec", *options, self.name, *command, timeout=timeout)

    def ctl(self, *arguments: str) -> Any:
        """Ask ``yggpy-ctl`` inside and return its JSON."""
        program = "yggpy-ctl" if self.kind == OURS else "yggdrasilctl"
        return json.loads(self.exec(program, "-json", *arguments))

    def logs(self, lines: int | None = None) -> str:
        """Return what it has printed, standard error included."""
        tail = [] if lines is None else ["--tail", str(lines)]
        done = subprocess.run(
            ["docker", "logs", *tail, self.name],
            env=self._engine.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        return done.stdout.decode(errors="replace")

    def stop(self, timeout: int = 10) -> float:
        """Stop it as ``docker stop`` does; return how many seconds that took."""
        started = time.monotonic()
        self._engine.docker("stop", "--time", str(timeout), self.name)
        return time.monotonic() - started

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to its first process."""
        self._engine.docker("kill", "--signal", number.name, self.name)

    def start(self) -> None:
        """Start it again."""
        self._engine.docker("start", self.name)

    def remove(self) -> None:
        """Remove it, running or not; volumes with names stay."""
        self._end_processes()
        self._engine.docker("rm", "--force", "--volumes", self.name)
        self._lab.containers.remove(self)

    def wait_end(self, timeout: float = WAIT_TIMEOUT) -> int:
        """Wait until its first process has ended, and return the exit code."""
        return int(self._engine.docker("wait", self.name, timeout=timeout))

    def wait_log(self, pattern: str, timeout: float = WAIT_TIMEOUT) -> re.Match[str]:
        """Wait until the log has something that matches the regular expression."""
        return wait_for(f"{self.name} prints {pattern!r}", lambda: re.search(pattern, self.logs(), re.M), timeout)

    # ---- what its node says ----

    def admin(self, request: str, **arguments: object) -> dict[str, Any]:
        """Ask the node's admin socket, without a process inside. Raises :class:`AdminError`, ``OSError``."""
        answer = admin_request(Path(f"/proc/{self.pid}/root", ADMIN_SOCKETS[self.kind]), request, **arguments)
        if answer.get("status") != "success":
            raise AdminError(str(answer.get("error")))
        response: dict[str, Any] = answer["response"]
        return response

    @property
    def address(self) -> str:
        """Its node's mesh address; waits until the node is there."""
        if not self._address:
            self.wait_ready()
        return self._address

    def wait_ready(self, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until the node has its TUN, if it is to have one, and answers on its admin socket."""
        # The admin socket is there before the TUN, and Go's node can die of a request that comes while it starts: both
        # are asked when they have said that they are up. Ours gives up root last of all, with a TUN or without.
        self.wait_log("Interface IPv6|Interface name" if self.kind == GO else "Running as user|Interface MTU", timeout)
        answer = wait_for(f"the node of {self.name} answers", lambda: self.admin("getself"), timeout)
        self._address = str(answer["address"])

    def peers_up(self) -> list[dict[str, Any]]:
        """Return the entries of ``getPeers`` that are up."""
        return [peer for peer in self.admin("getpeers").get("peers") or [] if peer.get("up")]

    def wait_peers(self, count: int, timeout: float = WAIT_TIMEOUT) -> None:
        """Wait until so many links are up, or more."""
        wait_for(f"{self.name} has {count} links", lambda: len(self.peers_up()) >= count, timeout)

    # ---- the machine's own programs in its network ----

    @property
    def space(self) -> Container:
        """Itself, where ``tests/interop/measure.py`` wants a place to run programs in."""
        return self

    def popen(
        self, command: Iterable[str | Path], *, output: int | IO[bytes] = subprocess.PIPE, folder: Path | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program of this machine in the container's network. The pid is the program's own."""
        pid = self.pid
        if pid == 0:
            raise DockerError(f"{self.name} does not run: {self.logs(20)}")
        process = subprocess.Popen(
            ["nsenter", f"--net=/proc/{pid}/ns/net", *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def run(self, command: Iterable[str | Path], *, timeout: float = 60) -> str:
        """Run a program of this machine in its network and return what it printed. Raises :class:`DockerError`."""
        words = [str(word) for word in command]
        process = self.popen(words)
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            raise DockerError(f"{' '.join(words)}: no end after {timeout} s; so far: {output.decode()}") from None
        finally:
            self.forget(process)
        text = output.decode(errors="replace")
        if process.returncode != 0:
            raise DockerError(f"{' '.join(words)} in {self.name}: exit code {process.returncode}: {text.strip()}")
        return text

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """The process has ended and been waited for: its pid may be another's soon."""
        with contextlib.suppress(ValueError):
            self._processes.remove(process)

    def _end_processes(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._processes.clear()


class ContainerLab:
    """Containers, their networks and volumes."""

    def __init__(self, engine: Engine, images: Images, go_programs: GoPrograms | None = None) -> None:
        """``go_programs``: the Go node for :meth:`go`."""
        self.engine = engine
        self.images = images
        self.prefix = f"{NAME_PREFIX}-{os.getpid()}-{next(_labs)}-"
        """What all names begin with; scripts of examples get it as ``PREFIX``."""
        self.folder = Path(tempfile.mkdtemp(prefix="yggpy-lab-"))
        self.containers: list[Container] = []
        self._go_programs = go_programs
        self._networks = 0

    def __enter__(self) -> Self:
        _remove_leftovers(self.engine)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove all that has the lab's prefix in its name."""
        for container in self.containers:
            container._end_processes()
        self.containers.clear()
        _remove(self.engine, re.escape(self.prefix) + ".*")
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- networks and volumes ----

    def network(self, name: str, *options: str) -> Network:
        """Make a bridge network with a subnet that nobody else has; ``options`` as for ``docker network create``."""
        full = self.prefix + name
        for number in random.sample(SUBNETS, len(SUBNETS)):
            subnet = SUBNET.format(number)
            try:
                self.engine.docker("network", "create", "--subnet", subnet, *options, full)
            except DockerError as error:
                if "overlaps" not in str(error):
                    raise
            else:
                return Network(self, full, subnet)
        raise DockerError(f"all subnets of {SUBNET} are taken")

    def volume(self, name: str) -> str:
        """Make a volume and return its full name."""
        return self.engine.docker("volume", "create", self.prefix + name).strip()

    # ---- containers ----

    def node(
        self,
        name: str,
        network: Network | str,
        *arguments: str,
        config: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        flags: Sequence[str] = DOCKER_FLAGS,
        options: Sequence[str] = (),
    ) -> Container:
        """Start our image. ``arguments`` are the node's (default: the image's own, that is ``-autoconf``).

        ``config``: configuration keys, as a file at ``/etc/yggdrasil.conf``. ``env``: variables. ``flags``: what the
        container is given for its node. ``options``: more for ``docker run``.
        """
        return self._start(OURS, self.images.node, name, network, arguments, config, env or {}, [*flags, *options])

    def go(
        self,
        name: str,
        network: Network | str,
        *arguments: str,
        config: Mapping[str, object] | None = None,
        options: Sequence[str] = (),
        verb: str = "run",
    ) -> Container:
        """Start the Go node's image, with the same flags as ours. ``verb``: ``create``, to start it later."""
        assert self._go_programs is not None, "this lab was made without the Go node"
        image = self.images.go(self._go_programs)
        return self._start(GO, image, name, network, arguments, config, {}, [*DOCKER_FLAGS, *options], verb)

    def plain(
        self, name: str, network: Network | str, image: str, *command: str, options: Sequence[str] = ()
    ) -> Container:
        """Start a container without a node, such as a service that uses another container's network."""
        return self._start("", image, name, network, command, None, {}, options)

    def _start(
        self,
        kind: str,
        image: str,
        name: str,
        network: Network | str,
        arguments: Sequence[str],
        config: Mapping[str, object] | None,
        env: Mapping[str, str],
        options: Sequence[str],
        verb: str = "run",
    ) -> Container:
        container = Container(self, self.prefix + name, kind)
        words = ["--name", container.name, *(["--detach"] if verb == "run" else [])]
        if isinstance(network, Network):
            words += ["--network", network.name, "--network-alias", name]
        else:
            words += ["--network", network]
        if not str(words[-1]).startswith("container:"):
            words += ["--hostname", name]
        for key, value in env.items():
            words += ["--env", f"{key}={value}"]
        if config is not None:
            path = self.folder / f"{name}.conf"
            path.write_text(json.dumps({**config}), encoding="utf-8")
            words += ["--volume", f"{path}:{CONFIG_PLACE}:ro"]
            arguments = [*arguments, "-useconffile", CONFIG_PLACE]
        self.containers.append(container)
        self.engine.docker(verb, *words, *options, image, *arguments)
        return container

    def adopt(self, name: str, kind: str = OURS) -> Container:
        """Return the container ``name`` (without the prefix) that a script has started."""
        container = Container(self, self.prefix + name, kind)
        container.inspect()
        self.containers.append(container)
        return container

    def script(self, path: Path, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 300) -> str:
        """Run a shell script, such as an example's, and return its output. Raises :class:`DockerError`.

        It gets ``PREFIX``, which the names of its containers, networks and volumes must begin with, ``YGGPY_IMAGE``,
        and the way to the daemon.
        """
        environment = {**self.engine.environment, "PREFIX": self.prefix, "YGGPY_IMAGE": self.images.node, **(env or {})}
        done = subprocess.run(
            ["sh", str(path), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        text = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise DockerError(f"{path}: exit code {done.returncode}: {text[-3000:]}")
        return text

    def tails(self, lines: int = 40) -> str:
        """Return the last lines of every container's log, for the report of a failed test."""
        names = self.engine.names("container", re.escape(self.prefix) + ".*")
        return "\n".join(f"---- log of {name}\n{Container(self, name).logs(lines)}" for name in sorted(names))


def _remove_leftovers(engine: Engine) -> None:
    """Remove what runs left behind whose process is gone."""
    pattern = rf"{NAME_PREFIX}-(\d+)-.*"
    pids = set()
    for kind in ("container", "network", "volume"):
        for name in engine.names(kind, pattern):
            found = re.fullmatch(pattern, name)
            if found and not Path(f"/proc/{found[1]}").exists():
                pids.add(found[1])
    for pid in pids:
        _remove(engine, rf"{NAME_PREFIX}-{pid}-.*")


def _remove(engine: Engine, pattern: str) -> None:
    """Remove containers, networks and volumes by their names. What another run removes meanwhile is no error."""
    for kind, options in (("container", ["--force", "--volumes"]), ("network", []), ("volume", ["--force"])):
        if names := engine.names(kind, pattern):
            engine.docker(kind, "rm", *options, *names, check=False)
