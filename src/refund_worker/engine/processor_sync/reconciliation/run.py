"""Reconciliations that are stored: begun by a person, and run piece by piece by any process.

Each piece is a transaction of its own: what it found, and the place that it reached. A process that dies loses at most
one piece, which the next process reads again; so the report is the same as without the death.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial

from sqlalchemy import Connection, RowMapping

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.processor_replies import Denied
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import DAYS, ListDenied, NotListed
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.phases import Step, advance
from refund_worker.engine.processor_sync.reconciliation.progress import Progress
from refund_worker.engine.processor_sync.reconciliation.reading import Span
from refund_worker.engine.refunds.circuit import denials, open_circuits
from refund_worker.errors import InvalidRequest
from refund_worker.store import reconciliations as store
from refund_worker.store.database import after_commit
from refund_worker.store.reporting import reconciliation as latest

log = logging.getLogger(__name__)

# A piece is read within this time even at a low rate; another process takes over after it.
LEASE_SECONDS = 300.0
# The longest turn of the scheduler's job, so that an end of the process need not wait for a long reconciliation.
TURN_SECONDS = 20.0
DAYS_MAX = 3_660
NAMED_MAX = 5


def start_reconciliation(
    context: Context, processor: str, *, since: float | None, until: float | None, actor: str
) -> str:
    """Store a new reconciliation of this time (the processor's clock, epoch seconds), and return its id.

    Without `since` it begins `DAYS` before `until` or now, whichever is earlier, and without `until` it has no end.
    Raises `InvalidRequest` for a processor that lists no refunds, or for a time in which nothing was made yet.
    """
    if not context.accounts.lists(processor):
        known = ", ".join(context.accounts.with_lists())
        raise InvalidRequest(
            f"only accounts that list their refunds can be compared: {known}", field="processor_account"
        )

    def work(connection: Connection) -> str:
        now = context.clock(connection)
        begin = min(now if until is None else until, now) - DAYS * 86_400 if since is None else since
        if until is not None and begin >= until:
            raise InvalidRequest("since must be before until", field="since")
        if begin >= now:
            raise InvalidRequest("since must be in the past: nothing was made after now", field="since")
        if begin < now - DAYS_MAX * 86_400:
            raise InvalidRequest(f"since is at most {DAYS_MAX} days ago", field="since")
        reconciliation_id = context.new_id("rec")
        store.insert(
            connection,
            {
                "reconciliation_id": reconciliation_id,
                "processor": processor,
                "since": begin,
                "until": until,
                "status": store.QUEUED,
                "progress": Progress().as_json(),
                "actor": actor,
                "created_at": now,
                "updated_at": now,
            },
        )
        return reconciliation_id

    return context.database.run(work)


def run_due(context: Context) -> int:
    """Run pieces of the oldest unfinished reconciliation for some seconds; return how many.

    Raises `ListDenied` or `NotListed` if the processor does not answer; the reconciliation is tried again later.
    """
    began, pieces = context.monotonic(), 0
    while context.monotonic() - began < TURN_SECONDS and run_piece(context) is not None:
        pieces += 1
    return pieces


def run_to_end(context: Context, reconciliation_id: str, show: Callable[[RowMapping], object]) -> RowMapping:
    """Run a reconciliation to its end in this process and return it. `show` gets its row after each piece.

    If another process works on it, its pieces are waited for. Raises `ListDenied` or `NotListed`.
    """
    while True:
        if run_piece(context, reconciliation_id) is None:
            time.sleep(0.2)
        with context.database.read() as connection:
            row = store.find(connection, reconciliation_id)
        assert row is not None  # nothing is deleted
        show(row)
        if row["ended_at"] is not None:
            return row


def run_piece(context: Context, only: str | None = None) -> str | None:
    """Run one piece of the oldest reconciliation, or of `only` this one; return its id, or None if there is nothing.

    Raises `ListDenied` or `NotListed`.
    """
    token = context.new_id("lease")

    def take(connection: Connection) -> RowMapping | None:
        now = context.clock(connection)
        found = store.claim(connection, now, token=token, until=now + LEASE_SECONDS, only=only)
        return None if found is None else store.find(connection, found)

    row = context.database.run(take)
    if row is None:
        return None
    reconciliation_id: str = row["reconciliation_id"]
    span = Span(row["processor"], row["since"], row["until"])
    try:
        step = advance(context, span, Progress.of(row["progress"]), partial(_found_before, reconciliation_id))
    except NotListed as error:
        context.database.run(partial(_postpone, context, reconciliation_id, token, error))
        raise
    context.database.run(partial(_store, context, reconciliation_id, token, step))
    return reconciliation_id


def _found_before(
    reconciliation_id: str, connection: Connection, leg_ids: Collection[str]
) -> Mapping[str, Collection[str]]:
    return store.unrecorded_objects(connection, reconciliation_id, leg_ids)


def _store(context: Context, reconciliation_id: str, token: str, step: Step, connection: Connection) -> None:
    """Store a piece, unless another process has taken the reconciliation over meanwhile."""
    row = store.find(connection, reconciliation_id, lock=True)
    if row is None or row["lease_token"] != token:
        return
    now = context.clock(connection)
    found = store.add_differences(connection, row, [asdict(d) for d in step.differences], now)
    is_done = step.progress.is_done
    store.change(
        connection,
        reconciliation_id,
        progress=step.progress.as_json(),
        status=store.DONE if is_done else store.RUNNING,
        updated_at=now,
        ended_at=now if is_done else None,
        lease_until=None,
        lease_token=None,
        problem=None,
    )
    after_commit(connection, partial(_raise_alarm, reconciliation_id, step.differences))
    if is_done:
        by_state = store.counts(connection, [reconciliation_id])[reconciliation_id]
        open_ = sum(number for (_, state), number in by_state.items() if state == store.OPEN)
        latest.record(connection, row["processor"], now, compared=step.progress.counts.compared, differences=open_)
        log.info("reconciliation %s has ended: %d differences", reconciliation_id, found)


def _raise_alarm(reconciliation_id: str, differences: Collection[Difference]) -> None:
    """Raise an alarm if our own sums disagree: only a person can repair them."""
    rows = [d for d in differences if d.kind == Kind.LEDGER]
    if rows:
        named = "; ".join(f"{d.subject}: {d.detail}" for d in rows[:NAMED_MAX])
        more = f"; and {len(rows) - NAMED_MAX} more" if len(rows) > NAMED_MAX else ""
        text = "our own sums disagree (reconciliation %s): %s"
        raise_alarm(log, Alarm.LEDGER_DIFFERS, text, reconciliation_id, named + more)


def _postpone(context: Context, reconciliation_id: str, token: str, error: NotListed, connection: Connection) -> None:
    """Release the reconciliation with the reason, and note if the processor does not accept our set-up."""
    row = store.find(connection, reconciliation_id, lock=True)
    if row is not None and row["lease_token"] == token:
        store.change(connection, reconciliation_id, problem=error.message, lease_until=None, lease_token=None)
    if isinstance(error, ListDenied):
        denied: list[tuple[str, Denied]] = [(error.processor, error.denied)]
        open_circuits(connection, denials(denied), context.clock(connection))
