"""Byte streams over socket pairs and loopback: both lives, plain and TLS, ends and errors."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Callable

import pytest

from tests.unit.links_fakes import KEY_A, KEY_B, socket_pair, stream_and_socket, until
from yggpy.datapath import streams
from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed, TlsParameters
from yggpy.datapath.certificate import make_identity
from yggpy.datapath.socktext import error_text, join_host_port, network_of, operation_error, sockaddr_text
from yggpy.datapath.streams import MAX_BUFFERED, READ_BUFFER, SocketStream, open_stream


class Sink:
    """Collects what a started stream delivers."""

    def __init__(self, stream: SocketStream, then: Callable[[], None] = lambda: None) -> None:
        self.data = bytearray()
        self.calls = 0
        self.end: LinkEnd | None = None
        self.ends = 0
        self.writable = 0
        self._then = then
        stream.start(self._on_data, self._on_end, self._on_writable)

    def _on_data(self, data: bytes | memoryview) -> None:
        self.calls += 1
        self.data += data
        self._then()

    def _on_end(self, end: LinkEnd) -> None:
        self.end = end
        self.ends += 1

    def _on_writable(self) -> None:
        self.writable += 1


async def stream_pair(*, tls: bool) -> tuple[SocketStream, SocketStream]:
    one, two = socket_pair(tcp=True)
    if not tls:
        return await open_stream(one, None), await open_stream(two, None)
    identity = make_identity(KEY_A)
    return await asyncio.gather(
        open_stream(one, TlsParameters(identity, False, "peer.example")),
        open_stream(two, TlsParameters(identity, True)),
    )


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_handshake_then_link_loses_nothing(tls: bool) -> None:
    one, two = await stream_pair(tls=tls)
    one.write(b"header")
    one.write(b"body and what follows")
    assert await two.read_exactly(6) == b"header"
    assert await two.read_exactly(4) == b"body"
    sink = Sink(two)
    one.write(b", more")
    await until(lambda: sink.data == b" and what follows, more")
    one.close()
    await until(lambda: sink.end is not None)
    assert sink.end == LinkEnd(CloseReason.EOF, "EOF")
    assert sink.ends == 1
    two.close()


async def test_large_transfer_arrives_in_order_and_reports_writable(tls: bool) -> None:
    one, two = await stream_pair(tls=tls)
    sink, source = Sink(two), Sink(one)
    sent = hashlib.sha256()
    for index in range(40):
        piece = bytes([index]) * (1 + index * 2000)
        sent.update(piece)
        one.write(piece)
    total = sum(1 + index * 2000 for index in range(40))
    assert 0 <= one.buffered <= total
    await until(lambda: len(sink.data) == total)
    assert hashlib.sha256(sink.data).digest() == sent.digest()
    await until(lambda: one.buffered == 0)
    assert source.writable <= 1
    assert sink.calls < 40 * 5
    one.close()
    two.close()


async def test_writable_comes_once_the_peer_reads(tls: bool) -> None:
    one, two = await stream_pair(tls=tls)
    source = Sink(one)
    while one.buffered == 0:
        one.write(bytes(1 << 16))
    buffered = one.buffered
    one.write(b"last")
    assert one.buffered == buffered + 4
    assert source.writable == 0
    sink = Sink(two)
    await until(lambda: source.writable == 1)
    assert one.buffered == 0
    await until(lambda: sink.data.endswith(b"last"))
    one.close()
    two.close()


async def test_small_pieces_are_joined_when_the_kernel_takes_data_again() -> None:
    one, other = stream_and_socket()
    while one.buffered == 0:
        one.write(bytes(1 << 16))
    for index in range(1000):
        one.write(struct.pack(">I", index))
    received = bytearray()
    while one.buffered or len(received) < 4000:
        await asyncio.sleep(0)
        try:
            received += other.recv(1 << 20)
        except BlockingIOError:
            if not one.buffered:
                break
    assert received[-4000:] == b"".join(struct.pack(">I", index) for index in range(1000))
    one.close()
    other.close()


async def test_peer_that_never_reads_is_cut_off() -> None:
    one, other = stream_and_socket()
    sink = Sink(one)
    for _ in range(MAX_BUFFERED // (1 << 20) + 2):
        one.write(bytes(1 << 20))
    await until(lambda: sink.end is not None)
    assert sink.end is not None
    assert sink.end.reason is CloseReason.ERROR
    assert "peer does not read" in sink.end.message
    assert one.buffered == 0
    other.close()


async def test_read_exactly_tells_eof_before_and_within() -> None:
    one, other = stream_and_socket()
    other.close()
    with pytest.raises(StreamClosed, match=r"^EOF$"):
        await one.read_exactly(6)
    one.close()
    one, other = stream_and_socket()
    other.send(b"meta\0")
    other.close()
    with pytest.raises(StreamClosed, match=r"^unexpected EOF$"):
        await one.read_exactly(6)
    one.close()


async def test_reset_reads_as_go_prints_it() -> None:
    one, other = stream_and_socket(tcp=True)
    reset(other)
    with pytest.raises(StreamClosed) as caught:
        await one.read_exactly(1)
    expected = f"read tcp {one.local_address}->{one.remote_address}: read: connection reset by peer"
    assert str(caught.value) == expected
    one.close()
    one, other = stream_and_socket(tcp=True)
    sink = Sink(one)
    reset(other)
    await until(lambda: sink.end is not None)
    assert sink.end == LinkEnd(
        CloseReason.ERROR, f"read tcp {one.local_address}->{one.remote_address}: read: connection reset by peer"
    )


async def test_last_words_are_delivered_although_writing_failed() -> None:
    one, other = stream_and_socket()
    other.send(b"goodbye")
    other.shutdown(socket.SHUT_RD)
    sink = Sink(one)
    one.write(b"too late")
    one.write(b"and again")
    await until(lambda: sink.end is not None)
    assert sink.data == b"goodbye"
    assert sink.end is not None and sink.end.reason is CloseReason.ERROR
    assert sink.end.message.endswith("write: broken pipe")
    other.close()


async def test_close_wakes_a_waiting_reader() -> None:
    one, other = stream_and_socket()
    reading = asyncio.ensure_future(one.read_exactly(1))
    await asyncio.sleep(0)
    one.close()
    with pytest.raises(StreamClosed):
        await reading
    one.close()
    one.write(b"ignored")
    assert one.buffered == 0
    other.close()


async def test_cancelled_read_leaves_the_stream_usable() -> None:
    one, other = stream_and_socket()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.read_exactly(4)
    other.send(b"okay")
    assert await one.read_exactly(4) == b"okay"
    one.close()
    other.close()


async def test_closing_within_on_data_ends_deliveries() -> None:
    one, other = stream_and_socket()
    other.send(b"first")
    sink = Sink(one, one.close)
    await until(lambda: sink.calls == 1)
    other.close()
    await asyncio.sleep(0.01)
    assert sink.calls == 1
    assert sink.end is None


async def test_idle_streams_hold_no_read_buffer_each() -> None:
    """Strangers may have thousands of links with us."""
    pairs = [await stream_pair(tls=False) for _ in range(20)]
    tracemalloc.start()
    try:
        sinks = [Sink(stream) for pair in pairs for stream in pair]
        assert tracemalloc.get_traced_memory()[0] < 2 * READ_BUFFER
    finally:
        tracemalloc.stop()
    for number, (one, two) in enumerate(pairs):
        one.write(b"%d" % number * 100)
        two.write(b"%d" % number * 200)
    await until(lambda: all(sink.data for sink in sinks))
    for number, (at_one, at_two) in enumerate(zip(sinks[::2], sinks[1::2], strict=True)):
        assert (bytes(at_one.data), bytes(at_two.data)) == (b"%d" % number * 200, b"%d" % number * 100)
    for stream in (stream for pair in pairs for stream in pair):
        stream.close()


async def test_read_ahead_is_delivered_within_start_and_may_close() -> None:
    one, other = stream_and_socket()
    other.send(b"headtail")
    assert await one.read_exactly(4) == b"head"
    sink = Sink(one, one.close)
    assert sink.data == b"tail"
    await asyncio.sleep(0.01)
    assert sink.end is None
    other.close()


async def test_bytes_inside_openssl_are_not_forgotten_at_start() -> None:
    one, two = await stream_pair(tls=True)
    one.write(bytes(range(200)) * 80)  # one record of 16000 bytes; the handshake reads a part of it
    assert await two.read_exactly(1) == b"\0"
    sink = Sink(two)
    await until(lambda: len(sink.data) == 15999)
    assert b"\0" + sink.data == bytes(range(200)) * 80
    one.close()
    two.close()


# -- TLS -----------------------------------------------------------------------------------------------------


def plain_python_client(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock.setblocking(True)
    return context.wrap_socket(sock, server_hostname="anything.example")


def trusting_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_server_speaks_tls_13_without_alpn_or_client_certificate() -> None:
    one, two = socket_pair(tcp=True)
    context = trusting_context()
    context.set_alpn_protocols(["h2", "ygg"])
    server = asyncio.ensure_future(open_stream(one, TlsParameters(make_identity(KEY_A), True)))
    client = await asyncio.to_thread(plain_python_client, two, context)
    stream = await server
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() is None
    certificate = client.getpeercert(binary_form=True)
    assert certificate is not None and KEY_A.public_key in certificate
    stream.close()
    assert await asyncio.to_thread(client.recv, 1) == b""  # close_notify, no ragged end
    client.close()


async def test_server_refuses_tls_12() -> None:
    one, two = socket_pair(tcp=True)
    context = trusting_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = asyncio.ensure_future(open_stream(one, TlsParameters(make_identity(KEY_A), True)))
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(plain_python_client, two, context)
    with pytest.raises(StreamClosed, match=r"^tls: client offered only unsupported versions$"):
        await server
    two.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["peer.example", None, ".bad", "x" * 70 + ".example", "192.0.2.1"])
async def test_client_speaks_both_versions_and_sends_legal_names_only(
    version: ssl.TLSVersion, name: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    identity = make_identity(KEY_B)
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert").write_bytes(identity.certificate_pem)
    (folder / "key").write_bytes(identity.private_key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    context.maximum_version = version
    names: list[str | None] = []
    context.sni_callback = lambda sock, server_name, ctx: names.append(server_name)
    one, two = socket_pair(tcp=True)
    two.setblocking(True)
    client = asyncio.ensure_future(open_stream(one, TlsParameters(make_identity(KEY_A), False, name)))
    server = await asyncio.to_thread(context.wrap_socket, two, True)
    stream = await client
    assert server.version() == {772: "TLSv1.3", 771: "TLSv1.2"}[version]
    assert names == ["peer.example" if name == "peer.example" else None]
    stream.write(b"hello")
    assert await asyncio.to_thread(server.recv, 5) == b"hello"
    stream.close()
    server.close()


async def test_no_tls_on_the_other_side() -> None:
    one, two = socket_pair(tcp=True)
    two.send(b"HTTP/1.0 400 Bad Request\r\n\r\n")
    with pytest.raises(StreamClosed, match=r"^tls: first record does not look like a TLS handshake$"):
        await open_stream(one, TlsParameters(make_identity(KEY_A), False))
    assert one.fileno() == -1
    two.close()


async def test_tls_handshake_that_ends_or_is_cancelled_closes_the_socket() -> None:
    one, two = socket_pair(tcp=True)
    two.close()
    with pytest.raises(StreamClosed):
        await open_stream(one, TlsParameters(make_identity(KEY_A), True))
    one, two = socket_pair(tcp=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await open_stream(one, TlsParameters(make_identity(KEY_A), True))
    two.setblocking(True)
    two.settimeout(5)
    assert two.recv(100) == b""
    two.close()


async def test_certificate_is_loaded_without_memfd_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    streams._server_context.cache_clear()
    one, two = await stream_pair(tls=True)
    one.write(b"x")
    assert await two.read_exactly(1) == b"x"
    one.close()
    two.close()


# -- texts ---------------------------------------------------------------------------------------------------


def test_addresses_are_printed_as_go_prints_them() -> None:
    assert sockaddr_text(socket.AF_INET, ("192.0.2.1", 5)) == "192.0.2.1:5"
    assert sockaddr_text(socket.AF_INET6, ("::1", 5, 0, 0)) == "[::1]:5"
    assert sockaddr_text(socket.AF_INET6, ("::ffff:192.0.2.1", 5, 0, 0)) == "192.0.2.1:5"
    assert sockaddr_text(socket.AF_INET6, ("fe80::1", 5, 0, socket.if_nametoindex("lo"))) == "[fe80::1%lo]:5"
    assert sockaddr_text(socket.AF_INET6, ("fe80::1", 5, 0, 999999)) == "[fe80::1%999999]:5"
    assert sockaddr_text(socket.AF_UNIX, "") == "@"
    assert sockaddr_text(socket.AF_UNIX, b"\0name") == "@name"
    assert sockaddr_text(socket.AF_UNIX, "/run/x") == "/run/x"
    assert join_host_port("fe80::1%eth0", 1) == "[fe80::1%eth0]:1"
    assert network_of(socket.AF_INET6) == "tcp"
    assert network_of(socket.AF_UNIX) == "unix"


def test_errors_are_printed_as_go_prints_them() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    text = operation_error("dial", "tcp", "10.77.0.2:5999", "connect", refused)
    assert text == "dial tcp 10.77.0.2:5999: connect: connection refused"
    assert operation_error("read", "tcp", "a->b", "read", TimeoutError()) == "read tcp a->b: i/o timeout"
    assert operation_error("listen", "tcp", "", "bind", OSError("odd")) == "listen tcp: odd"
    assert error_text(TimeoutError(110, "x")) == "connection timed out"
    assert error_text(TimeoutError("said so")) == "said so"
    assert error_text(OSError(5, "x")) == "input/output error"
    assert error_text(ValueError()) == "ValueError"
    alert = ssl.SSLError(1, "x")
    alert.reason = "TLSV1_ALERT_PROTOCOL_VERSION"
    assert error_text(alert) == "remote error: tls: protocol version"
    alert.reason = "SOMETHING_NEW"
    assert error_text(alert) == "tls: something new"
    assert error_text(ssl.SSLEOFError(8, "x")) == "EOF"
