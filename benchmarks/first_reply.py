"""Pings until the first answer, from before there is a network: a program of its own for the start-up measurement.

``ping`` gives up at once while the address has no route; this one is started first, keeps trying, and tells the moment
of the first answer on the system's monotonic clock, which all processes share. Only the standard library.

    first_reply.py ADDRESS INTERVAL TIMEOUT     prints "ready", then the clock (seconds) at the first answer
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import time

ECHO_REQUEST, ECHO_REPLY = 128, 129


def first_reply(address: str, interval: float, timeout: float) -> float:
    """Send an ICMPv6 echo request to ``address`` every ``interval`` seconds; return the clock at the first answer.

    Raises :class:`TimeoutError` after ``timeout`` seconds. Needs root.
    """
    identifier = os.getpid() & 0xFFFF
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
        print("ready", flush=True)
        limit = time.monotonic() + timeout
        number = 0
        while (now := time.monotonic()) < limit:
            number += 1
            request = struct.pack("!BBHHH", ECHO_REQUEST, 0, 0, identifier, number & 0xFFFF)  # the kernel adds the sum
            try:
                sock.sendto(request, (address, 0))
            except OSError:  # no route yet
                time.sleep(interval)
                continue
            while (left := now + interval - time.monotonic()) > 0:
                sock.settimeout(left)
                try:
                    data, sender = sock.recvfrom(2048)
                except TimeoutError:
                    break
                if sender[0] == address and data[0] == ECHO_REPLY and data[4:6] == request[4:6]:
                    return time.monotonic()
    raise TimeoutError(f"no answer from {address} in {timeout} s")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    address, interval, timeout = arguments
    # Written the one way, to compare with where answers come from.
    canonical = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, address))
    print(first_reply(canonical, float(interval), float(timeout)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
