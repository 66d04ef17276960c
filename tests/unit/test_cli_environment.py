"""``yggpy-node`` with ``YGG_`` variables: file < environment < flag, in every mode; and its state directory."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path

import pytest

from yggpy.address import Address
from yggpy.cli import daemon
from yggpy.cli.configfile import ConfigSource
from yggpy.cli.reloading import Reloader
from yggpy.cli.service import ServiceManager
from yggpy.cli.statedir import KEY_FILE, StateDirectory
from yggpy.config import Config
from yggpy.config.environment import Environment
from yggpy.config.pem import private_key_to_pem
from yggpy.keys import PrivateKey
from yggpy.reload import ReloadReport

from .test_cli_node import Run, run  # noqa: F401  the fixture

KEY = PrivateKey.generate()
SECRET = "c0ffee-not-to-be-told"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("YGG_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("flags", [("-useconf",), ("-useconffile",), ("-autoconf",)])
def test_normaliseconf_shows_what_counts(
    flags: tuple[str, ...],
    run: Run,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "Peers: [\ntls://file:1\n]\nIfName: file"
    (tmp_path / "x").write_text(text)
    monkeypatch.setenv("YGG_PEERS", "tls://env:1,tls://env:2")
    monkeypatch.setenv("YGG_PRIVATE_KEY", KEY.to_bytes().hex())
    monkeypatch.setenv("YGG_LISTENN", "x")
    source = (*flags, str(tmp_path / "x")) if flags == ("-useconffile",) else flags
    result = run(*source, "-normaliseconf", "-json", stdin=text)
    shown = json.loads(result.out)
    assert shown["Peers"] == ["tls://env:1", "tls://env:2"]
    assert shown["PrivateKey"] == KEY.to_bytes().hex()
    assert shown["IfName"] == ("auto" if flags == ("-autoconf",) else "file")
    assert result.err == "yggpy-node: warning: unknown variable YGG_LISTENN is ignored; did you mean YGG_LISTEN?\n"
    assert run(*source, "-address", stdin=text).out == f"{Address.for_key(KEY.public_key)}\n"
    assert run(*source, "-publickey", stdin=text).out == f"{KEY.public_key.hex()}\n"
    assert run(*source, "-exportkey", stdin=text).out == f"{private_key_to_pem(KEY)}\n"


def test_genconf_and_version_do_not_look(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("YGG_IF_MTU", "nonsense")
    assert run("-version").code == 0
    assert json.loads(run("-genconf", "-json").out)["IfMTU"] == 65535


def test_without_flags_there_is_usage_and_a_hint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert "YGG_" not in run().err
    monkeypatch.setenv("YGG_PEERS", "tls://a:1")
    result = run()
    assert (result.code, result.out) == (0, "Usage:\n")
    assert result.err.endswith("YGG_ variables are set: -autoconf runs a node with them and without a file\n")


def test_a_mistake_is_one_line_with_the_variable(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("YGG_MULTICAST_INTERFACES", f'{{"Password": "{SECRET}"}}')
    result = run("-autoconf")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("yggpy-node: cannot use the environment: YGG_MULTICAST_INTERFACES: Multicast")
    assert SECRET not in result.err
    monkeypatch.delenv("YGG_MULTICAST_INTERFACES")
    monkeypatch.setenv("YGG_PEERS", f"nonsense://a:1?password={SECRET}")
    monkeypatch.setenv("YGG_IF_NAME", "none")
    monkeypatch.setenv("YGG_ADMIN_LISTEN", "none")
    result = run("-autoconf")
    assert result.code == 1
    assert "YGG_PEERS: cannot use peer" in result.err
    assert "YGG_PEERS, YGG_ADMIN_LISTEN, YGG_IF_NAME" in result.out
    assert SECRET not in result.err + result.out


def test_checkconf_tells_of_both(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("YGG_PEERS", f"nonsense://a:1?password={SECRET}")
    monkeypatch.setenv("YGG_ALLOWED_PUBLIC_KEYS", "zz")
    monkeypatch.setenv("YGG_IF_MTU", "7")
    monkeypatch.setenv("YGG_LISTENN", "x")
    result = run("-useconf", "-checkconf", stdin="Peers: 7\nGroupPassword: [\n]")
    assert result.code == 1
    assert "GroupPassword must be a string" in result.out  # the file's Peers do not count, so they are no problem
    assert "Peers must" not in result.out
    result = run("-useconf", "-checkconf", stdin="Listen: [x\n]")
    lines = result.out.splitlines()
    assert {line.partition(" ")[0] for line in lines[:4]} == {"environment:"}
    assert [line for line in lines if "YGG_PEERS: Peers[0]: cannot use" in line]
    assert [line for line in lines if "YGG_ALLOWED_PUBLIC_KEYS: AllowedPublicKeys: " in line]
    assert [line for line in lines if "warning: YGG_IF_MTU: IfMTU 7 is outside" in line]
    assert [line for line in lines if "warning: unknown variable YGG_LISTENN" in line]
    assert lines[4].startswith("standard input:1:10: Listen[0]")
    assert SECRET not in result.out
    monkeypatch.setenv("YGG_TRANSIT", "x")
    result = run("-autoconf", "-checkconf")
    assert result.code == 1
    assert result.out.startswith("environment: YGG_TRANSIT: it must be true or false\n")


# -- the state directory -------------------------------------------------------------------------------------


def test_the_key_of_the_state_directory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    flag, variable = tmp_path / "flag", tmp_path / "variable"
    monkeypatch.setenv("YGG_STATE_DIR", str(variable))
    first = run("-autoconf", "-address")
    assert first.code == 0
    assert run("-useconf", "-address").out == first.out
    other = run("-autoconf", "-address", "-statedir", str(flag))
    assert other.out != first.out
    assert (flag / KEY_FILE).exists()
    with_key = run("-useconf", "-publickey", stdin=f"PrivateKey: {KEY.to_bytes().hex()}")
    assert with_key.out == f"{KEY.public_key.hex()}\n"


def test_a_configured_key_leaves_the_state_directory_alone(run: Run, tmp_path: Path) -> None:  # noqa: F811
    path = tmp_path / "state"
    run("-useconf", "-address", "-statedir", str(path), stdin=f"PrivateKey: {KEY.to_bytes().hex()}")
    assert not path.exists()
    assert run("-useconf", "-checkconf", "-statedir", str(path)).code == 0
    assert not path.exists()


def test_the_log_tells_where_the_key_is_from(
    run: Run,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def notes_only(config: Config, logger: logging.Logger, on_failure: object, options: daemon.DaemonOptions) -> int:
        for level, note in options.notes:
            logger.log(level, "%s", note)
        return 0

    monkeypatch.setattr(daemon, "run_daemon", notes_only)
    path = tmp_path / "state"
    assert f"A new private key was made and is kept in {path}/key.pem" in run("-autoconf", "-statedir", str(path)).out


def test_a_second_node_is_refused(run: Run, tmp_path: Path) -> None:  # noqa: F811
    first = StateDirectory(str(tmp_path))
    first.key()
    first.hold()
    result = run("-autoconf", "-statedir", str(tmp_path))
    first.release()
    assert (result.code, result.out) == (1, "")
    assert result.err == (
        f"yggpy-node: state directory {tmp_path}: another node runs with it; each node needs a state directory of its"
        " own\n"
    )


# -- reloads -------------------------------------------------------------------------------------------------


class FakeNode:
    def __init__(self, config: Config) -> None:
        self.config = config

    async def reload(self, config: Config) -> ReloadReport:
        self.config = config
        return ReloadReport((), ())


async def test_a_reload_keeps_the_environment_and_persist_changes_the_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "x"
    path.write_text('{"Peers": ["tls://file:1"], "Listen": []}')
    environment = Environment.read({"YGG_PEERS": "tls://env:1"}, lambda path: b"")
    source = ConfigSource(str(path), environment)
    log = logging.getLogger("yggpy")
    node = FakeNode(source.load())
    reloader = Reloader(node, source, log, ServiceManager(log, -1, {}), "")
    assert await reloader.keep_peer("tls://new:1", "")
    assert "After a restart YGG_PEERS counts instead of the file's list" in caplog.text
    assert json.loads(path.read_text())["Peers"] == ["tls://file:1", "tls://new:1"]
    assert node.config.peers == ["tls://env:1"]
    assert not await reloader.keep_peer("tls://file:1", "")
    assert await reloader.drop_peer("tls://file:1", "")
    path.write_text(path.read_text().replace('"Listen": []', '"Listen": ["tls://[::]:1"]'))
    await asyncio.wait_for(reloader.reload(), 20)
    assert (node.config.peers, node.config.listen) == (["tls://env:1"], ["tls://[::]:1"])
