"""What a service manager hears, over its socket and over ``-notifyfd``."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from yggpy.cli.service import ServiceManager

LOG = logging.getLogger("yggpy")


@pytest.fixture(params=["path", "abstract"])
def manager_socket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """A service manager's socket, and what ``NOTIFY_SOCKET`` says of it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(5)
        if request.param == "abstract":
            path = f"@yggpy-test-{os.getpid()}"
            receiver.bind(f"\0{path[1:]}")
        else:
            receiver.bind(path)
        yield path, receiver


def heard(receiver: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in receiver.recv(4096).decode().split("\n"))


def test_the_life_of_a_service(manager_socket: tuple[str, socket.socket]) -> None:
    path, receiver = manager_socket
    environment = {"NOTIFY_SOCKET": path, "OTHER": "x"}
    manager = ServiceManager(LOG, -1, environment)
    assert environment == {"OTHER": "x"}
    manager.ready("Running as 200::1")
    assert heard(receiver) == {"READY": "1", "STATUS": "Running as 200::1"}
    manager.reloading()
    reloading = heard(receiver)
    assert reloading["RELOADING"] == "1" and reloading["MONOTONIC_USEC"].isdecimal()
    manager.reloaded("Running\nas before")
    assert heard(receiver) == {"READY": "1", "STATUS": "Running as before"}
    manager.stopping()
    assert heard(receiver)["STOPPING"] == "1"


async def test_the_watchdog_hears_of_a_living_event_loop(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "s"))
        receiver.setblocking(False)
        environment = {
            "NOTIFY_SOCKET": str(tmp_path / "s"),
            "WATCHDOG_USEC": "20000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        manager = ServiceManager(LOG, -1, environment)
        assert environment == {}
        manager.ready("up")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            assert (await loop.sock_recv(receiver, 100)).startswith(b"READY=1")
            for _ in range(3):
                assert await loop.sock_recv(receiver, 100) == b"WATCHDOG=1"
        manager.close()
        manager.close()
        while True:  # at most what was sent before the end
            try:
                receiver.recv(100)
            except BlockingIOError:
                break
        await asyncio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


@pytest.mark.parametrize(
    "watchdog",
    [
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "0"},
        {},
    ],
)
async def test_a_watchdog_of_somebody_else_or_none(watchdog: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "s"))
        receiver.setblocking(False)
        ServiceManager(LOG, -1, {"NOTIFY_SOCKET": str(tmp_path / "s"), **watchdog}).ready("up")
        assert receiver.recv(100).startswith(b"READY=1")
        await asyncio.sleep(0.05)
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


def test_nobody_to_tell() -> None:
    manager = ServiceManager(LOG, -1, {"WATCHDOG_USEC": "20000"})
    manager.ready("up")  # without an event loop: nothing may be scheduled
    manager.stopping()


@pytest.mark.parametrize("address", ["vsock:2:1234", "relative/path"])
def test_an_address_of_another_kind(address: str, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager(LOG, -1, {"NOTIFY_SOCKET": address}).ready("up")
    assert "NOTIFY_SOCKET is neither a path nor an abstract socket" in caplog.text


def test_a_deaf_service_manager_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager(LOG, -1, {"NOTIFY_SOCKET": str(tmp_path / "gone")})
    manager.ready("up")
    manager.stopping()
    assert len([line for line in caplog.messages if "Cannot tell the service manager" in line]) == 1


def test_notifyfd_and_systemd_at_once(manager_socket: tuple[str, socket.socket]) -> None:
    path, receiver = manager_socket
    read_end, write_end = os.pipe()
    ServiceManager(LOG, write_end, {"NOTIFY_SOCKET": path}).ready("up")
    assert heard(receiver)["READY"] == "1"
    with open(read_end, "rb") as file:
        assert file.read() == b"\n"
