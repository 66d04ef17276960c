"""Sealing and opening: recorded packets, the cases of section 9.4, replays, malformed packets, the last nonce."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.vectors import load
from yggpy.sessions.crypto import BoxKeyPair, seal_box, shared_key
from yggpy.sessions.traffic import NonceExhausted, OpenVerdict, RatchetCase, SessionKeys, TrafficState
from yggpy.wire.session import MIN_TRAFFIC_SIZE, TrafficHeader

PACKETS = load("session_traffic")["packets"]
HOSTILE = load("session_traffic")["hostile"]
MAX = 2**64 - 1

CURRENT, NEXT = BoxKeyPair.from_private(b"\x01" * 32), BoxKeyPair.from_private(b"\x02" * 32)
RECV, SEND = BoxKeyPair.from_private(b"\x03" * 32), BoxKeyPair.from_private(b"\x04" * 32)
AFTER = BoxKeyPair.from_private(b"\x05" * 32)
INNER = b"\x09" * 32

RECEIVER = SessionKeys(
    remote_key_seq=7,
    local_key_seq=5,
    recv_shared=shared_key(CURRENT.public, RECV.private),
    send_shared=shared_key(CURRENT.public, SEND.private),
    next_send_shared=shared_key(NEXT.public, SEND.private),
    next_recv_shared=shared_key(NEXT.public, RECV.private),
    next_public=AFTER.public,
    recv_nonce=0,
    send_nonce=None,
)
CASES = {
    "A": (None, 7, 4, RECEIVER.recv_shared),
    "B": (RatchetCase.NEXT_SEND, 8, 5, RECEIVER.next_send_shared),
    "C": (RatchetCase.NEXT_RECV, 8, 4, RECEIVER.next_recv_shared),
}
UNKNOWN = [(7, 5), (7, 3), (7, 6), (6, 4), (6, 5), (9, 5), (9, 4), (8, 6), (8, 3), (0, 0), (MAX, MAX)]


def packet(case: str, nonce: int, message: bytes = b"message", inner: bytes = INNER) -> bytes:
    _, sender, receiver, shared = CASES[case]
    return TrafficHeader(sender, receiver, nonce).encode() + seal_box(inner + message, nonce, shared)


def numbers_only(local: int, remote: int) -> SessionKeys:
    return replace(RECEIVER, local_key_seq=local, remote_key_seq=remote)


@pytest.mark.parametrize("entry", PACKETS, ids=lambda e: f"nonce {e['nonce']}")
def test_recorded_packets_are_sealed_like_go(entry: dict[str, Any]) -> None:
    shared = shared_key(bytes.fromhex(entry["receiver_public"]), bytes.fromhex(entry["sender_private"]))
    assert shared.hex() == entry["shared"]
    keys = replace(
        RECEIVER,
        local_key_seq=int(entry["localKeySeq"]),
        remote_key_seq=int(entry["remoteKeySeq"]),
        send_shared=shared,
        next_public=bytes.fromhex(entry["next_public"]),
        send_nonce=int(entry["nonce"]) - 1,
    )
    state = TrafficState(keys)
    assert state.seal(bytes.fromhex(entry["message"])).hex() == entry["packet"]
    assert state.nonces[0] == int(entry["nonce"])


@pytest.mark.parametrize(
    ("entry", "case"),
    # The first key of a sender is nobody's next one.
    [(entry, case) for entry in PACKETS for case in CASES if case == "A" or int(entry["localKeySeq"]) > 0],
)
def test_recorded_packets_open_in_every_case(entry: dict[str, Any], case: str) -> None:
    shared = shared_key(bytes.fromhex(entry["sender_public"]), bytes.fromhex(entry["receiver_private"]))
    sender, receiver = int(entry["localKeySeq"]), int(entry["remoteKeySeq"])
    keys = {
        "A": replace(RECEIVER, remote_key_seq=sender, local_key_seq=receiver + 1, recv_shared=shared),
        "B": replace(RECEIVER, remote_key_seq=sender - 1, local_key_seq=receiver, next_send_shared=shared),
        "C": replace(RECEIVER, remote_key_seq=sender - 1, local_key_seq=receiver + 1, next_recv_shared=shared),
    }[case]
    opened = TrafficState(keys).open(bytes.fromhex(entry["packet"]))
    assert opened.verdict is OpenVerdict.OPENED
    assert opened.message.hex() == entry["message"]
    assert opened.next_public.hex() == entry["next_public"]
    assert opened.nonce == int(entry["nonce"])
    assert opened.case is CASES[case][0]


@pytest.mark.parametrize("entry", HOSTILE, ids=lambda e: str(e["description"])[:40])
def test_hostile_packets_are_dropped(entry: dict[str, Any]) -> None:
    hostile = bytes.fromhex(entry["packet"])
    assert len(hostile) == entry["length"] == MIN_TRAFFIC_SIZE
    state = TrafficState(replace(numbers_only(1, 0), recv_shared=bytes.fromhex(entry["shared"])))
    assert state.open(hostile).verdict is OpenVerdict.MALFORMED
    assert state.nonces == (0, 0, 0, 0)


@pytest.mark.parametrize("case", CASES)
def test_each_case_opens_and_keeps_its_own_nonces(case: str) -> None:
    state = TrafficState(RECEIVER)
    opened = state.open(packet(case, 5, b"one"))
    assert (opened.verdict, opened.message, opened.nonce) == (OpenVerdict.OPENED, b"one", 5)
    assert opened.next_public == INNER
    assert opened.case is CASES[case][0]
    expected = {"A": (0, 5, 0, 0), "B": (0, 0, 5, 0), "C": (0, 0, 0, 5)}[case]
    assert state.nonces == expected
    for nonce in (5, 4, 1, 0):
        assert state.open(packet(case, nonce)).verdict is OpenVerdict.REPLAY
    assert state.nonces == expected
    assert state.open(packet(case, 6)).verdict is OpenVerdict.OPENED
    for other in CASES:
        if other != case:
            assert state.open(packet(other, 1)).verdict is OpenVerdict.OPENED


@pytest.mark.parametrize("case", CASES)
def test_nonce_zero_is_never_accepted(case: str) -> None:
    assert TrafficState(RECEIVER).open(packet(case, 0)).verdict is OpenVerdict.REPLAY


@pytest.mark.parametrize("case", CASES)
def test_the_last_nonce_is_accepted(case: str) -> None:
    state = TrafficState(RECEIVER)
    assert state.open(packet(case, MAX)).nonce == MAX
    assert state.open(packet(case, MAX)).verdict is OpenVerdict.REPLAY


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_packet_is_a_mismatch_and_leaves_no_trace(case: str) -> None:
    state = TrafficState(RECEIVER)
    good = packet(case, 9)
    for position in range(4, len(good)):
        damaged = bytearray(good)
        damaged[position] ^= 1
        assert state.open(bytes(damaged)).verdict is OpenVerdict.MISMATCH
    assert state.nonces == (0, 0, 0, 0)
    assert state.open(good).verdict is OpenVerdict.OPENED


@pytest.mark.parametrize(("sender", "receiver"), UNKNOWN)
def test_unknown_key_numbers_are_a_mismatch(sender: int, receiver: int) -> None:
    header = TrafficHeader(sender, receiver, 1).encode()
    for _, _, _, shared in CASES.values():
        assert TrafficState(RECEIVER).open(header + seal_box(INNER, 1, shared)).verdict is OpenVerdict.MISMATCH


def test_a_mismatch_is_told_even_when_the_nonce_is_old() -> None:
    state = TrafficState(replace(RECEIVER, recv_nonce=100))
    assert state.open(packet("A", 100)).verdict is OpenVerdict.REPLAY
    assert state.open(TrafficHeader(6, 4, 1).encode() + bytes(48)).verdict is OpenVerdict.MISMATCH


def test_short_packets_are_malformed() -> None:
    state = TrafficState(RECEIVER)
    good = packet("A", 1, b"")
    assert len(good) == MIN_TRAFFIC_SIZE
    for length in range(MIN_TRAFFIC_SIZE):
        assert state.open(good[:length]).verdict is OpenVerdict.MALFORMED
    assert state.open(good).message == b""


@pytest.mark.parametrize("position", range(3))
def test_numbers_beyond_64_bits_are_malformed(position: int) -> None:
    for bad in (b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x02", b"\x80" * 200):
        parts = [b"\x01"] * position + [bad]
        assert TrafficState(RECEIVER).open(b"\x03" + b"".join(parts) + bytes(60)).verdict is OpenVerdict.MALFORMED


def test_over_long_numbers_are_read_as_go_reads_them() -> None:
    header = b"\x03" + b"\x87\x00" + b"\x84\x80\x00" + b"\x81\x80\x80\x00"
    opened = TrafficState(RECEIVER).open(header + seal_box(INNER + b"x", 1, RECEIVER.recv_shared))
    assert (opened.verdict, opened.message) == (OpenVerdict.OPENED, b"x")


@pytest.mark.parametrize("size", range(32))
def test_a_plaintext_without_room_for_the_next_key_is_dropped(size: int) -> None:
    over_long = b"".join(bytes((0x80 | number,)) + b"\x80" * 8 + b"\x00" for number in (7, 4, 1))
    state = TrafficState(RECEIVER)
    sealed = b"\x03" + over_long + seal_box(INNER[:size], 1, RECEIVER.recv_shared)
    assert state.open(sealed).verdict is OpenVerdict.MALFORMED
    assert state.nonces == (0, 0, 0, 0)


def test_key_numbers_at_their_end_do_no_harm() -> None:
    """After the highest number there is no next: traffic under it is a mismatch, which an init repairs."""
    state = TrafficState(numbers_only(5, MAX))
    assert state.open(TrafficHeader(0, 5, 1).encode() + bytes(60)).verdict is OpenVerdict.MISMATCH
    assert state.seal(b"")[1] == 5


def test_sealing_counts_from_one_and_says_who_we_are() -> None:
    state = TrafficState(RECEIVER)
    for nonce in (1, 2, 3):
        sealed = state.seal(b"hello")
        header = TrafficHeader.decode(sealed)
        assert header[:3] == (5, 7, nonce)
        assert sealed[header.box_offset :] == seal_box(AFTER.public + b"hello", nonce, RECEIVER.send_shared)


def test_the_counter_goes_on_or_begins_anew_as_told() -> None:
    state = TrafficState(RECEIVER)
    state.seal(b"")
    state.install(replace(RECEIVER, send_nonce=None))
    assert TrafficHeader.decode(state.seal(b"")).nonce == 2
    state.install(replace(RECEIVER, send_nonce=0))
    assert TrafficHeader.decode(state.seal(b"")).nonce == 1


def test_the_last_nonce_can_be_used_once() -> None:
    state = TrafficState(replace(RECEIVER, send_nonce=MAX - 1))
    assert TrafficHeader.decode(state.seal(b"last")).nonce == MAX
    for _ in range(3):
        with pytest.raises(NonceExhausted):
            state.seal(b"too many")
    assert state.nonces[0] == MAX
    state.install(replace(RECEIVER, send_nonce=0, local_key_seq=6))
    assert TrafficHeader.decode(state.seal(b"again"))[:3] == (6, 7, 1)


def test_installing_sets_the_nonce_memory_of_the_current_key() -> None:
    state = TrafficState(RECEIVER)
    state.open(packet("B", 3))
    ratcheted = replace(
        RECEIVER,
        remote_key_seq=8,
        local_key_seq=6,
        recv_shared=RECEIVER.next_send_shared,
        next_send_shared=bytes(32),
        next_recv_shared=b"\x01" * 32,
        recv_nonce=3,
        send_nonce=0,
    )
    state.install(ratcheted)
    assert state.nonces == (0, 3, 0, 0)
    assert state.open(packet("B", 3)).verdict is OpenVerdict.REPLAY
    assert state.open(packet("B", 4)).case is None


@pytest.mark.parametrize("role", ["recv_shared", "next_send_shared", "next_recv_shared"])
def test_a_key_that_stays_in_any_role_keeps_its_nonces(role: str) -> None:
    """Go forgets them at each accepted init or ack, and then takes packets that it has delivered before once more."""
    fresh = {"recv_shared": b"\x21" * 32, "next_send_shared": b"\x22" * 32, "next_recv_shared": b"\x23" * 32}
    for case, (_, _, _, shared) in CASES.items():
        state = TrafficState(RECEIVER)
        assert state.open(packet(case, 40)).verdict is OpenVerdict.OPENED
        state.install(replace(RECEIVER, recv_nonce=0, **(fresh | {role: shared})))  # type: ignore[arg-type]
        sender, receiver = {"recv_shared": (7, 4), "next_send_shared": (8, 5), "next_recv_shared": (8, 4)}[role]

        def under_its_new_role(nonce: int, sender: int = sender, to: int = receiver, key: bytes = shared) -> bytes:
            return TrafficHeader(sender, to, nonce).encode() + seal_box(INNER, nonce, key)

        assert state.open(under_its_new_role(40)).verdict is OpenVerdict.REPLAY
        assert state.open(under_its_new_role(41)).verdict is OpenVerdict.OPENED


def test_secrets_are_not_shown() -> None:
    assert RECEIVER.recv_shared.hex() not in repr(RECEIVER)
    assert repr(RECEIVER.send_shared) not in repr(RECEIVER)
