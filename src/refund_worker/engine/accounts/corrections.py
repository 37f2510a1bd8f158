"""Balance corrections, and the reversal of an entry."""

from __future__ import annotations

import json
import re

from sqlalchemy import Connection, RowMapping

from refund_worker.domain import ledger
from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction
from refund_worker.domain.decision import AccountDelta, Event
from refund_worker.domain.ledger import EntryKind, Purpose
from refund_worker.engine.accounts.payable import check_payable
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import check_same_act, run_again_once
from refund_worker.engine.payees.clawbacks import settle_clawbacks
from refund_worker.errors import (
    ActionNotAllowed,
    BalanceSpent,
    ChangedMeanwhile,
    InsufficientBalance,
    MoneyMoved,
    NotFound,
    NotReversible,
)
from refund_worker.store import accounts, attempts, idempotency, refunds, timeline
from refund_worker.store import ledger as ledger_store

# Kinds of the entries that a correction makes.
CORRECTED = (EntryKind.CORRECTION, EntryKind.EXPIRY)


def correct(
    context: Context,
    *,
    customer_id: str,
    credits: int,
    reason: str,
    client: str,
    idempotency_key: str,
    actor: str,
    purpose: Purpose | None = None,
    payable_only: bool = False,
    seen: str | None = None,
) -> tuple[RowMapping, bool]:
    """Store a balance correction; return (its transaction, True if it is new).

    The same key with the same body returns the same transaction again. With `payable_only`, credits are taken off for a
    payout only if one withdrawal can pay them out. `seen` is the `state_of` the account that the author decided on.

    Raises `NotFound` for an unknown customer, `InsufficientBalance` if it takes off more credits than are available,
    `ExceedsRefundable` if they must be payable and are not, `ChangedMeanwhile` if the account is not as seen,
    `KeyReused` for the same key with another body.
    """
    usual, wanted = Purpose.of(credits), Purpose.of(credits, purpose)
    # The acts of earlier versions have no purpose: the usual one is left out.
    body = {"customer_id": customer_id, "credits": credits, "reason": reason}
    body |= {} if wanted is usual else {"purpose": wanted}

    def work(connection: Connection) -> tuple[RowMapping, bool]:
        now = context.clock(connection)
        account = accounts.lock_customer(connection, customer_id)
        earlier = idempotency.find_act(connection, client, idempotency_key)
        if earlier is not None:
            # The key may have been used before a merge, with the other id of the same customer.
            first = json.loads(earlier["body"])
            is_same = account and account.customer_id == accounts.survivor_of(connection, first.get("customer_id", ""))
            first |= {"customer_id": customer_id} if is_same else {}
            check_same_act(idempotency_key, body, first)
            return _transaction(connection, earlier["result_id"]), False
        if account is None:
            raise NotFound(f"customer {customer_id} is not known")
        check_as_seen(connection, account, seen)
        _check_available(account, credits)
        if payable_only and wanted is Purpose.PAYOUT:
            check_payable(connection, account, -credits, context.policy)
        id, own_id = context.new_id("txn"), account.customer_id
        enter(connection, id, own_id, credits, wanted, reason=reason, actor=actor, at=now)
        idempotency.insert_act(connection, client, idempotency_key, json.dumps(body), id, now)
        return _transaction(connection, id), True

    return run_again_once(context, work)


def _check_available(account: CustomerAccount, credits: int) -> None:
    # A correction that adds credits is never refused: a balance that a late failure left negative may be refilled
    # in steps.
    if credits < 0 and account.available + credits < 0:
        raise InsufficientBalance(
            f"{-credits} credits to take off, {account.available} available on the balance", field="credits"
        )


def enter(
    connection: Connection,
    id: str,
    customer_id: str,
    credits: int,
    purpose: Purpose,
    *,
    reason: str,
    actor: str,
    at: float,
) -> str:
    """Store the correction `id` with its effects; only one with the purpose payout becomes refundable."""
    posting = ledger.correction(
        transaction_id=id,
        customer_id=customer_id,
        credits=credits,
        reason=reason,
        purpose=purpose,
        actor=actor,
        at=at,
    )
    ledger_store.insert_postings(connection, [posting])
    accounts.change_customers(connection, {customer_id: AccountDelta(balance=credits)})
    if purpose is Purpose.PAYOUT:
        refundable = RefundableTransaction(
            transaction_id=id, customer_id=customer_id, kind=EntryKind.CORRECTION, credits=-credits
        )
        accounts.insert_transactions(connection, [refundable])
    return id


def state_of(connection: Connection, account: CustomerAccount) -> str:
    """Return a text that differs after every change of the account. It begins with the balance."""
    ids = accounts.ids_of(connection, account.customer_id)
    latest = ledger_store.corrections_of(connection, ids, limit=1)
    last = latest[0]["transaction_id"] if latest else ""
    sums = (account.balance, account.held, account.bought, account.net_spent, account.withdrawn)
    return ".".join([*map(str, sums), last])


def check_as_seen(connection: Connection, account: CustomerAccount, seen: str | None) -> None:
    """Check that the account is as it was `seen`; call it under the customer's lock. With None there is no check.

    Raises `ChangedMeanwhile` otherwise.
    """
    if seen is not None and seen != state_of(connection, account):
        was = seen.partition(".")[0]
        balance = f"the balance is {account.balance:,} now"
        if re.fullmatch(r"-?[0-9]{1,18}", was) and int(was) != account.balance:
            balance += f", not {int(was):,}"
        raise ChangedMeanwhile(f"the account has changed since this form was opened: {balance}")


def reverse_transaction(
    context: Context,
    transaction_id: str,
    *,
    actor: str,
    reason: str | None = None,
    client: str | None = None,
    seen: str | None = None,
) -> RowMapping:
    """Store the linked reversal entry of a transaction once ("Delete" in the console); a repeated call returns the same
    entry.

    `reason` is stored in the entry and in the refund's timeline. With `client`, only the entries of that client's
    refunds and corrections are visible. `seen` is the `state_of` the account that the author decided on.

    Raises `NotFound`, `NotReversible` (only corrections and credit refunds to the balance can be reversed),
    `MoneyMoved`, `BalanceSpent`, `ChangedMeanwhile` if the account is not as seen.
    """

    def work(connection: Connection) -> RowMapping:
        now = context.clock(connection)
        row = visible_transaction(connection, transaction_id, client)
        account = account_of(connection, row)
        # Only a "Delete" of before: what the worker gave back because no money could be sent is none.
        made = ledger.reversal_id(transaction_id)
        earlier = ledger_store.transactions_by_id(connection, [made]).get(made)
        if earlier is not None and earlier["refers_to"] == transaction_id:
            if seen is not None and earlier["actor"] != actor:
                raise ChangedMeanwhile(f"{earlier['actor']} has already deleted this entry")
            return earlier
        check_reversible(connection, row)
        check_as_seen(connection, account, seen)
        if row["credits"] > 0 and account.available < row["credits"]:
            raise BalanceSpent(f"{row['credits']} credits to take back, {account.available} available on the balance")
        posting_id = store_reversal(connection, row, account, now, actor=actor, reason=reason)
        if row["kind"] == EntryKind.CREDIT_REFUND:
            settle_clawbacks(connection, [row["refers_to"]], now, actor, notify=context.notify)
        return _transaction(connection, posting_id)

    return context.database.run(work)


def account_of(connection: Connection, row: RowMapping) -> CustomerAccount:
    """Lock and return the account of an entry's customer, who may have been merged into another since."""
    account = accounts.lock_customer(connection, row["customer_id"])
    assert account is not None  # no customer is ever deleted
    return account


def store_reversal(
    connection: Connection, row: RowMapping, account: CustomerAccount, now: float, *, actor: str, reason: str | None
) -> str:
    """Store the reversal of the entry `row` on this account, with its effects; return the id of the new entry."""
    kind, transaction_id = EntryKind(row["kind"]), row["transaction_id"]
    posting = ledger.reversal(
        of=transaction_id,
        kind=kind,
        customer_id=account.customer_id,
        credits=row["credits"],
        refund_id=row["refund_id"],
        actor=actor,
        at=now,
        reason=reason,
    )
    ledger_store.insert_postings(connection, [posting])
    spent = row["credits"] if kind is EntryKind.CREDIT_REFUND else 0
    change = AccountDelta(balance=-row["credits"], net_spent=spent)
    accounts.change_customers(connection, {account.customer_id: change})
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
    return row["kind"] not in CORRECTED or idempotency.is_result(connection, client, row["transaction_id"])


def check_reversible(connection: Connection, row: RowMapping) -> None:
    """Check that the entry can be reversed. Raises `NotReversible`, `MoneyMoved` or `ActionNotAllowed`."""
    kind, transaction_id = row["kind"], row["transaction_id"]
    if kind == EntryKind.CREDIT_REFUND:
        (refund,) = refunds.load(connection, [row["refund_id"]], lock=True)
        if refund.legs:
            raise MoneyMoved(f"{transaction_id} belongs to a refund whose money has already been requested")
        return
    if kind not in CORRECTED or row["refund_id"]:
        raise NotReversible(f"a {kind} cannot be reversed: only corrections and credit refunds to the balance can")
    refundable = accounts.refundable_transactions(connection, [transaction_id]).get(transaction_id)
    if refundable is not None and refundable.taken:
        if attempts.was_ever_sent(connection, refundable.customer_id, transaction_id):
            raise MoneyMoved(
                f"a payout of correction {transaction_id} was sent: the correction cannot be deleted any more"
            )
        raise ActionNotAllowed(f"correction {transaction_id} has a payout that is not canceled: cancel it first")


def visible_transaction(connection: Connection, transaction_id: str, client: str | None) -> RowMapping:
    """Return the transaction. Raises `NotFound`, also for one that `client`, if given, may not see."""
    row = _transaction(connection, transaction_id)
    if client is not None and not _is_visible(connection, row, client):
        raise NotFound(f"transaction {transaction_id} is not known")
    return row


def _transaction(connection: Connection, transaction_id: str) -> RowMapping:
    found = ledger_store.transactions_by_id(connection, [transaction_id]).get(transaction_id)
    if found is None:
        raise NotFound(f"transaction {transaction_id} is not known")
    return found
