"""The causes for which a refund waits."""

from __future__ import annotations

from typing import Any

import pytest
from tests.domain.builders import START, a_leg, a_refund

from refund_worker.domain.refund import Doubt, Leg, LegStatus, RefundStatus
from refund_worker.domain.waiting import Wait, WaitCause, waits

PAUSED = {"stripe": Wait(WaitCause.PROCESSOR_PAUSED, "stripe", START - 60, None, "paused_by_hand", "outage")}
LATER = START + 90


def under_way(*legs: Leg) -> Any:
    return a_refund(*legs, status=RefundStatus.SENDING, ledger_posted=True)


def leg(status: LegStatus, **changes: Any) -> Leg:
    return a_leg(status=status, **changes)


@pytest.mark.parametrize(
    ("its_leg", "blocked", "expected"),
    [
        (a_leg(), {}, Wait(WaitCause.WORKER)),
        (a_leg(), PAUSED, Wait(WaitCause.PROCESSOR_PAUSED, "stripe", START - 60, None, "paused_by_hand", "outage")),
        (leg(LegStatus.WAITING, next_at=LATER), {}, Wait(WaitCause.RETRY, "stripe", until=LATER, code="rate_limit")),
        (leg(LegStatus.WAITING, next_at=START), {}, Wait(WaitCause.WORKER)),
        (
            leg(LegStatus.UNKNOWN, next_at=LATER, last_sent_at=START, in_doubt=Doubt(unanswered=True)),
            PAUSED,
            Wait(WaitCause.RESULT_UNKNOWN, "stripe", START, LATER, "rate_limit"),
        ),
        (leg(LegStatus.PENDING, next_at=LATER), PAUSED, Wait(WaitCause.PROCESSOR, "stripe", until=LATER)),
        (leg(LegStatus.REQUIRES_ACTION, next_at=LATER), {}, Wait(WaitCause.CUSTOMER, "stripe", until=LATER)),
        (leg(LegStatus.BLOCKED, attention_code="x"), PAUSED, Wait(WaitCause.PERSON, "stripe", code="x")),
        (
            leg(LegStatus.BLOCKED, attention_code="x", failure_code="x", next_at=LATER),
            {},
            Wait(WaitCause.RETRY, "stripe", until=LATER, code="x"),
        ),
    ],
)
def test_a_leg_says_why_it_waits(its_leg: Leg, blocked: dict[str, Wait], expected: Wait) -> None:
    (found,) = waits(under_way(its_leg), START, blocked, {"r-1": "rate_limit"})
    assert found == expected
    assert "{" not in found.text
    assert "None" not in found.text


def test_each_cause_is_named_once() -> None:
    two = under_way(a_leg(), a_leg(2), a_leg(3, processor="manual"))
    assert [wait.processor for wait in waits(two, START, PAUSED)] == ["stripe", None]


def test_a_refund_says_that_it_waits_for_approval_or_has_ended() -> None:
    refund = a_refund(a_leg(), status=RefundStatus.AWAITING_APPROVAL)
    assert [wait.cause for wait in waits(refund, START, PAUSED)] == [WaitCause.APPROVAL]
    assert waits(a_refund(a_leg(), status=RefundStatus.CANCELED), START, PAUSED) == ()


def test_refund_waits_for_each_payout_that_pays_a_leg() -> None:
    refund = under_way(
        *(a_leg(number, status=LegStatus.PENDING, processor="payout") for number in (1, 2)), a_leg(3, processor="x")
    )
    of_payouts = {
        f"r-{number}": Wait(WaitCause.PAYOUT, "payout", payout_id=f"po_{number}", payout_status="recipient_action")
        for number in (1, 2, 3)
    }
    found = waits(refund, START, payouts=of_payouts)
    assert [(wait.cause, wait.payout_id) for wait in found] == [
        (WaitCause.PAYOUT, "po_1"),
        (WaitCause.PAYOUT, "po_2"),
        (WaitCause.WORKER, None),
    ]
    assert found[0].text == "The payout po_1 has the status recipient action: its result is not final yet."
