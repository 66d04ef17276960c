"""Names of nodes: who may have which, and what each of them stands for (docs/names.md). No sockets, no clock, no DNS.

``labels`` has the forms of names, ``claims`` who has which name, ``zone`` what a question about a name is answered.
The responder that carries such answers is ``yggpy/dns``.
"""
