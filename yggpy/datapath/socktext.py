"""How Go's ``net`` package prints socket addresses and system errors; tools and people know these texts.

A failed system call reads ``dial tcp 10.0.0.1:5000: connect: connection refused``, a timeout
``read tcp 10.0.0.1:1->10.0.0.2:2: i/o timeout``. Only text is made here; nothing is opened or sent.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
from typing import Any

__all__ = [
    "IO_TIMEOUT",
    "error_text",
    "join_host_port",
    "network_of",
    "operation_error",
    "sockaddr_text",
    "tls_reason_text",
]

IO_TIMEOUT = "i/o timeout"
"""Go's text for a deadline that passed."""

UNNAMED_SOCKET = "@"
"""Go's text for a unix socket without a name, such as that of every ordinary client."""

# OpenSSL's reason -> the words that Go's crypto/tls has for the same mishap.
_NOT_TLS = "tls: first record does not look like a TLS handshake"
_TLS_REASONS = {
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "HTTPS_PROXY_REQUEST": _NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": _NOT_TLS,
    "RECORD_LAYER_FAILURE": _NOT_TLS,
    "UNEXPECTED_EOF_WHILE_READING": "EOF",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
}
_ALERT_PREFIXES = ("TLSV1_ALERT_", "TLSV13_ALERT_", "SSLV3_ALERT_")


def join_host_port(host: str, port: int | str) -> str:
    """Return ``host:port``, with brackets around a host that contains a colon."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def sockaddr_text(family: int, sockaddr: Any) -> str:
    """Return the text of what ``getsockname``/``getpeername``/``accept`` gave for a socket of ``family``.

    IPv4-mapped IPv6 addresses print as IPv4; a link-local address carries its interface as zone.
    """
    if family == socket.AF_INET:
        return f"{sockaddr[0]}:{sockaddr[1]}"
    if family == socket.AF_INET6:
        host = str(sockaddr[0]).partition("%")[0]
        mapped = ipaddress.IPv6Address(host).ipv4_mapped
        if mapped is not None:
            return f"{mapped}:{sockaddr[1]}"
        zone = _zone_text(sockaddr[3]) if len(sockaddr) > 3 and sockaddr[3] else ""
        return join_host_port(host + zone, sockaddr[1])
    if isinstance(sockaddr, bytes):  # Linux's abstract names begin with a zero byte, which Go prints as @
        sockaddr = sockaddr.replace(b"\0", b"@").decode("utf-8", "replace")
    return str(sockaddr) or UNNAMED_SOCKET


def _zone_text(index: int) -> str:
    try:
        return "%" + socket.if_indextoname(index)
    except OSError:  # the interface went away meanwhile
        return f"%{index}"


def network_of(family: int) -> str:
    """Return Go's network name: ``tcp`` or ``unix``."""
    return "tcp" if family in (socket.AF_INET, socket.AF_INET6) else "unix"


def error_text(error: BaseException) -> str:
    """Return one line for ``error``: Go's wording of a system error, TLS failure or timeout, else its own text."""
    if isinstance(error, ssl.SSLError):
        return _tls_text(error)
    if isinstance(error, TimeoutError) and not error.args:
        return IO_TIMEOUT
    if isinstance(error, OSError) and error.errno:
        return _errno_text(error.errno)
    return str(error) or type(error).__name__


def operation_error(operation: str, network: str, endpoints: str, call: str, error: OSError) -> str:
    """Return Go's text of a failed network operation, such as ``dial tcp ADDRESS: connect: connection refused``.

    ``operation`` is Go's verb (dial, listen, read, write), ``endpoints`` one address or ``local->remote``, ``call``
    the system call that failed.
    """
    where = f"{operation} {network} {endpoints}" if endpoints else f"{operation} {network}"
    if isinstance(error, ssl.SSLError):
        return _tls_text(error)
    if error.errno:
        return f"{where}: {call}: {_errno_text(error.errno)}"
    return f"{where}: {error_text(error)}"


def _errno_text(code: int) -> str:
    """Go writes the C library's words with a small first letter, unless an acronym begins them."""
    text = os.strerror(code)
    if len(text) > 1 and text[0].isupper() and text[1].islower():
        text = text[0].lower() + text[1:]
    return text


def _tls_text(error: ssl.SSLError) -> str:
    reason = getattr(error, "reason", None)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "EOF"
    if not isinstance(reason, str) or not reason:
        return f"tls: {error}"
    return tls_reason_text(reason)


def tls_reason_text(reason: str) -> str:
    """Return Go's words for OpenSSL's ``reason``, such as ``WRONG_VERSION_NUMBER``."""
    known = _TLS_REASONS.get(reason)
    if known is not None:
        return known
    for prefix in _ALERT_PREFIXES:
        if reason.startswith(prefix):
            return "remote error: tls: " + reason.removeprefix(prefix).replace("_", " ").lower()
    return "tls: " + reason.replace("_", " ").lower()
