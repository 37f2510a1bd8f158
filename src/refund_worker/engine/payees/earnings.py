"""Earnings of payees, recorded as the admin backend reports them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.payouts.earnings import Earning, EarningRecord, earned, earning_posting_id
from refund_worker.domain.payouts.payee import BalanceDelta, Payee
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import run_again_once
from refund_worker.engine.payees.clawbacks import write_clawbacks
from refund_worker.errors import (
    AlreadyRecorded,
    CurrencyMismatch,
    RefundWorkerError,
    UnknownPayee,
    UnknownTransaction,
)
from refund_worker.store import accounts
from refund_worker.store import ledger as ledger_store
from refund_worker.store.ledger import is_erased
from refund_worker.store.payouts import earnings, payees


@dataclass(frozen=True, slots=True)
class StoredEarning:
    """An earning as it is now; `new` is False if it was stored before with the same body."""

    earning: Earning
    new: bool


def record_earnings(
    context: Context, records: Sequence[EarningRecord], *, actor: str
) -> list[StoredEarning | RefundWorkerError]:
    """Store earnings in one commit, in order; return one answer for each record.

    The share of credits that were returned before, of the spend that an earning came from, is clawed back at once.

    A record gets `AlreadyRecorded` if its id is stored with another body, `UnknownPayee`, `CurrencyMismatch` if the
    payee is paid in another currency, and `UnknownTransaction` if its transaction is no spend.
    """
    return run_again_once(context, lambda connection: _record(connection, context, records, actor))


def _record(
    connection: Connection, context: Context, records: Sequence[EarningRecord], actor: str
) -> list[StoredEarning | RefundWorkerError]:
    now = context.clock(connection)
    spends = ledger_store.transactions_by_id(connection, {r.transaction_id for r in records if r.transaction_id})
    # A refund of these spends that is posted meanwhile holds these locks: it sees the earning, or is seen here.
    accounts.lock_customers(connection, {row["customer_id"] for row in spends.values() if row["customer_id"]})
    known_payees = payees.load(connection, {r.payee_id for r in records}, lock=True)
    known = earnings.earnings_by_id(connection, {r.earning_id for r in records})
    new: dict[str, Earning] = {}
    answers: list[StoredEarning | RefundWorkerError] = []
    for record in records:
        stored = known.get(record.earning_id)
        refusal = _refusal(record, known_payees.get(record.payee_id), spends) if stored is None else None
        if refusal is not None:
            answers.append(refusal)
        elif stored is None:
            made = record.earning(now, context.policy.earnings_hold_seconds)
            known[record.earning_id] = new[record.earning_id] = made
            answers.append(StoredEarning(made, new=True))
        elif stored.record == record or stored.record == _erased_record(connection, record):
            answers.append(StoredEarning(stored, new=False))
        else:
            answers.append(AlreadyRecorded(f"earning {record.earning_id} is already recorded with another body"))
    changed = _store(connection, context, list(new.values()), actor, now)
    return [_as_it_is(answer, changed) for answer in answers]


def _erased_record(connection: Connection, record: EarningRecord) -> EarningRecord:
    """Return the record as it is stored if its description was erased: that cannot be compared any more."""
    entry_id = earning_posting_id(record.earning_id)
    row = ledger_store.transactions_by_id(connection, [entry_id]).get(entry_id)
    return replace(record, description="") if row is not None and is_erased(row) else record


def _store(
    connection: Connection, context: Context, new: Sequence[Earning], actor: str, now: float
) -> dict[str, Earning]:
    """Store new earnings, and return those of which something is clawed back at once, by id."""
    earnings.insert_earnings(connection, new)
    ledger_store.insert_postings(connection, [earned(earning, actor, now) for earning in new])
    deltas: defaultdict[payees.Pair, BalanceDelta] = defaultdict(BalanceDelta)
    for earning in new:
        deltas[earning.payee_id, earning.currency] += BalanceDelta(earned_minor=earning.amount_minor)
    payees.change_balances(connection, deltas)
    of_spends = [earning for earning in new if earning.transaction_id]
    return write_clawbacks(connection, of_spends, now, actor, notify=context.notify) if of_spends else {}


def _as_it_is(
    answer: StoredEarning | RefundWorkerError, changed: dict[str, Earning]
) -> StoredEarning | RefundWorkerError:
    if isinstance(answer, RefundWorkerError):
        return answer
    return replace(answer, earning=changed.get(answer.earning.earning_id, answer.earning))


def _refusal(record: EarningRecord, payee: Payee | None, spends: dict[str, RowMapping]) -> RefundWorkerError | None:
    if payee is None:
        return UnknownPayee(f"payee {record.payee_id} is not known: record the payee first", field="payee_id")
    if record.currency != payee.currency:
        told = f"payee {record.payee_id} is paid in {payee.currency}, not in {record.currency}"
        return CurrencyMismatch(told, field="currency")
    if record.transaction_id is None:
        return None
    spend = spends.get(record.transaction_id)
    if spend is None or spend["kind"] != EntryKind.SPEND:
        return UnknownTransaction(f"{record.transaction_id} is no spend that we know", field="transaction_id")
    return None
