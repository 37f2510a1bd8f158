"""The meaning of each status and each error's name of a payout, and what cannot be frozen or read."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.processors.paypal.payout_bench import EMAIL, LEG, instruction
from tests.support.openapi_check import described

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import Fault, Method, Step, TransferObject
from refund_worker.domain.processor_replies import (
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.paypal.payout_answers import classify_payout_answer, duplicate_batch
from refund_worker.processors.paypal.payout_errors import FAULTS
from refund_worker.processors.paypal.payout_objects import (
    BATCH_STATES,
    ITEM_STATES,
    FrozenPayout,
    created_batch,
    frozen_payout,
    our_ids,
    to_batch,
    to_transfer,
)
from refund_worker.processors.wire import HttpAnswer, Unreadable

FROZEN = FrozenPayout.of(frozen_payout(instruction()))
NOW = datetime(2026, 11, 29, tzinfo=UTC)
MADE, PROCESSED = "2026-11-01T10:00:00Z", "2026-11-02T10:00:00Z"
PENDING, ACTION, PAID, FAILED = (
    ObjectState.PENDING,
    ObjectState.REQUIRES_ACTION,
    ObjectState.SUCCEEDED,
    ObjectState.FAILED,
)

# Every name that PayPal publishes, or that others saw in its answers, with the party at fault.
GROUPS: dict[Fault | None, str] = {
    Fault.PAYEE: "RECEIVER_UNREGISTERED RECEIVER_UNCONFIRMED RECEIVER_ACCOUNT_LIMITATION RECEIVING_LIMIT_EXCEEDED "
    "PENDING_RECIPIENT_NON_HOLDING_CURRENCY_PAYMENT_PREFERENCE INVALID_EMAIL_ID INVALID_EMAIL RECEIVER_ACCOUNT_LOCKED "
    "RECEIVER_ACCOUNT_INVALID RECEIVER_COUNTRY_NOT_ALLOWED RECEIVER_STATE_RESTRICTED RECEIVER_YOUTH_ACCOUNT "
    "RECEIVER_REFUSED REFUSED_RECEIVER_REFUSED CLOSED_MARKET GAMER_FAILED_COUNTRY_OF_RESIDENCE_CHECK "
    "CURRENCY_NOT_SUPPORTED_FOR_RECEIVER UNVERIFIED_RECIPIENT_NOT_SUPPORTED",
    Fault.COMPLIANCE: "CURRENCY_COMPLIANCE REGULATORY_BLOCKED REGULATORY_PENDING RISK_DECLINE "
    "TRANSACTION_DECLINED_BY_TRAVEL_RULE",
    Fault.OURS: "INSUFFICIENT_FUNDS NEGATIVE_BALANCE SENDER_ACCOUNT_UNVERIFIED SENDER_STATE_RESTRICTED "
    "SENDER_ACCOUNT_LOCKED SENDER_EMAIL_UNCONFIRMED SENDER_RESTRICTED ACCOUNT_RESTRICTED ACCOUNT_UNCONFIRMED_EMAIL "
    "AUTHORIZATION_ERROR NON_HOLDING_CURRENCY POS_LIMIT_EXCEEDED SPENDING_LIMIT_EXCEEDED REFUSED_ACTION_DENIED "
    "REFUSED_ACCESS_DENIED REQUIRED_SCOPE_MISSING ZERO_AMOUNT RATE_LIMIT_VALIDATION_FAILURES USER_COUNTRY_NOT_ALLOWED "
    "USER_FUNDING_SOURCE_INELIGIBLE SELF_PAY_NOT_ALLOWED GAMER_FAILED_FUNDING_SOURCE_CHECK GAMING_INVALID_PAYMENT_FLOW "
    "TRANSACTION_LIMIT_EXCEEDED NOT_AUTHORIZED PERMISSION_DENIED",
    Fault.PROCESSOR: "INTERNAL_ERROR UNDEFINED REQUEST_TIMEOUT_EXCEEDED",
    None: "DUPLICATE_ITEM SOMETHING_NEW",
}
NAMES = [(name, fault) for fault, names in GROUPS.items() for name in names.split()]


def batch_json(status: str | None = "SUCCESS", *items: dict[str, Any], **header: Any) -> dict[str, Any]:
    """Return a batch as PayPal shows it."""
    of_sender = {"sender_batch_id": f"{LEG}:1"}
    known = {"payout_batch_id": "PYB1", "time_created": MADE, "sender_batch_header": of_sender, "batch_status": status}
    return {"batch_header": known | header} | ({"items": list(items)} if items else {})


def item_json(status: str | None = "SUCCESS", error: str | None = None, **more: Any) -> dict[str, Any]:
    """Return an item of that batch."""
    amount = {"currency": "USD", "value": "9.00"}
    sent = {"amount": amount, "receiver": EMAIL, "recipient_type": "EMAIL", "sender_item_id": f"{LEG}:1"}
    shown = {"payout_item_id": "PYI1", "payout_batch_id": "PYB1", "payout_item": sent, "time_processed": PROCESSED}
    shown |= {} if status is None else {"transaction_status": status}
    return shown | ({"errors": {"name": error}} if error else {}) | more


def read(data: object) -> TransferObject:
    """Return the transfer object of a batch."""
    return to_transfer(to_batch(data, "PYB1"), FROZEN, live=True, read_at=NOW)


# --- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "state", "fault"),
    [
        ("PENDING", PENDING, None),
        ("ONHOLD", ACTION, Fault.PAYEE),
        ("UNCLAIMED", ACTION, Fault.PAYEE),
        ("SUCCESS", PAID, None),
        ("FAILED", FAILED, None),
        ("BLOCKED", FAILED, None),
        ("RETURNED", FAILED, Fault.PAYEE),
        ("REFUNDED", FAILED, Fault.PAYEE),
        ("REVERSED", FAILED, None),
        ("DENIED", None, None),
        ("SOMETHING_NEW", None, None),
        ("", None, None),
    ],
)
@pytest.mark.parametrize("of_batch", ["SUCCESS", "PROCESSING", "PENDING", "SOMETHING_NEW", None])
def test_each_status_of_an_item(status: str, state: ObjectState | None, fault: Fault | None, of_batch: str) -> None:
    read_one = read(batch_json(of_batch, item_json(status)))
    assert (read_one.status, read_one.state, read_one.fault) == (status, state, fault)
    assert read_one.failure_code == (None if state in (PENDING, PAID) else status)


def test_statuses_are_all_that_are_published() -> None:
    published = described("paypal_payments_payouts_batch_v1.json").document["components"]["schemas"]
    assert set(ITEM_STATES) == set(published["transaction_enum"]["enum"])
    assert {*BATCH_STATES, "SUCCESS"} == set(published["batch_enum"]["enum"])


@pytest.mark.parametrize("status", ["ONHOLD", "UNCLAIMED"])
def test_payee_has_30_days_from_the_processing(status: str) -> None:
    assert read(batch_json("SUCCESS", item_json(status))).act_by == datetime(2026, 12, 2, 10, tzinfo=UTC).timestamp()
    assert read(batch_json("SUCCESS", item_json("SUCCESS"))).act_by is None


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [
        ("PENDING", PENDING, None),
        ("PROCESSING", PENDING, None),
        ("DENIED", FAILED, "BATCH_DENIED"),
        ("CANCELED", ObjectState.CANCELED, None),
        ("SOMETHING_NEW", None, None),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("with_item", [False, True])
def test_batch_speaks_for_an_item_without_a_status(
    status: str | None, state: ObjectState | None, code: str | None, with_item: bool
) -> None:
    read_one = read(batch_json(status, *[item_json(None)] if with_item else []))
    assert (read_one.status, read_one.state, read_one.failure_code) == (status, state, code)


def test_success_of_a_batch_says_nothing_about_its_item() -> None:
    assert read(batch_json("SUCCESS", item_json(None))).state is None
    with pytest.raises(Unreadable, match="lists no item"):
        read(batch_json("SUCCESS"))


@pytest.mark.parametrize(("of_batch", "state"), [("DENIED", FAILED), ("CANCELED", ObjectState.CANCELED)])
def test_ended_batch_ends_a_pending_item_and_no_other(of_batch: str, state: ObjectState) -> None:
    assert read(batch_json(of_batch, item_json("PENDING"))).state is state
    assert read(batch_json(of_batch, item_json("SUCCESS"))).state is PAID
    assert read(batch_json(of_batch, item_json("UNCLAIMED"))).state is ACTION


# --- names of errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "fault"), NAMES)
def test_each_name_says_who_is_at_fault(name: str, fault: Fault | None) -> None:
    failed = read(batch_json("DENIED", item_json("FAILED", name)))
    assert (failed.failure_code, failed.fault) == (name, fault)
    # Of a duplicate nothing shows which item was paid: a person decides.
    assert failed.state is (None if name == "DUPLICATE_ITEM" else FAILED)


def test_names_of_the_tables_are_all_tested() -> None:
    assert FAULTS.keys() == {name for name, fault in NAMES if fault is not None}


@pytest.mark.parametrize(("name", "fault"), NAMES)
def test_payee_acts_only_on_what_it_can_change(name: str, fault: Fault | None) -> None:
    held = read(batch_json("SUCCESS", item_json("ONHOLD", name)))
    if name == "DUPLICATE_ITEM":
        assert held.state is None
    else:
        assert held.state is (ACTION if fault in (Fault.PAYEE, None) else PENDING)
    assert (held.failure_code, held.fault) == (name, fault)


@pytest.mark.parametrize(("of_batch", "status"), [("DENIED", "PENDING"), ("DENIED", None), ("CANCELED", "PENDING")])
def test_duplicate_in_an_ended_batch_is_for_a_person_too(of_batch: str, status: str | None) -> None:
    assert read(batch_json(of_batch, item_json(status, "DUPLICATE_ITEM"))).state is None


def test_error_of_a_paid_item_is_not_repeated() -> None:
    paid = read(batch_json("SUCCESS", item_json("SUCCESS", "RECEIVER_UNREGISTERED")))
    assert (paid.state, paid.failure_code, paid.fault) == (PAID, None, None)


REFUSED: dict[type, str] = {
    Refused: f"{GROUPS[Fault.PAYEE]} {GROUPS[Fault.COMPLIANCE]}",
    Blocked: "INSUFFICIENT_FUNDS NEGATIVE_BALANCE SPENDING_LIMIT_EXCEEDED POS_LIMIT_EXCEEDED",
    Denied: "SENDER_ACCOUNT_UNVERIFIED SENDER_STATE_RESTRICTED SENDER_ACCOUNT_LOCKED SENDER_EMAIL_UNCONFIRMED "
    "SENDER_RESTRICTED ACCOUNT_RESTRICTED ACCOUNT_UNCONFIRMED_EMAIL AUTHORIZATION_ERROR REFUSED_ACTION_DENIED "
    "REFUSED_ACCESS_DENIED REQUIRED_SCOPE_MISSING USER_COUNTRY_NOT_ALLOWED USER_FUNDING_SOURCE_INELIGIBLE "
    "GAMER_FAILED_FUNDING_SOURCE_CHECK GAMING_INVALID_PAYMENT_FLOW PERMISSION_DENIED NOT_AUTHORIZED",
    Misconfigured: "NON_HOLDING_CURRENCY SELF_PAY_NOT_ALLOWED TRANSACTION_LIMIT_EXCEEDED ZERO_AMOUNT "
    "INVALID_RESOURCE_ID",
    Unanswered: "INTERNAL_ERROR UNDEFINED REQUEST_TIMEOUT_EXCEEDED PREVIOUS_REQUEST_IN_PROGRESS",
    UnknownRefusal: "SOMETHING_NEW DUPLICATE_ITEM USER_BUSINESS_ERROR VALIDATION_ERROR RATE_LIMIT_VALIDATION_FAILURES",
}


def answer(status: int, body: object, **headers: str) -> HttpAnswer:
    """Return an HTTP answer."""
    return HttpAnswer(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in REFUSED.items() for name in names.split()])
@pytest.mark.parametrize("status", [400, 422])
def test_each_name_of_a_refused_request(kind: type, name: str, status: int) -> None:
    reply = classify_payout_answer(answer(status, {"name": name, "message": "no", "debug_id": "d1"}))
    assert type(reply) is kind
    if isinstance(reply, Denied):
        # The same key is sent again: PayPal then makes at most one batch.
        assert not reply.maybe_kept


@pytest.mark.parametrize("name", ["SOMETHING_NEW", "AUTHORIZATION_ERROR", "USER_BUSINESS_ERROR"])
def test_403_is_about_the_account_unless_it_says_more(name: str) -> None:
    reply = classify_payout_answer(answer(403, {"name": name, "message": "no"}))
    assert isinstance(reply, Denied)
    assert not reply.maybe_kept
    refused = classify_payout_answer(answer(403, {"name": "RECEIVER_COUNTRY_NOT_ALLOWED", "message": "no"}))
    assert isinstance(refused, Refused)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("name", ["INSUFFICIENT_FUNDS", "RECEIVER_ACCOUNT_LOCKED", "INTERNAL_ERROR"])
def test_5xx_is_never_a_refusal(status: int, name: str) -> None:
    assert isinstance(classify_payout_answer(answer(status, {"name": name, "message": "no"})), Unanswered)


def test_429_is_busy_whatever_it_says() -> None:
    assert classify_payout_answer(answer(429, {}, **{"retry-after": "7"})) == Busy("rate_limit", 7.0)


@pytest.mark.parametrize(
    ("fields", "kind", "code"),
    [
        (["items[0].receiver"], Refused, "INVALID_RECEIVER"),
        (["items[0].amount.value"], Misconfigured, "VALIDATION_ERROR"),
        (["items[0].receiver", "items[0].amount.value"], Misconfigured, "VALIDATION_ERROR"),
        (["items[0].note"], Misconfigured, "VALIDATION_ERROR"),
        (["sender_batch_header.sender_batch_id"], Misconfigured, "VALIDATION_ERROR"),
        (["items"], Denied, "VALIDATION_ERROR"),
        (["sender_batch_header"], Denied, "VALIDATION_ERROR"),
        ([], UnknownRefusal, "VALIDATION_ERROR"),
    ],
)
def test_wrong_form_is_judged_by_its_field(fields: list[str], kind: type, code: str) -> None:
    details = [{"field": field, "location": "body", "issue": "is wrong"} for field in fields]
    reply = classify_payout_answer(answer(400, {"name": "VALIDATION_ERROR", "message": "see", "details": details}))
    assert type(reply) is kind
    assert reply.code == code  # type: ignore[union-attr]


# --- duplicates -------------------------------------------------------------------------------------------------------


HREF = "https://api-m.paypal.com/v1/payments/payouts/Q6K2CE4GQ36MQ"


@pytest.mark.parametrize("href", [HREF, f"{HREF}?page=1&page_size=1000", "/v1/payments/payouts/Q6K2CE4GQ36MQ/"])
@pytest.mark.parametrize("place", ["link", "links", "top"])
def test_first_batch_is_read_from_the_link(href: str, place: str) -> None:
    link = [{"href": href, "rel": "self", "method": "GET"}]
    detail = {"field": "SENDER_BATCH_ID", "issue": "exists"} | ({} if place == "top" else {place: link})
    body = {"name": "USER_BUSINESS_ERROR", "details": [detail], "links": link if place == "top" else []}
    assert duplicate_batch(answer(400, body)) == "Q6K2CE4GQ36MQ"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"name": "USER_BUSINESS_ERROR", "details": [{"field": "SENDER_BATCH_ID", "issue": "exists"}]}, ""),
        (400, {"name": "USER_BUSINESS_ERROR", "details": [{"field": "OTHER", "link": [{"href": HREF}]}]}, None),
        (400, {"name": "VALIDATION_ERROR", "details": [{"field": "SENDER_BATCH_ID", "link": [{"href": HREF}]}]}, None),
        (500, {"name": "USER_BUSINESS_ERROR", "details": [{"field": "SENDER_BATCH_ID"}]}, None),
        (
            400,
            {
                "name": "USER_BUSINESS_ERROR",
                "details": [{"field": "SENDER_BATCH_ID", "link": [{"href": HREF}, {"href": f"{HREF}X"}]}],
            },
            "",
        ),
        (
            400,
            {
                "name": "USER_BUSINESS_ERROR",
                "details": [{"field": "SENDER_BATCH_ID", "link": [{"href": f"{HREF}/../../../x"}]}],
            },
            "",
        ),
    ],
)
def test_batch_is_named_by_one_link_alone(status: int, body: dict[str, Any], expected: str | None) -> None:
    assert duplicate_batch(answer(status, body)) == expected
    if expected == "":
        assert isinstance(classify_payout_answer(answer(status, body)), Unanswered)


# --- what is frozen ---------------------------------------------------------------------------------------------------


def test_frozen_body_is_canonical_and_is_read_back() -> None:
    body = frozen_payout(instruction())
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    assert json.loads(body)["step"] == "payout"
    frozen = FrozenPayout.of(body)
    assert (frozen.sender_id, frozen.amount_minor, frozen.currency, frozen.receiver) == (f"{LEG}:1", 900, "USD", EMAIL)
    assert EMAIL not in repr(frozen)
    assert "inst_" not in body


def test_ids_of_the_engine_fit_paypals_field() -> None:
    longest = instruction(leg_id="po_" + "f" * 32 + "-99", attempt=999_999_999)
    assert our_ids(FrozenPayout.of(frozen_payout(longest)).sender_id) == (longest.leg_id, 999_999_999)


@pytest.mark.parametrize(
    "wrong",
    [
        {"leg_id": "x" * 62},
        {"leg_id": "x" * 58, "attempt": 10_000},
        {"leg_id": "po 1"},
        {"leg_id": "po:1"},
        {"amount_minor": 0},
        {"amount_minor": 2_000_001},
        {"currency": "usd"},
        {"currency": "HUF", "amount_minor": 950},
        {"step": Step.TRANSFER},
        {"step": Step.REVERSAL},
        {"method": Method.INSTANT},
        {"destination": Destination(kind=DestinationKind.MANUAL, text="by cheque")},
        {"destination": Destination(kind=DestinationKind.PAYPAL)},
    ],
)
def test_instruction_that_paypal_cannot_take_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"[a-z]") as refused:
        frozen_payout(instruction(**wrong))
    assert EMAIL not in str(refused.value)


def test_largest_amount_is_paid() -> None:
    assert FrozenPayout.of(frozen_payout(instruction(2_000_000))).amount_minor == 2_000_000


def test_long_description_is_cut() -> None:
    (item,) = json.loads(frozen_payout(instruction(description="ä" * 5_000)))["request"]["items"]
    assert item["note"] == "ä" * 1_000
    assert "note" not in json.loads(frozen_payout(instruction(description="")))["request"]["items"][0]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"request": {"items": []}}', "{" * 100_000])
def test_other_text_is_no_frozen_body(text: str) -> None:
    with pytest.raises(ValueError, match="no frozen body"):
        FrozenPayout.of(text)


# --- what is read -----------------------------------------------------------------------------------------------------


def test_times_are_the_batchs_then_the_items_then_now() -> None:
    assert read(batch_json("SUCCESS", item_json())).created_at == datetime(2026, 11, 1, 10, tzinfo=UTC)
    later = read(batch_json("SUCCESS", item_json(), time_created=None))
    assert later.created_at == datetime(2026, 11, 2, 10, tzinfo=UTC)
    assert read(batch_json("PENDING", time_created="soon")).created_at == NOW


def test_fee_in_another_currency_is_left_out() -> None:
    assert read(batch_json("SUCCESS", item_json(payout_item_fee={"currency": "USD", "value": "0.25"}))).fee_minor == 25
    other = item_json(payout_item_fee={"currency": "EUR", "value": "0.25"})
    assert read(batch_json("SUCCESS", other)).fee_minor is None


def test_item_of_others_is_not_ours() -> None:
    sent = item_json()["payout_item"] | {"sender_item_id": "item_2"}
    others = read(batch_json("SUCCESS", item_json(payout_item=sent)))
    assert (others.leg_id, others.attempt) == (None, None)


def test_amount_of_the_item_is_passed_on_as_it_is() -> None:
    sent = item_json()["payout_item"] | {"amount": {"currency": "EUR", "value": "9.01"}}
    other = read(batch_json("SUCCESS", item_json(payout_item=sent)))
    assert (other.amount_minor, other.currency) == (901, "EUR")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        batch_json("SUCCESS", item_json(), payout_batch_id="PYB2"),
        batch_json(7, item_json()),  # type: ignore[arg-type]
        batch_json("SUCCESS", item_json(), item_json()),
        batch_json("SUCCESS", item_json(payout_batch_id="PYB2")),
        batch_json("SUCCESS", item_json(payout_item_id="../1")),
        batch_json("SUCCESS", item_json(payout_item={})),
        batch_json("SUCCESS", item_json(transaction_status=7)),
        batch_json("SUCCESS") | {"items": {}},
        batch_json("SUCCESS") | {"items": [None]},
    ],
)
def test_other_json_is_no_batch(data: object) -> None:
    with pytest.raises(Unreadable):
        read(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(item_json("FAILED", "X"))), JSON), st.sampled_from(["SUCCESS", "DENIED"]))
def test_whatever_an_item_has_is_read_or_refused(more: dict[str, Any], status: str) -> None:
    try:
        made = read(batch_json(status, item_json() | more))
    except Unreadable:
        return
    assert made.object_id == "PYB1"
    if made.state is not None and made.state is not FAILED:
        assert made.status in {*ITEM_STATES, *BATCH_STATES}


@given(JSON)
def test_whatever_an_answer_has_is_read_or_refused(data: object) -> None:
    with contextlib.suppress(Unreadable):
        created_batch(data)
    reply = classify_payout_answer(answer(400, data))
    assert not isinstance(reply, Refused | Blocked)
