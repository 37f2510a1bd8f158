"""The metrics of the program: the one list of their names, and what this process has counted since it last stored it.

Each process stores its counts in the database every few seconds (`engine/jobs/metric_flush.py`), so that one `/metrics`
shows the whole installation, and a counter survives a restart. Other metrics are read from the tables when they are
asked for. To count costs a dictionary's update, and no statement of SQL.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "refund_worker_"


class Kind(StrEnum):
    """The kinds of Prometheus."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `buckets` are upper bounds in seconds, for a histogram. `name` is without the prefix."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """Return the name as Prometheus shows it."""
        return PREFIX + self.name


_C, _H, _G = Kind.COUNTER, Kind.HISTOGRAM, Kind.GAUGE
# In seconds: of requests and calls; of waits in a queue; of a refund's whole way, up to a month.
_SHORT = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_WAITS = (0.01, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_LONG = (1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0)

# Counted by each process.
REFUNDS_ACCEPTED = Metric("refunds_accepted_total", _C, "Accepted refunds", ("kind", "to"))
PAYOUTS_ACCEPTED = Metric("payouts_accepted_total", _C, "Payouts that were accepted", ())
PAYOUTS_ENDED = Metric("payouts_ended_total", _C, "Payouts that ended, by status and failure code", ("status", "code"))
REFUNDS_ENDED = Metric("refunds_ended_total", _C, "Refunds that ended, by status and failure code", ("status", "code"))
ATTEMPTS = Metric("attempts_total", _C, "Sends to a processor, by class and code", ("processor", "outcome", "code"))
LATE_FAILURES = Metric("late_failures_total", _C, "Refunds that failed after they had succeeded", ("processor",))
LEASES_EXPIRED = Metric("leases_expired_total", _C, "Claimed refunds whose earlier worker did not finish")
ALARMS = Metric("alarms_total", _C, "Alarms, by name", ("alarm",))
HTTP_REQUESTS = Metric("http_requests_total", _C, "HTTP requests", ("method", "route", "status"))
WEBHOOKS_REFUSED = Metric("webhooks_refused_total", _C, "Refused webhook requests, by reason", ("processor", "reason"))
WEBHOOKS_STORED = Metric("webhooks_stored_total", _C, "Webhook events that were new", ("processor",))
BROKER_FAILURES = Metric("broker_failures_total", _C, "Failed publications to the broker, by error", ("error",))
JOBS_FAILED = Metric("jobs_failed_total", _C, "Runs of the scheduler's jobs that failed", ("job",))
NOTIFICATION_TRIES = Metric("notification_tries_total", _C, "Deliveries of notifications, by result", ("result",))
CALL_SECONDS = Metric("processor_call_seconds", _H, "Duration of calls to a processor", ("processor", "call"), _SHORT)
CLAIM_TO_SEND = Metric("claim_to_send_seconds", _H, "Time from a claim to its send", ("processor",), _WAITS)
RATE_WAIT = Metric("rate_wait_seconds", _H, "Waits for a slot of the rate limit", ("processor",), _WAITS)
CONFIRMED = Metric("request_to_confirmed_seconds", _H, "Time from the request to confirmed money", (), _LONG)
HTTP_SECONDS = Metric("http_request_seconds", _H, "Duration of HTTP requests", ("method", "route"), _SHORT)
WEBHOOK_LAG = Metric("webhook_lag_seconds", _H, "Time from a webhook event to its processing", ("processor",), _WAITS)
SWEEP_SECONDS = Metric("sweep_seconds", _H, "Duration of the scheduler's sweeps", (), _SHORT)
JOB_SECONDS = Metric("job_seconds", _H, "Duration of the scheduler's jobs", ("job",), _WAITS)

# Read from the database.
UNFINISHED = Metric("refunds_unfinished", _G, "Unfinished refunds, by status", ("status",))
DUE = Metric("refunds_due", _G, "Refunds that are due and wait for a worker")
WAITING = Metric(
    "refunds_waiting",
    _G,
    "Refunds that wait because nothing is sent to this processor: processor_paused, circuit_open or listing_stale",
    ("processor", "cause"),
)
OLDEST = Metric("oldest_unfinished_seconds", _G, "Age of the oldest unfinished refund, 0 if there is none")
INBOX = Metric("inbox_waiting", _G, "Webhook events not processed yet")
INBOX_OLDEST = Metric("inbox_oldest_seconds", _G, "Age of the oldest webhook event not processed yet, 0 if none")
PAUSED = Metric("processor_paused", _G, "1 while nothing is sent to this processor", ("processor",))
STATE = Metric(
    "processor_state", _G, "1 for the processor's state: sending, paused, open or stale", ("processor", "state")
)
LAST_SYNC = Metric("last_sync_timestamp_seconds", _G, "When the processor's refunds were last listed", ("processor",))
LAST_RECONCILIATION = Metric(
    "last_reconciliation_timestamp_seconds", _G, "When our ledger was last compared with the processor", ("processor",)
)
DIFFERENCES = Metric("reconciliation_differences", _G, "Differences that the last comparison found", ("processor",))
_FUNDS = ("processor", "currency")
FUNDS_AVAILABLE = Metric("funds_available_minor", _G, "Available at the account, if its balance is known", _FUNDS)
FUNDS_PENDING = Metric("funds_pending_minor", _G, "Pending at the account, if its balance is known", _FUNDS)
FUNDS_NEEDED = Metric("funds_needed_minor", _G, "Needed by refunds and payouts that await no approval", _FUNDS)
FUNDS_SHORTFALL = Metric("funds_shortfall_minor", _G, "Missing at the account, if its balance is known", _FUNDS)
FUNDS_READ = Metric("funds_read_timestamp_seconds", _G, "When the account's balance was last read", ("processor",))
NOTIFICATIONS = Metric("notifications", _G, "Notifications, waiting or given_up", ("state",))
PROCESSES = Metric("processes", _G, "Workers and schedulers that reported within a minute", ("kind",))
BROKER_SHARED = Metric("broker_shared", _G, "0 if schedulers do all work, without a broker that processes share")
HEARTBEAT = Metric("heartbeat_age_seconds", _G, "Age of the latest report of a worker or scheduler", ("kind",))
SUM_VIOLATIONS = Metric(
    "sum_violations", _G, "Rows for which a sum that must hold does not, at most 1,000 in all", ("sum",)
)
SUMS_ROUND = Metric(
    "sums_last_round_timestamp_seconds", _G, "When the sums of all customers were last checked completely"
)
SUMS_SECONDS = Metric("sums_last_round_seconds", _G, "Duration of the last check of the sums of all customers")
UNSEALED = Metric("audit_unsealed_seconds", _G, "Age of the oldest timeline row that the audit chain has not sealed")
LAST_SEAL = Metric("audit_last_seal_timestamp_seconds", _G, "When the audit chain last sealed rows")
DATABASE_UP = Metric("database_up", _G, "1 if the database answers; if 0, other metrics are missing")
DATABASE_WRITABLE = Metric("database_writable", _G, "1 if the database accepts writes")
BUILD_INFO = Metric("build_info", _G, "1, with the versions as labels", ("version", "python", "schema_revision"))

METRICS: Mapping[str, Metric] = {each.name: each for each in vars().values() if isinstance(each, Metric)}

# More label sets of one metric in one process are counted together, so that foreign texts cannot fill the table. The
# labels in KEPT stay: they have few values, and an alert on errors needs them.
SETS_MAX = 200
KEPT = frozenset({"method", "status"})
OTHER = "other"
SUM = "sum"
INFINITE = "+Inf"
_LABEL = re.compile(r"[A-Za-z0-9_.:/{}()@+-]{0,80}")

# (name, labels, part): the part of a histogram is a bucket's upper bound, or `SUM`; that of a counter is empty.
Slot = tuple[str, tuple[str, ...], str]


class Counts:
    """The counts of this process that are not stored yet. It is safe for several threads."""

    def __init__(self) -> None:
        self.storing = threading.Lock()  # held by the thread that has taken counts and is storing them
        self._lock = threading.Lock()
        self._values: defaultdict[Slot, float] = defaultdict(float)
        self._sets: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)

    def add(self, metric: Metric, labels: tuple[object, ...], parts: Mapping[str, float]) -> None:
        """Add to the parts of one label set."""
        names = tuple(_label(label) for label in _named(metric, labels))
        with self._lock:
            known = self._sets[metric.name]
            if names not in known and len(known) >= SETS_MAX:
                pairs = zip(metric.labels, names, strict=True)
                names = tuple(name if label in KEPT else OTHER for label, name in pairs)
            known.add(names)
            for part, value in parts.items():
                self._values[metric.name, names, part] += value

    def take(self) -> dict[Slot, float]:
        """Return all counts and begin again from zero."""
        with self._lock:
            taken, self._values = self._values, defaultdict(float)
        return dict(taken)

    def forget(self) -> None:
        """Begin again in a forked process: its parent stores what is counted so far, and may hold the lock."""
        self.__init__()  # type: ignore[misc]

    def put_back(self, taken: Mapping[Slot, float]) -> None:
        """Add counts again that could not be stored."""
        with self._lock:
            for slot, value in taken.items():
                self._values[slot] += value


COUNTS = Counts()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=COUNTS.forget)


def count(metric: Metric, *labels: object, by: float = 1) -> None:
    """Add to a counter; `labels` are the values of the metric's labels, in their order."""
    COUNTS.add(metric, labels, {"": by})


def observe(metric: Metric, seconds: float, *labels: object) -> None:
    """Add a duration to a histogram."""
    place = bisect_left(metric.buckets, seconds)
    bucket = INFINITE if place == len(metric.buckets) else repr(metric.buckets[place])
    COUNTS.add(metric, labels, {bucket: 1, SUM: seconds})


def _named(metric: Metric, labels: tuple[object, ...]) -> tuple[object, ...]:
    """Return the labels with the platform instead of its connected accounts: there can be any number of those."""
    if "processor" not in metric.labels:
        return labels
    pairs = zip(metric.labels, labels, strict=True)
    return tuple(str(value).partition("/")[0] if name == "processor" else value for name, value in pairs)


def _label(value: object) -> str:
    text = "" if value is None else str(value)
    return text if _LABEL.fullmatch(text) else OTHER
