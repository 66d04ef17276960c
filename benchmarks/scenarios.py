"""The layouts of nodes, and what is measured in each: one run of a scenario gives several values at once.

A scenario is a function of a lab, a subject and the seconds of its traffic. It places and starts the nodes, loads them,
and returns its values by name; the name tells the unit. Which values are shown, and against which target, is in
``rows.py``. Throughput, CPU, memory, retransmits and the round trip under load all come from the same transfer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Flow, connect, idle_rtt, round_trips, tcp_flows, udp_flood
from benchmarks.procstat import cpu_seconds, peak_rss_mib
from benchmarks.subjects import BenchLab, Subject
from tests.interop.lab import LabError
from tests.interop.measure import PingStream
from tests.interop.nodes import MeshNode, admin_request

__all__ = ["SCENARIOS", "Scenario", "Values"]

Values = Mapping[str, float]
"""Results of one run by name: ``gbit_per_s``, ``cpu_s_per_gb``, ``peak_rss_mib``, ``rtt_idle_ms`` and so on."""

LOAD_PING_INTERVAL = 0.02
"""Seconds between the pings beside a bulk transfer."""
MIN_LOAD_PINGS = 20
"""Answers that a median under load needs."""
SMALL_DATAGRAM = 100
"""Bytes of payload of a small UDP datagram."""
ACTIVE_PEERS = 8
FLOWS_PER_PEER = 4
IDLE_PEERS = 60
PEERS_TIMEOUT = 60.0
"""Seconds until the idle peers must be connected."""
SETTLE_TIME = 2.0
"""Seconds after which a hub has finished telling its new peers about the tree and about each other."""
FIRST_REPLY_INTERVAL = 0.01
"""Seconds between the pings that wait for a starting node."""
START_TIMEOUT = 30.0
START_POLL = 0.002
"""Seconds between the looks at a starting node's admin socket."""
START_ATTEMPTS = 4
"""Starts, of which all but one may be lost to the Go node's own race (see ``tests/interop/nodes.py``)."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Scenario:
    """A layout and its measurement."""

    name: str
    run: Callable[[BenchLab, Subject, int], Values]
    """Called with a fresh lab, the subject and the seconds of traffic."""


def _pair(lab: BenchLab, subject: Subject, scheme: str, mtu: int) -> tuple[MeshNode, MeshNode]:
    """Start two nodes, the sender dialling the receiver, and let them find each other."""
    receiver = lab.place(subject.receiver, "receiver", IfMTU=mtu)
    sender = lab.place(subject.sender, "sender", IfMTU=mtu)
    sender.dial(receiver.listen(scheme))
    lab.start()
    connect(sender, receiver)
    return sender, receiver


class _Meter:
    """CPU seconds of some nodes between two moments."""

    def __init__(self, nodes: Sequence[MeshNode]) -> None:
        self._nodes = nodes
        self._before = [cpu_seconds(node.pid) for node in nodes]
        self.each: list[float] = []

    def stop(self) -> float:
        """Return the CPU seconds of all nodes together; ``each`` has those of each one."""
        self.each = [cpu_seconds(node.pid) - before for node, before in zip(self._nodes, self._before, strict=True)]
        return sum(self.each)


def _flow_values(flow: Flow) -> dict[str, float]:
    return {"gbit_per_s": flow.gbit_per_s, "gigabytes": flow.gigabytes, "retransmits": float(flow.retransmits)}


def one_flow(lab: BenchLab, subject: Subject, seconds: int, *, scheme: str, mtu: int) -> Values:
    """Measure one TCP flow between neighbours; before it, the idle round trip; beside it, the round trip under load."""
    sender, receiver = _pair(lab, subject, scheme, mtu)
    idle = idle_rtt(sender, receiver)
    meter = _Meter([sender, receiver])
    pings = PingStream(sender, receiver, interval=LOAD_PING_INTERVAL)
    flow = tcp_flows(sender, [receiver], seconds)
    cpu = meter.stop()
    result, _ = pings.stop()
    loaded = round_trips(result)
    if len(loaded) < MIN_LOAD_PINGS:
        raise LabError(f"of {result.sent} pings under load only {len(loaded)} were answered")
    return _flow_values(flow) | {
        "cpu_s_per_gb": cpu / flow.gigabytes,
        "cpu_sender_s_per_gb": meter.each[0] / flow.gigabytes,
        "cpu_receiver_s_per_gb": meter.each[1] / flow.gigabytes,
        "peak_rss_mib": max(peak_rss_mib(sender.pid), peak_rss_mib(receiver.pid)),
        "rtt_idle_ms": idle,
        "rtt_load_ms": median(loaded),
        "rtt_load_p95_ms": sorted(loaded)[int(len(loaded) * 0.95)],
        "pings_lost_under_load": float(result.lost),
    }


def transit(lab: BenchLab, subject: Subject, seconds: int) -> Values:
    """Measure one TCP flow between two nodes that both dial a third, which has no TUN and only forwards."""
    forwarder = lab.place(subject.sender, "forwarder", IfName="none")
    receiver = lab.place(subject.receiver, "receiver", IfMTU=65535)
    sender = lab.place(subject.sender, "sender", IfMTU=65535)
    uri = forwarder.listen("tls")
    receiver.dial(uri)
    sender.dial(uri)
    lab.start()
    connect(sender, receiver)
    meter = _Meter([forwarder, sender, receiver])
    flow = tcp_flows(sender, [receiver], seconds)
    cpu = meter.stop()
    return _flow_values(flow) | {
        "cpu_s_per_gb": cpu / flow.gigabytes,
        "cpu_forwarder_s_per_gb": meter.each[0] / flow.gigabytes,
        "peak_rss_mib": peak_rss_mib(forwarder.pid),
    }


def small_packets(lab: BenchLab, subject: Subject, seconds: int) -> Values:
    """Flood small UDP datagrams over one TLS link: what counts is how many arrive in a second.

    Where cores are few, the flood starves the receiving program too. What the receiving node delivered, read or not, is
    a value of its own, so that no node is blamed for that.
    """
    sender, receiver = _pair(lab, subject, "tls", 65535)
    meter = _Meter([sender, receiver])
    flood = udp_flood(sender, receiver, seconds, SMALL_DATAGRAM)
    cpu = meter.stop()
    received = flood.counters.received
    delivered = received + flood.counters.overflowed
    if not received:
        raise LabError("no datagram arrived")
    return {
        "sent_per_s": flood.sent / flood.seconds,
        "received_per_s": received / flood.seconds,
        "delivered_per_s": delivered / flood.seconds,
        "cpu_us_per_packet": cpu * 1e6 / delivered,
        "peak_rss_mib": max(peak_rss_mib(sender.pid), peak_rss_mib(receiver.pid)),
    }


def fan_out(lab: BenchLab, subject: Subject, seconds: int) -> Values:
    """Measure a hub with 60 idle peers that sends 32 TCP flows to 8 more: throughput of all, CPU of the nine nodes."""
    hub = lab.place(subject.sender, "hub", IfMTU=65535)
    uri = hub.listen("tls")
    peers = [lab.place(subject.receiver, f"peer{number}", IfMTU=65535) for number in range(ACTIVE_PEERS)]
    for peer in peers:
        peer.dial(uri)
    lab.start()
    space = lab.space()
    with open(lab.folder / "idle.log", "wb") as log:
        idle = space.popen([sys.executable, "-m", "benchmarks.idle_peers", uri, str(IDLE_PEERS)], output=log)
    limit = time.monotonic() + PEERS_TIMEOUT
    while (up := len(hub.peers_up())) < ACTIVE_PEERS + IDLE_PEERS:
        if idle.poll() is not None or time.monotonic() > limit:
            raise LabError(f"{up} peers are up: {(lab.folder / 'idle.log').read_text(errors='replace')[-500:]}")
        time.sleep(0.1)
    time.sleep(SETTLE_TIME)
    for peer in peers:
        connect(hub, peer)
    meter = _Meter([hub, *peers])
    flow = tcp_flows(hub, peers, seconds, FLOWS_PER_PEER)
    cpu = meter.stop()
    if (left := len(hub.peers_up())) < ACTIVE_PEERS + IDLE_PEERS:
        raise LabError(f"of {ACTIVE_PEERS + IDLE_PEERS} peers {left} are left after the transfer")
    return _flow_values(flow) | {
        "cpu_s_per_gb": cpu / flow.gigabytes,
        "cpu_hub_s_per_gb": meter.each[0] / flow.gigabytes,
        "peak_rss_mib": peak_rss_mib(hub.pid),
    }


def cold_start(lab: BenchLab, subject: Subject, seconds: int) -> Values:
    """Start a node whose peer already runs: seconds to its admin socket's first answer, and to its first ping reply.

    The peer is of the subject's receiving kind. Both clocks run from the start of the process; ``ip netns exec``, which
    comes first, costs both kinds the same few milliseconds.
    """
    peer = lab.place(subject.receiver, "peer")
    uri = peer.listen("tls")
    lab.start()
    last_words = ""
    for _ in range(START_ATTEMPTS):
        node = lab.place(subject.sender, "starter")
        node.dial(uri)
        if values := _timed_start(node, peer):
            return values
        last_words = node.log_text()[-500:]
    raise LabError(f"the node ended {START_ATTEMPTS} times at its start: {last_words}")


def _timed_start(node: MeshNode, peer: MeshNode) -> Values | None:
    """Return None if the node ended at its start: Go's does now and then, when it is asked too early."""
    with _waiting_ping(node, peer) as ping:
        began = time.monotonic()
        node.start()
        while not _answers(node):
            if not node.running:
                return None
            if time.monotonic() > began + START_TIMEOUT:
                raise LabError(f"{node!r} not ready in {START_TIMEOUT} s: {node.log_text()[-500:]}")
            time.sleep(START_POLL)
        ready = time.monotonic() - began
        output, _ = ping.communicate(timeout=START_TIMEOUT + 5)
    try:
        replied = float(output.decode().split()[-1]) - began
    except (ValueError, IndexError):
        raise LabError(f"no ping through the mesh: {output.decode(errors='replace')[-300:]}") from None
    return {"admin_ready_s": ready, "first_ping_s": replied}


def _answers(node: MeshNode) -> bool:
    try:
        return bool(admin_request(node.admin_path, "getself").get("status") == "success")
    except (OSError, ValueError):
        return False


@contextmanager
def _waiting_ping(node: MeshNode, peer: MeshNode) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [peer.address, str(FIRST_REPLY_INTERVAL), str(START_TIMEOUT)]
    process = node.space.popen([sys.executable, "-S", _HERE / "first_reply.py", *arguments])
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != b"ready":
            raise LabError("the ping that waits for the start did not start")
        yield process
    finally:
        process.kill()
        process.wait()
        node.space.forget(process)


def _one_flow(scheme: str, mtu: int) -> Scenario:
    def run(lab: BenchLab, subject: Subject, seconds: int) -> Values:
        return one_flow(lab, subject, seconds, scheme=scheme, mtu=mtu)

    return Scenario(f"{scheme}-{mtu}", run)


SCENARIOS = (
    _one_flow("tls", 65535),
    _one_flow("tcp", 65535),
    _one_flow("tls", 1500),
    _one_flow("tls", 1280),
    Scenario("transit", transit),
    Scenario("udp", small_packets),
    Scenario("fan", fan_out),
    Scenario("start", cold_start),
)
