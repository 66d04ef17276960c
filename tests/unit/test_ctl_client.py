"""The client of the admin socket: questions and answers, and everything that can answer instead of a node."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.unit.ctl_fakes import Script, answering, dropping, serving, success, talking
from yggpy.ctl.client import MAX_NESTING, AdminConnection, Answer, ask, members, parse_json
from yggpy.ctl.endpoint import Endpoint
from yggpy.ctl.errors import AnswerError, ConnectError, CtlError, RefusedError

SHORT = 0.3
"""Seconds for waits that are meant to end in failure."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


def answer_of(path: Path, script: Script, **limits: float) -> Answer:
    with serving(path, script) as (endpoint, _):
        connection = AdminConnection(Endpoint.parse(endpoint), **limits)  # type: ignore[arg-type]
        with connection:
            return connection.request("getSelf")


def failure_of(path: Path, script: Script, **limits: float) -> str:
    with pytest.raises(CtlError) as caught:
        answer_of(path, script, **limits)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert str(path) in text
    return text


def test_a_question_is_spelt_as_gos_tool_does(path: Path) -> None:
    with serving(path, answering(success({"a": 1}))) as (endpoint, questions):
        answer = ask(Endpoint.parse(endpoint), "addPeer", {"uri": "tls://é:1"})
    assert (answer.ok, answer.value()) == (True, {"a": 1})
    assert json.loads(questions[0]) == {"request": "addPeer", "arguments": {"uri": "tls://é:1"}}


def test_over_tcp() -> None:
    with serving(("127.0.0.1", 0), answering(success([]))) as (endpoint, _):
        assert ask(Endpoint.parse(endpoint), "x").value() == []
        assert ask(Endpoint.parse(endpoint.removeprefix("tcp://")), "x").value() == []


def test_abstract_unix_socket() -> None:
    name = f"yggpy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answering(success("here"))(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        assert ask(Endpoint.parse(f"unix://@{name}"), "x").value() == "here"
        thread.join()


def test_many_questions_on_one_connection_whose_answers_trickle_in(path: Path) -> None:
    texts = [success({"text": 'a "quoted\\" {brace'}), b" \n" + success([["\\"], {}]), success(None)]
    with serving(path, talking(*texts)) as (endpoint, questions), AdminConnection(Endpoint.parse(endpoint)) as node:
        values = [node.request("x", keepalive=True).value() for _ in texts]
    assert values == [{"text": 'a "quoted\\" {brace'}, [["\\"], {}], None]
    assert len(questions) == 1
    assert json.loads(questions[0])["keepalive"] is True


def test_without_keepalive_the_next_question_connects_anew(path: Path) -> None:
    with (
        serving(path, answering(success(1))) as (endpoint, questions),
        AdminConnection(Endpoint.parse(endpoint)) as node,
    ):
        assert [node.request(name).value() for name in ("one", "two")] == [1, 1]
    assert [json.loads(question)["request"] for question in questions] == ["one", "two"]


def test_the_response_keeps_its_spelling_and_what_follows_is_left_alone(path: Path) -> None:
    answer = answer_of(path, answering(b' {"STATUS":"success","response": [1.0e5,  -0] } HTTP/1.1'))
    assert answer == Answer(None, "[1.0e5,  -0]")


def test_a_refusal_is_an_answer(path: Path) -> None:
    answer = answer_of(path, answering(b'{"status":"error","error":"no","response":null}'))
    assert (answer.ok, answer.error) == (False, "no")
    with pytest.raises(RefusedError, match=r"^no$"):
        answer.value()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "closed the connection without an answer"),
        (b" \n ", "closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\x1b[31m", "not a node's answer: 'HTTP/1.1 400 Bad Request"),
        (b"[]", "not a node's answer"),
        (b'{"status":"succ', "only 15 bytes of an answer"),
        (b'{"status": success}', "not JSON"),
        (b'{"status":"success" "response":{}}', "not JSON"),
        (b'{"status":"success","response":NaN}', "NaN is not JSON"),
        (b'{"status":"success","response":' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"status":"success","a":"\x01"}', "not JSON"),
        (b"{,}", "not JSON"),
        (b"{]", "not JSON"),
        (b'{"a":' * (MAX_NESTING + 1), f"deeper than {MAX_NESTING} levels"),
        (b'{"hello":"world"}', "neither success nor error"),
        (b'{"status":["success"]}', "neither success nor error"),
    ],
)
def test_what_is_no_answer_is_one_clear_error(path: Path, data: bytes, expected: str) -> None:
    text = failure_of(path, answering(data))
    assert expected in text
    assert "\x1b" not in text


def test_a_server_that_hangs_up_at_once(path: Path) -> None:
    assert "connection" in failure_of(path, dropping)


def test_a_server_that_says_nothing(path: Path) -> None:
    assert f"gave no answer within {SHORT:g} s" in failure_of(path, talking(b"", b""), answer_timeout=SHORT)


def test_a_server_that_stops_in_the_middle(path: Path) -> None:
    text = failure_of(path, talking(b'{"status":'), answer_timeout=SHORT)
    assert f"gave no complete answer within {SHORT:g} s" in text


def _flood(filler: bytes) -> Script:
    def script(connection: socket.socket) -> None:
        connection.sendall(b'{"a":"' if filler.strip() else b"")
        while True:
            connection.sendall(filler)

    return script


def test_an_endless_answer_is_cut_off(path: Path) -> None:
    assert "longer than 1000000 bytes" in failure_of(path, _flood(b"a" * 65536), max_answer_size=1_000_000)


def test_endless_white_space_ends_with_the_time(path: Path) -> None:
    assert "gave no answer within" in failure_of(path, _flood(b" " * 65536), answer_timeout=SHORT)


def test_a_large_answer_is_read_whole(path: Path) -> None:
    value = [{"key": "{" * 64, "path": [number, 2, 3]} for number in range(20_000)]
    assert answer_of(path, answering(success(value))).value() == value


def test_a_full_backlog_is_waited_for_no_longer_than_allowed(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket(socket.AF_UNIX)
            filler.setblocking(False)
            fillers.append(filler)
            try:
                filler.connect(str(path))
            except BlockingIOError:
                break
        connection = AdminConnection(Endpoint(path=str(path)), connect_timeout=SHORT)
        with pytest.raises(ConnectError, match="does not take the connection"):
            connection.request("x")
        for filler in fillers:
            filler.close()


def test_no_socket(path: Path) -> None:
    with pytest.raises(ConnectError, match=r"no admin socket at .*\(AdminListen of x\): is the node running"):
        ask(Endpoint(path=str(path)), "x", origin="AdminListen of x")


def test_a_socket_that_was_left_behind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(ConnectError, match="left its socket behind, so start it again"):
        ask(Endpoint(path=str(path)), "x")


def test_a_file_that_is_no_socket(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConnectError, match="is not a socket"):
        ask(Endpoint(path=str(path)), "x")


def test_a_path_that_is_too_long() -> None:
    with pytest.raises(ConnectError, match="path too long"):
        ask(Endpoint(path="/" + "a" * 200), "x")


def test_nobody_listens_on_the_tcp_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(ConnectError, match=f"nobody listens at tcp://127.0.0.1:{port}: is the node running"):
            ask(Endpoint(host="127.0.0.1", port=port), "x")


@pytest.mark.parametrize("host", ["a..b", "a" * 300])
def test_a_host_that_cannot_be(host: str) -> None:
    with pytest.raises(ConnectError, match="cannot find the host"):
        ask(Endpoint(host=host, port=1), "x")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone who may not")
def test_permission_denied_names_the_group_that_may() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "admin.sock")
        os.chmod(folder, 0o755)
        listener.bind(str(path))
        listener.listen()
        os.chmod(path, 0o660)
        os.chown(path, 0, 1)
        # Our modules may lie where that user cannot read, so they are loaded before.
        program = (
            "import grp, os, yggpy.ctl.client as client, yggpy.ctl.endpoint as endpoint\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"try: client.ask(endpoint.Endpoint(path={str(path)!r}), 'x')\n"
            "except Exception as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert "permission denied for" in done.stdout
    assert "run this as root, or join the group daemon" in done.stdout


def test_members_keep_their_spelling() -> None:
    assert members(' { "a" : [1 , 2] ,"b":{"c" : null}, "a":"\\u0041" } ') == {"a": '"\\u0041"', "b": '{"c" : null}'}
    assert members("{}") == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1 "b":2}', "{1:2}"])
def test_members_of_what_is_no_object(text: str) -> None:
    with pytest.raises(AnswerError):
        members(text)


def test_only_json_is_json() -> None:
    assert parse_json("[1]") == [1]
    for text in ("", "[1", "Infinity", "[" * 100_000):
        with pytest.raises(AnswerError):
            parse_json(text)
