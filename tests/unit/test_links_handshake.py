"""The handshake over a byte stream, the judgement on who is there, the certificate, and back-off."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.unit.links_fakes import KEY_A, KEY_B, stream_and_socket
from tests.unit.vectors import load
from yggpy.datapath.base import TlsIdentity
from yggpy.datapath.certificate import make_identity, make_identity_in_python
from yggpy.errors import YggpyError
from yggpy.keys import PrivateKey
from yggpy.links.backoff import Backoff
from yggpy.links.handshake import HANDSHAKE_TIMEOUT, PeerRefusedError, SelfConnectionError, exchange, judge
from yggpy.links.uri import LinkOptions
from yggpy.wire.handshake import encode_handshake


async def answer_to(message: bytes, options: LinkOptions | None = None) -> Any:
    """Return the result of a handshake with somebody who says ``message`` and then no more, or its error text."""
    stream, other = stream_and_socket()
    try:
        other.send(message)
        other.shutdown(1)
        result = await exchange(stream, KEY_A, options or LinkOptions())
        assert other.recv(1000) == encode_handshake(KEY_A, (options or LinkOptions()).password)
        return result
    except (OSError, YggpyError) as error:
        return str(error)
    finally:
        stream.close()
        other.close()


@pytest.mark.parametrize("case", load("meta")["malformed"], ids=lambda case: str(case["description"]))
async def test_malformed_messages_of_the_vectors(case: dict[str, Any]) -> None:
    result = await answer_to(bytes.fromhex(case["message"]))
    if case["error"] is not None:
        assert result == case["error"]
    elif not case["version_check"]:
        assert result == f"remote node incompatible version (local 0.5, remote {case['major']}.{case['minor']})"
    else:
        assert result.remote.public_key.hex() == case["public"]
        assert result.remote.priority == case["priority"]


async def test_both_sides_speak_at_once_and_count_bytes() -> None:
    one, other = stream_and_socket()
    options = LinkOptions(password=b"secret", priority=4)
    other.send(encode_handshake(KEY_B, b"secret", 7) + b"\1\1")
    result = await exchange(one, KEY_A, options)
    assert result.remote.public_key == KEY_B.public_key
    assert (result.remote.priority, result.bytes_sent, result.bytes_received) == (7, 123, 123)
    assert await one.read_exactly(2) == b"\1\1"
    one.close()
    other.close()


async def test_wrong_password() -> None:
    message = encode_handshake(KEY_B, b"other")
    assert await answer_to(message, LinkOptions(password=b"secret")) == "password does not match remote side"
    assert await answer_to(message) == "password does not match remote side"


async def test_longest_message_is_read_and_refused_without_reading_more() -> None:
    assert await answer_to(b"meta\xff\xff" + bytes(65535)) == "invalid handshake length, possible version mismatch"
    assert await answer_to(b"meta\xff\xff" + bytes(65534)) == "unexpected EOF"


def test_judgement() -> None:
    a, b = KEY_A.public_key, KEY_B.public_key
    judge(b, a, frozenset(), None)
    judge(b, a, frozenset((b,)), frozenset((b,)))
    judge(b, a, frozenset(), frozenset())
    with pytest.raises(SelfConnectionError, match=r"^node cannot connect to self$"):
        judge(a, a, frozenset((b,)), frozenset((b,)))
    with pytest.raises(PeerRefusedError, match=r"^node public key that does not match pinned keys$"):
        judge(b, a, frozenset((a,)), frozenset((a,)))
    with pytest.raises(PeerRefusedError) as caught:
        judge(b, a, frozenset(), frozenset((a,)))
    assert str(caught.value) == f'node public key "{b.hex()}" is not in AllowedPublicKeys'


def test_time_limit() -> None:
    assert HANDSHAKE_TIMEOUT == 6.0


async def test_cancelled_exchange_leaves_no_watcher() -> None:
    stream, other = stream_and_socket()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await exchange(stream, KEY_A, LinkOptions())
    stream.close()
    other.close()


# -- back-off ------------------------------------------------------------------------------------------------


def test_backoff_doubles_to_its_limit() -> None:
    backoff = Backoff(4096.0)
    assert [backoff.next_delay() for _ in range(14)] == [float(2**n) for n in range(1, 13)] + [4096.0] * 2
    backoff.reset()
    assert backoff.next_delay() == 2.0
    backoff = Backoff(1e30)
    assert [backoff.next_delay() for _ in range(40)][-9:] == [2.0**32] * 9
    assert [Backoff(5.0).next_delay()] == [2.0]


# -- certificate ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [make_identity, make_identity_in_python])
def test_certificate_looks_like_that_of_go(make: Callable[[PrivateKey], TlsIdentity]) -> None:
    identity = make(KEY_A)
    certificate = x509.load_pem_x509_certificate(identity.certificate_pem)
    assert certificate.version is x509.Version.v3
    assert certificate.serial_number == 1
    assert certificate.subject == certificate.issuer
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == [KEY_A.public_key.hex()]
    key = certificate.public_key()
    assert isinstance(key, Ed25519PublicKey)
    assert key.public_bytes(Encoding.Raw, PublicFormat.Raw) == KEY_A.public_key
    key.verify(certificate.signature, certificate.tbs_certificate_bytes)
    assert certificate.not_valid_after_utc == datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    assert certificate.not_valid_before_utc <= datetime.datetime.now(datetime.UTC)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature and usage.key_encipherment and not usage.key_cert_sign
    extended = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(extended) == [ExtendedKeyUsageOID.SERVER_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert b"PRIVATE KEY" in identity.private_key_pem
