"""The native data plane with its thread, on a real event loop, over sockets, TLS and streams carried in Python.

Here it can happen that an event is old news when the loop comes to read it, that the loop stands still while packets
fly, and that a plane is closed while its thread is busy. What holds for packets alone is in ``test_datapath.py``.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from tests.unit.datapath_bench import OWN, REMOTE, THIRD, Bench, Peer, ipv6, session_in_step, traffic_of
from tests.unit.links_fakes import WAIT, socket_pair, until
from tests.unit.native_bench import CLIENT, SERVER, LiveBench, joined, other_bench, pattern, streams_between
from tests.unit.test_native_streams import reset
from yggpy import testing
from yggpy.address import Address
from yggpy.datapath.base import ByteStream, CloseReason, Datapath, LinkEnd, SessionCounters, StreamClosed
from yggpy.datapath.native_streams import open_stream
from yggpy.routing.greedy import Fib, FibLink
from yggpy.sessions.traffic import TrafficState
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import FrameDecoder, FrameType, encode_frame
from yggpy.wire.packets import MAX_WATERMARK, Traffic

OWN_ADDRESS, REMOTE_ADDRESS = Address.for_key(OWN), Address.for_key(REMOTE)
WIRES = ["tcp native", "tcp pure", "tls native", "tls pure", "memory native", "memory pure", "slow native", "slow pure"]
"""What lies between the two planes, and what the other one is."""
BLOCKED = 0.5
SIG_REQ = (int(FrameType.SIG_REQ), b"\1\2")


async def wired(carrier: str, other: str) -> tuple[ByteStream, ByteStream]:
    """Return the two ends of a stream; the second one is for a plane called ``other``."""
    if carrier in ("memory", "slow"):
        return testing.memory_stream_pair(0.002 if carrier == "slow" else 0.0)
    return await streams_between(tls=carrier == "tls", planes=("native", other))


@asynccontextmanager
async def two_planes(wire: str) -> AsyncIterator[tuple[LiveBench, LiveBench]]:
    """Join a native plane with another one: link 1 on both sides, with paths and sessions."""
    carrier, other = wire.split()
    async with LiveBench() as one, other_bench(other) as two:
        await joined(one, two, await wired(carrier, other))
        yield one, two


@pytest.fixture
def problems() -> list[BaseException | None]:
    """What reached the event loop's exception handler; a test that takes it installs ``collect``."""
    return []


def collect(problems: list[BaseException | None]) -> None:
    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        problems.append(context.get("exception"))

    asyncio.get_running_loop().set_exception_handler(handle)


class Wire:
    """The far end of a link as a bare socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.decoder = FrameDecoder()

    def send(self, frame_type: int, payload: bytes) -> None:
        self.sock.sendall(encode_frame(frame_type, payload))

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the frames that have arrived since the last call."""
        try:
            return list(self.decoder.feed(self.sock.recv(1 << 20)))
        except BlockingIOError:
            return []


async def link_to_wire(bench: LiveBench, *, link_id: int = 1, key: bytes = REMOTE, tcp: bool = True) -> Wire:
    ours, theirs = socket_pair(tcp=tcp)
    bench.datapath.attach_link(link_id, key, await open_stream(ours, None))
    bench.route(link_id, key)
    return Wire(theirs)


def stand_still(seconds: float = 0.05) -> None:
    """Keep the loop from reading events, while the thread of the plane works on."""
    time.sleep(seconds)


def to_us(payload: bytes, source: bytes = REMOTE) -> bytes:
    return Traffic((), (1, 2), source, OWN, MAX_WATERMARK, payload).encode()


# -- transfers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_large_transfers_both_ways_arrive_intact_and_in_order(wire: str) -> None:
    rounds, batch, size = (8 if wire.startswith("slow") else 25), 8, 12_000  # a batch fits into an empty link
    async with two_planes(wire) as (one, two):
        sent: list[bytes] = []
        for first in range(0, rounds * batch, batch):
            messages = [b"\1" + pattern(number, size) for number in range(first, first + batch)]
            for message in messages:
                one.datapath.send_message(REMOTE, message)
                two.datapath.send_message(OWN, message)
            sent.extend(messages)
            await until(lambda: len(one.messages()) == len(two.messages()) == len(sent))
        assert one.messages() == two.messages() == sent
        total = len(sent) * (size + 1)
        assert one.datapath.session_counters(REMOTE) == two.datapath.session_counters(OWN)
        assert one.datapath.session_counters(REMOTE) == SessionCounters(total, total)
        await until(lambda: agree(one, two))
        here, there = (bench.datapath.link_counters(1) for bench in (one, two))
        assert here.bytes_sent > total and there.bytes_sent > total
        assert here.dropped_packets == there.dropped_packets == 0
        assert one.ends() == two.ends() == []


def agree(one: LiveBench, two: LiveBench) -> bool:
    here, there = (bench.datapath.link_counters(1) for bench in (one, two))
    return here.bytes_sent == there.bytes_received and there.bytes_sent == here.bytes_received


@pytest.mark.parametrize("wire", ["tcp native", "tls native", "tls pure", "memory native", "slow pure"])
async def test_what_a_full_link_drops_is_counted_and_the_rest_keeps_its_order(wire: str) -> None:
    count, size = 300, 60_000
    async with two_planes(wire) as (one, two):
        for number in range(count):
            one.datapath.send_message(REMOTE, b"\1" + number.to_bytes(4, "big") + pattern(number, size))
        await until(lambda: len(two.messages()) + one.datapath.link_counters(1).dropped_packets == count)
        numbers = [int.from_bytes(message[1:5], "big") for message in two.messages()]
        assert numbers == sorted(set(numbers)) and numbers[0] == 0 and numbers[-1] == count - 1
        assert all(
            message[5:] == pattern(number, size) for number, message in zip(numbers, two.messages(), strict=True)
        )
        dropped = one.datapath.link_counters(1).dropped_packets
        assert one.datapath.counters().dropped_packets == dropped > 0
        two.datapath.send_direct(1, *SIG_REQ)
        await until(lambda: one.frames() == [SIG_REQ])


async def test_transit_through_a_native_plane_between_a_socket_and_a_carried_stream() -> None:
    async with LiveBench("native", THIRD) as middle, LiveBench() as one, other_bench("pure") as two:
        ours, theirs = session_in_step()
        one.datapath.set_session(REMOTE, ours)
        two.datapath.set_session(OWN, theirs)
        for link_id, (bench, streams) in enumerate(
            [(one, await streams_between(tls=True)), (two, testing.memory_stream_pair())], 1
        ):
            middle.datapath.attach_link(link_id, bench.key, streams[0])
            bench.datapath.attach_link(1, THIRD, streams[1])
        middle.route_all((), [(1, OWN, (1,)), (2, REMOTE, (2,))])
        one.route_all((1,), [(1, THIRD, ())])
        two.route_all((2,), [(1, THIRD, ())])
        one.datapath.set_path(REMOTE, (2,))
        two.datapath.set_path(OWN, (1,))
        for number in range(50):
            one.datapath.send_message(REMOTE, b"\1" + pattern(number, 1400))
            two.datapath.send_message(OWN, b"\1" + pattern(number, 1400))
        await until(lambda: len(one.messages()) == len(two.messages()) == 50)
        assert one.messages() == two.messages() == [b"\1" + pattern(number, 1400) for number in range(50)]
        assert middle.calls == []


async def test_events_tell_when_they_happened_on_the_clock_of_the_scheduler() -> None:
    async with LiveBench() as bench:
        times: list[float] = []

        def protocol_frame(link_id: int, frame_type: int, payload: bytes, now: float) -> None:
            times.append(now)

        bench.protocol_frame = protocol_frame  # type: ignore[method-assign]
        wire = await link_to_wire(bench)
        before = bench.clock.now()
        wire.send(*SIG_REQ)
        stand_still(0.1)
        after = bench.clock.now()
        await until(lambda: bool(times))
        assert before - 0.01 <= times[0] <= after - 0.05
        wire.send(FrameType.TRAFFIC, to_us(b"\1init"))
        await until(lambda: ("session_message", REMOTE, b"\1init") in bench.calls)
        last = bench.datapath.last_traffic(REMOTE)
        assert last is not None and after <= last <= bench.clock.now()


# -- ends of links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", ["tcp", "tls", "memory"])
async def test_a_closed_link_ends_on_both_sides(carrier: str) -> None:
    async with two_planes(f"{carrier} native") as (one, two):
        one.datapath.close_link(1, LinkEnd(CloseReason.LOCAL, "enough"))
        assert one.ends() == [LinkEnd(CloseReason.LOCAL, "enough")]
        await until(lambda: bool(two.ends()))
        assert two.ends()[0].reason is CloseReason.EOF
        one.datapath.close_link(1, LinkEnd(CloseReason.LOCAL))
        one.datapath.send_direct(1, *SIG_REQ)
        await asyncio.sleep(0.01)
        assert len(one.ends()) == len(two.ends()) == 1


async def test_the_end_of_the_stream_comes_after_its_frames() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        wire.send(*SIG_REQ)
        wire.sock.close()
        await until(lambda: bool(bench.ends()))
        assert bench.calls == [("protocol_frame", 1, *SIG_REQ), ("link_ended", 1, LinkEnd(CloseReason.EOF, "EOF"))]


async def test_a_reset_reads_as_go_prints_it() -> None:
    async with LiveBench() as bench:
        ours, theirs = socket_pair(tcp=True)
        stream = await open_stream(ours, None)
        ends = f"{stream.local_address}->{stream.remote_address}"
        bench.datapath.attach_link(1, REMOTE, stream)
        reset(theirs)
        await until(lambda: bool(bench.ends()))
        assert bench.ends() == [LinkEnd(CloseReason.ERROR, f"read tcp {ends}: read: connection reset by peer")]


async def test_a_peer_that_stops_reading_its_side_is_found_out() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench, tcp=False)
        wire.sock.shutdown(socket.SHUT_RD)
        bench.datapath.send_direct(1, *SIG_REQ)
        await until(lambda: bool(bench.ends()))
        assert bench.ends() == [LinkEnd(CloseReason.ERROR, "write unix @->@: write: broken pipe")]


@pytest.mark.parametrize(
    "junk",
    [b"\0", b"\x02\x0ax", b"\xff\xff\xff\x7f", b"\xff" * 10, b"\1\x09"],
    ids=["empty", "unknown type", "oversized", "overflow", "short traffic"],
)
async def test_garbage_ends_its_link_with_the_same_words_on_both_planes(junk: bytes) -> None:
    ends = []
    for plane in ("native", "pure"):
        async with LiveBench(plane) as bench:
            near, far = testing.memory_stream_pair()
            bench.datapath.attach_link(1, REMOTE, near)
            far.write(encode_frame(*SIG_REQ) + junk)
            await until(lambda: bool(bench.ends()))
            assert bench.frames() == [SIG_REQ]
            ends.append(bench.ends())
    ((native,), (pure,)) = ends
    assert native.reason is pure.reason is CloseReason.ERROR
    assert native.message.endswith(pure.message)
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        healthy = await link_to_wire(bench, link_id=2, key=THIRD)
        wire.sock.sendall(junk)
        await until(lambda: bool(bench.ends()))
        assert bench.ends() == [native]
        wire.sock.setblocking(True)
        assert wire.sock.recv(10) == b""
        healthy.send(*SIG_REQ)
        await until(lambda: bench.frames() == [SIG_REQ])


@asynccontextmanager
async def broken_record() -> AsyncIterator[tuple[LiveBench, ByteStream]]:
    """Let a forged record follow an honest one; gives the plane that gets it and the honest peer."""
    one, two = socket_pair(tcp=True)
    with two.dup() as intruder:
        near, far = await asyncio.gather(open_stream(one, SERVER), open_stream(two, CLIENT))
        async with LiveBench() as bench:
            bench.datapath.attach_link(1, REMOTE, near)
            far.write(encode_frame(*SIG_REQ))
            intruder.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            await until(lambda: bool(bench.ends()))
            yield bench, far
        far.close()


async def test_a_broken_record_ends_the_link() -> None:
    async with broken_record() as (bench, _):
        (end,) = bench.ends()
        assert end.reason is CloseReason.ERROR and "tls: " in end.message and "bad record mac" in end.message
        assert bench.frames() == [SIG_REQ]


async def test_the_peer_is_told_of_a_broken_record() -> None:
    async with broken_record() as (_, far):
        with pytest.raises(StreamClosed, match="bad record mac"):
            await far.read_exactly(1)


async def test_deadlines() -> None:
    """What we send must be answered within 3 s; what we receive we answer within 1 s. All wires wait side by side."""
    async with AsyncExitStack() as stack:
        silent: list[tuple[LiveBench, float]] = []
        for carrier in ("tcp", "tls", "memory"):
            bench = await stack.enter_async_context(LiveBench())
            near, far = await wired(carrier, "pure")
            stack.callback(far.close)
            bench.datapath.attach_link(1, REMOTE, near)
            bench.datapath.send_direct(1, *SIG_REQ)
            silent.append((bench, bench.clock.now()))
        talking = await stack.enter_async_context(LiveBench())
        wire = await link_to_wire(talking)
        started = time.monotonic()
        wire.send(*SIG_REQ)
        answer: list[tuple[int, bytes]] = []

        def answered() -> bool:
            answer.extend(wire.frames())
            return bool(answer)

        await until(answered)
        assert answer == [(FrameType.KEEPALIVE, b"")] and 0.9 < time.monotonic() - started < 1.6
        for bench, since in silent:
            await until(lambda: bool(bench.ends()))  # noqa: B023
            assert 2.9 < bench.clock.now() - since < 4.5
            assert bench.ends() == [LinkEnd(CloseReason.ERROR, "no answer for 3 s (read deadline passed)")]
        assert talking.ends() == []  # keep-alives ask for no answer


@pytest.mark.parametrize("carrier", ["tcp", "tls", "memory"])
async def test_a_peer_that_does_not_read_is_cut_off(carrier: str) -> None:
    async with LiveBench() as bench:
        near, far = await wired(carrier if carrier != "memory" else "slow", "pure")
        bench.datapath.attach_link(1, REMOTE, near)
        for number in range(200):
            bench.datapath.send_direct(1, FrameType.ANNOUNCE, pattern(number, 100_000))
            if carrier != "memory":
                await asyncio.sleep(0)
            if bench.ends():
                break
        await until(lambda: bool(bench.ends()))
        text = "peer does not read: more than 1048576 bytes wait"
        assert bench.ends() == [LinkEnd(CloseReason.ERROR, text)]
        far.close()


# -- defects and closing -------------------------------------------------------------------------------------


async def test_a_defect_in_one_upcall_does_not_lose_other_events(problems: list[BaseException | None]) -> None:
    collect(problems)
    async with LiveBench() as bench:
        wires = [await link_to_wire(bench, link_id=number, key=bytes([number]) * 32) for number in (1, 2, 3)]
        original = bench.session_message

        def session_message(source: bytes, payload: bytes) -> None:
            if payload == b"\1bad":
                raise RuntimeError("a defect")
            original(source, payload)

        bench.session_message = session_message  # type: ignore[method-assign]
        for payload in (b"\1one", b"\1bad", b"\1two", b"\1bad", b"\2three"):
            for wire in wires:
                wire.send(FrameType.TRAFFIC, to_us(payload))
        stand_still()
        await until(lambda: len(bench.calls) == 9)
        assert sorted(call[2] for call in bench.calls if isinstance(call[2], bytes)) == sorted(
            3 * [b"\1one", b"\1two", b"\2three"]
        )
        assert problems and all(isinstance(problem, RuntimeError) for problem in problems)
        assert bench.ends() == []


async def test_a_defect_in_a_protocol_frame_ends_its_link_only(problems: list[BaseException | None]) -> None:
    collect(problems)
    async with LiveBench() as bench:
        bad, good = [await link_to_wire(bench, link_id=number) for number in (1, 2)]
        original = bench.protocol_frame

        def protocol_frame(link_id: int, frame_type: int, payload: bytes, now: float) -> None:
            if link_id == 1:
                raise RuntimeError("a defect")
            original(link_id, frame_type, payload, now)

        bench.protocol_frame = protocol_frame  # type: ignore[method-assign]
        for wire in (bad, good, bad, good):
            wire.send(*SIG_REQ)
        stand_still()
        await until(lambda: len(bench.calls) == 3)
        assert bench.ends() == [LinkEnd(CloseReason.ERROR, "internal error: RuntimeError('a defect')")]
        assert bench.frames() == [SIG_REQ, SIG_REQ]
        assert len(problems) == 1


async def test_a_rejected_frame_ends_its_link_and_what_follows_it_is_not_told() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        bench.reject = DecodeError("bad signature")
        wire.sock.sendall(encode_frame(*SIG_REQ) * 10)
        await until(lambda: bool(bench.ends()))
        bench.reject = None
        await asyncio.sleep(0.02)
        assert bench.take() == [("link_ended", 1, LinkEnd(CloseReason.ERROR, "bad signature"))]


@pytest.mark.parametrize("wire", ["tcp native", "tls native", "memory native", "memory pure"])
async def test_closing_while_busy(wire: str, problems: list[BaseException | None]) -> None:
    collect(problems)
    before = len(os.listdir("/proc/self/fd"))
    for attempt in range(8):
        async with two_planes(wire) as (one, two):
            for number in range(100):
                one.datapath.send_message(REMOTE, b"\1" + pattern(number, 10_000))
                two.datapath.send_message(OWN, b"\1" + pattern(number, 10_000))
                two.datapath.send_direct(1, *SIG_REQ)
            if attempt % 2:
                await asyncio.sleep(0.0005 * attempt)
            one.datapath.close()
            told = len(one.calls)
            assert one.ends() == [LinkEnd(CloseReason.LOCAL)]
            one.datapath.close()
            await until(lambda: bool(two.ends()))
            assert len(one.calls) == told
    assert problems == []
    await asyncio.sleep(0)
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_plane_may_be_closed_by_its_own_upcalls(problems: list[BaseException | None]) -> None:
    collect(problems)
    for name in ("protocol_frame", "session_message", "link_ended"):
        bench = LiveBench()
        wire = await link_to_wire(bench)
        told: list[str] = []

        def upcall(*_: object, bench: LiveBench = bench, told: list[str] = told, name: str = name) -> None:
            told.append(name)
            bench.datapath.close()

        setattr(bench, name, upcall)
        for _ in range(5):
            wire.send(*SIG_REQ)
            wire.send(FrameType.TRAFFIC, to_us(b"\1init"))
        wire.sock.close()
        await until(lambda: bool(told))  # noqa: B023
        await asyncio.sleep(0.01)
        assert told == [name] and problems == []


async def test_questions_after_the_end_are_answered_with_nothing() -> None:
    async with two_planes("tcp native") as (one, _):
        one.datapath.close()
        assert one.datapath.link_counters(1).bytes_sent == 0
        assert one.datapath.session_counters(REMOTE) == SessionCounters(0, 0)
        assert one.datapath.last_traffic(REMOTE) is None
        assert one.datapath.session_last_activity(REMOTE) is None
        assert one.datapath.address_last_used(REMOTE) is None
        one.datapath.close_link(1, LinkEnd(CloseReason.LOCAL))
        one.datapath.detach_tun()


# -- old news ------------------------------------------------------------------------------------------------


async def test_a_ratchet_is_not_told_after_new_keys() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        ahead, behind = session_in_step()
        remote = TrafficState(ahead)
        bench.datapath.set_session(REMOTE, behind)
        wire.send(FrameType.TRAFFIC, to_us(remote.seal(b"\1first")))
        stand_still()
        bench.datapath.set_session(REMOTE, replace(behind, send_nonce=None))
        await until(lambda: bool(bench.messages()))
        assert bench.take() == [("message_received", REMOTE, b"\1first")]
        wire.send(FrameType.TRAFFIC, to_us(remote.seal(b"\1second")))
        await until(lambda: bool(bench.messages()))
        assert [call[0] for call in bench.take()] == ["session_ratchet", "message_received"]


async def test_traffic_that_came_before_its_keys_is_opened_after_all() -> None:
    """An init or ack and the traffic behind it can come in one read; Python has not read the first when C has both."""
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        remote = TrafficState(session_in_step()[1])
        for source in (REMOTE, THIRD):
            wire.send(FrameType.TRAFFIC, to_us(remote.seal(b"\1x"), source))
        stand_still()
        bench.datapath.set_session(REMOTE, session_in_step()[0])
        await until(lambda: len(bench.calls) > 1)
        assert bench.take() == [("session_unknown", THIRD), ("message_received", REMOTE, b"\x01x")]


async def test_what_waited_for_a_path_takes_the_one_that_came_meanwhile() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        bench.datapath.remove_path(REMOTE)
        bench.datapath.send_payload(REMOTE, b"\1early")
        bench.datapath.set_path(REMOTE, (1, 7))
        await until(lambda: not bench.calls and expect(wire, (1, 7), b"\1early"))
        bench.datapath.remove_path(REMOTE)
        bench.datapath.send_payload(REMOTE, b"\1late")
        await until(lambda: bench.calls == [("path_missing", REMOTE, b"\1late")])


def expect(wire: Wire, path: tuple[int, ...], payload: bytes) -> bool:
    return (path, payload) in [(traffic.path, traffic.payload) for traffic in traffic_of(wire.frames())]


async def test_what_waited_for_keys_takes_those_that_came_meanwhile() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        ours, theirs = session_in_step()
        remote = TrafficState(theirs)
        bench.datapath.send_message(REMOTE, b"\1early")
        bench.datapath.set_session(REMOTE, ours)
        received: list[bytes] = []

        def opened() -> bool:
            received.extend(remote.open(traffic.payload).message for traffic in traffic_of(wire.frames()))
            return bool(received)

        await until(opened)
        assert received == [b"\1early"] and bench.calls == []
        bench.datapath.remove_session(REMOTE)
        bench.datapath.send_message(REMOTE, b"\1late")
        await until(lambda: bench.calls == [("session_missing", REMOTE, b"\1late")])


async def test_what_waited_for_an_address_takes_the_one_that_came_meanwhile() -> None:
    async with LiveBench() as bench:
        packet = ipv6(OWN_ADDRESS, REMOTE_ADDRESS)
        bench.datapath.send_ipv6(packet)
        bench.datapath.set_address(REMOTE, REMOTE_ADDRESS, REMOTE_ADDRESS.subnet)
        await until(lambda: bool(bench.calls))
        assert bench.take() == [("session_missing", REMOTE, b"\1" + packet)]
        bench.datapath.remove_address(REMOTE)
        bench.datapath.send_ipv6(packet)
        await until(lambda: bool(bench.calls))
        assert bench.take() == [("destination_unknown", packet)]


async def test_a_closed_link_tells_nothing_more() -> None:
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        wire.send(*SIG_REQ)
        wire.sock.close()
        stand_still()
        bench.datapath.close_link(1, LinkEnd(CloseReason.LOCAL))
        await asyncio.sleep(0.01)
        assert bench.take() == [("link_ended", 1, LinkEnd(CloseReason.LOCAL))]


# -- a loop that stands still --------------------------------------------------------------------------------


def send_all(sock: socket.socket, pieces: list[bytes]) -> Callable[[], None]:
    """Send from a thread; return what waits for its end."""

    def run() -> None:
        sock.setblocking(True)
        for piece in pieces:
            sock.sendall(piece)

    thread = threading.Thread(target=run)
    thread.start()
    return thread.join


async def test_nothing_of_the_protocol_is_lost_while_the_loop_stands_still() -> None:
    """A peer that sends and sends is read no further than a bound, until the control plane has caught up."""
    count, size = 8000, 1000
    async with LiveBench() as bench:
        wire = await link_to_wire(bench)
        frames = [encode_frame(FrameType.ANNOUNCE, number.to_bytes(4, "big") + bytes(size)) for number in range(count)]
        join = send_all(wire.sock, [b"".join(frames[start : start + 100]) for start in range(0, count, 100)])
        stand_still(BLOCKED)
        held = bench.datapath.link_counters(1).bytes_received
        assert size < held < 1 << 20
        await until(lambda: len(bench.frames()) == count)
        numbers = [int.from_bytes(call[3][:4], "big") for call in bench.calls if isinstance(call[3], bytes)]
        assert all(second == first + 1 for first, second in pairwise(numbers)) and numbers[0] == 0
        assert bench.ends() == []
        join()
        wire.sock.close()


@pytest.mark.parametrize("carrier", ["tcp", "tls"])
async def test_tiny_frames_are_told_in_order_and_the_loop_gets_its_turns(carrier: str) -> None:
    """Two bytes of a peer make an event of a hundred."""
    count, longest, last = 40_000, 0.0, time.monotonic()
    async with LiveBench() as bench:
        near, far = await wired(carrier, "pure")
        bench.datapath.attach_link(1, REMOTE, near)
        far.write(b"".join(encode_frame(FrameType.SIG_REQ, number.to_bytes(3, "big")) for number in range(count)))
        reading = asyncio.ensure_future(far.read_exactly(1 << 20))  # what waits is sent while somebody reads
        limit = last + WAIT
        while len(bench.calls) < count and last < limit:
            await asyncio.sleep(0)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        assert [call[3] for call in bench.calls] == [number.to_bytes(3, "big") for number in range(count)]
        assert longest < 0.3
        reading.cancel()
        far.close()


async def test_another_link_is_served_while_the_loop_stands_still() -> None:
    async with LiveBench() as bench:
        flood = await link_to_wire(bench, link_id=1, key=THIRD)
        source = await link_to_wire(bench, link_id=2, key=REMOTE)
        onward = await link_to_wire(bench, link_id=3, key=bytes(32))
        bench.route(3, bytes(32))
        join = send_all(flood.sock, [encode_frame(FrameType.ANNOUNCE, bytes(10_000))] * 400)
        packet = Traffic((1,), (9,), REMOTE, bytes(32), MAX_WATERMARK, b"sealed" * 100)
        onward.sock.setblocking(True)
        onward.sock.settimeout(5)
        for _ in range(100):  # all without the event loop
            source.send(FrameType.TRAFFIC, packet.encode())
            assert traffic_of(onward.frames()) == [replace(packet, watermark=1)]
        await until(lambda: len(bench.frames()) == 400)
        join()


async def test_questions_that_wait_are_bounded() -> None:
    async with LiveBench() as bench:
        packet = ipv6(OWN_ADDRESS, REMOTE_ADDRESS, bytes(1000))
        for _ in range(3000):
            bench.datapath.send_ipv6(packet)
        await until(lambda: bool(bench.calls))
        asked = len(bench.take())
        assert 100 < asked < (1 << 20) / len(packet)
        bench.datapath.send_ipv6(packet)
        await until(lambda: bench.calls == [("destination_unknown", packet)])


# -- the same as the pure plane ------------------------------------------------------------------------------

ASKED_AGAIN = {"session_ratchet", "session_mismatch", "session_unknown"}
"""Questions that the native plane does not repeat for every packet."""
KEYS = [OWN, REMOTE, THIRD, bytes([9]) * 32]
STEPS = 400


class Twins:
    """Both planes on benches with a virtual clock, which get the same and must do the same."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.benches = [Bench("pure"), Bench("native")]
        self.peers: dict[int, list[Peer]] = {}
        self.remotes: dict[bytes, TrafficState] = {}
        self.next_link = 1
        for key in KEYS:  # else the native plane asks for them, and hears the answer only after what follows
            self.both(lambda plane: plane.set_address(key, Address.for_key(key), Address.for_key(key).subnet))  # noqa: B023

    def coords(self) -> tuple[int, ...]:
        return tuple(self.chance.choices((1, 2, 3, 127, 128, 300, 2**40), k=self.chance.choice((0, 1, 1, 2, 2, 3, 8))))

    def key(self) -> bytes:
        return self.chance.choice(KEYS)

    def blob(self) -> bytes:
        return self.chance.randbytes(self.chance.choice((0, 1, 2, 40, 100, 1400, 20_000)))

    def packet(self) -> bytes:
        ends = [Address.for_key(self.key()), Address.for_key(self.key())]
        sides = [end.packed if self.chance.random() < 0.7 else end.subnet.packed + bytes(8) for end in ends]
        whole = ipv6(sides[0], sides[1], self.blob())
        return whole if self.chance.random() < 0.9 else whole[: self.chance.randrange(len(whole))]

    def message(self) -> bytes:
        return self.chance.choice((b"", b"\0", b"\1", b"\2")) + self.chance.choice((self.packet, self.blob))()

    def arriving(self) -> bytes:
        """Return the payload of a Traffic frame."""
        source = self.key()
        payload = self.chance.choice((b"", b"\0", b"\1", b"\2", b"\3", b"\4")) + self.blob()
        remote = self.remotes.get(source)
        if remote is not None and self.chance.random() < 0.8:
            honest = b"\1" + ipv6(Address.for_key(source), OWN_ADDRESS, self.blob())
            payload = remote.seal(self.chance.choice((honest, self.message())))
        to_us = self.chance.random() < 0.6
        dest, path = (OWN, ()) if to_us else (self.key(), self.coords())
        mark = self.chance.choice((1, 2, 3, 5, MAX_WATERMARK, MAX_WATERMARK))
        return Traffic(path, self.coords(), source, dest, mark, payload).encode()

    def stream(self) -> bytes:
        """Return bytes that arrive on a link."""
        kind = self.chance.choice((*range(9), *[int(FrameType.TRAFFIC)] * 12))
        frame = encode_frame(kind, self.arriving() if kind == FrameType.TRAFFIC else self.blob())
        if self.chance.random() < 0.02:
            frame = self.chance.randbytes(20) + frame
        return frame

    def step(self) -> None:
        """Do one thing to both."""
        key, path = self.key(), self.coords()
        match self.chance.randrange(14):
            case 0 if len(self.peers) < 4:
                number, self.next_link = self.next_link, self.next_link + 1
                self.peers[number] = [bench.link(number, key, path, self_path=()) for bench in self.benches]
            case 1 if self.chance.random() < 0.2 and self.peers:
                number = self.chance.choice(list(self.peers))
                self.both(lambda plane: plane.close_link(number, LinkEnd(CloseReason.LOCAL)))
            case 2:
                links = [
                    FibLink(n, self.key(), self.coords(), self.chance.choice((1, 2, 65535)), 0, n) for n in self.peers
                ]
                transit = self.chance.random() < 0.8
                self.both(lambda plane: plane.set_fib(Fib(path, links, transit=transit)))
            case 3:
                self.both(lambda plane: plane.set_path(key, path))
            case 4 if self.chance.random() < 0.3:
                self.both(lambda plane: plane.remove_path(key))
            case 5:
                ours, theirs = session_in_step()[:: self.chance.choice((1, -1))]
                self.remotes[key] = TrafficState(theirs)
                self.both(lambda plane: plane.remove_session(key))
                self.both(lambda plane: plane.set_session(key, ours))
            case 6 if self.chance.random() < 0.3:
                self.both(lambda plane: plane.remove_session(key))
            case 7:
                payload = b"\1" + self.blob()
                self.both(lambda plane: plane.send_payload(key, payload))
            case 8:
                message = self.message()
                self.both(lambda plane: plane.send_message(key, message))
            case 9:
                packet = self.packet()
                self.both(lambda plane: plane.send_ipv6(packet))
            case 10:
                seconds = self.chance.choice((0.0101, 0.3007, 1.0013))  # never exactly when something is due
                for bench in self.benches:
                    bench.scheduler.run_for(seconds)
            case _ if self.peers:
                number = self.chance.choice(list(self.peers))
                data = b"".join(self.stream() for _ in range(self.chance.choice((1, 1, 3))))
                middle = self.chance.randrange(len(data) + 1)
                for peer in self.peers[number]:
                    for piece in (data[:middle], data[middle:]):
                        if piece and not peer.closed:
                            peer.on_data(piece)

    def both(self, call: Callable[[Datapath], None]) -> None:
        for bench in self.benches:
            call(bench.datapath)

    def state(self, index: int) -> list[object]:
        """Return what can be seen of one plane, and what it has done since it was last looked at."""
        bench = self.benches[index]
        plane = bench.datapath
        seen: list[object] = [call for call in bench.take() if call[0] not in ASKED_AGAIN]
        seen += [(number, peers[index].frames(), plane.link_counters(number)) for number, peers in self.peers.items()]
        counted = plane.counters()
        seen.append((counted.transit_packets, counted.transit_bytes))
        seen.append((counted.session_bytes_received, counted.session_bytes_sent))
        for key in KEYS:
            seen.append((plane.session_counters(key), plane.session_last_activity(key)))
            seen.append((plane.last_traffic(key), plane.address_last_used(key)))
        return seen


@pytest.mark.parametrize("seed", range(6))
def test_random_doings_are_the_same_on_both_planes(seed: int) -> None:
    twins = Twins(seed)
    for number in range(STEPS):
        twins.step()
        pure, native = twins.state(0), twins.state(1)
        assert native == pure, number
        twins.peers = {number: peers for number, peers in twins.peers.items() if not peers[0].closed}
