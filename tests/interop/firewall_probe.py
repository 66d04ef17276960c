"""Sends to and listens on ports inside a namespace, for ``test_firewall.py``; prints one JSON value.

firewall_probe serve tcp|udp SECONDS PORT...        answers whatever comes, until it is ended
firewall_probe ask tcp|udp ADDRESS SECONDS PORT...  prints the ports that answered
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def serve(kind: str, seconds: float, ports: list[int]) -> None:
    """Answer each connection or datagram with two bytes, on all addresses."""
    selector = selectors.DefaultSelector()
    for port in ports:
        sock = socket.socket(socket.AF_INET6, _KINDS[kind])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::", port))
        if kind == "tcp":
            sock.listen()
        selector.register(sock, selectors.EVENT_READ)
    print(json.dumps("ready"), flush=True)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for key, _ in selector.select(timeout=0.5):
            ready = key.fileobj
            assert isinstance(ready, socket.socket)
            if kind == "tcp":
                connection, _ = ready.accept()
                with connection:
                    connection.sendall(b"ok")
            else:
                _, sender = ready.recvfrom(100)
                ready.sendto(b"ok", sender)


def ask(kind: str, address: str, seconds: float, ports: list[int]) -> None:
    """Print the ports that answer within that time; all are asked at once."""

    def answers(port: int) -> bool:
        with socket.socket(socket.AF_INET6, _KINDS[kind]) as sock:
            sock.settimeout(seconds)
            try:
                sock.connect((address, port))
                if kind == "udp":
                    sock.send(b"hello")
                return sock.recv(2) == b"ok"
            except OSError:
                return False

    with ThreadPoolExecutor(len(ports)) as pool:
        answered = [port for port, answer in zip(ports, pool.map(answers, ports), strict=True) if answer]
    print(json.dumps(answered), flush=True)


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    if arguments[0] == "serve":
        serve(arguments[1], float(arguments[2]), [int(port) for port in arguments[3:]])
    else:
        ask(arguments[1], arguments[2], float(arguments[3]), [int(port) for port in arguments[4:]])


if __name__ == "__main__":
    main(sys.argv[1:])
