"""A payout that a file for the bank carries: the file is the call, and the bank's answer tells its outcome."""

from __future__ import annotations

from refund_worker.domain.payouts.builder import PayoutBuilder
from refund_worker.domain.payouts.decision import PayoutDecision, PayoutPolicy
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.domain.refund import LegStatus
from refund_worker.domain.state_machine import LegOutcome

BAD_PAYMENT = "bad_payment"  # why a person decides: no file can carry the payment


def leg_for_file(payout: Payout) -> PayoutLeg | None:
    """Return the leg that the next file takes, or None: it is ready, waits for no person, and is in no file."""
    if not payout.ledger_posted:
        return None
    ready = (leg for leg in payout.legs if leg.status in (LegStatus.PLANNED, LegStatus.WAITING))
    return next((leg for leg in ready if leg.attention_code is None and not leg.unanswered), None)


def put_into_file(
    payout: Payout, leg: PayoutLeg, file_id: str, object_id: str, now: float, policy: PayoutPolicy, *, actor: str
) -> PayoutDecision:
    """Return the decision that the file `file_id` carries the leg, as `object_id`. `now` is in epoch seconds.

    The bank may pay it from now on: it is pending until the bank's answer is imported.
    """
    builder = PayoutBuilder.open(payout, now, policy, actor)
    sent = builder.transition_leg(
        builder.legs[leg.leg_id],
        LegOutcome.SENT,
        detail={"attempt": leg.attempt, "file_id": file_id},
        sends=leg.sends + 1,
        first_sent_at=now if leg.first_sent_at is None else leg.first_sent_at,
        last_sent_at=now,
    )
    builder.transition_leg(
        sent,
        LegOutcome.ACCEPTED,
        detail={"object_id": object_id},
        object_id=object_id,
        file_id=file_id,
        next_at=None,
        failure_code=None,
        failure_message=None,
    )
    return builder.build()


def keep_out_of_file(
    payout: Payout, leg: PayoutLeg, message: str, now: float, policy: PayoutPolicy, *, actor: str
) -> PayoutDecision:
    """Return the decision that a person must decide: no file can carry the leg, for the reason `message`."""
    builder = PayoutBuilder.open(payout, now, policy, actor)
    builder.transition_leg(
        builder.legs[leg.leg_id],
        LegOutcome.BLOCKED,
        reason=BAD_PAYMENT,
        alarm=True,
        attention_code=BAD_PAYMENT,
        failure_code=BAD_PAYMENT,
        failure_message=message,
        next_at=None,
    )
    return builder.build()
