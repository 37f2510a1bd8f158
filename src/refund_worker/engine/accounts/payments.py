"""What happened elsewhere, recorded here: payments, spends, corrections, and the reversal that "Delete" makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from refund_worker.domain import ledger
from refund_worker.domain.acceptance import CustomerAccount, TransactionRoom
from refund_worker.domain.decision import CustomerChange, Event
from refund_worker.domain.ledger import EntryKind, Posting
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.engine.context import Context
from refund_worker.errors import (
    ActionNotAllowed,
    AlreadyRecorded,
    BalanceSpent,
    InsufficientBalance,
    InvalidRequest,
    KeyReused,
    MoneyMoved,
    NotFound,
    NotReversible,
    RefundWorkerError,
    UnknownCustomer,
)
from refund_worker.store import accounts, idempotency, payments, refunds
from refund_worker.store import ledger as ledger_store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record is stored; `new` is False when it was stored before, with the same body."""

    new: bool


def record_payments(context: Context, records: Sequence[PaymentRecord]) -> list[Recorded | RefundWorkerError]:
    """Store payments in one commit; each raises its customer's balance. Another body under a known id is refused."""
    return _run_again_once(context, lambda connection: _record_payments(connection, context, records))


def _record_payments(
    connection: Connection, context: Context, records: Sequence[PaymentRecord]
) -> list[Recorded | RefundWorkerError]:
    now = context.clock(connection)
    accounts.lock_customers(connection, {r.customer_id for r in records})
    known = payments.payments_by_id(connection, [r.payment_id for r in records])
    owners = payments.owners(connection, [(r.processor, r.processor_payment_id) for r in records])
    answers: list[Recorded | RefundWorkerError] = []
    new: list[PaymentRecord] = []
    for record in records:
        earlier = known.get(record.payment_id)
        owner = owners.get((record.processor, record.processor_payment_id), record.payment_id)
        if earlier is not None:
            answers.append(_same(earlier, record))
        elif owner != record.payment_id:
            answers.append(AlreadyRecorded(f"{record.processor_payment_id} is already recorded as payment {owner}"))
        else:
            known[record.payment_id] = record
            owners[record.processor, record.processor_payment_id] = record.payment_id
            new.append(record)
            answers.append(Recorded(new=True))
    # Only theirs: a payment that is refused leaves no empty account behind.
    accounts.insert_missing_customers(connection, [r.customer_id for r in new], now)
    payments.insert_payments(connection, new, now)
    ledger_store.insert_postings(connection, [_purchase(record) for record in new])
    bought: dict[str, int] = {}
    for record in new:
        bought[record.customer_id] = bought.get(record.customer_id, 0) + record.credits
    accounts.add_purchases(connection, bought)
    return answers


def _same(earlier: PaymentRecord, record: PaymentRecord) -> Recorded | RefundWorkerError:
    if _as_told(earlier) == _as_told(record):
        return Recorded(new=False)
    return AlreadyRecorded(f"payment {record.payment_id} is already recorded with another body")


def _as_told(record: PaymentRecord) -> PaymentRecord:
    """One body for the default, said or left out."""
    return replace(record, captured_minor=record.captured_minor or record.amount_minor)


def _purchase(record: PaymentRecord) -> Posting:
    return ledger.purchase(
        payment_id=record.payment_id,
        customer_id=record.customer_id,
        processor=record.processor,
        credits=record.credits,
        amount_minor=record.amount_minor,
        currency=record.currency,
        at=record.captured_at,
    )


def record_spends(context: Context, records: Sequence[SpendRecord]) -> list[Recorded | RefundWorkerError]:
    """Store spends in one commit, in order. A spend that the balance does not cover is refused."""
    return _run_again_once(context, lambda connection: _record_spends(connection, records))


def _record_spends(connection: Connection, records: Sequence[SpendRecord]) -> list[Recorded | RefundWorkerError]:
    customers = accounts.lock_customers(connection, {r.customer_id for r in records})
    known = {
        row["transaction_id"]: _spend_of(row)
        for row in ledger_store.transactions_by_id(connection, [r.transaction_id for r in records]).values()
    }
    answers: list[Recorded | RefundWorkerError] = []
    new: list[SpendRecord] = []
    for record in records:
        answer = _check_spend(record, known, customers)
        if isinstance(answer, Recorded) and answer.new:
            account = customers[record.customer_id]
            customers[record.customer_id] = replace(account, balance=account.balance - record.credits)
            known[record.transaction_id] = record
            new.append(record)
        answers.append(answer)
    ledger_store.insert_postings(connection, [_spend(record) for record in new])
    accounts.insert_rooms(connection, [_room(r.transaction_id, r.customer_id, EntryKind.SPEND, r.credits) for r in new])
    spent: dict[str, int] = {}
    for record in new:
        spent[record.customer_id] = spent.get(record.customer_id, 0) + record.credits
    changes = {customer: CustomerChange(balance=-credits, net_spent=credits) for customer, credits in spent.items()}
    accounts.change_customers(connection, changes)
    return answers


def _check_spend(
    record: SpendRecord, known: dict[str, SpendRecord | None], customers: dict[str, CustomerAccount]
) -> Recorded | RefundWorkerError:
    if record.transaction_id in known:
        if known[record.transaction_id] == record:
            return Recorded(new=False)
        return AlreadyRecorded(f"transaction {record.transaction_id} is already recorded with another body")
    if record.transaction_id.startswith(ledger.MADE_HERE):
        # Else a backend's own entry would pass for the reversal or the purchase of that name, or keep it from being.
        begin = " or ".join(ledger.MADE_HERE)
        return InvalidRequest(f"transaction_id: {begin} begins the ids that are made here", field="transaction_id")
    account = customers.get(record.customer_id)
    if account is None:
        return UnknownCustomer(f"customer {record.customer_id} is not known: import a payment of theirs first")
    if record.credits > account.available:
        return InsufficientBalance(f"{record.credits} credits spent, {account.available} available on the balance")
    return Recorded(new=True)


def _spend_of(row: RowMapping) -> SpendRecord | None:
    if row["kind"] != EntryKind.SPEND:
        return None
    return SpendRecord(
        transaction_id=row["transaction_id"],
        customer_id=row["customer_id"],
        credits=-row["credits"],
        description=row["description"],
        occurred_at=row["occurred_at"],
    )


def _spend(record: SpendRecord) -> Posting:
    return ledger.spend(
        transaction_id=record.transaction_id,
        customer_id=record.customer_id,
        credits=record.credits,
        description=record.description,
        at=record.occurred_at,
    )


def _room(transaction_id: str, customer_id: str, kind: EntryKind, credits: int) -> TransactionRoom:
    return TransactionRoom(transaction_id=transaction_id, customer_id=customer_id, kind=kind, credits=credits)


def correct(
    context: Context, *, customer_id: str, credits: int, reason: str, client: str, idempotency_key: str, actor: str
) -> tuple[RowMapping, bool]:
    """A balance correction: (its transaction, whether it is new). The same key and body again gives the same one.

    Raises `NotFound` for the customer, `InsufficientBalance` where more would be taken than is available, `KeyReused`.
    """
    body = {"customer_id": customer_id, "credits": credits, "reason": reason}

    def work(connection: Connection) -> tuple[RowMapping, bool]:
        now = context.clock(connection)
        account = accounts.lock_customers(connection, [customer_id]).get(customer_id)
        earlier = idempotency.find_act(connection, client, idempotency_key)
        if earlier is not None:
            check_same_act(idempotency_key, body, json.loads(earlier["body"]))
            return _transaction(connection, earlier["result_id"]), False
        if account is None:
            raise NotFound(f"customer {customer_id} is not known")
        # What puts credits on is never refused: a balance that a late failure left negative is filled up by steps.
        if credits < 0 and account.available + credits < 0:
            raise InsufficientBalance(f"{-credits} credits to take off, {account.available} available on the balance")
        posting = ledger.correction(
            transaction_id=context.new_id("txn"),
            customer_id=customer_id,
            credits=credits,
            reason=reason,
            actor=actor,
            at=now,
        )
        ledger_store.insert_postings(connection, [posting])
        accounts.change_customers(connection, {customer_id: CustomerChange(balance=credits)})
        if credits < 0:
            room = _room(posting.transaction_id, customer_id, EntryKind.CORRECTION, -credits)
            accounts.insert_rooms(connection, [room])
        idempotency.insert_act(connection, client, idempotency_key, json.dumps(body), posting.transaction_id, now)
        return _transaction(connection, posting.transaction_id), True

    return _run_again_once(context, work)


def check_same_act(key: str, body: Mapping[str, object], earlier: Mapping[str, object]) -> None:
    """Raises `KeyReused` where the act that is stored under the key is not this one."""
    different = tuple(name for name in body if body[name] != earlier.get(name))
    if different or body.keys() != earlier.keys():
        raise KeyReused(
            f"the idempotency key {key} was used before with another {', '.join(different) or 'request'}",
            fields=different,
        )


def reverse_transaction(
    context: Context, transaction_id: str, *, actor: str, reason: str | None = None, client: str | None = None
) -> RowMapping:
    """The seed's "Delete": the linked reversal entry, made once and given again when asked again.

    `reason` stands in the entry and in the refund's timeline. `client` limits whose refunds' and corrections' entries
    are visible.

    Raises `NotFound`, `NotReversible` (only corrections and credit refunds to balance can be), `MoneyMoved`,
    `BalanceSpent`.
    """

    def work(connection: Connection) -> RowMapping:
        now = context.clock(connection)
        row = _transaction(connection, transaction_id)
        if client is not None and not _is_visible(connection, row, client):
            raise NotFound(f"transaction {transaction_id} is not known")
        account = accounts.lock_customers(connection, [row["customer_id"]])[row["customer_id"]]
        # Only a "Delete" of before: what the worker gave back because no money could be sent is none.
        made = ledger.reversal_id(transaction_id)
        earlier = ledger_store.transactions_by_id(connection, [made]).get(made)
        if earlier is not None and earlier["refers_to"] == transaction_id:
            return earlier
        _check_reversible(connection, row)
        if row["credits"] > 0 and account.available < row["credits"]:
            raise BalanceSpent(f"{row['credits']} credits to take back, {account.available} available on the balance")
        kind = EntryKind(row["kind"])
        posting = ledger.reversal(
            of=transaction_id,
            kind=kind,
            customer_id=row["customer_id"],
            credits=row["credits"],
            refund_id=row["refund_id"],
            actor=actor,
            at=now,
            reason=reason,
        )
        ledger_store.insert_postings(connection, [posting])
        spent = row["credits"] if kind is EntryKind.CREDIT_REFUND else 0
        change = CustomerChange(balance=-row["credits"], net_spent=spent)
        accounts.change_customers(connection, {row["customer_id"]: change})
        if kind is EntryKind.CREDIT_REFUND:
            accounts.change_rooms(connection, {row["refers_to"]: -row["credits"]})
            detail = {"transaction_id": posting.transaction_id}
            event = Event("credit_refund_reversed", actor, reason=reason, detail=detail)
            refunds.insert_events(connection, [(row["refund_id"], event)], now)
        else:
            accounts.mark_reversed(connection, transaction_id)
        return _transaction(connection, posting.transaction_id)

    return context.database.run(work)


def _is_visible(connection: Connection, row: RowMapping, client: str) -> bool:
    """Refunds and corrections are their client's own; what the admin backend recorded of a customer is nobody's."""
    if row["refund_id"]:
        return refunds.is_there(connection, row["refund_id"], client)
    return row["kind"] != EntryKind.CORRECTION or idempotency.is_result(connection, client, row["transaction_id"])


def _check_reversible(connection: Connection, row: RowMapping) -> None:
    kind, transaction_id = row["kind"], row["transaction_id"]
    if kind == EntryKind.CREDIT_REFUND:
        (refund,) = refunds.load(connection, [row["refund_id"]], lock=True)
        if refund.legs:
            raise MoneyMoved(f"{transaction_id} belongs to a refund whose money was already asked for")
        return
    if kind != EntryKind.CORRECTION or row["refund_id"]:
        raise NotReversible(f"a {kind} can't be reversed: only corrections and credit refunds to the balance can")
    room = accounts.rooms_of(connection, [transaction_id]).get(transaction_id)
    if room is not None and room.taken:
        if refunds.was_ever_sent(connection, row["customer_id"], transaction_id):
            raise MoneyMoved(f"correction {transaction_id} was already paid out")
        raise ActionNotAllowed(f"a withdrawal of correction {transaction_id} is waiting: cancel it first")


def _transaction(connection: Connection, transaction_id: str) -> RowMapping:
    found = ledger_store.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    if found is None:
        raise NotFound(f"transaction {transaction_id} is not known")
    return found


def _run_again_once(context: Context, work: Callable[[Connection], T]) -> T:
    """Two writers met on a new id: the second look sees what the first one stored."""
    try:
        return context.database.run(work)
    except IntegrityError:
        return context.database.run(work)
