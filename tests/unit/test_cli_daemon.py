"""Running a node until told to stop, with stand-ins for the node and its admin socket."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from yggpy.address import Address, Subnet
from yggpy.cli import daemon
from yggpy.cli.configfile import ConfigSource
from yggpy.cli.daemon import DaemonOptions, run_daemon
from yggpy.cli.privileges import Identity, PrivilegeError
from yggpy.config import Config
from yggpy.errors import YggpyError
from yggpy.reload import ReloadReport
from yggpy.serving import ServingError

Hook = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


async def _stop_me() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


class Part:
    """A node or an admin socket that notes what is done with it."""

    def __init__(self, name: str, events: list[str], on_start: Hook = _nothing, on_close: Hook = _nothing) -> None:
        self.name = name
        self.events = events
        self.on_start = on_start
        self.on_close = on_close
        self.public_key = bytes(32)
        self.address = Address.for_key(self.public_key)
        self.subnet = Subnet.for_key(self.public_key)
        self.config = Config()
        self.on_reload = _nothing

    async def start(self) -> None:
        self.events.append(f"start {self.name}")
        await self.on_start()

    async def start_links(self) -> None:
        await self.start()

    def start_multicast(self) -> None:
        self.events.append("start multicast")

    def start_tun(self) -> None:
        self.events.append("start tun")

    async def apply_dns(self) -> list[str]:
        self.events.append("apply dns")
        return []

    async def reload(self, config: Config) -> ReloadReport:
        self.events.append("reload")
        await self.on_reload()
        return ReloadReport((), ())

    async def close(self) -> None:
        self.events.append(f"close {self.name}")
        await self.on_close()


def run(
    config: Config | None = None,
    *,
    node_start: Hook = _nothing,
    node_close: Hook = _nothing,
    admin_start: Hook = _stop_me,
    options: DaemonOptions | None = None,
) -> list[str]:
    """Run a daemon; return what happened. By default it is stopped as soon as it is ready."""
    events: list[str] = []
    code = run_daemon(
        config or Config(),
        logging.getLogger("yggpy"),
        lambda error: events.append(f"{type(error).__name__}: {error}"),
        options or DaemonOptions(),
        make_node=lambda config, logger: Part("node", events, node_start, node_close),
        make_admin=lambda node, uri, logger, reloader: Part(f"admin {uri}", events, admin_start),
        make_monitoring=lambda node, logger: Monitoring(events),
    )
    assert code == (1 if any("Error" in event for event in events) else 0)
    return events


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_start_and_stop_order(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    async def interrupt() -> None:
        os.kill(os.getpid(), number)

    caplog.set_level(logging.INFO, "yggpy")
    events = run(Config(admin_listen="x"), admin_start=interrupt)
    started = ["start node", "start admin x", "start multicast", "start tun", "apply dns"]
    assert events == [*started, "close admin x", "close node"]
    address = Address.for_key(bytes(32))
    assert [line.partition(":")[0] if line.startswith("Build") else line for line in caplog.messages] == [
        "Build name",
        "Build version",
        f"Your public key is {'00' * 32}",
        f"Your IPv6 address is {address}",
        f"Your IPv6 subnet is {address.subnet}",
        "Stopping...",
        "Stopped",
    ]


def test_a_signal_during_the_start_calls_it_off() -> None:
    async def stop_and_hang() -> None:
        await _stop_me()
        await asyncio.Event().wait()

    assert run(node_start=stop_and_hang) == ["start node", "close node"]


def test_what_keeps_a_node_from_starting_is_reported_and_then_the_rest_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        raise YggpyError("no permission")

    caplog.set_level(logging.INFO, "yggpy")
    events = run(Config(admin_listen="x"), admin_start=fail)
    assert events == ["start node", "start admin x", "YggpyError: no permission", "close admin x", "close node"]
    assert "Stopping..." not in caplog.messages


def test_a_bad_configuration_is_found_before_the_node_is_made() -> None:
    [event] = run(Config(allowed_public_keys=["zz"]), node_start=_stop_me)
    assert event.startswith("ConfigError: AllowedPublicKeys")


def test_unknown_keys_are_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    run(Config.from_bytes(b"Peerz: []\nMulticastInterfaces: [{Prot: 1}]"))
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        'Configuration, line 1: unknown key "Peerz" is ignored; did you mean "Peers"?',
        'Configuration, line 2: unknown key "MulticastInterfaces[0].Prot" is ignored; did you mean "Port"?',
    ]


def test_readiness_is_told_by_a_newline() -> None:
    read_end, write_end = os.pipe()
    run(options=DaemonOptions(notify_fd=write_end))
    with open(read_end, "rb") as file:
        assert file.read() == b"\n"  # reads to the end: the descriptor was closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(write_end)


def test_a_bad_notify_descriptor_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert "close node" in run(options=DaemonOptions(notify_fd=987654))
    assert "Cannot tell -notifyfd 987654 that the node is ready: Bad file descriptor" in caplog.messages


def test_root_is_given_up_when_all_is_there_and_before_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    assumed: list[str] = []

    def assume(self: Identity, *listens: str) -> None:
        with pytest.raises(BlockingIOError):
            os.read(read_end, 1)
        assumed.append(f"{self.name} {listens}")

    monkeypatch.setattr(Identity, "assume", assume)
    options = DaemonOptions(notify_fd=write_end, user=Identity("nobody", 65534, 65534))
    events = run(Config(admin_listen="x"), options=options)
    assert events[3] == "start tun" and events[-1] == "close node"
    assert assumed == ["nobody ('x', '')"]
    assert os.read(read_end, 2) == b"\n"
    os.close(read_end)


def test_a_node_that_cannot_give_up_root_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Identity, *listens: str) -> None:
        raise PrivilegeError("no")

    monkeypatch.setattr(Identity, "assume", refuse)
    events = run(Config(), options=DaemonOptions(user=Identity("nobody", 65534, 65534)))
    assert events[-3:-1] == ["PrivilegeError: no", f"close admin {Config().admin_listen}"]


class Monitoring:
    """An HTTP endpoint that notes what is done with it."""

    def __init__(self, events: list[str]) -> None:
        self.events = events
        self.address = ""

    async def listen(self, listen: str) -> bool:
        self.events.append(f"listen {listen}")
        if listen == "taken":
            raise ServingError("it is taken")
        self.address = listen
        return True

    async def close(self) -> None:
        self.events.append("close monitoring")


STARTED = ("start multicast", "start tun", "apply dns")


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("", [*STARTED]),
        ("none", [*STARTED]),
        (":1", [*STARTED, "listen :1", "close monitoring"]),
        ("taken", [*STARTED, "listen taken", "ServingError: it is taken", "close monitoring"]),
    ],
)
def test_the_http_endpoint_is_there_if_it_is_wanted_when_the_tun_is(listen: str, expected: list[str]) -> None:
    async def stop_later() -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)

    events = run(Config(admin_listen="a", http_listen=listen), admin_start=stop_later)
    assert events == ["start node", "start admin a", *expected, "close admin a", "close node"]


def test_what_no_task_expected_is_logged_and_the_node_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def break_something() -> None:
        def broken() -> None:
            raise ValueError("bug")

        asyncio.get_running_loop().call_soon(broken)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await _stop_me()

    assert run(admin_start=break_something)[-1] == "close node"
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage().startswith("Internal error: ")
    assert record.exc_info is not None


def test_signal_handlers_are_gone_afterwards() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    ended = asyncio.Event()

    def exit_now(code: int) -> None:
        codes.append(code)
        ended.set()

    async def hang() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await ended.wait()

    monkeypatch.setattr(daemon, "_exit_now", exit_now)
    run(node_close=hang)
    assert codes == [128 + signal.SIGINT]


def test_a_second_signal_after_a_clean_stop_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    ended = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []

    def exit_now(code: int) -> None:
        codes.append(code)
        ended.set()

    async def signal_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:  # the event loop ends, and with it all tasks
            os.kill(os.getpid(), signal.SIGINT)
            await ended.wait()

    async def leave_task_behind() -> None:
        tasks.append(asyncio.create_task(signal_when_cancelled()))
        await asyncio.sleep(0)

    monkeypatch.setattr(daemon, "_exit_now", exit_now)
    run(node_close=leave_task_behind)
    assert codes == [0]


@pytest.mark.parametrize(("hangs_in_close", "code"), [(True, 1), (False, 0)])
def test_a_stop_that_takes_too_long_is_given_up(
    hangs_in_close: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []
    given_up = threading.Event()

    def exit_now(code: int) -> None:
        codes.append(code)
        given_up.set()

    async def hang() -> None:
        if hangs_in_close:
            await asyncio.get_running_loop().run_in_executor(None, given_up.wait)
        else:
            # A thread that cannot be called off, such as a name look-up, holds up the end of the event loop.
            asyncio.get_running_loop().run_in_executor(None, given_up.wait)

    monkeypatch.setattr(daemon, "_exit_now", exit_now)
    monkeypatch.setattr(daemon, "STOP_TIMEOUT", 0.05)
    run(node_close=hang)
    assert codes == [code]


def test_sighup_reloads_the_file_and_tells_what_came_of_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yggpy")
    path = tmp_path / "x.conf"
    path.write_text("IfName: none\nPeerz: []")

    async def hang_up() -> None:
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGHUP)
        asyncio.get_running_loop().call_later(0.2, os.kill, os.getpid(), signal.SIGTERM)

    events = run(admin_start=hang_up, options=DaemonOptions(source=ConfigSource(str(path))))
    assert events.count("reload") == 1
    assert "Configuration reloaded; nothing has changed" in caplog.messages
    assert any('unknown key "Peerz"' in line for line in caplog.messages)


def test_sighup_before_the_node_is_up_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yggpy")

    async def hang_up() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        while not caplog.messages[-1].startswith("SIGHUP"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    assert "reload" not in run(node_start=hang_up)
    assert "SIGHUP ignored: the node is still starting, or stopping already" in caplog.messages


def test_the_daemon_module_does_not_load_the_node() -> None:
    rooms = "{'yggpy.node', 'yggpy.reload', 'yggpy.admin.server'}"
    code = f"import sys, yggpy.cli.daemon; assert not {rooms} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_node_leaves_out_what_it_seldom_needs() -> None:
    """Together these took more than three megabytes of a node that only forwards."""
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import yggpy.admin.server, yggpy.cli.daemon, yggpy.cli.node, yggpy.node\n"
        "from yggpy.config import Config\n"
        "Config().public_node_info()\n"
        "names = 'cryptography decimal difflib email fractions importlib.metadata logging.handlers pathlib tempfile'\n"
        "print(sorted(set(names.split()) & (set(sys.modules) - before)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr
