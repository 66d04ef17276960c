"""``yggpy-ctl`` as a program: its command line, where it looks for the socket, exit codes, its own commands."""

from __future__ import annotations

import codecs
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ctl_fakes import answering, serving, success, talking
from yggpy.ctl import endpoint as endpoints
from yggpy.ctl.commands import LOCAL_COMMANDS
from yggpy.ctl.endpoint import ADMIN_LISTEN_VARIABLE, ENDPOINT_VARIABLE, Endpoint, find_endpoint
from yggpy.ctl.errors import EndpointError
from yggpy.ctl.health import find_health
from yggpy.ctl.main import main

Capture = pytest.CaptureFixture[str]
NODE = {"build_name": "yggdrasil", "routing_entries": 1}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    monkeypatch.delenv(ADMIN_LISTEN_VARIABLE, raising=False)


# -- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"], ["-json"]])
def test_without_a_command_it_explains_itself(argv: list[str], capfd: Capture) -> None:
    assert main(argv) == 0
    out, err = capfd.readouterr()
    assert err == ""
    for word in ("-endpoint", "-json", "-borders", "-version", "(default true)", ENDPOINT_VARIABLE, "getPeers"):
        assert word in out
    for command in LOCAL_COMMANDS:
        assert f"\n  {command.name}\n" in out


def test_version(capfd: Capture) -> None:
    assert main(["-version", "getSelf"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "Build name: yggpy"
    assert lines[1].startswith("Build version: ")
    assert lines[2].endswith("yggpy-ctl getSelf")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-v", "list"], "flag provided but not defined: -v"),
        (["-borders=maybe", "list"], 'invalid boolean value "maybe" for -borders: parse error'),
        (["-endpoint"], "flag needs an argument: -endpoint"),
        (["-\x1b[31m"], "flag provided but not defined: -\\x1b[31m"),
    ],
)
def test_a_bad_command_line(argv: list[str], message: str, capfd: Capture) -> None:
    assert main(argv) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[0] == message
    assert "Usage: yggpy-ctl" in err


def test_arguments_go_to_the_node_and_other_words_are_pointed_out(tmp_path: Path, capfd: Capture) -> None:
    with serving(tmp_path / "s", answering(success({}))) as (endpoint, questions):
        assert main(["-endpoint", endpoint, "addPeer", "uri=tls://a:1?x=y", "uri2", "-json", "interface="]) == 0
    assert json.loads(questions[0]) == {
        "request": "addPeer",
        "arguments": {"uri": "tls://a:1?x=y", "interface": ""},
    }
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        'yggpy-ctl: ignoring "uri2": arguments are written name=value',
        'yggpy-ctl: ignoring "-json": options go before the command',
    ]


def test_exit_codes(tmp_path: Path, capfd: Capture) -> None:
    assert main([f"-endpoint=unix://{tmp_path}/none", "getSelf"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith(f"yggpy-ctl: no admin socket at unix://{tmp_path}/none (-endpoint): is the node running?")
    for answer, code in ((success(NODE), 0), (b'{"status":"error","error":"no"}', 1), (b"what?", 1)):
        with serving(tmp_path / f"s{code}{len(answer)}", answering(answer)) as (endpoint, _):
            assert main([f"-endpoint={endpoint}", "getSelf"]) == code


def test_a_reader_that_goes_away_is_no_error_to_print(tmp_path: Path) -> None:
    entries = [{"command": "x" * 100, "description": "y" * 100}] * 2000
    with serving(tmp_path / "s", answering(success({"list": entries}))) as (endpoint, _):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "yggpy.ctl", f"-endpoint={endpoint}", "list"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_closed_standard_streams_are_no_crash(tmp_path: Path) -> None:
    with serving(tmp_path / "s", answering(success(NODE))) as (endpoint, _):
        for redirection, expected in (("2>&-", (0, True)), (">&-", (1, False)), (">&- 2>&-", (1, False))):
            done = subprocess.run(
                f"{sys.executable} -m yggpy.ctl -endpoint={endpoint} getSelf ignored {redirection}",
                shell=True,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert (done.returncode, "Build name:" in done.stdout) == expected
            assert "Traceback" not in done.stderr
            assert ("standard output is closed" in done.stderr) == (redirection == ">&-")


def test_it_starts_without_the_nodes_heavy_modules(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("AdminListen: tcp://127.0.0.1:1")
    program = (
        "import sys\nfrom yggpy.ctl.main import main\n"
        "from yggpy.ctl.endpoint import find_endpoint\n"
        f"assert find_endpoint('', {{}}, [{str(config)!r}]).endpoint.port == 1\n"
        "main(sys.argv[1:])\n"
        "heavy = ('nacl', 'cryptography', 'aioquic', 'asyncio', 'websockets', 'yggpy.node', 'yggpy.keys')\n"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or 0)\n"
    )
    with serving(tmp_path / "s", answering(success(NODE))) as (endpoint, _):
        for argv in ([f"-endpoint={endpoint}", "getSelf"], [f"-endpoint={endpoint}", "-json", "getSelf"]):
            done = subprocess.run(
                [sys.executable, "-c", program, *argv], capture_output=True, text=True, check=False, timeout=60
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert "yggdrasil" in done.stdout


# -- the endpoint --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:///run/y.sock", Endpoint(path="/run/y.sock")),
        ("UNIX:///a%20b", Endpoint(path="/a%20b")),
        ("unix://here.sock", Endpoint(path="here.sock")),
        ("tcp://localhost:9001", Endpoint(host="localhost", port=9001)),
        ("tcp://[::1]:9001/", Endpoint(host="::1", port=9001)),
        ("localhost:9001", Endpoint(host="localhost", port=9001)),
        ("127.0.0.1:9001", Endpoint(host="127.0.0.1", port=9001)),
        ("[fe80::1%eth0]:1", Endpoint(host="fe80::1%eth0", port=1)),
        (":9001", Endpoint(host="localhost", port=9001)),
    ],
)
def test_endpoints(text: str, expected: Endpoint) -> None:
    assert Endpoint.parse(text) == expected
    assert Endpoint.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("", "foo", "unix://", "unix:///a\0b", "unix:/a", "http://a:1", "/run/y.sock", "tcp://a", "a:b", "a:0"),
        *("a:65536", "a:-1", "a:99999999999", "a:\u0661", "tcp://::1:5", "tcp://a:1/x"),
    ],
)
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(EndpointError) as caught:
        Endpoint.parse(text)
    assert "\0" not in str(caught.value)
    assert "unix:///path" in str(caught.value)


def test_the_flag_goes_before_the_environment_and_that_before_the_files(tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_text("AdminListen: tcp://file:3")
    environment = {ENDPOINT_VARIABLE: "tcp://environment:2"}
    found = find_endpoint("tcp://flag:1", environment, [str(config)])
    assert (str(found.endpoint), found.origin) == ("tcp://flag:1", "-endpoint")
    found = find_endpoint("", environment, [str(config)])
    assert (str(found.endpoint), found.origin) == ("tcp://environment:2", f"${ENDPOINT_VARIABLE}")
    found = find_endpoint("", {ENDPOINT_VARIABLE: "", ADMIN_LISTEN_VARIABLE: " tcp://node:4 "}, [str(config)])
    assert (str(found.endpoint), found.origin) == ("tcp://node:4", f"${ADMIN_LISTEN_VARIABLE}")
    for nothing in ("", "none"):
        found = find_endpoint("", {ENDPOINT_VARIABLE: "", ADMIN_LISTEN_VARIABLE: nothing}, [str(config)])
        assert (str(found.endpoint), found.origin) == ("tcp://file:3", f"AdminListen of {config}")
        assert found.warnings == ()
    found = find_endpoint("", {ADMIN_LISTEN_VARIABLE: "http://a"}, [str(config)])
    assert str(found.endpoint) == "tcp://file:3"
    assert [ADMIN_LISTEN_VARIABLE in warning for warning in found.warnings] == [True]


def test_the_program_looks_into_its_environment(
    tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path / "s", answering(success({"enabled": False}))) as (endpoint, _):
        monkeypatch.setenv(ENDPOINT_VARIABLE, endpoint)
        assert main(["-borders=false", "getTUN"]) == 0
    assert capfd.readouterr().out == " TUN enabled:  false \n"


@pytest.mark.parametrize(
    "text",
    [
        b"{\n  # comment\n  adminlisten: unix:///x\n}",
        b'{"AdminListen": "tcp://a:1", "AdminListen": "unix:///x"}',
        codecs.BOM_UTF16_LE + "AdminListen: unix:///x".encode("utf-16-le"),
    ],
)
def test_admin_listen_of_a_configuration(text: bytes, tmp_path: Path) -> None:
    config = tmp_path / "conf"
    config.write_bytes(text)
    assert find_endpoint("", {}, [str(config)]).endpoint == Endpoint(path="/x")


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("{}", False),
        ("AdminListen: none", False),
        ('AdminListen: ""', False),
        ("AdminListen: []", False),
        ("{ broken", True),
        ("AdminListen: http://a", True),
    ],
)
def test_a_configuration_that_does_not_help_is_passed_over(text: str, warned: bool, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(text)
    second.write_text("AdminListen: unix:///second")
    found = find_endpoint("", {}, [str(tmp_path / "missing"), str(tmp_path), str(first), str(second)])
    assert found.endpoint.path == "/second"
    assert [str(first) in warning for warning in found.warnings] == [True] * warned


def test_of_the_default_sockets_the_one_that_is_there(tmp_path: Path) -> None:
    sockets = [f"unix://{tmp_path}/upstream", f"unix://{tmp_path}/debian"]
    assert find_endpoint("", {}, [], sockets).endpoint.path == f"{tmp_path}/upstream"
    (tmp_path / "debian").touch()
    assert find_endpoint("", {}, [], sockets).endpoint.path == f"{tmp_path}/debian"
    (tmp_path / "upstream").touch()
    found = find_endpoint("", {}, [], sockets)
    assert (found.endpoint.path, found.origin) == (f"{tmp_path}/upstream", "the default")
    assert [Endpoint.parse(text).path for text in endpoints.DEFAULT_SOCKETS] == [
        "/var/run/yggdrasil.sock",
        "/var/run/yggdrasil/yggdrasil.sock",
    ]


# -- its own commands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ready", [True, False])
def test_health_is_what_the_node_says_of_itself(ready: bool, tmp_path: Path, capfd: Capture) -> None:
    told = {"ready": ready, "reason": "so\nit is", "peers": 3, "up": 1, "parent": "200::1", "failing": []}
    with serving(tmp_path / "s", talking(success(told))) as (endpoint, questions):
        assert main([f"-endpoint={endpoint}", "Health"]) == int(not ready)
        assert capfd.readouterr() == (f"{'healthy' if ready else 'unhealthy'}: so\\nit is\n", "")
        assert main([f"-endpoint={endpoint}", "-json", "health"]) == int(not ready)
        assert [json.loads(question)["request"] for question in questions] == ["getHealth", "getHealth"]
    verdict = json.loads(capfd.readouterr().out)
    assert verdict == {"healthy": ready, "reason": "so\\nit is", "peers": 3, "up": 1, "parent": "200::1", "failing": []}


UNKNOWN = b'{"status":"error","error":"unknown action \'gethealth\', try \'list\' for help"}'
DOWN = {"remote": "tcp://user:secret@a:1?key=0", "up": False, "last_error": "EOF"}
UP = {"remote": "tcp://b:1", "up": True}
NEIGHBOUR = {"remote": "tls://[fe80::1%25eth0]:2", "up": True}
INCOMING = {"remote": "tls://[2001:db8::1]:2", "up": True, "inbound": True}
ALONE = [{"key": "aa", "parent": "aa", "address": "200::a"}]
BELOW = [*ALONE, {"key": "bb", "parent": "aa", "address": "200::b"}]
ABOVE = [{"key": "aa", "parent": "bb", "address": "200::a"}, {"key": "bb", "parent": "bb", "address": "200::b"}]


@pytest.mark.parametrize(
    ("peers", "tree", "line"),
    [
        ([], ALONE, "healthy: root by intent: no peers are configured, and it waits for others"),
        ([UP, DOWN], ABOVE, "healthy: 1 of 2 peers up, parent 200::b"),
        ([UP], BELOW, "healthy: 1 of 1 peer up, root of the tree"),
        ([NEIGHBOUR], ABOVE, "healthy: 1 of 1 peer up, parent 200::b"),
        ([INCOMING], BELOW, "healthy: 1 of 1 peer up, root of the tree"),
        ([UP], ALONE, "unhealthy: 1 peer up, but no place in the tree"),
        ([DOWN], ALONE, "unhealthy: none of 1 configured peer is up: tcp://***@a:1?key=0 (EOF)"),
        ([DOWN, NEIGHBOUR], ABOVE, "unhealthy: none of 1 configured peer is up"),
        ([DOWN, INCOMING], BELOW, "unhealthy: none of 1 configured peer is up"),
    ],
)
def test_a_go_node_is_judged_by_what_it_shows(
    peers: list[object], tree: list[object], line: str, tmp_path: Path, capfd: Capture
) -> None:
    answers = UNKNOWN, *map(success, ({"peers": peers}, {"key": "aa"}, {"tree": tree}))
    with serving(tmp_path / "s", talking(*answers)) as (endpoint, _):
        code = main([f"-endpoint={endpoint}", "health"])
    out, err = capfd.readouterr()
    assert (code, out[: len(line)], err) == (int(line.startswith("un")), line, "")
    assert out.endswith("(told by getPeers and getTree, since this node has no getHealth)\n")
    assert "secret" not in out


def test_health_is_over_in_time(tmp_path: Path) -> None:
    def silent(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.recv(65536)

    with serving(tmp_path / "s", silent) as (endpoint, _):
        verdict = find_health(find_endpoint(endpoint), timeout=0.05)
    assert not verdict.healthy
    assert "within 0.05 s" in verdict.reason


def test_a_node_that_does_not_answer_is_not_healthy(tmp_path: Path, capfd: Capture) -> None:
    assert main([f"-endpoint=unix://{tmp_path}/none", "health"]) == 1
    assert capfd.readouterr().out.startswith("unhealthy: no admin socket at")
    with serving(tmp_path / "s", answering(b'{"status":"error","error":"busy"}')) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "health"]) == 1
    assert capfd.readouterr().out == "unhealthy: busy\n"


def test_hosts(tmp_path: Path, capfd: Capture) -> None:
    entries = [
        {"name": "web.my.net", "address": "200::1", "source": "announced", "key": "ab"},
        {"name": "www.shop.my.net", "address": "300:1:2:3::4", "source": "static"},
    ]
    response = {"enabled": True, "domain": "my.net", "hosts": entries}
    with serving(tmp_path / "s", answering(success(response))) as (endpoint, questions):
        assert main([f"-endpoint={endpoint}", "hosts"]) == 0
        assert capfd.readouterr() == ("200::1 web.my.net\n300:1:2:3::4 www.shop.my.net\n", "")
        assert json.loads(questions[0])["request"] == "getHosts"
        assert main([f"-endpoint={endpoint}", "hosts", "names=both"]) == 0
        assert capfd.readouterr().out == "200::1 web.my.net web\n300:1:2:3::4 www.shop.my.net www.shop\n"
        assert main([f"-endpoint={endpoint}", "hosts", "format=add-host", "names=short"]) == 0
        assert capfd.readouterr().out == "--add-host web:200::1\n--add-host www.shop:300:1:2:3::4\n"
        assert main([f"-endpoint={endpoint}", "-json", "hosts"]) == 0
        assert json.loads(capfd.readouterr().out)[0] == {"address": "200::1", "names": ["web.my.net"]}
        assert main([f"-endpoint={endpoint}", "hosts", "format=bind"]) == 1
        assert 'format="bind" must be hosts or add-host' in capfd.readouterr().err


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ({"enabled": False}, "the node knows no names: its configuration has no DNS section"),
        ({"enabled": True, "hosts": [{"name": "a b", "address": "200::1"}]}, "holds a name that is none"),
        ({"enabled": True, "hosts": [{"name": "a\n1.2.3.4 b", "address": "200::1"}]}, "holds a name that is none"),
        ({"enabled": True, "hosts": [{"name": "a", "address": "$(rm)"}]}, "holds an address that is none"),
    ],
)
def test_what_cannot_be_lines_of_hosts(response: object, error: str, tmp_path: Path, capfd: Capture) -> None:
    with serving(tmp_path / "s", answering(success(response))) as (endpoint, _):
        assert main([f"-endpoint={endpoint}", "hosts"]) == 1
    out, err = capfd.readouterr()
    assert out == "" and error in err
