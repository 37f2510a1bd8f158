"""Refunds from acceptance to their end, with a scripted processor and a stopped clock."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.support.engine_world import DAY, World, credit_refund, withdrawal
from tests.support.replies import REFUSED, tell

from refund_worker.domain.processor_calls import RecordedReply, Send
from refund_worker.domain.processor_replies import Answered, Blocked
from refund_worker.domain.refund import RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync import pause
from refund_worker.engine.refunds.process import claim_due, process_due
from refund_worker.engine.refunds.replies import write_replies


def test_withdrawal_takes_credits_then_pays_money_back_once(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    assert (world.account.balance, world.account.held) == (100, 60)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert (world.account.balance, world.account.held) == (40, 0)
    assert world.processor.paid_minor() == 600
    assert [key for key, _ in world.processor.sends] == [f"{refund_id}-1:1"]
    assert world.work() == 0


def test_a_credit_refund_to_balance_raises_it_and_asks_no_processor(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    refund_id = world.request(credit_refund(20)).refund_id
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.account.balance == 70
    assert world.processor.sends == []


def test_a_credit_refund_to_source_leaves_the_balance_and_pays(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    world.request(credit_refund(20, to=To.SOURCE))
    world.work()
    assert world.account.balance == 50
    assert world.processor.paid_minor() == 200


def test_a_declined_leg_goes_over_the_customers_other_payment(world: World) -> None:
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", REFUSED)
    refund_id = world.withdraw(100)
    world.work()
    refund = world.refund(refund_id)
    assert refund.status is RefundStatus.SUCCEEDED
    assert [(leg.payment_id, leg.status) for leg in refund.legs] == [("pay2", "failed"), ("pay1", "succeeded")]
    assert (world.account.balance, world.processor.paid_minor()) == (100, 1_000)


def test_credits_returned_and_no_money_paid_if_all_decline(world: World) -> None:
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", REFUSED)
    world.processor.script("ch_1", REFUSED)
    refund_id = world.withdraw(100)
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.FAILED, "expired_or_canceled_card")
    assert (world.account.balance, world.processor.paid_minor()) == (200, 0)
    assert world.withdraw(200, "again")


def test_a_failed_credit_refund_leaves_the_customer_with_the_credits(world: World) -> None:
    world.pay()
    world.spend("t", 50)
    world.processor.script("ch_1", REFUSED)
    refund_id = world.request(credit_refund(20, to=To.SOURCE)).refund_id
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert world.account.balance == 70


def test_what_can_be_paid_only_in_part_gives_back_the_rest(world: World) -> None:
    world.pay(1, amount_minor=300, credits=30)
    world.pay(2)
    world.processor.script("ch_2", REFUSED)
    refund_id = world.withdraw(100)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.PARTIALLY_SUCCEEDED
    assert (world.account.balance, world.processor.paid_minor()) == (100, 300)


def test_a_pending_refund_is_polled_until_it_is_final(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw(60)
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.PENDING
    assert 2 < len(world.processor.asked) < 60, "polled, and less and less often"
    world.processor.become("re_1", "succeeded")
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 1


def test_refund_failing_weeks_later_is_reversed_once_with_alarm(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    world.work()
    world.pass_time(21 * DAY)
    failed = world.processor.become("re_1", "failed")
    for _ in range(3):
        tell(world, refund_id, failed)
        world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert world.account.balance == 100
    assert world.events(refund_id).count("leg_object_failed") == 1
    with world.database.read() as connection:
        alarms = connection.exec_driver_sql("SELECT count(*) FROM events WHERE alarm").scalar_one()
    assert alarms == 1
    assert world.withdraw(100, "again"), "a new refund after a late failure is allowed"


@pytest.mark.parametrize("switch", ["stripe", "all"])
def test_the_kill_switch_stops_new_sends_while_look_ups_go_on(world: World, switch: str) -> None:
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", "pending")
    pending = world.withdraw(100, "a")
    world.work()
    pause.pause_processor(world.context, switch, actor="op", reason="fire")
    waiting = world.withdraw(50, "b")
    world.processor.become("re_1", "succeeded")
    world.work_for(DAY)
    assert world.refund(pending).status is RefundStatus.SUCCEEDED
    assert world.refund(waiting).status is RefundStatus.QUEUED
    assert len(world.processor.sends) == 1
    assert pause.resume_processor(world.context, switch)
    world.work()
    assert world.refund(waiting).status is RefundStatus.SUCCEEDED
    assert not pause.resume_processor(world.context, switch)


def test_refund_waits_while_its_processor_is_not_configured(world: World) -> None:
    world.pay()
    world.context = replace(world.context, processors={})
    refund_id = world.withdraw(60)
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.QUEUED
    assert world.command(refund_id, Action.CANCEL).status is RefundStatus.CANCELED


def test_an_act_sends_a_message_only_where_something_is_due(world: World) -> None:
    published: list[tuple[list[str], bool]] = []
    world.context = replace(world.context, publish=lambda ids, bulk: published.append((list(ids), bulk)))
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "not now"))
    refund_id, other = world.withdraw(30, "k1"), world.withdraw(30, "k2")
    published.clear()
    world.command(other, Action.CANCEL)
    assert published == []
    world.work()
    world.command(refund_id, Action.RETRY)
    assert published == [([refund_id], False)]


def test_a_webhook_that_comes_before_the_answer_is_recorded_once(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    claim = world.database.run(lambda connection: claim_due(connection, world.context))
    (question,) = claim.questions
    assert isinstance(question.call, Send)
    reply = asyncio.run(world.processor.send(question.call.key, question.body))
    assert isinstance(reply, Answered)
    tell(world, refund_id, reply.object)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    answer = [RecordedReply(refund_id, question.call.leg_id, question.call, reply, claim.now)]
    world.database.run(lambda c: write_replies(c, world.context, answer, lease_token=claim.token))
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    with world.database.read() as connection:
        payouts = connection.exec_driver_sql("SELECT count(*) FROM ledger_transactions WHERE kind = 'payout'")
        assert payouts.scalar_one() == 1


def test_urgent_refunds_are_claimed_before_bulk_work(world: World) -> None:
    world.pay(1, credits=1_000)
    bulk = [world.request(withdrawal(10, f"b{n}", bulk=True)).refund_id for n in range(3)]
    world.pass_time(5)
    urgent = world.withdraw(10, "click")
    assert process_due(world.context, limit=1) == 1
    assert world.refund(urgent).status is RefundStatus.SUCCEEDED
    assert {world.refund(r).status for r in bulk} == {RefundStatus.QUEUED}


def test_a_second_look_at_a_finished_refund_does_nothing(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    world.work()
    done = world.refund(refund_id)
    assert process_due(world.context, [refund_id]) == 0
    assert world.refund(refund_id) == done
