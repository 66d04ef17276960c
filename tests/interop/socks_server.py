"""A small SOCKS5 server: it connects, and counts whom; with a user and password it insists on them.

Unit tests use it in their own event loop; in a namespace it runs as a program: ``socks_server.py ADDRESS PORT
[USER PASSWORD]`` prints ``ready``, then one line for each connection that it was asked for.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Self

VERSION = 5
NO_AUTH, USER_PASSWORD, NONE_ACCEPTABLE = 0, 2, 0xFF
GENERAL_FAILURE, REFUSED = 1, 5


class RefusedError(Exception):
    """The client may not go on."""


class SocksServer:
    """Listens on ``host:port`` (0: any free one) while its context lasts."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        credentials: tuple[bytes, bytes] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``report`` is given the text of each destination, as the client wrote it."""
        self.host, self.port = host, port
        self._credentials = credentials
        self._report = report
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._client, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(reader, writer)
            far_reader, far_writer = await self._connect(reader, writer)
        except (RefusedError, OSError, EOFError):
            writer.close()
            return
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            writer.close()
            far_writer.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        wanted = NO_AUTH if self._credentials is None else USER_PASSWORD
        if version != VERSION or wanted not in methods:
            writer.write(bytes((VERSION, NONE_ACCEPTABLE)))
            raise RefusedError
        writer.write(bytes((VERSION, wanted)))
        if self._credentials is None:
            return
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        right = (user, password) == self._credentials
        writer.write(bytes((1, 0 if right else 1)))
        if not right:
            raise RefusedError

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        _, _, _, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.readexactly(size))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self._report(f"{host} {port}")
        try:
            far = await asyncio.open_connection(host, port)
        except OSError as error:
            writer.write(_reply(REFUSED if isinstance(error, ConnectionRefusedError) else GENERAL_FAILURE))
            raise
        writer.write(_reply(0))
        return far


def _reply(code: int) -> bytes:
    return bytes((VERSION, code, 0, 1, 0, 0, 0, 0, 0, 0))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def _main() -> None:
    host, port, *credentials = sys.argv[1:]
    pair = (credentials[0].encode(), credentials[1].encode()) if credentials else None
    async with SocksServer(host, int(port), pair, lambda text: print(text, flush=True)):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
