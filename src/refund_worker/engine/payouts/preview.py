"""Preview a request for a payout: show what it would do now, without doing any of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker import api_schema
from refund_worker.domain.limits import Usage, check_velocity, needs_approval
from refund_worker.domain.payouts.acceptance import Payable, accept_payout, payable
from refund_worker.domain.payouts.holds import Hold, PayeeFacts, hold_of, payee_hold
from refund_worker.domain.payouts.payee import Payee, PayeeBalance
from refund_worker.domain.payouts.payout import Payout, PayoutRequest
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.limit_usage import payout_usage_before
from refund_worker.engine.views.payout_texts import payout_texts_in_force
from refund_worker.errors import CurrencyMismatch, Refusal, UnknownPayee
from refund_worker.store.payouts import lists, payees, payouts
from refund_worker.times import iso

# Nothing can be paid out in a currency that is not the payee's.
_NOTHING_PAYABLE = Payable(0, CurrencyMismatch.code)


@dataclass(frozen=True, slots=True)
class _Facts:
    payee: Payee
    balance: PayeeBalance
    open_payout: str | None
    usage: Usage
    now: float


def preview_payout(context: Context, request: PayoutRequest) -> api_schema.PayoutPreview:
    """Return the outcome of this request if it were made now. Nothing is stored or reserved.

    A request without a currency has an empty one, and is in the payee's. All figures are in the currency of the answer,
    also where the payee is paid in another one. Raises `UnknownPayee`.
    """
    with context.database.read() as connection:
        payee = payees.load(connection, [request.payee_id]).get(request.payee_id)
        if payee is None:
            raise UnknownPayee(f"payee {request.payee_id} is not known", field="payee_id")
        request = replace(request, currency=request.currency or payee.currency)
        facts = _facts(connection, context, payee, request)
        until = lists.held_until(connection, payee.payee_id, request.currency, facts.now)
    balance, policy, currency = facts.balance, context.payout_policy, request.currency
    outcome = _trial(context, request, facts)
    most = payable(payee, balance, policy) if currency == payee.currency else _NOTHING_PAYABLE
    return {
        "would_be": {"code": outcome.code, "message": outcome.message} if isinstance(outcome, Refusal) else "accepted",
        "payee_id": payee.payee_id,
        "amount_minor": outcome.amount_minor if isinstance(outcome, Payout) else request.amount_minor,
        "currency": currency,
        "payable_minor": most.amount_minor,
        "not_payable_code": most.code,  # type: ignore[typeddict-item]
        "held_minor": balance.held_minor,
        "held_until": None if until is None else iso(until),
        "debt_minor": balance.debt_minor,
        "in_flight_minor": balance.in_flight_minor,
        "minimum_minor": policy.minimum_for(payee.processor, currency),
        "maximum_minor": policy.maximum_for(payee.processor, currency),
        "fee_minor": None,  # no call returns it before, and it depends on the contract, the country and a conversion
        "processor_account": payee.processor,
        "destination": payee.destination_masked,
        "method": payee.method.value,
        "steps": [step.value for step in policy.route_of(payee.processor).steps],
        "hold": _hold(context, outcome, facts),
        "needs_approval": isinstance(outcome, Payout) and needs_approval(outcome, facts.usage, context.limits),
    }


def _facts(connection: Connection, context: Context, payee: Payee, request: PayoutRequest) -> _Facts:
    now, pair = context.clock(connection), (payee.payee_id, request.currency)
    return _Facts(
        payee,
        payees.balances(connection, [pair], now)[pair],
        payouts.open_payouts(connection, [pair]).get(pair),
        payout_usage_before(connection, {payee.payee_id}, {request.actor}, context.limits, now),
        now,
    )


def _trial(context: Context, request: PayoutRequest, facts: _Facts) -> Payout | Refusal:
    try:
        payout = accept_payout(
            request,
            payout_id="preview",
            payee=facts.payee,
            balance=facts.balance,
            policy=context.payout_policy,
            now=facts.now,
        )
        check_velocity(payout, facts.usage, context.limits)
    except Refusal as refusal:
        return refusal
    return payout


def _hold(context: Context, outcome: Payout | Refusal, facts: _Facts) -> api_schema.PayoutHold | None:
    """Return why the payout would wait, or None. A request that is refused shows only what holds its payee."""
    hold: Hold | None
    if isinstance(outcome, Payout):
        known = PayeeFacts(facts.payee, facts.open_payout, facts.balance.last_payout_at)
        hold = hold_of(outcome, known, facts.now, context.payout_policy)
    else:
        hold = payee_hold(facts.payee, facts.now, context.payout_policy)
    if hold is None:
        return None
    text = payout_texts_in_force().of_hold(hold.code, hold.until, facts.payee.processor)
    return {
        "code": hold.code.value,
        "until": None if hold.until is None else iso(hold.until),
        "payee_text": text.customer,
        "staff_text": text.staff,
    }
