"""The monthly statement of money by currency: opening figures, movements, and closing figures that must add up."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.claims.debts import Debts
from refund_worker.domain.ledger import DISPUTES, REFUNDS
from refund_worker.domain.money import proportion
from refund_worker.domain.refund import FINAL, LegStatus, RefundStatus
from refund_worker.engine.context import Context
from refund_worker.errors import InvalidRequest
from refund_worker.processors.base import ReadsTransactions
from refund_worker.store import payment_refs
from refund_worker.store.reporting import statements

_MONTH = re.compile(r"(20[0-9]{2}|21[0-9]{2})-(0[1-9]|1[0-2])")
PIECE = 1_000
# The figures of a statement. `not_paid` is money that was accepted and will not be paid by its refund any more.
FIGURES = ("accepted", "paid", "not_paid", "in_flight", "outside", "disputes", "written_off", "debts")


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one currency in minor units: before the month, its change in the month, and after it."""

    currency: str
    figure: str
    opening_minor: int
    movement_minor: int
    closing_minor: int


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement of one month in UTC, for one processor account or (None) for all.

    `is_over` is False while the month lasts: its closing figures are those of now. `disagreements` are the currencies
    for which the figures do not add up.
    """

    month: str
    processor_account: str | None
    is_over: bool
    lines: tuple[Line, ...]
    disagreements: tuple[str, ...]


def month_bounds(month: str) -> tuple[float, float]:
    """Return the first second of the month and of the next one (epoch seconds, UTC). Raises `InvalidRequest`."""
    if not _MONTH.fullmatch(month):
        raise InvalidRequest(f"{month!r} is no month: write it as 2026-10", field="month")
    year, number = int(month[:4]), int(month[5:])
    following = (year + 1, 1) if number == 12 else (year, number + 1)
    begin, end = (datetime(*first, 1, tzinfo=UTC).timestamp() for first in ((year, number), following))
    return begin, end


def accounts_of(context: Context, processor: str | None) -> list[str]:
    """Return the processor accounts of a statement: this one, or all that have payments or can be compared.

    Raises `InvalidRequest` for an account that does not exist.
    """
    with context.database.read() as connection:
        named = payment_refs.processor_names(connection)
    if processor is None:
        readable = (name for name, its in context.processors.items() if isinstance(its, ReadsTransactions))
        return sorted({*named, *readable})
    if processor not in named and processor not in context.accounts:
        raise InvalidRequest(f"there is no processor account {processor}", field="processor_account")
    return [processor]


def make_statement(context: Context, month: str, processor: str | None = None) -> Statement:
    """Return the statement of a month. Refunds are read in pieces.

    Raises `InvalidRequest` for a wrong month or processor account.
    """
    begin, end = month_bounds(month)
    accounts_of(context, processor)
    with context.database.read() as connection:
        now = context.clock(connection)
    if begin > now:
        raise InvalidRequest(f"the month {month} has not begun", field="month")
    sums = _Sums(begin, whole=processor is None)
    after, more = "", True
    while more:
        with context.database.read() as connection:
            found = statements.refunds_before(connection, end, after, PIECE)
            ids = [row["refund_id"] for row in found]
            accepted = {row["refund_id"]: row["created_at"] for row in found}
            for row in statements.asked_of(connection, ids, processor):
                sums.ask(row["refund_id"], row["currency"], int(row["minor"]), accepted[row["refund_id"]])
            for row in statements.paid_of(connection, ids, processor, end):
                sums.pay(row["refund_id"], row["currency"], int(row["minor"]), row["occurred_at"])
            for row in statements.statuses_of(connection, ids, end):
                sums.note_status(row["leg_id"] or row["refund_id"], row["to_status"], row["at"])
            sums.end_piece(statements.legs_of(connection, ids, processor))
        after, more = ids[-1] if ids else "", len(ids) == PIECE
    with context.database.read() as connection:
        for row in statements.claimed(connection, processor, end):
            figure = "disputes" if row["account"] == DISPUTES else "outside"
            sums.add(figure, row["currency"], row["minor"], row["occurred_at"])
        _add_shortfalls(connection, sums, processor, end)
        if processor is None:
            sums.check_ledger(statements.money_sums(connection, begin, end))
    return Statement(month, processor, end <= now, sums.lines(), sums.disagreements())


def _add_shortfalls(connection: Connection, sums: _Sums, processor: str | None, end: float) -> None:
    """Add what was written off, and the debts: balances below zero."""
    decided = statements.decided_at(connection)
    for row in statements.written_off(connection, processor, end):
        at = decided.get(row["claim_id"], row["at"]) if row["decided_by"] else row["at"]
        if at < end:
            minor = proportion(row["amount_minor"], row["missing"], row["credits"])
            sums.add("written_off", row["currency"], minor, at)
    debts = Debts(end)
    for change in statements.balance_changes(connection):
        for moved in debts.read(change):
            if processor in (None, moved.payment.processor):
                sums.add("debts", moved.payment.currency, moved.minor, moved.at)


class _Sums:
    """The figures before the month and at its end, by name and currency."""

    def __init__(self, begin: float, *, whole: bool) -> None:
        """Begin at zero. `whole`: all accounts are counted, so that each refund must add up for itself."""
        self._begin, self._whole = begin, whole
        self._wrong: set[str] = set()
        self._before: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._after: defaultdict[tuple[str, str], int] = defaultdict(int)
        # Of one piece: the money that is asked and not paid, and the refund's status, before and after.
        self._open: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        self._paid: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        # The status of a refund or of a leg, by its id.
        self._status: defaultdict[str, list[str]] = defaultdict(lambda: ["", ""])

    def add(self, figure: str, currency: str, minor: int, at: float) -> None:
        """Add a movement at `at`."""
        self._after[figure, currency] += minor
        if at < self._begin:
            self._before[figure, currency] += minor

    def ask(self, refund_id: str, currency: str, minor: int, at: float) -> None:
        """Add accepted money."""
        self.add("accepted", currency, minor, at)
        self._count(refund_id, currency, minor, at)

    def pay(self, refund_id: str, currency: str, minor: int, at: float) -> None:
        """Add money that was paid out, or (negative) came back."""
        self.add("paid", currency, minor, at)
        self._count(refund_id, currency, -minor, at)
        self._paid[refund_id, currency][1] += minor
        if at < self._begin:
            self._paid[refund_id, currency][0] += minor

    def _count(self, refund_id: str, currency: str, minor: int, at: float) -> None:
        self._open[refund_id, currency][1] += minor
        if at < self._begin:
            self._open[refund_id, currency][0] += minor

    def note_status(self, its_id: str, status: str, at: float) -> None:
        """Note a status of the refund or leg; the last one counts."""
        self._status[its_id][1] = status
        if at < self._begin:
            self._status[its_id][0] = status

    def end_piece(self, legs: Iterable[RowMapping]) -> None:
        """Add what the refunds of a piece have open, by whether they have ended. `legs` are all of theirs.

        The ledger must have paid exactly the money of the legs that had succeeded by then.
        """
        for leg in legs:
            for moment, status in enumerate(self._status[leg["leg_id"]]):
                if status == LegStatus.SUCCEEDED:
                    self._paid[leg["refund_id"], leg["currency"]][moment] -= leg["minor"]
        self._wrong |= {currency for (_, currency), differs in self._paid.items() if any(differs)}
        for (refund_id, currency), (before, after) in self._open.items():
            was, now = self._status[refund_id]
            self._before["not_paid" if was in FINAL else "in_flight", currency] += before
            self._after["not_paid" if now in FINAL else "in_flight", currency] += after
            # Another processor account may have paid what this one was asked for.
            if self._whole and (min(before, after) < 0 or (now == RefundStatus.SUCCEEDED and after)):
                self._wrong.add(currency)
        self._open.clear()
        self._paid.clear()
        self._status.clear()

    def check_ledger(self, rows: Iterable[RowMapping]) -> None:
        """Compare the figures with the sums of the ledger's accounts, which are read past refunds, legs and claims.

        The money of all accounts sums to zero.
        """
        left: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for row in rows:
            for moment, name in enumerate(("before", "after")):
                left["entries", row["currency"]][moment] += int(row[name])
                if row["account"] in (REFUNDS, DISPUTES):
                    left[row["account"], row["currency"]][moment] += int(row[name])
        for moment, figures in enumerate((self._before, self._after)):
            for (figure, currency), minor in figures.items():
                if figure in ("paid", "outside", "disputes"):
                    left[DISPUTES if figure == "disputes" else REFUNDS, currency][moment] -= minor
        self._wrong |= {currency for (_, currency), differs in left.items() if any(differs)}

    def _currencies(self) -> list[str]:
        return sorted({currency for _, currency in self._after})

    def lines(self) -> tuple[Line, ...]:
        """Return every figure of every currency."""
        found = []
        for currency in self._currencies():
            for figure in FIGURES:
                opening, closing = self._before[figure, currency], self._after[figure, currency]
                found.append(Line(currency, figure, opening, closing - opening, closing))
        return tuple(found)

    def disagreements(self) -> tuple[str, ...]:
        """Return the currencies in which the ledger paid other money than the legs, or a refund other than accepted.

        Each refund is counted so that the accepted money is all paid, in flight, or ended without payment.
        """
        return tuple(sorted(self._wrong))
