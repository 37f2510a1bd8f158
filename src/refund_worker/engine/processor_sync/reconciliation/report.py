"""A whole reconciliation at once, in the memory of one process: for the end of a demo, a benchmark or a test."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import DAYS
from refund_worker.engine.processor_sync.reconciliation.compare import Lines
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference, Kind
from refund_worker.engine.processor_sync.reconciliation.phases import advance
from refund_worker.engine.processor_sync.reconciliation.progress import Counts, Progress
from refund_worker.engine.processor_sync.reconciliation.reading import Span
from refund_worker.errors import Unavailable
from refund_worker.store.reporting import reconciliation


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


def report_of(counts: Counts, differences: Collection[Difference], lines: Lines | None = None) -> Report:
    """Return the report of a reconciliation with these counts and open differences."""
    totals = tuple(Total(currency, *both) for currency, both in sorted(counts.totals.items()))
    return Report(
        compared=counts.compared,
        differences=tuple(differences),
        in_flight=counts.in_flight,
        foreign=counts.foreign,
        other_installations=counts.other_installations,
        resolved=counts.resolved,
        ledger_minor=sum(total.ledger_minor for total in totals),
        processor_minor=sum(total.processor_minor for total in totals),
        totals=totals,
        lines=tuple((leg_id, *both) for (leg_id, _), both in sorted((lines or {}).items())),
    )


def reconcile(context: Context, processor: str, days: float = DAYS) -> Report:
    """Compare our ledger with the processor's records, leg by leg, for the last `days`.

    Lists lag, and work continues meanwhile: objects on which a difference relies are asked for one by one. The time and
    the result are recorded, but not the differences. Raises `Unavailable` if the processor's list cannot be read to its
    end.
    """
    with context.database.read() as connection:
        since = float(int(context.clock(connection) - days * 86_400))
    report = compare_all(context, Span(processor, since))
    # The comparison only reads: its result is worth more than its record, which needs the right to write.
    with contextlib.suppress(Unavailable, DBAPIError):
        context.database.run(partial(_record, context, processor, report))
    return report


def compare_all(context: Context, span: Span) -> Report:
    """Compare everything and keep the differences in memory. Raises the same errors as `advance`."""
    progress, lines = Progress(), Lines()
    differences: dict[tuple[str, str, str], Difference] = {}

    def found_before(_: Connection, leg_ids: Collection[str]) -> Mapping[str, Collection[str]]:
        unrecorded = [d for d in differences.values() if d.kind == Kind.NOT_RECORDED and d.subject in leg_ids]
        return {d.subject: [d.object_id] for d in unrecorded}

    while not progress.is_done:
        step = advance(context, span, progress, found_before)
        progress = step.progress
        for leg_and_currency, (ours, theirs) in step.lines.items():
            before = lines.get(leg_and_currency, (0, 0))
            lines[leg_and_currency] = (before[0] + ours, before[1] + theirs)
        for difference in step.differences:
            differences.setdefault((difference.kind, difference.subject, difference.object_id), difference)
    return report_of(progress.counts, differences.values(), lines)


def _record(context: Context, processor: str, report: Report, connection: Connection) -> None:
    now = context.clock(connection)
    reconciliation.record(connection, processor, now, compared=report.compared, differences=len(report.differences))
