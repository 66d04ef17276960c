"""``yggpy-ctl health``: one line and an exit code that say whether the node is ready (``yggpy/health.py``).

For a container's ``HEALTHCHECK`` and for monitoring, which ask often and believe the exit code: light, and over in
``HEALTH_TIMEOUT`` seconds whatever happens. Our node judges itself (``getHealth``); of a Go node, which cannot, the
same judgement is made here from what it shows of its peers and the tree.
"""

from __future__ import annotations

import threading
from typing import Any

from yggpy.admin.jsontext import EncodableJson
from yggpy.ctl.answers import Entry
from yggpy.ctl.client import AdminConnection, Answer
from yggpy.ctl.endpoint import FoundEndpoint
from yggpy.ctl.errors import CtlError, RefusedError
from yggpy.health import PeerFacts, judge
from yggpy.links.url import without_secrets
from yggpy.printable import printable

__all__ = ["DERIVED", "HEALTH_TIMEOUT", "Verdict", "find_health"]

HEALTH_TIMEOUT = 5.0
"""Seconds in which all questions must be answered; a node that needs more is not healthy."""
DERIVED = "told by getPeers and getTree, since this node has no getHealth"
_UNKNOWN = "unknown action"
_ZONE = "%"


class Verdict:
    """What was found out: ``healthy``, ``reason`` in one line, and the other members of ``-json``."""

    def __init__(self, healthy: bool, reason: str, figures: dict[str, EncodableJson]) -> None:
        self.healthy = healthy
        self.reason = printable(reason)
        self.figures = figures

    def members(self) -> dict[str, EncodableJson]:
        """Return what ``-json`` shows."""
        return {"healthy": self.healthy, "reason": self.reason, **self.figures}

    def line(self) -> str:
        """Return the line that is shown otherwise."""
        return f"{'healthy' if self.healthy else 'unhealthy'}: {self.reason}"


def find_health(found: FoundEndpoint, timeout: float = HEALTH_TIMEOUT) -> Verdict:
    """Ask the node at ``found`` and judge. Raises nothing; takes ``timeout`` seconds at most."""
    verdicts: list[Verdict] = []
    # A thread, since looking up the name in an endpoint knows no time limit. It does not keep the program from ending.
    asking = threading.Thread(target=lambda: verdicts.append(_ask(found, timeout)), daemon=True)
    asking.start()
    asking.join(timeout)
    if verdicts:
        return verdicts[0]
    return Verdict(False, f"no answer from {found.endpoint} ({found.origin}) within {timeout:g} s", {})


def _ask(found: FoundEndpoint, timeout: float) -> Verdict:
    try:
        with AdminConnection(
            found.endpoint, origin=found.origin, connect_timeout=timeout, answer_timeout=timeout
        ) as connection:
            answer = connection.request("getHealth", keepalive=True)
            if answer.ok:
                return _told(answer)
            if _UNKNOWN not in (answer.error or "").lower():
                raise RefusedError(answer.error)
            return _derived(connection)
    except CtlError as error:
        return Verdict(False, str(error), {})


def _told(answer: Answer) -> Verdict:
    members: dict[str, Any] = answer.value() or {}
    health = Entry(members)
    figures = {name: value for name, value in members.items() if name not in ("ready", "reason")}
    return Verdict(health.flag("ready"), health.text("reason"), figures)


def _derived(connection: AdminConnection) -> Verdict:
    """Judge a node that does not judge itself. By what others could find it is not told."""
    peers = Entry(connection.request("getPeers", keepalive=True).value()).entries("peers")
    own = Entry(connection.request("getSelf", keepalive=True).value()).text("key")
    tree = Entry(connection.request("getTree", keepalive=True).value()).entries("tree")
    parents = {entry.text("key"): entry.text("parent") for entry in tree}
    addresses = {entry.text("key"): entry.text("address") for entry in tree}
    parent = parents.get(own, own)
    below = any(child != own and above == own for child, above in parents.items())
    status = judge(
        [_facts(peer) for peer in peers],
        parent="" if parent == own else addresses.get(parent, parent),
        joined=parent != own or below,
        doors=None,
    )
    return Verdict(
        status.ready,
        f"{status.reason} ({DERIVED})",
        {"peers": status.peers, "up": status.up, "configured": status.configured, "parent": status.parent},
    )


def _facts(peer: Entry) -> PeerFacts:
    uri = peer.text("remote")
    # A neighbour found by multicast is dialled at a link-local address of an interface.
    configured = not peer.flag("inbound") and _ZONE not in uri
    return PeerFacts(without_secrets(uri), peer.flag("up"), configured, peer.text("last_error"))
