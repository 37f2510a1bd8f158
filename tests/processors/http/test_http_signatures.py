"""The signature of requests and events, against vectors that openssl and the stock library make."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook
from tests.processors.http.server import SECRET
from tests.processors.http.subject import WRONG_SECRET, account

from refund_worker.processors.base import EventFault, InvalidEvent
from refund_worker.processors.http import events, signing
from refund_worker.processors.http.adapter import Call, Caller
from refund_worker.processors.http.entry import ENTRY, HttpSettings

AT = 1_800_000_000
BODY = b'{"id":"evt-1","type":"refund.updated","refund":"r-1"}'


def openssl(secret: str, signed: bytes) -> str:
    """Return the signature that the openssl command makes over these bytes."""
    if shutil.which("openssl") is None:
        pytest.skip("this machine has no openssl command")
    key = base64.b64decode(secret.removeprefix("whsec_")).hex()
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    return (
        "v1," + base64.b64encode(subprocess.run(command, input=signed, capture_output=True, check=True).stdout).decode()
    )


def verify(headers: dict[str, str], body: bytes = BODY, now: float = AT, secrets: str = SECRET) -> None:
    """Verify an event as the web process does."""
    webhooks = ENTRY.webhooks
    assert webhooks is not None
    webhooks.verify_event(HttpSettings(webhook_secret=secrets), headers, body, now)


def headers_of(signature: str, message_id: str = "evt-1", at: int = AT) -> dict[str, str]:
    return {"webhook-id": message_id, "webhook-timestamp": str(at), "webhook-signature": signature}


def test_event_that_openssl_signed_is_accepted() -> None:
    verify(headers_of(openssl(SECRET, b"evt-1.%d." % AT + BODY)))


def test_event_that_the_stock_library_signed_is_accepted() -> None:
    signature = Webhook(SECRET).sign("evt-1", datetime.fromtimestamp(AT, UTC).replace(tzinfo=None), BODY.decode())
    verify(headers_of(signature))


def test_one_changed_byte_anywhere_is_refused() -> None:
    signature = openssl(SECRET, b"evt-1.%d." % AT + BODY)
    good = headers_of(signature)
    for place in range(len(BODY)):
        with pytest.raises(InvalidEvent):
            verify(good, BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :])
    for place in range(3, len(signature) - 1):
        wrong = signature[:place] + ("A" if signature[place] != "A" else "B") + signature[place + 1 :]
        with pytest.raises(InvalidEvent):
            verify(headers_of(wrong))
    for wrong in (headers_of(signature, message_id="evt-2"), headers_of(signature, at=AT + 1)):
        with pytest.raises(InvalidEvent):
            verify(wrong)
    with pytest.raises(InvalidEvent):
        verify(good, secrets=WRONG_SECRET)


@pytest.mark.parametrize("now", [AT - 301, AT + 301])
def test_event_of_another_time_is_refused_as_not_recent(now: int) -> None:
    with pytest.raises(InvalidEvent) as refused:
        verify(headers_of(openssl(SECRET, b"evt-1.%d." % AT + BODY)), now=now)
    assert refused.value.fault is EventFault.NOT_RECENT


def test_old_signature_that_is_wrong_is_not_called_old() -> None:
    with pytest.raises(InvalidEvent) as refused:
        verify(headers_of("v1,AAAA"), now=AT + 10_000)
    assert refused.value.fault is EventFault.BAD_SIGNATURE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"webhook-id": "evt-1", "webhook-timestamp": "1800000000"},
        headers_of("") | {"webhook-signature": "v1,AAAA", "webhook-timestamp": "soon"},
        headers_of("v1,AAAA") | {"webhook-timestamp": "1" * 13},
        headers_of("v1,AAAA") | {"webhook-timestamp": "١٨٠٠"},
        headers_of("v1,AAAA", message_id=""),
        headers_of("v1,AAAA", message_id="é"),
    ],
)
def test_broken_headers_are_named_as_such(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidEvent) as refused:
        verify(headers)
    assert refused.value.fault is EventFault.NO_SIGNATURE


def test_one_good_signature_by_any_of_our_secrets_is_enough() -> None:
    signature = openssl(SECRET, b"evt-1.%d." % AT + BODY)
    verify(headers_of(f"v1,AAAA {signature} v2,BBBB"))
    verify(headers_of(signature), secrets=f"{WRONG_SECRET}, {SECRET}")


def test_more_signatures_than_a_rotation_needs_are_not_compared() -> None:
    signature = openssl(SECRET, b"evt-1.%d." % AT + BODY)
    with pytest.raises(InvalidEvent):
        verify(headers_of(" ".join(["v1,AAAA"] * signing.SIGNATURES_MAX + [signature])))


def test_events_without_a_secret_of_their_own_use_that_of_requests() -> None:
    webhooks = ENTRY.webhooks
    assert webhooks is not None
    headers = headers_of(openssl(SECRET, b"evt-1.%d." % AT + BODY))
    webhooks.verify_event(account("http://127.0.0.1"), headers, BODY, AT)
    with pytest.raises(InvalidEvent):
        webhooks.verify_event(account("http://127.0.0.1", webhook_secret=WRONG_SECRET), headers, BODY, AT)


def test_request_is_signed_over_method_path_query_key_and_body() -> None:
    caller = Caller("http://h/base", [SECRET, WRONG_SECRET], timeout_seconds=1, now=lambda: AT + 0.9)
    sent = caller.headers(Call("POST", "/refunds", key="leg:1", body=b'{"a":1}'))
    signed = f"{sent['webhook-id']}.{AT}.POST /base/refunds\nleg:1\n".encode() + b'{"a":1}'
    assert sent["webhook-signature"] == f"{openssl(SECRET, signed)} {openssl(WRONG_SECRET, signed)}"
    assert (sent["webhook-timestamp"], sent["Idempotency-Key"]) == (str(AT), "leg:1")
    listed = caller.headers(Call("GET", "/refunds", query={"payment": "p/1 ü&x=%2F", "limit": "100"}))
    target = caller.url(Call("GET", "/refunds", query={"payment": "p/1 ü&x=%2F", "limit": "100"})).raw_path_qs
    assert listed["webhook-signature"].split()[0] == openssl(
        SECRET, f"{listed['webhook-id']}.{AT}.GET {target}\n\n".encode()
    )


@pytest.mark.parametrize(
    ("kind", "refund", "named"),
    [
        ("refund.created", "r-1", True),
        ("refund.updated", "r-1", True),
        ("payment.updated", "r-1", False),
        ("refunds", "r-1", False),
        ("refund.updated", None, False),
        ("refund.updated", "\n", False),
        ("refund.updated", 7, False),
    ],
)
def test_only_events_about_a_refund_name_one(kind: str, refund: object, named: bool) -> None:
    hint = events.event_hint(kind, json.dumps({"id": "e", "type": kind, "refund": refund}))
    assert (hint is not None and hint.processor_refund_id == "r-1") is named


def test_signature_of_a_request_is_none_of_an_event() -> None:
    """Both directions may share a secret: neither message can pass for the other."""
    sent = Caller("http://h", [SECRET], timeout_seconds=1, now=lambda: AT).headers(
        Call("POST", "/refunds", key="leg:1", body=BODY)
    )
    with pytest.raises(InvalidEvent):
        verify({name.lower(): value for name, value in sent.items()})
