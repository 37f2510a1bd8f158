"""The calls that a decision makes to a processor, as data."""

from __future__ import annotations

from dataclasses import dataclass

from refund_worker.domain.processor_replies import Answer


@dataclass(frozen=True, slots=True)
class RefundInstruction:
    """What one attempt asks for: `amount_minor` of `currency` back over `processor_payment_id`.

    `installation` says which database knows the leg: several may share one account at the processor.
    """

    refund_id: str
    leg_id: str
    attempt: int
    processor_payment_id: str
    amount_minor: int
    currency: str
    reason: str
    installation: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Call the processor with the attempt's frozen key and body; a new attempt's body is frozen from `order`."""

    leg_id: str
    processor: str
    attempt: int
    key: str
    order: RefundInstruction


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask which refund objects exist over this leg's payment, ours and others'.

    `before_sending`: a send waits for nothing but this list.
    """

    leg_id: str
    processor: str
    processor_payment_id: str
    before_sending: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask what a known refund object is now."""

    leg_id: str
    processor: str
    processor_refund_id: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Ask what the processor says of the payment that the leg would go over."""

    leg_id: str
    processor: str
    processor_payment_id: str


Call = Send | LookUp | Fetch | Verify


@dataclass(frozen=True, slots=True)
class RecordedReply:
    """What a processor said about one leg: the answer to `call`, or something unasked (`call` is None).

    `asked_at` (epoch seconds) is when the question was asked: the quiet window is measured against it, never against
    the time of the answer. `call` None stands for a webhook, a poll or a reconciliation.
    """

    refund_id: str
    leg_id: str
    call: Call | None
    reply: Answer
    asked_at: float | None = None
