"""Payout runs: made by a person or by the schedule, approved, canceled. `drive_runs.py` plans and pays them."""

from __future__ import annotations

import logging
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain import persons as domain
from refund_worker.domain.account_names import connected_of
from refund_worker.domain.decision import SYSTEM, Event
from refund_worker.domain.payouts.runs import PayoutRun, RunRequest, RunStatus
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.run_messages import announce_run
from refund_worker.errors import (
    ActionNotAllowed,
    DestinationNotPayable,
    KeyReused,
    NotFound,
    ProcessorAccountUnknown,
    StaleVersion,
)
from refund_worker.store import timeline
from refund_worker.store.access import persons
from refund_worker.store.payouts import runs

log = logging.getLogger(__name__)

# The client of all payouts that runs make. No API key can have it, so no caller can take one of their keys.
RUNS_CLIENT = ":payout-runs"
# The actor of runs that the schedule makes.
SCHEDULE = "payout-schedule"
CREATED = "payout_run_created"  # the kind of a run's first event
# The kinds of events about what the program itself made of a run, by its new status.
_PROGRESS = {
    RunStatus.PLANNED: "payout_run_planned",
    RunStatus.AWAITING_APPROVAL: "payout_run_awaits_approval",
    RunStatus.PAYING: "payout_run_pays",
    RunStatus.DONE: "payout_run_done",
}
# Two requests are the same if these attributes are equal; each has the name of its field in a request.
BODY_FIELDS = {
    "processor": "processor_account",
    "currency": "currency",
    "minimum_minor": "minimum_minor",
    "dry_run": "dry_run",
}


def create_run(context: Context, request: RunRequest) -> tuple[PayoutRun, bool]:
    """Store a run, which the scheduler plans and pays; return it, and False if the key had made it before.

    Raises `KeyReused`, `ProcessorAccountUnknown` or `DestinationNotPayable`.
    """

    def work(connection: Connection) -> tuple[PayoutRun, bool]:
        earlier = runs.find_by_key(connection, request.client, request.idempotency_key)
        if earlier is None:
            check_account(context, request.processor)
            run = _new(context, connection, request)
            if runs.insert_run(connection, run):
                _note(connection, run, CREATED, run.actor, run.created_at)
                return run, True
            earlier = runs.find_by_key(connection, request.client, request.idempotency_key)
            assert earlier is not None, "the insert has waited for the transaction that took the key"
        different = tuple(
            field for name, field in BODY_FIELDS.items() if getattr(earlier, name) != getattr(request, name)
        )
        if different:
            raise KeyReused(request.idempotency_key, different)
        return earlier, False

    run, new = context.database.run(work)
    if new:
        log.info("payout run created", extra={"run_id": run.run_id, "actor": run.actor, "client": run.client})
    return run, new


def check_account(context: Context, name: str) -> None:
    """Check that the account exists and has payouts. Raises `ProcessorAccountUnknown` or `DestinationNotPayable`."""
    account = None if connected_of(name) else context.accounts.get(name)
    if account is None:
        found = f"there is no account {name} here: it is one of {', '.join(context.accounts)}"
        raise ProcessorAccountUnknown(found, field="processor_account")
    if account.entry.payouts is None:
        raise DestinationNotPayable(f"{name} has no payouts", field="processor_account")


def _new(context: Context, connection: Connection, request: RunRequest, period: str | None = None) -> PayoutRun:
    now = context.clock(connection)
    return PayoutRun(
        run_id=context.new_id("run"),
        client=request.client,
        idempotency_key=request.idempotency_key if period is None else None,
        processor=request.processor,
        currency=request.currency,
        minimum_minor=request.minimum_minor,
        dry_run=request.dry_run,
        status=RunStatus.PLANNING,
        actor=request.actor,
        created_at=now,
        updated_at=now,
        period=period,
    )


def approve_run(
    context: Context, run_id: str, *, actor: str, reason: str, version: int | None = None, client: str | None = None
) -> PayoutRun:
    """Let a run pay that awaits approval; return it. With `client`, only its own runs are visible.

    Raises `NotFound`, `StaleVersion`, and `ActionNotAllowed` if it does not await approval, or if `actor` is the person
    who made it.
    """

    def work(connection: Connection) -> PayoutRun:
        run, now = _locked(connection, run_id, version, client), context.clock(connection)
        if run.status is not RunStatus.AWAITING_APPROVAL:
            raise ActionNotAllowed(f"the payout run is {run.status}: it does not await approval")
        # For each reason to wait: the payouts of an approved run need no approval of their own.
        why = domain.why_not_approve(actor, run.actor, persons.links(connection), "payout run")
        if why is not None:
            raise ActionNotAllowed(why)
        return _decide(connection, run, RunStatus.PAYING, now, actor, reason, approved_by=actor)

    return context.database.run(work)


def cancel_run(
    context: Context, run_id: str, *, actor: str, reason: str, version: int | None = None, client: str | None = None
) -> PayoutRun:
    """Cancel a run that has not ended; return it. The payouts that it made stay, and no more are made.

    With `client`, only its own runs are visible. Raises `NotFound`, `StaleVersion`, or `ActionNotAllowed` if it has
    ended.
    """

    def work(connection: Connection) -> PayoutRun:
        run, now = _locked(connection, run_id, version, client), context.clock(connection)
        after = _decide(connection, run, RunStatus.CANCELED, now, actor, reason)
        if context.notify:
            announce_run(connection, after, now)
        return after

    return context.database.run(work)


def _locked(connection: Connection, run_id: str, version: int | None, client: str | None) -> PayoutRun:
    run = runs.lock_run(connection, run_id, client=client)
    if run is None:
        raise NotFound(f"payout run {run_id} is not known")
    if version is not None and version != run.version:
        raise StaleVersion(f"the payout run is at version {run.version} now: read it again first")
    return run


def _decide(
    connection: Connection,
    run: PayoutRun,
    status: RunStatus,
    now: float,
    actor: str,
    reason: str,
    *,
    approved_by: str | None = None,
) -> PayoutRun:
    after = replace(run.become(status, now), reason=reason, approved_by=approved_by or run.approved_by)
    kind = "payout_run_approved" if approved_by else "payout_run_canceled"
    _note(connection, after, kind, actor, now, was=run.status, reason=reason)
    return runs.write_run(connection, run, after, now)


def note_progress(connection: Connection, run: PayoutRun, after: PayoutRun, now: float) -> None:
    """Note the new status that the program gave a run: it waits for approval, pays, is planned or done."""
    codes = ", ".join(after.approval_codes) if after.status is RunStatus.AWAITING_APPROVAL else None
    kind = _PROGRESS[after.status]
    _note(connection, after, kind, SYSTEM, now, was=run.status, approval_codes=codes)


def make_scheduled_runs(context: Context) -> int:
    """Make the runs of the schedule's current period that are missing: one for each account and currency that has
    payees. Return how many were made.

    A period that passed while no scheduler was running is not made up for: the next run pays its amounts too.
    """
    if context.run_schedule.every == "off":
        return 0
    with context.database.read() as connection:
        period = context.run_schedule.period(context.clock(connection))
        pairs = [pair for pair in runs.accounts_with_payees(connection) if _has_payouts(context, pair[0])]
        missing = [pair for pair in pairs if not runs.has_period(connection, *pair, str(period))]
    return sum(_make_scheduled(context, *pair, str(period)) for pair in missing)


def _has_payouts(context: Context, name: str) -> bool:
    account = context.accounts.get(name)
    return account is not None and account.entry.payouts is not None


def _make_scheduled(context: Context, processor: str, currency: str, period: str) -> bool:
    """Make the run of a period. Return False if another scheduler was first."""
    request = RunRequest(idempotency_key="", client=RUNS_CLIENT, actor=SCHEDULE, processor=processor, currency=currency)

    def work(connection: Connection) -> bool:
        run = _new(context, connection, request, period)
        if not runs.insert_run(connection, run):
            return False
        _note(connection, run, CREATED, run.actor, run.created_at)
        return True

    made = context.database.run(work)
    if made:
        log.info("payout run created", extra={"actor": SCHEDULE, "period": period, "processor": processor})
    return made


def _note(
    connection: Connection,
    run: PayoutRun,
    kind: str,
    actor: str,
    now: float,
    *,
    was: RunStatus | None = None,
    reason: str | None = None,
    approval_codes: str | None = None,
) -> None:
    """Note an event about the run as it is now. Its detail names the run, because only the detail is sealed."""
    detail: dict[str, str | int | None] = {
        "run_id": run.run_id,
        "processor_account": run.processor,
        "currency": run.currency,
        "planned_minor": run.planned_minor,
    }
    if approval_codes is not None:
        detail["approval_codes"] = approval_codes
    event = Event(kind, actor, None, was, run.status, reason, detail)
    timeline.insert_events_about(connection, [(run.run_id, event)], now)
