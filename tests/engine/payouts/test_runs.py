"""Payout runs: planned and paid in pieces, each payee once, skipped with a reason, stopped by a person."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_world import Died
from tests.support.payees import payout_accounts
from tests.support.payout_runs import approve, begin, drive, outcome, rows, start
from tests.support.payout_world import DAY, PayoutWorld

from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.runs import RunSchedule, RunStatus
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.context import Batches
from refund_worker.engine.payouts.drive_runs import drive_due_runs, drive_piece
from refund_worker.engine.payouts.runs import cancel_run, make_scheduled_runs
from refund_worker.errors import (
    ActionNotAllowed,
    DestinationNotPayable,
    KeyReused,
    NotFound,
    ProcessorAccountUnknown,
    StaleVersion,
)
from refund_worker.processors.accounts import Accounts
from refund_worker.store import funds
from refund_worker.store.funds import Fund
from refund_worker.store.payouts import runs

Make = Callable[..., PayoutWorld]


def with_payees(world: PayoutWorld, count: int, amount: int = 1_000) -> None:
    """Add payees a000, a001, … who have earned as much each."""
    for number in range(count):
        world.add_payee(f"a{number:03}")
        world.earn(f"e{number:03}", amount, payee_id=f"a{number:03}")


def has_funds(world: PayoutWorld, available: int) -> None:
    """Store a reading of the account's balance."""
    found = {"USD": Fund(available, 0, world.now, None)}
    world.database.run(lambda c: funds.store_reading(c, "stripe", world.now, found))


def test_each_payee_is_paid_once_and_the_same_run_again_pays_nobody(world: PayoutWorld) -> None:
    with_payees(world, 3)
    run = drive(world, start(world))
    assert (run.status, run.planned_payees, run.planned_minor) == ("done", 3, 3_000)
    assert (run.paid_payees, run.paid_minor, run.skipped_payees) == (3, 3_000, 1)
    assert outcome(world, run) == {"a000": 1_000, "a001": 1_000, "a002": 1_000, "p": "nothing_payable"}
    world.settle()
    assert sum(world.route.paid_minor().values()) == 3_000
    assert drive(world, start(world)) == run  # the same key
    assert world.events(run.run_id) == ["payout_run_created", "payout_run_pays", "payout_run_done"]
    again = drive(world, start(world, key="k2"))
    assert (again.status, again.paid_payees, again.planned_payees) == ("done", 0, 0)
    world.settle()
    assert sum(world.route.paid_minor().values()) == 3_000


def test_key_with_another_body_is_refused(world: PayoutWorld) -> None:
    run = start(world)
    with pytest.raises(KeyReused):
        start(world, minimum_minor=1)
    assert start(world, key="k2").run_id != run.run_id
    assert start(world, client="other").run_id != run.run_id


@pytest.mark.parametrize(("account", "error"), [("no", ProcessorAccountUnknown), ("bare", DestinationNotPayable)])
def test_account_must_have_payouts(make_world: Make, account: str, error: type[Exception]) -> None:
    stripe = payout_accounts()["stripe"]
    world = make_world(accounts=Accounts({"bare": replace(stripe, entry=replace(stripe.entry, payouts=None))}))
    with pytest.raises(error):
        start(world, processor=account)


def test_who_is_skipped_and_why(make_world: Make) -> None:
    world = make_world(cooldown_seconds=DAY, policy_options={"maximum_minor": {"USD": 5_000}})
    world.now += 2 * DAY
    named = ("below", "held", "debt", "paused", "incomplete", "review", "cooling", "another", "much", "fine")
    for name in named:
        world.add_payee(name)
        if name != "cooling":
            world.change_payee(name, destination_changed_at=world.now - 2 * DAY)
        if name not in ("below", "held"):
            world.earn(f"e-{name}", 2_000, payee_id=name)
    world.earn("e-below", 999, payee_id="below")
    world.earn("e-held", 2_000, payee_id="held", at=DAY)
    world.earn("e2-much", 6_000, payee_id="much")
    world.change_payee("paused", paused_by="ann", pause_reason="x")
    world.change_payee("incomplete", verdict="incomplete")
    world.change_payee("review", verdict="under_review")
    world.ask(2_000, "d", payee_id="debt")
    owes(world, "debt")
    world.ask(500, "o", payee_id="another")
    run = drive(world, start(world, minimum_minor=1_000, dry_run=True))
    assert run.status == "planned"
    assert outcome(world, run) == {
        "below": "below_minimum",
        "held": "held",
        "debt": "debt",
        "paused": "payee_paused",
        "incomplete": "payee_incomplete",
        "review": "payee_under_review",
        "cooling": "destination_cooldown",
        "another": "another_payout",
        "p": "nothing_payable",
        "much": 5_000,
        "fine": 2_000,
    }
    found = rows(world, run)
    assert (found["much"].code, found["much"].carried_minor) == ("above_maximum", 3_000)
    assert found["below"].carried_minor == 999
    assert found["another"].carried_minor == 1_500


def owes(world: PayoutWorld, payee_id: str) -> None:
    """Claw back a part of what was paid to the payee."""
    from refund_worker.domain.payouts.payee import BalanceDelta
    from refund_worker.store.payouts import payees

    world.database.run(lambda c: payees.change_balances(c, {(payee_id, "USD"): BalanceDelta(clawed_back_minor=500)}))


def test_interval_since_the_last_payout_skips(make_world: Make) -> None:
    world = make_world(policy_options={"interval_seconds": 7 * DAY})
    world.earn("e1", 1_000)
    world.ask()
    world.settle()
    world.route.set(world.route.sends()[0], ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    world.earn("e2", 1_000)
    assert outcome(world, drive(world, start(world))) == {"p": "interval"}
    world.now += 7 * DAY
    assert outcome(world, drive(world, start(world, key="k2"))) == {"p": 1_000}


def test_carried_amount_is_paid_by_the_next_run(make_world: Make) -> None:
    world = make_world(policy_options={"maximum_minor": {"USD": 700}})
    world.earn("e1", 1_000)
    assert outcome(world, drive(world, start(world))) == {"p": 700}
    world.settle()
    world.route.set(world.route.sends()[0], ObjectState.SUCCEEDED)
    world.settle(DAY, step=3_600)
    assert outcome(world, drive(world, start(world, key="k2"))) == {"p": 300}


def test_dry_run_pays_nobody(world: PayoutWorld) -> None:
    with_payees(world, 2)
    run = drive(world, start(world, dry_run=True))
    assert (run.status, run.planned_payees, run.paid_payees, run.ended_at is None) == ("planned", 2, 0, False)
    world.settle(DAY, step=3_600)
    assert world.route.book == {}
    assert world.balance("a000").payable_minor == 1_000


def test_run_that_needs_more_than_is_available_waits_for_a_person(world: PayoutWorld) -> None:
    with_payees(world, 2)
    has_funds(world, 1_999)
    run = drive(world, start(world))
    assert (run.status, run.approval_codes, run.available_minor) == ("awaiting_approval", ("funds_short",), 1_999)
    assert drive_due_runs(world.context) == 0
    with pytest.raises(ActionNotAllowed, match="second person"):
        approve(world, run, actor="ann")  # approval is another person's, whatever the run waits for
    assert approve(world, run, actor="bob").status == "paying"
    done = drive(world, run)
    assert (done.paid_payees, done.approved_by) == (2, "bob")


def test_enough_or_unknown_money_does_not_stop_a_run(world: PayoutWorld) -> None:
    with_payees(world, 2)
    has_funds(world, 2_000)
    run = drive(world, start(world))
    assert (run.status, run.available_minor) == ("done", 2_000)
    world.now += 30 * DAY
    assert drive(world, start(world, key="k2")).available_minor is None


def test_above_the_threshold_a_second_person_approves(make_world: Make) -> None:
    world = make_world(limits=Limits(approval_threshold_minor=999))
    with_payees(world, 2)
    run = drive(world, start(world))
    assert (run.status, run.approval_codes) == ("awaiting_approval", ("approval_threshold",))
    with pytest.raises(ActionNotAllowed, match="second person"):
        approve(world, run, actor="Ann")
    with pytest.raises(StaleVersion):
        approve(world, run, actor="bob", version=run.version - 1)
    approve(world, run, actor="bob")
    with pytest.raises(ActionNotAllowed):
        approve(world, run, actor="bob")
    done = drive(world, run)
    assert (done.status, done.approved_by, done.paid_payees) == ("done", "bob", 2)
    world.settle()
    assert sum(world.route.paid_minor().values()) == 2_000  # no payout awaits a second approval


def test_run_beyond_its_actors_velocity_waits(make_world: Make) -> None:
    world = make_world(limits=Limits(velocity_count=3))
    with_payees(world, 2)
    assert drive(world, start(world)).status == "done"
    for number in range(2):
        world.add_payee(f"b{number}")
        world.earn(f"f{number}", 1_000, payee_id=f"b{number}")
    run = drive(world, start(world, key="k2"))
    assert (run.status, run.approval_codes) == ("awaiting_approval", ("velocity",))
    assert drive(world, start(world, key="k3", actor="eve")).paid_payees == 2


def test_payee_beyond_its_velocity_is_skipped(make_world: Make) -> None:
    world = make_world(limits=Limits(velocity_amount_minor=1_500))
    with_payees(world, 1)
    world.earn("e1", 1_600)
    assert outcome(world, drive(world, start(world))) == {"a000": 1_000, "p": "velocity_exceeded"}


def test_amount_is_fixed_when_the_payee_is_paid(make_world: Make) -> None:
    world = make_world(limits=Limits(approval_threshold_minor=999))
    with_payees(world, 5)
    run = drive(world, start(world))
    owes(world, "a000")
    world.earn("more", 700, payee_id="a001")
    world.change_payee("a002", paused_by="ann", pause_reason="x")
    world.change_payee("a003", currency="EUR")
    approve(world, run, actor="bob")
    done = drive(world, run)
    assert outcome(world, done) == {
        "a000": 500,
        "a001": 1_000,
        "a002": "payee_paused",
        "a003": "payee_changed",
        "a004": 1_000,
        "p": "nothing_payable",
    }
    found = rows(world, done)
    assert found["a000"].code == "changed"
    assert (found["a001"].code, found["a001"].carried_minor) == (None, 700)
    assert (done.planned_minor, done.paid_minor, done.skipped_payees) == (5_000, 2_500, 3)


def test_cancel_stops_what_is_not_paid_yet(make_world: Make) -> None:
    world = make_world(batches=Batches(intake=2))
    with_payees(world, 5)
    run = begin(world, start(world), RunStatus.PAYING)
    assert world.database.run(lambda c: drive_piece(c, world.context, run.run_id))
    canceled = cancel_run(world.context, run.run_id, actor="bob", reason="a mistake")
    assert (canceled.status, canceled.paid_payees) == ("canceled", 2)
    assert drive_due_runs(world.context) == 0
    world.settle()
    assert sum(world.route.paid_minor().values()) == 2_000
    with pytest.raises(ActionNotAllowed):
        cancel_run(world.context, run.run_id, actor="bob", reason="again")
    with pytest.raises(NotFound):
        cancel_run(world.context, "none", actor="bob", reason="again")


@pytest.mark.parametrize("death", ["dies_before", "dies_after"])
def test_run_survives_a_death_at_each_commit(make_world: Make, death: str) -> None:
    world = make_world(batches=Batches(intake=2))
    with_payees(world, 5)
    run = start(world)
    for number in range(1, 20):
        setattr(world.database, death, number % 3 + 1)
        try:
            drive_due_runs(world.context)
        except Died:
            continue
        finally:
            world.database.dies_before = world.database.dies_after = 0
    done = drive(world, run)
    assert (done.status, done.paid_payees, done.paid_minor, done.skipped_payees) == ("done", 5, 5_000, 1)
    world.settle()
    assert sorted(world.route.paid_minor().values()) == [1_000] * 5


def test_payee_who_has_the_runs_payout_keeps_it(world: PayoutWorld) -> None:
    with_payees(world, 1)
    run = begin(world, start(world), RunStatus.PAYING)
    drive(world, run)
    reset_rows(world, run.run_id)
    done = drive(world, run)
    assert outcome(world, done) == {"a000": 1_000, "p": "nothing_payable"}
    world.settle()
    assert sorted(world.route.paid_minor().values()) == [1_000]


def reset_rows(world: PayoutWorld, run_id: str) -> None:
    """Store the run as it was before it paid, as a copy of the database from an earlier time would."""
    from sqlalchemy import update

    from refund_worker.store.tables import payout_run_rows, payout_runs

    def work(connection: Any) -> None:
        row = update(payout_run_rows).where(payout_run_rows.c.amount_minor > 0)
        connection.execute(row.values(payout_id=None, paid_minor=None))
        values = {"status": "paying", "ended_at": None, "paid_payees": 0, "paid_minor": 0, "progress": ""}
        connection.execute(update(payout_runs).where(payout_runs.c.run_id == run_id).values(**values))

    world.database.run(work)


class TestSchedule:
    def test_each_period_makes_one_run_for_each_account_and_currency(self, make_world: Make) -> None:
        world = make_world(run_schedule=RunSchedule("daily", auto_approve_minor=1_000))
        world.add_payee("e", currency="EUR")
        world.earn("e1", 1_000)
        assert make_scheduled_runs(world.context) == 2
        assert make_scheduled_runs(world.context) == 0
        drive_due_runs(world.context)
        with world.database.read() as connection:
            found = {run.currency: run for run in runs.page(connection, limit=10)}
        assert (found["USD"].status, found["USD"].paid_payees, found["USD"].actor) == ("done", 1, "payout-schedule")
        assert found["EUR"].status == "done"
        world.now += 3.5 * DAY  # three days without a scheduler
        assert make_scheduled_runs(world.context) == 2
        assert make_scheduled_runs(world.context) == 0

    @pytest.mark.parametrize("at_once", [None, 999])
    def test_larger_run_awaits_approval(self, make_world: Make, at_once: int | None) -> None:
        world = make_world(run_schedule=RunSchedule("daily", auto_approve_minor=at_once))
        world.earn("e1", 1_000)
        make_scheduled_runs(world.context)
        drive_due_runs(world.context)
        with world.database.read() as connection:
            (run,) = runs.page(connection, limit=10)
        assert (run.status, run.approval_codes) == ("awaiting_approval", ("schedule",))
        approve(world, run, actor="bob")
        assert drive(world, run).paid_payees == 1

    def test_off_makes_none(self, world: PayoutWorld) -> None:
        assert make_scheduled_runs(world.context) == 0


def test_reserved_client_has_the_payouts(world: PayoutWorld) -> None:
    world.earn("e1", 1_000)
    run = drive(world, start(world))
    (row,) = rows(world, run).values()
    assert row.payout_id is not None
    payout = world.payout(row.payout_id)
    assert (payout.client, payout.idempotency_key) == (":payout-runs", f"run:{run.run_id}:p")
    assert (payout.run_id, payout.requested_by, payout.priority) == (run.run_id, "ann", 1)


def test_two_schedulers_share_the_work(world: PayoutWorld) -> None:
    with_payees(world, 4)
    run = start(world)
    other = replace(world.context)
    for context in (world.context, other) * 6:
        context.database.run(lambda c, its=context: drive_piece(c, its, run.run_id))  # type: ignore[misc]
    assert drive(world, run).paid_payees == 4


def test_run_of_others_is_skipped_while_its_row_is_locked(world: PayoutWorld) -> None:
    if world.database.is_sqlite:
        pytest.skip("a writer of SQLite locks the whole file")
    with_payees(world, 1)
    run = start(world)
    with world.database.write() as connection:
        assert runs.lock_run(connection, run.run_id) is not None
        assert world.database.run(lambda c: drive_piece(c, world.context, run.run_id)) is False
