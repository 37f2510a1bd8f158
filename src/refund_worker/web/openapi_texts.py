"""The words of /openapi.json: the name and summary of each call, and a description of each field and parameter."""

from __future__ import annotations

from collections.abc import Mapping

from refund_worker.web.auth import WEBHOOKS

# The name of a call in generated clients, and its line in a list of calls.
OPERATIONS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("POST", "/v1/payments"): ("record_payment", "Record a payment"),
    ("GET", "/v1/payments"): ("list_payments", "List payments"),
    ("GET", "/v1/payments/{payment_id}"): ("get_payment", "Show a payment"),
    ("POST", "/v1/transactions"): ("record_spend", "Record a spend"),
    ("DELETE", "/v1/transactions/{transaction_id}"): ("reverse_transaction", "Reverse a transaction"),
    ("GET", "/v1/customers/{customer_id}"): ("get_customer", "Show a customer's balance"),
    ("GET", "/v1/customers/{customer_id}/transactions"): ("list_transactions", "List a customer's transactions"),
    ("POST", "/v1/customers/{customer_id}/corrections"): ("create_correction", "Correct a customer's balance"),
    ("POST", "/v1/refunds"): ("create_refund", "Request a refund"),
    ("GET", "/v1/refunds"): ("list_refunds", "List refunds"),
    ("POST", "/v1/refunds/preview"): ("preview_refund", "Preview a refund"),
    ("GET", "/v1/refunds/{refund_id}"): ("get_refund", "Show a refund"),
    ("GET", "/v1/refunds/{refund_id}/events"): ("list_refund_events", "Show the timeline of a refund"),
    ("GET", "/v1/refunds/{refund_id}/waits"): ("list_refund_waits", "Show why a refund waits"),
    ("GET", "/v1/search"): ("search_refunds", "Search for refunds"),
    ("POST", "/v1/refunds/{refund_id}/sync"): ("sync_refund", "Ask the processor about a refund"),
    ("POST", "/v1/refunds/{refund_id}/approve"): ("approve_refund", "Approve a refund"),
    ("POST", "/v1/refunds/{refund_id}/reject"): ("reject_refund", "Reject a refund"),
    ("POST", "/v1/refunds/{refund_id}/cancel"): ("cancel_refund", "Cancel a refund"),
    ("POST", "/v1/refunds/{refund_id}/retry"): ("retry_refund", "Retry a refund"),
    ("POST", "/v1/refunds/{refund_id}/resolve"): ("resolve_refund", "Resolve a refund"),
    ("POST", "/v1/refund-batches"): ("create_refund_batch", "Request many refunds"),
    ("GET", "/v1/refund-batches/{batch_id}"): ("get_refund_batch", "Show a batch"),
    ("POST", "/v1/processors/{name}/pause"): ("pause_processor", "Pause a processor"),
    ("POST", "/v1/processors/{name}/resume"): ("resume_processor", "Resume a processor"),
    ("GET", "/healthz"): ("check_health", "Check that the process is alive"),
    ("GET", "/readyz"): ("check_readiness", "Check that the database answers and takes writes"),
}

TAGS: Mapping[str, str] = {
    "refunds": "Request, preview, show and list refunds.",
    "actions": "Decisions of a person about a refund, each with a reason.",
    "batches": "Many requests in one call.",
    "records": "Payments and spends, recorded by your backend.",
    "customers": "Balances, transactions and corrections of customers.",
    "processors": "The kill switch of each payment processor.",
    "webhooks": "Events that processors send to us.",
    "health": "For monitoring.",
}

# Objects that have no class of their own to say what they are.
OBJECTS: Mapping[str, str] = {
    "Event": "One entry of a refund's timeline.",
    "RefundStatus": "The state of a refund.",
}

# By the name of a field, where it means the same in every object.
FIELDS: Mapping[str, str] = {
    "accepted": "Number of rows that were accepted.",
    "actor": "Who was authenticated when the refund was requested.",
    "alarm": "True if a person should look at this.",
    "allocation": "The order in which the customer's payments are used.",
    "amount_minor": "Amount in minor units of the currency.",
    "amounts": "One line for each currency.",
    "approval_threshold_minor": "Larger totals within the window need a second person; null if there is no threshold.",
    "at": "When it happened.",
    "attempts": "Number of calls that created a refund at the processor, or tried to.",
    "available": "Credits that are not held for a withdrawal.",
    "available_actions": "What a person may do now.",
    "balance": "Credits of the customer.",
    "balance_after": "The balance once all of it has succeeded; null for an unknown customer.",
    "balance_before": "The balance now; null for an unknown customer.",
    "batch_id": "The batch's id, rb_…",
    "blocked_by": "Refund objects at the processor that stopped this leg.",
    "captured_at": "When the payment was captured.",
    "captured_minor": "What was captured, in minor units, if that is not the amount.",
    "client": "The client of the API key; idempotency keys belong to it.",
    "created_at": "When it was stored here.",
    "credits": "Number of credits.",
    "credits_left": "Credits of the payment that can still be refunded.",
    "credits_taken": "Credits of the payment that refunds and others have taken.",
    "currency": "Currency of ISO 4217, such as EUR.",
    "customer_id": "Your id of the customer.",
    "customer_text": "What to tell the customer, from the table of messages.",
    "data": "The entries of this page.",
    "description": "What it was for, in your words.",
    "disputed": "True if the processor reports a dispute.",
    "earliest": "The earliest time at which the customer sees the money.",
    "email_sent_at": "When the processor wrote to the customer.",
    "email_sent_to": "The address that the processor wrote to, masked.",
    "errors": "Every wrong field, with what is wrong about it.",
    "expected_by": "When the customer sees the money, by the processor's usual days; null if that is not known.",
    "expires_at": "Until when the customer can act.",
    "failure_code": "Why it stopped or failed; null if it did not.",
    "failure_message": "The same for people.",
    "field": "The first wrong field.",
    "fields": "All wrong fields.",
    "from": "The status before.",
    "has_more": "True if another page follows.",
    "idempotency_key": "The key of the request: one for each intent.",
    "index": "The row, counted from 0.",
    "kind": "What kind of refund it is: credits of one spend, or a payout of the balance.",
    "latest": "The latest time at which the customer sees the money.",
    "left_minor": "What can still be refunded of it, in minor units.",
    "leg_id": "The leg's id.",
    "legs": "The parts of the refund, each over one payment.",
    "live": "True if it is real money, false in the processor's test mode.",
    "matched": "The kind of name that matched, such as id, payment or trace; empty if nothing was found.",
    "maximum_credits": "The most credits that could be requested.",
    "message": "What to know or to do, for people.",
    "metadata": "Up to 20 texts of your own.",
    "name": "The processor's name.",
    "needs_approval": "True if a second person would have to approve.",
    "next_action": "What the customer must answer; null if they need not act.",
    "note": "A note for your colleagues.",
    "occurred_at": "When it happened.",
    "other_ids": "Ids that you gave it after it had recorded itself; they name it too.",
    "outcome": "How it was settled: paid manually, or credits given back.",
    "payable": "Credits that can be paid out.",
    "payable_by_currency": "The same by the currency of the payments that it can go back over.",
    "paused": "True while nothing is sent to this processor.",
    "paused_at": "Since when nothing is sent.",
    "paused_by": "Who paused it.",
    "paused_until": "When it is tried again, if the program stopped it.",
    "payment_id": "Your id of the payment.",
    "pending_reason": "Why the processor has not paid yet, in its own word.",
    "policy": "The rules that apply.",
    "processor": "The payment processor's name.",
    "processor_payment_id": "The payment's id at the processor.",
    "processor_payment_ids": "All ids that the processor is known to have for it.",
    "processor_refund_id": "The refund's id at the processor.",
    "processor_says": "The payment as its processor reported it; null before the first reading.",
    "processor_status": "The status of the refund at the processor, in its own word; null if none is there.",
    "purpose": "What a correction is for; null for entries of another kind.",
    "read_at": "When the processor reported it.",
    "reason": "Why, in your own words.",
    "received": "True: the event is stored.",
    "recent_corrections": "The latest corrections, newest first.",
    "reference": "What names the manual payment, such as the bank's reference.",
    "recorded_by": "How it recorded itself; null if you sent it.",
    "refers_to": "The transaction that this one is about.",
    "refund_id": "The refund's id, rf_…",
    "refunded_minor": "What was returned before this program knew the payment, in minor units.",
    "refunds": "The requests, each with its own idempotency key.",
    "refunds_by_status": "Number of the batch's refunds in each status.",
    "rejected": "The rows that were refused.",
    "replayed": "Number of rows whose key was known, with the same body.",
    "requested_by": "Your note on who asked; it decides nothing.",
    "requested_minor": "Requested, in minor units.",
    "retryable": "True if the same call can succeed later.",
    "staff_text": "What staff should know about this leg, from the table of messages.",
    "statement": "credit if the customer sees a credit, vanishes if the payment disappears from the statement.",
    "status": "The state now.",
    "succeeded_minor": "Paid, in minor units.",
    "taken_minor": "What refunds and others have taken of it, in minor units.",
    "title": "The HTTP status in words.",
    "to": "Where it goes: to the balance, or to the source, over the customer's own payments.",
    "trace": "The number by which the customer's bank finds the money; null if there is none.",
    "transaction_id": "The transaction's id.",
    "type": "Address that explains the code.",
    "unreturnable_minor": "What these credits are worth beyond what is left of the payment, in minor units.",
    "updated_at": "When it last changed.",
    "value": "The number; null until it is known.",
    "verified": "True if both records agree, false if not or if it cannot be read, null before the first reading.",
    "version": "Number of the state; send it as If-Match.",
    "what": "What happened.",
    "who": "Who did it.",
    "why": "The reason.",
    "would_be": "The word accepted, or the refusal.",
}

# Where a name means something else in one object. Parameters of a query are those of the object "Query".
FIELDS_OF: Mapping[tuple[str, str], str] = {
    ("CorrectionRequest", "credits"): "Credits to add; a negative number takes credits off.",
    ("Event", "detail"): "More facts, by name.",
    ("Event", "to"): "The status after.",
    ("PaymentWord", "captured_minor"): "What was captured, in minor units.",
    ("PaymentWord", "refunded_minor"): "What was returned in all, in minor units.",
    ("PreviewRefusal", "code"): "The error's code.",
    ("Problem", "code"): "What went wrong: stable, for programs.",
    ("Problem", "detail"): "What went wrong, for people.",
    ("Problem", "status"): "The HTTP status.",
    ("Query", "created_gte"): "Only what was created at this time or later; a day begins at midnight in UTC.",
    ("Query", "created_lte"): "Only what was created at this time or earlier; a day ends at midnight in UTC.",
    ("Query", "customer_id"): "Only of this customer.",
    ("Query", "failure_code"): "Only with this failure code.",
    ("Query", "idempotency_key"): "Only the request with this key.",
    ("Query", "limit"): "Size of the page.",
    ("Query", "processor_payment_id"): "Only with this id at a processor, by any of its ids for a payment.",
    ("Query", "q"): "An id or key, a customer, a payment or refund here or at the processor, a trace, a text or a day.",
    ("Query", "starting_after"): "The last id of the page before.",
    ("Query", "status"): "Only in this status; it may be there several times.",
    ("Refund", "id"): "The refund's id, rf_…",
    ("RefundRequest", "credits"): "Number of credits; without it, all that are left.",
    ("RefundRequest", "transaction_id"): "The spend to refund, or the correction to pay out.",
    ("PreviewRequest", "credits"): "Number of credits; without it, all that are left.",
    ("PreviewRequest", "transaction_id"): "The spend to refund, or the correction to pay out.",
    ("BatchRefundRequest", "credits"): "Number of credits; without it, all that are left.",
    ("BatchRefundRequest", "transaction_id"): "The spend to refund, or the correction to pay out.",
    ("Reject", "code"): "The error's code.",
    ("Trace", "kind"): "The kind of number, in the processor's word, such as acquirer_reference_number.",
    ("Trace", "status"): "Whether the number is there, in the processor's word: pending, available or unavailable.",
    ("SpendRequest", "kind"): "Always spend.",
    ("Switch", "code"): "Why nothing is sent.",
    ("Transaction", "credits"): "Number of credits, negative where they leave the balance.",
    ("Transaction", "kind"): "What kind of entry it is.",
    ("Wait", "cause"): "The cause: stable, for programs.",
    ("Wait", "code"): "The code of the processor's last answer, or of the pause.",
    ("Wait", "reason"): "What the processor or the person said.",
    ("Wait", "since"): "When the wait began, if that is known.",
    ("Wait", "text"): "The cause as a sentence.",
    ("Wait", "until"): "When it is tried or asked next, if that is known.",
}


def name_of(method: str, path: str) -> tuple[str, str]:
    """Return the name and the summary of a call."""
    if path.startswith(WEBHOOKS):
        processor = path.removeprefix(WEBHOOKS)
        return f"receive_{processor}_event", f"Receive an event from {processor.capitalize()}"
    return OPERATIONS[method, path]


def describe(model: str, name: str) -> str | None:
    """Return the description of a field of an object, or None for an unknown field."""
    return FIELDS_OF.get((model, name)) or FIELDS.get(name)


# A text with one of these names is a time.
TIMES = ("at", "paused_until")


def is_time(name: str) -> bool:
    """Return True if a field of this name holds a time."""
    return name in TIMES or name.endswith("_at")
