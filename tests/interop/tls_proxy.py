"""What a web server does in front of a ``ws`` listener: ends TLS and passes the bytes on.

Runs as a program in a namespace: ``tls_proxy.py PORT TARGET_PORT CERTIFICATE`` (one PEM file with certificate and key)
prints ``ready``, then the server name of each client that sends one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the end, and end the copy, too."""
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve for ever."""
    port, target, certificate = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _socket, name, _context: print(name, flush=True) if name else None

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async with await asyncio.start_server(client, "0.0.0.0", int(port), ssl=context):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
