"""The signing certificate of PayPal's webhooks: reading it, and checking an RSA signature with its key. Pure.

The chain of the certificate is not checked. It is trusted because it came over TLS from PayPal's own server, whose
certificate the operating system's authorities vouch for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from refund_worker.extras import require

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID
except ImportError:
    require("paypal")
    raise

PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
BITS_MIN, BITS_MAX = 2_048, 8_192


class BadCertificate(ValueError):
    """A text that is no certificate with an RSA key of a usable size."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The fields of a certificate that are used. The times are epoch seconds."""

    common_name: str
    not_before: float
    not_after: float
    key: RSAPublicKey

    def is_valid_at(self, now: float) -> bool:
        """Return True if the certificate is valid at this time (epoch seconds)."""
        return self.not_before <= now <= self.not_after


def certificate_of(pem: str) -> Certificate:
    """Return the first certificate of a PEM text. Raises `BadCertificate`."""
    found = PEM.search(pem)
    if found is None:
        raise BadCertificate("the text has no certificate")
    try:
        read = x509.load_pem_x509_certificate(found.group().encode("ascii"))
        key, names = read.public_key(), read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except Exception as error:
        raise BadCertificate("the certificate cannot be read") from error
    if not isinstance(key, RSAPublicKey) or not BITS_MIN <= key.key_size <= BITS_MAX:
        raise BadCertificate("the certificate has no RSA key of a usable size")
    name = str(names[0].value) if len(names) == 1 else ""
    return Certificate(name, read.not_valid_before_utc.timestamp(), read.not_valid_after_utc.timestamp(), key)


def is_signed(certificate: Certificate, signature: bytes, message: bytes) -> bool:
    """Return True if the certificate's key made the signature of the message: RSA, PKCS #1 version 1.5, SHA-256."""
    try:
        certificate.key.verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
