"""HTTP on one connection: requests in, answers out, and no trust in who asks.

h11 does the protocol, without I/O; the limits are here. A request has ``MAX_HEAD`` bytes, and ``REQUEST_TIMEOUT``
seconds from its first byte on; an answer must be taken within ``WRITE_TIMEOUT``, and a connection that asks nothing is
closed after ``IDLE_TIMEOUT``. What a request brings along as a body is read no further than ``MAX_BODY``. Whatever else
is wrong gets a status code and the end of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

import h11

__all__ = ["Answer", "Request", "Site", "converse"]

MAX_HEAD = 8192
"""Bytes of request line and headers."""
MAX_BODY = 4096
"""Bytes of a body, which nobody reads."""
REQUEST_TIMEOUT = 10.0
"""Seconds from a request's first byte to its last; for a connection's first request, from the connection on."""
IDLE_TIMEOUT = 150.0
"""Seconds that a connection may wait before its next request; Prometheus asks at least every two minutes."""
WRITE_TIMEOUT = 10.0
"""Seconds in which a client must take an answer."""
LINGER_TIMEOUT = 1.0
"""Seconds for which input is thrown away after the last answer: an unread rest would make the kernel reset the
connection, and the answer could be lost with it."""
PAUSE = 0.005
"""Seconds between two requests of a connection: a client that asks without end must not keep the node busy."""

_READ_SIZE = 4096
_METHODS = ("GET", "HEAD")
_PLAIN = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: a page (path without query) and what the client accepts."""

    path: str
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What it gets."""

    status: int
    body: bytes
    content_type: str = _PLAIN
    headers: tuple[tuple[str, str], ...] = ()


class Site(Protocol):
    """Whoever knows the pages."""

    def answer(self, request: Request) -> Answer:
        """Return the answer; must not take long."""
        ...

    def served(self, path: str, status: int) -> None:
        """A request for ``path`` ("" if it could not be read) was answered like this."""
        ...


async def converse(
    site: Site,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    busy: Callable[[], None] = lambda: None,
    idle: Callable[[], None] = lambda: None,
) -> None:
    """Answer requests until one of the two has enough.

    ``busy`` and ``idle`` hear when it is on us and when on the client. Raises ``TimeoutError`` and ``OSError``.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
    keep = True
    while keep:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            answer, head_only = await _next_answer(site, connection, reader, busy)
        idle()
        if answer is None:
            return
        keep = _write(connection, writer, answer, head_only)
        async with asyncio.timeout(WRITE_TIMEOUT):
            await writer.drain()
        if keep:
            await asyncio.sleep(PAUSE)
            connection.start_next_cycle()
            if not connection.trailing_data[0]:
                async with asyncio.timeout(IDLE_TIMEOUT):
                    connection.receive_data(await reader.read(_READ_SIZE))
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_TIMEOUT):
            while await reader.read(_READ_SIZE):
                pass


async def _next_answer(
    site: Site, connection: h11.Connection, reader: asyncio.StreamReader, busy: Callable[[], None]
) -> tuple[Answer | None, bool]:
    """Read a request; return its answer and whether only the head of that is wanted. None: the client has left."""
    head_only = False
    try:
        event = await _next_head(connection, reader)
        if event is None:
            return None, False
        head_only = event.method == b"HEAD"
        if not await _skip_body(connection, reader):
            return None, False
    except h11.RemoteProtocolError as error:
        answer = Answer(error.error_status_hint, f"{error}\n".encode())
        site.served("", answer.status)
        return answer, head_only
    busy()
    method = event.method.decode("ascii")
    accept = b",".join(value for name, value in event.headers if name == b"accept").decode("latin-1")
    request = Request(_path(event.target), accept)
    if method in _METHODS:
        answer = site.answer(request)
    else:
        allowed = ", ".join(_METHODS)
        answer = Answer(405, f"only {allowed} are answered here\n".encode(), headers=(("allow", allowed),))
    site.served(request.path, answer.status)
    return answer, head_only


async def _next_head(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Return the head of the next request; None: the client has left. Raises ``h11.RemoteProtocolError``."""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_SIZE))
        else:
            return event if isinstance(event, h11.Request) else None


async def _skip_body(connection: h11.Connection, reader: asyncio.StreamReader) -> bool:
    """Read the request to its end; False: the client has left before it. Raises ``h11.RemoteProtocolError``."""
    body = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                return True  # the answer is a final one, and the body need not come
            connection.receive_data(await reader.read(_READ_SIZE))
        elif isinstance(event, h11.Data):
            body += len(event.data)
            if body > MAX_BODY:
                raise h11.RemoteProtocolError(f"a body of more than {MAX_BODY} bytes", error_status_hint=413)
        else:
            return isinstance(event, h11.EndOfMessage)


def _write(connection: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, head_only: bool) -> bool:
    """Send ``answer``; tell whether another request may follow."""
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        *answer.headers,
    ]
    if connection.their_state is not h11.DONE:
        headers.append(("connection", "close"))
    reason = HTTPStatus(answer.status).phrase.encode()
    parts = [connection.send(h11.Response(status_code=answer.status, headers=headers, reason=reason))]
    if not head_only:
        parts.append(connection.send(h11.Data(data=answer.body)))
    parts.append(connection.send(h11.EndOfMessage()))
    writer.write(b"".join(part for part in parts if part))
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


def _path(target: bytes) -> str:
    """Return the path of a request's target: ``/metrics`` of ``/metrics?x=1`` and of ``http://node/metrics``."""
    text = target.decode("ascii")
    if not text.startswith("/") and "://" in text:
        text = "/" + text.partition("://")[2].partition("/")[2]
    return text.partition("?")[0]
