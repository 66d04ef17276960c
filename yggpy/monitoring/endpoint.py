"""The HTTP endpoint of a node: its pages, and the server around them.

It shows and never changes anything, and it has no password: whoever can connect sees who this node's peers are. On a
node with thousands of links both pages cost something, so each is made now and then only, however many ask.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import Counter
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder

from yggpy.monitoring import HTTP_ENDPOINT
from yggpy.monitoring.collector import MonitoredNode, NodeCollector
from yggpy.monitoring.http import Answer, Request, converse
from yggpy.printable import printable
from yggpy.serving import ServingError, StreamServer
from yggpy.status import HealthStatus

__all__ = ["MAX_CLIENTS", "MonitoringEndpoint"]

MAX_CLIENTS = 32
"""Connections at once. When full, the longest idle one is closed; when all are busy, the new one is."""
METRICS_LIFE = 1.0
"""Seconds for which metrics that were made are given to whoever else asks."""
HEALTH_LIFE = 0.1
"""The same for what ``/readyz`` tells."""
_JSON = "application/json"
_OPENMETRICS = "application/openmetrics-text"
_OTHER = "other"


class MonitoringEndpoint:
    """Serves ``/healthz``, ``/readyz`` and ``/metrics`` of ``node``, once it is told where to listen."""

    def __init__(self, node: MonitoredNode, logger: logging.Logger) -> None:
        self._node = node
        self._logger = logger
        self._requests: Counter[tuple[str, int]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(node, self._requests))
        ProcessCollector(registry=self._registry)
        self._made: dict[str, tuple[float, bytes]] = {}
        """When metrics were made, and they, by content type, of which there are two."""
        self._judged: tuple[float, HealthStatus] | None = None
        self._pages = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}
        self._server: StreamServer | None = None
        self._listen = ""
        self._moving = asyncio.Lock()

    @property
    def address(self) -> str:
        """Where it listens; "" when it does not."""
        return "" if self._server is None else self._server.address

    @property
    def client_count(self) -> int:
        """Connections being served or kept."""
        return 0 if self._server is None else self._server.client_count

    async def listen(self, listen: str) -> bool:
        """Listen where ``HTTPListen`` says, and nowhere else. True if that is a change.

        Raises ``ServingError``; it then goes on where it was, so that a mistake does not end whoever is watched here.
        """
        listen = "" if listen == "none" else listen
        async with self._moving:
            if listen == self._listen:
                return False
            before, address = self._listen, self.address
            try:
                await self._open(listen)
            except ServingError as error:
                if not address:
                    raise
                if not _may_overlap(address, listen):
                    raise ServingError(f"{error}; it goes on at {address}") from None
                await self.close()
                try:
                    await self._open(listen)
                except ServingError:
                    await self._open(before)
                    raise ServingError(f"{error}; it goes on at {address}") from None
            return True

    async def _open(self, listen: str) -> None:
        """Listen there, and then no longer where it was."""
        server = StreamServer(HTTP_ENDPOINT, listen, self._serve, self._logger, MAX_CLIENTS)
        await server.start()
        old, self._server, self._listen = self._server, server, listen
        if old is not None:
            await old.close()

    async def close(self) -> None:
        """Stop listening and drop all clients. Harmless when it does not listen."""
        server, self._server, self._listen = self._server, None, ""
        if server is not None:
            await server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = self._server
        assert server is not None
        await converse(self, reader, writer, server.busy, server.idle)

    # -- pages (Site) ------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """See ``Site``."""
        page = self._pages.get(request.path)
        if page is None:
            return Answer(404, f"no such page; there are {', '.join(self._pages)}\n".encode())
        try:
            return page(request)
        except Exception as error:
            self._logger.exception(
                "HTTP endpoint cannot make %s; this is a bug in the node, please report it", request.path
            )
            return Answer(500, f"internal error: {printable(repr(error))}\n".encode())

    def served(self, path: str, status: int) -> None:
        """See ``Site``."""
        self._requests[path if path in self._pages else _OTHER, status] += 1

    def _healthz(self, request: Request) -> Answer:
        """The event loop answers, which is all that is asked."""
        return Answer(200, b"up\n")

    def _readyz(self, request: Request) -> Answer:
        health = self._health()
        status = 200 if health.ready else 503
        if _JSON in request.accept.lower():
            return Answer(status, f"{json.dumps(health.members())}\n".encode(), _JSON)
        line = f"{'ready' if health.ready else 'not ready'}: {printable(health.reason)}\n"
        return Answer(status, line.encode())

    def _health(self) -> HealthStatus:
        now = time.monotonic()
        if self._judged is None or now - self._judged[0] >= HEALTH_LIFE:
            self._judged = now, self._node.status_health()
        return self._judged[1]

    def _metrics(self, request: Request) -> Answer:
        # The library is not shown what the client wrote: it fails for a version that is none, and would make a format
        # for each of the others.
        accepted = {each.partition(";")[0].strip().lower() for each in request.accept.split(",")}
        encode: Any
        encode, content_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accepted else "")
        made, body = self._made.get(content_type, (0.0, b""))
        now = time.monotonic()
        if not body or now - made >= METRICS_LIFE:
            body = encode(self._registry)
            self._made[content_type] = now, body
        return Answer(200, body, content_type)


def _may_overlap(address: str, listen: str) -> bool:
    """Tell whether both are the same port, so that a server at ``address`` may keep another one from listening."""
    port = address.rpartition(":")[2]
    return port.isdecimal() and port == listen.rpartition(":")[2]
