"""Change a payee: payouts to the old destination that are not sent yet are canceled in the same transaction."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.domain.payouts.payee import Payee, PayeeRecord
from refund_worker.engine.context import Context
from refund_worker.engine.payees import payees
from refund_worker.engine.payouts.actions import cancel_unsent_payouts


def change_payee(context: Context, record: PayeeRecord, *, actor: str) -> Payee:
    """Replace what is stored of the payee. Raises the errors of `engine/payees/payees.py`."""

    def cancel_unsent(connection: Connection, payee: Payee, _now: float, by: str) -> None:
        cancel_unsent_payouts(connection, context, payee.payee_id, by)

    return payees.change_payee(context, record, actor=actor, cancel_unsent=cancel_unsent)
