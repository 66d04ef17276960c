"""The TUN device in a real kernel: each check runs in a child process, in a network namespace of its own.

The namespace of the test run is never touched, and whatever a check leaves behind dies with its child. Nothing here
calls the ``ip`` program: what the kernel thinks is asked by ioctl and ``ifaddr``, for the node must do without it.
"""

from __future__ import annotations

import ctypes
import fcntl
import multiprocessing
import os
import select
import socket
import struct
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import ifaddr
import pytest

from yggpy import tun
from yggpy.address import Address
from yggpy.tun import MAX_MTU, MIN_MTU, TunDevice, TunError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/net/tun"),
    reason="needs root and /dev/net/tun: makes TUN devices in network namespaces of their own",
)

KEY = bytes([0x21]) + bytes(range(1, 32))
ADDRESS = Address.for_key(KEY)
REMOTE = str(Address.for_key(bytes([0x13]) + bytes(range(2, 33))))
CHILD_TIMEOUT = 30.0
PACKET_TIMEOUT = 5.0
UDP = 17
_CLONE_NEWNET = 0x40000000
_IFF_UP = 1
_SIOCGIFFLAGS = 0x8913
_SIOCGIFMTU = 0x8921
_SIOCGIFTXQLEN, _SIOCSIFTXQLEN = 0x8942, 0x8943
_TUNSETPERSIST = 0x400454CB


def in_namespace(check: Callable[[], None]) -> None:
    """Run ``check`` in a fresh network namespace; fail with its traceback if it fails."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(check, theirs))
    child.start()
    theirs.close()
    try:
        assert ours.poll(CHILD_TIMEOUT), "the check did not finish"
        failure = ours.recv()
    finally:
        if child.is_alive():
            child.join(1)
            child.kill()
        child.join()
        ours.close()
    if failure:
        pytest.fail(failure)


def _child(check: Callable[[], None], report: Connection) -> None:
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        check()
        report.send("")
    except BaseException:
        report.send(traceback.format_exc())


# -- what the kernel says ------------------------------------------------------------------------------------


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def addresses_of(name: str) -> list[tuple[str, int]]:
    return [
        (ip.ip[0], ip.network_prefix)
        for adapter in ifaddr.get_adapters()
        if adapter.name == name
        for ip in adapter.ips
        if ip.is_IPv6
    ]


def interface_request(name: str, request: int) -> int:
    """Return what an ioctl that fills a struct ifreq says: 16 bytes of name, then the answer."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, request, struct.pack("16s24x", name.encode()))
    number: int = struct.unpack_from("=i", answer, 16)[0]
    return number


def mtu_of(name: str) -> int:
    return interface_request(name, _SIOCGIFMTU)


def queue_length_of(name: str) -> int:
    return interface_request(name, _SIOCGIFTXQLEN)


def is_up(name: str) -> bool:
    return bool(interface_request(name, _SIOCGIFFLAGS) & _IFF_UP)


def receive(device: TunDevice, port: int) -> bytes:
    """Return the next UDP packet to ``port`` that the kernel sends, past what it says on a new link by itself."""
    while True:
        assert select.select([device.fd], [], [], PACKET_TIMEOUT)[0], "the kernel sent nothing"
        packet = os.read(device.fd, 65536)
        if packet[6] == UDP and struct.unpack_from("!H", packet, 42)[0] == port:
            return packet


def await_delivery(device: TunDevice, sock: socket.socket) -> None:
    """Wait until the kernel delivers to the new address: it adds the local route in its own time."""
    sock.sendto(b"probe", (REMOTE, 4242))
    probe = returned(receive(device, 4242))
    sock.settimeout(0.05)
    for _ in range(int(PACKET_TIMEOUT / 0.05)):
        os.write(device.fd, probe)
        try:
            sock.recvfrom(65536)
        except TimeoutError:
            continue
        sock.settimeout(PACKET_TIMEOUT)
        return
    raise AssertionError("the kernel does not deliver to the address")


def returned(packet: bytes) -> bytes:
    """Return ``packet`` with its ends exchanged; the checksum stays right, being a sum."""
    return packet[:8] + packet[24:40] + packet[8:24] + packet[42:44] + packet[40:42] + packet[44:]


# -- the checks ----------------------------------------------------------------------------------------------


def test_the_interface_has_name_address_mtu_and_is_up_until_closed() -> None:
    def check() -> None:
        before = interfaces()
        device = TunDevice.open("ygg0", ADDRESS, 9000)
        assert device.name == "ygg0"
        assert device.mtu == mtu_of("ygg0") == 9000
        assert is_up("ygg0")
        assert queue_length_of("ygg0") == 1500
        assert (str(ADDRESS), 7) in addresses_of("ygg0")
        assert not os.get_inheritable(device.fd)
        device.close()
        device.close()
        assert interfaces() == before

    in_namespace(check)


def test_auto_takes_the_first_free_name() -> None:
    def check() -> None:
        devices = [TunDevice.open("auto", Address(ADDRESS.packed[:15] + bytes([number])), 1280) for number in range(2)]
        assert [device.name for device in devices] == ["tun0", "tun1"]

    in_namespace(check)


@pytest.mark.parametrize(("wanted", "given"), [(0, MIN_MTU), (1279, MIN_MTU), (65535, MAX_MTU), (1 << 20, MAX_MTU)])
def test_the_mtu_is_bounded(wanted: int, given: int) -> None:
    def check() -> None:
        device = TunDevice.open("auto", ADDRESS, wanted)
        assert device.mtu == mtu_of(device.name) == given

    in_namespace(check)


def test_packets_travel_both_ways() -> None:
    def check() -> None:
        device = TunDevice.open("auto", ADDRESS, MAX_MTU)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind((str(ADDRESS), 0))
            await_delivery(device, sock)
            for size in (1, 1200, 60_000):
                message = os.urandom(size)
                sock.sendto(message, (REMOTE, 4242))
                packet = receive(device, 4242)
                assert packet[0] >> 4 == 6  # no header of the device before it
                assert packet[8:24] == ADDRESS.packed
                assert str(Address(packet[24:40])) == REMOTE
                assert packet[48:] == message
                assert os.write(device.fd, returned(packet)) == len(packet)
                assert sock.recvfrom(65536) == (message, (REMOTE, 4242, 0, 0))

    in_namespace(check)


def test_subnets_of_the_network_are_routed_too() -> None:
    def check() -> None:
        device = TunDevice.open("auto", ADDRESS, 1280)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("3ff:ffff::1", 4242))
            assert receive(device, 4242)[8:24] == ADDRESS.packed
            with pytest.raises(OSError, match="unreachable"):
                sock.sendto(b"x", ("400::1", 4242))

    in_namespace(check)


def test_reading_does_not_block() -> None:
    def check() -> None:
        device = TunDevice.open("auto", ADDRESS, 1280)
        with pytest.raises(BlockingIOError):
            for _ in range(100):  # the kernel's own few packets come first
                os.read(device.fd, 65536)

    in_namespace(check)


def test_a_persistent_interface_is_taken_over_with_its_address_and_stays() -> None:
    def check() -> None:
        first = TunDevice.open("keep0", ADDRESS, 1280)
        fcntl.ioctl(first.fd, _TUNSETPERSIST, 1)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCSIFTXQLEN, struct.pack("=16si20x", b"keep0", 77))
        first.close()
        assert "keep0" in interfaces()
        second = TunDevice.open("keep0", ADDRESS, 2000)
        assert mtu_of("keep0") == 2000
        assert queue_length_of("keep0") == 77  # an operator's own choice
        assert addresses_of("keep0").count((str(ADDRESS), 7)) == 1
        second.close()
        assert "keep0" in interfaces()

    in_namespace(check)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("taken", "^cannot make the TUN interface 'taken': the name is in use by another program; stop it"),
        ("lo", "^cannot make the TUN interface 'lo': the name cannot be used or belongs to an interface of another"),
        ("a/b", "^cannot make the TUN interface 'a/b': the name cannot be used"),
        ("sixteen-bytes-xx", "the name is longer than 15 bytes; shorten IfName"),
        ("nul\0", "embedded null character"),
    ],
)
def test_names_that_cannot_be_had(name: str, message: str) -> None:
    def check() -> None:
        holder = TunDevice.open("taken", ADDRESS, 1280)
        before = interfaces()
        with pytest.raises(TunError, match=message):
            TunDevice.open(name, ADDRESS, 1280)
        assert interfaces() == before
        holder.close()

    in_namespace(check)


def test_without_permission_the_text_says_what_to_do() -> None:
    def check() -> None:
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(
            TunError, match=r"^cannot make a TUN interface: no permission; run as root or with CAP_NET_ADMIN"
        ):
            TunDevice.open("auto", ADDRESS, 1280)

    in_namespace(check)


def test_without_ipv6_the_interface_is_removed_again() -> None:
    def check() -> None:
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        with pytest.raises(TunError, match=r"^cannot give tun0 the address .*/7: IPv6 is disabled here; enable it"):
            TunDevice.open("auto", ADDRESS, 1280)
        assert "tun0" not in interfaces()

    in_namespace(check)


def test_without_the_device_file_the_text_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun, "_TUN_PATH", "/dev/net/no-tun")
    with pytest.raises(
        TunError, match=r"^cannot make the TUN interface 'ygg0': /dev/net/no-tun is missing; load the mod"
    ):
        TunDevice.open("ygg0", ADDRESS, 1280)
