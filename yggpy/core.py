"""One node without sockets: routing, sessions, key store and data plane joined together.

The rooms below do not know each other. Each is told what happened and answers with *effects*; this file carries the
effects of one room to the next until all are quiet (``_pump``), and turns the data plane's upcalls into inputs:

    data plane --upcall--> router / sessions / key store --effects--> data plane, or each other

There is no asyncio here: time and timers come from a :class:`~yggpy.clock.Scheduler`, links arrive as byte streams.
``Node`` puts an event loop, transports and a TUN around it; the simulator puts a virtual clock around hundreds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from yggpy.address import Address, Subnet
from yggpy.clock import Scheduler, TimerHandle
from yggpy.datapath.base import ByteStream, CloseReason, Datapath, DatapathUpcalls, LinkEnd
from yggpy.events.hub import Publish, publish_nothing
from yggpy.events.watch import CoreWatch
from yggpy.introspection import Introspection
from yggpy.keys import PrivateKey
from yggpy.keystore import InstallAddress, KeyStore, Lookup, RemoveAddress, SendPacket
from yggpy.questions import ANSWER_TIMEOUT, ATTEMPTS, OnAnswer, Question, QuestionError
from yggpy.routing.effects import (
    CloseLink,
    FibChanged,
    LookupSeen,
    PathInstalled,
    PathNotified,
    PathRemoved,
    SendDirect,
    SendQueued,
)
from yggpy.routing.leaf import LeafRouter
from yggpy.routing.router import Router
from yggpy.sessions.effects import InstallKeys, RemoveKeys, SendMessage, SendPayload
from yggpy.sessions.manager import SessionManager
from yggpy.sessions.traffic import RatchetCase
from yggpy.wire.inner import InnerType
from yggpy.wire.packets import Traffic

__all__ = ["Core", "CoreEvents", "DatapathFactory"]

MAINTENANCE_INTERVAL = 1.0
"""Seconds between the end of one maintenance tick and the next (protocol section 5.2)."""

DatapathFactory = Callable[[bytes, Scheduler, DatapathUpcalls], Datapath]
"""Makes the data plane for a node: ``(own_key, scheduler, upcalls)``."""


class CoreEvents(Protocol):
    """What a core tells whoever owns it."""

    def ipv6_received(self, source: bytes, packet: bytes) -> None:
        """A valid IPv6 packet for this node arrived and there is no TUN."""
        ...

    def datagram_received(self, source: bytes, data: bytes) -> None:
        """An application's datagram arrived."""
        ...

    def lookup_seen(self, source: bytes, path: tuple[int, ...]) -> None:
        """A path look-up passed by (for ``LogLookups``): who asked, and its coordinates."""
        ...


class Core:
    """The protocol machine of one node. Call ``start`` once, then it drives itself by its scheduler."""

    def __init__(
        self,
        private_key: PrivateKey,
        scheduler: Scheduler,
        datapath_factory: DatapathFactory,
        events: CoreEvents,
        *,
        group_password: bytes = b"",
        node_info: bytes = b"{}",
        transit: bool = True,
        publish: Publish = publish_nothing,
    ) -> None:
        """``transit``: whether to pass on what is for others.

        ``publish`` is told of paths, sessions and the tree (``yggpy.events``).
        """
        self.private_key = private_key
        self.public_key = private_key.public_key
        self.address = Address.for_key(self.public_key)
        self.subnet = Subnet.for_key(self.public_key)
        self._scheduler = scheduler
        self._events = events
        self.datapath = datapath_factory(self.public_key, scheduler, self)
        router_class = Router if transit else LeafRouter
        self.router = router_class(private_key, last_traffic=self.datapath.last_traffic)
        self.sessions = SessionManager(private_key, group_password, last_activity=self.datapath.session_last_activity)
        self.keystore = KeyStore(self.public_key, last_used=self.datapath.address_last_used)
        self.introspection = Introspection(self.router, node_info)
        self.watch = CoreWatch(self.public_key, publish)
        self._next_link_id = 1
        self._on_link_end: dict[int, Callable[[LinkEnd], None]] = {}
        self._pumping = False
        self._reaction: TimerHandle | None = None
        self._reaction_at = 0.0
        self._closed = False

    # -- life --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Become the root of a one-node tree and begin maintenance."""
        self.router.start(self._scheduler.now())
        self._pump()
        self._schedule_tick()

    def close(self) -> None:
        """Close all links and stop."""
        if not self._closed:
            self._closed = True
            if self._reaction is not None:
                self._reaction.cancel()
            self.datapath.close()
            self.introspection.questions.abandon()

    def _schedule_tick(self) -> None:
        self._scheduler.call_later(MAINTENANCE_INTERVAL, self._tick)

    def _tick(self) -> None:
        if self._closed:
            return
        now = self._scheduler.now()
        try:
            self.router.tick(now)
            self.sessions.tick(now)
            self.keystore.tick(now)
            self._pump()
            self.watch.tree_is(self.router.parent, self.router.root)
        finally:  # a defect in one tick must not be the end of all
            self._schedule_tick()

    def _plan_reaction(self) -> None:
        """Let the router act before its next tick, if it wants to."""
        due = self.router.reaction_at
        if due is None or self._closed or (self._reaction is not None and self._reaction_at <= due):
            return
        if self._reaction is not None:
            self._reaction.cancel()
        self._reaction_at = due
        self._reaction = self._scheduler.call_later(max(0.0, due - self._scheduler.now()), self._react)

    def _react(self) -> None:
        self._reaction = None
        try:
            self.router.react(self._scheduler.now())
        finally:
            self._pump()
        self.watch.tree_is(self.router.parent, self.router.root)

    # -- links -------------------------------------------------------------------------------------------

    def add_link(
        self,
        key: bytes,
        priority: int,
        stream: ByteStream,
        on_end: Callable[[LinkEnd], None],
        *,
        cost: int | None = None,
    ) -> int:
        """Run the frame protocol with node ``key`` over ``stream``; return the new link's id.

        ``on_end`` is called once when the link is gone. That can be before this returns: what the handshake read ahead
        may already be garbage. ``cost``: the link's cost in routing, if not by its round trip.
        """
        link_id = self._next_link_id
        self._next_link_id += 1
        self._on_link_end[link_id] = on_end
        # The router goes first: a frame that the handshake read ahead must find its link known.
        self.router.add_link(link_id, key, priority, self._scheduler.now(), cost)
        self.datapath.attach_link(link_id, key, stream)
        self._pump()
        return link_id

    def close_link(self, link_id: int, end: LinkEnd) -> None:
        """Close a link; its ``on_end`` follows. Unknown links are ignored."""
        self.datapath.close_link(link_id, end)

    # -- sending -----------------------------------------------------------------------------------------

    def send_datagram(self, dest: bytes, data: bytes) -> None:
        """Send an application's datagram to node ``dest``: encrypted, unordered, unreliable."""
        self.datapath.send_message(dest, bytes((InnerType.TRAFFIC,)) + data)
        self._pump()

    def send_ipv6(self, packet: bytes) -> None:
        """Send an IPv6 packet from this node's address or subnet into the mesh."""
        self.datapath.send_ipv6(packet)
        self._pump()

    def ask(self, question: Question, key: bytes, on_answer: OnAnswer) -> Callable[[], None]:
        """Ask node ``key``; ``on_answer`` gets its answer, or None after ``ANSWER_TIMEOUT`` or at the end.

        Returns what calls the question off: ``on_answer`` is not called after that. Raises ``QuestionError``.
        """
        if self._closed:
            raise QuestionError("the node is closed")
        questions = self.introspection.questions
        questions.add(question, key, on_answer)
        left = ATTEMPTS
        timer: TimerHandle | None = None

        def attempt() -> None:
            nonlocal left, timer
            if not questions.is_open(question, key, on_answer):
                return
            if left == 0:
                questions.discard(question, key, on_answer)
                on_answer(None)
                return
            left -= 1
            timer = self._scheduler.call_later(ANSWER_TIMEOUT / ATTEMPTS, attempt)
            self.datapath.send_message(key, question.encode())
            self._pump()

        def call_off() -> None:
            assert timer is not None
            timer.cancel()
            questions.discard(question, key, on_answer)

        attempt()
        return call_off

    # -- upcalls of the data plane (DatapathUpcalls) -----------------------------------------------------

    def protocol_frame(self, link_id: int, frame_type: int, payload: bytes, now: float) -> None:
        """A frame for the router."""
        try:
            self.router.handle_frame(link_id, frame_type, payload, now)
        finally:
            self._pump()

    def link_ended(self, link_id: int, end: LinkEnd) -> None:
        """Forget the link everywhere."""
        self.router.remove_link(link_id, self._scheduler.now())
        self._pump()
        self._on_link_end.pop(link_id)(end)

    def session_message(self, source: bytes, payload: bytes) -> None:
        """An init or ack."""
        self.sessions.handle_message(source, payload, self._scheduler.now())
        self._pump()

    def session_mismatch(self, source: bytes) -> None:
        """Traffic under keys that we do not have."""
        self.sessions.session_mismatch(source, self._scheduler.now())
        self._pump()

    def session_unknown(self, source: bytes) -> None:
        """Traffic without a session."""
        self.sessions.session_unknown(source, self._scheduler.now())
        self._pump()

    def session_ratchet(self, source: bytes, case: RatchetCase, nonce: int, next_public: bytes) -> None:
        """Traffic under the next keys."""
        self.sessions.session_ratchet(source, case, nonce, next_public, self._scheduler.now())
        self._apply_session_effects()  # at once: the data plane goes on with the new keys

    def session_nonce_exhausted(self, dest: bytes) -> None:
        """The send counter is used up."""
        self.sessions.session_nonce_exhausted(dest, self._scheduler.now())
        self._apply_session_effects()

    def session_missing(self, dest: bytes, message: bytes) -> None:
        """A message before there is a session."""
        self.sessions.session_missing(dest, message, self._scheduler.now())
        self._pump()

    def path_missing(self, dest: bytes, payload: bytes) -> None:
        """A payload before there is a path."""
        self.router.path_missing(dest, payload, self._scheduler.now())
        self._pump()

    def traffic_unroutable(self, traffic: Traffic) -> None:
        """Traffic that cannot go on from here."""
        self.router.traffic_unroutable(traffic, self._scheduler.now())
        self._pump()

    def destination_unknown(self, packet: bytes) -> None:
        """An IPv6 packet to an address whose key we do not know."""
        self.keystore.destination_unknown(packet, self._scheduler.now())
        self._pump()

    def source_learned(self, source: bytes) -> None:
        """An IPv6 packet from a key that has no address entry: the data plane needs it to check the source."""
        self.keystore.key_known(source, self._scheduler.now())
        self._apply_keystore_effects()

    def ipv6_received(self, source: bytes, packet: bytes) -> None:
        """An IPv6 packet, and no TUN."""
        self._events.ipv6_received(source, packet)

    def message_received(self, source: bytes, message: bytes) -> None:
        """A protocol message inside a session, or a datagram."""
        if message[0] == InnerType.TRAFFIC:
            self._events.datagram_received(source, message[1:])
        elif message[0] == InnerType.PROTO:
            reply = self.introspection.handle(source, message, self._scheduler.now())
            if reply is not None:
                self.datapath.send_message(source, reply)

    # -- effects -----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Carry effects until every room is quiet. Effects that arise meanwhile are taken by the outermost call."""
        if self._pumping:
            return
        self._pumping = True
        try:
            busy = True
            while busy:
                busy = self._apply_routing_effects()
                busy = self._apply_session_effects() or busy
                busy = self._apply_keystore_effects() or busy
        finally:
            self._pumping = False
        self._plan_reaction()

    def _apply_routing_effects(self) -> bool:
        effects = self.router.take_effects()
        datapath = self.datapath
        for effect in effects:
            match effect:
                case SendDirect(link_id, frame_type, payload):
                    datapath.send_direct(link_id, frame_type, payload)
                case SendQueued(link_id, frame_type, payload, source, dest):
                    datapath.send_queued(link_id, frame_type, payload, source, dest)
                case CloseLink(link_id, reason):
                    datapath.close_link(link_id, LinkEnd(CloseReason.ERROR, reason))
                case FibChanged():
                    datapath.set_fib(self.router.fib)
                case PathInstalled(key, path, kept):
                    datapath.set_path(key, path)
                    self.watch.path_installed(key, path)
                    if kept is not None:
                        datapath.send_payload(key, kept)
                case PathRemoved(key):
                    datapath.remove_path(key)
                    self.watch.path_removed(key)
                case PathNotified(key):
                    self.keystore.key_known(key, self._scheduler.now())
                case LookupSeen(key, path):
                    self._events.lookup_seen(key, path)
        return bool(effects)

    def _apply_session_effects(self) -> bool:
        effects = self.sessions.take_effects()
        datapath = self.datapath
        for effect in effects:
            match effect:
                case SendPayload(dest, payload):
                    datapath.send_payload(dest, payload)
                case InstallKeys(remote, keys):
                    datapath.set_session(remote, keys)
                    self.watch.session_installed(remote)
                case RemoveKeys(remote):
                    datapath.remove_session(remote)
                    self.watch.session_removed(remote)
                case SendMessage(dest, message):
                    datapath.send_message(dest, message)
        return bool(effects)

    def _apply_keystore_effects(self) -> bool:
        effects = self.keystore.take_effects()
        for effect in effects:
            match effect:
                case Lookup(partial_key):
                    self.router.lookup(partial_key, self._scheduler.now())
                case InstallAddress(key, address, subnet):
                    self.datapath.set_address(key, address, subnet)
                case RemoveAddress(key):
                    self.datapath.remove_address(key)
                case SendPacket(packet):
                    self.datapath.send_ipv6(packet)
        return bool(effects)
