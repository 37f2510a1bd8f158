"""Compare our ledger with the processor's own records."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.processor_replies import Answer, Answered, RefundObject
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import DAYS, list_recent
from refund_worker.engine.refunds.object_ownership import sort_by_owner
from refund_worker.errors import Unavailable
from refund_worker.store import ledger
from refund_worker.store.object_ownership import references_of
from refund_worker.store.reporting import reconciliation

# Most differing legs that are asked about separately. If more legs differ, a lagging list is not the cause.
ASKED_ALONE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between our records and the processor's, or within ours.

    `ours` and `theirs` are in minor units for the kind "money"; for other kinds they are credits, counts or texts.
    """

    kind: str
    subject: str
    ours: int | str
    theirs: int | str


@dataclass(frozen=True, slots=True)
class Total:
    """The totals of one currency, in minor units."""

    currency: str
    ledger_minor: int
    processor_minor: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a comparison of `compared` legs. `differences` need a person; `in_flight` legs may differ for now.

    Two counts are of objects that are not ours. `foreign` ones have no mark: a person or other software made them.
    `other_installations` counts objects of other installations on the same account, which compare them themselves.
    `resolved` objects were not what was asked for, and a person who knew of them decided how their leg ends.

    `totals` are by currency. `ledger_minor` and `processor_minor` add all currencies up, so they are an amount of money
    only if there is one. `lines` are (leg_id, ours, theirs), in minor units.
    """

    compared: int
    differences: tuple[Difference, ...]
    in_flight: int
    foreign: int
    other_installations: int
    resolved: int
    ledger_minor: int
    processor_minor: int
    totals: tuple[Total, ...] = ()
    lines: tuple[tuple[str, int, int], ...] = field(default=(), repr=False)

    @property
    def agrees(self) -> bool:
        """Return True if there are no differences."""
        return not self.differences


def reconcile(context: Context, processor: str, days: float = DAYS) -> Report:
    """Compare our ledger with the processor's records, leg by leg, for the last `days`.

    Lists lag, and work continues meanwhile: objects of a differing leg that the list does not show are asked for one by
    one. The time and the result are recorded. Raises `Unavailable` if the processor's list cannot be read to its end.
    """
    report = _reconcile(context, processor, days)
    # The comparison only reads: its result is worth more than its record, which needs the right to write.
    with contextlib.suppress(Unavailable, DBAPIError):
        context.database.run(partial(_record, context, processor, report))
    return report


def _record(context: Context, processor: str, report: Report, connection: Connection) -> None:
    now = context.clock(connection)
    reconciliation.record(connection, processor, now, compared=report.compared, differences=len(report.differences))


def _reconcile(context: Context, processor: str, days: float) -> Report:
    since, refund_objects = list_recent(context, processor, days)
    listed = {item.processor_refund_id for item in refund_objects}
    with context.database.read() as connection:
        report = _compare(connection, processor, refund_objects, since)
        differing = [d.subject for d in report.differences if d.kind == "money"][:ASKED_ALONE_MAX]
        unseen = [o for o in reconciliation.objects_of_legs(connection, processor, differing) if o not in listed]
    if not unseen:
        return report
    found = context.run(_fetch_all(context, processor, unseen))
    more = tuple(answer.object for answer in found if isinstance(answer, Answered))
    with context.database.read() as connection:
        return _compare(connection, processor, (*refund_objects, *more), since)


async def _fetch_all(context: Context, processor: str, object_ids: Iterable[str]) -> list[Answer]:
    answers: list[Answer] = []
    for object_id in object_ids:
        await context.limiter.acquire(processor)
        answers.append(await context.processors[processor].fetch(object_id))
    return answers


def _totals(ours: Mapping[tuple[str, str], int], theirs: Mapping[tuple[str, str], int]) -> tuple[Total, ...]:
    sums: dict[str, list[int]] = {}
    for side, minor_of in enumerate((ours, theirs)):
        for (_, currency), minor in minor_of.items():
            sums.setdefault(currency, [0, 0])[side] += minor
    return tuple(Total(currency, *both) for currency, both in sorted(sums.items()))


def _compare(connection: Connection, processor: str, refund_objects: Iterable[RefundObject], since: float) -> Report:
    ours = reconciliation.money_by_leg(connection, since)
    theirs: defaultdict[tuple[str, str], int] = defaultdict(int)
    objects: defaultdict[str, int] = defaultdict(int)
    whose = sort_by_owner(connection, processor, refund_objects)
    paid_by = references_of(connection, {owned.leg_id for owned in whose.ours})
    mine = [owned.refund_object for owned in whose.ours]
    resolved = reconciliation.resolved_objects(connection, processor, [item.processor_refund_id for item in mine])
    for refund_object in (*mine, *whose.forgotten):
        if (
            refund_object.leg_id is None
            or refund_object.status != "succeeded"
            or refund_object.processor_refund_id in resolved
        ):
            continue
        # Our ledger has an object that a person named as their payment for the leg as a manual payment.
        if paid_by.get(refund_object.leg_id) != MANUAL_PREFIX + refund_object.processor_refund_id:
            theirs[refund_object.leg_id, refund_object.currency] += refund_object.amount_minor
            objects[refund_object.leg_id] += 1
    in_flight = reconciliation.open_legs(connection)
    lines = tuple((leg, ours.get((leg, its), 0), theirs.get((leg, its), 0)) for leg, its in sorted({*ours, *theirs}))
    differences = [
        Difference("money", leg, booked, reported)
        for leg, booked, reported in lines
        if booked != reported and leg not in in_flight
    ]
    differences += [Difference("refunded_twice", leg, 1, n) for leg, n in sorted(objects.items()) if n > 1]
    differences += _inner_differences(connection)
    return Report(
        compared=len(lines),
        differences=tuple(differences),
        in_flight=len(in_flight),
        foreign=len(whose.outside) - len(whose.of_other_installations),
        other_installations=len(whose.of_other_installations),
        resolved=len(resolved),
        ledger_minor=sum(ours.values()),
        processor_minor=sum(theirs.values()),
        totals=_totals(ours, theirs),
        lines=lines,
    )


def _inner_differences(connection: Connection) -> list[Difference]:
    found = [Difference("unbalanced_entry", t, "not zero", "zero") for t in ledger.unbalanced_transactions(connection)]
    found += [
        Difference("balance", customer, column, total)
        for customer, column, total in reconciliation.balances_that_differ(connection)
    ]
    clearing = reconciliation.clearing_credits(connection)
    if clearing and not reconciliation.is_any_under_way(connection):
        found.append(Difference("clearing", "credits", clearing, 0))
    return found
