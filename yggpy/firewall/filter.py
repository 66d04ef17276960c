"""The judgement: which packets from the mesh reach this machine."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from yggpy.firewall.flows import Flow, FlowKey, FlowState, FlowTable
from yggpy.firewall.packet import ACK, FIN, RST, SYN, Summary, summarize
from yggpy.firewall.rules import ECHO_REQUEST, ICMPV6, Ruleset

__all__ = ["Firewall", "FirewallCounters"]

MAX_FRAGMENTED = 256
"""Fragmented packets whose later fragments are let in; a new one replaces the oldest."""
FRAGMENT_TIME = 60.0
"""Seconds for which they are: as long as a kernel waits for the rest (RFC 8200, section 4.5)."""
_ECHO_REPLY = 129
_FIRST_INFORMATION = 128
"""ICMPv6 types below are errors."""
_ICMP_HEADER_SIZE = 8


@dataclass(frozen=True, slots=True)
class FirewallCounters:
    """What a filter has counted since its rules were set: packets, but for the flows."""

    flows: int
    """Flows that have not expired."""
    evicted: int
    """Flows that had to make room for others."""
    established: int
    """Let in because they belong to a flow."""
    errors: int
    """ICMPv6 errors about something that this machine has sent."""
    fragments: int
    """Later fragments of packets let in."""
    denied: int
    """Not let in, ``malformed`` included."""
    malformed: int
    """Not let in because they cannot be read."""
    allowed: tuple[int, ...]
    """Let in by each rule."""


class Firewall:
    """A filter with ``rules``. Times are seconds on one clock that does not go back."""

    def __init__(self, rules: Ruleset) -> None:
        self._flows = FlowTable()
        self._fragments: OrderedDict[tuple[bytes, bytes, int], float] = OrderedDict()
        self.set_rules(rules)

    def set_rules(self, rules: Ruleset) -> None:
        """Judge by other rules from now on. Flows stay; the counters begin anew."""
        self._rules = rules
        self._allowed = [0] * len(rules.names)
        self._established = self._errors = self._later = self._denied = self._malformed = 0
        self._flows.evicted = 0

    def outbound(self, packet: bytes, now: float) -> None:
        """Note what this machine sends: an IPv6 packet."""
        summary = summarize(packet)
        if summary is None or summary.later_fragment:
            return
        key = _outgoing(summary, packet)
        if key is None:
            return
        flow = self._flows.get(key, now)
        if flow is not None:
            self._flows.touch(key, flow, now)
            if summary.flags & (FIN | RST):
                flow.state = FlowState.CLOSING
            elif summary.flags & (SYN | ACK) == SYN:
                flow.state = FlowState.NEW
            return
        if summary.flags & RST:
            return
        # What is answered here comes in by its rule; so strangers cannot fill the table.
        if summary.protocol != ICMPV6 and self._rules.find(None, key.remote, summary.protocol, summary.source_port):
            return
        self._flows.add(key, Flow(FlowState.CLOSING if summary.flags & FIN else FlowState.NEW, now), now)

    def inbound(self, key: bytes, packet: bytes, now: float) -> bool:
        """Tell whether a packet that the node ``key`` has sent may pass. Its source belongs to that node."""
        summary = summarize(packet)
        if summary is None:
            self._malformed += 1
            self._denied += 1
            return False
        fragment = summary.source, summary.dest, summary.fragment_id
        if summary.later_fragment:
            noted = self._fragments.get(fragment)
            if noted is not None and now - noted <= FRAGMENT_TIME:
                self._later += 1
                return True
        elif self._judge(key, packet, summary, now):
            if summary.first_fragment:
                self._fragments[fragment] = now
                self._fragments.move_to_end(fragment)
                if len(self._fragments) > MAX_FRAGMENTED:
                    self._fragments.popitem(last=False)
            return True
        self._denied += 1
        return False

    def counters(self, now: float) -> FirewallCounters:
        """Return what has been counted."""
        return FirewallCounters(
            self._flows.count(now),
            self._flows.evicted,
            self._established,
            self._errors,
            self._later,
            self._denied,
            self._malformed,
            tuple(self._allowed),
        )

    def _judge(self, sender: bytes, packet: bytes, summary: Summary, now: float) -> bool:
        if summary.protocol == ICMPV6 and summary.type < _FIRST_INFORMATION:
            if self._error_expected(packet, summary, now):
                self._errors += 1
                return True
        elif (key := _incoming(summary, packet)) is not None and (flow := self._flows.get(key, now)) is not None:
            self._flows.touch(key, flow, now)
            if summary.flags & (FIN | RST):
                flow.state = FlowState.CLOSING
            elif flow.state is FlowState.NEW:
                flow.state = FlowState.ANSWERED
            self._established += 1
            return True
        port = summary.type if summary.protocol == ICMPV6 else summary.dest_port
        entry = self._rules.find(sender, summary.source, summary.protocol, port)
        if entry is None:
            return False
        self._allowed[entry.number] += 1
        return True

    def _error_expected(self, packet: bytes, outer: Summary, now: float) -> bool:
        """Tell whether an ICMPv6 error is about a flow, or about the answer to something that a rule lets in."""
        sent = packet[outer.at + _ICMP_HEADER_SIZE :]
        quoted = summarize(sent, quoted=True)
        if quoted is None or quoted.later_fragment or quoted.source != outer.dest:
            return False
        key = _outgoing(quoted, sent)
        if key is not None and self._flows.get(key, now) is not None:
            return True
        port = quoted.source_port
        if quoted.protocol == ICMPV6:
            if quoted.type != _ECHO_REPLY:
                return False
            port = ECHO_REQUEST
        return self._rules.find(None, quoted.dest, quoted.protocol, port) is not None


def _outgoing(summary: Summary, packet: bytes) -> FlowKey | None:
    """Return the flow of a packet of this machine; None for those that make none."""
    local_port = summary.source_port
    if summary.protocol == ICMPV6:
        if summary.type != ECHO_REQUEST:
            return None
        local_port = _echo_identifier(summary, packet)
    return FlowKey(summary.dest, summary.source, summary.protocol, summary.dest_port, local_port)


def _incoming(summary: Summary, packet: bytes) -> FlowKey | None:
    local_port = summary.dest_port
    if summary.protocol == ICMPV6:
        if summary.type != _ECHO_REPLY:
            return None
        local_port = _echo_identifier(summary, packet)
    return FlowKey(summary.source, summary.dest, summary.protocol, summary.source_port, local_port)


def _echo_identifier(summary: Summary, packet: bytes) -> int:
    return int.from_bytes(packet[summary.at + 4 : summary.at + 6], "big")
