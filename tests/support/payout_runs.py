"""Payout runs in tests: ask for one, drive it to its end, and read its rows."""

from __future__ import annotations

from typing import Any

from refund_worker.domain.payouts.runs import PayoutRun, RunRequest, RunRow, RunStatus
from refund_worker.engine.payouts.drive_runs import drive_due_runs, drive_piece
from refund_worker.engine.payouts.runs import approve_run, create_run
from refund_worker.store.payouts import runs
from tests.support.payout_world import PayoutWorld


def start(world: PayoutWorld, key: str = "k", **values: Any) -> PayoutRun:
    """Ask for a run over the payees of stripe in USD; return it as it is stored."""
    request = RunRequest(
        **({"idempotency_key": key, "processor": "stripe", "currency": "USD", "actor": "ann"} | values)
    )
    return create_run(world.context, request)[0]


def current(world: PayoutWorld, run: PayoutRun) -> PayoutRun:
    """Return the run as it is now."""
    with world.database.read() as connection:
        found = runs.find_run(connection, run.run_id)
    assert found is not None
    return found


def drive(world: PayoutWorld, run: PayoutRun) -> PayoutRun:
    """Drive all runs until nothing is to be done; return this one as it is then."""
    while drive_due_runs(world.context):
        pass
    return current(world, run)


def begin(world: PayoutWorld, run: PayoutRun, status: RunStatus) -> PayoutRun:
    """Drive the run piece by piece until it has this status."""
    while (found := current(world, run)).status is not status:
        assert world.database.run(lambda c: drive_piece(c, world.context, run.run_id))
    return found


def approve(world: PayoutWorld, run: PayoutRun, *, actor: str, version: int | None = None) -> PayoutRun:
    """Approve the run."""
    return approve_run(world.context, run.run_id, actor=actor, reason="checked", version=version)


def rows(world: PayoutWorld, run: PayoutRun) -> dict[str, RunRow]:
    """Return the rows of the run by payee."""
    with world.database.read() as connection:
        return {row.payee_id: row for row, _ in runs.rows_page(connection, run.run_id, limit=10_000)}


def outcome(world: PayoutWorld, run: PayoutRun) -> dict[str, int | str | None]:
    """Return for each payee the amount that is paid, or planned as long as nothing is paid, or why it is skipped."""
    return {
        payee_id: row.code if row.is_skipped else row.amount_minor if row.paid_minor is None else row.paid_minor
        for payee_id, row in rows(world, run).items()
    }
