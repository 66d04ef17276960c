"""Whatever a peer sends by WebSocket or QUIC ends its own stream at worst, with a ``StreamClosed`` and one report."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import Any

from aioquic.quic.connection import QuicConnection
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.server import ServerProtocol

from yggpy.datapath.base import LinkEnd, StreamClosed
from yggpy.datapath.certificate import make_identity
from yggpy.datapath.streams import SocketStream
from yggpy.keys import PrivateKey
from yggpy.links import websocket
from yggpy.links.quic import configuration
from yggpy.links.quic_stream import QuicStream
from yggpy.links.resolve import TransportError
from yggpy.links.transports import NoLinkWantedError
from yggpy.links.websocket_stream import MAX_FRAME, WebSocketStream

TURNS = 8
"""Turns of the event loop in which everything that is in a socket pair arrives."""
CLIENT = configuration()
SERVER = configuration(make_identity(PrivateKey.from_seed(bytes(32))))
REQUEST = (
    b"GET /path HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: ygg-ws\r\n\r\n"
)
HEADS = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([*REQUEST.splitlines(keepends=True), b"\r\n", b": ", b"/health", b"\xff"])).map(b"".join),
    st.tuples(st.integers(0, len(REQUEST)), st.binary(max_size=4)).map(
        lambda change: REQUEST[: change[0]] + change[1] + REQUEST[change[0] + len(change[1]) :]
    ),
)


def socket_streams() -> tuple[SocketStream, socket.socket]:
    one, two = socket.socketpair()
    one.setblocking(False)
    return SocketStream(one), two


class Sink:
    """A consumer that insists on the rules of ``ByteStream``."""

    def __init__(self, stream: WebSocketStream | QuicStream) -> None:
        self.received = 0
        self.ends = 0
        stream.start(self._on_data, self._on_end, lambda: None)

    def _on_data(self, data: bytes | memoryview) -> None:
        assert not self.ends and len(data)
        self.received += len(data)

    def _on_end(self, end: LinkEnd) -> None:
        assert end.message
        self.ends += 1


# -- WebSocket -----------------------------------------------------------------------------------------------


@given(HEADS)
def test_upgrade_requests(head: bytes) -> None:
    async def run() -> None:
        stream, peer = socket_streams()
        with peer:
            peer.sendall(head)
            peer.shutdown(socket.SHUT_WR)
            with contextlib.suppress(StreamClosed, NoLinkWantedError, TransportError):
                (await websocket._welcome(stream, ["*.example"])).close()
            stream.close()

    asyncio.run(run())


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Frames, most of them proper."""
    parts = []
    for _ in range(draw(st.integers(0, 6))):
        payload = draw(st.binary(max_size=130))
        first = draw(st.sampled_from([0x82, 0x82, 0x82, 0x02, 0x80, 0x89, 0x8A, 0x81, 0x88]) | st.integers(0, 255))
        length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        parts.append(bytes((first,)) + length + bytes(4) + payload)
    parts.append(draw(st.binary(max_size=20)))
    return b"".join(parts)


@given(frames(), st.integers(0, 300), st.booleans())
def test_websocket_frames(data: bytes, asked: int, end: bool) -> None:
    async def run() -> None:
        inner, peer = socket_streams()
        protocol = ServerProtocol(max_size=MAX_FRAME, logger=websocket._QUIET)
        protocol.receive_data(REQUEST)
        protocol.send_response(protocol.accept(protocol.events_received()[0]))  # type: ignore[arg-type]
        protocol.data_to_send()
        stream = WebSocketStream(inner, protocol)
        with peer:
            peer.sendall(data)
            if end:
                peer.shutdown(socket.SHUT_WR)
            with contextlib.suppress(StreamClosed, TimeoutError):
                async with asyncio.timeout(0.001):
                    assert len(await stream.read_exactly(asked)) == asked
            sink = Sink(stream)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            stream.write(b"something")
            assert sink.ends <= 1
            stream.close()

    asyncio.run(run())


# -- QUIC ----------------------------------------------------------------------------------------------------


class Wire:
    """Stands for an ``Endpoint``: keeps what is sent."""

    address = "127.0.0.1:1"
    peer = ("127.0.0.1", 2)
    blocked = False

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def source_text(self, source: object) -> str:
        return self.address

    def send(self, data: bytes, address: object, source: object) -> None:
        self.sent.append(data)

    def take(self) -> list[bytes]:
        sent, self.sent = self.sent, []
        return sent


class Owner:
    """Stands for a dialler or a listener."""

    def connection_id_issued(self, stream: QuicStream, connection_id: bytes) -> None:
        pass

    def connection_id_retired(self, stream: QuicStream, connection_id: bytes) -> None:
        pass

    def stream_gone(self, stream: QuicStream) -> None:
        pass


def disturbed(datagrams: list[bytes], chance: random.Random) -> list[bytes]:
    """Lose, repeat, reorder, cut and damage some."""
    out = []
    for data in datagrams:
        fate = chance.randrange(40)
        if fate == 0:
            continue
        if fate == 1:
            out.append(data)
        if fate == 2:
            data = data[: chance.randrange(len(data))]
        if fate == 3:
            damaged = bytearray(data)
            damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            data = bytes(damaged)
        if fate == 4:
            data = chance.randbytes(chance.randrange(1, 1400))
        if fate == 5:
            out.insert(0, data)
        else:
            out.append(data)
    return out


def quic_pair() -> tuple[QuicStream, Wire, QuicStream, Wire]:
    """A dialler that has sent its first packet, and the listener that it goes to."""
    client_wire, server_wire = Wire(), Wire()
    wires: list[Any] = [client_wire, server_wire]
    connection = QuicConnection(configuration=CLIENT)
    client = QuicStream(connection, wires[0], Owner(), "")
    client.connect()
    original = connection.original_destination_connection_id
    server_connection = QuicConnection(configuration=SERVER, original_destination_connection_id=original)
    return client, client_wire, QuicStream(server_connection, wires[1], Owner(), ""), server_wire


@settings(max_examples=50)
@given(st.integers())
def test_quic_over_a_bad_wire(seed: int) -> None:
    """Handshake, data both ways and the end, while the wire does its worst."""

    async def run() -> None:
        chance = random.Random(seed)
        client, client_wire, server, server_wire = quic_pair()
        sinks = []
        for turn in range(12):
            for wire, stream in ((client_wire, server), (server_wire, client)):
                for data in disturbed(wire.take(), chance):
                    stream.receive(data, wire.peer, None)
                stream.advance()
                if stream.opened.done() and turn > 3:
                    stream.write(chance.randbytes(3000))
            if turn == 6:
                sinks = [Sink(client), Sink(server)]
            await asyncio.sleep(0)
        for stream in (client, server):
            stream.close()
        await asyncio.sleep(0)
        for stream in (client, server):
            stream._release()
            assert stream.gone.done()
        assert all(sink.ends <= 1 for sink in sinks)

    asyncio.run(run())


@settings(max_examples=50)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_quic_frames_of_a_hostile_peer(payloads: list[bytes]) -> None:
    """Packets that are properly encrypted, with anything inside."""

    async def run() -> None:
        client, client_wire, server, server_wire = quic_pair()
        for _ in range(4):
            for wire, stream in ((client_wire, server), (server_wire, client)):
                for data in wire.take():
                    stream.receive(data, wire.peer, None)
                stream.advance()
        client.write(b"hello")
        for data in client_wire.take():
            server.receive(data, client_wire.peer, None)
        server.advance()
        assert await server.read_exactly(5) == b"hello"
        sink = Sink(server)
        crypto = client._quic._cryptos[max(client._quic._cryptos, key=lambda epoch: epoch.value)]
        for number, payload in enumerate(payloads):
            packet_number = client._quic._packet_number + number
            header = bytes((0x41,)) + client._quic._peer_cid.cid + packet_number.to_bytes(2, "big")
            server.receive(
                crypto.encrypt_packet(header, payload.ljust(8, b"\0"), packet_number), client_wire.peer, None
            )
            server.advance()
            await asyncio.sleep(0)
        assert sink.ends <= 1
        for stream in (client, server):
            stream._release()

    asyncio.run(run())
