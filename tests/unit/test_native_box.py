"""The box in C against libsodium's, through the seam: what one side seals the other one must open, at every length.

The sealing and opening ends of ``TrafficState`` stand for the remote; they use PyNaCl.
"""

from __future__ import annotations

import random

import pytest

from tests.unit.datapath_bench import OWN, REMOTE, Bench, session_in_step, traffic_of
from tests.unit.native_bench import pattern
from yggpy.datapath._native import box_implementation
from yggpy.datapath.base import SessionCounters
from yggpy.sessions.traffic import OpenVerdict, TrafficState
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import MAX_WATERMARK, Traffic
from yggpy.wire.session import MAX_MESSAGE

EVERY = range(66_001)
"""Every length that a packet of the TUN can have, and some more."""
LONG = [2**16 + 2**power + delta for power in range(12, 16) for delta in (-1, 0, 1, 31)] + [
    MAX_MESSAGE - 1,
    MAX_MESSAGE,
]


class Rig:
    """A native plane with a session and a path to ``REMOTE``, whose end of both the test plays."""

    def __init__(self) -> None:
        self.bench = Bench("native")
        self.peer = self.bench.link(1, REMOTE, (1,))
        self.remote = self.bench.session(REMOTE)
        self.bench.datapath.set_path(REMOTE, (1,))

    def sealed(self, message: bytes) -> bytes:
        """Return what the plane makes of ``message``."""
        self.bench.datapath.send_message(REMOTE, message)
        self.bench.take()
        (traffic,) = traffic_of(self.peer.frames())
        return traffic.payload

    def opened(self, payload: bytes) -> list[tuple[object, ...]]:
        """Return what the plane tells after a payload has come."""
        self.peer.send(FrameType.TRAFFIC, Traffic((), (1,), REMOTE, OWN, MAX_WATERMARK, payload).encode())
        return self.bench.take()


@pytest.fixture
def rig() -> Rig:
    return Rig()


def message_of(size: int) -> bytes:
    return (b"\1" + pattern(size, size))[:size]


def test_a_fast_implementation_is_in_use_where_there_is_one() -> None:
    assert box_implementation()


@pytest.mark.parametrize("sizes", [EVERY, LONG], ids=["every length", "longer ones"])
def test_libsodium_opens_what_the_plane_seals(rig: Rig, sizes: range | list[int]) -> None:
    for size in sizes:
        result = rig.remote.open(rig.sealed(message_of(size)))
        assert result.verdict is OpenVerdict.OPENED, size
        assert result.message == message_of(size), size
    assert rig.bench.datapath.session_counters(REMOTE) == SessionCounters(0, sum(sizes))


@pytest.mark.parametrize("sizes", [EVERY, LONG], ids=["every length", "longer ones"])
def test_the_plane_opens_what_libsodium_seals(rig: Rig, sizes: range | list[int]) -> None:
    for size in sizes:
        expected = [("message_received", REMOTE, message_of(size))] if size else []
        assert rig.opened(rig.remote.seal(message_of(size))) == expected, size
    assert rig.bench.datapath.session_counters(REMOTE) == SessionCounters(sum(sizes), 0)


def test_both_seal_the_same_bytes(rig: Rig) -> None:
    """The box leaves no choice: key, nonce and message decide every byte."""
    ours, _ = session_in_step()
    model = TrafficState(ours)
    for size in (0, 1, 16, 31, 32, 33, 63, 64, 65, 479, 480, 481, 511, 512, 513, 1023, 1024, 1025, 65535, MAX_MESSAGE):
        assert rig.sealed(message_of(size)) == model.seal(message_of(size)), size


def test_one_changed_bit_anywhere_is_found(rig: Rig) -> None:
    chance = random.Random(1)
    for size in (0, 1, 47, 512, 1400, 65535):
        payload = rig.remote.seal(message_of(size))
        start = 4  # type and three numbers of one byte each; those choose keys and nonce
        places = {
            start,
            start + 15,
            start + 16,
            len(payload) - 1,
            *(chance.randrange(start, len(payload)) for _ in range(20)),
        }
        for place in places:
            forged = bytearray(payload)
            forged[place] ^= 1 << chance.randrange(8)
            assert rig.opened(bytes(forged)) in ([("session_mismatch", REMOTE)], []), (size, place)
        assert rig.bench.datapath.session_counters(REMOTE).bytes_received == 0
        rig.bench.datapath.remove_session(REMOTE)
        rig.remote = rig.bench.session(REMOTE)


def test_boxes_that_are_cut_short_are_found(rig: Rig) -> None:
    payload = rig.remote.seal(message_of(100))
    for size in range(len(payload)):
        assert ("message_received", REMOTE, message_of(100)) not in rig.opened(payload[:size]), size
    assert rig.bench.datapath.session_counters(REMOTE) == SessionCounters(0, 0)
    assert rig.opened(payload) == [("message_received", REMOTE, message_of(100))]


def test_messages_of_random_lengths_go_both_ways(rig: Rig) -> None:
    chance = random.Random(2)
    for _ in range(300):
        message = message_of(int(chance.expovariate(1 / 3000)) + 1)
        assert rig.remote.open(rig.sealed(message)).message == message
        assert rig.opened(rig.remote.seal(message)) == [("message_received", REMOTE, message)]
