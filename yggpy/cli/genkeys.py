"""``yggpy-genkeys``: finds strong node keys, as Go's ``yggdrasil-genkeys`` does (protocol section 14.5), but quicker.

A key is stronger the lower it is: each leading zero bit doubles the work and leaves one bit more of the key in the
address. Whenever a key lower than all before is found it is printed, in Go's form, so that scripts for one read the
other. The search goes on until it is interrupted, or until a limit that only this program has.

Every core runs a thread that hands batches to the C code (``native/src/genkeys.h``), which needs no interpreter. Where
the extension is not built, the same batches are tried with libsodium.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from yggpy.address import Address
from yggpy.cli.flags import FlagError, FlagSet, HelpRequestedError, ParsedFlags
from yggpy.cli.program import let_go_of_output, write_text
from yggpy.keys import PUBLIC_KEY_SIZE, SEED_SIZE, PrivateKey

__all__ = ["BATCH_SIZE", "PROGRAM", "Limits", "Search", "Searcher", "go_duration", "leading_zeros", "main"]

PROGRAM = "yggpy-genkeys"

BATCH_SIZE = 512
"""Keys in a batch, in C as in Python; a limit on keys is rounded up to it."""

NATIVE_BATCHES = 32
"""Batches that a thread tries at a time: some ten milliseconds, so that news and limits are seen soon."""
PYTHON_BATCHES = 1

PROGRESS_INTERVAL = 0.5
"""Seconds between two updates of the progress line."""

Found = tuple[bytes, bytes]
"""Seed and public key."""

Searcher = Callable[[bytes, int], Found | None]
"""Tries that many batches; returns the lowest key that is lower than the one given, or None."""


def search_in_python(best: bytes, batches: int) -> Found | None:
    """Do what ``_native.search_keys`` does, key by key with libsodium, for machines without the extension."""
    found: Found | None = None
    for _ in range(batches):
        seeds = os.urandom(BATCH_SIZE * SEED_SIZE)
        for start in range(0, len(seeds), SEED_SIZE):
            key = PrivateKey(seeds[start : start + SEED_SIZE])
            if key.public_key < best:
                best = key.public_key
                found = key.seed, best
    return found


def choose_searcher() -> tuple[Searcher, int, str]:
    """Return the quickest way to search, how many batches to give it at a time, and why it is not the one in C.

    Raises ``DatapathError`` when ``YGGPY_DATAPATH`` demands what is not there.
    """
    from yggpy.datapath.choice import choose_datapath

    choice = choose_datapath()
    if choice.name == "native":
        from yggpy.datapath._native import search_keys

        return search_keys, NATIVE_BATCHES, ""
    reason = f"{choice.shortcoming or 'YGGPY_DATAPATH is pure'}: keys are tried in Python, many times slower"
    return search_in_python, PYTHON_BATCHES, reason


@dataclass(frozen=True, slots=True)
class Limits:
    """When the search ends by itself; 0 everywhere: never."""

    seconds: float = 0
    keys: int = 0
    bits: int = 0
    """Leading zero bits of the best key."""


class Search:
    """The threads that search, and what they have found and tried so far."""

    def __init__(self, searcher: Searcher, threads: int, batches: int, limits: Limits) -> None:
        """``batches``: how many a thread tries at a time."""
        self.news: queue.SimpleQueue[Found | Exception | None] = queue.SimpleQueue()
        """Keys lower than all before, in order; None for each thread that has ended; what went wrong."""
        self.tried = 0
        self.best = b"\xff" * PUBLIC_KEY_SIZE
        self._searcher = searcher
        self._batches = batches
        self._limits = limits
        self._left = -(-limits.keys // BATCH_SIZE)  # batches that nobody has taken yet
        self._lock = threading.Lock()
        self._stop = False
        # Daemons, so that a second interrupt ends the program even if one of them does not.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; what they are trying is still counted."""
        self._stop = True
        for thread in self._threads:
            thread.join()

    def _take(self) -> int:
        """Return how many batches to try next; 0 at the end."""
        if self._stop:
            return 0
        if not self._limits.keys:
            return self._batches
        with self._lock:
            taken = min(self._batches, self._left)
            self._left -= taken
            return taken

    def _work(self) -> None:
        try:
            while batches := self._take():
                found = self._searcher(self.best, batches)
                with self._lock:
                    self.tried += batches * BATCH_SIZE
                    if found is not None and found[1] < self.best:
                        self.best = found[1]
                        self.news.put(found)
                        if self._limits.bits and leading_zeros(self.best) >= self._limits.bits:
                            self._stop = True
        except Exception as error:
            self.news.put(error)
        finally:
            self.news.put(None)


class _Progress:
    """The line on a terminal that tells how the search goes; nothing anywhere else."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._active = stream.isatty()

    def show(self, search: Search, elapsed: float) -> None:
        if self._active:
            rate = search.tried / elapsed if elapsed > 0 else 0.0
            text = f"{rate:,.0f} keys/s, {search.tried:,} keys tried, best has {leading_zeros(search.best)} zero bits"
            self._stream.write(f"\r{text}\x1b[K")
            self._stream.flush()

    def clear(self) -> None:
        if self._active:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def leading_zeros(key: bytes) -> int:
    """Return how many zero bits ``key`` begins with."""
    return 8 * len(key) - int.from_bytes(key, "big").bit_length()


def go_duration(nanoseconds: int) -> str:
    """Write a duration as Go does: ``532ns``, ``1.5µs``, ``2.129166ms``, ``1.080372711s``, ``1m0.5s``, ``2h0m3s``."""
    if nanoseconds < 10**9:
        for unit, size in (("ns", 1), ("µs", 10**3), ("ms", 10**6)):
            if nanoseconds < 1000 * size:
                return (_decimal(nanoseconds, size) + unit) if nanoseconds else "0s"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{head}{_decimal(rest, 10**9)}s"


def _decimal(number: int, unit: int) -> str:
    whole, fraction = divmod(number, unit)
    digits = f"{fraction:0{len(str(unit)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)


def _flags() -> FlagSet:
    flags = FlagSet(PROGRAM)
    flags.add("time", "", "stop after this long, such as 30s or 1h30m; without it there is no limit")
    flags.add("count", 0, f"stop when this many keys have been tried, in steps of {BATCH_SIZE}")
    flags.add("bits", 0, "stop when a key that begins with this many zero bits has been found")
    return flags


def _limits(parsed: ParsedFlags) -> Limits:
    """Check the limits. Raises ``FlagError``."""
    from yggpy.links.uri import parse_duration

    seconds = 0.0
    if text := parsed.text("time"):
        try:
            seconds = parse_duration(text)
        except ValueError:
            seconds = -1
        if seconds <= 0:
            raise FlagError(f'invalid value "{text}" for flag -time: not a duration such as 30s or 1h30m')
    for name in ("count", "bits"):
        if parsed.number(name) < 0:
            raise FlagError(f'invalid value "{parsed.number(name)}" for flag -{name}: it cannot be negative')
    if parsed.number("bits") > 8 * PUBLIC_KEY_SIZE:
        raise FlagError(f'invalid value "{parsed.number("bits")}" for flag -bits: a key has {8 * PUBLIC_KEY_SIZE}')
    return Limits(seconds, parsed.number("count"), parsed.number("bits"))


def main(argv: list[str] | None = None) -> int:
    """Run the program with these arguments (default: the process's) and return its exit code."""
    flags = _flags()
    try:
        parsed = flags.parse(sys.argv[1:] if argv is None else argv)
        if parsed.arguments:
            raise FlagError(f"unexpected argument: {parsed.arguments[0]}")
        limits = _limits(parsed)
    except HelpRequestedError:
        sys.stderr.write(flags.usage())
        return 0
    except FlagError as error:
        sys.stderr.write(f"{error}\n{flags.usage()}")
        return 2
    progress = _Progress(sys.stderr)
    try:
        return _run(limits, progress)
    except KeyboardInterrupt:
        # Go's program does not catch the signal either: who started it sees that it died of it.
        progress.clear()
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        raise
    except BrokenPipeError:
        return let_go_of_output()
    except Exception as error:
        progress.clear()
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return 1


def _run(limits: Limits, progress: _Progress) -> int:
    searcher, batches, shortcoming = choose_searcher()
    if shortcoming:
        sys.stderr.write(f"{PROGRAM}: {shortcoming}\n")
    threads = len(os.sched_getaffinity(0))
    _print(f"Threads: {threads}")
    search = Search(searcher, threads, batches, limits)
    start = time.monotonic_ns()
    search.start()
    try:
        _watch(search, limits, threads, start, progress)
    finally:
        search.stop()  # a thread that still takes random bytes from OpenSSL while the process ends crashes it
        progress.clear()
    elapsed = time.monotonic_ns() - start
    sys.stderr.write(f"{PROGRAM}: {search.tried} keys tried in {go_duration(elapsed)}\n")
    return 0


def _watch(search: Search, limits: Limits, threads: int, start: int, progress: _Progress) -> None:
    """Print what is found until all threads have ended; end them when the time is over."""
    running = threads
    stopping = False
    while running:
        elapsed = (time.monotonic_ns() - start) / 1e9
        wait = PROGRESS_INTERVAL
        if limits.seconds and not stopping:
            if elapsed >= limits.seconds:
                stopping = True
                search.stop()
            wait = min(wait, max(0.0, limits.seconds - elapsed))
        try:
            news = search.news.get(timeout=wait)
        except queue.Empty:
            progress.show(search, elapsed)
            continue
        if news is None:
            running -= 1
        elif isinstance(news, Exception):
            raise news
        else:
            progress.clear()
            _print_key(*news, time.monotonic_ns() - start, search.tried)


def _print_key(seed: bytes, public_key: bytes, elapsed: int, tried: int) -> None:
    _print(
        f"----- {go_duration(elapsed)} --- {tried} keys tried\n"
        f"Priv: {seed.hex()}{public_key.hex()}\n"
        f"Pub: {public_key.hex()}\n"
        f"IP: {Address.for_key(public_key)}"
    )


def _print(text: str) -> None:
    """Print at once: scripts follow the output, and Go writes µ."""
    write_text(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
