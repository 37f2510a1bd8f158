"""What a processor can answer, as a closed union, and what it is asked. Adapters translate into these words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RefundObject:
    """One refund as the processor's own record describes it. Untrusted: the engine checks amount, currency and payment.

    `status` is the processor's own word, or None; unknown words are passed on, never guessed at. `amount_minor` is in
    the minor units of `currency` (upper case). `payment_refs` are all the processor's names for the payment it went
    over (at Stripe the charge's and the payment intent's id). `leg_id`, `attempt` and `installation` are what we wrote
    into its metadata, None if it is not ours.
    """

    processor_refund_id: str
    status: str | None
    amount_minor: int
    currency: str
    payment_refs: tuple[str, ...]
    leg_id: str | None
    attempt: int | None
    failure_code: str | None
    created_at: datetime
    live: bool | None = None
    installation: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The processor described a refund object."""

    object: RefundObject
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Executed and refused for good: this call created nothing and the same again never will.

    `replayed`, here and below: the processor says that this is the stored answer to an earlier call under the same key.
    """

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class AlreadyRefunded:
    """The payment is fully refunded, perhaps by an earlier try of ours: look before deciding."""

    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """Refused for now (processor balance empty, dispute open): created nothing; a later try needs a new key."""

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """Proved not executed (429, 409 key in use, lock timeout): the same key again, later. Costs no attempt."""

    code: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proved not executed: no connection was made, so no byte of the request left.

    `begun` is False where we did not even try (our turn did not come): that says nothing about the processor.
    """

    reason: str
    begun: bool = True


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Unknown: it may have been executed, now or later. `server_error` is True for a 5xx, which sticks to its key."""

    reason: str
    server_error: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """The processor does not accept our credentials (401, 403): no refund has failed; stop asking and tell a person."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The payment is not known there (404: wrong account, wrong mode, wrong id): a person must mend the set-up."""

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """The key was used with other parameters: our own bug. Stop; never make a new key for it."""

    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """All refund objects of ours for one leg, searched to the end of the list; empty is a miss, not a proof."""

    objects: tuple[RefundObject, ...]
    foreign_minor: int = 0  # sum of non-failed refunds on the same payment that are not ours


@dataclass(frozen=True, slots=True)
class PaymentWord:
    """What the processor says of a payment. Untrusted. None stands for what it does not say.

    `captured_minor` and `refunded_minor` are in the minor units of `currency` (upper case); `refunded_minor` is all
    that was refunded of it so far, by us too. `disputed`: its refunds are refused while the dispute is open.
    """

    captured_minor: int | None
    currency: str
    live: bool | None = None
    disputed: bool | None = None
    refunded_minor: int | None = None


@dataclass(frozen=True, slots=True)
class PaymentRead:
    """The processor described a payment."""

    word: PaymentWord


@dataclass(frozen=True, slots=True)
class PaymentUnreadable:
    """Payments can't be read there (the adapter or the server has no way, or our key may not): refunds go on."""

    reason: str


NoAnswer = Busy | NotSent | Unanswered | Denied
Reply = Answered | Refused | AlreadyRefunded | Blocked | Misconfigured | KeyConflict | NoAnswer
SearchReply = Found | Misconfigured | NoAnswer
PaymentReply = PaymentRead | PaymentUnreadable | Misconfigured | NoAnswer


@dataclass(frozen=True, slots=True)
class LegOrder:
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
