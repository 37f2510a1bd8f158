"""Payments of a processor without an adapter in this version: their refunds wait for a person and are never dropped."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.engine_world import Died, ScriptedProcessor, World, withdrawal

from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.engine.views.failure_groups import failures

DAY = 86_400.0
UNKNOWN = "processor_unknown"


def over_paypal(world: World, credits: int = 60, key: str = "k") -> str:
    """Return the id of a withdrawal over a PayPal payment, after one round of work."""
    world.pay(9, processor="paypal", processor_payment_id="PAYID-9")
    refund_id = world.withdraw(credits, key)
    world.work()
    return refund_id


def test_it_goes_to_a_person_with_a_code_and_plain_words(world: World) -> None:
    refund_id = over_paypal(world)
    view = refund_view(world.refund(refund_id))
    assert (view["status"], view["failure_code"]) == ("needs_attention", UNKNOWN)
    assert "paypal" in view["failure_message"]
    assert "manually" in view["failure_message"]
    assert view["available_actions"] == ["retry", "resolve"]
    with world.database.read() as connection:
        (group,) = failures(connection)
    assert (group["failure_code"], group["needs_attention"]) == (UNKNOWN, 1)
    assert world.processor.sends == []


@pytest.mark.parametrize(
    ("reference", "status", "balance"), [("T-1", RefundStatus.SUCCEEDED, 40), (None, RefundStatus.FAILED, 100)]
)
def test_a_person_resolves_it(world: World, reference: str | None, status: RefundStatus, balance: int) -> None:
    refund_id = over_paypal(world)
    world.command(refund_id, Action.RESOLVE, reference)
    world.work()
    assert world.refund(refund_id).status is status
    assert world.account.balance == balance


def test_it_still_waits_for_a_person_after_days_and_after_a_retry(world: World) -> None:
    refund_id = over_paypal(world)
    world.work_for(3 * DAY)
    world.command(refund_id, Action.RETRY)
    world.work_for(3 * DAY)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, UNKNOWN)
    assert Action.RESOLVE in available_actions(refund)


def test_it_holds_up_nothing_else(world: World) -> None:
    """Other refunds of the batch continue, and so do the legs of this refund over a supported processor."""
    world.pay(1)
    world.pay(2, processor="paypal", processor_payment_id="PAYID-2", customer_id="d")
    parked = world.request(replace(withdrawal(100, "a"), customer_id="d")).refund_id
    paid = world.withdraw(50, "b")
    world.pay(3, processor="paypal", processor_payment_id="PAYID-3")
    both = world.withdraw(150, "c")
    world.work()
    assert world.refund(parked).status is RefundStatus.NEEDS_ATTENTION
    assert world.refund(paid).status is RefundStatus.SUCCEEDED
    assert world.refund(both).status is RefundStatus.NEEDS_ATTENTION
    assert {leg.processor: leg.status for leg in world.refund(both).legs} == {
        "paypal": LegStatus.BLOCKED,
        "stripe": LegStatus.SUCCEEDED,
    }


def test_unsupported_processor_needs_a_person_after_worker_dies(world: World) -> None:
    world.pay(9, processor="paypal", processor_payment_id="PAYID-9")
    refund_id = world.withdraw(60)
    world.database.dies_after = 1
    with pytest.raises(Died):
        world.work()
    world.work_for(DAY)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, UNKNOWN)
    assert Action.RESOLVE in available_actions(refund)


def test_a_later_version_that_serves_it_pays_on_retry(world: World) -> None:
    refund_id = over_paypal(world)
    paypal = ScriptedProcessor("paypal")
    world.context = replace(world.context, processors={"stripe": world.processor, "paypal": paypal})
    world.command(refund_id, Action.RETRY)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert paypal.paid_minor() == 600


def test_unanswered_send_pays_once_across_downgrade_and_upgrade(world: World) -> None:
    """After a downgrade to a version without the adapter and an upgrade back there is one payment, at any time."""
    paypal = ScriptedProcessor("paypal")
    paypal.script("PAYID-9", "pays_silently")
    ours = world.context
    world.context = replace(ours, processors={"stripe": world.processor, "paypal": paypal})
    refund_id = over_paypal(world)
    world.context = ours
    world.work_for(2 * DAY)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, UNKNOWN)
    assert refund.legs[0].status is LegStatus.UNKNOWN
    world.context = replace(ours, processors={"stripe": world.processor, "paypal": paypal})
    world.work_for(2 * DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert paypal.paid_minor() == 600
