"""The admin socket itself: where it listens, what it does with old socket files, and with rude clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.unit.test_admin_commands import FakeNode
from yggpy import serving
from yggpy.admin import server as admin_server
from yggpy.admin.commands import Arguments, Command
from yggpy.admin.jsontext import EncodableJson
from yggpy.admin.server import AdminError, AdminServer

LOGGER = logging.getLogger("yggpy")
GET_TUN = b'{"request": "getTUN"}'
KEPT = b'{"request": "getTUN", "keepalive": true}'
WAIT = 10.0


def server_at(listen: str) -> AdminServer:
    return AdminServer(FakeNode({"enabled": False}), listen, LOGGER, "yggdrasil", "0.5.14")


@contextlib.asynccontextmanager
async def running(listen: str) -> AsyncIterator[AdminServer]:
    server = server_at(listen)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


class Client:
    """One connection to a server under test."""

    opened: ClassVar[list[asyncio.StreamWriter]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened.append(writer)
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, path: Path) -> Client:
        return cls(*await asyncio.open_unix_connection(str(path)))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> dict[str, Any]:
        """Return the next answer; each ends with a brace on a line of its own."""
        async with asyncio.timeout(WAIT):
            text = await self.reader.readuntil(b"\n}\n")
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def rest(self) -> bytes:
        """Return all that comes until the server closes."""
        async with asyncio.timeout(WAIT):
            return await self.reader.read()


@pytest.fixture(autouse=True)
async def _close_clients() -> AsyncIterator[None]:
    yield
    for writer in Client.opened:
        writer.transport.abort()
    Client.opened.clear()


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


async def test_a_unix_socket_serves_and_is_removed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yggpy")
    async with running(f"unix://{path}") as server:
        assert caplog.messages == [f"UNIX admin socket listening on {path}"]
        assert server.address == str(path)
        assert mode_of(path) == 0o660
        client = await Client.connect(path)
        client.send(GET_TUN)
        answer = json.loads(await client.rest())
        assert answer["response"] == {"enabled": False}
    assert names_in(path.parent) == []
    assert server.address == ""


async def test_a_burst_of_clients_is_not_refused(path: Path) -> None:
    """They come faster than the event loop turns; a unix socket whose queue is full refuses at once."""
    async with running(f"unix://{path}"):
        burst = [socket.socket(socket.AF_UNIX) for _ in range(200)]
        for client in burst:
            client.setblocking(False)
            client.connect(str(path))
            client.close()
        client_again = await Client.connect(path)
        client_again.send(GET_TUN)
        assert (await client_again.answer())["status"] == "success"


@pytest.mark.parametrize("listen", ["tcp://127.0.0.1:0", "127.0.0.1:0", "TCP://localhost:0", "localhost:0"])
async def test_a_tcp_socket_serves(listen: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yggpy")
    async with running(listen) as server:
        host, port = server.address.rsplit(":", 1)
        assert host == "127.0.0.1"
        assert caplog.messages == [f"TCP admin socket listening on {server.address}"]
        client = Client(*await asyncio.open_connection(host, int(port)))
        client.send(GET_TUN)
        assert json.loads(await client.rest())["status"] == "success"


async def test_ipv6_addresses_have_brackets() -> None:
    async with running("[::1]:0") as server:
        assert server.address.startswith("[::1]:")


async def test_an_address_that_others_can_reach_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    async with running("tcp://0.0.0.0:0"):
        assert "has no password and other machines may reach 0.0.0.0:" in caplog.text


@pytest.mark.parametrize("listen", ["none", ""])
async def test_no_socket(listen: str) -> None:
    async with running(listen) as server:
        assert server.address == ""


async def test_a_stale_socket_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with running(f"unix://{path}"):
        client = await Client.connect(path)
        client.send(GET_TUN)
        assert (await client.answer())["status"] == "success"


async def test_a_socket_in_use_is_left_alone(path: Path) -> None:
    async with running(f"unix://{path}"):
        complaint = r"admin\.sock already exists and is in use by another process; stop it, or change AdminListen$"
        with pytest.raises(AdminError, match=complaint):
            await server_at(f"unix://{path}").start()
        client = await Client.connect(path)
        client.send(GET_TUN)
        assert (await client.answer())["status"] == "success"


async def test_other_files_are_never_removed(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(AdminError, match="already exists and is not a socket; move it away"):
        await server_at(f"unix://{path}").start()
    assert names_in(path.parent) == [path.name]


async def test_the_socket_of_a_successor_is_not_removed(path: Path) -> None:
    async with running(f"unix://{path}"):
        os.rename(path, path.with_suffix(".old"))
        with socket.socket(socket.AF_UNIX) as successor:
            successor.bind(str(path))
    assert names_in(path.parent) == [path.with_suffix(".old").name, path.name]


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        (
            "unix:///no/such/directory/socket",
            "listen unix /no/such/directory/socket: bind: no such file or directory; make",
        ),
        ("unix://relative.sock", r"unix://relative\.sock has no path; write unix:///path"),
        ("tcp://127.0.0.1", r"listen tcp: address 127\.0\.0\.1: missing port in address; write"),
        ("nonsense", "listen tcp: address nonsense: missing port in address"),
        ("tcp://192.0.2.1:1", "listen tcp 192.0.2.1:1: bind: cannot assign requested address; change AdminListen"),
    ],
)
async def test_addresses_that_cannot_be_listened_on(listen: str, message: str) -> None:
    with pytest.raises(AdminError, match="^Admin socket failed to listen: .*" + message):
        await server_at(listen).start()


async def test_a_port_in_use_is_an_error() -> None:
    async with running("127.0.0.1:0") as server:
        with pytest.raises(AdminError, match="bind: address already in use; stop the program that uses it"):
            await server_at(server.address).start()


async def test_many_clients_at_once(path: Path) -> None:
    async with running(f"unix://{path}"):
        clients = [await Client.connect(path) for _ in range(40)]
        for client in clients:
            client.send(KEPT[:10])
        for client in clients:
            client.send(KEPT[10:] + GET_TUN)
        for client in clients:
            assert (await client.rest()).count(b'"status": "success"') == 2


async def test_a_long_command_does_not_hold_up_others(path: Path) -> None:
    release = asyncio.Event()

    async def wait(arguments: Arguments) -> EncodableJson:
        await release.wait()
        return {}

    async with running(f"unix://{path}") as server:
        server.commands.add(Command("wait", "", wait))
        slow, quick = await Client.connect(path), await Client.connect(path)
        slow.send(b'{"request": "wait"}')
        quick.send(GET_TUN)
        assert (await quick.answer())["status"] == "success"
        release.set()
        assert (await slow.answer())["status"] == "success"


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff", b"{" * 100, b'{"a":' * 100, b" " * 300_000])
async def test_junk_is_answered_and_closed(path: Path, sent: bytes) -> None:
    async with running(f"unix://{path}"):
        client = await Client.connect(path)
        client.send(sent)
        answer = await client.answer()
        assert answer["status"] == "error"
        assert await client.rest() == b""


async def test_a_client_may_close_its_side_first(path: Path) -> None:
    async with running(f"unix://{path}"):
        client = await Client.connect(path)
        client.send(KEPT)
        client.writer.write_eof()
        assert (await client.answer())["status"] == "success"
        assert (await client.answer())["error"] == "failed to find request"
        assert await client.rest() == b""


async def test_the_longest_idle_client_makes_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "MAX_CLIENTS", 3)
    async with running(f"unix://{path}"):
        clients = []
        for _ in range(3):
            client = await Client.connect(path)
            client.send(KEPT)
            await client.answer()
            clients.append(client)
        clients[0].send(KEPT)
        await clients[0].answer()
        newcomer = await Client.connect(path)
        newcomer.send(GET_TUN)
        assert (await newcomer.answer())["status"] == "success"
        assert await clients[1].rest() == b""
        for client in (clients[0], clients[2]):
            client.send(KEPT)
            assert (await client.answer())["status"] == "success"


async def test_busy_clients_are_not_thrown_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "MAX_CLIENTS", 2)
    started = asyncio.Semaphore(0)
    release = asyncio.Event()

    async def wait(arguments: Arguments) -> EncodableJson:
        started.release()
        await release.wait()
        return {}

    async with running(f"unix://{path}") as server:
        server.commands.add(Command("wait", "", wait))
        busy = [await Client.connect(path) for _ in range(2)]
        for client in busy:
            client.send(b'{"request": "wait"}')
            await started.acquire()
        refused = await Client.connect(path)
        assert await refused.rest() == b""
        release.set()
        for client in busy:
            assert (await client.answer())["status"] == "success"


async def test_idle_clients_are_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "IDLE_TIMEOUT", 0.05)
    async with running(f"unix://{path}"):
        client = await Client.connect(path)
        client.send(b'{"request": ')
        assert await client.rest() == b""


async def test_clients_that_do_not_read_are_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "WRITE_TIMEOUT", 0.05)

    started = asyncio.Event()

    async def much(arguments: Arguments) -> EncodableJson:
        started.set()
        return {"much": "x" * 4_000_000}

    async with running(f"unix://{path}") as server:
        server.commands.add(Command("much", "", much))
        with socket.socket(socket.AF_UNIX) as rude:
            rude.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(rude, str(path))
            await loop.sock_sendall(rude, b'{"request": "much"}')
            async with asyncio.timeout(WAIT):
                await started.wait()
                while server.client_count:  # noqa: ASYNC110 - the server has no event for us to wait for
                    await asyncio.sleep(0.01)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while data := await loop.sock_recv(rude, 1 << 20):
                    received += len(data)
            assert received < 4_000_000


async def test_clients_that_do_not_read_make_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "MAX_CLIENTS", 3)
    answered = asyncio.Semaphore(0)

    async def much(arguments: Arguments) -> EncodableJson:
        answered.release()
        return {"much": "x" * 4_000_000}

    async with running(f"unix://{path}") as server:
        server.commands.add(Command("much", "", much))
        rude = []
        for _ in range(3):
            client = await Client.connect(path)
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            client.send(b'{"request": "much"}')
            async with asyncio.timeout(WAIT):
                await answered.acquire()
            rude.append(client)
        await asyncio.sleep(0)  # the last one's answer is on its way
        newcomer = await Client.connect(path)
        newcomer.send(GET_TUN)
        assert (await newcomer.answer())["status"] == "success"


async def test_rude_clients_harm_nobody_else(path: Path) -> None:
    async with running(f"unix://{path}") as server:
        polite = await Client.connect(path)
        crowd = []
        for sent in (
            b"",
            b'{"request": "getT',
            b"x" * 300_000,
            KEPT * 2000,
            b"\0" * 10,
            b'{"request":"' + b"y" * 200_000,
        ):
            for _ in range(5):
                client = await Client.connect(path)
                client.reader._transport.pause_reading()  # type: ignore[attr-defined]
                client.send(sent)
                crowd.append(client)
        for _ in range(20):
            polite.send(KEPT)
            assert (await polite.answer())["status"] == "success"
        for client in crowd[::2]:
            client.writer.transport.abort()
        polite.send(KEPT)
        assert (await polite.answer())["status"] == "success"
        assert server.client_count <= admin_server.MAX_CLIENTS


async def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(AdminError, match=r"failed to listen: listen unix .*: bind: .*too long; .*AdminListen$"):
        await server_at(f"unix://{tmp_path}/{'x' * 120}").start()


async def test_a_socket_that_is_busy_is_in_use(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its queue of clients is full, so nobody answers in time; yet somebody listens."""
    monkeypatch.setattr(serving, "STALE_SOCKET_TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(2):
            client = waiting.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        with pytest.raises(AdminError, match="is in use by another process"):
            await server_at(f"unix://{path}").start()
    assert names_in(path.parent) == [path.name]


async def test_every_command_of_go_is_there(path: Path) -> None:
    async with running(f"unix://{path}"):
        client = await Client.connect(path)
        client.send(b'{"request": "list"}')
        shown = [entry["command"] for entry in (await client.answer())["response"]["list"]]
    assert shown == sorted(shown)
    assert set(shown) >= {
        "addpeer",
        "debug_remotegetpeers",
        "debug_remotegetself",
        "debug_remotegettree",
        "getmulticastinterfaces",
        "getnodeinfo",
        "getpaths",
        "getpeers",
        "getself",
        "getsessions",
        "gettree",
        "gettun",
        "list",
        "lookups",
        "removepeer",
    }


async def test_closing_drops_clients_and_leaves_nothing(path: Path) -> None:
    server = server_at(f"unix://{path}")
    await server.start()
    client = await Client.connect(path)
    client.send(KEPT)
    await client.answer()
    waiting = [await Client.connect(path) for _ in range(3)]
    await server.close()
    assert server.client_count == 0
    for each in [client, *waiting]:
        with contextlib.suppress(ConnectionResetError):  # those that had not been accepted yet
            assert await each.rest() == b""
    assert names_in(path.parent) == []
    await server.close()
