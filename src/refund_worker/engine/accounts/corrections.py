"""Balance corrections, and the reversal of an entry."""

from __future__ import annotations

import json

from sqlalchemy import Connection, RowMapping

from refund_worker.domain import ledger
from refund_worker.domain.acceptance import RefundableTransaction
from refund_worker.domain.decision import AccountDelta, Event
from refund_worker.domain.ledger import EntryKind
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import check_same_act, run_again_once
from refund_worker.errors import (
    ActionNotAllowed,
    BalanceSpent,
    InsufficientBalance,
    MoneyMoved,
    NotFound,
    NotReversible,
)
from refund_worker.store import accounts, attempts, idempotency, refunds, timeline
from refund_worker.store import ledger as ledger_store


def correct(
    context: Context, *, customer_id: str, credits: int, reason: str, client: str, idempotency_key: str, actor: str
) -> tuple[RowMapping, bool]:
    """Store a balance correction; return (its transaction, True if it is new).

    The same key with the same body returns the same transaction again. Raises `NotFound` for an unknown customer,
    `InsufficientBalance` if it takes off more credits than are available, `KeyReused` for the same key with another
    body.
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
        # A correction that adds credits is never refused: a balance that a late failure left negative may be refilled
        # in steps.
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
        accounts.change_customers(connection, {customer_id: AccountDelta(balance=credits)})
        if credits < 0:
            refundable = RefundableTransaction(
                transaction_id=posting.transaction_id,
                customer_id=customer_id,
                kind=EntryKind.CORRECTION,
                credits=-credits,
            )
            accounts.insert_transactions(connection, [refundable])
        idempotency.insert_act(connection, client, idempotency_key, json.dumps(body), posting.transaction_id, now)
        return _transaction(connection, posting.transaction_id), True

    return run_again_once(context, work)


def reverse_transaction(
    context: Context, transaction_id: str, *, actor: str, reason: str | None = None, client: str | None = None
) -> RowMapping:
    """Store the linked reversal entry of a transaction once ("Delete" in the console); a repeated call returns the same
    entry.

    `reason` is stored in the entry and in the refund's timeline. With `client`, only the entries of that client's
    refunds and corrections are visible.

    Raises `NotFound`, `NotReversible` (only corrections and credit refunds to the balance can be reversed),
    `MoneyMoved`, `BalanceSpent`.
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
        posting_id = _store_reversal(connection, row, now, actor=actor, reason=reason)
        return _transaction(connection, posting_id)

    return context.database.run(work)


def _store_reversal(connection: Connection, row: RowMapping, now: float, *, actor: str, reason: str | None) -> str:
    """Store the reversal of the entry `row` with its effects; return the id of the new entry."""
    kind, transaction_id = EntryKind(row["kind"]), row["transaction_id"]
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
    change = AccountDelta(balance=-row["credits"], net_spent=spent)
    accounts.change_customers(connection, {row["customer_id"]: change})
    if kind is EntryKind.CREDIT_REFUND:
        accounts.change_transactions(connection, {row["refers_to"]: -row["credits"]})
        detail = {"transaction_id": posting.transaction_id}
        event = Event("credit_refund_reversed", actor, reason=reason, detail=detail)
        timeline.insert_events(connection, [(row["refund_id"], event)], now)
    else:
        accounts.mark_reversed(connection, transaction_id)
    return posting.transaction_id


def _is_visible(connection: Connection, row: RowMapping, client: str) -> bool:
    """Return True if `client` may see the entry. Refunds and corrections belong to one client. Entries that the admin
    backend recorded are visible to every client.
    """
    if row["refund_id"]:
        return refunds.is_there(connection, row["refund_id"], client)
    return row["kind"] != EntryKind.CORRECTION or idempotency.is_result(connection, client, row["transaction_id"])


def _check_reversible(connection: Connection, row: RowMapping) -> None:
    kind, transaction_id = row["kind"], row["transaction_id"]
    if kind == EntryKind.CREDIT_REFUND:
        (refund,) = refunds.load(connection, [row["refund_id"]], lock=True)
        if refund.legs:
            raise MoneyMoved(f"{transaction_id} belongs to a refund whose money has already been requested")
        return
    if kind != EntryKind.CORRECTION or row["refund_id"]:
        raise NotReversible(f"a {kind} cannot be reversed: only corrections and credit refunds to the balance can")
    refundable = accounts.refundable_transactions(connection, [transaction_id]).get(transaction_id)
    if refundable is not None and refundable.taken:
        if attempts.was_ever_sent(connection, row["customer_id"], transaction_id):
            raise MoneyMoved(
                f"a payout of correction {transaction_id} was sent: the correction cannot be deleted any more"
            )
        raise ActionNotAllowed(f"correction {transaction_id} has a payout that is not canceled: cancel it first")


def _transaction(connection: Connection, transaction_id: str) -> RowMapping:
    found = ledger_store.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    if found is None:
        raise NotFound(f"transaction {transaction_id} is not known")
    return found
