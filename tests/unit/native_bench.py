"""Data planes on the running event loop: recorded upcalls, real sockets and in-memory streams between them.

The bench of ``datapath_bench.py`` has a virtual clock and no thread; here the engine's thread runs, as in a daemon.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from pathlib import Path

from tests.unit.datapath_bench import OWN, REMOTE, Bench, session_in_step
from tests.unit.links_fakes import KEY_A, socket_pair
from yggpy.datapath.base import ByteStream, Datapath, LinkEnd, TlsIdentity, TlsParameters
from yggpy.datapath.certificate import make_identity
from yggpy.datapath.native import NativeDatapath
from yggpy.datapath.native_streams import open_stream as open_native
from yggpy.datapath.pure import PureDatapath
from yggpy.datapath.streams import open_stream as open_pure
from yggpy.node import LoopScheduler
from yggpy.routing.greedy import Coords, Fib, FibLink

IDENTITY = make_identity(KEY_A)
SERVER = TlsParameters(IDENTITY, True)
CLIENT = TlsParameters(IDENTITY, False, "peer.example")


class LiveBench(Bench):
    """A data plane for node ``key`` on the running loop; the native one with its thread."""

    def __init__(self, plane: str = "native", key: bytes = OWN) -> None:
        self.calls = []
        self.reject = None
        self.key = key
        self.clock = LoopScheduler()
        factory = NativeDatapath if plane == "native" else PureDatapath
        self.datapath: Datapath = factory(key, self.clock, self)

    async def __aenter__(self) -> LiveBench:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.datapath.close()

    def take(self) -> list[tuple[object, ...]]:
        """Return the upcalls since the last call."""
        calls, self.calls = self.calls, []
        return calls

    def frames(self) -> list[tuple[object, object]]:
        """Return type and payload of the protocol frames so far."""
        return [(call[2], call[3]) for call in self.calls if call[0] == "protocol_frame"]

    def messages(self) -> list[bytes]:
        """Return the messages of sessions so far."""
        return [call[2] for call in self.calls if call[0] == "message_received" and isinstance(call[2], bytes)]

    def ends(self) -> list[LinkEnd]:
        """Return the ends of links so far."""
        return [call[2] for call in self.calls if call[0] == "link_ended" and isinstance(call[2], LinkEnd)]

    def route(self, link_id: int, key: bytes) -> None:
        """Make ``key``, at the other end of a link, a child of ours that is to be reached there."""
        self.route_all((), [(link_id, key, (1,))])
        self.datapath.set_path(key, (1,))

    def route_all(self, self_path: Coords, links: list[tuple[int, bytes, Coords]]) -> None:
        """Lay out the tree: our coordinates, and (link id, key, coordinates) of our peers."""
        self.datapath.set_fib(Fib(self_path, [FibLink(number, key, path, 1, 0, number) for number, key, path in links]))


async def streams_between(
    *, tls: bool, tcp: bool = True, planes: tuple[str, str] = ("native", "native")
) -> tuple[ByteStream, ByteStream]:
    """Return the ends of a loopback connection; the second one is the TLS server."""
    one, two = socket_pair(tcp=tcp)
    if tcp:
        for sock in (one, two):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client, server = (CLIENT, SERVER) if tls else (None, None)
    return await asyncio.gather(_opened(planes[0], one, client), _opened(planes[1], two, server))


async def _opened(plane: str, sock: socket.socket, tls: TlsParameters | None) -> ByteStream:
    return await (open_native(sock, tls) if plane == "native" else open_pure(sock, tls))


async def joined(one: LiveBench, two: LiveBench, streams: tuple[ByteStream, ByteStream], *, link_id: int = 1) -> None:
    """Make a link of two streams, and give both sides a session and a path."""
    for bench, stream, other, keys in zip((one, two), streams, (two, one), session_in_step(), strict=True):
        bench.datapath.attach_link(link_id, other.key, stream)
        bench.route(link_id, other.key)
        bench.datapath.set_session(other.key, keys)


def other_bench(plane: str = "native") -> LiveBench:
    """Return a bench for node ``REMOTE``."""
    return LiveBench(plane, REMOTE)


def pattern(number: int, size: int) -> bytes:
    """Return ``size`` bytes that differ from those of any other number."""
    block = hashlib.sha256(b"%d" % number).digest()
    return (block * (size // len(block) + 1))[:size]


def trusting_context() -> ssl.SSLContext:
    """Return a context for clients that ask no questions."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def python_client(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Run the client's handshake on a blocking socket."""
    sock.setblocking(True)
    sock.settimeout(5)
    return context.wrap_socket(sock, server_hostname="anything.example")


def python_server(sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Run the server's handshake on a blocking socket."""
    sock.setblocking(True)
    sock.settimeout(5)
    return context.wrap_socket(sock, server_side=True)


def server_context(folder: Path, identity: TlsIdentity = IDENTITY) -> ssl.SSLContext:
    """Return a server's context of Python's own."""
    (folder / "cert").write_bytes(identity.certificate_pem)
    (folder / "key").write_bytes(identity.private_key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert", folder / "key")
    return context
