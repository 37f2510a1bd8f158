"""Notifications of payout runs: one when a run awaits approval, is done or is canceled, in one transaction with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.engine_world import Died
from tests.support.payout_runs import approve, begin, current, drive, start
from tests.support.payout_world import PayoutWorld

from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.runs import PayoutRun, RunStatus
from refund_worker.engine.notifications.outbox import notifications
from refund_worker.engine.payouts.drive_runs import drive_piece
from refund_worker.engine.payouts.runs import cancel_run
from refund_worker.engine.views.payout_runs import find_run
from refund_worker.store.tables import outbox


@pytest.fixture
def world(migrated_url: str) -> Iterator[PayoutWorld]:
    """Return a world that notifies, with a payee who has earned 1,000; totals above 500 need approval."""
    world = PayoutWorld(migrated_url, limits=Limits(approval_threshold_minor=500, window_seconds=86_400))
    world.context = replace(world.context, notify=True)
    world.earn("e1", 1_000)
    yield world
    world.close()


def sent(world: PayoutWorld, run: PayoutRun) -> list[dict[str, Any]]:
    """Return the bodies of the messages about the run, oldest first."""
    query = select(outbox.c.body).where(outbox.c.run_id == run.run_id).order_by(outbox.c.created_at)
    with world.database.read() as connection:
        return [json.loads(body) for body in connection.execute(query).scalars()]


def types(world: PayoutWorld, run: PayoutRun) -> list[str]:
    """Return the types of the messages about the run, sorted."""
    return sorted(message["type"] for message in sent(world, run))


def test_run_tells_that_it_awaits_approval_and_is_done(world: PayoutWorld) -> None:
    run = drive(world, start(world))
    (waits,) = sent(world, run)
    assert waits["type"] == "payout_run.awaiting_approval"
    assert waits["data"]["approval_codes"] == ["approval_threshold"]
    assert waits["data"]["version"] == current(world, run).version
    approve(world, run, actor="bob")
    world.now += 1
    drive(world, run)
    last = sent(world, run)[-1]
    with world.database.read() as connection:
        assert (last["type"], last["data"]) == ("payout_run.done", find_run(connection, run.run_id, client=None))
        shown = notifications(connection)
    assert {row["type"] for row in shown if row["run_id"] == run.run_id} == {
        "payout_run.awaiting_approval",
        "payout_run.done",
    }
    assert last["id"] in [row["id"] for row in shown]


def test_canceled_run_is_notified_and_a_dry_run_is_not(world: PayoutWorld) -> None:
    run = drive(world, start(world))
    cancel_run(world.context, run.run_id, actor="ann", reason="wrong month")
    assert types(world, run) == ["payout_run.awaiting_approval", "payout_run.canceled"]
    assert [m["data"]["reason"] for m in sent(world, run) if m["type"] == "payout_run.canceled"] == ["wrong month"]
    assert types(world, drive(world, start(world, key="k2", dry_run=True))) == []


def test_message_and_status_are_in_one_transaction(world: PayoutWorld) -> None:
    run = start(world)
    while True:
        try:
            world.database.run(lambda c: died_after(world, c, run))
        except Died:
            break
    assert current(world, run).status is RunStatus.PLANNING
    assert sent(world, run) == []
    begin(world, run, RunStatus.AWAITING_APPROVAL)
    assert types(world, run) == ["payout_run.awaiting_approval"]


def died_after(world: PayoutWorld, connection: Any, run: PayoutRun) -> None:
    """Drive one piece; die before the commit if it ends the planning."""
    drive_piece(connection, world.context, run.run_id)
    if connection.execute(select(outbox.c.message_id).where(outbox.c.run_id == run.run_id)).first():
        raise Died


def test_nothing_is_stored_without_a_receiver(world: PayoutWorld) -> None:
    world.context = replace(world.context, notify=False)
    run = drive(world, start(world))
    cancel_run(world.context, run.run_id, actor="ann", reason="x")
    assert types(world, run) == []
