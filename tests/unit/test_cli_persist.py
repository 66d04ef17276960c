"""``persist=true``: peers that stay in the configuration file, and what happens to that file."""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from yggpy import testing
from yggpy.admin.commands import CommandRegistry, node_commands
from yggpy.admin.protocol import Request
from yggpy.admin.upkeep import add_upkeep
from yggpy.cli.configfile import ConfigSource
from yggpy.cli.reloading import Reloader
from yggpy.cli.service import ServiceManager
from yggpy.config import Config
from yggpy.errors import ConfigError
from yggpy.node import Node

LOG = logging.getLogger("yggpy")
FILE = """{
  MulticastInterfaces: []
  # my peers
  Peers: [
    "tcp://127.0.0.1:1" # the first
  ]
}
"""


class Desk:
    """A node with a configuration file, and its admin commands."""

    def __init__(self, node: Node, path: Path | None) -> None:
        self.node = node
        self.path = path
        self.commands = CommandRegistry(node_commands(node, "yggpy", "0"))
        source = ConfigSource(str(path)) if path else None
        self.reloader = Reloader(node, source, LOG, ServiceManager(LOG, -1, {}), "")
        add_upkeep(self.commands, self.reloader)

    async def raw(self, name: str, **arguments: object) -> bytes:
        return await self.commands.answer(Request(name, json.dumps(arguments).encode()))

    async def ask(self, name: str, **arguments: object) -> str:
        """Return the error; empty if there is none."""
        answer: dict[str, Any] = json.loads(await self.raw(name, **arguments))
        return str(answer.get("error", ""))

    def peers(self) -> list[str]:
        return sorted(link.uri for link in self.node.links.links())

    def file_peers(self) -> list[str]:
        assert self.path is not None
        return Config.from_bytes(self.path.read_bytes()).peers


def make_file(tmp_path: Path) -> Path:
    path = tmp_path / "x.conf"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def quiet(path: Path) -> Config:
    config = testing.quiet_config()
    config.peers = Config.from_bytes(path.read_bytes()).peers
    return config


async def test_a_peer_is_kept_and_dropped(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with Node(quiet(path)) as node:
        desk = Desk(node, path)
        uri = "tcp://127.0.0.1:2?priority=3"
        assert await desk.ask("addPeer", uri=uri, persist="true") == ""
        assert desk.peers() == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]
        assert path.read_text() == FILE.replace("  ]", f'    "{uri}"\n  ]').replace('1" #', '1", #')
        assert path.stat().st_mode & 0o777 == 0o640
        assert os.listdir(tmp_path) == ["x.conf"]
        assert (await desk.reloader.reload()).changes == ()
        # Whoever takes it out of the file and reloads means it, though it came from the admin socket.
        path.write_text(FILE)
        assert (await desk.reloader.reload()).changes == ("peer tcp://127.0.0.1:2 removed",)
        assert await desk.ask("addPeer", uri=uri, persist="TRUE") == ""
        assert await desk.ask("removePeer", uri="tcp://127.0.0.1:2", persist="true") == ""
        assert desk.peers() == desk.file_peers() == ["tcp://127.0.0.1:1"]
        assert await desk.ask("addPeer", uri="tcp://127.0.0.1:3", interface="lo", persist="true") == ""
        assert Config.from_bytes(path.read_bytes()).interface_peers == {"lo": ["tcp://127.0.0.1:3"]}
        assert await desk.ask("removePeer", uri="tcp://127.0.0.1:3", interface="lo", persist="true") == ""
        assert Config.from_bytes(path.read_bytes()).interface_peers == {"lo": []}


async def test_halves_are_made_whole(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with Node(quiet(path)) as node:
        desk = Desk(node, path)
        await node.add_peer("tcp://127.0.0.1:2")
        assert await desk.ask("addPeer", uri="tcp://127.0.0.1:2", persist="true") == ""  # runs, but is not in the file
        assert desk.file_peers() == ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]
        assert await desk.ask("addPeer", uri="tcp://127.0.0.1:2", persist="true") == "peer is already configured"
        await node.remove_peer("tcp://127.0.0.1:1")
        assert await desk.ask("removePeer", uri="tcp://127.0.0.1:1", persist="true") == ""  # only in the file
        assert desk.file_peers() == ["tcp://127.0.0.1:2"]
        assert await desk.ask("removePeer", uri="tcp://127.0.0.1:1", persist="true") == "peer is not configured"
        await node.remove_peer("tcp://127.0.0.1:2")
        assert await desk.ask("addPeer", uri="tcp://127.0.0.1:2", persist="true") == ""  # in the file, but not running
        assert desk.peers() == ["tcp://127.0.0.1:2"]


@pytest.mark.parametrize("persist", ["", "false", "False"])
async def test_without_persist_the_file_is_left_alone(persist: str, tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with Node(quiet(path)) as node:
        desk = Desk(node, path)
        assert await desk.ask("addPeer", uri="tcp://127.0.0.1:2", persist=persist) == ""
        assert await desk.ask("removePeer", uri="tcp://127.0.0.1:1") == ""
        assert desk.peers() == ["tcp://127.0.0.1:2"]
    assert path.read_text() == FILE


async def test_answers_are_the_same_as_without_upkeep(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    async with Node(quiet(path)) as node, Node(quiet(path)) as twin:
        desk = Desk(node, path)
        plain = CommandRegistry(node_commands(twin, "yggpy", "0"))
        requests: list[tuple[str, dict[str, object]]] = [
            ("addPeer", {"uri": "tcp://127.0.0.1:2"}),
            ("addPeer", {"uri": "tcp://127.0.0.1:2"}),
            ("addpeer", {"uri": "nonsense://x"}),
            ("addPeer", {"uri": "tcp://["}),
            ("addPeer", {"uri": 7}),
            ("addPeer", {}),
            ("removePeer", {"uri": "tcp://127.0.0.1:2"}),
            ("removePeer", {"uri": "tcp://127.0.0.1:2", "interface": "eth0"}),
        ]
        for name, arguments in requests:
            request = Request(name, json.dumps(arguments).encode())
            assert await desk.commands.answer(request) == await plain.answer(request)
        listed, before = [
            json.loads(await commands.answer(Request("list")))["response"] for commands in (desk.commands, plain)
        ]
        assert [entry for entry in listed["list"] if entry["command"] != "reload"] == before["list"]


async def test_what_cannot_be_kept_is_not_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_file(tmp_path)
    async with Node(quiet(path)) as node:
        desk = Desk(node, path)
        assert await desk.ask("addPeer", uri="tcp://127.0.0.1:2", persist="maybe") == (
            'persist must be true or false, not "maybe"'
        )
        assert "parse" in await desk.ask("addPeer", uri="tcp://[", persist="true")

        def refuse(source: str, dest: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "replace", refuse)
        for name, uri in (("addPeer", "tcp://127.0.0.1:2"), ("removePeer", "tcp://127.0.0.1:1")):
            error = await desk.ask(name, uri=uri, persist="true")
            assert error.startswith(f"cannot change {path}: Permission denied (the node runs as user ")
        assert desk.peers() == ["tcp://127.0.0.1:1"]
        assert path.read_text() == FILE
        assert os.listdir(tmp_path) == ["x.conf"]
        path.write_text("{")
        assert "syntax error" in await desk.ask("addPeer", uri="tcp://127.0.0.1:2", persist="true")
        assert desk.peers() == ["tcp://127.0.0.1:1"]


@pytest.mark.parametrize("command", ["addPeer", "removePeer"])
async def test_without_a_file_there_is_nowhere_to_keep_it(command: str) -> None:
    async with Node(testing.quiet_config()) as node:
        error = await Desk(node, None).ask(command, uri="tcp://127.0.0.1:2", persist="true")
        assert error == "there is no file to write to: the node runs with -autoconf"
        assert node.links.links() == []


def test_the_file_keeps_its_place_and_owner(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    link = tmp_path / "link.conf"
    link.symlink_to(path)
    if os.geteuid() == 0:
        os.chown(path, 65534, 1)
    before = path.stat()
    assert ConfigSource(str(link)).rewrite(lambda data: data + b"# more")
    assert link.is_symlink() and path.read_text() == FILE + "# more"
    after = path.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert not ConfigSource(str(link)).rewrite(lambda data: data)


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    for source in (ConfigSource(None), ConfigSource("/dev/null"), ConfigSource(str(tmp_path / "gone"))):
        with pytest.raises(ConfigError):
            source.rewrite(lambda data: b"x")


@pytest.mark.parametrize(
    ("function", "code", "advice"),
    [
        ("mkstemp", errno.EROFS, "name that folder in ReadWritePaths="),
        ("mkstemp", errno.EACCES, "who must own the file"),
        ("replace", errno.EBUSY, "mount its folder instead"),
        ("fchown", errno.EPERM, "be in its group"),
    ],
)
def test_a_file_that_cannot_be_replaced_comes_with_advice(
    function: str, code: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    path = make_file(tmp_path)
    if function == "fchown" and os.geteuid() == 0:
        os.chown(path, 65534, 1)
    elif function == "fchown":
        pytest.skip("only root can give a file away")
    monkeypatch.setattr(tempfile if function == "mkstemp" else os, function, fail)
    with pytest.raises(ConfigError) as raised:
        ConfigSource(str(path)).rewrite(lambda data: data + b"# more")
    assert str(raised.value).startswith(f"cannot change {path}: {os.strerror(code)} (")
    assert advice in str(raised.value)
    assert path.read_text() == FILE and os.listdir(tmp_path) == ["x.conf"]


def test_what_somebody_else_writes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path = make_file(tmp_path)

    def edit(data: bytes) -> bytes:
        path.write_bytes(data + b"# by hand")
        return data + b"# more"

    with pytest.raises(ConfigError, match="somebody else has just changed it; try again"):
        ConfigSource(str(path)).rewrite(edit)
    assert path.read_text() == FILE + "# by hand" and os.listdir(tmp_path) == ["x.conf"]


def test_extended_attributes_stay(tmp_path: Path) -> None:
    path = make_file(tmp_path)
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError:
        pytest.skip("this file system has none")
    assert ConfigSource(str(path)).rewrite(lambda data: data + b"# more")
    assert os.getxattr(path, "user.note") == b"mine"


async def test_a_proxys_password_is_in_no_log_and_no_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    path = make_file(tmp_path)
    uri = "socks://proxy:hunter2@127.0.0.1:1/peer.example:1?password=hunter2"
    async with Node(quiet(path)) as node:
        events = node.events("links")
        desk = Desk(node, path)
        assert await desk.ask("addPeer", uri=uri, persist="true") == ""
        told = [str((await anext(aiter(events))).as_json())]
        path.write_text(FILE)
        told.append((await desk.raw("reload")).decode())
        assert await desk.ask("addPeer", uri=uri, persist="true") == ""
        path.write_text(path.read_text().replace("127.0.0.1:1/", "127.0.0.1:x/"))
        told.append(await desk.ask("reload"))
        path.write_text(path.read_text().replace("127.0.0.1:x/", "127.0.0.1:1/"))
        assert await desk.ask("removePeer", uri=uri, persist="true") == ""
        events.close()
    assert "peer_retrying" in told[0] and "removed" in told[1] and "invalid port" in told[2]
    lines = ("Cannot peer with socks://", "kept in", "removed from", "Reload: peer socks://", "Nothing was reloaded")
    assert [line for line in lines if line not in caplog.text] == []
    assert "hunter2" not in caplog.text + "".join(told)
