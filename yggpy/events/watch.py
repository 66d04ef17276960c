"""Notices what is new in what a core does: effects repeat themselves, events must not.

The data plane is given a path or the keys of a session more than once; here it is known which it has been given, so
that the first time is news, and the second is not.
"""

from __future__ import annotations

from functools import partial

from yggpy.address import Address
from yggpy.events.hub import Publish
from yggpy.events.model import (
    ParentChanged,
    PathChanged,
    PathFound,
    PathLost,
    RootChanged,
    SessionClosed,
    SessionOpened,
)

__all__ = ["CoreWatch"]


def _address(key: bytes) -> str:
    return str(Address.for_key(key))


class CoreWatch:
    """Tells ``publish`` of the paths, the sessions and the place in the tree of the node with ``own_key``.

    What it remembers is bounded by the tables of the rooms it watches.
    """

    def __init__(self, own_key: bytes, publish: Publish) -> None:
        self._publish = publish
        self._paths: dict[bytes, tuple[int, ...]] = {}
        self._sessions: set[bytes] = set()
        self._parent = self._root = own_key
        self.parent_changes = 0
        """How often there was another parent than before, or none."""
        self.root_changes = 0

    def path_installed(self, key: bytes, path: tuple[int, ...]) -> None:
        """The coordinates of ``key`` are ``path``, perhaps as before."""
        known = self._paths.get(key)
        if known == path:
            return
        self._paths[key] = path
        kind = PathFound if known is None else PathChanged
        self._publish(lambda time: kind(time=time, key=key, address=_address(key), path=path))

    def path_removed(self, key: bytes) -> None:
        """The coordinates of ``key`` are forgotten."""
        if self._paths.pop(key, None) is not None:
            self._publish(lambda time: PathLost(time=time, key=key, address=_address(key)))

    def session_installed(self, key: bytes) -> None:
        """There are keys for ``key``, new ones or renewed."""
        if key not in self._sessions:
            self._sessions.add(key)
            self._publish(lambda time: SessionOpened(time=time, key=key, address=_address(key)))

    def session_removed(self, key: bytes) -> None:
        """The keys for ``key`` are forgotten."""
        if key in self._sessions:
            self._sessions.remove(key)
            self._publish(lambda time: SessionClosed(time=time, key=key, address=_address(key)))

    def tree_is(self, parent: bytes, root: bytes) -> None:
        """Parent and root, as they are now."""
        if parent != self._parent:
            self.parent_changes += 1
            previous, self._parent = self._parent, parent
            self._publish(partial(_parent_changed, parent, previous))
        if root != self._root:
            self.root_changes += 1
            previous, self._root = self._root, root
            self._publish(partial(_root_changed, root, previous))


def _parent_changed(parent: bytes, previous: bytes, time: float) -> ParentChanged:
    return ParentChanged(time=time, parent=parent, previous=previous)


def _root_changed(root: bytes, previous: bytes, time: float) -> RootChanged:
    return RootChanged(time=time, root=root, previous=previous)
