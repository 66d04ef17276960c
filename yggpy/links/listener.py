"""A listener: takes connections from its acceptor and gives each a task of its own for the handshake.

Strangers get little. At most ``MAX_PENDING_HANDSHAKES`` connections may be unproven at a time, each for 6 s, and when
one more arrives the oldest is dropped: whoever completes a handshake at normal speed gets in even while somebody fills
the places with silence.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Coroutine
from typing import Any, Protocol

from yggpy.datapath.base import ByteStream
from yggpy.datapath.socktext import IO_TIMEOUT, error_text
from yggpy.errors import YggpyError
from yggpy.links.handshake import HANDSHAKE_TIMEOUT
from yggpy.links.peering import Link
from yggpy.links.reasons import explain, reason_of
from yggpy.links.transports import Acceptor, NoLinkWantedError, PendingStream
from yggpy.links.uri import LinkOptions, LinkUri

__all__ = ["MAX_PENDING_HANDSHAKES", "Listener"]

MAX_PENDING_HANDSHAKES = 128
"""Incoming connections of one listener that may be in the handshake; the oldest makes room for a new one."""
ACCEPT_RETRY_DELAY = 1.0
"""Seconds to wait when the system has no descriptors left for a new connection."""


class ListenerOwner(Protocol):
    """What a listener asks of the link manager."""

    log: logging.Logger

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``coroutine`` as a task of the node."""
        ...

    def new_incoming(self, uri: str, interface: str, options: LinkOptions, *, local: bool) -> Link | None:
        """Make and register an incoming link; None when it is not to be."""
        ...

    def has_link(self, uri: str, interface: str) -> bool:
        """Whether there is a link with this identity."""
        ...

    def incoming_failed(self, uri: str, reason: str) -> None:
        """Report a connection that came to nothing."""
        ...

    def forget(self, link: Link) -> None:
        """Take a link out of the table."""
        ...

    def listener_closed(self, listener: Listener, accepting: asyncio.Task[None] | None) -> None:
        """Forget a listener, which is gone for good when ``accepting`` has ended."""
        ...


class Listener:
    """Made by ``LinkManager.listen``."""

    def __init__(
        self,
        owner: ListenerOwner,
        acceptor: Acceptor,
        uri: LinkUri,
        interface: str,
        options: LinkOptions,
        *,
        local: bool,
    ) -> None:
        self.interface = interface
        self._owner = owner
        self._acceptor = acceptor
        self._uri = uri
        self._options = options
        self._local = local
        self._pending: dict[asyncio.Task[None], Link] = {}  # oldest first
        self._accepting: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """The listener's URI with the address and port that it really has, without query."""
        if self._acceptor.address == self._uri.path:
            return str(self._uri)
        return str(self._uri.with_host(self._acceptor.address))

    @property
    def port(self) -> int:
        """The port that it really has."""
        return self._acceptor.port

    def start(self) -> None:
        """Begin to accept."""
        self._owner.log.info("%s listener started on %s", self._uri.scheme.upper(), self._acceptor.address)
        self._accepting = self._owner.spawn(self._accept())
        self._accepting.add_done_callback(self._stopped)

    def close(self) -> None:
        """Stop to accept. Links that came in stay; handshakes under way are dropped. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        if self._accepting is not None:
            self._accepting.cancel()
        for task in list(self._pending):
            task.cancel()
        self._owner.listener_closed(self, self._accepting)

    async def _accept(self) -> None:
        failing = False
        while True:
            try:
                pending = await self._acceptor.accept()
            except OSError as error:
                # Out of descriptors or memory: it passes, and until then the kernel keeps a few callers waiting.
                if not failing:
                    self._owner.log.error("Cannot accept on %s: %s; trying again", self.address, error_text(error))
                failing = True
                await asyncio.sleep(ACCEPT_RETRY_DELAY)
                continue
            failing = False
            self._admit(pending)
            await asyncio.sleep(0)  # taking a caller who is there already does not wait: a flood must not hold the loop

    def _stopped(self, accepting: asyncio.Task[None]) -> None:
        """Nobody waits in ``accept`` any more, even if nobody ever did."""
        self._acceptor.close()
        self._owner.log.info("%s listener stopped on %s", self._uri.scheme.upper(), self._acceptor.address)
        if not accepting.cancelled() and accepting.exception() is not None:
            self._owner.log.error("Listener %s met an internal error", self.address, exc_info=accepting.exception())

    def _admit(self, pending: PendingStream) -> None:
        uri = self._incoming_uri(pending.remote_address)
        link = self._owner.new_incoming(uri, self.interface, self._options, local=self._local)
        if link is None:
            pending.close()
            return
        if len(self._pending) >= MAX_PENDING_HANDSHAKES:
            oldest = next(iter(self._pending))
            dropped = self._pending.pop(oldest)
            oldest.cancel()
            self._owner.incoming_failed(dropped.uri, "dropped for a newer connection: too many handshakes at once")
        task = link.task = self._owner.spawn(self._serve(link, pending))
        self._pending[task] = link
        task.add_done_callback(lambda _: self._done(task, link, pending))

    def _incoming_uri(self, remote_address: str) -> str:
        """The listener's URI with the remote address, to which a number is added where many callers share one."""
        uri = str(self._uri.with_host(remote_address))
        if self._acceptor.names_peers:
            return uri
        numbers = itertools.count(2)
        while self._owner.has_link(uri, self.interface):
            uri = str(self._uri.with_host(f"{remote_address}{next(numbers)}"))
        return uri

    def _done(self, task: asyncio.Task[None], link: Link, pending: PendingStream) -> None:
        self._pending.pop(task, None)
        self._owner.forget(link)
        pending.close()  # a task that was cancelled before it began has not touched it

    async def _serve(self, link: Link, pending: PendingStream) -> None:
        try:
            await self._welcome(link, pending)
        except NoLinkWantedError as error:
            self._owner.log.debug("Incoming connection %s: %s", link.uri, error)
            return
        except (OSError, YggpyError) as error:
            self._owner.incoming_failed(link.uri, explain(reason_of(error)))
            return
        except Exception:  # a defect of ours must not pass unseen
            self._owner.log.exception("Incoming connection %s met an internal error", link.uri)
            return
        task = asyncio.current_task()
        assert task is not None
        self._pending.pop(task, None)
        await link.last()

    async def _welcome(self, link: Link, pending: PendingStream) -> None:
        """Carrier handshake and ours, under one time limit."""
        stream: ByteStream | None = None
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT):
                stream = await pending.open()
                handshake = await link.greet(stream)
            link.establish(stream, handshake)
        except BaseException as error:
            if stream is not None:
                stream.close()
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"no handshake within {HANDSHAKE_TIMEOUT:g} s: {IO_TIMEOUT}") from None
            raise
