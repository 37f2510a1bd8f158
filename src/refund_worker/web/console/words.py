"""The words of the console: the seed's where it has them."""

from __future__ import annotations

from collections.abc import Mapping

STATUS_WORDS: Mapping[str, str] = {
    "queued": "queued",
    "awaiting_approval": "awaiting approval",
    "sending": "sending",
    "pending": "pending at the processor",
    "reversing": "giving credits back",
    "needs_attention": "needs attention",
    "succeeded": "succeeded",
    "partially_succeeded": "succeeded in part",
    "failed": "failed",
    "rejected": "rejected",
    "canceled": "canceled",
    # of legs
    "planned": "planned",
    "waiting": "waiting to send again",
    "unknown": "no answer yet",
    "blocked": "refused for now",
    "requires_action": "waits for the customer",
}

# What a badge looks like; its words say the same.
STATUS_TONES: Mapping[str, str] = {
    "succeeded": "good",
    "partially_succeeded": "warn",
    "failed": "bad",
    "needs_attention": "bad",
    "blocked": "bad",
    "awaiting_approval": "warn",
    "unknown": "warn",
    "requires_action": "warn",
    "rejected": "quiet",
    "canceled": "quiet",
}

KIND_WORDS: Mapping[str, str] = {
    "purchase": "Purchase",
    "spend": "Spend",
    "credit_refund": "Refund",
    "correction": "Correction",
    "withdrawal": "Withdrawal",
    "reversal": "Reversal",
}

# The button, and what pressing it will do.
ACTION_WORDS: Mapping[str, tuple[str, str]] = {
    "approve": ("Approve", "Lets the refund go: credits are posted and money is asked for. Not by who asked for it."),
    "reject": ("Reject", "Ends the refund for good. What was reserved is free again; no money moves."),
    "cancel": ("Cancel", "Ends the refund before anything was sent. What was reserved is free again."),
    "retry": (
        "Retry",
        "First asks the processor whether a refund exists. Only where there is none, one more attempt is made.",
    ),
    "resolve": ("Resolve", "Ends it by hand: paid in another way, or the credits given back to the customer."),
}

EVENT_WORDS: Mapping[str, str] = {
    "accepted": "Accepted",
    "credit_refund_reversed": "The refund's entry was deleted",
    "retry_requested": "Retry asked for",
    "leg_replaced": "Another payment stands in",
    "processor_contradicts": "The processor says otherwise",
    "answer_mismatch": "The answer is not what was asked for",
    "clock_went_back": "The database's clock was set back",
    "unknown_status": "A status that we do not know",
    "internal_error": "This program broke on it",
    "refund_credited": "Credits given back to the balance",
    "refund_posted": "Ledger entries posted",
    "refund_approved": "Approved",
    "refund_rejected": "Rejected",
    "refund_canceled": "Canceled",
    "refund_stuck": "A person is needed",
    "refund_asking": "Money is being asked for",
    "refund_waiting": "The processor accepted; not final yet",
    "refund_returning": "Credits are being given back",
    "refund_paid": "All of it is paid",
    "refund_paid_in_part": "Part of it is paid",
    "refund_paid_nothing": "Nothing of it was paid",
    "leg_sent": "Sent to the processor",
    "leg_accepted": "The processor accepted",
    "leg_asks_customer": "The processor asks the customer",
    "leg_paid": "Paid back over this payment",
    "leg_object_failed": "Failed at the processor",
    "leg_object_canceled": "Canceled at the processor",
    "leg_refused": "Refused for good",
    "leg_blocked": "Refused for now; nothing was made",
    "leg_not_executed": "Not executed; will be sent again",
    "leg_silence": "No certain answer: looking first",
    "leg_absent": "Looked up: nothing exists there",
    "leg_given_up": "Given up",
    "leg_paid_by_hand": "Paid by hand",
}

DONE: Mapping[str, str] = {
    "signed_out": "You are signed out.",
    "refunded": "The refund is accepted. Its entry appears below as soon as it is posted, usually within a second.",
    "deleted": "Deleted: a reversal entry takes it back. Nothing is ever erased.",
    "corrected": "The correction is entered.",
    "returning": "The money is on its way back through the paying system.",
    "approve": "Approved: it goes on by itself.",
    "reject": "Rejected: nothing was paid.",
    "cancel": "Canceled: nothing was paid.",
    "retry": "Retry asked for: the processor is asked first what exists.",
    "resolve": "Resolved.",
    "verified": "The latest entries are as they were written.",
    "differs": "Some entries are not as they were written: see below, and tell whoever answers for the database.",
    "paused": "Paused: nothing more is sent there. Looking up what is under way goes on.",
    "resumed": "Resumed: what waited goes at once.",
}
