"""The admin socket: Go's JSON protocol, so that ``yggdrasilctl`` and its scripts can look inside a node.

jsontext   JSON over a byte stream, spelt as Go spells it
protocol   requests and answers, without sockets
commands   what can be asked, and a registry to add more
remote     what can be asked of other nodes
server     the socket and its clients
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from yggpy.admin.commands import Command, CommandError
    from yggpy.admin.server import AdminError, AdminServer

__all__ = ["AdminError", "AdminServer", "Command", "CommandError"]


def __getattr__(name: str) -> object:
    # Loaded on first use: ``yggpy-ctl`` wants the JSON, and must not wait for a server and its event loop.
    if name in __all__:
        from yggpy.admin import commands, server

        return getattr(commands, name, None) or getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
