"""``subscribe``: lines of events on the admin socket, and clients that read slowly, never, or go away."""

from __future__ import annotations

import asyncio
import json
import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_admin_commands import FakeNode
from tests.unit.test_admin_server import GET_TUN, LOGGER, WAIT, Client
from yggpy.admin import server as admin_server
from yggpy.admin.server import AdminServer
from yggpy.events.hub import MAX_QUEUED_EVENTS, MAX_SUBSCRIBERS
from yggpy.events.model import GROUPS, MulticastDown, TunUp

SUBSCRIBE = b'{"request": "subscribe"}'


class Lab:
    """A server, and the node whose events it sends."""

    def __init__(self, path: Path) -> None:
        self.path = path / "admin.sock"
        self.node = FakeNode({"enabled": False})
        self.server = AdminServer(self.node, f"unix://{self.path}", LOGGER, "yggdrasil", "0.5.14")

    async def __aenter__(self) -> Lab:
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in Client.opened:
            writer.transport.abort()
        Client.opened.clear()
        await self.server.close()

    def happen(self, number: int = 1, name: str = "tun0") -> None:
        for mtu in range(number):
            self.node.hub.publish(partial(_tun_up, name, mtu))

    async def subscribers(self, count: int) -> None:
        async with asyncio.timeout(WAIT):
            while self.node.hub.subscribers != count:  # noqa: ASYNC110  the hub tells nobody
                await asyncio.sleep(0.002)


def _tun_up(name: str, mtu: int, time: float) -> TunUp:
    return TunUp(time=time, interface=name, mtu=mtu)


async def line(client: Client) -> dict[str, Any]:
    async with asyncio.timeout(WAIT):
        found: dict[str, Any] = json.loads(await client.reader.readline())
    return found


async def test_events_come_as_lines_after_the_answer(tmp_path: Path) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(b'{"request": "SUBSCRIBE", "arguments": {"events": " TUN, links,"}}')
        answer = await line(client)
        assert answer["status"] == "success" and answer["response"] == {"events": ["links", "tun"]}
        assert answer["request"]["request"] == "SUBSCRIBE"
        lab.node.hub.publish(lambda time: MulticastDown(time=time, interface="eth0"))
        lab.happen()
        expected = {"event": "tun_up", "time": 1700000000.0, "interface": "tun0", "mtu": 0}
        assert await line(client) == expected
        lab.happen()
        assert await line(client) == expected


async def test_without_a_choice_all_groups(tmp_path: Path) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(SUBSCRIBE)
        assert (await line(client))["response"] == {"events": list(GROUPS)}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (
            '{"events": "weather"}',
            'there are no events "weather"; there are: links, paths, sessions, tree, tun, multicast',
        ),
        (
            '{"events": 5}',
            "json: cannot unmarshal number into Go struct field SubscribeRequest.events of type string",
        ),
    ],
)
async def test_a_bad_choice_is_an_error_like_any_other(tmp_path: Path, arguments: str, error: str) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(b'{"request": "subscribe", "keepalive": true, "arguments": %b}' % arguments.encode())
        answer = await client.answer()
        assert (answer["status"], answer["error"]) == ("error", error)
        client.send(GET_TUN)  # the connection goes on
        assert (await client.answer())["status"] == "success"
        assert lab.node.hub.subscribers == 0


@pytest.mark.parametrize("how", ["close", "half-close"])
async def test_a_client_that_leaves_frees_its_place(tmp_path: Path, how: str) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(SUBSCRIBE)
        await line(client)
        await lab.subscribers(1)
        if how == "close":
            client.writer.close()
        else:
            client.writer.write_eof()
        await lab.subscribers(0)
        if how == "half-close":
            assert await client.rest() == b""


async def test_what_a_subscriber_says_is_thrown_away(tmp_path: Path) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(SUBSCRIBE + b"}{ junk" * 1000)
        await line(client)
        client.send(GET_TUN * 100)
        lab.happen()
        assert (await line(client))["event"] == "tun_up"


async def test_subscribers_are_bounded_and_others_still_get_in(tmp_path: Path) -> None:
    async with Lab(tmp_path) as lab:
        for _ in range(MAX_SUBSCRIBERS):
            client = await Client.connect(lab.path)
            client.send(SUBSCRIBE)
            await line(client)
        late = await Client.connect(lab.path)
        late.send(SUBSCRIBE)
        assert "others subscribe already" in (await late.answer())["error"]
        operator = await Client.connect(lab.path)
        operator.send(GET_TUN)
        assert (await operator.answer())["status"] == "success"


async def test_a_client_that_never_reads_harms_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_server, "STREAM_WRITE_TIMEOUT", 0.5)
    async with Lab(tmp_path) as lab:
        with socket.socket(socket.AF_UNIX) as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.connect(str(lab.path))
            silent.sendall(SUBSCRIBE)
            await lab.subscribers(1)
            reader = await Client.connect(lab.path)
            reader.send(SUBSCRIBE)
            await line(reader)
            for _ in range(20):
                lab.happen(100, "x" * 1000)
                for _ in range(100):
                    assert (await line(reader))["event"] == "tun_up"  # nothing lost here
            await lab.subscribers(1)  # who took nothing for so long is cut off


async def test_a_client_that_comes_back_to_reading_is_told_what_it_missed(tmp_path: Path) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(SUBSCRIBE)
        await line(client)
        total = MAX_QUEUED_EVENTS + 500
        lab.happen(total)  # in one go: nobody gets a turn to read
        lost = await line(client)
        assert lost == {"event": "events_lost", "time": 1700000000.0, "count": 500}
        numbers = [(await line(client))["mtu"] for _ in range(MAX_QUEUED_EVENTS)]
        assert numbers == list(range(500, total))


async def test_the_end_of_the_node_ends_the_stream(tmp_path: Path) -> None:
    async with Lab(tmp_path) as lab:
        client = await Client.connect(lab.path)
        client.send(SUBSCRIBE)
        await line(client)
        lab.happen()
        lab.node.hub.close()
        assert [json.loads(text)["event"] for text in (await client.rest()).splitlines()] == ["tun_up"]
