"""The DNS responder and the names in it: whatever bytes come, there is an answer that can be read, or none."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

import dns.message
import dns.rcode
from hypothesis import given, settings
from hypothesis import strategies as st

from yggpy.config.dns import DnsConfig
from yggpy.dns.message import MAX_UDP_ANSWER, Query, read_query
from yggpy.dns.service import DnsService
from yggpy.names.claims import Claims, NameRules, announced_name
from yggpy.names.labels import MAX_LABEL, key_labels, parse_name
from yggpy.routing.limits import PerSecond

OWN, ALICE, BOB, EVE = (bytes([number]) * 32 for number in (1, 2, 3, 4))
SECTION = DnsConfig(
    listen=(), hosts={"db": ("300::1", ALICE.hex()), "www.shop": ("200::1",)}, pins={"web": BOB.hex()}
)


async def never(key: bytes) -> bytes:
    raise AssertionError("nobody is to be asked")


def responder() -> DnsService:
    made = DnsService(SECTION, OWN, "me", never, lambda address: EVE, logging.getLogger("fuzz"), lambda: 0.0)
    made._may_come = lambda name: False  # type: ignore[method-assign]
    made._queries = PerSecond(1 << 62)
    return made


RESPONDER = responder()
LABELS = st.one_of(
    st.binary(min_size=1, max_size=63),
    st.sampled_from([b"ygg", b"YGG", b"pk", b"db", b"Web", b"shop", b"ip6", b"arpa", b"0", b"2", b"3", b"g", b"\xff"]),
    st.sampled_from([label.encode() for label in key_labels(EVE)]),
)


def name_of(labels: list[bytes]) -> bytes:
    name = b""
    for label in labels:
        if len(name) + len(label) + 2 > 255:
            break
        name += bytes([len(label)]) + label
    return name + b"\0"


def check(data: bytes, answer: bytes | Awaitable[bytes] | None) -> None:
    if answer is None:
        return
    assert isinstance(answer, bytes)
    message = dns.message.from_wire(answer)
    assert answer[:2] == data[:2] and answer[2] & 0x80
    assert len(answer) <= MAX_UDP_ANSWER
    if not isinstance(read_query(data), Query) and message.edns < 0:
        assert len(answer) <= len(data)


@given(st.binary(max_size=600))
@settings(max_examples=400, deadline=None)
def test_any_bytes(data: bytes) -> None:
    check(data, RESPONDER.answer(data, stream=False))


@given(st.binary(min_size=4, max_size=4), st.tuples(*[st.integers(0, 3)] * 4), st.binary(max_size=300))
@settings(max_examples=400, deadline=None)
def test_any_bytes_behind_a_header(head: bytes, counts: tuple[int, ...], rest: bytes) -> None:
    flags = bytes([head[2] & 0x07, head[3]])
    data = head[:2] + flags + b"".join(count.to_bytes(2, "big") for count in counts) + rest
    check(data, RESPONDER.answer(data, stream=False))


@given(
    st.integers(0, 0xFFFF),
    st.lists(LABELS, max_size=40),
    st.one_of(st.sampled_from([1, 2, 6, 12, 28, 255]), st.integers(0, 0xFFFF)),
    st.one_of(st.just(1), st.integers(0, 0xFFFF)),
    st.one_of(st.just(b""), st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=40))),
)
@settings(max_examples=600, deadline=None)
def test_any_question(
    number: int, labels: list[bytes], kind: int, rdclass: int, edns: bytes | tuple[int, bytes]
) -> None:
    question = name_of(labels) + kind.to_bytes(2, "big") + rdclass.to_bytes(2, "big")
    additional = b""
    if isinstance(edns, tuple):
        payload, options = edns
        additional = b"\0\0\x29" + payload.to_bytes(2, "big") + bytes(4) + len(options).to_bytes(2, "big") + options
    counts = b"\0\1\0\0\0\0" + (b"\0\1" if additional else b"\0\0")
    data = number.to_bytes(2, "big") + b"\1\0" + counts + question + additional
    answer = RESPONDER.answer(data, stream=False)
    assert answer is not None
    check(data, answer)
    assert isinstance(answer, bytes)
    message = dns.message.from_wire(answer)
    for rrset in message.answer:
        assert rrset.name == message.question[0].name


NAMES = st.one_of(st.text(), st.sampled_from(["web", "DB", "me", "x"]))


@given(st.lists(st.tuples(st.sampled_from([OWN, ALICE, BOB, EVE]), NAMES)))
@settings(max_examples=300, deadline=None)
def test_no_order_of_announcements_steals_a_name(announcements: list[tuple[bytes, str]]) -> None:
    rules = NameRules({("db",): (OWN,)}, {("web",): BOB}, (ALICE, BOB))
    claims = Claims(OWN, rules, "me")
    for now, (key, name) in enumerate(announcements):
        before = dict(claims.hosts)
        claims.announce(key, name, float(now))
        for labels, hosts in before.items():
            # Who has a name keeps it, unless it is he who has just spoken.
            assert hosts[0].key == key or claims.hosts.get(labels) == hosts
        for labels, hosts in claims.hosts.items():
            assert hosts[0].key != EVE
            assert parse_name(".".join(labels)) == labels and all(len(label) <= MAX_LABEL for label in labels)
    assert claims.hosts[("db",)][0].key == OWN and claims.hosts[("me",)][0].key == OWN
    assert ("web",) not in claims.hosts or claims.hosts[("web",)][0].key == BOB


@given(st.binary(max_size=200))
def test_any_node_info(info: bytes) -> None:
    assert isinstance(announced_name(info), str)
