"""The process as an operator and a service manager see it, beside the Go node's: users, readiness, reloads."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.lab import OURS, Lab
from tests.interop.measure import ping, tcp_transfer, wait_reachable, wait_until
from tests.interop.nodes import AdminError, MeshNode

GO = "0.5.14"
WAIT = 20.0
IDENTITY_LINES = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb")


def until(condition: Callable[[], bool], what: str, timeout: float = WAIT) -> None:
    wait_until(condition, timeout, what)


def identities(pid: int) -> set[tuple[str, ...]]:
    """Return the ids, groups and capabilities of a process, which should be the same for each of its threads."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":", 1) for line in (thread / "status").read_text().splitlines())
        found.add(tuple(status[name].strip() for name in IDENTITY_LINES))
    return found


@pytest.fixture
def own_ways(lab: Lab) -> None:
    """For tests of what the Go node does not do, or does otherwise."""
    if lab.rehearsing:
        pytest.skip("the Go node cannot take this part")


# -- -user ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_ways")
@pytest.mark.parametrize("user", ["nobody", "65534:1"])
def test_a_node_that_gave_up_root_goes_on(lab: Lab, user: str) -> None:
    ours, theirs = lab.node(OURS, name="ours"), lab.node(GO, name="theirs")
    lab.folder.chmod(0o755)
    for node in (ours, theirs):
        node.flags = ("-user", user)
        node.config["MulticastInterfaces"] = [{"Regex": "eth0", "Beacon": True, "Listen": True}]
    listener = lab.node(GO, name="listener")
    late = {scheme: listener.listen(scheme) for scheme in ("tls", "quic", "ws")}
    lab.start()
    wait_reachable(ours, theirs)  # multicast, so sockets for that were there in time
    [identity] = identities(ours.pid)
    assert identity[0].split() == ["65534"] * 4
    # Go sets the groups of one thread only; the others keep those of root.
    assert identity in identities(theirs.pid)
    sockets = [node.admin_path.stat() for node in (ours, theirs)]
    assert len({(found.st_uid, found.st_gid, found.st_mode) for found in sockets}) == 1
    for uri in late.values():  # carriers whose code is loaded only now
        ours.admin("addPeer", uri=uri)
    up = listener.public_key.hex()
    until(lambda: sum(peer["key"] == up for peer in ours.peers_up()) == len(late), "new links of all carriers")
    wait_reachable(ours, listener)
    assert tcp_transfer(ours, listener, 1 << 20).intact
    assert ping(listener, ours, count=5).lost == 0
    assert (ours.stop(), theirs.stop()) == (0, 0)
    assert "ygg0" not in ours.space.ip("link", "show")


@pytest.mark.usefixtures("own_ways")
@pytest.mark.parametrize("user", ["#nobody", ":0", "0:"])
def test_a_user_who_does_not_exist(lab: Lab, user: str) -> None:
    for kind, code in ((OURS, 1), (GO, 2)):
        node = lab.node(kind, IfName="none")
        config = b"IfName: none\nAdminListen: none\nMulticastInterfaces: []"
        command = [*node.command(), "-user", user, "-useconf"]
        done = subprocess.run(command, input=config, capture_output=True, check=False, timeout=WAIT)
        assert done.returncode == code
        assert b"user" in done.stderr or b"group" in done.stderr


# -- readiness -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_ways")
def test_readiness_is_told(lab: Lab) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(lab.folder / "notify"))
        manager.settimeout(WAIT)
        os.chmod(lab.folder, 0o755)
        os.chmod(lab.folder / "notify", 0o777)
        ours, theirs = lab.node(OURS, name="ours"), lab.node(GO, name="theirs")
        for node in (ours, theirs):
            told = lab.folder / f"{node.label}.told"
            environment = [f"NOTIFY_SOCKET={lab.folder}/notify", "WATCHDOG_USEC=400000"]
            node.wrapper = ("env", *environment, "sh", "-c", f'exec "$@" 7>{told}', "sh")
            node.flags = ("-notifyfd", "7", "-user", "nobody")
            assert not told.exists()
            node.start()
            until(lambda: told.exists() and told.read_bytes() == b"\n", "the newline")  # noqa: B023
            node.wait_ready()
            assert "ygg0" in node.space.ip("link", "show")
            assert not any(told.samefile(f"/proc/{node.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{node.pid}/fd"))
        assert manager.recv(4096).decode().split("\n") == ["READY=1", f"STATUS=Running as {ours.address}"]
        for _ in range(3):
            assert manager.recv(4096) == b"WATCHDOG=1"
        os.kill(ours.pid, signal.SIGSTOP)
        manager.settimeout(1)
        with pytest.raises(TimeoutError):
            while True:
                manager.recv(4096)
        os.kill(ours.pid, signal.SIGCONT)
        manager.settimeout(WAIT)
        assert manager.recv(4096) == b"WATCHDOG=1"
        assert (ours.stop(), theirs.stop()) == (0, 0)
        last = [manager.recv(4096)]
        while not last[-1].startswith(b"STOPPING=1"):
            last.append(manager.recv(4096))


# -- logs and exit codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["error", "warn", "info", "INFO", "loud"])
def test_first_lines_of_the_log(lab: Lab, level: str) -> None:
    """The lines of a start, in Go's form, to a file of Go's mode."""
    lines = []
    for kind in (OURS, GO):
        node = lab.node(kind)
        log = lab.folder / f"{node.label}.out"
        before = os.umask(0)
        try:
            node.flags = (f"-logto={log}", "-loglevel", level)
            node.start()
        finally:
            os.umask(before)
        node.wait_ready()
        assert node.stop() == 0
        assert log.stat().st_mode & 0o777 == 0o644
        lines.append(_without_own_words(log.read_text(), node))
    ours, theirs = lines
    assert [line for line in theirs if line not in ours] == []


_OWN_WORDS = ("Build ", "Your IPv6 subnet", "Loglevel", "Unknown -loglevel", "Error reading TUN", "Exiting TUN")
"""The last two come from a Go node that is stopped, and not each time."""


def _without_own_words(text: str, node: MeshNode) -> list[str]:
    found = []
    for line in text.splitlines():
        stamp, words = line[:19], line[20:]
        time.strptime(stamp, "%Y/%m/%d %H:%M:%S")
        for own, name in ((node.public_key.hex(), "KEY"), (str(node.admin_path), "SOCKET"), (node.address, "ADDRESS")):
            words = words.replace(own, name)
        if not words.startswith(_OWN_WORDS):
            found.append(words)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exit_code_of_a_stop(lab: Lab, number: signal.Signals) -> None:
    nodes = [lab.node(kind) for kind in (OURS, GO)]
    lab.start()
    for node in nodes:
        os.kill(node.pid, number)
        until(lambda: not node.running, "the end")  # noqa: B023
        assert node.exit_code == 0


# -- reload --------------------------------------------------------------------------------------------------


def reload_by_signal(node: MeshNode) -> str:
    """Send SIGHUP and return what the log says of it."""
    before = len(node.log_text())
    os.kill(node.pid, signal.SIGHUP)

    def told() -> bool:
        return any(word in node.log_text()[before:] for word in ("Configuration reloaded", "Nothing was reloaded"))

    until(told, "word of the reload")
    return node.log_text()[before:]


def write_config(node: MeshNode, **settings: object) -> None:
    node.config.update(settings)
    node.config_path.write_text(json.dumps(node.config), encoding="utf-8")


def uptimes(node: MeshNode) -> dict[str, float]:
    """Return the uptime (seconds) of each link by the other end's key."""
    return {peer["key"]: peer["uptime"] for peer in node.peers_up()}


def node_info(asking: MeshNode, asked: MeshNode) -> dict[str, Any]:
    """Return the NodeInfo that one node gets of another; nothing if it got no answer. Go asks only once."""
    try:
        answer: dict[str, Any] = asking.admin("getNodeInfo", key=asked.public_key.hex())[asked.public_key.hex()]
    except AdminError:
        return {}
    return answer


@pytest.mark.usefixtures("own_ways")
@pytest.mark.parametrize("by", ["signal", "admin"])
def test_a_reload_changes_what_the_file_changed(lab: Lab, by: str) -> None:
    ours = lab.node(OURS, name="ours", NodeInfo={"name": "before"})
    stays, goes, comes = (lab.node(GO, name=name) for name in ("stays", "goes", "comes"))
    incoming = lab.node(GO, name="incoming")
    incoming.dial(ours.listen("tls"))
    uris = {node: node.listen("tls") for node in (stays, goes, comes)}
    ours.dial(uris[stays])
    ours.dial(uris[goes])
    lab.start()
    keys = {node: node.public_key.hex() for node in (stays, goes, comes, incoming)}
    until(lambda: uptimes(ours).keys() == {keys[stays], keys[goes], keys[incoming]}, "the first links")
    wait_reachable(ours, stays)
    before, since = uptimes(ours), time.monotonic()
    write_config(
        ours,
        Peers=[uris[stays], uris[comes]],
        Listen=[*ours.config["Listen"], "tcp://0.0.0.0:9100"],
        NodeInfo={"name": "after"},
        IfMTU=1280,
        Peerz=[],
    )
    if by == "signal":
        log = reload_by_signal(ours)
        assert f"Reload: peer {uris[goes]} removed" in log
        assert "Reload: IfMTU has changed, which needs a restart" in log
        assert 'unknown key "Peerz" is ignored; did you mean "Peers"?' in log
    else:
        answer = ours.admin("reload")
        assert answer["changes"] == [
            f"peer {uris[goes]} removed",
            f"peer {uris[comes]} added",
            "listener tcp://0.0.0.0:9100 opened",
            "NodeInfo changed",
        ]
        assert answer["warnings"] == ["IfMTU has changed, which needs a restart"]
    until(lambda: uptimes(ours).keys() == {keys[stays], keys[comes], keys[incoming]}, "the new links")
    after, passed = uptimes(ours), time.monotonic() - since
    for node in (stays, incoming):  # the links that did not change are still the same ones, seen from both ends
        assert after[keys[node]] >= before[keys[node]] + 0.9 * passed
        assert uptimes(node)[ours.public_key.hex()] >= before[keys[node]]
    until(lambda: goes.peers_up() == [], "the end of the link at its other end")
    wait_reachable(ours, stays)  # a new peer may mean a new root, so this can take a moment
    until(lambda: node_info(stays, ours).get("name") == "after", "the new NodeInfo")
    goes.admin("addPeer", uri=f"tcp://{ours.space.address}:9100")
    until(lambda: keys[goes] in uptimes(ours), "a link through the new listener")
    write_config(ours, AllowedPublicKeys=[keys[incoming]])
    assert f"Closing inbound: {goes.address}@" in reload_by_signal(ours)
    until(lambda: uptimes(ours).keys() == {keys[stays], keys[comes], keys[incoming]}, "only allowed keys")


@pytest.mark.usefixtures("own_ways")
def test_a_bad_file_changes_nothing(lab: Lab) -> None:
    ours, theirs = lab.node(OURS, name="ours"), lab.node(GO, name="theirs")
    ours.dial(theirs.listen("tls"))
    lab.start()
    until(lambda: len(uptimes(ours)) == 1, "the link")
    for text, problem in (
        ('{"Peers": [', "syntax error at line 1"),
        (json.dumps(ours.config | {"Peers": ["nonsense://x"]}), 'Peers[0]: cannot use "nonsense://x"'),
        (json.dumps(ours.config | {"Peers": [], "Listen": 7}), "Listen must be a list"),
    ):
        ours.config_path.write_text(text, encoding="utf-8")
        assert problem in reload_by_signal(ours)
        with pytest.raises(AdminError) as caught:
            ours.admin("reload")
        assert problem in str(caught.value)
    assert len(uptimes(ours)) == 1


@pytest.mark.usefixtures("own_ways")
def test_discovery_after_a_reload(lab: Lab) -> None:
    ours, theirs = lab.node(OURS, name="ours"), lab.node(GO, name="theirs")
    entry = {"Regex": "eth0", "Beacon": True, "Listen": True}
    ours.config["MulticastInterfaces"] = theirs.config["MulticastInterfaces"] = [entry]
    lab.start()
    until(lambda: len(uptimes(ours)) == 1, "the neighbour")
    before = uptimes(ours)[theirs.public_key.hex()]
    write_config(ours, MulticastInterfaces=[{**entry, "Regex": "eth.*", "Port": 9200}])
    reload_by_signal(ours)
    [shown] = ours.admin("getMulticastInterfaces")["multicast_interfaces"] or [{"address": ""}]
    until(
        lambda: ours.admin("getMulticastInterfaces")["multicast_interfaces"][0]["address"].endswith(":9200"),
        f"the listener's new port (at first {shown['address']})",
    )
    assert uptimes(ours)[theirs.public_key.hex()] > before
    write_config(ours, MulticastInterfaces=[{**entry, "Password": "x"}])
    assert "closed: not with these settings" in reload_by_signal(ours)
    until(lambda: uptimes(ours) == {}, "no link without the password")
    write_config(ours, MulticastInterfaces=[entry])
    reload_by_signal(ours)
    until(lambda: len(uptimes(ours)) == 1, "the neighbour again")


@pytest.mark.usefixtures("own_ways")
def test_peers_that_are_kept(lab: Lab) -> None:
    """The real control program keeps a peer over a restart; without the right to do so there is a clear error."""
    ours, theirs = lab.node(OURS, name="ours"), lab.node(GO, name="theirs")
    uri = theirs.listen("tls")
    lab.start()

    def ctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [lab.programs[GO].ctl, f"-endpoint=unix://{ours.admin_path}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=WAIT)

    done = ctl("addPeer", f"uri={uri}", "persist=true")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
    assert json.loads(ours.config_path.read_text())["Peers"] == [uri]
    ours.config["Peers"] = [uri]
    lab.folder.chmod(0o755)
    ours.config_path.chmod(0o644)
    ours.flags = ("-user", "nobody")
    ours.restart()
    until(lambda: len(uptimes(ours)) == 1, "the link after a restart")
    done = ctl("removePeer", f"uri={uri}", "persist=true")
    assert done.returncode == 1
    assert f"cannot change {ours.config_path}: Permission denied (the node runs as user 65534" in done.stdout
    assert len(uptimes(ours)) == 1
    assert ours.admin("reload")["changes"] == []
    assert ctl("removePeer", f"uri={uri}").returncode == 0
    until(lambda: uptimes(ours) == {}, "the end of the link")


# -- the environment and the state directory -----------------------------------------------------------------


@pytest.mark.usefixtures("own_ways")
def test_a_node_configured_only_by_its_environment(lab: Lab) -> None:
    """It joins a Go peer, and has the same key after a restart."""
    ours, theirs = lab.node(OURS, name="ours"), lab.node(GO, name="theirs")
    uri = theirs.listen("tls")
    theirs.start()
    theirs.wait_ready()
    variables = {
        "YGG_PEERS": uri,
        "YGG_ADMIN_LISTEN": f"unix://{ours.admin_path}",
        "YGG_MULTICAST_INTERFACES": "[]",
        "YGG_IF_NAME": "ygg0",
        "YGG_STATE_DIR": str(lab.folder / "state"),
    }
    settings = [f"{name}={value}" for name, value in variables.items()]
    keys = []
    for _ in range(2):
        with open(ours.log_path, "ab") as log:
            process = ours.space.popen(["env", *settings, *ours.command(), "-autoconf"], output=log)
        # A Go node may show a link as up a moment before it shows its key.
        until(lambda: [bool(peer["key"]) for peer in theirs.peers_up()] == [True], f"the link: {ours.log_text()}")
        keys.append(next(peer["key"] for peer in theirs.peers_up()))
        process.terminate()
        assert process.wait(WAIT) == 0, ours.log_text()
        ours.space.forget(process)
        until(lambda: theirs.peers_up() == [], "the end of the link")
    assert keys[0] == keys[1] != ours.public_key.hex()
    assert "A new private key was made" in ours.log_text()
    assert "The private key is the one kept in" in ours.log_text()
