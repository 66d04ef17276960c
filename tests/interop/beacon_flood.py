"""A bad neighbour: sends valid multicast beacons with ever new keys and ports, from many link-local addresses.

Runs as a program inside a namespace: ``beacon_flood.py INTERFACE SECONDS ADDRESSES RATE``. So many addresses,
fe80::bad:1 and so on, must be the interface's; RATE is beacons a second, 0 for as many as can be. Prints how many
beacons it sent. The layout is that of protocol section 12, with an empty password.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct
import sys
import time

GROUP, PORT = "ff02::114", 9001
KEYS = 2000


def main() -> None:
    """Send them."""
    interface, seconds, count, rate = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    index = socket.if_nametoindex(interface)
    sockets = []
    for number in range(1, count + 1):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.bind((f"fe80::bad:{number:x}", 0, 0, index))
        sockets.append(sock)
    beacons = []
    for _ in range(KEYS):
        key = os.urandom(32)
        header = struct.pack(">HH32sHH", 0, 5, key, random.randrange(1, 65536), 64)
        beacons.append(header + hashlib.blake2b(key).digest())
    sent = 0
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        if rate and sent > rate * (time.monotonic() - began):
            time.sleep(0.01)
            continue
        for datagram in random.sample(beacons, 100):
            try:
                random.choice(sockets).sendto(datagram, (GROUP, PORT, 0, index))
                sent += 1
            except OSError:  # the queue is full
                time.sleep(0.001)
    print(sent)


if __name__ == "__main__":
    main()
