"""The envelope of the admin socket (protocol section 13.2), without any socket.

    bytes --RequestReader--> Request --CommandRegistry--> result or error --success/failure--> bytes

A connection carries JSON objects, one for each request, with nothing but optional white space between them. Names of
members are matched without regard to case, unknown members are ignored, of repeated ones the last counts: Go's reading
of JSON, which existing tools rely upon. Every answer repeats the request as it was understood.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from yggpy.admin.jsontext import (
    EncodableJson,
    JsonError,
    JsonLimitError,
    JsonNumber,
    JsonObject,
    JsonSpan,
    JsonStreamScanner,
    JsonValue,
    RawJson,
    decode_json,
    encode_json,
)
from yggpy.errors import YggpyError

__all__ = [
    "NO_ARGUMENTS",
    "ArgumentError",
    "BadRequest",
    "Request",
    "RequestReader",
    "failure",
    "read_arguments",
    "success",
    "success_line",
]

NO_ARGUMENTS = b"{}"
"""``arguments`` of a request that has none."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it was understood; ``arguments`` is JSON text as it was sent."""

    name: str
    arguments: bytes = NO_ARGUMENTS
    keepalive: bool = False


@dataclass(frozen=True, slots=True)
class BadRequest:
    """Input that is no request. ``keepalive`` tells whether the connection may go on; ``error`` is for the client."""

    error: str
    keepalive: bool = False


class ArgumentError(YggpyError, ValueError):
    """An argument of the wrong type; the text is Go's."""


class RequestReader:
    """Reads requests from the bytes of one connection."""

    def __init__(self) -> None:
        self._scanner = JsonStreamScanner()

    def feed(self, data: bytes) -> None:
        """Append received bytes. Take all requests by ``next_request`` before feeding more."""
        self._scanner.feed(data)

    def feed_eof(self) -> None:
        """The client sends no more."""
        self._scanner.feed_eof()

    def next_request(self) -> Request | BadRequest | None:
        """Return the next request, or None when more bytes are needed. Never raises."""
        try:
            span = self._scanner.next_value()
        except JsonLimitError as error:
            return BadRequest(str(error))
        except JsonError:
            return BadRequest("failed to find request")
        return None if span is None else _understand(span)


def _understand(span: JsonSpan) -> Request | BadRequest:
    if not span.text.startswith(b"{"):
        # A bare null changes nothing of an empty request, in Go; anything else is of the wrong type.
        return Request("") if span.text == b"null" else BadRequest("failed to unmarshal request")
    name, arguments, keepalive = "", NO_ARGUMENTS, False
    valid = True
    for member, text in span.members:
        match _folded(decode_json(member)), decode_json(text):
            case "arguments", _:
                arguments = text
            case (("request" | "keepalive"), None):
                pass
            case "request", str(value) if not isinstance(value, JsonNumber):
                name = value
            case "keepalive", bool(flag):
                keepalive = flag
            case (("request" | "keepalive"), _):
                valid = False
    return Request(name, arguments, keepalive) if valid else BadRequest("failed to unmarshal request", keepalive)


def read_arguments(arguments: bytes, names: tuple[str, ...], type_name: str) -> dict[str, str]:
    """Return the text arguments ``names`` out of the JSON text ``arguments``; those that are absent are "".

    ``type_name`` is what Go calls the arguments of this command (``admin.AddPeerRequest``); it appears in the texts of
    :class:`ArgumentError`, raised when ``arguments`` is no object or one of ``names`` is no string.
    """
    found = dict.fromkeys(names, "")
    value = decode_json(arguments)
    if value is None:
        return found
    if not isinstance(value, JsonObject):
        raise ArgumentError(f"json: cannot unmarshal {_kind(value)} into Go value of type {type_name}")
    complaint: ArgumentError | None = None
    for member, content in value:
        name = next((name for name in names if _folded(name) == _folded(member)), None)
        if name is None or content is None:
            continue
        if isinstance(content, str) and not isinstance(content, JsonNumber):
            found[name] = content
        elif complaint is None:
            field = f"{type_name.rpartition('.')[2]}.{name}"
            complaint = ArgumentError(
                f"json: cannot unmarshal {_kind(content)} into Go struct field {field} of type string"
            )
    if complaint is not None:
        raise complaint
    return found


def success(request: Request, response: EncodableJson) -> bytes:
    """Return the answer to a request that was carried out."""
    return encode_json({"status": "success", "request": _echo(request), "response": response})


def success_line(request: Request, response: EncodableJson) -> bytes:
    """Return the same on one line, for a command whose further answers are lines, too."""
    return json.dumps(json.loads(success(request, response)), separators=(",", ":")).encode() + b"\n"


def failure(request: Request | None, error: str) -> bytes:
    """Return the answer to a request that failed; None stands for input that was no request."""
    echo: EncodableJson = {"request": ""} if request is None else _echo(request)
    return encode_json({"status": "error", "error": error, "request": echo, "response": None})


def _echo(request: Request) -> EncodableJson:
    echo: dict[str, EncodableJson] = {"request": request.name, "arguments": RawJson(request.arguments)}
    if request.keepalive:
        echo["keepalive"] = True
    return echo


def _folded(name: JsonValue) -> str:
    return name.casefold() if isinstance(name, str) else ""


def _kind(value: JsonValue) -> str:
    """Return Go's word for the type of ``value``."""
    match value:
        case bool():
            return "bool"
        case JsonNumber():
            return "number"
        case str():
            return "string"
        case JsonObject():
            return "object"
        case _:
            return "array"
