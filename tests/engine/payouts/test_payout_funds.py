"""Payouts and runs need money at the processor account as refunds do, each amount once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.support.engine_world import POLICY, withdrawal
from tests.support.payees import payout_accounts
from tests.support.payout_runs import approve, begin, drive, start
from tests.support.payout_world import DAY, TWO_STEPS, PayoutWorld

from refund_worker import api_schema
from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.decision_builder import BLOCKED_TRIES
from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.runs import RunStatus
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.processor_replies import BalanceRead, Blocked, Refused
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.context import Batches
from refund_worker.engine.payouts.as_processor import PayoutsAsProcessor
from refund_worker.engine.payouts.drive_runs import drive_piece
from refund_worker.engine.processor_sync.funds import read_balance
from refund_worker.engine.refunds.process import process_due
from refund_worker.engine.views.funds import funds_sentence, funds_view
from refund_worker.engine.views.payout_objects import show_payout
from refund_worker.processors.accounts import Accounts
from refund_worker.store import funds
from refund_worker.store.funds import Fund
from refund_worker.store.payouts.payouts import is_payout_id
from refund_worker.store.tables import events, outbox, payout_legs

Make = Callable[..., PayoutWorld]
NOTHING = {"queued": 0, "approved": 0, "blocked": 0, "awaiting_approval": 0}


def needs(world: PayoutWorld) -> dict[str, int]:
    """Return what is needed in USD, by the reason, of those that are not 0; all other accounts need nothing."""
    with world.database.read() as connection:
        shown = [fund for fund in funds_view(connection, world.context) if fund["needed_minor"]]
        every = funds_view(connection, world.context)
    assert {(fund["processor_account"], fund["currency"]) for fund in shown} <= {("stripe", "USD")}
    found = next((dict(fund) for fund in every if fund["currency"] == "USD"), {})
    return {name: minor for name in NOTHING if (minor := int(str(found.get(f"{name}_minor", 0))))}


def has_funds(world: PayoutWorld, available: int) -> None:
    """Store a reading of the account's balance."""
    found = {"USD": Fund(available, 0, world.now, None)}
    world.database.run(lambda c: funds.store_reading(c, "stripe", world.now, found))


def test_queued_payout_is_needed_until_it_is_sent(make_world: Make) -> None:
    world = make_world(steps=TWO_STEPS)
    world.earn("e1", 1_000)
    payout_id = world.ask(700)
    assert needs(world) == {"queued": 700}
    world.settle()
    assert needs(world) == {}
    world.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    assert needs(world) == {}  # the second step pays the money that was transferred


def test_payout_that_awaits_approval_is_needed_once_approved(make_world: Make) -> None:
    world = make_world(limits=Limits(approval_threshold_minor=500))
    world.earn("e1", 1_000)
    payout_id = world.ask(700)
    assert needs(world) == {"awaiting_approval": 700}
    world.act_on(payout_id, "approve")
    assert needs(world) == {"approved": 700}


def account_that_runs_low() -> Accounts:
    """Return the account "stripe", where a blocked call means that its balance is too low."""
    stripe = payout_accounts()["stripe"]
    assert stripe.entry.payouts is not None
    empty = replace(stripe.entry.payouts.capabilities, low_balance_codes=frozenset({"balance_insufficient"}))
    route = replace(stripe.entry.payouts, capabilities=empty)
    return Accounts({"stripe": replace(stripe, entry=replace(stripe.entry, payouts=route))})


@pytest.mark.parametrize("without_answer", [0, 100])
def test_only_refused_tries_end_the_tries_of_a_blocked_payout(make_world: Make, without_answer: int) -> None:
    world = make_world(accounts=account_that_runs_low())
    world.earn("e1", 1_000)
    world.route.script = ["blocked"] * 2 * BLOCKED_TRIES
    payout_id = world.ask(700)
    for number in range(BLOCKED_TRIES + 5):
        world.settle(POLICY.retry_max_seconds, step=POLICY.retry_max_seconds)
        if number < BLOCKED_TRIES:
            assert world.payout(payout_id).legs[0].retry_count == 0, "the processor has answered"
        world.database.run(lambda c: c.execute(update(payout_legs).values(retry_count=without_answer)))
    assert len(world.route.sends()) == BLOCKED_TRIES + 1
    assert world.payout(payout_id).status == "needs_attention"
    world.act_on(payout_id, "retry")
    world.settle(5 * POLICY.retry_max_seconds, step=POLICY.retry_max_seconds)
    assert len(world.route.sends()) >= BLOCKED_TRIES + 4, "a person's retry begins the tries again"


def test_object_that_was_accepted_begins_the_tries_again(make_world: Make) -> None:
    world = make_world(accounts=account_that_runs_low())
    world.earn("e1", 1_000)
    world.route.script = ["blocked", "pending"]
    payout_id = world.ask(700)
    world.settle()
    assert world.payout(payout_id).legs[0].blocked_count == 1
    world.settle(POLICY.retry_max_seconds, step=POLICY.retry_max_seconds)
    leg = world.payout(payout_id).legs[0]
    assert (leg.status, leg.blocked_count) == ("pending", 0)


def test_blocked_payout_is_needed_and_an_unknown_outcome_is_not(make_world: Make) -> None:
    world = make_world(accounts=account_that_runs_low())
    world.earn("e1", 1_000)
    world.route.script = ["blocked", "nothing"]
    world.ask(700)
    world.settle()
    assert needs(world) == {"blocked": 700}
    world.settle(POLICY.retry_max_seconds, step=POLICY.retry_max_seconds)
    assert world.route.script == []
    assert needs(world) == {}


def read(world: PayoutWorld, available: int) -> None:
    """Read a balance in USD."""
    world.processor.reads_balance = True
    world.processor.balance_reply = BalanceRead({"USD": available}, {})
    assert read_balance(world.context, "stripe")


def blocked(make_world: Make, *, tries: int = 1) -> tuple[PayoutWorld, str]:
    """Return a world with a payout of 700 that was blocked for lack of money."""
    world = make_world(accounts=account_that_runs_low())
    world.earn("e1", 1_000)
    world.route.script = ["blocked"] * tries
    payout_id = world.ask(700)
    world.settle()
    assert (world.payout(payout_id).status, world.payout(payout_id).failure_code) == (
        "needs_attention",
        "balance_insufficient",
    )
    return world, payout_id


def test_blocked_payout_goes_on_once_the_balance_suffices(make_world: Make) -> None:
    published: list[str] = []
    world, payout_id = blocked(make_world)
    world.context = replace(world.context, publish=lambda ids, bulk: published.extend(ids))
    world.pass_time(10)
    read(world, 699)
    world.settle()
    assert (len(world.route.sends()), published) == (1, [])
    world.pass_time(10)
    read(world, 700)
    assert published == [payout_id]
    world.route.calls.clear()
    world.settle()
    assert world.payout(payout_id).status == "pending"
    assert [name for name, _ in world.route.calls][:2] == ["find", "send"], "asked before the new attempt"


def shown(world: PayoutWorld, payout_id: str) -> api_schema.Payout:
    """Return the payout as the API shows it."""
    with world.database.read() as connection:
        return show_payout(connection, world.payout(payout_id))


@pytest.mark.parametrize("by_a_person", [True, False])
def test_payout_that_goes_on_shows_no_old_failure(make_world: Make, *, by_a_person: bool) -> None:
    world, payout_id = blocked(make_world)
    assert shown(world, payout_id)["failure_message"] is not None
    world.context = replace(world.context, notify=True)
    world.route.script = ["pending"]
    if by_a_person:
        world.act_on(payout_id, "retry")
        going_on = shown(world, payout_id)
        assert (going_on["status"], going_on["failure_code"], going_on["failure_message"]) == ("sending", None, None)
        assert going_on["legs"][0]["failure_code"] is None
    world.settle(POLICY.retry_max_seconds, step=POLICY.retry_max_seconds)
    going_on = shown(world, payout_id)
    assert (going_on["status"], going_on["failure_code"], going_on["failure_message"]) == ("pending", None, None)
    assert (going_on["fault"], going_on["legs"][0]["failure_code"]) == (None, None)
    with world.database.read() as connection:
        bodies = connection.execute(select(outbox.c.body).where(outbox.c.payout_id == payout_id)).scalars().all()
    (pending,) = [body for body in bodies if json.loads(body)["type"] == "payout.pending"]
    assert "balance_insufficient" not in pending


def test_payout_that_a_person_retries_shows_no_old_fault(make_world: Make) -> None:
    world = make_world()
    world.earn("e1", 700)
    payout_id = world.ask()
    world.settle()
    failed = world.route.set(
        f"{payout_id}-1:1", ObjectState.FAILED, failure_code="could_not_process", fault=Fault.PROCESSOR
    )
    world.report(payout_id, failed)
    assert shown(world, payout_id)["fault"] == "processor"
    world.act_on(payout_id, "retry")
    again = shown(world, payout_id)
    assert (again["status"], again["failure_code"], again["fault"]) == ("sending", None, None)


def test_balance_that_does_not_rise_ends_the_early_tries(make_world: Make) -> None:
    world, _ = blocked(make_world, tries=9)
    for expected in (2, 3, 4, 4):
        world.pass_time(10)
        read(world, 1_000)
        world.settle()
        assert len(world.route.sends()) == expected


def test_top_up_pays_refunds_and_payouts_oldest_first(make_world: Make) -> None:
    world, payout_id = blocked(make_world)
    world.pay()
    world.processor.script("ch_1", Blocked("balance_insufficient", "the balance is too low"))
    refund_id = world.withdraw(60)  # of 600
    process_due(world.context)
    assert world.refund(refund_id).legs[0].failure_code == "balance_insufficient"
    world.pass_time(10)
    read(world, 1_299)
    assert (due(world, payout_id), due(world, refund_id)) == (True, False)
    world.pass_time(10)
    read(world, 1_300)
    assert (due(world, payout_id), due(world, refund_id)) == (True, True)


def due(world: PayoutWorld, subject_id: str) -> bool:
    """Return True if the refund or payout is due now."""
    subject = world.payout(subject_id) if is_payout_id(subject_id) else world.refund(subject_id)
    return subject.due_at is not None and subject.due_at <= world.now


def test_payout_that_a_person_stops_is_not_needed(world: PayoutWorld) -> None:
    world.earn("e1", 1_000)
    world.ask(700)
    stop = update(payout_legs).values(attention_code="unknown_refusal")
    world.database.run(lambda c: c.execute(stop))
    assert needs(world) == {}


@pytest.mark.parametrize(("code", "needed"), [("paused", {}), ("another", {"queued": 300})])
def test_held_payout_is_needed_if_time_ends_its_hold(world: PayoutWorld, code: str, needed: dict[str, int]) -> None:
    world.earn("e1", 1_000)
    if code == "paused":
        world.change_payee(paused_by="ann", pause_reason="x")
    else:
        world.ask(700)
        world.settle()
    held = world.ask(300, "k2")
    world.settle()
    assert world.payout(held).status == "held"
    assert needs(world) == needed


def test_run_needs_each_of_its_payouts_once(make_world: Make) -> None:
    world = make_world(limits=Limits(approval_threshold_minor=500))
    world.context = replace(world.context, batches=Batches(intake=1))
    world.earn("e1", 1_000)
    world.add_payee("q")
    world.earn("e2", 400, payee_id="q")
    has_funds(world, 1_400)
    run = drive(world, start(world))
    assert (run.status, run.available_minor) == ("awaiting_approval", 1_400)  # it does not count itself
    assert needs(world) == {"awaiting_approval": 1_400}
    approve(world, run, actor="bob")
    assert needs(world) == {"approved": 1_400}
    world.database.run(lambda c: drive_piece(c, world.context, run.run_id))
    assert needs(world) == {"approved": 1_400}  # one has its payout, one does not
    begin(world, run, RunStatus.DONE)
    assert needs(world) == {"approved": 1_400}
    world.settle()
    assert needs(world) == {}


def test_run_is_short_of_what_other_payouts_and_runs_need(world: PayoutWorld) -> None:
    world.context = replace(world.context, batches=Batches(intake=1))
    for number, payee_id in enumerate(("q", "r")):
        world.add_payee(payee_id)
        world.earn(f"e{number}", 400, payee_id=payee_id)
    world.earn("e9", 300)
    world.ask(300)
    has_funds(world, 1_000)
    run = drive(world, start(world))
    assert (run.status, run.approval_codes, run.available_minor) == ("awaiting_approval", ("funds_short",), 700)
    approve(world, run, actor="bob")
    other = begin(world, start(world, key="k2", dry_run=True), RunStatus.PLANNED)  # the first has paid none yet
    assert other.available_minor == 1_000 - 300 - 800


def test_withdrawal_needs_money_at_the_payees_account_once(make_world: Make) -> None:
    world = make_world()
    policy = replace(world.context.policy, fallback=("payments", "payout", "balance"))
    own = {PAYOUT: PayoutsAsProcessor(lambda: world.context)}
    world.context = replace(world.context, policy=policy, processors={**world.context.processors, **own})
    world.pay()
    world.change_payee(customer_id="c")
    world.processor.script("ch_1", *[Refused("expired_or_canceled_card", "the card is gone")] * 9)
    refund_id = world.request(withdrawal(credits=100)).refund_id
    amount = needs(world)["queued"]
    while world.refund(refund_id).legs[-1].processor != PAYOUT:
        assert process_due(world.context)
    while world.refund(refund_id).status != "pending":
        assert needs(world) == {"queued": amount}
        assert process_due(world.context)
    assert needs(world) == {"queued": amount}  # its payout now
    world.settle()
    assert needs(world) == {}


def test_shortfall_of_payouts_raises_the_alarm_and_is_said(world: PayoutWorld) -> None:
    world.earn("e1", 1_000)
    world.ask(700)
    world.processor.reads_balance = True
    world.processor.balance_reply = BalanceRead({"USD": 500}, {})
    assert read_balance(world.context, "stripe")
    with world.database.read() as connection:
        (said,) = [funds_sentence(fund) for fund in funds_view(connection, world.context)]
        raised = connection.execute(events.select().where(events.c.kind == "funds_short")).mappings().one()
    assert said is not None
    assert "2.00 USD are missing at stripe" in said
    assert raised["reason"] == "refunds and payouts need 7.00 USD at stripe, and 5.00 USD are available"
