"""The debts of customers over time, read from the ledger: how far each balance was below zero, and over which payment.

The ledger's rows of a customer, in the order in which they were written, are the only source. So what is said of a past
moment does not change with what happens later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.money import proportion

OF_CLAIMS = frozenset({EntryKind.OUTSIDE_REFUND, EntryKind.CHARGEBACK, EntryKind.CLOSE})


@dataclass(frozen=True, slots=True)
class DebtPayment:
    """The payment of a claim: it says what the credits of a debt are worth."""

    processor: str
    currency: str
    amount_minor: int
    credits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceChange:
    """A row of the ledger that changes a balance by signed `credits`, written at `at` (epoch seconds).

    `payment` is that of a claim's own entry.
    """

    transaction_id: str
    customer_id: str
    kind: str
    credits: int
    refers_to: str | None
    at: float
    payment: DebtPayment | None = None

    @property
    def claim_id(self) -> str | None:
        """Return the id of the claim that this entry belongs to, if it is a claim's."""
        named = self.refers_to if self.kind == EntryKind.REVERSAL else self.transaction_id
        return (named or "").rpartition("-")[0] or None


@dataclass(frozen=True, slots=True)
class DebtMovement:
    """More money (or, negative, less) that is owed over a payment from `at` (epoch seconds) on."""

    payment: DebtPayment
    minor: int
    at: float


@dataclass(slots=True)
class _Debt:
    claim_id: str | None
    payment: DebtPayment
    credits: int

    def change(self, credits: int, at: float) -> DebtMovement:
        """Owe other credits from now on; parts are rounded so that a paid debt is worth 0."""
        was, self.credits = self.credits, credits
        p = self.payment
        now_minor, was_minor = (proportion(p.amount_minor, each, p.credits) for each in (credits, was))
        return DebtMovement(p, now_minor - was_minor, at)


@dataclass(slots=True)
class _Account:
    balance: int = 0
    at: float = 0.0
    is_over: bool = False
    debts: list[_Debt] = field(default_factory=list)
    latest: DebtPayment | None = None  # the payment of the latest claim


class Debts:
    """The debts of customers up to `end`. All rows of a customer are given in the order in which they were written."""

    def __init__(self, end: float) -> None:
        """Begin with empty balances."""
        self._end = end
        self._accounts: defaultdict[str, _Account] = defaultdict(_Account)
        self._merged: dict[str, _Account] = {}

    def read(self, row: BalanceChange) -> Iterator[DebtMovement]:
        """Yield what the row changes. A customer's rows from the first one after the end on change nothing."""
        account = self._accounts[row.customer_id]
        # A backend dates its spends itself, often before they are written.
        at = max(row.at, account.at) if row.kind == EntryKind.SPEND else row.at
        account.is_over = account.is_over or at >= self._end
        if account.is_over:
            return
        account.at = at
        if row.kind == EntryKind.MERGE:
            self._note_merge(row, account)
        if row.kind in OF_CLAIMS and row.payment is not None:
            account.latest = row.payment
        before, account.balance = account.balance, account.balance + row.credits
        owed = max(0, -account.balance) - max(0, -before)
        if owed < 0:
            yield from _pay(account, -owed, row.claim_id, at)
        elif owed > 0:
            yield from self._owe(account, owed, row, at)

    def _note_merge(self, row: BalanceChange, account: _Account) -> None:
        """Keep the debts of the merged customer until the entry of the surviving one, which follows."""
        if row.refers_to in self._merged:
            account.latest = account.latest or self._merged[row.refers_to].latest
        else:
            its = [replace(debt) for debt in account.debts]
            self._merged[row.transaction_id] = _Account(debts=its, latest=account.latest)

    def _owe(self, account: _Account, credits: int, row: BalanceChange, at: float) -> Iterator[DebtMovement]:
        merged = self._merged.pop(row.refers_to or "", None)
        for debt in reversed(merged.debts if merged else []):  # what was paid by the merge are the oldest ones
            part = min(credits, debt.credits)
            credits -= part
            if part:
                yield _add(account, debt.claim_id, debt.payment, part, at)
        # Credits that were held when the claim came, or left to an earlier spend, come off later.
        if credits and account.latest is not None:
            yield _add(account, row.claim_id, account.latest, credits, at)


def _add(account: _Account, claim_id: str | None, payment: DebtPayment, credits: int, at: float) -> DebtMovement:
    debt = _Debt(claim_id, payment, 0)
    account.debts.append(debt)
    return debt.change(credits, at)


def _pay(account: _Account, credits: int, claim_id: str | None, at: float) -> Iterator[DebtMovement]:
    """Pay the debts of the claim that gives credits back first, then the oldest."""
    for debt in sorted(account.debts, key=lambda debt: claim_id is None or debt.claim_id != claim_id):
        part = min(credits, debt.credits)
        credits -= part
        if part:
            yield debt.change(debt.credits - part, at)
    account.debts = [debt for debt in account.debts if debt.credits]
