"""Checking that an event is PayPal's: by its signature and PayPal's certificate, or by asking PayPal (postback).

These functions run in a thread of the web process. Each event costs at most a few calls, bounded in time and size, and
only some events are checked at once. Events that cannot be checked now are refused: PayPal delivers them again.

Facts, read 2026-11: notifications_webhooks_v1.json (postback), developer.paypal.com/api/rest/webhooks/rest (signed
text), and a copy of PayPal's Java SDK (the certificate's common name).
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from refund_worker.domain.processor_replies import NotSent
from refund_worker.processors.base import EventFault, InvalidEvent
from refund_worker.processors.paypal import access, events
from refund_worker.processors.wire import HttpAnswer, Unreadable

if TYPE_CHECKING:  # only checking by certificate needs its package
    from refund_worker.processors.paypal.certificates import Certificate

VERIFY_PATH: Final = "/v1/notifications/verify-webhook-signature"
CALL_SECONDS_MAX: Final = 8.0
ANSWER_BYTES_MAX: Final = 65_536
AT_ONCE_MAX: Final = 8
WAIT_SECONDS_MAX: Final = 2.0
CERTIFICATES_MAX: Final = 16
# An unknown certificate is looked for this often a minute: anybody can name any number of them.
LOOK_UPS_A_MINUTE_MAX: Final = 20

_CERTIFICATE_PATH = re.compile(r"/v1/notifications/certs/[A-Za-z0-9_.-]{1,200}")
# Not read on a page of PayPal's: known from published examples (api.paypal.com, api.sandbox.paypal.com).
_HOSTS: Final = {
    True: frozenset({"api.paypal.com", "api-m.paypal.com"}),
    False: frozenset({"api.sandbox.paypal.com", "api-m.sandbox.paypal.com"}),
}
_COMMON_NAME = re.compile(r"messageverificationcerts(\.sandbox)?\.paypal\.com")


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects are not followed: one on any host of PayPal's could lead to another's certificate."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        """Return None: the answer is the redirect itself, an error."""


_opener = urllib.request.build_opener(NoRedirects)
_slots = threading.BoundedSemaphore(AT_ONCE_MAX)
_lock = threading.Lock()
_certificates: dict[str, Certificate] = {}
_look_ups: list[float] = []
_tokens: dict[tuple[str, str, str], access.Token] = {}


def verify_by_certificate(
    webhook_ids: tuple[str, ...], base: str | None, live: bool, headers: Mapping[str, str], body: bytes, now: float
) -> None:
    """Raise `InvalidEvent` unless PayPal's certificate signed `body` for one of these webhooks; `now` is epoch seconds.

    `base` is a test's server, whose certificates are then the only ones that are accepted.
    """
    from refund_worker.processors.paypal.certificates import is_signed

    sent = events.Transmission.of(headers, now)
    signature = sent.signature_bytes()
    url = sent.certificate_url
    if not is_certificate_url(url, base, live=live):
        raise InvalidEvent("PayPal-Cert-Url is no address of a certificate at PayPal", EventFault.BAD_SIGNATURE)
    certificate = _certificate(url, now)
    if not certificate.is_valid_at(now) or not _COMMON_NAME.fullmatch(certificate.common_name):
        raise InvalidEvent("the certificate is not PayPal's, or is not valid now", EventFault.BAD_SIGNATURE)
    good = [is_signed(certificate, signature, sent.signed_text(webhook_id, body)) for webhook_id in webhook_ids]
    if not any(good):
        raise InvalidEvent("the signature is not for this webhook and body", EventFault.BAD_SIGNATURE)


def verify_by_postback(
    webhook_ids: tuple[str, ...],
    base: str,
    credentials: tuple[str, str],
    headers: Mapping[str, str],
    body: bytes,
    now: float,
) -> None:
    """Raise `InvalidEvent` unless PayPal says that it signed `body` for one of these webhooks.

    `credentials` are the client's id and secret; `now` is epoch seconds.
    """
    sent = events.Transmission.of(headers, now)
    events.event_object(body)
    with _one_of_few():
        for webhook_id in webhook_ids:
            if _says_yes(base, credentials, _question(sent, webhook_id, body)):
                return
    raise InvalidEvent("PayPal says that the event is not its own for this webhook", EventFault.BAD_SIGNATURE)


def is_certificate_url(url: str, base: str | None, *, live: bool) -> bool:
    """Return True if a certificate may be fetched from this address: one of PayPal's hosts for the mode, over https.

    With `base`, only that server.
    """
    try:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        return False
    if not url.isascii() or not url.isprintable() or not _CERTIFICATE_PATH.fullmatch(parts.path):
        return False
    if "?" in url or "#" in url or ".." in parts.path:
        return False
    return place == base.rstrip("/") if base else place in {f"https://{host}" for host in _HOSTS[live]}


def forget() -> None:
    """Forget certificates and tokens, for tests."""
    with _lock:
        _certificates.clear()
        _look_ups.clear()
        _tokens.clear()


@contextmanager
def _one_of_few() -> Iterator[None]:
    """Allow only some calls at once, so that a flood of false events does not use up all threads and PayPal's limit."""
    if not _slots.acquire(timeout=WAIT_SECONDS_MAX):
        raise _unchecked("too many events are being checked")
    try:
        yield
    finally:
        _slots.release()


def _unchecked(why: str) -> InvalidEvent:
    return InvalidEvent(f"the event could not be checked now, PayPal sends it again: {why}", EventFault.BAD_SIGNATURE)


def _certificate(url: str, now: float) -> Certificate:
    from refund_worker.processors.paypal.certificates import BadCertificate, certificate_of

    known = _certificates.get(url)
    if known is not None and known.is_valid_at(now):
        return known
    with _lock:
        this_minute = [at for at in _look_ups if time.monotonic() - at < 60]
        _look_ups[:] = [*this_minute, time.monotonic()][:LOOK_UPS_A_MINUTE_MAX]
    if len(this_minute) >= LOOK_UPS_A_MINUTE_MAX:
        raise _unchecked("too many different certificates were named in a minute")
    with _one_of_few():
        answer = _call(urllib.request.Request(url, headers={"Accept": "*/*"}))  # noqa: S310 -- checked before
    if answer.status != 200:
        raise _unchecked(f"its certificate could not be fetched: HTTP {answer.status}")
    try:
        found = certificate_of(answer.body.decode("ascii", "replace"))
    except BadCertificate as error:
        raise InvalidEvent(f"PayPal-Cert-Url: {error}", EventFault.BAD_SIGNATURE) from None
    with _lock:
        if len(_certificates) >= CERTIFICATES_MAX:
            del _certificates[next(iter(_certificates))]
        _certificates[url] = found
    return found


def _question(sent: events.Transmission, webhook_id: str, body: bytes) -> bytes:
    """Return the JSON that asks PayPal about an event. It contains the event byte by byte, as PayPal sent it."""
    fields = {
        "auth_algo": sent.algorithm,
        "cert_url": sent.certificate_url,
        "transmission_id": sent.transmission_id,
        "transmission_sig": sent.signature,
        "transmission_time": sent.time,
        "webhook_id": webhook_id,
    }
    return json.dumps(fields)[:-1].encode() + b', "webhook_event": ' + body + b"}"


def _says_yes(base: str, credentials: tuple[str, str], question: bytes) -> bool:
    token = _token(base, credentials, None)
    answer = _ask(base, token, question)
    if answer.status == 401:
        answer = _ask(base, _token(base, credentials, token), question)
    if answer.status != 200:
        raise _unchecked(f"PayPal answered HTTP {answer.status}")
    try:
        said = answer.json()
    except Unreadable as error:
        raise _unchecked(str(error)) from None
    return isinstance(said, dict) and said.get("verification_status") == "SUCCESS"


def _ask(base: str, token: access.Token, question: bytes) -> HttpAnswer:
    headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
    return _call(urllib.request.Request(base + VERIFY_PATH, data=question, headers=headers))  # noqa: S310


def _token(base: str, credentials: tuple[str, str], refused: access.Token | None) -> access.Token:
    place = (base, *credentials)
    with _lock:
        known = _tokens.get(place)
    if known is not None and known is not refused and time.monotonic() < known.good_until:
        return known
    headers = access.headers(*credentials)
    answer = _call(urllib.request.Request(base + access.PATH, data=access.BODY, headers=headers))  # noqa: S310
    got = access.token_of(answer, time.monotonic())
    if not isinstance(got, access.Token):
        raise _unchecked(got.reason if isinstance(got, NotSent) else f"no access token: {got.code}")
    with _lock:
        _tokens[place] = got
    return got


def _call(request: urllib.request.Request) -> HttpAnswer:
    """Return the answer, errors included, within the time and size allowed. Raises `InvalidEvent` without one."""
    until = time.monotonic() + CALL_SECONDS_MAX
    try:
        try:
            response = _opener.open(request, timeout=CALL_SECONDS_MAX / 2)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            return HttpAnswer(response.status, _headers(response), _body(response, until))
    except (OSError, http.client.HTTPException, ValueError) as error:
        # The text of the error may hold the address, never a header.
        raise _unchecked(f"no answer ({type(error).__name__})") from None


def _headers(response: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


def _body(response: Any, until: float) -> bytes:
    read = bytearray()
    while chunk := response.read1(8_192):
        read += chunk
        if len(read) > ANSWER_BYTES_MAX or time.monotonic() > until:
            raise ValueError("the answer is too large or too slow")
    return bytes(read)
