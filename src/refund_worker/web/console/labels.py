"""The texts of the console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    "posted_after_all": "Booked after all: the processor has it",
    "paid_by_hand_stands": "Failed at the processor; what was paid by hand stands",
    "quiet_begins_anew": "Looked at late: the quiet window begins anew",
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
    "leg_unfunded": "Failed for want of balance; tried again",
    "leg_not_executed": "Not executed; will be sent again",
    "leg_silence": "No certain answer: looking first",
    "leg_absent": "Looked up: nothing exists there",
    "leg_released": "Released: nothing was sent",
    "leg_given_up": "Given up",
    "leg_paid_by_hand": "Paid by hand",
    "processor_paused": "Sending stopped",
    "processor_resumed": "Sending goes on",
    "person_linked": "Two names said to be one person",
    "person_unlinked": "Two names no longer said to be one person",
    "user_created": "User created",
    "user_password_set": "Password set",
    "user_role_set": "Role set",
    "user_enabled": "User enabled",
    "user_disabled": "User disabled",
    "user_unlocked": "Wrong passwords forgotten",
}

# What became of an attempt, by the engine's names for answers.
OUTCOME_WORDS: Mapping[str, str] = {
    "Answered": "the refund was made",
    "Refused": "refused for good",
    "AlreadyRefunded": "the payment is refunded already, it says",
    "Blocked": "refused for now; nothing was made",
    "Busy": "not executed: busy",
    "NotSent": "not sent: no connection",
    "Unanswered": "no answer: it may have been made or not",
    "Denied": "our set-up is at fault; sending stopped",
    "Misconfigured": "it does not take this payment or a value of it",
    "UnknownRefusal": "refused by a word that we do not know",
    "KeyConflict": "the key was used with another request",
}

# Failure codes whose message is this program's own; all others come with the processor's words.
OUR_CODES = frozenset(
    {
        "processor_unreachable",
        "outcome_unknown",
        "refunded_elsewhere",
        "refunded_twice",
        "answer_mismatch",
        "processor_unknown",
        "payment_id_unusable",
        "manual_processor",
        "unknown_status",
        "internal_error",
        "unexpected_answer",
        "unknown",
    }
)


def whose_words(failure_code: str | None, message: str) -> str:
    """What a failure's message is called: only what the processor said is said to be its words."""
    ours = failure_code is None or failure_code in OUR_CODES or message.startswith("the processor says ")
    return "in detail" if ours else "the processor's words"


@dataclass(frozen=True, slots=True)
class Done:
    """What was just done, told on the page that it leads to and on no other; `tone` is how it looks."""

    page: str
    text: str
    tone: str = "good"


_ENDED = "Your session had ended. Nothing was done; sign in and repeat it."
_ONE = "/refunds/{refund_id}"
DONE: Mapping[str, Done] = {
    "signed_out": Done("/sign-in", "You are signed out."),
    "ended": Done("/sign-in", _ENDED, "warn"),
    "refunded": Done(
        "/transactions",
        "The refund is accepted. Its entry appears below as soon as it is posted, usually within a second.",
    ),
    "deleted": Done("/transactions", "Deleted: a reversal entry takes it back. Nothing is ever erased."),
    "corrected": Done("/add-credits", "The correction is entered."),
    "asked": Done(_ONE, "Accepted: see below how far it is."),
    "approval": Done(_ONE, "Accepted; a second person must approve it first."),
    "approve": Done(_ONE, "Approved: it goes on by itself."),
    "reject": Done(_ONE, "Rejected: nothing was paid."),
    "cancel": Done(_ONE, "Canceled: nothing was paid."),
    "retry": Done(_ONE, "Retry asked for: the processor is asked first what exists."),
    "resolve": Done(_ONE, "Resolved."),
    "verified": Done("/audit", "The latest entries are as they were written."),
    "differs": Done(
        "/audit",
        "Some entries are not as they were written: see below, and tell whoever answers for the database.",
        "bad",
    ),
    "paused": Done("/processors", "Paused: nothing more is sent there. Looking up what is under way goes on."),
    "resumed": Done("/processors", "Resumed: what waited goes at once."),
}
