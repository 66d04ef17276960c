"""``yggpy-genkeys``: its output is Go's, its keys are keys, its limits hold, and an interrupt ends it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import nacl.bindings
import pytest

from yggpy.address import Address
from yggpy.cli import genkeys
from yggpy.cli.genkeys import BATCH_SIZE, Found, go_duration, leading_zeros, main, search_in_python
from yggpy.datapath.choice import DATAPATH_VARIABLE
from yggpy.keys import PrivateKey

WORST = b"\xff" * 32
REPORT = re.compile(
    r"----- (?P<elapsed>[0-9a-zµ.]+) --- (?P<tried>\d+) keys tried\n"
    r"Priv: (?P<private>[0-9a-f]{128})\n"
    r"Pub: (?P<public>[0-9a-f]{64})\n"
    r"IP: (?P<address>[0-9a-f:]+)\n"
)


def native() -> object:
    return pytest.importorskip("yggpy.datapath._native", reason="the extension is not built")


@pytest.fixture(params=["native", "pure"])
def plane(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "native":
        native()
    monkeypatch.setenv(DATAPATH_VARIABLE, request.param)
    return str(request.param)


def check_reports(text: str) -> list[bytes]:
    """Check every line of the output; return the public keys in it."""
    head, _, body = text.partition("\n")
    assert head == f"Threads: {len(os.sched_getaffinity(0))}"
    reports = list(REPORT.finditer(body))
    assert "".join(report[0] for report in reports) == body
    tried = [int(report["tried"]) for report in reports]
    assert tried == sorted(tried)
    for report in reports:
        key = PrivateKey.from_bytes(bytes.fromhex(report["private"]))
        assert key.public_key.hex() == report["public"]
        assert str(Address.for_key(key.public_key)) == report["address"]
    return [bytes.fromhex(report["public"]) for report in reports]


def test_each_key_is_lower_than_all_before(plane: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-count", "3000"]) == 0
    out, err = capfd.readouterr()
    keys = check_reports(out)
    assert keys == sorted(keys, reverse=True)
    assert leading_zeros(keys[-1]) >= 4  # more than that is lost once in 10^80 runs
    last = err.splitlines()[-1]
    assert re.fullmatch(rf"yggpy-genkeys: {6 * BATCH_SIZE} keys tried in \S+", last)
    assert ("in Python" in err) == (plane == "pure")


def test_it_stops_at_enough_zero_bits(plane: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-bits", "9"]) == 0
    keys = check_reports(capfd.readouterr().out)
    assert leading_zeros(keys[-1]) >= 9


def test_it_stops_when_the_time_is_over(plane: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-time", "50ms"]) == 0
    assert check_reports(capfd.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-time", "soon"], 'invalid value "soon" for flag -time: not a duration such as 30s or 1h30m'),
        (["-time", "-1s"], 'invalid value "-1s" for flag -time: not a duration such as 30s or 1h30m'),
        (["-count", "-1"], 'invalid value "-1" for flag -count: it cannot be negative'),
        (["-bits", "257"], 'invalid value "257" for flag -bits: a key has 256'),
        (["-sig"], "flag provided but not defined: -sig"),
        (["more"], "unexpected argument: more"),
    ],
)
def test_wrong_flags_are_explained(arguments: list[str], complaint: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert (out, err.splitlines()[0]) == ("", complaint)
    assert "Usage of yggpy-genkeys:" in err


def test_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"]) == 0
    assert capfd.readouterr().err.startswith("Usage of yggpy-genkeys:\n")


def test_an_error_of_the_search_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(best: bytes, batches: int) -> Found | None:
        raise OSError("OpenSSL has no random bytes")

    monkeypatch.setattr(genkeys, "choose_searcher", lambda: (broken, 1, ""))
    assert main([]) == 1
    assert capfd.readouterr().err == "yggpy-genkeys: OpenSSL has no random bytes\n"


def test_an_interrupt_ends_it_as_it_ends_the_go_program() -> None:
    command = [sys.executable, "-m", "yggpy.cli.genkeys"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("Threads: ")
        assert process.stdout.readline().startswith("----- ")
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.stderr.read() == ""
        assert process.wait(30) == -signal.SIGINT


@pytest.mark.parametrize("attempt", range(5))  # threads that went on while the process ended crashed a quarter of them
def test_a_reader_that_goes_away_ends_it(attempt: int) -> None:
    command = [sys.executable, "-m", "yggpy.cli.genkeys"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (532, "532ns"),
        (1_500, "1.5µs"),
        (2_129_166, "2.129166ms"),
        (47_000_000, "47ms"),
        (1_080_372_711, "1.080372711s"),
        (60_000_000_000, "1m0s"),
        (60_500_000_000, "1m0.5s"),
        (7_203_000_000_000, "2h0m3s"),
    ],
)
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert go_duration(nanoseconds) == text


def test_python_gives_the_lowest_of_what_it_tried() -> None:
    found = search_in_python(WORST, 1)
    assert found is not None
    assert PrivateKey(found[0]).public_key == found[1]
    assert search_in_python(bytes(32), 1) is None


def test_c_and_libsodium_agree_on_random_and_on_extreme_seeds() -> None:
    native()
    from yggpy.datapath._native import key_coordinates

    extreme = [bytes(32), b"\xff" * 32, *((1 << bit).to_bytes(32, "big") for bit in range(256))]
    for seeds in ([os.urandom(32) for _ in range(BATCH_SIZE)], (extreme * 2)[:BATCH_SIZE]):
        out = key_coordinates(b"".join(seeds))
        assert len(out) == 32 * BATCH_SIZE
        for index, seed in enumerate(seeds):
            key = nacl.bindings.crypto_sign_seed_keypair(seed)[0]
            assert out[32 * index : 32 * index + 32] == key[:31] + bytes((key[31] & 0x7F,))


def test_c_finds_real_keys_and_only_lower_ones() -> None:
    native()
    from yggpy.datapath._native import search_keys

    best, found_once = WORST, False
    for _ in range(20):
        found = search_keys(best, 1)
        if found is None:
            continue
        assert PrivateKey(found[0]).public_key == found[1] < best
        best, found_once = found[1], True
    assert found_once
    assert search_keys(bytes(32), 1) is None
    assert search_keys(best, 0) is None


def test_c_refuses_wrong_sizes() -> None:
    native()
    from yggpy.datapath._native import key_coordinates, search_keys

    with pytest.raises(ValueError, match="32 bytes"):
        search_keys(bytes(31), 1)
    with pytest.raises(ValueError, match="negative"):
        search_keys(bytes(32), -1)
    with pytest.raises(ValueError, match="a batch of seeds has 16384 bytes, not 5"):
        key_coordinates(bytes(5))
