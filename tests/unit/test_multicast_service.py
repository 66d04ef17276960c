"""The shell of discovery, with sockets, interfaces and links that the test holds in its hands."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv6Address
from typing import Any

import pytest

from tests.unit.links_fakes import until
from tests.unit.multicast_fakes import (
    GOOD_FLAGS,
    OTHER_ADDRESS,
    OWN_ADDRESS,
    OWN_KEY,
    THEIR_ADDRESS,
    THEIR_KEY,
    beacon,
    eth,
)
from yggpy.clock import SystemClock
from yggpy.config import MulticastInterface
from yggpy.config.model import default_multicast_interfaces
from yggpy.links.resolve import TransportError
from yggpy.links.uri import AlreadyConfiguredError
from yggpy.multicast import scan, service
from yggpy.multicast.model import NetworkInterface
from yggpy.multicast.service import READ_BATCH, READ_PAUSE, MulticastService
from yggpy.multicast.sockets import ReceivedDatagram

NOT_YET = OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
GONE = OSError("no interface with this name")
IN_USE = OSError(errno.EADDRINUSE, "Address already in use")


class FakeSocket:
    """A beacon socket; readable while there is something in ``incoming``."""

    def __init__(self) -> None:
        self.reads, self._writes = socket.socketpair()
        self.incoming: deque[ReceivedDatagram | None | OSError] = deque()
        self.joined: set[int] = set()
        self.sent: list[tuple[int, IPv6Address, bytes]] = []
        self.error: OSError | None = None
        self.closed = False

    def put(self, *items: ReceivedDatagram | None | OSError) -> None:
        self.incoming.extend(items)
        self._writes.send(b"x")

    def fileno(self) -> int:
        return self.reads.fileno()

    def join(self, index: int) -> None:
        if self.error is not None:
            raise self.error
        self.joined.add(index)

    def leave(self, index: int) -> None:
        self.joined.discard(index)

    def send(self, index: int, source: IPv6Address, datagram: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.sent.append((index, source, datagram))

    def receive(self) -> ReceivedDatagram | None:
        if not self.incoming:
            self.reads.recv(100)
            raise BlockingIOError
        item = self.incoming.popleft()
        if isinstance(item, OSError):
            raise item
        return item

    def close(self) -> None:
        self.closed = True
        self.reads.close()
        self._writes.close()


class FakeWatch:
    """The kernel's word of changes."""

    def __init__(self) -> None:
        self.reads, self.writes = socket.socketpair()
        self.error: OSError | None = None
        self.closed = False

    def fileno(self) -> int:
        return self.reads.fileno()

    def drain(self) -> bool:
        self.reads.recv(100)
        if self.error is not None:
            raise self.error
        return True

    def close(self) -> None:
        self.closed = True
        self.reads.close()
        self.writes.close()


class FakeListener:
    def __init__(self, port: int) -> None:
        self.port = port
        self.closed = False

    def close(self) -> None:
        self.closed = True


class FakeLinks:
    """Notes listeners and calls; ``failures`` are raised by address, ``hold`` keeps listeners from opening."""

    def __init__(self) -> None:
        self.listeners: list[FakeListener] = []
        self.asked: list[tuple[str, int, str]] = []
        self.calls: list[dict[str, Any]] = []
        self.failures: dict[str, OSError] = {}
        self.refusal: AlreadyConfiguredError | None = None
        self.hold: asyncio.Event | None = None

    async def listen_local(
        self, address: str, port: int, interface: str, *, priority: int, password: bytes, cost: int | None = None
    ) -> FakeListener:
        self.asked.append((address, port, interface))
        if self.hold is not None:
            await self.hold.wait()
        if address in self.failures:
            raise TransportError(f"listen tcp {address}: bind: failed") from self.failures[address]
        self.listeners.append(FakeListener(port or 5000 + len(self.listeners)))
        return self.listeners[-1]

    def call_peer(self, address: str, port: int, interface: str, **options: Any) -> None:
        self.calls.append({"address": address, "port": port, "interface": interface, **options})
        if self.refusal is not None:
            raise self.refusal


class Lab:
    """A service and its surroundings."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, entries: list[MulticastInterface] | None = None) -> None:
        self.links = FakeLinks()
        self.interfaces: list[NetworkInterface] = [eth(OWN_ADDRESS)]
        self.scans = 0
        self.scan_error: OSError | None = None
        self.sockets: list[FakeSocket] = []
        self.socket_error: OSError | None = None
        self.watches: list[FakeWatch] = []
        self.watch_error: OSError | None = None
        monkeypatch.setattr(service, "BeaconSocket", self._make_socket)
        monkeypatch.setattr(service, "ChangeWatch", self._make_watch)
        self.service = MulticastService(
            OWN_KEY,
            default_multicast_interfaces() if entries is None else entries,
            self.links,
            logging.getLogger("test.multicast"),
            SystemClock().now,
            scan=self._scan,
        )

    def _make_socket(self) -> FakeSocket:
        if self.socket_error is not None:
            raise self.socket_error
        self.sockets.append(FakeSocket())
        return self.sockets[-1]

    def _make_watch(self) -> FakeWatch:
        if self.watch_error is not None:
            raise self.watch_error
        self.watches.append(FakeWatch())
        return self.watches[-1]

    def _scan(self) -> list[NetworkInterface]:
        self.scans += 1
        if self.scan_error is not None:
            raise self.scan_error
        return self.interfaces

    @property
    def socket(self) -> FakeSocket:
        return self.sockets[-1]

    def change(self, *interfaces: NetworkInterface) -> None:
        """Let the machine have these interfaces, and the kernel tell of it."""
        self.interfaces = list(interfaces)
        self.watches[-1].writes.send(b"x")

    def hear(self, *datagrams: bytes, source: IPv6Address = THEIR_ADDRESS) -> None:
        self.socket.put(*(ReceivedDatagram(4, source, datagram) for datagram in datagrams))


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


@asynccontextmanager
async def started(lab: Lab) -> AsyncIterator[Lab]:
    lab.service.start()
    try:
        yield lab
    finally:
        await lab.service.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_listener_opens_and_a_beacon_goes_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(monkeypatch)
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        assert lab.links.asked == [("fe80::1", 0, "eth4")]
        assert lab.socket.joined == {4}
        assert lab.socket.sent == [(4, OWN_ADDRESS, beacon(key=OWN_KEY, port=5000))]
        assert [(shown.name, shown.address) for shown in lab.service.status()] == [("eth4", "[fe80::1%eth4]:5000")]
    assert lab.links.listeners[0].closed and lab.socket.closed and lab.watches[0].closed
    assert lab.service.status() == []
    assert [line for line in caplog.messages if "ulticast" in line] == [
        "Starting multicast module",
        "Started multicast module",
        "Started multicasting on eth4",
        "Stopping multicast module",
        "Stopped multicast module",
    ]
    await lab.service.close()


@pytest.mark.parametrize("entries", [[], [MulticastInterface(".*")]])
async def test_nothing_is_opened_when_nothing_is_configured(
    entries: list[MulticastInterface], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(monkeypatch, entries)
    async with started(lab):
        await asyncio.sleep(0.01)
        assert not lab.sockets and not lab.watches and not lab.scans
    assert caplog.messages == []


async def test_a_password_that_is_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    Lab(monkeypatch, [MulticastInterface("eth", True, True, password="x" * 65)])
    assert warnings(caplog) == ['MulticastInterfaces: the Password of "eth" has more than 64 bytes, ignoring it']


async def test_a_tentative_address_is_used_when_the_kernel_tells_and_nothing_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(monkeypatch)
    lab.interfaces = [eth(OWN_ADDRESS, usable=False)]
    async with started(lab):
        await until(lambda: lab.scans == 1)
        await asyncio.sleep(0.01)
        assert lab.links.asked == []
        lab.change(eth(OWN_ADDRESS))
        await until(lambda: bool(lab.socket.sent))
    assert warnings(caplog) == []


@pytest.mark.parametrize("error", [NOT_YET, GONE], ids=["address", "interface"])
async def test_an_address_that_cannot_be_bound_yet_is_no_warning(
    error: OSError, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the system does not tell which addresses are tentative, binding does."""
    monkeypatch.setattr("yggpy.multicast.discovery.RETRY_DELAY", 0.1)
    lab = Lab(monkeypatch)
    lab.links.failures = {"fe80::1": error}
    async with started(lab):
        await until(lambda: bool(lab.links.asked))
        await asyncio.sleep(0.01)
        lab.links.failures = {}
        await until(lambda: bool(lab.socket.sent))
    assert warnings(caplog) == []


async def test_the_next_address_is_taken_when_the_first_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch)
    lab.interfaces = [eth(OWN_ADDRESS, OTHER_ADDRESS)]
    lab.links.failures = {"fe80::1": NOT_YET}
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        assert lab.socket.sent[0][1] == OTHER_ADDRESS


async def test_a_listener_that_fails_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("yggpy.multicast.discovery.RETRY_DELAY", 0.01)
    monkeypatch.setattr("socket.if_nametoindex", lambda name: 4)
    lab = Lab(monkeypatch)
    lab.links.failures = {"fe80::1": IN_USE}
    async with started(lab):
        await until(lambda: len(lab.links.asked) > 3)
        lab.links.failures = {}
        await until(lambda: bool(lab.socket.sent))
    assert warnings(caplog) == ["Not multicasting on eth4 due to error: listen tcp fe80::1: bind: failed"]


async def test_an_interface_that_goes_closes_its_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(monkeypatch)
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        lab.change(eth(OWN_ADDRESS, flags=GOOD_FLAGS & ~1))
        await until(lambda: lab.links.listeners[0].closed)
        assert lab.socket.joined == set()
        assert "No longer multicasting on eth4" in caplog.messages
        lab.change(eth(OWN_ADDRESS))
        await until(lambda: len(lab.socket.sent) == 2)
        assert lab.socket.joined == {4}


async def test_a_listener_that_is_being_opened_is_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch)
    lab.links.hold = asyncio.Event()
    async with started(lab):
        await until(lambda: bool(lab.links.asked))
        lab.change()
        await until(lambda: not lab.service._opening)
        lab.change(eth(OTHER_ADDRESS))
        await until(lambda: len(lab.links.asked) == 2)
    assert lab.links.listeners == []


async def test_a_beacon_is_followed_by_a_call_and_its_end_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch)
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        lab.hear(b"junk", beacon(), beacon())
        await until(lambda: bool(lab.links.calls))
        [call] = lab.links.calls
        assert (call["address"], call["port"], call["interface"]) == ("fe80::2", 1000, "eth4")
        assert (call["key"], call["priority"], call["password"]) == (THEIR_KEY, 0, b"")
        table = lab.service._core.neighbours
        assert (table.calls, table.dialling) == (1, 1)
        call["on_up"]()
        assert (table.calls, table.dialling) == (1, 0)
        call["on_end"]()
        assert table.calls == 0
    call["on_end"]()


async def test_a_call_that_is_refused_is_only_noted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(monkeypatch)
    lab.links.refusal = AlreadyConfiguredError()
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        lab.hear(beacon())
        await until(lambda: bool(lab.links.calls))
        assert lab.service._core.neighbours.calls == 0
    assert "Call from multicast failed: peer is already configured" in caplog.messages and warnings(caplog) == []


async def test_a_flood_of_datagrams_is_read_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch)
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        lab.socket.put(*[None] * (3 * READ_BATCH))
        begin = asyncio.get_running_loop().time()
        await until(lambda: not lab.socket.incoming)
        assert asyncio.get_running_loop().time() - begin >= 2 * READ_PAUSE


async def test_errors_of_the_socket_are_told_once_and_pass(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "ERROR_PAUSE", 0.01)
    lab = Lab(monkeypatch)
    async with started(lab):
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        broken = OSError(errno.ENOMEM, "Cannot allocate memory")
        lab.socket.put(broken, broken)
        lab.hear(beacon())
        await until(lambda: bool(lab.links.calls))
        lab.socket.error = OSError(errno.ENETUNREACH, "Network is unreachable")
        for address in (OTHER_ADDRESS, OWN_ADDRESS):
            lab.change(eth(address))
            count = len(lab.links.listeners)
            await until(lambda: len(lab.links.listeners) > count)  # noqa: B023  awaited within the turn
    assert warnings(caplog) == [
        "Multicast listener read error: Cannot allocate memory",
        "Not listening for beacons on eth4: Network is unreachable",
        "Failed to send multicast beacon: eth4: Network is unreachable",
    ]


async def test_without_ipv6_the_node_goes_on_and_tries_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(service, "SCAN_INTERVAL_BLIND", 0.01)
    lab = Lab(monkeypatch)
    lab.socket_error = OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
    lab.watch_error = OSError(errno.EPROTONOSUPPORT, "Protocol not supported")
    async with started(lab):
        await asyncio.sleep(0.05)
        assert lab.scans == 0
        lab.socket_error = None
        await until(lambda: bool(lab.sockets and lab.socket.sent))
        scans = lab.scans
        await until(lambda: lab.scans > scans + 2)  # nobody tells of changes: look often
    assert warnings(caplog) == [
        "No multicast discovery for now: cannot listen for beacons: Address family not supported by protocol"
    ]


async def test_a_watch_that_breaks_and_interfaces_that_cannot_be_had_are_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab(monkeypatch)
    lab.scan_error = OSError(errno.EMFILE, "Too many open files")
    async with started(lab):
        await until(lambda: lab.scans == 1)
        lab.scan_error = None
        lab.watches[0].error = OSError(errno.EBADF, "Bad file descriptor")
        lab.change(eth(OWN_ADDRESS))
        await until(lambda: bool(lab.socket.sent))
        assert lab.watches[0].closed
    assert warnings(caplog) == []


async def test_many_changes_do_not_mean_many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch)
    async with started(lab):
        await until(lambda: lab.scans == 1)
        for _ in range(100):
            lab.change(eth(OWN_ADDRESS))
            await asyncio.sleep(0.002)
        assert lab.scans <= 8


# -- the system ----------------------------------------------------------------------------------------------


def test_tentative_addresses_of_the_kernels_table() -> None:
    table = (
        "fd000000000000000000000000000002 04 40 00 82     eth0\n"
        "fe8000000000000000fc00fffe000001 04 40 20 c0     eth0\n"
        "fe8000000000000000fc00fffe000002 1f 40 20 48     eth1\n"
        "fe8000000000000000fc00fffe000003 05 40 20 44     eth2\n"
        "00000000000000000000000000000001 01 80 10 80       lo\n"
        "nonsense\n"
    )
    assert scan.parse_if_inet6(table) == {
        (4, IPv6Address("fe80::fc:ff:fe00:1")),
        (31, IPv6Address("fe80::fc:ff:fe00:2")),
    }


def test_the_machines_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {interface.name: interface for interface in scan.scan_interfaces()}
    loopback = found["lo"]
    assert loopback.index == socket.if_nametoindex("lo") and loopback.flags & 8 and not loopback.suitable
    monkeypatch.setattr(scan, "_IF_INET6", os.devnull + "/nothing")
    assert set(found) == {interface.name for interface in scan.scan_interfaces()}
