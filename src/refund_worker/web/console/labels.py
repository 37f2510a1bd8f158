"""Labels of the console, in the words of the staff's own procedures where these have one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from refund_worker.domain.waiting import WaitCause

STATUS_LABELS: Mapping[str, str] = {
    "queued": "queued",
    "awaiting_approval": "awaiting approval",
    "sending": "sending",
    "pending": "pending at the processor",
    "reversing": "returning the credits",
    "needs_attention": "needs attention",
    "succeeded": "succeeded",
    "partially_succeeded": "succeeded in part",
    "failed": "failed",
    "rejected": "rejected",
    "canceled": "canceled",
    # of legs
    "planned": "planned",
    "waiting": "waiting to send again",
    "unknown": "result unknown",
    "blocked": "stopped",
    "requires_action": "waits for the customer",
    # of outside refunds
    "unmatched": "payment not recorded",
    "posted": "taken off the balance",
    "needs_decision": "shortfall to decide",
    "linked": "linked to a refund",
    # of disputes
    "needs_response": "needs a response",
    "under_review": "under review",
    "lost": "lost",
    "won": "won",
    "warning_needs_response": "inquiry, needs a response",
    "warning_under_review": "inquiry under review",
    "warning_closed": "inquiry closed",
    "prevented": "prevented",
    # of payouts; the others are called as those of refunds
    "held": "held",
    "recipient_action": "waits for the payee",
    "paid": "paid, may come back",
    "returning": "transfer being undone",
    "settled": "settled",
    "returned": "came back",
    # of payees
    "incomplete": "the payee must act",
    "ready": "ready",
    "paused": "paused",
    # of runs; a plan that is all of a run is called as a leg that is planned
    "planning": "being planned",
    "paying": "paying",
    "done": "done",
}
DISPUTE_STATUSES = (
    "needs_response",
    "under_review",
    "lost",
    "won",
    "warning_needs_response",
    "warning_under_review",
    "warning_closed",
    "prevented",
)

# Colour of a status badge; its text says the same.
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
    "unmatched": "warn",
    "needs_decision": "bad",
    "linked": "good",
    "needs_response": "bad",
    "under_review": "warn",
    "lost": "bad",
    "won": "good",
    "warning_needs_response": "warn",
    "warning_under_review": "warn",
    "warning_closed": "quiet",
    "prevented": "good",
    "held": "warn",
    "recipient_action": "warn",
    "paid": "good",
    "returning": "warn",
    "settled": "good",
    "returned": "bad",
    "incomplete": "warn",
    "ready": "good",
    "paused": "bad",
    "done": "good",
}

PURPOSE_LABELS: Mapping[str, str] = {
    "payout": "to be paid out",
    "expiry": "expired credits",
    "other": "not to be paid out",
}

KIND_LABELS: Mapping[str, str] = {
    "purchase": "Purchase",
    "spend": "Spend",
    "credit_refund": "Refund",
    "correction": "Correction",
    "expiry": "Expired credits",
    "withdrawal": "Withdrawal",
    "merge": "Merge",
    "reversal": "Reversal",
    "outside_refund": "Refunded outside",
    "chargeback": "Lost dispute",
    "close": "Payment closed",
}

# Label of the button, and the effect of pressing it.
ACTION_LABELS: Mapping[str, tuple[str, str]] = {
    "approve": (
        "Approve",
        "Releases the refund: credits are posted and the money is sent. Its requester cannot approve it.",
    ),
    "reject": ("Reject", "Ends the refund for good. Everything it reserved is released; no money moves."),
    "cancel": (
        "Cancel the refund",
        "Ends it while it is queued or awaits approval: everything it reserved is released. While it waits for the "
        "customer, the processor is asked to cancel it, and the credits go back once it has.",
    ),
    "retry": (
        "Retry",
        "Asks the processor first whether a refund exists. A new attempt is made only if there is none.",
    ),
    "resolve": ("Resolve", "Ends it manually: you paid in another way, or the customer gets the credits back."),
}

PAYOUT_ACTION_LABELS: Mapping[str, tuple[str, str]] = {
    "approve": ("Approve", "Releases the payout: the money is sent. Its requester cannot approve it."),
    "reject": ("Reject", "Ends the payout for good. Its amount is free again on the payee's balance; no money moves."),
    "cancel": (
        "Cancel the payout",
        "Ends it while nothing is sent: its amount is free again. While it waits for the payee, the processor is asked "
        "to call it off, and the amount goes back once it has.",
    ),
    "retry": (
        "Retry",
        "Asks the processor first whether it was paid. A new attempt is made only if it was not.",
    ),
    "resolve": (
        "Resolve",
        "Ends it manually: you paid in another way, or the amount goes back to the balance, as when a manual payment "
        "came back.",
    ),
}


@dataclass(frozen=True, slots=True)
class ResolveTexts:
    """The form that resolves: the warning while an answer is missing, and the two outcomes."""

    in_doubt: str
    paid: str
    back: str
    back_means: str


RESOLVE_TEXTS: Mapping[str, ResolveTexts] = {
    "refunds": ResolveTexts(
        "The processor's answer is missing: it may still pay. If you have paid manually, choose that: nothing more is "
        "sent. The credits cannot be given back until the answer is known.",
        "ends as succeeded; enter the reference of your payment below",
        "Credits given back",
        "ends as failed; the credits are back on the customer's balance",
    ),
    "payouts": ResolveTexts(
        "The processor's answer is missing: it may still pay. If you have paid manually, choose that: nothing more is "
        "sent. The amount cannot go back to the balance until the answer is known.",
        "ends as paid; enter the reference of your payment below",
        "Back to the balance",
        "ends as failed; the amount goes back to the payee's balance, or to the refund that it was to pay",
    ),
}

# Why a payout is held, in the words of a list; its page says more.
HOLD_LABELS: Mapping[str, str] = {
    "payee_paused": "the payee is paused",
    "payee_incomplete": "the payee must act first",
    "payee_under_review": "the payee is under review",
    "destination_cooldown": "the destination is new",
    "another_payout": "another payout is open",
    "interval": "the last payout was not long ago",
}

# Why a run skips a payee, or pays less than it could: a hold, or one of these.
ROW_LABELS: Mapping[str, str] = {
    **HOLD_LABELS,
    "below_minimum": "below the minimum",
    "held": "all of it is held",
    "nothing_payable": "nothing is payable",
    "debt": "the payee has a debt",
    "velocity_exceeded": "above what may be paid in that time",
    "payee_changed": "paid over another account or in another currency now",
    "above_maximum": "the maximum is paid",
    "changed": "less was payable when it was paid",
}
APPROVAL_LABELS: Mapping[str, str] = {
    "approval_threshold": "a payee's total exceeds the threshold",
    "velocity": "it exceeds what one person may ask for in that time",
    "schedule": "the schedule made it, and it exceeds what is paid at once",
    "funds_short": "it needs more money than the account has",
}

STEP_LABELS: Mapping[str, str] = {
    "transfer": "Transfer to the payee's account",
    "payout": "Payout to the payee",
    "reversal": "Undoing the transfer",
}

FAULT_LABELS: Mapping[str, str] = {
    "payee": "the payee's",
    "ours": "ours",
    "processor": "the processor's or a bank's",
    "compliance": "none that may be named",
}

PAYEE_ENTRY_LABELS: Mapping[str, str] = {
    "earning": "Earning",
    "clawback": "Clawed back",
    "clawback_undone": "Claw-back undone",
    "payout": "Payout",
    "payout_returned": "Payout came back",
}

EVENT_LABELS: Mapping[str, str] = {
    "accepted": "Accepted",
    "credit_refund_reversed": "The refund's entry was deleted",
    "retry_requested": "Retry requested",
    "leg_replaced": "Another payment is used instead",
    "processor_contradicts": "The processor reports a different result",
    "paid_after_failure": "An event says that the failed refund has paid",
    "posted_after_all": "Ledger entries posted late: the processor already has this refund",
    "manual_payment_failed": "The manual payment failed; the processor's own refund pays",
    "paid_by_hand_stands": "Failed at the processor; the manual payment still counts",
    "quiet_begins_anew": "Checked late: the wait for a delayed refund starts again",
    "not_at_processor": "The processor does not have this refund",
    "difference_applied": "A difference to the processor's record was corrected",
    "difference_acknowledged": "A difference to the processor's record was acknowledged",
    "difference_gone": "A difference to the processor's record had vanished",
    "answer_mismatch": "The answer does not match the request",
    "payment_mismatch": "The payment differs from its record",
    "payment_not_read": "The processor did not show the payment",
    "payment_not_found": "The processor does not know the payment",
    "refunded_elsewhere": "The payment was refunded outside this program",
    "refunded_twice": "The processor has a refund beside the manual payment",
    "charge_disputed": "The payment is disputed",
    "clock_went_back": "The database clock moved back",
    "unknown_status": "Unknown status at the processor",
    "internal_error": "Internal error in this program",
    "refund_credited": "Credits given back to the balance",
    "refund_posted": "Ledger entries posted",
    "refund_approved": "Approved",
    "refund_rejected": "Rejected",
    "refund_canceled": "Canceled",
    "refund_stuck": "A person must decide",
    "refund_asking": "The money is being sent",
    "refund_waiting": "Accepted by the processor; not final yet",
    "refund_returning": "Credits are being given back",
    "refund_paid": "Paid in full",
    "refund_paid_in_part": "Paid in part",
    "refund_paid_nothing": "Not paid",
    "leg_sent": "Sent to the processor",
    "leg_accepted": "Accepted by the processor",
    "leg_asks_customer": "The customer must act",
    "leg_paid": "Paid back through this payment",
    "leg_object_failed": "Failed at the processor",
    "leg_cancel_asked": "The processor is asked to cancel it",
    "cancel_refused": "The processor did not cancel it",
    "leg_object_canceled": "Canceled at the processor",
    "leg_refused": "Refused for good",
    "leg_blocked": "Stopped until the cause is gone or a person decides",
    "leg_unfunded": "Failed for lack of funds; will be tried again",
    "leg_not_executed": "Not executed; will be sent again",
    "leg_silence": "Result unknown: checked before any new attempt",
    "leg_absent": "Looked up: no refund exists at the processor",
    "leg_released": "Released: nothing was sent",
    "leg_displaced": "Taken off its payment: others took the money",
    "report_overdue": "Accepted, and no event about the outcome came",
    "manual_fallback": "No payment takes it: to be paid manually",
    "no_fallback_left": "No payment takes it, and no other way is allowed",
    "payment_may_have_failed": "Failed before its payment was settled: perhaps the payment failed",
    "refund_and_dispute": "A dispute takes the same money",
    "dispute_ended": "The dispute has ended: it continues",
    "linked": "Linked to a refund made elsewhere",
    "shortfall_decided": "A person decided about missing credits",
    "payment_closed": "The payment was closed",
    "leg_given_up": "Abandoned",
    "leg_paid_by_hand": "Paid manually",
    "payout_accepted": "Accepted",
    "payout_held": "Held",
    "payout_released": "No longer held",
    "payout_reduced": "Reduced: earnings were clawed back before it was sent",
    "payout_posted": "Taken off the payee's balance",
    "payout_approved": "Approved",
    "payout_rejected": "Rejected",
    "payout_canceled": "Canceled",
    "payout_needs_attention": "A person must decide",
    "payout_returning": "The transfer is being undone",
    "payout_paid": "Paid",
    "payout_settled": "Settled: the time in which it could come back is over",
    "payout_failed": "Not paid",
    "payout_returned": "The money came back",
    "payout_called_off": "Called off",
    "payout_recipient_action": "The payee must act",
    "payout_in_progress": "The money is being sent",
    "payout_pending": "Accepted by the processor; not final yet",
    "transfer_to_be_undone": "The transfer is to be undone",
    "transfer_stands": "The transfer stands: its money stays at the payee's account",
    "late_transfer_found": "The transfer whose answer was missing exists: it is taken back",
    "manual_payment_linked": "The payment that a person named is the processor's own",
    "manual_payment_returned": "A person recorded that the money of the manual payment came back",
    "paid_after_rejection": "The bank reports as paid what it had rejected",
    "returned_less": "Less came back than was sent",
    "returned_amount_differs": "A later report has another amount that came back: the first one stays posted",
    "object_never_understood": "Settled, and an object at the processor was never understood: compare it there",
    "paid_twice": "More than one payment is there",
    "payout_run_created": "Made",
    "payout_run_planned": "Planned: a dry run pays nobody",
    "payout_run_awaits_approval": "Planned: waits for approval",
    "payout_run_approved": "Approved",
    "payout_run_pays": "Planned: pays",
    "payout_run_done": "Done",
    "payout_run_canceled": "Canceled",
    "payee_recorded": "Recorded",
    "payee_changed": "Changed",
    "payee_paused": "Paused",
    "payee_resumed": "Resumed",
    "payee_verdict": "The processor's word on the destination",
    "destination_read": "The whole destination was shown",
    "earning_clawed_back": "A share was clawed back",
    "clawback_undone": "A claw-back was undone",
    "processor_paused": "Sending paused",
    "processor_resumed": "Sending resumed",
    "funds_short": "Too little money at the processor",
    "funds_suffice": "The money at the processor suffices again",
    "customer_erased": "Texts of a customer erased",
    "customer_merged": "Customer merged into another",
    "person_linked": "Two names linked as one person",
    "person_unlinked": "Two names no longer linked as one person",
    "key_created": "API key created",
    "key_revoked": "API key revoked",
    "user_created": "User created",
    "user_password_set": "Password set",
    "user_role_set": "Role set",
    "user_enabled": "User enabled",
    "user_disabled": "User disabled",
    "user_unlocked": "Unlocked: failed sign-ins cleared",
}

# The same, where the step of a payout is called otherwise than the payment of a refund.
PAYOUT_EVENT_LABELS: Mapping[str, str] = {
    **EVENT_LABELS,
    "leg_asks_customer": "The payee must act",
    "leg_paid": "This step is paid",
    "leg_absent": "Looked up: it does not exist at the processor",
}

# Result of an attempt, by the engine's names for answers.
OUTCOME_LABELS: Mapping[str, str] = {
    "Answered": "the refund was made",
    "Refused": "refused for good",
    "AlreadyRefunded": "the processor says that the payment is already refunded",
    "Blocked": "refused for now; no refund was made",
    "Busy": "not executed: the processor is busy",
    "NotSent": "not sent: no connection",
    "Unanswered": "no answer: it is not known whether a refund was made",
    "Denied": "our configuration is wrong; sending paused",
    "Misconfigured": "the processor does not accept this payment or one of the values",
    "UnknownRefusal": "refused with a code that we do not know",
    "KeyConflict": "the key was used with another request",
}

PAYOUT_OUTCOME_LABELS: Mapping[str, str] = {
    **OUTCOME_LABELS,
    "TransferAnswered": "the processor has it",
    "Blocked": "refused for now; nothing was paid",
    "Unanswered": "no answer: it is not known whether it was paid",
    "Misconfigured": "the processor does not accept one of the values",
}

# Result of a webhook event, by the stored text.
WEBHOOK_RESULT_LABELS: Mapping[str, str] = {
    "taken in": "processed",
    "unknown refund: left to reconciliation": "the refund is unknown here: reconciliation checks it",
    "not understood: left to polling": "not understood: the next poll finds the change",
    "this program broke on it: left to polling": "internal error: the next poll finds the change",
    "the processor does not know this refund: left to reconciliation": (
        "the processor does not know this refund: another account's or mode's, reconciliation checks it"
    ),
    "the processor did not answer: left to polling": "the processor did not answer: the next poll finds the change",
}

WEBHOOK_FAULT_LABELS: Mapping[str, str] = {
    "bad_signature": "none of our secrets signed it, as after a rotation of the webhook secret",
    "no_signature": "its signature is missing or broken",
    "not_recent": "it was signed at another time: our clock is wrong, or it was sent again",
    "no_event": "it is not an event",
}

# Failure codes whose message this program writes; the message of any other code is the processor's.
OUR_CODES = frozenset(
    {
        "processor_unreachable",
        "outcome_unknown",
        "refunded_elsewhere",
        "refunded_twice",
        "answer_mismatch",
        "not_at_processor",
        "payment_mismatch",
        "processor_unknown",
        "payment_id_unusable",
        "manual_processor",
        "unknown_status",
        "internal_error",
        "unexpected_answer",
        "unknown",
    }
)


def message_label(failure_code: str | None, message: str) -> str:
    """Return the label of a failure's message; only a message by the processor is labelled as the processor's."""
    ours = failure_code is None or failure_code in OUR_CODES or message.startswith("the processor says ")
    return "details" if ours else "the processor's message"


@dataclass(frozen=True, slots=True)
class Done:
    """Message about a finished act, shown once on the page that follows; `tone` is its colour."""

    text: str
    tone: str = "good"


_ENDED = "Your session had ended. Nothing was done; sign in and try again."
# The person or system that can end each cause of a wait.
WAITS_FOR: Mapping[WaitCause, str] = {
    WaitCause.APPROVAL: "the approval of a second person",
    WaitCause.PERSON: "a decision of a colleague",
    WaitCause.PROCESSOR_PAUSED: "a colleague who resumes the processor",
    WaitCause.CIRCUIT_OPEN: "a correction of our set-up",
    WaitCause.LISTING_STALE: "the processor's list",
    WaitCause.RETRY: "the next try",
    WaitCause.RESULT_UNKNOWN: "the processor's answer",
    WaitCause.PROCESSOR: "the processor or the bank",
    WaitCause.PAYOUT: "the payout to the payee",
    WaitCause.PAYOUT_HELD: "the end of a payout's hold",
    WaitCause.CUSTOMER: "the customer",
    WaitCause.WORKER: "a worker",
}

DONE: Mapping[str, Done] = {
    "signed_out": Done("You are signed out."),
    "password": Done("Your password is changed. Your sessions in other browsers have ended."),
    "ended": Done(_ENDED, "warn"),
    "refunded": Done(
        "The refund is accepted. Its entry appears below as soon as it is posted, usually within a second.",
    ),
    "deleted": Done("Deleted: a reversal entry takes it back. Nothing is erased."),
    "corrected": Done("The correction was added."),
    "split": Done("The correction was replaced by its parts. This is the first; nothing has been paid out yet."),
    "asked": Done("Accepted: the progress is shown below."),
    "approval": Done("Accepted; a second person must approve it first."),
    "approve": Done("Approved: the refund now continues automatically."),
    "reject": Done("Rejected: nothing was paid."),
    "cancel": Done("Canceled: nothing was paid."),
    "cancel_requested": Done("The processor is asked to cancel it. The page shows the result, usually within seconds."),
    "synced": Done("The processor was asked just now. The page shows its answer."),
    "retry": Done("Retry requested: the processor is asked first whether a refund exists."),
    "resolve": Done("Resolved."),
    "payout_asked": Done("Accepted: the progress is shown below."),
    "payout_approval": Done("Accepted; a second person must approve it first."),
    "payout_approve": Done("Approved: the payout now continues automatically."),
    "payout_reject": Done("Rejected: nothing was paid, and the amount is free again."),
    "payout_cancel": Done("Canceled: nothing was paid, and the amount is free again."),
    "payout_cancel_requested": Done(
        "The processor is asked to call it off. The page shows the result, usually within seconds."
    ),
    "payout_retry": Done("Retry requested: the processor is asked first whether it was paid."),
    "payout_resolve": Done("Resolved."),
    "run_made": Done("Made: the scheduler plans it piece by piece, and the progress is shown below."),
    "run_approved": Done("Approved: the scheduler makes the payouts, and the progress is shown below."),
    "run_canceled": Done("Canceled: it makes no more payouts; those that it made stay."),
    "payee_paused": Done("Paused: nothing is paid to this payee until it is resumed."),
    "payee_resumed": Done("Resumed: held payouts are looked at again at once."),
    "verified": Done("The latest entries are unchanged."),
    "differs": Done(
        "Some entries were altered: see below, and inform the person responsible for the database.",
        "bad",
    ),
    "decided": Done("Decided: the credits show what became of them."),
    "linked": Done("Linked: it counts for that refund now."),
    "merged": Done("Merged: payments, refunds and the balance are this customer's, and the other id is a name of it."),
    "erased": Done("Erased: the texts and e-mail addresses of this customer are overwritten. Ids and amounts stay."),
    "closed": Done("Closed: nothing goes over this payment any more, and its unspent credits came off the balance."),
    "paused": Done("Paused: nothing more is sent to this processor. Refunds already sent are still looked up."),
    "redelivered": Done("The scheduler sends it again within seconds."),
    "role": Done("The role is changed. It applies at once, also in open sessions."),
    "disable": Done("Disabled: the user's sessions have ended, and the user cannot sign in."),
    "enable": Done("Enabled: the user signs in with the same password and role as before."),
    "unlock": Done("Unlocked: the next password is checked at once."),
    "revoked": Done("Revoked: requests with this key are refused from now on."),
    "reconciling": Done("Begun: the scheduler compares piece by piece, and the progress is shown below."),
    "difference_applied": Done("Applied."),
    "difference_acknowledged": Done("Acknowledged: nothing else was changed."),
    "difference_gone": Done("The difference has vanished meanwhile: nothing was changed.", "warn"),
    "resumed": Done("Resumed: waiting refunds are sent at once."),
}
