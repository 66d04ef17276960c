"""The rows of the table: which value of which scenario, in which unit, and what it has to reach.

A row's ``id`` is what ``--only`` selects by, beside its title. Ratios are ours to the reference. Targets are those of
the native data plane against the Go node; they say nothing about other comparisons, where they are not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.scenarios import Values

__all__ = ["ROWS", "TITLES", "Pair", "Row", "Summary", "Target", "selected", "summarise"]


@dataclass(frozen=True)
class Pair:
    """One run of each subject, one right after the other; None for a run that failed twice."""

    reference: Values | None
    ours: Values | None


@dataclass(frozen=True)
class Summary:
    """A row's result over all complete pairs."""

    pairs: int
    """How many pairs are complete."""
    reference: float
    """Median."""
    ours: float
    """Median."""
    ratio: float | None
    """Median of the pairs' ratios; None where the reference was 0 in some pair."""
    lowest: float | None
    """The lowest ratio of a pair."""
    highest: float | None


@dataclass(frozen=True)
class Target:
    """What a row has to reach, in words and as a check."""

    text: str
    met: Callable[[Summary], bool]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    scenario: str
    key: str
    """Name of the value in the scenario's results."""
    title: str
    unit: str
    target: Target | None = None
    value: Callable[[Values, Values], float] | None = None
    """Makes the value from a run's own results and the reference's in the same pair; None: ``key`` of its own."""

    @property
    def id(self) -> str:
        """The row's name for ``--only``."""
        return f"{self.scenario}.{self.key}"

    def of(self, own: Values, reference: Values) -> float:
        """Return the row's value for one run."""
        return self.value(own, reference) if self.value else own[self.key]


def summarise(row: Row, pairs: Sequence[Pair]) -> Summary | None:
    """Return medians and ratios over the complete pairs, or None if there is none: half a pair tells nothing."""
    references, ours = [], []
    for pair in pairs:
        if pair.reference is not None and pair.ours is not None:
            references.append(row.of(pair.reference, pair.reference))
            ours.append(row.of(pair.ours, pair.reference))
    if not references:
        return None
    ratio = lowest = highest = None
    if all(references):
        ratios = [mine / theirs for mine, theirs in zip(ours, references, strict=True)]
        ratio, lowest, highest = median(ratios), min(ratios), max(ratios)
    return Summary(len(references), median(references), median(ours), ratio, lowest, highest)


def selected(wanted: str) -> list[Row]:
    """Return the rows that one of the comma-separated texts is a part of, by id or by title; all for no text."""
    texts = [text.strip().lower() for text in wanted.split(",") if text.strip()]
    return [
        row
        for row in ROWS
        if not texts or any(text in f"{row.id} {TITLES[row.scenario]}, {row.title}".lower() for text in texts)
    ]


def _ratio_at_least(limit: float) -> Target:
    return Target(f">= {limit:g}x", lambda summary: summary.ratio is not None and summary.ratio >= limit)


def _ratio_at_most(limit: float) -> Target:
    return Target(f"<= {limit:g}x", lambda summary: summary.ratio is not None and summary.ratio <= limit)


def _at_most(limit: float, unit: str = "") -> Target:
    return Target(f"<= {limit:g} {unit}".rstrip(), lambda summary: summary.ours <= limit)


def _at_most_reference_plus(margin: float, unit: str = "") -> Target:
    text = f"<= Go + {margin:g} {unit}" if margin else "<= Go's"
    return Target(text.rstrip(), lambda summary: summary.ours <= summary.reference + margin)


def _load_to_idle(own: Values, reference: Values) -> float:
    return own["rtt_load_ms"] / reference["rtt_idle_ms"]


def _bulk(scenario: str, throughput: float, *more: Row, whose_cpu: str = "both ends", whose_rss: str = "") -> list[Row]:
    """Return the rows of one transfer; ``throughput`` is the ratio to reach."""
    rss = f"peak RSS{whose_rss}"
    return [
        Row(scenario, "gbit_per_s", "throughput", "Gbit/s", _ratio_at_least(throughput)),
        Row(scenario, "cpu_s_per_gb", f"CPU, {whose_cpu}", "s/GB", _ratio_at_most(0.35)),
        Row(scenario, "peak_rss_mib", rss, "MiB", _ratio_at_most(1.3)),
        Row(scenario, "retransmits", "TCP retransmits", "", _at_most_reference_plus(0)),
        *more,
    ]


def _round_trips(scenario: str) -> list[Row]:
    return [
        Row(scenario, "rtt_idle_ms", "RTT idle", "ms", _ratio_at_most(0.5)),
        Row(scenario, "rtt_load_ms", "RTT under load", "ms"),
        Row(scenario, "rtt_load_to_idle", "RTT under load / idle RTT of Go", "", _at_most(3), _load_to_idle),
        Row(scenario, "pings_lost_under_load", "pings lost under load", ""),
    ]


TITLES = {
    "tls-65535": "one TCP flow, TLS link, MTU 65535",
    "tcp-65535": "one TCP flow, TCP link, MTU 65535",
    "tls-1500": "one TCP flow, TLS link, MTU 1500",
    "tls-1280": "one TCP flow, TLS link, MTU 1280",
    "transit": "one TCP flow through a third node, TLS links, MTU 65535",
    "udp": "UDP datagrams of 100 bytes, TLS link",
    "fan": "32 TCP flows from a hub to 8 peers, 60 more idle, TLS links",
    "start": "start of a node whose peer is up",
}
"""The scenarios' headings, in the order of the table."""

ROWS = (
    *_bulk("tls-65535", 3.5, *_round_trips("tls-65535")),
    *_bulk("tcp-65535", 4),
    *_bulk("tls-1500", 5),
    *_bulk("tls-1280", 5),
    Row("transit", "gbit_per_s", "throughput", "Gbit/s", _ratio_at_least(4)),
    Row("transit", "cpu_forwarder_s_per_gb", "CPU, forwarder", "s/GB", _ratio_at_most(0.3)),
    Row("transit", "peak_rss_mib", "peak RSS, forwarder", "MiB", _ratio_at_most(1.3)),
    Row("transit", "retransmits", "TCP retransmits", "", _at_most_reference_plus(0)),
    Row("udp", "received_per_s", "received by the program", "1/s", _ratio_at_least(3)),
    Row("udp", "delivered_per_s", "delivered to its socket", "1/s", _ratio_at_least(3)),
    Row("udp", "cpu_us_per_packet", "CPU for each delivered, both ends", "µs"),
    Row("udp", "peak_rss_mib", "peak RSS", "MiB", _ratio_at_most(1.3)),
    *_bulk("fan", 3.5, whose_cpu="all nine nodes", whose_rss=", hub"),
    Row("start", "admin_ready_s", "to admin socket", "s", _at_most(0.4, "s")),
    Row("start", "first_ping_s", "to first ping through the mesh", "s", _at_most_reference_plus(0.3, "s")),
)
