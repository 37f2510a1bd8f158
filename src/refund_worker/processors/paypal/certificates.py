"""The signing certificate of PayPal's webhooks: reading it, and checking an RSA signature with its key. Pure.

The standard library reads no certificate and checks no signature, and the project has no other package for it. Only
what this needs is here: DER as in X.690, the fields of X.509 (RFC 5280), and RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017,
8.2.2). The expected bytes are built and compared whole, so nothing of a signature is ever parsed.

The chain of the certificate is not checked. It is trusted because it came over TLS from PayPal's own server, whose
certificate the operating system's authorities vouch for.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")
PEM_LENGTH_MAX: Final = 65_536
BITS_MIN, BITS_MAX = 2_048, 8_192
EXPONENT_MAX: Final = 2**32

_SEQUENCE, _SET, _OID, _INTEGER, _BITS, _VERSION = 0x30, 0x31, 0x06, 0x02, 0x03, 0xA0
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_TEXTS: Final = frozenset({0x0C, 0x13, 0x16})  # UTF8String, PrintableString, IA5String
_COMMON_NAME: Final = bytes.fromhex("550403")
_RSA: Final = bytes.fromhex("2a864886f70d010101")
# The DER of DigestInfo for SHA-256, without the digest (RFC 8017, 9.2, note 1).
_SHA256_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")


class BadCertificate(ValueError):
    """A text that is no certificate with an RSA key of a usable size."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The fields of a certificate that are used. The times are epoch seconds."""

    common_name: str
    not_before: float
    not_after: float
    modulus: int
    exponent: int

    def is_valid_at(self, now: float) -> bool:
        """Return True if the certificate is valid at this time (epoch seconds)."""
        return self.not_before <= now <= self.not_after


def certificate_of(pem: str) -> Certificate:
    """Return the first certificate of a PEM text. Raises `BadCertificate`."""
    found = PEM.search(pem[:PEM_LENGTH_MAX])
    if found is None:
        raise BadCertificate("the text has no certificate")
    try:
        return _read(ssl.PEM_cert_to_DER_cert(found.group().strip()))
    except (ValueError, IndexError) as error:
        raise BadCertificate("the certificate cannot be read") from error


def is_signed(certificate: Certificate, signature: bytes, message: bytes) -> bool:
    """Return True if the certificate's key made the signature of the message: RSA, PKCS #1 version 1.5, SHA-256."""
    size = (certificate.modulus.bit_length() + 7) // 8
    value = int.from_bytes(signature, "big")
    if len(signature) != size or value >= certificate.modulus:
        return False
    info = _SHA256_INFO + hashlib.sha256(message).digest()
    expected = b"\x00\x01" + b"\xff" * (size - len(info) - 3) + b"\x00" + info
    return hmac.compare_digest(expected, pow(value, certificate.exponent, certificate.modulus).to_bytes(size, "big"))


@dataclass(frozen=True, slots=True)
class _Value:
    """One value of DER: its tag and its content."""

    tag: int
    content: bytes

    def parts(self) -> Iterator[_Value]:
        """Yield the values in the content of a SEQUENCE or SET."""
        rest = self.content
        while rest:
            value, rest = _first(rest)
            yield value

    def checked(self, tag: int) -> _Value:
        """Return the value. Raises `ValueError` if it has another tag."""
        if self.tag != tag:
            raise ValueError("a value of another kind than expected")
        return self


def _first(data: bytes) -> tuple[_Value, bytes]:
    """Return the first value of DER and the bytes behind it. Raises `ValueError` or `IndexError`."""
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            raise ValueError("a length of no usable form")
        start += count
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("a value that ends early")
    return _Value(tag, data[start : start + length]), data[start + length :]


def _read(der: bytes) -> Certificate:
    whole, behind = _first(der)
    if behind:
        raise ValueError("bytes behind the certificate")
    fields = list(next(whole.checked(_SEQUENCE).parts()).checked(_SEQUENCE).parts())
    if fields[0].tag == _VERSION:
        fields = fields[1:]
    # serial number, algorithm of the signature, issuer, validity, subject, key
    validity, subject, key = (fields[place].checked(_SEQUENCE) for place in (3, 4, 5))
    not_before, not_after = (_time(value) for value in validity.parts())
    modulus, exponent = _rsa_key(key)
    return Certificate(_common_name(subject), not_before, not_after, modulus, exponent)


def _rsa_key(key: _Value) -> tuple[int, int]:
    algorithm, bits = key.parts()
    if next(algorithm.checked(_SEQUENCE).parts()) != _Value(_OID, _RSA):
        raise ValueError("the key is no RSA key")
    content = bits.checked(_BITS).content
    if content[0] != 0:  # the number of unused bits
        raise ValueError("a key of no whole bytes")
    numbers, behind = _first(content[1:])
    modulus, exponent = (
        int.from_bytes(number.checked(_INTEGER).content, "big", signed=True)
        for number in numbers.checked(_SEQUENCE).parts()
    )
    if behind or not BITS_MIN <= modulus.bit_length() <= BITS_MAX or modulus < 0 or modulus % 2 == 0:
        raise ValueError("the key has no usable size")
    if not 3 <= exponent < EXPONENT_MAX or exponent % 2 == 0:
        raise ValueError("the key has no usable exponent")
    return modulus, exponent


def _common_name(subject: _Value) -> str:
    """Return the subject's only common name, an empty text if it has none or several."""
    names = []
    for relative in subject.parts():
        for attribute in relative.checked(_SET).parts():
            kind, value = attribute.checked(_SEQUENCE).parts()
            if kind == _Value(_OID, _COMMON_NAME) and value.tag in _TEXTS:
                names.append(value.content.decode("utf-8"))
    return names[0] if len(names) == 1 else ""


def _time(value: _Value) -> float:
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(value.tag)
    if form is None:
        raise ValueError("no time")
    # Two digits of a year mean 1950 to 2049 (RFC 5280, 4.1.2.5.1); for Python, 69 to 99 are of the last century.
    return datetime.strptime(value.content.decode("ascii"), form).replace(tzinfo=UTC).timestamp()
