"""Files of requests for payouts, batch by batch, as those of refunds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection

from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.engine.context import Context
from refund_worker.engine.intake.file_import import Row, Submitted, answered, no_progress
from refund_worker.engine.payouts.accept import AcceptedPayout, accept_payouts, request_payouts
from refund_worker.errors import Refusal
from refund_worker.store.payouts import payouts

_Answers = Sequence[AcceptedPayout | Refusal]


class _Rehearsed(Exception):
    """Everything was tried: the transaction is rolled back."""


def submit_payouts(
    context: Context, rows: Iterable[Row[PayoutRequest]], progress: Callable[[int], None] = no_progress
) -> Submitted:
    """Accept requests, in order. `progress` receives the row count of each batch. Raises as `import_payments`."""
    report = Submitted()
    for _, answers in answered(context, rows, report.rejected, progress, lambda b: request_payouts(context, b)):
        with context.database.read() as connection:
            _count(connection, report, answers)
    return report


def try_payouts(
    context: Context, rows: Iterable[Row[PayoutRequest]], progress: Callable[[int], None] = no_progress
) -> Submitted:
    """Return the result that `submit_payouts` would have now. Everything is stored in one transaction and rolled back.

    The payees are locked meanwhile: each request sees the effects of those before it.
    """
    reports: list[Submitted] = []

    def work(connection: Connection) -> None:
        report = Submitted()

        def take(batch: Sequence[PayoutRequest]) -> _Answers:
            return accept_payouts(connection, context, batch)

        for _, answers in answered(context, rows, report.rejected, progress, take):
            _count(connection, report, answers)
        reports.append(report)
        raise _Rehearsed

    with contextlib.suppress(_Rehearsed):
        context.database.run(work)
    return reports[-1]


def _count(connection: Connection, report: Submitted, answers: Sequence[object]) -> None:
    """Count the answers in the report, and add the amounts of the new payouts."""
    accepted = [answer for answer in answers if isinstance(answer, AcceptedPayout)]
    new = [answer.payout_id for answer in accepted if not answer.replayed]
    report.accepted += len(new)
    report.replayed += len(accepted) - len(new)
    for payout in payouts.load(connection, new):
        report.totals[payout.currency] += payout.amount_minor
