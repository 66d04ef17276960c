"""The client's half of the admin socket (protocol section 13.2): a question goes out, an answer comes back.

    with AdminConnection(endpoint) as connection:
        peers = connection.request("getPeers", keepalive=True).value()["peers"]

or, for one question, ``ask(endpoint, "getPeers")``. A command that answers with a stream is for ``stream`` and
``read_values``. Plain blocking sockets: a program that asks one thing needs no event loop. Whatever listens at the
endpoint is not trusted to be a node: connecting and answering have time limits, an answer has a size limit, and what is
no answer ends in one ``AnswerError`` that says what came instead.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Self

from yggpy.ctl.endpoint import Endpoint
from yggpy.ctl.errors import AnswerError, ConnectError, RefusedError
from yggpy.printable import printable

__all__ = [
    "ANSWER_TIMEOUT",
    "CONNECT_TIMEOUT",
    "MAX_ANSWER_SIZE",
    "MAX_EVENT_SIZE",
    "MAX_NESTING",
    "AdminConnection",
    "Answer",
    "ask",
    "members",
    "parse_json",
]

CONNECT_TIMEOUT = 5.0
"""Seconds in which a connection must come about, for each address of a name."""
ANSWER_TIMEOUT = 30.0
"""Seconds from a question to the last byte of its answer. A node takes up to 6 s itself, when it asks another one."""
MAX_ANSWER_SIZE = 64 << 20
"""Bytes of an answer; a node with a hundred thousand paths needs half of that."""
MAX_EVENT_SIZE = 1 << 20
"""Bytes of one value of a stream; the largest event of a node has some kilobytes."""
MAX_NESTING = 200
"""Depth of arrays and objects in an answer; more is refused."""

_READ_SIZE = 1 << 16
_SHOWN = 40
"""Characters of what came instead of an answer that an error message shows."""
_SPACE = re.compile(r"[ \t\r\n]*")
_BLANK = b" \t\r\n"
_OUTSIDE = re.compile(rb'"[^"\\]*+"|["{}\[\]]')
_INSIDE = re.compile(rb'["\\]')


@dataclass(frozen=True, slots=True)
class Answer:
    """What a node answered. ``text`` is its ``response`` as it was spelt, "" when there was none."""

    error: str | None
    """None on success; else the node's words, possibly none."""
    text: str

    @property
    def ok(self) -> bool:
        """Whether the node did what it was asked."""
        return self.error is None

    def value(self) -> Any:
        """Return ``response`` as Python objects, None when there is none. Raises ``RefusedError``."""
        if self.error is not None:
            raise RefusedError(self.error)
        return parse_json(self.text) if self.text else None


class AdminConnection:
    """A connection to an admin socket, made at the first question.

    ``origin`` tells in messages how the endpoint was found. While an answer lets itself be waited for, ``waiting`` is
    called every ``patience`` seconds.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        origin: str = "",
        connect_timeout: float = CONNECT_TIMEOUT,
        answer_timeout: float = ANSWER_TIMEOUT,
        max_answer_size: int = MAX_ANSWER_SIZE,
        patience: float = ANSWER_TIMEOUT,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self.endpoint = endpoint
        self._place = f"{endpoint} ({origin})" if origin else str(endpoint)
        self._connect_timeout = connect_timeout
        self._answer_timeout = answer_timeout
        self._max_answer_size = max_answer_size
        self._patience = patience
        self._waiting = waiting
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._value_end = _ValueEnd()
        self._with_answer = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next question opens another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._received.clear()

    def request(self, name: str, arguments: Mapping[str, str] | None = None, *, keepalive: bool = False) -> Answer:
        """Ask ``name`` and return the answer, also when that is an error.

        With ``keepalive`` the connection stays for further questions, else it is closed. Raises ``ConnectError`` and
        ``AnswerError``, after which the connection is closed.
        """
        question: dict[str, object] = {"request": name, "arguments": dict(arguments or {})}
        if keepalive:
            question["keepalive"] = True
        answer = self._ask(question)
        if not keepalive:
            self.close()
        return answer

    def stream(self, name: str, arguments: Mapping[str, str] | None = None) -> Answer:
        """Ask ``name`` and return the first answer as :meth:`request` does; if it is no error, more follows it.

        That is for :meth:`read_values`. The connection can be asked nothing else, and must be closed.
        """
        answer = self._ask({"request": name, "arguments": dict(arguments or {})})
        if answer.ok:
            self._value_end, self._with_answer = _ValueEnd(), True
            self._keep_alive()
        else:
            self.close()
        return answer

    def fileno(self) -> int:
        """Return the descriptor to wait at before :meth:`read_values`; -1 when there is no connection."""
        return -1 if self._socket is None else self._socket.fileno()

    def read_values(self) -> Iterator[str] | None:
        """Wait for the next piece of a stream; return the JSON values that are complete with it, None at the end.

        There may be none. The first call does not wait: it returns those that came together with the answer. Values are
        as they were spelt, and may be no JSON inside. Raises ``AnswerError``, here or behind the last good value, also
        when the stream ends in the middle of a value; the connection is closed then, as at the end.
        """
        if self._socket is None:
            return None
        if self._with_answer:
            self._with_answer = False
            return self._values_so_far()
        self._socket.settimeout(None)
        try:
            chunk = self._socket.recv(_READ_SIZE)
            if not chunk and self._received.strip(_BLANK):
                self._complain("only the beginning of an event before it closed the connection:")
        except OSError as error:
            self.close()
            raise AnswerError(f"{self._place} broke the connection: {_reason(error)}") from error
        except BaseException:
            self.close()
            raise
        self._received += chunk
        if chunk:
            return self._values_so_far()
        self.close()
        return None

    # -- questions -------------------------------------------------------------------------------------------

    def _ask(self, question: Mapping[str, object]) -> Answer:
        try:
            connection = self._connected()
            deadline = time.monotonic() + self._answer_timeout
            try:
                self._send(connection, json.dumps(question).encode() + b"\n", deadline)
                data = self._receive(connection, deadline)
            except TimeoutError:
                raise AnswerError(
                    f"{self._place} accepted the connection, but gave no {'complete ' if self._received else ''}answer "
                    f"within {self._answer_timeout:g} s; the node may be overloaded, or this is not its admin socket"
                ) from None
            answer = self._read(data)
        except BaseException:
            self.close()
            raise
        return answer

    def _values_so_far(self) -> Iterator[str]:
        """Take all whole values out of what has been received."""
        try:
            while (data := self._take_value(self._value_end)) is not None:
                self._value_end = _ValueEnd()
                yield data.decode("utf-8", "replace")
            if len(self._received) > MAX_EVENT_SIZE:
                raise ValueError(f"it is longer than {MAX_EVENT_SIZE} bytes, so it was dropped")
        except ValueError as error:
            self.close()
            raise AnswerError(f"an event of {self._place} cannot be used: {error}") from None
        except AnswerError:
            self.close()
            raise

    def _keep_alive(self) -> None:
        """Let the kernel find out when the other machine is gone: a stream may be silent for days."""
        if self._socket is not None and self._socket.family != socket.AF_UNIX:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    # -- connecting ------------------------------------------------------------------------------------------

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = self._connect_unix() if self.endpoint.path else self._connect_tcp()
        return self._socket

    def _connect_unix(self) -> socket.socket:
        path = self.endpoint.path
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._connect_timeout)
        try:
            connection.connect("\0" + path[1:] if path.startswith("@") else path)
        except OSError as error:
            connection.close()
            raise ConnectError(_unix_failure(self._place, path, error)) from error
        return connection

    def _connect_tcp(self) -> socket.socket:
        try:
            return socket.create_connection((self.endpoint.host, self.endpoint.port), self._connect_timeout)
        except (OSError, UnicodeError) as error:  # a name of impossible form is a UnicodeError
            raise ConnectError(_tcp_failure(self._place, error, self._connect_timeout)) from error

    # -- talking ---------------------------------------------------------------------------------------------

    def _send(self, connection: socket.socket, data: bytes, deadline: float) -> None:
        connection.settimeout(_remaining(deadline))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before it closed
            connection.sendall(data)

    def _receive(self, connection: socket.socket, deadline: float) -> bytes:
        """Return the next whole JSON object from the connection."""
        received = self._received
        end = _ValueEnd()
        while True:
            try:
                data = self._take_value(end)
            except ValueError as error:
                raise AnswerError(f"the answer of {self._place} cannot be used: {error}") from None
            if data is not None:
                return data
            if len(received) > self._max_answer_size:
                raise AnswerError(
                    f"the answer of {self._place} is longer than {self._max_answer_size} bytes, so it was dropped"
                )
            connection.settimeout(min(_remaining(deadline), self._patience))
            try:
                chunk = connection.recv(_READ_SIZE)
            except TimeoutError:
                _remaining(deadline)  # raises the same once there is none
                self._waiting()
                continue
            except OSError as error:
                raise AnswerError(f"{self._place} broke the connection: {_reason(error)}") from error
            if not chunk:
                self._closed()
            received += chunk

    def _take_value(self, end: _ValueEnd) -> bytes | None:
        """Take the next whole JSON object out of what has been received. Raises ``AnswerError``, ``ValueError``."""
        received = self._received
        if end.untouched:
            del received[: len(received) - len(received.lstrip(_BLANK))]
            if received and not received.startswith(b"{"):
                self._complain("something that is not a node's answer:")
        position = end.find(received)
        if position is None:
            return None
        data = bytes(received[:position])
        del received[:position]
        return data

    def _closed(self) -> NoReturn:
        if self._received.strip(_BLANK):
            self._complain(f"only {len(self._received)} bytes of an answer before it closed the connection:")
        raise AnswerError(
            f"{self._place} closed the connection without an answer; is the admin socket of a Yggdrasil node there?"
        )

    def _complain(self, what: str) -> NoReturn:
        text = printable(self._received[: 4 * _SHOWN].decode("utf-8", "replace").strip())
        shown = text[:_SHOWN] + ("..." if len(text) > _SHOWN else "")
        raise AnswerError(
            f"{self._place} sent {what} {shown!r}; is the admin socket of a Yggdrasil node there, and is the node well?"
        )

    def _read(self, data: bytes) -> Answer:
        try:
            parts = {name.lower(): text for name, text in members(data.decode("utf-8", "replace")).items()}
            status = parse_json(parts.get("status", "null"))
            error = parse_json(parts.get("error", "null"))
        except AnswerError as failure:
            raise AnswerError(f"the answer of {self._place} cannot be used: {failure}") from None
        if status not in ("success", "error"):
            raise AnswerError(
                f"the answer of {self._place} says neither success nor error; is it a Yggdrasil node's admin socket?"
            )
        if status == "error":
            return Answer(error if isinstance(error, str) else "", "")
        return Answer(None, parts.get("response", ""))


def ask(endpoint: Endpoint, name: str, arguments: Mapping[str, str] | None = None, *, origin: str = "") -> Answer:
    """Put one question to the admin socket at ``endpoint``; see :meth:`AdminConnection.request`."""
    with AdminConnection(endpoint, origin=origin) as connection:
        return connection.request(name, arguments)


# -- JSON ----------------------------------------------------------------------------------------------------


class _ValueEnd:
    """Finds the end of the first JSON object or array in a growing buffer, looking at every byte once.

    It counts brackets outside of strings; whether the rest is JSON, the parser says.
    """

    def __init__(self) -> None:
        self._position = 0
        self._depth = 0
        self._in_string = False

    @property
    def untouched(self) -> bool:
        """Whether no byte has been looked at."""
        return self._position == 0

    def find(self, buffer: bytearray) -> int | None:
        """Return the offset behind the value, or None when it is not complete. Raises ``ValueError``."""
        while True:
            pattern = _INSIDE if self._in_string else _OUTSIDE
            found = pattern.search(buffer, self._position)
            if found is None:
                self._position = len(buffer)
                return None
            token = found.group()
            if token == b"\\":
                if found.end() == len(buffer):  # the character that it escapes has not come
                    self._position = found.start()
                    return None
                self._position = found.end() + 1
                continue
            self._position = found.end()
            if token == b'"':
                self._in_string = not self._in_string
            elif token in b"{[":
                self._depth += 1
                if self._depth > MAX_NESTING:
                    raise ValueError(f"it is nested deeper than {MAX_NESTING} levels")
            elif token in b"}]":
                self._depth -= 1
                if self._depth <= 0:
                    return self._position


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decoder = json.JSONDecoder(parse_constant=_no_constant)


def parse_json(text: str) -> Any:
    """Return the value of one JSON text. Raises ``AnswerError``."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"it is not JSON ({error})") from None


def members(text: str) -> dict[str, str]:
    """Return the members of a JSON object, each value as it was spelt. Raises ``AnswerError``."""
    found: dict[str, str] = {}
    try:
        position = _expect(text, 0, "{")
        while text[position : position + 1] != "}":
            if found:
                position = _expect(text, position, ",")
            if text[position : position + 1] != '"':
                raise ValueError(f"a member's name is missing at character {position}")
            name, position = _decoder.raw_decode(text, position)
            start = _expect(text, position, ":")
            _, end = _decoder.raw_decode(text, start)
            found[name] = text[start:end]
            position = _skip(text, end)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"it is not JSON ({error})") from None
    return found


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return position if found is None else found.end()


def _expect(text: str, position: int, character: str) -> int:
    position = _skip(text, position)
    if text[position : position + 1] != character:
        raise ValueError(f"{character} is missing at character {position}")
    return _skip(text, position + 1)


# -- messages ------------------------------------------------------------------------------------------------


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error) or type(error).__name__).lower()


def _unix_failure(place: str, path: str, error: OSError) -> str:
    if isinstance(error, TimeoutError | BlockingIOError):
        return f"{place} does not take the connection; the node may be overloaded or stopped"
    if error.errno == errno.ENOENT:
        return f"no admin socket at {place}: is the node running? If its AdminListen is another one, use -endpoint"
    if error.errno == errno.ECONNREFUSED:
        if _is_other_file(path):
            return f"{place} is not a socket; -endpoint must be the node's AdminListen"
        return f"nobody listens at {place}: the node has ended and left its socket behind, so start it again"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"permission denied for {place}: run this as root{_group_advice(path)}"
    return f"cannot connect to {place}: {_reason(error)}"


def _tcp_failure(place: str, error: Exception, timeout: float) -> str:
    if isinstance(error, socket.gaierror | UnicodeError):
        return f"cannot find the host of {place}: {_reason(error)}; check the endpoint"
    if isinstance(error, TimeoutError):
        return f"no connection to {place} within {timeout:g} s; check the endpoint, and firewalls on the way"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {place}: is the node running, and is this its AdminListen?"
    return f"cannot connect to {place}: {_reason(error)}"


def _is_other_file(path: str) -> bool:
    try:
        return not stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _group_advice(path: str) -> str:
    """Return who else but root may use the socket, if that can be seen."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    if not status.st_mode & stat.S_IWGRP or status.st_gid == 0:
        return ""
    import grp

    try:
        name = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        name = str(status.st_gid)
    return f", or join the group {name}"
