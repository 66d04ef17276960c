"""Passes questions about other names on to the resolvers of ``Forward``, one after the other until one answers.

Each question has a socket of its own, so a random port, and a random id: an answer counts only from the resolver that
was asked, to that port, with that id and the same question. Nothing is kept: the resolvers have caches, and what is not
kept cannot be poisoned.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from yggpy.config.dns import Endpoint
from yggpy.dns.message import Query, encode_server_failure, encode_truncated, is_answer_to, with_id

__all__ = ["MAX_FORWARDS", "Forwarder"]

MAX_FORWARDS = 256
"""Questions that may wait for other resolvers; a further one gets "server failure" at once."""
ATTEMPT_TIMEOUT = 1.5
"""Seconds that one resolver has to answer before the next one is asked."""
TOTAL_TIMEOUT = 5.0
"""Seconds after which the client gets "server failure"."""
ROUNDS = 2
"""How often all resolvers are asked in that time."""
_MAX_MESSAGE = 0xFFFF
_RCODE = 0x0F
_NOT_HELPFUL = (2, 5)
"""SERVFAIL and REFUSED: the next resolver may know better."""
_LENGTH = struct.Struct(">H")


class Forwarder:
    """Asks ``upstreams``, the last one that has answered first."""

    def __init__(self) -> None:
        self._upstreams: list[Endpoint] = []
        self._waiting = 0
        self.failures = 0
        """Questions that no resolver has answered."""

    def change(self, upstreams: Sequence[Endpoint]) -> None:
        """Ask these from now on."""
        if set(upstreams) != set(self._upstreams):
            self._upstreams = list(dict.fromkeys(upstreams))

    @property
    def is_on(self) -> bool:
        """Whether there is anybody to ask."""
        return bool(self._upstreams)

    async def ask(self, query: Query, *, stream: bool) -> bytes:
        """Return the answer for the client, who is connected by TCP if ``stream``."""
        if self._waiting >= MAX_FORWARDS:
            self.failures += 1
            return encode_server_failure(query)
        self._waiting += 1
        try:
            answer = await self._ask_all(query, stream)
        finally:
            self._waiting -= 1
        if answer is None:
            self.failures += 1
            return encode_server_failure(query)
        if not stream and len(answer) > query.udp_limit:
            return encode_truncated(query, recursion=True)
        return with_id(answer, int.from_bytes(query.data[:2], "big"))

    async def _ask_all(self, query: Query, stream: bool) -> bytes | None:
        last = None
        with suppress(TimeoutError):
            async with asyncio.timeout(TOTAL_TIMEOUT):
                for upstream in self._upstreams * ROUNDS:
                    try:
                        async with asyncio.timeout(ATTEMPT_TIMEOUT):
                            answer = await (_ask_tcp if stream else _ask_udp)(query, upstream)
                    except (OSError, TimeoutError, asyncio.IncompleteReadError):
                        continue
                    if answer is None:
                        continue
                    if answer[3] & _RCODE not in _NOT_HELPFUL:
                        self._prefer(upstream)
                        return answer
                    last = answer
        return last

    def _prefer(self, upstream: Endpoint) -> None:
        if upstream in self._upstreams[1:]:  # not if a reload has taken it away
            self._upstreams.remove(upstream)
            self._upstreams.insert(0, upstream)


async def _ask_udp(query: Query, upstream: Endpoint) -> bytes | None:
    loop = asyncio.get_running_loop()
    number = secrets.randbelow(1 << 16)
    family = socket.AF_INET6 if isinstance(ip_address(upstream[0]), IPv6Address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as connection:
        connection.connect(upstream)  # a literal address: returns at once
        await loop.sock_sendall(connection, with_id(query.data, number))
        while True:
            data = await loop.sock_recv(connection, _MAX_MESSAGE)
            if is_answer_to(query, number, data):
                return data


async def _ask_tcp(query: Query, upstream: Endpoint) -> bytes | None:
    number = secrets.randbelow(1 << 16)
    reader, writer = await asyncio.open_connection(*upstream)
    try:
        writer.write(_LENGTH.pack(len(query.data)) + with_id(query.data, number))
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        data = await reader.readexactly(length)
    finally:
        writer.close()
    return data if is_answer_to(query, number, data) else None
