"""PayPal's requests and answers: what is frozen, how our ids come back, and when a list counts as complete."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.processors.paypal.conftest import INSTALLATION, order

from refund_worker.processors.paypal.entry import CAPABILITIES
from refund_worker.processors.paypal.objects import (
    Capture,
    FrozenBody,
    custom_id_of,
    frozen_body,
    our_ids,
    refunds_in_order,
    to_capture,
    to_refund_object,
)
from refund_worker.processors.wire import Unreadable

CAPTURE = "2GG279541U471931P"
REFUND: dict[str, Any] = {
    "id": "0JF852973C016714D",
    "status": "COMPLETED",
    "amount": {"currency_code": "GBP", "value": "9.00"},
    "custom_id": f"rw1,rf_1-1,2,{INSTALLATION}",
    "create_time": "2026-11-29T01:02:03-08:00",
    "links": [{"rel": "up", "href": f"https://api.paypal.com/v2/payments/captures/{CAPTURE}", "method": "GET"}],
}
PAID = Capture(CAPTURE, "COMPLETED", 1_250, "GBP", "5O190127TN364715T", None)


def test_frozen_body_holds_the_capture_and_the_request() -> None:
    frozen = json.loads(frozen_body(order(CAPTURE, 1_250, attempt=3)))
    leg = "rf_019aafc2d1a05c1e7f00aa11b2-1"
    assert frozen == {
        "capture": CAPTURE,
        "request": {
            "amount": {"currency_code": "GBP", "value": "12.50"},
            "custom_id": f"rw1,{leg},3,{INSTALLATION}",
            "invoice_id": f"{leg}.3",
        },
    }


@pytest.mark.parametrize(
    ("amount_minor", "currency", "value"),
    [(600, "JPY", "600"), (60_000, "HUF", "600"), (60_000, "TWD", "600"), (1, "USD", "0.01"), (10, "KWD", "0.01")],
)
def test_amount_is_written_as_paypal_takes_it(amount_minor: int, currency: str, value: str) -> None:
    frozen = frozen_body(order(CAPTURE, amount_minor, currency=currency))
    assert json.loads(frozen)["request"]["amount"] == {"currency_code": currency, "value": value}
    assert FrozenBody.of(frozen).amount_minor == amount_minor


@pytest.mark.parametrize(
    "wrong",
    [
        order(CAPTURE, 60_050, currency="HUF"),
        order(CAPTURE, 60_001, currency="TWD"),
        order(CAPTURE, 11, currency="KWD"),
        order(CAPTURE, 0),
        order(CAPTURE, currency="gbp"),
        order("PAYID-1"),
        replace(order(CAPTURE), leg_id="rf_1,2"),
        replace(order(CAPTURE), leg_id="x" * 101),
        replace(order(CAPTURE), leg_id="x" * 90),
        replace(order(CAPTURE), installation="inst 1"),
        replace(order(CAPTURE), refund_id="", leg_id="leg"),
    ],
)
def test_refund_that_paypal_cannot_take_is_not_frozen(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        frozen_body(wrong)


def test_refund_id_stands_in_the_text_unless_the_leg_begins_with_it() -> None:
    assert custom_id_of(order(CAPTURE)).count(",") == 3
    assert custom_id_of(replace(order(CAPTURE), leg_id="leg_7")).endswith(
        f"{INSTALLATION},rf_019aafc2d1a05c1e7f00aa11b2"
    )
    assert len(custom_id_of(order(CAPTURE, attempt=999))) < 80


IDS = st.from_regex(r"[A-Za-z0-9_.-]{1,30}", fullmatch=True)


@given(IDS, st.integers(1, 10**9 - 1), st.one_of(st.just(""), IDS))
def test_our_ids_come_back_as_they_were_sent(leg_id: str, attempt: int, installation: str) -> None:
    sent = replace(order(CAPTURE), leg_id=leg_id, attempt=attempt, installation=installation)
    assert our_ids(custom_id_of(sent)) == (leg_id, attempt, installation or None)


@given(st.one_of(st.none(), st.integers(), st.text(max_size=60), st.lists(st.text(max_size=3))))
def test_text_of_others_is_never_read_as_ours(custom_id: object) -> None:
    if not (isinstance(custom_id, str) and custom_id.startswith("rw1,")):
        assert our_ids(custom_id) == (None, None, None)


@pytest.mark.parametrize("text", ["shop,leg,1,i", "rw2,leg,1,i,r", ",leg,1,i", "order,7,8,9"])
def test_text_of_others_in_our_form_is_not_ours(text: str) -> None:
    assert our_ids(text) == (None, None, None)


@pytest.mark.parametrize("text", ["rw1,leg,1", "rw1,leg,x,i", "rw1,,1,i", "rw1,leg,1,i,r,s", "RW1,leg,1,i", "rw1"])
def test_broken_text_of_ours_is_read_as_a_stranger_s(text: str) -> None:
    assert our_ids(text) == (None, None, None)


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        ({}, True),
        ({"status": "PENDING"}, True),
        ({"custom_id": "the shop's own"}, True),  # it tells nothing about the request that it belongs to
        ({"amount": {"currency_code": "GBP", "value": "9.01"}}, False),
        ({"amount": {"currency_code": "EUR", "value": "9.00"}}, False),
        ({"custom_id": f"rw1,rf_1-1,3,{INSTALLATION}"}, False),
        ({"custom_id": f"rw1,rf_1-2,2,{INSTALLATION}"}, False),
    ],
)
def test_answer_about_another_request_does_not_fit(other: dict[str, Any], fits: bool) -> None:
    sent = FrozenBody(CAPTURE, b"", 900, "GBP", "rf_1-1", 2)
    assert sent.fits(to_refund_object(REFUND | other, live=False)) is fits


def test_refund_is_read_with_all_that_the_engine_needs() -> None:
    refund = to_refund_object(REFUND, live=False)
    assert (refund.processor_refund_id, refund.status) == ("0JF852973C016714D", "succeeded")
    assert (refund.amount_minor, refund.currency, refund.payment_refs) == (900, "GBP", (CAPTURE,))
    assert (refund.leg_id, refund.attempt, refund.installation) == ("rf_1-1", 2, INSTALLATION)
    assert refund.created_at.isoformat() == "2026-11-29T09:02:03+00:00"
    assert (refund.live, refund.failure_code) == (False, None)


def test_statuses_are_ours_and_an_unknown_one_is_passed_on() -> None:
    shown = ("COMPLETED", "PENDING", "FAILED", "CANCELLED", "ON_HOLD", None)
    read = [to_refund_object(REFUND | {"status": status}, live=True).status for status in shown]
    assert read == ["succeeded", "pending", "failed", "canceled", "ON_HOLD", None]


def test_reason_is_a_failure_code_only_if_the_refund_failed() -> None:
    reason = {"status_details": {"reason": "ECHECK"}}
    failed = to_refund_object(REFUND | reason | {"status": "FAILED"}, live=True)
    waiting = to_refund_object(REFUND | reason | {"status": "PENDING"}, live=True)
    assert (failed.failure_code, failed.details.pending_reason) == ("ECHECK", None)
    assert (waiting.failure_code, waiting.details.pending_reason) == (None, "ECHECK")


def test_number_of_the_bank_is_shown_as_a_trace() -> None:
    details = to_refund_object(REFUND | {"acquirer_reference_number": "74836950144358910018150"}, live=True).details
    assert (details.trace_kind, details.trace_value) == ("acquirer_reference_number", "74836950144358910018150")
    assert (
        to_refund_object(REFUND | {"acquirer_reference_number": "no, it is not"}, live=True).details.trace_kind is None
    )


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": "re_1/2"},
        {"amount": None},
        {"amount": {"value": "9.00"}},
        {"amount": {"currency_code": "GBP", "value": 9}},
        {"amount": {"currency_code": "GBP", "value": "-9.00"}},
        {"amount": {"currency_code": "GBP", "value": "9.001"}},
        {"amount": {"currency_code": "JPY", "value": "9.50"}},
        {"amount": {"currency_code": "gbp", "value": "9.00"}},
        {"create_time": None},
        {"create_time": "2026-11-29T01:02:03"},
        {"create_time": "0001-01-01T00:00:00+23:00"},
        {"status": 5},
    ],
)
def test_refund_without_a_required_field_is_unreadable(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        to_refund_object(REFUND | change, live=True)


NAMES = st.sampled_from(["id", "status", "amount", "links", "purchase_units", "payments", "captures", "refunds"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


@given(JSON)
def test_no_answer_breaks_the_reading(data: object) -> None:
    for read in (lambda: to_refund_object(data, live=True), lambda: to_capture(data, CAPTURE)):
        with pytest.raises(Unreadable):
            read()
    with pytest.raises(Unreadable):
        refunds_in_order(data, PAID, live=True)


# --- lists ------------------------------------------------------------------------------------------------------------


def listed(*refunds: dict[str, Any], captures: tuple[str, ...] = (CAPTURE,)) -> dict[str, Any]:
    """Return an order with these captures and refunds."""
    payments = {"captures": [{"id": capture} for capture in captures], "refunds": list(refunds)}
    return {"id": PAID.order_id, "purchase_units": [{"payments": payments}]}


def total(value: str, currency: str = "GBP") -> dict[str, Any]:
    """Return the part of a refund that says how much was refunded with it."""
    return {"seller_payable_breakdown": {"total_refunded_amount": {"currency_code": currency, "value": value}}}


def test_only_refunds_of_the_capture_are_returned() -> None:
    other = REFUND | {
        "id": "OTHER1",
        "links": [{"rel": "up", "href": "https://api-m.paypal.com/v2/payments/captures/X9"}],
    }
    found = refunds_in_order(listed(REFUND, other, captures=(CAPTURE, "X9")), PAID, live=True)
    assert [refund.processor_refund_id for refund in found] == ["0JF852973C016714D"]


def test_refund_that_is_listed_twice_is_one() -> None:
    assert len(refunds_in_order(listed(REFUND, REFUND), PAID, live=True)) == 1


def test_refund_without_a_link_belongs_to_the_only_capture() -> None:
    bare = {name: value for name, value in REFUND.items() if name != "links"}
    assert len(refunds_in_order(listed(bare), PAID, live=True)) == 1
    with pytest.raises(Unreadable, match="several captures"):
        refunds_in_order(listed(bare, captures=(CAPTURE, "X9")), PAID, live=True)


@pytest.mark.parametrize(
    ("status", "refunds"),
    [
        ("REFUNDED", ()),
        ("REFUNDED", (REFUND,)),
        ("PARTIALLY_REFUNDED", ()),
        ("PARTIALLY_REFUNDED", (REFUND | {"status": "FAILED"},)),
        ("COMPLETED", (REFUND | total("10.00"),)),
    ],
)
def test_list_that_lags_behind_paypals_totals_is_unreadable(status: str, refunds: tuple[dict[str, Any], ...]) -> None:
    with pytest.raises(Unreadable, match="not complete"):
        refunds_in_order(listed(*refunds), replace(PAID, status=status), live=True)


@pytest.mark.parametrize(
    ("status", "refunds", "count"),
    [
        ("COMPLETED", (), 0),
        ("COMPLETED", (REFUND,), 1),
        ("PARTIALLY_REFUNDED", (REFUND | total("9.00"),), 1),
        ("PARTIALLY_REFUNDED", (REFUND | total("9.00", "USD"),), 1),
        ("REFUNDED", (REFUND, REFUND | {"id": "R2", "amount": {"currency_code": "GBP", "value": "3.50"}}), 2),
        ("PARTIALLY_REFUNDED", (REFUND | total("12.00"), REFUND | {"id": "R2", "status": "FAILED"}), 2),
    ],
)
def test_list_that_reaches_the_totals_counts(status: str, refunds: tuple[dict[str, Any], ...], count: int) -> None:
    assert len(refunds_in_order(listed(*refunds), replace(PAID, status=status), live=True)) == count


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": "OTHER", "purchase_units": []},
        {"id": PAID.order_id},
        listed(REFUND) | {"id": "OTHER"},
        listed(captures=()),
        listed(captures=("X9",)),
        {"id": PAID.order_id, "purchase_units": [{"payments": {"captures": [{"id": CAPTURE}], "refunds": {}}}]},
        listed(REFUND | {"amount": {"currency_code": "EUR", "value": "9.00"}}),
    ],
)
def test_order_that_is_not_the_captures_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        refunds_in_order(wrong, PAID, live=True)


# --- captures ---------------------------------------------------------------------------------------------------------


def described(**change: Any) -> dict[str, Any]:
    """Return a capture as PayPal describes it, with changes."""
    related = {"related_ids": {"order_id": "5O190127TN364715T"}}
    amount = {"currency_code": "GBP", "value": "12.50"}
    return {"id": CAPTURE, "status": "COMPLETED", "amount": amount, "supplementary_data": related} | change


@pytest.mark.parametrize(
    ("status", "captured", "refunded"),
    [
        ("COMPLETED", 1_250, 0),
        ("PENDING", 1_250, 0),
        ("PARTIALLY_REFUNDED", 1_250, None),
        ("REFUNDED", 1_250, 1_250),
        ("DECLINED", 0, 0),
        ("FAILED", 0, 0),
        ("NEW_ONE", None, None),
    ],
)
def test_capture_tells_what_came_in_and_went_back(status: str, captured: int | None, refunded: int | None) -> None:
    capture = to_capture(described(status=status), CAPTURE)
    reading = capture.reading(live=True, refunded_minor=capture.refunded_minor)
    assert (reading.captured_minor, reading.refunded_minor, reading.currency) == (captured, refunded, "GBP")
    assert (reading.live, reading.disputed, capture.order_id) == (True, None, "5O190127TN364715T")


@pytest.mark.parametrize("reason", ["BUYER_COMPLAINT", "CHARGEBACK"])
def test_capture_with_a_complaint_is_disputed(reason: str) -> None:
    capture = to_capture(described(status="PENDING", status_details={"reason": reason}), CAPTURE)
    assert capture.disputed is True


@pytest.mark.parametrize("related", [None, {}, {"related_ids": {"order_id": "a/b"}}, {"related_ids": []}])
def test_capture_without_a_usable_order_has_none(related: object) -> None:
    assert to_capture(described(supplementary_data=related), CAPTURE).order_id is None


def test_currencies_without_decimals_are_those_of_the_table() -> None:
    assert dict(CAPABILITIES.currency_decimals) == {"HUF": 0, "JPY": 0, "TWD": 0}
