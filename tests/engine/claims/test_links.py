"""Links: a refund that others made counts as the payment of a refund, a spend or a correction."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.engine.claims.claim_worlds import (
    assert_sums_hold,
    balance_of,
    claims_of,
    dispute,
    report,
    report_disputes,
    with_rule,
)
from tests.support.engine_world import POLICY, World, assert_books_balance
from tests.support.replies import EMPTY, ERROR

from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_replies import RefundObject, Refused
from refund_worker.domain.refund import LegStatus, RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.views.claim_objects import claim_page
from refund_worker.errors import ActionNotAllowed, ExceedsRefundable, InvalidRequest, NotFound, UnknownTransaction
from refund_worker.store import inbox, payments, timeline
from refund_worker.store.claims import ClaimFilters
from refund_worker.store.tables import ledger_transactions


def link(world: World, number: int = 0, **target: str) -> None:
    """Link one of the claims, and check the books afterwards."""
    claim_id = claims_of(world)[number]["claim_id"]
    link_outside_refund(world.context, claim_id, actor="op", reason="the same", **target)
    assert_books_balance(world.database)


def failed_withdrawal(world: World, credits: int = 100) -> str:
    """Return a withdrawal that failed, after which a person refunded the same money in the dashboard."""
    world.pay()
    world.processor.script("ch_1", Refused("expired_or_canceled_card", "the card is closed"))
    refund_id = world.withdraw(credits)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    return refund_id


def test_linked_object_pays_the_refund_that_had_failed(world: World) -> None:
    refund_id = failed_withdrawal(world)
    report(world, world.refund_in_the_dashboard(1_000))
    link(world, refund_id=refund_id)
    link(world, refund_id=refund_id)
    (leg,) = world.refund(refund_id).legs
    assert (leg.status, leg.processor_refund_id) == (LegStatus.SUCCEEDED, "re_by_hand_1")
    assert (world.refund(refund_id).status, balance_of(world)) == (RefundStatus.SUCCEEDED, (0, 0))
    sync_all(world.context, "stripe")
    assert balance_of(world) == (0, 0)


def test_written_off_shortfall_is_reversed_by_a_link(world: World) -> None:
    world.pay()
    world.spend("t", credits=100)
    report(world, world.refund_in_the_dashboard(1_000))
    assert claims_of(world)[0]["credits"] == 100
    link(world, transaction_id="t")
    link(world, transaction_id="t")
    (claim,) = claims_of(world)
    assert (claim["credits"], claim["taken"], claim["linked_minor"]) == (0, 0, 1_000)
    refund = world.refund(claim["refund_id"])
    assert (refund.status, refund.credits, balance_of(world)) == (RefundStatus.SUCCEEDED, 100, (0, 0))


@pytest.mark.parametrize(("spent", "part", "credits"), [(100, 300, 30), (20, 1_000, 20)])
def test_link_to_a_spend_reaches_to_the_smaller_amount(world: World, spent: int, part: int, credits: int) -> None:
    world.pay()
    world.spend("t", credits=spent)
    report(world, world.refund_in_the_dashboard(part))
    link(world, transaction_id="t")
    (claim,) = claims_of(world)
    assert world.refund(claim["refund_id"]).credits == credits
    assert claim["linked_minor"] == credits * 10
    assert claim["credits"] == part // 10 - credits, "the rest of a larger object stays outside"


def test_rest_of_a_larger_leg_is_given_back(world: World) -> None:
    world.pay()
    pause_processor(world.context, "stripe", actor="op", reason="later")
    refund_id = world.withdraw(100)
    report(world, world.refund_in_the_dashboard(400))
    link(world, refund_id=refund_id)
    refund = world.refund(refund_id)
    assert refund.status is RefundStatus.PARTIALLY_SUCCEEDED
    assert [leg.amount_minor for leg in refund.legs if leg.status is LegStatus.SUCCEEDED] == [400]
    assert balance_of(world) == (60, 0)


@pytest.mark.parametrize("other_minor", [950, 1_000])
def test_linked_part_keeps_credits_that_its_replacement_returned(world: World, other_minor: int) -> None:
    """The replacement has returned most of the leg's credits, or all of them."""
    world.pay(2, captured_at=1.0, amount_minor=other_minor)
    world.pay(captured_at=2.0)
    for charge in ("ch_1", "ch_2"):
        world.processor.script(charge, Refused("expired_or_canceled_card", "the card is closed"))
    refund_id = world.withdraw(100)
    world.work()
    assert (world.refund(refund_id).status, balance_of(world)) == (RefundStatus.FAILED, (200, 0))
    report(world, world.refund_in_the_dashboard(500))
    link(world, refund_id=refund_id)
    refund = world.refund(refund_id)
    paid = sum(leg.credits for leg in refund.legs if leg.status is LegStatus.SUCCEEDED)
    assert (paid, refund.reversed_credits, balance_of(world)) == (50, 50, (150, 0))
    assert_sums_hold(world)


def test_link_to_a_correction_pays_it_out(world: World) -> None:
    world.pay()
    row, _ = correct(
        world.context, customer_id="c", credits=-100, reason="paid by hand", client="x", idempotency_key="k", actor="op"
    )
    report(world, world.refund_in_the_dashboard(1_000))
    link(world, transaction_id=row["transaction_id"])
    (claim,) = claims_of(world)
    assert world.refund(claim["refund_id"]).status is RefundStatus.SUCCEEDED
    assert balance_of(world) == (0, 0)


def approvals_from(threshold_minor: int) -> Limits:
    """Return the limits under which more than this needs an approval."""
    return Limits(approval_threshold_minor=threshold_minor)


def linked_correction(world: World, limits: Limits, status: str = "succeeded") -> str:
    """Link 3.00 of others to a correction of 80 credits (8.00); return the refund that the link made."""
    world.context = replace(world.context, limits=limits)
    world.pay()
    world.pay(2)
    row, _ = correct(
        world.context, customer_id="c", credits=-80, reason="paid by hand", client="x", idempotency_key="k", actor="op"
    )
    report(world, world.refund_in_the_dashboard(300, status=status))
    link(world, transaction_id=row["transaction_id"])
    world.work()
    (claim,) = claims_of(world)
    return str(claim["refund_id"])


def test_rest_of_a_linked_correction_goes_over_another_payment(world: World) -> None:
    refund = world.refund(linked_correction(world, approvals_from(800)))
    assert (refund.status, world.processor.paid_minor()) == (RefundStatus.SUCCEEDED, 300 + 500)
    assert balance_of(world) == (120, 0)


BEYOND_LIMITS = [
    approvals_from(799),
    approvals_from(0),
    Limits(velocity_amount_minor=799),
    Limits(velocity_count=0),
]


@pytest.mark.parametrize("limits", BEYOND_LIMITS, ids=["less", "nothing", "velocity_money", "velocity_count"])
def test_a_link_sends_no_money_that_is_beyond_the_limits(world: World, limits: Limits) -> None:
    refund = world.refund(linked_correction(world, limits))
    assert (refund.status, world.processor.paid_minor()) == (RefundStatus.PARTIALLY_SUCCEEDED, 300)
    assert balance_of(world) == (170, 0)
    world.processor.become("re_by_hand_1", "failed")
    sync_all(world.context, "stripe")
    world.work()
    refund = world.refund(refund.refund_id)
    assert (refund.status, world.processor.paid_minor(), balance_of(world)) == (RefundStatus.FAILED, 0, (200, 0))
    assert_books_balance(world.database)


@pytest.mark.parametrize("failure_code", ["insufficient_funds", "declined"])
def test_unapproved_refund_is_not_sent_when_its_pending_object_fails(world: World, failure_code: str) -> None:
    refund_id = linked_correction(world, approvals_from(0), status="pending")
    made = replace(world.processor.become("re_by_hand_1", "failed"), failure_code=failure_code)
    world.processor.objects["re_by_hand_1"] = made
    sync_all(world.context, "stripe")
    world.work_for(POLICY.retry_max_seconds * 3)
    assert (world.refund(refund_id).status, world.processor.sends) == (RefundStatus.FAILED, [])
    assert balance_of(world) == (200, 0)


@pytest.mark.parametrize(("limits", "is_said"), [(approvals_from(0), True), (approvals_from(800), False)])
def test_timeline_says_that_nothing_is_sent_for_an_unapproved_refund(
    world: World, limits: Limits, is_said: bool
) -> None:
    refund_id = linked_correction(world, limits)
    with world.database.read() as connection:
        accepted = next(iter(timeline.events_of(connection, refund_id)))
    assert ("unapproved" in json.loads(accepted["detail"])) is is_said


def test_reversal_of_a_linked_object_says_that_it_was_linked(world: World) -> None:
    world.pay()
    world.spend("t", credits=40)
    report(world, world.refund_in_the_dashboard(300))
    link(world, transaction_id="t")
    with world.database.read() as connection:
        query = select(ledger_transactions.c.description).where(ledger_transactions.c.kind == "reversal")
        (text,) = connection.execute(query).scalars()
    assert text.endswith(": re_by_hand_1 is linked to a refund")


def test_what_was_asked_for_before_counts_for_the_approval_of_a_link(world: World) -> None:
    world.pay(3)
    world.withdraw(10)
    world.work()
    refund = world.refund(linked_correction(world, approvals_from(899)))
    assert (refund.status, world.processor.paid_minor()) == (RefundStatus.PARTIALLY_SUCCEEDED, 300 + 100)


@pytest.mark.parametrize(("rule", "taken"), [("write_off", 40), ("person", 40), ("debt", 50)])
def test_credits_that_a_link_frees_go_to_a_claim_that_lacks_them(world: World, rule: str, taken: int) -> None:
    with_rule(world, rule)
    world.pay()
    world.spend("t", credits=60)
    report(world, world.refund_in_the_dashboard(500))
    report_disputes(world, dispute(world, "lost", amount_minor=500))
    assert balance_of(world) == (0 if rule != "debt" else -60, 0)
    link(world, transaction_id="t")
    outside, lost = claims_of(world)
    assert (outside["taken"], lost["taken"], balance_of(world)) == (0, taken, (40 - taken, 0))


def test_linked_part_of_a_larger_object_makes_its_payment_no_suspect(world: World) -> None:
    world.pay()
    world.spend("t", credits=40)
    report(world, world.refund_in_the_dashboard(1_000))
    link(world, transaction_id="t")
    sync_all(world.context, "stripe")
    with world.database.read() as connection:
        assert payments.refunded_elsewhere(connection, ["pay1"]) == frozenset()


@pytest.mark.parametrize("closed_first", [True, False])
def test_a_link_over_a_closed_payment_takes_its_credits_once(world: World, closed_first: bool) -> None:
    refund_id = failed_withdrawal(world, 30)
    report(world, world.refund_in_the_dashboard(300))
    world.pay(2)
    if closed_first:
        close_payment(world.context, "pay1", actor="op", reason="recorded wrong")
    link(world, refund_id=refund_id)
    if not closed_first:
        close_payment(world.context, "pay1", actor="op", reason="recorded wrong")
    assert balance_of(world) == (100, 0)
    assert_books_balance(world.database)


def test_late_failure_of_a_linked_object_is_the_refunds(world: World) -> None:
    refund_id = failed_withdrawal(world)
    report(world, world.refund_in_the_dashboard(1_000))
    link(world, refund_id=refund_id)
    world.processor.become("re_by_hand_1", "failed")
    sync_all(world.context, "stripe")
    world.work()
    assert (world.refund(refund_id).status, balance_of(world)) == (RefundStatus.FAILED, (100, 0))
    assert_books_balance(world.database)


def test_linked_object_that_stays_pending_is_polled_ever_more_rarely(world: World) -> None:
    world.pay()
    world.spend("t", credits=40)
    made = world.refund_in_the_dashboard(400, status="pending")
    report(world, made)
    link(world, transaction_id="t")
    linked_at, polls = world.now, 0
    while (due := world.next_due()) is not None and due < linked_at + 20 * 86_400:
        world.work_for(due - world.now)
        polls += 1
    assert 20 < polls < 60


@pytest.mark.parametrize("heard", ["by a list", "by an event", "by a poll"])
def test_late_failure_frees_the_part_that_stayed_outside(world: World, heard: str) -> None:
    world.pay()
    world.spend("t", credits=40)
    report(world, world.refund_in_the_dashboard(1_000, status="pending"))
    link(world, transaction_id="t")
    (claim,) = claims_of(world)
    assert (claim["held"], balance_of(world)) == (60, (60, 60))
    for status, balance in (("succeeded", 0), ("failed", 60)):
        world.processor.become("re_by_hand_1", status)
        if heard == "by a poll":
            world.work_for(POLICY.poll_seconds * 2)
        if heard != "by an event":
            sync_all(world.context, "stripe")
        else:
            body = json.dumps({"data": {"object": {"object": "refund", "id": "re_by_hand_1"}}})
            with world.database.write() as connection:
                inbox.insert_event(connection, "stripe", f"evt_{status}", "refund.updated", body, world.now)
            process_inbox(world.context)
        assert balance_of(world) == (balance, 0)
        assert_books_balance(world.database)
    world.work()
    (claim,) = claims_of(world)
    assert (world.refund(claim["refund_id"]).status, claim["taken"]) == (RefundStatus.FAILED, 0)


def test_own_object_that_still_appears_is_refunded_twice(world: World) -> None:
    refund_id = failed_withdrawal(world, 40)
    item = world.refund_in_the_dashboard(400)
    report(world, item)
    link(world, refund_id=refund_id)
    leg = world.refund(refund_id).legs[0]
    own = replace(item, processor_refund_id="re_own", leg_id=leg.leg_id, attempt=1, installation=world.installation)
    world.processor.objects["re_own"] = own
    sync_all(world.context, "stripe")
    assert world.refund(refund_id).legs[0].attention_code == "refunded_twice"


def test_leg_that_is_paid_or_pending_forbids_a_link(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(50)
    world.work()
    report(world, world.refund_in_the_dashboard(500))
    before = balance_of(world)
    with pytest.raises(ActionNotAllowed):
        link(world, refund_id=refund_id)
    assert balance_of(world) == before
    assert_books_balance(world.database)


def test_wrong_targets_change_nothing(world: World) -> None:
    world.pay()
    world.pay(2)
    other = world.withdraw(10)
    report(world, world.refund_in_the_dashboard(500))
    before = (balance_of(world), claims_of(world))
    for target, error in (
        ({"refund_id": "rf_none"}, NotFound),
        ({"refund_id": other}, InvalidRequest),
        ({"transaction_id": "none"}, UnknownTransaction),
        ({}, InvalidRequest),
    ):
        with pytest.raises(error):
            link(world, **target)
    assert (balance_of(world), claims_of(world)) == before


def test_a_spend_with_nothing_left_is_no_target(world: World) -> None:
    world.pay()
    world.spend("t", credits=10)
    report(world, world.refund_in_the_dashboard(100), world.refund_in_the_dashboard(100))
    link(world, transaction_id="t")
    before = (balance_of(world), claims_of(world))
    with pytest.raises(ExceedsRefundable, match="0 of 10 credits of t are left"):
        link(world, 1, transaction_id="t")
    assert (balance_of(world), claims_of(world)) == before


@pytest.mark.parametrize("reported_first", [True, False])
def test_object_named_as_the_manual_payment_takes_nothing(world: World, reported_first: bool) -> None:
    refund_id = blocked_refund(world)
    made = world.refund_in_the_dashboard(1_000)
    if reported_first:
        report(world, made)
        assert balance_of(world) == (0, 0)
    world.command(refund_id, Action.RESOLVE, made.processor_refund_id)
    assert_books_balance(world.database)
    report(world, made)
    sync_all(world.context, "stripe")
    (claim,) = claims_of(world)
    assert (claim["credits"], claim["taken"], claim["explained_minor"]) == (0, 0, 1_000)
    assert (world.refund(refund_id).status, balance_of(world)) == (RefundStatus.SUCCEEDED, (100, 0))
    assert_books_balance(world.database)


def replaced_refund(world: World) -> str:
    """Return a refund of 10.00 whose leg is planned over another payment, because others refunded the first one."""
    world.pay(2, captured_at=1.0)
    world.pay(captured_at=2.0)
    pause_processor(world.context, "stripe", actor="op", reason="wait")
    refund_id = world.withdraw(100)
    world.work()
    return refund_id


def test_link_releases_the_unsent_part_that_replaced_its_leg(world: World) -> None:
    refund_id = replaced_refund(world)
    report(world, world.refund_in_the_dashboard(1_000))
    assert [leg.payment_id for leg in world.refund(refund_id).legs if leg.status is LegStatus.PLANNED] == ["pay2"]
    link(world, refund_id=refund_id)
    resume_processor(world.context, "stripe", actor="op", reason="go on")
    world.work()
    refund = world.refund(refund_id)
    assert [leg.payment_id for leg in refund.legs if leg.status is LegStatus.SUCCEEDED] == ["pay1"]
    assert (refund.status, world.processor.sends, balance_of(world)) == (RefundStatus.SUCCEEDED, [], (100, 0))
    assert_books_balance(world.database)
    assert_sums_hold(world)


def test_smaller_object_is_not_linked_beside_the_replacement(world: World) -> None:
    refund_id = replaced_refund(world)
    report(world, world.refund_in_the_dashboard(300))
    with pytest.raises(ActionNotAllowed, match="another part"):
        link(world, refund_id=refund_id)


def another_blocked(world: World, credits: int = 50, key: str = "k2") -> str:
    """Return one more refund that a person must decide about."""
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw(credits, key)
    world.work()
    return refund_id


def blocked_refund(world: World, credits: int = 100) -> str:
    """Return a refund over a payment of 200 credits that a person must decide about."""
    world.pay(amount_minor=2_000, credits=200)
    return another_blocked(world, credits, "k")


def named_refund(world: World, *, status: str = "succeeded") -> tuple[str, RefundObject]:
    """Return a refund of 100 credits that a person called paid by a refund in the dashboard, and that one."""
    refund_id = blocked_refund(world)
    made = world.refund_in_the_dashboard(1_000, status=status)
    world.command(refund_id, Action.RESOLVE, made.processor_refund_id)
    return refund_id, made


@pytest.mark.parametrize("status", ["failed", "canceled"])
@pytest.mark.parametrize("reported_first", [True, False])
def test_refund_that_a_failed_object_was_named_for_reopens(world: World, reported_first: bool, status: str) -> None:
    refund_id, made = named_refund(world)
    if reported_first:
        report(world, made)
    world.processor.become(made.processor_refund_id, status)
    sync_all(world.context, "stripe")
    world.work()
    assert_books_balance(world.database)
    assert_sums_hold(world)
    refund = world.refund(refund_id)
    assert (refund.status, balance_of(world)) == (RefundStatus.FAILED, (200, 0))
    assert refund.legs[0].manual_reference is None
    before = world.events(refund_id)
    report(world, world.processor.objects[made.processor_refund_id])
    assert (world.events(refund_id), balance_of(world)) == (before, (200, 0))


def test_own_object_pays_alone_once_the_named_one_has_failed(world: World) -> None:
    world.pay(amount_minor=2_000, credits=200)
    world.processor.script("ch_1", ERROR)
    refund_id = world.withdraw(100)
    world.work()
    made = world.refund_in_the_dashboard(1_000)
    world.command(refund_id, Action.RESOLVE, made.processor_refund_id)
    report(world, made)
    own = replace(
        made, processor_refund_id="re_own", leg_id=f"{refund_id}-1", attempt=1, installation=world.installation
    )
    world.processor.objects["re_own"] = own
    sync_all(world.context, "stripe")
    assert world.refund(refund_id).failure_code == "refunded_twice"
    world.processor.become(made.processor_refund_id, "failed")
    sync_all(world.context, "stripe")
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code, balance_of(world)) == (RefundStatus.SUCCEEDED, None, (100, 0))
    assert_books_balance(world.database)
    assert_sums_hold(world)


def statuses(world: World, condition: str | None = None) -> list[tuple[str, str | None]]:
    """Return (status, refund id) of the outside refunds that the API lists, all or those with this status."""
    with world.database.read() as connection:
        page = claim_page(connection, ClaimFilters(kind=ClaimKind.OUTSIDE_REFUND, limit=5, condition=condition))
    return [(each["status"], each["refund_id"]) for each in page["data"]]


@pytest.mark.parametrize("named_minor", [1_000, 600], ids=["whole", "in part"])
def test_object_named_as_the_manual_payment_is_listed_as_linked(world: World, named_minor: int) -> None:
    refund_id = blocked_refund(world, named_minor // 10)
    made = world.refund_in_the_dashboard(1_000)
    report(world, made)
    assert statuses(world) == statuses(world, "posted") == [("posted", None)]
    world.command(refund_id, Action.RESOLVE, made.processor_refund_id)
    assert statuses(world) == statuses(world, "linked") == [("linked", refund_id)]
    assert statuses(world, "posted") == []
    report(world, replace(made, status="failed"))
    world.work()
    assert statuses(world) == [("linked", refund_id)]
    assert world.refund(refund_id).status is RefundStatus.FAILED


def test_named_object_whose_rest_waits_for_a_decision_says_so(world: World) -> None:
    world.context = replace(world.context, policy=replace(world.context.policy, shortfall="person"))
    world.pay(amount_minor=2_000, credits=200)
    world.spend(credits=140)
    world.processor.script("ch_1", EMPTY)
    refund_id = world.withdraw(60)
    world.work()
    made = world.refund_in_the_dashboard(1_000)
    world.command(refund_id, Action.RESOLVE, made.processor_refund_id)
    report(world, made)
    assert statuses(world) == statuses(world, "needs_decision") == [("needs_decision", None)]
    assert statuses(world, "linked") == []


def test_one_object_is_not_named_for_two_refunds(world: World) -> None:
    _, made = named_refund(world)
    report(world, made)
    refund_id = another_blocked(world)
    with pytest.raises(ActionNotAllowed, match="pays another refund already"):
        world.command(refund_id, Action.RESOLVE, made.processor_refund_id)


def test_every_refund_that_a_failed_object_was_named_for_reopens(world: World) -> None:
    world.pay(amount_minor=2_000, credits=200)
    made = world.refund_in_the_dashboard(1_000)
    named = []
    for key, credits in (("k1", 30), ("k2", 50)):
        named.append(another_blocked(world, credits, key))
        world.command(named[-1], Action.RESOLVE, made.processor_refund_id)
    report(world, made)
    world.processor.become(made.processor_refund_id, "failed")
    sync_all(world.context, "stripe")
    world.work()
    assert [world.refund(each).status for each in named] == [RefundStatus.FAILED] * 2
    assert balance_of(world) == (200, 0)
    assert_books_balance(world.database)
    assert_sums_hold(world)


def test_failed_object_is_not_named_as_a_payment(world: World) -> None:
    world.pay()
    refund_id = another_blocked(world)
    made = world.refund_in_the_dashboard(500, status="failed")
    report(world, made)
    with pytest.raises(ActionNotAllowed, match="it paid nothing"):
        world.command(refund_id, Action.RESOLVE, made.processor_refund_id)


def test_object_of_another_refund_is_not_named_as_a_payment(world: World) -> None:
    world.pay()
    paid = world.withdraw(10)
    world.work()
    own = world.refund(paid).legs[0].processor_refund_id
    refund_id = another_blocked(world)
    with pytest.raises(ActionNotAllowed, match="object of another refund"):
        world.command(refund_id, Action.RESOLVE, own)


def test_named_object_is_not_linked_to_another_refund(world: World) -> None:
    _, made = named_refund(world)
    report(world, made)
    refund_id = another_blocked(world)
    world.spend("t", credits=20)
    for target in ({"refund_id": refund_id}, {"transaction_id": "t"}):
        with pytest.raises(ActionNotAllowed, match="named"):
            link(world, **target)
