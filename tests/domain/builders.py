"""Builders for the domain's tests: a refund under way, and replies of a processor about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from refund_worker.domain.decision import Decision, Policy, ProcessorRules
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.next_step import attempt_key, next_step, order_of
from refund_worker.domain.processor_calls import Call, LookUp, RecordedReply, Send, Verify
from refund_worker.domain.processor_replies import (
    Answered,
    Found,
    PaymentReply,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.domain.refund import Kind, Leg, LegStatus, Refund, RefundStatus, To

# The quiet window begins when the lease of the last send has ended: 1,000 seconds after it in all.
POLICY = Policy(
    key_life_seconds=10_000,
    quiet_seconds=940,
    lease_seconds=60,
    retry_max_seconds=600,
    processors={
        "stripe": ProcessorRules(
            disputed_codes=frozenset({"charge_for_pending_refund_disputed"}),
            unfunded_codes=frozenset({"insufficient_funds"}),
        )
    },
)
START = 100_000.0

NOTHING = Found(())
NO_ANSWER = Unanswered("timeout")
FIVE_HUNDRED = Unanswered("500", server_error=True)
REFUSED = Refused("charge_disputed", "no")


def a_leg(number: int = 1, **changes: Any) -> Leg:
    """Return a planned leg of 100 credits and 10.00 USD, with `changes`."""
    leg = Leg(
        leg_id=f"r-{number}",
        refund_id="r",
        payment_id=f"pay{number}",
        processor="stripe",
        processor_payment_id=f"ch_{number}",
        amount_minor=1_000,
        currency="USD",
        credits=100,
        payment_credits=100,
    )
    return replace(leg, **changes)


def a_refund(*legs: Leg, **changes: Any) -> Refund:
    """Return an accepted withdrawal of all its legs' credits, not begun."""
    legs = legs or (a_leg(),)
    refund = Refund(
        refund_id="r",
        client="default",
        idempotency_key="k",
        kind=Kind.WITHDRAWAL,
        to=To.SOURCE,
        customer_id="c",
        transaction_id=None,
        credits=sum(leg.credits for leg in legs),
        currency=None,
        reason="asked",
        note=None,
        status=RefundStatus.QUEUED,
        version=1,
        created_at=START,
        updated_at=START,
        requested_by="anna",
        due_at=START,
        legs=legs,
    )
    return replace(refund, **changes)


def begun(*legs: Leg, at: float = START, **changes: Any) -> Refund:
    """Return a refund whose entries are posted and whose first sends are committed."""
    return next_step(a_refund(*legs, **changes), at, POLICY).after


def apply_reply(
    refund: Refund,
    leg_id: str,
    call: Call | None,
    reply: Reply | SearchReply | PaymentReply,
    now: float,
    policy: Policy,
    *,
    asked_at: float | None = None,
) -> Decision:
    """Apply one reply to `call`; a reply that was not requested has no call."""
    return apply_replies(refund, [RecordedReply("r", leg_id, call, reply, asked_at)], now, policy)


def the_call(decision: Decision) -> Call:
    """Return the only call of the decision."""
    (call,) = decision.calls
    return call


def the_look_up(decision: Decision) -> LookUp:
    """Return the only call, a look-up after an unanswered send.

    A look-up before a repeat is another one: if it finds nothing, the same key is sent again.
    """
    call = the_call(decision)
    assert isinstance(call, LookUp)
    assert not call.before_sending, "the same key is sent again if nothing is found"
    return call


def send_of(refund: Refund, number: int = 1) -> Send:
    """Return the send that the leg's current attempt made."""
    leg = refund.legs[number - 1]
    key = attempt_key(leg.leg_id, leg.attempt)
    return Send(leg.leg_id, leg.processor, leg.attempt, key, order_of(refund, leg))


def look_up_of(refund: Refund, number: int = 1) -> LookUp:
    """Return the look-up of the leg."""
    leg = refund.legs[number - 1]
    return LookUp(leg.leg_id, leg.processor, leg.processor_payment_id)


def verify_of(refund: Refund, number: int = 1) -> Verify:
    """Return the call that reads the leg's payment."""
    leg = refund.legs[number - 1]
    return Verify(leg.leg_id, leg.processor, leg.processor_payment_id)


def answer(refund: Refund, reply: Reply | SearchReply, at: float = START + 1, number: int = 1) -> Decision:
    """Apply the answer to the leg's send."""
    call = send_of(refund, number)
    return apply_reply(refund, call.leg_id, call, reply, at, POLICY, asked_at=at)


def sent_again(refund: Refund, at: float, policy: Policy = POLICY) -> Decision:
    """Return the decision with the leg's next send. If the list is read first, it shows nothing."""
    decision = next_step(refund, at, policy)
    if isinstance(call := the_call(decision), LookUp) and call.before_sending:
        decision = next_step(
            apply_reply(decision.after, call.leg_id, call, Found(()), at, policy, asked_at=at).after, at, policy
        )
    assert isinstance(the_call(decision), Send)
    return decision


def due(refund: Refund, at: float) -> Refund:
    """Return the refund with its first leg due at `at`, as if every earlier look-up had been made on time."""
    first, *others = refund.legs
    return replace(refund, legs=(replace(first, next_at=at), *others))


def found(refund: Refund, reply: SearchReply, at: float, asked_at: float | None = None) -> Decision:
    """Apply the answer to a look-up for the first leg that was made when it was due."""
    asked_at = at if asked_at is None else asked_at
    return apply_reply(due(refund, asked_at), "r-1", look_up_of(refund), reply, at, POLICY, asked_at=asked_at)


def report(refund: Refund, refund_object: RefundObject, at: float = START + 5) -> Decision:
    """Apply a report of the object that was not requested."""
    return apply_reply(refund, refund_object.leg_id or "r-1", None, Answered(refund_object), at, POLICY)


def an_object(status: str | None = "succeeded", name: str = "re_1", number: int = 1, **changes: Any) -> RefundObject:
    """Return a refund object of leg `number`, with `changes`."""
    refund_object = RefundObject(
        processor_refund_id=name,
        status=status,
        amount_minor=1_000,
        currency="USD",
        payment_refs=(f"ch_{number}",),
        leg_id=f"r-{number}",
        attempt=1,
        failure_code="declined" if status in ("failed", "canceled") else None,
        created_at=datetime.fromtimestamp(START, UTC),
    )
    return replace(refund_object, **changes)


def status_of(decision: Decision, number: int = 1) -> LegStatus:
    """Return the status of leg `number` after the decision."""
    return decision.after.legs[number - 1].status


def unanswered() -> Refund:
    """Return a refund whose send was not answered."""
    return answer(begun(), NO_ANSWER).after
