"""Links over unix sockets, and over TCP through a SOCKS5 proxy on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.interop.socks_server import SocksServer
from tests.unit.links_fakes import KEY_A, KEY_B, Side, until
from yggpy.links import socks, unix


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ygg.sock"


# Functions of their own, since a test that awaits may not touch files itself.
write, read, remove, exists = Path.write_text, Path.read_text, Path.unlink, Path.exists


async def failure(uri: str) -> str:
    """Return why ``uri`` cannot be dialled."""
    async with Side(KEY_B) as side:
        side.manager.add_peer(uri)
        await until(lambda: side.manager.links()[0].last_error is not None)
        return str(side.manager.links()[0].last_error)


# -- unix ----------------------------------------------------------------------------------------------------


async def test_unix_link(path: Path) -> None:
    async with Side(KEY_A) as server, Side(KEY_B) as client:
        listener = await server.manager.listen(f"unix://{path}?password=x")
        assert listener.address == f"unix://{path}"
        assert listener.port == 0
        client.manager.add_peer(f"unix://{path}?password=x&key={KEY_A.public_key.hex()}")
        await until(lambda: bool(server.host.links and client.host.links))
        assert server.manager.links()[0].uri == f"unix://%40{path}"
        assert client.host.links[0].info.remote_address == str(path)
        assert client.host.links[0].info.local_address == "@"
        client.host.links[0].stream.write(b"frames")
        await until(lambda: server.host.links[0].received == b"frames")
        listener.close()
        await until(lambda: not exists(path))
        assert server.manager.links()[0].up


async def test_many_unix_clients_share_an_address(path: Path) -> None:
    """Go takes one at a time."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(Side(KEY_A))
        await server.manager.listen(f"unix://{path}")
        for number in (1, 2, 3):
            client = await stack.enter_async_context(Side(KEY_B))
            client.manager.add_peer(f"unix://{path}")
            await until(lambda number=number: len(server.host.links) == number)  # type: ignore[misc]
        assert {link.uri for link in server.manager.links()} == {f"unix://%40{n}{path}" for n in ("", "2", "3")}


async def test_unix_errors(path: Path) -> None:
    assert await failure(f"unix://{path}") == f"dial unix {path}: connect: no such file or directory"
    assert await failure("unix://" + "/x" * 60) == "dial unix " + "/x" * 60 + ": connect: invalid argument"
    write(path, "a file")
    assert await failure(f"unix://{path}") == f"dial unix {path}: connect: connection refused"
    async with Side(KEY_A) as side:
        with pytest.raises(OSError) as caught:
            await side.manager.listen(f"unix://{path}")
        assert str(caught.value) == f"listen unix {path}: bind: address already in use"
        assert read(path) == "a file"


async def test_a_socket_file_left_behind_is_taken_over_a_used_one_is_not(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with Side(KEY_A) as one, Side(KEY_B) as two:
        listener = await one.manager.listen(f"unix://{path}")
        with pytest.raises(OSError, match="address already in use"):
            await two.manager.listen(f"unix://{path}")
        remove(path)
        await two.manager.listen(f"unix://{path}")
        listener.close()
        await asyncio.sleep(0.02)
        assert exists(path)  # the other node's by now


async def test_full_backlog(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix, "UNIX_DIAL_TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as server, contextlib.ExitStack() as waiting:
        server.bind(str(path))
        server.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                sock = waiting.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(str(path))
        assert await failure(f"unix://{path}") == f"dial unix {path}: i/o timeout"


# -- socks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["socks", "sockstls"])
@pytest.mark.parametrize(
    ("login", "credentials"),
    [
        ("", None),
        ("user:word@", None),
        ("user:pass%40word@", (b"user", b"pass@word")),
        ("user@", (b"user", b"")),
        ("%C3%BC%FF:%E2%82%AC@", (b"\xc3\xbc\xff", b"\xe2\x82\xac")),
    ],
)
async def test_socks_link(scheme: str, login: str, credentials: tuple[bytes, bytes] | None) -> None:
    asked: list[str] = []
    async with (
        SocksServer(credentials=credentials, report=asked.append) as proxy,
        Side(KEY_A) as server,
        Side(KEY_B) as client,
    ):
        listener = await server.manager.listen("tls://127.0.0.1:0" if scheme == "sockstls" else "tcp://127.0.0.1:0")
        uri = f"{scheme}://{login}127.0.0.1:{proxy.port}/localhost:{listener.port}"
        client.manager.add_peer(uri)
        await until(lambda: bool(server.host.links and client.host.links))
        assert asked == [f"localhost {listener.port}"]
        assert client.host.links[0].info.remote_address == f"127.0.0.1:{proxy.port}"
        client.host.links[0].stream.write(b"frames")
        await until(lambda: server.host.links[0].received == b"frames")


async def test_socks_errors() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    async with SocksServer(credentials=(b"user", b"word")) as proxy:
        here = f"127.0.0.1:{proxy.port}"

        async def reason(login: str, target: str) -> str:
            text = await failure(f"socks://{login}{here}/{target}")
            start = f"socks connect tcp {here}->{target.partition('/')[0]}: "
            assert text.startswith(start)
            return text.removeprefix(start)

        assert await reason("", "peer.example:1") == "no acceptable authentication methods"
        assert await reason("user:wrong@", "peer.example:1") == "username/password authentication failed"
        assert await reason("user:word@", f"127.0.0.1:{closed}/more") == "unknown error connection refused"
        assert await reason("user:word@", "peer.example") == "address peer.example: missing port in address"
        assert await reason("user:word@", "peer.example:70000") == "port number out of range 70000"
        assert await reason("user:word@", "peer.example:x") == 'strconv.Atoi: parsing "x": invalid syntax'
        assert await reason("user:word@", "x" * 256 + ":1") == "FQDN too long"
        assert await reason("u" * 256 + ":word@", "peer.example:1") == "invalid username/password"
        assert "peer.example..:1: " in await failure(f"socks://user:word@{here}/peer.example..:1")
    assert await failure(f"socks://127.0.0.1:{closed}/peer.example:1") == (
        f"dial tcp 127.0.0.1:{closed}: connect: connection refused"
    )


@contextlib.asynccontextmanager
async def rude_proxy(answer: bytes, *, close: bool = True) -> AsyncIterator[str]:
    """A server that answers any first word with ``answer``."""

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer)
        if not close:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "EOF"),
        (b"\x05", "EOF"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unexpected protocol version 72"),
        (b"\x05\x00\x05\x02\x00", "unknown error connection not allowed by ruleset"),
        (b"\x05\x00\x05\x63\x00", "unknown error unknown code: 99"),
        (b"\x05\x00\x04\x00\x00", "unexpected protocol version 4"),
        (b"\x05\x00\x05\x00\x00\x09", "Invalid address type: 0X9"),
    ],
)
async def test_rude_proxies(answer: bytes, reason: str) -> None:
    async with rude_proxy(answer) as address:
        text = await failure(f"socks://{address}/peer.example:1")
        assert text == f"socks connect tcp {address}->peer.example:1: {reason}"


async def test_a_silent_proxy_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socks, "PROXY_TIMEOUT", 0.1)
    async with rude_proxy(b"\x05\x00", close=False) as address:
        text = await failure(f"socks://{address}/peer.example:1")
        assert text == f"socks connect tcp {address}->peer.example:1: i/o timeout"


async def test_a_removed_peering_leaves_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Callable[[], bool]] = []

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        ended.append(reader.at_eof)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(client, "127.0.0.1", 0) as server, Side(KEY_B) as side:
        uri = f"socks://127.0.0.1:{server.sockets[0].getsockname()[1]}/peer.example:1"
        side.manager.add_peer(uri)
        await until(lambda: bool(ended))
        assert not ended[0]()
        side.manager.remove_peer(uri)
        await until(ended[0])
