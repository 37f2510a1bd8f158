"""Sign a request with a secret that is never sent. The client adds the signature, and the server checks it.

Standard library only: a backend in another language needs the same few lines. The signature is HMAC-SHA256, in
hexadecimal, with the signing secret's own text as the key, over six lines joined by a line feed:

    seconds since the epoch
    method, such as POST
    path and query as sent, such as /v1/refunds?limit=10
    the header Idempotency-Key, or an empty line
    the header If-Match, or an empty line
    SHA-256 of the body, in hexadecimal

and is sent as `Refund-Worker-Signature: t=SECONDS,sha256=BODY_HASH,v1=SIGNATURE`.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "Refund-Worker-Signature"
# The two headers that change what a request does. An eavesdropper must not be able to repeat it with another key.
SIGNED_HEADERS = ("Idempotency-Key", "If-Match")


def body_hash(body: bytes | bytearray) -> str:
    """Return the SHA-256 of the body, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def signature(secret: str, *, at: int, method: str, target: str, headers: tuple[str, ...], body_sha256: str) -> str:
    """Return the signature alone. `headers` are the values of `SIGNED_HEADERS`, `at` is in epoch seconds."""
    signed = "\n".join((str(at), method, target, *headers, body_sha256))
    return hmac.new(secret.encode(), signed.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def signature_header(
    secret: str, *, at: int, method: str, target: str, headers: tuple[str, ...], body: bytes = b""
) -> str:
    """Return the value of the header `Refund-Worker-Signature` for a request; `at` is in epoch seconds."""
    its_hash = body_hash(body)
    made = signature(secret, at=at, method=method, target=target, headers=headers, body_sha256=its_hash)
    return f"t={at},sha256={its_hash},v1={made}"
