"""Nodes of both kinds on one switch find each other by multicast alone, and never later than Go nodes do.

Passwords keep groups of nodes apart that stand on the same switch, so that Go and ours are measured at the same time.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.interop.lab import GO_VERSIONS, OURS, Lab, Space
from tests.interop.measure import require_all_pairs
from tests.interop.nodes import MeshNode, new_key
from yggpy.multicast.neighbours import STRANGER_BURST, STRANGER_RATE

GO = "0.5.14"
COMBINATIONS = {"go-go": (GO, GO), "ours-go": (OURS, GO), "go-ours": (GO, OURS), "ours-ours": (OURS, OURS)}
"""Kinds of the node to which something happens, and of its neighbour."""
ROUNDS = 3
FOUND_LIMIT = 25.0
"""Seconds within which neighbours must have found each other: one beacon may be lost, the next comes 16 s later."""
TOLERANCE = 0.3
"""Seconds by which ours may be later than Go in the median: what the questions to eight nodes on two cores may take."""
GO_LUCK = 1.05
"""The same where it is a Go node to which something happens: it looks at its interfaces every 1 to 2.05 s."""
START_TOLERANCE = 1.0
"""The same where a daemon starts: Python takes half a second, and several start at once."""
QUIET_TIME = 8.0
"""Seconds after which nodes that must not find each other have had the chance: five beacons or more."""
POLL = 0.02
FLOOD_SECONDS = 10.0
FLOOD_SOURCES = 40
RETURN_LIMIT = 5.0
"""Seconds until an interface that was made anew has a neighbour: duplicate address detection takes two at most."""
ANSWER_LIMIT = 1.0
"""Seconds within which a node in a flood answers its operator."""
TROUBLE = ("Not multicasting", "Failed to send multicast beacon", "internal error", "Traceback")

Conditions = Mapping[str, Callable[[], bool]]


def multicast(interface: str = "eth0", password: str = "", **settings: Any) -> dict[str, Any]:
    """Return the configuration of a node that does nothing but multicast."""
    entry = {"Regex": f"^{interface}$", "Beacon": True, "Listen": True, "Password": password, **settings}
    return {"MulticastInterfaces": [entry]}


def linked(node: MeshNode, other: MeshNode) -> bool:
    """Whether a link of ``node`` to ``other`` is up."""
    return other.public_key.hex() in (peer["key"] for peer in node.peers_up())


def links_between(node: MeshNode, other: MeshNode) -> set[str]:
    """Return the URIs of the links of ``node`` to ``other``."""
    return {peer["remote"] for peer in node.peers_up() if peer["key"] == other.public_key.hex()}


def times_until(conditions: Conditions, since: float | None = None) -> dict[str, float]:
    """Return how many seconds it took until each condition held; fail after ``FOUND_LIMIT``."""
    started = time.monotonic() if since is None else since
    times: dict[str, float] = {}
    while len(times) < len(conditions):
        for name, condition in conditions.items():
            if name not in times and condition():
                times[name] = time.monotonic() - started
        waited = time.monotonic() - started
        assert waited < FOUND_LIMIT, f"{sorted(set(conditions) - set(times))} not within {FOUND_LIMIT} s"
        time.sleep(POLL)
    return times


class Race:
    """The same thing happens to a pair of each kind, some rounds; then nobody may have been later than Go."""

    def __init__(self, lab: Lab, interface: str = "eth0") -> None:
        self.pairs = {
            name: (
                lab.node(kinds[0], name=name, IfName="none", **multicast(interface, name)),
                lab.node(kinds[1], name="stays", IfName="none", **multicast(interface, name)),
            )
            for name, kinds in COMBINATIONS.items()
        }
        self._times: dict[str, list[float]] = {name: [] for name in self.pairs}

    def linked(self) -> Conditions:
        """A condition for each pair: it is linked."""
        return {name: lambda pair=pair: linked(*pair) for name, pair in self.pairs.items()}  # type: ignore[misc]

    def newly_linked(self) -> Conditions:
        """A condition for each pair: it has a link that it does not have now."""
        before = {name: links_between(*pair) for name, pair in self.pairs.items()}
        return {
            name: lambda name=name, pair=pair: bool(links_between(*pair) - before[name])  # type: ignore[misc]
            for name, pair in self.pairs.items()
        }

    def count(self, times: Mapping[str, float]) -> None:
        """Add the times of a round."""
        for name, seconds in times.items():
            self._times[name].append(seconds)

    def judge(self, what: str, tolerance: float = TOLERANCE, *, both: bool = False) -> None:
        """Compare, and begin anew. ``both``: it happens to both nodes of a pair."""
        print(what, {name: [round(seconds, 2) for seconds in times] for name, times in self._times.items()})
        medians = {name: median(times) for name, times in self._times.items()}
        for name, seconds in medians.items():
            kinds = {node.kind for node in self.pairs[name][: 2 if both else 1]}
            limit = medians["go-go"] + tolerance + (0.0 if kinds == {OURS} else GO_LUCK)
            assert seconds <= limit, f"{what}: {name} is later than Go: {medians}"
        self._times = {name: [] for name in self.pairs}


def restart_detection(space: Space, probes: int) -> None:
    """Take the interface down and up, so that its link-local address is in duplicate address detection again."""
    space.ip("link", "set", "eth0", "down")
    space.run(["sh", "-c", f"echo {probes} >/proc/sys/net/ipv6/conf/eth0/dad_transmits"])
    space.ip("link", "set", "eth0", "up")


def link_local(space: Space, interface: str = "eth0") -> str:
    """Return the first link-local address of an interface."""
    found = re.search(r"inet6 (fe80::\S+)/", space.ip("-6", "addr", "show", "dev", interface, "scope", "link"))
    assert found, f"{interface} of {space.name} has no link-local address"
    return found[1]


def listens_on(node: MeshNode, prefix: str, interface: str) -> bool:
    """Whether a node has one multicast listener, on an address of ``interface`` that begins with ``prefix``."""
    addresses = [shown["address"] for shown in node.admin("getmulticastinterfaces")["multicast_interfaces"]]
    return len(addresses) == 1 and addresses[0].startswith(f"[{prefix}") and f"%{interface}]:" in addresses[0]


def complaints(node: MeshNode) -> list[str]:
    """Return the lines of a node's log that tell of trouble with multicast."""
    return [line for line in node.log_text().splitlines() if any(word in line for word in TROUBLE)]


# -- who finds whom ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_find_each_other(lab: Lab) -> None:
    nodes = [lab.node(kind, **multicast()) for kind in (*GO_VERSIONS, OURS, OURS)]
    lab.start()
    pairs = [(a, b) for a in nodes for b in nodes if a is not b]
    times_until({f"{a!r} {b!r}": lambda a=a, b=b: linked(a, b) for a, b in pairs})  # type: ignore[misc]
    require_all_pairs(nodes)
    time.sleep(5)  # three more beacons of each: nobody is called twice
    for node in nodes:
        peers = node.peers_up()
        links = Counter((peer["key"], peer.get("inbound", False)) for peer in peers)
        assert max(links.values()) == 1, f"{node!r} has more than one link of a kind to a neighbour: {peers}"
        assert all(peer["remote"].startswith("tls://[fe80::") for peer in peers)
        assert all(peer["remote"].rpartition(":")[0].endswith("%25eth0]") for peer in peers)
        if node.kind == OURS:
            assert complaints(node) == []


@pytest.mark.slow
@pytest.mark.parametrize("go", GO_VERSIONS)
def test_rules(lab: Lab, go: str) -> None:
    def node(kind: str, name: str, **settings: Any) -> MeshNode:
        return lab.node(kind, name=name, IfName="none", **multicast(**{"password": name, **settings}))

    found = {
        "ours beacons, Go listens": (node(OURS, "a", Listen=False), node(go, "a", Beacon=False)),
        "Go beacons, ours listens": (node(go, "b", Listen=False), node(OURS, "b", Beacon=False)),
        "port and priority": (node(OURS, "c", Port=9500, Priority=7), node(go, "c", Priority=3)),
    }
    never = {
        "another password": (node(OURS, "d"), node(go, "d", password="e")),
        "nobody beacons": (node(OURS, "f", Beacon=False), node(go, "f", Beacon=False)),
        "nobody listens": (node(OURS, "g", Listen=False), node(go, "g", Listen=False)),
        "another interface": (node(OURS, "h", interface="eth1"), node(go, "h")),
    }
    lab.start()
    times_until({what: lambda pair=pair: linked(*pair) for what, pair in found.items()})  # type: ignore[misc]
    time.sleep(QUIET_TIME)
    for what, pair in never.items():
        assert not linked(*pair) and not pair[0].peers_up() and not pair[1].peers_up(), what

    for beacons, listens in (found["ours beacons, Go listens"], found["Go beacons, ours listens"]):
        assert len(links_between(beacons, listens)) == len(links_between(listens, beacons)) == 1
        [shown] = beacons.admin("getmulticastinterfaces")["multicast_interfaces"]
        assert (shown["beacon"], shown["listen"], shown["password"]) == (True, False, True)
        assert links_between(listens, beacons) == {f"tls://{shown['address'].replace('%', '%25')}"}
        [shown] = listens.admin("getmulticastinterfaces")["multicast_interfaces"]
        assert (shown["beacon"], shown["listen"], shown["address"]) == (False, True, "-")
    ours, theirs = found["port and priority"]
    [shown] = ours.admin("getmulticastinterfaces")["multicast_interfaces"]
    assert shown == {
        "name": "eth0",
        "address": f"[{link_local(ours.space)}%eth0]:9500",
        "beacon": True,
        "listen": True,
        "password": True,
    }
    assert {peer["priority"] for peer in (*ours.peers_up(), *theirs.peers_up())} == {7}
    assert never["another interface"][0].admin("getmulticastinterfaces") == {"multicast_interfaces": []}


# -- when ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.measures
def test_address_in_duplicate_detection_at_the_start(lab: Lab) -> None:
    """The case of every container: the daemon is there before the kernel has approved of the address."""
    race = Race(lab)
    nodes = [node for pair in race.pairs.values() for node in pair]
    for _ in range(ROUNDS):
        for node in nodes:
            restart_detection(node.space, probes=3)
        for node in nodes:
            node.start()
        times = times_until(
            {
                name: lambda pair=pair: all("tentative" not in node.space.ip("-6", "addr") for node in pair)  # type: ignore[misc]
                for name, pair in race.pairs.items()
            }
        )
        usable = time.monotonic()
        for node in nodes:
            node.wait_ready()
        assert min(times.values()) > 2, "the daemons were meant to wait"
        race.count(times_until(race.linked(), usable))
        for node in nodes:
            node.stop()
    for node in nodes:
        if node.kind == OURS:
            assert complaints(node) == []
    race.judge("from usable addresses to a link", both=True)


@pytest.mark.slow
@pytest.mark.measures
def test_interfaces_that_come_and_change(lab: Lab) -> None:
    race = Race(lab, "lan.")
    lab.start()
    for changing, staying in race.pairs.values():
        assert changing.admin("getmulticastinterfaces") == {"multicast_interfaces": []}
        # What is measured is the node, not the random delays of duplicate address detection.
        changing.space.run(["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad"])
        lab.add_cable(staying.space, "lan0")
    time.sleep(4)  # those who stay have their addresses, and beacon every few seconds

    for number in range(ROUNDS):
        for changing, _ in race.pairs.values():
            if number:
                changing.space.ip("link", "del", f"lan{number}")
        time.sleep(2)
        conditions = race.newly_linked()
        for changing, _ in race.pairs.values():
            # Each time with a name of its own: for a minute Go takes an old name for the interface that had it.
            lab.add_cable(changing.space, f"lan{number + 1}")
        race.count(times_until(conditions))
    race.judge("an interface appears")
    interface = f"lan{ROUNDS}"

    for number in range(ROUNDS):
        time.sleep(2)
        conditions = race.newly_linked()
        for place, (changing, _) in enumerate(race.pairs.values(), 1):
            changing.space.ip("-6", "addr", "flush", "dev", interface, "scope", "link")
            changing.space.ip("-6", "addr", "add", f"fe80::{number + 1}:{place}/64", "dev", interface, "nodad")
        race.count(times_until(conditions))
        # The link may be one that the changing node dialled, before it looked at its own address.
        times_until(
            {
                name: lambda node=pair[0], number=number: listens_on(node, f"fe80::{number + 1}:", interface)  # type: ignore[misc]
                for name, pair in race.pairs.items()
            }
        )
    race.judge("another address")

    for _ in range(ROUNDS):
        for changing, _staying in race.pairs.values():
            changing.space.ip("link", "set", interface, "down")
        times_until(
            {
                name: lambda node=pair[0]: not node.admin("getmulticastinterfaces")["multicast_interfaces"]  # type: ignore[misc]
                for name, pair in race.pairs.items()
            }
        )
        conditions = race.newly_linked()
        for changing, _staying in race.pairs.values():
            changing.space.ip("link", "set", interface, "up")
        race.count(times_until(conditions))
    race.judge("down and up")
    for pair in race.pairs.values():
        for node in pair:
            if node.kind == OURS:
                assert complaints(node) == []


@pytest.mark.slow
def test_an_interface_of_the_same_name_returns(lab: Lab) -> None:
    """A container's network that is made anew; Go (0.5.14) goes on with the old interface's index for a minute."""
    if lab.rehearsing:
        pytest.skip("Go cannot do this")
    pairs = {
        kind: (lab.node(OURS, IfName="none", **multicast(password=kind)), lab.node(kind, **multicast(password=kind)))
        for kind in (OURS, GO)
    }
    lab.start()
    times_until({kind: lambda pair=pair: linked(*pair) for kind, pair in pairs.items()})  # type: ignore[misc]
    for changing, _ in pairs.values():
        changing.space.ip("link", "del", "eth0")
    time.sleep(1)
    before = {kind: links_between(*pair) for kind, pair in pairs.items()}
    for changing, _ in pairs.values():
        lab.add_cable(changing.space, "eth0")
    times = times_until(
        {
            kind: lambda kind=kind, pair=pair: bool(links_between(*pair) - before[kind])  # type: ignore[misc]
            for kind, pair in pairs.items()
        }
    )
    assert max(times.values()) < RETURN_LIMIT, times
    assert not any(complaints(changing) for changing, _ in pairs.values())


@pytest.mark.slow
@pytest.mark.measures
def test_another_key(lab: Lab) -> None:
    race = Race(lab)
    lab.start()
    times_until(race.linked())
    for _ in range(ROUNDS):
        for changing, _staying in race.pairs.values():
            changing.kill()
            changing.config["PrivateKey"], changing.public_key = new_key()
        began = time.monotonic()
        for changing, _staying in race.pairs.values():
            changing.start()
        conditions = {
            name: lambda changing=changing, staying=staying: linked(staying, changing)
            for name, (changing, staying) in race.pairs.items()
        }
        race.count(times_until(conditions, began))
        for changing, _staying in race.pairs.values():
            changing.wait_ready()
    race.judge("another key", START_TOLERANCE)


# -- strangers -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.measures
@pytest.mark.parametrize("rate", [1000, 0], ids=["some", "as many as can be"])
def test_a_flood_of_beacons(lab: Lab, rate: int) -> None:
    """Valid beacons with many keys from many addresses: few dials, and the neighbours are found all the same.

    The known neighbour is found while it goes on, unless most beacons are lost before anybody could read them.
    """
    if lab.rehearsing:
        pytest.skip("Go dials without limits")
    ours = lab.node(OURS, name="victim", IfName="none", **multicast())
    known = lab.node(GO, name="known", IfName="none", **multicast())
    new = lab.node(GO, name="new", IfName="none", **multicast())
    bad = lab.space()
    for number in range(1, FLOOD_SOURCES + 1):
        bad.ip("-6", "addr", "add", f"fe80::bad:{number:x}/64", "dev", "eth0", "nodad")
    lab.start([ours, known])
    times_until({"known": lambda: linked(ours, known)})
    program = Path(__file__).with_name("beacon_flood.py")
    began = time.monotonic()
    flood = bad.popen([sys.executable, "-S", program, "eth0", str(FLOOD_SECONDS), str(FLOOD_SOURCES), str(rate)])
    time.sleep(1)
    known.kill()
    new.start()
    known.start()
    asked = time.monotonic()
    ours.admin("getself")
    assert time.monotonic() - asked < ANSWER_LIMIT
    times = times_until({"known": lambda: linked(ours, known), "new": lambda: linked(ours, new)})
    output, _ = flood.communicate(timeout=60)
    bad.forget(flood)
    lasted = time.monotonic() - began
    sent = int(output)
    if rate:
        assert times["known"] < FLOOD_SECONDS / 2
    dials = len(re.findall(r"Cannot peer with tls://\[fe80::bad:", ours.log_text()))
    print(f"{sent} beacons in {lasted:.1f} s, {dials} dials; found while it went on: {times}")
    assert sent > 10 * dials
    assert 0 < dials <= STRANGER_BURST + STRANGER_RATE * lasted
    if ours.kind == OURS:
        assert complaints(ours) == []
