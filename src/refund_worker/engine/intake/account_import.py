"""Record the payments of a processor's own account: piece by piece, oldest time first, page by page.

Each page is recorded at once, so memory does not depend on the number of payments. A payment that was recorded before
stays as it is. An import that was stopped is continued by a run from the time that it had reached, or from its
beginning.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from refund_worker.domain.processor_replies import (
    Answer,
    ChargedPayment,
    ChargedRead,
    NotReadable,
    PaymentsPage,
)
from refund_worker.domain.self_recording import RecordingKeys, Skip, Skipped
from refund_worker.engine.accounts.payments import Recorded
from refund_worker.engine.accounts.self_recording import Outcome, record_charged
from refund_worker.engine.context import Context
from refund_worker.errors import NotFound, Unavailable
from refund_worker.store import payment_refs
from refund_worker.times import DAY

PIECE_SECONDS = 7 * DAY
SHOWN_MAX = 1_000  # skipped payments that are kept one by one; all are counted


@dataclass(frozen=True, slots=True)
class SkippedPayment:
    """A payment of the account that was not recorded, by the processor's id, and why."""

    processor_payment_id: str
    code: str
    message: str


@dataclass(slots=True)
class AccountImport:
    """Result of an import. `unchanged` payments were recorded before. `skipped` counts the others by code, and
    `details` are the first of them that a person should look at. `totals` are minor units by currency. All payments
    before `reached` (epoch seconds) are done.
    """

    imported: int = 0
    unchanged: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    details: list[SkippedPayment] = field(default_factory=list)
    totals: Counter[str] = field(default_factory=Counter)
    reached: float = 0.0

    @property
    def needs_a_look(self) -> int:
        """Return how many captured payments were not recorded."""
        return sum(self.skipped.values()) - self.skipped[Skip.NOT_CAPTURED]


def no_progress(report: AccountImport) -> None:
    """Ignore the progress of an import."""


def import_account(
    context: Context,
    processor: str,
    since: float,
    keys: RecordingKeys,
    *,
    calls_per_second: float = 0,
    dry_run: bool = False,
    progress: Callable[[AccountImport], None] = no_progress,
) -> AccountImport:
    """Record the payments that the account made since then (epoch seconds). `progress` is called after each page.

    It makes at most `calls_per_second`; 0 is no limit.

    Raises `NotFound` for a processor that is not set up, and `Unavailable`, with the time that was reached, if it does
    not list all of its payments.
    """
    if processor not in context.processors:
        raise NotFound(f"no access to {processor} is set up here")
    with context.database.read() as connection:
        end = context.clock(connection) + 1
    report = AccountImport(reached=float(int(since)))
    calls = _Calls(context, processor, calls_per_second)
    while report.reached < end:
        until = report.reached + PIECE_SECONDS
        after: str | None = None
        while True:
            page = _page(calls, report.reached, until, after)
            payments = _completed(calls, page.payments, keys)
            outcomes = record_charged(context, processor, payments, keys, recorded_by="import", dry_run=dry_run)
            _count(report, payments, outcomes)
            progress(report)
            if page.after is None:
                break
            after = page.after
        report.reached = until
    report.reached = end
    return report


class _Calls:
    """Calls of one processor, at most so many in a second."""

    def __init__(self, context: Context, processor: str, per_second: float) -> None:
        self.context, self.name = context, processor
        self.processor = context.processors[processor]
        self._interval = 1 / per_second if per_second > 0 else 0.0
        self._next = 0.0

    def ask(self, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask in turn and return the answer."""

        async def wait_and_ask() -> list[Answer]:
            now = self.context.monotonic()
            self._next = max(now, self._next) + self._interval
            await asyncio.sleep(self._next - self._interval - now)
            return [await question()]

        answer: Answer = self.context.run(wait_and_ask())[0]
        return answer

    def failed(self, what: str, reply: object) -> Unavailable:
        """Return the error for a reply without an answer."""
        why = getattr(reply, "message", None) or getattr(reply, "reason", None) or getattr(reply, "code", None)
        return Unavailable(f"{self.name} did not {what}: {why}")


def _page(calls: _Calls, since: float, until: float, after: str | None) -> PaymentsPage:
    start, stop = (datetime.fromtimestamp(at, UTC) for at in (since, until))
    reply = calls.ask(lambda: calls.processor.recent_payments(start, stop, after))
    if isinstance(reply, PaymentsPage):
        return reply
    raise calls.failed(f"list its payments of {start:%Y-%m-%d} and later, where --since can go on", reply)


def _completed(calls: _Calls, payments: Sequence[ChargedPayment], keys: RecordingKeys) -> list[ChargedPayment]:
    """Return the payments, with all their metadata where the list has only a part and the keys are not in it.

    Raises `Unavailable` if one could not be asked for: its metadata may have the keys.
    """
    refs = [ref for payment in payments for ref in payment.payment_refs]
    with calls.context.database.read() as connection:
        known = payment_refs.payments_of_refs(connection, calls.name, refs)
    found = []
    for payment in payments:
        if payment.complete or keys.are_in(payment) or known.keys() & set(payment.payment_refs):
            found.append(payment)
            continue
        reply = calls.ask(partial(calls.processor.fetch_payment, payment.processor_payment_id))
        if not isinstance(reply, ChargedRead | NotReadable):
            raise calls.failed(f"show its payment {payment.processor_payment_id}", reply)
        found.append(reply.payment if isinstance(reply, ChargedRead) else payment)
    return found


def _count(report: AccountImport, payments: Sequence[ChargedPayment], outcomes: Sequence[Outcome]) -> None:
    for payment, outcome in zip(payments, outcomes, strict=True):
        if isinstance(outcome, Recorded):
            report.imported += outcome.new
            report.unchanged += not outcome.new
            if outcome.new:
                report.totals[payment.currency] += payment.captured_minor
            continue
        code = outcome.skip.value if isinstance(outcome, Skipped) else outcome.code
        report.skipped[code] += 1
        if code != Skip.NOT_CAPTURED and len(report.details) < SHOWN_MAX:
            report.details.append(SkippedPayment(payment.processor_payment_id, code, outcome.message))
