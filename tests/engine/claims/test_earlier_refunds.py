"""Money that was returned before its payment was recorded: `refunded_minor` takes its share of the credits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.engine.claims.claim_worlds import assert_sums_hold, balance_of, claims_of, entries_of, report, with_rule
from tests.support.engine_world import World

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.records import SpendRecord
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.processor_sync.reconciliation.others import outside_differences
from refund_worker.engine.views.claim_objects import claim_page
from refund_worker.errors import ActionNotAllowed, InsufficientBalance
from refund_worker.store.claims import ClaimFilters
from refund_worker.store.reporting.claim_queries import waiting_claims

PERSON, DEBT, WRITE_OFF = ShortfallRule.PERSON, ShortfallRule.DEBT, ShortfallRule.WRITE_OFF


def listed(world: World) -> list[tuple[int, str]]:
    """Return (shortfall, status) of what `outside-refunds list` shows."""
    with world.database.read() as connection:
        page = claim_page(connection, ClaimFilters(kind=ClaimKind.OUTSIDE_REFUND, limit=10))
        return [(line["shortfall"], line["status"]) for line in page["data"]]


def test_it_takes_its_share_at_once(world: World) -> None:
    world.pay(refunded_minor=300)
    assert balance_of(world) == (70, 0)
    assert entries_of(world, "outside_refund") == [(-30, "pay1")]
    world.pay(2)
    assert balance_of(world) == (170, 0)
    assert listed(world) == []
    assert_sums_hold(world)


def test_all_of_a_payment_takes_all_its_credits(world: World) -> None:
    world.pay(credits=101, refunded_minor=1_000)
    assert balance_of(world) == (0, 0)


def test_of_a_part_that_was_captured_it_takes_that_share(world: World) -> None:
    world.pay(captured_minor=500, refunded_minor=250)
    assert balance_of(world) == (50, 0)
    assert world.request_or_code(51, "too many") == "exceeds_refundable"


def test_the_rest_of_the_payment_is_refunded_whole(world: World) -> None:
    world.pay(refunded_minor=300)
    for part in (300, 100):  # the first is the one that the payment was recorded with
        report(world, world.refund_in_the_dashboard(part))
    assert balance_of(world) == (60, 0)
    world.withdraw(60)
    world.work()
    assert world.processor.paid_minor() == 1_000
    assert balance_of(world) == (0, 0)
    assert_sums_hold(world)


@pytest.mark.parametrize("rule", [WRITE_OFF, DEBT, PERSON])
@pytest.mark.parametrize("payment_first", [True, False])
def test_history_in_any_order_ends_with_the_same_balance(
    world: World, rule: ShortfallRule, payment_first: bool
) -> None:
    with_rule(world, rule)
    world.pay(1)
    if not payment_first:
        world.spend(credits=60)
        world.spend("t2", credits=35)
    world.pay(2, credits=50, refunded_minor=1_000)
    world.pay(3, credits=10, refunded_minor=500)
    if payment_first:
        world.spend(credits=60)
        world.spend("t2", credits=35)
    assert balance_of(world) == (10, 0)
    assert_sums_hold(world)


@pytest.mark.parametrize(("rule", "balance"), [(WRITE_OFF, 0), (DEBT, -30), (PERSON, 0)])
def test_spend_from_before_has_the_credits_it_took(world: World, rule: ShortfallRule, balance: int) -> None:
    with_rule(world, rule)
    world.pay(refunded_minor=300)
    world.spend(credits=60)
    world.spend("t2", credits=40)
    (claim,) = claims_of(world)
    assert balance_of(world) == (balance, 0)
    assert (claim["credits"], claim["taken"] - claim["debt"], claim["debt"]) == (30, 0, -balance)
    assert listed(world) == ([(30, "needs_decision")] if rule is PERSON else [])
    assert_sums_hold(world)
    with pytest.raises(InsufficientBalance):
        world.spend("t3", credits=1)
    world.pay(2)
    assert balance_of(world) == (100 + balance, 0)


def test_spends_of_one_batch_share_the_credits_it_took(world: World) -> None:
    world.pay(refunded_minor=300)
    batch = [
        SpendRecord(transaction_id=f"t{n}", customer_id="c", credits=n, description="Chat", occurred_at=5.0)
        for n in (80, 21, 20)
    ]
    answers = record_spends(world.context, batch)
    assert [isinstance(answer, InsufficientBalance) for answer in answers] == [False, True, False]
    assert balance_of(world) == (0, 0)
    assert_sums_hold(world)


def test_spend_from_after_has_only_the_balance(world: World) -> None:
    world.pay(refunded_minor=300)
    world.pass_time(100)
    with pytest.raises(InsufficientBalance):
        world.spend(credits=71, occurred_at=world.now - 50)
    world.spend(credits=70, occurred_at=world.now - 50)


@pytest.mark.parametrize(("rule", "balance"), [(DEBT, -35), (PERSON, -10)])
def test_spend_from_before_pays_no_debt(world: World, rule: ShortfallRule, balance: int) -> None:
    with_rule(world, rule)
    world.pay(refunded_minor=300)
    world.pass_time(100)
    world.spend("new", credits=70, occurred_at=world.now)
    for part in (300, 100):
        report(world, world.refund_in_the_dashboard(part))
    if rule is PERSON:
        decide(world, DEBT, kind="outside_refund", number=1)
    assert balance_of(world) == (-10, 0)
    world.spend("old", credits=25)
    assert balance_of(world) == (balance, 0)
    assert_sums_hold(world)


def test_person_is_told_of_credits_that_a_spend_from_before_needs(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with_rule(world, PERSON)
    world.pay(refunded_minor=300)
    world.spend(credits=70)
    assert not caplog.records
    world.spend("t2", credits=30)
    assert [record.getMessage().split()[1] for record in caplog.records] == ["30"]


@pytest.mark.parametrize(("decision", "balance"), [(WRITE_OFF, 0), (DEBT, -30)])
def test_person_decides_about_what_was_spent(world: World, decision: ShortfallRule, balance: int) -> None:
    with_rule(world, PERSON)
    world.pay(refunded_minor=300)
    world.spend(credits=100)
    decide(world, decision)
    assert balance_of(world) == (balance, 0)
    assert listed(world) == []
    assert_sums_hold(world)


def test_person_decides_about_a_closed_payment_too(world: World) -> None:
    with_rule(world, PERSON)
    world.pay()
    world.spend(credits=40)
    close_payment(world.context, "pay1", actor="kim", reason="the debit failed")
    assert listed(world) == [(40, "needs_decision")]
    with world.database.read() as connection:
        assert waiting_claims(connection).outside_undecided == 1
    decide(world, DEBT)
    assert balance_of(world) == (-40, 0)
    assert listed(world) == []


def decide(world: World, decision: ShortfallRule, kind: str | None = None, number: int = 0) -> None:
    """Decide about a claim; another decision is refused then."""
    claim = [claim for claim in claims_of(world) if kind in (None, claim["kind"])][number]
    values: dict[str, Any] = {"kind": ClaimKind.OUTSIDE_REFUND, "decision": decision, "actor": "kim", "reason": "old"}
    decide_claim(world.context, claim["claim_id"], **values)
    with pytest.raises(ActionNotAllowed):
        decide_claim(world.context, claim["claim_id"], **values | {"decision": other(decision)})


def other(decision: ShortfallRule) -> ShortfallRule:
    return WRITE_OFF if decision is DEBT else DEBT


def old_refund(world: World, amount_minor: int, *, age: float = 500, **values: Any) -> RefundObject:
    """Return a refund of others from before the time since which they are recorded; the payment is recorded later."""
    since = world.now - 100
    world.context = replace(world.context, policy=replace(world.context.policy, outside_since=since))
    made = datetime.fromtimestamp(world.now - age, UTC)
    return world.refund_in_the_dashboard(amount_minor, created_at=made, **values)


def recorded_outside(world: World) -> list[int]:
    """Return the amounts of the recorded refunds of others."""
    return sorted(claim["amount_minor"] for claim in claims_of(world) if claim["kind"] == "outside_refund")


def differences(world: World, refund_objects: Sequence[RefundObject]) -> list[str]:
    """Return the objects that reconciliation lists."""
    with world.database.read() as connection:
        return [found.object_id for found in outside_differences(connection, "stripe", refund_objects)]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("at_once", [True, False])
def test_old_refund_uses_up_its_part(world: World, order: tuple[int, int], at_once: bool) -> None:
    """The newer refund was made within the minutes that are allowed for the clocks."""
    old = old_refund(world, 300)
    world.pay(refunded_minor=300)
    both = (old, world.refund_in_the_dashboard(200))
    heard = [both[number] for number in order]
    for some in [heard] if at_once else [[item] for item in heard]:
        report(world, *some)
    report(world, *both)
    assert balance_of(world) == (50, 0)
    assert (recorded_outside(world), listed(world)) == ([200, 300], [(0, "posted")])
    assert differences(world, both) == []
    assert world.request_or_code(51, "too many") == "exceeds_refundable"
    assert_sums_hold(world)


@pytest.mark.parametrize("parts", [(400,), (200, 200), (100, 300), (300, 100)])
@pytest.mark.parametrize("newest_first", [True, False])
def test_old_refund_that_is_not_explained_takes_nothing(
    world: World, parts: tuple[int, ...], newest_first: bool
) -> None:
    items = [old_refund(world, part, age=500 - number) for number, part in enumerate(parts)]
    world.pay(refunded_minor=300)
    for item in reversed(items) if newest_first else items:
        report(world, item)
    assert balance_of(world) == (70, 0)
    assert listed(world) == []
    (left,) = differences(world, items)
    record_outside_refunds(world.context, "stripe", [t for t in items if t.processor_refund_id == left], since=0.0)
    assert balance_of(world) == (100 - sum(parts) // 10, 0)
    assert_sums_hold(world)


@pytest.mark.parametrize("refunded_minor", [0, 300])
@pytest.mark.parametrize("applied", [True, False])
def test_end_of_an_old_refund_is_heard(world: World, refunded_minor: int, applied: bool) -> None:
    item = old_refund(world, 300, status="pending")
    world.pay(refunded_minor=refunded_minor)
    if applied:
        record_outside_refunds(world.context, "stripe", [item], since=0.0)
    else:
        report(world, item)
    report(world, replace(item, status="failed"))
    assert balance_of(world) == (100, 0)
    assert recorded_outside(world) == ([300] if applied or refunded_minor else [])
