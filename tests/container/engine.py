"""The container engine: the Docker daemon that runs here, or one of our own, started for the tests and ended by pid.

Our own daemon keeps everything in the project's ``.cache/container/``, and its socket below ``/run``. Several test runs
in the same tree share it: each holds a lock while it uses it, and who is last ends it. One that a killed run left
behind is taken over in the same way. Of another daemon on the machine it takes nothing: see :meth:`Engine.start`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

__all__ = ["CACHE", "PROJECT", "DockerError", "Engine", "obstacle"]

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache" / "container"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
BRIDGE_ADDRESS = "10.198.0.1/24"
COMMAND_TIMEOUT = 120.0
"""Seconds that a command of ``docker`` may take unless told otherwise."""


class DockerError(RuntimeError):
    """A command of ``docker`` failed, or there is no daemon; the message has its words."""


def obstacle() -> str | None:
    """Return why no container can be run on this machine, or None if one can."""
    if not sys.platform.startswith("linux"):
        return "the containers are Linux's"
    if os.geteuid() != 0:
        return "not root: the tests look into the containers' namespaces"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun (modprobe tun)"
    for program, package in (
        ("docker", "docker.io docker-cli"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
        ("ping", "iputils-ping"),
        ("debootstrap", "debootstrap"),
    ):
        if shutil.which(program) is None:
            return f"no program {program}: apt-get install {package}"
    return None


class Engine:
    """A Docker daemon to talk to. A context manager: a daemon that it has started ends with the last who uses it."""

    def __init__(self, folder: Path = CACHE, *, own: bool = False) -> None:
        """``own``: use a daemon of our own, kept in ``folder``, even where another one answers."""
        self.folder = folder
        digest = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        self.run_folder = Path(f"/run/yggpy-docker-{digest}")
        """Where our own daemon has its socket; short, since socket paths have 107 bytes."""
        self._pid_file = self.run_folder / "docker.pid"
        self._bridge = f"yggpy-{digest}"
        self._own = own
        self._users: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.environment: Mapping[str, str] = os.environ
        """What ``docker`` is run with; scripts that are to find the same daemon get it, too."""

    def __enter__(self) -> Self:
        if self._own or not self.answers():
            self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_own(self) -> bool:
        """Whether the daemon is one of ours."""
        return self._users is not None

    @property
    def pid(self) -> int | None:
        """Process id of our own daemon; None: it does not run."""
        try:
            pid = int(self._pid_file.read_text())
        except (OSError, ValueError):
            return None
        return pid if _lives(pid) else None

    def answers(self) -> bool:
        """Whether a daemon can be talked to."""
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        try:
            done = subprocess.run(command, env=self.environment, capture_output=True, timeout=30, check=False)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    # ---- our own daemon ----

    def start(self) -> None:
        """Start our own daemon if it does not run, and use it. Raises :class:`DockerError`.

        Beside another daemon it keeps off what that one calls its own: the bridge docker0 (with ``--bridge none`` it
        would remove that) and the chains of the packet filter. Containers have no network there, or the host's.
        """
        if shutil.which("dockerd") is None:
            raise DockerError("no Docker daemon answers, and there is no program dockerd: apt-get install docker.io")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run_folder.mkdir(mode=0o700, exist_ok=True)
        socket = f"unix://{self.run_folder}/docker.sock"
        self.environment = {**os.environ, "DOCKER_HOST": socket}
        with self._lock("lock"):
            self._users = open(self.folder / "users", "w")  # noqa: SIM115
            fcntl.flock(self._users, fcntl.LOCK_SH)
            if self.pid is None:
                self._launch(socket)

    def _launch(self, socket: str) -> None:
        command = ["dockerd", "--data-root", self.folder / "docker", "--exec-root", self.run_folder / "exec"]
        command += ["--pidfile", self._pid_file, "--host", socket]
        if _other_daemon_runs():
            self._ip("link", "add", self._bridge, "type", "bridge", check=False)  # a killed run may have left it
            self._ip("address", "replace", BRIDGE_ADDRESS, "dev", self._bridge)
            command += ["--bridge", self._bridge, "--iptables=false", "--ip6tables=false"]
        self._pid_file.unlink(missing_ok=True)
        with open(self.folder / "dockerd.log", "wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        limit = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if process.poll() is not None or time.monotonic() > limit:
                process.kill()
                tail = (self.folder / "dockerd.log").read_text(errors="replace")[-1500:]
                raise DockerError(f"dockerd does not answer (exit code {process.wait()}): {tail}")
            time.sleep(0.1)

    def close(self) -> None:
        """Let go of the daemon; end it if it is ours and nobody else uses it. Harmless when repeated."""
        if self._users is None:
            return
        with self._lock("lock"), self._users as users:
            self._users = None
            with contextlib.suppress(BlockingIOError):  # another run uses it, and will end it
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._end()

    def _end(self) -> None:
        pid = self.pid
        if pid is None:
            return
        os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + STOP_TIMEOUT
        while _lives(pid):
            if time.monotonic() > limit:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        if self._process is not None:
            self._process.poll()  # our child: no zombie is to stay
        self._ip("link", "delete", self._bridge, check=False)
        for line in Path("/proc/self/mounts").read_text().splitlines():
            place = line.split()[1]  # dockerd leaves the namespace of containers with the host's network
            if place.startswith(f"{self.run_folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False, timeout=30)
        shutil.rmtree(self.run_folder, ignore_errors=True)

    def _ip(self, *arguments: str, check: bool = True) -> None:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=30, check=False)
        if check and done.returncode != 0:
            raise DockerError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        with open(self.folder / name, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Of all runs in this tree, one at a time makes images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock("images"):
            yield

    # ---- its commands ----

    def docker(self, *arguments: object, timeout: float = COMMAND_TIMEOUT, check: bool = True) -> str:
        """Run ``docker`` with these arguments; return what it printed. Raises :class:`DockerError`."""
        command = ["docker", *(str(argument) for argument in arguments)]
        try:
            done = subprocess.run(
                command,
                env=self.environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DockerError(f"{' '.join(command)}: no end after {timeout} s") from None
        if check and done.returncode != 0:
            words = "\n".join(text.strip() for text in (done.stdout[-3000:], done.stderr[-3000:]) if text.strip())
            raise DockerError(f"{' '.join(command)}: exit code {done.returncode}: {words}")
        return done.stdout

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the daemon knows of a container, an image or a network. Raises :class:`DockerError`."""
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name))
        return found[0]

    def names(self, kind: str, pattern: str) -> list[str]:
        """Return the names of all containers, networks or volumes (``kind``) that match the regular expression."""
        every = ["--all"] if kind == "container" else []
        column = "{{.Names}}" if kind == "container" else "{{.Name}}"
        listed = self.docker(kind, "ls", *every, "--format", column).split()
        return [name for name in listed if re.fullmatch(pattern, name)]


def _lives(pid: int) -> bool:
    """Whether the process is there and a Docker daemon. One that has ended, and whose parent does not ask, is not."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return False
    return name == "dockerd" and rest.split()[0] != "Z"


def _other_daemon_runs() -> bool:
    return any(_lives(int(place.name)) for place in Path("/proc").iterdir() if place.name.isdecimal())
