"""The runbook's entries for conditions that metrics, warnings and the console show, and that raise no alarm line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from refund_worker.engine.views.explanations import NOT_LISTED, Entry

_DATABASE: Final[dict[str, Entry]] = {
    "database_unavailable": Entry(
        "The database cannot be used",
        "A process cannot connect to the database, or the database refuses it. The message says why: no server, a "
        "wrong password, too many connections, an old schema.",
        "Web processes answer 503 to requests, and `/readyz` answers 503. Workers and scheduler wait and try again. "
        "Nothing is lost: no refund is sent whose intent could not be stored first.",
        (
            "Ask for the cause: `refund-worker doctor`.",
            "If the schema is older than the program: `refund-worker db upgrade`.",
            "Start the database, free connections, or correct `DATABASE_URL`.",
        ),
        "At once: no request is accepted.",
        "`/readyz` answers 200, and `refund-worker doctor` shows the database as ok.",
    ),
    "database_read_only": Entry(
        "The database is read-only",
        "The database accepts no writes: it was demoted to a standby, its disk is full, or a person set it read-only.",
        "Web processes answer 503, and `/readyz` answers 503. `/metrics` shows the last rows. Each process logs it "
        "once, and again every ten minutes. It leaves the old primary and looks for the new one. Nothing is sent to a "
        "new primary before the processor's list was read again.",
        (
            "Find out why: `refund-worker doctor`. Or ask the server: `SELECT pg_is_in_recovery(), setting, source "
            "FROM pg_settings WHERE name = 'default_transaction_read_only'`.",
            "If `pg_is_in_recovery` is true, it is a standby. Find out which server is the primary now, and let the "
            "name in `DATABASE_URL` lead to it.",
            "If `setting` is `on`, a person set it, or a managed server did because its disk is nearly full: look at "
            "its disk first. `source` says where it is set. For `database`: `ALTER DATABASE NAME RESET "
            "default_transaction_read_only`. For `user`: `ALTER ROLE NAME RESET default_transaction_read_only`.",
            "If both say no, test the disk: `CREATE TEMPORARY TABLE probe AS SELECT generate_series(1, 1000000)`. If "
            "it answers `No space left on device`, make room.",
            "For an SQLite file, allow writing to the file and its folder, or make room on the disk.",
            "If a standby was promoted that had lagged behind, follow the section Restore of the operations page.",
        ),
        "At once: no request is accepted.",
        "`/readyz` answers 200 within 15 s after the primary is back.",
    ),
}
_BROKER: Final[dict[str, Entry]] = {
    "broker_unavailable": Entry(
        "The broker cannot be used",
        "Redis or RabbitMQ does not answer, is full, or is read-only. Only wake-up messages go through it.",
        "Requests are accepted as before. The scheduler does the work itself, more slowly. Requests of backends that "
        "only have the broker (Celery) wait there, or their backends repeat them.",
        (
            "Ask for the cause: `refund-worker doctor`.",
            "If Redis is full, give it more memory, or delete what others left in it. Our messages may be lost: the "
            "scheduler finds their refunds.",
            "Start the broker, or correct `BROKER_URL`.",
        ),
        "If refunds wait for longer than your customers may wait, or if backends request refunds over the broker.",
        "`refund-worker doctor` shows the broker as ok, and the warnings stop.",
    ),
}
_PROCESSES: Final[dict[str, Entry]] = {
    "scheduler_down": Entry(
        "No scheduler runs",
        "No scheduler has touched its heartbeat for two minutes.",
        "Refunds with a wake-up message are still processed. Pending refunds, webhooks, notifications and lists of "
        "the processor wait. After `POLL_SECONDS` nothing is sent any more, because the processor's list is too old.",
        (
            "Look on its machine: `refund-worker health scheduler`.",
            "Start it: `refund-worker scheduler`. Two schedulers do no harm.",
            "If it ends again, read its last lines and run `refund-worker doctor`.",
        ),
        "At once: within minutes nothing is sent.",
        "`refund-worker health scheduler` exits with 0, and `refund-worker processors status` shows `sending`.",
    ),
    "worker_down": Entry(
        "No worker runs for a queue",
        "No worker of the queue `refunds` or `bulk` has touched its heartbeat.",
        "Refunds of this queue wait. Nothing is lost. While there is a broker, the scheduler does not do their work.",
        (
            "Look on its machine: `refund-worker health worker --queues refunds`.",
            "Start it: `refund-worker worker --queues refunds`, and the same with `bulk`.",
            "If it ends again, see the alarm `worker_restarted`.",
        ),
        "At once for interactive refunds.",
        "The number of refunds that are due falls (`/console/`).",
    ),
    "web_down": Entry(
        "No web process answers",
        "`/healthz` does not answer.",
        "Callers get no answer and repeat their requests with the same key. The processor keeps its webhooks and "
        "repeats them. Refunds that are already accepted continue.",
        (
            "Look on its machine: `refund-worker health web --port 8000`.",
            "Start it: `refund-worker web --port 8000`.",
        ),
        "At once: no request is accepted.",
        "`/healthz` answers 200.",
    ),
}
_REFUNDS: Final[dict[str, Entry]] = {
    "refunds_need_attention": Entry(
        "Refunds need a person",
        "At least one refund has the status `needs_attention`.",
        "Some codes are tried again automatically, others wait for a person. Credits go back only when it is certain "
        "that no money goes out.",
        (
            "See them by cause: `refund-worker failures list`, or the page `/console/failures`.",
            "Look the code up here, or with `refund-worker explain CODE`, and do what it says.",
        ),
        "If the number grows from hour to hour.",
        NOT_LISTED,
    ),
    "refunds_overdue": Entry(
        "Refunds wait for too long",
        "The number of refunds that are due grows, or the oldest unfinished refund is older than a day.",
        "All of them are processed as soon as something can. Nothing is lost.",
        (
            "See which processors send: `refund-worker processors status`.",
            "Check the processes: `refund-worker health worker` and `refund-worker health scheduler`.",
            "List the unfinished ones: `refund-worker refunds list --status sending`, and the same with `queued` and "
            "`pending`.",
            "If all of them work and the rate of the processor is not used up, start more workers.",
        ),
        "If refunds of customers who wait (not of bulk files) are older than an hour.",
        "The number of refunds that are due is near zero (`/console/`).",
    ),
    "approvals_waiting": Entry(
        "Refunds wait for a second person",
        "At least one refund is above the limit, and nobody has approved or rejected it.",
        "It waits. So does everything that it reserves.",
        (
            "List them: `refund-worker approvals list`, or the page `/console/approvals`.",
            "Decide: `refund-worker refunds approve ID --reason 'WHY'` or `refund-worker refunds reject ID --reason "
            "'WHY'`. The requester cannot approve it.",
        ),
        "If one waits for longer than a day.",
        "`refund-worker approvals list` is empty.",
    ),
    "listing_stale": Entry(
        "The processor's list is too old",
        "The refunds at the processor were not listed for longer than `POLL_SECONDS`. A list that new is needed, so "
        "that a restored backup or a refund in the dashboard is noticed before money is sent. No scheduler runs, the "
        "processor does not answer, or it refuses our key.",
        "Nothing is sent to this processor until it was listed again. Then everything continues without a person.",
        (
            "Check that a scheduler runs: `refund-worker health scheduler`.",
            "Check the key and the network: `refund-worker doctor` lists refunds with the key, as the scheduler does. "
            "If the processor refuses the key, it names the code: follow `refund-worker explain CODE`.",
            "In the scheduler's log, the line `the job look waits` has the reason. The alarm `sending_stopped` means a "
            "refused key, the alarm `job_failed` a fault of this program.",
        ),
        "If it lasts longer than ten minutes.",
        "`refund-worker processors status` shows `sending`.",
    ),
}
_MESSAGES: Final[dict[str, Entry]] = {
    "webhooks_rejected": Entry(
        "Webhooks of the processor are rejected",
        "Requests to the webhook address answer 400 (`invalid_signature`). `refund-worker doctor`, the log line's "
        "`code` and the metric's label `reason` say why. With `bad_signature` none of our secrets signed them: usually "
        "the secret was rotated at the processor. With `not_recent` our clock is wrong, or an old event was sent "
        "again. With `no_signature` or `no_event` the request is hardly from the processor.",
        "Nothing is stored. Polling finds the same changes later, so refunds still end, with a delay.",
        (
            "Take the secret of this endpoint from the processor's dashboard.",
            "Set `STRIPE_WEBHOOK_SECRET=NEW,OLD` for the web processes, and restart them. Remove the old one later.",
            "Send the missed events again from the processor's dashboard, if you want them at once.",
        ),
        "If it lasts longer than a day: the processor may switch the endpoint off.",
        "New events appear on `/console/webhooks`.",
    ),
    "webhooks_waiting": Entry(
        "Webhook events wait",
        "Events are stored and not processed yet.",
        "They are processed in order as soon as the scheduler and the processor can be reached.",
        (
            "Check that a scheduler runs: `refund-worker health scheduler`.",
            "See the latest events: `/console/webhooks`.",
        ),
        "If the number grows for ten minutes.",
        "The number of waiting events on `/console/` is zero.",
    ),
    "notifications_failing": Entry(
        "Notifications are not accepted",
        "The receiver at `NOTIFY_URL` refuses notifications or does not answer.",
        "Each is tried again for about a day, at longer and longer intervals. Refunds are not affected.",
        (
            "See the last error: `refund-worker notifications list`.",
            "Correct the receiver, or the settings `NOTIFY_URL` and `NOTIFY_SECRET`.",
        ),
        "If it lasts longer than some hours: after about a day each raises the alarm `notification_given_up`.",
        "`refund-worker notifications list` shows them as delivered.",
    ),
    "requests_refused": Entry(
        "Requests from the broker are refused",
        "A backend sent requests over the broker (Celery) that this program refuses. The backend got no answer.",
        "No refund exists for them. They are kept for operators.",
        (
            "See them with their codes: `refund-worker failures refused`, or the page `/console/failures`.",
            "Tell the owners of the backend. A corrected request with the same key is accepted.",
        ),
        "If all requests of one backend are refused.",
        "No newer ones appear in `refund-worker failures refused`.",
    ),
}
_CHECKS: Final[dict[str, Entry]] = {
    "reconciliation_differs": Entry(
        "Our records and the processor's differ",
        "`refund-worker reconcile` ended with exit code 5. It prints each difference with its kind and number.",
        "Nothing is changed: a difference is only reported until a person decides.",
        (
            "Read them with the action of each: `refund-worker reconciliations show ID`. The subject is "
            "usually a part of a refund, `rf_…-1`: `refund-worker refunds "
            "show ID`.",
            "Apply the action: `refund-worker reconciliations apply ID N --reason 'WHY'`. The processor is asked again "
            "first, and a difference that has vanished changes nothing.",
            "Acknowledge what needs no action: `refund-worker reconciliations acknowledge ID N --reason 'WHY'`. Later "
            "reconciliations then show it as acknowledged.",
            "For `ledger`, a person or a program changed the database directly: `refund-worker audit verify`. Inform "
            "the developers.",
        ),
        "At once, if it differs twice in a row.",
        "`refund-worker reconcile --days 7` ends with exit code 0.",
    ),
    "audit_differs": Entry(
        "Rows changed since they were sealed",
        "`refund-worker audit verify` found rows that are not as our programs wrote them.",
        "Nothing is changed: a finding is only reported.",
        (
            "Find out who can write to the database, and who did.",
            "If a person repaired these rows on purpose: `refund-worker audit accept`. It records who accepted them.",
            "After an upgrade from an old version, see the section Upgrading of the operations page.",
        ),
        "At once, if nobody repaired anything.",
        "`refund-worker audit verify` ends with exit code 0.",
    ),
}

CONDITION_ENTRIES: Mapping[str, Entry] = MappingProxyType(
    {
        name: entry
        for entries in (_DATABASE, _BROKER, _PROCESSES, _REFUNDS, _MESSAGES, _CHECKS)
        for name, entry in entries.items()
    }
)
