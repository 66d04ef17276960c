"""Neighbours on the local network find each other by multicast beacons (protocol section 12).

``discovery`` and ``neighbours`` decide, without sockets or a clock; ``service`` carries out, on asyncio; ``scan``,
``sockets`` and ``netlink`` are the operating system.
"""
