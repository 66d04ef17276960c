"""The proxy that the environment names for web traffic, which ``ws`` and ``wss`` links go through, as in Go.

``HTTP_PROXY`` (for ``ws``), ``HTTPS_PROXY`` (for ``wss``) and ``NO_PROXY``, in capital letters or small ones. The proxy
is asked for a tunnel (``CONNECT``, or SOCKS5) for both; Go asks for one for ``wss`` only, and sends a ``ws`` request to
the proxy itself, which hardly any proxy passes on as an upgrade.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from yggpy.errors import PeerUriError
from yggpy.links.interfaces import IpAddress
from yggpy.links.resolve import TransportError, as_address
from yggpy.links.url import parse_url, split_host_port

__all__ = ["WebProxy", "web_proxy"]

_DEFAULT_PORTS = {"http": "80", "socks5": "1080", "socks5h": "1080"}


@dataclass(frozen=True, slots=True)
class WebProxy:
    """Where the proxy is and what it wants to know."""

    scheme: str
    """``http``, ``socks5`` or ``socks5h``."""
    host_port: str
    user: bytes | None = None
    password: bytes = b""


def web_proxy(secure: bool, host: str, port: int, environment: Mapping[str, str]) -> WebProxy | None:
    """Return the proxy for a link to ``host``, None to go there directly. Raises ``OSError`` for a useless setting."""
    name = "HTTPS_PROXY" if secure else "HTTP_PROXY"
    setting = environment.get(name) or environment.get(name.lower()) or ""
    if not secure and environment.get("REQUEST_METHOD"):
        setting = ""  # in a CGI program HTTP_PROXY is whatever the client put into its header Proxy
    if not setting or not _wanted(host, port, environment.get("NO_PROXY") or environment.get("no_proxy") or ""):
        return None
    try:
        url = parse_url(setting if "://" in setting else f"http://{setting}")
    except PeerUriError as error:
        raise TransportError(f'invalid proxy address "{setting}": {error}') from None
    if url.scheme not in _DEFAULT_PORTS or not url.host:
        raise TransportError(f"proxy: unknown scheme in {name}: use one of {', '.join(_DEFAULT_PORTS)}")
    where = url.host.decode("utf-8", "replace")
    try:
        split_host_port(where)
    except ValueError:
        where = f"{where}:{_DEFAULT_PORTS[url.scheme]}"
    return WebProxy(url.scheme, where, url.user, url.password or b"")


def _wanted(host: str, port: int, exceptions: str) -> bool:
    """Tell whether ``host`` is to be reached through the proxy: never this machine, nor what ``NO_PROXY`` lists."""
    host = host.lower().rstrip(".")
    address = as_address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_matches(entry.strip().lower(), host, address, port) for entry in exceptions.split(","))


def _matches(entry: str, host: str, address: IpAddress | None, port: int) -> bool:
    """Match an entry of ``NO_PROXY``: ``*``, an address, a network, or a name, which stands for names below it, too."""
    if entry == "*":
        return True
    if not entry:
        return False
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass  # a name, or something with a port
    else:
        return address is not None and address in network
    try:
        entry, wanted_port = split_host_port(entry)
        if wanted_port != str(port):
            return False
    except ValueError:
        pass
    only_below = entry.startswith(".")
    entry = entry.removeprefix("*").removeprefix(".")
    if address is not None:
        return as_address(entry) == address
    return host.endswith(f".{entry}") or (host == entry and not only_below)
