"""The subject of a Stripe event is found in current events, in thin ones, and in none that is about anything else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refund_worker.processors.base import EventSubject
from refund_worker.processors.stripe.event_subjects import event_subject

CHARGE = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "type": "card"}
DISPUTE = {"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1"}
WARNING = {"id": "issfr_1", "object": "radar.early_fraud_warning", "charge": "ch_1", "payment_intent": None}
INTENT = {"id": "pi_1", "object": "payment_intent", "latest_charge": "ch_1"}
REFUND = {"id": "re_1", "object": "refund", "charge": "ch_1", "payment_intent": "pi_1"}
BOTH = ("ch_1", "pi_1")


def about(kind: str, **event: Any) -> EventSubject | None:
    """Return the subject of an event."""
    return event_subject(kind, json.dumps({"id": "evt_1", "type": kind, **event}))


@pytest.mark.parametrize(
    ("kind", "described", "subject"),
    [
        ("charge.dispute.created", DISPUTE, EventSubject("dispute", "dp_1", BOTH)),
        ("charge.dispute.funds_withdrawn", DISPUTE, EventSubject("dispute", "dp_1", BOTH)),
        ("charge.dispute.closed", DISPUTE | {"charge": CHARGE}, EventSubject("dispute", "dp_1", BOTH)),
        ("radar.early_fraud_warning.created", WARNING, EventSubject("warning", "issfr_1", ("ch_1",))),
        ("charge.succeeded", CHARGE, EventSubject("payment", "ch_1", BOTH, is_new_payment=True)),
        ("charge.captured", CHARGE, EventSubject("payment", "ch_1", BOTH, is_new_payment=True)),
        ("charge.refunded", CHARGE, EventSubject("payment", "ch_1", BOTH)),
        ("payment_intent.succeeded", INTENT, EventSubject("payment", "pi_1", ("pi_1", "ch_1"), is_new_payment=True)),
        ("payment_intent.created", INTENT | {"latest_charge": None}, EventSubject("payment", "pi_1", ("pi_1",))),
        ("refund.updated", REFUND, EventSubject("refund", "re_1", BOTH)),
        ("charge.refund.updated", REFUND, EventSubject("refund", "re_1", BOTH)),
    ],
    ids=str,
)
def test_event_names_its_subject_and_the_payment(kind: str, described: dict[str, Any], subject: EventSubject) -> None:
    assert about(kind, data={"object": described}) == subject


@pytest.mark.parametrize(
    ("kind", "related", "subject"),
    [
        ("v1.charge.dispute.created", {"id": "dp_1", "type": "dispute"}, EventSubject("dispute", "dp_1")),
        ("v1.charge.dispute.created", {"id": "du_1", "type": "charge.dispute"}, EventSubject("dispute", "du_1")),
        ("v1.charge.dispute.closed", {"id": "du_1"}, EventSubject("dispute", "du_1")),
        ("v1.radar.early_fraud_warning.created", {"id": "issfr_1"}, EventSubject("warning", "issfr_1")),
        (
            "v1.charge.captured",
            {"id": "py_1", "type": "charge"},
            EventSubject("payment", "py_1", ("py_1",), is_new_payment=True),
        ),
        (
            "v1.payment_intent.succeeded",
            {"id": "pi_1"},
            EventSubject("payment", "pi_1", ("pi_1",), is_new_payment=True),
        ),
        ("v1.refund.failed", {"id": "re_1", "type": "refund"}, EventSubject("refund", "re_1")),
    ],
    ids=str,
)
def test_thin_event_names_its_subject(kind: str, related: dict[str, Any], subject: EventSubject) -> None:
    assert about(kind, related_object=related) == subject
    assert about(kind, data={"related_object": related}) == subject


@pytest.mark.parametrize(
    ("kind", "event"),
    [
        ("payout.paid", {"data": {"object": {"id": "po_1", "object": "payout"}}}),
        ("charge.dispute.created", {"data": {"object": {"id": "ch_1"}}}),
        ("charge.succeeded", {"data": {"object": {"id": "cus_1"}}}),
        ("charge.succeeded", {"data": {"object": {"id": "ch_1/../x", "object": "charge"}}}),
        ("charge.succeeded", {"data": {"object": None}}),
        ("charge.succeeded", {"data": [1]}),
        ("charge.succeeded", {}),
    ],
    ids=str,
)
def test_other_event_has_no_subject(kind: str, event: dict[str, Any]) -> None:
    assert about(kind, **event) is None


@pytest.mark.parametrize("body", ["", "[]", "null", "{", "[" * 200_000, '{"data": {"object": {"id": 7}}}'], ids=len)
def test_body_that_is_no_event_has_no_subject(body: str) -> None:
    assert event_subject("charge.dispute.created", body) is None
