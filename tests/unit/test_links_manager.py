"""The link manager between two fake nodes on loopback: identities, kinds of links, back-off, strangers, log lines."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import IPv4Address

import pytest

from tests.unit.links_fakes import KEY_A, KEY_B, Side, stream_and_socket, until
from yggpy.address import Address
from yggpy.datapath.base import CloseReason, LinkEnd, StreamClosed
from yggpy.errors import PeerUriError, YggpyError
from yggpy.keys import PrivateKey
from yggpy.links import listener as listener_module
from yggpy.links import manager as manager_module
from yggpy.links import peering as peering_module
from yggpy.links.manager import AlreadyConfiguredError, LinkKind, NotConfiguredError
from yggpy.links.reasons import INCOMING_LINES_PER_MINUTE, IncomingFailureLog, explain, same_reason
from yggpy.links.resolve import Resolver
from yggpy.links.uri import LinkOptions, LinkUri
from yggpy.wire.handshake import encode_handshake

REFUSED = "tcp://127.0.0.1:1"


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= level and "test." in record.name]


@pytest.fixture(autouse=True)
def _log_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


async def receive(sock: socket.socket, count: int = 1000) -> bytes:
    """Read in a thread until ``count`` bytes or the end."""

    def read() -> bytes:
        data = b""
        try:
            while len(data) < count and (piece := sock.recv(count - len(data))):
                data += piece
        except ConnectionResetError:
            pass
        return data

    return await asyncio.to_thread(read)


# -- two nodes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["tcp", "tls", "TLS"])
async def test_link_comes_up_and_down(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen(f"{scheme}://127.0.0.1:0?priority=3&password=x&cost=20")
        assert listener.address == f"{scheme.lower()}://127.0.0.1:{listener.port}"
        dialler.manager.add_peer(f"{listener.address}?priority=7&password=x&cost=300&key={KEY_B.public_key.hex()}")
        await until(lambda: bool(dialler.host.links and server.host.links))
        out, into = dialler.host.links[0], server.host.links[0]
        assert (out.info.key, out.info.priority, out.info.kind) == (KEY_B.public_key, 7, LinkKind.PERSISTENT)
        assert (into.info.key, into.info.priority, into.info.inbound) == (KEY_A.public_key, 7, True)
        assert (out.info.cost, into.info.cost) == (300, 20)  # each side's own affair
        status = dialler.status(listener.address)
        assert status.up and not status.inbound and status.link_id == 1 and status.key == KEY_B.public_key
        assert status.established_at is not None
        assert (status.handshake_bytes_sent, status.handshake_bytes_received) == (123, 123)
        incoming = f"{scheme.lower()}://{out.info.local_address}"
        assert server.status(incoming).inbound and server.status(incoming).priority == 7
        out.stream.write(b"frames")
        await until(lambda: into.received == b"frames")
        into.end(LinkEnd(CloseReason.LOCAL))
        await until(lambda: dialler.pauses.pausing)
        assert not dialler.status(listener.address).up
        assert dialler.status(listener.address).last_error == "EOF"
        assert dialler.status(listener.address).key is None
        assert server.manager.links() == []
        assert dialler.pauses.asked == [2.0]
        dialler.pauses.end()
        await until(lambda: len(server.host.links) == 2 and dialler.status(listener.address).up)
        assert dialler.status(listener.address).last_error is None
    a, b, port = Address.for_key(KEY_A.public_key), Address.for_key(KEY_B.public_key), listener.port
    text = lines(caplog)
    assert f"{scheme.upper()} listener started on 127.0.0.1:{port}" in text
    assert f"{scheme.upper()} listener stopped on 127.0.0.1:{port}" in text
    assert f"Connected outbound: {b}@127.0.0.1:{port}, source {out.info.local_address}" in text
    assert f"Connected inbound: {a}@{out.info.local_address}, source 127.0.0.1:{port}" in text
    assert f"Disconnected outbound: {b}@127.0.0.1:{port}, source {out.info.local_address}" in text
    assert f"Disconnected inbound: {a}@{out.info.local_address}, source 127.0.0.1:{port}" in text


async def test_disconnection_by_an_error_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(dialler.host.links and server.host.links))
        dialler.host.links[0].end(LinkEnd(CloseReason.ERROR, "no answer for 3 s"))
        await until(lambda: dialler.pauses.pausing)
        assert dialler.status(listener.address).last_error == "no answer for 3 s"
    ended = [line for line in lines(caplog) if line.startswith("Disconnected outbound")]
    assert len(ended) == 1 and ended[0].endswith("; error: no answer for 3 s")


async def test_several_links_to_one_key() -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        for _ in range(2):
            dialler.manager.add_peer((await server.manager.listen("tcp://127.0.0.1:0")).address)
        await until(lambda: len(dialler.host.links) == 2 and len(server.host.links) == 2)
        assert {link.key for link in dialler.manager.links()} == {KEY_B.public_key}


# -- identities ----------------------------------------------------------------------------------------------


async def test_duplicates_are_refused_and_kick() -> None:
    async with Side(KEY_A) as side:
        side.manager.add_peer(REFUSED)
        await until(lambda: side.pauses.pausing)
        with pytest.raises(AlreadyConfiguredError, match=r"^peer is already configured$"):
            side.manager.add_peer("TCP://127.0.0.1:1?priority=4")
        await until(lambda: len(side.pauses.asked) == 2)
        assert side.pauses.asked == [2.0, 4.0]
        side.manager.add_peer(REFUSED, "lo")
        await until(lambda: len(side.pauses.asked) == 3)
        assert [(link.uri, link.interface) for link in side.manager.links()] == [(REFUSED, ""), (REFUSED, "lo")]
        side.manager.remove_peer(REFUSED + "?priority=9", "lo")
        assert [link.interface for link in side.manager.links()] == [""]


async def test_remove_peer() -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(dialler.host.links and server.host.links))
        dialler.manager.remove_peer(listener.address)
        assert dialler.manager.links() == []
        await until(server.host.links[0].ended.done)
        for uri in (listener.address, "", "tcp://127.0.0.1:2"):
            with pytest.raises(NotConfiguredError, match=r"^peer is not configured$"):
                dialler.manager.remove_peer(uri)
        with pytest.raises(PeerUriError, match=r"^parse "):
            dialler.manager.remove_peer("tcp://[::1")
        dialler.manager.add_peer(listener.address)  # at once, while the old one is still going
        await until(lambda: len(dialler.host.links) == 2)
        assert dialler.status(listener.address).up
        assert dialler.pauses.asked == []


async def test_remove_peer_closes_an_incoming_link() -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(dialler.host.links and server.host.links))
        server.manager.remove_peer(server.manager.links()[0].uri)
        assert server.manager.links() == []
        await until(dialler.host.links[0].ended.done)


async def test_refused_duplicate_leaves_the_existing_link_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        # As if every caller had one address, like the clients of a unix socket.
        monkeypatch.setattr(LinkUri, "with_host", lambda uri, host: uri)
        dialler.manager.add_peer(f"tcp://127.0.0.1:{listener.port}")
        await until(lambda: bool(server.host.links))
        sock = client(listener.port)
        assert await receive(sock) == b""
        sock.close()
        assert len(server.manager.links()) == 1
        server.manager.remove_peer(server.manager.links()[0].uri)
        await until(server.host.links[0].ended.done)


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("", "link schema unknown"),
        ("foo://127.0.0.1:1", "link schema unknown"),
        ("tcp://[::1", "parse \"tcp://[::1\": missing ']' in host"),
        ("tcp://127.0.0.1:1?priority=256", "priority value is invalid"),
        ("tcp://127.0.0.1:1?key=zz", "pinned public key is invalid"),
        ("unix:/x?key=zz", "pinned public key is invalid"),
    ],
)
async def test_add_peer_errors(uri: str, error: str) -> None:
    async with Side(KEY_A) as side:
        with pytest.raises(PeerUriError) as caught:
            side.manager.add_peer(uri)
        assert str(caught.value) == error
        assert side.manager.links() == []


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("foo://127.0.0.1:1", "link schema unknown"),
        ("socks://127.0.0.1:1", "link schema unknown"),
        ("wss://127.0.0.1:1", "WSS listener not supported, use WS listener behind reverse proxy instead"),
        ("unix:///no/such/folder/x", "listen unix /no/such/folder/x: bind: no such file or directory"),
        ("unix://" + "/x" * 60, "listen unix " + "/x" * 60 + ": bind: invalid argument"),
        ("tcp://127.0.0.1:0?priority=256", "priority value is invalid"),
        ("tcp://127.0.0.1", "listen tcp: address 127.0.0.1: missing port in address"),
    ],
)
async def test_listen_errors(uri: str, error: str) -> None:
    async with Side(KEY_A) as side:
        with pytest.raises(OSError) as caught:
            await side.manager.listen(uri)
        assert str(caught.value) == error
        with pytest.raises(PeerUriError):
            await side.manager.listen("tcp://[::1")
        assert side.manager.listeners == []


# -- failures of peerings ------------------------------------------------------------------------------------


async def test_backoff_doubles_and_kicks_end_it(caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as side:
        side.manager.add_peer(f"{REFUSED}?maxbackoff=10s")
        for attempt in range(1, 6):
            await until(lambda count=attempt: len(side.pauses.asked) == count and side.pauses.pausing)  # type: ignore[misc]
            if attempt == 3:
                side.manager.retry_peers_now()
            else:
                side.pauses.end()
        await until(lambda: len(side.pauses.asked) == 6)
        assert side.pauses.asked == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
        status = side.status(REFUSED)
        assert status.last_error == "dial tcp 127.0.0.1:1: connect: connection refused"
        assert status.last_error_at is not None and not status.up
    assert lines(caplog) == [f"Cannot peer with {REFUSED}: dial tcp 127.0.0.1:1: connect: connection refused"]


async def test_backoff_starts_again_after_a_handshake() -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        address = listener.address
        listener.close()
        await until(lambda: not server.manager.listeners)
        dialler.manager.add_peer(address)
        for count in (1, 2):
            await until(lambda count=count: len(dialler.pauses.asked) == count)  # type: ignore[misc]
            if count == 2:
                await server.manager.listen(address)
            dialler.pauses.end()
        await until(lambda: bool(dialler.host.links))
        dialler.host.links[0].end(LinkEnd(CloseReason.EOF, "EOF"))
        await until(lambda: len(dialler.pauses.asked) == 3)
        assert dialler.pauses.asked == [2.0, 4.0, 2.0]


async def test_connection_to_self_waits_for_a_kick() -> None:
    async with Side(KEY_A) as side:
        listener = await side.manager.listen("tcp://127.0.0.1:0")
        side.manager.add_peer(listener.address)
        await until(lambda: side.status(listener.address).last_error is not None)
        first = side.status(listener.address).last_error_at
        await asyncio.sleep(0.02)
        assert side.status(listener.address).last_error == "node cannot connect to self"
        assert side.pauses.asked == []
        assert side.host.links == []
        side.manager.retry_peers_now()
        await until(lambda: side.status(listener.address).last_error_at != first)
        assert side.pauses.asked == []


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("?password=wrong", "password does not match remote side"),
        ("?key=00", "node public key that does not match pinned keys"),
    ],
)
async def test_failed_handshakes_of_a_peering(query: str, error: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen(
            "tls://127.0.0.1:0?password=right" if "password" in query else "tls://127.0.0.1:0"
        )
        dialler.manager.add_peer(listener.address + query)
        await until(lambda: dialler.pauses.pausing)
        assert dialler.status(listener.address).last_error == error
        dialler.pauses.end()
        await until(lambda: len(dialler.pauses.asked) == 2)
        assert dialler.host.links == []
    reported = [line for line in lines(caplog) if line.startswith("Cannot peer with")]
    assert reported == [f"Cannot peer with {listener.address}: {explain(error)}"]
    assert "check" in reported[0]


async def test_silent_peer_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peering_module, "HANDSHAKE_TIMEOUT", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        async with Side(KEY_A) as side:
            side.manager.add_peer(f"tcp://{address}")
            await until(lambda: side.pauses.pausing)
            error = side.status(f"tcp://{address}").last_error
            assert error is not None
            assert error.startswith("read tcp 127.0.0.1:") and error.endswith(f"->{address}: i/o timeout")


async def test_ephemeral_peer_is_dialled_once(caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        dialler.manager.add_peer(REFUSED, kind=LinkKind.EPHEMERAL)
        await until(lambda: dialler.manager.links() == [])
        listener = await server.manager.listen("tls://127.0.0.1:0", local=True)
        dialler.manager.add_peer(listener.address, kind=LinkKind.EPHEMERAL)
        await until(lambda: bool(dialler.host.links))
        assert dialler.status(listener.address).kind is LinkKind.EPHEMERAL
        dialler.host.links[0].end(LinkEnd(CloseReason.EOF, "EOF"))
        await until(lambda: dialler.manager.links() == [])
        assert dialler.pauses.asked == []
    assert not any(line.startswith("Cannot peer with") for line in lines(caplog))


async def test_a_defect_does_not_end_a_peering(caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.host.broken = server.host.broken = True
        dialler.manager.add_peer(listener.address)
        await until(lambda: dialler.pauses.pausing)
        assert dialler.status(listener.address).last_error == "internal error: a defect"
        await until(lambda: any("Incoming connection" in line for line in lines(caplog, logging.ERROR)))
        dialler.host.broken = server.host.broken = False
        dialler.pauses.end()
        await until(lambda: bool(server.host.links))


# -- strangers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", "invalid handshake, remote side is not Yggdrasil"),
        (b"meta\0\x3f", "invalid handshake length, possible version mismatch"),
        (b"meta\xff\xff" + bytes(65535), "invalid handshake length, possible version mismatch"),
        (b"met", "unexpected EOF"),
        (b"", "EOF"),
        (encode_handshake(KEY_A)[:-1], "unexpected EOF"),
        (encode_handshake(KEY_A)[:-1] + b"\xff", "password does not match remote side"),
        (encode_handshake(KEY_A, minor=4), "remote node incompatible version (local 0.5, remote 0.4)"),
        (encode_handshake(KEY_B), "node cannot connect to self"),
    ],
)
async def test_junk_is_closed_with_a_reason(message: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        sock = client(listener.port)
        name = f"tcp://127.0.0.1:{sock.getsockname()[1]}"
        sock.sendall(message)
        sock.shutdown(socket.SHUT_WR)
        await receive(sock)
        sock.close()
        await until(lambda: any("failed" in line for line in lines(caplog)))
        assert f"Incoming connection {name} failed: {explain(reason)}" in lines(caplog)
        assert server.host.links == [] and server.manager.links() == []


async def test_junk_on_a_tls_listener(caplog: pytest.LogCaptureFixture) -> None:
    async with Side(KEY_B) as server:
        listener = await server.manager.listen("tls://127.0.0.1:0")
        sock = client(listener.port)
        sock.sendall(b"meta" + bytes(200))
        await receive(sock)
        sock.close()
        await until(lambda: any("first record does not look like a TLS handshake" in line for line in lines(caplog)))


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_silent_and_dripping_clients_hold_up_nobody(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "HANDSHAKE_TIMEOUT", 0.3)
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen(f"{scheme}://127.0.0.1:0")
        strangers = [client(listener.port) for _ in range(5)]
        strangers[0].send(b"m")
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(server.host.links))
        strangers[0].send(b"e")
        assert all([await receive(stranger) in (b"", encode_handshake(KEY_B)) for stranger in strangers])
        for stranger in strangers:
            stranger.close()
        assert len(server.manager.links()) == 1


async def test_too_many_handshakes_drop_the_oldest(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "MAX_PENDING_HANDSHAKES", 3)
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        strangers = [client(listener.port) for _ in range(4)]
        assert await receive(strangers[0]) in (b"", encode_handshake(KEY_B))  # and then the end
        assert any("too many handshakes at once" in line for line in lines(caplog))
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(server.host.links))
        for stranger in strangers:
            stranger.close()


async def test_established_links_do_not_count_as_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "MAX_PENDING_HANDSHAKES", 1)
    async with Side(KEY_A) as one, Side(PrivateKey.generate()) as two, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        for count, side in enumerate((one, two), 1):
            side.manager.add_peer(listener.address)
            await until(lambda count=count: len(server.manager.links()) == count)  # type: ignore[misc]


async def test_incoming_links_are_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(manager_module, "MAX_INCOMING_LINKS", 1)
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(server.host.links))
        sock = client(listener.port)
        assert await receive(sock) == b""
        sock.close()
        assert any("there are 1 incoming links already" in line for line in lines(caplog))
        dialler.manager.remove_peer(listener.address)
        await until(lambda: server.manager.links() == [])
        dialler.manager.add_peer(listener.address)
        await until(lambda: len(server.host.links) == 2)


@pytest.mark.parametrize("local", [False, True])
async def test_allowed_public_keys(local: bool, caplog: pytest.LogCaptureFixture) -> None:
    friend = PrivateKey.generate()
    async with Side(KEY_A) as stranger, Side(KEY_B, allowed_keys=frozenset((friend.public_key,))) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0", local=local)
        stranger.manager.add_peer(listener.address)
        if local:
            await until(lambda: bool(server.host.links))
            return
        reason = f'node public key "{KEY_A.public_key.hex()}" is not in AllowedPublicKeys'
        await until(lambda: any(line.endswith(reason) for line in lines(caplog)))
        assert server.host.links == []
        # Outgoing links are none of its business.
        other = await stranger.manager.listen("tcp://127.0.0.1:0")
        server.manager.add_peer(other.address)
        await until(lambda: bool(server.host.links))
        async with Side(friend) as allowed:
            allowed.manager.add_peer(listener.address)
            await until(lambda: len(server.host.links) == 2)


async def test_accept_survives_a_lack_of_descriptors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "ACCEPT_RETRY_DELAY", 0.0)
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        real, failures = listener._acceptor.accept, [OSError(24, "x"), OSError(24, "x")]

        async def accept() -> object:
            if failures:
                raise failures.pop()
            return await real()

        monkeypatch.setattr(listener._acceptor, "accept", accept)
        dialler.manager.add_peer(listener.address)
        await until(lambda: len(server.host.links) == 1)  # by the accept that was under way
        dialler.manager.remove_peer(listener.address)
        dialler.manager.add_peer(listener.address)
        await until(lambda: len(server.host.links) == 2)
    assert lines(caplog, logging.ERROR) == [f"Cannot accept on {listener.address}: too many open files; trying again"]


async def test_a_flood_of_connections_leaves_the_loop_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepting does not wait while connections are there, and whoever makes them may be faster than we are."""
    flood, others = 500, 0

    class Silent:
        def __init__(self, port: int) -> None:
            self.remote_address = f"192.0.2.1:{port}"

        async def open(self) -> None:
            await asyncio.get_running_loop().create_future()

        def close(self) -> None:
            pass

    async with Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        accepted: list[int] = []

        async def accept() -> Silent:
            if len(accepted) == flood:
                await asyncio.get_running_loop().create_future()
            accepted.append(others)
            return Silent(len(accepted))

        monkeypatch.setattr(listener._acceptor, "accept", accept)
        with client(listener.port):  # ends the accept that was under way
            async with asyncio.timeout(5):
                while len(accepted) < flood:
                    others += 1
                    await asyncio.sleep(0)
        assert len(set(accepted)) > flood // 10


# -- adopt, close --------------------------------------------------------------------------------------------


async def test_adopt_makes_links_of_any_stream() -> None:
    async with Side(KEY_A) as side:
        for number in (1, 2):
            stream, other = stream_and_socket()
            other.send(encode_handshake(KEY_B))
            await side.manager.adopt(stream, inbound=number == 1)
            other.close()
        assert [link.uri for link in side.manager.links()] in (["@", "@#2"], ["@#2"], [])
        await until(lambda: side.manager.links() == [])
        assert [link.info.inbound for link in side.host.links] == [True, False]


async def test_adopt_raises_what_the_handshake_raises() -> None:
    async with Side(KEY_A, allowed_keys=frozenset((KEY_A.public_key,))) as side:
        stream, other = stream_and_socket()
        other.send(encode_handshake(KEY_B))
        with pytest.raises(YggpyError, match="is not in AllowedPublicKeys"):
            await side.manager.adopt(stream, inbound=True)
        other.close()
        stream, other = stream_and_socket()
        other.close()
        with pytest.raises(StreamClosed):
            await side.manager.adopt(stream, inbound=False, options=LinkOptions(password=b"x"))
        stream, other = stream_and_socket()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await side.manager.adopt(stream, inbound=False)
        await until(lambda: side.manager.links() == [])
        other.setblocking(True)
        assert other.recv(1000) == encode_handshake(KEY_A)
        assert other.recv(1000) == b""
        other.close()


async def test_adopt_ends_with_the_manager() -> None:
    side = Side(KEY_A)
    stream, other = stream_and_socket()
    adopting = asyncio.ensure_future(side.manager.adopt(stream, inbound=False))
    await asyncio.sleep(0)
    await side.manager.close()
    with pytest.raises(StreamClosed, match="the node is closed"):  # not a cancellation: nobody cancelled the caller
        await adopting
    other.setblocking(True)
    assert other.recv(1000) in (b"", encode_handshake(KEY_A))
    other.close()


async def test_a_removed_link_tells_whoever_adopts_it() -> None:
    async with Side(KEY_A) as side:
        stream, other = stream_and_socket()
        adopting = asyncio.ensure_future(side.manager.adopt(stream, inbound=False))
        await until(lambda: bool(side.manager.links()))
        await asyncio.sleep(0)
        side.manager.remove_peer("@")
        with pytest.raises(StreamClosed):
            await adopting
        other.close()


async def test_nothing_begins_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    side = Side(KEY_A)
    resolving = asyncio.get_running_loop().create_future()

    async def addresses(resolver: Resolver, host: str) -> list[IPv4Address]:
        await resolving
        return [IPv4Address("127.0.0.1")]

    monkeypatch.setattr(Resolver, "addresses", addresses)
    listening = asyncio.ensure_future(side.manager.listen("tcp://a-name.example:0"))
    await asyncio.sleep(0)
    await side.manager.close()
    resolving.set_result(None)
    for late in (listening, side.manager.listen("tcp://127.0.0.1:0")):
        with pytest.raises(OSError, match="the node is closed"):
            await late
    assert side.manager.listeners == []
    stream, other = stream_and_socket()
    with pytest.raises(StreamClosed, match="the node is closed"):
        await side.manager.adopt(stream, inbound=True)
    other.setblocking(True)
    assert other.recv(1000) == b""
    other.close()


async def test_close_ends_everything_in_every_state() -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        silent = socket.create_server(("127.0.0.1", 0))
        stranger = client(listener.port)
        dialler.manager.add_peer(listener.address)  # established
        dialler.manager.add_peer(REFUSED)  # backing off
        dialler.manager.add_peer(f"tcp://127.0.0.1:{silent.getsockname()[1]}")  # in the handshake
        await until(lambda: bool(server.host.links) and dialler.pauses.pausing)
        async with asyncio.timeout(5):
            await dialler.manager.close()
            await server.manager.close()
            await server.manager.close()
        assert server.manager.links() == [] and server.manager.listeners == []
        assert all(link.ended.done() for link in server.host.links + dialler.host.links)
        with pytest.raises(PeerUriError, match="closed"):
            dialler.manager.add_peer("tcp://127.0.0.1:2")
        stranger.close()
        silent.close()
        with pytest.raises(ConnectionRefusedError):
            client(listener.port)


async def test_a_listener_closed_just_when_somebody_comes(caplog: pytest.LogCaptureFixture) -> None:
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        await asyncio.sleep(0.01)
        with client(listener.port) as stranger:
            await asyncio.sleep(0)  # the loop finds the socket readable, and runs this first
            listener.close()
            assert await receive(stranger) == b""
    assert problems == []


async def test_closing_a_listener_keeps_its_links() -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(server.host.links and dialler.host.links))
        listener.close()
        listener.close()
        await asyncio.sleep(0.02)
        assert server.manager.listeners == []
        dialler.host.links[0].stream.write(b"still here")
        await until(lambda: server.host.links[0].received == b"still here")


# -- reasons -------------------------------------------------------------------------------------------------


def test_reasons_are_compared_without_our_own_port() -> None:
    assert same_reason("read tcp 1.2.3.4:5->6.7.8.9:1: i/o timeout", "read tcp 1.2.3.4:6->6.7.8.9:1: i/o timeout")
    assert not same_reason("EOF", None)
    assert same_reason(None, None)
    assert not same_reason("dial tcp 6.7.8.9:1: i/o timeout", "dial tcp 6.7.8.9:2: i/o timeout")


def test_a_flood_of_failures_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = logging.getLogger("test.flood")
    failures = IncomingFailureLog(log, lambda: now[0])
    for _ in range(INCOMING_LINES_PER_MINUTE + 30):
        failures.report("tcp://192.0.2.1:1", "EOF")
    assert len(lines(caplog)) == INCOMING_LINES_PER_MINUTE
    now[0] = 61.0
    failures.report("tcp://192.0.2.1:1", "EOF")
    assert lines(caplog)[-2] == "30 more incoming connections failed (log level debug shows them)"
    assert len(lines(caplog)) == INCOMING_LINES_PER_MINUTE + 2
