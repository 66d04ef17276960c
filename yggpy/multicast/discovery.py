"""Which interfaces are served, what is announced there and when, and what a beacon leads to (protocol section 12).

No sockets and no clock in here: ``scanned`` brings the interfaces, ``datagram_received`` what was heard, ``advance``
the time, and ``take_effects`` returns what is to be done about it. The life of an interface:

    suitable, a rule matches -> join the group, open a listener -> beacon at once, after 1 s, 2 s, ... every 15 s
             ^                        |  no address yet: wait          |
             +------------------------+--- gone, or another address ---+

An address in duplicate address detection is not an error, it is not there yet; what was heard meanwhile is kept.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from yggpy.multicast.model import (
    CallNeighbour,
    CloseListener,
    Effect,
    InterfaceRule,
    JoinGroup,
    LeaveGroup,
    Neighbour,
    NetworkInterface,
    OpenListener,
    SendBeacon,
)
from yggpy.multicast.neighbours import NeighbourTable
from yggpy.status import MulticastStatus
from yggpy.wire.beacon import Beacon
from yggpy.wire.errors import DecodeError

__all__ = ["BEACON_JITTER", "LONGEST_INTERVAL", "MAX_EARLY", "MAX_INTERFACES", "RETRY_DELAY", "Discovery"]

MAX_INTERFACES = 256
"""Interfaces that are served, lowest index first; each costs a listening socket."""
LONGEST_INTERVAL = 15.0
"""Seconds between beacons after the first fifteen; each interval before is a second longer than the last."""
BEACON_JITTER = 1.048576
"""Each interval is longer by a random part of so many seconds, so that nodes do not speak in chorus."""
RETRY_DELAY = 1.0
"""Seconds until a listener that could not be opened is tried again, unless the interface changes before."""
MAX_EARLY = 16
"""Beacons per interface that are kept while it has no usable address: the newest of each of so many sources."""


@dataclass(slots=True)
class _Served:
    """An interface that a rule matches."""

    interface: NetworkInterface
    rule: InterfaceRule
    joined: bool = False
    listener_id: int | None = None
    """Of the listener that is open or being opened."""
    address: IPv6Address | None = None
    """Of the open listener."""
    port: int = 0
    interval: float = 0.0
    next_beacon: float = 0.0
    retry_at: float = 0.0
    early: dict[IPv6Address, bytes] = field(default_factory=dict)


class Discovery:
    """Multicast discovery of one node."""

    def __init__(
        self, public_key: bytes, rules: Sequence[InterfaceRule], *, randomness: Callable[[], float] = random.random
    ) -> None:
        """``rules``: the first whose pattern matches an interface's name counts. ``randomness`` returns 0..1."""
        self._public_key = public_key
        self._rules = rules
        self._randomness = randomness
        self._served: dict[str, _Served] = {}
        self._effects: list[Effect] = []
        self._last_listener_id = 0
        self.neighbours = NeighbourTable()
        self.left_out = 0
        """Interfaces that the last scan left out because of ``MAX_INTERFACES``."""

    def take_effects(self) -> list[Effect]:
        """Return what is to be done, in order, and forget it."""
        effects, self._effects = self._effects, []
        return effects

    # -- interfaces --------------------------------------------------------------------------------------

    def scanned(self, interfaces: Iterable[NetworkInterface], now: float) -> None:
        """Take in the machine's interfaces as they are now: all of them, each time."""
        wanted = self._choose(interfaces)
        for name, served in list(self._served.items()):
            found = wanted.get(name)
            if found is None or found[0].index != served.interface.index:
                self._drop(name)
        for name, (interface, rule) in wanted.items():
            served = self._served.setdefault(name, _Served(interface, rule))
            fresh = interface.usable_addresses != served.interface.usable_addresses
            served.interface = interface
            if fresh:
                served.retry_at = now
            self._update(served, now)

    def _choose(self, interfaces: Iterable[NetworkInterface]) -> dict[str, tuple[NetworkInterface, InterfaceRule]]:
        chosen: dict[str, tuple[NetworkInterface, InterfaceRule]] = {}
        self.left_out = 0
        for interface in sorted(interfaces, key=lambda interface: interface.index):
            if not interface.suitable:
                continue
            rule = next((rule for rule in self._rules if rule.pattern.search(interface.name)), None)
            if rule is None:
                continue
            if len(chosen) < MAX_INTERFACES:
                chosen[interface.name] = (interface, rule)
            else:
                self.left_out += 1
        return chosen

    def _drop(self, name: str) -> None:
        served = self._served.pop(name)
        self._close_listener(served)
        if served.joined:
            self._effects.append(LeaveGroup(name, served.interface.index))

    def _close_listener(self, served: _Served) -> None:
        if served.listener_id is not None:
            self._effects.append(CloseListener(served.listener_id, served.interface.name))
        served.listener_id = served.address = None

    def _update(self, served: _Served, now: float) -> None:
        """Bring one interface's group membership and listener in line with its addresses."""
        interface, rule = served.interface, served.rule
        if served.address is not None and not interface.has(served.address):
            self._close_listener(served)
            served.retry_at = now
        if rule.listen and interface.addresses:
            # Also when it was joined before: an interface that was down may have lost it.
            self._effects.append(JoinGroup(interface.name, interface.index))
            served.joined = True
        self._open_listener(served, now)
        if served.early and interface.usable_addresses:
            early, served.early = served.early, {}
            for source, datagram in early.items():
                self.datagram_received(interface.index, source, datagram, now)

    def _open_listener(self, served: _Served, now: float) -> None:
        """Open the listener if there is to be one, there is none, and it could be had."""
        rule, usable = served.rule, served.interface.usable_addresses
        if not rule.beacon or not usable or served.listener_id is not None or now < served.retry_at:
            return
        self._last_listener_id += 1
        served.listener_id = self._last_listener_id
        name = served.interface.name
        self._effects.append(
            OpenListener(served.listener_id, name, usable, rule.port, rule.priority, rule.password, rule.cost)
        )

    def listener_opened(self, listener_id: int, address: IPv6Address, port: int, now: float) -> None:
        """A listener is open; the first beacon is due at once."""
        for served in self._served.values():
            if served.listener_id == listener_id:
                served.address, served.port = address, port
                served.interval = 0.0
                served.next_beacon = now
                if not served.interface.has(address):  # it changed meanwhile
                    self._close_listener(served)
                    served.retry_at = now + RETRY_DELAY
                else:
                    self.advance(now)
                return

    def listener_failed(self, listener_id: int, now: float) -> None:
        """A listener could not be opened on any of the addresses; it is tried again after ``RETRY_DELAY``."""
        for served in self._served.values():
            if served.listener_id == listener_id:
                served.listener_id = None
                served.retry_at = now + RETRY_DELAY
                return

    # -- time --------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """Return when ``advance`` should be called next; None: not before something else happens."""
        deadlines = []
        for served in self._served.values():
            if served.address is not None:
                deadlines.append(served.next_beacon)
            elif served.rule.beacon and served.listener_id is None and served.interface.usable_addresses:
                deadlines.append(served.retry_at)
        return min(deadlines, default=None)

    def advance(self, now: float) -> None:
        """Do what is due: beacons, and listeners to be tried again."""
        for served in self._served.values():
            if served.address is None:
                self._open_listener(served, now)
            elif now >= served.next_beacon:
                self._announce(served, served.address, now)

    def _announce(self, served: _Served, address: IPv6Address, now: float) -> None:
        beacon = Beacon.create(self._public_key, served.port, served.rule.password)
        interface = served.interface
        self._effects.append(SendBeacon(interface.name, interface.index, address, beacon.encode()))
        served.interval = min(served.interval + 1.0, LONGEST_INTERVAL)
        served.next_beacon = now + served.interval + self._randomness() * BEACON_JITTER

    # -- beacons -----------------------------------------------------------------------------------------

    def datagram_received(self, index: int, source: IPv6Address, datagram: bytes, now: float) -> None:
        """Look at a datagram that came to the group on the interface ``index``; whatever it is, nothing is raised."""
        served = next((served for served in self._served.values() if served.interface.index == index), None)
        if served is None or not served.rule.listen or not source.is_link_local:
            return
        try:
            beacon = Beacon.decode(datagram)
        except DecodeError:
            return
        rule, interface = served.rule, served.interface
        if not beacon.is_compatible or beacon.public_key == self._public_key or not beacon.port:
            return
        if not beacon.matches(rule.password):
            return
        if not interface.usable_addresses:
            if source in served.early or len(served.early) < MAX_EARLY:
                served.early[source] = datagram
            return
        neighbour = Neighbour(interface.name, source, beacon.port, beacon.public_key)
        if self.neighbours.admit(neighbour, now):
            self._effects.append(CallNeighbour(neighbour, rule.priority, rule.password, rule.cost))

    def call_established(self, neighbour: Neighbour, now: float) -> None:
        """The handshake of a ``CallNeighbour`` has succeeded."""
        self.neighbours.established(neighbour, now)

    def call_ended(self, neighbour: Neighbour, now: float) -> None:
        """A ``CallNeighbour`` has failed, or its link has ended; the next beacon may lead to another."""
        self.neighbours.ended(neighbour, now)

    # -- status ------------------------------------------------------------------------------------------

    def status(self) -> list[MulticastStatus]:
        """Return the interfaces that are served, by name."""
        return [
            MulticastStatus(
                name=name,
                address="" if served.address is None else f"[{served.address}%{name}]:{served.port}",
                beacon=served.rule.beacon,
                listen=served.rule.listen,
                password=bool(served.rule.password),
            )
            for name, served in sorted(self._served.items())
        ]
