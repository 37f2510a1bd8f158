"""Record claims on one payment: first its unsent legs find another way, then the claims take their share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase, ShortfallRule
from refund_worker.domain.claims.displace import CHARGED_BACK, PAYMENT_CLOSED, displace, resume_disputed
from refund_worker.domain.claims.settle import SYSTEM
from refund_worker.domain.claims.shares import explain
from refund_worker.domain.decision import Decision
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.engine.accounts.claims import ClaimChange, Terms, settle_payments
from refund_worker.engine.claims.announce import announce
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.conflicts import alert_of_conflicts
from refund_worker.store import accounts, claims, payments, refunds

Merge = Callable[[Claim, Claim], Claim | None]
# Why a leg was taken off its payment, by the cause.
_CODES = {
    ClaimKind.OUTSIDE_REFUND: REFUNDED_ELSEWHERE,
    ClaimKind.DISPUTE: CHARGED_BACK,
    ClaimKind.CLOSE: PAYMENT_CLOSED,
}
TRIES = 5


class _MoreRefunds(Exception):
    """A refund over the payment was accepted while its others were being locked."""


def record_claims(
    context: Context, payment_id: str, reported: Sequence[Claim], newer: Merge, *, actor: str = SYSTEM
) -> list[ClaimChange]:
    """Store the reported claims on this payment in one transaction, together with all that follows from them."""

    def store(connection: Connection) -> None:
        _store(connection, payment_id, reported, newer)

    return change_claims(context, payment_id, store, actor=actor)


def change_claims(
    context: Context, payment_id: str, change: Callable[[Connection], None], *, actor: str = SYSTEM
) -> list[ClaimChange]:
    """Run `change`, which writes claims on this payment, and all that follows from it in one transaction.

    The refunds over the payment are locked first, then the customer: all other transactions lock in this order.
    """

    def work(connection: Connection) -> tuple[list[ClaimChange], list[str]]:
        return change_locked(connection, context, payment_id, change, actor)

    for _ in range(TRIES - 1):
        try:
            changes, due = context.database.run(work)
            break
        except _MoreRefunds:
            continue
    else:
        changes, due = context.database.run(work)
    if due:
        context.publish(due, False)
    return changes


def change_locked(
    connection: Connection, context: Context, payment_id: str, change: Callable[[Connection], None], actor: str
) -> tuple[list[ClaimChange], list[str]]:
    """Do what `change_claims` does in the caller's transaction; return the changes and the refunds that are due."""
    now = context.clock(connection)
    locked = refunds.load(connection, claims.refunds_over(connection, payment_id), lock=True)
    owner = payments.payments_by_id(connection, [payment_id])[payment_id].customer_id
    accounts.lock_customers(connection, [owner])
    # Only now, under the lock: the customer may have been merged into another meanwhile.
    payment = payments.payments_by_id(connection, [payment_id])[payment_id]
    if set(claims.refunds_over(connection, payment_id)) - {refund.refund_id for refund in locked}:
        raise _MoreRefunds
    before = {claim.claim_id: claim for claim in claims.claims_on(connection, [payment_id]).get(payment_id, [])}
    change(connection)
    after = _explained(connection, payment_id)
    code = _reason_to_displace(before, after)
    decisions: list[Decision] = []
    rule = ShortfallRule(context.policy.shortfall)
    if code is not None:
        others = accounts.refundable_payments(connection, [payment.customer_id]).get(payment.customer_id, [])
        for refund in locked:
            decision = displace(refund, payment_id, code, now, context.policy, others)
            if decision is not None:
                decisions.append(decision)
                others = [
                    p.after_reserving(delta.credits, delta.minor)
                    if (delta := decision.payments.get(p.payment_id)) is not None
                    else p
                    for p in others
                ]
        apply(connection, decisions, now, notify=context.notify, shortfall=rule)
    changes = settle_payments(connection, [payment_id], Terms(now=now, rule=rule, actor=actor))
    resumed = _resume(connection, context, payment_id, before, after, now)
    announce(connection, context, payment_id, before, now)
    alert_of_conflicts(connection, context, payment_id, now)
    return changes, [d.after.refund_id for d in (*decisions, *resumed) if d.after.due_at is not None]


def _explained(connection: Connection, payment_id: str) -> list[Claim]:
    """Return the claims on the payment, each with what our records explain of it by now."""
    payment = claims.claimed_payments(connection, [payment_id])[0]
    return explain(payment, claims.claims_on(connection, [payment_id]).get(payment_id, []))


def _store(connection: Connection, payment_id: str, reported: Iterable[Claim], newer: Merge) -> None:
    """Insert new claims, and update those that are stored."""
    for claim in reported:
        stored = claims.claims_of_objects(connection, claim.processor, claim.kind, [claim.object_id])
        before = stored.get(claim.object_id)
        if before is None:
            claims.insert_claims(connection, [replace(claim, payment_id=payment_id)])
            continue
        after = newer(before, claim) or before
        claims.write_claims(connection, [replace(after, payment_id=before.payment_id or payment_id)])


def _reason_to_displace(before: dict[str, Claim], after: Iterable[Claim]) -> str | None:
    """Return why unsent legs must leave the payment now, or None. They must leave if others take money of it.

    An open dispute only stops them, because it may be won.
    """
    for claim in after:
        was = before.get(claim.claim_id)
        if _takes(claim) and not (was is not None and _takes(was)):
            return _CODES[claim.kind]
    return None


def _takes(claim: Claim) -> bool:
    takes = claim.money_minor > 0 or claim.kind is ClaimKind.CLOSE
    return claim.is_live and takes and not _is_open_dispute(claim)


def _resume(
    connection: Connection,
    context: Context,
    payment_id: str,
    before: dict[str, Claim],
    after: Collection[Claim],
    now: float,
) -> list[Decision]:
    """Let legs continue that waited for the end of a dispute, once none is open any more."""
    was_open = any(_is_open_dispute(claim) for claim in before.values())
    if not was_open or any(_is_open_dispute(claim) for claim in after):
        return []
    ids = claims.refunds_over(connection, payment_id)
    decisions = [
        decision
        for refund in refunds.load(connection, ids, lock=True)
        if (decision := resume_disputed(refund, payment_id, now, context.policy)) is not None
    ]
    apply(connection, decisions, now, notify=context.notify)
    return decisions


def _is_open_dispute(claim: Claim) -> bool:
    return claim.kind is ClaimKind.DISPUTE and claim.phase is Phase.HOLDING
