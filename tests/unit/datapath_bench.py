"""A data plane on a test bench: recorded upcalls, a virtual clock, and links whose other end the test plays.

Everything here goes through the ``Datapath`` seam, so that one set of tests serves every implementation of it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from yggpy.address import Address, Subnet
from yggpy.clock import Scheduler
from yggpy.datapath.base import Datapath, DatapathUpcalls, LinkEnd
from yggpy.datapath.pure import PureDatapath
from yggpy.keys import PrivateKey
from yggpy.routing.greedy import Coords, Fib, FibLink
from yggpy.sessions.crypto import BoxKeyPair, shared_key
from yggpy.sessions.traffic import RatchetCase, SessionKeys, TrafficState
from yggpy.sim.clock import VirtualScheduler
from yggpy.wire.frame import FrameDecoder, FrameType, encode_frame
from yggpy.wire.packets import Traffic

OWN = PrivateKey(bytes([1]) * 32).public_key
REMOTE = PrivateKey(bytes([2]) * 32).public_key
THIRD = PrivateKey(bytes([3]) * 32).public_key


def ipv6(source: Address | bytes, dest: Address | bytes, payload: bytes = b"payload") -> bytes:
    """Return an IPv6 packet between two addresses."""
    ends = b"".join(end if isinstance(end, bytes) else end.packed for end in (source, dest))
    return struct.pack("!IHBB", 6 << 28, len(payload), 59, 64) + ends + payload


class Peer:
    """The far end of a link: a ``ByteStream`` that the test reads and writes."""

    local_address = "local"
    remote_address = "remote"

    def __init__(self) -> None:
        self.buffered = 0
        self.closed = False
        self._decoder = FrameDecoder()
        self._frames: list[tuple[int, bytes]] = []
        self.on_data: Callable[[bytes | memoryview], None] = lambda data: None
        self.on_end: Callable[[LinkEnd], None] = lambda end: None
        self.on_writable: Callable[[], None] = lambda: None

    async def read_exactly(self, count: int) -> bytes:
        raise AssertionError("only a handshake reads")

    def write(self, data: bytes) -> None:
        self._frames.extend(self._decoder.feed(data))

    def start(
        self,
        on_data: Callable[[bytes | memoryview], None],
        on_end: Callable[[LinkEnd], None],
        on_writable: Callable[[], None],
    ) -> None:
        self.on_data, self.on_end, self.on_writable = on_data, on_end, on_writable

    def close(self) -> None:
        self.closed = True

    def send(self, frame_type: int, payload: bytes) -> None:
        """Let a frame arrive at the data plane."""
        self.on_data(encode_frame(frame_type, payload))

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the frames that the data plane has sent since the last call."""
        frames, self._frames = self._frames, []
        return frames


class Bench:
    """One data plane for node ``OWN``; ``calls`` are its upcalls as (name, arguments…)."""

    def __init__(self, plane: str = "pure") -> None:
        """``plane``: which data plane to put on the bench, ``pure`` or ``native``."""
        self.scheduler = VirtualScheduler()
        self.calls: list[tuple[object, ...]] = []
        self.reject: Exception | None = None
        self.datapath: Datapath = make_datapath(plane, OWN, self.scheduler, self)
        self._links: list[FibLink] = []
        self._self_path: Coords = ()

    def take(self) -> list[tuple[object, ...]]:
        """Let the current input end; return the upcalls since the last call."""
        self.scheduler.run_for(0)
        calls, self.calls = self.calls, []
        return calls

    def link(
        self, link_id: int, key: bytes, path: Coords, *, self_path: Coords = (), transit: bool = True
    ) -> Peer:
        """Add a link to ``key`` at tree coordinates ``path``; ``transit`` is of the whole table."""
        peer = Peer()
        self.datapath.attach_link(link_id, key, peer)
        self._links.append(FibLink(link_id, key, path, 1, 0, link_id))
        self._self_path = self_path
        self.datapath.set_fib(Fib(self._self_path, self._links, transit=transit))
        return peer

    def session(self, remote: bytes) -> TrafficState:
        """Give the data plane a session with ``remote``; return the remote's end of it."""
        ours, theirs = session_in_step()
        self.datapath.set_session(remote, ours)
        return TrafficState(theirs)

    # the upcalls

    def protocol_frame(self, link_id: int, frame_type: int, payload: bytes, now: float) -> None:
        if self.reject is not None:
            raise self.reject
        self.calls.append(("protocol_frame", link_id, frame_type, payload))

    def link_ended(self, link_id: int, end: LinkEnd) -> None:
        self.calls.append(("link_ended", link_id, end))

    def session_message(self, source: bytes, payload: bytes) -> None:
        self.calls.append(("session_message", source, payload))

    def session_mismatch(self, source: bytes) -> None:
        self.calls.append(("session_mismatch", source))

    def session_unknown(self, source: bytes) -> None:
        self.calls.append(("session_unknown", source))

    def session_ratchet(self, source: bytes, case: RatchetCase, nonce: int, next_public: bytes) -> None:
        self.calls.append(("session_ratchet", source, case, nonce, next_public))

    def session_nonce_exhausted(self, dest: bytes) -> None:
        self.calls.append(("session_nonce_exhausted", dest))

    def session_missing(self, dest: bytes, message: bytes) -> None:
        self.calls.append(("session_missing", dest, message))

    def path_missing(self, dest: bytes, payload: bytes) -> None:
        self.calls.append(("path_missing", dest, payload))

    def traffic_unroutable(self, traffic: Traffic) -> None:
        self.calls.append(("traffic_unroutable", traffic))

    def destination_unknown(self, packet: bytes) -> None:
        self.calls.append(("destination_unknown", packet))

    def source_learned(self, source: bytes) -> None:
        self.calls.append(("source_learned", source))
        self.datapath.set_address(source, Address.for_key(source), Subnet.for_key(source))

    def ipv6_received(self, source: bytes, packet: bytes) -> None:
        self.calls.append(("ipv6_received", source, packet))

    def message_received(self, source: bytes, message: bytes) -> None:
        self.calls.append(("message_received", source, message))


def make_datapath(plane: str, own_key: bytes, scheduler: Scheduler, upcalls: DatapathUpcalls) -> Datapath:
    """Make a data plane that runs on ``scheduler`` alone."""
    if plane == "pure":
        return PureDatapath(own_key, scheduler, upcalls)
    from yggpy.datapath.native import NativeDatapath

    return NativeDatapath(own_key, scheduler, upcalls, threaded=False)


def session_in_step() -> tuple[SessionKeys, SessionKeys]:
    """Return (our keys, their keys) of a session in which both sides read each other.

    They have answered our ack, as at the usual start: our pairs are numbered 1 to 3 and we send with 2; theirs are 0 to
    2 and they send with 1. Their traffic is case A for us, ours is case B for them.
    """
    our1, our2, our3, their0, their1, their2 = (
        BoxKeyPair.from_private(bytes([number]) * 32) for number in (11, 12, 13, 20, 21, 22)
    )
    ours = SessionKeys(
        remote_key_seq=1,
        local_key_seq=2,
        recv_shared=shared_key(their1.public, our1.private),
        send_shared=shared_key(their1.public, our2.private),
        next_send_shared=shared_key(their2.public, our2.private),
        next_recv_shared=shared_key(their2.public, our1.private),
        next_public=our3.public,
        recv_nonce=0,
        send_nonce=0,
    )
    theirs = SessionKeys(
        remote_key_seq=1,
        local_key_seq=1,
        recv_shared=shared_key(our1.public, their0.private),
        send_shared=shared_key(our1.public, their1.private),
        next_send_shared=shared_key(our2.public, their1.private),
        next_recv_shared=shared_key(our2.public, their0.private),
        next_public=their2.public,
        recv_nonce=0,
        send_nonce=0,
    )
    return ours, theirs


def traffic_of(frames: list[tuple[int, bytes]]) -> list[Traffic]:
    """Return the Traffic packets among frames."""
    return [Traffic.decode(payload) for frame_type, payload in frames if frame_type == FrameType.TRAFFIC]
