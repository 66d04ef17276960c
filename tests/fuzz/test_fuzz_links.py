"""Whatever people or programs write as a URI gives a value or a ``PeerUriError``, and nothing else."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from yggpy.errors import PeerUriError
from yggpy.links.uri import LinkUri, parse_duration
from yggpy.links.url import parse_query, split_host_port

PIECES = ["tcp", "TLS", "://", ":", "/", "//", "?", "#", "@", "[", "]", "%25", "%zz", "%ff", "::1", "fe80::1", "&", "="]
OPTIONS = ["key", "priority", "password", "maxbackoff", "sni", "1h", "256", "0", "+", ";", "\n", "é", "*"]
NO_TEXT = ["\udcff", "\ud800"]
URIS = st.one_of(st.text(), st.lists(st.sampled_from(PIECES + OPTIONS + NO_TEXT) | st.text(max_size=3)).map("".join))


@given(URIS)
def test_uris(text: str) -> None:
    try:
        uri = LinkUri.parse(text)
    except PeerUriError:
        return
    str(uri).encode()
    with contextlib.suppress(PeerUriError):
        uri.dial_options()
    with contextlib.suppress(PeerUriError):
        uri.listen_options()
    with contextlib.suppress(ValueError):
        _, port = split_host_port(uri.host_port)
        assert port == "" or (port.isascii() and port.isdigit())


@given(st.text(alphabet="0123456789.hmsnuµ+- "))
def test_durations(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert abs(parse_duration(text)) <= 2**63 / 1e9


@given(st.binary())
def test_queries(query: bytes) -> None:
    for name, values in parse_query(query).items():
        assert isinstance(name, str) and values
