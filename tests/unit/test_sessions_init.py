"""Inits and acks: what the manager makes of recorded ones, refuses, and sends itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sessions_lab import START, Endpoint, kinds, make_init, private_key, read_init
from tests.unit.vectors import load
from yggpy.keys import PrivateKey, verify
from yggpy.sessions.crypto import BoxKeyPair, box_public_key, group_preimage, open_box, seal_box, shared_key
from yggpy.wire.session import INIT_SIZE, InitMessage, InitPayload, MessageType

INITS = load("session_init")["messages"]
MALFORMED = load("session_init")["malformed"]
SEEDS = {entry["label"]: bytes.fromhex(entry["seed"]) for entry in load("session_init")["keys"]}
VERDICTS = [(message, verdict) for message in INITS for verdict in message["open"]]

A, B = private_key(1), private_key(2)
PAIR_1, PAIR_2 = BoxKeyPair.from_private(b"\x11" * 32), BoxKeyPair.from_private(b"\x22" * 32)


def node(label: str, password: str = "") -> Endpoint:
    return Endpoint(PrivateKey.from_seed(SEEDS[label]), password.encode())


def init_for(receiver: PrivateKey, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {"current": PAIR_1.public, "following": PAIR_2.public, "seq": int(START)}
    return make_init(A, receiver.public_key, **(arguments | changes))


@pytest.mark.parametrize("entry", INITS, ids=lambda e: str(e["description"]))
def test_recorded_messages_can_be_made_again(entry: dict[str, Any]) -> None:
    sender, receiver = PrivateKey.from_seed(SEEDS[entry["sender"]]), PrivateKey.from_seed(SEEDS[entry["receiver"]])
    ephemeral = BoxKeyPair.from_private(bytes.fromhex(entry["eph_private"]))
    assert ephemeral.public.hex() == entry["eph_public"]
    assert shared_key(box_public_key(receiver.public_key), ephemeral.private).hex() == entry["shared"]
    made = make_init(
        sender,
        receiver.public_key,
        current=bytes.fromhex(entry["current"]),
        following=bytes.fromhex(entry["next"]),
        seq=int(entry["seq"]),
        key_seq=int(entry["keySeq"]),
        message_type=MessageType(int(entry["type"])),
        preimage=group_preimage(entry["group_password"].encode()),
        ephemeral=ephemeral,
    )
    assert made.hex() == entry["message"]


@pytest.mark.parametrize(
    ("entry", "verdict"), VERDICTS, ids=[f"{m['description']} / {v['receiver']}" for m, v in VERDICTS]
)
def test_recorded_messages_are_accepted_by_whom_go_says(entry: dict[str, Any], verdict: dict[str, Any]) -> None:
    receiver = node(entry["receiver"], verdict["receiver_group_password"])
    source = bytes.fromhex(verdict["source_key"])
    sent = receiver.receive(source, bytes.fromhex(entry["message"]), START)
    if not verdict["accepted"]:
        assert sent == []
        assert receiver.manager.sessions() == []
        assert receiver.states == {}
        return
    assert receiver.manager.sessions() == [(source, START)]
    assert kinds(sent) == ["ack"]
    answer = read_init(PrivateKey.from_seed(SEEDS[entry["sender"]]), sent[0])
    assert (answer.key_seq, answer.seq) == (1, int(START))
    preimage = group_preimage(verdict["receiver_group_password"].encode())
    signed = answer.signed_bytes(preimage, InitMessage.decode(sent[0]).eph_pub)
    assert verify(receiver.public, signed, answer.signature)


@pytest.mark.parametrize("entry", MALFORMED, ids=lambda e: str(e["description"]))
def test_malformed_messages_are_accepted_when_go_does(entry: dict[str, Any]) -> None:
    receiver = node("B")
    source = PrivateKey.from_seed(SEEDS["A"]).public_key
    sent = receiver.receive(source, bytes.fromhex(entry["message"]), START)
    assert bool(receiver.manager.sessions()) is entry["accepted"]
    assert kinds(sent) == (["ack"] if entry["accepted"] else [])


def test_whatever_is_no_init_or_ack_is_ignored() -> None:
    receiver = Endpoint(B)
    good = init_for(B)
    for payload in (b"", b"\x00", b"\x00" + good[1:], b"\x04" + good[1:], b"\xff" * INIT_SIZE, good[:-1], good + b"\0"):
        assert receiver.receive(A.public_key, payload, START) == []
    assert receiver.manager.sessions() == []
    receiver.manager.handle_message(A.public_key, b"\x03" + good[1:], START)
    assert receiver.manager.take_effects() == []


@pytest.mark.parametrize("position", range(1, INIT_SIZE, 7))
def test_any_changed_byte_is_noticed(position: int) -> None:
    receiver = Endpoint(B)
    damaged = bytearray(init_for(B))
    damaged[position] ^= 0x40
    assert receiver.receive(A.public_key, bytes(damaged), START) == []
    assert receiver.manager.sessions() == []


def test_a_box_with_another_length_inside_cannot_be_made_to_fit() -> None:
    """The layout fixes the length of the box; a payload signed for something else does not pass as an init."""
    ephemeral = BoxKeyPair.from_private(b"\x77" * 32)
    box = seal_box(bytes(144), 0, shared_key(box_public_key(B.public_key), ephemeral.private))
    receiver = Endpoint(B)
    assert receiver.receive(A.public_key, InitMessage(MessageType.INIT, ephemeral.public, box).encode(), START) == []
    assert receiver.manager.sessions() == []


def test_the_signature_binds_the_ephemeral_key() -> None:
    """Whoever can open an init cannot pass it on to a third node."""
    opened = read_init(B, init_for(B))
    ephemeral = BoxKeyPair.from_private(b"\x66" * 32)
    third = private_key(3)
    box = seal_box(opened.encode(), 0, shared_key(box_public_key(third.public_key), ephemeral.private))
    receiver = Endpoint(third)
    assert receiver.receive(A.public_key, InitMessage(MessageType.INIT, ephemeral.public, box).encode(), START) == []
    assert receiver.manager.sessions() == []


@pytest.mark.parametrize("weak", [bytes(32), (1).to_bytes(32, "little")])
def test_weak_keys_make_no_session(weak: bytes) -> None:
    receiver = Endpoint(B)
    for changes in ({"current": weak}, {"following": weak}):
        assert receiver.receive(A.public_key, init_for(B, **changes), START) == []
    assert receiver.manager.sessions() == []
    assert receiver.states == {}


def test_weak_keys_leave_a_session_as_it_is() -> None:
    receiver = Endpoint(B)
    receiver.receive(A.public_key, init_for(B), START)
    before = receiver.states[A.public_key].nonces
    for changes in ({"current": bytes(32)}, {"following": bytes(32)}):
        assert receiver.receive(A.public_key, init_for(B, seq=int(START) + 5, **changes), START + 5) == []
    assert receiver.states[A.public_key].nonces == before
    # The seq of the refused ones was not taken either.
    assert kinds(receiver.receive(A.public_key, init_for(B, seq=int(START) + 1), START + 5)) == ["ack"]


def test_a_weak_ephemeral_key_is_refused() -> None:
    message = bytearray(init_for(B))
    message[1:33] = bytes(32)
    receiver = Endpoint(B)
    assert receiver.receive(A.public_key, bytes(message), START) == []


def test_nothing_can_be_sent_to_a_key_that_converts_to_a_weak_one() -> None:
    sender = Endpoint(A)
    neutral = (1).to_bytes(32, "little")
    assert sender.write(neutral, b"message", START) == []
    assert sender.receive(neutral, b"\x03", START) == []


def test_our_init_is_what_the_protocol_says() -> None:
    sender = Endpoint(A, b"password")
    (first,) = sender.write(B.public_key, b"message", START + 0.9)
    (second,) = sender.write(B.public_key, b"message", START + 0.95)
    assert len(first) == INIT_SIZE
    assert first[0] == MessageType.INIT
    one, two = read_init(B, first), read_init(B, second)
    assert InitMessage.decode(first).eph_pub != InitMessage.decode(second).eph_pub
    assert (one.key_seq, one.seq) == (0, int(START))
    assert (one.current, one.next, one.key_seq, one.seq) == (two.current, two.next, two.key_seq, two.seq)
    assert one.current != one.next
    signed = one.signed_bytes(group_preimage(b"password"), InitMessage.decode(first).eph_pub)
    assert verify(A.public_key, signed, one.signature)


def test_payloads_open_for_their_receiver_only() -> None:
    (message,) = Endpoint(A).write(B.public_key, b"message", START)
    envelope = InitMessage.decode(message)
    assert isinstance(read_init(B, message), InitPayload)
    assert open_box(envelope.box, 0, shared_key(envelope.eph_pub, private_key(3).seed)) is None


def test_different_group_passwords_never_get_a_session() -> None:
    one, two = Endpoint(A, b"one"), Endpoint(B, b"two")
    for second in range(5):
        for payload in one.write(B.public_key, b"message", START + second):
            assert two.receive(A.public_key, payload, START + second) == []
    assert two.manager.sessions() == one.manager.sessions() == []
