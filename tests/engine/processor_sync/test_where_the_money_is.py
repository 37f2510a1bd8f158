"""The processor's account of where the money is gets stored whenever it is new, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.support.engine_world import START, World

from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered, RefundDetails
from refund_worker.domain.refund import LegStatus
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.engine.views.leg_texts import LegTexts

PAID = RefundDetails(method="card", statement="credit")
TRACED = replace(PAID, trace_kind="acquirer_reference_number", trace_value="7453", trace_status="available")


def paid(world: World) -> str:
    world.pay()
    refund_id = world.withdraw()
    world.work()
    return refund_id


def describe(world: World, details: RefundDetails, **changes: str) -> None:
    told = replace(world.processor.objects["re_1"], details=details, **changes)
    world.processor.objects["re_1"] = told


def test_trace_that_comes_after_success_is_stored(world: World) -> None:
    refund_id = paid(world)
    before = world.refund(refund_id)
    describe(world, TRACED)
    assert sync_all(world.context, "stripe") == 1
    refund = world.refund(refund_id)
    assert refund.status is before.status
    assert (refund.legs, refund.due_at) == (before.legs, before.due_at)  # reports are not compared
    (leg,) = refund_view(refund)["legs"]
    assert leg["trace"] == {"kind": "acquirer_reference_number", "value": "7453", "status": "available"}
    assert (leg["processor_status"], leg["statement"]) == ("succeeded", "credit")
    assert sync_all(world.context, "stripe") == 0, "the same report is nothing new"


def test_older_report_takes_no_trace_away(world: World) -> None:
    refund_id = paid(world)
    describe(world, TRACED)
    sync_all(world.context, "stripe")
    describe(world, PAID)
    assert sync_all(world.context, "stripe") == 0
    report = RecordedReply(refund_id, f"{refund_id}-1", None, Answered(world.processor.objects["re_1"]))
    record_replies(world.context, [report])
    assert world.refund(refund_id).legs[0].report.details == TRACED  # type: ignore[union-attr]


@pytest.mark.parametrize("status", ["pending", "requires_action", "a_new_status"])
def test_new_details_of_an_open_refund_are_stored(world: World, status: str) -> None:
    world.pay()
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw()
    world.work()
    for reason in ("processing", "insufficient_funds"):
        describe(world, RefundDetails(pending_reason=reason), status=status)
        assert sync_all(world.context, "stripe") == 1
        assert sync_all(world.context, "stripe") == 0
        (leg,) = refund_view(world.refund(refund_id))["legs"]
        assert (leg["processor_status"], leg["pending_reason"]) == (status, reason)


def test_customer_action_is_shown_until_the_customer_has_acted(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "requires_action")
    refund_id = world.withdraw()
    world.work()
    describe(world, RefundDetails(emailed_to="j***@example.com", emailed_at=START, act_by=START + 86_400))
    sync_all(world.context, "stripe")
    (leg,) = refund_view(world.refund(refund_id))["legs"]
    assert leg["next_action"] == {
        "email_sent_to": "j***@example.com",
        "email_sent_at": "2027-01-15T08:00:00Z",
        "expires_at": "2027-01-16T08:00:00Z",
    }
    assert "j***@example.com" in leg["customer_text"]
    assert "2027-01-16" in leg["staff_text"]
    describe(world, PAID, status="succeeded")
    sync_all(world.context, "stripe")
    refund = world.refund(refund_id)
    assert refund.legs[0].status is LegStatus.SUCCEEDED
    assert refund_view(refund)["legs"][0]["next_action"] is None
    assert "j***" not in refund_view(refund)["legs"][0]["customer_text"]


@pytest.mark.parametrize(("reason", "alarms"), [("charge_pending", 1), ("processing", 0)])
def test_refund_of_an_unsettled_payment_that_fails_asks_a_person(world: World, reason: str, alarms: int) -> None:
    """A bank debit fails after it was recorded, so the customer has credits without a payment."""
    world.pay()
    world.pay(2)
    world.processor.script("ch_1", "pending")
    world.processor.script("ch_2", "pending")
    refund_id = world.withdraw(40)
    world.work()
    describe(world, RefundDetails(pending_reason=reason), status="pending")
    sync_all(world.context, "stripe")
    describe(world, RefundDetails(), status="failed")
    sync_all(world.context, "stripe")
    assert world.events(refund_id).count("payment_may_have_failed") == alarms
    world.work()
    assert [leg.status for leg in world.refund(refund_id).legs] == [LegStatus.FAILED, LegStatus.PENDING]


DAY = 86_400.0


def expected_from(world: World, refund_id: str) -> datetime | None:
    """Return the time from which the days until the customer sees the money count."""
    refund = world.refund(refund_id)
    found = LegTexts(days={"stripe": (0, 10)}).expected_by(refund.legs[0])
    return found and found[0]


@pytest.mark.parametrize(
    ("waits", "reason"),
    [("requires_action", None), ("pending", "charge_pending"), ("pending", "insufficient_funds")],
)
def test_expected_days_count_from_the_end_of_a_wait(world: World, waits: str, reason: str | None) -> None:
    world.pay()
    world.processor.script("ch_1", waits)
    refund_id = world.withdraw()
    world.work()
    describe(world, RefundDetails(pending_reason=reason), status=waits)
    sync_all(world.context, "stripe")
    assert expected_from(world, refund_id) is None
    world.pass_time(40 * DAY)
    describe(world, RefundDetails(pending_reason="processing"), status="pending")
    sync_all(world.context, "stripe")
    ended = datetime.fromtimestamp(world.now, UTC)
    for days, details in ((2, PAID), (3, TRACED)):
        world.pass_time(days * DAY)
        describe(world, details, status="succeeded")
        assert sync_all(world.context, "stripe") == 1
        assert expected_from(world, refund_id) == ended, "neither success nor a trace moves the days"


def test_expected_days_count_from_the_creation_without_a_wait(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw()
    world.work()
    made = world.processor.objects["re_1"].created_at
    assert expected_from(world, refund_id) == made
    world.pass_time(3 * DAY)
    describe(world, PAID, status="succeeded")
    sync_all(world.context, "stripe")
    assert expected_from(world, refund_id) == made
