"""Signing a request with a secret that is never sent: what the client adds, and what the server expects.

Standard library only: a backend in another language needs the same few lines. The signature is HMAC-SHA256, in
hexadecimal, with the signing secret's own text as the key, over six lines joined by a line feed:

    seconds since the epoch
    method, such as POST
    path and query as sent, such as /v1/refunds?limit=10
    the header Idempotency-Key, empty where there is none
    the header If-Match, empty where there is none
    SHA-256 of the body, in hexadecimal

and is sent as `Refund-Worker-Signature: t=SECONDS,sha256=BODY_HASH,v1=SIGNATURE`.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "Refund-Worker-Signature"
# The two headers that change what a request does; whoever heard one request must not be able to give it another key.
SIGNED_HEADERS = ("Idempotency-Key", "If-Match")


def body_hash(body: bytes | bytearray) -> str:
    return hashlib.sha256(body).hexdigest()


def signature(secret: str, *, at: int, method: str, target: str, headers: tuple[str, ...], body_sha256: str) -> str:
    """The signature alone; `headers` are the values of `SIGNED_HEADERS`, `at` is in seconds since the epoch."""
    signed = "\n".join((str(at), method, target, *headers, body_sha256))
    return hmac.new(secret.encode(), signed.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def signature_header(
    secret: str, *, at: int, method: str, target: str, headers: tuple[str, ...], body: bytes = b""
) -> str:
    """The value of `Refund-Worker-Signature` for a request."""
    its_hash = body_hash(body)
    made = signature(secret, at=at, method=method, target=target, headers=headers, body_sha256=its_hash)
    return f"t={at},sha256={its_hash},v1={made}"
