"""Discovery under hostile beacons and a machine whose interfaces change all the time: it keeps its promises.

* Nothing raises.
* A dial goes to the address that a beacon came from, by its interface, and never to two at once for one neighbour.
* Listeners and calls are counted right and stay within their limits.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.multicast_fakes import OWN_KEY, THEIR_KEY, beacon, eth
from tests.unit.multicast_fakes import rule as interface_rule
from yggpy.multicast import neighbours as limits
from yggpy.multicast.discovery import Discovery
from yggpy.multicast.model import (
    CallNeighbour,
    CloseListener,
    JoinGroup,
    LeaveGroup,
    Neighbour,
    NetworkInterface,
    OpenListener,
    SendBeacon,
)
from yggpy.wire.beacon import Beacon

PASSWORD = b"secret"
ADDRESSES = [IPv6Address(f"fe80::{number:x}") for number in range(1, 6)]
SOURCES = st.sampled_from([*ADDRESSES, IPv6Address("2001:db8::1"), IPv6Address("::1")])
INDEXES = st.integers(1, 4)
INTERFACES = st.lists(
    st.builds(
        lambda addresses, index, name, flags, usable: eth(
            *addresses, index=index, name=name, flags=flags, usable=usable
        ),
        st.lists(st.sampled_from(ADDRESSES), unique=True, max_size=2),
        INDEXES,
        st.sampled_from(["eth0", "eth1", "wlan0", "lo"]),
        st.sampled_from([0x1043, 0x1043, 0x1043, 0x1003, 0x10D1]),
        st.booleans(),
    ),
    max_size=4,
    unique_by=(lambda interface: interface.index, lambda interface: interface.name),
)
DATAGRAMS = st.one_of(
    st.binary(max_size=200),
    st.builds(beacon, st.sampled_from([OWN_KEY, THEIR_KEY, bytes(32)]), st.integers(0, 3), st.just(PASSWORD)),
    st.builds(
        lambda *fields: Beacon(*fields).encode(),
        st.binary(min_size=32, max_size=32),
        st.integers(0, 65535),
        st.binary(max_size=80),
        st.integers(0, 1),
        st.integers(4, 6),
    ),
)


class DiscoveryMachine(RuleBasedStateMachine):
    """A service that carries out, with everything that can go wrong."""

    def __init__(self) -> None:
        super().__init__()
        rules = (
            interface_rule("eth0", password=PASSWORD, port=7),
            interface_rule("eth", listen=False),
            interface_rule(".*", beacon=False),
        )
        self.core = Discovery(OWN_KEY, rules, randomness=lambda: 0.5)
        self.now = 1000.0
        self.interfaces: list[NetworkInterface] = []
        self.opening: dict[int, OpenListener] = {}
        self.open: dict[int, str] = {}
        self.joined: set[int] = set()
        self.calling: set[Neighbour] = set()
        self.up: set[Neighbour] = set()

    def carry_out(self) -> None:
        for effect in self.core.take_effects():
            match effect:
                case OpenListener():
                    assert effect.addresses and all(address.is_link_local for address in effect.addresses)
                    self.opening[effect.listener_id] = effect
                case CloseListener():
                    gone = (self.opening.pop(effect.listener_id, None), self.open.pop(effect.listener_id, None))
                    assert gone != (None, None)
                case JoinGroup():
                    self.joined.add(effect.index)
                case LeaveGroup():
                    self.joined.remove(effect.index)
                case SendBeacon():
                    assert effect.interface in self.open.values()
                    sent = Beacon.decode(effect.datagram)
                    assert sent.public_key == OWN_KEY and sent.port == 5000
                case CallNeighbour():
                    neighbour = effect.neighbour
                    assert neighbour not in self.calling | self.up
                    assert neighbour.key != OWN_KEY and neighbour.port and neighbour.address.is_link_local
                    self.calling.add(neighbour)

    @rule(interfaces=INTERFACES)
    def scan(self, interfaces: list[NetworkInterface]) -> None:
        self.interfaces = interfaces
        self.core.scanned(interfaces, self.now)
        self.carry_out()

    @rule(index=INDEXES, source=SOURCES, datagram=DATAGRAMS)
    def hear(self, index: int, source: IPv6Address, datagram: bytes) -> None:
        before = len(self.calling)
        self.core.datagram_received(index, source, datagram, self.now)
        self.carry_out()
        assert len(self.calling) <= before + 1

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 1.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.core.advance(self.now)
        self.carry_out()
        deadline = self.core.next_deadline()
        assert deadline is None or deadline > self.now

    @rule(data=st.data(), works=st.booleans())
    def finish_listener(self, data: st.DataObject, works: bool) -> None:
        if not self.opening:
            return
        listener_id = data.draw(st.sampled_from(sorted(self.opening)))
        effect = self.opening.pop(listener_id)
        if works:
            self.open[listener_id] = effect.interface
            self.core.listener_opened(listener_id, data.draw(st.sampled_from(effect.addresses)), 5000, self.now)
        else:
            self.core.listener_failed(listener_id, self.now)
        self.carry_out()

    @rule(data=st.data(), established=st.booleans())
    def finish_call(self, data: st.DataObject, established: bool) -> None:
        calls = sorted(self.calling | self.up, key=repr)
        if not calls:
            return
        neighbour = data.draw(st.sampled_from(calls))
        if established and neighbour in self.calling:
            self.calling.remove(neighbour)
            self.up.add(neighbour)
            self.core.call_established(neighbour, self.now)
        else:
            self.calling.discard(neighbour)
            self.up.discard(neighbour)
            self.core.call_ended(neighbour, self.now)

    @invariant()
    def the_books_are_right(self) -> None:
        table = self.core.neighbours
        assert (table.calls, table.dialling) == (len(self.calling) + len(self.up), len(self.calling))
        assert table.calls <= limits.MAX_CALLS and len(table) <= limits.MAX_NEIGHBOURS
        names = [effect.interface for effect in self.opening.values()] + list(self.open.values())
        assert len(names) == len(set(names)), "one listener for each interface"
        suitable = {interface.name for interface in self.interfaces if interface.suitable}
        assert {shown.name for shown in self.core.status()} == suitable & {"eth0", "eth1", "wlan0", "lo"}
        assert set(names) <= suitable


TestDiscovery = DiscoveryMachine.TestCase
TestDiscovery.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@given(st.lists(st.tuples(INDEXES, SOURCES, DATAGRAMS), max_size=50))
def test_no_datagram_raises(heard: list[tuple[int, IPv6Address, bytes]]) -> None:
    core = Discovery(OWN_KEY, [interface_rule(password=PASSWORD)])
    core.scanned([eth(ADDRESSES[0], index=1), eth(ADDRESSES[1], index=2)], 0.0)
    core.take_effects()
    for index, source, datagram in heard:
        core.datagram_received(index, source, datagram, 0.0)
        for effect in core.take_effects():
            assert isinstance(effect, CallNeighbour)
            assert (effect.neighbour.interface, effect.neighbour.address) == (f"eth{index}", source)
