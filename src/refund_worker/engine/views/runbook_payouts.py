"""The runbook's entries for the alarms about payouts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refund_worker.alarms import Alarm
from refund_worker.engine.views.explanations import RESOLVE_PAYOUT, SHOW_PAYOUT, Entry

_ONCE: Final = "Nothing stays open: the alarm is a report. It comes once for each payout."

PAYOUT_ALARM_ENTRIES: Final[Mapping[Alarm, Entry]] = {
    Alarm.PAYOUT_STOPPED: Entry(
        "A payout is stopped",
        "One step of a payout cannot be paid now. The payout's `failure_code` says why.",
        "The payout needs attention, and its amount stays reserved on the payee's balance. Some codes are tried again "
        "automatically, others wait for a person.",
        (
            SHOW_PAYOUT,
            "Look the code up here: each has an entry of its own, and so does `refund-worker explain CODE`.",
            "See all that wait for a person: `refund-worker payouts list --status needs_attention`.",
        ),
        "If many payouts are stopped with one code.",
        "`refund-worker payouts list --status needs_attention` shows none.",
    ),
    Alarm.PAYOUT_RETURNED: Entry(
        "The money of a payout came back",
        "The processor first reported the payout as paid, and now as failed, returned or canceled. Banks do this days "
        "or weeks later.",
        "The amount goes back to the payee's balance, once, also after the payout was settled. If the payee's account "
        "is at fault, nothing more is paid there until the destination is changed.",
        (
            SHOW_PAYOUT,
            "Tell the payee: the payout's `payee_text` says it in plain words.",
            "Once the destination is corrected, request another payout.",
        ),
        "If many come on one day: then ask the processor.",
        _ONCE,
    ),
    Alarm.PAYOUT_RETURNED_LESS: Entry(
        "Less came back than was sent",
        "The money of a payout came back, and the bank or the processor kept a part of it.",
        "The payee's balance gets the whole amount back. The missing part is posted as a loss of ours: `lost_minor`. "
        "If a later report has another amount, the first one stays posted.",
        (
            SHOW_PAYOUT,
            "Compare the amount with the processor's statement, and ask the processor what it kept.",
            "If the timeline has `returned_amount_differs`, ask which of the two amounts came back: `returned_minor` "
            "is posted, `now_minor` is not. If it is the second, correct the difference in your bookkeeping.",
        ),
        "If the missing part is more than a fee.",
        _ONCE,
    ),
    Alarm.PAYOUT_PAID_TWICE: Entry(
        "A payee may have been paid twice",
        "More than one transfer object at the processor may pay the same step of a payout, or one besides a manual "
        "payment.",
        "The payout needs attention, and nothing more is sent for it. The payee's balance counts it once.",
        (
            SHOW_PAYOUT,
            "Look at both objects at the processor, and cancel or reclaim the surplus one.",
            RESOLVE_PAYOUT,
            "Inform the developers if nobody paid manually.",
        ),
        "At once.",
        "Only one of the payments stands, and the payout is resolved.",
    ),
}
