"""Refunds from acceptance to their end, with a scripted processor, a stopped clock, and crashes at every commit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.support.engine_world import POLICY, START, Died, World, assert_books_balance, credit_refund, withdrawal

from refund_worker.domain.decision import PAUSE_SECONDS
from refund_worker.domain.processor_calls import RecordedReply, Send
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    RefundObject,
    Refused,
    Unanswered,
)
from refund_worker.domain.refund import LegStatus, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync import pause
from refund_worker.engine.refunds.process import claim_due, process_due
from refund_worker.engine.refunds.replies import write_replies
from refund_worker.store import processors, refunds

REFUSED = Refused("expired_or_canceled_card", "no")
DAY = 86_400.0


def tell(world: World, refund_id: str, refund_object: RefundObject) -> None:
    """Apply an object to its refund, as after a webhook event."""
    assert refund_object.leg_id is not None
    evidence = RecordedReply(refund_id, refund_object.leg_id, None, Answered(refund_object))
    world.database.run(lambda connection: write_replies(connection, world.context, [evidence]))


def test_a_withdrawal_takes_the_credits_and_then_pays_the_money_back_once(world: World) -> None:
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


def test_a_send_that_paid_without_answering_is_replayed_and_makes_one_object(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw(60)
    world.work()
    assert world.refund(refund_id).legs[0].status is LegStatus.UNKNOWN
    assert world.account.balance == 40
    world.work_for(60)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.objects) == 1
    assert len(world.processor.sends) == 2
    assert len(set(world.processor.sends)) == 1, "the same key with the same body, to the byte"


def test_another_version_of_the_program_sends_the_body_as_it_was_frozen(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw(60)
    world.work()
    world.processor.indent = 1
    world.work_for(60)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 2
    assert len(set(world.processor.sends)) == 1


def test_a_server_error_is_looked_up_and_sent_anew_only_after_the_quiet_window(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", Unanswered("500", server_error=True))
    refund_id = world.withdraw(60)
    world.work_for(990)
    assert len(world.processor.sends) == 1
    assert world.processor.asked
    world.work_for(60)
    assert [key for key, _ in world.processor.sends] == [f"{refund_id}-1:1", f"{refund_id}-1:2"]
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.processor.paid_minor() == 600


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


@pytest.mark.parametrize("code", ["charge_disputed", "refund_disputed_payment"])
def test_a_disputed_payment_is_a_persons_concern_and_neither_another_payment_nor_the_credits_stand_in(
    world: World, code: str
) -> None:
    """The dispute process returns the money. Any refund in addition would pay it twice."""
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", Blocked(code, "disputed"))
    refund_id = world.withdraw(100)
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, code)
    assert (len(refund.legs), world.account.balance, world.processor.paid_minor()) == (1, 100, 0)


@pytest.mark.parametrize("payments", [1, 2])
def test_a_dispute_that_ends_a_pending_refund_leaves_it_to_a_person_whatever_a_retry_says(
    world: World, payments: int
) -> None:
    for number in range(1, payments + 1):
        world.pay(number)
    world.processor.script(f"ch_{payments}", "pending")
    refund_id = world.withdraw(100)
    world.work()
    ended = replace(world.processor.become("re_1", "failed"), failure_code="charge_for_pending_refund_disputed")
    world.processor.objects["re_1"] = ended
    tell(world, refund_id, ended)
    world.work_for(DAY)
    balance = 100 * (payments - 1)
    for _ in range(2):
        refund = world.refund(refund_id)
        assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, ended.failure_code)
        assert (len(refund.legs), world.account.balance, world.processor.paid_minor()) == (1, balance, 0)
        world.command(refund_id, Action.RETRY)
        world.work_for(DAY)
    world.command(refund_id, Action.RESOLVE, "dispute du_1")
    assert (world.refund(refund_id).status, world.account.balance) == (RefundStatus.SUCCEEDED, balance)


def test_when_every_payment_declines_the_credits_go_back_and_no_money_is_out(world: World) -> None:
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


def test_a_refund_that_fails_weeks_later_is_reversed_once_with_an_alarm(world: World) -> None:
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


def test_a_blocked_refund_waits_with_a_person_told_and_then_pays_under_a_new_key(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "not now"))
    refund_id = world.withdraw(60)
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "balance_insufficient")
    world.work_for(600)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert [key for key, _ in world.processor.sends] == [f"{refund_id}-1:1", f"{refund_id}-1:2"]


@pytest.mark.parametrize("reply", [Busy("rate_limit"), NotSent("connection refused")])
def test_what_was_not_executed_is_sent_again_under_the_same_key(world: World, reply: Busy | NotSent) -> None:
    world.pay()
    world.processor.script("ch_1", reply, reply)
    refund_id = world.withdraw(60)
    world.work_for(60)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert [key for key, _ in world.processor.sends] == [f"{refund_id}-1:1"] * 3


def test_denied_pauses_the_processor_fails_nothing_and_is_tried_again_later(world: World) -> None:
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", Denied("authentication_error", "bad key"))
    first = world.withdraw(100, "a")
    process_due(world.context)
    second = world.withdraw(100, "b")
    world.work()
    assert len(world.processor.sends) == 1, "nothing more is sent while it is paused"
    assert world.refund(second).status is RefundStatus.QUEUED
    with world.database.read() as connection:
        assert processors.paused_processors(connection, world.now) == {"stripe": world.now + PAUSE_SECONDS}
    world.work_for(PAUSE_SECONDS + 10)
    assert {world.refund(r).status for r in (first, second)} == {RefundStatus.SUCCEEDED}


def test_a_cause_that_lasts_is_told_once_a_day_and_another_one_at_once(world: World) -> None:
    def alarms() -> list[str | None]:
        with world.database.read() as connection:
            told = connection.exec_driver_sql("SELECT reason FROM events WHERE alarm AND kind = 'processor_paused'")
            return [row[0] for row in told]

    world.pay()
    world.processor.script("ch_1", *[Denied("authentication_error", "bad key")] * 500)
    world.withdraw(100)
    world.work_for(DAY - 3_600)
    assert len(world.processor.sends) > 50, "it is tried again all the time"
    assert alarms() == ["bad key"]
    world.processor.rescript("ch_1", *[Denied("parameter_unknown", "our form", maybe_kept=True)] * 500)
    world.work_for(3_600)
    assert alarms() == ["bad key", "our form"]


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


def test_a_refund_over_a_processor_that_is_not_configured_waits_and_is_not_failed(world: World) -> None:
    world.pay()
    world.context = replace(world.context, processors={})
    refund_id = world.withdraw(60)
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.QUEUED
    assert world.command(refund_id, Action.CANCEL).status is RefundStatus.CANCELED


def test_an_adapter_that_raises_is_silence_and_not_a_refusal(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "raises")
    refund_id = world.withdraw(60)
    world.work()
    assert world.refund(refund_id).legs[0].status is LegStatus.UNKNOWN
    world.work_for(60)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("reply", [AlreadyRefunded("nothing left"), Misconfigured("resource_missing", "no such")])
def test_what_only_a_person_can_mend_waits_for_one_and_moves_nothing(
    world: World, reply: AlreadyRefunded | Misconfigured
) -> None:
    world.pay()
    world.processor.script("ch_1", reply)
    refund_id = world.withdraw(60)
    world.work_for(DAY)
    assert world.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert len(world.processor.sends) == 1
    world.command(refund_id, Action.RESOLVE)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert world.account.balance == 100


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
def test_a_process_that_dies_anywhere_pays_once_and_the_next_one_finishes(world: World, crash: str) -> None:
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
def test_a_process_that_dies_around_any_commit_of_a_compensation_compensates_once(
    world: World, when: str, step: int
) -> None:
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


def test_an_act_sends_a_message_only_where_something_is_due(world: World) -> None:
    told: list[tuple[list[str], bool]] = []
    world.context = replace(world.context, wake=lambda ids, bulk: told.append((list(ids), bulk)))
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "not now"))
    refund_id, other = world.withdraw(30, "k1"), world.withdraw(30, "k2")
    told.clear()
    world.command(other, Action.CANCEL)
    assert told == []
    world.work()
    world.command(refund_id, Action.RETRY)
    assert told == [([refund_id], False)]


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


def test_a_list_read_inside_the_quiet_window_proves_nothing_though_its_answer_comes_after_it(world: World) -> None:
    """The quiet window ends between the read of the list and its answer, and an effect may occur in that time."""
    world.pay()
    world.processor.script("ch_1", Unanswered("500", server_error=True))
    refund_id = world.withdraw(60)
    world.work_for(980)
    with world.database.write() as connection:
        refunds.requeue_waiting_for(connection, "stripe", world.now)
    world.processor.while_answering_a_look_up = lambda: world.pass_time(30)
    assert process_due(world.context) == 1
    assert world.now == START + 1_010
    assert world.refund(refund_id).legs[0].attempt == 1
    world.processor.while_answering_a_look_up = lambda: None
    world.work()
    assert [key for key, _ in world.processor.sends] == [f"{refund_id}-1:1", f"{refund_id}-1:2"]


def test_a_send_is_dated_when_it_began_not_when_its_answer_came(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "timeout")
    world.processor.while_sending = lambda: world.pass_time(30)
    refund_id = world.withdraw(60)
    process_due(world.context)
    leg = world.refund(refund_id).legs[0]
    assert (leg.first_sent_at, leg.last_sent_at, world.now) == (START, START, START + 30)
