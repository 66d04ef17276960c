"""``-user``: whom it names, and that root is gone afterwards."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from yggpy.cli import privileges
from yggpy.cli.privileges import Identity, PrivilegeError, shortcomings
from yggpy.config import Config, MulticastInterface

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
NOBODY = Identity.parse("nobody")

BECOME = """
import json, os, sys, threading
from yggpy.cli.privileges import Identity

waiting = threading.Event()
threading.Thread(target=waiting.wait, daemon=True).start()
Identity.parse(sys.argv[1]).assume(sys.argv[2])
facts = []
for thread in os.listdir("/proc/self/task"):
    lines = dict(line.split(":\\t", 1) for line in open(f"/proc/self/task/{thread}/status").read().splitlines())
    facts.append([lines[name].split() for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm")])
print(json.dumps(facts))
"""


def become(user: str, admin_listen: str = "none") -> subprocess.CompletedProcess[str]:
    """Let a process with two threads become ``user``; it prints ids, groups and capabilities of each thread."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", BECOME, user, admin_listen]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_users_by_name_and_by_number() -> None:
    assert Identity.parse(f"{NOBODY.uid}") == Identity(f"{NOBODY.uid}", NOBODY.uid, NOBODY.gid)
    assert Identity.parse("nobody:root") == Identity("nobody:root", NOBODY.uid, 0)
    assert Identity.parse("root:0") == Identity("root:0", 0, 0)
    assert Identity.parse(f"0:{NOBODY.gid}").gid == NOBODY.gid


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "user is empty"),
        (":0", "user is empty"),
        ("0:", "group is empty"),
        ("#user", "unknown user #user"),
        ("-1", "unknown user -1"),
        ("4294967295", "unknown user 4294967295"),
        ("99999999999999999999", "unknown user 99999999999999999999"),
        ("a\0b", "unknown user"),
        ("root:#group", "unknown group #group"),
        ("root:0:0", "unknown group 0:0"),
    ],
)
def test_who_does_not_exist_is_refused(text: str, problem: str) -> None:
    with pytest.raises(PrivilegeError, match=problem):
        Identity.parse(text)


@needs_root
@pytest.mark.parametrize(("user", "gid"), [("nobody", NOBODY.gid), ("nobody:daemon", 1)])
def test_all_threads_lose_root_and_its_groups(user: str, gid: int) -> None:
    done = become(user)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert len(facts) == 2
    for uids, gids, groups, effective, permitted in facts:
        assert uids == [str(NOBODY.uid)] * 4
        assert gids == [str(gid)] * 4
        assert groups == [str(gid)]
        assert int(effective[0], 16) == int(permitted[0], 16) == 0


@needs_root
def test_the_unix_admin_socket_is_given_away(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert become("nobody:daemon", f"unix://{path}").returncode == 0
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY.uid, 1)


@needs_root
@pytest.mark.parametrize("admin_listen", ["none", "", "tcp://127.0.0.1:9001", "127.0.0.1:9001"])
def test_other_admin_sockets_need_nothing(admin_listen: str) -> None:
    assert become("nobody", admin_listen).returncode == 0


@needs_root
def test_a_socket_that_is_gone_is_an_error(tmp_path: Path) -> None:
    done = become("nobody", f"unix://{tmp_path}/gone")
    assert f"-user nobody: chown {tmp_path}/gone {NOBODY.uid}:{NOBODY.gid}: no such file or directory" in done.stderr


@needs_root
def test_root_that_can_be_had_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # As with CAP_SETUID in the ambient set: the change of user takes nothing away.
    for name in ("setgroups", "setresgid", "setresuid"):
        monkeypatch.setattr(os, name, lambda *ids: None)
    with pytest.raises(PrivilegeError, match="could become root again"):
        NOBODY.assume("none")


def test_without_the_right_the_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(groups: list[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", refuse)
    with pytest.raises(
        PrivilegeError, match=r"-user nobody: setgroups .*: operation not permitted; .* started as root"
    ):
        NOBODY.assume("none")


def test_what_will_not_work_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied: set[Path] = set()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in denied)
    monkeypatch.setattr(privileges, "_first_free_port", lambda: 1024)
    config = Config(
        listen=["tls://[::]:443", "tcp://0.0.0.0:9001", "unix:///x", "tls://a:b"],
        multicast_interfaces=[MulticastInterface(beacon=True, port=80), MulticastInterface(port=81)],
    )
    file = tmp_path / "x.conf"
    assert shortcomings(Config(), str(file)) == []
    [ports] = shortcomings(config, str(file))
    assert ports.startswith("A listener on port 443, 80 cannot be opened again")
    denied.add(tmp_path)
    assert "persist=true will fail" in shortcomings(Config(), str(file))[0]
    assert shortcomings(Config(), None) == []
    denied.clear()
    file.touch()
    for name, value in (("geteuid", file.stat().st_uid + 1), ("getegid", file.stat().st_gid + 1)):
        monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid or 1)
        monkeypatch.setattr(os, name, lambda value=value: value)
        assert "must own" in shortcomings(Config(), str(file))[0]
    denied |= {file, Path(privileges.__file__).parents[1]}
    reload, links = shortcomings(Config(), str(file))
    assert reload.startswith("A reload will fail") and links.startswith("quic, ws,")
