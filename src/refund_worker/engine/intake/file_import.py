"""Imports of whole files, batch by batch: an unusable row is reported with its line, and the import continues.

Each batch is one commit. If a run stops midway, the same file again stores the rest and nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from refund_worker.batching import batched
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.accounts.payments import Recorded, record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.context import Context
from refund_worker.engine.payees.earnings import StoredEarning, record_earnings
from refund_worker.engine.refunds.accept import Accepted, DryRun, request_refunds
from refund_worker.errors import InvalidRequest, RefundWorkerError, Refusal, Unavailable
from refund_worker.store.reporting.failure_stats import asked_by_currency

T = TypeVar("T")
A = TypeVar("A")
Row = tuple[int, T | InvalidRequest]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was refused, and the reason."""

    line: int
    code: str
    message: str


@dataclass(slots=True)
class Imported:
    """Result of an import; `totals` are the minor units of new payments or earnings by currency, and `credits` is the
    sum of all new credits.
    """

    imported: int = 0
    unchanged: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    credits: int = 0


@dataclass(slots=True)
class Submitted:
    """Result of a file of requests; `totals` are the minor units of the newly accepted requests, by currency."""

    accepted: int = 0
    replayed: int = 0
    rejected: list[Rejected] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)


def no_progress(rows: int) -> None:
    """Ignore the progress of an import."""


def import_payments(
    context: Context, rows: Iterable[Row[PaymentRecord]], progress: Callable[[int], None] = no_progress
) -> Imported:
    """Store payments. `progress` receives the row count of each batch. Raises `Unavailable`, `UnreadableFile`."""
    report = Imported()
    for batch, answers in answered(context, rows, report.rejected, progress, lambda b: record_payments(context, b)):
        new = _count(report, batch, answers)
        for record in new:
            report.totals[record.currency] += record.amount_minor
        report.credits += sum(record.credits for record in new)
    return report


def import_spends(
    context: Context, rows: Iterable[Row[SpendRecord]], progress: Callable[[int], None] = no_progress
) -> Imported:
    """Store spends, in order. `progress` receives the row count of each batch. Raises as `import_payments`."""
    report = Imported()
    for batch, answers in answered(context, rows, report.rejected, progress, lambda b: record_spends(context, b)):
        report.credits += sum(record.credits for record in _count(report, batch, answers))
    return report


def import_earnings(
    context: Context,
    rows: Iterable[Row[EarningRecord]],
    progress: Callable[[int], None] = no_progress,
    *,
    actor: str,
) -> Imported:
    """Store earnings, in order. `progress` receives the row count of each batch. Raises as `import_payments`."""

    def take(batch: Sequence[EarningRecord]) -> list[Recorded | RefundWorkerError]:
        answers = record_earnings(context, batch, actor=actor)
        return [Recorded(answer.new) if isinstance(answer, StoredEarning) else answer for answer in answers]

    report = Imported()
    for batch, answers in answered(context, rows, report.rejected, progress, take):
        for record in _count(report, batch, answers):
            report.totals[record.currency] += record.amount_minor
    return report


def _count(report: Imported, batch: Sequence[T], answers: Sequence[object]) -> list[T]:
    """Count the answers in the report and return the records that are new."""
    new = [record for record, answer in zip(batch, answers, strict=True) if isinstance(answer, Recorded) and answer.new]
    report.imported += len(new)
    report.unchanged += sum(1 for answer in answers if isinstance(answer, Recorded) and not answer.new)
    return new


def submit_requests(
    context: Context, rows: Iterable[Row[RefundRequest]], progress: Callable[[int], None] = no_progress
) -> Submitted:
    """Accept requests, in order. `progress` receives the row count of each batch. Raises as `import_payments`."""
    report = Submitted()
    for _, answers in answered(context, rows, report.rejected, progress, lambda b: request_refunds(context, b)):
        new = _count_answers(report, answers)
        with context.database.read() as connection:
            report.totals.update(asked_by_currency(connection, new))
    return report


def try_requests(
    context: Context, rows: Iterable[Row[RefundRequest]], progress: Callable[[int], None] = no_progress
) -> Submitted:
    """Return the result that `submit_requests` would have now. Nothing is stored, and no wake-up is published.

    The customers of a batch are locked while the batch is checked.

    Each request sees the effects of those before it. Batches are read one after the other, as a submission does, so
    concurrent changes affect the later ones.
    """
    report, rehearsal = Submitted(), DryRun()

    def take(batch: Sequence[RefundRequest]) -> list[Accepted | Refusal]:
        with context.database.read() as connection:
            return rehearsal.accept_requests(connection, context, batch)

    for _, answers in answered(context, rows, report.rejected, progress, take):
        _count_answers(report, answers)
    report.totals = rehearsal.asked
    return report


def _count_answers(report: Submitted, answers: Sequence[object]) -> list[str]:
    """Count the answers in the report; return the ids of the newly accepted refunds."""
    new = [answer.refund_id for answer in answers if isinstance(answer, Accepted) and not answer.replayed]
    report.accepted += len(new)
    report.replayed += sum(1 for answer in answers if isinstance(answer, Accepted) and answer.replayed)
    return new


def answered(
    context: Context,
    rows: Iterable[Row[T]],
    rejected: list[Rejected],
    progress: Callable[[int], None],
    take: Callable[[Sequence[T]], Sequence[A | RefundWorkerError]],
) -> Iterator[tuple[list[T], Sequence[A | RefundWorkerError]]]:
    """Yield each batch's records with the answers of `take`; all refused rows are appended to `rejected`."""
    for batch in batched(rows, context.batches.intake):
        numbered = [(line, item) for line, item in batch if not isinstance(item, InvalidRequest)]
        wrong: list[tuple[int, object]] = [(line, item) for line, item in batch if isinstance(item, InvalidRequest)]
        records = [record for _, record in numbered]
        try:
            answers = take(records) if records else []
        except Unavailable as error:
            message = f"{error.message} (stopped at line {batch[0][0]}: run it again with the same file to go on)"
            raise Unavailable(message) from error
        wrong += [(line, answer) for (line, _), answer in zip(numbered, answers, strict=True)]
        for line, error_or_answer in sorted(wrong, key=lambda numbered_answer: numbered_answer[0]):
            if isinstance(error_or_answer, RefundWorkerError):
                rejected.append(Rejected(line, error_or_answer.code, error_or_answer.message))
        progress(len(batch))
        yield records, answers
