"""A process dies at any commit or call, and leases keep two workers from the same refund."""

from __future__ import annotations

import pytest
from tests.support.engine_world import DAY, POLICY, Died, World, assert_books_balance
from tests.support.replies import REFUSED

from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Unanswered
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.engine.refunds.process import claim_due, process_due
from refund_worker.engine.refunds.replies import write_replies


def test_no_transaction_is_open_while_the_processor_is_called(world: World) -> None:
    world.pay()
    seen: list[int] = []
    world.processor.while_sending = lambda: seen.append(world.database.engine.pool.checkedout())  # type: ignore[attr-defined]
    world.withdraw(60)
    world.work()
    assert seen == [0]


def test_the_intent_is_committed_before_the_call(world: World) -> None:
    world.pay()
    found: list[LegStatus] = []
    refund_id = world.withdraw(60)
    world.processor.while_sending = lambda: found.append(world.refund(refund_id).legs[0].status)
    world.work()
    assert found == [LegStatus.SENDING]


CRASHES = ["before_claim", "after_claim", "in_call", "after_paying", "before_recording", "after_recording"]


@pytest.mark.parametrize("crash", CRASHES)
def test_crash_at_any_step_pays_once_and_next_process_finishes(world: World, crash: str) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    match crash:
        case "before_claim":
            world.database.dies_before = 1
        case "after_claim":
            world.database.dies_after = 1
        case "in_call":
            world.processor.script("ch_1", "dies")
        case "after_paying":
            world.processor.script("ch_1", "pays_and_dies")
        case "before_recording":
            world.database.dies_before = 2
        case "after_recording":
            world.database.dies_after = 2
    with pytest.raises(Died):
        process_due(world.context)
    assert_books_balance(world.database)
    if crash in ("after_claim", "in_call", "after_paying", "before_recording"):
        assert world.work() == 0, "the lease of the dead one still holds"
    world.pass_time(61)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.processor.paid_minor() == 600
    assert len(set(world.processor.sends)) == 1
    assert world.account.balance == 40


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_crash_around_any_compensation_commit_compensates_once(world: World, when: str, step: int) -> None:
    world.pay(1, amount_minor=300, credits=30)
    world.pay(2)
    world.processor.script("ch_2", REFUSED)
    refund_id = world.withdraw(100)
    setattr(world.database, when, step)
    try:
        world.work()
    except Died:
        assert_books_balance(world.database)
        world.processor.script("ch_2", REFUSED)
    setattr(world.database, when, 0)
    world.work_for(2 * DAY)
    refund = world.refund(refund_id)
    if refund.status is RefundStatus.NEEDS_ATTENTION:
        raise AssertionError(refund)
    assert refund.status in (RefundStatus.PARTIALLY_SUCCEEDED, RefundStatus.SUCCEEDED)
    truth = world.processor.paid_minor()
    assert world.account.balance == {300: 100, 1_000: 30}[truth]


def test_a_holder_whose_lease_has_passed_writes_nothing(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    claim = world.database.run(lambda connection: claim_due(connection, world.context))
    (question,) = claim.questions
    stale = [RecordedReply(refund_id, question.call.leg_id, question.call, REFUSED, claim.now)]
    world.pass_time(60)
    before = world.refund(refund_id)
    for _ in range(2):
        taken = world.database.run(
            lambda connection: write_replies(connection, world.context, stale, lease_token=claim.token)
        )
        assert taken == []
        assert world.refund(refund_id) == before
        world.work()  # another worker claims the refund, asks again under the same key, and completes it
        before = world.refund(refund_id)
    assert before.status is RefundStatus.SUCCEEDED
    assert world.processor.paid_minor() == 600


def test_a_leased_refund_is_not_claimed_by_another_worker(world: World) -> None:
    """During a look-up only the lease prevents a second claim: the refund itself is due all the time."""
    world.pay()
    world.processor.script("ch_1", Unanswered("500", server_error=True))
    world.withdraw(60)
    world.work()
    world.pass_time(30)
    first = world.database.run(lambda connection: claim_due(connection, world.context))
    second = world.database.run(lambda connection: claim_due(connection, world.context))
    assert (first.claimed, second.claimed) == (1, 0)
    world.pass_time(POLICY.lease_seconds)
    assert world.database.run(lambda connection: claim_due(connection, world.context)).claimed == 1
