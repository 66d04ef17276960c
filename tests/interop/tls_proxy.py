"""What a web server does in front of a ``ws`` listener: ends TLS and passes the bytes on.

Runs as a program in a namespace: ``tls_proxy.py PORT TARGET_PORT CERTIFICATE`` (one PEM file with certificate and key)
prints ``ready``, then the server name of each client that sends one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys

CHUNK = 1 << 16


class TlsEnd:
    """The TLS side of one connection, over memory."""

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._reader = reader
        self._writer = writer

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._more()
        self._flush()

    async def read(self) -> bytes:
        """Return what has arrived; nothing at the end."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._more()

    async def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()
        await self._writer.drain()

    async def _more(self) -> None:
        self._flush()
        data = await self._reader.read(CHUNK)
        if not data:
            raise ConnectionResetError
        self._incoming.write(data)

    def _flush(self) -> None:
        self._writer.write(self._outgoing.read())


async def main() -> None:
    """Serve for ever."""
    port, target, certificate = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: print(name, flush=True) if name else None

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        near = TlsEnd(context, reader, writer)
        try:
            await near.shake_hands()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target))
        except OSError:  # the node behind is not there yet: whoever dials tries again
            writer.close()
            return

        async def inward() -> None:
            with contextlib.suppress(OSError):
                while data := await near.read():
                    far_writer.write(data)
                    await far_writer.drain()
            far_writer.close()

        async def outward() -> None:
            with contextlib.suppress(OSError):
                while data := await far_reader.read(CHUNK):
                    await near.write(data)
            writer.close()

        await asyncio.gather(inward(), outward())

    async with await asyncio.start_server(client, "0.0.0.0", int(port)):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
