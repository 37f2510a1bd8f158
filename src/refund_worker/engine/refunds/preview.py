"""Preview a request: show what it would do now, without doing any of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction, accept, maximum_credits
from refund_worker.domain.account_limits import usable_payments
from refund_worker.domain.account_names import processor_of
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.limits import Usage, check_velocity, needs_approval
from refund_worker.domain.payouts.payee import Payee
from refund_worker.domain.refund import Kind, Leg, Refund, RefundRequest, To
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import payments_to_payee
from refund_worker.engine.refunds.limit_usage import usage_before
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.errors import Refusal, UnknownPayee
from refund_worker.store import accounts
from refund_worker.store.payouts import payees


def preview(context: Context, request: RefundRequest) -> api_schema.Preview:
    """Return the outcome of this request if it were made now. Nothing is stored or reserved.

    {would_be: "accepted" or {code, message}, credits, maximum_credits, legs[{payment_id, processor, amount_minor,
    currency, credits, unreturnable_minor (where there is any)}], amounts[] as a refund's, balance_before, balance_after
    (both null for an unknown customer), policy{needs_approval, approval_threshold_minor, allocation}}. `balance_after`
    is the balance once all of the refund has succeeded.
    """
    with context.database.read() as connection:
        return _preview(connection, context, request)


def _preview(connection: Connection, context: Context, request: RefundRequest) -> api_schema.Preview:
    trial = _Trial.of(connection, context, request)
    customer = trial.customer
    if customer is not None:
        request = replace(request, customer_id=customer.customer_id)
    outcome = trial.outcome(request)
    most = trial.maximum_credits(request)
    largest = trial.outcome(replace(request, credits=most)) if most else None
    before = customer.balance if customer else None
    limits = context.limits
    return {
        "would_be": _refused(outcome) if isinstance(outcome, Refusal) else "accepted",
        "credits": outcome.credits if isinstance(outcome, Refund) else request.credits,
        "maximum_credits": most if isinstance(largest, Refund) else 0,
        "legs": [_leg(leg) for leg in outcome.legs] if isinstance(outcome, Refund) else [],
        "amounts": refund_view(outcome)["amounts"] if isinstance(outcome, Refund) else [],
        "balance_before": before,
        "balance_after": before + _change(outcome) if before is not None else None,
        "policy": {
            "needs_approval": isinstance(outcome, Refund) and needs_approval(outcome, trial.usage, limits),
            "approval_threshold_minor": limits.approval_threshold_minor,
            "allocation": context.policy.allocation,
        },
    }


@dataclass(frozen=True, slots=True)
class _Trial:
    """The accounts that a request touches as they are now, without a lock. `unfiltered` has every payment."""

    context: Context
    now: float
    customer: CustomerAccount | None
    transaction: RefundableTransaction | None
    payments: Sequence[RefundablePayment]
    unfiltered: Sequence[RefundablePayment]
    payee: Payee | None
    usage: Usage

    @classmethod
    def of(cls, connection: Connection, context: Context, request: RefundRequest) -> _Trial:
        now = context.clock(connection)
        customer = accounts.find_customer(connection, request.customer_id)
        customer_id = customer.customer_id if customer else request.customer_id
        found = accounts.refundable_payments(connection, [customer_id]).get(customer_id, [])
        transactions = accounts.refundable_transactions(connection, _named(request.transaction_id))
        return cls(
            context,
            now,
            customer,
            transactions.get(request.transaction_id or ""),
            usable_payments(found, context.policy, now),
            found,
            payees.load(connection, _named(request.payee_id)).get(request.payee_id or ""),
            usage_before(connection, {customer_id}, {request.actor}, context.limits, now),
        )

    def outcome(self, asked: RefundRequest) -> Refund | Refusal:
        """Return the refund that the request would become, or its refusal."""
        try:
            refund = accept(
                asked,
                refund_id="preview",
                customer=self.customer,
                transaction=self.transaction,
                payments=self.payments,
                now=self.now,
                allocation=self.context.policy.allocation,
                to_payee=self._to_payee(asked),
            )
            check_velocity(refund, self.usage, self.context.limits)
        except Refusal as refusal:
            return refusal
        return refund

    def maximum_credits(self, request: RefundRequest) -> int:
        """Return the most credits that the same request could ask for: none for an unknown customer or payee."""
        if self.customer is None:
            return 0
        try:
            payments = [*self.payments, *self._to_payee(request)]
        except UnknownPayee:
            return 0
        return maximum_credits(request, self.customer, self.transaction, payments, self.context.policy.allocation)

    def _to_payee(self, request: RefundRequest) -> list[RefundablePayment]:
        usable = {payment.payment_id: payment for payment in self.payments}
        return payments_to_payee(request, self.payee, self.unfiltered, usable)


def _named(identifier: str | None) -> list[str]:
    return [] if identifier is None else [identifier]


def _refused(refusal: Refusal) -> api_schema.PreviewRefusal:
    return {"code": refusal.code, "message": refusal.message}


def _change(outcome: Refund | Refusal) -> int:
    """Return the change of the balance in credits.

    Money that is paid out takes its credits along, except those that a correction took before.
    """
    if isinstance(outcome, Refusal) or outcome.of_correction:
        return 0
    if outcome.kind is Kind.WITHDRAWAL:
        return -outcome.credits
    return outcome.credits if outcome.to is To.BALANCE else 0


def _leg(leg: Leg) -> api_schema.PlannedLeg:
    planned: api_schema.PlannedLeg = {
        "payment_id": leg.payment_id,
        "processor": processor_of(leg.processor),
        "processor_account": leg.processor,
        "amount_minor": leg.amount_minor,
        "currency": leg.currency,
        "credits": leg.credits,
    }
    if leg.unreturnable_minor:
        planned["unreturnable_minor"] = leg.unreturnable_minor
    return planned
