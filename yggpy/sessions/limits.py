"""How much a node keeps and sends for its sessions: sizes of tables, and allowances for the inits that it sends.

Go answers every unreadable packet with an init and sends one more with every message that waits. Each costs a
signature and two curve operations, so a flood of packets would keep us from anything else. An :class:`Allowance` lets
the first few go out at once, so that a lost one costs no time, and then so many a second.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Allowance", "SessionLimits"]

INIT_BURST = 8
"""Inits to one key that may go out at once."""
INIT_RATE = 8
"""Inits to one key per second after that."""


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How much a node keeps. When full, the entry that seems least used makes room."""

    sessions: int = 16384
    buffers: int = 512
    buffered_bytes: int = 8 << 20
    strangers: int = 4096
    """Keys without a session to which keys were offered."""
    stranger_inits_per_second: int = 1000
    """Inits per second to keys without a session, all together: anyone can make up such keys."""
    repair_inits_per_second: int = 1000
    """Inits per second for sessions that are out of step, all together: anyone can send packets that seem to be so."""


class Allowance:
    """So many at once, and then so many a second; but one in each Unix second at least, whose seq is new."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, now: float, *, rate: int = INIT_RATE, burst: int = INIT_BURST) -> None:
        self._at = now
        self._left = float(burst)
        self._rate = rate
        self._burst = burst

    def take(self, now: float) -> bool:
        """Tell whether one more may go out at ``now``, and count it."""
        left = min(self._left + (now - self._at) * self._rate, self._burst)
        if int(now) != int(self._at):
            left = max(left, 1.0)
        granted = left >= 1.0
        self._at = now
        self._left = left - granted
        return granted
