"""The runbook's entries for alarms that are no failure code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from refund_worker.alarms import Alarm
from refund_worker.engine.views.explanations import SHOW_REFUND, Entry
from refund_worker.engine.views.runbook_payouts import PAYOUT_ALARM_ENTRIES
from refund_worker.engine.views.runbook_sums import SUM_ENTRIES

_REPORT = "Report it to the developers with the log line and its traceback."
_TIMELINE = "Read its timeline: `refund-worker refunds events ID`, or the page `/console/refunds/ID`."
_NOTHING_OPEN = "Nothing stays open: the alarm is a report. It comes once for each refund."

_SENDING: Final[dict[Alarm, Entry]] = {
    Alarm.SENDING_STOPPED: Entry(
        "Nothing more is sent to a processor",
        "The processor does not accept our key, our account, its mode or the form of our requests. The line's field "
        "`code` says which.",
        "No refund fails. Requests are accepted and wait, and so do webhook events. The processor's state is `open` "
        "meanwhile. The scheduler asks for the processor's list every minute (a fifth of `POLL_SECONDS`). Everything "
        "continues as soon as a list that was refused is answered again. If only sends are refused, the worker tries "
        "again every five minutes. A cause that lasts raises one alarm a day.",
        (
            "Read the code and the message: `refund-worker processors status -o json`, or the page "
            "`/console/processors`.",
            "Look the code up here: each has an entry of its own, and so does `refund-worker explain CODE`.",
            "Correct what it names, and restart the processes if a setting changed. Check it with `refund-worker "
            "doctor`.",
            "Do not wait if you know that it is repaired: `refund-worker processors resume PROCESSOR --reason 'WHY'` "
            "sends everything.",
        ),
        "At once: all refunds to this processor wait.",
        "`refund-worker processors status` shows `sending`.",
    ),
}
_FUNDS: Final[dict[Alarm, Entry]] = {
    Alarm.FUNDS_SHORT: Entry(
        "Refunds and payouts need more money than the processor account has",
        "Unfinished refunds and payouts need more than is available at the account in one currency. The line names the "
        "account, the currency and both amounts.",
        "Nothing fails. A refund or payout that the processor refuses for lack of money is blocked, and is tried again "
        "after `RETRY_MAX_SECONDS`. When a reading of the balance shows enough money, blocked refunds go on at once, "
        "the oldest first. The alarm comes once for each shortfall, and its end is recorded in the timeline.",
        (
            "See what is missing: `refund-worker funds`, or the page `/console`.",
            "If the amount that is pending covers it, wait: it becomes available without any action.",
            "Otherwise top the account up at the processor, or let its payouts to our bank pause there.",
            "Approve nothing more meanwhile: the list of approvals says what would be missing.",
        ),
        "If nothing is pending at the processor, or the date of the shortfall is older than a day.",
        "`refund-worker funds` shows nothing missing.",
    ),
}
_REFUNDS: Final[dict[Alarm, Entry]] = {
    Alarm.REFUND_STOPPED: Entry(
        "A refund is stopped",
        "One part of a refund cannot be paid now. The line's field `code` is its failure code.",
        "The refund needs attention. Some codes are tried again automatically, others wait for a person.",
        (
            SHOW_REFUND,
            "Look the code up here: each has an entry of its own, and so does `refund-worker explain CODE`.",
            "See all refunds by cause: `refund-worker failures list`, or the page `/console/failures`.",
        ),
        "If many refunds are stopped with one code.",
        "`refund-worker failures list` shows none that needs attention.",
    ),
    Alarm.LATE_FAILURE: Entry(
        "Money that had arrived came back",
        "The processor first reported the refund as paid, and now as failed or canceled. This can come weeks later.",
        "The credits of what came back are returned to the balance, once. No other payment is tried. The refund ends "
        "as `failed` or `partially_succeeded`.",
        (
            SHOW_REFUND,
            "Inform the customer: the money did not reach them, and the credits are on their balance.",
            "To pay in another way, take these credits off first: `refund-worker customers correct CUSTOMER "
            "--credits=-N --reason 'WHY'`.",
        ),
        "If many come on one day: then ask the processor.",
        _NOTHING_OPEN,
    ),
    Alarm.PROCESSOR_CONTRADICTS: Entry(
        "The processor pays what had ended unpaid here",
        "A part of the refund had ended without money, and the processor now has a refund for it. Usually its answer "
        "was lost, and the refund appeared very late.",
        "The part counts as paid. Credits that had been returned for it are taken off again, so the balance may be "
        "negative. Other payments that were to replace it are not sent any more.",
        (
            SHOW_REFUND,
            _TIMELINE,
            "Look at the balance: `refund-worker customers show CUSTOMER`. If it is negative, decide whether to give "
            "the credits by a correction.",
            "If another payment was sent as well, the refund also has `refunded_twice`: follow that entry.",
        ),
        "If it comes more than once: then the quiet window (`QUIET_SECONDS`) is too short for this processor.",
        _NOTHING_OPEN,
    ),
    Alarm.PAID_AFTER_FAILURE: Entry(
        "An event says that a failed refund has paid",
        "The processor's events are all that is known of this refund. One said that it failed, and a later one that it "
        "was paid. Perhaps the events came in the wrong order. Perhaps the processor sent the money again.",
        "The refund stays failed: its credits were given back, or another payment was used. Nothing is sent for it.",
        (
            SHOW_REFUND,
            _TIMELINE,
            "Look at the refund in the processor's dashboard: which of the two was last?",
            "If it failed, nothing has to be done. If it was paid, the customer has money and credits, or the money "
            "twice: take the credits off by a correction, or agree on it with the customer.",
        ),
        "If it comes more than once in a week: ask the processor's support why its events come in the wrong order.",
        _NOTHING_OPEN,
    ),
    Alarm.REFUND_AND_DISPUTE: Entry(
        "A refund and a dispute take the same money",
        "A refund of ours went out over a payment, and the customer's bank disputes the same payment. The event names "
        "both.",
        "The refund is not stopped: its money is out. The dispute holds the credits of the disputed amount.",
        (
            SHOW_REFUND,
            "Send the refund to the bank as evidence: in the processor's dashboard, with its reference, before the "
            "dispute is due.",
            "If the dispute is lost, the customer was paid twice: decide whether to claim it back.",
        ),
        "Before the dispute is due. `GET /v1/disputes/ID` shows `due_by`.",
        "The dispute has ended.",
    ),
    Alarm.DISPUTE_OPENED: Entry(
        "A payment is disputed",
        "The customer's bank takes the money of a payment back until the dispute has ended.",
        "Nothing more is sent over the payment, and the credits of the disputed amount are held. If the dispute is "
        "lost, they are taken; otherwise they are free again, and stopped refunds continue.",
        (
            "See it: `refund-worker disputes list --status needs_response`, or the console's page Disputes.",
            "Answer it in the processor's dashboard before it is due.",
        ),
        "If it is due within two days.",
        "The dispute's status is `won` or `lost`.",
    ),
    Alarm.FRAUD_WARNING: Entry(
        "A bank suspects a payment",
        "The processor passes on an early fraud warning: the bank expects the cardholder to dispute the payment.",
        "The warning is shown with the refund that it suggests. No refund is made automatically.",
        (
            "See it: `refund-worker disputes warnings --status open`, or the console's page Disputes.",
            "If the payment may be fraud, refund it now: the command stands there. Otherwise a dispute may follow.",
        ),
        "If there are many in a day: stolen cards may be in use.",
        "The warning's status is `closed`.",
    ),
    Alarm.PAYMENT_MAY_HAVE_FAILED: Entry(
        "A payment may have failed after it was recorded",
        "A refund waited because its payment, such as a bank debit, was not settled yet. Now the refund has failed.",
        "The customer still has the payment's credits. Other payments are tried for the refund, or its credits are "
        "given back. Nothing is sent over this payment before its record is read again.",
        (
            "Look at the payment in the processor's dashboard: the page Payments has its id there.",
            "If it failed: `refund-worker payments close ID --reason 'the debit failed'` takes its credits.",
        ),
        "If the refund went over another payment: the customer may have had money back that never came.",
        "The payment is closed, or the dashboard shows that its money came.",
    ),
    Alarm.SHORTFALL_UNDECIDED: Entry(
        "Spent credits of money that is gone",
        "Others returned money of a payment whose credits the customer has spent already, and `SHORTFALL` is `person`.",
        "The credits that were there are taken. Nothing happens to the rest.",
        (
            "See it: `refund-worker outside-refunds list --status needs_decision`, and `refund-worker disputes list "
            "--status lost`.",
            "Decide: `refund-worker outside-refunds decide ID --decision write_off --reason 'WHY'`, or `debt`. For a "
            "dispute: `refund-worker disputes decide`.",
        ),
        "If there are many of one customer.",
        "The list is empty.",
    ),
    Alarm.POSTED_AFTER_ALL: Entry(
        "The processor has a refund that is not sent in this database",
        "The refund is unapproved, rejected or canceled here, and the processor has it. So this database is older "
        "than the refund: it was restored from a backup, or it is a copy.",
        "The ledger entries are posted, because the money went out. The processor's record takes precedence.",
        (
            "The money needs nothing.",
            "Find out what else this database does not know: `refund-worker reconcile --days 30`.",
            "If a backup was restored, follow the section Restore of the operations page.",
        ),
        "At once, if nobody restored a backup: then a copy of the database runs with the same key.",
        "`refund-worker reconcile --days 30` ends with exit code 0.",
    ),
    Alarm.MANUAL_PAYMENT_COUNTS_AGAIN: Entry(
        "A manual payment counts again",
        "Our own refund had been paid besides a manual payment, a person decided about the two, and now our own "
        "refund has failed. So the manual payment is the only one again.",
        "The refund stays as succeeded, paid by the manual payment. No credits go back.",
        (
            _TIMELINE,
            "Check whether the manual payment was claimed back meanwhile. If it was, the customer has nothing: pay "
            "them again, outside this program, and note it.",
        ),
        "At once: the customer may have been paid nothing.",
        _NOTHING_OPEN,
    ),
    Alarm.PAYMENT_NOT_READ: Entry(
        "The processor refused to show a payment",
        "Before the first refund over a payment the worker reads the processor's record of it. The processor refused "
        "that, with the failure code that the refund shows.",
        "Nothing is sent over this payment. The refund needs attention.",
        (
            SHOW_REFUND,
            "Look its failure code up here, and correct what it names.",
            "Read the payment again: `refund-worker refunds retry ID --reason 'WHY'`.",
        ),
        "If several refunds get it: then check the key's permissions with `refund-worker doctor`.",
        "The refund's status is not `needs_attention` any more.",
    ),
    Alarm.PAYMENT_NOT_FOUND: Entry(
        "The processor does not know a payment",
        "Before the first refund over a payment the worker reads the processor's record of it. The processor has no "
        "payment with this id.",
        "Nothing is sent over this payment. The refund needs attention.",
        (
            SHOW_REFUND,
            "Check the account and the mode of the key: `refund-worker doctor`. Compare the payment's id with the "
            "processor's dashboard.",
            "Then read it again: `refund-worker refunds retry ID --reason 'WHY'`. If the payment was recorded wrong, "
            "pay in another way and end it: `refund-worker refunds resolve ID --outcome paid_manually --reference REF "
            "--reason 'WHY'`.",
        ),
        "If several refunds get it: then the key is of another account or mode.",
        "The refund's status is not `needs_attention` any more.",
    ),
    Alarm.LEDGER_DIFFERS: Entry(
        "Sums of our own ledger disagree",
        "A reconciliation found a sum that does not hold: an entry that is not balanced, a balance that is not the sum "
        "of its entries, a part of a refund whose money is not in the ledger. The line names the rows. These are the "
        "sums of `refund-worker sums`.",
        "Nothing is changed. No program can repair it.",
        (
            "Find out who changed the rows: `refund-worker audit verify`.",
            _REPORT,
            "Acknowledge the difference once it is explained: `refund-worker reconciliations acknowledge ID N --reason "
            "'WHY'`.",
        ),
        "At once: a person or a program has changed the database directly.",
        "`refund-worker reconcile --days 7` ends with exit code 0.",
    ),
    Alarm.CLOCK_WENT_BACK: Entry(
        "The clock of the database went back",
        "Rows were written at times that are now in the future. So waits and the age of keys cannot be trusted.",
        "Refunds that would wait for an old time are processed now. Nothing is sent again without a look-up first.",
        (
            "Correct the clock of the database server, and keep it correct (NTP).",
            "If the database was moved or restored on another machine, check the clock there.",
        ),
        "If it comes again: a clock that jumps back and forth delays refunds.",
        "The alarm does not come again within two minutes.",
    ),
}
_FAULTS: Final[dict[Alarm, Entry]] = {
    Alarm.BATCH_FAILED: Entry(
        "Many refunds could not be processed together",
        "A batch of refunds, or of answers, could not be written to the database. Either one refund in it is at "
        "fault, or the cause concerns all of them: an older schema, a full disk.",
        "Each is tried alone. One refund at fault is put off and shown with `internal_error`; all others continue. If "
        "all fail alike, none is put off, and they are tried again.",
        (
            "Check the set-up: `refund-worker doctor`.",
            "Compare the schema: `refund-worker db current`. If it is behind: `refund-worker db upgrade`.",
            "Check the disk of the database server.",
            _REPORT,
        ),
        "If it comes again within minutes: then nothing is processed.",
        "The alarm stops, and the number of refunds that are due falls (`/console/`).",
    ),
    Alarm.ADAPTER_FAILED: Entry(
        "The part that talks to a processor failed",
        "The adapter of a processor raised an error that it should have handled: a defect of this program.",
        "The call counts as unanswered. It is repeated with the same key or looked up, so nothing is paid twice.",
        (
            _REPORT,
            "If it concerns every call, stop sending: `refund-worker processors pause PROCESSOR --reason 'WHY'`.",
        ),
        "If it comes for every call.",
        "The alarm stops, and refunds succeed again.",
    ),
    Alarm.REQUEST_FAILED: Entry(
        "A request ended with an internal error",
        "The web process answered 500 to a request of the API or the console: a defect, or a fault of the set-up.",
        "The request changed nothing. Callers that repeat it with the same idempotency key are safe.",
        ("Check the set-up: `refund-worker doctor`.", "Find the request by its `request_id` in the log.", _REPORT),
        "If the same route fails for everybody.",
        "The alarm does not come again for the same request.",
    ),
    Alarm.SWEEP_FAILED: Entry(
        "The scheduler could not look for due refunds",
        "One round of the scheduler failed with an unexpected error.",
        "The next round comes a second later (`SWEEP_SECONDS`). Refunds with a wake-up message are processed "
        "meanwhile.",
        ("Check the set-up: `refund-worker doctor`.", _REPORT),
        "If it comes in every round: then pending refunds and missed messages wait.",
        "The alarm stops. `refund-worker health scheduler` exits with 0.",
    ),
    Alarm.JOB_FAILED: Entry(
        "A periodic job failed",
        "A job of the scheduler failed. Its name is in the line: `inbox` (webhooks), `seal` (audit chain), `tally` "
        "(figures), `prune`, `erase`, `sums`, `clock`, `watch`, `look` (processor's lists), `notifications`, "
        "`reconcile`. The alarm line means an unexpected error; the metric also counts runs that wait for the database "
        "or the processor.",
        "The job runs again at its next time. Other jobs and refunds continue. While `look` fails, sending stops "
        "after `POLL_SECONDS`, because the processor's list gets too old.",
        (
            "Check the set-up: `refund-worker doctor`. If only `look` and `watch` fail, the processor does not answer, "
            "or it refuses our key: then doctor names the code, and `refund-worker explain CODE` says what to do.",
            "If the line has a traceback, report it to the developers.",
        ),
        "If it fails for longer than ten minutes.",
        "The alarm for this job stops.",
    ),
    Alarm.WORKER_RESTARTED: Entry(
        "A worker ended unexpectedly",
        "The working process crashed or was killed, for example because memory ran out.",
        "It is started again, after a pause that grows to half a minute. Its refunds are processed again when their "
        "lease ends (`LEASE_SECONDS`), each looked up first.",
        (
            "Read the lines before it: a full Redis, a wrong setting, memory.",
            "Check the set-up: `refund-worker doctor`.",
            "Give the worker more memory, or a lower `--concurrency`.",
        ),
        "If it ends again and again: then the worker does no work.",
        "`refund-worker health worker` exits with 0 for some minutes.",
    ),
    Alarm.ROUND_INTERRUPTED: Entry(
        "A round of a worker took too long",
        "The processor or the database kept a worker waiting for minutes.",
        "The round is interrupted. Its refunds are processed again when their lease ends, each looked up first.",
        (
            "Look at the processor's status page.",
            "If it lasts: `refund-worker processors pause PROCESSOR --reason 'WHY'`, and resume it later.",
        ),
        "If it comes every few minutes.",
        "The alarm stops, and refunds end again.",
    ),
    Alarm.EMBEDDED_BROKER_FAILED: Entry(
        "The embedded broker did not start",
        "`BROKER_URL` is `embedded`, and the Valkey of this machine did not start.",
        "The scheduler does the work itself, more slowly. The worker tries again.",
        (
            "Read the reason in the line: a folder that cannot be written, a port, the missing package.",
            "Set `RUNTIME_DIR` to a folder that can be written, or `BROKER_URL` to a Redis of your own.",
        ),
        "If refunds take too long without it.",
        "`refund-worker doctor` shows the broker as ok.",
    ),
    Alarm.BROKER_REFUSES: Entry(
        "The broker refuses a worker",
        "The broker answers, and it refuses a step that a worker needs: the user may not use a key or a queue, Redis "
        "is full, or a queue of the same name has other properties. The line has the broker's own message.",
        "The worker stops and is started again, after a pause that grows to half a minute. The scheduler and other "
        "workers continue. Accepted refunds are not lost.",
        (
            "Ask for the cause: `refund-worker doctor` does the same steps, and says what to do.",
            "Give the broker's user the keys or queues that it names, or make room in Redis.",
            "If another program has a queue of the same name, use a broker, a database number or a prefix of its own "
            "(`BROKER_PREFIX`).",
        ),
        "If no worker is left: then refunds wait.",
        "`refund-worker doctor` shows the broker as ok, and `refund-worker health worker` exits with 0.",
    ),
    Alarm.MESSAGE_DROPPED: Entry(
        "A message in the broker was dropped",
        "A message could not be read, or it is not one of ours. Another program writes to the same queues, or writes "
        "wrong messages.",
        "The message is thrown away; its text is not logged. Refunds that are already accepted are found by the "
        "scheduler. A request that was lost is repeated by its backend.",
        (
            "Find out who writes to this broker. Give this program a broker, a database number or a prefix of its own "
            "(`BROKER_PREFIX`).",
            "See the requests that were readable and refused: `refund-worker failures refused`.",
        ),
        "If it is not a single message: then another program loses its work here.",
        "The alarm stops.",
    ),
    Alarm.TASK_NOT_OURS: Entry(
        "A queue of ours has the tasks of another program",
        "Another application uses the same broker, and a queue of it has the name of one of ours (`refunds`, `bulk`).",
        "A task that is not ours is moved to the list `refunds.not-ours` or `bulk.not-ours`, which keeps the newest "
        "1,000. It is not lost, and it does not run until you give it back.",
        (
            "Give this program a broker, a database number or a prefix of its own (`BROKER_PREFIX`), and restart all "
            "its processes.",
            "Then give the tasks back, once for each: `redis-cli LMOVE bulk.not-ours bulk RIGHT LEFT`.",
            "The section on a shared broker of the operations page has the details.",
        ),
        "At once: the other application waits for these tasks.",
        "The alarm stops, and the list is empty: `redis-cli LLEN bulk.not-ours`.",
    ),
    Alarm.ANOTHER_INSTALLATION: Entry(
        "Two installations read the same queues",
        "Another refund-worker with a database of its own, such as staging, uses the same broker, and at least one of "
        "the two has no prefix. Each then takes the other's messages.",
        "A message that names another installation is left alone: refunds are found by the scheduler of their own "
        "installation, and a request goes back to the queue. A request that names no installation is taken by either, "
        "and the wrong one usually refuses it.",
        (
            "Set `BROKER_PREFIX` in one of the two, such as `staging:`, and restart all its processes and the backends "
            "that send it requests over Celery: the names of its queues change.",
            "Look in both for requests that the wrong one refused: `refund-worker failures refused`. Their backends "
            "send them again with the same key.",
            "`refund-worker doctor` names the other one; on Redis its mark stays for ten minutes after the change.",
        ),
        "At once if the other one sends real money: a request may be done by the wrong installation.",
        "The alarm stops, and `refund-worker doctor` shows the broker as ok.",
    ),
    Alarm.WEBHOOK_UNREADABLE: Entry(
        "A stored webhook event cannot be read",
        "An event had a valid signature, and its content is not as expected: a new kind or version.",
        "The event is left. Polling finds the same change later, so no refund is lost.",
        ("See the latest events: `/console/webhooks`.", _REPORT),
        "If every event has it: then changes are found only by polling.",
        "The alarm stops.",
    ),
    Alarm.NOTIFICATION_GIVEN_UP: Entry(
        "A notification was not delivered for about a day",
        "The receiver at `NOTIFY_URL` refused a notification, or did not answer, in all tries.",
        "It is not tried again until you say so. The refund is not affected.",
        (
            "See what failed and why: `refund-worker notifications list --given-up`.",
            "Correct the receiver, or the settings `NOTIFY_URL` and `NOTIFY_SECRET`.",
            "Send them again: `refund-worker notifications redeliver --given-up`.",
        ),
        "If there are many: then the receiver knows nothing of these refunds.",
        "`refund-worker notifications list --given-up` is empty.",
    ),
}

ALARM_ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        alarm.value: entry
        for entries in (SUM_ENTRIES, PAYOUT_ALARM_ENTRIES, _SENDING, _FUNDS, _REFUNDS, _FAULTS)
        for alarm, entry in entries.items()
    }
)
