"""Decide what an account's processor or its settings forbid, before anything is sent. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.decision import Policy, ProcessorRules

REFUNDS_OFF = "refunds_off"
WINDOW_CLOSED = "window_closed"


def why_not_over(rules: ProcessorRules, captured_at: float, now: float) -> str | None:
    """Return why nothing can be refunded over a payment captured at this time (epoch seconds), or None if it can."""
    if not rules.refunds_on:
        return REFUNDS_OFF
    if rules.window_seconds is not None and now - captured_at > rules.window_seconds:
        return WINDOW_CLOSED
    return None


def usable_payments(payments: Iterable[RefundablePayment], policy: Policy, now: float) -> list[RefundablePayment]:
    """Return the payments with what their accounts allow: those over which nothing can be refunded have no room."""
    if not policy.has_limits:
        return list(payments)
    return [_usable(payment, policy.rules_of(payment.processor), now) for payment in payments]


def _usable(payment: RefundablePayment, rules: ProcessorRules, now: float) -> RefundablePayment:
    if why_not_over(rules, payment.captured_at, now) is not None:
        return payment.without_room()
    step = rules.steps.get(payment.currency, 1)
    if rules.partial_refunds and step == 1:
        return payment
    return replace(payment, only_whole=not rules.partial_refunds, account_step=step)
