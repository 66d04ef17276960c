"""Which proxy web links take by the environment, and that they take it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.interop.socks_server import SocksServer
from tests.unit.links_fakes import KEY_A, KEY_B, Side, until
from yggpy.links import websocket
from yggpy.links.resolve import TransportError
from yggpy.links.webproxy import WebProxy, web_proxy


@pytest.mark.parametrize(
    ("secure", "environment", "expected"),
    [
        (False, {}, None),
        (False, {"HTTP_PROXY": ""}, None),
        (False, {"HTTP_PROXY": "http://p:1"}, WebProxy("http", "p:1")),
        (False, {"http_proxy": "p"}, WebProxy("http", "p:80")),
        (False, {"HTTPS_PROXY": "p:1"}, None),
        (True, {"HTTPS_PROXY": "p:1"}, WebProxy("http", "p:1")),
        (True, {"HTTP_PROXY": "p:1"}, None),
        (True, {"https_proxy": "socks5://u:w%20d@[::1]"}, WebProxy("socks5", "[::1]:1080", b"u", b"w d")),
        (False, {"HTTP_PROXY": "p:1", "REQUEST_METHOD": "GET"}, None),
        (True, {"HTTPS_PROXY": "p:1", "REQUEST_METHOD": "GET"}, WebProxy("http", "p:1")),
    ],
)
def test_environment(secure: bool, environment: dict[str, str], expected: WebProxy | None) -> None:
    assert web_proxy(secure, "peer.example", 443, environment) == expected


@pytest.mark.parametrize(
    ("host", "exceptions", "through"),
    [
        ("peer.example", "", True),
        ("localhost", "", False),
        ("127.1.2.3", "", False),
        ("::1", "", False),
        ("peer.example", "*", False),
        ("peer.example", "other.example, PEER.example", False),
        ("peer.example", "example", False),
        ("peer.example", ".example", False),
        ("peer.example", "*.example", False),
        ("peer.example", ".peer.example", True),
        ("peer.example", "er.example", True),
        ("peer.example", "peer.example:443", False),
        ("peer.example", "peer.example:444", True),
        ("192.0.2.1", "192.0.2.1", False),
        ("192.0.2.1", "192.0.2.1:443", False),
        ("192.0.2.1", "192.0.2.0/24", False),
        ("192.0.2.1", "192.0.3.0/24,2001:db8::/32", True),
        ("2001:db8::1", "2001:db8::/32", False),
        ("192.0.2.1", ",, ", True),
    ],
)
def test_exceptions(host: str, exceptions: str, through: bool) -> None:
    proxy = web_proxy(True, host, 443, {"HTTPS_PROXY": "p:1", "NO_PROXY": exceptions})
    assert (proxy is not None) is through


@pytest.mark.parametrize("setting", ["https://p:1", "ftp://p", "http://[::1", "http://"])
def test_useless_settings(setting: str) -> None:
    with pytest.raises(TransportError, match="proxy"):
        web_proxy(True, "peer.example", 443, {"HTTPS_PROXY": setting})


async def http_proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One client of a proxy that knows ``CONNECT``, and one place: no names are looked up in this test."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if "Proxy-Authorization: Basic bWU6dG9v" not in head:
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        writer.close()
        return
    host, _, port = head.split()[1].rpartition(":")
    assert (head.split()[0], host) == ("CONNECT", "peer.example")
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def pump(source: asyncio.StreamReader, dest: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                dest.write(data)
        dest.close()

    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))


async def test_ws_link_through_an_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        await asyncio.start_server(http_proxy, "127.0.0.1", 0) as server,
        Side(KEY_A) as listening,
        Side(KEY_B) as dialling,
    ):
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        listener = await listening.manager.listen("ws://127.0.0.1:0")
        uri = f"ws://peer.example:{listener.port}"
        monkeypatch.setenv("HTTP_PROXY", f"http://{here}")
        dialling.manager.add_peer(uri)
        await until(lambda: dialling.status(uri).last_error is not None)
        error = dialling.status(uri).last_error
        assert error == f"failed to WebSocket dial: proxy {here}: 407 Proxy Authentication Required"
        monkeypatch.setenv("HTTP_PROXY", f"http://me:too@{here}")
        dialling.manager.retry_peers_now()
        await until(lambda: bool(dialling.host.links and listening.host.links))
        dialling.host.links[0].stream.write(b"frames")
        await until(lambda: listening.host.links[0].received == b"frames")
        await listening.manager.close()


async def test_ws_link_through_a_socks_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with SocksServer() as server, Side(KEY_A) as listening, Side(KEY_B) as dialling:
        monkeypatch.setattr(websocket, "web_proxy", lambda *_: WebProxy("socks5", f"127.0.0.1:{server.port}"))
        listener = await listening.manager.listen("ws://127.0.0.1:0")
        dialling.manager.add_peer(f"ws://localhost:{listener.port}")
        await until(lambda: bool(dialling.host.links and listening.host.links))
