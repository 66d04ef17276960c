"""Host names to addresses, without ever blocking the node, its shutdown, or other look-ups for long.

The system's resolver may take half a minute to give up. It runs in daemon threads of its own rather than in the event
loop's executor: that one has few threads, and a program cannot end before they have.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import threading

from yggpy.errors import YggpyError
from yggpy.links.interfaces import IpAddress

__all__ = ["MAX_ADDRESSES", "MAX_LOOKUPS", "Resolver", "TransportError", "as_address"]

MAX_LOOKUPS = 16
"""Look-ups that run at the same time; further ones wait for their turn."""
MAX_ADDRESSES = 64
"""Addresses of one name that are looked at; the rest of an answer is ignored."""


class TransportError(YggpyError, OSError):
    """A peer cannot be reached, or a listener not be opened; the message is Go's."""


def as_address(host: str) -> IpAddress | None:
    """Return the address that ``host`` is the text of (a zone is dropped, IPv4-mapped becomes IPv4), else None."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class Resolver:
    """Looks up names by the system's resolver. One per node."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def addresses(self, host: str) -> list[IpAddress]:
        """Return the addresses of ``host``, a name or an address, in resolver order.

        Raises :class:`TransportError`: ``lookup NAME: no such host``, or what the resolver says instead.
        """
        literal = as_address(host)
        if literal is not None:
            return [literal]
        if not host:
            raise TransportError("lookup : no such host")
        await self._slots.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[IpAddress]] = loop.create_future()

        def finish(result: list[IpAddress] | TransportError) -> None:
            self._slots.release()
            if answer.done():  # nobody waits any more
                return
            if isinstance(result, TransportError):
                answer.set_exception(result)
            else:
                answer.set_result(result)

        def work() -> None:
            result = _ask_system(host)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends
                loop.call_soon_threadsafe(finish, result)

        threading.Thread(target=work, name=f"lookup {host}", daemon=True).start()
        return await answer


def _ask_system(host: str) -> list[IpAddress] | TransportError:
    try:
        infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return TransportError(f"lookup {host}: no such host")
        return TransportError(f"lookup {host}: {error.strerror}")
    except (OSError, ValueError):  # ValueError: no legal host name
        return TransportError(f"lookup {host}: no such host")
    found = dict.fromkeys(as_address(str(info[4][0])) for info in infos)
    return [address for address in found if address is not None][:MAX_ADDRESSES]
