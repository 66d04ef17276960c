"""Events: who hears what, what a slow listener loses, and what a real node tells of its life."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.links_fakes import KEY_A, KEY_B, Side, until
from yggpy import testing
from yggpy.address import Address
from yggpy.datapath.base import CloseReason, LinkEnd
from yggpy.events import model
from yggpy.events.hub import MAX_QUEUED_EVENTS, MAX_SUBSCRIBERS, EventHub, Subscription, SubscriptionError
from yggpy.events.model import (
    GROUPS,
    Event,
    EventsLost,
    LinkDown,
    LinkUp,
    MulticastDown,
    ParentChanged,
    PathChanged,
    PathFound,
    PathLost,
    PeerRetrying,
    RootChanged,
    SessionClosed,
    SessionOpened,
    TunUp,
)
from yggpy.events.watch import CoreWatch

NOW = 1700000000.0
WAIT = 15.0
KEY = bytes(31) + b"\1"


def hub() -> EventHub:
    return EventHub(lambda: NOW)


def tun(number: int) -> Any:
    return lambda time: TunUp(time=time, interface=f"tun{number}", mtu=1280)


async def take(subscription: Subscription, count: int) -> list[Event]:
    async with asyncio.timeout(WAIT):
        return [await anext(subscription) for _ in range(count)]


async def wait_for(subscription: Subscription, kind: type[Event]) -> Any:
    """Return the next event of a kind."""
    async with asyncio.timeout(WAIT):
        async for event in subscription:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"no {kind.__name__} before the end")


# -- the hub -------------------------------------------------------------------------------------------------


async def test_each_listener_gets_its_groups_in_order() -> None:
    events = hub()
    everything, some = events.subscribe(), events.subscribe(["multicast", "links"])
    events.publish(tun(1))
    events.publish(lambda time: MulticastDown(time=time, interface="eth0"))
    assert await take(everything, 2) == [
        TunUp(time=NOW, interface="tun1", mtu=1280),
        MulticastDown(time=NOW, interface="eth0"),
    ]
    assert await take(some, 1) == [MulticastDown(time=NOW, interface="eth0")]


async def test_a_reader_that_waits_is_woken() -> None:
    events = hub()
    with events.subscribe() as subscription:
        reading = asyncio.create_task(take(subscription, 1))
        await asyncio.sleep(0)
        events.publish(tun(1))
        [event] = await reading
        assert isinstance(event, TunUp)
    assert events.subscribers == 0


async def test_a_slow_listener_loses_the_oldest_and_is_told() -> None:
    events = hub()
    slow, quick = events.subscribe(), events.subscribe()
    for number in range(MAX_QUEUED_EVENTS + 3):
        events.publish(tun(number))
        await take(quick, 1)
    lost, first, *_ = await take(slow, MAX_QUEUED_EVENTS + 1)
    assert lost == EventsLost(time=NOW, count=3)
    assert first == TunUp(time=NOW, interface="tun3", mtu=1280)
    events.publish(tun(0))
    assert [event.name for event in await take(slow, 1)] == ["tun_up"]  # told once


async def test_nothing_is_made_for_nobody() -> None:
    def make(time: float) -> Event:
        raise AssertionError("nobody listens")

    events = hub()
    events.subscribe().close()
    events.publish(make)


async def test_subscriptions_are_bounded_and_freed() -> None:
    events = hub()
    all_of_them = [events.subscribe() for _ in range(MAX_SUBSCRIBERS)]
    with pytest.raises(SubscriptionError, match=f"^{MAX_SUBSCRIBERS} others subscribe already; close one"):
        events.subscribe()
    all_of_them[5].close()
    all_of_them[5].close()
    events.subscribe()


async def test_unknown_groups_are_refused_by_name() -> None:
    with pytest.raises(SubscriptionError, match=r'^there are no events "peers"; there are: links, paths, sessions'):
        hub().subscribe(["links", "peers"])


async def test_the_end_of_the_hub_ends_every_reader() -> None:
    events = hub()
    subscription = events.subscribe()
    events.publish(tun(1))
    events.close()
    assert [event.name async for event in subscription] == ["tun_up"]
    with pytest.raises(SubscriptionError, match="closed"):
        events.subscribe()


def test_every_kind_has_a_name_of_its_own_and_a_group() -> None:
    classes: list[type[Event]] = [getattr(model, name) for name in model.__all__ if name != "GROUPS"]
    kinds = [kind for kind in classes if kind not in (Event, EventsLost)]
    assert len({kind.name for kind in kinds}) == len(kinds) > 0
    assert {kind.group for kind in kinds} == set(GROUPS)


def test_json_has_hex_keys_and_leaves_out_what_is_none() -> None:
    event = PeerRetrying(time=NOW, uri="tcp://h:1", interface="", reason="EOF", delay=None)
    assert event.as_json() == {
        "event": "peer_retrying",
        "time": NOW,
        "uri": "tcp://h:1",
        "interface": "",
        "reason": "EOF",
    }
    assert ParentChanged(time=NOW, parent=KEY, previous=KEY).as_json()["parent"] == KEY.hex()


# -- the core ------------------------------------------------------------------------------------------------


def test_what_is_repeated_is_no_news() -> None:
    told: list[Event] = []
    watch = CoreWatch(KEY, lambda make: told.append(make(NOW)))
    other = bytes(32)
    address = str(Address.for_key(other))
    for path in ((1,), (1,), (1, 2)):
        watch.path_installed(other, path)
    for _ in range(2):
        watch.path_removed(other)
        watch.session_installed(other)
    for _ in range(2):
        watch.session_removed(other)
    watch.tree_is(KEY, KEY)
    watch.tree_is(other, other)
    assert told == [
        PathFound(time=NOW, key=other, address=address, path=(1,)),
        PathChanged(time=NOW, key=other, address=address, path=(1, 2)),
        PathLost(time=NOW, key=other, address=address),
        SessionOpened(time=NOW, key=other, address=address),
        SessionClosed(time=NOW, key=other, address=address),
        ParentChanged(time=NOW, parent=other, previous=KEY),
        RootChanged(time=NOW, root=other, previous=KEY),
    ]


# -- links ---------------------------------------------------------------------------------------------------


async def test_the_life_of_a_peering() -> None:
    told: list[Event] = []
    async with (
        Side(KEY_A, publish=lambda make: told.append(make(NOW))) as dialler,
        Side(KEY_B) as server,
    ):
        listener = await server.manager.listen("tcp://127.0.0.1:0")
        dialler.manager.add_peer(f"{listener.address}?password=wrong", "")
        await until(lambda: dialler.pauses.pausing)
        [retry] = told
        assert isinstance(retry, PeerRetrying)
        assert (retry.uri, retry.reason, retry.delay) == (
            listener.address,
            "password does not match remote side",
            2.0,
        )
        dialler.manager.remove_peer(listener.address)
        told.clear()
        dialler.manager.add_peer(listener.address)
        await until(lambda: bool(server.host.links))
        server.host.links[0].end(LinkEnd(CloseReason.LOCAL))
        await until(lambda: dialler.pauses.pausing)
        up, down, retry = told
        assert isinstance(up, LinkUp) and isinstance(down, LinkDown) and isinstance(retry, PeerRetrying)
        assert (up.uri, up.inbound, up.key) == (listener.address, False, KEY_B.public_key)
        assert up.address == str(Address.for_key(KEY_B.public_key))
        assert (down.uri, down.key, down.reason, retry.reason) == (up.uri, up.key, "EOF", "EOF")


# -- a node --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plane")
async def test_a_node_tells_of_links_tree_paths_and_sessions() -> None:
    async with testing.nodes(2) as (alice, bob):
        low, high = sorted((alice, bob), key=lambda node: node.public_key)
        events = high.events()
        links = high.events("links")
        await testing.connect(high, low)
        assert (await wait_for(events, LinkUp)).key == low.public_key
        parent = await wait_for(events, ParentChanged)
        assert (parent.parent, parent.previous) == (low.public_key, high.public_key)
        assert (await wait_for(events, RootChanged)).root == low.public_key
        await high.send(low.public_key, b"hello")
        assert (await wait_for(events, PathFound)).key == low.public_key
        assert (await wait_for(events, SessionOpened)).key == low.public_key
        await low.close()
        assert (await wait_for(events, LinkDown)).key == low.public_key
        assert [event.name for event in await take(links, 2)] == ["link_up", "link_down"]
        await high.close()
        assert [event async for event in links] == []
        with pytest.raises(SubscriptionError):
            high.events()
