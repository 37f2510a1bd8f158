"""The processor later reports what seemed impossible: the books follow it, and no refund gets stuck."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.domain.builders import an_object
from tests.support.engine_world import ScriptedProcessor, World, assert_books_balance, credit_refund

from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import RefundStatus, To
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.refunds.replies import write_replies
from refund_worker.errors import Refusal


def tell(world: World, refund_id: str, refund_object: RefundObject) -> None:
    """Apply a processor's answer about the first leg to the refund."""
    evidence = RecordedReply(refund_id, f"{refund_id}-1", None, Answered(refund_object))
    world.database.run(lambda connection: write_replies(connection, world.context, [evidence]))
    assert_books_balance(world.database)


def given_up(world: World) -> str:
    """Return a refund that an operator reversed, although its send was executed."""
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "not now"))
    refund_id = world.withdraw(100, "a")
    world.work()
    world.command(refund_id, Action.RESOLVE)
    world.work()
    assert world.account.balance == 100
    return refund_id


def test_payment_used_twice_counts_as_full_until_both_uses_end(world: World) -> None:
    first = given_up(world)
    second = world.withdraw(100, "b")
    marks = {"leg_id": f"{first}-1", "installation": world.installation}
    its = an_object(payment_refs=("ch_1",), **marks)
    tell(world, first, its)  # the send was executed, so both refunds now use the one payment
    assert world.refund(first).status is RefundStatus.SUCCEEDED
    world.processor.script("ch_1", AlreadyRefunded("nothing left"))
    world.work()
    world.command(second, Action.RESOLVE)
    world.work()
    assert_books_balance(world.database)
    with pytest.raises(Refusal):
        world.withdraw(100, "c")
    tell(world, first, an_object("failed", payment_refs=("ch_1",), **marks))
    world.work()
    assert world.refund(first).status is RefundStatus.FAILED
    assert world.account.balance == 100
    assert world.withdraw(100, "d")


# --- objects at the processor that this database never sent: it was restored from a backup ----------------------------


def made_lately(world: World, *, payment: str = "ch_1", **changes: Any) -> RefundObject:
    """Return an object of this installation that the processor created just now, with `changes`."""
    its = {"created_at": datetime.fromtimestamp(world.now, UTC), "installation": world.installation}
    return replace(an_object(), payment_refs=(payment,), **its | changes)


def sent_elsewhere(world: World, refund_id: str, status: str = "succeeded", amount_minor: int = 500) -> RefundObject:
    """Add an object for the first leg at the processor, let a full sync find it, and return it."""
    refund_object = made_lately(world, leg_id=f"{refund_id}-1", amount_minor=amount_minor, status=status)
    world.processor.objects[refund_object.processor_refund_id] = refund_object
    sync_all(world.context, "stripe")
    assert_books_balance(world.database)
    return refund_object


@pytest.fixture
def queued(world: World) -> str:
    """Return a withdrawal of 50 of 100 credits that waits because its processor is paused."""
    world.pay()
    pause_processor(world.context, "stripe", actor="op", reason="restored")
    refund_id = world.withdraw(50)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.QUEUED
    return refund_id


@pytest.fixture
def awaiting(world: World) -> str:
    """Return a withdrawal of 50 of 100 credits that waits for the approval of a second person."""
    world.context = replace(world.context, limits=Limits(approval_threshold_minor=100))
    world.pay()
    return world.withdraw(50)


@pytest.mark.parametrize("waiting", ["queued", "awaiting"])
def test_refund_found_paid_cannot_be_canceled_or_paid_again(
    world: World, waiting: str, request: pytest.FixtureRequest
) -> None:
    refund_id = request.getfixturevalue(waiting)
    sent_elsewhere(world, refund_id)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert available_actions(world.refund(refund_id)) == ()
    assert (world.account.balance, world.account.held) == (50, 0)
    world.work()
    assert world.processor.sends == []
    assert reconcile(world.context, "stripe").agrees
    told = world.events(refund_id).count("posted_after_all")
    assert told == (waiting == "awaiting"), "that nobody approved it here is for a person to know"


@pytest.mark.parametrize("waiting", ["queued", "awaiting"])
def test_refund_found_pending_is_polled_once_per_interval(
    world: World, waiting: str, request: pytest.FixtureRequest
) -> None:
    refund_id = request.getfixturevalue(waiting)
    refund_object = sent_elsewhere(world, refund_id, "pending")
    assert world.refund(refund_id).status is RefundStatus.PENDING
    world.pass_time(10 * world.context.policy.poll_seconds)
    assert [process_due(world.context), process_due(world.context)] == [1, 0]
    world.processor.become(refund_object.processor_refund_id, "failed")
    sync_all(world.context, "stripe")
    world.work()
    # Other payments would be tried first, but there are none. Nothing is sent while the processor is paused.
    assert (world.refund(refund_id).status, world.account.balance) == (RefundStatus.FAILED, 100)


@pytest.mark.parametrize(("waiting", "action"), [("queued", Action.CANCEL), ("awaiting", Action.REJECT)])
def test_canceled_refund_found_paid_is_taken_off_the_balance(
    world: World, waiting: str, action: Action, request: pytest.FixtureRequest
) -> None:
    refund_id = request.getfixturevalue(waiting)
    world.command(refund_id, action)
    assert (world.account.balance, world.account.held) == (100, 0)
    refund_object = sent_elsewhere(world, refund_id)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.events(refund_id).count("posted_after_all") == 1
    assert (world.account.balance, world.account.held, world.account.withdrawn) == (50, 0, 50)
    assert reconcile(world.context, "stripe").agrees
    world.processor.become(refund_object.processor_refund_id, "failed")
    sync_all(world.context, "stripe")
    world.work()
    assert (world.refund(refund_id).status, world.account.balance) == (RefundStatus.FAILED, 100)


def test_of_what_was_called_off_only_what_was_paid_is_taken(world: World) -> None:
    """There are two payments of 100 credits each. The processor paid only the first leg of a withdrawal of 150."""
    world.pay(1)
    world.pay(2)
    pause_processor(world.context, "stripe", actor="op", reason="restored")
    refund_id = world.withdraw(150)
    world.command(refund_id, Action.CANCEL)
    first = world.refund(refund_id).legs[0]
    payment = first.processor_payment_id
    refund_object = made_lately(world, leg_id=first.leg_id, amount_minor=first.amount_minor, payment=payment)
    world.processor.objects[refund_object.processor_refund_id] = refund_object
    sync_all(world.context, "stripe")
    resume_processor(world.context, "stripe", actor="op", reason="all known")
    world.work()
    assert_books_balance(world.database)
    assert world.refund(refund_id).status is RefundStatus.PARTIALLY_SUCCEEDED
    assert world.account.balance == 200 - first.credits
    assert world.processor.sends == []
    assert reconcile(world.context, "stripe").agrees


def test_canceled_credit_refund_to_source_found_paid_is_booked(world: World) -> None:
    world.pay()
    world.spend()
    pause_processor(world.context, "stripe", actor="op", reason="restored")
    refund_id = world.request(credit_refund(20, "k", To.SOURCE)).refund_id
    world.command(refund_id, Action.CANCEL)
    sent_elsewhere(world, refund_id, amount_minor=200)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.account.balance == 50
    assert reconcile(world.context, "stripe").agrees
    with pytest.raises(Refusal):
        world.request(credit_refund(40, "more"))  # of 50 credits spent, 20 are refunded


# --- unexpected answers, and none -------------------------------------------------------------------------------------


def test_mismatch_on_a_finished_refund_is_recorded_only_once(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(50)
    world.work()
    strange = made_lately(world, leg_id=f"{refund_id}-1", amount_minor=123, processor_refund_id="re_strange")
    world.processor.objects["re_strange"] = strange
    for _ in range(24):
        sync_all(world.context, "stripe")
        world.pass_time(3_600)
    assert world.events(refund_id).count("answer_mismatch") == 1
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert not reconcile(world.context, "stripe").agrees


def test_object_that_mismatched_once_is_believed_when_correct(world: World) -> None:
    """Found by the simulation (seed 1010360): after a wrong answer, the later correct status must count as new."""
    world.pay()
    refund_id = world.withdraw(50)
    world.work()
    failed = world.processor.become("re_1", "failed")
    world.processor.objects["re_1"] = replace(failed, amount_minor=501)
    sync_all(world.context, "stripe")
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    world.processor.become("re_1", "succeeded")
    world.processor.objects["re_1"] = replace(world.processor.objects["re_1"], amount_minor=500)
    assert [sync_all(world.context, "stripe"), sync_all(world.context, "stripe")] == [1, 0], (
        "what is as it should be is no news any more"
    )
    world.processor.objects["re_1"] = failed
    sync_all(world.context, "stripe")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED


def test_a_strange_object_of_a_refund_under_way_is_told_once_too(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "timeout")
    refund_id = world.withdraw(50)
    process_due(world.context)
    strange = made_lately(world, leg_id=f"{refund_id}-1", amount_minor=123, processor_refund_id="re_strange")
    world.processor.objects["re_strange"] = strange
    before = len(world.events(refund_id))
    for _ in range(20):
        sync_all(world.context, "stripe")
    assert world.events(refund_id).count("answer_mismatch") == 1
    assert len(world.events(refund_id)) <= before + 3
    assert world.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION


class Deaf(ScriptedProcessor):
    """A processor that executes sends and answers no look-up while `deaf` is set."""

    deaf = True

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return that the look-up timed out, unless `deaf` is False."""
        return Unanswered("timeout") if self.deaf else await super().find(processor_payment_id, leg_id)

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return that the fetch timed out, unless `deaf` is False."""
        return Unanswered("timeout") if self.deaf else await super().fetch(processor_refund_id)


@pytest.mark.parametrize("first", ["pending", Unanswered("HTTP 500", server_error=True)], ids=str)
def test_refund_needs_a_person_until_look_ups_are_answered(world: World, first: str | Reply) -> None:
    processor = world.processor = Deaf()
    world.context = replace(world.context, processors={"stripe": processor})
    world.pay()
    processor.script("ch_1", first)
    refund_id = world.withdraw(50)
    world.work_for(world.context.policy.key_life_seconds / 2)
    assert world.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert world.refund(refund_id).failure_code == "processor_unreachable"
    processor.deaf = False
    for refund_object in list(processor.objects):
        processor.become(refund_object, "succeeded")
    world.work_for(86_400)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert processor.paid_minor() == 500
