"""Streams of the native data plane before they are links: against each other, Python's ssl and the pure ones.

What an operator reads when a handshake fails must not depend on the data plane, so the texts are those of
``test_links_streams.py``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from pathlib import Path

import pytest

from tests.unit.datapath_bench import REMOTE
from tests.unit.links_fakes import KEY_B, socket_pair, until
from tests.unit.native_bench import (
    CLIENT,
    IDENTITY,
    SERVER,
    LiveBench,
    pattern,
    python_client,
    python_server,
    server_context,
    streams_between,
    trusting_context,
)
from yggpy.datapath._native import TlsContext, TlsError
from yggpy.datapath.base import ByteStream, StreamClosed, TlsIdentity, TlsParameters
from yggpy.datapath.certificate import make_identity
from yggpy.datapath.native_streams import NativeStream, open_stream
from yggpy.wire.frame import FrameType, encode_frame

PLANES = [("native", "native"), ("native", "pure"), ("pure", "native")]


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=PLANES, ids="-".join)
async def pair(request: pytest.FixtureRequest, tls: bool) -> tuple[ByteStream, ByteStream]:
    return await streams_between(tls=tls, planes=request.param)


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def native_and_socket(*, tcp: bool = False) -> tuple[NativeStream, socket.socket]:
    one, two = socket_pair(tcp=tcp)
    return await open_stream(one, None), two


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# -- the life of a handshake ---------------------------------------------------------------------------------


async def test_both_ends_read_what_the_other_wrote(pair: tuple[ByteStream, ByteStream]) -> None:
    one, two = pair
    assert one.local_address == two.remote_address and two.local_address == one.remote_address
    assert one.local_address.startswith("127.0.0.1:")
    one.write(b"header")
    one.write(b"body and what follows")
    two.write(b"meta")
    assert await two.read_exactly(6) == b"header"
    assert await two.read_exactly(4) == b"body"
    assert await one.read_exactly(4) == b"meta"
    assert await two.read_exactly(17) == b" and what follows"
    assert one.buffered == two.buffered == 0
    one.close()
    with pytest.raises(StreamClosed, match=r"^EOF$"):
        await two.read_exactly(1)
    two.close()


async def test_what_comes_in_drops_is_collected(tls: bool) -> None:
    one, two = await streams_between(tls=tls)
    reading = asyncio.ensure_future(two.read_exactly(20))
    for number in range(20):
        one.write(bytes([number]))
        await asyncio.sleep(0.001)
    assert await reading == bytes(range(20))
    assert await two.read_exactly(0) == b""
    one.close()
    two.close()


async def test_more_than_one_record_is_read_and_written(pair: tuple[ByteStream, ByteStream]) -> None:
    one, two = pair
    data = pattern(1, 300_000)
    one.write(data)
    two.write(data)
    received = await asyncio.gather(two.read_exactly(len(data)), one.read_exactly(len(data)))
    assert all(each == data for each in received)
    one.close()
    two.close()


async def test_writing_to_a_peer_that_does_not_read_is_buffered(tls: bool) -> None:
    one, two = await streams_between(tls=tls)
    size = 0
    while one.buffered == 0:
        one.write(bytes(1 << 16))
        size += 1 << 16
    one.write(b"last")
    assert one.buffered >= 4
    answering = asyncio.ensure_future(one.read_exactly(4))  # what waits is sent while somebody reads
    assert (await two.read_exactly(size + 4))[-4:] == b"last"
    two.write(b"okay")
    assert await answering == b"okay"
    assert one.buffered == 0
    one.close()
    two.close()


async def test_the_end_before_and_within(tls: bool) -> None:
    for words, text in ((b"", "EOF"), (b"meta\0", "unexpected EOF")):
        one, two = await streams_between(tls=tls)
        if words:
            two.write(words)
        two.close()
        with pytest.raises(StreamClosed) as caught:
            await one.read_exactly(6)
        assert str(caught.value) == text
        one.close()


async def test_an_end_without_close_notify_is_an_end() -> None:
    one, two = socket_pair(tcp=True)
    opening = asyncio.ensure_future(open_stream(one, SERVER))
    client = await asyncio.to_thread(python_client, two, trusting_context())
    stream = await opening
    socket.socket.close(client)
    with pytest.raises(StreamClosed, match=r"^EOF$"):
        await stream.read_exactly(1)
    stream.close()


async def test_a_reset_reads_as_go_prints_it() -> None:
    one, other = await native_and_socket(tcp=True)
    reset(other)
    with pytest.raises(StreamClosed) as caught:
        await one.read_exactly(1)
    expected = f"read tcp {one.local_address}->{one.remote_address}: read: connection reset by peer"
    assert str(caught.value) == expected
    one.close()


async def test_a_unix_socket_has_no_name() -> None:
    one, other = await native_and_socket()
    assert (one.local_address, one.remote_address) == ("@", "@")
    one.close()
    other.close()


async def test_a_socket_that_is_not_connected_any_more_is_refused() -> None:
    one, two = socket_pair(tcp=True)
    two.close()
    sock = socket.socket()
    with pytest.raises(StreamClosed, match="not connected"):
        await open_stream(sock, None)
    assert sock.fileno() == -1
    one.close()


async def test_closing_wakes_a_waiting_reader(tls: bool) -> None:
    one, two = await streams_between(tls=tls)
    reading = asyncio.ensure_future(one.read_exactly(1))
    await asyncio.sleep(0)
    one.close()
    with pytest.raises(StreamClosed, match=r"^use of closed network connection$"):
        await reading
    one.close()
    one.write(b"ignored")
    assert one.buffered == 0
    with pytest.raises(StreamClosed, match=r"^use of closed network connection$"):
        await one.read_exactly(1)
    with pytest.raises(StreamClosed, match=r"^EOF$"):
        await two.read_exactly(1)
    two.close()


async def test_a_cancelled_read_leaves_the_stream_usable(tls: bool) -> None:
    one, two = await streams_between(tls=tls)
    two.write(b"ok")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await one.read_exactly(4)
    two.write(b"ay")
    assert await one.read_exactly(4) == b"okay"
    one.close()
    two.close()


async def test_streams_that_were_forgotten_or_closed_hold_no_descriptor(tls: bool) -> None:
    before = open_descriptors()
    for _ in range(5):
        one, two = await streams_between(tls=tls)
        one.close()
        del two, one
    await asyncio.sleep(0)  # the loop itself still held the last one
    assert open_descriptors() == before


async def test_a_native_stream_does_not_start_by_itself() -> None:
    one, other = await native_and_socket()
    with pytest.raises(RuntimeError, match="native data plane"):
        one.start(lambda data: None, lambda end: None, lambda: None)
    one.close()
    other.close()


# -- becoming a link -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[10], [10, 4000, 1], [30_000, 5, 90_000]], ids=["one", "some", "large"])
async def test_what_was_read_ahead_is_not_lost(tls: bool, sizes: list[int]) -> None:
    async with LiveBench() as bench:
        one, two = await streams_between(tls=tls)
        frames = [(int(FrameType.ANNOUNCE), pattern(number, size)) for number, size in enumerate(sizes)]
        one.write(b"handshake" + b"".join(encode_frame(kind, payload) for kind, payload in frames))
        assert await two.read_exactly(9) == b"handshake"
        bench.datapath.attach_link(1, REMOTE, two)
        await until(lambda: bench.frames() == frames)
        assert bench.datapath.link_counters(1).bytes_received == sum(
            len(encode_frame(kind, payload)) for kind, payload in frames
        )
        one.close()


async def test_half_a_frame_read_ahead_meets_its_other_half(tls: bool) -> None:
    async with LiveBench() as bench:
        one, two = await streams_between(tls=tls)
        frame = encode_frame(FrameType.ANNOUNCE, pattern(1, 1000))
        one.write(b"hello" + frame[:500])
        assert await two.read_exactly(5) == b"hello"
        bench.datapath.attach_link(1, REMOTE, two)
        await asyncio.sleep(0.02)
        assert bench.frames() == []
        one.write(frame[500:])
        await until(lambda: bench.frames() == [(FrameType.ANNOUNCE, pattern(1, 1000))])
        one.close()


async def test_what_waits_to_be_written_goes_out_before_the_frames(tls: bool) -> None:
    async with LiveBench() as bench:
        one, two = await streams_between(tls=tls)
        size = 0
        while one.buffered == 0:
            one.write(bytes(1 << 14))
            size += 1 << 14
        bench.datapath.attach_link(1, REMOTE, one)
        bench.datapath.send_direct(1, FrameType.SIG_REQ, b"\1\2")
        expected = bytes(size) + encode_frame(FrameType.SIG_REQ, b"\1\2")
        assert await two.read_exactly(len(expected)) == expected
        two.close()


async def test_the_end_read_ahead_ends_the_link_after_its_frames(tls: bool) -> None:
    async with LiveBench() as bench:
        one, two = await streams_between(tls=tls)
        one.write(b"x" + encode_frame(FrameType.SIG_REQ, b"\1\2"))
        one.close()
        assert await two.read_exactly(1) == b"x"
        bench.datapath.attach_link(1, REMOTE, two)
        await until(lambda: bool(bench.ends()))
        assert [call[0] for call in bench.calls] == ["protocol_frame", "link_ended"]
        assert bench.ends()[0].message == "EOF"


async def test_a_stream_that_was_handed_over_is_not_closed_by_its_old_owner(tls: bool) -> None:
    async with LiveBench() as bench:
        one, two = await streams_between(tls=tls)
        bench.datapath.attach_link(1, REMOTE, two)
        two.close()
        two.write(b"ignored")
        with pytest.raises(StreamClosed):
            await two.read_exactly(1)
        one.write(encode_frame(FrameType.SIG_REQ, b"\1\2"))
        await until(lambda: bench.frames() == [(FrameType.SIG_REQ, b"\1\2")])
        assert bench.ends() == []
        one.close()


async def test_a_stream_is_handed_over_only_once() -> None:
    async with LiveBench() as bench:
        one, two = await streams_between(tls=False)
        bench.datapath.attach_link(1, REMOTE, two)
        with pytest.raises((OSError, ValueError)):
            bench.datapath.attach_link(2, REMOTE, two)
        one.close()


# -- TLS -----------------------------------------------------------------------------------------------------


async def test_the_server_speaks_tls_13_without_alpn_or_client_certificate() -> None:
    one, two = socket_pair(tcp=True)
    context = trusting_context()
    context.set_alpn_protocols(["h2", "ygg"])
    opening = asyncio.ensure_future(open_stream(one, SERVER))
    client = await asyncio.to_thread(python_client, two, context)
    stream = await opening
    assert client.version() == "TLSv1.3"
    assert client.selected_alpn_protocol() is None
    assert client.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(IDENTITY.certificate_pem.decode())
    assert stream.stream.description.startswith("TLSv1.3")
    await asyncio.to_thread(client.sendall, b"to the server")
    assert await stream.read_exactly(13) == b"to the server"
    stream.write(b"to the client")
    assert await asyncio.to_thread(client.recv, 100) == b"to the client"
    stream.close()
    assert await asyncio.to_thread(client.recv, 1) == b""  # close_notify, no ragged end
    client.close()


async def test_the_server_refuses_tls_12() -> None:
    one, two = socket_pair(tcp=True)
    context = trusting_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    opening = asyncio.ensure_future(open_stream(one, SERVER))
    with pytest.raises(ssl.SSLError):
        await asyncio.to_thread(python_client, two, context)
    with pytest.raises(StreamClosed, match=r"^tls: client offered only unsupported versions$"):
        await opening
    two.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("peer.example", "peer.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        (None, None),
        ("", None),
        (".bad", None),
        ("x" * 70 + ".example", None),
        ("192.0.2.1", None),
        ("2001:db8::1", None),
    ],
)
async def test_the_client_speaks_both_versions_and_sends_legal_names_only(
    version: ssl.TLSVersion, name: str | None, sent: str | None, tmp_path: Path
) -> None:
    context = server_context(tmp_path, make_identity(KEY_B))
    context.maximum_version = version
    names: list[str | None] = []
    context.sni_callback = lambda sock, server_name, ctx: names.append(server_name)
    one, two = socket_pair(tcp=True)
    opening = asyncio.ensure_future(open_stream(one, TlsParameters(IDENTITY, False, name)))
    server = await asyncio.to_thread(python_server, two, context)
    stream = await opening
    assert server.version() == {772: "TLSv1.3", 771: "TLSv1.2"}[version]
    assert names == [sent]
    data = pattern(2, 40_000)
    stream.write(data)
    received = b""
    while len(received) < len(data):
        received += await asyncio.to_thread(server.recv, len(data))
    assert received == data
    await asyncio.to_thread(server.sendall, data)
    assert await stream.read_exactly(len(data)) == data
    stream.close()
    assert await asyncio.to_thread(server.recv, 1) == b""
    server.close()


async def test_a_link_over_tls_12(tmp_path: Path) -> None:
    context = server_context(tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    one, two = socket_pair(tcp=True)
    opening = asyncio.ensure_future(open_stream(one, CLIENT))
    server = await asyncio.to_thread(python_server, two, context)
    frame = encode_frame(FrameType.ANNOUNCE, pattern(3, 50_000))
    async with LiveBench() as bench:
        bench.datapath.attach_link(1, REMOTE, await opening)
        for _ in range(3):
            await asyncio.to_thread(server.sendall, frame)
        await until(lambda: bench.frames() == 3 * [(FrameType.ANNOUNCE, pattern(3, 50_000))])
        bench.datapath.send_direct(1, FrameType.ANNOUNCE, pattern(3, 50_000))
        received = b""
        while len(received) < len(frame):
            received += await asyncio.to_thread(server.recv, len(frame))
        assert received == frame
    server.close()


async def test_no_tls_on_the_other_side() -> None:
    for words in (b"HTTP/1.0 400 Bad Request\r\n\r\n", b"meta\0\0\1\2\3\4\5\6\7\10"):
        one, two = socket_pair(tcp=True)
        two.send(words)
        with pytest.raises(StreamClosed, match=r"^tls: first record does not look like a TLS handshake$"):
            await open_stream(one, CLIENT)
        assert one.fileno() == -1
        two.close()


async def test_no_tls_from_a_client() -> None:
    one, two = socket_pair(tcp=True)
    two.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(StreamClosed, match=r"^tls: first record does not look like a TLS handshake$"):
        await open_stream(one, SERVER)
    two.close()


@pytest.mark.parametrize("parameters", [CLIENT, SERVER], ids=["client", "server"])
async def test_a_handshake_that_ends_or_is_cancelled_closes_the_socket(parameters: TlsParameters) -> None:
    one, two = socket_pair(tcp=True)
    two.close()
    with pytest.raises(StreamClosed):
        await open_stream(one, parameters)
    one, two = socket_pair(tcp=True)
    two.shutdown(socket.SHUT_WR)
    with pytest.raises(StreamClosed, match=r"^EOF$"):
        await open_stream(one, parameters)
    two.close()
    before = open_descriptors()
    one, two = socket_pair(tcp=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await open_stream(one, parameters)
    two.setblocking(True)
    two.settimeout(5)
    while two.recv(4096):
        pass
    two.close()
    assert open_descriptors() == before


async def test_a_cancelled_plain_handshake_closes_when_its_owner_does() -> None:
    one, other = await native_and_socket()
    reading = asyncio.ensure_future(one.read_exactly(100))
    await asyncio.sleep(0.01)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    one.close()
    other.setblocking(True)
    assert other.recv(1) == b""
    other.close()


@pytest.mark.parametrize(
    "identity",
    [
        TlsIdentity(b"", b""),
        TlsIdentity(b"no certificate", IDENTITY.private_key_pem),
        TlsIdentity(IDENTITY.certificate_pem, b"no key"),
        TlsIdentity(IDENTITY.certificate_pem, make_identity(KEY_B).private_key_pem),
        TlsIdentity(IDENTITY.certificate_pem[:200], IDENTITY.private_key_pem),
    ],
    ids=["empty", "certificate", "key", "of another", "cut"],
)
async def test_a_bad_certificate_is_told(identity: TlsIdentity) -> None:
    with pytest.raises(TlsError) as caught:
        TlsContext(identity.certificate_pem, identity.private_key_pem)
    assert str(caught.value)
    one, two = socket_pair(tcp=True)
    with pytest.raises(StreamClosed) as closed:
        await open_stream(one, TlsParameters(identity, True))
    assert str(closed.value)
    assert one.fileno() == -1
    two.close()


async def test_a_refused_certificate_reads_as_go_prints_it() -> None:
    one, two = socket_pair(tcp=True)
    context = trusting_context()
    context.verify_mode = ssl.CERT_REQUIRED
    opening = asyncio.ensure_future(open_stream(one, SERVER))
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(python_client, two, context)
    two.close()
    try:  # our side of TLS 1.3 may be done before the client looks at the certificate
        stream = await opening
        with pytest.raises(StreamClosed) as caught:
            await stream.read_exactly(1)
        stream.close()
    except StreamClosed as error:
        assert str(error).startswith("remote error: tls: ")
    else:
        assert str(caught.value).startswith("remote error: tls: ")
