"""Lock payees, then payouts: everything that changes a payout or a payee takes its locks in this order.

The order is: customers, refunds, payees, payouts. The rows of each table are locked by one statement, in the order of
their ids. Under a payee's lock, its held payouts may be locked at any time, since no other process locks a held payout
without that lock. A payout that was sent may be locked alone, to let it be asked about (`ask_again`). So no two
processes can wait for each other over these rows. A processor's own row is outside this order, here and for refunds:
the database ends a deadlock about it, and the transaction runs again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.domain.payouts.holds import PayeeFacts
from refund_worker.domain.payouts.payee import Payee, PayeeBalance
from refund_worker.domain.payouts.payout import Payout
from refund_worker.store.payouts import payees, payouts


@dataclass(frozen=True, slots=True)
class LockedPayouts:
    """Payouts that are locked, and their payees, which were locked before."""

    payouts: tuple[Payout, ...]
    payees: dict[str, Payee]


def lock_payouts(connection: Connection, payout_ids: Collection[str], *, skip: bool = False) -> LockedPayouts:
    """Lock the payouts and their payees. With `skip`, payouts that others have locked are left out."""
    of_whom = payouts.payees_of(connection, payout_ids)
    locked = payees.load(connection, set(of_whom.values()), lock=True)
    return LockedPayouts(tuple(payouts.load(connection, payout_ids, lock=True, skip=skip)), locked)


def facts_of(connection: Connection, locked: LockedPayouts, now: float) -> dict[str, PayeeFacts]:
    """Return what each payout must know of its payee, by payout_id. `now` is in epoch seconds.

    Only a payout that is not begun asks what else the payee gets: its entries are posted in this transaction.
    """
    pairs = {(payout.payee_id, payout.currency) for payout in locked.payouts if not payout.ledger_posted}
    begun = payouts.open_payouts(connection, pairs)
    balances = payees.balances(connection, pairs, now)
    facts = {}
    for payout in locked.payouts:
        pair = (payout.payee_id, payout.currency)
        balance = balances.get(pair, PayeeBalance())
        payee = locked.payees[payout.payee_id]
        facts[payout.payout_id] = PayeeFacts(payee, begun.get(pair), balance.last_payout_at, balance.debt_minor)
    return facts
