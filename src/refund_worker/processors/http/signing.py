"""The signature of requests and events: Standard Webhooks, in both directions. Pure, and standard library only.

Three headers carry it: `webhook-id`, `webhook-timestamp` (seconds since the epoch) and `webhook-signature`. The last is
`v1,` and the base64 of HMAC-SHA256 over `ID.TIMESTAMP.CONTENT`, keyed with the bytes of the secret. The content of an
event is its body. The content of a request has two more lines before the body, so that a captured
signature is good for no other path and no other key:

    POST /refunds
    the header Idempotency-Key, or an empty line
    the body as it is sent
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"
HEADERS: Final = (ID, TIMESTAMP, SIGNATURE)
KEY: Final = "Idempotency-Key"
TOLERANCE_SECONDS: Final = 300
# During a rotation there is one signature for each secret. More than these are not compared.
SIGNATURES_MAX: Final = 10
_DIGITS_MAX: Final = 12
_VERSION: Final = "v1,"


class WrongSignature(ValueError):
    """The signature was made by another secret than ours."""


class NoSignature(WrongSignature):
    """The headers of the signature are missing or broken."""


class NotRecent(WrongSignature):
    """The signature was made at another time: a clock is wrong, or the message is sent again."""


def content_of_request(method: str, target: str, key: str, body: bytes) -> bytes:
    """Return what the signature of a request covers. `target` is path and query as they are sent."""
    return f"{method} {target}\n{key}\n".encode() + body


def sign(secret: str, message_id: str, at: int, content: bytes) -> str:
    """Return one signature, such as `v1,K5oZ…=`. `at` is in epoch seconds. Raises `ValueError` for a wrong secret."""
    signed = f"{message_id}.{at}.".encode() + content
    made = hmac.new(secret_bytes(secret), signed, hashlib.sha256).digest()
    return _VERSION + base64.b64encode(made).decode("ascii")


def signature_headers(secrets: Sequence[str], message_id: str, at: int, content: bytes) -> dict[str, str]:
    """Return the three headers, with a signature by each of `secrets`."""
    made = " ".join(sign(secret, message_id, at, content) for secret in secrets)
    return {ID: message_id, TIMESTAMP: str(at), SIGNATURE: made}


def check(headers: Mapping[str, str], content: bytes, secrets: Sequence[str], now: float) -> None:
    """Raise `WrongSignature` unless one of `secrets` signed `content` within five minutes of `now` (epoch seconds).

    `headers` have lower-case names. All secrets are tried, so that the time does not show which one was right.
    """
    message_id, timestamp, given = (headers.get(name, "") for name in (ID, TIMESTAMP, SIGNATURE))
    usable = timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _DIGITS_MAX
    if not (message_id and message_id.isascii() and usable and given):
        raise NoSignature("the headers webhook-id, webhook-timestamp and webhook-signature are missing or broken")
    signatures = [each.encode("utf-8", "replace") for each in given.split()[:SIGNATURES_MAX]]
    good = False
    for secret in secrets:
        expected = sign(secret, message_id, int(timestamp), content).encode("ascii")
        for signature in signatures:
            good |= hmac.compare_digest(expected, signature)
    if not good:
        raise WrongSignature("none of the secrets set here made the signature")
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        raise NotRecent("the signature was not made just now: is a clock wrong, or is it an old message sent again?")


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for: base64, with or without `whsec_` before it. Raises `ValueError`."""
    text = secret.removeprefix("whsec_")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("the secret is not base64") from None
