"""DNS messages: from bytes to a ``Query``, and from an answer to bytes (RFC 1035, EDNS by RFC 6891). No sockets.

Whatever the bytes are, ``read_query`` returns: a query, a ready answer that says what is wrong with it, or nothing at
all. An answer of that kind is a bare header, so that junk never makes more bytes than it had.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.NS
import dns.rdtypes.ANY.OPT
import dns.rdtypes.ANY.PTR
import dns.rdtypes.ANY.SOA
import dns.rdtypes.IN.AAAA  # loaded here: after -user the process may not be able to read its own library
import dns.rrset

from yggpy.names.labels import Name
from yggpy.names.zone import Answer, Record

__all__ = [
    "MAX_QUERY",
    "MAX_UDP_ANSWER",
    "Query",
    "encode_answer",
    "encode_refusal",
    "encode_server_failure",
    "encode_truncated",
    "is_answer_to",
    "read_query",
    "with_id",
]

MAX_QUERY = 4096
"""Bytes of a query, by UDP or TCP."""
MAX_UDP_ANSWER = 1232
"""Bytes of an answer by UDP, whatever the client says it can take: no packet needs to be cut (DNS flag day 2020)."""
_PLAIN_UDP_ANSWER = 512
"""The same for a client without EDNS (RFC 1035, 4.2.1)."""
_MAX_MESSAGE = 0xFFFF
_HEADER = struct.Struct(">6H")
_KIND_AND_CLASS = 4
"""Bytes of a question behind its name."""
_RESPONSE, _RECURSION_DESIRED = 0x8000, 0x0100
_OPCODES = 0x7800
_POINTER = 0xC0
"""Begins a name's pointer to an earlier place in the message (RFC 1035, 4.1.4)."""
_OPT = b"\0" + dns.rdatatype.OPT.to_bytes(2, "big")
"""How the one record begins that may stand behind the question: EDNS."""
_NEVER_ANSWERED = frozenset((dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.MAILA, dns.rdatatype.MAILB))


@dataclass(frozen=True, slots=True)
class Query:
    """A well-formed question."""

    data: bytes
    """As it came."""
    message: dns.message.Message
    name: Name
    """In lower case."""
    kind: str
    """Type of the records, such as ``AAAA``."""
    wants_recursion: bool

    @property
    def udp_limit(self) -> int:
        """Bytes that an answer by UDP may have."""
        if self.message.edns < 0:
            return _PLAIN_UDP_ANSWER
        return min(max(self.message.payload, _PLAIN_UDP_ANSWER), MAX_UDP_ANSWER)

    @property
    def question(self) -> bytes:
        """The bytes of the question section."""
        return self.data[_HEADER.size : _question_end(self.data)]


def read_query(data: bytes) -> Query | bytes | None:
    """Return the query in a message, or the answer to what is none; None: no answer is due."""
    if len(data) < _HEADER.size:
        return None
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        return None  # an answer to an answer would go on for ever
    if flags & _OPCODES:
        return _bare(data, dns.rcode.NOTIMP)
    if questions != 1 or answers or authorities or additional > 1 or len(data) > MAX_QUERY:
        return _bare(data, dns.rcode.FORMERR)
    end = _question_end(data)
    if end is None or (additional and not data.startswith(_OPT, end)):
        return _bare(data, dns.rcode.FORMERR)
    try:
        message = dns.message.from_wire(data)
    except (dns.exception.DNSException, ValueError, struct.error):
        return _bare(data, dns.rcode.FORMERR)
    asked = message.question[0]
    if message.edns > 0:
        response = dns.message.make_response(message, our_payload=MAX_UDP_ANSWER)
        response.set_rcode(dns.rcode.BADVERS)
        return _wire(response)
    query = Query(
        data,
        message,
        tuple(label.decode("latin-1").lower() for label in asked.name.labels[:-1]),
        dns.rdatatype.to_text(asked.rdtype),
        bool(flags & _RECURSION_DESIRED),
    )
    if asked.rdclass != dns.rdataclass.IN or asked.rdtype in _NEVER_ANSWERED:
        return encode_refusal(query)
    return query


def encode_answer(query: Query, answer: Answer, *, recursion: bool, limit: int = 0) -> bytes:
    """Return the answer's bytes, at most ``limit`` if that is given. ``recursion``: whether other questions go on."""
    response = _response(query, recursion)
    response.flags |= dns.flags.AA
    if not answer.exists:
        response.set_rcode(dns.rcode.NXDOMAIN)
    for record in answer.records:
        _add(response, response.answer, query.message.question[0].name, record)
    if not answer.records:
        zone = dns.name.Name([label.encode() for label in answer.zone] + [b""])
        _add(response, response.authority, zone, answer.soa)
    wire = _wire(response)
    return encode_truncated(query, recursion=recursion) if 0 < limit < len(wire) else wire


def encode_truncated(query: Query, *, recursion: bool) -> bytes:
    """Return the answer that lets the client ask again by TCP."""
    response = _response(query, recursion)
    response.flags |= dns.flags.TC
    return _wire(response)


def encode_refusal(query: Query) -> bytes:
    """Return the answer to what this node does not answer."""
    response = _response(query, False)
    response.set_rcode(dns.rcode.REFUSED)
    return _wire(response)


def encode_server_failure(query: Query) -> bytes:
    """Return the answer for when no other resolver answers."""
    response = _response(query, True)
    response.set_rcode(dns.rcode.SERVFAIL)
    return _wire(response)


def with_id(message: bytes, number: int) -> bytes:
    """Return a message with another id (0 to 65535)."""
    return number.to_bytes(2, "big") + message[2:]


def is_answer_to(query: Query, number: int, data: bytes) -> bool:
    """Tell whether ``data`` answers what ``query`` asks, asked with the id ``number``."""
    if len(data) < _HEADER.size:
        return False
    identity, flags, questions, *_ = _HEADER.unpack_from(data)
    asked = query.question
    same = data[_HEADER.size : _HEADER.size + len(asked)].lower() == asked.lower()
    return identity == number and bool(flags & _RESPONSE) and questions == 1 and same


def _question_end(data: bytes) -> int | None:
    """Return where the question ends; None if its name has a pointer, since there is nothing but the header before it.

    It may end behind ``data``.
    """
    place = _HEADER.size
    while place < len(data) and data[place]:
        if data[place] >= _POINTER:
            return None
        place += 1 + data[place]
    return place + 1 + _KIND_AND_CLASS


def _bare(data: bytes, rcode: int) -> bytes:
    """Return an answer that is a header only."""
    identity, flags = struct.unpack_from(">2H", data)
    flags = _RESPONSE | flags & (_OPCODES | _RECURSION_DESIRED) | rcode
    return _HEADER.pack(identity, flags, 0, 0, 0, 0)


def _response(query: Query, recursion: bool) -> dns.message.Message:
    return dns.message.make_response(query.message, recursion_available=recursion, our_payload=MAX_UDP_ANSWER)


def _wire(response: dns.message.Message) -> bytes:
    # Without a size the library goes by what the client takes by UDP, and raises.
    return response.to_wire(max_size=_MAX_MESSAGE)


def _add(response: dns.message.Message, section: list[dns.rrset.RRset], owner: dns.name.Name, record: Record) -> None:
    kind = dns.rdatatype.from_text(record.kind)
    rrset = response.find_rrset(section, owner, dns.rdataclass.IN, kind, create=True)
    rrset.add(dns.rdata.from_text(dns.rdataclass.IN, kind, record.value), record.ttl)
