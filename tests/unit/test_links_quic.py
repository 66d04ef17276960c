"""``quic://`` links over loopback: both lives of the stream, its bounds in both directions, and rude datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aioquic.quic import events
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import encode_quic_version_negotiation

from tests.unit.links_fakes import KEY_A, KEY_B, Side, StreamSink, until
from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed
from yggpy.datapath.streams import MAX_BUFFERED, open_stream
from yggpy.links import dial, quic, quic_stream
from yggpy.links.quic import PendingQuic, QuicAcceptor, QuicTransport, configuration
from yggpy.links.quic_endpoint import Endpoint
from yggpy.links.quic_stream import HANDSHAKE_WINDOW, LINK_WINDOW, QuicStream, termination
from yggpy.links.transports import TransportContext
from yggpy.links.uri import LinkOptions, LinkUri

LOG = logging.getLogger("test.quic")


def transport() -> QuicTransport:
    return QuicTransport(TransportContext(KEY_A, open_stream, LOG))


@contextlib.asynccontextmanager
async def listening(host: str = "127.0.0.1") -> AsyncIterator[tuple[QuicTransport, QuicAcceptor]]:
    made = transport()
    acceptor = await made.listen(LinkUri.parse(f"quic://{host}:0"), "")
    assert isinstance(acceptor, QuicAcceptor)
    yield made, acceptor
    acceptor.close()
    for stream in list(made._streams):
        stream.close()
    await made.close()
    assert not made._streams
    assert acceptor._endpoint._closed


async def dialled(made: QuicTransport, address: str) -> QuicStream:
    stream = await made.dial(LinkUri.parse(f"quic://{address}"), LinkOptions(), "")
    assert isinstance(stream, QuicStream)
    return stream


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[QuicStream, QuicStream]]:
    """The dialler's stream and the listener's; the listener has read one byte."""
    async with listening() as (made, acceptor):
        client = await dialled(made, acceptor.address)
        client.write(b"!")
        pending = await acceptor.accept()
        server = await pending.open()
        assert await server.read_exactly(1) == b"!"
        assert isinstance(server, QuicStream)
        yield client, server


async def patiently(condition: Callable[[], bool]) -> None:
    """``until`` for megabytes, which a busy machine may take its time for."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110  nothing to wait for but the data itself
            await asyncio.sleep(0.01)


# -- links ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost"])
async def test_quic_link(host: str) -> None:
    async with Side(KEY_A) as server, Side(KEY_B) as client:
        listener = await server.manager.listen("quic://:0?password=x")
        assert listener.address == f"quic://[::]:{listener.port}"
        client.manager.add_peer(f"quic://{host}:{listener.port}?password=x&key={KEY_A.public_key.hex()}")
        await until(lambda: bool(server.host.links and client.host.links))
        one, two = client.host.links[0], server.host.links[0]
        assert two.info.remote_address == one.info.local_address
        assert two.info.local_address == one.info.remote_address
        assert server.manager.links()[0].uri == f"quic://{one.info.local_address}"
        data = os.urandom(300_000)
        one.stream.write(data)
        two.stream.write(data)
        await until(lambda: one.received == data and two.received == data)
        listener.close()
        two.stream.write(b"still there")
        await until(lambda: one.received.endswith(b"still there"))
        one.end(LinkEnd(CloseReason.LOCAL))
        assert await two.ended == LinkEnd(CloseReason.EOF, "EOF")


async def test_several_links_on_one_socket() -> None:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(Side(KEY_A))
        listener = await server.manager.listen("quic://127.0.0.1:0")
        for number in (1, 2, 3):
            client = await stack.enter_async_context(Side(KEY_B))
            client.manager.add_peer(f"quic://127.0.0.1:{listener.port}")
            await until(lambda number=number: len(server.host.links) == number)  # type: ignore[misc]
        for number, link in enumerate(server.host.links):
            assert not link.ended.done(), number


async def test_answers_come_from_the_address_that_was_asked() -> None:
    """A machine with several addresses; the dialler's connected socket hears no other."""
    async with listening("") as (made, acceptor):
        client = await dialled(made, f"127.0.0.7:{acceptor.port}")
        assert client.remote_address == f"127.0.0.7:{acceptor.port}"
        client.write(b"x")
        server = await (await acceptor.accept()).open()
        assert server.local_address == client.remote_address


# -- failures ------------------------------------------------------------------------------------------------


async def dial_error(address: str) -> str:
    made = transport()
    with pytest.raises(OSError) as caught:
        await dialled(made, address)
    await made.close()
    assert not made._streams
    return str(caught.value)


async def test_nobody_listens() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    text = await dial_error(address)
    assert text.startswith(f"dial quic {address}: read udp 127.0.0.1:")
    assert text.endswith(f"->{address}: read: connection refused")


async def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "DIAL_TIMEOUT", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        assert await dial_error(address) == f"dial quic {address}: timeout: no recent network activity"


async def test_cancelled_dial_leaves_nothing() -> None:
    made = transport()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        task = asyncio.ensure_future(dialled(made, f"127.0.0.1:{sock.getsockname()[1]}"))
        await until(lambda: bool(made._streams))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not made._streams


async def test_listen_errors() -> None:
    async with listening() as (made, acceptor):
        with pytest.raises(OSError) as caught:
            await made.listen(LinkUri.parse(f"quic://{acceptor.address}"), "")
        assert str(caught.value) == f"listen udp {acceptor.address}: bind: address already in use"
        with pytest.raises(OSError) as caught:
            await made.listen(LinkUri.parse("quic://127.0.0.1"), "")
        assert str(caught.value) == "listen udp: address 127.0.0.1: missing port in address"


@pytest.mark.parametrize(
    ("code", "frame_type", "reason", "end"),
    [
        (0, None, "", LinkEnd(CloseReason.EOF, "EOF")),
        (1, None, "", LinkEnd(CloseReason.ERROR, "Application error 0x1 (remote)")),
        (1, None, "no", LinkEnd(CloseReason.ERROR, "Application error 0x1 (remote): no")),
        (0x128, 6, "bad", LinkEnd(CloseReason.ERROR, "CRYPTO_ERROR 0x128: bad")),
        (10, 8, "", LinkEnd(CloseReason.ERROR, "QUIC error 0xa")),
        (1, 0, "Idle timeout", LinkEnd(CloseReason.ERROR, "timeout: no recent network activity")),
    ],
)
def test_words_for_the_end(code: int, frame_type: int | None, reason: str, end: LinkEnd) -> None:
    assert termination(events.ConnectionTerminated(code, frame_type, reason)) == end


# -- the stream ----------------------------------------------------------------------------------------------


async def test_handshake_then_link_loses_nothing() -> None:
    async with pair() as (one, two):
        one.write(b"header")
        one.write(b"body and what follows")
        assert await two.read_exactly(6) == b"header"
        assert await two.read_exactly(4) == b"body"
        sink = StreamSink(two)
        one.write(b", more")
        await until(lambda: sink.data == b" and what follows, more")
        one.close()
        one.close()
        await until(lambda: sink.end == LinkEnd(CloseReason.EOF, "EOF"))
        await until(lambda: one.gone.done() and two.gone.done())


@pytest.mark.parametrize(("sent", "reason"), [(b"", "EOF"), (b"half", "unexpected EOF")])
async def test_end_in_the_handshake(sent: bytes, reason: str) -> None:
    async with pair() as (one, two):
        two.write(sent)
        two.close()
        with pytest.raises(StreamClosed) as caught:
            await one.read_exactly(8)
        assert str(caught.value) == reason
        one.write(b"into the void")


async def test_an_end_before_start_is_reported_after_it() -> None:
    async with pair() as (one, two):
        two.write(b"last words")
        two.close()
        await until(lambda: one._end is not None)
        sink = StreamSink(one)
        assert sink.data == b"last words"
        assert sink.end is None
        await until(lambda: sink.end == LinkEnd(CloseReason.EOF, "EOF"))


async def test_closing_while_somebody_reads_or_within_a_callback() -> None:
    async with pair() as (one, two):
        reading = asyncio.ensure_future(one.read_exactly(1))
        await asyncio.sleep(0)
        one.close()
        with pytest.raises(StreamClosed, match="use of closed network connection"):
            await reading
        sink = StreamSink(two, two.close)
        await until(two.gone.done)
        assert not sink.data
    async with pair() as (one, two):
        sink = StreamSink(two, two.close)
        one.write(b"data")
        await until(lambda: bool(sink.data))
        assert sink.end is None
        await until(lambda: one._end is not None)


async def test_in_the_handshake_a_flood_meets_the_window() -> None:
    async with pair() as (one, two):
        one.write(bytes(MAX_BUFFERED))
        await two.read_exactly(1)
        await asyncio.sleep(0.3)
        assert HANDSHAKE_WINDOW // 2 < len(two._ahead) <= HANDSHAKE_WINDOW
        assert one.buffered > MAX_BUFFERED - 2 * HANDSHAKE_WINDOW
        writable = StreamSink(one)
        one._full = True
        sink = StreamSink(two)  # and now somebody takes it
        await patiently(lambda: len(sink.data) == MAX_BUFFERED - 1)
        await until(lambda: writable.writable == 1)
        assert one.buffered == 0


async def test_the_window_moves_and_does_not_grow() -> None:
    """The library would have doubled it several times by now."""
    async with pair() as (one, two):
        sink = StreamSink(two)
        total = 3 * LINK_WINDOW
        for _ in range(3):
            one.write(bytes(LINK_WINDOW))
        await patiently(lambda: len(sink.data) == total)
        window = two._quic._local_max_data
        assert isinstance(window, quic_stream.ReceiveWindow)
        assert window.taken == total + 1
        assert total < window.value <= window.taken + LINK_WINDOW
        assert one._quic._remote_max_data <= window.taken + LINK_WINDOW


async def test_no_second_stream() -> None:
    async with pair() as (one, two):
        sink = StreamSink(two)
        one._quic.send_stream_data(one._quic.get_next_available_stream_id(), b"second")
        one._quic.send_stream_data(one._quic.get_next_available_stream_id(is_unidirectional=True), b"third")
        one._pump()
        two._quic.send_stream_data(two._quic.get_next_available_stream_id(), b"other way")
        two._pump()
        one.write(b"first")
        await until(lambda: sink.data == b"first")
        assert len(two._quic._streams) == 2  # theirs, and the one that may not be opened
        assert one._end is None and two._end is None


async def test_a_peer_that_does_not_read_is_cut_off() -> None:
    async with pair() as (one, _two):
        sink = StreamSink(one)
        while sink.end is None:
            one.write(bytes(1 << 16))
            assert one.buffered <= MAX_BUFFERED + (1 << 17)
            await asyncio.sleep(0)
        assert sink.end.message == f"peer does not read: more than {MAX_BUFFERED} bytes wait"


async def test_a_reset_stream_is_an_error() -> None:
    async with pair() as (one, two):
        sink = StreamSink(two)
        assert one._stream_id is not None
        one._quic.reset_stream(one._stream_id, 7)
        one._pump()
        await until(lambda: sink.end is not None)
        assert sink.end == LinkEnd(CloseReason.ERROR, "stream 0 canceled by remote with error code 7")


async def test_idle_links_are_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic_stream, "KEEPALIVE_PERIOD", 0.05)
    monkeypatch.setattr(quic, "IDLE_TIMEOUT", 0.4)
    async with pair() as (one, two):
        await asyncio.sleep(0.6)
        assert one._end is None and two._end is None


async def test_a_silent_peer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "IDLE_TIMEOUT", 0.2)
    async with pair() as (one, two):
        sink = StreamSink(one)
        monkeypatch.setattr(two, "receive", lambda *_: None)
        monkeypatch.setattr(two, "_pump", lambda: None)
        await until(lambda: sink.end is not None)
        assert sink.end == LinkEnd(CloseReason.ERROR, "timeout: no recent network activity")


async def test_a_failing_library_ends_one_link_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a defect")

    async with pair() as (one, two):
        sink = StreamSink(two)
        monkeypatch.setattr(two._quic, "receive_datagram", broken)
        one.write(b"x")
        await until(lambda: sink.end is not None)
        assert sink.end is not None and sink.end.message == "QUIC library failed: AssertionError('a defect')"


# -- rude datagrams ------------------------------------------------------------------------------------------


def first_packet(token: bytes = b"") -> bytes:
    """The first datagram of a new connection."""
    connection = QuicConnection(configuration=configuration())
    connection._peer_token = token
    connection.connect(("127.0.0.1", 1), now=0.0)
    return connection.datagrams_to_send(now=0.0)[0][0]


@contextlib.contextmanager
def udp_client(acceptor: QuicAcceptor) -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", acceptor.port))
        yield sock


async def test_junk_makes_no_connection() -> None:
    async with listening() as (_, acceptor):
        with udp_client(acceptor) as sock:
            real = first_packet()
            for junk in (
                b"",
                b"\x00",
                os.urandom(1200),
                bytes(1200),
                b"\xff" * 1200,
                b"meta" + bytes(1300),
                real[:1199],
                b"\x40" + real[1:],
                encode_quic_version_negotiation(source_cid=bytes(8), destination_cid=bytes(8), supported_versions=[1]),
            ):
                sock.send(junk)
            sock.send(real)
            await until(lambda: bool(acceptor._ids))
            assert len(acceptor._fresh) == 1
            (await acceptor.accept()).close()
            assert not acceptor._ids and not acceptor._routes


async def test_a_first_packet_that_cannot_be_opened_comes_to_nothing() -> None:
    async with listening() as (_, acceptor):
        with udp_client(acceptor) as sock:
            packet = bytearray(first_packet())
            packet[100] ^= 1
            sock.send(packet)
            pending = await acceptor.accept()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):  # the listener has 6 s for it
                    await pending.open()
            assert not acceptor._ids


async def test_unknown_versions_are_negotiated_without_amplification() -> None:
    async with listening() as (_, acceptor):
        with udp_client(acceptor) as sock:
            packet = bytearray(first_packet())
            packet[1:5] = b"\x1a\x2a\x3a\x4a"
            sock.send(packet[:300])
            sock.send(packet)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(5):
                answer = await loop.sock_recv(sock, 2000)
            assert answer[1:5] == bytes(4)
            assert not acceptor._ids
            await asyncio.sleep(0.02)
            with pytest.raises(BlockingIOError):
                sock.recv(2000)


async def test_a_flood_of_first_packets_must_prove_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "RETRY_ABOVE", 3)
    async with listening() as (made, acceptor):
        with udp_client(acceptor) as sock:
            for _ in range(20):
                sock.send(first_packet())
            sock.send(first_packet(token=b"not yours"))
            await until(lambda: len(acceptor._ids) == 3)
            await asyncio.sleep(0.05)
            assert len(acceptor._ids) == 3
            loop = asyncio.get_running_loop()
            kinds = set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    while True:
                        kinds.add((await loop.sock_recv(sock, 2000))[0] & 0xF0)
            assert 0xF0 in kinds
        client = await dialled(made, acceptor.address)  # who is real gets in nevertheless
        client.write(b"x")
        pendings: list[PendingQuic] = [await acceptor.accept() for _ in range(4)]
        server = await pendings[-1].open()
        assert await server.read_exactly(1) == b"x"
        for pending in pendings:
            pending.close()


async def test_more_callers_than_can_wait_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quic, "MAX_FRESH", 2)
    async with listening() as (_, acceptor):
        with udp_client(acceptor) as sock:
            for _ in range(5):
                sock.send(first_packet())
            await until(lambda: len(acceptor._fresh) == 2)
            await asyncio.sleep(0.02)
            assert len(acceptor._ids) == 2


async def test_a_defect_behind_one_link_does_not_hold_up_others() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def defect() -> None:
        raise RuntimeError("a defect")

    async with listening() as (made, acceptor):
        sinks = []
        clients = []
        for then in (defect, lambda: None):
            client = await dialled(made, acceptor.address)
            client.write(b"!")
            clients.append(client)
            server = await (await acceptor.accept()).open()
            await server.read_exactly(1)
            assert isinstance(server, QuicStream)
            sinks.append(StreamSink(server, then))
        for client in clients:
            client.write(b"x")
        await until(lambda: all(sink.data for sink in sinks))
        assert [str(context["exception"]) for context in reported] == ["a defect"]


# -- the socket ----------------------------------------------------------------------------------------------


async def test_what_the_kernel_does_not_take_waits() -> None:
    class Stubborn:
        """A socket that takes nothing for a while."""

        def __init__(self, real: socket.socket) -> None:
            self.real = real
            self.willing = False

        def send(self, data: bytes) -> int:
            if not self.willing:
                raise BlockingIOError
            return self.real.send(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for sock in (one, two):
        sock.setblocking(False)
    stubborn = Stubborn(one)
    called: list[str] = []
    endpoint = Endpoint(stubborn, lambda *_: None, lambda: None, lambda _: None, connected=True)  # type: ignore[arg-type]
    endpoint.send(b"first", None, None)
    assert endpoint.blocked
    endpoint.when_writable(lambda: called.append("writable"))
    endpoint.send(b"second", None, None)
    await asyncio.sleep(0.01)
    assert endpoint.blocked and not called
    stubborn.willing = True
    await until(lambda: not endpoint.blocked)
    assert called == ["writable"]
    assert (two.recv(100), two.recv(100)) == (b"first", b"second")
    endpoint.close()
    endpoint.close()
    endpoint.send(b"third", None, None)
    two.close()
