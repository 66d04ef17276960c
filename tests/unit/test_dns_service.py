"""The responder on loopback sockets, with nodes that are made up and with real ones joined in memory."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import Any, cast

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest

from yggpy import testing
from yggpy.address import Address
from yggpy.config.dns import DnsConfig, Endpoint
from yggpy.dns import forward, server, service
from yggpy.dns.service import DnsService
from yggpy.inspection import NoAnswerError
from yggpy.node import Node
from yggpy.reload import ReloadReport

OWN, ALICE, BOB = (bytes([number]) * 32 for number in (1, 2, 3))
LIMIT = 20.0
SECTION = DnsConfig(listen=("127.0.0.1:0", "[::1]:0"), hosts={"db": ("300::1",)}, trusted_keys=(ALICE.hex(), BOB.hex()))


class Mesh:
    """The other nodes: what they answer, and how often they were asked."""

    def __init__(self) -> None:
        self.infos: dict[bytes, bytes] = {}
        self.asked: list[bytes] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self, key: bytes) -> bytes:
        self.asked.append(key)
        await self.gate.wait()
        if key not in self.infos:
            raise NoAnswerError("nobody")
        return self.infos[key]


@asynccontextmanager
async def running(section: DnsConfig, mesh: Mesh | None = None) -> AsyncIterator[tuple[DnsService, list[Endpoint]]]:
    """Run a responder; gives it and where it listens."""
    clock = asyncio.get_running_loop().time
    ask = (mesh or Mesh()).ask
    made = DnsService(section, OWN, "me", ask, lambda address: None, logging.getLogger("test"), clock)
    assert await made.start() == []
    try:
        yield made, endpoints(made)
    finally:
        await made.close()


def endpoints(made: DnsService) -> list[Endpoint]:
    parts = (text.rpartition(":") for text in made.status().listening)
    return [(host.strip("[]"), int(port)) for host, _, port in parts]


async def ask(
    where: Endpoint, name: str, kind: str = "AAAA", *, tcp: bool = False, query: dns.message.Message | None = None
) -> dns.message.Message:
    query = query or dns.message.make_query(name, kind)
    send: Any = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    answer: dns.message.Message = await send(query, where[0], port=where[1], timeout=LIMIT)
    return answer


def texts(message: dns.message.Message) -> list[str]:
    return sorted(record.to_text() for rrset in message.answer for record in rrset)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- answers -------------------------------------------------------------------------------------------------


async def test_by_udp_and_tcp_on_both_families() -> None:
    async with running(SECTION) as (made, where):
        assert [host for host, _ in where] == ["127.0.0.1", "::1"]
        for endpoint in where:
            for tcp in (False, True):
                assert texts(await ask(endpoint, "DB.ygg", tcp=tcp)) == ["300::1"]
                assert texts(await ask(endpoint, "me.ygg", tcp=tcp)) == [str(Address.for_key(OWN))]
                assert (await ask(endpoint, "debian.org", tcp=tcp)).rcode() == dns.rcode.REFUSED
        counters = made.status().counters
        assert (counters.answered, counters.refused, counters.strangers, counters.malformed) == (8, 4, 0, 0)


@pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])
async def test_from_a_wildcard_the_answer_comes_from_where_it_was_asked(address: str) -> None:
    async with running(replace(SECTION, listen=(f"{address}:0",))) as (_, where):
        # dnspython takes an answer from no other address; 127.0.0.2 is not what the kernel would choose.
        asked = "127.0.0.2" if address == "0.0.0.0" else "::1"
        assert texts(await ask((asked, where[0][1]), "db.ygg")) == ["300::1"]


async def test_names_come_from_trusted_nodes_and_follow_a_reload() -> None:
    mesh = Mesh()
    mesh.infos = {ALICE: b'{"name": "web"}', BOB: b'{"name": "WEB"}'}
    async with running(SECTION, mesh) as (made, where):
        await until(lambda: not made.status().silent)
        assert texts(await ask(where[0], "web.ygg")) == [str(Address.for_key(ALICE))]
        (rejected,) = made.status().rejected
        assert (rejected.key, rejected.name) == (BOB, "WEB")
        reverse = ip_address(str(Address.for_key(ALICE))).reverse_pointer
        assert texts(await ask(where[0], reverse, "PTR")) == ["web.ygg."]

        changed = replace(SECTION, domain="other", trusted_keys=(BOB.hex(),), listen=("[::1]:0", "127.0.0.1:0"))
        assert await made.change(changed, "") == []
        assert sorted(endpoints(made)) == sorted(where)  # the sockets stayed
        assert texts(await ask(where[0], "web.other")) == [str(Address.for_key(BOB))]
        assert (await ask(where[0], "me.other")).rcode() == dns.rcode.NXDOMAIN
        assert (await ask(where[0], "db.ygg")).rcode() == dns.rcode.REFUSED
        assert await made.change(replace(changed, listen=()), "") == []
        assert made.status().listening == ()


async def test_a_name_that_is_just_being_asked_for_is_waited_for() -> None:
    mesh = Mesh()
    mesh.infos = {ALICE: b'{"name": "web"}'}
    mesh.gate.clear()
    section = replace(SECTION, trusted_keys=(ALICE.hex(),))
    async with running(section, mesh) as (_, where):
        waiting = asyncio.create_task(ask(where[0], "web.ygg"))
        await until(lambda: mesh.asked == [ALICE])
        await asyncio.sleep(0.05)
        assert not waiting.done()
        mesh.gate.set()
        assert texts(await waiting) == [str(Address.for_key(ALICE))]
        # Now nobody is being asked, and it is too soon to ask again.
        assert (await ask(where[0], "none.ygg")).rcode() == dns.rcode.NXDOMAIN
        assert mesh.asked == [ALICE]


async def test_a_node_that_does_not_answer_delays_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "WAIT_FOR_NAME", 0.2)
    monkeypatch.setattr(service, "MAX_WAITING", 1)
    mesh = Mesh()
    mesh.gate.clear()
    async with running(SECTION, mesh) as (_, where):
        first = asyncio.create_task(ask(where[0], "web.ygg"))
        await until(lambda: len(mesh.asked) == 2)
        # Only so many wait; the others hear at once what is known.
        assert (await ask(where[0], "x.ygg")).rcode() == dns.rcode.NXDOMAIN
        assert (await first).rcode() == dns.rcode.NXDOMAIN
        assert texts(await ask(where[0], "db.ygg")) == ["300::1"]


async def test_an_address_that_cannot_be_listened_on_is_told_and_harms_nothing_else() -> None:
    async with running(SECTION) as (_, where):
        port = where[0][1]
        made = DnsService(
            replace(SECTION, listen=(f"127.0.0.1:{port}", "192.0.2.1:53", "127.0.0.1:0")),
            OWN,
            "",
            Mesh().ask,
            lambda address: None,
            logging.getLogger("test"),
            asyncio.get_running_loop().time,
        )
        taken, absent = await made.start()
        assert f"127.0.0.1:{port}: address already in use; another program has the port" in taken
        assert "192.0.2.1:53: cannot assign requested address; this machine has no such address" in absent
        assert texts(await ask(endpoints(made)[0], "db.ygg")) == ["300::1"]
        await made.close()


# -- strangers, floods, junk ---------------------------------------------------------------------------------


def test_who_may_ask() -> None:
    section = replace(SECTION, clients=("172.17.0.0/16",))
    made = DnsService(section, OWN, "", Mesh.ask, lambda a: None, logging.getLogger(), lambda: 0.0)  # type: ignore[arg-type]
    own = Address.for_key(OWN)
    subnet = str(own.subnet).removesuffix("/64") + "7"
    for text in ("127.0.0.1", "127.9.9.9", "::1", str(own), subnet, "172.17.3.4"):
        assert made.may_ask(ip_address(text)), text
    strangers = ("10.0.0.1", "172.18.0.1", "200::1", "300::1", "fe80::1", "8.8.8.8", str(Address.for_key(ALICE)))
    for text in strangers:
        assert not made.may_ask(ip_address(text)), text
    assert made.status().counters.strangers == len(strangers)


async def test_strangers_get_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DnsService, "may_ask", lambda self, client: False)
    async with running(SECTION) as (_, where):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect(where[0])
            await asyncio.get_running_loop().sock_sendall(udp, dns.message.make_query("db.ygg", "AAAA").to_wire())
            reader, writer = await asyncio.open_connection(*where[0])
            assert await reader.read() == b""
            writer.close()
            with pytest.raises(BlockingIOError):
                udp.recv(1)


async def test_junk_is_answered_by_a_header_or_not_at_all() -> None:
    async with running(SECTION) as (made, where):
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.setblocking(False)
            udp.connect(where[0])
            for junk in (b"", b"x", bytes(11), b"\0\1\x80\0\0\1\0\0\0\0\0\0", bytes(5000)):
                await loop.sock_sendall(udp, junk)
            await loop.sock_sendall(udp, b"\0\7" + bytes(20))
            async with asyncio.timeout(LIMIT):
                assert (await loop.sock_recv(udp, 100))[:4] == b"\0\7\x80\1"
        assert texts(await ask(where[0], "db.ygg")) == ["300::1"]
        assert made.status().counters.malformed == 5  # the one of 5000 bytes was not even read


@pytest.mark.parametrize("sent", [b"\0\5abc", b"\0\0", b"\xff\xff" + bytes(100), b"\0\1x"])
async def test_tcp_clients_that_send_junk_are_hung_up_on(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_TIMEOUT", 0.2)
    async with running(SECTION) as (_, where):
        reader, writer = await asyncio.open_connection(*where[0])
        writer.write(sent)
        async with asyncio.timeout(LIMIT):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()
        assert texts(await ask(where[0], "db.ygg", tcp=True)) == ["300::1"]


async def test_many_questions_on_one_connection() -> None:
    async with running(SECTION) as (_, where):
        reader, writer = await asyncio.open_connection(*where[0])
        query = dns.message.make_query("db.ygg", "AAAA").to_wire()
        writer.write((struct.pack(">H", len(query)) + query) * 5)
        for _ in range(5):
            (length,) = struct.unpack(">H", await reader.readexactly(2))
            assert texts(dns.message.from_wire(await reader.readexactly(length))) == ["300::1"]
        writer.close()


async def test_the_end_hangs_up_on_clients_and_is_no_error() -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    mesh = Mesh()
    mesh.gate.clear()
    async with running(SECTION, mesh) as (made, where):
        reader, writer = await asyncio.open_connection(*where[0])
        query = dns.message.make_query("web.ygg", "AAAA").to_wire()
        writer.write(struct.pack(">H", len(query)) + query)
        waiting = asyncio.create_task(ask(where[0], "web.ygg"))
        await until(lambda: made.status().counters.answered == 2)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await reader.readexactly(1)
    writer.close()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert errors == []


async def test_idlers_make_room_for_whoever_asks_by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CLIENTS", 4)
    async with running(SECTION) as (_, where):
        held = [await asyncio.open_connection(*where[0]) for _ in range(12)]
        for _ in range(20):
            assert texts(await ask(where[0], "db.ygg", tcp=True)) == ["300::1"]
        async with asyncio.timeout(LIMIT):
            for reader, _ in held[:8]:
                assert await reader.read() == b""
        for _, writer in held:
            writer.close()


async def test_connections_that_wait_for_an_answer_are_not_ended_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CLIENTS", 2)
    mesh = Mesh()
    mesh.gate.clear()
    async with running(SECTION, mesh) as (made, where):
        waiting = [asyncio.create_task(ask(where[0], "web.ygg", tcp=True)) for _ in range(2)]
        await until(lambda: made.status().counters.answered == 2)
        reader, writer = await asyncio.open_connection(*where[0])
        async with asyncio.timeout(LIMIT):
            assert await reader.read() == b"", "hung up on"
        writer.close()
        mesh.infos[ALICE] = b'{"name":"web"}'
        mesh.gate.set()
        assert [texts(await each) for each in waiting] == [[str(Address.for_key(ALICE))]] * 2


async def test_queries_in_a_second_are_bounded() -> None:
    async with running(replace(SECTION, listen=())) as (made, _):
        query = dns.message.make_query("db.ygg", "AAAA").to_wire()
        made._now = lambda: 5.0
        answers = [made.answer(query, stream=False) for _ in range(service.MAX_QUERIES_PER_SECOND + 10)]
        assert sum(answer is not None for answer in answers) == service.MAX_QUERIES_PER_SECOND
        assert made.status().counters.dropped == 10


# -- forwarding ----------------------------------------------------------------------------------------------


class Upstream(asyncio.DatagramProtocol):
    """A resolver by UDP that does with each query what a test says."""

    def __init__(self, answer: Callable[[dns.message.Message], list[bytes]]) -> None:
        self._answer = answer
        self.queries: list[dns.message.Message] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: Any) -> None:
        query = dns.message.from_wire(data)
        self.queries.append(query)
        assert self.transport is not None
        for answer in self._answer(query):
            self.transport.sendto(answer, address)


@asynccontextmanager
async def upstream(answer: Callable[[dns.message.Message], list[bytes]]) -> AsyncIterator[tuple[Upstream, str]]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(lambda: Upstream(answer), local_addr=("127.0.0.1", 0))
    try:
        yield protocol, f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()


def answered(query: dns.message.Message, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, count: int = 1) -> bytes:
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    if rcode == dns.rcode.NOERROR:
        lines = [f"2001:db8::{number:x}" for number in range(1, count + 1)]
        response.answer.append(dns.rrset.from_text_list(query.question[0].name, 60, "IN", "AAAA", lines))
    return response.to_wire()


async def test_other_names_are_passed_on_and_ours_never() -> None:
    async with (
        upstream(lambda query: [answered(query)]) as (resolver, where_it_is),
        running(replace(SECTION, forward=(where_it_is,), trusted_keys=())) as (made, where),
    ):
        answer = await ask(where[0], "debian.org")
        assert texts(answer) == ["2001:db8::1"] and not answer.flags & dns.flags.AA
        await ask(where[0], "nobody.ygg")
        await ask(where[0], ip_address("200::7").reverse_pointer, "PTR")
        unwilling = dns.message.make_query("debian.org", "AAAA", flags=0)
        assert (await ask(where[0], "", query=unwilling)).rcode() == dns.rcode.REFUSED
        assert [query.question[0].name.to_text() for query in resolver.queries] == ["debian.org."]
        assert made.status().counters.forwarded == 1
        assert (await ask(where[0], "db.ygg")).flags & dns.flags.RA


async def test_forged_answers_do_not_count() -> None:
    def forge(query: dns.message.Message) -> list[bytes]:
        good = answered(query)
        other = dns.message.make_query("evil.example", "AAAA", id=query.id)
        return [b"", b"x", query.to_wire(), bytes([good[0] ^ 1]) + good[1:], answered(other, count=3), good]

    async with upstream(forge) as (_, where_it_is), running(replace(SECTION, forward=(where_it_is,))) as (_, where):
        assert texts(await ask(where[0], "debian.org")) == ["2001:db8::1"]


async def test_ids_are_not_those_of_the_client() -> None:
    async with (
        upstream(lambda query: [answered(query)]) as (resolver, where_it_is),
        running(replace(SECTION, forward=(where_it_is,))) as (_, where),
    ):
        for _ in range(8):
            await ask(where[0], "", query=dns.message.make_query("debian.org", "AAAA", id=7))
        assert len({query.id for query in resolver.queries}) > 4


async def test_the_next_resolver_is_asked_when_one_does_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "ATTEMPT_TIMEOUT", 0.1)
    async with (
        upstream(lambda query: []) as (silent, first),
        upstream(lambda query: [answered(query, dns.rcode.SERVFAIL)]) as (_, second),
        upstream(lambda query: [answered(query)]) as (_, third),
        running(replace(SECTION, forward=(first, second, third))) as (made, where),
    ):
        assert texts(await ask(where[0], "debian.org")) == ["2001:db8::1"]
        assert texts(await ask(where[0], "debian.org")) == ["2001:db8::1"]
        assert len(silent.queries) == 1  # the one that helped is asked first now
        assert await made.change(replace(SECTION, forward=(first, second)), "") == []
        assert (await ask(where[0], "debian.org")).rcode() == dns.rcode.SERVFAIL
        assert await made.change(replace(SECTION, forward=(first,)), "") == []
        assert (await ask(where[0], "debian.org")).rcode() == dns.rcode.SERVFAIL
        assert made.status().counters.failed == 1
        assert texts(await ask(where[0], "db.ygg")) == ["300::1"]


async def test_forwards_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "MAX_FORWARDS", 2)
    async with (
        upstream(lambda query: []) as (silent, where_it_is),
        running(replace(SECTION, forward=(where_it_is,))) as (_, where),
    ):
        held = [asyncio.create_task(ask(where[0], f"x{number}.org")) for number in range(2)]
        await until(lambda: len(silent.queries) >= 2)
        assert (await ask(where[0], "y.org")).rcode() == dns.rcode.SERVFAIL
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)


async def test_a_long_answer_is_truncated_for_a_client_that_takes_less() -> None:
    async with (
        upstream(lambda query: [answered(query, count=60)]) as (_, where_it_is),
        running(replace(SECTION, forward=(where_it_is,))) as (_, where),
    ):
        answer = await ask(where[0], "debian.org")
        assert answer.flags & dns.flags.TC and answer.answer == []


async def test_questions_by_tcp_are_passed_on_by_tcp() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack(">H", await reader.readexactly(2))
        answer = answered(dns.message.from_wire(await reader.readexactly(length)), count=300)
        writer.write(struct.pack(">H", len(answer)) + answer)
        writer.close()

    resolver = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with resolver:
        port = resolver.sockets[0].getsockname()[1]
        async with running(replace(SECTION, forward=(f"127.0.0.1:{port}",))) as (_, where):
            assert len(texts(await ask(where[0], "debian.org", tcp=True))) == 300


# -- real nodes ----------------------------------------------------------------------------------------------


async def test_nodes_know_each_other_by_name() -> None:
    async with testing.nodes(2) as (alice, stranger):
        alice.core.introspection.node_info = b'{"name":"alice"}'
        stranger.core.introspection.node_info = b'{"name":"alice"}'
        config = testing.quiet_config()
        config.node_info = {"name": "asker"}
        config.dns = DnsConfig(listen=("127.0.0.1:0",), trusted_keys=(alice.public_key.hex(),))
        async with Node(config) as asker:
            await testing.connect(asker, stranger)
            await testing.connect(asker, alice)
            status = asker.status_names()
            assert status is not None
            host, port = status.listening[0].split(":")
            await until(lambda: (now := asker.status_names()) is not None and not now.silent)
            assert texts(await ask((host, int(port)), "alice.ygg")) == [str(alice.address)]
            assert texts(await ask((host, int(port)), "asker.ygg")) == [str(asker.address)]
            # The stranger is known by its key alone, once there was traffic with it.
            await stranger.send_packet(_packet(stranger, asker))
            await asker.receive_packet()
            pointer = await ask((host, int(port)), ip_address(str(stranger.address)).reverse_pointer, "PTR")
            stranger_status = asker.status_names(stranger.public_key)
            assert stranger_status is not None
            assert texts(pointer) == [f"{stranger_status.key_names[0]}."]

            report = await asker.reload(replace(config, node_info={"name": "other"}))
            assert report.changes == ("NodeInfo changed",)
            assert texts(await ask((host, int(port)), "other.ygg")) == [str(asker.address)]
            report = await asker.reload(replace(asker.config, dns=replace(config.dns, listen=("192.0.2.1:53",))))
            assert report.changes == ("DNS changed",) and "192.0.2.1:53" in report.warnings[0]
            assert (await asker.reload(replace(asker.config, dns=None))).changes == ("DNS changed",)
            assert asker.status_names() is None
            assert (await asker.reload(replace(asker.config, dns=config.dns))).changes == ("DNS changed",)
            assert asker.status_names() is not None


def _packet(source: Node, dest: Node) -> bytes:
    return b"\x60\0\0\0\0\0\x3b\x40" + source.address.packed + dest.address.packed


async def test_a_reload_tries_again_to_listen_where_it_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config = replace(testing.quiet_config(), dns=replace(SECTION, listen=(taken, "127.0.0.1:0")))
        async with Node(config) as node:
            warning = f"Cannot listen for DNS on {taken}: address already in use; another program has the port"
            report = await node.reload(replace(config))
            assert report.changes == () and report.warnings[0].startswith(warning)
            other.close()
            assert await node.reload(replace(config)) == ReloadReport((f"DNS responder listens on {taken} now",), ())
            assert await node.reload(replace(config)) == ReloadReport((), ())
            status = node.status_names()
            assert status is not None and taken in status.listening
            assert await node.reload(replace(config, dns=None)) == ReloadReport(("DNS changed",), ())
