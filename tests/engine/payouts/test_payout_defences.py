"""The defences of payouts, each in a situation in which it alone keeps a payee from being paid twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.support.payout_world import DAY, START, TWO_STEPS, WINDOW, PayoutWorld

from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.actions import apply_payout_action
from refund_worker.domain.payouts.decision import TransferReplied
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import Fault, TransferAnswered, TransferObject
from refund_worker.domain.processor_replies import Refused
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.accept import AcceptedPayout, request_payouts
from refund_worker.engine.payouts.actions import cancel_unsent_payouts
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.process import PayoutClaim, claim_due_payouts
from refund_worker.engine.payouts.replies import record_transfer_replies
from refund_worker.errors import ActionNotAllowed, InsufficientEarnings, LostRace

Make = Callable[..., PayoutWorld]


def claim(world: PayoutWorld) -> PayoutClaim:
    """Claim what is due, as a worker that makes its calls afterwards."""
    return world.database.run(lambda connection: claim_due_payouts(connection, world.context))


def test_key_is_not_sent_again_after_its_life(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.down = True
    world.ask()
    world.settle()
    sent = world.route.sends()
    world.route.down = False
    world.now += 10_001
    world.settle(60)
    assert world.route.sends() == sent


def test_new_key_waits_for_the_quiet_window(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["server_error"]
    payout_id = world.ask()
    world.settle(600, step=30)
    assert world.route.sends() == [f"{payout_id}-1:1"]
    world.settle(1_000, step=30)
    assert world.route.sends() == [f"{payout_id}-1:1", f"{payout_id}-1:2"]


def test_refusal_says_nothing_about_an_earlier_call(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["late", "misconfigured"]
    payout_id = world.ask()
    world.settle(20, step=2)
    assert world.payout(payout_id).status == "sending"
    world.route.land()
    world.settle(300, step=10)
    assert world.payout(payout_id).status == "pending"
    assert len(world.route.book) == 1


def test_late_worker_writes_nothing(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    claimed = claim(world)
    (question,) = claimed.questions
    world.pass_time(61)
    late = TransferReplied(payout_id, question.call.leg_id, question.call, Refused("closed", "closed"), claimed.now)
    assert record_transfer_replies(world.context, [late], lease_token=claimed.token) == []
    assert world.payout(payout_id).status == "sending"
    assert world.balance().payable_minor == 0


def test_second_step_waits_for_the_first(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle(60)
    assert world.route.sends() == [f"{payout_id}-1:1"]


def test_overtaken_report_changes_nothing(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    older = world.route.book[f"{payout_id}-1:1"]
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED))
    world.report(payout_id, older)
    assert world.payout(payout_id).status == "paid"
    assert world.balance().paid_minor == 5_000


def test_object_of_another_amount_is_never_believed(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    item = world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    world.report(payout_id, replace(item, amount_minor=5_001))
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "answer_mismatch")
    assert world.balance().in_flight_minor == 5_000


def test_answer_of_another_amount_makes_no_second_attempt(world: PayoutWorld) -> None:
    """The answer was wrong, the object is real, and the list lags behind: a retry must not send again."""
    world.earn("e1", 5_000)
    payout_id = world.ask()
    claimed = claim(world)
    (question,) = claimed.questions
    answer = world.route.execute(question.key, question.body)
    assert isinstance(answer, TransferAnswered)
    wrong = TransferAnswered(replace(answer.object, amount_minor=5_001))
    reply = TransferReplied(payout_id, question.call.leg_id, question.call, wrong, claimed.now)
    record_transfer_replies(world.context, [reply], lease_token=claimed.token)
    assert world.payout(payout_id).failure_code == "answer_mismatch"
    listed_later = world.route.book.pop(question.key)
    world.act_on(payout_id, "retry")
    world.settle(300, step=10)
    assert world.route.sends() == []
    world.route.book[question.key] = listed_later
    world.settle(2_000, step=100)
    assert world.route.sends() == []
    assert world.payout(payout_id).status == "pending"


def test_second_person_approves(make_world: Make) -> None:
    world = make_world(limits=Limits(approval_threshold_minor=1_000))
    world.earn("e1", 5_000)
    payout_id = world.ask(2_000)
    world.settle(60)
    assert world.payout(payout_id).status == "awaiting_approval"
    with pytest.raises(ActionNotAllowed):
        world.act_on(payout_id, "approve", actor="ann")
    world.act_on(payout_id, "approve", actor="bob")
    world.settle(60)
    assert world.payout(payout_id).status == "pending"


def test_batch_takes_no_more_than_the_balance(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    requests = [
        PayoutRequest(
            idempotency_key=key, payee_id="p", amount_minor=3_000, currency="USD", description="share", actor="ann"
        )
        for key in ("k1", "k2")
    ]
    first, second = request_payouts(world.context, requests)
    assert isinstance(first, AcceptedPayout)
    assert isinstance(second, InsufficientEarnings)


def test_decision_about_an_older_version_is_not_written(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    payout_id = world.ask()
    older = world.payout(payout_id)
    world.settle()
    decision = apply_payout_action(
        older, PayoutAction.CANCEL, world.now, world.context.payout_policy, actor="bob", reason="stale"
    )
    with pytest.raises(LostRace), world.database.write() as connection:
        apply_payouts(connection, [decision], world.now)
    assert world.payout(payout_id).status == "pending"


def with_object_of_an_older_attempt(world: PayoutWorld) -> str:
    """Return a payout whose first call landed after all, while its second attempt waits to be sent again."""
    world.earn("e1", 5_000)
    world.route.script = ["server_error", "blocked"]
    payout_id = world.ask()
    while world.payout(payout_id).legs[0].status != "blocked":
        assert world.now < START + DAY
        world.settle(30, step=30)
    order = {"step": "payout", "leg": f"{payout_id}-1", "attempt": 1, "payout": payout_id}
    body = json.dumps(order | {"amount": 5_000, "currency": "USD"})
    world.route.execute(f"{payout_id}-1:1", body)
    world.settle(DAY, step=600)
    assert (world.payout(payout_id).status, world.payout(payout_id).legs[0].attempt) == ("pending", 2)
    return payout_id


def test_return_is_seen_if_an_older_attempt_paid(world: PayoutWorld) -> None:
    payout_id = with_object_of_an_older_attempt(world)
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED))
    assert world.payout(payout_id).status == "paid"
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed"))
    assert world.payout(payout_id).status == "returned"
    assert world.balance().payable_minor == 5_000


def test_failure_of_an_older_attempt_is_a_persons(world: PayoutWorld) -> None:
    payout_id = with_object_of_an_older_attempt(world)
    world.report(payout_id, world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed"))
    world.settle(DAY, step=600)
    assert world.payout(payout_id).status == "needs_attention"
    assert world.route.paid_minor() == {}


@pytest.mark.parametrize(
    ("word", "status", "payable"),
    [
        ("blocked", "canceled", 5_000),
        ("busy", "canceled", 5_000),
        ("lost", "sending", 0),
        ("unknown", "needs_attention", 0),
    ],
)
def test_change_cancels_what_was_refused_for_now(world: PayoutWorld, word: str, status: str, payable: int) -> None:
    world.earn("e1", 5_000)
    world.route.script = [word]
    payout_id = world.ask()
    world.settle()
    world.database.run(lambda connection: cancel_unsent_payouts(connection, world.context, "p", "ann"))
    assert (world.payout(payout_id).status, world.balance().payable_minor) == (status, payable)
    sends = len(world.route.sends())
    if status == "canceled":
        world.settle(DAY, step=600)
        assert len(world.route.sends()) == sends
        assert world.payout(payout_id).status == status


def test_retry_sends_nothing_to_an_old_destination(world: PayoutWorld) -> None:
    world.earn("e1", 5_000)
    world.route.script = ["misconfigured"]
    payout_id = world.ask()
    world.settle()
    world.change_payee(destination_id="another")
    world.act_on(payout_id, "retry")
    world.settle(DAY, step=600)
    assert len(world.route.sends()) == 1
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("canceled", 5_000)
    assert world.payout(payout_id).failure_code == "destination_changed"


def with_failure_of_ours(world: PayoutWorld) -> tuple[str, TransferObject]:
    """Return a payout whose first object failed for lack of funds, and the object without the marks that we wrote."""
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.settle()
    key = f"{payout_id}-1:1"
    world.route.set(key, ObjectState.FAILED, fault=Fault.OURS, failure_code="insufficient_funds")
    unmarked = world.route.set(key, ObjectState.FAILED, attempt=None)
    world.report(payout_id, unmarked)
    assert world.payout(payout_id).legs[0].status == "blocked"
    return payout_id, unmarked


def test_object_without_its_attempt_lets_the_next_be_sent(world: PayoutWorld) -> None:
    payout_id, _ = with_failure_of_ours(world)
    world.settle(DAY, step=600)
    assert world.route.sends() == [f"{payout_id}-1:1", f"{payout_id}-1:2"]
    assert (world.payout(payout_id).status, sum(world.route.paid_minor().values())) == ("pending", 5_000)


def test_object_found_without_its_attempt_lets_the_next_be_sent(world: PayoutWorld) -> None:
    """No answer said that the call made it: only one call was ever made."""
    world.earn("e1", 5_000)
    world.route.script = ["error"]
    payout_id = world.ask()
    world.settle()
    world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, fault=Fault.OURS, attempt=None)
    world.settle(DAY, step=600)
    assert world.route.sends() == [f"{payout_id}-1:1", f"{payout_id}-1:2"]
    assert world.payout(payout_id).status == "pending"


def test_object_without_its_attempt_answers_no_later_call(world: PayoutWorld) -> None:
    """The second call has no answer yet when the first object is reported again."""
    payout_id, unmarked = with_failure_of_ours(world)
    world.route.script = ["late"]
    while len(world.route.sends()) < 2:
        assert world.now < START + DAY
        world.settle(60)
    world.report(payout_id, unmarked)
    leg = world.payout(payout_id).legs[0]
    assert (leg.status, leg.attempt) == ("unknown", 2)
    world.route.land()
    world.settle(2 * DAY, step=600)
    assert sum(world.route.paid_minor().values()) == 5_000
    assert world.payout(payout_id).status == "pending"


def test_object_of_an_unclear_attempt_is_a_persons(world: PayoutWorld) -> None:
    """Two calls were made, and an object that failed shows neither its attempt nor is it in our records."""
    payout_id, unmarked = with_failure_of_ours(world)
    world.route.script = ["nothing"]
    while len(world.route.sends()) < 2:
        assert world.now < START + DAY
        world.settle(60)
    world.route.down = True
    world.route.book[f"{payout_id}-1:2"] = replace(unmarked, object_id="tr_9")
    world.report(payout_id, replace(unmarked, object_id="tr_9"))
    world.route.down = False
    world.settle(2 * DAY, step=600)
    assert world.payout(payout_id).failure_code == "answer_mismatch"
    world.act_on(payout_id, "retry")
    world.settle(2 * DAY, step=600)
    assert len(world.route.sends()) == 2
    assert world.payout(payout_id).status == "needs_attention"


def test_held_payout_shows_at_once_that_its_payee_is_under_review(world: PayoutWorld) -> None:
    """The payee could correct the destination. Then a payout that had settled comes back with a compliance outcome."""
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "succeeded"]
    settled = world.ask(1_000)
    world.settle(WINDOW + DAY, step=3_600)
    paid = world.ask(1_000, key="k2")
    world.settle(60)
    held = world.ask(1_000, key="k3")
    for payout_id, fault, code in (
        (paid, Fault.PAYEE, "payee_incomplete"),
        (settled, Fault.COMPLIANCE, "payee_under_review"),
    ):
        failed = world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed", fault=fault)
        world.report(payout_id, failed)
        world.settle(60)
        assert (world.payout(held).status, world.payout(held).hold_code) == ("held", code)


def test_compliance_outcome_stays_whatever_fails_later(world: PayoutWorld) -> None:
    """The first payout comes back with a code that the payee could correct alone. The destination stays refused."""
    world.earn("e1", 5_000)
    world.route.script = ["succeeded", "pending"]
    first = world.ask(1_000)
    world.settle(60)
    second = world.ask(1_000, key="k2")
    world.settle(60)
    for payout_id, fault in ((second, Fault.COMPLIANCE), (first, Fault.PAYEE)):
        failed = world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed", fault=fault)
        world.report(payout_id, failed)
    assert (world.payee_row().destination_failure, world.payee_row().status) == ("refused_by_processor", "under_review")
