"""``quic://`` links (protocol section 2.13): QUIC version 1 over UDP, without ALPN, as the Go node has it.

A dialler has a socket for each attempt; a listener one for all its connections, which it tells apart by their
connection ids. Whoever sends a first packet costs us a TLS handshake, so beyond ``RETRY_ABOVE`` unfinished handshakes a
caller must first prove, by a Retry packet and without a trace in our memory, that its address is its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Awaitable
from typing import Any

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.retry import QuicRetryTokenHandler
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from yggpy.datapath.base import ByteStream, StreamClosed, TlsIdentity
from yggpy.datapath.socktext import error_text, join_host_port, operation_error, sockaddr_text
from yggpy.links import dial
from yggpy.links.dial import connect_udp, dial_each
from yggpy.links.interfaces import IpAddress
from yggpy.links.listen import listening_socket
from yggpy.links.quic_endpoint import Endpoint, Source
from yggpy.links.quic_stream import CLOSE_LINGER, HANDSHAKE_WINDOW, IDLE, LINK_WINDOW, QuicStream
from yggpy.links.resolve import TransportError
from yggpy.links.transports import Acceptor, TransportContext
from yggpy.links.uri import LinkOptions, LinkUri

__all__ = ["MAX_FRESH", "RETRY_ABOVE", "QuicAcceptor", "QuicTransport", "configuration"]

IDLE_TIMEOUT = 60.0
"""Seconds without a datagram after which a connection is over (Go: MaxIdleTimeout)."""
MAX_FRESH = 128
"""Connections that wait to be accepted; further first packets are dropped, and their senders try again."""
RETRY_ABOVE = 32
"""Unfinished handshakes of a listener from which on callers must prove their address."""
HANDSHAKE_TIMEOUT = "timeout: handshake did not complete in time"
"""Go's words."""


def configuration(identity: TlsIdentity | None = None) -> QuicConfiguration:
    """Return the settings of a listener with ``identity``, or of a dialler.

    Certificates are not verified, no ALPN and, as in Go, no server name: ``sni`` means nothing here.
    """
    config = QuicConfiguration(
        is_client=identity is None,
        idle_timeout=IDLE_TIMEOUT,
        max_data=HANDSHAKE_WINDOW,
        max_stream_data=LINK_WINDOW,
        verify_mode=ssl.CERT_NONE,
        congestion_control_algorithm="cubic",
    )
    if identity is not None:
        config.certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
        config.private_key = load_pem_private_key(identity.private_key_pem, None)
    return config


class QuicTransport:
    """``quic://``."""

    def __init__(self, context: TransportContext) -> None:
        self._context = context
        self._streams: set[QuicStream] = set()

    async def dial(self, uri: LinkUri, options: LinkOptions, interface: str) -> ByteStream:
        """See :class:`~yggpy.links.transports.Transport`. Unlike Go's, it keeps to ``interface`` if that is given."""
        log = self._context.log

        async def attempt(address: IpAddress, port: int) -> ByteStream:
            return await self._dial(connect_udp(address, port, interface, log), join_host_port(str(address), port))

        return await dial_each(uri.host_port, self._context.resolver, log, attempt)

    async def _dial(self, sock: socket.socket, where: str) -> ByteStream:
        stream = _Dialler(sock, configuration()).stream
        self.watch(stream)
        try:
            async with asyncio.timeout(dial.DIAL_TIMEOUT):
                stream.connect()
                await stream.opened
        except BaseException as error:
            stream.close()
            if isinstance(error, TimeoutError):
                reason = HANDSHAKE_TIMEOUT if stream.heard else IDLE
                raise TransportError(f"dial quic {where}: {reason}") from None
            if isinstance(error, StreamClosed):
                raise TransportError(f"dial quic {where}: {error}") from None
            raise
        return stream

    async def listen(self, uri: LinkUri, interface: str) -> Acceptor:
        """See :class:`~yggpy.links.transports.Transport`. ``interface`` means nothing here, as in Go."""
        context = self._context
        sock = await listening_socket(uri.host_port, "", context.resolver, network="udp")
        return QuicAcceptor(sock, configuration(context.identity()), self, context.log)

    def watch(self, stream: QuicStream) -> None:
        """Remember ``stream`` until it is gone."""
        self._streams.add(stream)
        stream.gone.add_done_callback(lambda _: self._streams.discard(stream))

    async def close(self) -> None:
        """See :class:`~yggpy.links.transports.Transport`."""
        going: list[Awaitable[None]] = [stream.gone for stream in self._streams]
        if going:
            await asyncio.wait([asyncio.ensure_future(one) for one in going], timeout=2 * CLOSE_LINGER)


class _Dialler:
    """A dialled connection with the socket that it has for itself."""

    def __init__(self, sock: socket.socket, config: QuicConfiguration) -> None:
        self._loop = asyncio.get_running_loop()
        self._endpoint = Endpoint(sock, self._received, self._batch_ended, self._failed, connected=True)
        peer = self._endpoint.peer
        self._where = f"{self._endpoint.address}->{sockaddr_text(sock.family, peer)}"
        quic = QuicConnection(configuration=config)
        self.stream = QuicStream(quic, self._endpoint, self, sockaddr_text(sock.family, peer))

    def _received(self, data: bytes, sender: Any, source: Source) -> None:
        self.stream.receive(data, sender, source)

    def _batch_ended(self) -> None:
        self.stream.advance()

    def _failed(self, error: OSError) -> None:
        # On a connection that works it may be anything, and its peer can say itself when it is gone.
        if not self.stream.heard:
            self.stream.fail(operation_error("read", "udp", self._where, "read", error))

    def connection_id_issued(self, stream: QuicStream, connection_id: bytes) -> None:
        """All that comes to the socket is for the one connection."""

    def connection_id_retired(self, stream: QuicStream, connection_id: bytes) -> None:
        """See above."""

    def stream_gone(self, stream: QuicStream) -> None:
        """Close the socket."""
        self._endpoint.close()


class PendingQuic:
    """An incoming connection whose QUIC handshake has begun."""

    def __init__(self, stream: QuicStream) -> None:
        self._stream = stream
        self.remote_address = stream.remote_address

    async def open(self) -> ByteStream:
        """Wait until the dialler has opened its stream (no time limit here); raises ``OSError``."""
        try:
            await self._stream.opened
        except BaseException:
            self._stream.close()
            raise
        return self._stream

    def close(self) -> None:
        """Drop the connection."""
        self._stream.close()


class QuicAcceptor:
    """A UDP socket with all the connections that came to it. It closes with the last of them."""

    names_peers = True

    def __init__(
        self, sock: socket.socket, config: QuicConfiguration, owner: QuicTransport, log: logging.Logger
    ) -> None:
        self._config = config
        self._owner = owner
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._family = sock.family
        self._endpoint = Endpoint(sock, self._received, self._batch_ended, self._failed, connected=False)
        self.address = self._endpoint.address
        self.port = self._endpoint.port
        self._retry = QuicRetryTokenHandler()
        self._routes: dict[bytes, QuicStream] = {}
        self._ids: dict[QuicStream, set[bytes]] = {}
        self._touched: dict[QuicStream, None] = {}
        self._unfinished: set[QuicStream] = set()
        self._fresh: deque[PendingQuic] = deque()
        self._caller: asyncio.Future[None] | None = None
        self._closed = False

    # -- what the listener sees --------------------------------------------------------------------------

    async def accept(self) -> PendingQuic:
        """Wait for the next connection."""
        while not self._fresh:
            self._caller = self._loop.create_future()
            try:
                await self._caller
            finally:
                self._caller = None
        return self._fresh.popleft()

    def close(self) -> None:
        """Take no more connections. Those that are there stay, and the socket with them."""
        self._closed = True
        while self._fresh:
            self._fresh.popleft().close()
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and not self._ids:
            self._endpoint.close()

    # -- datagrams ---------------------------------------------------------------------------------------

    def _received(self, data: bytes, sender: Any, source: Source) -> None:
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=self._config.connection_id_length)
        except ValueError:
            return
        stream = self._routes.get(header.destination_cid)
        if stream is None:
            stream = self._new_stream(data, header, sender, source)
        if stream is not None:
            self._touched[stream] = None
            stream.receive(data, sender, source)

    def _batch_ended(self) -> None:
        touched, self._touched = self._touched, {}
        for stream in touched:
            try:
                stream.advance()
            except Exception as error:  # a defect behind one link must not hold up the others
                self._loop.call_exception_handler({"message": "QUIC link failed", "exception": error})

    def _failed(self, error: OSError) -> None:
        self._log.debug("QUIC listener %s: %s", self.address, error_text(error))

    def _new_stream(self, data: bytes, header: QuicHeader, sender: Any, source: Source) -> QuicStream | None:
        """Return a new connection for a first packet, None if there is to be none (yet)."""
        if self._closed or header.version is None:
            return None
        if header.packet_type != QuicPacketType.VERSION_NEGOTIATION and (
            header.version not in self._config.supported_versions
        ):
            if len(data) >= SMALLEST_MAX_DATAGRAM_SIZE:  # our answer must not be larger than the question
                answer = encode_quic_version_negotiation(
                    source_cid=header.destination_cid,
                    destination_cid=header.source_cid,
                    supported_versions=self._config.supported_versions,
                )
                self._endpoint.send(answer, sender, source)
            return None
        if header.packet_type != QuicPacketType.INITIAL or len(data) < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        if len(self._fresh) >= MAX_FRESH:
            return None
        original, retried = header.destination_cid, None
        if header.token or len(self._unfinished) >= RETRY_ABOVE:
            proven = self._proven(header, sender, source)
            if proven is None:
                return None
            original, retried = proven, header.destination_cid
        quic = QuicConnection(
            configuration=self._config,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
        )
        stream = QuicStream(quic, self._endpoint, self, sockaddr_text(self._family, sender), source)
        self._ids[stream] = set()
        for connection_id in (header.destination_cid, quic.host_cid):
            self.connection_id_issued(stream, connection_id)
        self._unfinished.add(stream)
        stream.opened.add_done_callback(lambda _: self._unfinished.discard(stream))
        self._owner.watch(stream)
        self._fresh.append(PendingQuic(stream))
        if self._caller is not None and not self._caller.done():
            self._caller.set_result(None)
        return stream

    def _proven(self, header: QuicHeader, sender: Any, source: Source) -> bytes | None:
        """Return the connection id of the first attempt, if the token proves the sender's address; else ask for proof.

        Tokens that are none of ours (of an earlier life, or for another address) are treated like none.
        """
        now = self._loop.time()
        try:
            return self._retry.validate_token(
                address=sender, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            pass
        connection_id = os.urandom(self._config.connection_id_length)
        token = self._retry.create_token(
            address=sender,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=connection_id,
            now=now,
        )
        assert header.version is not None
        answer = encode_quic_retry(
            version=header.version,
            source_cid=connection_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=token,
        )
        self._endpoint.send(answer, sender, source)
        return None

    # -- connections -------------------------------------------------------------------------------------

    def connection_id_issued(self, stream: QuicStream, connection_id: bytes) -> None:
        """See ``StreamOwner``."""
        if stream in self._ids:
            self._routes[connection_id] = stream
            self._ids[stream].add(connection_id)

    def connection_id_retired(self, stream: QuicStream, connection_id: bytes) -> None:
        """See ``StreamOwner``."""
        if stream in self._ids and connection_id in self._ids[stream]:
            self._ids[stream].remove(connection_id)
            del self._routes[connection_id]

    def stream_gone(self, stream: QuicStream) -> None:
        """See ``StreamOwner``."""
        for connection_id in self._ids.pop(stream, ()):
            del self._routes[connection_id]
        self._unfinished.discard(stream)
        self._close_if_unused()
