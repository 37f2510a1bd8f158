"""Build one decision. The effects on ledger and payments are derived from each leg before and after.

So no decision can forget them: a leg that becomes paid posts its payout, one that stops being paid posts the reversal,
and one that fails releases what it reserved of its payment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Unpack

from refund_worker.domain.decision import (
    AccountDelta,
    AskedReading,
    Decision,
    Event,
    PaymentDelta,
    Policy,
    ProcessorDenied,
    RefundObjectUpdate,
    Reread,
)
from refund_worker.domain.ledger import (
    CLEARING,
    CREDITS,
    MANUAL,
    REDEEMED,
    REFUNDS,
    Entry,
    EntryKind,
    Posting,
    processor_account,
    transfer,
)
from refund_worker.domain.legs import (
    credits_to_reverse,
    is_ready,
    is_watched,
    leg_number,
    lists_before_sending,
    unplaced_legs,
)
from refund_worker.domain.money import as_text
from refund_worker.domain.processor_calls import Call
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.refund import (
    MISMATCH_SEPARATOR,
    Doubt,
    Leg,
    LegChanges,
    LegStatus,
    ObjectReport,
    Refund,
    RefundStatus,
    To,
)
from refund_worker.domain.state_machine import (
    ACTIVE,
    AWAITING_ANSWER,
    UNPAID_FINAL,
    LegOutcome,
    RefundOutcome,
    combined_outcome,
    next_leg_status,
    next_refund_status,
)
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS, at_most, clock_went_back

MANUAL_PREFIX = "manual:"
# A temporary refusal is retried automatically this often, at the longest interval. After that only a person retries.
BLOCKED_TRIES = 48
ANSWER_MISMATCH = "answer_mismatch"  # why a leg waits for a person: an object bears its name and is something else


def payment_deltas(before: Iterable[Leg], after: Iterable[Leg]) -> dict[str, PaymentDelta]:
    """Return what these legs reserve of their payments after the decision and not before, by payment id.

    A leg reserves its credits and its money until it is certain that no money goes out for it.
    """
    deltas: dict[str, PaymentDelta] = {}
    for legs, sign in ((before, -1), (after, 1)):
        for leg in legs:
            if leg.status not in UNPAID_FINAL:
                delta = PaymentDelta(sign * leg.payment_credits, sign * leg.amount_minor)
                deltas[leg.payment_id] = deltas.get(leg.payment_id, PaymentDelta()) + delta
    return {payment_id: delta for payment_id, delta in deltas.items() if delta}


class DecisionBuilder:
    """One decision in the making: the legs as they become, and the effects that follow."""

    @classmethod
    def open(cls, refund: Refund, now: float, policy: Policy, actor: str) -> DecisionBuilder:
        """Start a decision at `now` (epoch seconds), after correcting times that a changed clock made wrong."""
        builder = cls(refund, now, policy, actor)
        if clock_went_back(refund, now):
            builder._limit_times_to_clock()
        builder._restart_quiet_window_if_late()
        return builder

    def __init__(self, refund: Refund, now: float, policy: Policy, actor: str) -> None:
        self.before = refund
        self.refund = refund
        self.legs = {leg.leg_id: leg for leg in refund.legs}
        self.now = now
        self.policy = self.calls_policy = policy
        self.actor = actor
        self.postings: list[Posting] = []
        self.events: list[Event] = []
        self.objects: list[RefundObjectUpdate] = []
        self.calls: list[Call] = []
        self.pauses: list[ProcessorDenied] = []
        self.readings: dict[str, AskedReading] = {}
        self.read_again: dict[str, Reread] = {}
        self.account = AccountDelta()
        self.transaction_credits = 0

    # --- small steps -------------------------------------------------------------------------------------------------

    def update_leg(self, leg: Leg, **changes: Unpack[LegChanges]) -> Leg:
        """Change values of the leg, but not its status: `transition_leg` does that. Return the changed leg."""
        self.legs[leg.leg_id] = changed = replace(leg, **changes)
        return changed

    def transition_leg(
        self,
        leg: Leg,
        outcome: LegOutcome,
        *,
        reason: str | None = None,
        alarm: bool = False,
        detail: Mapping[str, str | int | None] | None = None,
        **changes: Unpack[LegChanges],
    ) -> Leg:
        """Give the leg the status that the table has for `outcome`, and record an event `leg_<outcome>`.

        Return the changed leg. Raises `ImpossibleMove` if the table has no such status.
        """
        status = next_leg_status(leg.status, outcome)
        self.events.append(
            Event(f"leg_{outcome}", self.actor, leg.leg_id, leg.status, status, reason, detail or {}, alarm)
        )
        return self.update_leg(replace(leg, status=status), **changes)

    def record_event(
        self, kind: str, *, alarm: bool = False, leg: Leg | None = None, **detail: str | int | None
    ) -> None:
        """Record an event of the timeline, about `leg` if one is given."""
        self.events.append(Event(kind, self.actor, leg.leg_id if leg else None, detail=detail, alarm=alarm))

    def transition_refund(self, outcome: RefundOutcome, *, reason: str | None = None, alarm: bool = False) -> None:
        """Give the refund the status that the table has for `outcome`. An unchanged status records no event.

        Raises `ImpossibleMove` if the table has no such status.
        """
        status = next_refund_status(self.refund.status, outcome)
        if status != self.refund.status:
            self.events.append(
                Event(f"refund_{outcome}", self.actor, None, self.refund.status, status, reason, {}, alarm)
            )
            self.refund = replace(self.refund, status=status)

    def post_entry(
        self, suffix: str, kind: EntryKind, credits: int, entries: tuple[Entry, ...], text: str, refers_to: str | None
    ) -> None:
        """Post a ledger transaction with the id `<refund_id>-<suffix>`. `credits` is its signed effect on the balance.

        `refers_to` is the id of the transaction, payment or leg that it is about. Raises `ValueError` if it does not
        balance.
        """
        self.postings.append(
            Posting(
                transaction_id=f"{self.refund.refund_id}-{suffix}",
                customer_id=self.refund.customer_id,
                kind=kind,
                credits=credits,
                entries=entries,
                description=text,
                refers_to=refers_to,
                refund_id=self.refund.refund_id,
                occurred_at=self.now,
                actor=self.actor,
            )
        )

    def _limit_times_to_clock(self) -> None:
        """Correct the times that lie in the future because the clock went back.

        The age of a key is unknown then, so its outcome is looked up and the key is never replayed. Every call was sent
        before now, so the quiet window starts now. Nothing waits until the old times come again.
        """
        now, refund = self.now, self.refund
        lease_until = at_most(refund.lease_until, now + self.policy.lease_seconds)
        self.refund = replace(refund, due_at=at_most(refund.due_at, now), lease_until=lease_until)
        for leg in refund.legs:
            if leg.status not in ACTIVE and not is_watched(leg):
                continue
            awaits_answer = leg.status in AWAITING_ANSWER
            if awaits_answer:
                self.record_event("clock_went_back", alarm=True, leg=leg, seconds=round(refund.updated_at - now))
            self.update_leg(
                leg,
                in_doubt=Doubt.of(
                    unanswered=leg.unanswered, lookup_required=leg.lookup_required or awaits_answer, refusal=leg.refusal
                ),
                held=lists_before_sending(leg),
                first_sent_at=at_most(leg.first_sent_at, now),
                last_sent_at=at_most(leg.last_sent_at, now),
                first_intent_at=at_most(leg.first_intent_at, now),
                next_at=at_most(leg.next_at, now),
            )

    def _restart_quiet_window_if_late(self) -> None:
        """Restart the quiet window of a leg whose look-up is long overdue: the clock leapt, or all workers were down.

        The two cases cannot be distinguished, and a leap proves no quiet time at all. So a leap shortens the window by
        at most half of it plus the longest wait between two look-ups.
        """
        for leg in tuple(self.legs.values()):
            bearable = max(CLOCK_SLACK_SECONDS, self.policy.quiet_seconds_of(leg.processor) / 2)
            late = self.now - leg.next_at if leg.status in AWAITING_ANSWER and leg.next_at is not None else 0.0
            if late > bearable:
                self.record_event("quiet_begins_anew", leg=leg, seconds_late=round(late))
                self.update_leg(leg, last_sent_at=self.now, next_at=self.now, held=True)

    # --- the end of every decision -----------------------------------------------------------------------------------

    def build(self) -> Decision:
        """Return the decision. The status, the payouts, the failure and the next due time are derived from the legs."""
        self._remember_reports()
        self.refund = replace(self.refund, legs=tuple(self.legs.values()))
        if self.refund.ledger_posted and self.refund.to is To.SOURCE:
            self._abandon_zero_amount_legs()
            self.transition_refund(
                combined_outcome(self.refund.legs, credits_to_reverse(self.refund)), reason=self._why()
            )
        for leg in self.legs.values():
            self._pay_out(leg)
        self.refund = replace(
            self.refund,
            legs=tuple(self.legs.values()),
            due_at=self._due_at(),
            failure_code=self._failure("failure_code"),
            failure_message=self._failure("failure_message"),
            updated_at=self.now,
            version=self.before.version + 1,
        )
        return Decision(
            before=self.before,
            after=self.refund,
            postings=tuple(self.postings),
            events=tuple(self.events),
            objects=tuple(self.objects),
            customer=self.account,
            payments=payment_deltas(self.before.legs, self.legs.values()),
            transaction_credits=self.transaction_credits,
            calls=tuple(self.calls),
            pauses=tuple(self.pauses),
            readings=self.readings,
            read_again=self.read_again,
        )

    def _remember_reports(self) -> None:
        """Give each leg the reports of its objects. Facts that only an earlier report had are kept."""
        for index, update in enumerate(self.objects):
            leg, item = self.legs[update.leg_id], update.object
            reports = {report.processor_refund_id: report for report in leg.reports}
            earlier = reports.get(item.processor_refund_id)
            details = item.details if earlier is None else item.details.after(earlier.details)
            since = self._moving_since(item, earlier)
            self.objects[index] = replace(update, object=replace(item, details=details), moving_since=since)
            reports[item.processor_refund_id] = ObjectReport(
                item.processor_refund_id, item.status, item.created_at.timestamp(), since, details
            )
            self.update_leg(leg, reports=tuple(reports.values()))

    def _moving_since(self, item: RefundObject, earlier: ObjectReport | None) -> float:
        # Of a mismatched object it is the time at which we knew: a person's decision before it was not about it.
        new_mismatch = MISMATCH_SEPARATOR in (item.status or "") and (earlier is None or earlier.status != item.status)
        if new_mismatch or (earlier is not None and earlier.waits):
            return self.now
        return item.created_at.timestamp() if earlier is None else earlier.moving_since

    def _pay_out(self, leg: Leg) -> None:
        before = next((old for old in self.before.legs if old.leg_id == leg.leg_id), None)
        was = _paid_by(before) if before is not None and self.before.ledger_posted else None
        now = _paid_by(leg) if self.refund.ledger_posted else None
        if was == now:
            return
        if before is not None and was is not None:
            self._post_payout(before, was, -1)
        if now is not None:
            self._post_payout(leg, now, 1)

    def _post_payout(self, leg: Leg, paid_by: str, sign: int) -> None:
        source = MANUAL if paid_by.startswith(MANUAL_PREFIX) else processor_account(leg.processor)
        entries = (
            *transfer(CLEARING, REDEEMED, CREDITS, sign * leg.credits),
            *transfer(source, REFUNDS, leg.currency, sign * leg.amount_minor),
        )
        kind, verb = (EntryKind.PAYOUT, "paid") if sign > 0 else (EntryKind.PAYOUT_REVERSAL, "came back")
        # The same payout can count again: a zero-amount leg's, and a manual one after our own object has failed.
        which = f"{paid_by}-{leg.times_restored}" if leg.times_restored or not leg.amount_minor else paid_by
        suffix = f"{kind}-{leg_number(leg)}-{which}"
        text = f"{as_text(leg.amount_minor, leg.currency)} {verb}: {paid_by}"
        self.post_entry(suffix, kind, 0, entries, text, leg.leg_id)

    def _abandon_zero_amount_legs(self) -> None:
        """Abandon the zero-amount legs if no money goes out at all, so that their credits go back too."""
        legs = self.refund.legs
        if any(leg.status in ACTIVE or leg.attention_code or leg in unplaced_legs(self.refund) for leg in legs):
            return
        if any(leg.status is LegStatus.SUCCEEDED and leg.amount_minor for leg in legs):
            return
        for leg in legs:
            if leg.status is LegStatus.SUCCEEDED:
                self.transition_leg(leg, LegOutcome.ABANDONED, reallocated=True, reversed_credits=leg.credits)
        self.refund = replace(self.refund, legs=tuple(self.legs.values()))

    def _due_at(self) -> float | None:
        status = self.refund.status
        if status in (RefundStatus.QUEUED, RefundStatus.REVERSING):
            return self.refund.due_at if status is self.before.status and self.refund.due_at else self.now
        if not self.refund.ledger_posted:  # waits for a person, or is final: the processor is not asked
            return None
        # A leg is ready when a person or others' money changed the rest of a refund that had not begun.
        if unplaced_legs(self.refund) or any(is_ready(leg) for leg in self.refund.legs):
            return self.now
        return min((leg.next_at for leg in self.refund.legs if leg.next_at is not None), default=None)

    def _why(self) -> str | None:
        return next((leg.attention_code for leg in self.refund.legs if leg.attention_code), None)

    def _failure(self, name: str) -> str | None:
        """Return the failure of the first leg that needs a person, else of the first leg that failed."""
        if self.refund.status is RefundStatus.SUCCEEDED:
            return None
        worst = sorted(
            (leg for leg in self.refund.legs if leg.failure_code or leg.attention_code),
            key=lambda leg: leg.attention_code is None,
        )
        if not worst:
            return getattr(self.refund, name)  # type: ignore[no-any-return]
        if name == "failure_code":
            return worst[0].attention_code or worst[0].failure_code
        return worst[0].failure_message


def _paid_by(leg: Leg) -> str | None:
    """Return the reference of the payout for this leg, "nothing" for a zero-amount leg, or None if it is not paid.

    The credits of a zero-amount leg leave clearing too, for no money.
    """
    if leg.status is not LegStatus.SUCCEEDED:
        return None
    return leg.processor_refund_id if leg.amount_minor else "nothing"
