"""One decision about a payout in the making: the legs as they become, and the effects that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

from refund_worker.domain.decision import Event, ProcessorDenied
from refund_worker.domain.decision_builder import ANSWER_MISMATCH
from refund_worker.domain.legs import is_watched
from refund_worker.domain.mismatch import UNKNOWN_STATUS
from refund_worker.domain.payouts.decision import (
    PayeeChange,
    PayoutDecision,
    PayoutPolicy,
    TransferCall,
    TransferUpdate,
)
from refund_worker.domain.payouts.machine import (
    PayoutOutcome,
    combined_outcome,
    failure_that_stands,
    has_object_that_may_pay,
    is_failed_in_doubt,
    is_on_its_way,
    is_payout_leg_ready,
    is_still_asked,
    needs_undoing,
    next_payout_status,
)
from refund_worker.domain.payouts.payee import REFUSED_BY_PROCESSOR, BalanceDelta
from refund_worker.domain.payouts.payout import (
    PAYOUT_PAID,
    PAYOUT_UNPAID_ENDS,
    PAYOUT_UNPOSTED,
    RETURN_CHECK_SECONDS,
    Payout,
    PayoutLeg,
    PayoutLegChanges,
    PayoutSource,
    PayoutStatus,
)
from refund_worker.domain.payouts.postings import Payment, give_back, paid_by, payment, take_off
from refund_worker.domain.payouts.transfers import Fault, Step
from refund_worker.domain.refund import Doubt, LegStatus
from refund_worker.domain.state_machine import (
    ACTIVE,
    AWAITING_ANSWER,
    TO_BE_SENT,
    LegOutcome,
    next_leg_status,
)
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS, at_most

# Why a person decides about an object whose answer may be false for once, and right the next time.
NOT_UNDERSTOOD = (UNKNOWN_STATUS, ANSWER_MISMATCH)
NOT_UNDONE = "transfer_not_undone"  # why a person decides: the processor does not give the transfer back


class PayoutBuilder:
    """Collects one decision. `open` starts it, and `build` derives the status, the postings and the next due time."""

    @classmethod
    def open(cls, payout: Payout, now: float, policy: PayoutPolicy, actor: str) -> PayoutBuilder:
        """Start a decision at `now` (epoch seconds), after correcting times that a changed clock made wrong."""
        builder = cls(payout, now, policy, actor)
        if payout.updated_at > now + CLOCK_SLACK_SECONDS:
            builder._limit_times_to_clock()
        builder._restart_quiet_window_if_late()
        return builder

    def __init__(self, payout: Payout, now: float, policy: PayoutPolicy, actor: str) -> None:
        self.before = payout
        self.payout = payout
        self.legs = {leg.leg_id: leg for leg in payout.legs}
        self.now = now
        self.policy = policy
        self.calls_policy = policy.calls
        self.actor = actor
        self.postings: list[Payment] = []
        self.events: list[Event] = []
        self.objects: list[TransferUpdate] = []
        self.calls: list[TransferCall] = []
        self.pauses: list[ProcessorDenied] = []
        self.payee: PayeeChange | None = None

    # --- small steps -------------------------------------------------------------------------------------------------

    def update_leg(self, leg: PayoutLeg, **changes: Unpack[PayoutLegChanges]) -> PayoutLeg:
        """Change values of the leg, but not its status: `transition_leg` does that. Return the changed leg."""
        self.legs[leg.leg_id] = changed = replace(leg, **changes)
        return changed

    def transition_leg(
        self,
        leg: PayoutLeg,
        outcome: LegOutcome,
        *,
        reason: str | None = None,
        alarm: bool = False,
        detail: Mapping[str, str | int | None] | None = None,
        **changes: Unpack[PayoutLegChanges],
    ) -> PayoutLeg:
        """Give the leg the status that the table of all legs has for `outcome`, and record an event `leg_<outcome>`.

        Return the changed leg. Raises `ImpossibleMove` if the table has no such status.
        """
        status = next_leg_status(leg.status, outcome)
        self.events.append(
            Event(f"leg_{outcome}", self.actor, leg.leg_id, leg.status, status, reason, detail or {}, alarm)
        )
        return self.update_leg(replace(leg, status=status), **changes)

    def record_event(
        self, kind: str, *, alarm: bool = False, leg: PayoutLeg | None = None, **detail: str | int | None
    ) -> None:
        """Record an event of the timeline, about `leg` if one is given."""
        self.events.append(Event(kind, self.actor, leg.leg_id if leg else None, detail=detail, alarm=alarm))

    def transition_payout(self, outcome: PayoutOutcome, *, reason: str | None = None, alarm: bool = False) -> None:
        """Give the payout the status that the table has for `outcome`. An unchanged status records no event."""
        status = next_payout_status(self.payout.status, outcome)
        if status != self.payout.status:
            event = Event(f"payout_{outcome}", self.actor, None, self.payout.status, status, reason, {}, alarm)
            self.events.append(event)
            self.payout = replace(self.payout, status=status)

    def note_fault(self, code: str | None, fault: Fault | None) -> None:
        """Let nothing more be paid to this destination, if the failure was the payee's fault or about compliance."""
        if fault is Fault.PAYEE and code is not None:
            self.payee = PayeeChange(self.payout.destination_id, destination_failure=code)
        elif fault is Fault.COMPLIANCE:
            self.payee = PayeeChange(self.payout.destination_id, destination_failure=REFUSED_BY_PROCESSOR)

    def reduce_to(self, amount_minor: int, reason: str) -> None:
        """Give a payout of which nothing was sent a smaller amount, in minor units."""
        assert self.payout.status in PAYOUT_UNPOSTED
        assert 0 < amount_minor < self.payout.amount_minor
        before, currency = self.payout.amount_minor, self.payout.currency
        detail: dict[str, str | int] = {"before_minor": before, "amount_minor": amount_minor, "currency": currency}
        self.events.append(Event("payout_reduced", self.actor, reason=reason, detail=detail))
        self.payout = replace(self.payout, amount_minor=amount_minor)
        for leg in tuple(self.legs.values()):
            self.update_leg(leg, amount_minor=amount_minor)

    def post_entries(self) -> None:
        """Take the amount off the payee's balance: the internal step, before any money is asked for."""
        self.payout = replace(self.payout, ledger_posted=True, hold_code=None, hold_until=None)
        if self.payout.source is PayoutSource.EARNINGS:
            self.postings.append(take_off(self.payout))
        self.transition_payout(PayoutOutcome.POSTED)

    def _limit_times_to_clock(self) -> None:
        """Correct the times that lie in the future because the clock went back, as for a refund.

        Where nothing can be looked up, a repeat under the same key would be the look-up. The age of the key is unknown
        now, so it is not sent again, and a person decides.
        """
        now, payout = self.now, self.payout
        lease_until = at_most(payout.lease_until, now + self.calls_policy.lease_seconds)
        self.payout = replace(
            payout,
            due_at=at_most(payout.due_at, now),
            lease_until=lease_until,
            paid_at=at_most(payout.paid_at, now),
            hold_until=at_most(payout.hold_until, now),
            settles_at=at_most(payout.settles_at, now + self._window),
        )
        for leg in payout.legs:
            if leg.status not in ACTIVE and not is_watched(leg):
                self.update_leg(leg, next_at=at_most(leg.next_at, now))
                continue
            awaits_answer = leg.status in AWAITING_ANSWER
            if awaits_answer:
                self.record_event("clock_went_back", alarm=True, leg=leg, seconds=round(payout.updated_at - now))
            required = leg.lookup_required or awaits_answer
            finds = self.calls_policy.rules_of(leg.processor).finds_refunds
            self.update_leg(
                leg,
                in_doubt=Doubt.of(unanswered=leg.unanswered, lookup_required=required, refusal=leg.refusal),
                held=leg.held or leg.last_sent_at is not None,
                first_sent_at=at_most(leg.first_sent_at, now) if finds else None,
                last_sent_at=at_most(leg.last_sent_at, now),
                next_at=at_most(leg.next_at, now),
            )

    def _restart_quiet_window_if_late(self) -> None:
        """Restart the quiet window of a leg whose look-up is long overdue, as for a refund."""
        for leg in tuple(self.legs.values()):
            bearable = max(CLOCK_SLACK_SECONDS, self.calls_policy.quiet_seconds_of(leg.processor) / 2)
            late = self.now - leg.next_at if leg.status in AWAITING_ANSWER and leg.next_at is not None else 0.0
            if late > bearable:
                self.record_event("quiet_begins_anew", leg=leg, seconds_late=round(late))
                self.update_leg(leg, last_sent_at=self.now, next_at=self.now, held=True)

    # --- the end of every decision -----------------------------------------------------------------------------------

    def build(self) -> PayoutDecision:
        """Return the decision. The status, the postings, the failure and the next due time follow from the legs."""
        self.payout = replace(self.payout, legs=tuple(self.legs.values()))
        if self.payout.ledger_posted:
            self._undo_transfer()
            outcome = combined_outcome(self.payout, self.now)
            self._take_again_or_give_back(outcome)
            self.transition_payout(outcome, reason=self._why())
            self._note_payment()
            self._note_never_understood()
            self._ask_for_returns()
        self._post_payments()
        self.payout = replace(
            self.payout,
            due_at=self._due_at(),
            failure_code=self._failure("failure_code"),
            failure_message=self._failure("failure_message"),
            fault=self._fault(),
            updated_at=self.now,
            version=self.before.version + 1,
        )
        return PayoutDecision(
            before=self.before,
            after=self.payout,
            postings=tuple(p.posting(self.payout, self.now, self.actor) for p in self.postings),
            events=tuple(self.events),
            objects=tuple(self.objects),
            balance=counted(self.payout) + minus(counted(self.before)),
            calls=tuple(self.calls),
            pauses=tuple(self.pauses),
            payee=self._payee(),
        )

    def _payee(self) -> PayeeChange | None:
        """Return the change of the payee: also a person's decision about a transfer that is not undone, or its end."""
        was, now = (any(_keeps_transfer(leg) for leg in p.legs) for p in (self.before, self.payout))
        if was == now:
            return self.payee
        change = self.payee or PayeeChange(self.payout.destination_id)
        return replace(change, blocked=now)

    def _undo_transfer(self) -> None:
        """Plan the leg that undoes the transfer, if a later step ended for good."""
        transfer = needs_undoing(self.payout)
        if transfer is None or any(leg.attention_code for leg in self.payout.legs):
            return
        number = len(self.legs) + 1
        leg = PayoutLeg(
            leg_id=f"{self.payout.payout_id}-{number}",
            payout_id=self.payout.payout_id,
            number=number,
            step=Step.REVERSAL,
            processor=transfer.processor,
            amount_minor=transfer.amount_minor,
            currency=transfer.currency,
            undoes=transfer.object_id,
        )
        self.legs[leg.leg_id] = leg
        self.record_event("transfer_to_be_undone", leg=leg, object_id=transfer.object_id)
        self.payout = replace(self.payout, legs=tuple(self.legs.values()))

    def _take_again_or_give_back(self, outcome: PayoutOutcome) -> None:
        """Give the amount back to the balance once it is certain that nothing is paid, and take it again if it is."""
        payout = self.payout
        ended = next_payout_status(payout.status, outcome) in (
            PayoutStatus.FAILED,
            PayoutStatus.RETURNED,
            PayoutStatus.CANCELED,
        )
        if ended == payout.given_back:
            return
        count = payout.return_count + ended
        self.payout = replace(payout, given_back=ended, return_count=count)
        if not ended:
            self.record_event("processor_contradicts", alarm=True, amount_minor=payout.amount_minor)
        if payout.source is PayoutSource.EARNINGS:
            self.postings.append(give_back(payout, count) if ended else take_off(payout, again=count))

    def _note_payment(self) -> None:
        """Note when the payout became paid, and until when its money may come back.

        It stays the same payment when a person has decided about it, and when the transfer was taken back beside it.
        """
        if self.payout.status not in PAYOUT_PAID:
            return
        was, last = self.before.forward_legs[-1], self.payout.forward_legs[-1]
        is_same = was.status is LegStatus.SUCCEEDED and was.object_id == last.object_id
        if (self.before.status in PAYOUT_PAID or is_same) and self.payout.paid_at is not None:
            return
        self.payout = replace(
            self.payout, times_paid=self.payout.times_paid + 1, paid_at=self.now, settles_at=self.now + self._window
        )

    def _note_never_understood(self) -> None:
        """Alert a person when the payout settles with an object that may have paid and was never understood.

        Nothing asks about it any more, and a transfer that it may use stays with the payee.
        """
        if self.payout.status is not PayoutStatus.SETTLED or self.before.status is PayoutStatus.SETTLED:
            return
        named = {leg.manual_reference for leg in self.payout.legs}
        for leg in self.payout.forward_legs:
            for object_id in (each for each in leg.unknown_objects if each not in named):
                self.record_event("object_never_understood", alarm=True, leg=leg, object_id=object_id)

    @property
    def _window(self) -> float:
        return self.policy.route_of(self.payout.processor).return_window_seconds

    def _ask_for_returns(self) -> None:
        """Let each paid step be asked for again, a transfer too, for as long as others may undo it.

        So is a failed step, for as long as a person decides because another object of it may have paid. The last
        question is at the end of the window: the payout settles by its answer.
        """
        for leg in self.payout.legs:
            if leg.next_at is None and self._is_asked_about(leg):
                next_at = self.now + min(self._window, RETURN_CHECK_SECONDS)
                end = self.payout.settles_at or next_at
                self.update_leg(leg, next_at=min(next_at, end) if end > self.now else next_at)
        self.payout = replace(self.payout, legs=tuple(self.legs.values()))

    def _is_asked_about(self, leg: PayoutLeg) -> bool:
        if not self.calls_policy.rules_of(leg.processor).reads_refunds:
            return False
        return is_failed_in_doubt(leg) or (leg.step is not Step.REVERSAL and self._may_come_back(leg))

    def _may_come_back(self, leg: PayoutLeg) -> bool:
        """Return True if an object paid the leg, and the window for its return is open.

        While the money is on its way the window has not begun: that of a second payment too. While a person decides it
        is that of the last payment. An object that was not understood in its window is asked for through one more. An
        event about a settled payout extends its window by a day (`ask_again`).
        """
        payout = self.payout
        # Beside a person's payment too: the transfer of a second payment that comes back is to be undone.
        is_paid = leg.status is LegStatus.SUCCEEDED and (leg.manual_reference is None or has_object_that_may_pay(leg))
        has_object = bool(leg.objects or leg.unknown_objects)
        if not is_paid or not has_object or is_watched(leg) or payout.status in PAYOUT_UNPAID_ENDS:
            return False
        if any(other.undoes == leg.object_id for other in payout.legs):
            return False
        has_window = payout.status in (*PAYOUT_PAID, PayoutStatus.NEEDS_ATTENTION)
        if not has_window or is_on_its_way(leg):
            return True
        began = leg.last_sent_at or payout.created_at
        end = began + self._window if payout.settles_at is None else payout.settles_at
        return self.now < end + (self._window if leg.attention_code in NOT_UNDERSTOOD else 0.0)

    def _post_payments(self) -> None:
        """Post what each leg paid that was not posted before, and take back what it did not pay after all."""
        for leg in self.payout.legs:
            before = next((old for old in self.before.legs if old.leg_id == leg.leg_id), None)
            was = paid_by(before) if before is not None and self.before.ledger_posted else None
            now = paid_by(leg) if self.payout.ledger_posted else None
            if was == now:
                continue
            if before is not None and was is not None:
                self.postings.append(payment(self.payout, before, was, -1, self.payout.version))
            if now is not None:
                self.postings.append(payment(self.payout, leg, now, 1, self.payout.version))

    def _due_at(self) -> float | None:
        status, payout = self.payout.status, self.payout
        if status in PAYOUT_UNPOSTED:
            if status is PayoutStatus.AWAITING_APPROVAL:
                return None
            if status is PayoutStatus.HELD:
                longest = self.now + self.calls_policy.retry_max_seconds
                return longest if payout.hold_until is None else min(payout.hold_until, longest)
            return self.now if payout.hold_until is None else max(self.now, payout.hold_until)
        if not payout.ledger_posted:
            return None
        ready = [
            leg
            for leg in payout.legs
            if leg.status is LegStatus.PLANNED and leg.next_at is None and is_payout_leg_ready(payout, leg)
        ]
        if any(leg.attention_code is None for leg in ready):
            return self.now
        times = [leg.next_at for leg in payout.legs if leg.next_at is not None]
        # Once its window has passed, only the answer to the last question settles it.
        settles_at = payout.settles_at if status is PayoutStatus.PAID else None
        if settles_at is not None and (settles_at > self.now or not is_still_asked(payout)):
            times.append(settles_at)
        return min(times, default=None)

    def _why(self) -> str | None:
        return next((leg.attention_code for leg in self.payout.legs if leg.attention_code), None)

    def _failure(self, name: str) -> str | None:
        """Return the failure of the first leg that needs a person, else of the first leg that failed.

        The failure of an earlier try is over once the leg is sent again. One that no leg has explains only an end.
        """
        if self.payout.status in PAYOUT_PAID:
            return None
        worst = sorted(
            (leg for leg in self.payout.legs if failure_that_stands(leg)),
            key=lambda leg: leg.attention_code is None,
        )
        if not worst and self.payout.status not in PAYOUT_UNPAID_ENDS:
            return None
        if not worst:
            return self.payout.failure_code if name == "failure_code" else self.payout.failure_message
        if name == "failure_code":
            return failure_that_stands(worst[0])
        return worst[0].failure_message

    def _fault(self) -> Fault | None:
        if self.payout.status in PAYOUT_PAID:
            return None
        return next((leg.fault for leg in self.payout.legs if leg.fault is not None and not _is_sent_again(leg)), None)


def _is_sent_again(leg: PayoutLeg) -> bool:
    """Return True if the leg is on its way to be sent, so that what it failed by before is over."""
    return leg.attention_code is None and leg.status in (*TO_BE_SENT, *AWAITING_ANSWER)


def _keeps_transfer(leg: PayoutLeg) -> bool:
    """Return True if a person decides about a transfer that is not undone: nothing is paid to its payee meanwhile."""
    return leg.attention_code == NOT_UNDONE or (leg.step is Step.REVERSAL and is_failed_in_doubt(leg))


def counted(payout: Payout) -> BalanceDelta:
    """Return what the payout counts for in its payee's sums: on its way, paid, or nothing."""
    if payout.source is not PayoutSource.EARNINGS or payout.is_ended_unpaid:
        return BalanceDelta()
    if payout.status in PAYOUT_PAID:
        return BalanceDelta(paid_minor=payout.amount_minor)
    return BalanceDelta(in_flight_minor=payout.amount_minor)


def minus(delta: BalanceDelta) -> BalanceDelta:
    """Return the opposite change."""
    return BalanceDelta(-delta.earned_minor, -delta.clawed_back_minor, -delta.in_flight_minor, -delta.paid_minor)
