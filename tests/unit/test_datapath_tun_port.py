"""The TUN descriptor of the pure data plane, with a socket pair in the place of the device."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator

import pytest

from yggpy.datapath.tun_port import TUN_BATCH, TUN_PAUSE_LIMIT, TunPort
from yggpy.node import LoopScheduler


class Device:
    """The kernel's side of the descriptor, and what the port reports."""

    def __init__(self) -> None:
        # Like a TUN, a packet socket pair keeps the boundaries of packets.
        self.kernel, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.setblocking(False)
        self._ours.setblocking(False)
        self.packets: list[bytes] = []
        self.batches: list[int] = []
        self.errors: list[OSError] = []
        self.has_room = True
        self.arrived = asyncio.Event()
        self.port = TunPort(self._ours.fileno(), LoopScheduler(), self.on_packet, self.on_batch_end, self.errors.append)

    def on_packet(self, packet: bytes) -> bool:
        self.packets.append(packet)
        self.arrived.set()
        return self.has_room

    def on_batch_end(self) -> None:
        self.batches.append(len(self.packets))

    def close(self) -> None:
        self.port.close()
        self.kernel.close()
        self._ours.close()


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    device = Device()
    yield device
    device.close()


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_packets_come_in_bounded_batches(device: Device) -> None:
    for number in range(TUN_BATCH + 3):
        device.kernel.send(b"%d" % number)
    await turn()
    assert device.packets == [b"%d" % number for number in range(TUN_BATCH + 3)]
    assert device.batches == [TUN_BATCH, TUN_BATCH + 3]


async def test_packets_go_out(device: Device) -> None:
    device.port.write(b"packet")
    assert device.kernel.recv(100) == b"packet"


async def test_a_full_mesh_pauses_the_reading_until_it_is_resumed(device: Device) -> None:
    device.has_room = False
    device.kernel.send(b"one")
    device.kernel.send(b"two")
    await turn()
    assert device.packets == [b"one"] and device.batches == [1]
    device.has_room = True
    device.port.resume()
    await turn()
    assert device.packets == [b"one", b"two"]


async def test_a_pause_ends_by_itself(device: Device) -> None:
    device.has_room = False
    device.kernel.send(b"one")
    device.kernel.send(b"two")
    await turn()
    assert device.packets == [b"one"]
    device.arrived.clear()
    async with asyncio.timeout(100 * TUN_PAUSE_LIMIT):
        await device.arrived.wait()
    assert device.packets == [b"one", b"two"]


async def test_a_full_ring_drops_without_an_error(device: Device) -> None:
    for _ in range(100_000):
        device.port.write(bytes(1000))
    assert device.errors == []


@pytest.mark.parametrize(
    ("code", "is_fatal"), [(errno.EINVAL, False), (errno.ENOBUFS, False), (errno.EIO, False), (errno.EBADFD, True)]
)
async def test_a_refused_packet_is_no_failure_of_the_device(
    device: Device, monkeypatch: pytest.MonkeyPatch, code: int, is_fatal: bool
) -> None:
    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", refuse)
    device.port.write(b"packet")
    device.port.write(b"packet")
    monkeypatch.undo()
    assert [error.errno for error in device.errors] == ([code] if is_fatal else [])


async def test_a_device_that_goes_away_is_reported_once(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(fd: int, size: int) -> bytes:
        raise OSError(errno.EBADFD, "gone")

    device.kernel.send(b"wake up")
    with monkeypatch.context() as patch:
        patch.setattr("yggpy.datapath.tun_port.os.read", gone)
        await turn()
    await turn()
    assert len(device.errors) == 1 and device.packets == []


async def test_a_closed_port_is_silent(device: Device) -> None:
    device.has_room = False
    device.kernel.send(b"one")
    await turn()
    device.port.close()
    device.port.close()
    device.port.resume()
    device.port.write(b"packet")
    device.kernel.send(b"two")
    await asyncio.sleep(2 * TUN_PAUSE_LIMIT)
    assert device.packets == [b"one"]
    with pytest.raises(BlockingIOError):
        device.kernel.recv(100)
