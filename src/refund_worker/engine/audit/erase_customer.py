"""Erase a customer: texts and addresses are overwritten wherever they are, and ids and amounts stay.

It works in pieces, each in a transaction of its own, and can be killed and run again at any time.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.engine.audit.erase_payees import erase_destinations
from refund_worker.engine.audit.seals import erasure_of
from refund_worker.engine.context import Context
from refund_worker.errors import Conflict, InvalidRequest, NotFound
from refund_worker.store import accounts, audit, erasures, locks, timeline
from refund_worker.store.erasures import Scope
from refund_worker.store.locks import Lock
from refund_worker.store.payouts import erasures as payout_erasures
from refund_worker.store.payouts import payees
from refund_worker.store.reporting import customer_rows

ERASED = "customer_erased"
# Things under way that one message names.
NAMED_MAX = 5


def erase_customer(context: Context, customer_id: str, *, reason: str, actor: str) -> str:
    """Erase the texts of a customer and of those merged into them; return the id of the account.

    Run it again to erase what came later. Raises `NotFound` for an unknown customer, `Conflict` while anything of the
    customer is under way, naming it, and `DestinationsKeyMissing` if a payout was sealed with a key that is not here.
    """
    scope = context.database.run(lambda connection: _begin(connection, context, customer_id, actor))
    # Payouts first: a key that is not set here refuses before anything else is erased.
    for piece in (*payout_erasures.PIECES, *erasures.PIECES):
        after: tuple[object, ...] | None = None
        while True:
            after = context.database.run(lambda c, p=piece, a=after: p(c, scope, a))  # type: ignore[misc]
            if after is None:
                break
    for table in audit.TEXTS:
        last: int | None = 0
        while last is not None:
            last = context.database.run(lambda c, t=table, a=last: _erase_sealed(c, context, t, scope, a, actor))  # type: ignore[misc]
    context.database.run(lambda connection: _end(connection, context, scope, reason, actor))
    return scope.customer_id


def _begin(connection: Connection, context: Context, customer_id: str, actor: str) -> Scope:
    """Return the scope, with the payees' destinations erased: under their locks no payout to one begins meanwhile."""
    account = accounts.lock_customer(connection, customer_id)
    if account is None:
        raise NotFound(f"customer {customer_id} is not known")
    ids = tuple(accounts.ids_of(connection, account.customer_id))
    its_payees = payees.load(connection, erasures.ids_of_payees(connection, ids), lock=True)
    scope = Scope(ids, erasures.names_of(connection, ids), context.box)
    under_way = list(_under_way(connection, scope))
    if under_way:
        more = f" and {len(under_way) - NAMED_MAX} more" if len(under_way) > NAMED_MAX else ""
        raise Conflict(f"still under way: {', '.join(under_way[:NAMED_MAX])}{more}. Erase when they have ended")
    erase_destinations(connection, context, its_payees.values(), context.clock(connection), actor=actor)
    return scope


def _under_way(connection: Connection, scope: Scope) -> Iterator[str]:
    for refund_id, status in customer_rows.open_refunds(connection, scope.customer_id):
        yield f"refund {refund_id} ({status})"
    for claim_id, kind in customer_rows.open_claims(connection, scope.customer_id):
        yield f"{kind.replace('_', ' ')} {claim_id}"
    for payout_id, status in payout_erasures.open_payouts(connection, scope.ids):
        yield f"payout {payout_id} ({status})"
    for file_id in payout_erasures.files_with_open_payments(connection, scope.ids):
        yield f"bank file {file_id}, by payments in it"
    for event_id, body in customer_rows.waiting_events(connection):
        if erasures.mentions(body, scope.named):
            yield f"webhook event {event_id}"


def _erase_sealed(
    connection: Connection, context: Context, table: str, scope: Scope, after: int, actor: str
) -> int | None:
    """Erase the next rows of the table; return the last number if there are more.

    No row may be sealed meanwhile: a seal over the text would name the erased row as changed.
    """
    locks.acquire(connection, Lock.SEAL)
    now = context.clock(connection)
    rows = erasures.sealed_rows(connection, table, scope, after)
    for row in rows:
        if not erasures.has_texts(table, row, scope):
            continue
        if audit.seal_over(connection, table, row["seq"]) is not None:
            try:
                made = erasure_of(connection, table, row["seq"], actor=actor, at=now)
            except InvalidRequest:
                continue  # an approval that an earlier version sealed: erased, it would no longer show who gave it
            audit.insert_erasure(connection, made)
        erasures.overwrite(connection, table, row["seq"])
    return rows[-1]["seq"] if len(rows) == erasures.PAGE else None


def _end(connection: Connection, context: Context, scope: Scope, reason: str, actor: str) -> None:
    now = context.clock(connection)
    accounts.mark_erased(connection, scope.ids, now)
    event = Event(ERASED, actor, reason=reason, detail={"customer_id": scope.customer_id})
    timeline.insert_events(connection, [(None, event)], now)
