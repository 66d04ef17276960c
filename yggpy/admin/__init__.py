"""The admin socket: Go's JSON protocol, so that ``yggdrasilctl`` and its scripts can look inside a node.

jsontext   JSON over a byte stream, spelt as Go spells it
protocol   requests and answers, without sockets
commands   what can be asked, and a registry to add more
server     the socket and its clients
"""

from __future__ import annotations

from yggpy.admin.commands import Command, CommandError
from yggpy.admin.server import AdminError, AdminServer

__all__ = ["AdminError", "AdminServer", "Command", "CommandError"]
