"""The texts about a payout for the payee and for staff, and what a compliance outcome hides.

The texts come from one table (`payout_messages.py`), which the file of the setting `MESSAGES_FILE` replaces. Each
process has one set in force: `build_runtime` sets it from the settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.payouts.actions import MANUAL_PAYMENT_RETURNED
from refund_worker.domain.payouts.destination import MASKED_MANUAL
from refund_worker.domain.payouts.next_step import CLAWED_BACK, DESTINATION_CHANGED, PAID_BY_A_PERSON
from refund_worker.domain.payouts.objects import PAID_TWICE
from refund_worker.domain.payouts.payee import REFUSED_BY_PROCESSOR
from refund_worker.domain.payouts.payout import PAYOUT_PAID, PAYOUT_UNPAID_ENDS, Payout, PayoutSource, PayoutStatus
from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import LegStatus
from refund_worker.engine.views.failure_codes import CODES_OF_GROUPS
from refund_worker.engine.views.leg_messages import Message
from refund_worker.engine.views.money_format import money
from refund_worker.engine.views.payout_codes import FIRST_OF_PAYOUT_CODES
from refund_worker.engine.views.payout_messages import (
    PAYOUT_CODE_MESSAGES,
    PAYOUT_DETAIL_MESSAGES,
    PAYOUT_HOLD_MESSAGES,
    PAYOUT_STATUS_MESSAGES,
)
from refund_worker.engine.views.payout_shared_codes import ENTRY_OF_SHARED_CODE
from refund_worker.processors import registry

# By whose fault it was, for a code that the table does not have.
_OF_FAULT: Mapping[Fault, str] = {
    Fault.PAYEE: "payee_account_unusable",
    Fault.PROCESSOR: "payout_failed",
    Fault.COMPLIANCE: REFUSED_BY_PROCESSOR,
}
_EXPLAINS_CODE = (
    PayoutStatus.NEEDS_ATTENTION,
    PayoutStatus.RECIPIENT_ACTION,
    PayoutStatus.RETURNING,
    PayoutStatus.FAILED,
    PayoutStatus.RETURNED,
    PayoutStatus.CANCELED,
)
# The texts of these codes say why a payout ended. All others say what it waits for, which is over at its end.
_EXPLAINS_END = frozenset(
    {
        *(key for key in PAYOUT_CODE_MESSAGES if key.startswith("payee_")),
        REFUSED_BY_PROCESSOR,
        DESTINATION_CHANGED,
        CLAWED_BACK,
        MANUAL_PAYMENT_RETURNED,
        "payout_failed",
        "canceled",
    }
)


@dataclass(frozen=True, slots=True)
class Reported:
    """The last words of the processor about a payout: when its money arrives (epoch seconds), and its trace."""

    arrives_at: float | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class PayoutTexts:
    """The messages by status, reason of a hold, detail and failure code."""

    status: Mapping[str, Message] = field(default_factory=lambda: PAYOUT_STATUS_MESSAGES)
    hold: Mapping[str, Message] = field(default_factory=lambda: PAYOUT_HOLD_MESSAGES)
    detail: Mapping[str, Message] = field(default_factory=lambda: PAYOUT_DETAIL_MESSAGES)
    code: Mapping[str, Message] = field(default_factory=lambda: PAYOUT_CODE_MESSAGES)

    def of(self, payout: Payout, reported: Reported | None = None) -> Message:
        """Return the texts for the payee (`customer`) and for staff."""
        word = reported or Reported()
        values, parts = _values(payout, word), list(self._parts(payout, word))
        place = Message(payout.destination_masked, payout.destination_masked)
        if payout.destination_masked == MASKED_MANUAL:
            place = self.detail["destination_manual"]
        of_payee, of_staff = values | {"destination": place.customer}, values | {"destination": place.staff}
        payee = " ".join(part.customer.format_map(of_payee) for part in parts if part.customer)
        return Message(payee, " ".join(part.staff.format_map(of_staff) for part in parts))

    def of_hold(self, code: str, until: float | None, processor: str) -> Message:
        """Return the texts about a reason to wait alone. `until` is in epoch seconds."""
        found = self.hold[code]
        values = {"hold_until": _minute(until), "processor": processor}
        return Message(found.customer.format_map(values), found.staff.format_map(values))

    def about(self, code: str, *, has_ended: bool) -> Message | None:
        """Return the message about a payout's failure code in a refund, or None for a code that only refunds have.

        The customer is not asked to request the payout again: the refund decides what follows.
        """
        key = _key_of_code(code)
        if key is None:
            return None
        return self._at_end(key, PayoutSource.WITHDRAWAL) if has_ended else self.code[key]

    def _parts(self, payout: Payout, word: Reported) -> Iterator[Message]:
        key = code_key(payout) if payout.status in _EXPLAINS_CODE else None
        yield self._status(payout, key)
        if payout.status in PAYOUT_UNPAID_ENDS and key != CLAWED_BACK:
            yield self.detail[_where_the_amount_went(payout)]
        if payout.status is PayoutStatus.HELD and payout.hold_code in self.hold:
            yield self.hold[payout.hold_code or ""]
        elif payout.status is PayoutStatus.QUEUED and payout.hold_until is not None:
            yield self.hold["paused"]
        if payout.status is PayoutStatus.RECIPIENT_ACTION:
            yield self.code[key] if key in _PAYEES_PART else self.detail["collect"]
            if any(leg.canceling for leg in payout.legs):
                yield self.detail["canceling"]
            elif payout.act_by is not None:
                yield self.detail["act_by"]
        elif key is not None:
            yield from self._cause(payout, key)
        if _is_paid_by_a_person(payout):
            yield self.detail["by_a_person"]
        elif payout.status is PayoutStatus.PENDING and word.arrives_at is not None:
            yield self.detail["expected"]
        elif payout.status in PAYOUT_PAID and word.trace and not _reference(payout):
            yield self.detail["trace"]

    def _status(self, payout: Payout, key: str | None) -> Message:
        """Return the message about the status. To the payee, a payout that a person pays or has paid is not delayed."""
        found = self.status[payout.status]
        if _reference(payout) and not _is_paid_by_a_person(payout):
            manually = self.detail["manually"]
            return Message(manually.customer, f"{found.staff} {manually.staff}")
        if payout.status is PayoutStatus.NEEDS_ATTENTION:
            if payout.forward_legs[-1].status is LegStatus.SUCCEEDED and key == PAID_TWICE:
                return Message(self.status[PayoutStatus.PAID].customer, found.staff)
            if key == PAID_BY_A_PERSON:
                return Message(self.status[PayoutStatus.QUEUED].customer, found.staff)
        return found

    def _cause(self, payout: Payout, key: str) -> Iterator[Message]:
        """Yield what the failure code means. One that says what the payout waits for is over at its end."""
        if payout.status is PayoutStatus.NEEDS_ATTENTION:
            yield self.code[key]
        elif payout.status is PayoutStatus.RETURNING:
            if key in _EXPLAINS_END and key not in _ASKS_AGAIN:
                yield self.code[key]
        else:
            is_called_off = payout.status is PayoutStatus.CANCELED and key == _NOT_ACCEPTED
            yield self._at_end("canceled" if is_called_off else key, payout.source)

    def _at_end(self, key: str, source: PayoutSource) -> Message:
        explains = key in _EXPLAINS_END
        found = self.code[key] if explains else self.detail["ended"]
        # The payee cannot ask for the payout of a withdrawal: its refund decides what follows.
        hides = source is PayoutSource.WITHDRAWAL and (not explains or key in _ASKS_AGAIN)
        return Message("", found.staff) if hides else found


_NOT_ACCEPTED = "payee_refused"
# The codes whose text for the payee is to ask for the payout again.
_ASKS_AGAIN = frozenset({DESTINATION_CHANGED, "canceled"})
# The codes that say what the payee must do.
_PAYEES_PART = frozenset(key for key in PAYOUT_CODE_MESSAGES if key.startswith("payee_") and key != _NOT_ACCEPTED)


def _where_the_amount_went(payout: Payout) -> str:
    """Return the key of the detail: to the payee's balance, or to the refund for a withdrawal."""
    key = "lost" if payout.lost_minor else "given_back"
    return key if payout.source is PayoutSource.EARNINGS else f"{key}_withdrawal"


def code_key(payout: Payout) -> str | None:
    """Return the key of the payout's failure code in the table of messages, or None without a failure."""
    code = failure_code_of(payout)
    if code is None:
        return None
    key = _key_of_code(code)
    if key is not None:
        return key
    return _OF_FAULT.get(payout.fault, "other") if payout.fault is not None else "other"


def _key_of_code(code: str) -> str | None:
    """Return the key of this failure code in the table of messages, or None if the table has none for it."""
    ours = registry.explained_by().get(code, code)
    names = (ours, FIRST_OF_PAYOUT_CODES.get(ours), ENTRY_OF_SHARED_CODE.get(ours), CODES_OF_GROUPS.get(ours))
    return next((name for name in names if name in PAYOUT_CODE_MESSAGES and name is not None), None)


def failure_code_of(payout: Payout) -> str | None:
    """Return the failure code that is shown: of a compliance outcome only that the processor refused."""
    if payout.fault is Fault.COMPLIANCE and payout.failure_code is not None:
        return REFUSED_BY_PROCESSOR
    return payout.failure_code


def is_of_compliance(code: str | None) -> bool:
    """Return True for a processor's code of a reason of law, by the tables of the adapters.

    Such a code can come with an object that is not over: PayPal holds a payout while it checks.
    """
    return code is not None and registry.explained_by().get(code) == REFUSED_BY_PROCESSOR


def _values(payout: Payout, word: Reported) -> dict[str, str]:
    return {
        "amount": money(payout.amount_minor, payout.currency),
        "processor": payout.processor,
        "refund": payout.refund_id or "",
        "hold_until": _minute(payout.hold_until),
        "act_by": _minute(payout.act_by),
        "settles_at": _day(payout.settles_at),
        "arrives_at": _day(word.arrives_at),
        "trace": word.trace or "",
        "lost": money(payout.lost_minor, payout.currency),
        "reference": _reference(payout),
        "code": failure_code_of(payout) or "",
    }


def _reference(payout: Payout) -> str:
    """Return the reference of a manual payment that pays the payout, or an empty text: also if it came back."""
    if payout.status in PAYOUT_UNPAID_ENDS:
        return ""
    last = payout.forward_legs[-1].object_id or "" if payout.forward_legs else ""
    return last.removeprefix(MANUAL_PREFIX) if last.startswith(MANUAL_PREFIX) else ""


def _is_paid_by_a_person(payout: Payout) -> bool:
    """Return True if a person paid it on a route on which a person pays: the step keeps the code of its wait."""
    return bool(_reference(payout)) and payout.forward_legs[-1].failure_code == PAID_BY_A_PERSON


def _minute(at: float | None) -> str:
    """Return day and time. A wait can end on the day on which the text is read."""
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _day(at: float | None) -> str:
    return "" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


_in_force = PayoutTexts()


def use_payout_texts(texts: PayoutTexts) -> None:
    """Put these texts in force for this process."""
    global _in_force
    _in_force = texts


def payout_texts_in_force() -> PayoutTexts:
    """Return the texts of this process; English, unless a file replaces them."""
    return _in_force
