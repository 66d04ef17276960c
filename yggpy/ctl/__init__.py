"""``yggpy-ctl``: asks a node's admin socket, as ``yggdrasilctl`` does (protocol section 14.4).

    main --> endpoint (which socket) --> client (question, answer) --> answers (what it means) --> tables (how it looks)

``subscribe``, ``watch`` and the ``feed`` of events below its tables are for those who stay.

``client`` is usable as a library. ``commands`` holds what the program does itself, without a command of the node's.
Nothing here loads the node: starting must be quick, since scripts ask often.
"""
