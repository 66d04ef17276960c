"""The key store: buffering until a key is known, lifetimes, limits, and addresses that two keys share."""

from __future__ import annotations

import pytest

from yggpy import keystore
from yggpy.address import Address, Subnet
from yggpy.keystore import (
    BUFFER_TIMEOUT,
    ENTRY_TIMEOUT,
    InstallAddress,
    KeyStore,
    KeyStoreEffect,
    Lookup,
    RemoveAddress,
    SendPacket,
)

OWN = bytes([0x40]) + bytes(range(31))
FIRST = bytes([0x21]) + bytes(range(1, 32))
SECOND = bytes([0x13]) + bytes(range(2, 33))
START = 1_700_000_000.0


def key(number: int) -> bytes:
    return bytes([0x20]) + number.to_bytes(4, "big") + bytes(27)


def packet_to(destination: bytes, text: bytes = b"") -> bytes:
    source = Address.for_key(OWN).packed
    return b"\x60\0\0\0" + len(text).to_bytes(2, "big") + b"\x3b\x40" + source + destination.ljust(16, b"\1") + text


def to_address(remote: bytes, text: bytes = b"") -> bytes:
    return packet_to(Address.for_key(remote).packed, text)


def to_subnet(remote: bytes, text: bytes = b"") -> bytes:
    return packet_to(Subnet.for_key(remote).packed, text)


def installed(remote: bytes) -> InstallAddress:
    return InstallAddress(remote, Address.for_key(remote), Subnet.for_key(remote))


class Fixture:
    """A key store whose data plane uses what the test says."""

    def __init__(self) -> None:
        self.used: dict[bytes, float] = {}
        self.store = KeyStore(OWN, last_used=self.used.get)

    def unknown(self, packet: bytes, now: float = START) -> list[KeyStoreEffect]:
        self.store.destination_unknown(packet, now)
        return self.store.take_effects()

    def known(self, remote: bytes, now: float = START) -> list[KeyStoreEffect]:
        self.store.key_known(remote, now)
        return self.store.take_effects()

    def tick(self, now: float) -> list[KeyStoreEffect]:
        self.store.tick(now)
        return self.store.take_effects()


@pytest.fixture
def fixture() -> Fixture:
    return Fixture()


def test_unknown_destinations_are_looked_up_and_sent_to_when_the_key_is_known(fixture: Fixture) -> None:
    by_address, by_subnet = to_address(FIRST, b"a"), to_subnet(FIRST, b"s")
    assert fixture.unknown(by_subnet) == [Lookup(Subnet.for_key(FIRST).partial_key())]
    assert fixture.unknown(by_address) == [Lookup(Address.for_key(FIRST).partial_key())]
    assert fixture.known(SECOND) == [installed(SECOND)]
    assert fixture.known(FIRST) == [installed(FIRST), SendPacket(by_address), SendPacket(by_subnet)]
    assert fixture.known(FIRST) == []


def test_the_newest_packet_replaces_the_one_that_waited_and_asks_again(fixture: Fixture) -> None:
    fixture.unknown(to_address(FIRST, b"old"))
    newest = to_address(FIRST, b"new")
    assert fixture.unknown(newest, START + 0.1) == [Lookup(Address.for_key(FIRST).partial_key())]
    assert fixture.known(FIRST) == [installed(FIRST), SendPacket(newest)]


def test_the_packet_is_copied(fixture: Fixture) -> None:
    buffer = bytearray(to_address(FIRST, b"text"))
    fixture.store.destination_unknown(memoryview(buffer).toreadonly(), START)  # type: ignore[arg-type]
    buffer[-4:] = b"gone"
    fixture.store.take_effects()
    assert fixture.known(FIRST)[1] == SendPacket(to_address(FIRST, b"text"))


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        to_address(FIRST)[:39],
        packet_to(b"\xfe\x80"),
        packet_to(b"\x20\x01\x0d\xb8"),
        to_address(OWN),
        to_subnet(OWN),
    ],
    ids=["empty", "short", "link-local", "global", "own address", "own subnet"],
)
def test_packets_that_no_other_node_can_take_are_ignored(fixture: Fixture, packet: bytes) -> None:
    assert fixture.unknown(packet) == []


def test_entries_live_two_minutes_after_their_last_use(fixture: Fixture) -> None:
    fixture.known(FIRST)
    fixture.known(SECOND)
    assert fixture.tick(START + ENTRY_TIMEOUT - 1) == []
    fixture.used[FIRST] = START + 100
    fixture.known(SECOND, START + 110)
    assert fixture.tick(START + ENTRY_TIMEOUT) == []
    assert fixture.tick(START + 100 + ENTRY_TIMEOUT - 0.5) == []
    assert fixture.tick(START + 100 + ENTRY_TIMEOUT) == [RemoveAddress(FIRST)]
    assert fixture.tick(START + 110 + ENTRY_TIMEOUT) == [RemoveAddress(SECOND)]
    assert fixture.known(FIRST, START + 500) == [installed(FIRST)]


def test_a_mapping_in_use_is_never_removed(fixture: Fixture) -> None:
    fixture.known(FIRST)
    for second in range(1, 1000):
        fixture.used[FIRST] = START + second - 0.5
        assert fixture.tick(START + second) == []


def test_waiting_packets_are_dropped_after_two_minutes(fixture: Fixture) -> None:
    fixture.unknown(to_address(FIRST), START)
    fixture.unknown(to_address(SECOND), START + 1)
    fixture.tick(START + BUFFER_TIMEOUT)
    assert fixture.known(FIRST) == [installed(FIRST)]
    assert fixture.known(SECOND) == [installed(SECOND), SendPacket(to_address(SECOND))]


def test_the_packet_that_waited_longest_goes_when_too_many_wait(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keystore, "MAX_BUFFERED_PACKETS", 2)
    for number in (1, 2):
        fixture.unknown(to_address(key(number)))
    fixture.unknown(to_address(key(1), b"again"))  # now the newest
    fixture.unknown(to_address(key(3)))
    assert fixture.known(key(2)) == [installed(key(2))]
    assert fixture.known(key(1)) == [installed(key(1)), SendPacket(to_address(key(1), b"again"))]
    assert fixture.known(key(3)) == [installed(key(3)), SendPacket(to_address(key(3)))]


def test_waiting_packets_are_bounded_in_bytes(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "MAX_BUFFERED_BYTES", 300)
    for number in (1, 2, 3):
        fixture.unknown(to_address(key(number), bytes(80)))
    assert [len(fixture.known(key(number))) for number in (1, 2, 3)] == [1, 2, 2]
    fixture.unknown(to_address(key(4), bytes(400)))  # alone too much
    assert fixture.known(key(4)) == [installed(key(4))]
    fixture.unknown(to_address(key(5), bytes(80)))  # the count of bytes has come back to zero
    assert len(fixture.known(key(5))) == 2


def test_the_entry_unused_for_longest_makes_room(fixture: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "MAX_ENTRIES", 3)
    for number in (1, 2, 3):
        fixture.known(key(number), START + number)
    fixture.used[key(1)] = START + 50
    fixture.known(key(2), START + 60)
    assert fixture.known(key(4), START + 70) == [RemoveAddress(key(3)), installed(key(4))]
    assert fixture.known(key(5), START + 71) == [RemoveAddress(key(1)), installed(key(5))]
    assert fixture.tick(START + 60 + ENTRY_TIMEOUT) == [RemoveAddress(key(2))]


def test_a_known_key_is_installed_again_when_packets_wait_for_its_address(fixture: Fixture) -> None:
    # Two keys with one address (they differ only in bits that the address does not hold): the later one owns it in the
    # data plane. When it expires, the earlier must get it back, or its packets would wait in vain.
    twin = FIRST[:20] + bytes(12)
    assert Address.for_key(twin) == Address.for_key(FIRST)
    fixture.known(FIRST)
    fixture.known(twin)
    fixture.known(FIRST, START + 100)
    assert fixture.tick(START + ENTRY_TIMEOUT) == [RemoveAddress(twin)]
    packet = to_address(FIRST)
    assert fixture.unknown(packet, START + 130) == [Lookup(Address.for_key(FIRST).partial_key())]
    assert fixture.known(FIRST, START + 131) == [installed(FIRST), SendPacket(packet)]
    assert fixture.known(FIRST, START + 132) == []


def test_the_key_of_an_address() -> None:
    case = Fixture()
    subnet = Subnet.for_key(FIRST).packed + bytes(7) + b"\1"
    other = bytes([2]) + Subnet.for_key(FIRST).packed[1:] + bytes(8)
    assert case.store.key_of(Address.for_key(FIRST).packed) is None
    case.known(FIRST)
    assert case.store.key_of(Address.for_key(FIRST).packed) == FIRST
    assert case.store.key_of(subnet) == FIRST
    # Another address of the same /64, and one outside of the mesh.
    assert case.store.key_of(other) is None
    assert case.store.key_of(b"\x20" + other[1:]) is None
    case.store.tick(START + ENTRY_TIMEOUT + 1)
    assert case.store.key_of(Address.for_key(FIRST).packed) is None
    assert case.store.key_of(subnet) is None
