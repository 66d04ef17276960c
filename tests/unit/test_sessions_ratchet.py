"""Every step of the recorded exchanges between two Go session managers, done by ours from the same state.

Each step is loaded into a node as it was recorded, since fresh keys differ from run to run; what only our manager
remembers (see its docstring) goes on from step to step. ``HARDENED`` lists each step whose outcome is meant to differ.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.sessions_lab import Endpoint, kinds, read_init
from tests.unit.vectors import load
from yggpy.keys import PrivateKey
from yggpy.sessions.crypto import BoxKeyPair
from yggpy.sessions.manager import _Buffer
from yggpy.sessions.session import Session
from yggpy.sessions.traffic import SessionKeys, TrafficState
from yggpy.wire.session import InitPayload, MessageType, TrafficHeader

SCENARIOS = load("session_ratchet")["scenarios"]
KEYS = {entry["label"]: PrivateKey.from_seed(bytes.fromhex(entry["seed"])) for entry in load("session_ratchet")["keys"]}
OTHER = {"A": "B", "B": "A"}


def pair(private: str) -> BoxKeyPair:
    return BoxKeyPair.from_private(bytes.fromhex(private))


# Which recorded fields depend on a pair of our own; if that pair is fresh, they cannot be compared.
DEPENDENT = {"recv": ("recvShared", "nextRecvShared"), "send": ("sendShared", "nextSendShared"), "next": ()}

REACTION = "A gets B's reaction"
OVERFLOW = "B's nonce overflows: B ratchets its own keys and sends with nonce 0"
HARDENED: dict[str, dict[str, Any]] = {
    # An init of the same second whose keys have a higher number than those accepted before: Go ignores it and the two
    # stay out of step for the rest of the second; we accept it.
    REACTION: {"sent": ["ack"], "localKeySeq": "6", "remoteKeySeq": "1"},
    # The first nonce under the new keys: Go takes 0, which no receiver accepts, so the message is lost.
    OVERFLOW: {"sendNonce": "1"},
}
"""Steps where we do better than Go, by description, and all that differs apart from the keys."""


class Node(Endpoint):
    """An endpoint whose state can be set and read in the terms of the recordings."""

    def load(self, remote: bytes, state: dict[str, Any], now: float) -> None:
        """Take over a recorded state."""
        manager = self.manager
        if state["buffer"] is None:
            manager._buffers.clear()
        else:
            recorded = state["buffer"]
            buffer = manager._buffers.setdefault(remote, _Buffer(b"", manager._new_pairs(), now))
            buffer.message = bytes.fromhex(recorded["data"])
            buffer.local = pair(recorded["current_private"]), pair(recorded["next_private"])
            buffer.seq = int(recorded["init_seq"])
        manager._buffered_bytes = sum(len(buffer.message) for buffer in manager._buffers.values())
        if state["session"] is None:
            manager._sessions.pop(remote, None)
            self.states.pop(remote, None)
            return
        recorded = state["session"]
        session = manager._sessions.get(remote)
        current, following = bytes.fromhex(recorded["current"]), bytes.fromhex(recorded["next"])
        if session is None:
            first = InitPayload(b"", current, following, 0, int(recorded["seq"]))
            session = Session(first, manager._new_pairs(), manager._entropy, now)
            manager._remember(remote, session, now)
        session.recv, session.send, session.next = (
            pair(recorded[f"{name}_private"]) for name in ("recv", "send", "next")
        )
        session.local_key_seq, session.remote_key_seq = int(recorded["localKeySeq"]), int(recorded["remoteKeySeq"])
        session.remote_current, session.remote_next = current, following
        session.seq = int(recorded["seq"])
        session.rotated = recorded["rotated"]
        traffic = TrafficState(
            SessionKeys(
                remote_key_seq=session.remote_key_seq,
                local_key_seq=session.local_key_seq,
                recv_shared=bytes.fromhex(recorded["recvShared"]),
                send_shared=bytes.fromhex(recorded["sendShared"]),
                next_send_shared=bytes.fromhex(recorded["nextSendShared"]),
                next_recv_shared=bytes.fromhex(recorded["nextRecvShared"]),
                next_public=session.next.public,
                recv_nonce=int(recorded["recvNonce"]),
                send_nonce=int(recorded["sendNonce"]),
            )
        )
        traffic._next_send_nonce = int(recorded["nextSendNonce"])
        traffic._next_recv_nonce = int(recorded["nextRecvNonce"])
        self.states[remote] = traffic

    def snapshot(self, remote: bytes) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return session and buffer in the form of the recordings, without rx and tx, which are the data plane's."""
        buffer = self.manager._buffers.get(remote)
        recorded_buffer = (
            None
            if buffer is None
            else {
                "data": buffer.message.hex(),
                "current_private": buffer.local[0].private.hex(),
                "next_private": buffer.local[1].private.hex(),
                "init_keySeq": "0",
                "init_seq": str(buffer.seq),
            }
        )
        session = self.manager._sessions.get(remote)
        if session is None:
            assert remote not in self.states
            return None, recorded_buffer
        traffic = self.states[remote]
        keys = traffic._keys
        assert (keys.local_key_seq, keys.remote_key_seq) == (session.local_key_seq, session.remote_key_seq)
        assert keys.next_public == session.next.public
        sent, current, next_send, next_recv = traffic.nonces
        recorded = {
            "seq": session.seq,
            "localKeySeq": session.local_key_seq,
            "remoteKeySeq": session.remote_key_seq,
            "sendNonce": sent,
            "recvNonce": current,
            "nextSendNonce": next_send,
            "nextRecvNonce": next_recv,
        }
        return {
            **{name: str(value) for name, value in recorded.items()},
            "rotated": None if session.rotated is None else int(session.rotated),
            "current": session.remote_current.hex(),
            "next": session.remote_next.hex(),
            "recvShared": keys.recv_shared.hex(),
            "sendShared": keys.send_shared.hex(),
            "nextSendShared": keys.next_send_shared.hex(),
            "nextRecvShared": keys.next_recv_shared.hex(),
            **{
                f"{name}_{half}": getattr(getattr(session, name), half).hex()
                for name in ("recv", "send", "next")
                for half in ("private", "public")
            },
        }, recorded_buffer


def fresh_fields(step: dict[str, Any]) -> set[str]:
    """Return the fields of the session after ``step`` that come from randomness drawn in it."""
    known = {
        value
        for part in step["state_before"].values()
        if part is not None
        for name, value in part.items()
        if name.endswith("_private")
    }
    after = step["state_after"]["session"]
    fields: set[str] = set()
    for name, dependent in DEPENDENT.items():
        if after[f"{name}_private"] not in known:
            fields |= {f"{name}_private", f"{name}_public", *dependent}
    return fields


def check_session(step: dict[str, Any], ours: dict[str, Any] | None) -> None:
    recorded = step["state_after"]["session"]
    if recorded is None or ours is None:
        assert ours is recorded is None
        return
    assert set(ours) == set(recorded) - {"rx", "tx"}
    hardened = HARDENED.get(step["description"], {})
    expected = recorded | {name: value for name, value in hardened.items() if name in recorded}
    compared = set(ours) - fresh_fields(step)
    if step["description"] == REACTION:
        init = read_init(KEYS[step["node"]], bytes.fromhex(step["packet"]))
        assert (ours["current"], ours["next"]) == (init.current.hex(), init.next.hex())
        before = step["state_before"]["session"]
        assert (ours["recv_private"], ours["send_private"]) == (before["send_private"], before["next_private"])
        compared -= {name for name in compared if "hared" in name or "_p" in name or name in ("current", "next")}
    assert {name: ours[name] for name in compared} == {name: expected[name] for name in compared}


def check_buffer(step: dict[str, Any], ours: dict[str, Any] | None) -> None:
    recorded = step["state_after"]["buffer"]
    if recorded is None or ours is None:
        assert ours is recorded is None
        return
    fresh = {"current_private", "next_private"} if step["state_before"]["buffer"] is None else set()
    assert set(ours) == set(recorded)
    assert {n: v for n, v in ours.items() if n not in fresh} == {n: v for n, v in recorded.items() if n not in fresh}


def check_sent(step: dict[str, Any], remote: PrivateKey, ours: list[bytes], after: dict[str, Any] | None) -> None:
    """Compare what went out: inits and acks as far as their keys are known, traffic to the byte if all keys are."""
    hardened = HARDENED.get(step["description"], {})
    recorded = [bytes.fromhex(sent["message"]) for sent in step["sent"]]
    assert kinds(ours) == hardened.get("sent", [sent["kind"] for sent in step["sent"]])
    known_keys = after is not None and not fresh_fields(step)
    for mine, theirs in zip(ours, recorded, strict=False):
        if mine[0] != MessageType.TRAFFIC:
            payload, expected = read_init(remote, mine), read_init(remote, theirs)
            assert (payload.key_seq, payload.seq) == (expected.key_seq, expected.seq)
            if known_keys:
                assert (payload.current, payload.next) == (expected.current, expected.next)
            elif after is not None:
                assert (payload.current.hex(), payload.next.hex()) == (after["send_public"], after["next_public"])
        elif step["description"] == OVERFLOW:
            assert TrafficHeader.decode(theirs)[:3] == (*TrafficHeader.decode(mine)[:2], 0)
            assert TrafficHeader.decode(mine).nonce == 1
        elif known_keys:
            assert mine == theirs
        else:
            assert TrafficHeader.decode(mine) == TrafficHeader.decode(theirs)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: str(s["description"]))
def test_every_step_ends_as_recorded(scenario: dict[str, Any]) -> None:
    nodes = {label: Node(KEYS[label]) for label in KEYS}
    for step in scenario["steps"]:
        node, remote, now = nodes[step["node"]], KEYS[OTHER[step["node"]]], float(step["time"])
        node.load(remote.public_key, step["state_before"], now)
        if step["event"] == "write":
            sent = node.write(remote.public_key, bytes.fromhex(step["message"]), now)
        else:
            sent = node.receive(remote.public_key, bytes.fromhex(step["packet"]), now)
        session, buffer = node.snapshot(remote.public_key)
        assert [message.hex() for message in node.messages()] == step["delivered"], step["description"]
        check_session(step, session)
        check_buffer(step, buffer)
        check_sent(step, remote, sent, session)


def test_every_hardened_step_is_recorded_once() -> None:
    descriptions = [step["description"] for scenario in SCENARIOS for step in scenario["steps"]]
    assert [descriptions.count(description) for description in HARDENED] == [1] * len(HARDENED)


def test_the_state_after_is_the_state_before_the_next_step_of_a_node() -> None:
    """Between two steps nothing happened but what their descriptions tell: a counter was set, a session lost."""
    told = ("B's sendNonce was set", "B lost its session", "B has no session")
    for scenario in SCENARIOS:
        last: dict[str, Any] = {}
        for step in scenario["steps"]:
            before = last.get(step["node"])
            if before is not None and before != step["state_before"]:
                assert step["description"].startswith(told), step["description"]
            last[step["node"]] = step["state_after"]
