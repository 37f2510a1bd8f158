"""Braintree's webhook events: signatures made by openssl, changed bytes, ids, subjects, the check of the address."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from urllib.parse import urlencode

import pytest
from pydantic import SecretStr, ValidationError
from tests.processors.braintree.server import FORM, PRIVATE, PUBLIC, BraintreeServer, signed_form
from tests.processors.braintree.xml_text import notification_xml

from refund_worker.processors.base import EventFault, EventHint, EventSubject, InvalidEvent
from refund_worker.processors.braintree import events
from refund_worker.processors.braintree.entry import ENTRY, BraintreeSettings

AT = 1_800_000_000.0
HEADERS = {"content-type": FORM}
PAIRS = ((PUBLIC, PRIVATE),)
REFUND = (
    "<transaction><id>abc123</id><type>credit</type><status>settlement_declined</status><amount>10</amount>"
    "<refunded-transaction-id>pay456</refunded-transaction-id><order-id>rw1:inst:rf_1:rf_1-1:2</order-id></transaction>"
)


def openssl_digest(private_key: str, text: bytes) -> str:
    """Return the signature of a text, made by openssl alone."""
    key = subprocess.run(
        ["openssl", "dgst", "-sha1", "-r"], input=private_key.encode(), capture_output=True, check=True, timeout=20
    )
    signed = subprocess.run(
        ["openssl", "dgst", "-sha1", "-r", "-mac", "HMAC", "-macopt", f"hexkey:{key.stdout.split()[0].decode()}"],
        input=text,
        capture_output=True,
        check=True,
        timeout=20,
    )
    return signed.stdout.split()[0].decode()


def form(payload: bytes, signature: str) -> bytes:
    """Return the body of a request."""
    return urlencode({"bt_signature": signature, "bt_payload": payload.decode()}).encode()


def verify(body: bytes, *, now: float = AT, pairs: tuple[tuple[str, str], ...] = PAIRS) -> None:
    """Check an event as a web process does."""
    events.verify_event(HEADERS, body, pairs, now)


def payload_of(kind: str = "refund_failed", subject: str = REFUND, at: float = AT) -> bytes:
    """Return the payload of an event."""
    return base64.encodebytes(notification_xml(kind, at, subject).encode())


def test_signature_that_openssl_makes_is_accepted() -> None:
    payload = payload_of()
    signature = f"{PUBLIC}|{openssl_digest(PRIVATE, payload)}"
    verify(form(payload, signature))
    verify(form(payload, f"other|{'0' * 40}&{signature}"))
    verify(form(payload, signature), pairs=(("other", "key"), *PAIRS))
    # Some ways of sending lose the last line feed: the SDK accepts that too.
    verify(form(payload.rstrip(b"\n"), signature))


def test_one_changed_byte_is_refused() -> None:
    payload = payload_of()
    digest = openssl_digest(PRIVATE, payload)
    changed = payload.replace(b"a", b"b", 1)
    for body in (
        form(changed, f"{PUBLIC}|{digest}"),
        form(payload, f"{PUBLIC}|{digest[:-1]}{'0' if digest[-1] != '0' else '1'}"),
        form(payload, f"{PUBLIC}x|{digest}"),
        form(payload, f"{PUBLIC}|{openssl_digest(PRIVATE + 'x', payload)}"),
        form(payload, f"{PUBLIC}|{digest}") + b" ",
        form(payload, f"{PUBLIC}|{digest}") + b"x",
        form(payload, PUBLIC + digest),
        form(payload, ""),
    ):
        with pytest.raises(InvalidEvent):
            verify(body)
    for pairs in ((), (("x" + PUBLIC, PRIVATE),), ((PUBLIC, "x" + PRIVATE),)):
        with pytest.raises(InvalidEvent):
            verify(form(payload, f"{PUBLIC}|{digest}"), pairs=pairs)


@pytest.mark.parametrize("now", [AT + 23 * 3_600 + 1, AT - 301])
def test_event_of_another_time_is_refused(now: float) -> None:
    body = signed_form(notification_xml("refund_failed", AT, REFUND))
    verify(body, now=AT + 22 * 3_600)
    with pytest.raises(InvalidEvent) as refused:
        verify(body, now=now)
    assert refused.value.fault is EventFault.NOT_RECENT


@pytest.mark.parametrize(
    "body",
    [
        b"bt_signature=a|b",
        b"bt_payload=YQ==",
        b"bt_signature=a&bt_signature=b&bt_payload=YQ==",
        b"bt_signature=a%7Cb&bt_payload=YQ==&bt_payload=YQ==",
        b"bt_signature=a%7Cb&bt_payload=%3Cxml%3E",
        "bt_signature=ä".encode(),
        b"&".join(b"a=1" for _ in range(30)),
    ],
)
def test_form_that_is_broken_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidEvent):
        verify(body)
    with pytest.raises(InvalidEvent):
        events.event_name(body)


def test_request_that_is_no_form_is_refused() -> None:
    body = signed_form(notification_xml("refund_failed", AT, REFUND))
    events.verify_event({"content-type": f"{FORM}; charset=UTF-8"}, body, PAIRS, AT)
    with pytest.raises(InvalidEvent):
        events.verify_event({"content-type": "application/json"}, body, PAIRS, AT)


def test_signed_payload_with_a_declared_entity_is_refused() -> None:
    bomb = '<!DOCTYPE n [<!ENTITY a "b">]>' + notification_xml("refund_failed", AT, REFUND)
    with pytest.raises(InvalidEvent):
        verify(signed_form(bomb))


def test_event_has_the_same_id_whenever_it_comes_again() -> None:
    first = signed_form(notification_xml("refund_failed", AT, REFUND))
    assert events.event_name(first) == ("refund_failed:abc123:2027-01-15T08:00:00Z", "refund_failed")
    again = events.split(first)
    assert [events.event_name(part) for part in again] == [events.event_name(first)]
    later = signed_form(notification_xml("refund_failed", AT + 1, REFUND))
    other = signed_form(notification_xml("transaction_settlement_declined", AT, REFUND))
    assert len({events.event_name(body)[0] for body in (first, later, other)}) == 3


def test_stored_event_has_names_and_no_data_of_customers() -> None:
    with BraintreeServer() as server:
        refund = server.book.refund(server.book.sale("10.00"), "10.00", "rw1:inst:rf_1:rf_1-1:1")
        assert ENTRY.webhooks is not None
        (stored,) = ENTRY.webhooks.split(server.event("refund_failed", refund.id))
    assert b"jane" not in stored
    assert b"411111" not in stored
    assert json.loads(stored)["refund_id"] == refund.id
    assert events.event_hint("refund_failed", stored.decode()) == EventHint(refund.id, "rf_1-1")


@pytest.mark.parametrize("kind", ["refund_failed", "transaction_settled", "transaction_settlement_declined"])
def test_event_about_a_refund_names_the_refund(kind: str) -> None:
    body = signed_form(notification_xml(kind, AT, REFUND)).decode()
    assert events.event_hint(kind, body) == EventHint("abc123", "rf_1-1")
    assert events.event_subject(kind, body) == EventSubject("refund", "abc123", ("pay456",))


def test_failed_refund_without_an_order_id_is_fetched_for_its_owner() -> None:
    """The SDK's sample has neither a type nor an order id."""
    sample = "<transaction><id>abc123</id><amount>100</amount><status>processor_declined</status></transaction>"
    body = signed_form(notification_xml("refund_failed", AT, sample)).decode()
    assert events.event_hint("refund_failed", body) == EventHint("abc123", None)


@pytest.mark.parametrize("kind", ["transaction_settled", "transaction_disbursed", "transaction_settlement_declined"])
def test_event_about_a_payment_has_no_hint(kind: str) -> None:
    sale = "<transaction><id>abc123</id><type>sale</type><order-id>rw1:inst:rf_1:rf_1-1:2</order-id></transaction>"
    body = signed_form(notification_xml(kind, AT, sale)).decode()
    assert events.event_hint(kind, body) is None
    assert events.event_subject(kind, body) is None


DISPUTES = ("opened", "under_review", "lost", "won", "accepted", "auto_accepted", "disputed", "expired")


@pytest.mark.parametrize("state", DISPUTES)
def test_event_about_a_dispute_names_dispute_and_payment(state: str) -> None:
    dispute = "<dispute><id>dp_1</id><transaction><id>pay456</id></transaction></dispute>"
    kind = f"dispute_{state}"
    body = signed_form(notification_xml(kind, AT, dispute)).decode()
    assert events.event_hint(kind, body) is None
    assert events.event_subject(kind, body) == EventSubject("dispute", "dp_1", ("pay456",))


def test_unusable_ids_in_an_event_name_nothing() -> None:
    odd = "<transaction><id>../x</id><type>credit</type></transaction>"
    body = signed_form(notification_xml("refund_failed", AT, odd)).decode()
    assert events.event_hint("refund_failed", body) is None
    assert events.event_subject("refund_failed", body) is None


def test_address_is_checked_by_a_challenge() -> None:
    assert ENTRY.webhooks is not None
    settings = ENTRY.settings(webhook_secret=SecretStr(f"{PUBLIC}:{PRIVATE}"))
    challenge = "20f9f8ed05f77439fe955c977e4c8a53"
    answer = ENTRY.webhooks.challenge(settings, {"bt_challenge": challenge})
    assert answer == f"{PUBLIC}|{openssl_digest(PRIVATE, challenge.encode())}"
    for query in ({}, {"bt_challenge": "G" * 32}, {"bt_challenge": "a"}, {"bt_challenge": "a" * 33}):
        assert ENTRY.webhooks.challenge(settings, query) is None
    assert ENTRY.webhooks.challenge(ENTRY.settings(), {"bt_challenge": challenge}) is None


def test_keys_of_the_account_check_events_unless_others_are_set() -> None:
    keys = {"merchant_id": "m", "public_key": "pub", "private_key": SecretStr("prv"), "environment": "sandbox"}
    assert BraintreeSettings(**keys).webhook_keys == (("pub", "prv"),)
    others = BraintreeSettings(**keys, webhook_secret=SecretStr("a:b,c:d"))
    assert others.webhook_keys == (("a", "b"), ("c", "d"))
    assert BraintreeSettings().webhook_keys == ()


@pytest.mark.parametrize("secret", ["abc", ":abc", "abc:", "a:b:c"])
def test_webhook_secret_of_another_form_is_refused_unquoted(secret: str) -> None:
    with pytest.raises(ValidationError, match="public key, a colon and the private key") as refused:
        BraintreeSettings(webhook_secret=SecretStr(secret))
    assert f"'{secret}'" not in str(refused.value)


def test_scheme_is_sha1_of_the_private_key_as_the_key() -> None:
    assert events.digest(PRIVATE, b"abc") == openssl_digest(PRIVATE, b"abc")
    assert len(hashlib.sha1(PRIVATE.encode()).digest()) == 20
