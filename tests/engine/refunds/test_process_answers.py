"""A refund after each kind of answer from its processor, and without an answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.engine_world import DAY, START, World
from tests.support.replies import tell

from refund_worker.domain.decision import PAUSE_SECONDS
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    NotSent,
    Unanswered,
)
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.refunds.process import process_due
from refund_worker.store import accounts, processors, refunds


def test_repeat_of_unanswered_send_that_paid_makes_one_object(world: World) -> None:
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


def test_other_program_version_repeats_the_frozen_body(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw(60)
    world.work()
    world.processor.indent = 1
    world.work_for(60)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 2
    assert len(set(world.processor.sends)) == 1


def test_server_error_gets_new_key_only_after_the_quiet_window(world: World) -> None:
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


@pytest.mark.parametrize("code", ["charge_disputed", "refund_disputed_payment"])
def test_disputed_payment_needs_a_person_and_nothing_replaces_it(world: World, code: str) -> None:
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
def test_dispute_on_pending_refund_needs_a_person_despite_retry(world: World, payments: int) -> None:
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


def test_disputed_refund_is_resolved_if_its_payment_is_taken_again(world: World) -> None:
    """The failed leg released the payment, and the customer's next refund has reserved all of it."""
    world.pay(1)
    world.pay(2)
    world.processor.script("ch_2", "pending")
    disputed = world.withdraw(100)
    world.work()
    ended = replace(world.processor.become("re_1", "failed"), failure_code="charge_for_pending_refund_disputed")
    world.processor.objects["re_1"] = ended
    tell(world, disputed, ended)
    world.processor.script("ch_2", "pending")
    second = world.withdraw(100, "second")
    world.work()
    assert world.refund(second).legs[0].payment_id == "pay2"
    world.command(disputed, Action.RESOLVE, "dispute du_1")
    assert (world.refund(disputed).status, world.account.balance) == (RefundStatus.SUCCEEDED, 0)
    with world.database.read() as connection:
        found = accounts.refundable_payments(connection, ["c"])["c"]
    (taken,) = (payment for payment in found if payment.payment_id == "pay2")
    assert (taken.credits_taken, taken.money_taken) == (100, 1_000)


def test_blocked_refund_needs_a_person_then_pays_under_new_key(world: World) -> None:
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


def test_refused_credentials_pause_processor_and_fail_no_refund(world: World) -> None:
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


def test_lasting_cause_alarms_once_a_day_and_a_new_cause_at_once(world: World) -> None:
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
    world.work_for(7_200)
    assert alarms() == ["bad key"] * 2
    world.processor.rescript("ch_1", *[Denied("parameter_unknown", "our form", maybe_kept=True)] * 500)
    world.work_for(3_600)
    assert alarms() == ["bad key", "bad key", "our form"]


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


def test_list_read_before_quiet_window_ends_proves_no_absence(world: World) -> None:
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
