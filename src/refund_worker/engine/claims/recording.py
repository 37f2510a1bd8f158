"""Record claims on one payment: first its unsent legs find another way, then the claims take their share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.account_limits import usable_payments
from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase, ShortfallRule
from refund_worker.domain.claims.displace import CHARGED_BACK, PAYMENT_CLOSED, displace, resume_disputed
from refund_worker.domain.claims.link import take_back_manual_payment
from refund_worker.domain.claims.shares import by_age, explain, explains_whole
from refund_worker.domain.decision import SYSTEM, Decision
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.refund import Refund
from refund_worker.engine.accounts.claims import Terms, settle_payments
from refund_worker.engine.context import Context
from refund_worker.engine.notifications.claim_messages import announce_claims
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.conflicts import alert_of_conflicts
from refund_worker.engine.refunds.process import after_reserving
from refund_worker.store import accounts, claims, payments, refunds
from refund_worker.store.locks import LockedTooFew, run_until_all_locked

Merge = Callable[[Claim, Claim], Claim | None]
# Why a leg was taken off its payment, by the cause.
_CODES = {
    ClaimKind.OUTSIDE_REFUND: REFUNDED_ELSEWHERE,
    ClaimKind.DISPUTE: CHARGED_BACK,
    ClaimKind.CLOSE: PAYMENT_CLOSED,
}


def record_claims(
    context: Context, payment_id: str, reported: Sequence[Claim], newer: Merge, *, actor: str = SYSTEM
) -> None:
    """Store the reported claims on this payment in one transaction, together with all that follows from them.

    A claim that is on another payment by then is stored there: its payment was recorded again meanwhile.
    """
    elsewhere: defaultdict[str, list[Claim]] = defaultdict(list)

    def store(connection: Connection) -> None:
        elsewhere.clear()  # the transaction may run again
        terms = Terms.of(context, context.clock(connection), actor)
        elsewhere.update(_store(connection, payment_id, reported, newer, terms))

    change_claims(context, payment_id, store, actor=actor)
    for its_payment, claims_there in sorted(elsewhere.items()):
        record_claims(context, its_payment, claims_there, newer, actor=actor)


def record_explained(context: Context, payment_id: str, old: Sequence[Claim], since: float) -> None:
    """Store those of these refunds from before `since` that `refunded_minor` of the payment explains."""

    def store(connection: Connection) -> None:
        its = explained_whole(connection, payment_id, old, since)
        claims.insert_claims(connection, [replace(claim, payment_id=payment_id) for claim in its])

    change_claims(context, payment_id, store)


def explained_whole(connection: Connection, payment_id: str, old: Iterable[Claim], since: float) -> list[Claim]:
    """Return those of these refunds from before `since` that `refunded_minor` of the payment explains, oldest first."""
    payment = claims.claimed_payments(connection, [payment_id])[0]
    known = claims.claims_on(connection, [payment_id]).get(payment_id, [])
    found: list[Claim] = []
    for claim in sorted(old, key=by_age):
        if explains_whole(payment, [*known, *found], claim, since):
            found.append(claim)
    return found


def change_claims(
    context: Context, payment_id: str, change: Callable[[Connection], None], *, actor: str = SYSTEM
) -> None:
    """Run `change`, which writes claims on this payment, and all that follows from it in one transaction.

    The refunds over the payment are locked first, then the customer: all other transactions lock in this order.
    """
    due = run_until_all_locked(
        context.database, lambda connection: _change_locked(connection, context, payment_id, change, actor)
    )
    if due:
        context.publish(due, False)


def _change_locked(
    connection: Connection, context: Context, payment_id: str, change: Callable[[Connection], None], actor: str
) -> list[str]:
    """Do what `change_claims` does, and return the ids of the refunds that are due afterwards."""
    now = context.clock(connection)
    locked = refunds.load(connection, claims.refunds_over(connection, payment_id), lock=True)
    owner = payments.payments_by_id(connection, [payment_id])[payment_id].customer_id
    accounts.lock_customers(connection, [owner])
    if set(claims.refunds_over(connection, payment_id)) - {refund.refund_id for refund in locked}:
        raise LockedTooFew
    before = {claim.claim_id: claim for claim in claims.claims_on(connection, [payment_id]).get(payment_id, [])}
    change(connection)
    unpaid = _take_back_manual_payments(connection, context, payment_id, now)
    after = _explained(connection, payment_id)
    code = _reason_to_displace(before, after)
    displaced = _displace(connection, context, payment_id, code, locked, now) if code is not None else []
    settle_payments(connection, [payment_id], Terms.of(context, now, actor))
    resumed = _resume(connection, context, payment_id, before, after, now)
    settled = claims.claims_on(connection, [payment_id]).get(payment_id, [])
    announce_claims(connection, context, [(before.get(claim.claim_id), claim) for claim in settled], now)
    alert_of_conflicts(connection, context, payment_id, now)
    return [d.after.refund_id for d in (*unpaid, *displaced, *resumed) if d.after.due_at is not None]


def _take_back_manual_payments(connection: Connection, context: Context, payment_id: str, now: float) -> list[Decision]:
    """Let the refunds fail late that persons called paid by a refund object which has failed since.

    The object is linked to such a refund then: its record is the leg's.
    """
    decisions = []
    for claim in claims.claims_on(connection, [payment_id]).get(payment_id, []):
        if claim.kind is not ClaimKind.OUTSIDE_REFUND or claim.is_live or claim.refund_id is not None:
            continue
        for refund in refunds.load(
            connection, claims.refunds_named(connection, payment_id, claim.object_id), lock=True
        ):
            decision = take_back_manual_payment(refund, claim, now=now, policy=context.policy)
            apply(connection, [decision], now, money_went_out=True, notify=context.notify)
            if any(seen.object.processor_refund_id == claim.object_id for seen in decision.objects):
                claims.write_link(connection, claim.claim_id, refund.refund_id, claim.amount_minor)
            decisions.append(decision)
    return decisions


def _displace(
    connection: Connection, context: Context, payment_id: str, code: str, locked: Iterable[Refund], now: float
) -> list[Decision]:
    """Take the unsent legs of these refunds off the payment."""
    # Only now, under the lock: the customer may have been merged into another meanwhile.
    owner = payments.payments_by_id(connection, [payment_id])[payment_id].customer_id
    others = usable_payments(accounts.refundable_payments(connection, [owner]).get(owner, []), context.policy, now)
    decisions: list[Decision] = []
    for refund in locked:
        decision = displace(refund, payment_id, code, now, context.policy, others)
        if decision is not None:
            decisions.append(decision)
            others = after_reserving(others, decision)
    rule = ShortfallRule(context.policy.shortfall)
    apply(connection, decisions, now, notify=context.notify, shortfall=rule)
    return decisions


def _explained(connection: Connection, payment_id: str) -> list[Claim]:
    """Return the claims on the payment, each with what our records explain of it by now."""
    payment = claims.claimed_payments(connection, [payment_id])[0]
    return explain(payment, claims.claims_on(connection, [payment_id]).get(payment_id, []))


def _store(
    connection: Connection, payment_id: str, reported: Iterable[Claim], newer: Merge, terms: Terms
) -> dict[str, list[Claim]]:
    """Insert new claims, and update those that are stored. Return those that are on other payments, by payment id."""
    elsewhere: defaultdict[str, list[Claim]] = defaultdict(list)
    for claim in reported:
        stored = claims.claims_of_objects(connection, claim.processor, claim.kind, [claim.object_id])
        before = stored.get(claim.object_id)
        if before is None:
            claims.insert_claims(connection, [replace(claim, payment_id=payment_id)])
            continue
        if before.payment_id not in (None, payment_id):
            elsewhere[before.payment_id or ""].append(claim)
            continue
        after = newer(before, claim) or before
        if before.is_live and after.is_live and after.money_minor < before.money_minor:
            before = _lessened(connection, before, after.amount_minor, terms)
            after = newer(before, claim) or before
        claims.write_claims(connection, [replace(after, payment_id=payment_id)])
    return elsewhere


def _lessened(connection: Connection, claim: Claim, amount_minor: int, terms: Terms) -> Claim:
    """Return the stored claim with a smaller amount and the share of that, as if it had been as small from the first.

    Nothing else of the report counts yet: what it takes, it takes after the unsent legs have left the payment.
    """
    claims.write_claims(connection, [replace(claim, amount_minor=amount_minor)])
    settle_payments(connection, [claim.payment_id or ""], replace(terms, lessened=frozenset([claim.claim_id])))
    return claims.claims_of_objects(connection, claim.processor, claim.kind, [claim.object_id])[claim.object_id]


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
    return claim.is_live and takes and not claim.is_open_dispute


def _has_ended(was: Claim | None, claim: Claim) -> bool:
    if claim.kind is not ClaimKind.DISPUTE or claim.is_open_dispute:
        return False
    return claim.phase is not (Phase.SHOWN if was is None else was.phase)


def _resume(
    connection: Connection,
    context: Context,
    payment_id: str,
    before: dict[str, Claim],
    after: Collection[Claim],
    now: float,
) -> list[Decision]:
    """Let legs continue that waited for the end of a dispute, once none is open any more.

    The first report of a dispute can come after its end. Legs that the processor refused meanwhile continue then too.
    """
    ended = any(_has_ended(before.get(claim.claim_id), claim) for claim in after)
    if not ended or any(claim.is_open_dispute for claim in after):
        return []
    ids = claims.refunds_over(connection, payment_id)
    decisions = [
        decision
        for refund in refunds.load(connection, ids, lock=True)
        if (decision := resume_disputed(refund, payment_id, now, context.policy)) is not None
    ]
    apply(connection, decisions, now, notify=context.notify)
    return decisions
