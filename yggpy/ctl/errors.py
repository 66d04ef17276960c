"""What can go wrong between us and a node's admin socket. Every text is one line that says what to do."""

from __future__ import annotations

from yggpy.errors import YggpyError

__all__ = ["AnswerError", "ConnectError", "CtlError", "EndpointError", "RefusedError"]


class CtlError(YggpyError):
    """Base class: the question has no answer."""


class EndpointError(CtlError):
    """The text given for an endpoint is none."""


class ConnectError(CtlError):
    """Nobody can be reached at the endpoint."""


class AnswerError(CtlError):
    """Something was reached, but what came from it is no answer, or not in time, or only half of one."""


class RefusedError(CtlError):
    """The node answered that it will not or cannot; the text is the node's."""
