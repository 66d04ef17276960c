"""The data plane in C, behind the :class:`~yggpy.datapath.base.Datapath` seam.

All packet work is done by the engine (``native/src``), in a thread of its own that never needs the interpreter. This
file carries calls down and events up, and keeps the promises of the seam where the two run at different times:

* An event can be old news when it is read. So a question ("no path for this") is only passed on when it still stands,
  and else the packet is sent after all; a ratchet is only passed on when it was about the keys that are installed.
* A link that was closed from above tells nothing more, whatever is still on its way.
* Links whose bytes are carried in Python (QUIC, WebSocket, in-memory) are *feeds*: what arrives is fed to the engine,
  what it has to send comes back as events.

Without a thread (``threaded=False``) the engine runs inside the calls, on the scheduler's time: for simulations and
tests.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from yggpy.address import Address, Subnet
from yggpy.clock import CLOCK_ID, Scheduler, TimerHandle
from yggpy.datapath._native import Engine, TlsError
from yggpy.datapath.base import (
    ByteStream,
    CloseReason,
    DatapathUpcalls,
    LinkCounters,
    LinkEnd,
    PlaneCounters,
    SessionCounters,
    TlsParameters,
)
from yggpy.datapath.native_streams import NativeStream, open_stream
from yggpy.firewall import FirewallCounters, Ruleset
from yggpy.routing.greedy import Fib
from yggpy.sessions.traffic import RatchetCase, SessionKeys
from yggpy.wire.errors import DecodeError
from yggpy.wire.packets import Traffic
from yggpy.wire.uvarint import encode_path

if TYPE_CHECKING:
    from yggpy.datapath._native import Event

__all__ = ["NativeDatapath"]

FEED_CHUNK = 1 << 16
"""Bytes of a feed that are handled before its events are."""
DRAIN_SLICE = 0.02
"""Seconds for which events are handled before the event loop gets its turn."""
MAX_FIB_NUMBER = 2**64 - 1

# enum link_reason in native/src/link.h
_LINK_EOF, _LINK_ERROR, _LINK_READ_FAILED, _LINK_WRITE_FAILED, _LINK_TLS_FAILED = 1, 2, 3, 4, 5

_RATCHET_CASES = {1: RatchetCase.NEXT_SEND, 2: RatchetCase.NEXT_RECV}


class NativeDatapath:
    """A :class:`~yggpy.datapath.base.Datapath` for the node with public key ``own_key``.

    With ``threaded`` it needs a running event loop, and ``scheduler`` must show the time of the machine's clock.
    """

    name = "native"

    def __init__(
        self, own_key: bytes, scheduler: Scheduler, upcalls: DatapathUpcalls, *, threaded: bool = True
    ) -> None:
        self._scheduler = scheduler
        self._up = upcalls
        self._threaded = threaded
        self._links: dict[int, NativeStream | ByteStream] = {}
        self._with_carrier: dict[int, int] = {}
        """Bytes of each feed that its stream still buffers, as far as the engine has been told."""
        self._generations: dict[bytes, int] = {}
        self._counted = PlaneCounters(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self._on_tun_error: Callable[[OSError], None] | None = None
        self._tun_serial = 0
        self._turn_scheduled = False
        self._timer: TimerHandle | None = None
        self._closed = False
        self._events: deque[Event] = deque()
        """Taken from the engine, which then holds back the links that they come from, and not yet handled."""
        self._handlers = (
            self._protocol_frame,
            self._link_ended,
            self._link_output,
            self._session_message,
            self._session_unopened,
            self._session_unopened,
            self._session_ratchet,
            self._nonce_exhausted,
            self._session_missing,
            self._path_missing,
            self._traffic_unroutable,
            self._destination_unknown,
            self._source_learned,
            self._ipv6_received,
            self._message_received,
            self._tun_failed,
        )
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if threaded else -1
        offset = scheduler.now() - time.clock_gettime(CLOCK_ID) if threaded else 0.0
        address = Address.for_key(own_key)
        self._engine = Engine(own_key, address.packed, address.subnet.packed, threaded, offset, self._wake_fd)
        if threaded:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._wake_fd, self._drain)

    # -- turns -------------------------------------------------------------------------------------------

    def _enter(self) -> Engine:
        """Return the engine for a call that may change something; what it causes is seen to when the caller is done."""
        if not self._threaded:
            self._engine.set_now(self._scheduler.now())
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._scheduler.call_soon(self._turn)
        return self._engine

    def _turn(self) -> None:
        self._turn_scheduled = False
        if self._closed:
            return
        if self._threaded:
            self._engine.settle()
            return
        due = self._engine.step(self._scheduler.now())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due > 0:
            self._timer = self._scheduler.call_later(max(0.0, due - self._scheduler.now()), self._turn)
        self._drain()

    def _drain(self) -> None:
        """Pass on the events that wait, for a moment at most. A defect in one of them does not lose the others."""
        if self._closed:
            return
        if not self._events:
            self._events.extend(self._engine.take_events())
        defect: Exception | None = None
        limit = time.monotonic() + DRAIN_SLICE
        while self._events:
            event = self._events.popleft()
            try:
                self._handle(event)
            except Exception as error:
                defect = defect or error
            if not self._threaded and not self._events:
                self._events.extend(self._engine.take_events())  # nobody else would ask for them
            elif self._threaded and time.monotonic() > limit:
                self._loop.call_soon(self._drain)
                break
        if defect is not None:
            raise defect

    def _handle(self, event: Event) -> None:
        if not self._closed:  # by what an earlier event of the batch has caused
            self._handlers[event[0]](event)

    # -- events ------------------------------------------------------------------------------------------

    def _protocol_frame(self, event: Event) -> None:
        _, link_id, _, frame_type, _, _, when, payload = event
        if link_id not in self._links:
            return
        try:
            self._up.protocol_frame(link_id, frame_type, payload, when)
        except DecodeError as error:
            self.close_link(link_id, LinkEnd(CloseReason.ERROR, str(error)))
        except Exception as error:  # a defect of ours, and nobody knows what the frame has left undone
            self.close_link(link_id, LinkEnd(CloseReason.ERROR, f"internal error: {error!r}"))
            raise

    def _link_ended(self, event: Event) -> None:
        _, link_id, _, reason, code, _, _, text = event
        stream = self._links.pop(link_id, None)
        if stream is None:
            return
        self._with_carrier.pop(link_id, None)
        message = text.decode("utf-8", "replace")
        if isinstance(stream, NativeStream):
            if reason in (_LINK_READ_FAILED, _LINK_WRITE_FAILED):
                error = OSError(code, os.strerror(code))
                message = stream.error_text(error, "read" if reason == _LINK_READ_FAILED else "write")
            elif reason == _LINK_TLS_FAILED:
                message = stream.error_text(TlsError(message))
        else:
            stream.close()
        kind = CloseReason.EOF if reason == _LINK_EOF else CloseReason.ERROR
        self._up.link_ended(link_id, LinkEnd(kind, message))

    def _link_output(self, event: Event) -> None:
        link_id, data = event[1], event[7]
        stream = self._links.get(link_id)
        if stream is not None:
            stream.write(data)
            self._with_carrier[link_id] += len(data)
            self._carried(link_id)

    def _session_message(self, event: Event) -> None:
        self._up.session_message(event[2], event[7])

    def _session_unopened(self, event: Event) -> None:
        """Traffic that did not open: by now the init or ack that came just before it has been read, so try again."""
        source = event[2]
        known = self._enter().open_again(source, event[7])
        if known is not None:
            (self._up.session_mismatch if known else self._up.session_unknown)(source)

    def _session_ratchet(self, event: Event) -> None:
        _, _, source, nonce, case, generation, _, next_public = event
        if self._generations.get(source) == generation:
            self._up.session_ratchet(source, _RATCHET_CASES[case], nonce, next_public)

    def _nonce_exhausted(self, event: Event) -> None:
        self._up.session_nonce_exhausted(event[2])
        self.send_message(event[2], event[7])

    def _session_missing(self, event: Event) -> None:
        dest, message = event[2], event[7]
        if dest in self._generations:
            self.send_message(dest, message)
        else:
            self._up.session_missing(dest, message)

    def _path_missing(self, event: Event) -> None:
        dest, payload = event[2], event[7]
        remote = self._engine.remote(dest)
        if remote is not None and remote[1]:
            self.send_payload(dest, payload)
        else:
            self._up.path_missing(dest, payload)

    def _traffic_unroutable(self, event: Event) -> None:
        self._up.traffic_unroutable(Traffic.decode(event[7]))

    def _destination_unknown(self, event: Event) -> None:
        packet = event[7]
        if self._engine.knows_destination(packet):
            self.send_ipv6(packet)
        else:
            self._up.destination_unknown(packet)

    def _source_learned(self, event: Event) -> None:
        self._up.source_learned(event[2])

    def _ipv6_received(self, event: Event) -> None:
        self._up.ipv6_received(event[2], event[7])

    def _message_received(self, event: Event) -> None:
        self._up.message_received(event[2], event[7])

    def _tun_failed(self, event: Event) -> None:
        if self._on_tun_error is not None and event[4] == self._tun_serial:
            on_error, self._on_tun_error = self._on_tun_error, None
            self._engine.detach_tun()
            on_error(OSError(event[3], os.strerror(event[3])))

    # -- streams and links -------------------------------------------------------------------------------

    async def open_stream(self, sock: socket.socket, tls: TlsParameters | None) -> ByteStream:
        """See :class:`Datapath`."""
        return await open_stream(sock, tls)

    def attach_link(self, link_id: int, key: bytes, stream: ByteStream) -> None:
        """See :class:`Datapath`."""
        self._links[link_id] = stream
        engine = self._enter()
        if isinstance(stream, NativeStream):
            engine.attach_link(link_id, key, stream.hand_over())
            return
        self._with_carrier[link_id] = 0
        engine.attach_link(link_id, key, None)
        stream.start(
            partial(self._feed_arrived, link_id), partial(self._feed_ended, link_id), partial(self._carried, link_id)
        )

    def _feed_arrived(self, link_id: int, data: bytes | memoryview) -> None:
        for start in range(0, len(data), FEED_CHUNK):
            if link_id not in self._links:
                return
            self._enter().feed(link_id, data[start : start + FEED_CHUNK])
            if self._threaded:
                self._drain()

    def _feed_ended(self, link_id: int, end: LinkEnd) -> None:
        self.close_link(link_id, end)

    def _carried(self, link_id: int) -> None:
        """Tell the engine how much of its output a feed's stream has got rid of."""
        stream = self._links.get(link_id)
        if stream is None:
            return
        left = stream.buffered
        released = self._with_carrier[link_id] - left
        self._with_carrier[link_id] = left
        if released > 0:
            self._enter().carried(link_id, released)

    def close_link(self, link_id: int, end: LinkEnd) -> None:
        """See :class:`Datapath`."""
        stream = self._links.pop(link_id, None)
        if stream is None:
            return
        self._with_carrier.pop(link_id, None)
        self._enter().close_link(link_id)
        if not isinstance(stream, NativeStream):
            stream.close()
        self._up.link_ended(link_id, end)

    def send_direct(self, link_id: int, frame_type: int, payload: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().send_direct(link_id, frame_type, payload)

    def send_queued(self, link_id: int, frame_type: int, payload: bytes, source: bytes, dest: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().send_queued(link_id, frame_type, payload, source, dest)

    def link_counters(self, link_id: int) -> LinkCounters:
        """See :class:`Datapath`."""
        return LinkCounters(0, 0) if self._closed else LinkCounters(*self._engine.link_counters(link_id))

    def counters(self) -> PlaneCounters:
        """See :class:`Datapath`."""
        if not self._closed:
            self._counted = PlaneCounters(*self._engine.counters())
        return self._counted

    # -- tables ------------------------------------------------------------------------------------------

    def set_fib(self, fib: Fib) -> None:
        """See :class:`Datapath`."""
        links = [
            (
                link.link_id,
                link.key,
                encode_path(link.path),
                min(link.cost, MAX_FIB_NUMBER),
                link.priority,
                link.order,
            )
            for link in fib.links
        ]
        self._enter().set_fib(encode_path(fib.self_path), links, fib.transit)

    def set_path(self, dest: bytes, path: tuple[int, ...]) -> None:
        """See :class:`Datapath`."""
        self._enter().set_path(dest, encode_path(path))

    def remove_path(self, dest: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().remove_path(dest)

    def last_traffic(self, source: bytes) -> float | None:
        """See :class:`Datapath`."""
        return self._time_of(source, 2)

    def set_session(self, remote: bytes, keys: SessionKeys) -> None:
        """See :class:`Datapath`."""
        self._generations[remote] = self._enter().set_session(
            remote,
            keys.remote_key_seq,
            keys.local_key_seq,
            keys.recv_shared,
            keys.send_shared,
            keys.next_send_shared,
            keys.next_recv_shared,
            keys.next_public,
            keys.recv_nonce,
            keys.send_nonce or 0,
            keys.send_nonce is None,
        )

    def remove_session(self, remote: bytes) -> None:
        """See :class:`Datapath`."""
        self._generations.pop(remote, None)
        self._enter().remove_session(remote)

    def session_counters(self, remote: bytes) -> SessionCounters:
        """See :class:`Datapath`."""
        state = None if self._closed else self._engine.remote(remote)
        return SessionCounters(0, 0) if state is None else SessionCounters(state[5], state[6])

    def session_last_activity(self, remote: bytes) -> float | None:
        """See :class:`Datapath`."""
        return self._time_of(remote, 3)

    def set_address(self, key: bytes, address: Address, subnet: Subnet) -> None:
        """See :class:`Datapath`."""
        self._enter().set_address(key, address.packed, subnet.packed)

    def remove_address(self, key: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().remove_address(key)

    def address_last_used(self, key: bytes) -> float | None:
        """See :class:`Datapath`."""
        return self._time_of(key, 4)

    def _time_of(self, key: bytes, index: int) -> float | None:
        state = None if self._closed else self._engine.remote(key)
        if state is None or state[index] < 0:
            return None
        return float(state[index])

    # -- packets from above ------------------------------------------------------------------------------

    def send_payload(self, dest: bytes, payload: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().send_payload(dest, payload)

    def send_message(self, dest: bytes, message: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().send_message(dest, message)

    def send_ipv6(self, packet: bytes) -> None:
        """See :class:`Datapath`."""
        self._enter().send_ipv6(packet)

    # -- TUN and life ------------------------------------------------------------------------------------

    @property
    def takes_vnet_header(self) -> bool:
        """See :class:`Datapath`."""
        return True

    def attach_tun(self, fd: int, mtu: int, on_error: Callable[[OSError], None]) -> None:
        """See :class:`Datapath`."""
        self._on_tun_error = on_error
        self._enter().attach_tun(fd, mtu)
        self._tun_serial += 1

    def detach_tun(self) -> None:
        """See :class:`Datapath`."""
        self._on_tun_error = None
        if not self._closed:
            self._enter().detach_tun()

    def set_firewall(self, rules: Ruleset | None) -> None:
        """See :class:`Datapath`."""
        if rules is None:
            self._enter().set_firewall(None, 0)
        else:
            self._enter().set_firewall(rules.pack(), len(rules.names))

    def firewall_counters(self) -> FirewallCounters | None:
        """See :class:`Datapath`."""
        report = None if self._closed else self._engine.firewall_counters()
        return None if report is None else FirewallCounters(*report)

    def close(self) -> None:
        """See :class:`Datapath`."""
        if self._closed:
            return
        self.detach_tun()
        for link_id in list(self._links):
            self.close_link(link_id, LinkEnd(CloseReason.LOCAL))
        self.counters()
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._threaded:
            self._loop.remove_reader(self._wake_fd)
        self._engine.close()
        if self._threaded:
            os.close(self._wake_fd)
