"""Links to other nodes up to the moment when they carry frames (protocol section 2).

``uri`` reads what people write, ``transports`` knows how to reach it (``dial``, ``listen``, ``tls``), ``handshake``
finds out who is there, ``peering`` keeps trying, and ``manager`` is the door for everyone else.
"""
