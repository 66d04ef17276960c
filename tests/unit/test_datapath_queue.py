"""The packet queue against the scenarios recorded from Go, and its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.datapath.queue import MAX_QUEUED_BYTES, PacketQueue, QueuedPacket

SCENARIOS = load("packetqueue")["scenarios"]


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[s["description"] for s in SCENARIOS])
def test_scenarios_of_go(scenario: dict[str, Any]) -> None:
    queue = PacketQueue()
    ids: dict[QueuedPacket, int] = {}
    for step in scenario["steps"]:
        if step["op"] == "push":
            packet = QueuedPacket(b"frame", step["size"], key(step["source"]), key(step["dest"]))
            ids[packet] = step["id"]
            assert [ids[victim] for victim in queue.push(packet)] == step["dropped"]
            assert queue.size == step["queue_size"]
        else:
            popped = queue.pop()
            assert (None if popped is None else ids[popped]) == step["id"]


def test_a_stuck_link_holds_a_bounded_number_of_packets() -> None:
    queue = PacketQueue()
    for number in range(20_000):
        queue.push(QueuedPacket(b"x", 1000, key(number % 7), key(number % 3)))
        assert queue.size <= MAX_QUEUED_BYTES
        assert len(queue._arrivals) <= 2 * len(queue) + 70
    assert queue.dropped == 20_000 - len(queue)
    orders = []
    while (packet := queue.pop()) is not None:
        orders.append(packet.order)
    assert orders == sorted(orders)
    assert queue.size == 0 and len(queue) == 0 and not queue._by_dest


def test_a_packet_without_payload_bytes_is_not_lost() -> None:
    queue = PacketQueue()
    empty = QueuedPacket(b"x", 0, key(1), key(2))
    queue.push(empty)
    assert queue.pop() is empty
    assert queue.pop() is None
