"""DNS messages: what is read, what is refused and how, what is sent."""

from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest

from yggpy.dns.message import (
    MAX_QUERY,
    MAX_UDP_ANSWER,
    Query,
    encode_answer,
    encode_refusal,
    encode_server_failure,
    encode_truncated,
    is_answer_to,
    read_query,
    with_id,
)
from yggpy.names.zone import Answer, Record

SOA = Record("SOA", 5, "a.ygg. hostmaster.ygg. 7 3600 600 86400 5")


def query_of(name: str = "Web.YGG", kind: str = "AAAA", *, edns: int | None = None) -> Query:
    message = dns.message.make_query(name, kind)
    if edns is not None:
        message.use_edns(0, payload=edns)
    query = read_query(message.to_wire())
    assert isinstance(query, Query)
    return query


def test_a_query_is_read() -> None:
    query = query_of()
    assert (query.name, query.kind, query.wants_recursion) == (("web", "ygg"), "AAAA", True)
    assert query.question == b"\3Web\3YGG\0\0\x1c\0\1"
    assert query_of(".", "NS").name == ()
    assert query_of("a.ygg", "TYPE65280").kind == "TYPE65280"


@pytest.mark.parametrize(
    ("edns", "limit"),
    [(None, 512), (0, 512), (600, 600), (1232, 1232), (4096, MAX_UDP_ANSWER), (65535, MAX_UDP_ANSWER)],
)
def test_how_much_a_client_takes(edns: int | None, limit: int) -> None:
    assert query_of(edns=edns).udp_limit == limit


def refused_as(data: bytes) -> int:
    answer = read_query(data)
    assert isinstance(answer, bytes) and len(answer) <= max(len(data), 12)
    message = dns.message.from_wire(answer)
    assert answer[:2] == data[:2] and message.flags & dns.flags.QR and not message.answer
    return message.rcode()


def test_what_is_no_query() -> None:
    good = dns.message.make_query("a.ygg", "AAAA").to_wire()
    for length in range(12):
        assert read_query(good[:length]) is None
    assert read_query(good[:2] + b"\x80" + good[3:]) is None  # an answer
    for length in range(12, len(good)):
        assert refused_as(good[:length]) == dns.rcode.FORMERR
    assert refused_as(good + b"\0") == dns.rcode.FORMERR
    assert refused_as(good[:4] + b"\0\2" + good[6:]) == dns.rcode.FORMERR  # two questions
    assert refused_as(good[:4] + b"\0\0" + good[6:12]) == dns.rcode.FORMERR  # none
    assert refused_as(good[:6] + b"\0\1" + good[8:]) == dns.rcode.FORMERR  # with an answer
    assert refused_as(good[:12] + b"\xc0\x0c\0\x1c\0\1") == dns.rcode.FORMERR  # a name that points at itself
    assert refused_as(good + bytes(MAX_QUERY)) == dns.rcode.FORMERR
    for opcode in (1, 2, 4, 5, 15):
        assert refused_as(good[:2] + bytes([good[2] | opcode << 3]) + good[3:]) == dns.rcode.NOTIMP


@pytest.mark.parametrize("pointer", [b"\xc0\0", b"\1a\xc0\2", b"\xc0\x0b", b"\xff\xff"])
def test_a_question_whose_name_points_into_the_header(pointer: bytes) -> None:
    """With another id, as the forwarder gives it, the name would be another one."""
    assert refused_as(b"\1a\0\0\0\1\0\0\0\0\0\0" + pointer + b"\0\x1c\0\1") == dns.rcode.FORMERR


def test_of_records_behind_the_question_only_edns_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library loads a module for each type, from files that it may not be allowed to read after ``-user``."""
    monkeypatch.setattr(dns.rdata, "import_module", lambda name: pytest.fail(f"loads {name}"))
    plain = dns.message.make_query("a.ygg", "AAAA", use_edns=False).to_wire()
    with_one, with_two = plain[:11] + b"\1" + plain[12:], plain[:11] + b"\2" + plain[12:]
    opt = b"\0\0\x29\4\xd0\0\0\0\0\0\0"
    assert isinstance(read_query(with_one + opt), Query)
    for kind in range(300):
        record = b"\0" + kind.to_bytes(2, "big") + b"\0\1\0\0\0\0\0\0"
        if kind != dns.rdatatype.OPT:
            assert refused_as(with_one + record) == dns.rcode.FORMERR
            assert refused_as(with_two + opt + record) == dns.rcode.FORMERR
    assert refused_as(with_two + opt + opt) == dns.rcode.FORMERR
    assert refused_as(with_one + b"\1a" + opt) == dns.rcode.FORMERR


def test_other_versions_classes_and_transfers() -> None:
    message = dns.message.make_query("a.ygg", "AAAA", use_edns=1)
    answer = read_query(message.to_wire())
    assert isinstance(answer, bytes)
    assert dns.message.from_wire(answer).rcode() == dns.rcode.BADVERS
    for name, kind, rdclass in (("version.bind", "TXT", "CH"), ("a.ygg", "AXFR", "IN"), ("a.ygg", "IXFR", "IN")):
        answer = read_query(dns.message.make_query(name, kind, rdclass).to_wire())
        assert isinstance(answer, bytes), kind
        assert dns.message.from_wire(answer).rcode() == dns.rcode.REFUSED


def test_an_answer() -> None:
    query = query_of(edns=1400)
    records = (Record("AAAA", 60, "200::1"), Record("AAAA", 60, "300::1"))
    wire = encode_answer(query, Answer(True, records, ("ygg",), SOA), recursion=True, limit=query.udp_limit)
    message = dns.message.from_wire(wire)
    assert query.message.is_response(message)
    assert message.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
    assert message.rcode() == dns.rcode.NOERROR and message.edns == 0 and not message.authority
    shown = sorted(message.answer[0].to_text().splitlines())
    assert shown == ["Web.YGG. 60 IN AAAA 200::1", "Web.YGG. 60 IN AAAA 300::1"]
    plain = dns.message.from_wire(encode_answer(query_of(), Answer(True, records, ("ygg",), SOA), recursion=False))
    assert plain.edns == -1 and not plain.flags & dns.flags.RA


@pytest.mark.parametrize("exists", [True, False])
def test_an_answer_without_records(exists: bool) -> None:
    message = dns.message.from_wire(encode_answer(query_of(), Answer(exists, (), ("ygg",), SOA), recursion=False))
    assert message.rcode() == (dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN)
    assert message.answer == []
    assert [rrset.to_text().lower() for rrset in message.authority] == [f"ygg. 5 in soa {SOA.value}"]


def test_what_does_not_fit_is_truncated() -> None:
    query = query_of(edns=512)
    records = tuple(Record("AAAA", 60, f"300::{number}") for number in range(100))
    answer = Answer(True, records, ("ygg",), SOA)
    wire = encode_answer(query, answer, recursion=False, limit=query.udp_limit)
    message = dns.message.from_wire(wire)
    assert message.flags & dns.flags.TC and message.answer == [] and len(wire) < 512
    assert len(dns.message.from_wire(encode_answer(query, answer, recursion=False)).answer[0]) == 100


def test_refusals() -> None:
    query = query_of()
    for wire, rcode in (
        (encode_refusal(query), dns.rcode.REFUSED),
        (encode_server_failure(query), dns.rcode.SERVFAIL),
        (encode_truncated(query, recursion=False), dns.rcode.NOERROR),
    ):
        message = dns.message.from_wire(wire)
        assert query.message.is_response(message) and message.rcode() == rcode and not message.flags & dns.flags.AA


def test_whose_answer_it_is() -> None:
    query = query_of()
    answer = dns.message.make_response(query.message).to_wire()
    number = int.from_bytes(query.data[:2], "big")
    assert is_answer_to(query, number, answer)
    assert is_answer_to(query, 7, with_id(answer, 7))
    assert is_answer_to(query, number, answer.replace(b"Web", b"wEB"))
    assert not is_answer_to(query, number ^ 1, answer)
    assert not is_answer_to(query, number, query.data)
    assert not is_answer_to(query, number, answer.replace(b"Web", b"Wab"))
    assert not is_answer_to(query, number, answer[:-1])
    assert not is_answer_to(query, number, answer[:11])
