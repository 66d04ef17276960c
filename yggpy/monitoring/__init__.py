"""The HTTP endpoint for monitoring (``HTTPListen``): ``/healthz``, ``/readyz`` and ``/metrics`` (docs/metrics.md).

names       every metric's name, kind, labels and meaning, as data
peers       which peers get series of their own, and sums for the rest
collector   from a node's statuses to metrics
http        requests and answers on a connection, without knowing what is asked
endpoint    the pages, and the server that the daemon starts, moves and stops

The modules are loaded only when the endpoint is on, and h11 and prometheus-client with them.
"""

from __future__ import annotations

from yggpy.serving import Purpose

__all__ = ["HTTP_ENDPOINT"]

HTTP_ENDPOINT = Purpose("HTTP endpoint", "HTTPListen")
