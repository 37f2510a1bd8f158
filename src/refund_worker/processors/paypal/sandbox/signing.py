"""How the sandbox signs its events. PayPal signs with the key of a certificate; the sandbox needs only to know its own.

The signature of a `KeyedHash` can be checked by asking the sandbox, as PayPal's can (postback). Tests of the other way,
by certificate, give the server a signer that has one.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Signer(Protocol):
    """Signs events. The same message always gets the same signature, so signing again checks it."""

    @property
    def certificate_pem(self) -> str:
        """The certificate of the key; empty without one."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message."""
        ...


class KeyedHash:
    """Signs with a key of this process alone, and has no certificate."""

    certificate_pem = ""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def sign(self, message: bytes) -> bytes:
        """Return the HMAC of a message."""
        return hmac.digest(self._key, message, hashlib.sha256)


def signed_headers(
    sign: Callable[[bytes], bytes],
    body: bytes,
    *,
    webhook_id: str,
    at: float,
    certificate_url: str,
    transmission_id: str = "69cd13f0-d67a",
) -> dict[str, str]:
    """Return the headers, by lower-case name, of an event that is signed at `at` (epoch seconds)."""
    time = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "paypal-transmission-id": transmission_id,
        "paypal-transmission-time": time,
        "paypal-transmission-sig": base64.b64encode(sign(signed_text(transmission_id, time, webhook_id, body))).decode(
            "ascii"
        ),
        "paypal-cert-url": certificate_url,
        "paypal-auth-algo": "SHA256withRSA",
    }


def signed_text(transmission_id: str, time: str, webhook_id: str, body: bytes) -> bytes:
    """Return the text that a signature is of."""
    return f"{transmission_id}|{time}|{webhook_id}|{zlib.crc32(body) & 0xFFFFFFFF}".encode()
