"""Sends and receives inside a namespace, run as a program of its own; only the standard library, so it starts at once.

Each verb prints one JSON object when it is done. ``tcp-receive`` and ``udp-receive`` first print a line ``ready``.

    traffic.py tcp-receive PORT               accept one connection: {"bytes", "sha256", "seconds"}
    traffic.py tcp-send ADDRESS PORT BYTES    send that much: {"bytes", "sha256"}
    traffic.py udp-receive PORT SECONDS SENDERS   collect, never answer, until that many senders were heard:
                                              {"received": {sender: {"first", "after"}}}
    traffic.py udp-send PORT COUNT INTERVAL SIZE ADDRESS...   send numbered datagrams to all: {"sent"}
"""

from __future__ import annotations

import hashlib
import json
import random
import socket
import sys
import time

BLOCK = 64 * 1024
IDLE_LIMIT = 60.0
"""Seconds without a byte after which a transfer counts as dead."""
CONNECT_LIMIT = 30.0


def _print(value: object) -> None:
    print(json.dumps(value), flush=True)


def tcp_receive(port: int) -> None:
    """Accept one connection, read it to its end, answer with one byte."""
    with socket.create_server(("::", port), family=socket.AF_INET6) as server:
        server.settimeout(IDLE_LIMIT)
        print("ready", flush=True)
        connection, _ = server.accept()
        connection.settimeout(IDLE_LIMIT)
        digest, total, started = hashlib.sha256(), 0, time.monotonic()
        with connection:
            while data := connection.recv(BLOCK):
                digest.update(data)
                total += len(data)
            seconds = time.monotonic() - started
            connection.sendall(b"!")
    _print({"bytes": total, "sha256": digest.hexdigest(), "seconds": seconds})


def tcp_send(address: str, port: int, size: int) -> None:
    """Send ``size`` bytes that don't repeat, then wait for the receiver's byte."""
    generator, digest = random.Random(size), hashlib.sha256()
    with socket.create_connection((address, port), timeout=CONNECT_LIMIT) as connection:
        connection.settimeout(IDLE_LIMIT)
        left = size
        while left:
            data = generator.randbytes(min(BLOCK, left))
            digest.update(data)
            connection.sendall(data)
            left -= len(data)
        connection.shutdown(socket.SHUT_WR)
        if connection.recv(1) != b"!":
            raise SystemExit("the receiver closed before it had all")
    _print({"bytes": size, "sha256": digest.hexdigest()})


def udp_receive(port: int, seconds: float, senders: int) -> None:
    """Listen for that long, or until as many senders were heard; tell the number of each one's first, and its time."""
    received: dict[str, dict[str, float]] = {}
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("::", port))
        print("ready", flush=True)
        started = time.monotonic()
        while len(received) < senders and (left := started + seconds - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                data, sender = sock.recvfrom(65536)
            except TimeoutError:
                break
            number = int.from_bytes(data[:4], "big")
            received.setdefault(sender[0], {"first": number, "after": time.monotonic() - started})
    _print({"received": received})


def udp_send(port: int, count: int, interval: float, size: int, addresses: list[str]) -> None:
    """Send ``count`` rounds of one datagram to each address, without ever reading an answer."""
    failed = 0
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        started = time.monotonic()
        for number in range(count):
            data = number.to_bytes(4, "big").ljust(size, b"\0")
            for address in addresses:
                try:
                    sock.sendto(data, (address, port))
                except OSError:
                    failed += 1
            time.sleep(max(0.0, started + (number + 1) * interval - time.monotonic()))
    _print({"sent": count, "failed": failed})


def main(arguments: list[str]) -> None:
    """Carry out one verb."""
    match arguments:
        case ["tcp-receive", port]:
            tcp_receive(int(port))
        case ["tcp-send", address, port, size]:
            tcp_send(address, int(port), int(size))
        case ["udp-receive", port, seconds, senders]:
            udp_receive(int(port), float(seconds), int(senders))
        case ["udp-send", port, count, interval, size, *addresses]:
            udp_send(int(port), int(count), float(interval), int(size), addresses)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
