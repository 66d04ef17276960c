"""Junk on the port closes that link, with a reason in the log; the links beside it notice nothing."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.interop import rude
from tests.interop.lab import OURS, Lab, Space
from tests.interop.measure import PingStream, wait_reachable
from tests.interop.nodes import FIRST_PORT, MeshNode

RUDE_PROGRAM = Path(rude.__file__)
LOG_PATIENCE = 2.0
"""Seconds that a log line may come after the link's end."""
RUDE_LIMIT = 60.0
MANNERS = [*rude.BEFORE, *rude.AFTER]

REASONS = {
    "silence": "i/o timeout",
    "random bytes": "not Yggdrasil",
    "an HTTP request": "not Yggdrasil",
    "half a handshake": "i/o timeout",
    "a short length": "invalid handshake length",
    "an oversize length": "i/o timeout",
    "a field that claims too much": "invalid handshake length",
    "a wrong password": "password does not match",
    "a future version": "incompatible version",
    "garbage frames": "message",
    "an empty frame": "empty message",
    "an oversize frame": "oversized message",
    "an endless length": "oversized message",
    "an unknown type": "unrecognised message type",
    "a truncated announcement": "",
    "a forged announcement": "does not verify",
    "a forged response": "does not verify",
    "a contradictory bloom filter": "",
    "a look-up without an end": "",
    "malformed traffic": "",
    "half a frame, then silence": "no answer",
}
"""What the log must say of each manner; "" where any reason will do."""
PATIENT = [manner for manner in MANNERS if REASONS[manner] in ("i/o timeout", "no answer")]
"""Manners that take seconds, since the node first waits for more."""


class Rude:
    """A rude peer, let loose on ``node``."""

    def __init__(self, space: Space, node: MeshNode, port: int, scheme: str, manner: str) -> None:
        self._space = space
        self._process = space.popen([sys.executable, RUDE_PROGRAM, node.space.address, str(port), scheme, manner])

    def closed_after(self) -> float | None:
        """Wait for its end; return after how many seconds it was cut off."""
        output, _ = self._process.communicate(timeout=RUDE_LIMIT)
        self._space.forget(self._process)
        closed: float | None = json.loads(output.splitlines()[-1])["closed_after"]
        return closed


def misbehave(space: Space, node: MeshNode, port: int, scheme: str, manner: str) -> float | None:
    """Let a rude peer loose on ``node``; return after how many seconds it was cut off."""
    return Rude(space, node, port, scheme, manner).closed_after()


def reason_logged(node: MeshNode, begin: int, address: str, reason: str) -> bool:
    """Wait for the line about a failed or broken link of ``address`` that gives ``reason``."""
    limit = time.monotonic() + LOG_PATIENCE
    while time.monotonic() < limit:
        for line in node.log_text()[begin:].splitlines():
            if address in line and reason in line and ("; error: " in line or " failed: " in line):
                return True
        time.sleep(0.05)
    return False


@pytest.fixture(autouse=True)
def _not_in_rehearsal(lab: Lab) -> None:
    if lab.rehearsing:
        pytest.skip("the log lines asked for are ours")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tcp", "tls", "ws"])
def test_junk_closes_its_own_link_only(lab: Lab, scheme: str) -> None:
    ours = lab.node(OURS)
    guest = lab.node("0.5.14")
    guest.dial(ours.listen(scheme))
    stranger = lab.space()
    patient = {manner: lab.space() for manner in PATIENT}
    lab.start()
    wait_reachable(guest, ours, timeout=20)
    stream = PingStream(guest, ours)

    begin = len(ours.log_text())
    waiting = {manner: Rude(space, ours, FIRST_PORT, scheme, manner) for manner, space in patient.items()}
    for manner in MANNERS:
        if manner in waiting:
            continue
        before = len(ours.log_text())
        assert misbehave(stranger, ours, FIRST_PORT, scheme, manner) is not None, f"{manner}: never cut off"
        assert reason_logged(ours, before, stranger.address, REASONS[manner]), (manner, ours.log_text()[before:])
    for manner, one in waiting.items():
        assert one.closed_after() is not None, f"{manner}: never cut off"
        assert reason_logged(ours, begin, patient[manner].address, REASONS[manner]), (manner, ours.log_text()[begin:])

    result, _ = stream.stop()
    assert result.lost == 0, result.output
    assert ours.running
    assert [peer["key"] for peer in ours.peers_up()] == [guest.public_key.hex()]
    assert "Traceback" not in ours.log_text()


def test_bytes_that_are_no_tls_close_the_connection(lab: Lab) -> None:
    ours = lab.node(OURS)
    ours.listen("tls")
    stranger = lab.space()
    lab.start()
    for manner in ("random bytes", "an HTTP request"):
        assert misbehave(stranger, ours, FIRST_PORT, "tcp", manner) is not None
    said = [line for line in ours.log_text().splitlines() if stranger.address in line]
    assert len(said) == 2 and all("failed" in line for line in said), said
    assert ours.running and "Traceback" not in ours.log_text()


def test_bytes_that_are_no_upgrade_close_the_connection(lab: Lab) -> None:
    ours = lab.node(OURS)
    ours.listen("ws")
    stranger = lab.space()
    lab.start()
    for manner in ("random bytes", "an HTTP request", "silence"):
        before = len(ours.log_text())
        assert misbehave(stranger, ours, FIRST_PORT, "tcp", manner) is not None
        assert reason_logged(ours, before, stranger.address, "")
    assert ours.running and "Traceback" not in ours.log_text()


JUNK_DATAGRAMS = """
import os, socket, sys
from aioquic.quic.connection import QuicConnection
from yggpy.links.quic import configuration
target = (sys.argv[1], int(sys.argv[2]))
for number in range(3000):
    if number % 10 == 0:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.sendto(os.urandom(1 + number % 1400), target)
for number in range(300):
    connection = QuicConnection(configuration=configuration())
    connection.connect(target, now=0.0)
    first = bytearray(connection.datagrams_to_send(now=0.0)[0][0])
    if number % 2:
        first[number] ^= 0x55
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(first, target)
"""


def test_junk_datagrams_do_not_disturb_quic_links(lab: Lab) -> None:
    """Noise, and connections that are begun and never gone on with."""
    ours = lab.node(OURS)
    guest, late = lab.node("0.5.14"), lab.node("0.5.14", name="late")
    uri = ours.listen("quic")
    guest.dial(uri)
    late.dial(uri)
    stranger = lab.space()
    lab.start([ours, guest])
    wait_reachable(guest, ours, timeout=20)
    stream = PingStream(guest, ours)
    stranger.run([sys.executable, "-c", JUNK_DATAGRAMS, ours.space.address, str(FIRST_PORT)])
    result, _ = stream.stop()  # before the tree changes, which may cost a packet
    assert result.lost == 0, result.output
    lab.start([late])  # who comes while the places are taken must get in
    wait_reachable(late, ours, timeout=20)
    time.sleep(7)  # longer than a handshake may take
    assert {peer["key"] for peer in ours.peers_up()} == {guest.public_key.hex(), late.public_key.hex()}
    assert ours.running and "Traceback" not in ours.log_text()
    assert ours.log_text().count(" failed: ") < 60  # a budget for each minute
