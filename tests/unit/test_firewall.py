"""The packet filter, in Python and in C: the same questions, the same answers."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Protocol

import pytest

from yggpy.address import Address, Subnet
from yggpy.errors import ConfigError
from yggpy.firewall import Firewall, FirewallCounters, Rule, Ruleset, compile_rules
from yggpy.firewall.flows import MAX_FLOWS, Flow, FlowKey, FlowState, FlowTable
from yggpy.firewall.packet import ACK, FIN, RST, SYN

TCP, UDP, ICMPV6 = 6, 17, 58
FRIEND, STRANGER, ME = bytes((0x41,)) * 32, bytes((0x62,)) * 32, bytes((0x83,)) * 32
FRIENDS, STRANGERS, MINE = (Address.for_key(key).packed for key in (FRIEND, STRANGER, ME))
FRIENDS_HOST = Subnet.for_key(FRIEND).packed + b"\0" * 7 + b"\x05"


class Filter(Protocol):
    """Either filter."""

    def outbound(self, packet: bytes, now: float, /) -> None: ...
    def inbound(self, key: bytes, packet: bytes, now: float, /) -> bool: ...


class NativeFilter:
    """The filter in C behind the interface of the one in Python."""

    def __init__(self, rules: Ruleset) -> None:
        from yggpy.datapath import _native

        self._filter = _native.Firewall(rules.pack(), len(rules.names))
        self.outbound = self._filter.outbound
        self.inbound = self._filter.inbound

    def set_rules(self, rules: Ruleset) -> None:
        self._filter.set_rules(rules.pack(), len(rules.names))

    def counters(self, now: float) -> FirewallCounters:
        return FirewallCounters(*self._filter.counters(now))


AnyFilter = Firewall | NativeFilter
Make = Callable[..., AnyFilter]


@pytest.fixture(params=["pure", "native"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "native":
        pytest.importorskip("yggpy.datapath._native", reason="the extension is not built")

    def filter_with(*rules: Rule) -> AnyFilter:
        compiled = compile_rules(rules)
        return Firewall(compiled) if request.param == "pure" else NativeFilter(compiled)

    return filter_with


def ipv6(source: bytes, dest: bytes, protocol: int, upper: bytes) -> bytes:
    return struct.pack(">IHBB16s16s", 6 << 28, len(upper), protocol, 64, source, dest) + upper


def tcp(source: bytes, dest: bytes, ports: tuple[int, int], flags: int = ACK) -> bytes:
    return ipv6(source, dest, TCP, struct.pack(">HHIIBBHHH", *ports, 1, 2, 5 << 4, flags, 1000, 0, 0) + b"data")


def udp(source: bytes, dest: bytes, ports: tuple[int, int]) -> bytes:
    return ipv6(source, dest, UDP, struct.pack(">HHHH", *ports, 12, 0) + b"data")


def icmp(source: bytes, dest: bytes, kind: int, rest: bytes = b"\0\x07\0\1") -> bytes:
    return ipv6(source, dest, ICMPV6, struct.pack(">BBH", kind, 0, 0) + rest)


def icmp_error(source: bytes, dest: bytes, kind: int, sent: bytes) -> bytes:
    return icmp(source, dest, kind, b"\0\0\5\0" + sent)


def fragment(packet: bytes, place: int, *, more: bool, identity: int = 7) -> bytes:
    header = struct.pack(">BBHI", packet[6], 0, place << 3 | more, identity)
    return ipv6(packet[8:24], packet[24:40], 44, header + (packet[40:] if not place else b"later part"))


def test_without_rules_nothing_comes_in(make: Make) -> None:
    wall = make()
    for packet in (
        tcp(STRANGERS, MINE, (40000, 22), SYN),
        udp(STRANGERS, MINE, (40000, 53)),
        icmp(STRANGERS, MINE, 128),
        ipv6(STRANGERS, MINE, 59, b""),
    ):
        assert not wall.inbound(STRANGER, packet, 0)
    assert wall.counters(0).denied == 4


@pytest.mark.parametrize("build", [tcp, udp])
def test_what_is_answered_comes_in(make: Make, build: Callable[..., bytes]) -> None:
    wall = make()
    answer = build(STRANGERS, MINE, (443, 50000))
    assert not wall.inbound(STRANGER, answer, 0)
    wall.outbound(build(MINE, STRANGERS, (50000, 443)), 1)
    assert wall.inbound(STRANGER, answer, 2)
    assert not wall.inbound(STRANGER, build(STRANGERS, MINE, (444, 50000)), 2)
    assert not wall.inbound(STRANGER, build(STRANGERS, MINE, (443, 50001)), 2)
    assert not wall.inbound(FRIEND, build(FRIENDS, MINE, (443, 50000)), 2)
    other = udp if build is tcp else tcp
    assert not wall.inbound(STRANGER, other(STRANGERS, MINE, (443, 50000)), 2)
    counters = wall.counters(2)
    assert (counters.flows, counters.established, counters.denied) == (1, 1, 5)


def test_a_ping_is_answered_but_nobody_may_ping(make: Make) -> None:
    wall = make()
    wall.outbound(icmp(MINE, STRANGERS, 128), 0)
    assert wall.inbound(STRANGER, icmp(STRANGERS, MINE, 129), 1)
    assert not wall.inbound(STRANGER, icmp(STRANGERS, MINE, 129, b"\0\x08\0\1"), 1)
    assert not wall.inbound(STRANGER, icmp(STRANGERS, MINE, 128), 1)
    assert not wall.inbound(STRANGER, icmp(STRANGERS, MINE, 129), 32)


def test_ping_and_icmpv6_as_protocols(make: Make) -> None:
    ping, all_types = make(Rule(protocols=("ping",))), make(Rule(protocols=("icmpv6",)))
    assert ping.inbound(STRANGER, icmp(STRANGERS, MINE, 128), 0)
    assert not ping.inbound(STRANGER, icmp(STRANGERS, MINE, 135), 0)
    assert all_types.inbound(STRANGER, icmp(STRANGERS, MINE, 135), 0)
    assert all_types.inbound(STRANGER, icmp(STRANGERS, MINE, 1), 0)


def test_ports_and_ranges(make: Make) -> None:
    wall = make(
        Rule("web", protocols=("tcp", "udp"), ports=("80", "8000-8002")), Rule("dns", ports=("53",), protocols=("udp",))
    )
    allowed = [
        port
        for port in (79, 80, 81, 7999, 8000, 8001, 8002, 8003, 53)
        if wall.inbound(STRANGER, tcp(STRANGERS, MINE, (9, port), SYN), 0)
    ]
    assert allowed == [80, 8000, 8001, 8002]
    assert wall.inbound(STRANGER, udp(STRANGERS, MINE, (9, 53)), 0)
    counters = wall.counters(0)
    assert (counters.allowed, counters.denied) == ((4, 1), 5)


def test_by_key(make: Make) -> None:
    wall = make(Rule(senders=(FRIEND.hex(),)))
    assert wall.inbound(FRIEND, tcp(FRIENDS, MINE, (9, 22), SYN), 0)
    assert wall.inbound(FRIEND, udp(FRIENDS_HOST, MINE, (9, 22)), 0)
    assert wall.inbound(FRIEND, ipv6(FRIENDS, MINE, 47, b"tunnel"), 0)
    assert not wall.inbound(STRANGER, tcp(STRANGERS, MINE, (9, 22), SYN), 0)
    # The key counts, not the address: the data plane has checked that the two belong together.
    assert not wall.inbound(STRANGER, tcp(FRIENDS, MINE, (9, 22), SYN), 0)


def test_by_address_and_prefix(make: Make) -> None:
    import ipaddress

    one = make(Rule(senders=(str(ipaddress.IPv6Address(FRIENDS)),)))
    assert one.inbound(FRIEND, udp(FRIENDS, MINE, (1, 2)), 0)
    assert not one.inbound(FRIEND, udp(FRIENDS_HOST, MINE, (1, 2)), 0)
    subnet = make(Rule(senders=(str(Subnet.for_key(FRIEND)),)))
    assert subnet.inbound(FRIEND, udp(FRIENDS_HOST, MINE, (1, 2)), 0)
    assert not subnet.inbound(FRIEND, udp(FRIENDS, MINE, (1, 2)), 0)
    assert make(Rule(senders=("200::/7",))).inbound(STRANGER, udp(STRANGERS, MINE, (1, 2)), 0)
    assert make(Rule(senders=("::/0",))).inbound(STRANGER, udp(STRANGERS, MINE, (1, 2)), 0)


@pytest.mark.parametrize("bits", range(7, 129, 11))
def test_prefixes_of_any_length(make: Make, bits: int) -> None:
    import ipaddress

    network = ipaddress.IPv6Network((FRIENDS, bits), strict=False)
    wall = make(Rule(senders=(str(network),)))
    assert wall.inbound(FRIEND, udp(FRIENDS, MINE, (1, 2)), 0)
    flipped = (int.from_bytes(FRIENDS, "big") ^ 1 << (128 - bits)).to_bytes(16, "big")
    assert not wall.inbound(STRANGER, udp(flipped, MINE, (1, 2)), 0)


@pytest.mark.parametrize(
    ("build", "idle", "answered_idle"),
    [
        (lambda: (udp(MINE, STRANGERS, (5, 6)), udp(STRANGERS, MINE, (6, 5))), 30, 180),
        (lambda: (tcp(MINE, STRANGERS, (5, 6)), tcp(STRANGERS, MINE, (6, 5))), 120, 7440),
        (lambda: (ipv6(MINE, STRANGERS, 47, b""), ipv6(STRANGERS, MINE, 47, b"")), 600, 600),
    ],
)
def test_flows_expire(make: Make, build: Callable[[], tuple[bytes, bytes]], idle: int, answered_idle: int) -> None:
    there, back = build()
    wall = make()
    wall.outbound(there, 0)
    assert not wall.inbound(STRANGER, back, idle + 1)
    wall.outbound(there, 10000)
    assert wall.inbound(STRANGER, back, 10000 + idle)
    assert wall.inbound(STRANGER, back, 10000 + idle + answered_idle)
    assert not wall.inbound(STRANGER, back, 10001 + idle + 2 * answered_idle)
    assert wall.counters(10**6).flows == 0


@pytest.mark.parametrize("end", [FIN | ACK, RST | ACK])
def test_a_closed_connection_is_forgotten_soon(make: Make, end: int) -> None:
    wall = make()
    wall.outbound(tcp(MINE, STRANGERS, (5, 6), SYN), 0)
    assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (6, 5), SYN | ACK), 1)
    assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (6, 5), end), 2)
    assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (6, 5)), 60)
    assert not wall.inbound(STRANGER, tcp(STRANGERS, MINE, (6, 5)), 121)
    # And a new connection from the same port begins anew.
    wall.outbound(tcp(MINE, STRANGERS, (5, 6), SYN), 122)
    assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (6, 5), SYN | ACK), 240)
    assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (6, 5)), 7000)


def test_answers_to_strangers_make_no_flows(make: Make) -> None:
    wall = make(Rule(protocols=("tcp",), ports=("22",)), Rule(protocols=("ping",)))
    for port in range(1, 500):
        assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (port, 22), SYN), 0)
        wall.outbound(tcp(MINE, STRANGERS, (22, port), SYN | ACK), 0)
        wall.outbound(tcp(MINE, STRANGERS, (23, port), RST), 0)
        wall.outbound(icmp(MINE, STRANGERS, 129), 0)
        wall.outbound(icmp_error(MINE, STRANGERS, 1, udp(STRANGERS, MINE, (port, 7))), 0)
    assert wall.counters(0).flows == 0


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_errors_about_what_was_sent_come_in(make: Make, kind: int) -> None:
    wall = make(Rule(protocols=("tcp",), ports=("22",)), Rule(protocols=("ping",)))
    sent = udp(MINE, STRANGERS, (5000, 53))
    error = icmp_error(FRIENDS, MINE, kind, sent)
    assert not wall.inbound(FRIEND, error, 0)
    wall.outbound(sent, 0)
    assert wall.inbound(FRIEND, error, 0)
    assert wall.inbound(FRIEND, icmp_error(FRIENDS, MINE, kind, sent[:48]), 0)
    assert not wall.inbound(FRIEND, icmp_error(FRIENDS, MINE, kind, sent[:43]), 0)
    # About answers that a rule allows, too: path MTU discovery of a server.
    assert wall.inbound(FRIEND, icmp_error(FRIENDS, MINE, kind, tcp(MINE, STRANGERS, (22, 999))), 0)
    assert wall.inbound(FRIEND, icmp_error(FRIENDS, MINE, kind, icmp(MINE, STRANGERS, 129)), 0)
    assert not wall.inbound(FRIEND, icmp_error(FRIENDS, MINE, kind, tcp(MINE, STRANGERS, (23, 999))), 0)
    # Not about what somebody else has sent.
    assert not wall.inbound(FRIEND, icmp_error(FRIENDS, MINE, kind, udp(FRIENDS, STRANGERS, (5000, 53))), 0)
    assert wall.counters(0).errors == 4


def test_fragments(make: Make) -> None:
    wall = make(Rule(protocols=("udp",), ports=("53",)))
    whole = udp(STRANGERS, MINE, (9, 53))
    later = fragment(whole, 100, more=False)
    assert not wall.inbound(STRANGER, later, 0), "its first fragment has not come"
    assert wall.inbound(STRANGER, fragment(whole, 0, more=True), 1)
    assert wall.inbound(STRANGER, later, 2)
    assert not wall.inbound(STRANGER, fragment(whole, 100, more=False, identity=8), 2)
    assert not wall.inbound(FRIEND, fragment(udp(FRIENDS, MINE, (9, 53)), 100, more=False), 2)
    assert not wall.inbound(STRANGER, later, 62)
    denied = udp(STRANGERS, MINE, (9, 54))
    assert not wall.inbound(STRANGER, fragment(denied, 0, more=True, identity=9), 3)
    assert not wall.inbound(STRANGER, fragment(denied, 100, more=False, identity=9), 3)
    assert wall.counters(3).fragments == 1


def test_fragments_of_answers(make: Make) -> None:
    wall = make()
    wall.outbound(udp(MINE, STRANGERS, (5000, 53)), 0)
    answer = udp(STRANGERS, MINE, (53, 5000))
    assert wall.inbound(STRANGER, fragment(answer, 0, more=True), 1)
    assert wall.inbound(STRANGER, fragment(answer, 50, more=True), 1)
    assert wall.inbound(STRANGER, fragment(answer, 100, more=False), 1)


def test_extension_headers_are_followed(make: Make) -> None:
    wall = make(Rule(protocols=("udp",), ports=("53",)))

    def wrap(packet: bytes, kind: int, header: bytes) -> bytes:
        return ipv6(packet[8:24], packet[24:40], kind, bytes((packet[6],)) + header + packet[40:])

    for port, verdict in ((53, True), (54, False)):
        packet = udp(STRANGERS, MINE, (9, port))
        assert wall.inbound(STRANGER, wrap(packet, 0, bytes(7)), 0) is verdict
        assert wall.inbound(STRANGER, wrap(packet, 60, b"\1" + bytes(14)), 0) is verdict
        assert wall.inbound(STRANGER, wrap(packet, 51, b"\4" + bytes(22)), 0) is verdict
        assert wall.inbound(STRANGER, fragment(packet, 0, more=False), 0) is verdict
        for _ in range(8):
            packet = wrap(packet, 60, bytes(7))
        assert wall.inbound(STRANGER, packet, 0) is verdict
        assert not wall.inbound(STRANGER, wrap(packet, 60, bytes(7)), 0), "one too many"


def test_what_cannot_be_read_is_denied_whatever_the_rules(make: Make) -> None:
    wall = make(Rule())
    whole = tcp(STRANGERS, MINE, (9, 22), SYN)
    for size in range(40, 60):
        assert not wall.inbound(STRANGER, whole[:size], 0)
    assert wall.inbound(STRANGER, whole[:60], 0)
    assert not wall.inbound(STRANGER, ipv6(STRANGERS, MINE, 0, b"\6\xff" + bytes(40)), 0)
    counters = wall.counters(0)
    assert (counters.denied, counters.malformed) == (21, 21)


def test_new_rules_keep_flows(make: Make) -> None:
    wall = make(Rule("old", protocols=("tcp",), ports=("22",)))
    wall.outbound(udp(MINE, STRANGERS, (5, 6)), 0)
    assert wall.inbound(STRANGER, tcp(STRANGERS, MINE, (9, 22)), 0)
    wall.set_rules(compile_rules([]))
    assert not wall.inbound(STRANGER, tcp(STRANGERS, MINE, (9, 22)), 0)
    assert wall.inbound(STRANGER, udp(STRANGERS, MINE, (6, 5)), 0)
    assert wall.counters(0) == FirewallCounters(1, 0, 1, 0, 0, 1, 0, ())


def test_the_table_of_flows_is_bounded(make: Make) -> None:
    wall = make()
    for number in range(MAX_FLOWS + 3000):
        wall.outbound(udp(MINE, STRANGERS, (number & 0xFFFF, 1 + (number >> 16))), number / 10**6)
    counters = wall.counters(1)
    assert MAX_FLOWS // 2 < counters.flows <= MAX_FLOWS
    assert counters.flows + counters.evicted == MAX_FLOWS + 3000
    last = MAX_FLOWS + 2999
    assert wall.inbound(STRANGER, udp(STRANGERS, MINE, (1, last & 0xFFFF)), 1), "a new flow always finds a place"


def test_of_the_flows_in_python_the_longest_idle_gives_way() -> None:
    table = FlowTable(limit=2)
    one, two, three = (FlowKey(STRANGERS, MINE, UDP, port, 1) for port in (1, 2, 3))
    table.add(one, Flow(FlowState.NEW, 0), 0)
    table.add(two, Flow(FlowState.NEW, 1), 1)
    first = table.get(one, 2)
    assert first is not None
    table.touch(one, first, 2)
    table.add(three, Flow(FlowState.NEW, 3), 3)
    assert table.get(two, 3) is None
    assert table.get(one, 3) is first
    assert table.evicted == 1


# -- the two against each other ------------------------------------------------------------------------------

RULES = (
    Rule("friend", (FRIEND.hex(),), ("tcp",), ("20-25",)),
    Rule("subnet", (str(Subnet.for_key(FRIEND)),), ("udp", "47")),
    Rule("open", (), ("tcp", "udp"), ("80", "443-444")),
    Rule("ping", ("200::/8",), ("ping",)),
)


def extended(packet: bytes, rng: random.Random) -> bytes:
    """Put an extension header in front of what the packet has, now and then of a length that is not true."""
    kind, length = rng.choice((0, 43, 51, 60, 135, 139, 140)), rng.randrange(3)
    size = (length + 2) * 4 if kind == 51 else (length + 1) * 8
    claimed = length if rng.randrange(20) else rng.randrange(256)
    header = bytes((packet[6], claimed)) + rng.randbytes(max(size, 8) - 2)
    return ipv6(packet[8:24], packet[24:40], kind, header + packet[40:])


def random_packet(rng: random.Random, inbound: bool, depth: int = 0) -> bytes:
    theirs = rng.choice((FRIENDS, STRANGERS, FRIENDS_HOST))
    source, dest = (theirs, MINE) if inbound else (MINE, theirs)
    ports = rng.choice((22, 80, 443, 50000)), rng.choice((22, 80, 443, 50000))
    match rng.randrange(6):
        case 0 | 1:
            packet = tcp(source, dest, ports, rng.choice((SYN, ACK, SYN | ACK, FIN | ACK, RST)))
        case 2:
            packet = udp(source, dest, ports)
        case 3:
            packet = icmp(source, dest, rng.choice((128, 129, 135)), bytes((0, rng.randrange(2), 0, 1)))
        case 4 if depth == 0:
            packet = icmp_error(source, dest, rng.randrange(1, 5), random_packet(rng, not inbound, 1))
        case _:
            packet = ipv6(source, dest, rng.randrange(256), rng.randbytes(rng.randrange(60)))
    for _ in range(rng.choice((0, 0, 0, 1, 2, 9))):
        packet = extended(packet, rng)
    if not rng.randrange(6):
        packet = fragment(packet, rng.choice((0, 0, 9)), more=rng.random() < 0.7, identity=rng.randrange(3))
    if not rng.randrange(10):
        packet = packet[: rng.randrange(40, len(packet) + 1)]
    if not rng.randrange(10):
        mutable = bytearray(packet)
        mutable[rng.randrange(6, len(mutable))] = rng.randrange(256)
        packet = bytes(mutable)
    return packet


@pytest.mark.parametrize("seed", range(6))
def test_c_and_python_judge_alike(seed: int) -> None:
    pytest.importorskip("yggpy.datapath._native", reason="the extension is not built")
    rng = random.Random(seed)
    rules = compile_rules(RULES)
    python, native = Firewall(rules), NativeFilter(rules)
    now, let_in = 0.0, 0
    for round_number in range(4000):
        now += rng.choice((0.0, 0.5, 5.0, 40.0))
        if round_number == 3000:  # a reload, for what is left
            assert native.counters(now) == python.counters(now)
            assert python.counters(now).established > 0
            for wall in (python, native):
                wall.set_rules(compile_rules(RULES[1:]))
        if rng.random() < 0.4:
            packet = random_packet(rng, inbound=False)
            python.outbound(packet, now)
            native.outbound(packet, now)
            continue
        packet = random_packet(rng, inbound=True)
        key = STRANGER if packet[8:24] == STRANGERS else FRIEND
        verdict = python.inbound(key, packet, now)
        assert native.inbound(key, packet, now) is verdict, packet.hex()
        let_in += verdict
    assert native.counters(now) == python.counters(now)
    assert 300 < let_in < 2000


# -- rules -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        (Rule(senders=("fe80::1",)), 'Firewall.Rules[0].From: "fe80::1" is outside of 200::/7'),
        (Rule(senders=("300::1/64",)), 'Firewall.Rules[0].From: "300::1/64" has bits set behind its length'),
        (Rule(senders=("ab" * 31,)), "is neither; give a public key (64 hexadecimal digits), an address, or a prefix"),
        (Rule(protocols=("tpc",)), 'Firewall.Rules[0].Protocol: "tpc" is unknown; it can be any, ping, tcp'),
        (Rule(protocols=("256",)), '"256" is unknown'),
        (Rule(ports=("22",)), "Firewall.Rules[0].Ports: there are none with Protocol"),
        (Rule(protocols=("tcp", "ping"), ports=("22",)), 'there are none with Protocol "ping"; name tcp or udp'),
        (Rule(protocols=("tcp",), ports=("80-79",)), '"80-79" is neither a port nor a range such as 8000-8080'),
        (Rule(protocols=("tcp",), ports=("65536",)), '"65536" is neither a port nor a range'),
        (Rule(protocols=("tcp",), ports=("ssh",)), '"ssh" is neither a port nor a range'),
    ],
)
def test_rules_that_cannot_be_used_are_explained(rule: Rule, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compile_rules([rule])
    assert complaint in str(raised.value)


def test_rules_are_bounded() -> None:
    ports = tuple(str(port) for port in range(1, 100))
    senders = tuple(f"300:{number:x}::/64" for number in range(100))
    with pytest.raises(ConfigError, match="more than 4096 pairs"):
        compile_rules([Rule(senders=senders, protocols=("tcp",), ports=ports)])


def test_c_refuses_what_is_not_packed_rules() -> None:
    native = pytest.importorskip("yggpy.datapath._native", reason="the extension is not built")
    good = compile_rules(RULES).pack()
    for packed, count in ((good[:-1], 4), (good, 3), (b"\3" + good[1:], 4), (good, -1), (good, 5000)):
        with pytest.raises(ValueError, match="no packed rules"):
            native.Firewall(packed, count)
    with pytest.raises(ValueError, match="40 bytes"):
        native.Firewall(good, 4).inbound(bytes(32), bytes(39), 0.0)
    with pytest.raises(ValueError, match="a key has 32 bytes"):
        native.Firewall(good, 4).inbound(bytes(31), bytes(40), 0.0)
