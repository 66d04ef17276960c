"""One entry of the manager's table: a peering that dials, or a link that came in, through all its life.

    dial / accept -> TLS -> handshake -> judge -> the node's -> until it ends
         ^                                                        |
         +------------- back off (persistent peerings) <----------+

Nothing here is shared between entries, so that nothing a peer does can hold up another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from yggpy.address import Address
from yggpy.datapath.base import ByteStream, CloseReason, LinkEnd, StreamClosed
from yggpy.datapath.socktext import IO_TIMEOUT
from yggpy.errors import YggpyError
from yggpy.events.hub import Publish, publish_nothing
from yggpy.events.model import LinkDown, LinkUp, PeerRetrying
from yggpy.keys import PrivateKey
from yggpy.links.backoff import Backoff
from yggpy.links.handshake import HANDSHAKE_TIMEOUT, HandshakeResult, SelfConnectionError, exchange, judge
from yggpy.links.model import EstablishedLink, LinkHost, LinkInfo, LinkKind, LinkStatus
from yggpy.links.reasons import explain, reason_of, same_reason
from yggpy.links.transports import Transport
from yggpy.links.uri import LinkOptions, LinkUri
from yggpy.links.url import without_secrets

__all__ = ["Link", "LinkContext", "Peering"]

Pause = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LinkContext:
    """What all links of a node share."""

    private_key: PrivateKey
    host: LinkHost
    log: logging.Logger
    clock: Callable[[], float]
    pause: Pause
    """Waits so many seconds between two attempts; tests replace it."""
    publish: Publish = publish_nothing
    """Tells whoever listens to events."""


class Link:
    """A link under ``uri`` and ``interface``: its state, its handshake, and its established life."""

    def __init__(
        self,
        context: LinkContext,
        uri: str,
        interface: str,
        kind: LinkKind,
        options: LinkOptions,
        allowed_keys: frozenset[bytes] | None = None,
    ) -> None:
        self.uri = uri
        self.shown_uri = without_secrets(uri)
        """For logs and events: without a proxy's user and password."""
        self.interface = interface
        self.kind = kind
        self.task: asyncio.Task[None] | None = None
        self._context = context
        self._options = options
        self._allowed_keys = allowed_keys
        self._info: LinkInfo | None = None
        self._established: EstablishedLink | None = None
        self._established_at: float | None = None
        self._handshake: HandshakeResult | None = None
        self._last_error: str | None = None
        self._last_error_at: float | None = None
        self._stopped = False

    @property
    def identity(self) -> tuple[str, str]:
        """URI without query, and source interface (protocol section 2.3)."""
        return self.uri, self.interface

    @property
    def up(self) -> bool:
        """True from the end of the handshake to the end of the link."""
        return self._established is not None

    @property
    def local(self) -> bool:
        """True for neighbours found by multicast, whoever of the two dialled."""
        if self.kind is LinkKind.INCOMING:
            return self._allowed_keys is None
        return self.kind is LinkKind.EPHEMERAL and bool(self.interface)

    def allow(self, keys: frozenset[bytes]) -> bool:
        """Judge an incoming link by ``keys`` from now on; True when it is closed for that."""
        if self._allowed_keys is None:
            return False
        self._allowed_keys = keys
        if self._info is None or not keys or self._info.key in keys:
            return False
        self._context.log.info("Closing %s: its key is not in AllowedPublicKeys any more", _describe(self._info))
        self.stop()
        return True

    def status(self) -> LinkStatus:
        """Return a snapshot."""
        info, handshake, established = self._info, self._handshake, self._established
        return LinkStatus(
            uri=self.uri,
            up=self.up,
            inbound=self.kind is LinkKind.INCOMING,
            interface=self.interface,
            kind=self.kind,
            key=None if info is None else info.key,
            priority=0 if info is None else info.priority,
            link_id=None if established is None else established.link_id,
            established_at=self._established_at,
            handshake_bytes_received=0 if handshake is None else handshake.bytes_received,
            handshake_bytes_sent=0 if handshake is None else handshake.bytes_sent,
            last_error=self._last_error,
            last_error_at=self._last_error_at,
            local=self.local,
        )

    def stop(self) -> None:
        """End the link and do not begin again. The task ends soon after."""
        self._stopped = True
        if self._established is not None:
            self._established.close()
        elif self.task is not None:
            self.task.cancel()

    # -- handshake and established life ------------------------------------------------------------------

    async def greet(self, stream: ByteStream) -> HandshakeResult:
        """Do the handshake on a fresh stream; raises ``OSError`` or ``YggpyError``. No time limit here."""
        context = self._context
        handshake = await exchange(stream, context.private_key, self._options)
        own_key = context.private_key.public_key
        judge(handshake.remote.public_key, own_key, self._options.pinned_keys, self._allowed_keys)
        return handshake

    def establish(self, stream: ByteStream, handshake: HandshakeResult) -> None:
        """Give the stream to the node: the link is up."""
        context, remote = self._context, handshake.remote
        info = LinkInfo(
            key=remote.public_key,
            priority=max(self._options.priority, remote.priority),
            kind=self.kind,
            uri=self.uri,
            interface=self.interface,
            local_address=stream.local_address,
            remote_address=stream.remote_address,
            cost=self._options.cost,
        )
        context.log.info("Connected %s", _describe(info))
        self._established = context.host.link_established(info, stream)
        self._info, self._handshake = info, handshake
        self._established_at = context.clock()
        self._last_error = self._last_error_at = None
        context.publish(
            lambda time: LinkUp(
                time=time,
                uri=self.shown_uri,
                interface=info.interface,
                inbound=info.inbound,
                key=info.key,
                address=str(Address.for_key(info.key)),
                priority=info.priority,
            )
        )

    async def last(self) -> LinkEnd:
        """Wait for the end of the established link, note its reason and return it."""
        established, info = self._established, self._info
        assert established is not None and info is not None
        try:
            await asyncio.wait((established.ended,))
        except asyncio.CancelledError:
            established.close()
            raise
        finally:
            self._info = self._established = self._handshake = self._established_at = None
        end = established.ended.result()
        suffix = f"; error: {end.message}" if end.reason is CloseReason.ERROR else ""
        self._context.log.info("Disconnected %s%s", _describe(info), suffix)
        if end.reason is not CloseReason.LOCAL:
            self.note_failure(end.message or "EOF")
        reason = "closed by this node" if end.reason is CloseReason.LOCAL else end.message or "EOF"
        self._context.publish(
            lambda time: LinkDown(
                time=time,
                uri=self.shown_uri,
                interface=info.interface,
                inbound=info.inbound,
                key=info.key,
                address=str(Address.for_key(info.key)),
                reason=reason,
            )
        )
        return end

    def note_failure(self, reason: str) -> None:
        """Remember ``reason`` for ``last_error``."""
        self._last_error = reason
        self._last_error_at = self._context.clock()

    async def serve(self, stream: ByteStream, ready: asyncio.Future[None]) -> None:
        """Be a link over ``stream`` from handshake to end; ``ready`` learns how the handshake ended."""
        try:
            handshake = await within_handshake_time(self.greet(stream), stream)
            self.establish(stream, handshake)
        except Exception as error:
            stream.close()
            if not ready.done():
                ready.set_exception(error)
            return
        except BaseException:
            stream.close()
            raise
        if not ready.done():
            ready.set_result(None)
        await self.last()


async def within_handshake_time(greeting: Awaitable[HandshakeResult], stream: ByteStream) -> HandshakeResult:
    """Await ``greeting`` for as long as a handshake may take; raises ``StreamClosed`` with Go's words after that."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            return await greeting
    except TimeoutError:
        endpoints = f"{stream.local_address}->{stream.remote_address}"
        network = "unix" if stream.remote_address.startswith(("/", "@")) else "tcp"
        raise StreamClosed(f"read {network} {endpoints}: {IO_TIMEOUT}") from None


class Peering(Link):
    """A link that this node dials: persistent, or ephemeral (once)."""

    def __init__(
        self,
        context: LinkContext,
        uri: LinkUri,
        interface: str,
        kind: LinkKind,
        options: LinkOptions,
        transport: Transport,
        on_up: Callable[[], None] | None = None,
    ) -> None:
        """``on_up`` is called after each completed handshake."""
        super().__init__(context, str(uri), interface, kind, options)
        self._on_up = on_up
        self._dial_uri = uri
        self._transport = transport
        self._backoff = Backoff(options.max_backoff)
        self._kicked: asyncio.Future[None] | None = None
        self._reported: str | None = None

    async def run(self) -> None:
        """Dial, and dial again, until stopped (ephemeral peerings: once)."""
        while not self._stopped:
            parked = await self._attempt()
            if self._stopped or self.kind is LinkKind.EPHEMERAL:
                return
            delay = None if parked else self._backoff.next_delay()
            self._tell_of_retry(delay)
            await self._rest(delay)

    def _tell_of_retry(self, delay: float | None) -> None:
        reason = self.status().last_error or "closed by this node"
        self._context.publish(
            lambda time: PeerRetrying(
                time=time, uri=self.shown_uri, interface=self.interface, reason=reason, delay=delay
            )
        )

    def kick(self) -> None:
        """End the wait for the next attempt; no effect when there is none."""
        if self._kicked is not None and not self._kicked.done():
            self._kicked.set_result(None)

    async def _attempt(self) -> bool:
        """Dial once and stay until the link ends; True when the peer turned out to be this node."""
        try:
            stream = await self._transport.dial(self._dial_uri, self._options, self.interface)
            try:
                handshake = await within_handshake_time(self.greet(stream), stream)
                self.establish(stream, handshake)
            except BaseException:
                stream.close()
                raise
            self._backoff.reset()
            self._reported = None
            if self._on_up is not None:
                self._on_up()
            await self.last()
        except (OSError, YggpyError) as error:
            self._fail(reason_of(error))
            return isinstance(error, SelfConnectionError)
        except Exception as error:  # a defect of ours must not end the peering for good
            self._context.log.exception("Peering %s met an internal error", self.shown_uri)
            self.note_failure(f"internal error: {error}")
        return False

    def _fail(self, reason: str) -> None:
        self.note_failure(reason)
        log, where = self._context.log, self.shown_uri + (f" via {self.interface}" if self.interface else "")
        news = self.kind is LinkKind.PERSISTENT and not same_reason(reason, self._reported)
        log.log(logging.WARNING if news else logging.DEBUG, "Cannot peer with %s: %s", where, explain(reason))
        self._reported = reason

    async def _rest(self, seconds: float | None) -> None:
        """Wait ``seconds`` (None: for ever), or until kicked."""
        kicked = self._kicked = asyncio.get_running_loop().create_future()
        waits: set[asyncio.Future[None]] = {kicked}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._context.pause(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._kicked = None
            for wait in waits:
                wait.cancel()


def _describe(info: LinkInfo) -> str:
    direction = "inbound" if info.inbound else "outbound"
    return f"{direction}: {Address.for_key(info.key)}@{info.remote_address}, source {info.local_address}"
