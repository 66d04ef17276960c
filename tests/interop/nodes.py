"""Nodes as processes: the Go node and ours behind one interface.

A node is a configuration, a process in a namespace, a log file and an admin socket. Both kinds are driven from outside
only, as an operator would: a configuration file, signals and the admin socket.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.interop.go_node import GoPrograms
from yggpy.datapath.choice import DATAPATH_VARIABLE

if TYPE_CHECKING:
    from tests.interop.lab import Space

__all__ = ["AdminError", "GoNode", "MeshNode", "NodeFailedError", "YggNode", "admin_request", "new_key"]

READY_TIMEOUT = 60.0
"""Seconds that a node may take to answer on its admin socket; generous, since many may start at once on two cores."""
STOP_TIMEOUT = 10.0
ADMIN_TIMEOUT = 20.0
FIRST_PORT = 9001
GO_ADMIN_RACE = "concurrent map read and map write"
GO_START_ATTEMPTS = 4


class NodeFailedError(RuntimeError):
    """A node did not start, or ended unasked; the message has the end of its log."""


class AdminError(RuntimeError):
    """The admin socket answered with an error; the message is that error."""


def new_key() -> tuple[str, bytes]:
    """Return a fresh key: ``PrivateKey`` as a configuration has it (hex of seed and public), and the public key."""
    key = Ed25519PrivateKey.generate()
    seed = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return (seed + public).hex(), public


def admin_request(path: Path, request: str, **arguments: object) -> dict[str, Any]:
    """Send one request to an admin socket and return the whole answer. Raises :class:`OSError`, :class:`ValueError`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ADMIN_TIMEOUT)
        connection.connect(str(path))
        connection.sendall(json.dumps({"request": request, "arguments": arguments}).encode())
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    answer: dict[str, Any] = json.loads(data)
    return answer


class MeshNode:
    """A node of either kind. It is made stopped, so that its configuration can be filled in first."""

    kind = ""

    def __init__(self, label: str, space: Space, folder: Path, settings: Mapping[str, object]) -> None:
        """``settings``: configuration keys over the lab's defaults, such as ``IfMTU=1280``."""
        private, self.public_key = new_key()
        self.label = label
        self.space = space
        self.admin_path = folder / f"{label[:24]}.sock"
        self.log_path = folder / f"{label}.log"
        self.config: dict[str, Any] = {
            "PrivateKey": private,
            "Peers": [],
            "Listen": [],
            "AdminListen": f"unix://{self.admin_path}",
            "MulticastInterfaces": [],
            "IfName": "ygg0",
            **settings,
        }
        self.config_path = folder / f"{label}.json"
        self.wrapper: Sequence[str | Path] = ()
        """What starts the node's program, given that as its last arguments; it must become the program (exec)."""
        self.flags: Sequence[str | Path] = ()
        """Further flags for the node's program."""
        self._process: subprocess.Popen[bytes] | None = None
        self._address = ""

    def __repr__(self) -> str:
        return f"<{self.label} {self._address or 'not started'}>"

    def command(self) -> list[str | Path]:
        """Return the program and its first arguments, without the choice of the configuration."""
        raise NotImplementedError

    # ---- configuration ----

    def listen(self, scheme: str, options: str = "") -> str:
        """Add a listener and return the URI at which others reach it."""
        port = FIRST_PORT + len(self.config["Listen"])
        self.config["Listen"].append(f"{scheme}://0.0.0.0:{port}{options}")
        return f"{scheme}://{self.space.address}:{port}"

    def dial(self, uri: str) -> None:
        """Add a peer."""
        self.config["Peers"].append(uri)

    # ---- life ----

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the process ended with; None while it lives, negative after a signal."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The daemon's process id."""
        if self._process is None:
            raise NodeFailedError(f"{self.label} was never started")
        return self._process.pid

    def start(self) -> None:
        """Start the process; :meth:`wait_ready` waits for it."""
        if self.running:
            raise NodeFailedError(f"{self.label} runs already")
        self.config_path.write_text(json.dumps(self.config), encoding="utf-8")
        with open(self.log_path, "ab") as log:
            command = [*self.wrapper, *self.command(), *self.flags, "-useconffile", self.config_path]
            self._process = self.space.popen(command, output=log)

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """Wait until the admin socket answers. Raises :class:`NodeFailedError`."""
        limit = time.monotonic() + timeout
        while True:
            if not self.running:
                code = self._process.returncode if self._process else None
                raise NodeFailedError(f"{self.label} ended at its start (exit code {code}): {self.log_text()[-2000:]}")
            with contextlib.suppress(OSError, ValueError):
                own: dict[str, Any] | None = admin_request(self.admin_path, "getself").get("response")
                if own is not None:  # a Go node listens before it knows its commands
                    break
            if time.monotonic() > limit:
                raise NodeFailedError(f"{self.label} not ready in {timeout} s: {self.log_text()[-2000:]}")
            time.sleep(0.05)
        if own["key"] != self.public_key.hex():
            raise NodeFailedError(f"{self.label} has another key than its configuration")
        self._address = own["address"]

    def dial_again(self) -> None:
        """Let links that found no listener at their first try do without the two seconds that they would wait."""
        if any(not peer["up"] for peer in self.admin("getpeers").get("peers") or []):
            for uri in self.config["Peers"]:
                with contextlib.suppress(AdminError):  # "peer is already configured", and its wait has ended
                    self.admin("addpeer", uri=uri)

    def kill(self) -> None:
        """End the process at once, as by ``kill -9``."""
        self._end(signal.SIGKILL)

    def hang(self) -> None:
        """Let the process stand still, as a machine does that swaps or is paused; its links stay open."""
        os.kill(self.pid, signal.SIGSTOP)

    def stop(self) -> int:
        """End the process as an operator would (SIGTERM) and return its exit code."""
        return self._end(signal.SIGTERM)

    def restart(self) -> None:
        """Kill the process, start it again with the same key, and wait until it is ready."""
        self.kill()
        self.start()
        self.wait_ready()

    def _end(self, number: signal.Signals) -> int:
        process = self._process
        if process is None or not self.running:
            raise NodeFailedError(f"{self.label} does not run: {self.log_text()[-2000:]}")
        os.kill(process.pid, number)
        try:
            code = process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise NodeFailedError(f"{self.label} did not end within {STOP_TIMEOUT} s of {number.name}") from None
        self.space.forget(process)
        return code

    # ---- questions ----

    @property
    def address(self) -> str:
        """The node's mesh address, known from its first start on."""
        return self._address

    def admin(self, request: str, **arguments: object) -> dict[str, Any]:
        """Ask the admin socket and return the ``response``. Raises :class:`AdminError`."""
        answer = admin_request(self.admin_path, request, **arguments)
        if answer.get("status") != "success":
            raise AdminError(str(answer.get("error")))
        response: dict[str, Any] = answer["response"]
        return response

    def peers_up(self) -> list[dict[str, Any]]:
        """Return the entries of ``getPeers`` that are up."""
        return [peer for peer in self.admin("getpeers").get("peers") or [] if peer.get("up")]

    def log_text(self) -> str:
        """Return all that the process has printed, over all its starts."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(encoding="utf-8", errors="replace")


class GoNode(MeshNode):
    """The real thing."""

    def __init__(
        self, label: str, space: Space, folder: Path, settings: Mapping[str, object], programs: GoPrograms
    ) -> None:
        super().__init__(label, space, folder, settings)
        self.programs = programs
        self.kind = programs.version
        self._admin_races = 0

    def command(self) -> list[str | Path]:
        """Return Go's program."""
        return [self.programs.node, "-loglevel", "debug"]

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        """See :class:`MeshNode`; a start that was lost to Go's own defect is repeated.

        Go's admin socket takes requests while the rest of the node still registers its commands in an unlocked map. A
        request in that moment kills it ("concurrent map read and map write"), and the lab asks early and often.
        """
        for _ in range(GO_START_ATTEMPTS - 1):
            try:
                super().wait_ready(timeout)
                return
            except NodeFailedError:
                races = self.log_text().count(GO_ADMIN_RACE)
                if self.running or races == self._admin_races:
                    raise
                self._admin_races = races
                self.start()
        super().wait_ready(timeout)


class YggNode(MeshNode):
    """Ours, from the environment that runs the tests."""

    kind = "yggpy"
    program: Sequence[str | Path] = (sys.executable, "-m", "yggpy")
    """What starts it; a test may set another one."""

    def choose_datapath(self, name: str) -> None:
        """Let it use the data plane ``name``. env(1) becomes what it starts, so the pid stays the node's."""
        self.program = ("env", f"{DATAPATH_VARIABLE}={name}", *self.program)

    def command(self) -> list[str | Path]:
        """Return our program."""
        return [*self.program, "-loglevel", "debug"]
