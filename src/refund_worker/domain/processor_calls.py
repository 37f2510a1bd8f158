"""The calls to a processor that a decision can plan, as data."""

from __future__ import annotations

from dataclasses import dataclass, field

from refund_worker.domain.processor_replies import Answer


@dataclass(frozen=True, slots=True)
class SharesBack:
    """The shares of others that a refund takes back: True or False, or None for the processor's default.

    `transfer` is the part that was transferred to the connected account `destination`, `application_fee` the platform's
    fee.
    """

    transfer: bool | None = None
    application_fee: bool | None = None
    destination: str | None = None

    @property
    def payer(self) -> str | None:
        """Return the connected account from which a share is taken back, or None."""
        return self.destination if self.transfer else None


NO_SHARES = SharesBack()


@dataclass(frozen=True, slots=True)
class RefundInstruction:
    """The request of one attempt: refund `amount_minor` (minor units) of `currency` over `processor_payment_id`.

    `installation` names the database that knows the leg: several may share one account at the processor.
    `instructions_email` is where the processor may ask the customer for bank details, if it takes an address.
    """

    refund_id: str
    leg_id: str
    attempt: int
    processor_payment_id: str
    amount_minor: int
    currency: str
    reason: str
    installation: str = ""
    instructions_email: str | None = field(default=None, repr=False)
    shares: SharesBack = NO_SHARES


@dataclass(frozen=True, slots=True)
class Send:
    """A send with the attempt's frozen key and body. The body of a new attempt is frozen from `order`."""

    leg_id: str
    processor: str
    attempt: int
    key: str
    order: RefundInstruction


@dataclass(frozen=True, slots=True)
class LookUp:
    """A question for the refund objects over this leg's payment, ours and others'.

    `before_sending`: a send waits only for this list.
    """

    leg_id: str
    processor: str
    processor_payment_id: str
    before_sending: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """A question for the current state of a known refund object."""

    leg_id: str
    processor: str
    processor_refund_id: str


@dataclass(frozen=True, slots=True)
class Verify:
    """A question for the processor's record of the payment that the leg would use."""

    leg_id: str
    processor: str
    processor_payment_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """An order to cancel a refund object that waits for the customer."""

    leg_id: str
    processor: str
    processor_refund_id: str


Call = Send | LookUp | Fetch | Verify | Cancel


@dataclass(frozen=True, slots=True)
class RecordedReply:
    """A processor's reply about one leg: the answer to `call`, or a report that it made unasked.

    `asked_at` (epoch seconds) is the time of the question: the quiet window is measured against it, never against the
    time of the answer. A report from a webhook or a listing has no `call`.
    """

    refund_id: str
    leg_id: str
    call: Call | None
    reply: Answer
    asked_at: float | None = None
