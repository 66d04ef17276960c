"""The packet path through the ``Datapath`` seam: tables, routing, sealing, IPv6 checks, and what is asked of above."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.datapath_bench import OWN, REMOTE, THIRD, Bench, ipv6, session_in_step, traffic_of
from yggpy.address import Address, Subnet
from yggpy.datapath.base import MAX_KEPT_BYTES, CloseReason, LinkCounters, LinkEnd, SessionCounters
from yggpy.sessions.traffic import RatchetCase, TrafficState
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import MAX_FRAME_SIZE, FrameType
from yggpy.wire.ipv6 import ICMPV6, checksum
from yggpy.wire.packets import MAX_TRAFFIC_PAYLOAD, MAX_WATERMARK, Traffic
from yggpy.wire.session import MAX_MESSAGE

OWN_ADDRESS, REMOTE_ADDRESS, THIRD_ADDRESS = (Address.for_key(key) for key in (OWN, REMOTE, THIRD))
INIT = b"\x01init"


@pytest.fixture(params=["pure", "native"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(request.param)


def to_us(payload: bytes, *, source: bytes = REMOTE, dest: bytes = OWN, path: tuple[int, ...] = ()) -> bytes:
    return Traffic(path, (1, 2), source, dest, MAX_WATERMARK, payload).encode()


# -- outbound --------------------------------------------------------------------------------------------------


def test_a_payload_without_a_path_is_handed_back(bench: Bench) -> None:
    bench.datapath.send_payload(REMOTE, INIT)
    assert bench.take() == [("path_missing", REMOTE, INIT)]


def test_a_payload_leaves_by_the_nearest_link_with_both_coordinates(bench: Bench) -> None:
    far = bench.link(1, THIRD, (7,), self_path=(3,))
    near = bench.link(2, REMOTE, (3, 1), self_path=(3,))
    bench.datapath.set_path(REMOTE, (3, 1, 300))
    bench.datapath.send_payload(REMOTE, INIT)
    assert bench.take() == []
    assert far.frames() == []
    assert traffic_of(near.frames()) == [Traffic((3, 1, 300), (3,), OWN, REMOTE, 2, INIT)]


def test_the_last_payload_is_sent_again_when_the_path_changes(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    bench.datapath.set_path(REMOTE, (1, 5))
    bench.datapath.send_payload(REMOTE, b"\x01first")
    bench.datapath.send_payload(REMOTE, b"\x01second")
    bench.take()
    peer.frames()
    bench.datapath.set_path(REMOTE, (1, 6))
    bench.take()
    assert traffic_of(peer.frames()) == [Traffic((1, 6), (), OWN, REMOTE, 2, b"\x01second")]


def test_a_removed_path_is_forgotten_with_its_payload(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    bench.datapath.set_path(REMOTE, (1,))
    bench.datapath.send_payload(REMOTE, INIT)
    bench.datapath.remove_path(REMOTE)
    bench.take()
    peer.frames()
    bench.datapath.send_payload(REMOTE, b"\x01next")
    assert bench.take() == [("path_missing", REMOTE, b"\x01next")]
    bench.datapath.set_path(REMOTE, (1,))
    assert bench.take() == []
    assert peer.frames() == []


def test_the_payloads_kept_for_a_new_path_are_bounded_in_bytes(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    nodes = [bytes([number]) * 32 for number in range(200)]
    large = bytes(MAX_KEPT_BYTES // 128)
    for node in nodes:
        bench.datapath.set_path(node, (1, 5))
        bench.datapath.send_payload(node, large)
    bench.datapath.send_payload(nodes[0], INIT)  # its large one is not kept any more; this one fits beside 127 others
    for node in nodes:
        bench.take()
        peer.frames()
        bench.datapath.set_path(node, (1, 6))
        bench.take()
        kept = INIT if node == nodes[0] else large
        expected = [kept] if node == nodes[0] or node in nodes[-127:] else []
        assert [traffic.payload for traffic in traffic_of(peer.frames())] == expected


def test_a_forgotten_payload_makes_room_for_others(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    large = bytes(MAX_KEPT_BYTES // 128)
    bench.datapath.set_path(THIRD, (1, 5))
    bench.datapath.send_payload(THIRD, INIT)
    for _ in range(2 * 128):
        bench.datapath.set_path(REMOTE, (1,))
        bench.datapath.send_payload(REMOTE, large)
        bench.datapath.send_payload(REMOTE, large)
        bench.datapath.remove_path(REMOTE)
        bench.take()
    peer.frames()
    bench.datapath.set_path(THIRD, (1, 6))
    bench.take()
    assert [traffic.payload for traffic in traffic_of(peer.frames())] == [INIT]


def test_a_payload_that_nobody_is_nearer_to_is_unroutable(bench: Bench) -> None:
    bench.link(1, THIRD, (9,), self_path=(1,))
    bench.datapath.set_path(REMOTE, (1,))
    bench.datapath.send_payload(REMOTE, INIT)
    assert bench.take() == [
        ("traffic_unroutable", Traffic((1,), (1,), OWN, REMOTE, MAX_WATERMARK, INIT)),
    ]


def test_a_payload_to_ourselves_is_delivered(bench: Bench) -> None:
    bench.datapath.set_path(OWN, ())
    bench.datapath.send_payload(OWN, INIT)
    assert bench.take() == [("session_message", OWN, INIT)]


def test_payloads_that_do_not_fit_are_dropped(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    bench.datapath.send_payload(REMOTE, bytes(MAX_TRAFFIC_PAYLOAD + 1))
    bench.datapath.set_path(REMOTE, (1,) * 100)  # a frame has room for 76 bytes of header, this path takes more
    bench.datapath.send_payload(REMOTE, bytes(MAX_TRAFFIC_PAYLOAD))
    bench.datapath.send_direct(1, FrameType.ANNOUNCE, bytes(MAX_FRAME_SIZE))
    bench.datapath.send_queued(1, FrameType.PATH_NOTIFY, bytes(MAX_FRAME_SIZE), OWN, REMOTE)
    assert bench.take() == [] and peer.frames() == []


def test_a_message_without_keys_is_handed_back(bench: Bench) -> None:
    bench.datapath.send_message(REMOTE, b"\x01hello")
    assert bench.take() == [("session_missing", REMOTE, b"\x01hello")]


def test_a_message_is_sealed_and_counted(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    bench.datapath.set_path(REMOTE, (1,))
    for number in range(3):
        bench.datapath.send_message(REMOTE, b"\x01message %d" % number)
    assert bench.take() == []
    opened = [remote.open(traffic.payload) for traffic in traffic_of(peer.frames())]
    assert [result.message for result in opened] == [b"\x01message 0", b"\x01message 1", b"\x01message 2"]
    assert [result.nonce for result in opened] == [1, 2, 3]
    assert bench.datapath.session_counters(REMOTE) == SessionCounters(0, 30)
    assert bench.datapath.session_last_activity(REMOTE) == bench.scheduler.now()


def test_a_sealed_message_without_a_path_is_handed_back_sealed(bench: Bench) -> None:
    remote = bench.session(REMOTE)
    bench.datapath.send_message(REMOTE, b"\x01x")
    ((name, dest, payload),) = bench.take()
    assert (name, dest) == ("path_missing", REMOTE)
    assert isinstance(payload, bytes) and remote.open(payload).message == b"\x01x"


def test_messages_that_do_not_fit_are_dropped(bench: Bench) -> None:
    bench.datapath.send_message(REMOTE, bytes(MAX_MESSAGE + 1))
    assert bench.take() == []


def test_a_used_up_counter_asks_for_new_keys_first(bench: Bench) -> None:
    bench.session(REMOTE)
    keys, _ = session_in_step()
    bench.datapath.set_session(REMOTE, replace(keys, send_nonce=2**64 - 1))
    fresh = replace(keys, local_key_seq=3)
    calls: list[bytes] = []

    def renew(dest: bytes) -> None:
        calls.append(dest)
        bench.datapath.set_session(dest, fresh)

    bench.session_nonce_exhausted = renew  # type: ignore[method-assign]
    bench.datapath.send_message(REMOTE, b"\x01x")
    ((name, _, payload),) = bench.take()
    assert calls == [REMOTE]
    assert name == "path_missing" and isinstance(payload, bytes) and payload[:4] == b"\x03\x03\x01\x01"


# -- transit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [(3, 1, 5), (3, 1, 300), (3, 1, 2**40)], ids=["short ports", "long port", "longer"])
def test_transit_changes_nothing_but_the_watermark(bench: Bench, path: tuple[int, ...]) -> None:
    source = bench.link(1, THIRD, (), self_path=(3,))
    onward = bench.link(2, REMOTE, (3, 1), self_path=(3,))
    packet = Traffic(path, (9, 200, 1), THIRD, REMOTE, 7, b"sealed" * 100)
    source.send(FrameType.TRAFFIC, packet.encode())
    assert bench.take() == []
    assert traffic_of(onward.frames()) == [Traffic(path, (9, 200, 1), THIRD, REMOTE, 2, b"sealed" * 100)]


def test_what_a_plane_counts_outlives_links_and_sessions(bench: Bench) -> None:
    source = bench.link(1, THIRD, (), self_path=(3,))
    onward = bench.link(2, REMOTE, (3, 1), self_path=(3,))
    remote = bench.session(REMOTE)
    for path in ((3, 1, 5), (3, 1, 300)):
        packet = Traffic(path, (), THIRD, REMOTE, 7, b"x" * 50).encode()
        source.send(FrameType.TRAFFIC, packet)
        bench.take()
    source.send(FrameType.TRAFFIC, Traffic((3, 9), (), THIRD, REMOTE, 1, b"nobody is nearer").encode())
    bench.datapath.set_path(REMOTE, (3, 1))
    bench.datapath.send_message(REMOTE, b"\2" + bytes(9))
    onward.send(FrameType.TRAFFIC, to_us(remote.seal(b"\2" + bytes(19)), path=(3,)))
    bench.take()
    alive = bench.datapath.counters()
    links = [bench.datapath.link_counters(number) for number in (1, 2)]
    assert alive.bytes_received == sum(link.bytes_received for link in links) > 200
    assert alive.bytes_sent == sum(link.bytes_sent for link in links) > 200
    assert (alive.transit_packets, alive.transit_bytes) == (2, 2 * len(packet) - 1)  # the first path is a byte shorter
    assert (alive.session_bytes_received, alive.session_bytes_sent) == (20, 10)
    for number in (1, 2):
        bench.datapath.close_link(number, LinkEnd(CloseReason.LOCAL))
    bench.datapath.remove_session(REMOTE)
    bench.take()
    assert bench.datapath.counters() == alive
    bench.datapath.close()
    assert bench.datapath.counters() == alive


def test_what_waits_in_a_link_is_shown_and_forgotten_with_it(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    peer.buffered = 1 << 20
    for number in range(200):  # however much of it the kernel takes
        bench.datapath.send_queued(1, FrameType.PATH_LOOKUP, bytes(10_000), OWN, bytes([number]) * 32)
    bench.take()
    counted, link = bench.datapath.counters(), bench.datapath.link_counters(1)
    assert (counted.queued_bytes, counted.dropped_packets) == (link.queued_bytes, link.dropped_packets)
    assert link.queued_bytes > 100_000 and link.dropped_packets > 0
    bench.datapath.close_link(1, LinkEnd(CloseReason.LOCAL))
    bench.take()
    after = bench.datapath.counters()
    assert (after.queued_bytes, after.dropped_packets) == (0, link.dropped_packets)


def test_a_packet_that_comes_no_nearer_is_not_passed_on(bench: Bench) -> None:
    source = bench.link(1, THIRD, (), self_path=(3,))
    onward = bench.link(2, REMOTE, (3, 1), self_path=(3,))
    packet = Traffic((3, 1, 5), (), THIRD, REMOTE, 2, b"x")  # we are at distance 2 ourselves
    source.send(FrameType.TRAFFIC, packet.encode())
    assert bench.take() == [("traffic_unroutable", packet)]
    assert onward.frames() == []


@pytest.mark.parametrize("path", [(3, 1, 5), (3, 1, 300)], ids=["short ports", "long port"])
def test_a_node_that_is_no_transit_passes_nothing_on(bench: Bench, path: tuple[int, ...]) -> None:
    source = bench.link(1, THIRD, (), self_path=(3,), transit=False)
    onward = bench.link(2, REMOTE, (3, 1), self_path=(3,), transit=False)
    packet = Traffic(path, (9,), THIRD, REMOTE, MAX_WATERMARK, b"sealed")
    source.send(FrameType.TRAFFIC, packet.encode())
    assert bench.take() == [("traffic_unroutable", packet)]
    assert onward.frames() == []
    # What is for this node is taken, though its path leads nearer to another one: that is where a peer sees us.
    source.send(FrameType.TRAFFIC, Traffic(path, (9,), THIRD, OWN, MAX_WATERMARK, INIT).encode())
    assert bench.take() == [("session_message", THIRD, INIT)]
    # Its own packets leave as ever.
    bench.datapath.set_path(REMOTE, path)
    bench.datapath.send_payload(REMOTE, INIT)
    assert bench.take() == []
    assert traffic_of(onward.frames()) == [Traffic(path, (3,), OWN, REMOTE, 2, INIT)]


def test_traffic_for_somebody_else_that_ends_here_is_unroutable(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    packet = Traffic((), (1,), REMOTE, THIRD, 5, b"x")
    peer.send(FrameType.TRAFFIC, packet.encode())
    assert bench.take() == [("traffic_unroutable", packet)]


@pytest.mark.parametrize("junk", [b"", b"\0", b"\0\0" + bytes(63), b"\1\2", b"\x80" * 20 + b"\0\0" + bytes(70)])
def test_malformed_traffic_closes_the_link(bench: Bench, junk: bytes) -> None:
    peer = bench.link(1, REMOTE, (1,))
    other = bench.link(2, THIRD, (2,))
    peer.send(FrameType.TRAFFIC, junk)
    ((name, link_id, end),) = bench.take()
    assert (name, link_id) == ("link_ended", 1)
    assert isinstance(end, LinkEnd) and end.reason is CloseReason.ERROR and end.message
    assert peer.closed and not other.closed


def test_a_rejected_protocol_frame_closes_its_link_only(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    bench.link(2, THIRD, (2,)).send(FrameType.SIG_REQ, b"\1\2")
    assert bench.take() == [("protocol_frame", 2, FrameType.SIG_REQ, b"\1\2")]
    bench.reject = DecodeError("bad signature")
    peer.send(FrameType.ANNOUNCE, b"x")
    assert bench.take() == [("link_ended", 1, LinkEnd(CloseReason.ERROR, "bad signature"))]


def test_unknown_links_are_ignored(bench: Bench) -> None:
    bench.datapath.send_direct(99, FrameType.SIG_REQ, b"")
    bench.datapath.send_queued(99, FrameType.PATH_LOOKUP, b"", OWN, REMOTE)
    bench.datapath.close_link(99, LinkEnd(CloseReason.LOCAL))
    assert bench.datapath.link_counters(99) == LinkCounters(0, 0)
    assert bench.take() == []


def test_closing_ends_every_link(bench: Bench) -> None:
    peers = [bench.link(1, REMOTE, (1,)), bench.link(2, THIRD, (2,))]
    bench.datapath.close()
    assert [call[:2] for call in bench.take()] == [("link_ended", 1), ("link_ended", 2)]
    assert all(peer.closed for peer in peers)


# -- inbound ---------------------------------------------------------------------------------------------------


def test_session_messages_go_up_and_others_are_dropped(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    for payload in (b"\x01init", b"\x02ack", b"\x03traffic", b"\x00dummy", b"\x04what", b""):
        peer.send(FrameType.TRAFFIC, to_us(payload))
    assert bench.take() == [
        ("session_message", REMOTE, b"\x01init"),
        ("session_message", REMOTE, b"\x02ack"),
        ("session_unknown", REMOTE),
    ]


def test_traffic_keeps_the_path_of_its_source_alive(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    bench.datapath.set_path(REMOTE, (1,))
    assert bench.datapath.last_traffic(REMOTE) is None
    bench.scheduler.run_for(5)
    peer.send(FrameType.TRAFFIC, to_us(b"\x01init"))
    assert bench.datapath.last_traffic(REMOTE) == bench.scheduler.now()
    assert bench.datapath.last_traffic(THIRD) is None


def test_opened_messages_are_counted_and_handed_up(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    for message in (b"\x01a datagram", b"\x02\x01", b"\x00dummy", b""):
        peer.send(FrameType.TRAFFIC, to_us(remote.seal(message)))
    assert bench.take() == [
        ("message_received", REMOTE, b"\x01a datagram"),
        ("message_received", REMOTE, b"\x02\x01"),
        ("message_received", REMOTE, b"\x00dummy"),
    ]
    assert bench.datapath.session_counters(REMOTE) == SessionCounters(19, 0)


def test_replays_and_forgeries(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    packet = remote.seal(b"\x01once")
    peer.send(FrameType.TRAFFIC, to_us(packet))
    peer.send(FrameType.TRAFFIC, to_us(packet))
    forged = bytearray(remote.seal(b"\x01twice"))
    forged[-1] ^= 1
    peer.send(FrameType.TRAFFIC, to_us(bytes(forged)))
    peer.send(FrameType.TRAFFIC, to_us(b"\x03"))
    assert bench.take() == [("message_received", REMOTE, b"\x01once"), ("session_mismatch", REMOTE)]


def test_the_next_keys_ask_for_a_ratchet_before_the_message_goes_up(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    ahead, behind = session_in_step()
    bench.datapath.set_session(REMOTE, behind)  # the other way round: now the remote is the one that is ahead
    peer.send(FrameType.TRAFFIC, to_us(TrafficState(ahead).seal(b"\x01x")))
    assert bench.take() == [
        ("session_ratchet", REMOTE, RatchetCase.NEXT_SEND, 1, ahead.next_public),
        ("message_received", REMOTE, b"\x01x"),
    ]


def test_removed_sessions_are_unknown(bench: Bench) -> None:
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    bench.datapath.remove_session(REMOTE)
    peer.send(FrameType.TRAFFIC, to_us(remote.seal(b"\x01x")))
    assert bench.take() == [("session_unknown", REMOTE)]
    assert bench.datapath.session_last_activity(REMOTE) is None


# -- IPv6 ------------------------------------------------------------------------------------------------------


def receive_ipv6(bench: Bench, packet: bytes) -> list[tuple[object, ...]]:
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    peer.send(FrameType.TRAFFIC, to_us(remote.seal(b"\x01" + packet)))
    return bench.take()


def test_a_packet_to_an_unknown_address_is_handed_back(bench: Bench) -> None:
    for dest in (REMOTE_ADDRESS.packed, Subnet.for_key(REMOTE).packed + bytes(8)):
        packet = ipv6(OWN_ADDRESS, dest)
        bench.datapath.send_ipv6(packet)
        assert bench.take() == [("destination_unknown", packet)]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x60",
        ipv6(OWN_ADDRESS, REMOTE_ADDRESS)[:39],
        b"\x45" + ipv6(OWN_ADDRESS, REMOTE_ADDRESS)[1:],
        ipv6(THIRD_ADDRESS, REMOTE_ADDRESS),
        ipv6(OWN_ADDRESS, b"\x20\x01" + bytes(14)),
        ipv6(OWN_ADDRESS, b"\xff\x02" + bytes(14)),
    ],
    ids=["empty", "one byte", "short header", "IPv4", "not our source", "global destination", "multicast"],
)
def test_what_may_not_leave(bench: Bench, packet: bytes) -> None:
    bench.datapath.set_address(REMOTE, REMOTE_ADDRESS, REMOTE_ADDRESS.subnet)
    bench.datapath.send_ipv6(packet)
    assert bench.take() == []


def test_known_addresses_and_subnets_lead_to_their_key(bench: Bench) -> None:
    bench.datapath.set_address(REMOTE, REMOTE_ADDRESS, REMOTE_ADDRESS.subnet)
    own_subnet = Subnet.for_key(OWN).packed + bytes([0, 0, 0, 0, 0, 0, 0, 9])
    for packet in (
        ipv6(OWN_ADDRESS, REMOTE_ADDRESS),
        ipv6(own_subnet, REMOTE_ADDRESS.subnet.packed + bytes([1] * 8)),
    ):
        bench.datapath.send_ipv6(packet)
        assert bench.take() == [("session_missing", REMOTE, b"\x01" + packet)]
    assert bench.datapath.address_last_used(REMOTE) == bench.scheduler.now()
    bench.datapath.remove_address(REMOTE)
    assert bench.datapath.address_last_used(REMOTE) is None
    bench.datapath.send_ipv6(packet)
    assert bench.take() == [("destination_unknown", packet)]


def test_a_received_packet_teaches_the_address_of_its_sender(bench: Bench) -> None:
    packet = ipv6(REMOTE_ADDRESS, OWN_ADDRESS)
    assert receive_ipv6(bench, packet) == [("source_learned", REMOTE), ("ipv6_received", REMOTE, packet)]


def test_packets_to_and_from_subnets(bench: Bench) -> None:
    packet = ipv6(
        Subnet.for_key(REMOTE).packed + bytes([7] * 8), Subnet.for_key(OWN).packed + bytes([8] * 8), b"subnet"
    )
    assert receive_ipv6(bench, packet)[-1] == ("ipv6_received", REMOTE, packet)


def test_a_sender_may_only_use_its_own_addresses(bench: Bench) -> None:
    assert receive_ipv6(bench, ipv6(THIRD_ADDRESS, OWN_ADDRESS)) == [("source_learned", REMOTE)]


@pytest.mark.parametrize(
    "packet",
    [
        ipv6(REMOTE_ADDRESS, THIRD_ADDRESS),
        ipv6(REMOTE_ADDRESS, OWN_ADDRESS)[:-1],
        ipv6(REMOTE_ADDRESS, OWN_ADDRESS) + b"x",
        b"\x45" + ipv6(REMOTE_ADDRESS, OWN_ADDRESS)[1:],
        ipv6(REMOTE_ADDRESS, OWN_ADDRESS)[:39],
    ],
    ids=["not for us", "cut short", "trailing byte", "IPv4", "short header"],
)
def test_what_is_no_ipv6_packet_for_us_is_a_datagram(bench: Bench, packet: bytes) -> None:
    assert receive_ipv6(bench, packet) == [("message_received", REMOTE, b"\x01" + packet)]


def test_a_packet_longer_than_the_mtu_is_answered(bench: Bench) -> None:
    bench.datapath.set_address(REMOTE, REMOTE_ADDRESS, REMOTE_ADDRESS.subnet)
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    bench.datapath.set_path(REMOTE, (1,))
    peer.send(FrameType.TRAFFIC, to_us(remote.seal(b"\x01" + ipv6(REMOTE_ADDRESS, OWN_ADDRESS, bytes(1241)))))
    assert bench.take() == []
    (answer,) = traffic_of(peer.frames())
    message = remote.open(answer.payload).message
    assert message[0] == 1 and len(message) == 1 + 560
    assert message[1 + 40] == 2 and int.from_bytes(message[1 + 44 : 1 + 48], "big") == 1280
    icmp = message[1 + 40 :]
    without_sum = icmp[:2] + bytes(2) + icmp[4:]
    assert int.from_bytes(icmp[2:4], "big") == checksum(message[9:25], message[25:41], ICMPV6, without_sum)
    exact = ipv6(REMOTE_ADDRESS, OWN_ADDRESS, bytes(1240))
    peer.send(FrameType.TRAFFIC, to_us(remote.seal(b"\x01" + exact)))
    assert bench.take() == [("ipv6_received", REMOTE, exact)]


def test_a_long_packet_with_a_forged_source_is_not_answered(bench: Bench) -> None:
    """The answer would go to whomever the sender names, and search for as many nodes as it names."""
    peer = bench.link(1, REMOTE, (1,))
    remote = bench.session(REMOTE)
    bench.datapath.set_path(REMOTE, (1,))
    peer.send(FrameType.TRAFFIC, to_us(remote.seal(b"\x01" + ipv6(THIRD_ADDRESS, OWN_ADDRESS, bytes(1241)))))
    assert bench.take() == [("source_learned", REMOTE)]
    assert traffic_of(peer.frames()) == []


def test_two_keys_with_one_address_do_not_remove_each_other(bench: Bench) -> None:
    bench.datapath.set_address(REMOTE, THIRD_ADDRESS, THIRD_ADDRESS.subnet)
    bench.datapath.set_address(THIRD, THIRD_ADDRESS, THIRD_ADDRESS.subnet)
    bench.datapath.remove_address(REMOTE)
    packet = ipv6(OWN_ADDRESS, THIRD_ADDRESS)
    bench.datapath.send_ipv6(packet)
    assert bench.take() == [("session_missing", THIRD, b"\x01" + packet)]
