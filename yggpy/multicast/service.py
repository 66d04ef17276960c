"""Carries out what ``Discovery`` decides: sockets, listeners, dials, timers. One per node, on the node's event loop.

The interfaces are looked at when the kernel says that something changed, at once, and every few seconds besides. An
address that passes duplicate address detection is such a change: its first beacon goes out a moment later.

Nothing here keeps a node from starting or running: without IPv6, or with the port taken, there is a line in the log,
and discovery begins when that has changed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv6Address
from typing import Protocol

from yggpy.clock import TimerHandle
from yggpy.config import MulticastInterface
from yggpy.errors import PeerUriError
from yggpy.events.hub import Publish, publish_nothing
from yggpy.events.model import MulticastDown, MulticastUp
from yggpy.multicast.discovery import MAX_INTERFACES, Discovery
from yggpy.multicast.model import (
    CallNeighbour,
    CloseListener,
    Effect,
    JoinGroup,
    LeaveGroup,
    NetworkInterface,
    OpenListener,
    SendBeacon,
    interface_rules,
)
from yggpy.multicast.netlink import ChangeWatch
from yggpy.multicast.scan import scan_interfaces
from yggpy.multicast.sockets import BeaconSocket
from yggpy.status import MulticastStatus

__all__ = ["MulticastLinks", "MulticastListener", "MulticastService"]

SCAN_INTERVAL = 5.0
"""Seconds between two looks at the interfaces while the kernel tells of changes."""
SCAN_INTERVAL_BLIND = 1.0
"""The same while it does not."""
SCAN_GAP = 0.1
"""Least seconds between two looks, however much changes."""
READ_BATCH = 128
"""Datagrams that are looked at in a row; after that others get their turn for ``READ_PAUSE``."""
READ_PAUSE = 0.05
"""Seconds. In a flood that makes 2560 datagrams a second at most; the kernel drops the rest."""
ERROR_PAUSE = 1.0
"""Seconds without reading after an error of the beacon socket."""
_NOT_THERE = (errno.EADDRNOTAVAIL, errno.ENODEV)
"""An address or interface went away, or the address is not usable yet: no error, the next look will tell."""


class MulticastListener(Protocol):
    """What ``MulticastLinks.listen_local`` returns."""

    @property
    def port(self) -> int: ...
    def close(self) -> None: ...


class MulticastLinks(Protocol):
    """The node's link manager, as discovery needs it."""

    async def listen_local(
        self, address: str, port: int, interface: str, *, priority: int, password: bytes, cost: int | None = None
    ) -> MulticastListener:
        """Listen by TLS on a link-local address, for any key. Raises ``OSError``."""
        ...

    def call_peer(
        self,
        address: str,
        port: int,
        interface: str,
        *,
        key: bytes,
        priority: int,
        password: bytes,
        on_up: Callable[[], None],
        on_end: Callable[[], None],
        cost: int | None = None,
    ) -> None:
        """Dial a link-local address by TLS, once; ``on_end`` follows in any case. Raises ``PeerUriError``."""
        ...


class MulticastService:
    """Discovery on the local network. Made idle; ``start`` needs a running event loop and returns at once."""

    def __init__(
        self,
        public_key: bytes,
        entries: Iterable[MulticastInterface],
        links: MulticastLinks,
        logger: logging.Logger,
        clock: Callable[[], float],
        *,
        scan: Callable[[], list[NetworkInterface]] = scan_interfaces,
        publish: Publish = publish_nothing,
    ) -> None:
        """``entries``: the configuration's. Raises ``ConfigError`` for a pattern that cannot be used.

        ``publish`` is told of the interfaces (``yggpy.events``).
        """
        rules, refused = interface_rules(entries)
        self._core = Discovery(public_key, rules)
        self._enabled = bool(rules)
        self._links = links
        self._log = logger
        self._now = clock
        self._scan = scan
        self._publish = publish
        self._told: dict[str, MulticastStatus] = {}  # what was published last, by interface
        self._socket: BeaconSocket | None = None
        self._watch: ChangeWatch | None = None
        self._listeners: dict[int, MulticastListener] = {}
        self._opening: dict[int, asyncio.Task[None]] = {}
        self._timer: TimerHandle | None = None
        self._resume: TimerHandle | None = None
        self._last_scan = float("-inf")
        self._next_scan = 0.0
        self._complaints: dict[tuple[str, str], str] = {}  # (what, interface) -> what was said last
        self._running = False
        for pattern in refused:
            logger.warning('MulticastInterfaces: the Password of "%s" has more than 64 bytes, ignoring it', pattern)

    # -- life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, unless nothing is configured."""
        if not self._enabled or self._running:
            return
        self._log.debug("Starting multicast module")
        self._running = True
        try:
            self._watch = ChangeWatch()
        except OSError as error:
            self._log.debug("No word of changed interfaces from the kernel: %s", error)
        else:
            asyncio.get_running_loop().add_reader(self._watch.fileno(), self._changed)
        self._timer = asyncio.get_running_loop().call_soon(self._due)
        self._log.debug("Started multicast module")

    async def close(self) -> None:
        """Stop: listeners, sockets, timers. Links that came about stay. Harmless when repeated."""
        if not self._running:
            return
        self._log.info("Stopping multicast module")
        self._running = False
        for timer in (self._timer, self._resume):
            if timer is not None:
                timer.cancel()
        self._stop_watch()
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._tell_changes()
        self._log.debug("Stopped multicast module")

    def status(self) -> list[MulticastStatus]:
        """Return the interfaces that are served, by name."""
        return self._core.status() if self._running else []

    # -- interfaces and time -----------------------------------------------------------------------------

    def _changed(self) -> None:
        """The kernel has something to say."""
        assert self._watch is not None
        try:
            self._watch.drain()
        except OSError as error:
            self._log.debug("No more word of changed interfaces from the kernel: %s", error)
            self._stop_watch()
        self._next_scan = min(self._next_scan, self._last_scan + SCAN_GAP)
        self._due()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.fileno())
            self._watch.close()
            self._watch = None

    def _due(self) -> None:
        """Do what is due, and come back when the next thing is."""
        now = self._now()
        if now >= self._next_scan:
            self._look(now)
        self._core.advance(now)
        self._carry_out()

    def _look(self, now: float) -> None:
        self._last_scan = now
        self._next_scan = now + (SCAN_INTERVAL if self._watch is not None else SCAN_INTERVAL_BLIND)
        if not self._open_socket():
            self._next_scan = now + SCAN_INTERVAL_BLIND
            return
        try:
            interfaces = self._scan()
        except OSError as error:  # too many open files, perhaps
            self._log.debug("Failed to get interfaces: %s", error)
            return
        self._core.scanned(interfaces, now)
        names = {served.name for served in self._core.status()} | {""}
        self._complaints = {about: text for about, text in self._complaints.items() if about[1] in names}
        left_out = self._core.left_out
        self._complain(
            "interfaces",
            "",
            f"Multicasting on {MAX_INTERFACES} interfaces; {left_out} more are left out" if left_out else None,
        )

    def _open_socket(self) -> bool:
        if self._socket is not None:
            return True
        try:
            self._socket = BeaconSocket()
        except OSError as error:
            self._complain("socket", "", f"No multicast discovery for now: cannot listen for beacons: {error.strerror}")
            return False
        self._complain("socket", "", None)
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._readable)
        return True

    def _arm(self) -> None:
        """Set the one timer to whatever is due first."""
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._core.next_deadline()
        at = self._next_scan if deadline is None else min(deadline, self._next_scan)
        self._timer = asyncio.get_running_loop().call_later(max(0.0, at - self._now()), self._due)

    # -- beacons that come in ----------------------------------------------------------------------------

    def _readable(self) -> None:
        assert self._socket is not None
        now = self._now()
        try:
            for _ in range(READ_BATCH):
                datagram = self._socket.receive()
                if datagram is not None:
                    self._core.datagram_received(datagram.index, datagram.source, datagram.data, now)
            self._pause_reading(READ_PAUSE)
        except BlockingIOError:
            pass
        except OSError as error:
            self._complain("read", "", f"Multicast listener read error: {error.strerror}")
            self._pause_reading(ERROR_PAUSE)
        self._carry_out()

    def _pause_reading(self, seconds: float) -> None:
        assert self._socket is not None
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        self._resume = loop.call_later(seconds, loop.add_reader, self._socket.fileno(), self._readable)

    # -- effects -----------------------------------------------------------------------------------------

    def _carry_out(self) -> None:
        while effects := self._core.take_effects():
            for effect in effects:
                self._perform(effect)
        self._arm()
        self._tell_changes()

    def _tell_changes(self) -> None:
        now = {status.name: status for status in self.status()}
        if now == self._told:
            return
        before, self._told = self._told, now
        for name in before.keys() - now.keys():
            self._publish(partial(_down, name))
        for name, status in now.items():
            if before.get(name) != status:
                self._publish(partial(_up, status))

    def _perform(self, effect: Effect) -> None:
        assert self._socket is not None
        match effect:
            case SendBeacon(interface, index, source, datagram):
                self._send(interface, index, source, datagram)
            case CallNeighbour():
                self._call(effect)
            case OpenListener(listener_id):
                task = self._opening[listener_id] = asyncio.get_running_loop().create_task(self._open(effect))
                task.add_done_callback(lambda _: self._opening.pop(listener_id, None))
            case CloseListener(listener_id, interface):
                self._close_listener(listener_id, interface)
            case JoinGroup(interface, index):
                try:
                    self._socket.join(index)
                except OSError as error:
                    if error.errno not in _NOT_THERE:
                        self._complain("join", interface, f"Not listening for beacons on {interface}: {error.strerror}")
                else:
                    self._complain("join", interface, None)
            case LeaveGroup(interface, index):
                self._socket.leave(index)

    def _send(self, interface: str, index: int, source: IPv6Address, datagram: bytes) -> None:
        assert self._socket is not None
        try:
            self._socket.send(index, source, datagram)
        except OSError as error:
            # EINVAL is what the kernel says of a source address that the interface has no longer.
            if error.errno in (*_NOT_THERE, errno.EINVAL):
                self._log.debug("No beacon on %s: %s", interface, error.strerror)
            else:
                self._complain("send", interface, f"Failed to send multicast beacon: {interface}: {error.strerror}")
        else:
            self._complain("send", interface, None)

    def _call(self, effect: CallNeighbour) -> None:
        neighbour = effect.neighbour
        try:
            self._links.call_peer(
                str(neighbour.address),
                neighbour.port,
                neighbour.interface,
                key=neighbour.key,
                priority=effect.priority,
                password=effect.password,
                on_up=lambda: self._core.call_established(neighbour, self._now()),
                on_end=lambda: self._core.call_ended(neighbour, self._now()),
                cost=effect.cost,
            )
        except PeerUriError as error:
            self._log.debug("Call from multicast failed: %s", error)
            self._core.call_ended(neighbour, self._now())

    async def _open(self, effect: OpenListener) -> None:
        """Open a listener on the first address that can be had, and tell the core."""
        name, failure = effect.interface, None
        for address in effect.addresses:
            try:
                listener = await self._links.listen_local(
                    str(address),
                    effect.port,
                    name,
                    priority=effect.priority,
                    password=effect.password,
                    cost=effect.cost,
                )
            except OSError as error:
                failure = error
                continue
            self._listeners[effect.listener_id] = listener
            self._log.debug("Started multicasting on %s", name)
            self._complain("listen", name, None)
            self._core.listener_opened(effect.listener_id, address, listener.port, self._now())
            self._carry_out()
            return
        if failure is not None and _is_passing(failure, name):
            self._log.debug("Not multicasting on %s yet: %s", name, failure)
        else:
            self._complain("listen", name, f"Not multicasting on {name} due to error: {failure}")
        self._core.listener_failed(effect.listener_id, self._now())
        self._carry_out()

    def _close_listener(self, listener_id: int, interface: str) -> None:
        task = self._opening.get(listener_id)
        listener = self._listeners.pop(listener_id, None)
        if listener is not None:
            listener.close()
            self._log.debug("No longer multicasting on %s", interface)
        elif task is not None:
            task.cancel()

    def _complain(self, what: str, interface: str, text: str | None) -> None:
        """Log a warning, but the same one only once until things went well (None)."""
        if text is None:
            self._complaints.pop((what, interface), None)
        elif self._complaints.get((what, interface)) != text:
            self._log.warning("%s", text)
            self._complaints[what, interface] = text


def _up(status: MulticastStatus, time: float) -> MulticastUp:
    return MulticastUp(
        time=time,
        interface=status.name,
        address=status.address or None,
        beacon=status.beacon,
        listen=status.listen,
    )


def _down(name: str, time: float) -> MulticastDown:
    return MulticastDown(time=time, interface=name)


def _is_passing(error: OSError, interface: str) -> bool:
    """Tell whether ``error``, or the system's error behind it, only says that address or interface is not there."""
    number = error.errno
    if number is None and isinstance(error.__cause__, OSError):
        number = error.__cause__.errno
    if number in _NOT_THERE:
        return True
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return True
    return False
