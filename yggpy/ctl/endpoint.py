"""Which admin socket to ask, and how that is written.

    -endpoint, else $YGGDRASIL_ENDPOINT, else $YGG_ADMIN_LISTEN, else AdminListen of the machine's configuration,
    else a default socket

The first, fourth and fifth are ``yggdrasilctl``'s ways (protocol section 14.4). Since it is told one place when it is
built, upstream's or Debian's, and we are told none, both are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yggpy.config.files import (
    CONFIG_FILES,
    DEBIAN_ADMIN_LISTEN,
    DEFAULT_ADMIN_LISTEN,
    MAX_CONFIG_SIZE,
    decode_text,
)
from yggpy.ctl.errors import EndpointError
from yggpy.errors import ConfigError
from yggpy.links.url import split_host_port
from yggpy.printable import printable

__all__ = [
    "ADMIN_LISTEN_VARIABLE",
    "DEFAULT_SOCKETS",
    "ENDPOINT_VARIABLE",
    "Endpoint",
    "FoundEndpoint",
    "find_endpoint",
]

ENDPOINT_VARIABLE = "YGGDRASIL_ENDPOINT"
"""Environment variable that says where the admin socket is; ``-endpoint`` goes before it."""
ADMIN_LISTEN_VARIABLE = "YGG_ADMIN_LISTEN"
"""By this a node is told in a container, where this program finds itself in the same environment."""
DEFAULT_SOCKETS = (DEFAULT_ADMIN_LISTEN, DEBIAN_ADMIN_LISTEN)
_UNIX, _TCP = "unix://", "tcp://"
_LOCAL_HOST = "localhost"
_HIGHEST_PORT = 65535
_FORMS = "write unix:///path, tcp://host:port or host:port"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an admin socket is: the path of a unix socket (``@name``: an abstract one), or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read ``unix:///path``, ``tcp://host:port`` or ``host:port``; no host means this machine.

        Raises ``EndpointError``. A path is taken as it stands: percent signs mean themselves, as in ``yggdrasilctl``.
        """
        lower = text.lower()
        if lower.startswith(_UNIX):
            path = text[len(_UNIX) :]
            if not path or "\0" in path:
                raise EndpointError(f'endpoint "{printable(text)}" has no usable path; write unix:///path')
            return cls(path=path)
        where = text
        if lower.startswith(_TCP):
            where = text[len(_TCP) :].removesuffix("/")
        elif "/" in text:
            raise EndpointError(f'endpoint "{printable(text)}" cannot be used; {_FORMS}')
        try:
            host, port = split_host_port(where)
        except ValueError as error:
            reason = printable(str(error))
            raise EndpointError(f'endpoint "{printable(text)}" cannot be used: {reason}; {_FORMS}') from None
        if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= _HIGHEST_PORT):
            raise EndpointError(f'endpoint "{printable(text)}" needs a port from 1 to {_HIGHEST_PORT}; {_FORMS}')
        return cls(host=host or _LOCAL_HOST, port=int(port))

    def __str__(self) -> str:
        if self.path:
            return _UNIX + printable(self.path)
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{_TCP}{printable(host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class FoundEndpoint:
    """An endpoint and how it was found, for messages; ``warnings`` are lines for the operator."""

    endpoint: Endpoint
    origin: str
    warnings: tuple[str, ...] = ()


def find_endpoint(
    given: str,
    environment: Mapping[str, str] = os.environ,
    config_files: Sequence[str] = CONFIG_FILES,
    sockets: Sequence[str] = DEFAULT_SOCKETS,
) -> FoundEndpoint:
    """Return the endpoint to ask; ``given`` is what ``-endpoint`` said, "" when it was not there.

    Raises ``EndpointError`` for a text that was given and is no endpoint. A configuration that cannot be read for lack
    of permission is passed over, as in Go; one with an error in it costs a warning.
    """
    if given:
        return FoundEndpoint(Endpoint.parse(given), "-endpoint")
    if text := environment.get(ENDPOINT_VARIABLE, ""):
        return FoundEndpoint(Endpoint.parse(text), f"${ENDPOINT_VARIABLE}")
    warnings: list[str] = []
    text = environment.get(ADMIN_LISTEN_VARIABLE, "").strip()
    if text and text != "none":
        try:
            return FoundEndpoint(Endpoint.parse(text), f"${ADMIN_LISTEN_VARIABLE}")
        except EndpointError as error:
            warnings.append(f"${ADMIN_LISTEN_VARIABLE} is not used: {error}")
    for file in config_files:
        try:
            if listen := _admin_listen(file):
                return FoundEndpoint(Endpoint.parse(listen), f"AdminListen of {file}", tuple(warnings))
        except (ConfigError, EndpointError) as error:
            warnings.append(f"AdminListen of {file} is not used: {error}")
    places = [Endpoint.parse(text) for text in sockets]
    chosen = next((place for place in places if os.path.exists(place.path)), places[0])
    return FoundEndpoint(chosen, "the default", tuple(warnings))


def _admin_listen(file: str) -> str:
    """Return ``AdminListen`` of a configuration file; "" when there is no such file, or it has none."""
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_CONFIG_SIZE + 1)
    except OSError:
        return ""
    from yggpy.config.hjson import TEXT, Shape, read_hjson

    listen = ""
    for key, value in read_hjson(decode_text(data), Shape(members={"adminlisten": TEXT})).items():
        if key.lower() == "adminlisten" and isinstance(value, str):
            listen = value
    return "" if listen == "none" else listen
