"""Claw back the share of a payee when credits of the spend that it came from are returned, and undo it if that is.

Every way of posting or undoing a credit refund ends here, in its own transaction and under its customer's lock.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection

from refund_worker.domain.decision import Event
from refund_worker.domain.payouts.earnings import Clawback, Earning, claw_back
from refund_worker.domain.payouts.payee import BalanceDelta
from refund_worker.engine.payees.messages import announce_clawbacks
from refund_worker.store import ledger, timeline
from refund_worker.store.payouts import earnings, payees, payouts

CLAWED_BACK, UNDONE = "earning_clawed_back", "clawback_undone"


def settle_clawbacks(
    connection: Connection, transaction_ids: Collection[str], now: float, actor: str, *, notify: bool
) -> None:
    """Bring the earnings of these spends to what the ledger says was returned of the spends.

    The spends' customers are locked, so that an earning which is recorded meanwhile waits, and is clawed back itself.
    Without an earning it costs one query of an index.
    """
    payee_ids = earnings.payees_of_spends(connection, transaction_ids)
    if not payee_ids:
        return
    payees.load(connection, payee_ids, lock=True)
    write_clawbacks(connection, earnings.earnings_of_spends(connection, transaction_ids), now, actor, notify=notify)


def write_clawbacks(
    connection: Connection, of: Sequence[Earning], now: float, actor: str, *, notify: bool
) -> dict[str, Earning]:
    """Claw back of these earnings, whose payees are locked, what their spends' positions say.

    Return the changed ones by id.
    """
    positions = earnings.positions(connection, {e.transaction_id for e in of if e.transaction_id})
    changes: list[Clawback] = []
    for earning in of:
        position = positions.get(earning.transaction_id or "")
        change = claw_back(earning, position, actor, now) if position else None
        if change is not None:
            changes.append(change)
    if not changes:
        return {}
    ledger.insert_postings(connection, [change.posting for change in changes])
    earnings.write_clawed_back(connection, [change.earning for change in changes])
    deltas: defaultdict[payees.Pair, BalanceDelta] = defaultdict(BalanceDelta)
    for change in changes:
        deltas[change.earning.payee_id, change.earning.currency] += change.delta
    payees.change_balances(connection, deltas)
    payouts.requeue_held(connection, {payee_id for payee_id, _ in deltas}, now)
    events = [(change.earning.payee_id, _event(change, actor)) for change in changes]
    timeline.insert_events_about(connection, events, now)
    if notify:
        announce_clawbacks(connection, changes, now)
    return {change.earning.earning_id: change.earning for change in changes}


def _event(change: Clawback, actor: str) -> Event:
    earning = change.earning
    return Event(
        CLAWED_BACK if change.amount_minor > 0 else UNDONE,
        actor,
        detail={
            "payee_id": earning.payee_id,
            "earning_id": earning.earning_id,
            "transaction_id": earning.transaction_id,
            "amount_minor": abs(change.amount_minor),
            "currency": earning.currency,
        },
    )
