"""Stripe says where a refund's money is: trace, statement, the customer's action. Unknown shapes are left out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.processors.scripted_stripe import CARD

from refund_worker.domain.processor_replies import NO_DETAILS, RefundDetails
from refund_worker.processors.stripe.objects import to_refund_object

ARN = "74537604221222132710572"
WAITS = {"status": "requires_action"}


def details_of(**fields: Any) -> RefundDetails:
    refund = {"id": "re_1", "object": "refund", "amount": 1, "created": 1, "currency": "usd", "status": "succeeded"}
    return to_refund_object(refund | fields).details


def by_card(**fields: Any) -> dict[str, Any]:
    return {"destination_details": {"type": "card", "card": fields}}


def asks(**display: Any) -> dict[str, Any]:
    return WAITS | {"next_action": {"type": "display_details", "display_details": display}}


def test_trace_and_credit_of_a_card() -> None:
    card = {"type": "refund", "reference": ARN, "reference_status": "available"}
    kind = "acquirer_reference_number"
    assert details_of(**by_card(**card, reference_type=kind)) == RefundDetails(
        method="card", statement="credit", trace_kind=kind, trace_value=ARN, trace_status="available"
    )


def test_reversal_vanishes_and_pending_says_nothing_yet() -> None:
    assert details_of(**by_card(type="reversal")).statement == "vanishes"
    assert details_of(**by_card(type="pending", reference_status="pending")) == RefundDetails(
        method="card", trace_kind="card", trace_status="pending"
    )


def test_bank_transfer_has_a_reference() -> None:
    sent = {"type": "us_bank_transfer", "us_bank_transfer": {"reference": "TX 1", "reference_status": "available"}}
    details = details_of(destination_details=sent)
    assert (details.method, details.trace_kind, details.trace_value) == ("us_bank_transfer", "us_bank_transfer", "TX 1")


def test_customer_action_is_read_with_the_address_masked() -> None:
    sent = {"email_sent_at": 1_700_000_000, "email_sent_to": "jane.doe@example.com"}
    assert details_of(**asks(email_sent=sent, expires_at=1_700_600_000)) == RefundDetails(
        emailed_to="j***@example.com", emailed_at=1_700_000_000.0, act_by=1_700_600_000.0
    )
    assert details_of(**WAITS, instructions_email="joe@example.org").emailed_to == "j***@example.org"
    assert details_of(**WAITS, instructions_email="joe@intranet").emailed_to == "j***@intranet"


def test_address_is_forgotten_once_the_customer_acted() -> None:
    assert details_of(status="pending", instructions_email="joe@example.org", pending_reason="processing") == (
        RefundDetails(pending_reason="processing")
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"destination_details": []},
        {"destination_details": {"type": ["card"], "card": {"reference": ARN}}},
        {"destination_details": {"type": "no such\x00method"}},
        {"pending_reason": "processing"},  # of a refund that is not pending
        {"status": "pending", "pending_reason": {"a": 1}},
        asks(email_sent="soon", expires_at="tomorrow"),
        asks(email_sent={"email_sent_to": 5, "email_sent_at": True}, expires_at=10**18),
        WAITS | {"next_action": "mail"},
    ],
    ids=str,
)
def test_unknown_shape_is_left_out(fields: dict[str, Any]) -> None:
    assert details_of(**fields) == NO_DETAILS


@pytest.mark.parametrize("reference", [CARD, "a\x00b", "x" * 101, "", 74537604, "<b>"], ids=str)
def test_unusable_reference_is_left_out(reference: object) -> None:
    assert details_of(**by_card(reference=reference)).trace_value is None
