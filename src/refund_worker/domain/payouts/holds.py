"""Why a payout waits before anything is sent: its payee, another payout, or the time since the last one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.payee import Payee, PayeeStatus
from refund_worker.domain.payouts.payout import Payout


class HoldCode(StrEnum):
    """The reasons for which a payout is held."""

    PAYEE_PAUSED = "payee_paused"
    PAYEE_INCOMPLETE = "payee_incomplete"
    PAYEE_UNDER_REVIEW = "payee_under_review"
    DESTINATION_COOLDOWN = "destination_cooldown"
    ANOTHER_PAYOUT = "another_payout"
    INTERVAL = "interval"


# Holds that end without a person: such a payout needs its money soon.
HOLDS_THAT_END = (HoldCode.DESTINATION_COOLDOWN, HoldCode.ANOTHER_PAYOUT, HoldCode.INTERVAL)


@dataclass(frozen=True, slots=True)
class Hold:
    """A reason to wait. `until` is when it ends, in epoch seconds, or None if that is not known."""

    code: HoldCode
    until: float | None = None


@dataclass(frozen=True, slots=True)
class PayeeFacts:
    """The facts about a payee that one payout depends on, read under the payee's lock.

    `open_payout` is another payout to the payee in the same currency that is open and not held. `last_payout_at` is
    when the last one in that currency was begun (epoch seconds). `debt_minor` is what the payee owes in it, in minor
    units, with all open payouts counted as paid.
    """

    payee: Payee
    open_payout: str | None = None
    last_payout_at: float | None = None
    debt_minor: int = 0


_OF_STATUS = {
    PayeeStatus.PAUSED: HoldCode.PAYEE_PAUSED,
    PayeeStatus.INCOMPLETE: HoldCode.PAYEE_INCOMPLETE,
    PayeeStatus.UNDER_REVIEW: HoldCode.PAYEE_UNDER_REVIEW,
}


def payee_hold(payee: Payee, now: float, policy: PayoutPolicy) -> Hold | None:
    """Return why nothing is paid to the payee at `now` (epoch seconds), or None."""
    if (code := _OF_STATUS.get(payee.status)) is not None:
        return Hold(code)
    rested = payee.destination_changed_at + policy.cooldown_seconds
    return Hold(HoldCode.DESTINATION_COOLDOWN, rested) if now < rested else None


def hold_of(payout: Payout, facts: PayeeFacts, now: float, policy: PayoutPolicy) -> Hold | None:
    """Return why the payout waits at `now` (epoch seconds), or None if its money can be asked for."""
    others = replace(facts, open_payout=None) if facts.open_payout == payout.payout_id else facts
    return facts_hold(others, now, policy)


def facts_hold(facts: PayeeFacts, now: float, policy: PayoutPolicy) -> Hold | None:
    """Return why another payout to the payee would wait at `now` (epoch seconds), or None."""
    if (hold := payee_hold(facts.payee, now, policy)) is not None:
        return hold
    if facts.open_payout is not None:
        return Hold(HoldCode.ANOTHER_PAYOUT)
    if facts.last_payout_at is not None and now < facts.last_payout_at + policy.interval_seconds:
        return Hold(HoldCode.INTERVAL, facts.last_payout_at + policy.interval_seconds)
    return None
