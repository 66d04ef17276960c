"""One link of the pure data plane on a virtual clock: batches, queue, keep-alive, read deadline, bounds, bad input."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from yggpy.datapath.base import CloseReason, LinkEnd
from yggpy.datapath.link import MAX_DIRECT_BACKLOG, WRITE_AHEAD_LIMIT, PeerLink
from yggpy.datapath.queue import MAX_QUEUED_BYTES
from yggpy.sim.clock import VirtualScheduler
from yggpy.wire.errors import DecodeError
from yggpy.wire.frame import FrameDecoder, FrameType, encode_frame

KEEPALIVE = b"\x01\x01"
SOURCE = bytes(32)
DEST = bytes([1]) * 32


class FakeStream:
    """A stream whose kernel side can be jammed."""

    local_address = "local"
    remote_address = "remote"

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.jammed = False
        self.buffered = 0
        self.closed = False
        self.on_data: Callable[[bytes | memoryview], None] = lambda data: None
        self.on_end: Callable[[LinkEnd], None] = lambda end: None
        self.on_writable: Callable[[], None] = lambda: None

    async def read_exactly(self, count: int) -> bytes:
        raise AssertionError("a link does not read by itself")

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        self.on_data, self.on_end, self.on_writable = on_data, on_end, on_writable

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        if self.jammed:
            self.buffered += len(data)

    def unjam(self) -> None:
        self.jammed = False
        self.buffered = 0
        self.on_writable()

    def close(self) -> None:
        self.closed = True


class Owner:
    """Stands for the data plane."""

    def __init__(self) -> None:
        self.scheduler = VirtualScheduler()
        self.stream = FakeStream()
        self.frames: list[tuple[int, bytes]] = []
        self.ends: list[LinkEnd] = []
        self.drained = 0
        self.reject: str | None = None
        self.link = PeerLink(1, DEST, self.stream, self.scheduler, self, lambda: None)
        self.link.start()

    def link_frame(self, link: PeerLink, frame_type: int, payload: bytes, now: float) -> None:
        if self.reject is not None:
            raise DecodeError(self.reject)
        self.frames.append((frame_type, payload))

    def link_dirty(self, link: PeerLink) -> None:
        self.scheduler.call_soon(link.flush)

    def link_drained(self, link: PeerLink) -> None:
        self.drained += 1

    def link_closed(self, link: PeerLink, end: LinkEnd) -> None:
        self.ends.append(end)

    def receive(self, frame_type: int, payload: bytes = b"") -> None:
        self.stream.on_data(encode_frame(frame_type, payload))

    def send(self, payload: bytes = b"traffic", dest: bytes = DEST) -> bool:
        frame = encode_frame(FrameType.TRAFFIC, payload)
        return self.link.send_queued(FrameType.TRAFFIC, frame, len(payload), SOURCE, dest)

    def settle(self) -> list[bytes]:
        """Let the current batch end; return the writes since the last call."""
        self.scheduler.run_for(0)
        writes, self.stream.writes = self.stream.writes, []
        return writes


def fill(owner: Owner) -> None:
    """Write as much as goes out without being queued."""
    half = bytes(WRITE_AHEAD_LIMIT // 2)
    assert owner.send(half) and owner.send(half)
    owner.settle()


@pytest.fixture
def owner() -> Owner:
    return Owner()


def test_the_frames_of_a_batch_leave_in_one_write(owner: Owner) -> None:
    for number in range(5):
        assert owner.send(b"%d" % number)
    (written,) = owner.settle()
    assert [payload for _, payload in FrameDecoder().feed(written)] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_jammed_link_queues_and_then_sends_in_order(owner: Owner) -> None:
    owner.stream.jammed = True
    fill(owner)
    assert not owner.send(b"first") and not owner.send(b"second")
    assert owner.link.counters.queued_bytes == 11
    assert owner.settle() == []
    owner.stream.unjam()
    (written,) = owner.settle()
    assert [payload for _, payload in FrameDecoder().feed(written)] == [b"first", b"second"]
    assert owner.drained == 1 and owner.link.counters.queued_bytes == 0


def test_direct_frames_overtake_the_queue(owner: Owner) -> None:
    owner.stream.jammed = True
    fill(owner)
    owner.send(b"waits")
    owner.link.send_direct(FrameType.SIG_REQ, encode_frame(FrameType.SIG_REQ, b"\1\2"))
    written = b"".join(owner.settle())
    assert [frame_type for frame_type, _ in FrameDecoder().feed(written)] == [FrameType.SIG_REQ]


def test_the_queue_of_a_jammed_link_is_bounded(owner: Owner) -> None:
    owner.stream.jammed = True
    fill(owner)
    for _ in range(100):
        owner.send(bytes(10_000))
    counters = owner.link.counters
    assert counters.queued_bytes <= MAX_QUEUED_BYTES and counters.dropped_packets == 100 - 13


def test_a_peer_that_never_reads_is_cut_off(owner: Owner) -> None:
    owner.stream.jammed = True
    frame = encode_frame(FrameType.SIG_RES, bytes(70))
    for _ in range(MAX_DIRECT_BACKLOG // 50):
        owner.link.send_direct(FrameType.SIG_RES, frame)
        if owner.ends:
            break
        owner.settle()
    assert owner.stream.closed
    (end,) = owner.ends
    assert end.reason is CloseReason.ERROR and "does not read" in end.message


def test_received_traffic_is_answered_by_a_keepalive_after_one_second(owner: Owner) -> None:
    owner.receive(FrameType.TRAFFIC, b"x")
    owner.scheduler.run_for(0.999)
    assert owner.settle() == []
    owner.scheduler.run_for(0.002)
    assert owner.settle() == [KEEPALIVE]
    owner.scheduler.run_for(60)
    assert owner.settle() == [] and not owner.ends  # an idle link is silent


def test_anything_sent_meanwhile_serves_as_the_answer(owner: Owner) -> None:
    owner.receive(FrameType.TRAFFIC, b"x")
    owner.scheduler.run_for(0.5)
    owner.send(b"reply")
    owner.receive(FrameType.KEEPALIVE)
    owner.settle()
    owner.scheduler.run_for(2.0)
    assert owner.settle() == []


def test_keepalives_are_not_answered(owner: Owner) -> None:
    owner.receive(FrameType.KEEPALIVE, b"payload is ignored")
    owner.receive(FrameType.DUMMY, b"so is this")
    owner.scheduler.run_for(10)
    assert owner.settle() == [] and owner.frames == [] and not owner.ends


def test_silence_after_we_sent_ends_the_link_after_three_seconds(owner: Owner) -> None:
    owner.send(b"anybody there?")
    owner.scheduler.run_for(2.9)
    owner.send(b"a second packet does not move the deadline")
    assert not owner.ends
    owner.scheduler.run_for(0.2)
    (end,) = owner.ends
    assert end.reason is CloseReason.ERROR and "3 s" in end.message and owner.stream.closed


def test_any_frame_lifts_the_deadline_and_the_next_packet_sets_it_again(owner: Owner) -> None:
    owner.send()
    owner.scheduler.run_for(2.5)
    owner.receive(FrameType.KEEPALIVE)
    owner.scheduler.run_for(20)
    assert not owner.ends
    owner.send()
    owner.scheduler.run_for(3.1)
    assert len(owner.ends) == 1


def test_a_process_that_stood_still_reads_before_it_judges(owner: Owner) -> None:
    owner.send()
    owner.settle()
    owner.scheduler.stall(20)
    owner.scheduler.run_for(0)
    assert not owner.ends
    owner.receive(FrameType.KEEPALIVE)  # it had been waiting in the socket
    owner.scheduler.run_for(60)
    assert not owner.ends
    owner.send()
    owner.scheduler.stall(20)
    owner.scheduler.run_for(1)
    assert len(owner.ends) == 1


def test_part_of_a_frame_does_not_lift_the_deadline(owner: Owner) -> None:
    owner.send()
    owner.scheduler.run_for(2.0)
    owner.stream.on_data(encode_frame(FrameType.TRAFFIC, bytes(1000))[:500])
    owner.scheduler.run_for(1.1)
    assert len(owner.ends) == 1


@pytest.mark.parametrize(
    "junk",
    [b"\x00", b"\x01\x0a", b"\xff\xff\xff\x7f", b"\xff" * 11],
    ids=["empty", "unknown type", "oversize", "overflow"],
)
def test_malformed_frames_close_the_link_with_a_reason(owner: Owner, junk: bytes) -> None:
    owner.stream.on_data(encode_frame(FrameType.TRAFFIC, b"good") + junk)
    assert owner.frames == [(FrameType.TRAFFIC, b"good")]
    (end,) = owner.ends
    assert end.reason is CloseReason.ERROR and end.message and owner.stream.closed


def test_a_rejected_frame_closes_the_link_and_nothing_behind_it_is_read(owner: Owner) -> None:
    owner.reject = "bad signature"
    frame = encode_frame(FrameType.ANNOUNCE, b"x")
    owner.stream.on_data(frame + frame)
    assert owner.ends == [LinkEnd(CloseReason.ERROR, "bad signature")]


def test_a_defect_in_handling_a_frame_ends_the_link_and_is_not_hidden(
    owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the input is lost with it: to go on would mean to read frames where none begin."""

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(owner, "link_frame", fail)
    with pytest.raises(RuntimeError):
        owner.receive(FrameType.TRAFFIC, b"1")
    assert owner.ends == [LinkEnd(CloseReason.ERROR, "internal error: RuntimeError('a defect')")]
    assert owner.stream.closed


def test_the_end_is_reported_once(owner: Owner) -> None:
    owner.stream.on_end(LinkEnd(CloseReason.EOF))
    owner.link.close(LinkEnd(CloseReason.LOCAL))
    owner.send()
    owner.link.send_direct(FrameType.SIG_REQ, b"")
    owner.scheduler.run_for(10)
    assert owner.ends == [LinkEnd(CloseReason.EOF)] and owner.settle() == []


def test_byte_counters_count_the_stream(owner: Owner) -> None:
    owner.send(b"12345")
    owner.settle()
    owner.receive(FrameType.TRAFFIC, b"123")
    counters = owner.link.counters
    assert (counters.bytes_sent, counters.bytes_received) == (7, 5)
