"""``subscribe`` on the admin socket of our daemon and in the tool, while a Go peer comes, speaks and dies."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from typing import Any

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import wait_reachable
from tests.interop.nodes import MeshNode
from tests.unit.ctl_fakes import running

EVENT_TIMEOUT = 40.0
ATTEMPTS = 10
"""How often a link comes until a tool that has just been started tells of it."""


def until(events: Iterator[dict[str, Any]], *names: str) -> dict[str, dict[str, Any]]:
    """Read events until one of each name has come; return these."""
    found: dict[str, dict[str, Any]] = {}
    while not found.keys() >= set(names):
        event = next(events)
        if event["event"] in names:
            found[event["event"]] = event
    return found


@pytest.mark.parametrize("version", GO_VERSIONS)
def test_a_peer_comes_speaks_and_dies(lab: Lab, version: str) -> None:
    if lab.rehearsing:
        pytest.skip("the Go node has no subscribe")
    ours, theirs = lab.node(OURS), lab.node(version)
    uri = theirs.listen("tls")
    lab.start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(EVENT_TIMEOUT)
        connection.connect(str(ours.admin_path))
        connection.sendall(b'{"request": "subscribe"}')
        lines = connection.makefile("rb")
        answer = json.loads(lines.readline())
        assert answer["status"] == "success" and "links" in answer["response"]["events"]
        events = (json.loads(line) for line in lines)

        ours.admin("addpeer", uri=f"{uri}?password=")
        up = until(events, "link_up")["link_up"]
        assert (up["uri"], up["key"], up["address"], up["inbound"]) == (
            uri,
            theirs.public_key.hex(),
            theirs.address,
            False,
        )
        wait_reachable(ours, theirs, timeout=30)
        found = until(events, "path_found", "session_opened")
        assert {event["address"] for event in found.values()} == {theirs.address}

        theirs.kill()
        found = until(events, "link_down", "peer_retrying")
        assert found["link_down"]["key"] == theirs.public_key.hex()
        assert found["peer_retrying"]["uri"] == uri and found["peer_retrying"]["delay"] > 0
        assert ours.stop() == 0
        assert all(json.loads(line)["event"] for line in lines)  # to the end of the stream


@pytest.mark.parametrize("style", [(), ("-json",)])
def test_the_tool_prints_events_as_they_happen(lab: Lab, style: tuple[str, ...]) -> None:
    if lab.rehearsing:
        pytest.skip("the Go node has no subscribe")
    ours, theirs = lab.node(OURS), lab.node(GO_VERSIONS[-1])
    uri = theirs.listen("tcp")
    lab.start()
    endpoint = f"unix://{ours.admin_path}"

    def tells(line: str) -> bool:
        if not style:
            return f" link_up uri={uri} address={theirs.address} " in line
        event = json.loads(line)
        return event["event"] == "link_up" and (event["uri"], event["address"]) == (uri, theirs.address)

    with (
        running(endpoint, *style, "subscribe", "events=links") as tool,
        running(endpoint, *style, "subscribe", "events=links") as other,
    ):
        for each in (tool, other):
            lines = _lines_of(each)
            assert any(_link_comes(ours, uri, lines, tells) for _ in range(ATTEMPTS))
        tool.send_signal(signal.SIGTERM)
        assert tool.wait(EVENT_TIMEOUT) == 0
        assert tool.stderr is not None and tool.stderr.read() == ""
        assert ours.stop() == 0
        assert other.wait(EVENT_TIMEOUT) == 1
        assert other.stderr is not None and "the node has ended the stream" in other.stderr.read()


def _lines_of(process: subprocess.Popen[str]) -> Queue[str]:
    lines: Queue[str] = Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _link_comes(ours: MeshNode, uri: str, lines: Queue[str], tells: Callable[[str], bool]) -> bool:
    """Let a link come and go; the tool may not have begun to listen."""
    ours.admin("addpeer", uri=uri)
    try:
        while not tells(lines.get(timeout=2)):
            pass
    except Empty:
        return False
    finally:
        ours.admin("removepeer", uri=uri)
    return True


def test_the_tool_at_a_go_node(lab: Lab) -> None:
    node = lab.node(GO_VERSIONS[-1])
    lab.start()
    with running(f"unix://{node.admin_path}", "subscribe") as tool:
        out, err = tool.communicate(timeout=EVENT_TIMEOUT)
    assert (tool.returncode, out) == (1, "")
    assert err.startswith("yggpy-ctl: this node tells no events, as Go's does not: ")
