"""The replies of a processor, as a closed union. Adapters translate each answer into one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from refund_worker.domain.balance_transactions import TransactionsPage


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundDetails:
    """The processor's account of where the money of one refund object is. It is shown, and decides nothing.

    - `pending_reason`: why the object is pending, in the processor's own word.
    - `method`: the kind of payment method that the money goes back to, such as `card`.
    - `statement`: `credit` if the customer's statement shows a credit, `vanishes` if the payment disappears from it.
    - `trace_kind`, `trace_value`, `trace_status`: the number by which the customer's bank finds the money (ARN and the
      like), in the processor's own words. The value is None until it is known.
    - `emailed_to`, `emailed_at`, `act_by`: the customer must act: to which address (masked) the processor wrote, when,
      and until when they can act, in epoch seconds.
    """

    pending_reason: str | None = None
    method: str | None = None
    statement: str | None = None
    trace_kind: str | None = None
    trace_value: str | None = None
    trace_status: str | None = None
    emailed_to: str | None = None
    emailed_at: float | None = None
    act_by: float | None = None

    def after(self, earlier: RefundDetails) -> RefundDetails:
        """Return these details with what an earlier report knew of method, statement and trace, and this one does not.

        So a trace that was known once is not lost, in whatever order reports come.
        """
        kept = replace(self, method=self.method or earlier.method, statement=self.statement or earlier.statement)
        if kept.trace_value is None and (earlier.trace_value is not None or kept.trace_kind is None):
            return replace(
                kept,
                trace_kind=earlier.trace_kind,
                trace_value=earlier.trace_value,
                trace_status=earlier.trace_status,
            )
        return kept


NO_DETAILS = RefundDetails()
CHARGE_PENDING = "charge_pending"  # the refund waits because its payment, such as a bank debit, is not settled yet
# The reason of an object that waits for nothing but the bank.
PROCESSING = "processing"


@dataclass(frozen=True, slots=True)
class RefundObject:
    """One refund in the processor's own record. Untrusted: the engine checks amount, currency and payment.

    `status` is the processor's own status, or None; an unknown one is passed on, never guessed at. `amount_minor` is in
    the minor units of `currency` (upper case). `payment_refs` are all the processor's names for the payment it went
    over: some processors have two ids for one payment. `leg_id`, `attempt` and `installation` are what we wrote into
    its metadata, None if the refund is not ours. `details` say where its money is.
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
    details: RefundDetails = NO_DETAILS


@dataclass(frozen=True, slots=True)
class DisputeObject:
    """One dispute in the processor's own record: a customer's bank takes the money back. Untrusted, as a refund is.

    `status` is the processor's own status; `amount_minor` is the disputed amount in minor units of `currency` (upper
    case). `payment_refs` are all the processor's names for the payment. `due_by` is when evidence must be there.
    `money_returned` is True if the money that was withdrawn for it was reinstated, None if that is not reported.
    `refundable`: the payment can still be refunded, because it is only an inquiry.
    """

    dispute_id: str
    status: str | None
    amount_minor: int
    currency: str
    payment_refs: tuple[str, ...]
    reason: str | None
    created_at: datetime
    due_by: datetime | None = None
    money_returned: bool | None = None
    refundable: bool | None = None
    live: bool | None = None


@dataclass(frozen=True, slots=True)
class FraudWarning:
    """An early fraud warning: the bank suspects the payment. A refund now usually avoids a dispute.

    `actionable` is False once the payment is refunded in full or disputed.
    """

    warning_id: str
    payment_refs: tuple[str, ...]
    fraud_type: str | None
    actionable: bool | None
    created_at: datetime
    live: bool | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """The processor described a refund object."""

    object: RefundObject
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """A final refusal, by a code that is known to concern this payment. Nothing was created, and a repeat never will.

    `replayed`, here and below: the processor says that this is the stored answer to an earlier call under the same key.
    `more_than_left`: the payment has less left than was requested, so others may have refunded it elsewhere.
    """

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False
    more_than_left: bool = False


@dataclass(frozen=True, slots=True)
class AlreadyRefunded:
    """The payment is fully refunded, perhaps by an earlier attempt of ours: look it up before deciding."""

    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Blocked:
    """A temporary refusal (balance at the processor empty, dispute open). A later try needs a new key.

    Nothing was created.
    """

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """Proof that this call was not executed (429, 409 key in use, lock timeout). An earlier one may have been.

    The same key is sent again later. That uses up no attempt.
    """

    code: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotSent:
    """Proof that nothing was executed: no connection was made, so no byte of the request left.

    `attempted` is False if the call was not even tried (it got no slot): that says nothing about the processor.
    """

    reason: str
    attempted: bool = True


@dataclass(frozen=True, slots=True)
class Unanswered:
    """An unknown outcome: the call may have been executed, or may be later.

    `server_error` is True for a 5xx, which stays stored under its key.
    """

    reason: str
    server_error: bool = False


@dataclass(frozen=True, slots=True)
class Denied:
    """A fault of our set-up that every refund would meet. No refund has failed; stop asking and alert a person.

    It concerns the credentials (401, 403), the request's form, the account, the API version or the mode. `maybe_kept`:
    the processor may repeat this answer to the same key for ever, so a later try needs a new one.
    """

    code: str
    message: str
    maybe_kept: bool = False
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """A refusal for a fault in one record or one request. Nothing was created; a person must check that one.

    It is a 404 (wrong account, wrong mode, wrong id), or concerns an amount, a currency or a connected account.
    """

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


# Codes of a processor that does not know what it was asked about.
NOT_THERE = frozenset({"resource_missing", "not_found"})


UNKNOWN_REFUSAL, KEY_CONFLICT = "unknown_refusal", "idempotency_key_conflict"


@dataclass(frozen=True, slots=True)
class UnknownRefusal:
    """A refusal by a `code` that we do not know. A person must read the processor's own message."""

    code: str
    message: str
    request_id: str | None = None
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class KeyConflict:
    """The key was used with other parameters: our own bug. Stop, and never make a new key for it."""

    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """The refund objects of a list that was read to its end. An empty list is a miss, not a proof.

    An adapter returns all that were asked for as `objects`, no matter who made them. The engine knows the owners: it
    leaves the leg's own there and moves those that others made over its payment to `outside`. `explained_minor` (minor
    units) is how much of these our records know of: what persons paid manually over this payment.
    """

    objects: tuple[RefundObject, ...]
    outside: tuple[RefundObject, ...] = ()
    explained_minor: int = 0


@dataclass(frozen=True, slots=True)
class NoList:
    """There is no list of the refunds of this one payment, though the processor lists those of others.

    `untouched` is True if the processor's own record of the payment says that nothing of it was refunded. Then a leg of
    which no call is unanswered may be sent. An unanswered call may only be repeated, under the same key.
    """

    code: str
    message: str
    untouched: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list of refund objects, newest first. `after` asks for the next page; the last page has none."""

    objects: tuple[RefundObject, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class PaymentReading:
    """The processor's record of a payment. Untrusted. An unreported field has the value None.

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
    """The processor described a payment. `payment_refs` are all its names for it, as far as the answer has them."""

    reading: PaymentReading
    payment_refs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChargedPayment:
    """A payment in the processor's own record, with what its owner stored beside it. Untrusted.

    `processor_payment_id` is its main id, and `payment_refs` are all. Amounts are in minor units of `currency` (upper
    case). `metadata` are the texts of each of its objects: some processors have two for one payment. `complete` is
    False if those of one object were not read.
    """

    processor_payment_id: str
    payment_refs: tuple[str, ...]
    captured_minor: int
    refunded_minor: int
    currency: str
    succeeded: bool
    created_at: datetime
    metadata: tuple[Mapping[str, str], ...] = ()
    complete: bool = True

    def values(self, key: str) -> set[str]:
        """Return the different texts under this key, without those that are empty."""
        return {text for texts in self.metadata if (text := texts.get(key))}


@dataclass(frozen=True, slots=True)
class PaymentsPage:
    """One page of an account's payments, newest first. `after` continues it, and is None after the last page."""

    payments: tuple[ChargedPayment, ...]
    after: str | None


@dataclass(frozen=True, slots=True)
class ChargedRead:
    """The processor described a payment and its metadata."""

    payment: ChargedPayment


@dataclass(frozen=True, slots=True)
class PaymentUnreadable:
    """Payments cannot be read at this processor. Refunds continue.

    The adapter or the server cannot read them, or our key may not.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class NotReadable:
    """The adapter, the server or our key's permissions have no way to read this. It is not a failure.

    The value stays unknown: this answer is neither an empty list nor a balance of zero.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class DisputeRead:
    """The processor described a dispute."""

    object: DisputeObject


@dataclass(frozen=True, slots=True)
class DisputesFound:
    """The disputes of a list that was read to its end."""

    objects: tuple[DisputeObject, ...]


@dataclass(frozen=True, slots=True)
class WarningRead:
    """The processor described an early fraud warning."""

    object: FraudWarning


@dataclass(frozen=True, slots=True)
class WarningsFound:
    """The early fraud warnings of a list that was read to its end."""

    objects: tuple[FraudWarning, ...]


@dataclass(frozen=True, slots=True)
class BalanceRead:
    """The account's own money at the processor, by currency (upper case), in minor units; a debt is below zero.

    Refunds are paid from `available`. Money in `pending` becomes available later, without any action. A currency that
    is in neither has no balance at the processor.
    """

    available: Mapping[str, int]
    pending: Mapping[str, int]
    live: bool | None = None


NoAnswer = Busy | NotSent | Unanswered | Denied
Reply = Answered | Refused | AlreadyRefunded | Blocked | Misconfigured | UnknownRefusal | KeyConflict | NoAnswer
SearchReply = Found | NoList | Misconfigured | NoAnswer
PageReply = Page | Misconfigured | NoAnswer
PaymentReply = PaymentRead | PaymentUnreadable | Misconfigured | NoAnswer
DisputeReply = DisputeRead | NotReadable | Misconfigured | NoAnswer
DisputesReply = DisputesFound | NotReadable | Misconfigured | NoAnswer
WarningReply = WarningRead | NotReadable | Misconfigured | NoAnswer
WarningsReply = WarningsFound | NotReadable | Misconfigured | NoAnswer
BalanceReply = BalanceRead | NotReadable | Misconfigured | NoAnswer
ChargedReply = ChargedRead | NotReadable | Misconfigured | NoAnswer
PaymentsReply = PaymentsPage | NotReadable | Misconfigured | NoAnswer
TransactionsReply = TransactionsPage | NotReadable | Misconfigured | NoAnswer
ListReply = DisputesReply | WarningsReply | PaymentsReply | TransactionsReply
AccountReply = DisputeReply | WarningReply | BalanceReply | ChargedReply | ListReply
Answer = Reply | SearchReply | PageReply | PaymentReply | AccountReply
