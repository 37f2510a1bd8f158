"""Credits that customers spent, recorded as the admin backend reports them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, RowMapping

from refund_worker.domain import ledger
from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction
from refund_worker.domain.decision import AccountDelta
from refund_worker.domain.ledger import EntryKind, Posting
from refund_worker.domain.records import SpendRecord
from refund_worker.engine.accounts.earlier_refunds import EarlierRefunds
from refund_worker.engine.accounts.payments import Recorded, not_in_future
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import run_again_once
from refund_worker.errors import (
    AlreadyRecorded,
    InsufficientBalance,
    InvalidRequest,
    RefundWorkerError,
    UnknownCustomer,
)
from refund_worker.store import accounts
from refund_worker.store import ledger as ledger_store
from refund_worker.store.ledger import is_erased
from refund_worker.times import to_millisecond


def record_spends(context: Context, records: Sequence[SpendRecord]) -> list[Recorded | RefundWorkerError]:
    """Store spends in one commit, in order; return one answer for each record.

    A spend that exceeds the available balance is refused with `InsufficientBalance`. One from before a payment was
    recorded with an earlier refund can have the credits that this refund took.
    """
    return run_again_once(context, lambda connection: _record_spends(connection, context, records))


def _record_spends(
    connection: Connection, context: Context, records: Sequence[SpendRecord]
) -> list[Recorded | RefundWorkerError]:
    now = context.clock(connection)
    asked = {r.customer_id for r in records}
    customers = accounts.lock_customers(connection, asked)
    rows = ledger_store.transactions_by_id(connection, [r.transaction_id for r in records])
    # An entry keeps the id that the customer had before a merge.
    asked |= {row["customer_id"] for row in rows.values()}
    merged = accounts.survivors(connection, asked - customers.keys())
    records = [replace(r, customer_id=merged.get(r.customer_id, r.customer_id)) for r in records]
    sent = {r.transaction_id: r.description for r in records}
    known = {
        id: _spend_of(row, merged.get(row["customer_id"], row["customer_id"]), sent[id]) for id, row in rows.items()
    }
    answers: list[Recorded | RefundWorkerError] = []
    new: list[SpendRecord] = []
    earlier = EarlierRefunds(connection, customers.keys(), now)
    for record in records:
        answer = _check_spend(record, known, customers, earlier, now)
        if isinstance(answer, Recorded) and answer.new:
            account = customers[record.customer_id]
            customers[record.customer_id] = replace(account, balance=account.balance - record.credits)
            known[record.transaction_id] = record
            new.append(record)
        answers.append(answer)
    earlier.write(context)
    ledger_store.insert_postings(connection, [_spend(record) for record in new])
    refundable = [
        RefundableTransaction(
            transaction_id=r.transaction_id, customer_id=r.customer_id, kind=EntryKind.SPEND, credits=r.credits
        )
        for r in new
    ]
    accounts.insert_transactions(connection, refundable)
    spent: dict[str, int] = {}
    for record in new:
        spent[record.customer_id] = spent.get(record.customer_id, 0) + record.credits
    changes = {customer: AccountDelta(balance=-credits, net_spent=credits) for customer, credits in spent.items()}
    accounts.change_customers(connection, changes)
    return answers


def _check_spend(
    record: SpendRecord,
    known: dict[str, SpendRecord | None],
    customers: dict[str, CustomerAccount],
    earlier: EarlierRefunds,
    now: float,
) -> Recorded | RefundWorkerError:
    if record.transaction_id in known:
        # Earlier versions stored a time more exactly than they showed it.
        shown = replace(record, occurred_at=to_millisecond(record.occurred_at))
        if known[record.transaction_id] in (record, shown):
            return Recorded(new=False)
        return AlreadyRecorded(f"transaction {record.transaction_id} is already recorded with another body")
    if record.transaction_id.startswith(ledger.MADE_HERE):
        # Otherwise a spend of the backend could be mistaken for the reversal or purchase with that id, or block it.
        begin = " or ".join(ledger.MADE_HERE)
        return InvalidRequest(f"transaction_id: {begin} begins the ids that are made here", field="transaction_id")
    too_late = not_in_future("occurred_at", record.occurred_at, now)
    if too_late is not None:
        return too_late
    account = customers.get(record.customer_id)
    if account is None:
        message = f"customer {record.customer_id} is not known: import a payment of theirs first"
        return UnknownCustomer(message, field="customer_id")
    if record.credits > account.available:
        with_room = earlier.make_room(record, account)
        if with_room is None:
            return InsufficientBalance(f"{record.credits} credits spent, {account.available} available on the balance")
        customers[record.customer_id] = with_room
    return Recorded(new=True)


def _spend_of(row: RowMapping, customer_id: str, sent: str) -> SpendRecord | None:
    """Return the stored spend, or None for an entry of another kind.

    A description that was erased counts as the one `sent` now.
    """
    if row["kind"] != EntryKind.SPEND:
        return None
    return SpendRecord(
        transaction_id=row["transaction_id"],
        customer_id=customer_id,
        credits=-row["credits"],
        description=sent if is_erased(row) else row["description"],
        occurred_at=to_millisecond(row["occurred_at"]),
    )


def _spend(record: SpendRecord) -> Posting:
    return ledger.spend(
        transaction_id=record.transaction_id,
        customer_id=record.customer_id,
        credits=record.credits,
        description=record.description,
        at=record.occurred_at,
    )
