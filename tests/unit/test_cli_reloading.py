"""Reading the configuration again: from where, one at a time, and whom it is told."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest

from yggpy.admin.commands import Arguments, Command, CommandRegistry
from yggpy.admin.jsontext import EncodableJson
from yggpy.admin.protocol import Request
from yggpy.admin.upkeep import add_upkeep
from yggpy.cli.configfile import ConfigSource
from yggpy.cli.reloading import Reloader
from yggpy.cli.service import ServiceManager
from yggpy.config import Config
from yggpy.errors import ConfigError
from yggpy.reload import ReloadReport
from yggpy.serving import ServingError

LOG = logging.getLogger("yggpy")


class FakeNode:
    """Notes what it is told to become, and waits for ``go_on`` before it has."""

    def __init__(self) -> None:
        self.config = Config()
        self.seen: list[Config] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.report = ReloadReport(("peer x added",), ("IfName has changed",))

    async def reload(self, config: Config) -> ReloadReport:
        self.seen.append(config)
        await self.go_on.wait()
        if config.if_name == "bad":
            raise ConfigError("IfName is bad")
        return self.report


def reloader(node: FakeNode, path: Path | None) -> Reloader:
    source = ConfigSource(str(path)) if path else None
    return Reloader(node, source, LOG, ServiceManager(LOG, -1, {}), "Running")


async def test_what_a_reload_did_stands_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "yggpy")
    path = tmp_path / "x.conf"
    path.write_text("Peers: [tcp://a:1\n]")
    node = FakeNode()
    assert await reloader(node, path).reload() == node.report
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "Reload: peer x added"),
        ("WARNING", "Reload: IfName has changed"),
        ("INFO", "Configuration reloaded"),
    ]
    assert node.seen[0].peers == ["tcp://a:1"]
    assert node.seen[0].private_key == node.config.private_key  # the file has none: it does not become another one


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", r"cannot use the configuration from .*x\.conf: syntax error at line 1"),
        ("Peers: 1\nListen: 1", r"Peers must be .* \(and 1 more problem\); -checkconf lists all problems"),
        ("IfName: bad", "IfName is bad"),
        (None, r"cannot read the configuration from .*x\.conf: No such file"),
    ],
)
async def test_a_bad_file_is_told_and_changes_nothing(
    text: str | None, problem: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x.conf"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        await reloader(FakeNode(), path).reload()
    assert caplog.messages == [f"Nothing was reloaded: {caught.value}"]


async def test_where_there_is_nothing_to_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source, reason in (
        (None, "the node runs with -autoconf"),
        (ConfigSource(None), "did not come from -useconffile"),
        (ConfigSource(str(tmp_path / "pipe")), "is a pipe, a device or a folder"),
        (ConfigSource("/dev/null"), "is a pipe, a device or a folder"),
    ):
        again = Reloader(FakeNode(), source, LOG, ServiceManager(LOG, -1, {}), "")
        with pytest.raises(ConfigError, match=f"there is no file to read again: .*{reason}"):
            await again.reload()


async def test_a_key_file_need_not_be_readable_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.conf"
    path.write_text(f"PrivateKeyPath: {tmp_path}/key.pem")
    node = FakeNode()
    with pytest.raises(ConfigError, match=r"cannot read .*key\.pem"):
        await reloader(node, path).reload()
    node.config.private_key_path = f"{tmp_path}/key.pem"
    await reloader(node, path).reload()
    assert node.seen[0].private_key == node.config.private_key


async def test_the_http_endpoint_follows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "x.conf"
    asked: list[str] = []

    async def follow(listen: str) -> str:
        asked.append(listen)
        if listen == ":1":
            raise ServingError("it is taken")
        return f"moved to {listen}" if listen else ""

    node = FakeNode()
    node.report = ReloadReport((), ())
    again = reloader(node, path)
    again.follow_http = follow
    for listen, changes, warnings in (
        ("", (), ()),
        (":2", ("moved to :2",), ()),
        (":1", (), ("it is taken",)),
    ):
        path.write_text(f'HTTPListen: "{listen}"')
        report = await again.reload()
        assert (report.changes, report.warnings) == (changes, warnings)
    path.write_text("HTTPListen: nonsense")
    with pytest.raises(ConfigError, match=r"^HTTPListen: HTTP endpoint failed to listen: .*HTTPListen$"):
        await again.reload()
    assert (asked, len(node.seen)) == (["", ":2", ":1"], 3)


async def test_signals_during_a_reload_make_one_more(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("Peers: []")
    node = FakeNode()
    node.go_on.clear()
    again = reloader(node, path)
    again.by_signal()
    async with asyncio.timeout(5):
        while not node.seen:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    path.write_text("Peers: [a\n]")
    for _ in range(5):
        again.by_signal()
    node.go_on.set()
    async with asyncio.timeout(5):
        while len(node.seen) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await again.close()
    assert [config.peers for config in node.seen] == [[], ["a"]]


async def test_a_signal_for_a_bad_file_is_only_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    again = reloader(FakeNode(), tmp_path / "gone")
    again.by_signal()
    async with asyncio.timeout(5):
        while not caplog.messages:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await again.close()
    assert caplog.messages[0].startswith("Nothing was reloaded: cannot read")
    await again.close()


async def test_the_admin_command(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("Peers: []")

    async def nothing(arguments: Arguments) -> EncodableJson:
        return {}

    commands = CommandRegistry(Command(name, "", nothing, ("uri", "interface")) for name in ("addPeer", "removePeer"))
    add_upkeep(commands, reloader(FakeNode(), path))
    answer = json.loads(await commands.answer(Request("RELOAD")))
    assert answer["response"] == {"changes": ["peer x added"], "warnings": ["IfName has changed"]}
    path.write_text("[")
    answer = json.loads(await commands.answer(Request("reload")))
    assert answer["status"] == "error"
    assert answer["error"].startswith(f"cannot use the configuration from {path}: syntax error")
