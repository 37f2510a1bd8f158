"""Signed requests: someone who sees the key in a log or a proxy cannot send new requests with it.

The signature covers a hash of the body and is checked before the body is read; `limited_body` then compares the body
with that hash. A captured request that is sent again within the tolerance is answered like any repeat: its idempotency
key and version are part of the signature.
"""

from __future__ import annotations

import hmac
import time

from fastapi import Request

from refund_worker.request_signing import HEADER, SIGNED_HEADERS, signature
from refund_worker.web.methods import SENT_METHOD
from refund_worker.web.problems import SignatureInvalid, SignatureMissing, SignatureStale

# Tolerance in both directions, for clocks that differ and calls that wait.
TOLERANCE_SECONDS = 300
_PARTS = ("t", "sha256", "v1")


def check_signature(request: Request, secret: str) -> None:
    """Check the signature of a request and keep the hash that its body must have, for `check_body`.

    Raises `SignatureMissing`, `SignatureInvalid` or `SignatureStale`.
    """
    values = request.headers.getlist(HEADER)
    if not values:
        raise SignatureMissing(f"this key's requests must be signed: send the header {HEADER}")
    at, sha256, presented = _parts(values)
    expected = signature(
        secret,
        at=at,
        method=request.scope.get(SENT_METHOD, request.method),
        target=_target(request),
        headers=tuple(", ".join(request.headers.getlist(name)) for name in SIGNED_HEADERS),
        body_sha256=sha256,
    )
    if not hmac.compare_digest(expected, presented):
        raise SignatureInvalid(f"the signature in {HEADER} does not match this request")
    # Check the age last: the answer must not reveal whether an old signature was right.
    if abs(time.time() - at) > TOLERANCE_SECONDS:
        raise SignatureStale(
            "the signature is too old or in the future: check the clocks, and sign each request again before it is sent"
        )
    request.state.body_sha256 = sha256


def check_body(request: Request, sha256: str) -> None:
    """Check that the body has the signed hash. Raises `SignatureInvalid` otherwise."""
    signed: str | None = getattr(request.state, "body_sha256", None)
    if signed is not None and not hmac.compare_digest(signed, sha256):
        raise SignatureInvalid(f"the body is not the one that {HEADER} was made for")


def _parts(values: list[str]) -> tuple[int, str, str]:
    pairs = [part.strip().partition("=") for part in values[0].split(",")] if len(values) == 1 else []
    found = {name: value for name, _, value in pairs}
    at, sha256, presented = (found.get(name, "") for name in _PARTS)
    well_formed = len(pairs) == len(found) == len(_PARTS) and at.isdigit() and len(at) < 16
    if not well_formed or not (at + sha256 + presented).isascii():
        raise SignatureInvalid(f"{HEADER} must be t=SECONDS,sha256=BODY_HASH,v1=SIGNATURE, once")
    return int(at), sha256, presented


def _target(request: Request) -> str:
    """Return path and query as they were sent, undecoded."""
    query: bytes = request.scope["query_string"]
    target: bytes = request.scope["raw_path"] + (b"?" + query if query else b"")
    return target.decode("utf-8", "surrogateescape")
