"""``RouterView``: what can be read off a router's tables, for the admin socket, metrics and the node itself.

It changes nothing. What changes the tables is :class:`~yggpy.routing.router.Router`, which is a ``RouterView``, too.
"""

from __future__ import annotations

from yggpy.address import Address
from yggpy.routing.links import LinkTable
from yggpy.routing.pathfinder import Pathfinder
from yggpy.routing.tree import Tree
from yggpy.status import PathStatus, TreeEntry

__all__ = ["RouterView"]


class RouterView:
    """The tables of the node with ``public_key`` (32 bytes): the ``tree`` of infos, its ``links``, its ``paths``."""

    def __init__(self, public_key: bytes, tree: Tree, links: LinkTable, paths: Pathfinder) -> None:
        self.public_key = public_key
        self._tree = tree
        self._links = links
        self._paths = paths

    @property
    def root(self) -> bytes:
        """Key of the root that our line leads to; our own if it leads nowhere."""
        return self._tree.root_and_coords(self.public_key)[0]

    @property
    def parent(self) -> bytes:
        """Key of our parent; our own if we have none."""
        return self._tree.own.parent

    @property
    def joined(self) -> bool:
        """Whether this node and a peer are in one tree: it has a parent, or the line of a peer leads to it."""
        own = self.public_key
        return self.parent != own or any(self._tree.root_and_coords(key)[0] == own for key in self._links)

    @property
    def routing_entries(self) -> int:
        """Number of nodes whose info is known."""
        return len(self._tree)

    @property
    def path_count(self) -> int:
        """Number of nodes to which a path is known."""
        return len(self._paths.entries())

    def tree(self) -> list[TreeEntry]:
        """Return all known nodes, by key."""
        entries = []
        for key in sorted(self._tree):
            info = self._tree.get(key)
            assert info is not None
            entries.append(TreeEntry(key, str(Address.for_key(key)), info.parent, info.seq))
        return entries

    def paths(self) -> list[PathStatus]:
        """Return all known paths, by key."""
        return sorted(
            (PathStatus(key, str(Address.for_key(key)), coords, seq) for key, coords, seq in self._paths.entries()),
            key=lambda status: status.key,
        )

    def port(self, key: bytes) -> int:
        """Return the tree port of a peer, 0 if it is none."""
        return self._links.port(key)

    def link_cost(self, link_id: int) -> int:
        """Return the cost of a link, 0 for an unknown one."""
        link = self._links.get(link_id)
        return 0 if link is None else link.cost

    def link_latency(self, link_id: int) -> float | None:
        """Return the last round trip of a link in seconds, None before the first."""
        link = self._links.get(link_id)
        return None if link is None else link.latency

    def resting_peers(self) -> list[bytes]:
        """Return the keys of peers whose links are up and not used; only a leaf has such."""
        return []

    def link_keys(self) -> list[bytes]:
        """Return the peer key of every link; a key with two links is there twice."""
        return [link.key for link in self._links.all()]

    def known_keys(self) -> list[bytes]:
        """Return the keys of all nodes whose info is known."""
        return list(self._tree)
