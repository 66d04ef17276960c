"""When a router acts before its next tick (protocol section 5.2).

A Go node looks once a second at what has happened. Where one change follows from another - a link ends, a parent is
chosen, the news travels, filters follow, a search succeeds - those seconds add up. So what calls for an answer is
answered early: what happens within ``REACTION_DELAY`` together, with growing pauses while there is more and more to
answer, and so many times a second for each peer and for all. Whoever uses up its share, by a link that flaps or on
purpose, is served by the tick again.
"""

from __future__ import annotations

from collections import Counter

__all__ = [
    "MAX_REACTIONS_PER_PEER",
    "MAX_REACTIONS_PER_SECOND",
    "MAX_REACTION_DELAY",
    "REACTION_DELAY",
    "ROOT_GRACE",
    "STARTING",
    "Reactions",
]

REACTION_DELAY = 0.03
"""Seconds between the first event and the reaction to all that has happened by then. News of one change comes in
several frames, and by more than one peer. From the third reaction of a second on it doubles each time: a network that
looks for a new root has much to tell, and most of it is soon out of date."""
MAX_REACTION_DELAY = 0.25
MAX_REACTIONS_PER_PEER = 4
"""Reactions that one peer causes in a second; what more it does waits for the tick."""
MAX_REACTIONS_PER_SECOND = 8
"""Reactions that all peers together cause in a second."""
ROOT_GRACE = 0.15
"""Seconds for which a node without a candidate waits, at the least, before it becomes a root (a Go node: one to two
seconds). News of a better place may be on its way."""
STARTING = 5.0
"""Seconds after its start in which a node sends bloom filters at its ticks only. A network that starts as a whole has
another root every moment, and who was found by the filters then would be lost again, and with it first messages."""


class Reactions:
    """The plan of one router. Times in seconds of the router's clock."""

    __slots__ = ("_asked", "_second", "at")

    def __init__(self) -> None:
        self.at: float | None = None
        """When to react; None: not before the tick."""
        self._second = 0
        self._asked: Counter[bytes] = Counter()
        """Reactions of this second, by the peer that caused them."""

    def ask(self, peer: bytes, now: float) -> None:
        """Something has happened on the part of ``peer`` that is not to wait for the tick."""
        if int(now) != self._second:
            self._second = int(now)
            self._asked.clear()
        so_far = self._asked.total()
        at = now + min(MAX_REACTION_DELAY, REACTION_DELAY * 2 ** max(0, so_far - 1))
        if self.at is not None and self.at <= at:
            return  # goes along
        if self._asked[peer] < MAX_REACTIONS_PER_PEER and so_far < MAX_REACTIONS_PER_SECOND:
            self._asked[peer] += 1
            self.at = at

    def plan(self, at: float) -> None:
        """React again at ``at``, as a consequence of a reaction or tick; an earlier plan stands."""
        if self.at is None or at < self.at:
            self.at = at

    def take(self, now: float) -> bool:
        """Tell whether it is time to react, and do not plan to any more."""
        if self.at is None or now < self.at:
            return False
        self.at = None
        return True
