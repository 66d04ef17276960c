"""Peering URIs: what a yggdrasil-go 0.5.14 node answered to addPeer with each of these, and the options."""

from __future__ import annotations

import pytest

from yggpy.errors import PeerUriError
from yggpy.links.uri import LinkOptions, LinkUri, parse_duration
from yggpy.links.url import MAX_URL_LENGTH, go_quote, parse_query, split_host_port

# (URI, error), from the admin socket of a live node; parse errors there begin with "unable to parse peering URI: ".
PARSE_ERRORS = [
    ("tcp://[::1", "parse \"tcp://[::1\": missing ']' in host"),
    ("tcp://[::1]x:5", 'parse "tcp://[::1]x:5": invalid port "x:5" after host'),
    ("tcp://[::1]:x", 'parse "tcp://[::1]:x": invalid port ":x" after host'),
    ("tcp://1.2.3.4:x", 'parse "tcp://1.2.3.4:x": invalid port ":x" after host'),
    ("tcp://a b:5", 'parse "tcp://a b:5": invalid character " " in host name'),
    ("tcp://a%zz:5", 'parse "tcp://a%zz:5": invalid URL escape "%zz"'),
    ("tcp://a%20b:5", 'parse "tcp://a%20b:5": invalid URL escape "%20"'),
    ("tcp://[1.2.3.4]:5", 'parse "tcp://[1.2.3.4]:5": invalid IP-literal'),
    ("tcp://[foo]:5", 'parse "tcp://[foo]:5": invalid host: ParseAddr("foo"): unable to parse IP'),
    ("tcp://[fe80::1%eth0]:5", 'parse "tcp://[fe80::1%eth0]:5": invalid URL escape "%et"'),
    ("tcp://u%zz@1.2.3.4:5", 'parse "tcp://u%zz@1.2.3.4:5": invalid URL escape "%zz"'),
    ("tcp://u<@1.2.3.4:5", 'parse "tcp://u<@1.2.3.4:5": net/url: invalid userinfo'),
    (":foo", 'parse ":foo": missing protocol scheme'),
    ("1tcp://x", 'parse "1tcp://x": first path segment in URL cannot contain colon'),
    ("tcp://1.2.3.4:7/%zz", 'parse "tcp://1.2.3.4:7/%zz": invalid URL escape "%zz"'),
    ("tcp://1.2.3.4:8#%zz", 'parse "tcp://1.2.3.4:8#%zz": invalid URL escape "%zz"'),
    ("tcp://1.2.3.4:11\n", 'parse "tcp://1.2.3.4:11\\n": net/url: invalid control character in URL'),
    ("a b:c", 'parse "a b:c": first path segment in URL cannot contain colon'),
    ("tcp://127.0.0.1:27\x7f", 'parse "tcp://127.0.0.1:27\\x7f": net/url: invalid control character in URL'),
    ("tcp://a\\b:5", 'parse "tcp://a\\\\b:5": invalid character "\\\\" in host name'),
    ("tcp://a|b:5", 'parse "tcp://a|b:5": invalid character "|" in host name'),
    ("tcp://x[::1]:5", 'parse "tcp://x[::1]:5": invalid IP-literal'),
    ("tcp://127.0.0.1:1;2", 'parse "tcp://127.0.0.1:1;2": invalid port ":1;2" after host'),
    ("tcp://%31:5", 'parse "tcp://%31:5": invalid URL escape "%31"'),
    ("tcp://[::1%25]:5", 'parse "tcp://[::1%25]:5": invalid host: ParseAddr("::1%"): zone must be a non-empty string'),
    ("tcp://[]:5", 'parse "tcp://[]:5": invalid host: ParseAddr(""): unable to parse IP'),
]

OPTION_ERRORS = [
    ("tcp://127.0.0.1:3?key=0", "pinned public key is invalid"),
    ("tcp://127.0.0.1:3?key=00&key=zz", "pinned public key is invalid"),
    ("tcp://127.0.0.1:12?priority=+5", "priority value is invalid"),
    ("tcp://127.0.0.1:13?priority=1_0", "priority value is invalid"),
    ("tcp://127.0.0.1:14?priority=0x1", "priority value is invalid"),
    ("tcp://127.0.0.1:17?maxbackoff=4.9999s", "max backoff duration invalid"),
    ("tcp://127.0.0.1:19?maxbackoff=.s", "max backoff duration invalid"),
    ("tcp://127.0.0.1:20?maxbackoff=9999999h", "max backoff duration invalid"),
    ("tcp://127.0.0.1:21?maxbackoff=+1h", "max backoff duration invalid"),
    ("tcp://127.0.0.1:22?maxbackoff=10", "max backoff duration invalid"),
]

# (URI, the name by which getPeers of that node listed it)
IDENTITIES = [
    ("tcp://a%ffb:5", "tcp://a%FFb:5"),
    ("tcp://[fe80::1%25eth0]:5", "tcp://[fe80::1%25eth0]:5"),
    ("tcp://u:p@1.2.3.4:5", "tcp://u:p@1.2.3.4:5"),
    ("tcp://u:p@x@1.2.3.4:5", "tcp://u:p%40x@1.2.3.4:5"),
    ("tcp:foo", "tcp:foo"),
    ("tcp:/foo", "tcp:/foo"),
    ("tcp:///foo", "tcp:///foo"),
    ("tcp://", "tcp:"),
    ("TCP://1.2.3.4:5/pa%2fth?x=1#fr%20ag", "tcp://1.2.3.4:5/pa%2fth#fr%20ag"),
    ("tcp://1.2.3.4:6?", "tcp://1.2.3.4:6?"),
    ("tcp://1.2.3.4:9/a b", "tcp://1.2.3.4:9/a%20b"),
    ("tcp://1.2.3.4:10/\u00e9", "tcp://1.2.3.4:10/%C3%A9"),
    ("tcp://\u00e9:10", "tcp://%C3%A9:10"),
    ("tcp://1:2:3:4", "tcp://1:2:3:4"),
    ("tcp://1.2.3.4:", "tcp://1.2.3.4:"),
    ("tcp://:5000", "tcp://:5000"),
    ("tcp://127.0.0.1:99999", "tcp://127.0.0.1:99999"),
    ('tcp://127.0.0.1:1#a^b"`<>', "tcp://127.0.0.1:1#a%5Eb%22%60%3C%3E"),
    ("tcp://127.0.0.1:2/*", "tcp://127.0.0.1:2/*"),
    ("tcp://127.0.0.1:3?key=", "tcp://127.0.0.1:3"),
    ("tcp://127.0.0.1:15?priority=000255", "tcp://127.0.0.1:15"),
    ("tcp://127.0.0.1:16?maxbackoff=5000ms", "tcp://127.0.0.1:16"),
    ("tcp://127.0.0.1:18?maxbackoff=1h.5m", "tcp://127.0.0.1:18"),
    ("tcp://127.0.0.1:23?maxbackoff=0.1h1m", "tcp://127.0.0.1:23"),
    ("tcp://127.0.0.1:24?maxbackoff=7s&maxbackoff=x", "tcp://127.0.0.1:24"),
    ("tcp://127.0.0.1:25?priority=1;2", "tcp://127.0.0.1:25"),
    ("tcp://127.0.0.1:26?priority=%zz", "tcp://127.0.0.1:26"),
    ("tcp://nosuch.invalid:5", "tcp://nosuch.invalid:5"),
    ("tcp://[::1]:1", "tcp://[::1]:1"),
    ("tls://[::1]:1", "tls://[::1]:1"),
    ('tcp://a"b:5', 'tcp://a"b:5'),
    ("tcp://127.0.0.1:28/\u00e9?\u00e9", "tcp://127.0.0.1:28/%C3%A9"),
    ("tcp://:1", "tcp://:1"),
    ("tcp://x..y:1", "tcp://x..y:1"),
    ("quic://127.0.0.1:1", "quic://127.0.0.1:1"),
    ("unix:///x", "unix:///x"),
    ("socks://127.0.0.1:1/x:1", "socks://127.0.0.1:1/x:1"),
    ("tcp://[::ffff:127.0.0.1]:1", "tcp://[::ffff:127.0.0.1]:1"),
    ("tcp://[fe80::1%25a%20b]:5", "tcp://[fe80::1%25a%20b]:5"),
    ("tcp://[::]:5", "tcp://[::]:5"),
    ("tcp://[ff02::1]:5", "tcp://[ff02::1]:5"),
    ("tcp://127.1:5", "tcp://127.1:5"),
    ("tcp://0x7f000001:5", "tcp://0x7f000001:5"),
    ("tcp://u@:5", "tcp://u@:5"),
    ("tcp://u:@h:5", "tcp://u:@h:5"),
    ("tcp://h:5?a#b?c", "tcp://h:5#b?c"),
    ("tcp://h:5/x;y,z@w:v&=+$!*'()", "tcp://h:5/x;y,z@w:v&=+$!*'()"),
    ("tcp://h:5/%41", "tcp://h:5/%41"),
    ("tcp://h:5/[a]", "tcp://h:5/[a]"),
]


@pytest.mark.parametrize(("uri", "error"), PARSE_ERRORS)
def test_parse_error_has_the_words_of_go(uri: str, error: str) -> None:
    with pytest.raises(PeerUriError) as caught:
        LinkUri.parse(uri)
    assert str(caught.value) == error


@pytest.mark.parametrize(("uri", "error"), OPTION_ERRORS)
def test_option_error_has_the_words_of_go(uri: str, error: str) -> None:
    with pytest.raises(PeerUriError) as caught:
        LinkUri.parse(uri).dial_options()
    assert str(caught.value) == error


@pytest.mark.parametrize(("uri", "identity"), IDENTITIES)
def test_identity_is_printed_as_go_prints_it(uri: str, identity: str) -> None:
    parsed = LinkUri.parse(uri)
    parsed.dial_options()
    assert str(parsed) == identity


def test_scheme_only_is_printed_without_slashes() -> None:
    assert str(LinkUri.parse("tcp://")) == str(LinkUri.parse("tcp:")) == "tcp:"


def test_too_long_uri_is_refused() -> None:
    with pytest.raises(PeerUriError, match="longer than"):
        LinkUri.parse("tcp://" + "x" * MAX_URL_LENGTH)


def test_password_too_long() -> None:
    assert LinkUri.parse("tcp://h:1?password=" + "x" * 64).dial_options().password == b"x" * 64
    for options in (LinkUri.dial_options, LinkUri.listen_options):
        with pytest.raises(PeerUriError, match=r"^invalid password supplied$"):
            options(LinkUri.parse("tcp://h:1?password=" + "x" * 65))


def test_password_is_percent_decoded_to_bytes() -> None:
    assert LinkUri.parse("tcp://h:1?password=a+b%2Bc%ff").dial_options().password == b"a b+c\xff"


def test_keys_are_cut_and_padded_as_in_go() -> None:
    uri = "tcp://h:1?key=AAbb&key=" + "11" * 33 + "&key="
    expected = frozenset((b"\xaa\xbb" + bytes(30), b"\x11" * 32, bytes(32)))
    assert LinkUri.parse(uri).dial_options().pinned_keys == expected


def test_defaults_and_unknown_options() -> None:
    expected = LinkOptions(server_name="h.example")
    assert LinkUri.parse("tls://h.example:1?colour=red&priority=&maxbackoff=").dial_options() == expected


def test_listener_reads_priority_password_and_cost_only() -> None:
    options = LinkUri.parse("tls://[::]:1?priority=7&password=x&key=zz&maxbackoff=1s&cost=9").listen_options()
    assert options == LinkOptions(priority=7, password=b"x", cost=9)
    with pytest.raises(PeerUriError, match=r"^priority value is invalid$"):
        LinkUri.parse("tls://[::]:1?priority=300").listen_options()


@pytest.mark.parametrize(("text", "cost"), [("1", 1), ("65535", 65535), ("000065535", 65535), ("", None)])
def test_the_cost_of_a_link_may_be_set(text: str, cost: int | None) -> None:
    uri = LinkUri.parse(f"tls://192.0.2.1:1?cost={text}&cost=7")
    assert uri.dial_options().cost == uri.listen_options().cost == cost
    assert str(uri) == "tls://192.0.2.1:1"


@pytest.mark.parametrize("text", ["0", "00", "65536", "-1", "+1", "1.5", "1e3", "x", "%D9%A1", "9" * 500])
def test_a_cost_that_is_none(text: str) -> None:
    uri = LinkUri.parse(f"tls://192.0.2.1:1?cost={text.replace('+', '%2B')}")
    for options in (uri.dial_options, uri.listen_options):
        with pytest.raises(PeerUriError, match=r"^cost value is invalid: it is a whole number from 1 to 65535$"):
            options()


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("tls://peer.example:1", "peer.example"),
        ("tls://peer.example.:1", "peer.example"),
        ("tls://192.0.2.1:1", None),
        ("tls://[2001:db8::1]:1", None),
        ("tls://[fe80::1%25eth0]:1", None),
        ("tls://192.0.2.1:1?sni=front.example", "front.example"),
        ("tls://peer.example:1?sni=192.0.2.7", "peer.example"),
        ("tls://peer.example", None),
    ],
)
def test_server_name(uri: str, name: str | None) -> None:
    assert LinkUri.parse(uri).dial_options().server_name == name


def test_incoming_identity_takes_the_remote_address() -> None:
    listener = LinkUri.parse("tls://[::]:4000/x?password=y")
    assert str(listener.with_host("[fe80::1%eth0]:5")) == "tls://[fe80::1%25eth0]:5/x"
    assert str(LinkUri.parse("unix:///run/peer.sock").with_host("@")) == "unix://%40/run/peer.sock"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5.0),
        ("1m30s", 90.0),
        ("1h", 3600.0),
        ("1.5h", 5400.0),
        ("300ms", 0.3),
        ("0", 0.0),
        ("-2s", -2.0),
        ("2µs", 2e-6),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", ".s", "5x", "5s5", "1e3s", "--5s", "9999999h", "9" * 70 + "s", "5 s"])
def test_malformed_durations(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "missing port in address"),
        ("10.77.0.2", "address 10.77.0.2: missing port in address"),
        ("[::1]", "address [::1]: missing port in address"),
        ("1:2:3", "address 1:2:3: too many colons in address"),
        ("[::1", "address [::1: missing ']' in address"),
        ("a[b]:1", "address a[b]:1: unexpected '[' in address"),
    ],
)
def test_split_host_port_errors(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        split_host_port(text)
    assert str(caught.value) == error


def test_split_host_port() -> None:
    assert split_host_port("[fe80::1%eth0]:80") == ("fe80::1%eth0", "80")
    assert split_host_port(":80") == ("", "80")


def test_query_leaves_out_what_is_malformed() -> None:
    assert parse_query(b"a=1&a=2&b=%zz&c=1;2&&d") == {"a": [b"1", b"2"], "d": [b""]}


def test_go_quote() -> None:
    assert go_quote('a"\\\n\x01\x7f\u00e9\u200b'.encode() + b"\xff") == '"a\\"\\\\\\n\\x01\\x7f\u00e9\\u200b\\xff"'
