"""The node's TLS certificate (protocol section 14.5): self-signed, made in memory at start, never verified by anyone.

It looks like the one that Go makes, because that is what firewalls and monitoring have seen so far. Nothing rests on
it: the handshake above TLS proves the node key.

Where the native data plane is built, C makes it (``native/src/certificate.c``): the library that is used here otherwise
would be a fifth of the memory of such a node, which needs it for nothing else.
"""

from __future__ import annotations

from yggpy.datapath.base import TlsIdentity
from yggpy.datapath.choice import choose_datapath
from yggpy.keys import PrivateKey

__all__ = ["make_identity", "make_identity_in_python"]

SERIAL_NUMBER = 1


def make_identity(private_key: PrivateKey) -> TlsIdentity:
    """Return a fresh certificate for the node key, and that key, both PEM."""
    if choose_datapath().name == "pure":
        return make_identity_in_python(private_key)
    from yggpy.datapath._native import make_certificate

    return TlsIdentity(*make_certificate(private_key.seed, private_key.public_key.hex()))


def make_identity_in_python(private_key: PrivateKey) -> TlsIdentity:
    """Do the same without the native data plane."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = Ed25519PrivateKey.from_private_bytes(private_key.seed)
    never_expires = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)  # RFC 5280, section 4.1.2.5
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, private_key.public_key.hex())])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(SERIAL_NUMBER)
        .not_valid_before(datetime.datetime.now(datetime.UTC))
        .not_valid_after(never_expires)
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
