"""Stripe's transfers, payouts, reversals and accounts as our types, and the events about them: unknown words too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refund_worker.domain.payouts.transfers import Fault, PayeeRead, PayeeState, Step
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.processors.stripe.entry import ENTRY
from refund_worker.processors.stripe.payout_objects import to_listed, to_payee, to_transfer_object
from refund_worker.processors.wire import Unreadable

MARKS = {
    "refund_worker_payout": "p1",
    "refund_worker_leg": "p1-1",
    "refund_worker_attempt": "2",
    "refund_worker_installation": "inst-1",
}
COMMON: dict[str, Any] = {"amount": 900, "currency": "eur", "created": 1_790_000_000, "metadata": MARKS}
TRANSFER = {**COMMON, "id": "tr_1", "object": "transfer", "amount_reversed": 0, "destination_payment": "py_1"}
PAYOUT = {**COMMON, "id": "po_1", "object": "payout", "status": "paid", "livemode": True}
REVERSAL = {**COMMON, "id": "trr_1", "object": "transfer_reversal", "transfer": {"id": "tr_1", "object": "transfer"}}
OF_STEP = {Step.TRANSFER: TRANSFER, Step.PAYOUT: PAYOUT, Step.REVERSAL: REVERSAL}
ACCOUNT: dict[str, Any] = {"id": "acct_1", "object": "account", "payouts_enabled": True}


def reversed_by(*amounts: tuple[int, dict[str, str] | None], whole: int | None = None) -> dict[str, Any]:
    """Return the transfer after reversals of these amounts, with their metadata."""
    back = sum(amount for amount, _ in amounts) if whole is None else whole
    shown = [{"object": "transfer_reversal", "amount": amount, "metadata": marks} for amount, marks in amounts]
    return {**TRANSFER, "amount_reversed": back, "reversals": {"object": "list", "data": shown}}


def test_marks_amounts_and_ids_are_read_in_every_step() -> None:
    for step, data in OF_STEP.items():
        made = to_transfer_object(step, data)
        assert (made.object_id, made.amount_minor, made.currency, made.step) == (data["id"], 900, "EUR", step)
        assert (made.leg_id, made.attempt, made.installation) == ("p1-1", 2, "inst-1")
        assert made.created_at.timestamp() == 1_790_000_000
        foreign = to_transfer_object(step, {**data, "metadata": {"refund_worker_leg": "a b", "x": "y"}})
        assert (foreign.leg_id, foreign.attempt, foreign.installation) == (None, None, None)
    assert to_transfer_object(Step.TRANSFER, TRANSFER).refs == ("py_1",)
    assert to_transfer_object(Step.REVERSAL, REVERSAL).refs == ("tr_1",)
    assert to_transfer_object(Step.PAYOUT, PAYOUT).live is True


@pytest.mark.parametrize("step", list(Step))
@pytest.mark.parametrize(
    "wrong",
    [
        {"object": "charge"},
        {"id": None},
        {"id": "po_1/../x"},
        {"amount": "900"},
        {"amount": True},
        {"amount": None},
        {"amount": 10**13},
        {"currency": "euros"},
        {"created": None},
        {"created": -1},
        {"created": 10**15},
    ],
    ids=str,
)
def test_object_without_its_parts_is_unreadable(step: Step, wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        to_listed(step, {**OF_STEP[step], **wrong})


def test_amount_below_zero_is_only_known_of_a_payout() -> None:
    assert to_listed(Step.PAYOUT, {**PAYOUT, "amount": -900}).transfer is None
    for step in Step:
        with pytest.raises(Unreadable):
            to_transfer_object(step, {**OF_STEP[step], "amount": -900})


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", ObjectState.PENDING),
        ("in_transit", ObjectState.PENDING),
        ("paid", ObjectState.SUCCEEDED),
        ("failed", ObjectState.FAILED),
        ("canceled", ObjectState.CANCELED),
        ("status_of_next_year", None),
        ("Paid", None),
        (None, None),
    ],
)
def test_status_of_a_payout_is_never_guessed(status: str | None, state: ObjectState | None) -> None:
    made = to_transfer_object(Step.PAYOUT, {**PAYOUT, "status": status})
    assert (made.status, made.state) == (status, state)


def test_payout_that_is_taken_back_has_no_known_state() -> None:
    made = to_transfer_object(Step.PAYOUT, {**PAYOUT, "reversed_by": "po_2"})
    assert (made.status, made.state) == ("reversed", None)
    failed = to_transfer_object(Step.PAYOUT, {**PAYOUT, "status": "failed", "reversed_by": "po_2"})
    assert failed.state is ObjectState.FAILED
    with pytest.raises(Unreadable):
        to_transfer_object(Step.PAYOUT, {**PAYOUT, "status": ["paid"]})


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        *((code, Fault.PAYEE) for code in ("account_closed", "account_frozen", "bank_account_restricted")),
        *((code, Fault.PAYEE) for code in ("bank_ownership_changed", "incorrect_account_holder_name")),
        *((code, Fault.PAYEE) for code in ("invalid_account_number", "invalid_currency", "no_account")),
        ("unsupported_card", Fault.PAYEE),
        ("insufficient_funds", Fault.OURS),
        ("debit_not_authorized", Fault.OURS),
        ("could_not_process", Fault.PROCESSOR),
        ("declined", Fault.PROCESSOR),
        ("code_of_next_year", None),
        (None, None),
    ],
)
def test_failure_code_says_whose_fault_it_is(code: str | None, fault: Fault | None) -> None:
    made = to_transfer_object(Step.PAYOUT, {**PAYOUT, "status": "failed", "failure_code": code})
    assert (made.failure_code, made.fault) == (code, fault)
    paid = to_transfer_object(Step.PAYOUT, {**PAYOUT, "failure_code": code})
    assert (paid.failure_code, paid.fault) == (None, None)


def test_details_of_an_unknown_shape_are_left_out() -> None:
    odd = {"arrival_date": "soon", "trace_id": "123", "livemode": "no", "failure_code": 7, "metadata": None}
    made = to_transfer_object(Step.PAYOUT, {**PAYOUT, **odd, "status": "failed"})
    assert (made.arrives_at, made.trace, made.live, made.failure_code, made.leg_id) == (None, None, None, None, None)
    known = {"arrival_date": 1_790_086_400, "trace_id": {"status": "supported", "value": "091000019"}}
    made = to_transfer_object(Step.PAYOUT, {**PAYOUT, **known})
    assert (made.arrives_at, made.trace) == (1_790_086_400.0, "091000019")
    card = {"trace_id": {"status": "supported", "value": "4242424242424242"}}
    assert to_transfer_object(Step.PAYOUT, {**PAYOUT, **card}).trace is None


OTHERS = {"refund_worker_payout": "p2"}
REVERSALS = [
    (TRANSFER, ObjectState.SUCCEEDED),
    (reversed_by((900, MARKS)), ObjectState.SUCCEEDED),
    (reversed_by((300, MARKS)), ObjectState.SUCCEEDED),
    (reversed_by((900, None)), ObjectState.CANCELED),
    (reversed_by((400, {}), (500, OTHERS)), ObjectState.CANCELED),
    (reversed_by((300, None)), None),
    (reversed_by((300, MARKS), (600, None)), None),
    # Not all reversals are shown, or not as they should be: it is not known whose they were.
    (reversed_by((300, MARKS), whole=900), None),
    (reversed_by(whole=900), None),
    ({**TRANSFER, "amount_reversed": 900}, None),
    ({**reversed_by(whole=900), "reversals": {"data": [{"amount": "900"}]}}, None),
    # A transfer without marks has no reversals of ours, whatever they say.
    ({**reversed_by((900, {})), "metadata": {}}, ObjectState.CANCELED),
]


@pytest.mark.parametrize(("data", "state"), REVERSALS)
def test_reversal_of_others_is_told_from_ours(data: dict[str, Any], state: ObjectState | None) -> None:
    assert to_transfer_object(Step.TRANSFER, data).state is state


@pytest.mark.parametrize("back", [None, "0", -1, 901, True])
def test_transfer_must_say_how_much_came_back(back: object) -> None:
    with pytest.raises(Unreadable):
        to_transfer_object(Step.TRANSFER, {**TRANSFER, "amount_reversed": back})


# --- payees -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        ({"payouts_enabled": True}, PayeeRead(PayeeState.READY)),
        (
            {"payouts_enabled": True, "requirements": {"currently_due": ["tos"], "current_deadline": 2_000_000_000}},
            PayeeRead(PayeeState.READY, None, ("tos",), 2_000_000_000.0),
        ),
        ({"payouts_enabled": False}, PayeeRead(PayeeState.REFUSED)),
        ({"payouts_enabled": False, "requirements": "none"}, PayeeRead(PayeeState.REFUSED)),
        (
            {"payouts_enabled": False, "requirements": {"currently_due": ["external_account"]}},
            PayeeRead(PayeeState.INCOMPLETE, None, ("external_account",)),
        ),
        (
            {"payouts_enabled": False, "requirements": {"pending_verification": ["individual.id_number"]}},
            PayeeRead(PayeeState.UNDER_REVIEW),
        ),
        (
            {"payouts_enabled": False, "requirements": {"disabled_reason": "rejected.fraud", "past_due": ["tos"]}},
            PayeeRead(PayeeState.REFUSED),
        ),
        (
            {"payouts_enabled": True, "capabilities": {"transfers": "inactive", "legacy_payments": "active"}},
            PayeeRead(PayeeState.READY),
        ),
    ],
)
def test_account_has_one_verdict(shown: dict[str, Any], verdict: PayeeRead) -> None:
    assert to_payee({**ACCOUNT, **shown}, "acct_1") == verdict


def test_needs_are_texts_of_bounded_length() -> None:
    requirements = {"disabled_reason": "requirements.past_due", "past_due": ["a" * 500, 7, None, "", *["b"] * 90]}
    read = to_payee({**ACCOUNT, "payouts_enabled": False, "requirements": requirements}, "acct_1")
    assert read.needs == ("a" * 200, "b")


# --- events -----------------------------------------------------------------------------------------------------------


def hint(kind: str, event: object) -> TransferHint | None:
    """Return the hint of an event."""
    assert ENTRY.payouts is not None
    return ENTRY.payouts.transfer_hint(kind, event if isinstance(event, str) else json.dumps(event))


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        *((f"payout.{what}", PAYOUT) for what in ("created", "updated", "paid", "failed", "canceled")),
        *((f"transfer.{what}", TRANSFER) for what in ("created", "updated", "reversed")),
        ("v1.payout.failed", PAYOUT),
    ],
)
def test_event_about_money_names_object_and_leg(kind: str, data: dict[str, Any]) -> None:
    found = TransferHint(data["id"], "p1-1")
    assert hint(kind, {"type": kind, "account": "acct_1", "data": {"object": data}}) == found
    thin = {"type": kind, "related_object": {"id": data["id"], "type": data["object"]}}
    assert hint(kind, thin) == TransferHint(data["id"], None)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("account.updated", {"data": {"object": ACCOUNT}, "account": "acct_1"}),
        ("account.external_account.updated", {"data": {"object": {"id": "ba_1", "account": "acct_1"}}}),
        ("capability.updated", {"data": {"object": {"id": "transfers", "account": "acct_1"}}}),
        ("account.application.deauthorized", {"data": {"object": {"id": "ca_1"}}, "account": "acct_1"}),
    ],
)
def test_event_about_a_payee_names_the_account(kind: str, event: dict[str, Any]) -> None:
    assert hint(kind, event) == TransferHint("acct_1", None, is_payee=True)


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("refund.updated", {"data": {"object": {"id": "re_1", "object": "refund", "metadata": MARKS}}}),
        ("charge.succeeded", {"data": {"object": {"id": "ch_1", "object": "charge", "transfer": "tr_1"}}}),
        ("balance.available", {"data": {"object": {"object": "balance"}}, "account": "acct_1"}),
        ("payout.paid", {"data": {"object": {"object": "payout"}}}),
        ("payout.paid", {"data": {"object": {"id": "ch_1", "object": "charge"}}}),
        ("payout.paid", {"data": {"object": {"id": "po_1/..", "object": "payout"}}}),
        ("payout.paid", {"data": []}),
        ("payout.paid", []),
        ("payout.paid", "{"),
        ("account.updated", {"data": {"object": {"id": "me"}}}),
        ("account.updated", "[" * 100_000),
    ],
)
def test_any_other_event_is_no_hint(kind: str, event: object) -> None:
    assert hint(kind, event) is None
