"""The core of discovery: which interfaces, when beacons, what a beacon leads to. No sockets, time is an argument."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv6Address
from itertools import pairwise

import pytest

from tests.unit.multicast_fakes import (
    GOOD_FLAGS,
    OTHER_ADDRESS,
    OWN_ADDRESS,
    OWN_KEY,
    THEIR_ADDRESS,
    THEIR_KEY,
    beacon,
    eth,
    rule,
)
from yggpy.config import Config, MulticastInterface
from yggpy.errors import ConfigError
from yggpy.multicast.discovery import BEACON_JITTER, LONGEST_INTERVAL, MAX_EARLY, MAX_INTERFACES, Discovery
from yggpy.multicast.model import (
    IFF_MULTICAST,
    IFF_POINTOPOINT,
    IFF_RUNNING,
    IFF_UP,
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
    interface_rules,
)
from yggpy.status import MulticastStatus
from yggpy.wire.beacon import Beacon


def discovery(*rules: InterfaceRule, randomness: float = 0.0) -> Discovery:
    return Discovery(OWN_KEY, rules or (rule(),), randomness=lambda: randomness)


def of_kind(effects: Iterable[Effect], *kinds: type[Effect]) -> list[Effect]:
    return [effect for effect in effects if isinstance(effect, kinds)]


def opened(core: Discovery, *interfaces: NetworkInterface, now: float = 0.0, port: int = 5000) -> list[Effect]:
    """Scan, open all listeners that are wanted, and return the effects that follow."""
    core.scanned(interfaces, now)
    for effect in core.take_effects():
        if isinstance(effect, OpenListener):
            core.listener_opened(effect.listener_id, effect.addresses[0], port, now)
    return core.take_effects()


# -- interfaces ----------------------------------------------------------------------------------------------


def test_a_suitable_interface_gets_group_listener_and_beacon() -> None:
    core = discovery(rule(port=7, priority=3, password=b"secret", cost=40))
    core.scanned([eth(OWN_ADDRESS)], 10.0)
    join, listen = core.take_effects()
    assert join == JoinGroup("eth4", 4)
    assert listen == OpenListener(1, "eth4", (OWN_ADDRESS,), 7, 3, b"secret", 40)
    assert core.status() == [MulticastStatus("eth4", "", True, True, True)]
    core.listener_opened(1, OWN_ADDRESS, 5000, 11.0)
    [sent] = core.take_effects()
    assert isinstance(sent, SendBeacon)
    assert (sent.interface, sent.index, sent.source) == ("eth4", 4, OWN_ADDRESS)
    assert Beacon.decode(sent.datagram) == Beacon.create(OWN_KEY, 5000, b"secret")
    assert core.status() == [MulticastStatus("eth4", "[fe80::1%eth4]:5000", True, True, True)]


@pytest.mark.parametrize(
    "flags",
    [
        GOOD_FLAGS & ~IFF_UP,
        GOOD_FLAGS & ~IFF_RUNNING,
        GOOD_FLAGS & ~IFF_MULTICAST,
        GOOD_FLAGS | IFF_POINTOPOINT,
    ],
)
def test_other_interfaces_are_left_alone(flags: int) -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS, flags=flags)], 0.0)
    assert core.take_effects() == [] and core.status() == [] and core.next_deadline() is None


def test_the_first_rule_that_matches_counts() -> None:
    core = discovery(rule("^wlan", listen=False), rule("eth[45]", beacon=False), rule("eth", port=9))
    core.scanned([eth(OWN_ADDRESS), eth(OWN_ADDRESS, index=6), eth(OWN_ADDRESS, index=7, name="lan7")], 0.0)
    assert of_kind(core.take_effects(), OpenListener) == [OpenListener(1, "eth6", (OWN_ADDRESS,), 9, 0, b"")]
    assert [(shown.name, shown.beacon, shown.listen) for shown in core.status()] == [
        ("eth4", False, True),
        ("eth6", True, True),
    ]


def test_beacon_only_does_not_join_and_listen_only_does_not_announce() -> None:
    core = discovery(rule(listen=False))
    core.scanned([eth(OWN_ADDRESS)], 0.0)
    assert not of_kind(core.take_effects(), JoinGroup)
    core.datagram_received(4, THEIR_ADDRESS, beacon(), 0.0)
    assert core.take_effects() == []

    core = discovery(rule(beacon=False))
    core.scanned([eth(OWN_ADDRESS)], 0.0)
    assert core.take_effects() == [JoinGroup("eth4", 4)]
    assert core.next_deadline() is None
    core.datagram_received(4, THEIR_ADDRESS, beacon(), 0.0)
    assert of_kind(core.take_effects(), CallNeighbour)


def test_without_a_link_local_address_nothing_happens_but_the_interface_is_shown() -> None:
    core = discovery()
    core.scanned([eth()], 0.0)
    assert core.take_effects() == [] and core.next_deadline() is None
    assert core.status() == [MulticastStatus("eth4", "", True, True, False)]


def test_an_interface_that_goes_loses_listener_and_group() -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS))
    core.scanned([eth(OWN_ADDRESS, flags=GOOD_FLAGS & ~IFF_RUNNING)], 5.0)
    assert core.take_effects() == [CloseListener(1, "eth4"), LeaveGroup("eth4", 4)]
    assert core.status() == [] and core.next_deadline() is None
    effects = opened(core, eth(OWN_ADDRESS), now=6.0)
    assert of_kind(effects, SendBeacon), "it is announced at once when it is back"


def test_another_interface_of_the_same_name_starts_afresh() -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS, name="lan"))
    core.scanned([eth(OWN_ADDRESS, index=9, name="lan")], 5.0)
    assert core.take_effects() == [
        CloseListener(1, "lan"),
        LeaveGroup("lan", 4),
        JoinGroup("lan", 9),
        OpenListener(2, "lan", (OWN_ADDRESS,), 0, 0, b""),
    ]


def test_another_address_moves_the_listener_at_once() -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS))
    core.scanned([eth(OTHER_ADDRESS)], 5.0)
    close, _, listen = core.take_effects()
    assert close == CloseListener(1, "eth4")
    assert listen == OpenListener(2, "eth4", (OTHER_ADDRESS,), 0, 0, b"")
    core.listener_opened(2, OTHER_ADDRESS, 6000, 5.0)
    [sent] = core.take_effects()
    assert isinstance(sent, SendBeacon) and sent.source == OTHER_ADDRESS


def test_one_more_address_changes_nothing() -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS))
    core.scanned([eth(OTHER_ADDRESS, OWN_ADDRESS)], 5.0)
    assert not of_kind(core.take_effects(), OpenListener, CloseListener, SendBeacon)


def test_interfaces_are_bounded() -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS, index=number) for number in range(MAX_INTERFACES + 3, 0, -1)], 0.0)
    assert len(of_kind(core.take_effects(), OpenListener)) == MAX_INTERFACES
    assert core.left_out == 3
    core.scanned([eth(OWN_ADDRESS)], 1.0)
    assert core.left_out == 0


# -- duplicate address detection -----------------------------------------------------------------------------


def test_a_tentative_address_is_waited_for_and_then_used_at_once() -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS, usable=False)], 0.0)
    assert core.take_effects() == [JoinGroup("eth4", 4)]
    assert core.next_deadline() is None, "there is nothing to try before something changes"
    core.advance(100.0)
    assert core.take_effects() == []
    effects = opened(core, eth(OWN_ADDRESS), now=1.2)
    assert of_kind(effects, SendBeacon)


def test_beacons_heard_while_the_address_is_tentative_are_answered_when_it_is_usable() -> None:
    core = discovery(rule(beacon=False))
    core.scanned([eth(OWN_ADDRESS, usable=False)], 0.0)
    core.datagram_received(4, THEIR_ADDRESS, beacon(port=1), 0.1)
    core.datagram_received(4, THEIR_ADDRESS, beacon(port=2), 0.2)
    assert not of_kind(core.take_effects(), CallNeighbour)
    core.scanned([eth(OWN_ADDRESS)], 1.0)
    [call] = of_kind(core.take_effects(), CallNeighbour)
    assert isinstance(call, CallNeighbour) and call.neighbour.port == 2, "the newest counts"
    core.scanned([eth(OWN_ADDRESS)], 2.0)
    assert not of_kind(core.take_effects(), CallNeighbour)


def test_early_beacons_are_bounded() -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS, usable=False)], 0.0)
    for number in range(1000):
        core.datagram_received(4, IPv6Address(f"fe80::{number:x}"), beacon(), 0.0)
    core.scanned([eth(OWN_ADDRESS)], 1.0)
    assert len(of_kind(core.take_effects(), CallNeighbour)) == MAX_EARLY


# -- listeners that fail -------------------------------------------------------------------------------------


def test_a_listener_that_fails_is_tried_again_after_a_second() -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS)], 0.0)
    core.take_effects()
    core.listener_failed(1, 0.5)
    assert core.next_deadline() == 1.5
    core.scanned([eth(OWN_ADDRESS)], 1.0)
    core.advance(1.4)
    assert not of_kind(core.take_effects(), OpenListener)
    core.advance(1.5)
    assert of_kind(core.take_effects(), OpenListener) == [OpenListener(2, "eth4", (OWN_ADDRESS,), 0, 0, b"")]


def test_a_new_address_is_tried_at_once() -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS)], 0.0)
    core.take_effects()
    core.listener_failed(1, 0.0)
    core.scanned([eth(OWN_ADDRESS, OTHER_ADDRESS)], 0.1)
    assert of_kind(core.take_effects(), OpenListener)


def test_a_listener_that_opens_too_late_is_closed() -> None:
    core = discovery()
    core.scanned([eth(OWN_ADDRESS)], 0.0)
    core.scanned([eth(OTHER_ADDRESS)], 0.1)  # while it is being opened
    core.take_effects()
    core.listener_opened(1, OWN_ADDRESS, 5000, 0.2)
    assert core.take_effects() == [CloseListener(1, "eth4")]
    assert core.next_deadline() == pytest.approx(1.2)
    core.listener_opened(99, OWN_ADDRESS, 5000, 0.3)
    core.listener_failed(99, 0.3)
    assert core.take_effects() == []


# -- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("randomness", [0.0, 0.5, 1.0])
def test_beacon_intervals_grow_by_a_second_to_fifteen(randomness: float) -> None:
    core = discovery(randomness=randomness)
    opened(core, eth(OWN_ADDRESS))
    times = [0.0]
    while len(times) < 20:
        deadline = core.next_deadline()
        assert deadline is not None
        core.advance(deadline - 0.001)
        assert core.take_effects() == []
        core.advance(deadline)
        assert len(of_kind(core.take_effects(), SendBeacon)) == 1
        times.append(deadline)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    jitter = randomness * BEACON_JITTER
    assert gaps == pytest.approx([min(float(number), LONGEST_INTERVAL) + jitter for number in range(1, 20)])


# -- beacons that come in ------------------------------------------------------------------------------------


def test_a_beacon_leads_to_one_dial_of_its_source() -> None:
    core = discovery(rule(priority=5, password=b"secret", cost=40))
    opened(core, eth(OWN_ADDRESS))
    core.datagram_received(4, THEIR_ADDRESS, beacon(password=b"secret"), 1.0)
    neighbour = Neighbour("eth4", THEIR_ADDRESS, 1000, THEIR_KEY)
    assert core.take_effects() == [CallNeighbour(neighbour, 5, b"secret", 40)]
    core.datagram_received(4, THEIR_ADDRESS, beacon(password=b"secret"), 3.0)
    core.call_established(neighbour, 3.5)
    core.datagram_received(4, THEIR_ADDRESS, beacon(password=b"secret"), 100.0)
    assert core.take_effects() == []
    core.call_ended(neighbour, 200.0)
    core.datagram_received(4, THEIR_ADDRESS, beacon(password=b"secret"), 201.0)
    assert core.take_effects() == [CallNeighbour(neighbour, 5, b"secret", 40)]


def test_a_restarted_neighbour_is_dialled_while_the_old_link_still_stands() -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS))
    core.datagram_received(4, THEIR_ADDRESS, beacon(), 1.0)
    core.call_established(Neighbour("eth4", THEIR_ADDRESS, 1000, THEIR_KEY), 1.1)
    core.datagram_received(4, THEIR_ADDRESS, beacon(port=1001), 2.0)
    core.datagram_received(4, THEIR_ADDRESS, beacon(key=bytes(32)), 2.0)
    assert len(of_kind(core.take_effects(), CallNeighbour)) == 3


@pytest.mark.parametrize(
    ("index", "source", "datagram"),
    [
        (5, THEIR_ADDRESS, beacon()),
        (4, IPv6Address("2001:db8::2"), beacon()),
        (4, THEIR_ADDRESS, beacon(key=OWN_KEY)),
        (4, THEIR_ADDRESS, beacon(port=0)),
        (4, THEIR_ADDRESS, beacon(password=b"other")),
        (4, THEIR_ADDRESS, beacon()[:-1]),
        (4, THEIR_ADDRESS, b""),
        (4, THEIR_ADDRESS, replace(Beacon.create(THEIR_KEY, 1000), minor=4).encode()),
        (4, THEIR_ADDRESS, replace(Beacon.create(THEIR_KEY, 1000), major=1).encode()),
        (4, THEIR_ADDRESS, replace(Beacon.create(THEIR_KEY, 1000), hash=b"").encode()),
    ],
    ids=["interface", "source", "own", "port", "password", "short", "empty", "minor", "major", "hash"],
)
def test_beacons_that_are_not_for_us(index: int, source: IPv6Address, datagram: bytes) -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS))
    core.datagram_received(index, source, datagram, 1.0)
    assert core.take_effects() == []


def test_a_node_on_this_machine_is_a_neighbour_too() -> None:
    core = discovery()
    opened(core, eth(OWN_ADDRESS))
    core.datagram_received(4, OWN_ADDRESS, beacon() + b"more", 1.0)
    assert of_kind(core.take_effects(), CallNeighbour)


# -- configuration -------------------------------------------------------------------------------------------


def test_rules_of_a_configuration() -> None:
    config = Config.from_bytes(
        b"""{MulticastInterfaces: [
            {Regex: "^eth", Beacon: true, Listen: false, Port: 5, Priority: 2, Password: "gehe\xc3\xafm"}
            {Regex: "none", Beacon: false, Listen: false}
            {Regex: ".*", Listen: true}
        ]}"""
    )
    rules, refused = interface_rules(config.multicast_interfaces)
    assert refused == []
    assert rules == (
        InterfaceRule(re.compile("^eth"), True, False, 5, 2, b"gehe\xc3\xafm"),
        InterfaceRule(re.compile(".*"), False, True),
    )
    assert interface_rules(Config().multicast_interfaces)[0] == (rule(),)


def test_a_password_that_is_too_long_leaves_its_entry_out() -> None:
    entries = [MulticastInterface("a", True, True, password="x" * 65), MulticastInterface("b", True, password="x" * 64)]
    rules, refused = interface_rules(entries)
    assert [found.pattern.pattern for found in rules] == ["b"] and refused == ["a"]
    assert interface_rules([MulticastInterface("c", True, password="\ud800")])[0][0].password == b"\xef\xbf\xbd"


def test_a_pattern_that_cannot_be_used_is_an_error() -> None:
    with pytest.raises(ConfigError, match='cannot use Regex "\\("'):
        interface_rules([MulticastInterface("(", True, True)])
