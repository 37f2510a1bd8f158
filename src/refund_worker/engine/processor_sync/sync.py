"""Synchronise with a processor's own list: find changed statuses, and refunds that this database has forgotten.

Every minute the recent refunds are listed, and every hour all that can still change. So a failure that comes weeks
after success is found even if every webhook was lost.

A database restored from an older backup has forgotten refunds that the processor has made: then nothing is sent. The
time of the last listing is stored in the database. A restored database is therefore as old as this time says, and it
sends nothing until the processor has been listed again. Objects that the processor made for known legs are adopted.
The same holds
after a standby was promoted, which may lack the last commits: the server of the last listing is stored too.
Objects that it made for unknown legs of this installation stop all sending with the code `restored_backup`, until a
newer backup is restored or a person runs `processors resume`. Refunds of other installations on the same account do not
stop sending.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.batching import batched
from refund_worker.domain.decision import Event, Policy
from refund_worker.domain.mismatch import is_mismatched, mismatch, mismatched_status
from refund_worker.domain.processor_calls import RecordedReply
from refund_worker.domain.processor_replies import Answered, RefundObject
from refund_worker.domain.refund import UNPAID_OBJECT_STATES, ObjectReport
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.dispute_sync import DISPUTES, WARNINGS, ListSync
from refund_worker.engine.processor_sync.listing import DAYS, ListDenied, list_recent
from refund_worker.engine.refunds.circuit import close_circuit, stop_denied
from refund_worker.engine.refunds.object_ownership import not_as_asked, sort_by_owner
from refund_worker.engine.refunds.payment_names import learn_names
from refund_worker.engine.refunds.replies import record_replies
from refund_worker.engine.refunds.send_gate import stale_processors
from refund_worker.store import payment_refs, payments, processors, refunds, timeline
from refund_worker.store.database import after_commit
from refund_worker.store.installation import server_of
from refund_worker.store.refund_objects import known_reports
from refund_worker.store.waiting import requeue_waiting_for

log = logging.getLogger(__name__)

RESTORED = "restored_backup"
SYNC_SECONDS_MIN = 5.0
DAY_SECONDS = 86_400.0
# New refunds appear in lists late, and two clocks differ. A refund that appears even later is found by the hourly
# listing. A busy account makes a page of refunds every few seconds: an hour's overlap would be hundreds of pages every
# minute.
OVERLAP_SECONDS = 600.0
# For each transaction: after a long outage there are many updates, and other processes need to write too.
UPDATES_PER_TRANSACTION = 500


def sync_interval_seconds(poll_seconds: float) -> float:
    """Return the seconds between listings: there are several before a listing is stale."""
    return max(SYNC_SECONDS_MIN, poll_seconds / 5)


def sync_recent(context: Context, processor: str, *, ends_circuit: bool = False) -> int:
    """Record what the processor made recently; return the number of our refunds there that are unknown here.

    `ends_circuit` says that a list which can be read shows a repaired set-up: then sending is tried again at once.
    Raises `Unavailable` if its list cannot be read to its end; then the last listing only gets older.
    """
    if processor not in context.processors:
        return 0
    with context.database.read() as connection:
        began = context.clock(connection)
        listed_at, _ = processors.last_listing(connection, processor)
        server = server_of(connection)
    days = float(DAYS)
    # After the clock went back, a time in the future does not show how old the last listing is.
    if listed_at is not None and listed_at <= began + CLOCK_SLACK_SECONDS:
        days = (began - listed_at + OVERLAP_SECONDS) / DAY_SECONDS
    found = _read(context, processor, min(days, DAYS))

    def requeue(connection: Connection) -> None:
        """Re-queue refunds that were postponed because the last listing was too old when they were claimed."""
        now = context.clock(connection)
        if processor in stale_processors(connection, context, now):
            requeue_waiting_for(connection, processor, now)

    def note(connection: Connection) -> None:
        requeue(connection)  # again: for refunds that were postponed since
        processors.record_listing(connection, processor, began, server)
        if ends_circuit:
            close_circuit(connection, processor, began, context.clock(connection))

    context.database.run(requeue)
    _record(context, processor, found)
    context.database.run(note)
    return len(found.unknown)


class RecentSync:
    """A schedule of listings: one at each interval, and one at once if sends wait for it, as they do after a pause."""

    def __init__(self) -> None:
        self._tried_at = -math.inf
        self._was_answered = True
        # False until the first list of this process, which may have been started with a new key, and after a refusal.
        self._is_accepted = False
        self._others = (ListSync(DISPUTES), ListSync(WARNINGS))

    def sync_when_due(self, context: Context, processor: str) -> int:
        """Call `sync_recent` if it is due and return its result, else 0.

        A list that could not be read is not asked for sooner than any other.
        """
        now = context.monotonic()
        if now - self._tried_at < sync_interval_seconds(context.policy.poll_seconds):
            with context.database.read() as connection:
                stale = stale_processors(connection, context, context.clock(connection))
            if processor not in stale or not self._was_answered:
                return 0
        self._tried_at, self._was_answered = now, False
        with self._noticing_refusal():
            unknown = sync_recent(context, processor, ends_circuit=not self._is_accepted)
        for listing in self._others:
            listing.sync_recent(context, processor)
        self._was_answered = self._is_accepted = True
        return unknown

    def sync_all(self, context: Context, processor: str) -> int:
        """Call `sync_all` and return its result. If its list is refused, the next one that is due ends the circuit."""
        with self._noticing_refusal():
            found = sync_all(context, processor)
        for listing in self._others:
            listing.sync_all(context, processor)
        return found

    @contextmanager
    def _noticing_refusal(self) -> Iterator[None]:
        try:
            yield
        except ListDenied:
            self._is_accepted = False
            raise


def sync_all(context: Context, processor: str, days: float = DAYS) -> int:
    """Record every new status of refunds made in the last `days`; return how many statuses were new.

    Raises `Unavailable` if the list cannot be read to its end.
    """
    if processor not in context.processors:
        return 0
    found = _read(context, processor, days)
    _record(context, processor, found)
    return len(found.news)


@dataclass(frozen=True, slots=True)
class _Found:
    """The findings in a processor's list.

    `news` are new statuses. `unknown` are refunds of this installation with legs that are unknown here. `elsewhere`
    are the payments that others refunded, by the processor's ids for them, and `outside` are those refunds. `names` are
    all ids of each payment, if one of them is new.
    """

    news: Sequence[RecordedReply]
    unknown: Sequence[RefundObject]
    elsewhere: frozenset[str]
    names: frozenset[tuple[str, ...]]
    outside: Sequence[RefundObject]


def _read(context: Context, processor: str, days: float) -> _Found:
    # Read the list first and our legs second: legs are committed before anything is sent for them.
    try:
        _, refund_objects = list_recent(context, processor, days)
    except ListDenied as error:
        stop_denied(context, [(processor, error.denied)])
        raise
    return _compare(context, processor, refund_objects)


def record_objects(context: Context, processor: str, refund_objects: Sequence[RefundObject]) -> None:
    """Record what these objects of a processor say that is new, as those of a list."""
    _record(context, processor, _compare(context, processor, refund_objects))


def _compare(context: Context, processor: str, refund_objects: Sequence[RefundObject]) -> _Found:
    with context.database.read() as connection:
        return _classify(connection, context.policy, processor, refund_objects)


def _classify(connection: Connection, policy: Policy, processor: str, refund_objects: Sequence[RefundObject]) -> _Found:
    whose = sort_by_owner(connection, processor, refund_objects)
    names = frozenset(item.payment_refs for item in refund_objects if len(item.payment_refs) > 1)
    ours = {owned.refund_object.processor_refund_id: owned for owned in whose.ours}
    reports = known_reports(connection, processor, ours)
    known = {object_id: report.status for object_id, report in reports.items()}
    new = [owned for object_id, owned in ours.items() if _is_new(owned.refund_object, reports.get(object_id))]
    places = {owned.leg_id: owned.refund_id for owned in new}
    alerted = _already_alerted(connection, policy, [owned.refund_object for owned in new], known, places)
    _, alerted_until = processors.last_listing(connection, processor)
    return _Found(
        news=[
            RecordedReply(owned.refund_id, owned.leg_id, None, Answered(owned.refund_object))
            for owned in new
            if owned.refund_object.processor_refund_id not in alerted
        ],
        unknown=[item for item in whose.forgotten if item.created_at.timestamp() > (alerted_until or 0)],
        elsewhere=frozenset(
            ref
            for item in (*whose.outside, *whose.forgotten, *not_as_asked(connection, whose.ours))
            if item.status not in UNPAID_OBJECT_STATES
            for ref in item.payment_refs
        ),
        names=names if payment_refs.has_new_refs(connection, processor, names) else frozenset(),
        outside=(*whose.outside, *whose.linked),
    )


def _is_new(refund_object: RefundObject, earlier: ObjectReport | None) -> bool:
    """Return True if the object has another status than in our records, or says more about where its money is."""
    if earlier is None or earlier.status != refund_object.status:
        return True
    return refund_object.details.after(earlier.details) != earlier.details


def _already_alerted(
    connection: Connection,
    policy: Policy,
    refund_objects: Iterable[RefundObject],
    known: Mapping[str, str | None],
    places: Mapping[str, str],
) -> frozenset[str]:
    """Return ids of mismatched objects that were reported to a person and have not changed since."""
    mismatched = [
        item for item in refund_objects if item.leg_id in places and is_mismatched(known.get(item.processor_refund_id))
    ]
    loaded = refunds.load(connection, list({places[item.leg_id] for item in mismatched if item.leg_id}))
    legs = {leg.leg_id: leg for refund in loaded for leg in refund.legs}
    faults = {
        item: mismatch(legs[item.leg_id], item, policy.rules_of(legs[item.leg_id].processor).live)
        for item in mismatched
        if item.leg_id
    }
    return frozenset(
        item.processor_refund_id
        for item, fault in faults.items()
        if fault and known[item.processor_refund_id] == mismatched_status(item, fault)
    )


def _record(context: Context, processor: str, found: _Found) -> None:
    """Record the findings. Unknown refunds come first: nothing may be sent between finding them and the stop."""
    if found.unknown:
        context.database.run(lambda c: _stop(c, processor, found.unknown, context.clock(c)))
    if found.names:  # before marks are set by these names
        context.database.run(lambda c: learn_names(c, processor, found.names))
    if found.elsewhere:
        context.database.run(lambda c: payments.mark_refunded_elsewhere(c, processor, sorted(found.elsewhere)))
    for some in batched(found.news, UPDATES_PER_TRANSACTION):
        record_replies(context, some)
    record_outside_refunds(context, processor, found.outside)


def _stop(connection: Connection, processor: str, unknown: Sequence[RefundObject], now: float) -> None:
    newest = max(unknown, key=lambda refund_object: refund_object.created_at)
    reason = (
        f"{len(unknown)} refunds of ours at {processor} are missing in this database, the newest is "
        f"{newest.processor_refund_id} for {newest.leg_id}: the database was restored from an older backup, "
        "or a copy of it sends too. Do not resume before you have followed the section Restore of the operations "
        "page: the missing refunds could be paid twice"
    )
    stopped = "nothing more is sent to %s: %s"
    after_commit(connection, lambda: raise_alarm(log, Alarm.RESTORED_BACKUP, stopped, processor, reason, code=RESTORED))
    processors.pause(connection, processor, now, by="refund-worker", code=RESTORED, reason=reason)
    detail = {"processor": processor, "code": RESTORED}
    event = Event("processor_paused", "refund-worker", reason=reason, detail=detail, alarm=True)
    timeline.insert_events(connection, [(None, event)], now)
    processors.set_alerted(connection, processor, newest.created_at.timestamp())
