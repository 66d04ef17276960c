"""The DNS responder (docs/names.md): ``message`` reads and writes messages, ``server`` has the sockets, ``forward``
asks other resolvers, ``gather`` asks nodes how they call themselves, and ``service`` joins them for a node.

What the answers are is decided in ``yggpy/names``. The DNS library is loaded by ``message`` alone, so whoever has no
``DNS`` section does not pay for it.
"""
