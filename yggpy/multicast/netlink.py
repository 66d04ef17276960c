"""Word from the kernel that an interface or an IPv6 address changed (rtnetlink(7)).

Only the fact counts, not what the messages say: whoever is told looks at the interfaces afresh. So a message that got
lost among many, for which the kernel has an error of its own, is no loss.
"""

from __future__ import annotations

import errno
import socket

__all__ = ["ChangeWatch"]

_RTMGRP_LINK = 0x1
_RTMGRP_IPV6_IFADDR = 0x100
_MESSAGE_SIZE = 65536
_MAX_MESSAGES = 64
"""Messages that are taken in a row; when more wait, the event loop comes back."""


class ChangeWatch:
    """A netlink socket that becomes readable at each change. Raises ``OSError`` where there is no such thing."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            self._sock.setblocking(False)
            self._sock.bind((0, _RTMGRP_LINK | _RTMGRP_IPV6_IFADDR))
        except OSError:
            self._sock.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to be watched for reading."""
        return self._sock.fileno()

    def drain(self) -> bool:
        """Take what is there; tell whether there was anything. Raises ``OSError`` when the socket is of no more use."""
        changed = False
        for _ in range(_MAX_MESSAGES):
            try:
                self._sock.recv(_MESSAGE_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # messages were lost: something changed
                    raise
            changed = True
        return changed

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
