"""What the link manager does for multicast discovery: listeners for neighbours, and calls that are made once."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.unit.links_fakes import KEY_A, KEY_B, Side, until
from yggpy.datapath.base import ByteStream, CloseReason, LinkEnd
from yggpy.keys import PrivateKey
from yggpy.links.manager import AlreadyConfiguredError, LinkKind
from yggpy.links.resolve import TransportError
from yggpy.links.transports import Transport
from yggpy.links.uri import LinkOptions, LinkUri


class Call:
    """What became of one ``call_peer``."""

    def __init__(self, side: Side, port: int = 1000, *, key: PrivateKey = KEY_B, password: bytes = b"") -> None:
        self.events: list[str] = []
        side.manager.call_peer(
            "fe80::2",
            port,
            "eth0",
            key=key.public_key,
            priority=4,
            password=password,
            on_up=lambda: self.events.append("up"),
            on_end=lambda: self.events.append("end"),
            cost=50,
        )


class Detour:
    """A transport that dials loopback whatever it is told: a link-local address needs an interface that has one."""

    def __init__(self, tls: Transport, port: int) -> None:
        self._tls = tls
        self._uri = LinkUri.parse(f"tls://[::1]:{port}")
        self.dialled: list[tuple[str, str, LinkOptions]] = []

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        self.dialled.append((uri.host_port, interface, options))
        return await self._tls.dial(self._uri, options, "")

    async def close(self) -> None:
        await self._tls.close()


async def listening(server: Side, dialler: Side, monkeypatch: pytest.MonkeyPatch, password: bytes = b"") -> Detour:
    """Let ``server`` listen, and all that ``dialler`` dials end there."""
    listener = await server.manager.listen_local("::1", 0, "", priority=9, password=password, cost=60)
    detour = Detour(dialler.manager._transports["tls"], listener.port)
    monkeypatch.setattr(dialler.manager, "_transports", {"tls": detour})
    return detour


async def test_a_neighbour_is_called_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        detour = await listening(server, dialler, monkeypatch, b"secret")
        call = Call(dialler, password=b"secret")
        await until(lambda: bool(dialler.host.links and server.host.links))
        assert call.events == ["up"]
        [(address, interface, options)] = detour.dialled
        assert (address, interface) == ("[fe80::2%eth0]:1000", "eth0")
        assert options.pinned_keys == {KEY_B.public_key} and options.password == b"secret" and options.priority == 4
        assert options.cost == dialler.host.links[0].info.cost == 50 and server.host.links[0].info.cost == 60
        [status] = dialler.manager.links()
        assert (status.uri, status.interface) == ("tls://[fe80::2%25eth0]:1000", "eth0")
        assert status.kind is LinkKind.EPHEMERAL and status.priority == 9
        with pytest.raises(AlreadyConfiguredError):
            Call(dialler)
        dialler.host.links[0].end(LinkEnd(CloseReason.EOF, "EOF"))
        await until(lambda: call.events == ["up", "end"])
        assert dialler.manager.links() == [] and dialler.pauses.asked == []
        Call(dialler, password=b"secret")
        await until(lambda: len(dialler.host.links) == 2)


async def test_a_neighbour_with_another_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        await listening(server, dialler, monkeypatch)
        call = Call(dialler, key=PrivateKey.generate())
        await until(lambda: call.events == ["end"])
        assert dialler.host.links == []


async def test_a_call_that_fails_ends() -> None:
    async with Side(KEY_A) as dialler:
        call = Call(dialler)  # there is no such interface, or nobody there
        assert len(dialler.manager.links()) == 1
        dialler.manager.remove_peer("tls://[fe80::2%25eth0]:1000", "eth0")
        await until(lambda: call.events == ["end"])


async def test_neighbours_need_not_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B, allowed_keys=frozenset((bytes(32),))) as server:
        await listening(server, dialler, monkeypatch)
        Call(dialler)
        await until(lambda: bool(server.host.links))
        assert server.host.links[0].info.priority == 9


async def test_a_listener_that_cannot_be_had() -> None:
    async with Side(KEY_A) as node:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
            port = other.getsockname()[1]
            with pytest.raises(TransportError, match="address already in use"):
                await node.manager.listen_local("::1", port, "", priority=0, password=b"")
        with pytest.raises(TransportError, match='interface "nowhere" not found'):
            await node.manager.listen_local("fe80::1", 0, "nowhere", priority=0, password=b"")
        opening = asyncio.create_task(node.manager.listen_local("::1", 0, "", priority=0, password=b""))
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert node.manager.listeners == []


async def test_neighbours_on_unwanted_interfaces_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        await listening(server, dialler, monkeypatch, b"")
        plain = await server.manager.listen("tcp://127.0.0.1:0")
        call = Call(dialler)
        await until(lambda: bool(dialler.host.links and server.host.links))
        monkeypatch.undo()  # dial where it says again
        dialler.manager.add_peer(plain.address)
        await until(lambda: len(dialler.host.links) == len(server.host.links) == 2)
        for side in (dialler, server):
            assert side.manager.drop_neighbours(lambda interface: interface == "wlan0") == []
        assert dialler.manager.drop_neighbours(lambda interface: interface == "eth0") == ["tls://[fe80::2%25eth0]:1000"]
        await until(lambda: call.events == ["up", "end"])
        await until(lambda: len(server.manager.links()) == 1)
        assert [link.uri for link in dialler.manager.links()] == [plain.address]
        assert len(server.manager.drop_neighbours(lambda interface: True)) == 0


async def test_incoming_neighbours_are_let_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Side(KEY_A) as dialler, Side(KEY_B) as server:
        await listening(server, dialler, monkeypatch, b"")
        call = Call(dialler)
        await until(lambda: bool(dialler.host.links and server.host.links))
        assert len(server.manager.drop_neighbours(lambda interface: True)) == 1
        await until(lambda: call.events == ["up", "end"])
        assert server.manager.links() == []
