"""``ws://`` and ``wss://`` links over loopback: upgrades, health checks, origins, and peers that do all wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import ssl
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.client import ClientProtocol
from websockets.server import ServerProtocol

from tests.unit.links_fakes import KEY_A, KEY_B, Side, StreamSink, socket_pair, until
from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed
from yggpy.datapath.certificate import make_identity
from yggpy.datapath.streams import SocketStream
from yggpy.links import dial, websocket
from yggpy.links.uri import LinkUri
from yggpy.links.websocket import MAX_HEAD, origin_allowed
from yggpy.links.websocket_stream import MAX_FRAME, MAX_PONG_BACKLOG, WebSocketStream
from yggpy.wire.handshake import encode_handshake


def upgrade(target: str = "/", **headers: str) -> bytes:
    """A request as Go sends it; keyword ``Sec_WebSocket_Protocol`` and the like replace headers, "" removes them."""
    lines = {
        "Host": "peer.example",
        "User-Agent": "Go-http-client/1.1",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Protocol": "ygg-ws",
        "Sec-WebSocket-Version": "13",
        "Upgrade": "websocket",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"GET {target} HTTP/1.1\r\n{head}\r\n".encode()


def frame(payload: bytes, opcode: int = 2, *, fin: bool = True, masked: bool = True) -> bytes:
    """A frame, masked with a key of zeros."""
    size = len(payload)
    if size < 126:
        length = bytes((size | 0x80 * masked,))
    elif size < 1 << 16:
        length = bytes((126 | 0x80 * masked,)) + struct.pack(">H", size)
    else:
        length = bytes((127 | 0x80 * masked,)) + struct.pack(">Q", size)
    return bytes((opcode | 0x80 * fin,)) + length + bytes(4) * masked + payload


async def request(port: int, data: bytes) -> tuple[bytes, bytes]:
    """Send ``data`` and return head and rest of all that comes until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            answer = await reader.read()
    except ConnectionResetError:
        answer = b""
    writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    return head, rest


# -- links ---------------------------------------------------------------------------------------------------


async def test_ws_link() -> None:
    async with Side(KEY_A) as server, Side(KEY_B) as client:
        listener = await server.manager.listen("ws://127.0.0.1:0/?password=x&origin=a.example")
        assert listener.address == f"ws://127.0.0.1:{listener.port}/"
        client.manager.add_peer(f"ws://127.0.0.1:{listener.port}/any/path?password=x&key={KEY_A.public_key.hex()}")
        await until(lambda: bool(server.host.links and client.host.links))
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/", server.manager.links()[0].uri)
        one, two = client.host.links[0], server.host.links[0]
        data = os.urandom(200_000)
        one.stream.write(data)
        two.stream.write(data)
        await until(lambda: one.received == data and two.received == data)
        one.end(LinkEnd(CloseReason.LOCAL))
        assert await two.ended == LinkEnd(CloseReason.EOF, "EOF")


@contextlib.asynccontextmanager
async def tls_proxy(port: int, folder: Path, names: list[str | None]) -> AsyncIterator[int]:
    """End TLS in front of ``port``, as a web server does; ``names`` collects the server names that clients send."""
    identity = make_identity(KEY_A)
    (folder / "pem").write_bytes(identity.certificate_pem + identity.private_key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pem")
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    tasks = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with await asyncio.start_server(client, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            if task is not None:
                task.cancel()


async def test_wss_link_through_a_proxy(tmp_path: Path) -> None:
    names: list[str | None] = []
    async with Side(KEY_A) as server, Side(KEY_B) as client:
        listener = await server.manager.listen("ws://127.0.0.1:0")
        async with tls_proxy(listener.port, tmp_path, names) as port:
            client.manager.add_peer(f"wss://localhost:{port}?sni=ignored.example")
            await until(lambda: bool(server.host.links and client.host.links))
            assert names == ["localhost"]
            data = os.urandom(300_000)
            server.host.links[0].stream.write(data)
            await until(lambda: client.host.links[0].received == data)
            await client.manager.close()
            await until(server.host.links[0].ended.done)


async def test_what_the_dialler_says() -> None:
    seen = asyncio.get_running_loop().create_future()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    async with await asyncio.start_server(client, "127.0.0.1", 0) as server, Side(KEY_A) as side:
        port = server.sockets[0].getsockname()[1]
        side.manager.add_peer(f"ws://me:too@localhost:{port}/a%20b?token=1&password=secret&key=&maxbackoff=5s&cost=7&x")
        lines = (await seen).decode().split("\r\n")
    assert lines[0] == "GET /a%20b?token=1&x HTTP/1.1"
    assert "Host: localhost" in lines
    assert "Sec-WebSocket-Protocol: ygg-ws" in lines
    assert "Authorization: Basic bWU6dG9v" in lines
    assert "secret" not in "".join(lines)


# -- the listener --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/health", "/healthz", "/health?x=1"])
async def test_health(path: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("ws://127.0.0.1:0")
        for words, body in (("GET 1.1", b"OK"), ("GET 1.0", b"OK"), ("POST 1.1", b"OK"), ("HEAD 1.1", b"")):
            method, version = words.split()
            head, rest = await request(listener.port, f"{method} {path} HTTP/{version}\r\nHost: x\r\n\r\n".encode())
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert rest == body
        await asyncio.sleep(0.01)
        assert "failed" not in caplog.text


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"meta and what follows, by tcp\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET / HTTP/2\r\nHost: x\r\n\r\n", 400),
        (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (upgrade(Connection="close"), 426),
        (upgrade(Upgrade="h2c"), 426),
        (upgrade(Sec_WebSocket_Key=""), 400),
        (upgrade(Sec_WebSocket_Key="short"), 400),
        (upgrade(Sec_WebSocket_Version="8"), 400),
        (upgrade(Origin="https://evil.example"), 403),
        (upgrade(Bad="\r\nnot a header"), 400),
        (upgrade("/" + "x" * 9000), 414),
    ],
)
async def test_bad_upgrades(data: bytes, status: int, caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("ws://127.0.0.1:0?origin=good.example")
        head, _ = await request(listener.port, data)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        await until(lambda: "WebSocket upgrade refused" in caplog.text)


async def test_a_head_without_end(caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("ws://127.0.0.1:0")
        assert await request(listener.port, b"GET / HTTP/1.1\r\nX: " + b"x" * (MAX_HEAD + 10)) == (b"", b"")
        await until(lambda: f"HTTP head longer than {MAX_HEAD} bytes" in caplog.text)


@pytest.mark.parametrize("subprotocol", ["", "chat", "ygg-ws2, x"])
async def test_wrong_subprotocol(subprotocol: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("ws://127.0.0.1:0")
        head, rest = await request(listener.port, upgrade(Sec_WebSocket_Protocol=subprotocol))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert rest == frame(b"\x03\xf0client must speak the ygg-ws subprotocol", 8, masked=False)
        await until(lambda: "client must speak the ygg-ws subprotocol" in caplog.text)


async def test_other_spellings_of_the_subprotocol() -> None:
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("ws://127.0.0.1:0")
        hello = upgrade(Sec_WebSocket_Protocol="chat, YGG-ws") + frame(encode_handshake(KEY_B, b"", 0)) + frame(b"", 8)
        head, _ = await request(listener.port, hello)
        assert b"Sec-WebSocket-Protocol: ygg-ws" in head
        assert len(side.host.links) == 1


@pytest.mark.parametrize(
    ("origin", "patterns", "allowed"),
    [
        ("", [], True),
        ("https://peer.example:80", [], True),
        ("https://PEER.example:80", [], True),
        ("https://peer.example", [], False),
        ("https://a.example", ["*"], True),
        ("https://a.example", ["b.example", "A.example"], True),
        ("https://a.example", ["*.example"], True),
        ("https://a.b.example", ["*.example"], True),
        ("https://a.example", ["https://*.example"], True),
        ("http://a.example", ["https://*.example"], False),
        ("https://a.example", ["*/*"], False),
        ("https://a.example", ["?.example"], True),
        ("https://a.example", ["[a-c].example"], True),
        ("https://a.example", ["[^a-c].example"], False),
        ("https://a.example", [r"\a.example"], True),
        ("https://a.example", ["[", "a.example"], False),
        ("https://a.example", ["x\\", "a.example"], False),
        ("https://a.example", ["aXexample"], False),
        ("null", ["a.example"], False),
        ("https://[", ["a.example"], False),
    ],
)
def test_origins(origin: str, patterns: list[str], allowed: bool) -> None:
    assert origin_allowed(origin, "peer.example:80", patterns) is allowed


# -- the dialler ---------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def server_saying(answer: bytes) -> AsyncIterator[str]:
    """A server that answers any request with ``answer``, in which ACCEPT is replaced by what belongs there."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        protocol = ServerProtocol()
        protocol.receive_data(head)
        accept = protocol.process_request(protocol.events_received()[0])[0]  # type: ignore[arg-type]
        writer.write(answer.replace(b"ACCEPT", accept.encode()))
        asyncio.get_running_loop().call_later(0.05, writer.close)

    async with await asyncio.start_server(client, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ACCEPT\r\n"
)
VIOLATION = "failed to WebSocket dial: WebSocket protocol violation:"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "failed to WebSocket dial: EOF"),
        (b"HTTP/1.1 1", "failed to WebSocket dial: unexpected EOF"),
        (b"meta\r\n\r\n", 'failed to WebSocket dial: malformed HTTP response "meta"'),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000000\r\n\r\n",
            "failed to WebSocket dial: expected handshake response status code 101 but got 404",
        ),
        (b"HTTP/1.1 101 x\r\n\r\n", f"{VIOLATION} missing Connection header"),
        (
            SWITCH.replace(b"ACCEPT", b"nonsense") + b"\r\n",
            f"{VIOLATION} invalid Sec-WebSocket-Accept header: nonsense",
        ),
        (
            SWITCH + b"Sec-WebSocket-Protocol: chat\r\n\r\n",
            f"{VIOLATION} unsupported subprotocol: chat",
        ),
        (SWITCH + b"\r\n", "EOF"),  # no sub-protocol: Go does not mind either
        (SWITCH + b"\r\n" + frame(b"meta", masked=False)[:-1], "unexpected EOF"),
        (SWITCH + b"\r\n" + frame(b"\x03\xe8", 8, masked=False), "EOF"),
        (
            SWITCH + b"\r\n" + frame(b"\x03\xf0no", 8, masked=False),
            'received close frame: status = StatusPolicyViolation and reason = "no"',
        ),
        (
            SWITCH + b"\r\n" + frame(b"meta", 1, masked=False),
            "unexpected frame type read (expected MessageBinary): MessageText",
        ),
        (SWITCH + b"\r\n" + frame(b"meta"), "WebSocket protocol violation: incorrect masking"),
        (SWITCH + b"\r\n" + frame(b"", 3, masked=False), "WebSocket protocol violation: invalid opcode"),
        (
            SWITCH + b"\r\n" + frame(bytes(MAX_FRAME + 1), masked=False),
            "WebSocket protocol violation: frame with 1048577 bytes exceeds limit of 1048576 bytes",
        ),
        (SWITCH + b"\r\n" + frame(b"metameta", masked=False), "unexpected EOF"),
    ],
)
async def test_rude_servers(answer: bytes, reason: str) -> None:
    async with server_saying(answer) as uri, Side(KEY_A) as side:
        side.manager.add_peer(uri)
        await until(lambda: side.manager.links()[0].last_error is not None)
        assert side.manager.links()[0].last_error == reason


async def test_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "DIAL_TIMEOUT", 0.1)

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(client, "127.0.0.1", 0) as server, Side(KEY_A) as side:
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        side.manager.add_peer(f"ws://{here}")
        await until(lambda: side.manager.links()[0].last_error is not None)
        assert side.manager.links()[0].last_error == f"WebSocket handshake with {here}: i/o timeout"


# -- the stream ----------------------------------------------------------------------------------------------


def stream_pair(*, tcp: bool = True) -> tuple[WebSocketStream, SocketStream]:
    """A stream at the server's side of an upgrade that is done, and the bare other end."""
    one, two = socket_pair(tcp=tcp)
    protocol = ServerProtocol(max_size=MAX_FRAME, logger=websocket._QUIET)
    protocol.receive_data(upgrade())
    protocol.send_response(protocol.accept(protocol.events_received()[0]))  # type: ignore[arg-type]
    protocol.data_to_send()
    return WebSocketStream(SocketStream(one), protocol), SocketStream(two)


async def test_message_borders_mean_nothing() -> None:
    stream, peer = stream_pair()
    peer.write(frame(b"one", fin=False) + frame(b"ping", 9) + frame(b"tw", 0))
    peer.write(frame(b"", 2) + frame(b"o" + b"x" * 70000))
    assert await stream.read_exactly(2) == b"on"
    assert await stream.read_exactly(4) == b"etwo"
    assert await peer.read_exactly(6) == frame(b"ping", 10, masked=False)
    sink = StreamSink(stream)
    await until(lambda: sink.data == b"x" * 70000)
    peer.write(frame(b"more")[:5])
    await asyncio.sleep(0.01)
    peer.write(frame(b"more")[5:] + frame(b", and more", fin=False))
    await until(lambda: sink.data.endswith(b"more, and more"))
    peer.close()
    await until(lambda: sink.end == LinkEnd(CloseReason.EOF, "EOF"))


async def test_in_the_handshake_a_flood_stays_in_the_kernel() -> None:
    stream, peer = stream_pair()
    while not peer.buffered:
        peer.write(frame(bytes(1 << 15)))
    assert await stream.read_exactly(4) == bytes(4)
    await asyncio.sleep(0.02)
    assert len(stream._ahead) < 1 << 15
    assert peer.buffered > 0
    stream.close()
    with pytest.raises(StreamClosed, match="use of closed network connection"):
        await stream.read_exactly(1 << 16)
    peer.close()


async def test_back_pressure_of_writing() -> None:
    stream, peer = stream_pair()
    sink = StreamSink(stream)
    while not stream.buffered:
        stream.write(bytes(1 << 16))
    before = stream.buffered
    stream.write(b"last")
    assert stream.buffered == before + 6
    assert sink.writable == 0
    other = StreamSink(peer)
    await until(lambda: sink.writable == 1)
    assert stream.buffered == 0
    await until(lambda: other.data.endswith(b"\x82\x04last"))
    stream.close()
    await until(lambda: other.end is not None)
    assert other.data.endswith(b"\x88\x02\x03\xe8")
    peer.close()


async def test_a_peer_that_pings_and_does_not_read_is_cut_off() -> None:
    stream, peer = stream_pair()
    sink = StreamSink(stream)
    pings = frame(bytes(125), 9) * 500
    async with asyncio.timeout(20):
        while sink.end is None:
            if peer.buffered < 1 << 20:
                peer.write(pings)
            await asyncio.sleep(0)
            assert stream.buffered < 2 * MAX_PONG_BACKLOG
    assert sink.end.message == f"peer does not read: more than {MAX_PONG_BACKLOG} bytes wait"
    peer.close()


@pytest.mark.parametrize("cut", range(0, 40, 3))
async def test_early_close_at_any_byte(cut: int) -> None:
    stream, peer = stream_pair()
    whole = frame(b"first") + frame(b"second" * 3)
    peer.write(whole[:cut])
    peer.close()
    with pytest.raises(StreamClosed, match="EOF"):
        await stream.read_exactly(24)
    stream.close()
    stream.close()


async def test_closing_within_a_callback() -> None:
    stream, peer = stream_pair()
    sink = StreamSink(stream, stream.close)
    peer.write(frame(b"data") + frame(b"\x03\xe8", 8))
    await until(lambda: sink.data == b"data")
    await asyncio.sleep(0.01)
    assert sink.end is None
    stream.write(b"into the void")
    peer.close()


@pytest.mark.parametrize(
    ("uri", "host", "resource"),
    [
        ("ws://[2001:db8::1]:1/", "[2001:db8::1]", "/"),
        ("ws://bücher.example:1?ü=%20", "xn--bcher-kva.example", "/?%C3%BC=%20"),
        ("ws://h:1/ä?sni=x&%73ni=y&z=%26#fragment", "h", "/%C3%A4?z=%26"),
    ],
)
def test_requests_are_ascii(uri: str, host: str, resource: str) -> None:
    parsed = LinkUri.parse(uri)
    name, _ = dial.peer_host_and_port(parsed.host_port)
    assert websocket._host_header(name) == host
    assert websocket._target(parsed, name).resource_name == resource


async def test_no_payload_is_compressed() -> None:
    """A client that offers compression does not get it."""
    stream = ClientProtocol(websocket._target(LinkUri.parse("ws://h:1"), "h"))
    assert "Sec-WebSocket-Extensions" not in stream.connect().headers
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("ws://127.0.0.1:0")
        head, _ = await request(listener.port, upgrade(Sec_WebSocket_Extensions="permessage-deflate") + frame(b"", 8))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Extensions" not in head
