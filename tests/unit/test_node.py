"""Complete nodes in one process: datagrams, IPv6 packets, restarts and the end of a node."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
import sys
from itertools import pairwise

import pytest

from yggpy import core, testing
from yggpy.address import Address
from yggpy.datapath.pure import PureDatapath
from yggpy.inbox import RECEIVE_QUEUE_BYTES, RECEIVE_QUEUE_LIMIT
from yggpy.inspection import NoAnswerError
from yggpy.keys import PrivateKey
from yggpy.links.manager import LinkManager
from yggpy.node import MAX_DATAGRAM, Node, NodeClosedError
from yggpy.questions import Question, QuestionError
from yggpy.sessions.crypto import seal_box
from yggpy.sessions.traffic import TrafficState
from yggpy.wire.handshake import encode_handshake
from yggpy.wire.inner import decode_keys

WAIT = 15.0

pytestmark = pytest.mark.usefixtures("plane")


async def receive(node: Node) -> tuple[bytes, bytes]:
    async with asyncio.timeout(WAIT):
        return await node.receive()


def ipv6_packet(source: Address, dest: Address, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), 59, 64) + source.packed + dest.packed + payload


async def test_a_datagram_travels_over_a_line_of_nodes() -> None:
    async with testing.nodes(4) as line:
        for one, two in pairwise(line):
            await testing.connect(one, two)
        await asyncio.sleep(2.5)  # two maintenance ticks: the tree and the bloom filters
        await line[0].send(line[3].public_key, b"end to end")
        assert await receive(line[3]) == (line[0].public_key, b"end to end")
        await line[3].send(line[0].public_key, b"and back")
        assert await receive(line[0]) == (line[3].public_key, b"and back")


async def test_the_first_datagram_is_not_lost_when_the_tree_is_still_forming() -> None:
    async with testing.nodes(3) as (left, middle, right):
        await testing.connect(left, middle)
        await testing.connect(right, middle)
        await left.send(right.public_key, b"early")
        assert await receive(right) == (left.public_key, b"early")


async def test_datagrams_of_every_size() -> None:
    async with testing.nodes(2) as (alice, bob):
        await testing.connect(alice, bob)
        for size in (0, 1, 1400, 65536, MAX_DATAGRAM):
            data = bytes(number & 0xFF for number in range(size))
            await alice.send(bob.public_key, data)
            assert await receive(bob) == (alice.public_key, data)


async def test_what_cannot_be_sent_is_refused() -> None:
    async with testing.nodes(1) as (node,):
        with pytest.raises(ValueError, match="at most"):
            await node.send(node.public_key, bytes(MAX_DATAGRAM + 1))
        with pytest.raises(ValueError, match="32 bytes"):
            await node.send(b"short", b"")


async def test_ipv6_packets_without_a_tun() -> None:
    async with testing.nodes(2) as (alice, bob):
        await testing.connect(alice, bob)
        packet = ipv6_packet(alice.address, bob.address, b"payload")
        await alice.send_packet(packet)
        async with asyncio.timeout(WAIT):
            assert await bob.receive_packet() == packet


async def test_a_forged_source_address_is_dropped() -> None:
    async with testing.nodes(3) as (alice, bob, mallory):
        await testing.connect(alice, bob)
        forged = ipv6_packet(mallory.address, bob.address, b"forged")
        await alice.send_packet(forged)  # dropped at the source: not alice's address
        await alice.send(bob.public_key, forged)  # dropped at the destination: not the sender's address
        honest = ipv6_packet(alice.address, bob.address, b"honest")
        await alice.send_packet(honest)
        async with asyncio.timeout(WAIT):
            assert await bob.receive_packet() == honest


async def test_a_datagram_that_looks_like_the_start_of_an_ipv6_packet_arrives() -> None:
    text = b"hello, this text begins with the nibble 6 and is longer than an IPv6 header"
    assert text[0] >> 4 == 6
    async with testing.nodes(2) as (alice, bob):
        await testing.connect(alice, bob)
        await alice.send(bob.public_key, text)
        assert await receive(bob) == (alice.public_key, text)


async def test_status_of_two_nodes() -> None:
    async with testing.nodes(2) as (alice, bob):
        await testing.connect(alice, bob, latency=0.002)
        await alice.send(bob.public_key, b"x")
        await receive(bob)
        (peer,) = alice.status_peers()
        assert peer.up and not peer.inbound and peer.key == bob.public_key and peer.port == 1
        assert peer.address == str(bob.address) and peer.bytes_sent > 123 and peer.bytes_received > 123
        assert peer.latency >= 0.004
        assert bob.status_peers()[0].inbound
        root = min(alice.public_key, bob.public_key)
        await asyncio.sleep(2.0)
        for node in (alice, bob):
            assert {entry.key for entry in node.status_tree()} == {alice.public_key, bob.public_key}
            assert {entry.parent for entry in node.status_tree()} == {root}
            assert node.status_self().routing_entries == 2
        (path,) = alice.status_paths()
        assert path.key == bob.public_key
        (session,) = bob.status_sessions()
        assert session.key == alice.public_key and session.bytes_received == 2
        assert alice.status_tun().enabled is False


async def test_nodes_answer_each_other_questions() -> None:
    async with testing.nodes(2) as (alice, bob):
        await testing.connect(alice, bob)
        await alice.send(bob.public_key, b"x")  # only the newest of several messages waits for a session
        await receive(bob)
        async with asyncio.timeout(WAIT):
            answers = await asyncio.gather(
                alice.ask(bob.public_key, Question.NODE_INFO),
                alice.ask(bob.public_key, Question.NODE_INFO),
                bob.ask(alice.public_key, Question.NODE_INFO),
                alice.ask(alice.public_key, Question.SELF),
                alice.ask(bob.public_key, Question.PEERS),
            )
        infos = [json.loads(answer) for answer in answers[:3]]
        assert infos == [json.loads(node.config.public_node_info()) for node in (bob, bob, alice)]
        assert json.loads(answers[3])["key"] == alice.public_key.hex()
        assert answers[4] == alice.public_key
        assert set(decode_keys(await alice.ask(bob.public_key, Question.TREE))) == {alice.public_key, bob.public_key}
        with pytest.raises(ValueError, match="a public key has 32 bytes, not 3"):
            await alice.ask(b"key", Question.SELF)


async def test_a_question_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core, "ANSWER_TIMEOUT", 0.05)
    async with testing.nodes(1) as (alice,):
        with pytest.raises(NoAnswerError, match=r"^no answer from 201:.* in 6 s"):
            await alice.ask(b"\x77" + b"\x77" * 31, Question.NODE_INFO)
        asking = asyncio.create_task(alice.ask(bytes(32), Question.TREE))
        await asyncio.sleep(0)
        assert len(alice.core.introspection.questions) == 1
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert len(alice.core.introspection.questions) == 0


async def test_a_question_ends_with_the_node() -> None:
    async with testing.nodes(1) as (alice,):
        asking = asyncio.create_task(alice.ask(bytes(32), Question.TREE))
        await asyncio.sleep(0)
    async with asyncio.timeout(1.0):
        with pytest.raises(NoAnswerError):
            await asking
    with pytest.raises(QuestionError, match="the node is closed"):
        await alice.ask(bytes(32), Question.TREE)


async def test_lookups_are_on_record_if_the_configuration_says_so() -> None:
    config = testing.quiet_config()
    config.log_lookups = True
    async with testing.nodes(1) as (alice,), Node(config) as bob:
        await testing.connect(alice, bob)
        await alice.send(bob.public_key, b"x")
        await receive(bob)
        assert bob.logs_lookups
        assert alice.public_key in [entry.key for entry in bob.status_lookups()]
        assert not alice.logs_lookups
        assert alice.status_lookups() == []


async def test_a_restarted_node_is_reached_again() -> None:
    config = testing.quiet_config()
    async with testing.nodes(1) as (alice,):
        async with Node(config) as bob:
            await testing.connect(alice, bob)
            await alice.send(bob.public_key, b"before")
            await receive(bob)
        async with Node(config) as bob:
            await testing.connect(alice, bob)
            for attempt in range(30):
                await alice.send(bob.public_key, b"after %d" % attempt)
                try:
                    async with asyncio.timeout(0.5):
                        source, data = await bob.receive()
                    break
                except TimeoutError:
                    continue
            assert source == alice.public_key and data.startswith(b"after")


async def test_readers_learn_that_the_node_is_closed() -> None:
    async with testing.nodes(1) as (node,):
        reading = asyncio.create_task(node.receive())
        await asyncio.sleep(0)
        await node.close()
        with pytest.raises(NodeClosedError):
            await reading
        with pytest.raises(NodeClosedError):
            await node.receive_packet()


async def test_a_closed_node_does_not_start() -> None:
    node = Node(testing.quiet_config())
    await node.close()
    with pytest.raises(NodeClosedError):
        await node.start()


async def test_a_node_closed_while_it_starts_opens_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    config = testing.quiet_config()
    config.if_name, config.listen = "auto", ["tcp://127.0.0.1:0"]
    node = Node(config)
    opened: list[str] = []
    monkeypatch.setattr(node, "_open_tun", lambda: opened.append("tun"))

    async def listen(manager: LinkManager, uri: str) -> None:
        await node.close()
        raise OSError("closed")

    monkeypatch.setattr(LinkManager, "listen", listen)
    with pytest.raises(NodeClosedError):
        await node.start()
    assert opened == []


async def test_sending_gives_way_to_the_event_loop() -> None:
    """A program that sends and sends must not keep its own node from writing, reading and answering."""
    async with testing.nodes(2) as (alice, bob):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        for _ in range(1000):
            await alice.send(bob.public_key, b"x")
        after_datagrams = turns
        for _ in range(1000):
            await alice.send_packet(ipv6_packet(alice.address, bob.address, b"x"))
        task.cancel()
        assert after_datagrams >= 10 and turns - after_datagrams >= 10


async def test_a_reader_that_gives_up_when_its_datagram_comes_leaves_it_to_the_next() -> None:
    async with testing.nodes(1) as (node,):
        first, second = (asyncio.create_task(node.receive()) for _ in range(2))
        await asyncio.sleep(0)
        node.datagram_received(node.public_key, b"for one of them")
        first.cancel()
        async with asyncio.timeout(WAIT):
            assert await second == (node.public_key, b"for one of them")


async def test_readers_that_gave_up_are_forgotten() -> None:
    async with testing.nodes(1) as (node,):
        for _ in range(100):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await node.receive()
        assert not node._datagrams._waiters


async def test_datagrams_that_nobody_receives_are_bounded_in_number_and_bytes() -> None:
    """A daemon never receives any, and anybody may send it some."""
    async with testing.nodes(1) as (node,):
        size = RECEIVE_QUEUE_BYTES // 100
        for number in range(200):
            node.datagram_received(node.public_key, number.to_bytes(size, "big"))
            node.ipv6_received(node.public_key, number.to_bytes(size, "big"))
        for number in range(100):
            assert (await node.receive())[1] == (await node.receive_packet()) == number.to_bytes(size, "big")
        for number in range(RECEIVE_QUEUE_LIMIT + 1):
            node.datagram_received(node.public_key, b"%d" % number)
        for number in range(RECEIVE_QUEUE_LIMIT):
            assert (await node.receive())[1] == b"%d" % number
        for reading in (node.receive(), node.receive_packet()):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await reading


async def test_a_link_that_ends_while_it_is_made_is_forgotten() -> None:
    """Garbage right behind the handshake is read ahead with it, and ends the link before anybody waits for its end."""
    async with testing.nodes(1) as (node,):
        ours, theirs = testing.memory_stream_pair()
        theirs.write(encode_handshake(PrivateKey.generate(), b"", 0) + b"\x00")
        await node.links.adopt(ours, inbound=True)
        await asyncio.sleep(0.1)
        assert node.status_peers() == [] and node.links.links() == []


async def test_a_plaintext_without_room_for_a_key_harms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over-long numbers let an authenticated sender seal less than the 32 bytes that must be there; Go panics."""
    pure = Node(testing.quiet_config(), datapath_factory=PureDatapath)
    async with pure as alice, Node(testing.quiet_config()) as bob:
        await testing.connect(alice, bob)
        await alice.send(bob.public_key, b"before")
        await receive(bob)

        def seal_too_little(state: TrafficState, message: bytes) -> bytes:
            keys = state._keys
            state._send_nonce += 1
            header = b"\x03" + b"".join(
                overlong(number) for number in (keys.local_key_seq, keys.remote_key_seq, state._send_nonce)
            )
            return header + seal_box(b"short", state._send_nonce, keys.send_shared)

        with monkeypatch.context() as patch:
            patch.setattr(TrafficState, "seal", seal_too_little)
            await alice.send(bob.public_key, b"ignored")
        await alice.send(bob.public_key, b"after")
        assert await receive(bob) == (alice.public_key, b"after")


def overlong(number: int) -> bytes:
    """Return ``number`` as a varint of ten bytes."""
    return bytes([number >> shift & 0x7F | 0x80 for shift in range(0, 63, 7)]) + b"\x00"


def test_a_node_starts_without_the_libraries_of_carriers_that_it_has_not() -> None:
    program = (
        "import asyncio, sys\n"
        "from yggpy.testing import nodes\n"
        "async def main():\n"
        "    async with nodes(1) as (node,):\n"
        "        await node.add_peer('tls://127.0.0.1:1')\n"
        "        await node.links.listen('tcp://127.0.0.1:0')\n"
        "asyncio.run(main())\n"
        "print([name for name in ('aioquic', 'websockets', 'python_socks') if name in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr


def test_a_program_that_ends_leaves_no_quic_socket_behind() -> None:
    program = (
        "import asyncio\n"
        "from yggpy.testing import nodes\n"
        "async def main():\n"
        "    async with nodes(2) as (one, two):\n"
        "        listener = await one.links.listen('quic://127.0.0.1:0')\n"
        "        await two.add_peer(f'quic://127.0.0.1:{listener.port}')\n"
        "        while not two.links.links()[0].up or not one.links.links():\n"
        "            await asyncio.sleep(0.01)\n"
        "        await two.send(one.public_key, b'hello')\n"
        "        print(await one.receive() == (two.public_key, b'hello'))\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-X", "dev", "-c", program]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("True\n", 0), result.stderr
    assert "ResourceWarning" not in result.stderr
