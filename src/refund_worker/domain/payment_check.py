"""Check the processor's record of a payment against ours before money moves over it. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from refund_worker.domain.account_limits import REFUNDS_OFF, WINDOW_CLOSED, why_not_over
from refund_worker.domain.decision import Policy
from refund_worker.domain.decision_builder import BLOCKED_TRIES, DecisionBuilder
from refund_worker.domain.legs import leg_id_of
from refund_worker.domain.money import as_text, down_to_step, smallest_step, split
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.processor_calls import Verify
from refund_worker.domain.processor_replies import PaymentRead, PaymentReading, RefundObject
from refund_worker.domain.refund import Leg, LegChanges, LegStatus
from refund_worker.domain.state_machine import LegOutcome

PAYMENT_MISMATCH = "payment_mismatch"
CHARGE_DISPUTED = "charge_disputed"
# Attention codes of a leg that waits because of its payment's record, and not of an answer to a send.
STOPS = frozenset({PAYMENT_MISMATCH, REFUNDED_ELSEWHERE, CHARGE_DISPUTED})


_FORBIDDEN = {
    REFUNDS_OFF: "nothing was sent: refunds are off for this account",
    WINDOW_CLOSED: "nothing was sent: the processor refunds a payment only for some time, and that is over",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentFacts:
    """A payment as recorded here, and the processor's record of it. Amounts are in minor units.

    `is_read` is False while the processor's record is still to be read; `reading` is that record, if there is one.
    `outside_minor` was refunded at the processor and is not in our records; a person has accepted `seen_minor` of it.
    `readable`: the processor can be asked about its payments at all. `read_at` is in epoch seconds.
    """

    payment_id: str
    amount_minor: int
    currency: str
    captured_at: float | None = None
    captured_minor: int | None = None
    refunded_minor: int = 0
    readable: bool = True
    is_read: bool = False
    read_at: float = 0.0
    reading: PaymentReading | None = None
    outside_minor: int = 0
    seen_minor: int = 0
    ours_minor: int = 0  # what we sent of our own refunds; only filled if something is outside
    has_open_dispute: bool = False  # in our own records

    @property
    def expected_minor(self) -> int:
        """Return the minor units that the processor must have captured."""
        return self.amount_minor if self.captured_minor is None else self.captured_minor

    @property
    def left_minor(self) -> int | None:
        """Return the minor units that the processor can still refund, or None if no money went back elsewhere."""
        if not self.outside_minor:
            return None
        left = self.expected_minor - self.refunded_minor - self.outside_minor - self.ours_minor
        return down_to_step(max(0, left), smallest_step(self.currency))


def with_sent(
    facts: Mapping[str, PaymentFacts], before: Iterable[Leg], after: Iterable[Leg]
) -> Mapping[str, PaymentFacts]:
    """Return the facts after `before` has become `after`: money that is sent first is not left for others.

    Only payments with money outside our records change, as `ours_minor` says. In the usual case nothing is copied.
    """
    sent = [leg for leg in after if leg.last_sent_at is not None and is_outside(facts.get(leg.payment_id))]
    if not sent:
        return facts
    known = {leg.leg_id for leg in before if leg.last_sent_at is not None}
    begun = [leg for leg in sent if leg.leg_id not in known]
    changed = dict(facts)
    for leg in begun:
        its = changed[leg.payment_id]
        changed[leg.payment_id] = replace(its, ours_minor=its.ours_minor + leg.amount_minor)
    return changed


def is_outside(facts: PaymentFacts | None) -> bool:
    """Return True if the processor has refunded more of the payment than our records know of.

    A person who has seen that has decided about one refund only. For any other refund the list is read, and a person
    decides again.
    """
    return facts is not None and facts.outside_minor > 0


@dataclass(frozen=True, slots=True)
class Objection:
    """A reason to send nothing over a payment. `passes` is True if the processor's next record may end it."""

    code: str
    message: str
    passes: bool = False


def objection_to(facts: PaymentFacts, live: bool | None) -> Objection | None:
    """Return the reason in the processor's record to send nothing, or None. `live` is the mode that we work in."""
    reading = facts.reading
    fault = None if reading is None else _difference(facts, reading, live)
    if fault:
        return Objection(PAYMENT_MISMATCH, f"nothing was sent: {fault}")
    if facts.has_open_dispute or (reading is not None and reading.disputed):
        return Objection(CHARGE_DISPUTED, "nothing was sent: the processor says that the payment is disputed", True)
    if reading is not None and _is_suspect(facts):
        return Objection(REFUNDED_ELSEWHERE, f"nothing was sent: {_refunded_elsewhere(facts, reading)}")
    return None


def is_forbidden(builder: DecisionBuilder, leg: Leg, facts: PaymentFacts | None) -> bool:
    """Return True if the account forbids to send the leg now. It goes over another payment, or a person decides.

    Where no refunds are on, that may be changed. A payment whose window has closed refuses for good.
    """
    rules = builder.policy.rules_of(leg.processor)
    captured_at = builder.now if facts is None or facts.captured_at is None else facts.captured_at
    code = why_not_over(rules, captured_at, builder.now)
    if code is None:
        return False
    changes: LegChanges = {
        "failure_code": code,
        "failure_message": _FORBIDDEN[code],
        "attention_code": None if code == WINDOW_CLOSED else code,
        "next_at": None,
        "held": False,
        "in_doubt": None,
        "blocked_by": (),
    }
    if code == WINDOW_CLOSED:
        builder.transition_leg(leg, LegOutcome.DISPLACED, reason=code, **changes)
    else:
        builder.transition_leg(leg, LegOutcome.BLOCKED, reason=code, alarm=leg.attention_code != code, **changes)
    return True


def _difference(facts: PaymentFacts, reading: PaymentReading, live: bool | None) -> str | None:
    ours = as_text(facts.expected_minor, facts.currency)
    if reading.currency != facts.currency:
        reported = (
            reading.currency if reading.captured_minor is None else as_text(reading.captured_minor, reading.currency)
        )
        return f"the payment is recorded as {ours}, the processor has it in another currency: {reported}"
    if live is not None and reading.live is not None and reading.live != live:
        return f"the payment is a {_mode(reading.live)} one at the processor, and our key is for {_mode(live)} payments"
    if reading.captured_minor is not None and reading.captured_minor != facts.expected_minor:
        reported = as_text(reading.captured_minor, reading.currency)
        return f"the payment is recorded as {ours}, the processor captured {reported}"
    return None


def _mode(live: bool) -> str:
    return "live" if live else "test"


def _refunded_elsewhere(facts: PaymentFacts, reading: PaymentReading) -> str:
    there = reading.refunded_minor or 0
    known = as_text(there - facts.outside_minor, reading.currency)
    left = as_text(max(0, facts.expected_minor - there), reading.currency)
    return (
        f"the processor has refunded {as_text(there, reading.currency)} of the payment, our records have {known}: "
        f"{as_text(facts.outside_minor, reading.currency)} was refunded elsewhere, {left} can still be refunded"
    )


def waits_for_reading(builder: DecisionBuilder, leg: Leg, facts: PaymentFacts | None) -> bool:
    """Return True if the payment must be read before the leg is sent; the call is planned then.

    It comes before the list too. A person who is shown the refunds of others then decides only once about the same
    money.
    """
    if facts is None or not _is_to_be_read(
        facts, objection_to(facts, builder.policy.rules_of(leg.processor).live), builder.now, builder.policy
    ):
        return False
    builder.update_leg(leg, next_at=builder.now + builder.policy.lease_seconds)
    builder.calls.append(Verify(leg.leg_id, leg.processor, leg.processor_payment_id))
    return True


def checked(builder: DecisionBuilder, leg: Leg, facts: PaymentFacts | None) -> Leg | None:
    """Return the leg if the payment's record allows the send, or None if the leg waits for a person."""
    if facts is None:
        return leg
    objection = objection_to(facts, builder.policy.rules_of(leg.processor).live)
    if objection is not None and not _is_acknowledged(objection, leg):
        passes = objection.passes and _can_be_read(facts, builder.policy)
        again = passes and leg.blocked_count < BLOCKED_TRIES
        leg = builder.update_leg(leg, blocked_count=leg.blocked_count + passes)
        next_at = facts.read_at + builder.policy.retry_max_seconds if again else None
        hold_for_payment(builder, leg, objection.code, objection.message, next_at=next_at, alarm=not passes)
        return None
    left = facts.left_minor
    if left is not None and left < leg.amount_minor and leg.first_intent_at is None:
        return _cut_down(builder, leg, left)
    is_over = leg.status is LegStatus.PLANNED or (leg.status is LegStatus.WAITING and leg.attention_code in STOPS)
    return builder.update_leg(leg, attention_code=None) if leg.attention_code and is_over else leg


def _cut_down(builder: DecisionBuilder, leg: Leg, left_minor: int) -> Leg | None:
    """Send only the money that is left, and leave the rest to a person as a leg of its own. Return the leg to send.

    A person let the leg continue although money went back elsewhere. The processor would refuse the whole amount. The
    rest may have reached the customer already, so its credits are not returned automatically.
    """
    rest_minor = leg.amount_minor - left_minor
    problem = f"nothing was sent: {as_text(rest_minor, leg.currency)} of the payment was already refunded"
    if left_minor == 0:
        hold_for_payment(builder, leg, REFUNDED_ELSEWHERE, problem)
        return None
    credits, rest_credits = split(leg.credits, (left_minor, rest_minor)) if leg.credits else (0, 0)
    payment_credits, rest_payment_credits = split(leg.payment_credits, (left_minor, rest_minor))
    rest = replace(
        leg,
        leg_id=leg_id_of(leg.refund_id, len(builder.legs) + 1),
        amount_minor=rest_minor,
        credits=rest_credits,
        payment_credits=rest_payment_credits,
        attention_code=None,
    )
    hold_for_payment(builder, rest, REFUNDED_ELSEWHERE, problem)
    return builder.update_leg(
        leg,
        amount_minor=left_minor,
        credits=credits,
        payment_credits=payment_credits,
        unreturnable_minor=0,
        attention_code=None,
    )


def _is_to_be_read(facts: PaymentFacts, objection: Objection | None, now: float, policy: Policy) -> bool:
    if not _can_be_read(facts, policy):
        return False
    passes = objection is not None and objection.passes
    return not facts.is_read or (passes and facts.read_at + policy.retry_max_seconds <= now)


def _can_be_read(facts: PaymentFacts, policy: Policy) -> bool:
    return facts.readable and policy.verify_payments


def hold_for_payment(
    builder: DecisionBuilder,
    leg: Leg,
    code: str,
    message: str,
    *,
    event: str | None = None,
    next_at: float | None = None,
    alarm: bool = True,
) -> None:
    """Let the leg wait, unsent. A person is alerted once, however often the same is found."""
    if leg.attention_code != code:
        builder.record_event(event or code, alarm=alarm, leg=leg, reason=message, payment_id=leg.payment_id)
    builder.update_leg(leg, next_at=next_at, attention_code=code, failure_code=code, failure_message=message)


def _is_suspect(facts: PaymentFacts) -> bool:
    """Return True if more was refunded there than our records and a person know of. Its list names the refunds."""
    return facts.outside_minor > facts.seen_minor


def is_unread(facts: PaymentFacts | None) -> bool:
    """Return True if the processor could say what it refunded of the payment, and did not: a refused key, or a setting.

    The sync of its refunds skips those that were made before the payment was recorded, so the payment's own list is
    read.
    """
    return facts is not None and facts.readable and facts.reading is None


def payment_blocks_sending(leg: Leg, facts: PaymentFacts | None, live: bool | None) -> bool:
    """Return True if the payment forbids even the repeat of a send that may have been executed.

    The outcome of that send is looked up instead.
    """
    objection = None if facts is None else objection_to(facts, live)
    return objection is not None and not _is_acknowledged(objection, leg)


def _is_acknowledged(objection: Objection, leg: Leg) -> bool:
    """Return True if a person has seen the refunds of others by name.

    Their list has no other refund, so they are the money that the processor's record reports.
    """
    return objection.code == REFUNDED_ELSEWHERE and bool(leg.acknowledged_outside)


def proved_by(leg: Leg, refund_object: RefundObject) -> PaymentRead | None:
    """Return what a refund object of this leg proves about its payment, or None: both have the same currency."""
    if refund_object.leg_id != leg.leg_id or refund_object.currency == leg.currency:
        return None
    if refund_object.payment_refs and leg.processor_payment_id not in refund_object.payment_refs:
        return None
    return PaymentRead(PaymentReading(None, refund_object.currency))
