"""Change a payee: payouts to the old destination or of the old customer that are not sent yet are canceled.

That happens in the same transaction.
"""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.domain.payouts.payee import Payee, PayeeRecord
from refund_worker.engine.context import Context
from refund_worker.engine.payees import payees
from refund_worker.engine.payees.payees import CHANGES_DESTINATION
from refund_worker.engine.payouts.actions import cancel_unsent_payouts


def change_payee(context: Context, record: PayeeRecord, *, actor: str) -> Payee:
    """Replace what is stored of the payee. Raises the errors of `engine/payees/payees.py`."""

    def cancel_unsent(connection: Connection, payee: Payee, differences: frozenset[str], by: str) -> None:
        if differences & CHANGES_DESTINATION:
            cancel_unsent_payouts(connection, context, payee.payee_id, by)
        else:
            cancel_unsent_payouts(connection, context, payee.payee_id, by, new_owner=payee)

    return payees.change_payee(context, record, actor=actor, cancel_unsent=cancel_unsent)
