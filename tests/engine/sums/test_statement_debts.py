"""The debts and write-offs of a statement are dated: what happens later changes no figure of a month that is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.engine.claims.claim_worlds import claims_of, dispute, report, report_disputes, with_rule
from tests.support.engine_world import START, World

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.sums.statement import make_statement

FIRST = datetime.fromtimestamp(START, UTC).strftime("%Y-%m")
NEXT_MONTH = 32 * 86_400.0
SECOND = datetime.fromtimestamp(START + NEXT_MONTH, UTC).strftime("%Y-%m")
NONE = (0, 0, 0)


@pytest.fixture
def world(world: World) -> World:
    """Return the world with refunds of others recorded and shortfalls as debts."""
    world.context = replace(world.context, policy=replace(world.context.policy, outside_since=0.0))
    return with_rule(world, ShortfallRule.DEBT)


def figures(world: World, figure: str = "debts", currency: str = "USD") -> list[tuple[int, int, int]]:
    """Return (opening, movement, closing) of the first month and of the second one, as both are in the second."""
    found = []
    later = replace(world.context, clock=lambda _connection: START + NEXT_MONTH)
    for month in (FIRST, SECOND):
        made = make_statement(later, month)
        assert made.disagreements == ()
        its = (line for line in made.lines if (line.figure, line.currency) == (figure, currency))
        found.append(next(((line.opening_minor, line.movement_minor, line.closing_minor) for line in its), NONE))
    return found


def owe(world: World, spent: int = 80, part: int = 600) -> None:
    """Let the customer owe 40 of 60 credits that a refund in the dashboard takes: 400 of its 600 cents."""
    world.pay()
    world.spend(credits=spent)
    report(world, world.refund_in_the_dashboard(part))


def test_next_purchase_pays_the_debt(world: World) -> None:
    owe(world)
    world.pass_time(NEXT_MONTH)
    assert figures(world) == [(0, 400, 400), (400, 0, 400)]
    world.pay(2, credits=30)
    assert figures(world) == [(0, 400, 400), (400, -300, 100)]
    world.pay(3)
    assert figures(world) == [(0, 400, 400), (400, -400, 0)]


def test_old_spend_that_is_written_after_the_claim_owes_from_then_on(world: World) -> None:
    world.pay(refunded_minor=300)
    world.spend(credits=100, occurred_at=5.0)
    assert figures(world) == [(0, 300, 300), (300, 0, 300)]


def test_debt_that_is_paid_in_its_month_is_none_at_the_end(world: World) -> None:
    owe(world)
    world.pay(2)
    world.pass_time(NEXT_MONTH)
    assert figures(world) == [NONE, NONE]


def test_later_link_leaves_the_month_of_the_debt_as_it_was(world: World) -> None:
    owe(world)
    world.pass_time(NEXT_MONTH)
    claim_id = claims_of(world)[0]["claim_id"]
    link_outside_refund(world.context, claim_id, transaction_id="t", actor="op", reason="the same")
    world.work()
    assert figures(world) == [(0, 400, 400), (400, -400, 0)]


def test_rows_that_are_written_later_change_no_earlier_month(world: World) -> None:
    """A backend records a purchase and a spend of the first month when that is over."""
    owe(world)
    world.pass_time(NEXT_MONTH)
    world.pay(2, captured_at=START + 5)
    world.spend("late", credits=60, occurred_at=START + 6)
    assert figures(world) == [(0, 400, 400), (400, -400, 0)]


def test_claim_that_gives_credits_back_pays_its_own_debt_first(world: World) -> None:
    world.pay()
    world.pay(2, amount_minor=300, currency="EUR")
    world.spend(credits=200)
    report(world, world.refund_in_the_dashboard(400))
    euros = world.refund_in_the_dashboard(300, 2, currency="EUR")
    report(world, euros)
    assert (figures(world)[0], figures(world, currency="EUR")[0]) == ((0, 400, 400), (0, 300, 300))
    report(world, replace(euros, status="failed"))
    assert (figures(world)[0], figures(world, currency="EUR")[0]) == ((0, 400, 400), NONE)


def test_merge_moves_the_debt_and_pays_what_it_can(world: World) -> None:
    owe(world)
    world.pay(2, customer_id="d", amount_minor=220, credits=110, currency="EUR")
    report(world, world.refund_in_the_dashboard(200, 2, currency="EUR"))  # 10 credits are left, and nothing is owed
    world.pass_time(NEXT_MONTH)
    merge_customers(world.context, "c", into="d", reason="the same person", actor="op")
    assert figures(world) == [(0, 400, 400), (400, -100, 300)]
    assert figures(world, currency="EUR") == [NONE, NONE]
    world.pay(3, customer_id="d", credits=30)
    assert figures(world) == [(0, 400, 400), (400, -400, 0)]


def test_held_credits_that_come_off_later_are_a_debt_then(world: World) -> None:
    world.pay()
    world.pay(2)
    world.spend(credits=80)
    world.withdraw(100)  # over the second payment
    report(world, world.refund_in_the_dashboard(800, 1))
    assert world.account.balance == 40
    assert figures(world)[0] == NONE
    world.work()
    assert world.account.balance == -60
    assert figures(world)[0] == (0, 600, 600)


def test_credits_left_to_a_spend_from_before_are_a_debt(world: World) -> None:
    world.pay(refunded_minor=300)
    assert figures(world)[0] == NONE
    world.spend(credits=100, occurred_at=START)
    assert world.account.balance == -30
    assert figures(world)[0] == (0, 300, 300)
    world.pass_time(NEXT_MONTH)
    world.pay(2)
    assert figures(world) == [(0, 300, 300), (300, -300, 0)]


@pytest.mark.parametrize("rule", ["write_off", "debt"])
def test_shortfall_counts_from_the_loss_of_the_dispute_on(world: World, rule: str) -> None:
    with_rule(world, rule)
    world.pay()
    world.spend(credits=60)
    report_disputes(world, dispute(world))
    world.pass_time(NEXT_MONTH)
    report_disputes(world, dispute(world, "lost"))
    names = ("written_off", "debts") if rule == "write_off" else ("debts", "written_off")
    assert figures(world, names[0]) == [NONE, (0, 600, 600)]
    assert figures(world, names[1]) == [NONE, NONE]


@pytest.mark.parametrize("decision", [ShortfallRule.WRITE_OFF, ShortfallRule.DEBT])
def test_decision_changes_no_earlier_month(world: World, decision: ShortfallRule) -> None:
    with_rule(world, "person")
    owe(world)
    world.pass_time(NEXT_MONTH)
    claim_id = claims_of(world)[0]["claim_id"]
    kind = ClaimKind.OUTSIDE_REFUND
    decide_claim(world.context, claim_id, kind=kind, decision=decision, actor="op", reason="kind of us")
    figure = "debts" if decision is ShortfallRule.DEBT else "written_off"
    assert figures(world, figure) == [NONE, (0, 400, 400)]


def test_debt_of_one_account_is_in_the_statement_of_that_account(world: World) -> None:
    owe(world)
    assert figures(world)[0] == (0, 400, 400)
    of_stripe, of_others = (make_statement(world.context, FIRST, name) for name in ("stripe", "manual"))
    assert [line.closing_minor for line in of_stripe.lines if line.figure == "debts"] == [400]
    assert of_others.lines == ()
