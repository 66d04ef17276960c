"""Whether a node is ready to be used: one definition for ``getHealth``, ``yggpy-ctl health`` and ``/readyz``.

A node is *ready* when it has a peer and a place in the tree (a parent, or children that take it for their root), or
when it is root by intent: no peers are configured, and it can be found, by a listener or by multicast. Peers that are
configured are there to be had: with none of them up a node is not ready, whoever else has a link with it.

The judge only looks at the facts that it is given, so that ``yggpy-ctl`` can judge a Go node by what that one tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yggpy.status import FailingPeer, HealthStatus

__all__ = ["MAX_FAILING", "PeerFacts", "judge"]

MAX_FAILING = 16
"""Failing peers that a judgement lists; there may be hundreds."""
_NAMED = 3
"""Of those, how many its one line names."""


@dataclass(frozen=True, slots=True)
class PeerFacts:
    """One peering or incoming link."""

    uri: str
    """As people may see it: without secrets."""
    up: bool
    configured: bool
    """Whether it is to be there for ever; not so: incoming links, neighbours found by multicast."""
    error: str = ""
    """Why it is down; empty: no attempt has ended yet."""


def judge(
    peers: Sequence[PeerFacts],
    *,
    parent: str,
    joined: bool,
    doors: Sequence[str] | None,
    faults: Sequence[str] = (),
) -> HealthStatus:
    """Return the judgement.

    ``parent`` is the parent's address, empty without one. ``joined``: whether the node and some peer are in one tree.
    ``doors`` says in a few words each by what others can find this node, ``None``: that is not known. ``faults`` are
    things that are broken in any case, in the words for the operator.
    """
    configured = [peer for peer in peers if peer.configured]
    configured_up = sum(peer.up for peer in configured)
    up = sum(peer.up for peer in peers)
    failing = tuple(FailingPeer(peer.uri, peer.error) for peer in configured if not peer.up)
    ready, reason = _verdict(faults, up, len(peers), configured_up, len(configured), failing, parent, joined, doors)
    return HealthStatus(ready, reason, up, len(peers), configured_up, len(configured), parent, failing[:MAX_FAILING])


def _verdict(
    faults: Sequence[str],
    up: int,
    total: int,
    configured_up: int,
    configured: int,
    failing: Sequence[FailingPeer],
    parent: str,
    joined: bool,
    doors: Sequence[str] | None,
) -> tuple[bool, str]:
    if faults:
        return False, "; ".join(faults)
    if configured and not configured_up:
        return False, f"none of {_count(configured, 'configured peer')} is up: {_listed(failing)}"
    if not up:
        if doors is not None and not doors:
            return False, (
                "nobody can be met: no peers are configured, no listener is open and multicast is off; "
                "set Peers, Listen or MulticastInterfaces, or see in the log why a listener failed"
            )
        way = f" ({', '.join(doors)})" if doors else ""
        return True, f"root by intent: no peers are configured, and it waits for others{way}"
    if not joined:
        return False, (
            f"{_count(up, 'peer')} up, but no place in the tree: no parent, and nobody below; "
            "just after a start this takes a second, and nodes with Transit: false give no place"
        )
    return True, f"{up} of {_count(total, 'peer')} up, " + (f"parent {parent}" if parent else "root of the tree")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(failing: Sequence[FailingPeer]) -> str:
    named = ", ".join(f"{peer.uri} ({peer.error or 'no attempt has ended yet'})" for peer in failing[:_NAMED])
    return named + (f", and {len(failing) - _NAMED} more" if len(failing) > _NAMED else "")
