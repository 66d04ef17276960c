"""What the pure data plane knows of each remote node: one record, so that a packet costs one look-up.

Records come and go with the control plane's tables, which bound their number. The one large thing in them, the last
payload kept for the day the path changes, is bounded here, over all of them.
"""

from __future__ import annotations

from yggpy.datapath.base import MAX_KEPT_BYTES
from yggpy.sessions.traffic import TrafficState

__all__ = ["KeptPayloads", "Remote"]


class Remote:
    """All that the data plane knows of one remote node."""

    __slots__ = (
        "address",
        "bytes_received",
        "bytes_sent",
        "kept_payload",
        "key",
        "last_session_use",
        "last_traffic",
        "last_used",
        "path",
        "path_bytes",
        "session",
        "subnet",
    )

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.address: bytes | None = None
        self.subnet: bytes | None = None
        self.last_used: float | None = None
        self.session: TrafficState | None = None
        self.bytes_received = 0
        self.bytes_sent = 0
        self.last_session_use: float | None = None
        self.path: tuple[int, ...] | None = None
        self.path_bytes = b""
        self.kept_payload: bytes | None = None
        self.last_traffic: float | None = None

    @property
    def empty(self) -> bool:
        """True when no table of the control plane has the node any more."""
        return self.session is None and self.path is None and self.address is None


class KeptPayloads:
    """Accounts for the ``kept_payload`` of all remotes, and forgets some beyond ``MAX_KEPT_BYTES``."""

    __slots__ = ("_bytes", "_keepers")

    def __init__(self) -> None:
        self._keepers: dict[bytes, Remote] = {}  # by key, the longest keeping first
        self._bytes = 0

    def keep(self, remote: Remote, payload: bytes) -> None:
        """Make ``payload`` the one that ``remote`` keeps."""
        if remote.kept_payload is None:
            self._keepers[remote.key] = remote
        else:
            self._bytes -= len(remote.kept_payload)
        remote.kept_payload = payload
        self._bytes += len(payload)
        while self._bytes > MAX_KEPT_BYTES:
            self.forget(next(iter(self._keepers.values())))

    def forget(self, remote: Remote) -> None:
        """Let ``remote`` keep nothing; harmless when it does not."""
        if remote.kept_payload is not None:
            self._bytes -= len(remote.kept_payload)
            remote.kept_payload = None
            del self._keepers[remote.key]
