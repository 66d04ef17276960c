"""The node's TLS certificate (protocol section 14.5): self-signed, made in memory at start, never verified by anyone.

It looks like the one that Go makes, because that is what firewalls and monitoring have seen so far. Nothing rests on
it: the handshake above TLS proves the node key.
"""

from __future__ import annotations

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from yggpy.datapath.base import TlsIdentity
from yggpy.keys import PrivateKey

__all__ = ["make_identity"]

SERIAL_NUMBER = 1
NEVER_EXPIRES = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
"""RFC 5280, section 4.1.2.5: no well-defined expiration date."""


def make_identity(private_key: PrivateKey) -> TlsIdentity:
    """Return a fresh certificate for the node key, and that key, both PEM."""
    key = Ed25519PrivateKey.from_private_bytes(private_key.seed)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, private_key.public_key.hex())])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(SERIAL_NUMBER)
        .not_valid_before(datetime.datetime.now(datetime.UTC))
        .not_valid_after(NEVER_EXPIRES)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_encipherment=True,
                content_commitment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    return TlsIdentity(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
