"""The HTTP endpoint on a real socket: what it answers, and clients that are slow, rude or many."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.unit.links_fakes import until
from yggpy.config import Config
from yggpy.datapath.base import PlaneCounters
from yggpy.monitoring import HTTP_ENDPOINT, http
from yggpy.monitoring import endpoint as endpoint_module
from yggpy.monitoring.endpoint import MonitoringEndpoint
from yggpy.node import Node
from yggpy.serving import ServingError

LOG = logging.getLogger("test.http")
WAIT = 20.0
GET = "GET {} HTTP/1.1\r\nHost: node\r\n{}\r\n"


@pytest.fixture
async def endpoint() -> AsyncIterator[MonitoringEndpoint]:
    config = Config(if_name="none", admin_listen="none", multicast_interfaces=[], listen=["tcp://127.0.0.1:0"])
    async with Node(config) as node:
        server = MonitoringEndpoint(node, LOG)
        assert await server.listen("127.0.0.1:0")
        yield server
        await server.close()


async def connect(endpoint: MonitoringEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = endpoint.address.rsplit(":", 1)
    return await asyncio.open_connection(host, int(port))


async def exchange(endpoint: MonitoringEndpoint, sent: str | bytes) -> bytes:
    """Return all that is answered until the server closes."""
    reader, writer = await connect(endpoint)
    writer.write(sent.encode() if isinstance(sent, str) else sent)
    async with asyncio.timeout(WAIT):
        answer = await reader.read()
    writer.close()
    return answer


async def get(endpoint: MonitoringEndpoint, path: str, headers: str = "") -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the answer to a request of its own."""
    answer = await exchange(endpoint, GET.format(path, f"Connection: close\r\n{headers}"))
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    found = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    assert int(found["content-length"]) == len(body)
    return int(first.split()[1]), found, body


async def test_pages(endpoint: MonitoringEndpoint) -> None:
    status, headers, body = await get(endpoint, "/healthz")
    assert (status, body) == (200, b"up\n")
    assert (headers["content-type"], headers["cache-control"]) == ("text/plain; charset=utf-8", "no-store")
    status, _, body = await get(endpoint, "/readyz?verbose=1")
    assert (status, body[:22]) == (200, b"ready: root by intent:")
    status, headers, body = await get(endpoint, "/metrics", "Accept: text/plain\r\n")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert b"\nyggpy_ready 1.0\n" in body
    status, headers, _ = await get(endpoint, "/readyz", "Accept: application/json\r\n")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert (await get(endpoint, "http://elsewhere/healthz"))[0] == 200
    assert (await get(endpoint, "/healthz?from=http://elsewhere/metrics"))[2] == b"up\n"


@pytest.mark.parametrize("path", ["/", "/health", "/metrics/", "/../metrics", "//metrics", "*", "/%6detrics"])
async def test_other_paths_are_not_found(endpoint: MonitoringEndpoint, path: str) -> None:
    status, _, body = await get(endpoint, path)
    assert status == 404
    assert b"/healthz, /readyz, /metrics" in body


async def test_a_head_has_no_body(endpoint: MonitoringEndpoint) -> None:
    answer = await exchange(endpoint, "HEAD /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 3\r\n" in answer.lower()
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ("Content-Length: 9000", b"x" * 9000, 413),
        ("Transfer-Encoding: chunked", b"no length\r\n", 400),
        ("Content-Length: 5", b"x", None),
    ],
)
async def test_a_head_whose_body_is_wrong_has_no_answer_body_either(
    endpoint: MonitoringEndpoint,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    headers: str,
    body: bytes,
    status: int | None,
) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 20.0 if status else 0.2)
    answer = await exchange(endpoint, f"HEAD /metrics HTTP/1.1\r\nHost: node\r\n{headers}\r\n\r\n".encode() + body)
    await until(lambda: endpoint.client_count == 0)
    if status is None:
        assert answer == b""
    else:
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert answer.endswith(b"\r\n\r\n")
    assert [record.message for record in caplog.records if record.levelno > logging.DEBUG] == []


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,*/*;q=0.1", "openmetrics"),
        ("application/openmetrics-text;version=nonsense", "openmetrics"),
        ("Application/OpenMetrics-Text; version=99999999999.1", "openmetrics"),
        ("application/openmetrics-text;version=0.0.1;q=0.5,text/plain", "openmetrics"),
        ("text/plain;version=1.0.0;escaping=dots", "plain"),
        ("text/plain;version=nonsense", "plain"),
        ("text/html", "plain"),
        ("\xe9,;;=,", "plain"),
        ("", "plain"),
    ],
)
async def test_what_is_accepted_chooses_between_two_formats(
    endpoint: MonitoringEndpoint, caplog: pytest.LogCaptureFixture, accept: str, content_type: str
) -> None:
    head = f"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\nAccept: {accept}\r\n\r\n"
    answer = await exchange(endpoint, head.encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer[:200]
    types = {"openmetrics": b"application/openmetrics-text; version=1.0.0;", "plain": b"text/plain; version=0.0.4;"}
    assert b"content-type: " + types[content_type] in answer
    assert b"\nyggpy_ready 1.0\n" in answer
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


async def test_no_way_to_ask_makes_metrics_more_often(
    endpoint: MonitoringEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_module, "METRICS_LIFE", 1000.0)
    made: list[PlaneCounters] = []

    def status_counters(collect: Callable[[], PlaneCounters] = endpoint._node.status_counters) -> PlaneCounters:
        made.append(collect())
        return made[-1]

    monkeypatch.setattr(endpoint._node, "status_counters", status_counters)
    for number in range(20):
        accept = f"Accept: application/openmetrics-text;version=1.0.{number},text/plain;version=1.{number}\r\n"
        assert (await get(endpoint, "/metrics", accept))[0] == 200
        assert (await get(endpoint, "/metrics"))[0] == 200
    assert len(made) == 2, "once in each format"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "get"])
async def test_other_methods_are_not_allowed(endpoint: MonitoringEndpoint, method: str) -> None:
    answer = await exchange(endpoint, f"{method} /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"allow: get, head\r\n" in answer.lower()


async def test_a_connection_is_kept_and_requests_may_come_together(endpoint: MonitoringEndpoint) -> None:
    close = GET.format("/nothing", "Connection: close\r\n")
    body = "POST /healthz HTTP/1.1\r\nHost: node\r\nContent-Length: 4\r\n\r\nbody"
    answer = await exchange(endpoint, GET.format("/healthz", "") + body + GET.format("/healthz", "") + close)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 405, 200, 404]
    assert (await exchange(endpoint, "GET /healthz HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\nup\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: nonsense\r\n\r\n", 501),
        (b"GET /" + b"a" * 20000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 9000, 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", None),
        (b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n", 405),
    ],
)
async def test_what_is_no_request_is_told_so(
    endpoint: MonitoringEndpoint, sent: bytes, status: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if status is None:  # the rest of it never comes
        monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.2)
        assert await exchange(endpoint, sent) == b""
    else:
        answer = await exchange(endpoint, sent)
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
        assert b"connection: close\r\n" in answer.lower()
    assert (await get(endpoint, "/healthz"))[0] == 200


async def test_slow_clients_are_closed(endpoint: MonitoringEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "REQUEST_TIMEOUT", 0.2)
    reader, writer = await connect(endpoint)
    closed = asyncio.create_task(reader.read())
    async with asyncio.timeout(WAIT):
        for letter in "GET /healthz HTTP/1.1\r\nX-Slow: " + "x" * 10_000:
            if closed.done():
                break
            writer.write(letter.encode())
            await asyncio.sleep(0.01)
        with contextlib.suppress(ConnectionResetError):  # what is unread when a connection is closed
            assert await closed == b""
    writer.close()


async def test_idle_clients_are_closed(endpoint: MonitoringEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_TIMEOUT", 0.1)
    answer = await exchange(endpoint, GET.format("/healthz", ""))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_clients_that_do_not_read_are_closed(
    endpoint: MonitoringEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "WRITE_TIMEOUT", 0.1)
    monkeypatch.setattr(http, "PAUSE", 0.0)
    large = http.Answer(200, bytes(1 << 20))
    monkeypatch.setattr(endpoint, "answer", lambda request: large)
    _, writer = await connect(endpoint)
    writer.write(GET.format("/metrics", "").encode() * 50)
    await until(lambda: endpoint.client_count == 1)
    await until(lambda: endpoint.client_count == 0)
    writer.close()


async def test_idlers_make_room_for_whoever_asks(endpoint: MonitoringEndpoint) -> None:
    idlers = [await connect(endpoint) for _ in range(3 * endpoint_module.MAX_CLIENTS)]
    for number in range(20):
        assert (await get(endpoint, "/readyz"))[0] == 200, number
    assert endpoint.client_count <= endpoint_module.MAX_CLIENTS
    for _, writer in idlers:
        writer.close()
    await until(lambda: endpoint.client_count == 0)


async def test_a_client_that_asks_without_end_does_not_keep_the_node_busy(endpoint: MonitoringEndpoint) -> None:
    reader, writer = await connect(endpoint)
    writer.write(GET.format("/metrics", "").encode() * 2000)
    reading = asyncio.create_task(reader.read())
    turns = 0
    async with asyncio.timeout(WAIT):
        while endpoint._requests["/metrics", 200] < 5:
            turns += 1
            await asyncio.sleep(0)
    assert turns > 20, "the event loop goes round between two answers"
    assert (await get(endpoint, "/healthz"))[0] == 200
    writer.close()
    reading.cancel()


async def test_a_flood_of_connections_that_break(endpoint: MonitoringEndpoint) -> None:
    for number in range(200):
        _, writer = await connect(endpoint)
        writer.write(GET.format("/metrics", "").encode()[: number % 40])
        writer.transport.abort()
    assert (await get(endpoint, "/healthz"))[0] == 200
    await until(lambda: endpoint.client_count == 0)


# -- where it listens ----------------------------------------------------------------------------------------


async def test_it_moves_and_goes_as_it_is_told(endpoint: MonitoringEndpoint, tmp_path: Path) -> None:
    before = endpoint.address
    assert await endpoint.listen(f"unix://{tmp_path}/s")
    assert not await endpoint.listen(f"unix://{tmp_path}/s")
    with pytest.raises(OSError):
        await asyncio.open_connection(*before.rsplit(":", 1))
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    writer.write(GET.format("/healthz", "Connection: close\r\n").encode())
    assert (await reader.read()).endswith(b"up\n")
    writer.close()
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o660
    assert await endpoint.listen("none")
    assert not await endpoint.listen("")
    assert (endpoint.address, (tmp_path / "s").exists()) == ("", False)


async def test_an_address_that_is_taken(endpoint: MonitoringEndpoint) -> None:
    other = MonitoringEndpoint(endpoint._node, LOG)
    advice = "address already in use; stop the program that uses it, or change HTTPListen"
    with pytest.raises(ServingError, match=advice):
        await other.listen(endpoint.address)
    assert other.address == ""
    assert await other.listen("127.0.0.1:0"), "that can be mended"
    await other.close()


async def test_it_stays_where_it_is_if_the_other_address_cannot_be_had(endpoint: MonitoringEndpoint) -> None:
    before = endpoint.address
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        for _ in range(2):
            with pytest.raises(ServingError, match=f"address already in use.*it goes on at {before}"):
                await endpoint.listen(taken)
            assert endpoint.address == before
            assert (await get(endpoint, "/healthz"))[0] == 200
    assert await endpoint.listen(taken), "the next reload tries again"
    assert (await get(endpoint, "/healthz"))[0] == 200


async def test_it_can_move_to_an_address_that_overlaps_its_own(endpoint: MonitoringEndpoint, tmp_path: Path) -> None:
    port = endpoint.address.rsplit(":", 1)[1]
    assert await endpoint.listen(f"0.0.0.0:{port}")
    assert endpoint.address == f"0.0.0.0:{port}"
    assert await endpoint.listen(f"127.0.0.1:{port}")
    with pytest.raises(ServingError, match="it goes on at"):
        await endpoint.listen(f"192.0.2.1:{port}")
    assert (await get(endpoint, "/healthz"))[0] == 200
    assert await endpoint.listen(f"unix://{tmp_path}/s")
    with pytest.raises(ServingError, match="it goes on at"):
        await endpoint.listen(f"unix://{tmp_path}/./s")
    assert (tmp_path / "s").is_socket()


@pytest.mark.parametrize(
    "listen",
    [
        "http://localhost:1",
        "localhost",
        "unix://",
        "tcp://",
        ":x:y",
        ":65536",
        "tcp://[::1]:99999",
        ":-1",
        f":{'9' * 4000}",
    ],
)
async def test_values_that_mean_nothing(listen: str) -> None:
    with pytest.raises(ServingError, match="HTTPListen"):
        HTTP_ENDPOINT.check_listen(listen)


@pytest.mark.parametrize("listen", ["", "none", ":9101", "localhost:9101", "[::1]:9101", "tcp://[::]:1", "unix:///x"])
async def test_values_that_can_be_used(listen: str) -> None:
    HTTP_ENDPOINT.check_listen(listen)
