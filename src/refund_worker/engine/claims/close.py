"""Close a payment: its money never came, or it was recorded wrong."""

from __future__ import annotations

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase
from refund_worker.domain.claims.shares import money_left
from refund_worker.domain.decision import Event
from refund_worker.domain.state_machine import UNPAID_FINAL, WITH_PROCESSOR
from refund_worker.engine.claims.recording import change_claims
from refund_worker.engine.context import Context
from refund_worker.errors import ActionNotAllowed, NotFound
from refund_worker.store import claims, payment_refs, payments, refunds, timeline


def close_payment(context: Context, payment_id: str, *, actor: str, reason: str) -> None:
    """Close the payment, by either of its ids; closing it again changes nothing.

    No new leg goes over it. Unsent legs go over other payments, or their credits are given back. The payment's unspent
    credits come off the balance. The processor's ids for it are free for a new record.

    Raises `NotFound`, and `ActionNotAllowed` while a leg over it may have money under way.
    """
    with context.database.read() as connection:
        named = payment_refs.find_payment(connection, payment_id)
    if named is None:
        raise NotFound(f"payment {payment_id} is not known")

    def close(connection: Connection) -> None:
        if payments.closed_at(connection, named) is not None:
            return
        now = context.clock(connection)
        closing = _closing(context, connection, named, reason, now)
        refs = payment_refs.refs_of_payments(connection, [named]).get(named, ())
        claims.insert_claims(connection, [closing])
        # The names that are freed: by them, a record that is sent again is still known as this payment's.
        claims.insert_refs(connection, ((closing.processor, ref, closing.claim_id) for ref in refs))
        payment_refs.drop_refs(connection, named)
        payments.mark_closed(connection, named, now)
        event = Event("payment_closed", actor, reason=reason, detail={"payment_id": named})
        timeline.insert_events(connection, [(None, event)], now)

    change_claims(context, named, close, actor=actor)


def _forbid_money_under_way(connection: Connection, payment_id: str) -> None:
    """Raise `ActionNotAllowed` if a leg over the payment may have money under way."""
    for refund in refunds.load(connection, claims.refunds_over(connection, payment_id), lock=True):
        for leg in refund.legs:
            if leg.payment_id != payment_id or leg.status in UNPAID_FINAL:
                continue
            if leg.status in WITH_PROCESSOR or leg.unanswered:
                raise ActionNotAllowed(
                    f"refund {refund.refund_id} may have money under way over payment {payment_id}: "
                    "wait for its end, or resolve it"
                )


def _closing(context: Context, connection: Connection, payment_id: str, reason: str, now: float) -> Claim:
    """Return the claim of the closing: the money of the payment that is left.

    It grows by what comes back later, such as the money of legs that leave the payment now.
    """
    (payment,) = claims.claimed_payments(connection, [payment_id])
    others = claims.claims_on(connection, [payment_id]).get(payment_id, [])
    _forbid_money_under_way(connection, payment_id)
    return Claim(
        claim_id=context.new_id("cl"),
        kind=ClaimKind.CLOSE,
        processor=payment.processor,
        object_id=payment_id,
        amount_minor=max(0, money_left(payment, others)),
        currency=payment.currency,
        object_status=None,
        phase=Phase.TAKEN,
        reason=reason,
        object_created_at=now,
        recorded_at=now,
        updated_at=now,
        payment_id=payment_id,
    )
