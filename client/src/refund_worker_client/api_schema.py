"""The JSON objects of the HTTP API as `TypedDict`s: the one place that says which fields each of them has.

The engine's views build them, /openapi.json describes them, the command line and the client return them. Amounts are
integers in minor units, times are ISO 8601 in UTC, `null` is a value that is not known or does not apply.

This module imports only the standard library: the distribution `refund-worker-client` ships a copy of it
(`client/src/refund_worker_client/api_schema.py`, made by `python -m tests.test_client_copies`, never edited).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, NotRequired, TypeVar

if TYPE_CHECKING:
    from typing import TypedDict
else:
    try:
        from typing_extensions import TypedDict  # before Python 3.12 Pydantic accepts only this one
    except ImportError:  # the client has no Pydantic and does not need it
        from typing import TypedDict

T = TypeVar("T")

FundsState = Literal["current", "stale", "unreadable", "not_read", "no_balance"]
Kind = Literal["credit_refund", "withdrawal"]
Destination = Literal["payments", "balance", "payout", "manual"]
To = Literal["balance", "source", "payout"]
Purpose = Literal["payout", "expiry", "other"]
Outcome = Literal["paid_manually", "reverse"]
Action = Literal["approve", "reject", "cancel", "retry", "resolve"]
RefundStatus = Literal[
    "queued",
    "awaiting_approval",
    "sending",
    "pending",
    "reversing",
    "needs_attention",
    "succeeded",
    "partially_succeeded",
    "failed",
    "rejected",
    "canceled",
]
PayoutStatus = Literal[
    "queued",
    "awaiting_approval",
    "held",
    "sending",
    "pending",
    "recipient_action",
    "paid",
    "returning",
    "needs_attention",
    "settled",
    "failed",
    "returned",
    "canceled",
    "rejected",
]
PayoutStep = Literal["transfer", "payout", "reversal"]
HoldCode = Literal[
    "payee_paused",
    "payee_incomplete",
    "payee_under_review",
    "destination_cooldown",
    "another_payout",
    "interval",
]
Fault = Literal["payee", "ours", "processor", "compliance"]
PayoutMethod = Literal["standard", "instant"]
PayoutRunStatus = Literal["planning", "awaiting_approval", "paying", "planned", "done", "canceled"]
PayoutRunApproval = Literal["approval_threshold", "velocity", "schedule", "funds_short"]
LegStatus = Literal[
    "planned",
    "sending",
    "waiting",
    "unknown",
    "blocked",
    "pending",
    "requires_action",
    "succeeded",
    "failed",
    "canceled",
]
WaitCause = Literal[
    "approval",
    "person",
    "processor_paused",
    "circuit_open",
    "listing_stale",
    "retry",
    "result_unknown",
    "processor",
    "payout",
    "payout_held",
    "customer",
    "worker",
]
ReconciliationStatus = Literal["queued", "running", "done"]
DifferenceState = Literal["open", "applied", "acknowledged", "gone"]
DifferenceKind = Literal[
    "not_recorded",
    "not_there",
    "amount",
    "currency",
    "status",
    "refunded_twice",
    "outside_refund",
    "dispute",
    "payment",
    "ledger",
]
BatchStatus = Literal["taking_in", "complete", "stopped"]
FraudWarningStatus = Literal["unmatched", "open", "closed"]
OutsideStatus = Literal["unmatched", "pending", "posted", "needs_decision", "linked", "failed"]
ShortfallDecision = Literal["write_off", "debt"]


class Amount(TypedDict):
    """Minor units of one currency."""

    currency: str
    requested_minor: int
    succeeded_minor: int


class Trace(TypedDict):
    """The number by which the customer's bank finds the money, such as an ARN; `value` is null until it is known."""

    kind: str | None
    value: str | None
    status: str | None


class ExpectedBy(TypedDict):
    """The times between which the customer sees the money."""

    earliest: str
    latest: str


class NextAction(TypedDict):
    """The customer's part: the masked address of the e-mail with instructions, its time, and the time left to act."""

    email_sent_to: str | None
    email_sent_at: str | None
    expires_at: str | None


class Leg(TypedDict):
    """The part of a refund that goes back over one payment.

    `processor_status` and `pending_reason` are the processor's own words. `statement` says whether the customer's
    statement shows a credit, or the payment vanishes from it. `next_action` is there while the customer must act.
    """

    leg_id: str
    payment_id: str
    processor: str
    processor_account: str
    amount_minor: int
    currency: str
    credits: int
    status: LegStatus
    processor_refund_id: str | None
    attempts: int
    failure_code: str | None
    blocked_by: list[str]
    unreturnable_minor: int
    processor_status: str | None
    pending_reason: str | None
    next_action: NextAction | None
    trace: Trace | None
    statement: Literal["credit", "vanishes"] | None
    expected_by: ExpectedBy | None
    customer_text: str
    staff_text: str


class Wait(TypedDict):
    """One cause for which a refund waits; `until` is the time of the next try or question, if it has one."""

    cause: WaitCause
    text: str
    processor: str | None
    since: str | None
    until: str | None
    code: str | None
    reason: str | None


class Refund(TypedDict):
    """A refund with its legs and one amount for each currency."""

    id: str
    status: RefundStatus
    kind: Kind
    to: To
    customer_id: str
    transaction_id: str | None
    credits: int
    amounts: list[Amount]
    legs: list[Leg]
    reason: str
    note: str | None
    metadata: dict[str, str]
    idempotency_key: str
    client: str
    actor: str
    requested_by: str | None
    destinations: list[Destination] | None
    payee_id: str | None
    instructions_email: str | None
    failure_code: str | None
    failure_message: str | None
    available_actions: list[Action]
    version: int
    created_at: str
    updated_at: str


# `from` is a keyword of Python: only this form of a TypedDict can hold it.
Event = TypedDict(
    "Event",
    {
        "at": str,
        "what": str,
        "who": str,
        "why": str | None,
        "leg_id": str | None,
        "from": str | None,
        "to": str | None,
        "alarm": bool,
        "detail": dict[str, Any],
    },
)


class PaymentRecorded(TypedDict):
    """The fields that every form of a payment has; `captured_at` carries its time zone."""

    payment_id: str
    customer_id: str
    processor: str
    processor_payment_id: str
    amount_minor: int
    currency: str
    credits: int
    captured_at: str


class Connect(TypedDict):
    """The connected account of a payment, and whether its refunds take money back from it or from the platform's fee.

    A payment that was made on the connected account is refunded there. With `reverse_transfer` it was made on the
    platform's own account.
    """

    account: str | None
    reverse_transfer: bool | None
    refund_application_fee: bool | None


class ConnectGiven(TypedDict, total=False):
    """The connected account of a payment, with the fields that were given."""

    account: str
    reverse_transfer: bool
    refund_application_fee: bool


class Payment(PaymentRecorded):
    """A payment as a caller records it: fields that are not always there are present only if they were given."""

    captured_minor: NotRequired[int]
    refunded_minor: NotRequired[int]
    processor_account: NotRequired[str]
    connect: NotRequired[ConnectGiven]


class PaymentWord(TypedDict):
    """A payment as its processor reported it at `read_at`; a value is null if the processor did not report it."""

    captured_minor: int | None
    currency: str
    live: bool | None
    disputed: bool | None
    refunded_minor: int | None
    read_at: str


class PaymentRead(PaymentRecorded):
    """A payment with the processor's report on it, and what is left of it.

    `verified` is true if the report agrees, false if it does not or cannot be read, and null before the first
    reading. `processor_payment_ids` are all ids that the processor is known to have for it, and `other_ids` are ids
    that you gave a payment which had recorded itself (`recorded_by`). `taken_minor` and `credits_taken` are what
    refunds and others took of it; what is left of it is at least 0. `closed_at` is null while the payment is open.
    `fraud_warnings` are newest first.
    """

    processor_account: str
    connect: Connect | None
    processor_payment_ids: list[str]
    other_ids: list[str]
    recorded_by: Literal["import", "webhook"] | None
    captured_minor: int
    refunded_minor: int
    taken_minor: int
    left_minor: int
    credits_taken: int
    credits_left: int
    closed_at: str | None
    close_reason: str | None
    verified: bool | None
    processor_says: PaymentWord | None
    fraud_warnings: list[FraudWarning]


class Spend(TypedDict):
    """Credits that a customer spent, as a caller records them; `credits` is positive."""

    transaction_id: str
    customer_id: str
    credits: int
    occurred_at: str
    description: NotRequired[str]


class Earning(TypedDict):
    """A payee's share, and how much of it was clawed back because credits of the spend were returned.

    It can be paid out from `available_at` on.
    """

    earning_id: str
    payee_id: str
    amount_minor: int
    currency: str
    transaction_id: str | None
    description: str
    available_at: str
    clawed_back_minor: int
    created_at: str


class PayeeDestination(TypedDict):
    """A destination as everybody may see it. A changed destination has another id."""

    id: str
    kind: str
    masked: str
    changed_at: str


class WholeDestination(TypedDict):
    """The whole destination, for admins only: the fields of its kind."""

    kind: str
    account: NotRequired[str]
    email: NotRequired[str]
    payer_id: NotRequired[str]
    iban: NotRequired[str]
    bic: NotRequired[str]
    routing: NotRequired[str]
    holder: NotRequired[str]
    text: NotRequired[str]


class PayeeBalance(TypedDict):
    """The sums of a payee in one currency.

    `payable_minor` can be paid out now, `held_minor` is of earnings that are not available yet. `debt_minor` was paid
    out before it was clawed back: later earnings pay it when they become available.
    """

    currency: str
    payable_minor: int
    held_minor: int
    debt_minor: int
    in_flight_minor: int
    paid_minor: int
    earned_minor: int
    clawed_back_minor: int


class Payee(TypedDict):
    """A person who is paid out. `needs` is what the payee must give the processor, until `act_by`."""

    payee_id: str
    customer_id: str | None
    processor_account: str
    destination: PayeeDestination
    currency: str
    country: str | None
    method: Literal["standard", "instant"]
    status: Literal["incomplete", "under_review", "ready", "paused"]
    status_reason: str | None
    needs: list[str]
    act_by: str | None
    read_at: str | None
    paused_by: str | None
    balances: list[PayeeBalance]
    version: int
    created_at: str
    updated_at: str


class PayeeEntry(TypedDict):
    """One entry of a payee's statement, and the balance after it. `reference` is the id of the earning or payout."""

    at: str
    kind: str
    reference: str
    description: str
    currency: str
    amount_minor: int
    balance_minor: int


class PayeeStatementLine(TypedDict):
    """A month in one currency: the closing balance is opening + earned - clawed back - paid + returned."""

    currency: str
    opening_minor: int
    earned_minor: int
    clawed_back_minor: int
    paid_minor: int
    returned_minor: int
    closing_minor: int


class PayeeStatement(TypedDict):
    """A payee's month in UTC: a line for each currency, and all entries, oldest first."""

    payee_id: str
    month: str
    lines: list[PayeeStatementLine]
    entries: list[PayeeEntry]


class PayoutLeg(TypedDict):
    """One step of a payout: to the payee's account there, from there or from us to the payee, or back.

    `processor_status` is the processor's own word. `fee_minor` is what it took, if it said so. `trace` is the number by
    which the payee's bank finds the money.
    """

    leg_id: str
    step: PayoutStep
    status: LegStatus
    amount_minor: int
    currency: str
    object_id: str | None
    attempts: int
    failure_code: str | None
    processor_status: str | None
    arrives_at: str | None
    fee_minor: int | None
    trace: str | None


class Payout(TypedDict):
    """A payout with its steps. The destination is masked, and stays that of the request's time.

    `destination_changed_at`: the payee has another one since then, and the payout may still be paid to the old one.
    `paid` is not final: the money may come back until `settles_at`. `hold_code` says why it waits, until `hold_until`
    if that is known. `approval_total_minor` is what the payee's payouts in the time window come to, and why it awaits
    approval; both are null otherwise. `act_by` is until when the payee can act. Of a compliance outcome only the fault
    is said.
    """

    id: str
    status: PayoutStatus
    payee_id: str
    processor_account: str
    amount_minor: int
    currency: str
    description: str
    source: Literal["earnings", "withdrawal"]
    method: PayoutMethod
    destination: str
    destination_changed_at: str | None
    refund_id: str | None
    run_id: str | None
    legs: list[PayoutLeg]
    hold_code: HoldCode | None
    hold_until: str | None
    approval_total_minor: int | None
    approval_threshold_minor: int | None
    failure_code: str | None
    failure_message: str | None
    fault: Fault | None
    act_by: str | None
    lost_minor: int
    payee_text: str
    staff_text: str
    available_actions: list[Action]
    idempotency_key: str
    client: str
    actor: str
    requested_by: str | None
    version: int
    created_at: str
    updated_at: str
    paid_at: str | None
    settles_at: str | None


class PayoutHold(TypedDict):
    """Why a payout would wait before it is sent, and until when, if that is known."""

    code: HoldCode
    until: str | None
    payee_text: str
    staff_text: str


class PayoutPreview(TypedDict):
    """The outcome of a request for a payout if it were made now; `would_be` is "accepted" or the refusal.

    All amounts are in `currency`. `payable_minor` is the most that one payout can pay now, and `not_payable_code` why
    that is 0: held, below_minimum, nothing_payable or currency_mismatch. `held_minor` is of earnings that are not
    available yet, the next of them at `held_until`. `fee_minor` is null: no processor says its fee before. `steps` is
    the route.
    """

    would_be: Literal["accepted"] | PreviewRefusal
    payee_id: str
    amount_minor: int | None
    currency: str
    payable_minor: int
    not_payable_code: Literal["held", "below_minimum", "nothing_payable", "currency_mismatch"] | None
    held_minor: int
    held_until: str | None
    debt_minor: int
    in_flight_minor: int
    minimum_minor: int
    maximum_minor: int | None
    fee_minor: int | None
    processor_account: str
    destination: str
    method: PayoutMethod
    steps: list[PayoutStep]
    hold: PayoutHold | None
    needs_approval: bool


class PayoutRun(TypedDict):
    """One run over the payees of an account in one currency, and how far it is.

    `planned_*` are what it pays, `paid_*` what it has made into payouts, of `payees` in all. `available_minor` is the
    account's money when it was planned, less what refunds and others needed of it, and `shortfall_minor` what was
    missing; null if that was not known. `approval_codes` say why a person must approve it. `carried_minor` is payable
    and stays in the balances.
    """

    run_id: str
    status: PayoutRunStatus
    processor_account: str
    currency: str
    minimum_minor: int
    dry_run: bool
    payees: int
    planned_payees: int
    planned_minor: int
    paid_payees: int
    paid_minor: int
    skipped_payees: int
    carried_minor: int
    available_minor: int | None
    shortfall_minor: int | None
    codes: dict[str, int]
    payouts_by_status: dict[str, int]
    approval_codes: list[PayoutRunApproval]
    period: str | None
    client: str
    actor: str
    approved_by: str | None
    reason: str | None
    version: int
    created_at: str
    updated_at: str
    ended_at: str | None


class PayoutRunRow(TypedDict):
    """One payee of a run: the planned amount, and the paid one, which is null while that is open.

    `code` says why the payee is skipped or gets less.
    """

    payee_id: str
    amount_minor: int
    paid_minor: int | None
    carried_minor: int
    skipped: bool
    code: str | None
    payout_id: str | None
    payout_status: PayoutStatus | None


class Transaction(TypedDict):
    """One entry of a customer's Transactions list; `credits` is signed. Only a correction has a `purpose`."""

    transaction_id: str
    kind: str
    credits: int
    refers_to: str | None
    refund_id: str | None
    description: str
    occurred_at: str
    purpose: NotRequired[Purpose]


class Payable(TypedDict):
    """The most that one more correction and its withdrawal can pay out in a currency now."""

    currency: str
    credits: int
    amount_minor: int


class Customer(TypedDict):
    """A customer's credits: `available` is not held for a withdrawal, `payable` can be paid out.

    The same credits count in each currency of `payable_by_currency`: its lines can add up to more than `payable`.
    `merged_ids` are the ids of customers who were merged into this one.
    """

    customer_id: str
    balance: int
    available: int
    payable: int
    payable_by_currency: list[Payable]
    recent_corrections: list[Transaction]
    merged_ids: list[str]
    erased_at: str | None


class CustomerExport(TypedDict):
    """Everything that is stored about a customer: the rows of each table in `data`, as they are stored."""

    customer_id: str
    merged_ids: list[str]
    data: dict[str, Any]


class PlannedLeg(TypedDict):
    """A leg of a preview; `unreturnable_minor` is present only if it is not zero."""

    payment_id: str
    processor: str
    processor_account: str
    amount_minor: int
    currency: str
    credits: int
    unreturnable_minor: NotRequired[int]


class PreviewRefusal(TypedDict):
    """The error that the previewed request would get."""

    code: str
    message: str


class Policy(TypedDict):
    """The rules that apply to a previewed request."""

    needs_approval: bool
    approval_threshold_minor: int | None
    allocation: str


class Preview(TypedDict):
    """The outcome of a request if it were made now; `would_be` is "accepted" or the refusal.

    Both balances are null for an unknown customer; `balance_after` is the balance once all of it has succeeded.
    """

    would_be: Literal["accepted"] | PreviewRefusal
    credits: int | None
    maximum_credits: int
    legs: list[PlannedLeg]
    amounts: list[Amount]
    balance_before: int | None
    balance_after: int | None
    policy: Policy


class Reject(TypedDict):
    """A row of a batch that was refused; `index` counts the rows from 0."""

    index: int
    code: str
    message: str


class Batch(TypedDict):
    """A batch and the progress of its refunds; if it is `stopped`, `message` says what to do."""

    batch_id: str
    status: BatchStatus
    message: str | None
    accepted: int
    replayed: int
    rejected: list[Reject]
    refunds_by_status: dict[str, int]
    created_at: str
    updated_at: str


class Switch(TypedDict):
    """The kill switch of a processor; `paused_until` is set if the program opened a circuit breaker."""

    name: str
    paused: bool
    paused_by: str | None
    paused_at: str | None
    paused_until: str | None
    code: str | None
    reason: str | None


class Funds(TypedDict):
    """One currency of a processor account: its money, as last read, against what refunds and payouts need.

    `needed_minor` is the sum of `queued_minor`, `approved_minor` (approved by a person) and `blocked_minor`; each part
    of a refund is in one of them. Amounts that follow from a balance are null unless `state` is `current`.
    """

    processor_account: str
    currency: str
    state: FundsState
    available_minor: int | None
    pending_minor: int | None
    read_at: str | None
    problem: str | None
    queued_minor: int
    approved_minor: int
    blocked_minor: int
    awaiting_approval_minor: int
    needed_minor: int
    shortfall_minor: int | None
    shortfall_date: str | None
    covered_by_pending: bool | None
    shortfall_if_approved_minor: int | None


class FundsList(TypedDict):
    """The funds of all processor accounts, by account and currency."""

    data: list[Funds]
    has_more: bool


class OutsideRefund(TypedDict):
    """A refund that others made over a payment, such as one in the processor's dashboard.

    `payment_id` and `customer_id` are null while no payment is known for it (`unmatched`). `credits` is its share of
    the payment's credits, and `shortfall` is the part of that share which the customer had spent already. `refund_id`
    names the refund that it counts for since a person linked it, or named it in `resolve` as the payment.
    """

    id: str
    processor_account: str
    object_id: str
    payment_id: str | None
    customer_id: str | None
    amount_minor: int
    currency: str
    credits: int
    shortfall: int
    status: OutsideStatus
    refund_id: str | None
    created_at: str
    updated_at: str


class Dispute(TypedDict):
    """A dispute or an inquiry about a payment; `reason` and `status` are the processor's own words.

    `credits_held` cannot be spent while it is open, `credits_taken` came off the balance when it was lost, and
    `shortfall` is the part that the customer had spent already. `needs_decision` is true while a person must decide
    about that part. `due_by` is the time until which the processor takes evidence. `transaction_id` is the spend that
    a person linked a lost dispute to, so that payees give back their share of it.
    """

    id: str
    processor_account: str
    object_id: str
    payment_id: str | None
    customer_id: str | None
    amount_minor: int
    currency: str
    reason: str | None
    status: str | None
    due_by: str | None
    credits_held: int
    credits_taken: int
    shortfall: int
    needs_decision: bool
    transaction_id: str | None
    created_at: str
    updated_at: str


class SuggestedRefund(TypedDict):
    """The rest of a payment: the money that a refund over it can still return, for these credits.

    Of these, `payable_credits` can be paid out now; the customer has spent the others.
    """

    amount_minor: int
    currency: str
    credits: int
    payable_credits: int


class FraudWarning(TypedDict):
    """An early fraud warning: a bank suspects a payment, and a refund now usually avoids its dispute.

    `fraud_type` and `actionable` are the processor's own words. While it is `open`, `suggested_refund` is what is left
    of the payment. No refund is made automatically.
    """

    id: str
    processor_account: str
    object_id: str
    payment_id: str | None
    customer_id: str | None
    fraud_type: str | None
    actionable: bool | None
    status: FraudWarningStatus
    suggested_refund: SuggestedRefund | None
    warned_at: str
    created_at: str
    updated_at: str


class SearchResult(TypedDict):
    """The refunds that a search found, newest first; `matched` says by what, and is empty if nothing was found."""

    data: list[Refund]
    has_more: bool
    matched: str


class ReconciliationTotal(TypedDict):
    """The money of one currency that was compared, in minor units: in our ledger and at the processor."""

    currency: str
    ledger_minor: int
    processor_minor: int


class ReconciliationProgress(TypedDict):
    """How far a reconciliation is."""

    phase: Literal["refunds", "legs", "payments", "disputes", "ledger", "done"]
    percent: int
    objects: int
    pieces: int
    asked: int


class DifferencesByState(TypedDict):
    """How many differences are in each state."""

    open: int
    applied: int
    acknowledged: int
    gone: int


class Reconciliation(TypedDict):
    """A comparison of our books with a processor's; `agrees` is null until it has ended."""

    id: str
    processor_account: str
    since: str
    until: str | None
    status: ReconciliationStatus
    progress: ReconciliationProgress
    problem: str | None
    agrees: bool | None
    compared: int
    in_flight: int
    foreign: int
    other_installations: int
    resolved: int
    totals: list[ReconciliationTotal]
    differences: DifferencesByState
    by_kind: dict[str, int]
    actor: str
    created_at: str
    updated_at: str
    ended_at: str | None


class ReconciliationDifference(TypedDict):
    """One difference. `ours` and `theirs` are minor units if they are integers; `action` is the effect of apply."""

    n: int
    kind: DifferenceKind
    subject: str
    object_id: str | None
    leg_id: str | None
    refund_id: str | None
    payment_id: str | None
    customer_id: str | None
    currency: str | None
    ours: int | str
    theirs: int | str
    detail: str
    action: str | None
    state: DifferenceState
    found_at: str
    decided_at: str | None
    decided_by: str | None
    reason: str | None
    outcome: str | None


class Page(TypedDict, Generic[T]):
    """One page of a list, newest first but for a timeline; `has_more` says if another page follows."""

    data: list[T]
    has_more: bool
