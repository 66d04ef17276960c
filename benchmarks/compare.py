"""Throughput, latency, CPU and memory of yggpy beside the real Go node: ``./dev bench``.

For each scenario (``scenarios.py``) the two subjects take turns (Go, ours, Go, ours …), each time with fresh nodes in
fresh network namespaces, so that the machine's moods hit both alike. Only the ratios mean anything: absolute figures
differ from machine to machine and from hour to hour. The table's rows and targets are in ``rows.py``.

A run that fails is repeated once, and named below the table; a pair with a run that failed twice counts nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType

from benchmarks.rows import ROWS, TITLES, Pair, Row, Summary, selected, summarise
from benchmarks.scenarios import SCENARIOS, Scenario, Values
from benchmarks.subjects import BenchLab, Kind, Subject, best_datapath, program_stamp
from tests.interop.go_node import GoNodeUnavailableError, GoPrograms, obtain
from tests.interop.lab import OURS, obstacle

GO_VERSION = "0.5.14"
DEFAULT_PAIRS = 5
DEFAULT_SECONDS = 4
ATTEMPTS = 2
PAIRINGS = ("ours-ours", "ours-go", "go-ours")


@dataclass
class Bench:
    """One call of the benchmark: what it compares and what it has found so far."""

    programs: dict[str, GoPrograms]
    reference: Subject
    ours: Subject
    pairs: int
    seconds: int
    results: dict[str, list[Pair]] = field(default_factory=dict)
    """By scenario."""
    failures: list[str] = field(default_factory=list)
    stamp: float = field(default_factory=program_stamp)
    """When our node's files last changed, as of the beginning."""

    @property
    def changed(self) -> bool:
        """Whether our node's files changed under the benchmark: then its runs are of different programs."""
        return program_stamp() != self.stamp

    def run(self, scenario: Scenario) -> list[Pair]:
        """Run all pairs of a scenario and keep their results."""
        pairs = self.results[scenario.name] = []
        for number in range(1, self.pairs + 1):
            what = f"{scenario.name}, pair {number} of {self.pairs}"
            pairs.append(Pair(self._attempt(scenario, self.reference, what), self._attempt(scenario, self.ours, what)))
        return pairs

    def _attempt(self, scenario: Scenario, subject: Subject, what: str) -> Values | None:
        for attempt in range(1, ATTEMPTS + 1):
            _progress(f"{what}: {subject}")
            try:
                with BenchLab(self.programs) as lab:
                    values = scenario.run(lab, subject, self.seconds)
                    lab.require_datapaths()
                    return values
            except Exception as error:  # whatever it was, the other runs go on and this one is named
                words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
                fate = "repeated" if attempt < ATTEMPTS else "given up: this pair does not count"
                self.failures.append(f"{what}: {subject}: {words} ({fate})")
        return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its table; return 0, or 1 if some row has no result that counts."""
    parser = _parser()
    options = parser.parse_args(arguments)
    rows = selected(options.only)
    if not rows:
        parser.error(f"no row contains {options.only!r}; --list prints them all")
    if options.list:
        for row in rows:
            print(f"{row.id:32} {TITLES[row.scenario]}: {row.title} {row.target.text if row.target else ''}".rstrip())
        return 0
    if reason := obstacle():
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    if options.ours == "native" != best_datapath():
        print("bench: there is no native data plane to measure: it is not built", file=sys.stderr)
        return 1
    ours, reference = _subjects(options)
    programs: dict[str, GoPrograms] = {}
    if any(kind.program != OURS for subject in (ours, reference) for kind in (subject.sender, subject.receiver)):
        try:
            programs[GO_VERSION] = obtain(GO_VERSION)
        except GoNodeUnavailableError as error:
            print(f"bench: no Go node to compare with: {error}", file=sys.stderr)
            return 1
    # An end from outside must pass through the labs' clean-up too.
    signal.signal(signal.SIGTERM, _end)
    bench = Bench(programs, reference, ours, options.pairs, options.seconds)
    judged = options.versus == "go" and options.pairing == "ours-ours"
    try:
        return _measure(bench, rows, judged, options.json)
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev bench", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument(
        "--pairs", type=_positive, default=DEFAULT_PAIRS, help="runs of each kind (default %(default)s)"
    )
    parser.add_argument("--seconds", type=_positive, default=DEFAULT_SECONDS, help="of traffic (default %(default)s)")
    parser.add_argument("--only", default="", help="the rows whose id or title contains one of these, comma-separated")
    parser.add_argument("--list", action="store_true", help="print the rows and their targets, and run nothing")
    parser.add_argument(
        "--ours", choices=("pure", "native"), default="", help="our data plane (default: native, if built)"
    )
    parser.add_argument(
        "--versus", choices=("go", "pure"), default="go", help="compare with this (default %(default)s)"
    )
    parser.add_argument(
        "--pairing", choices=PAIRINGS, default=PAIRINGS[0], help="sending and receiving node (default %(default)s)"
    )
    parser.add_argument("--json", type=Path, help="write every run's values to this file")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _subjects(options: argparse.Namespace) -> tuple[Subject, Subject]:
    """Return ours and the reference, which has the other kind in our places."""
    go = Kind(GO_VERSION)
    ours = Kind(OURS, options.ours or best_datapath())
    reference = go if options.versus == "go" else Kind(OURS, "pure")
    sides = options.pairing.split("-")

    def subject(kind: Kind) -> Subject:
        sender, receiver = (kind if side == "ours" else go for side in sides)
        return Subject(sender, receiver)

    return subject(ours), subject(reference)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _measure(bench: Bench, rows: Sequence[Row], judged: bool, file: Path | None) -> int:
    began = time.monotonic()
    missing = 0
    print(f"{bench.ours} beside {bench.reference}: medians of {bench.pairs} pairs, {bench.seconds} s of traffic")
    print(_machine())
    left, right = ("Go", OURS) if judged else ("reference", "ours")
    print(_line("", left, right, "ratio", "lowest-highest", "target" if judged else "", ""))
    for scenario in SCENARIOS:
        if own := [row for row in rows if row.scenario == scenario.name]:
            pairs = bench.run(scenario)
            _progress("")
            print(TITLES[scenario.name])
            for row in own:
                summary = summarise(row, pairs)
                missing += summary is None
                print(_report(row, summary, bench.pairs, judged), flush=True)
            if file:
                file.write_text(json.dumps(_raw(bench), indent=1) + "\n", encoding="utf-8")
    for failure in bench.failures:
        print(f"failed: {failure}")
    if bench.changed:
        print("void: our node's files changed meanwhile, so these runs are not all of one program")
    print(f"{time.monotonic() - began:.0f} s in all; load average now {os.getloadavg()[0]:.1f}")
    return 1 if missing or bench.changed else 0


def _report(row: Row, summary: Summary | None, pairs: int, judged: bool) -> str:
    title = f"  {row.title}, {row.unit}" if row.unit else f"  {row.title}"
    target = row.target.text if row.target and judged else ""
    if summary is None:
        return _line(title, "-", "-", "-", "-", target, "no result")
    verdict = ""
    if row.target and judged:
        verdict = "met" if row.target.met(summary) else "missed"
    if summary.pairs < pairs:
        verdict = f"{verdict} ({summary.pairs} pairs)".strip()
    ratio = spread = "-"
    if summary.ratio is not None and summary.lowest is not None and summary.highest is not None:
        ratio, spread = f"{summary.ratio:.2f}", f"{summary.lowest:.2f}-{summary.highest:.2f}"
    return _line(title, _number(summary.reference), _number(summary.ours), ratio, spread, target, verdict)


def _line(title: str, reference: str, ours: str, ratio: str, spread: str, target: str, verdict: str) -> str:
    return f"{title:42} {reference:>9} {ours:>9} {ratio:>7} {spread:>15}  {target:13} {verdict}".rstrip()


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def _progress(text: str) -> None:
    """Show what runs now on a terminal's last line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _machine() -> str:
    return f"{os.cpu_count()} cores, Linux {platform.release()}, load average {os.getloadavg()[0]:.1f}"


def _raw(bench: Bench) -> dict[str, object]:
    """Return everything measured, for ``--json``."""
    summaries = {}
    for row in ROWS:
        if summary := summarise(row, bench.results.get(row.scenario, [])):
            summaries[row.id] = asdict(summary)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": _machine(),
        "reference": str(bench.reference),
        "ours": str(bench.ours),
        "seconds": bench.seconds,
        "runs": {name: [asdict(pair) for pair in pairs] for name, pairs in bench.results.items()},
        "rows": summaries,
        "failures": bench.failures,
        "void": bench.changed,
    }


if __name__ == "__main__":
    sys.exit(main())
