"""Adyen's webhooks: signatures made by other means than the adapter's, what an event reports, and what is stored."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.processors.adyen.bench import INSTALLATION, LEG, WEBHOOKS, account, an_event, an_item, items_of, report_of
from tests.processors.adyen.book import HMAC_KEY, MERCHANT, as_body

from refund_worker.processors.adyen.entry import AdyenSettings
from refund_worker.processors.adyen.events import signed_text
from refund_worker.processors.base import EventFault, InvalidEvent

ANOTHER_KEY = "C0" * 32
NOW = 1_800_000_000.0
# The vector of adyen-python-api-library (test/UtilTest.py), read 2026-11: its key, item and signature.
PUBLISHED_ITEM: dict[str, Any] = {
    "pspReference": "7914073381342284",
    "merchantReference": "TestPayment-1407325143704",
    "merchantAccountCode": "TestMerchant",
    "amount": {"currency": "EUR", "value": 1130},
    "eventCode": "AUTHORISATION",
    "success": "true",
}
PUBLISHED_SIGNATURE = "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="


def verify(body: bytes, settings: AdyenSettings | None = None, headers: dict[str, str] | None = None) -> None:
    WEBHOOKS.verify_event(settings or account(), headers or {}, body, NOW)


def fault_of(body: bytes, settings: AdyenSettings | None = None, headers: dict[str, str] | None = None) -> EventFault:
    with pytest.raises(InvalidEvent) as refused:
        verify(body, settings, headers)
    return refused.value.fault


def with_signature(item: dict[str, Any], signature: object, *, live: str = "false") -> bytes:
    signed = {**item, "additionalData": {"hmacSignature": signature}}
    return as_body({"live": live, "notificationItems": [{"NotificationRequestItem": signed}]})


def by_openssl(text: str, key: str) -> str:
    """Return the base64 of the HMAC that the openssl command makes."""
    command = ["openssl", "dgst", "-sha256", "-mac", "HMAC", "-macopt", f"hexkey:{key}", "-binary"]
    made = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=20)
    return base64.b64encode(made.stdout).decode()


# --- signatures -------------------------------------------------------------------------------------------------------


def test_published_vector_is_accepted() -> None:
    assert signed_text(PUBLISHED_ITEM) == (
        "7914073381342284::TestMerchant:TestPayment-1407325143704:1130:EUR:AUTHORISATION:true"
    )
    settings = AdyenSettings(merchant_account="TestMerchant", webhook_secret=HMAC_KEY)
    verify(with_signature(PUBLISHED_ITEM, PUBLISHED_SIGNATURE), settings)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl is not here")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, f"QFQTPCQ8HXSKGK82:9913140798220028:{MERCHANT}:rw.{LEG}.1.{INSTALLATION}:900:GBP:REFUND:true"),
        (
            {"merchantReference": "a:b\\c/ä"},
            f"QFQTPCQ8HXSKGK82:9913140798220028:{MERCHANT}:a:b\\c/ä:900:GBP:REFUND:true",
        ),
        (
            {"originalReference": None, "merchantReference": None, "success": "false"},
            f"QFQTPCQ8HXSKGK82::{MERCHANT}::900:GBP:REFUND:false",
        ),
    ],
)
def test_signature_that_openssl_makes_is_accepted(changes: dict[str, Any], text: str) -> None:
    item = an_item(**changes)
    verify(with_signature(item, by_openssl(text, HMAC_KEY)))
    verify(with_signature(item, by_openssl(text, HMAC_KEY)), account(HMAC_KEY.lower()))
    assert fault_of(with_signature(item, by_openssl(text, ANOTHER_KEY))) is EventFault.BAD_SIGNATURE
    assert fault_of(with_signature(item, by_openssl(text + "e", HMAC_KEY))) is EventFault.BAD_SIGNATURE


def test_each_key_of_a_rotation_is_accepted() -> None:
    both = account(f"{ANOTHER_KEY},{HMAC_KEY}")
    verify(an_event(), both)
    verify(an_event(key=ANOTHER_KEY), both)
    assert fault_of(an_event(key="AB" * 32), both) is EventFault.BAD_SIGNATURE
    assert fault_of(an_event(), account(None)) is EventFault.BAD_SIGNATURE


@pytest.mark.parametrize(
    "changes",
    [
        {"pspReference": "QFQTPCQ8HXSKGK83"},
        {"originalReference": "9913140798220029"},
        {"merchantAccountCode": "Another"},
        {"merchantReference": f"rw.{LEG}.2.{INSTALLATION}"},
        {"amount": {"value": 901, "currency": "GBP"}},
        {"amount": {"value": 900, "currency": "EUR"}},
        {"eventCode": "REFUND_FAILED"},
        {"success": "false"},
    ],
)
def test_each_signed_value_that_changes_is_refused(changes: dict[str, Any]) -> None:
    (item,) = items_of(an_event())
    changed = {**item, **changes}
    body = as_body({"live": "false", "notificationItems": [{"NotificationRequestItem": changed}]})
    assert fault_of(body) is EventFault.BAD_SIGNATURE


def test_every_item_of_a_request_must_be_signed() -> None:
    good, bad = items_of(an_event())[0], items_of(an_event(key=ANOTHER_KEY))[0]
    for items in ([good, bad], [bad, good], [good, an_item()]):
        body = {"live": "false", "notificationItems": [{"NotificationRequestItem": item} for item in items]}
        fault_of(as_body(body))
    whole = as_body({"live": "false", "notificationItems": [{"NotificationRequestItem": good}] * 2})
    verify(whole)
    assert len(WEBHOOKS.split(whole)) == 2


@pytest.mark.parametrize("signature", [None, "", 5, [], "not base64!", PUBLISHED_SIGNATURE])
def test_signature_that_is_missing_or_wrong_is_refused(signature: object) -> None:
    wanted = EventFault.BAD_SIGNATURE if isinstance(signature, str) and signature else EventFault.NO_SIGNATURE
    assert fault_of(with_signature(an_item(), signature)) is wanted


def test_values_cannot_be_moved_across_the_colons_of_the_signed_text() -> None:
    """The joined text is the same, so the signature fits; the division is not one that Adyen makes."""
    (signed,) = items_of(an_event(an_item(merchantReference="REF:1")))
    signature = signed["additionalData"]["hmacSignature"]
    moved = (
        an_item(merchantReference="1", merchantAccountCode=f"{MERCHANT}:REF"),
        an_item(merchantReference=f"{MERCHANT}:REF:1", merchantAccountCode="9913140798220028", originalReference=""),
        an_item(pspReference="QFQTPCQ8HXSKGK82:9913140798220028", originalReference=MERCHANT, merchantAccountCode="REF")
        | {"merchantReference": "1"},
    )
    for item in moved:
        fault_of(with_signature(item, signature))
    # The merchant account is ours in both divisions.
    (signed,) = items_of(an_event(an_item(merchantReference=f"{MERCHANT}:1")))
    item = an_item(
        pspReference=f"{signed['pspReference']}:{signed['originalReference']}",
        originalReference=MERCHANT,
        merchantReference="1",
    )
    assert signed_text(signed) == f"{item['pspReference']}:{MERCHANT}:{MERCHANT}:1:900:GBP:REFUND:true"
    fault_of(with_signature(item, signed["additionalData"]["hmacSignature"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"success": True},
        {"success": "maybe"},
        {"amount": {"value": "900", "currency": "GBP"}},
        {"amount": {"value": True, "currency": "GBP"}},
        {"amount": 5},
        {"pspReference": None},
        {"pspReference": 5},
        {"eventCode": "refund"},
        {"eventCode": None},
        {"merchantAccountCode": None},
    ],
)
def test_signed_value_of_another_type_is_refused(changes: dict[str, Any]) -> None:
    item = an_item(**{name: value for name, value in changes.items() if value is None})
    item |= {name: value for name, value in changes.items() if value is not None}
    assert fault_of(with_signature(item, PUBLISHED_SIGNATURE)) is EventFault.NO_EVENT


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"{}",
        b"[" * 100_000,
        b'{"live": "false"}',
        b'{"live": "false", "notificationItems": []}',
        b'{"live": "false", "notificationItems": [5]}',
        b'{"live": "false", "notificationItems": [{"NotificationRequestItem": []}]}',
        b'{"live": false, "notificationItems": [{"NotificationRequestItem": {}}]}',
    ],
)
def test_body_that_holds_no_event_is_refused(body: bytes) -> None:
    assert fault_of(body) is EventFault.NO_EVENT
    assert WEBHOOKS.split(body) == (body,)
    with pytest.raises(InvalidEvent):
        WEBHOOKS.event_name(body)
    text = body.decode("utf-8", "replace")
    assert WEBHOOKS.event_report("REFUND", text) is None
    assert WEBHOOKS.event_hint("REFUND", text) is None
    assert WEBHOOKS.event_subject("REFUND", text) is None


def test_request_with_too_many_items_is_refused() -> None:
    (item,) = items_of(an_event())
    body = {"live": "false", "notificationItems": [{"NotificationRequestItem": item}] * 101}
    assert fault_of(as_body(body)) is EventFault.NO_EVENT


# --- whose event it is ------------------------------------------------------------------------------------------------


def test_event_of_another_merchant_account_is_refused() -> None:
    assert fault_of(an_event(an_item(merchantAccountCode="Another"))) is EventFault.NO_EVENT


def test_event_of_another_environment_is_refused() -> None:
    live = account(environment="live", live_prefix="0a1b2c3d-Shop")
    verify(an_event(live="true"), live)
    assert fault_of(an_event(live="false"), live) is EventFault.NO_EVENT
    assert fault_of(an_event(live="true")) is EventFault.NO_EVENT


def test_basic_credentials_must_fit_if_they_are_set() -> None:
    settings = account(webhook_user="adyen", webhook_password="pass:wörd")
    right = base64.b64encode("adyen:pass:wörd".encode()).decode()
    verify(an_event(), settings, {"authorization": f"Basic {right}"})
    verify(an_event(), settings, {"authorization": f"basic {right}"})
    verify(an_event(), account(), {"authorization": f"Basic {right}"})  # not asked for
    assert fault_of(an_event(), settings) is EventFault.NO_SIGNATURE
    for header in (f"Bearer {right}", "Basic", "Basic !!!", f"Basic {right[:-4]}", "Basic YWR5ZW46cGFzcw=="):
        assert fault_of(an_event(), settings, {"authorization": header}) is EventFault.BAD_SIGNATURE
    assert (
        fault_of(an_event(key=ANOTHER_KEY), settings, {"authorization": f"Basic {right}"}) is EventFault.BAD_SIGNATURE
    )


# --- names ------------------------------------------------------------------------------------------------------------


def test_same_event_again_has_the_same_name_whatever_is_not_signed() -> None:
    first = WEBHOOKS.event_name(an_event())
    again = an_event(an_item(eventDate="2026-11-09T10:00:00+01:00", reason="now with a reason"), bookingDate="x")
    assert WEBHOOKS.event_name(again) == first == ("REFUND:true:QFQTPCQ8HXSKGK82", "REFUND")


def test_different_events_of_one_refund_have_different_names() -> None:
    kinds = ("REFUND", "REFUND_FAILED", "REFUNDED_REVERSED", "POSTPONED_REFUND", "CANCEL_OR_REFUND")
    names = {
        WEBHOOKS.event_name(an_event(an_item(eventCode=kind, success=success)))
        for kind in kinds
        for success in ("true", "false")
    }
    assert len(names) == 10


# --- what is stored ---------------------------------------------------------------------------------------------------


def test_nothing_about_the_cardholder_is_stored() -> None:
    more = {"shopperName": "Ann Example", "shopperEmail": "ann@example.org", "cardSummary": "1111", "arn": "74001"}
    item = {**an_item(), "shopperIP": "192.0.2.7"}
    (part,) = WEBHOOKS.split(an_event(item, **more))
    for text in ("Ann", "ann@", "1111", "192.0.2.7"):
        assert text not in part.decode()
    (kept,) = items_of(part)
    assert kept["additionalData"].keys() == {"hmacSignature", "arn"}
    verify(part)


def test_each_item_of_a_request_is_a_signed_body_of_its_own() -> None:
    first, second = items_of(an_event())[0], items_of(an_event(an_item(pspReference="ANOTHERREFUND000")))[0]
    whole = {"live": "false", "notificationItems": [{"NotificationRequestItem": item} for item in (first, second)]}
    parts = WEBHOOKS.split(as_body(whole))
    assert [WEBHOOKS.event_name(part)[0] for part in parts] == [
        "REFUND:true:QFQTPCQ8HXSKGK82",
        "REFUND:true:ANOTHERREFUND000",
    ]
    for part in parts:
        verify(part)
        assert json.loads(part)["live"] == "false"
    with pytest.raises(InvalidEvent):
        WEBHOOKS.event_name(as_body(whole))


def test_odd_characters_in_an_event_can_be_stored() -> None:
    item = an_item(reason="nul \x00, half a pair \ud800, ä")
    (part,) = WEBHOOKS.split(an_event(item))
    assert "\x00" not in part.decode()
    assert report_of(an_event(item)) is not None


# --- reports ----------------------------------------------------------------------------------------------------------

TECHNICAL = "Refund rejected by card scheme because of a technical issue."
# (event, success, reason, action) → (status, failure code), None for no report.
REPORTS: dict[tuple[str, str, str, str | None], tuple[str, str | None] | None] = {
    ("REFUND", "true", "", None): ("succeeded", None),
    ("REFUND", "false", "Insufficient balance on payment", None): ("failed", "payment_balance_too_low"),
    ("REFUND", "false", "Insufficient funds", None): ("failed", "insufficient_balance"),
    ("REFUND", "false", "", None): ("failed", "refund_refused"),
    ("REFUND_FAILED", "true", "Refund Failed", None): ("failed", "rejected_by_scheme"),
    ("REFUND_FAILED", "true", TECHNICAL, None): ("rejected_and_tried_again_by_adyen", None),
    ("REFUND_FAILED", "false", "Refund Failed", None): None,
    ("REFUNDED_REVERSED", "true", "", None): ("failed", "refund_reversed"),
    ("REFUNDED_REVERSED", "false", "", None): None,
    ("POSTPONED_REFUND", "true", "", None): ("pending", None),
    ("POSTPONED_REFUND", "false", "", None): None,
    ("CANCEL_OR_REFUND", "true", "", "refund"): ("succeeded", None),
    ("CANCEL_OR_REFUND", "false", "no", "refund"): ("failed", "refund_refused"),
    ("CANCEL_OR_REFUND", "true", "", "cancel"): None,
    ("CANCEL_OR_REFUND", "true", "", None): ("succeeded", None),  # it carries our reference
    ("VOID_PENDING_REFUND", "true", "", None): None,
    ("REFUND_WITH_DATA", "true", "", None): None,
    ("CANCELLATION", "true", "", None): None,
    ("TECHNICAL_CANCEL", "true", "", None): None,
    ("AUTHORISATION", "true", "", None): None,
    ("CAPTURE", "true", "", None): None,
    ("CHARGEBACK", "true", "", None): None,
    ("NOTIFICATION_OF_CHARGEBACK", "true", "", None): None,
    ("REFUND_OF_THE_FUTURE", "true", "", None): None,
}


@pytest.mark.parametrize(("case", "expected"), REPORTS.items(), ids=str)
def test_event_reports_the_state_of_its_refund(
    case: tuple[str, str, str, str | None], expected: tuple[str, str | None] | None
) -> None:
    kind, success, reason, action = case
    more = {} if action is None else {"modification.action": action}
    body = an_event(an_item(eventCode=kind, success=success, reason=reason), **more)
    verify(body)
    report = report_of(body)
    assert (None if report is None else (report.status, report.failure_code)) == expected
    (part,) = WEBHOOKS.split(body)
    hint, subject = WEBHOOKS.event_hint(kind, part.decode()), WEBHOOKS.event_subject(kind, part.decode())
    assert (hint is None) == (subject is None) == (report is None)
    if hint is not None:
        assert (hint.processor_refund_id, hint.leg_id) == ("QFQTPCQ8HXSKGK82", LEG)


def test_report_has_our_ids_the_payment_and_the_trace() -> None:
    report = report_of(an_event(arn="74001A"))
    assert report is not None
    assert (report.processor_refund_id, report.amount_minor, report.currency) == ("QFQTPCQ8HXSKGK82", 900, "GBP")
    assert (report.leg_id, report.attempt, report.installation) == (LEG, 1, INSTALLATION)
    assert (report.payment_refs, report.live) == (("9913140798220028",), False)
    assert report.created_at == datetime(2026, 11, 2, 9, tzinfo=UTC)
    details = report.details
    assert (details.method, details.trace_kind, details.trace_value) == ("visa", "acquirer_reference_number", "74001A")


def test_refund_that_others_made_is_reported_without_our_ids() -> None:
    report = report_of(an_event(an_item(merchantReference="order:4711")))
    assert report is not None
    assert (report.leg_id, report.attempt, report.installation) == (None, None, None)
    reversal = an_item(eventCode="CANCEL_OR_REFUND", merchantReference="order:4711")
    assert report_of(an_event(reversal)) is None
    assert report_of(an_event(reversal, **{"modification.action": "refund"})) is not None


@pytest.mark.parametrize("date", [None, "yesterday", "2026-11-02T10:00:00", 5, "9999-12-31T23:59:59-12:00"])
def test_event_without_a_usable_date_is_of_now(date: object) -> None:
    report = report_of(an_event(an_item(eventDate=date)))
    assert report is not None
    assert abs((datetime.now(UTC) - report.created_at).total_seconds()) < 60


@pytest.mark.parametrize(
    "changes", [{"pspReference": "a/b"}, {"amount": {"value": 150, "currency": "CLP"}}, {"amount": None}]
)
def test_event_that_our_books_cannot_hold_reports_nothing(changes: dict[str, Any]) -> None:
    item = an_item(**changes)
    body = as_body({"live": "false", "notificationItems": [{"NotificationRequestItem": item}]})
    assert report_of(body) is None


def test_details_that_could_hold_a_card_number_are_left_out() -> None:
    report = report_of(an_event(an_item(paymentMethod="<b>"), arn="4111111111111111"))
    assert report is not None
    assert (report.details.method, report.details.trace_value, report.details.trace_kind) == (None, None, None)
