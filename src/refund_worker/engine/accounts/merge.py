"""Merge a customer into another: the merged id stays as another name of the surviving customer.

Nothing that is under way stops: refunds, payments and claims change their customer and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, RowMapping

from refund_worker.domain import ledger
from refund_worker.domain.decision import Event
from refund_worker.engine.context import Context
from refund_worker.errors import Conflict, InvalidRequest, NotFound, UnknownCustomer
from refund_worker.store import accounts, merges, timeline
from refund_worker.store import ledger as ledger_store
from refund_worker.store.locks import LockedTooFew, run_until_all_locked

MERGED = "customer_merged"


def merge_customers(context: Context, customer_id: str, *, into: str, reason: str, actor: str) -> str:
    """Merge the customer into another and return the id of the surviving one. The same merge again changes nothing.

    An `into` that was merged itself names the customer that survived.

    Raises `NotFound` for an unknown customer, `UnknownCustomer` for an unknown `into`, `InvalidRequest` if both are the
    same, `Conflict` if the customer was merged into another one.
    """
    if into == customer_id:
        raise InvalidRequest(f"into: {into} is this customer: name another one", field="into")

    def work(connection: Connection) -> str:
        survivor = accounts.survivor_of(connection, into)
        if survivor == customer_id:
            raise InvalidRequest(f"into: {into} is another id of this customer: name another one", field="into")
        return _merge(connection, context, customer_id, survivor, reason, actor)

    return run_until_all_locked(context.database, work)


def _merge(connection: Connection, context: Context, customer_id: str, into: str, reason: str, actor: str) -> str:
    now = context.clock(connection)
    # The refunds first, as all others do: a worker locks a refund, and then the account of its customer.
    its_refunds = merges.lock_refunds_of(connection, customer_id)
    rows = merges.lock_rows(connection, {customer_id, into})
    if _is_merged(connection, rows, customer_id, into):
        return accounts.survivor_of(connection, customer_id)
    if merges.refunds_of(connection, customer_id) != its_refunds:
        raise LockedTooFew
    row = rows[customer_id]
    ids = context.new_id("txn"), context.new_id("txn")
    credits = row["balance"]
    postings = ledger.merge(
        ids=ids, customer_id=customer_id, into=into, credits=credits, reason=reason, actor=actor, at=now
    )
    ledger_store.insert_postings(connection, postings)
    merges.move(connection, row, into)
    # The entries have the reason: it can be erased there.
    detail = {"customer_id": customer_id, "into": into, "credits": credits, "transaction_ids": list(ids)}
    timeline.insert_events(connection, [(None, Event(MERGED, actor, detail=detail))], now)
    return into


def _is_merged(connection: Connection, rows: Mapping[str, RowMapping], customer_id: str, into: str) -> bool:
    """Return True if this merge was done before; False if it can be done now. Raises the refusals.

    Raises `LockedTooFew` if `into` was merged before it was locked.
    """
    if customer_id not in rows:
        raise NotFound(f"customer {customer_id} is not known")
    if into not in rows:
        raise UnknownCustomer(f"customer {into} is not known", field="into")
    if rows[into]["merged_into"] is not None:
        raise LockedTooFew
    merged_into = rows[customer_id]["merged_into"]
    if merged_into not in (None, into):
        raise Conflict(f"customer {customer_id} was merged into {merged_into} before", field="into")
    return merged_into is not None
