"""Dialling and listening over loopback: addresses, interfaces, sources, and the words for everything that fails."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import threading

import pytest

from tests.unit.links_fakes import WAIT, until
from yggpy.datapath.base import ByteStream
from yggpy.datapath.streams import open_stream
from yggpy.links import dial, interfaces, listen, resolve
from yggpy.links.dial import dial_tcp, is_suitable
from yggpy.links.interfaces import Interface, find_interface, is_global_unicast, source_address
from yggpy.links.listen import listen_tcp
from yggpy.links.resolve import MAX_LOOKUPS, Resolver, TransportError, as_address

LOG = logging.getLogger("test")


async def plain(sock: socket.socket) -> ByteStream:
    return await open_stream(sock, None)


async def dial_plain(host_port: str, interface: str = "") -> ByteStream:
    return await dial_tcp(host_port, interface, plain, Resolver(), LOG)


async def dial_error(host_port: str, interface: str = "") -> str:
    with pytest.raises(OSError) as caught:
        await dial_plain(host_port, interface)
    return str(caught.value)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def set_interface(monkeypatch: pytest.MonkeyPatch, *addresses: str, up: bool = True) -> None:
    """Let interface ``test0`` exist, with these addresses."""
    found = Interface("test0", 7, up, tuple(ipaddress.ip_address(address) for address in addresses))
    monkeypatch.setattr(dial, "find_interface", lambda name: found if name == "test0" else None)


# -- dial ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::ffff:127.0.0.1"])
async def test_dial_connects_without_delay_or_keepalive(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stream = await dial_plain(f"[{host}]:{port}")
        assert stream.remote_address == f"127.0.0.1:{port}"
        accepted, peer = server.accept()
        assert stream.local_address == f"127.0.0.1:{peer[1]}"
        stream.close()
        accepted.close()


async def test_options_of_a_dialled_socket() -> None:
    options: list[int] = []

    async def look(sock: socket.socket) -> ByteStream:
        options.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        options.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        return await plain(sock)

    with socket.create_server(("127.0.0.1", 0)) as server:
        stream = await dial_tcp(f"127.0.0.1:{server.getsockname()[1]}", "", look, Resolver(), LOG)
        stream.close()
    assert options[0] != 0 and options[1] == 0


@pytest.mark.parametrize(
    ("host_port", "error"),
    [
        ("10.77.0.2", "address 10.77.0.2: missing port in address"),
        ("", "missing port in address"),
        ("1:2:3:4", "address 1:2:3:4: too many colons in address"),
        ("127.0.0.1:", 'strconv.Atoi: parsing "": invalid syntax'),
        ("127.0.0.1:99999", "dial tcp: address 99999: invalid port"),
        ("127.0.0.1:" + "9" * 5000, "dial tcp: address " + "9" * 5000 + ": invalid port"),
        (":5", "lookup : no such host"),
        ("x..y:1", "lookup x..y: no such host"),
        ("[fe80::1%eth0]:5", "link-local address requires a zone"),
        ("169.254.1.1:5", "link-local address requires a zone"),
        ("0.0.0.0:5", "peer has no suitable addresses"),
        ("[::]:5", "peer has no suitable addresses"),
        ("[ff02::1]:5", "peer has no suitable addresses"),
        ("224.0.0.1:5", "peer has no suitable addresses"),
        ("[200::1]:5", "peer has no suitable addresses"),
        ("[3ff:ffff::1]:5", "peer has no suitable addresses"),
    ],
)
async def test_words_of_go_for_addresses_that_cannot_be_dialled(host_port: str, error: str) -> None:
    assert await dial_error(host_port) == error


async def test_refused_connection() -> None:
    port = closed_port()
    assert await dial_error(f"127.0.0.1:{port}") == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


async def test_next_address_is_tried_and_the_last_error_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [(socket.AF_INET, 1, 6, "", (host, 0)) for host in ("127.0.0.2", "0.0.0.0", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: answer)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stream = await dial_plain(f"peer.example:{port}")
        assert stream.remote_address == f"127.0.0.1:{port}"
        stream.close()
    assert await dial_error(f"peer.example:{port}") == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


async def test_time_limit_of_connect_and_of_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "DIAL_TIMEOUT", 0.02)

    async def never(sock: socket.socket) -> ByteStream:
        with sock:
            await asyncio.sleep(WAIT)
        raise AssertionError

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(TransportError, match=rf"^tls handshake with 127\.0\.0\.1:{port}: i/o timeout$"):
            await dial_tcp(f"127.0.0.1:{port}", "", never, Resolver(), LOG)

    async def hang(*args: object) -> None:
        await asyncio.sleep(WAIT)

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", hang)
    assert await dial_error("127.0.0.1:1") == "dial tcp 127.0.0.1:1: i/o timeout"


async def test_interface_must_exist_be_up_and_have_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await dial_error("127.0.0.1:1", "nosuch0") == 'interface "nosuch0" not found'
    assert await dial_error("[fe80::1]:1", "nosuch0") == 'interface "nosuch0" not found'
    set_interface(monkeypatch, "192.0.2.1", up=False)
    assert await dial_error("127.0.0.1:1", "test0") == 'interface "test0" is not up'
    set_interface(monkeypatch, "2001:db8::1")
    assert await dial_error("127.0.0.1:1", "test0") == 'no suitable source address found on interface "test0"'


async def test_source_shows_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_interface(monkeypatch, "192.0.2.1")
    assert await dial_error("127.0.0.1:1", "test0") == (
        "dial tcp 192.0.2.1%test0:0->127.0.0.1:1: bind: cannot assign requested address"
    )


async def test_loopback_interface_has_no_source_address() -> None:
    assert await dial_error("127.0.0.1:1", "lo") == 'no suitable source address found on interface "lo"'


def test_mesh_addresses_are_not_suitable() -> None:
    assert is_suitable(ipaddress.ip_address("fe80::1"))
    assert is_suitable(ipaddress.ip_address("400::1"))
    assert not is_suitable(ipaddress.ip_address("300::1"))


# -- interfaces ----------------------------------------------------------------------------------------------


def test_find_interface() -> None:
    found = find_interface("lo")
    assert found is not None
    assert found.index == socket.if_nametoindex("lo")
    assert find_interface("nosuch0") is None
    assert find_interface("") is None
    assert find_interface("x" * 40) is None


def test_find_interface_reads_both_families(monkeypatch: pytest.MonkeyPatch) -> None:
    import ifaddr

    adapter = ifaddr.Adapter(
        "lo", "lo", [ifaddr.IP("192.0.2.1", 24, "lo"), ifaddr.IP(("fe80::1%lo", 0, 1), 64, "lo")], index=1
    )
    monkeypatch.setattr(ifaddr, "get_adapters", lambda: [adapter])
    found = find_interface("lo")
    assert found is not None
    assert [str(address) for address in found.addresses] == ["192.0.2.1", "fe80::1"]


@pytest.mark.parametrize(
    ("destination", "source"),
    [
        ("198.51.100.1", "10.0.0.1"),
        ("2001:db8::9", "2001:db8::1"),
        ("fe80::9", "fe80::1"),
        ("127.0.0.1", "10.0.0.1"),
    ],
)
def test_source_address_rule(destination: str, source: str) -> None:
    addresses = ("127.0.0.1", "10.0.0.1", "fe80::1", "2001:db8::1")
    interface = Interface("test0", 1, True, tuple(ipaddress.ip_address(address) for address in addresses))
    assert source_address(interface, ipaddress.ip_address(destination)) == ipaddress.ip_address(source)


def test_global_unicast_as_go_means_it() -> None:
    for text in ("10.0.0.1", "192.0.2.1", "2001:db8::1", "fd00::1"):
        assert is_global_unicast(ipaddress.ip_address(text))
    for text in ("0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "ff02::1"):
        assert not is_global_unicast(ipaddress.ip_address(text))


# -- resolve -------------------------------------------------------------------------------------------------


def test_literals() -> None:
    assert as_address("fe80::1%eth0") == ipaddress.ip_address("fe80::1")
    assert as_address("::ffff:192.0.2.1") == ipaddress.ip_address("192.0.2.1")
    assert as_address("peer.example") is None


async def test_resolver_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(TransportError, match=r"^lookup peer\.example: no such host$"):
        await Resolver().addresses("peer.example")
    error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    with pytest.raises(TransportError, match=r"^lookup peer\.example: Temporary failure in name resolution$"):
        await Resolver().addresses("peer.example")


async def test_look_ups_are_bounded_and_may_be_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    running: list[str] = []

    def slow(host: str, *args: object, **options: object) -> list[object]:
        running.append(host)
        release.wait(WAIT)
        return [(socket.AF_INET, 1, 6, "", ("192.0.2.1", 0))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    resolver = Resolver()
    lookups = [asyncio.ensure_future(resolver.addresses(f"h{index}")) for index in range(MAX_LOOKUPS + 1)]
    await until(lambda: len(running) == MAX_LOOKUPS)
    lookups[0].cancel()  # its thread goes on, and keeps its place
    await asyncio.sleep(0.01)
    assert len(running) == MAX_LOOKUPS
    release.set()
    answers = await asyncio.gather(*lookups, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [[ipaddress.ip_address("192.0.2.1")]] * MAX_LOOKUPS


# -- listen --------------------------------------------------------------------------------------------------


async def listening(host_port: str, interface: str = "") -> listen.TcpAcceptor:
    return await listen_tcp(host_port, interface, plain, Resolver())


async def listen_error(host_port: str, interface: str = "") -> str:
    with pytest.raises(OSError) as caught:
        (await listening(host_port, interface)).close()
    return str(caught.value)


async def test_listen_and_accept() -> None:
    acceptor = await listening("127.0.0.1:0")
    assert acceptor.address == f"127.0.0.1:{acceptor.port}"
    client = await dial_plain(acceptor.address)
    pending = await acceptor.accept()
    assert pending.remote_address == client.local_address
    stream = await pending.open()
    client.write(b"x")
    assert await stream.read_exactly(1) == b"x"
    client.close()
    acceptor.close()
    pending.close()


@pytest.mark.parametrize("host", ["", "0.0.0.0", "[::]"])
async def test_unspecified_means_both_families(host: str) -> None:
    acceptor = await listening(f"{host}:0")
    assert acceptor.address == f"[::]:{acceptor.port}"
    client = await dial_plain(f"127.0.0.1:{acceptor.port}")
    pending = await acceptor.accept()
    assert pending.remote_address == client.local_address
    pending.close()
    client.close()
    acceptor.close()


async def test_without_ipv6_all_means_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_ipv6_works", lambda: False)
    real = listen._bind

    def no_ipv6(network: str, family: socket.AddressFamily, *args: object, **options: object) -> socket.socket:
        if family == socket.AF_INET6:
            raise TransportError("no IPv6")
        return real(network, family, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(listen, "_bind", no_ipv6)
    acceptor = await listening(":0")
    assert acceptor.address == f"0.0.0.0:{acceptor.port}"
    acceptor.close()


async def test_listen_errors() -> None:
    acceptor = await listening("127.0.0.1:0")
    assert await listen_error(acceptor.address) == f"listen tcp {acceptor.address}: bind: address already in use"
    both = f"[::]:{acceptor.port}"
    assert await listen_error(f":{acceptor.port}") == f"listen tcp {both}: bind: address already in use"
    acceptor.close()
    assert await listen_error("127.0.0.1") == "listen tcp: address 127.0.0.1: missing port in address"
    assert await listen_error("127.0.0.1:70000") == "listen tcp: address 70000: invalid port"
    assert await listen_error("x..y:1") == "listen tcp: lookup x..y: no such host"
    assert await listen_error("[fe80::1]:0", "nosuch0") == 'listen tcp: interface "nosuch0" not found'
    assert await listen_error("192.0.2.1:0") == "listen tcp 192.0.2.1:0: bind: cannot assign requested address"


async def test_listen_by_name() -> None:
    acceptor = await listening("localhost:0")
    assert acceptor.address.startswith(("127.0.0.1:", "[::1]:"))
    acceptor.close()


def test_limits_are_what_the_protocol_says() -> None:
    assert dial.DIAL_TIMEOUT == 5.0
    assert interfaces.MAX_NAME == 15
    assert resolve.MAX_ADDRESSES == 64
