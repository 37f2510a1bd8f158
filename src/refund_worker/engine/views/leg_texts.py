"""Texts about a leg for the customer and for staff, and the time by which its money is expected.

The texts come from one table (`leg_messages.py`), which a file replaces (`message_file.py`). Each process has one set
in force: `build_runtime` sets it from the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.payouts.payout import payout_of_object
from refund_worker.domain.processor_replies import CHARGE_PENDING
from refund_worker.domain.refund import Leg, LegStatus
from refund_worker.domain.state_machine import UNPAID_FINAL, waits_for_customer
from refund_worker.engine.views.failure_codes import OTHER_CODE, code_with_entry
from refund_worker.engine.views.leg_messages import CODE_MESSAGES, DETAIL_MESSAGES, STATUS_MESSAGES, Message
from refund_worker.engine.views.money_format import money
from refund_worker.engine.views.payout_texts import payout_texts_in_force
from refund_worker.engine.views.refund_facts import is_of_earlier_send

_SATURDAY = 5


@dataclass(frozen=True, slots=True)
class LegTexts:
    """The messages by status, detail and code, and the business days that money takes.

    `days` has (earliest, latest) by processor, and by processor and method (`processor/card`).
    """

    status: Mapping[str, Message] = field(default_factory=lambda: STATUS_MESSAGES)
    detail: Mapping[str, Message] = field(default_factory=lambda: DETAIL_MESSAGES)
    code: Mapping[str, Message] = field(default_factory=lambda: CODE_MESSAGES)
    days: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def expected_by(self, leg: Leg) -> tuple[datetime, datetime] | None:
        """Return the earliest and latest time at which the customer sees the money, or None if it is not known.

        The days count from the end of a wait for the customer, the payment or our balance. During the wait none are
        expected.
        """
        report = leg.report
        if leg.status not in (LegStatus.PENDING, LegStatus.SUCCEEDED) or report is None or is_paid_manually(leg):
            return None
        if report.waits:
            return None
        days = self.days.get(f"{leg.processor}/{report.details.method}") or self.days.get(leg.processor)
        if days is None:
            return None
        since = datetime.fromtimestamp(report.moving_since, UTC)
        return business_days_after(since, days[0]), business_days_after(since, days[1])

    def of(self, leg: Leg, replacements: Sequence[Leg] = ()) -> Message:
        """Return the texts for the customer and for staff. `replacements` are the legs that replace a failed one."""
        values = self._values(leg, replacements)
        parts = list(self._parts(leg, replacements))
        customer = " ".join(part.customer.format_map(values) for part in parts if part.customer)
        return Message(customer, " ".join(part.staff.format_map(values) for part in parts))

    def _parts(self, leg: Leg, replacements: Sequence[Leg]) -> Iterator[Message]:
        yield self.status[status_key(leg, replacements)]
        if (code := _code(leg)) is not None:
            yield self._about(leg, code)
        yield from (self.detail[name] for name in _details(leg))
        if self.expected_by(leg) is not None:
            yield self.detail["expected"]
        report = leg.report
        if report is None or leg.status is not LegStatus.SUCCEEDED or is_paid_manually(leg):
            return
        if report.details.statement == "vanishes":
            yield self.detail["vanishes"]
        elif report.details.trace_value:
            yield self.detail["trace"]

    def _about(self, leg: Leg, code: str) -> Message:
        """Return the message about a code. The same code of a payout speaks of the payee's account."""
        has_ended, texts = leg.status in UNPAID_FINAL, payout_texts_in_force()
        of_payout = texts.about(code, has_ended=has_ended) if leg.processor == PAYOUT else None
        return of_payout or self.code.get(code_with_entry(code), self.code[OTHER_CODE])

    def _values(self, leg: Leg, replacements: Sequence[Leg]) -> dict[str, str]:
        details = leg.report.details if leg.report else None
        expected = self.expected_by(leg)
        to_payee = next((each for each in (leg, *replacements) if each.processor == PAYOUT), None)
        return {
            "amount": money(leg.amount_minor, leg.currency),
            "credits": f"{leg.reversed_credits:,}",  # only texts about returned credits have it
            "payment": leg.payment_id,
            "code": _code(leg) or "",  # only texts about payouts have it
            "payee": to_payee.processor_payment_id if to_payee else "",
            "payout": payout_id_of(leg) or "",
            "processor": leg.processor,
            "processor_refund_id": (leg.processor_refund_id or "").removeprefix(MANUAL_PREFIX),
            "email": (details.emailed_to if details else None) or "",
            "act_by": _day(details.act_by) if details and details.act_by else "",
            "trace": (details.trace_value if details else None) or "",
            "trace_kind": ((details.trace_kind if details else None) or "").replace("_", " "),
            "earliest": f"{expected[0]:%Y-%m-%d}" if expected else "",
            "latest": f"{expected[1]:%Y-%m-%d}" if expected else "",
        }


def _details(leg: Leg) -> Iterator[str]:
    details = leg.report.details if leg.report else None
    if details is None:
        return
    if leg.status is LegStatus.PENDING and details.pending_reason in (CHARGE_PENDING, "insufficient_funds"):
        yield details.pending_reason
    if leg.status is LegStatus.REQUIRES_ACTION:
        if details.emailed_to:
            yield "emailed"
        if leg.canceling is not None:
            yield "canceling"
        elif details.act_by:
            yield "act_by"


def _code(leg: Leg) -> str | None:
    """Return the code that the texts explain, or None."""
    if leg.status in UNPAID_FINAL:
        return leg.attention_code or leg.failure_code
    code = leg.attention_code
    return None if is_of_earlier_send(code, leg) else code


def payout_id_of(leg: Leg) -> str | None:
    """Return the id of the payout that pays the leg, or None."""
    return payout_of_object(leg.processor_refund_id) if leg.processor == PAYOUT and leg.processor_refund_id else None


def status_key(leg: Leg, replacements: Sequence[Leg] = ()) -> str:
    """Return the key of the leg's status in the table of messages."""
    if leg.status is LegStatus.SUCCEEDED:
        if not leg.amount_minor:
            return "succeeded_zero"
        if is_paid_manually(leg):
            return "succeeded_manually"
        return "succeeded_payout" if leg.processor == PAYOUT else "succeeded"
    if _has_failed(leg):
        return _key_of_failed(leg, replacements)
    if leg.status is LegStatus.PENDING and leg.processor == PAYOUT:
        return "pending_payout"
    if leg.status in (LegStatus.PLANNED, LegStatus.WAITING) and leg.attention_code:
        return LegStatus.BLOCKED.value  # it is stopped, so it will not be sent soon
    if leg.status is LegStatus.REQUIRES_ACTION and not waits_for_customer(leg):
        return LegStatus.PENDING.value  # the customer has acted
    return leg.status.value


def _key_of_failed(leg: Leg, replacements: Sequence[Leg]) -> str:
    """Return the key of a leg whose money takes another way: other payments, the payee, a person or the balance."""
    failed = "failed_payout" if leg.processor == PAYOUT else "failed"
    if not leg.reallocated:
        return failed
    if leg.reversed_credits:
        return f"{failed}_split" if leg.reversed_credits < leg.credits else f"{failed}_returned"
    to_payee = [other.processor == PAYOUT for other in replacements]
    # A person decides about a leg over the same payment, and payouts apart no other leg is over it.
    to_person = [other.payment_id == leg.payment_id and other.processor != PAYOUT for other in replacements]
    if any(to_person):
        return failed if all(to_person) else f"{failed}_partly_replaced"
    if any(to_payee):
        return "failed_paid_out" if all(to_payee) else "failed_partly_paid_out"
    return f"{failed}_replaced"


def _has_failed(leg: Leg) -> bool:
    """Return True if the leg's money takes another way, or has to: it was not just canceled with its refund."""
    if leg.status is LegStatus.CANCELED:
        return bool(leg.objects) or (leg.reallocated and leg.failure_code is not None)
    return leg.status is LegStatus.FAILED


def is_paid_manually(leg: Leg) -> bool:
    """Return True if a person paid the leg in another way."""
    return (leg.processor_refund_id or "").startswith(MANUAL_PREFIX)


def business_days_after(moment: datetime, days: int) -> datetime:
    """Return the moment this many days from Monday to Friday later."""
    while days > 0:
        moment += timedelta(days=1)
        days -= moment.weekday() < _SATURDAY
    return moment


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


_in_force = LegTexts()


def use_texts(texts: LegTexts) -> None:
    """Put these texts in force for this process."""
    global _in_force
    _in_force = texts


def texts_in_force() -> LegTexts:
    """Return the texts of this process; English, and no expected days, unless settings say otherwise."""
    return _in_force
