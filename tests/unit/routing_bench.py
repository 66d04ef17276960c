"""A router on a bench: the test plays its peers with their real keys, and reads what the router wants sent."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from tests.unit.vectors import load
from yggpy.keys import PrivateKey
from yggpy.routing.effects import RoutingEffect, SendDirect, SendQueued
from yggpy.routing.router import Router
from yggpy.wire.frame import FrameType
from yggpy.wire.packets import (
    Announce,
    BloomFilter,
    PathBroken,
    PathLookup,
    PathNotify,
    SigReq,
    SigRes,
    path_info_signed_bytes,
    tree_signed_bytes,
)

__all__ = ["KEYS", "LABELS", "NOW", "SECRETS", "Bench", "Sent", "announce", "notify", "sig_res"]

SECRETS: dict[str, PrivateKey] = {
    entry["label"]: PrivateKey(bytes.fromhex(entry["seed"])) for entry in load("router")["keys"]
}
KEYS = {label: secret.public_key for label, secret in SECRETS.items()}
"""k0 < k1 < … < k9."""
LABELS: dict[bytes, str] = {key: label for label, key in KEYS.items()}
NOW = 1_700_000_000.0

_PACKETS: dict[int, type[Any]] = {
    FrameType.SIG_REQ: SigReq,
    FrameType.SIG_RES: SigRes,
    FrameType.ANNOUNCE: Announce,
    FrameType.BLOOM_FILTER: BloomFilter,
    FrameType.PATH_LOOKUP: PathLookup,
    FrameType.PATH_NOTIFY: PathNotify,
    FrameType.PATH_BROKEN: PathBroken,
}
_TYPES = {packet: frame_type for frame_type, packet in _PACKETS.items()}

P = TypeVar("P")
E = TypeVar("E")


class Sent(NamedTuple):
    """A frame that the router sent."""

    link_id: int
    packet: Any
    queued: bool


def announce(key: str, parent: str, port: int = 1, *, seq: int = 1, nonce: int = 0) -> Announce:
    """Return an announcement with good signatures."""
    signed = tree_signed_bytes(KEYS[key], KEYS[parent], seq, nonce, port)
    return Announce(KEYS[key], KEYS[parent], seq, nonce, port, SECRETS[parent].sign(signed), SECRETS[key].sign(signed))


def sig_res(request: SigReq, node: str, parent: str, port: int = 42) -> SigRes:
    """Return the answer of ``parent`` to a request of ``node``."""
    signed = tree_signed_bytes(KEYS[node], KEYS[parent], request.seq, request.nonce, port)
    return SigRes(request.seq, request.nonce, port, SECRETS[parent].sign(signed))


def notify(source: str, dest: str, coords: tuple[int, ...], seq: int, path: tuple[int, ...] = ()) -> PathNotify:
    """Return a path notification that ``source`` has just made for ``dest`` at ``path``."""
    signature = SECRETS[source].sign(path_info_signed_bytes(seq, coords))
    return PathNotify(path, 2**64 - 1, KEYS[source], KEYS[dest], seq, coords, signature)


class Bench:
    """A started router with the key ``own``; ``now`` is its clock."""

    def __init__(
        self, own: str = "k5", *, start: bool = True, router_class: type[Router] = Router, **options: Any
    ) -> None:
        self.own = own
        self.now = NOW
        self._nonces = 0
        self.traffic: dict[bytes, float] = {}
        """When traffic last came from a node, as the data plane would say."""
        self.router = router_class(SECRETS[own], entropy=self._entropy, last_traffic=self.traffic.get, **options)
        self._peers: dict[int, str] = {}
        self._requests: dict[int, SigReq] = {}
        self.others: list[RoutingEffect] = []
        """Effects that are no frames, until ``effects`` takes them."""
        if start:
            self.router.start(self.now)
            self.frames()

    def _entropy(self, size: int) -> bytes:
        self._nonces += 1
        return self._nonces.to_bytes(size, "big")

    def add(self, link_id: int, peer: str, priority: int = 0, cost: int | None = None) -> None:
        """Bring a link up."""
        self._peers[link_id] = peer
        self.router.add_link(link_id, KEYS[peer], priority, self.now, cost)

    def remove(self, link_id: int) -> None:
        """Take a link down."""
        self.router.remove_link(link_id, self.now)

    def receive(self, link_id: int, packet: Any) -> None:
        """Let a packet arrive."""
        self.router.handle_frame(link_id, _TYPES[type(packet)], packet.encode(), self.now)

    def tick(self, count: int = 1) -> None:
        """Let seconds pass."""
        for _ in range(count):
            self.now += 1.0
            self.router.tick(self.now)

    def react(self) -> bool:
        """Let time pass until the router wants to react, and let it; False if it does not want to."""
        due = self.router.reaction_at
        if due is None:
            return False
        self.now = max(self.now, due)
        self.router.react(self.now)
        return True

    def frames(self, of: type[Any] | None = None, *, link_id: int | None = None) -> list[Sent]:
        """Take what was sent since the last call; the arguments select from it."""
        sent = []
        for effect in self.router.take_effects():
            if isinstance(effect, SendDirect | SendQueued):
                packet = _PACKETS[effect.frame_type].decode(effect.payload)
                if isinstance(packet, SigReq):
                    self._requests[effect.link_id] = packet
                sent.append(Sent(effect.link_id, packet, isinstance(effect, SendQueued)))
            else:
                self.others.append(effect)
        return [
            one
            for one in sent
            if (of is None or isinstance(one.packet, of)) and (link_id is None or one.link_id == link_id)
        ]

    def packets(self, of: type[P], *, link_id: int | None = None) -> list[P]:
        """Take what was sent since the last call; return the packets of one type."""
        return [sent.packet for sent in self.frames(of, link_id=link_id)]

    def effects(self, of: type[E]) -> list[E]:
        """Take the effects that are no frames; return those of one type."""
        self.frames()
        found: list[E] = [effect for effect in self.others if isinstance(effect, of)]
        self.others.clear()
        return found

    def answer(self, link_id: int, rtt: float = 0.0, *, port: int = 42) -> None:
        """Let the peer answer the last request that went to this link, ``rtt`` seconds from now."""
        self.frames()
        self.now += rtt
        self.receive(link_id, sig_res(self._requests[link_id], self.own, self._peers[link_id], port))

    def join(self, link_id: int, peer: str, *, parent: str | None = None, rtt: float = 0.0) -> None:
        """Bring a link up to a peer that is a root, or the child of one, and let it become our parent if it is fit."""
        self.add(link_id, peer)
        if parent is not None:
            self.receive(link_id, announce(parent, parent, 0))
        self.receive(link_id, announce(peer, parent or peer, 0 if parent is None else 1))
        self.answer(link_id, rtt)
        self.tick()
        self.frames()

    @property
    def parent(self) -> str:
        """Our parent's label."""
        own = next(entry for entry in self.router.tree() if entry.key == self.router.public_key)
        return LABELS[own.parent]

    @property
    def seq(self) -> int:
        """The seq of our own info."""
        return next(entry.sequence for entry in self.router.tree() if entry.key == self.router.public_key)
