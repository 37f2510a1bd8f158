"""A person decides about outside refunds: a retry counts them as seen, and a resolution records a manual payment."""

from __future__ import annotations

import pytest
from tests.support.engine_world import DAY, World
from tests.support.outside_refunds import assert_stopped, blocked_once, leg_of
from tests.support.replies import EMPTY, ERROR

from refund_worker.domain.outside_refunds import CLOCK_DIFFERENCE_SECONDS, REFUNDED_ELSEWHERE
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.refunds.bulk_retry import retry_all
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.views import api_objects
from refund_worker.errors import ActionNotAllowed
from refund_worker.store import object_ownership

# --- outside refunds that a person has seen ---------------------------------------------------------------------------


@pytest.fixture
def stopped(world: World) -> str:
    """Return a refund of 300 minor units of a payment of 1,000, stopped by 300 refunded in the dashboard."""
    world.pay()
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw(30)
    world.work()
    world.refund_in_the_dashboard(300)
    world.work_for(DAY)
    assert leg_of(world, refund_id).blocked_by == ("re_by_hand_1",)
    return refund_id


def test_a_retry_takes_what_is_named_as_seen_and_sends(world: World, stopped: str) -> None:
    world.command(stopped, Action.RETRY)
    world.work()
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED
    leg = leg_of(world, stopped)
    assert (leg.blocked_by, leg.acknowledged_outside) == ((), ("re_by_hand_1",))
    assert world.processor.paid_minor() == 600


def test_a_retry_of_many_at_once_takes_nothing_as_seen(world: World, stopped: str) -> None:
    (by_hand,) = world.processor.objects.values()
    retry_all(world.context, REFUNDED_ELSEWHERE, expected=1, actor="op", reason="all of them")
    world.work()
    assert_stopped(world, stopped, by_hand)
    world.processor.become(by_hand.processor_refund_id, "failed")
    retry_all(world.context, REFUNDED_ELSEWHERE, expected=1, actor="op", reason="all of them")
    world.work()
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED


def test_only_what_is_newer_stops_it_again(world: World, stopped: str) -> None:
    world.processor.script("ch_1", EMPTY)
    world.command(stopped, Action.RETRY)
    world.work()
    another = world.refund_in_the_dashboard(200)
    world.work_for(DAY)
    assert_stopped(world, stopped, another)
    assert leg_of(world, stopped).acknowledged_outside == ("re_by_hand_1",)


def test_what_failed_there_in_the_end_stops_nothing_any_more(world: World, stopped: str) -> None:
    world.processor.become("re_by_hand_1", "failed")
    world.command(stopped, Action.RETRY)
    world.work()
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED


def test_resolving_says_which_refund_was_the_payment(world: World, stopped: str) -> None:
    world.command(stopped, Action.RESOLVE, "re_by_hand_1")
    assert world.refund(stopped).status is RefundStatus.SUCCEEDED
    # The outside refund is accounted for, so the next refund over this payment proceeds normally.
    world.processor.script("ch_1", EMPTY)
    other = world.withdraw(20, "k2")
    world.work_for(DAY)
    assert world.refund(other).status is RefundStatus.SUCCEEDED


def test_manual_payment_does_not_explain_larger_refund_it_names(world: World) -> None:
    refund_id = blocked_once(world)
    by_hand = world.refund_in_the_dashboard(301)
    world.work_for(DAY)
    world.command(refund_id, Action.RESOLVE, by_hand.processor_refund_id)
    world.pass_time(2 * CLOCK_DIFFERENCE_SECONDS)
    world.processor.script("ch_1", EMPTY)
    other = world.withdraw(20, "k2")
    world.work_for(DAY)
    assert_stopped(world, other, by_hand)


def test_manual_payment_explains_refunds_only_up_to_its_amount(world: World, stopped: str) -> None:
    world.command(stopped, Action.RESOLVE, "in the dashboard, by ann")
    for key, more_minor in (("k2", 0), ("k3", 1)):
        if more_minor:
            world.refund_in_the_dashboard(more_minor)
            world.pass_time(2 * CLOCK_DIFFERENCE_SECONDS)
        world.processor.script("ch_1", EMPTY)
        refund_id = world.withdraw(10, key)
        world.work_for(DAY)
        expected = REFUNDED_ELSEWHERE if more_minor else None
        assert world.refund(refund_id).failure_code == expected


# --- paid manually while the answer is missing ------------------------------------------------------------------------


@pytest.fixture
def in_doubt(world: World) -> str:
    """Return a refund whose first send ended with HTTP 500, so its outcome is unknown."""
    world.pay()
    world.processor.script("ch_1", ERROR)
    refund_id = world.withdraw()
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SENDING
    return refund_id


def test_unknown_outcome_paid_manually_is_looked_up_and_not_sent(world: World, in_doubt: str) -> None:
    assert available_actions(world.refund(in_doubt)) == (Action.RESOLVE,)
    with pytest.raises(ActionNotAllowed, match="cannot be given back yet"):
        world.command(in_doubt, Action.RESOLVE)
    world.refund_in_the_dashboard()
    asked = len(world.processor.asked)
    assert world.command(in_doubt, Action.RESOLVE, "re_by_hand_1").status is RefundStatus.SUCCEEDED
    world.work_for(DAY)
    refund = world.refund(in_doubt)
    assert (refund.status, refund.due_at) == (RefundStatus.SUCCEEDED, None)
    assert (len(world.processor.sends), world.processor.paid_minor()) == (1, 1_000)
    policy = world.context.policy
    looks = len(world.processor.asked) - asked
    assert 5 < looks < 40
    assert not leg_of(world, in_doubt).unanswered, f"nothing lands after {policy.lease_seconds + policy.quiet_seconds}"


@pytest.mark.parametrize("status", ["succeeded", "pending", "in_review"])
def test_own_refund_after_manual_payment_alarms_refunded_twice(world: World, in_doubt: str, status: str) -> None:
    world.command(in_doubt, Action.RESOLVE, "bank-1")
    world.work()
    marks = {"leg_id": f"{in_doubt}-1", "attempt": 1, "installation": world.installation}
    world.refund_in_the_dashboard(1_000, status=status, processor_refund_id="re_late", **marks)
    world.work_for(DAY)
    refund = world.refund(in_doubt)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "refunded_twice")
    assert refund.due_at is None
    with world.database.read() as connection:
        alarms = [e for e in api_objects.timeline(connection, in_doubt) if e["alarm"]]
    assert [e["detail"]["processor_refund_id"] for e in alarms] == ["re_late"]


def test_a_payment_by_hand_that_names_our_own_refund_is_that_refund(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw()
    process_due(world.context)
    world.command(refund_id, Action.RESOLVE, "re_1")
    world.work_for(DAY)
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.SUCCEEDED, None)
    assert leg_of(world, refund_id).processor_refund_id == "re_1"


def test_own_object_failing_after_manual_payment_leaves_it_paid(world: World, in_doubt: str) -> None:
    world.command(in_doubt, Action.RESOLVE, "bank-1")
    marks = {"leg_id": f"{in_doubt}-1", "attempt": 1, "installation": world.installation}
    world.refund_in_the_dashboard(1_000, status="pending", processor_refund_id="re_late", **marks)
    world.work_for(60)
    assert world.refund(in_doubt).failure_code == "refunded_twice"
    world.processor.become("re_late", "failed")
    sync_all(world.context, "stripe")
    world.work_for(DAY)
    assert (world.refund(in_doubt).status, world.account.balance) == (RefundStatus.SUCCEEDED, 0)
    assert leg_of(world, in_doubt).processor_refund_id == "manual:bank-1"


def test_manual_payment_explains_its_refund_also_if_our_object_pays(world: World, in_doubt: str) -> None:
    """The dashboard refund that a person named as their payment stops no other refund over the same payment."""
    made = world.refund_in_the_dashboard(400)
    world.command(in_doubt, Action.RESOLVE, made.processor_refund_id)
    marks = {"leg_id": f"{in_doubt}-1", "attempt": 1, "installation": world.installation}
    world.refund_in_the_dashboard(1_000, processor_refund_id="re_late", **marks)
    world.work_for(DAY)
    assert world.refund(in_doubt).failure_code == "refunded_twice"
    leg = leg_of(world, in_doubt)
    assert (leg.processor_refund_id, leg.manual_reference) == ("re_late", made.processor_refund_id)
    with world.database.read() as connection:
        assert object_ownership.paid_manually(connection, leg.payment_id) == {made.processor_refund_id: 1_000}
