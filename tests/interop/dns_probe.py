"""Runs inside a namespace: asks a DNS server, or is a small one.

``ask SERVER PORT udp|tcp NAME/TYPE...`` prints one JSON list: for each question code, flags and records, or null when
there was no answer. ``serve PORT ADDRESS`` answers every question with that address as AAAA, by UDP and TCP.
"""

from __future__ import annotations

import json
import socketserver
import struct
import sys
import threading

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset

ASK_TIMEOUT = 4.0
"""Seconds; what is denied never answers."""


def ask(server: str, port: int, kind: str, questions: list[str]) -> list[object]:
    """Return what is printed."""
    answers: list[object] = []
    for question in questions:
        name, _, rdtype = question.partition("/")
        query = dns.message.make_query(name, rdtype or "AAAA", use_edns=0)
        try:
            if kind == "tcp":
                answer = dns.query.tcp(query, server, port=port, timeout=ASK_TIMEOUT)
            else:
                answer = dns.query.udp(query, server, port=port, timeout=ASK_TIMEOUT)
        except (dns.exception.Timeout, OSError, EOFError):
            answers.append(None)
            continue
        records = sorted(record.to_text() for rrset in answer.answer for record in rrset)
        answers.append([dns.rcode.to_text(answer.rcode()), dns.flags.to_text(answer.flags), records])
    return answers


def reply(data: bytes, address: str) -> bytes:
    """Return the answer of the small server."""
    query = dns.message.from_wire(data)
    response = dns.message.make_response(query, recursion_available=True)
    response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "AAAA", address))
    return response.to_wire()


def serve(port: int, address: str) -> None:
    """Answer until killed."""

    class Datagram(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, connection = self.request
            connection.sendto(reply(data, address), self.client_address)

    class Stream(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            (length,) = struct.unpack(">H", self.rfile.read(2))
            answer = reply(self.rfile.read(length), address)
            self.wfile.write(struct.pack(">H", len(answer)) + answer)

    udp = socketserver.UDPServer(("127.0.0.1", port), Datagram)
    tcp = socketserver.TCPServer(("127.0.0.1", port), Stream)
    threading.Thread(target=udp.serve_forever, daemon=True).start()
    print("ready", flush=True)
    tcp.serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]), sys.argv[3])
    else:
        print(json.dumps(ask(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5:])))
