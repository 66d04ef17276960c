"""Which peers have series of their own, and that no counter ever falls, whoever comes and goes."""

from __future__ import annotations

import random

from yggpy.monitoring.peers import OTHER, PeerLedger
from yggpy.status import PeerStatus


def peer(
    address: str, link_id: int, received: int = 0, *, kind: str = "incoming", uptime: float = 1.0, **more: object
) -> PeerStatus:
    return PeerStatus(
        f"tcp://{address}", True, kind == "incoming", address=address, link_id=link_id, bytes_received=received,
        bytes_sent=2 * received, dropped_packets=received // 10, kind=kind, uptime=uptime, **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_links_of_one_node_are_one_series() -> None:
    links = [
        peer("200::1", 1, 100, uptime=5, latency=0.2, cost=20, queued_bytes=3),
        peer("200::1", 2, 10, uptime=9, latency=0.1, cost=30, queued_bytes=4),
        peer("200::2", 3, 50),
        PeerStatus("tcp://down", False, False),
    ]
    series = PeerLedger().update(links)
    assert sorted(series) == ["200::1", "200::2"]
    one = series["200::1"]
    assert (one.links, one.bytes_received, one.bytes_sent, one.dropped_packets) == (2, 110, 220, 11)
    assert (one.queued_bytes, one.latency, one.cost, one.uptime) == (7, 0.1, 20, 9)
    assert series["200::2"].latency is None


def test_configured_peers_come_first_then_the_oldest_links_and_the_rest_is_other() -> None:
    links = [
        peer("200::1", 1, 1, uptime=1),
        peer("200::2", 2, 2, uptime=50),
        peer("200::3", 3, 4, uptime=3, queued_bytes=7),
        peer("200::4", 4, 8, kind="configured", uptime=0, latency=0.5),
        peer("200::5", 5, 16, uptime=2, latency=0.5, queued_bytes=1),
    ]
    series = PeerLedger(limit=2).update(links)
    assert sorted(series) == ["200::2", "200::4", OTHER]
    rest = series[OTHER]
    assert (rest.links, rest.bytes_received, rest.queued_bytes) == (3, 1 + 4 + 16, 8)
    assert (rest.latency, rest.cost, rest.uptime) == (None, None, None)


def test_a_peer_that_comes_back_goes_on_where_it_was_and_one_that_is_away_is_forgotten() -> None:
    ledger = PeerLedger()
    assert ledger.update([peer("200::1", 1, 100)])["200::1"].bytes_received == 100
    assert ledger.update([peer("200::1", 1, 130)])["200::1"].bytes_received == 130
    assert ledger.update([peer("200::1", 2, 5)])["200::1"].bytes_received == 135, "a new link counts anew"
    assert ledger.update([]) == {}
    assert ledger.update([peer("200::1", 3, 1)])["200::1"].bytes_received == 1


def test_other_keeps_what_it_had_when_all_are_gone() -> None:
    ledger = PeerLedger(limit=1)
    ledger.update([peer("200::1", 1, uptime=9), peer("200::2", 2, 70)])
    assert ledger.update([])[OTHER].bytes_received == 70


def test_no_series_ever_falls_and_nothing_is_counted_twice() -> None:
    chance = random.Random(5)
    ledger, links, number = PeerLedger(limit=3), dict[int, PeerStatus](), 0
    arrived = 0
    last: dict[str, int] = {}
    for _ in range(500):
        for link_id, link in list(links.items()):
            if chance.random() < 0.1:
                del links[link_id]
            else:
                more = chance.randrange(100)
                arrived += more
                kind, uptime = link.kind, link.uptime + 1
                links[link_id] = peer(str(link.address), link_id, link.bytes_received + more, kind=kind, uptime=uptime)
        while len(links) < 6:
            number += 1
            kind = chance.choice(("configured", "incoming"))
            links[number] = peer(f"200::{chance.randrange(8)}", number, kind=kind, uptime=0)
        series = ledger.update(links.values())
        assert len(series) <= 4
        sums = {name: entry.bytes_received for name, entry in series.items()}
        assert all(value >= last[name] for name, value in sums.items() if name in last)
        last = sums
    assert 0 < sum(last.values()) <= arrived
