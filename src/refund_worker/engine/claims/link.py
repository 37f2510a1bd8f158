"""Link a refund that others made: it then pays a refund of ours, a spend, or a correction."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.acceptance import accept, accepted
from refund_worker.domain.account_limits import usable_payments
from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.domain.claims.link import leg_to_link, link
from refund_worker.domain.claims.settle import give_back
from refund_worker.domain.decision import Decision
from refund_worker.domain.ledger import EntryKind
from refund_worker.domain.limits import exceeds_velocity, needs_approval
from refund_worker.domain.refund import Kind, Refund, RefundRequest, To
from refund_worker.engine.accounts.claims import Terms, recover, settle_payments, write_settled
from refund_worker.engine.claims.recording import change_claims
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import body_of
from refund_worker.engine.refunds.apply import apply
from refund_worker.engine.refunds.limit_usage import usage_before
from refund_worker.errors import ActionNotAllowed, ChangedMeanwhile, InvalidRequest, NotFound, UnknownTransaction
from refund_worker.store import accounts, claims, refunds

CLIENT = "refund-worker"


def link_outside_refund(
    context: Context,
    claim_id: str,
    *,
    refund_id: str | None = None,
    transaction_id: str | None = None,
    actor: str,
    reason: str,
) -> Claim:
    """Link the outside refund to a refund, or to the transaction that it returns, and return its claim.

    The credits that it took are given back first, a written-off shortfall included. Then it pays the refund's leg over
    its payment, or a new refund of that transaction, as far as both reach. The same link again changes nothing.

    Raises `NotFound`, `InvalidRequest` for a target that does not fit, `ActionNotAllowed` if the claim or the leg
    cannot be linked now, and the `Refusal` of a new refund.
    """
    if (refund_id is None) == (transaction_id is None):
        raise InvalidRequest("name either refund_id or transaction_id", field="refund_id")
    found = _find(context, claim_id)
    if found.payment_id is None:
        raise ActionNotAllowed(f"{claim_id} has no payment that we know: record its payment first")

    def change(connection: Connection) -> None:
        claim = claims.find_claim(connection, claim_id, ClaimKind.OUTSIDE_REFUND)
        assert claim is not None
        if claim.payment_id != found.payment_id:
            raise ChangedMeanwhile(f"{claim_id} is of payment {claim.payment_id} now: look at it again")
        if not _is_new(connection, claim, refund_id, transaction_id):
            return
        before = _available(connection, claim)
        _free(connection, context, claim)
        claim = claims.find_claim(connection, claim_id, ClaimKind.OUTSIDE_REFUND) or claim
        if refund_id is not None:
            refund = _load(connection, refund_id)
        else:
            refund = _new_refund(connection, context, claim, transaction_id or "", actor, reason)
        _pay(connection, context, claim, refund, actor, reason)
        freed = _available(connection, claim) - before
        if freed > 0:  # others that lack credits take these before the customer can spend them
            terms = Terms.of(context, context.clock(connection), actor)
            recover(connection, {claim.customer_id or "": freed}, [claim.payment_id or ""], terms)

    change_claims(context, found.payment_id, change, actor=actor)
    return _find(context, claim_id)


def _find(context: Context, claim_id: str) -> Claim:
    with context.database.read() as connection:
        claim = claims.find_claim(connection, claim_id, ClaimKind.OUTSIDE_REFUND)
    if claim is None:
        raise NotFound(f"outside refund {claim_id} is not known")
    return claim


def _load(connection: Connection, refund_id: str) -> Refund:
    loaded = refunds.load(connection, [refund_id], lock=True)
    if not loaded:
        raise NotFound(f"refund {refund_id} is not known")
    return loaded[0]


def _is_new(connection: Connection, claim: Claim, refund_id: str | None, transaction_id: str | None) -> bool:
    """Return False if the claim is linked just so. Raises `ActionNotAllowed` if it cannot be linked."""
    if claim.refund_id is not None:
        linked = _load(connection, claim.refund_id)
        if refund_id == claim.refund_id or (transaction_id is not None and transaction_id == linked.transaction_id):
            return False
        raise ActionNotAllowed(f"{claim.claim_id} is linked to refund {claim.refund_id}")
    if claims.named_elsewhere(connection, claim, refund_id or ""):
        raise ActionNotAllowed(f"a person named {claim.object_id} as the payment of a refund already")
    if not claim.is_live:
        raise ActionNotAllowed(f"{claim.claim_id} is {claim.object_status} at the processor: it pays nothing")
    return True


def _available(connection: Connection, claim: Claim) -> int:
    """Return the credits that the claim's customer can spend. The customer is locked."""
    account = accounts.find_customer(connection, claim.customer_id or "")
    return 0 if account is None else account.available


def _free(connection: Connection, context: Context, claim: Claim) -> None:
    """Give back all that the claim took, and let it take nothing."""
    now = context.clock(connection)
    done = give_back(claim, now, because=f"{claim.object_id} is linked to a refund")
    write_settled(connection, [(claim, done)])
    claims.write_link(connection, claim.claim_id, None, claim.amount_minor)
    settle_payments(connection, [claim.payment_id or ""], Terms.of(context, now))


def _pay(connection: Connection, context: Context, claim: Claim, refund: Refund, actor: str, reason: str) -> None:
    now = context.clock(connection)
    customer_id = claim.customer_id or ""
    if refund.customer_id != customer_id:
        raise InvalidRequest(f"refund {refund.refund_id} is of another customer", field="refund_id")
    found = accounts.refundable_payments(connection, [customer_id]).get(customer_id, [])
    payments = usable_payments(found, context.policy, now)
    leg = leg_to_link(refund, claim)
    decision, paid_minor = link(
        refund, leg, claim, now=now, policy=context.policy, payments=payments, actor=actor, reason=reason
    )
    apply(connection, [decision], now, money_went_out=True, notify=context.notify)
    claims.write_link(connection, claim.claim_id, refund.refund_id, paid_minor)


def _new_refund(
    connection: Connection, context: Context, claim: Claim, transaction_id: str, actor: str, reason: str
) -> Refund:
    """Accept a refund of the transaction over the claim's payment, for as many credits as its money covers.

    It waits for no approval and no velocity limit refuses it, because that money is gone. If its amount needs an
    approval or exceeds such a limit, it is marked as unapproved: what the claim does not pay goes back to the balance.
    """
    now = context.clock(connection)
    customer_id = claim.customer_id or ""
    transaction = accounts.refundable_transactions(connection, [transaction_id]).get(transaction_id)
    if transaction is None or transaction.customer_id != customer_id:
        message = f"{transaction_id} is nothing that can be refunded to customer {customer_id}"
        raise UnknownTransaction(message, field="transaction_id")
    payments = [
        payment
        for payment in accounts.refundable_payments(connection, [customer_id]).get(customer_id, [])
        if payment.payment_id == claim.payment_id
    ]
    is_spend = transaction.kind is EntryKind.SPEND
    covered = payments[0].credits_for(claim.amount_minor) if payments else 0
    request = RefundRequest(
        idempotency_key=f"link-{claim.claim_id}",
        kind=Kind.CREDIT_REFUND if is_spend else Kind.WITHDRAWAL,
        to=To.SOURCE,
        customer_id=customer_id,
        transaction_id=transaction_id,
        # Without credits, `accept` refuses what has nothing left, and says so.
        credits=min(covered, transaction.left) or None if is_spend else None,
        reason=reason,
        client=CLIENT,
        actor=actor,
    )
    refund = accept(
        request,
        refund_id=context.new_id("rf"),
        customer=accounts.find_customer(connection, customer_id),
        transaction=transaction,
        payments=payments,
        now=now,
        allocation=context.policy.allocation,
    )
    usage = usage_before(connection, [customer_id], [actor], context.limits, now)
    is_beyond_limits = needs_approval(refund, usage, context.limits) or exceeds_velocity(refund, usage, context.limits)
    refund = replace(refund, unapproved=is_beyond_limits)
    decision: Decision = accepted(refund, json.dumps(body_of(request), sort_keys=True), needs_approval=False)
    apply(connection, [decision], now, notify=context.notify)
    return _load(connection, refund.refund_id)
