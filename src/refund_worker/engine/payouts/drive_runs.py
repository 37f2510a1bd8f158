"""Plan and pay payout runs in pieces, each in one commit with the run's progress.

A process that dies between two commits loses nothing: the next one continues after the last payee. The run's row is
locked for each piece, so that several schedulers do no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.limits import exceeds_velocity, needs_approval
from refund_worker.domain.payouts.acceptance import accept_payout
from refund_worker.domain.payouts.holds import PayeeFacts
from refund_worker.domain.payouts.payee import Payee, PayeeBalance
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.runs import (
    RUN_DRIVEN,
    ApprovalCode,
    PayoutRun,
    RowCode,
    RunRow,
    RunStatus,
    planned_row,
    row_to_pay,
    skipped_row,
)
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.run_messages import announce_run
from refund_worker.engine.payouts.accept import AcceptedPayout, accept_payouts
from refund_worker.engine.payouts.limit_usage import payout_usage_before
from refund_worker.engine.payouts.runs import RUNS_CLIENT, note_progress
from refund_worker.engine.refunds.quarantine import run_or_error
from refund_worker.engine.views.funds import funds_view
from refund_worker.metrics import PAYOUTS_ACCEPTED, count
from refund_worker.store.payouts import payees, payouts, runs, usage
from refund_worker.times import iso

log = logging.getLogger(__name__)

# Seconds for which one call works on runs.
WORK_SECONDS = 5.0


def drive_due_runs(context: Context) -> int:
    """Plan and pay the unfinished runs in turns, for at most `WORK_SECONDS`; return the number of pieces.

    A run that this program fails on raises an alarm and is tried again by the next call; the others continue.
    """
    until, pieces = context.monotonic() + WORK_SECONDS, 0
    with context.database.read() as connection:
        open_runs = runs.driven(connection)
    while open_runs and context.monotonic() < until:
        for run_id in tuple(open_runs):
            more = run_or_error(context, lambda connection, one=run_id: drive_piece(connection, context, one))  # type: ignore[misc]
            if isinstance(more, Exception):
                raise_alarm(
                    log,
                    Alarm.BATCH_FAILED,
                    "a piece of the payout run %s failed: it is tried again",
                    run_id,
                    error=more,
                )
                more = False
            pieces += more
            if not more:
                open_runs.remove(run_id)
    return pieces


def drive_piece(connection: Connection, context: Context, run_id: str) -> bool:
    """Plan or pay the next payees of a run. Return False if nothing is to be done, or another process does it."""
    run = runs.lock_run(connection, run_id, skip=True)
    if run is None or run.status not in RUN_DRIVEN:
        return False
    now = context.clock(connection)
    piece = _plan_piece if run.status is RunStatus.PLANNING else _pay_piece
    after = runs.write_run(connection, run, piece(connection, context, run, now), now)
    if after.status is not run.status:
        note_progress(connection, run, after, now)
        if context.notify:
            announce_run(connection, after, now)
    return True


def _plan_piece(connection: Connection, context: Context, run: PayoutRun, now: float) -> PayoutRun:
    limit = context.batches.intake
    found = payees.of_account(connection, run.processor, run.currency, after=run.progress, limit=limit)
    if not found:
        return _end_of_planning(connection, context, run, now)
    rows = _rows_now(connection, context, run, found, now)
    rows, needs = _within_limits(connection, context, run, found, rows, now)
    runs.insert_rows(connection, run.run_id, rows)
    planned = [row for row in rows if not row.is_skipped]
    after = run.with_approval_code(ApprovalCode.THRESHOLD) if needs else run
    return replace(
        after,
        progress=found[-1].payee_id,
        planned_payees=run.planned_payees + len(planned),
        planned_minor=run.planned_minor + sum(row.amount_minor for row in planned),
        skipped_payees=run.skipped_payees + len(rows) - len(planned),
    )


def _rows_now(
    connection: Connection, context: Context, run: PayoutRun, found: Sequence[Payee], now: float
) -> list[RunRow]:
    """Return what the run would pay each of these payees now."""
    pairs = {(payee.payee_id, run.currency) for payee in found}
    begun = runs.open_payouts(connection, pairs)
    balances = payees.balances(connection, pairs, now)
    rows = []
    for payee in found:
        pair = (payee.payee_id, run.currency)
        facts = PayeeFacts(payee, begun.get(pair), balances[pair].last_payout_at)
        rows.append(planned_row(run, facts, balances[pair], context.payout_policy, now))
    return rows


def _within_limits(
    connection: Connection,
    context: Context,
    run: PayoutRun,
    found: Sequence[Payee],
    rows: Sequence[RunRow],
    now: float,
) -> tuple[list[RunRow], bool]:
    """Return the rows, with those skipped that exceed a limit of their payee, and True if a total needs approval."""
    if not context.limits.any:
        return list(rows), False
    asked = payout_usage_before(connection, {payee.payee_id for payee in found}, set(), context.limits, now)
    kept, needs = [], False
    for payee, row in zip(found, rows, strict=True):
        if row.is_skipped:
            kept.append(row)
            continue
        request = _request(run, row.payee_id, row.amount_minor)
        balance = PayeeBalance(earned_minor=row.amount_minor)
        payout = accept_payout(
            request, payout_id="", payee=payee, balance=balance, policy=context.payout_policy, now=now
        )
        if exceeds_velocity(payout, asked, context.limits):
            available = row.amount_minor + row.carried_minor
            kept.append(skipped_row(row.payee_id, RowCode.VELOCITY_EXCEEDED, carried_minor=available))
            continue
        needs = needs or needs_approval(payout, asked, context.limits)
        kept.append(row)
    return kept, needs


def _end_of_planning(connection: Connection, context: Context, run: PayoutRun, now: float) -> PayoutRun:
    """Compare the whole run with the account's money and the limits, and let it pay, wait or end."""
    available = _available_minor(connection, context, run)
    run = replace(run, available_minor=available)
    if available is not None and run.planned_minor > available:
        run = run.with_approval_code(ApprovalCode.FUNDS_SHORT)
    if run.period is not None:
        at_once = context.run_schedule.auto_approve_minor
        if at_once is None or run.planned_minor > at_once:
            run = run.with_approval_code(ApprovalCode.SCHEDULE)
    elif _is_too_much(connection, context, run, now):
        run = run.with_approval_code(ApprovalCode.VELOCITY)
    if run.dry_run:
        return run.become(RunStatus.PLANNED, now)
    if not run.planned_payees:
        return run.become(RunStatus.DONE, now)
    return run.become(RunStatus.AWAITING_APPROVAL if run.approval_codes else RunStatus.PAYING, now)


def _available_minor(connection: Connection, context: Context, run: PayoutRun) -> int | None:
    """Return the account's money less what refunds, other payouts and other runs need of it, None if unknown now.

    The run itself is not counted in what they need: its payees have no payouts yet, and it is still being planned.
    """
    for fund in funds_view(connection, context):
        if (fund["processor_account"], fund["currency"]) == (run.processor, run.currency):
            available = fund["available_minor"]
            return None if available is None or fund["state"] != "current" else available - fund["needed_minor"]
    return None


def _is_too_much(connection: Connection, context: Context, run: PayoutRun, now: float) -> bool:
    """Return True if the run exceeds what its actor may ask for in the window, earlier payouts and runs included."""
    limits = context.limits
    if not limits.velocity:
        return False
    asked = usage.asked(connection, "requested_by", {run.actor}, now - limits.window_seconds)
    requests = sum(row[3] for row in asked) + run.planned_payees
    amount = sum(row[2] for row in asked if row[1] == run.currency) + run.planned_minor
    most, most_minor = limits.velocity_count, limits.velocity_amount_minor
    return (most is not None and requests > most) or (most_minor is not None and amount > most_minor)


def _pay_piece(connection: Connection, context: Context, run: PayoutRun, now: float) -> PayoutRun:
    planned = runs.rows_to_pay(connection, run.run_id, run.progress, context.batches.intake)
    if not planned:
        return run.become(RunStatus.DONE, now)
    rows = _paid_rows(connection, context, run, planned)
    runs.write_rows(connection, run.run_id, rows)
    paid = [row for row in rows if not row.is_skipped]
    return replace(
        run,
        progress=planned[-1].payee_id,
        paid_payees=run.paid_payees + len(paid),
        paid_minor=run.paid_minor + sum(row.paid_minor or 0 for row in paid),
        skipped_payees=run.skipped_payees + len(rows) - len(paid),
    )


def _paid_rows(connection: Connection, context: Context, run: PayoutRun, planned: Sequence[RunRow]) -> list[RunRow]:
    """Make the payouts of these rows under the payees' locks, and return the rows with the outcome.

    A payee who has a payout of this run already keeps it.
    """
    locked = payees.load(connection, {row.payee_id for row in planned}, lock=True)
    now = context.clock(connection)
    current = {row.payee_id: row for row in _rows_now(connection, context, run, list(locked.values()), now)}
    keys = {row.payee_id: payout_key(run.run_id, row.payee_id) for row in planned}
    made = payouts.find_by_keys(connection, RUNS_CLIENT, set(keys.values()))
    rows = [row_to_pay(row, current[row.payee_id]) for row in planned]
    missing = [row for row in rows if not row.is_skipped and keys[row.payee_id] not in made]
    requests = [_request(run, row.payee_id, row.paid_minor) for row in missing]
    answers = dict(zip((row.payee_id for row in missing), accept_payouts(connection, context, requests), strict=True))
    outcome = []
    for before, row in zip(planned, rows, strict=True):
        answer = answers.get(row.payee_id)
        if (earlier := made.get(keys[row.payee_id])) is not None:
            outcome.append(_row_of_payout(connection, before, earlier["payout_id"]))
        elif answer is None:
            outcome.append(row)
        elif isinstance(answer, AcceptedPayout):
            outcome.append(replace(row, payout_id=answer.payout_id))
        else:
            carried = (row.paid_minor or 0) + row.carried_minor
            outcome.append(replace(row, code=answer.code, carried_minor=carried, paid_minor=0))
    count(PAYOUTS_ACCEPTED, by=sum(isinstance(answer, AcceptedPayout) for answer in answers.values()))
    return outcome


def _row_of_payout(connection: Connection, row: RunRow, payout_id: str) -> RunRow:
    amount = payouts.load(connection, [payout_id])[0].amount_minor
    code = RowCode.CHANGED if amount < row.amount_minor else row.code
    return replace(row, code=code, payout_id=payout_id, paid_minor=amount)


def payout_key(run_id: str, payee_id: str) -> str:
    """Return the idempotency key of a payee's payout in a run."""
    return f"run:{run_id}:{payee_id}"


def _request(run: PayoutRun, payee_id: str, amount_minor: int | None) -> PayoutRequest:
    return PayoutRequest(
        idempotency_key=payout_key(run.run_id, payee_id),
        payee_id=payee_id,
        amount_minor=amount_minor,
        currency=run.currency,
        description=f"payout {run.period or iso(run.created_at)[:10]}",
        client=RUNS_CLIENT,
        actor=run.actor,
        run_id=run.run_id,
        bulk=True,
        approved=run.approved_by is not None,
    )
