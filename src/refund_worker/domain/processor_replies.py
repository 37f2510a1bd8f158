"""What a processor can answer, as a closed union, and what it is asked. Adapters translate into these words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class RefundObject:
    """One refund as the processor's own record describes it. Untrusted: the engine checks amount, currency and payment.

    `status` is the processor's own word, or None; unknown words are passed on, never guessed at. `amount_minor` is in
    the minor units of `currency` (upper case). `payment_refs` are all the processor's names for the payment it went
    over: some have two ids for one payment. `leg_id`, `attempt` and `installation` are what we wrote
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
    """Refused for good, by a code that is known to be about this payment: this call created nothing and the same again
    never will.

    `replayed`, here and below: the processor says that this is the stored answer to an earlier call under the same key.
    `more_than_left`: the payment has less left than was asked for, so somebody may have refunded it elsewhere.
    """

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False
    more_than_left: bool = False


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
    """Our set-up is at fault, and every refund would meet it: credentials (401, 403), the request's form, the account,
    the API version or the mode. No refund has failed; stop asking and tell a person.

    `maybe_kept`: the processor may repeat this answer to the same key for ever, so a later try needs a new one.
    """

    code: str
    message: str
    maybe_kept: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """Refused for what one record or one request has wrong (404: wrong account, wrong mode, wrong id; an amount, a
    currency, a connected account): created nothing; a person must look at that one."""

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


UNKNOWN_REFUSAL = "unknown_refusal"


@dataclass(frozen=True, slots=True)
class UnknownRefusal:
    """Refused in the processor's own words, and by a `code` that we do not know: a person must read them."""

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
    """Refund objects, searched to the end of the list; empty is a miss, not a proof.

    An adapter gives all that were asked for as `objects`, whoever made them. The engine, which knows whose they are,
    leaves the leg's own there and puts what others made over its payment into `foreign`. `explained_minor` is how much
    of that our books know of: what persons paid by hand over this payment, in minor units.
    """

    objects: tuple[RefundObject, ...]
    foreign: tuple[RefundObject, ...] = ()
    explained_minor: int = 0


@dataclass(frozen=True, slots=True)
class PaymentReading:
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

    word: PaymentReading


@dataclass(frozen=True, slots=True)
class PaymentUnreadable:
    """Payments can't be read there (the adapter or the server has no way, or our key may not): refunds go on."""

    reason: str


NoAnswer = Busy | NotSent | Unanswered | Denied
Reply = Answered | Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal | KeyConflict | NoAnswer
SearchReply = Found | Misconfigured | NoAnswer
PaymentReply = PaymentRead | PaymentUnreadable | Misconfigured | NoAnswer
Answer = Reply | SearchReply | PaymentReply
