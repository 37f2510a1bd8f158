"""The parts of an explanation in plain words: cause, course of events, steps for a person, and the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SHOW_REFUND: Final = "Show the refund: `refund-worker refunds show ID`, or its page `/console/refunds/ID`."
RETRY: Final = (
    "Once the cause is gone, retry it: `refund-worker refunds retry ID --reason 'WHY'`. The worker asks the processor "
    "first, so nothing is paid twice."
)
RESOLVE: Final = (
    "If you paid in another way: `refund-worker refunds resolve ID --outcome paid_manually --reference REF --reason "
    "'WHY'`. If nothing was paid and nothing will be: `refund-worker refunds resolve ID --outcome reverse --reason "
    "'WHY'`, which puts the credits back on the balance."
)
SHOW_PAYOUT: Final = (
    "Show the payout and its timeline: `refund-worker payouts show ID`, `refund-worker payouts events ID`."
)
RETRY_PAYOUT: Final = (
    "Once the cause is gone, retry it: `refund-worker payouts retry ID --reason 'WHY'`. The worker asks the processor "
    "first, so nothing is paid twice."
)
RESOLVE_PAYOUT: Final = (
    "If you paid in another way: `refund-worker payouts resolve ID --outcome paid_manually --reference REF --reason "
    "'WHY'`. If nothing was paid and nothing will be: `refund-worker payouts resolve ID --outcome reverse --reason "
    "'WHY'`, which gives the amount back to the payee's balance."
)
NO_PAYOUT_LISTED: Final = "`refund-worker payouts list --failure-code CODE` shows no payout that needs attention."
NOT_LISTED: Final = (
    "`refund-worker failures list` shows no refund with this code that needs attention, and neither does the page "
    "`/console/failures`."
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the runbook. `do` are the steps, in order; `over` says how to see that it is over."""

    title: str
    means: str
    by_itself: str
    do: tuple[str, ...]
    worry: str
    over: str


@dataclass(frozen=True, slots=True)
class Course:
    """The usual course of events for a kind of code: what the program does, first and last steps, and the end."""

    by_itself: str
    last_steps: tuple[str, ...]
    worry: str
    over: str
    first_steps: tuple[str, ...] = (SHOW_REFUND,)


WAITS: Final = Course(
    "The refund needs attention and waits. Nothing more is sent for it, no other payment is tried, and no credits go "
    "back.",
    (RETRY, RESOLVE),
    "If several refunds get this code within an hour: then the cause is not one record.",
    NOT_LISTED,
)
WAITS_UNSENT: Final = Course(
    "The refund needs attention and waits. This program sends nothing for it, and no credits go back.",
    (RESOLVE,),
    "If several refunds get this code within an hour: then payments are recorded wrongly.",
    NOT_LISTED,
)
TRIES_AGAIN: Final = Course(
    "The refund needs attention, and the worker tries it again every hour (`RETRY_MAX_SECONDS`), 48 times. It reads "
    "the processor's list before each try. It tries no other payment, and no credits go back.",
    (
        "To retry all refunds with this code at once, take their number from `refund-worker failures list`, then run "
        "`refund-worker failures retry CODE --expected N --reason 'WHY'`. The page `/console/failures` has the same.",
        RESOLVE,
    ),
    "If the number of refunds with this code grows from hour to hour.",
    NOT_LISTED,
)
ENDS: Final = Course(
    "The part of the refund over this payment ends as failed. The worker tries the customer's other payments in the "
    "same currency that have room. The credits of what none of them takes go back to the balance, once.",
    (),
    "If many refunds get this code on one day: then ask the processor.",
    "The refund has ended as `failed` or `partially_succeeded`. Nothing stays open.",
)
KEEPS_ASKING: Final = Course(
    "The refund is shown to a person, and the worker keeps asking the processor, at longer and longer intervals. It "
    "sends nothing new, and no credits go back.",
    (RETRY,),
    "If it lasts longer than a day.",
    NOT_LISTED,
)
WAITS_FOR_EVENT: Final = Course(
    "The refund is shown to a person and waits for the event, which ends it whenever it comes. This processor cannot "
    "be asked. Nothing new is sent, and no credits go back.",
    (RESOLVE,),
    "If it lasts longer than a day.",
    NOT_LISTED,
)
SENDING_STOPS: Final = Course(
    "Nothing more is sent to this processor, and no refund fails. The worker tries one refund every five minutes, to "
    "see whether the cause is gone. Look-ups continue where the processor answers them.",
    (
        "Restart the processes with the corrected setting, then resume at once: `refund-worker processors resume "
        "PROCESSOR --reason 'WHY'`, or the button on `/console/processors`.",
    ),
    "At once: all refunds to this processor wait.",
    "`refund-worker processors status` shows `sending`, and the number of refunds that are due falls.",
    first_steps=(),
)
PAYOUT_STOPS: Final = Course(
    "The payout needs attention and waits. Nothing more is sent for it, and its amount stays reserved on the payee's "
    "balance.",
    (RETRY_PAYOUT, RESOLVE_PAYOUT),
    "If several payouts get this code within an hour: then the cause is not one payee.",
    NO_PAYOUT_LISTED,
    first_steps=(SHOW_PAYOUT,),
)
PAYOUT_TRIES_AGAIN: Final = Course(
    "The payout needs attention, and the worker tries it again every hour (`RETRY_MAX_SECONDS`), each time under a new "
    "key once the last try is known to have failed. Its amount stays reserved.",
    (RETRY_PAYOUT, RESOLVE_PAYOUT),
    "If the number of payouts with this code grows from hour to hour.",
    NO_PAYOUT_LISTED,
    first_steps=(SHOW_PAYOUT,),
)
PAYOUT_KEEPS_ASKING: Final = Course(
    "The payout is shown to a person, and the worker keeps asking the processor, at longer and longer intervals. It "
    "sends nothing new.",
    (RESOLVE_PAYOUT,),
    "If it lasts longer than a day.",
    NO_PAYOUT_LISTED,
    first_steps=(SHOW_PAYOUT,),
)
PAYOUT_ENDS_UNPAID: Final = Course(
    "The payout ends, and its amount goes back to the payee's balance, once. If the destination is at fault, nothing "
    "more is paid there until it is changed.",
    (),
    "If many payouts get this code on one day: then ask the processor.",
    "The payout has ended, and the next one to the payee is paid.",
    first_steps=(SHOW_PAYOUT,),
)
PAYOUT_IS_HELD: Final = Course(
    "The payout is held, its amount stays reserved, and it is checked again when the cause may have ended.",
    (),
    "If it is held for longer than your payees may wait.",
    "The payout is sent, or it was canceled.",
    first_steps=(SHOW_PAYOUT,),
)
PAYOUT_WAITS_UNSENT: Final = Course(
    "The payout waits, and its amount stays reserved on the payee's balance. This program sends nothing for it.",
    (),
    "If it waits for longer than your payees may wait.",
    "The payout is paid, or it was canceled and its amount is back on the payee's balance.",
    first_steps=(SHOW_PAYOUT,),
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A failure code in plain words. `title` is a few words, `cause` and `advice` a sentence or two.

    `advice` is for a refund that needs a person, who can retry or resolve it. `at_end` is for a refund that has ended,
    which cannot be retried or resolved; without it, `advice` fits both. `retry_helps` once the cause is gone. `worry`
    replaces the worry of the course.
    """

    title: str
    cause: str
    advice: str
    retry_helps: bool = False
    at_end: str | None = None
    course: Course = WAITS
    worry: str = ""

    def entry(self) -> Entry:
        """Return the entry of the runbook."""
        steps = tuple(step for step in self.course.last_steps if step not in (RETRY, RETRY_PAYOUT) or self.retry_helps)
        return Entry(
            self.title,
            self.cause,
            self.course.by_itself,
            (*self.course.first_steps, self.advice, *steps),
            self.worry or self.course.worry,
            self.course.over,
        )
