"""The admin socket: listens on a unix or TCP address and lets each client send requests (protocol section 13.1).

The socket has no authentication: whoever can connect may change peerings. A unix socket is therefore given mode
0660 before it accepts anyone, and a TCP address that other machines can reach is warned about.

Clients are bounded in number (see ``yggpy.serving``), in the size of a request, and in the time that they may idle or
take to read an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from yggpy.admin.commands import AdminNode, AnswerStream, CommandRegistry, node_commands
from yggpy.admin.own import own_commands
from yggpy.admin.protocol import BadRequest, Request, RequestReader, failure
from yggpy.admin.remote import remote_commands
from yggpy.serving import Purpose, ServingError, StreamServer

__all__ = ["MAX_CLIENTS", "AdminError", "AdminServer", "check_listen"]

MAX_CLIENTS = 64
"""Connections at once. When full, the longest idle one is closed; when all are busy, the new one is."""

IDLE_TIMEOUT = 300.0
"""Seconds in which a client must complete its next request, else it is closed."""

WRITE_TIMEOUT = 10.0
"""Seconds in which a client must take an answer, else it is cut off."""

STREAM_WRITE_TIMEOUT = 60.0
"""Seconds in which a client must take the next piece of a stream; longer, since somebody may have halted a terminal."""

LINGER_TIMEOUT = 1.0
"""Seconds for which input is still read and thrown away after the last answer: an unread rest would make the kernel
reset the connection, and the answer could be lost with it."""

_READ_SIZE = 4096


class AdminError(ServingError):
    """The admin socket cannot be opened; the text is one line for the operator."""


_PURPOSE = Purpose("admin socket", "AdminListen", AdminError)


class AdminServer:
    """The admin socket of one node. ``commands`` may be added to before and after :meth:`start`.

    ``listen`` is ``unix:///path``, ``tcp://host:port``, ``host:port``, or ``none`` (or empty) for no socket at all.
    """

    def __init__(
        self, node: AdminNode, listen: str, logger: logging.Logger, build_name: str, build_version: str
    ) -> None:
        commands = [
            *node_commands(node, build_name, build_version),
            *remote_commands(node),
            *own_commands(node),
        ]
        self.commands = CommandRegistry(commands, logger=logger)
        self._logger = logger
        self._server = StreamServer(_PURPOSE, listen, self._serve, logger, MAX_CLIENTS)

    @property
    def address(self) -> str:
        """Where it listens: the path, or ``host:port`` with the real port; "" when it does not."""
        return self._server.address

    @property
    def client_count(self) -> int:
        """Connections being served or kept."""
        return self._server.client_count

    async def start(self) -> None:
        """Begin to listen. Raises :class:`AdminError`."""
        await self._server.start()
        if self._server.exposed:
            self._logger.warning(
                "WARNING: the admin socket has no password and other machines may reach %s", self.address
            )

    async def close(self) -> None:
        """Stop listening, drop all clients and remove the socket file. Harmless when not started."""
        await self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests = RequestReader()
        streams: list[AnswerStream] = []
        keepalive = True
        while keepalive:
            async with asyncio.timeout(IDLE_TIMEOUT):
                request = await _next_request(requests, reader)
            self._server.busy()
            if isinstance(request, BadRequest):
                answer = failure(None, request.error)
            else:
                answer = await self.commands.answer(request, streams.append)
            if streams:
                await self._send_stream(answer, streams.pop(), reader, writer)
                break
            self._server.idle()
            writer.write(answer)
            async with asyncio.timeout(WRITE_TIMEOUT):
                await writer.drain()
            keepalive = request.keepalive
            self._server.idle()
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_TIMEOUT):
                while await reader.read(_READ_SIZE):
                    pass

    async def _send_stream(
        self, first: bytes, stream: AnswerStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send ``first`` and all of ``stream``, until that or the client ends, or the client takes nothing for long."""
        writer.write(first)
        ending = asyncio.create_task(_until_end(reader))
        ending.add_done_callback(lambda _: stream.close())
        try:
            async for line in stream:
                async with asyncio.timeout(STREAM_WRITE_TIMEOUT):
                    await writer.drain()
                writer.write(line)
        finally:
            stream.close()
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)


async def _until_end(reader: asyncio.StreamReader) -> None:
    """Throw away what a client says that has asked for a stream, until it says no more."""
    with contextlib.suppress(OSError):
        while await reader.read(_READ_SIZE):
            pass


async def _next_request(requests: RequestReader, reader: asyncio.StreamReader) -> Request | BadRequest:
    while True:
        await asyncio.sleep(0)  # reading what is buffered does not wait: a hasty client must not hold up the loop
        request = requests.next_request()
        if request is not None:
            return request
        data = await reader.read(_READ_SIZE)
        if data:
            requests.feed(data)
        else:
            requests.feed_eof()


def check_listen(listen: str) -> None:
    """Raise :class:`AdminError` for an ``AdminListen`` that is of no known form."""
    _PURPOSE.check_listen(listen)
