"""The scheduler: publishes due refunds, does the work itself while there is no broker, and runs the periodic jobs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from refund_worker.alarms import Alarm, Condition, raise_alarm, runbook_link, warn_of
from refund_worker.condition_log import ConditionLog
from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.engine.context import Context
from refund_worker.engine.jobs.advance import advance_due
from refund_worker.engine.jobs.clock_rollback import handle_clock_rollback
from refund_worker.engine.jobs.daily_stats import count_daily_stats
from refund_worker.engine.jobs.due import due_ids
from refund_worker.engine.jobs.erase_addresses import erase_addresses
from refund_worker.engine.jobs.prune import prune
from refund_worker.engine.notifications.delivery import Deliverer
from refund_worker.engine.payees.refresh import refresh_payees
from refund_worker.engine.payouts.drive_runs import drive_due_runs
from refund_worker.engine.payouts.runs import make_scheduled_runs
from refund_worker.engine.processor_sync.connected_sync import ConnectedSync
from refund_worker.engine.processor_sync.funds import read_balance
from refund_worker.engine.processor_sync.listing import ListDenied, NotListed
from refund_worker.engine.processor_sync.reconciliation.run import run_due
from refund_worker.engine.processor_sync.reread import reread
from refund_worker.engine.processor_sync.sync import RecentSync
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.sums.rounds import EVERY_SECONDS, SumChecker
from refund_worker.engine.views.failure_codes import code_with_entry
from refund_worker.errors import RefundWorkerError, Unavailable
from refund_worker.metrics import BROKER_FAILURES, JOB_SECONDS, JOBS_FAILED, SWEEP_SECONDS, count, observe
from refund_worker.processors.accounts import accounts_of
from refund_worker.runtime import open_database
from refund_worker.settings import Settings
from refund_worker.worker.embedded_broker.broker import EMBEDDED, MEMORY, EmbeddedBroker
from refund_worker.worker.heartbeat import BEAT_SECONDS, Heartbeat
from refund_worker.worker.publisher import BrokerUnavailable, Publisher
from refund_worker.worker.tasks import WorkerRuntime

log = logging.getLogger(__name__)

# Messages per sweep and priority. A queue that is longer already gets nothing more: the workers are busy.
MESSAGES_MAX = 40
# While messages wait, published ids are not published again for this number of sweeps.
SWEEPS_REMEMBERED = 10
# Seconds for which the scheduler works itself before it tries the broker again.
OWN_WORK_SECONDS = 5.0
SOCKET_SECONDS = 2.0
WARN_SECONDS = 60.0
# Connections to the database that all jobs together keep while nothing is to be done.
CONNECTIONS_KEPT = 2


@dataclass(frozen=True, slots=True)
class Job:
    """A periodic job, which runs in a thread with a runtime of its own; `at_once` skips the first wait."""

    name: str
    interval_seconds: float
    work: Callable[[Context], object]
    at_once: bool = False


def jobs_of(settings: Settings) -> tuple[Job, ...]:
    """Return the periodic jobs besides the sweep."""
    jobs = [
        Job("inbox", settings.sweep_seconds, process_inbox),
        Job("seal", settings.sweep_seconds * 10, Sealer().seal),
        Job("tally", settings.sweep_seconds * 10, count_daily_stats),
        Job("prune", settings.sweep_seconds * 3600, prune),
        Job("reconcile", settings.sweep_seconds * 5, run_due),
        Job("erase", settings.sweep_seconds * 3600, erase_addresses),
        Job("sums", EVERY_SECONDS, SumChecker().check, at_once=True),
        Job("clock", settings.sweep_seconds * 60, handle_clock_rollback, at_once=True),
    ]
    accounts = accounts_of(settings)
    for name in accounts.with_lists():
        sync = RecentSync()
        jobs.append(Job("watch", settings.poll_seconds * 12, partial(sync.sync_all, processor=name)))
        jobs.append(Job("look", settings.sweep_seconds, partial(sync.sync_when_due, processor=name), at_once=True))
    for name, account in accounts.items():
        if account.capabilities.connects:
            connected = ConnectedSync()
            jobs.append(Job("connected", settings.sweep_seconds * 5, partial(connected.sync_due, platform=name)))
            jobs.append(Job("connected-all", settings.poll_seconds * 12, partial(connected.sync_all, platform=name)))
    for name in accounts.to_reread():
        jobs.append(Job("reread", settings.sweep_seconds * 10, partial(reread, processor=name)))
    if any(account.entry.payouts is not None for account in accounts.values()):
        jobs.append(Job("payees", settings.sweep_seconds * 10, refresh_payees))
        jobs.append(Job("payout-runs", settings.sweep_seconds, drive_due_runs))
        if settings.payout_schedule != "off":
            jobs.append(Job("payout-schedule", settings.sweep_seconds * 60, make_scheduled_runs, at_once=True))
    for name in accounts.with_balances():
        jobs.append(Job("funds", settings.poll_seconds, partial(read_balance, processor=name), at_once=True))
    if settings.notify_url is not None:
        jobs.append(Job("notifications", settings.sweep_seconds, Deliverer(settings).deliver))
    return tuple(jobs)


class Published:
    """The recently published ids, so that busy workers do not get the same work each second."""

    def __init__(self, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._keep_seconds, self._clock = keep_seconds, clock
        self._at: dict[str, float] = {}

    def unknown(self, ids: Sequence[str]) -> list[str]:
        """Return the ids that were not published recently."""
        oldest = self._clock() - self._keep_seconds
        self._at = {refund_id: at for refund_id, at in self._at.items() if at > oldest}
        return [refund_id for refund_id in ids if refund_id not in self._at]

    def remember(self, ids: Sequence[str]) -> None:
        """Remember that these ids were published now."""
        now = self._clock()
        self._at.update(dict.fromkeys(ids, now))

    def forget(self) -> None:
        """Forget all ids, because the queue is empty: a refund that is still due was lost on the way."""
        self._at.clear()


class Scheduler:
    """Sweeps until `stop` is set. Several schedulers do no harm, because a refund can be claimed only once."""

    def __init__(self, settings: Settings, jobs: Sequence[Job] | None = None) -> None:
        self.stop = threading.Event()
        self._settings = settings
        self._jobs = jobs_of(settings) if jobs is None else jobs
        self.heartbeat = Heartbeat("scheduler", settings)
        # The result of the last sweep: "reachable", "unreachable", or "none" without a broker that processes share.
        self.broker_state: str | None = None
        self._broker = _Broker(settings)
        # Each thread can have two connections at any time, so no slow job takes another's. Few are kept while idle.
        more = 2 * (len(self._jobs) + 1) - CONNECTIONS_KEPT
        self._database = open_database(settings, pool_size=CONNECTIONS_KEPT, more=more)
        self._published = {bulk: Published(SWEEPS_REMEMBERED * settings.sweep_seconds) for bulk in (False, True)}
        self._warned_at: dict[str, float] = {}
        self._conditions = ConditionLog(log)

    def run(self) -> None:
        """Sweep and run the jobs until `stop` is set, through every outage. Raises `BadSettings` before it begins."""
        self._broker.join()
        workers = [threading.Thread(target=self._repeat, args=[job], name=job.name) for job in self._jobs]
        for worker in workers:
            worker.start()
        runtime = WorkerRuntime(self._settings, self._database)
        try:
            self._sweep_until_stopped(runtime)
        finally:
            self.stop.set()
            runtime.close()
            self._broker.close()
            for worker in workers:
                worker.join()
            self._database.close()
            self.heartbeat.end()

    def _sweep_until_stopped(self, runtime: WorkerRuntime) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            self.heartbeat.beat()
            self._sweep_safely(runtime)
            observe(SWEEP_SECONDS, time.monotonic() - began)
            self._rest(self._settings.sweep_seconds - (time.monotonic() - began))

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self.stop.wait(min(left, BEAT_SECONDS)):
            self.heartbeat.beat()

    def _sweep_safely(self, runtime: WorkerRuntime) -> None:
        try:
            self.sweep(runtime)
        except Unavailable as error:
            self._conditions.hear(error.explained, f"the sweep waits: {error.explained}")
        except Exception:  # noqa: BLE001 - an alarm, and the next sweep tries again
            raise_alarm(log, Alarm.SWEEP_FAILED, "a sweep failed", error=True)

    def sweep(self, runtime: WorkerRuntime) -> None:
        """Publish due refunds; without a broker, process some of them here. Raises `Unavailable` without a database."""
        context = runtime.open()
        try:
            publisher = self._broker.publisher()
            if publisher is not None:
                for bulk in (False, True):
                    self._publish(context, publisher, bulk)
                self.broker_state = "reachable"
                return
            self.broker_state = "none"
        except BrokerUnavailable as error:
            self.broker_state = "unreachable"
            self._broker.lost()
            count(BROKER_FAILURES, error)
            text = f"{error.line}: the scheduler does the work itself"
            self._warn(text, Condition.BROKER_UNAVAILABLE)
        self._work(context)

    def _publish(self, context: Context, publisher: Publisher, bulk: bool) -> None:
        published = self._published[bulk]
        waiting = publisher.waiting(bulk=bulk)
        if waiting == 0:
            published.forget()
        messages_left = MESSAGES_MAX - waiting
        if messages_left <= 0:
            return
        # The oldest may all wait in the queue already: read more than fit.
        limit = MESSAGES_MAX * 2 * publisher.ids_per_message
        ids = published.unknown(due_ids(context, bulk=bulk, limit=limit))[: messages_left * publisher.ids_per_message]
        if ids:
            publisher.publish(ids, bulk=bulk, installation=context.installation)
            published.remember(ids)

    def _work(self, context: Context) -> None:
        until = time.monotonic() + OWN_WORK_SECONDS
        while not self.stop.is_set() and time.monotonic() < until and advance_due(context):
            self.heartbeat.beat()

    def _repeat(self, job: Job) -> None:
        """Run one job periodically with its own runtime, so that a slow processor does not delay the sweep."""
        runtime = WorkerRuntime(self._settings, self._database)
        wait = 0.0 if job.at_once else job.interval_seconds
        while not self.stop.wait(wait):
            wait, began = job.interval_seconds, time.monotonic()
            try:
                job.work(runtime.open())
                observe(JOB_SECONDS, time.monotonic() - began, job.name)
            except RefundWorkerError as error:
                count(JOBS_FAILED, job.name)
                self._waits(job, error)
            except Exception:  # noqa: BLE001 - an alarm, and the job runs again
                count(JOBS_FAILED, job.name)
                raise_alarm(log, Alarm.JOB_FAILED, "the job %s failed", job.name, error=True)
        runtime.close()

    def _waits(self, job: Job, error: RefundWorkerError) -> None:
        """Log why a job waits: a fault of the database once for the sweep and all jobs.

        A processor that refuses to list is not reported as a fault of the job: the line leads to the entry of its code.
        """
        text = f"the job {job.name} waits: {error.explained}"
        if isinstance(error, Unavailable) and error.cause:
            self._conditions.hear(error.cause, text)
        elif isinstance(error, NotListed):
            name, code = error.processor, error.processor_code
            entry = code_with_entry(code) if isinstance(error, ListDenied) else Condition.LISTING_STALE
            fields = {"processor": name, "code": code, "runbook": runbook_link(entry)}
            self._conditions.hear(text, text, Condition.LISTING_STALE, **fields)
        else:
            self._warn(text)

    def _warn(self, text: str, condition: Condition | None = None) -> None:
        """Log a warning; the same text at most once a minute."""
        now = time.monotonic()
        if now - self._warned_at.get(text, -WARN_SECONDS) >= WARN_SECONDS:
            self._warned_at[text] = now
            if condition is None:
                log.warning("%s", text)
            else:
                warn_of(log, condition, "%s", text)


class _Broker:
    """The connection to the broker, made again after every loss."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded = EmbeddedBroker(settings) if settings.broker_url.get_secret_value() == EMBEDDED else None
        self._publisher: Publisher | None = None

    def publisher(self) -> Publisher | None:
        """Return a publisher to the broker that runs now. Raises `BrokerUnavailable`.

        Returns None if there is only the memory broker, which no other process can reach.
        """
        try:
            url = self._embedded.url if self._embedded else self._settings.broker_url.get_secret_value()
        except Unavailable as error:
            raise BrokerUnavailable(error.message) from None
        if url.startswith(MEMORY):
            return None
        if self._publisher is None or self._publisher.url != url:
            self.lost()
            self._publisher = Publisher(self._settings, url, socket_seconds=SOCKET_SECONDS)
        return self._publisher

    def join(self) -> None:
        """Take a share in an embedded broker. Raises `BadSettings` if its folder cannot be written to."""
        if self._embedded is not None:
            self._embedded.join()

    def lost(self) -> None:
        """Drop the publisher after a failure, so that the next call makes a new one."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    def close(self) -> None:
        """Close the publisher and release the embedded broker."""
        self.lost()
        if self._embedded is not None:
            self._embedded.stop()
