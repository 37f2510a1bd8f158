"""The explanation of one refund's failure, drawn from its own legs: no sentence that is not true of this refund."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypedDict

from refund_worker.domain.legs import UNREACHABLE
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.refund import ENDED_UNSENT, FINAL, Leg, LegStatus, Refund, To
from refund_worker.domain.state_machine import AWAITING_ANSWER, POLLED, UNPAID_FINAL
from refund_worker.engine.views.explanations import TRIES_AGAIN, Explanation
from refund_worker.engine.views.failure_codes import code_with_entry, explain
from refund_worker.engine.views.money_format import money

LEGS_NAMED_MAX = 5
_DISPUTE_CODES = frozenset({"charge_disputed", "refund_disputed_payment", "charge_for_pending_refund_disputed"})
_NOT_THERE = frozenset({"resource_missing", "not_found"})
# The beginning of the failure's message if a refund object has failed.
OBJECT_SAYS = "the processor says "
_STATES = {
    LegStatus.SUCCEEDED: "it paid",
    LegStatus.PENDING: "the processor accepted it; it is not final yet",
    LegStatus.REQUIRES_ACTION: "the customer must act",
    LegStatus.FAILED: "it failed too",
    LegStatus.CANCELED: "nothing went out over it",
    LegStatus.UNKNOWN: "its result is not known yet",
    LegStatus.BLOCKED: "it is stopped",
}


@dataclass(frozen=True, slots=True)
class RefundExplanation:
    """A refund's failure in plain words; `facts` are sentences about this refund alone.

    `entry` is the name of the runbook's entry.
    """

    code: str
    entry: str
    title: str
    cause: str
    advice: str
    retry_helps: bool
    facts: tuple[str, ...]


def explain_refund(refund: Refund) -> RefundExplanation | None:
    """Return the explanation of the refund's failure code, or None if it has none."""
    code = refund.failure_code
    if code is None:
        return None
    general = explain(code, ended=refund.status in FINAL)
    leg = leg_of_code(refund, code)
    if leg is None:
        return _explanation(code, general, ())
    its = replace(general, **_variant(code, leg))
    facts = (_payment(leg), *_sent_since(code, leg), *_outside(code, leg), *_others(refund, leg), *_credits(refund))
    return _explanation(code, its, facts)


def _explanation(code: str, its: Explanation, facts: tuple[str, ...]) -> RefundExplanation:
    return RefundExplanation(code, code_with_entry(code), its.title, its.cause, its.advice, its.retry_helps, facts)


def leg_of_code(refund: Refund, code: str) -> Leg | None:
    """Return the leg that the refund's failure code is about: one that needs a person before one that failed."""
    waiting = (leg for leg in refund.legs if leg.attention_code == code)
    failed = (leg for leg in refund.legs if leg.failure_code == code)
    return next(waiting, None) or next(failed, None)


class _Texts(TypedDict, total=False):
    title: str
    cause: str
    advice: str


def _failed_object(leg: Leg) -> str | None:
    """Return the id of the refund object whose failure is the leg's failure, or None if a call was refused."""
    by_object = (leg.failure_message or "").startswith(OBJECT_SAYS)
    return leg.processor_refund_id if by_object and leg.status not in POLLED else None


def _variant(code: str, leg: Leg) -> _Texts:
    """Return the texts that differ because the same code has another cause for this leg."""
    failed = _failed_object(leg)
    if code in _NOT_THERE and leg.status in POLLED:
        return {
            "title": "The processor does not know its own refund any more",
            "cause": f"The processor had made the refund {leg.processor_refund_id}, and now says that it has none with "
            "this id.",
            "advice": "Check that the API key belongs to the account and mode that made the refund, and look the "
            "refund up in the processor's dashboard. The worker keeps asking.",
        }
    if code in _DISPUTE_CODES and leg.first_intent_at is None:
        return {
            "cause": "The processor's record of the payment says that it is disputed, so nothing was sent. While the "
            "dispute is open, the processor refunds nothing over this payment."
        }
    if code in _DISPUTE_CODES and failed:
        return {
            "cause": f"The processor had made the refund {failed}. It failed because the customer asked their bank for "
            "the money."
        }
    if failed:
        return {"cause": f"The processor made the refund {failed}, and it did not pay. {explain(code).cause}"}
    if code == UNREACHABLE:
        return {"cause": f"{explain(code).cause} {_asked_for(leg)}"}
    return {}


def _asked_for(leg: Leg) -> str:
    if leg.status in POLLED:
        return f"The refund {leg.processor_refund_id} exists there, and its result is not known yet."
    if leg.status is LegStatus.UNKNOWN or leg.unanswered:
        return "A send got no answer, so it is not known whether a refund exists there."
    return "No send was executed." if leg.first_intent_at is not None else "Nothing was sent."


def _payment(leg: Leg) -> str:
    sent = "" if leg.first_intent_at is not None else " Nothing was sent over it."
    return (
        f"It is about {money(leg.amount_minor, leg.currency)} over the payment {leg.payment_id}, which is "
        f"{leg.processor_payment_id} at {leg.processor}.{sent}"
    )


def is_of_earlier_send(code: str | None, leg: Leg) -> bool:
    """Return True if the code is of a send before the current one: the leg was blocked for now, and was sent again.

    Such a code says that nothing was paid, which is not known of the later send.
    """
    return leg.status in AWAITING_ANSWER and explain(code).course is TRIES_AGAIN


def _sent_since(code: str, leg: Leg) -> Iterator[str]:
    if leg.status is LegStatus.UNKNOWN and is_of_earlier_send(code, leg):
        yield "It was sent again since then and got no answer, so it is not known whether a refund exists there."


def _outside(code: str, leg: Leg) -> Iterator[str]:
    if code != REFUNDED_ELSEWHERE:
        return
    if leg.blocked_by:
        named = ", ".join(leg.blocked_by[:LEGS_NAMED_MAX])
        more = len(leg.blocked_by) - LEGS_NAMED_MAX
        yield f"Refunds made elsewhere: {named}{f' and {more} more' if more > 0 else ''}."
    else:
        yield "The processor names a sum that was refunded elsewhere, and not the refunds; its dashboard shows them."


def _others(refund: Refund, leg: Leg) -> Iterator[str]:
    """Yield what became of the money that this leg did not pay. Nothing is said of a leg that is still open."""
    if leg.status not in UNPAID_FINAL:
        return
    family = {leg.leg_id}
    others = []
    for other in refund.legs:  # a replacement comes after the leg that it replaces
        if other.replaces in family:
            family.add(other.leg_id)
            others.append(other)
    if not others:
        yield "No other payment of the customer was used."
        return
    for other in others[:LEGS_NAMED_MAX]:
        state = _STATES.get(other.status, "it is on its way")
        amount = money(other.amount_minor, other.currency)
        yield f"Then {amount} over the payment {other.payment_id} ({other.processor_payment_id}): {state}."


def _credits(refund: Refund) -> Iterator[str]:
    """Yield where the customer's credits are now."""
    if refund.to is not To.SOURCE or refund.status in ENDED_UNSENT:
        return
    if not refund.ledger_posted:
        yield f"Credits: {refund.credits:,} reserved; no entry is posted yet."
        return
    paid = sum(leg.credits for leg in refund.legs if leg.status is LegStatus.SUCCEEDED)
    back = refund.reversed_credits
    shares = {
        "back on the balance": back,
        "paid out": paid,
        "off the balance, and not settled yet": refund.credits - paid - back,
    }
    yield f"Credits: {', '.join(f'{credits:,} {where}' for where, credits in shares.items() if credits > 0)}."
