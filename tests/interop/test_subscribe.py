"""``subscribe`` on the admin socket of our daemon, while a Go peer comes, speaks and dies."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab
from tests.interop.measure import wait_reachable

EVENT_TIMEOUT = 40.0


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
