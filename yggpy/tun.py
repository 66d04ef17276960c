"""The TUN device: the interface through which this machine's IPv6 packets reach the network (protocol section 11).

``python-pytun`` makes the device and sets MTU and state; the address takes one netlink message, which it does not know.
No external program is called. The kernel adds the route for the whole network, 200::/7, with the address.

The data plane reads and writes the descriptor; this file only makes it, and removes the interface by closing it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
from typing import Any

from yggpy.address import Address
from yggpy.errors import YggpyError

__all__ = ["AUTO_NAME", "MAX_MTU", "MIN_MTU", "PREFIX_LENGTH", "TunDevice", "TunError"]

MIN_MTU = 1280
"""The least that IPv6 allows on a link."""

MAX_MTU = 65535
"""The most that a Linux TUN device carries."""

PREFIX_LENGTH = 7
"""Nodes and their subnets together fill 200::/7."""

AUTO_NAME = "auto"
"""The name that lets the kernel choose: the first free of tun0, tun1, ..."""

_TUN_PATH = "/dev/net/tun"

# rtnetlink, as in linux/netlink.h, rtnetlink.h and if_addr.h
_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_IFADDRMSG = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, interface index
_RTATTR = struct.Struct("=HH")  # length, type
_NLMSGERR = struct.Struct("=i")  # minus errno, 0 for success
_NLMSG_ERROR = 2
_RTM_NEWADDR = 20
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 0x1, 0x4, 0x200, 0x400
_IFA_LOCAL = 2
_IFA_F_NODAD = 0x2
_NETLINK_TIMEOUT = 5.0
_NETLINK_ANSWER_SIZE = 4096

_SIOCGIFTXQLEN, _SIOCSIFTXQLEN = 0x8942, 0x8943  # <asm/sockios.h>
_IFREQ = struct.Struct("=16si20x")  # name, number
_KERNEL_QUEUE = 500  # packets that wait in a new TUN device to be read
_QUEUE = 1500  # of ours: with many flows a burst of 64 KB packets overran 500 before the data plane had its turn

_MAX_NAME_BYTES = 15  # IFNAMSIZ without its final zero
_NO_TUN_HINT = "set IfName to none to run without one"


class TunError(YggpyError):
    """The TUN interface cannot be made or set up; the text says why and what to do."""


class TunDevice:
    """An open TUN interface; ``fd`` is non-blocking and carries bare IPv6 packets. Made by :meth:`open`."""

    def __init__(self, device: Any, mtu: int) -> None:
        self._device = device
        self._closed = False
        self.fd: int = device.fileno()
        self.name: str = device.name
        self.mtu = mtu

    @classmethod
    def open(cls, name: str, address: Address, mtu: int, *, vnet_header: bool = False) -> TunDevice:
        """Make the interface ``name`` (or ``"auto"``) with ``address``/7, set its MTU and bring it up.

        ``mtu`` (bytes) is bounded to ``MIN_MTU``..``MAX_MTU``; the attribute ``mtu`` tells the value in force.
        With ``vnet_header`` each packet on ``fd`` has a ``virtio_net_hdr`` in front, if the kernel can do that.
        A persistent interface made beforehand (``ip tuntap add``) is taken over if nobody else holds it.
        Raises :class:`TunError`.
        """
        mtu = min(max(mtu, MIN_MTU), MAX_MTU)
        device = _create(name, vnet_header)
        try:
            os.set_inheritable(device.fileno(), False)
            os.set_blocking(device.fileno(), False)
            _set_mtu(device, mtu)
            _lengthen_queue(device.name)
            _add_address(device.name, address)
            _bring_up(device)
            return cls(device, mtu)
        except BaseException:
            device.close()
            raise

    def close(self) -> None:
        """Remove the interface (a persistent one stays); harmless when already closed."""
        if not self._closed:
            self._closed = True
            self._device.close()


def _create(name: str, vnet_header: bool) -> Any:
    if name == AUTO_NAME:
        wanted, label = "", "a TUN interface"
    else:
        wanted, label = name, f"the TUN interface {name!r}"
    try:
        import pytun
    except ImportError as error:
        raise TunError(
            f"cannot make {label}: python-pytun does not load ({error}); install it, or {_NO_TUN_HINT}"
        ) from None
    if len(os.fsencode(wanted)) > _MAX_NAME_BYTES:
        raise TunError(f"cannot make {label}: the name is longer than {_MAX_NAME_BYTES} bytes; shorten IfName")
    flags = pytun.IFF_TUN | pytun.IFF_NO_PI
    if vnet_header:
        with contextlib.suppress(OSError, ValueError):  # what is wrong besides this flag shows without it too
            return pytun.TunTapDevice(name=wanted, flags=flags | pytun.IFF_VNET_HDR, dev=_TUN_PATH)
    try:
        return pytun.TunTapDevice(name=wanted, flags=flags, dev=_TUN_PATH)
    except (OSError, ValueError) as error:
        raise TunError(f"cannot make {label}: {_explain_create(error)}") from None


def _explain_create(error: OSError | ValueError) -> str:
    code = error.errno if isinstance(error, OSError) else None
    match code:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            return f"{_TUN_PATH} is missing; {_remedy('load the module (modprobe tun)')}"
        case errno.EACCES | errno.EPERM:
            return f"no permission; {_remedy(f'run as root or with CAP_NET_ADMIN and access to {_TUN_PATH}')}"
        case errno.EBUSY:
            return "the name is in use by another program; stop it, or choose another IfName"
        case errno.EINVAL:
            return "the name cannot be used or belongs to an interface of another kind; choose another IfName"
        case _:
            return str(error)


def _remedy(usual: str) -> str:
    """Return what to do: in a container all that it was not given, elsewhere ``usual``; or do without a TUN."""
    from yggpy.container import container_advice  # with pathlib, which a node that is well does not need

    return f"{container_advice() or usual}, or {_NO_TUN_HINT}"


def _set_mtu(device: Any, mtu: int) -> None:
    try:
        device.mtu = mtu
    except OSError as error:
        raise TunError(f"cannot set the MTU of {device.name} to {mtu}: {error}; choose another IfMTU") from None


def _lengthen_queue(name: str) -> None:
    """Let more packets wait in the device than the kernel would; a length that somebody else has chosen stays."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFTXQLEN, _IFREQ.pack(os.fsencode(name), 0))
        if _IFREQ.unpack(answer)[1] == _KERNEL_QUEUE:
            fcntl.ioctl(sock, _SIOCSIFTXQLEN, _IFREQ.pack(os.fsencode(name), _QUEUE))


def _add_address(name: str, address: Address) -> None:
    try:
        _netlink_add_address(socket.if_nametoindex(name), address)
    except OSError as error:
        if error.errno == errno.EEXIST:  # a persistent interface that has it from the last run
            return
        if error.errno in (errno.EACCES, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            hint = f"IPv6 is disabled here; {_remedy('enable it (sysctl -w net.ipv6.conf.all.disable_ipv6=0)')}"
        else:
            hint = str(error)
        raise TunError(f"cannot give {name} the address {address}/{PREFIX_LENGTH}: {hint}") from None


def _netlink_add_address(index: int, address: Address) -> None:
    """Send one RTM_NEWADDR and wait for the kernel's verdict. Raises ``OSError`` with its errno.

    The older ioctl would do the same, but cannot say that nobody needs to be asked whether the address is taken: until
    the kernel has got round to that, programs could not bind to it.
    """
    body = _IFADDRMSG.pack(socket.AF_INET6, PREFIX_LENGTH, _IFA_F_NODAD, 0, index)
    body += _RTATTR.pack(_RTATTR.size + len(address.packed), _IFA_LOCAL) + address.packed
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_CREATE | _NLM_F_EXCL
    request = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), _RTM_NEWADDR, flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_NETLINK_TIMEOUT)
        sock.send(request)
        answer = sock.recv(_NETLINK_ANSWER_SIZE)
    _, kind, _, _, _ = _NLMSGHDR.unpack_from(answer)
    (code,) = _NLMSGERR.unpack_from(answer, _NLMSGHDR.size)
    if kind != _NLMSG_ERROR or code:
        raise OSError(-code, os.strerror(-code))


def _bring_up(device: Any) -> None:
    try:
        device.up()
    except OSError as error:
        raise TunError(f"cannot bring {device.name} up: {error}") from None
