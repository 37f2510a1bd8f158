"""Failures, log lines and heartbeats of scheduler and worker, without processes of their own."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals
from kombu.transport import redis as kombu_redis
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.support.processes import free_port

from refund_worker.alarms import Condition, runbook_link
from refund_worker.domain.processor_replies import Denied
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.listing import ListDenied, NotListed
from refund_worker.errors import Unavailable
from refund_worker.runtime import open_database
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.stop_signals import on_signals
from refund_worker.store.database import ping
from refund_worker.worker import scheduler as scheduler_module
from refund_worker.worker.celery_app.heartbeat_step import add_heartbeat
from refund_worker.worker.celery_app.redis_transport import QoS
from refund_worker.worker.embedded_broker import broker as embedded_module
from refund_worker.worker.embedded_broker.broker import EmbeddedBroker
from refund_worker.worker.publisher import BrokerUnavailable, Publisher
from refund_worker.worker.scheduler import Job, Scheduler, jobs_of
from refund_worker.worker.supervisor import STOPS, _Supervisor, _url
from refund_worker.worker.tasks import WorkerRuntime

__all__ = ["migrated_sqlite_url", "sqlite_template"]

HOUR = 3_600.0


@pytest.fixture
def settings(migrated_sqlite_url: str) -> Settings:
    return load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url, PREFIX + "BROKER_URL": "memory://"})


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def repeated(settings: Settings, job: Job, until: Callable[[], bool]) -> None:
    """Run the one job as the scheduler does, until the condition holds."""
    scheduler = Scheduler(settings, [job])
    thread = threading.Thread(target=scheduler._repeat, args=[job])
    thread.start()
    try:
        wait_for(until)
    finally:
        scheduler.stop.set()
        thread.join(30)
        scheduler._database.close()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("broke"), "alarm: the job tally failed"),
        (Unavailable("the disk is full"), "the job tally waits: the disk is full"),
    ],
)
def test_failed_job_is_logged_and_run_again(
    settings: Settings, caplog: pytest.LogCaptureFixture, error: Exception, line: str
) -> None:
    done: list[float] = []

    def work(_context: object) -> None:
        done.append(time.monotonic())
        raise error

    with caplog.at_level(logging.WARNING, "refund_worker"):
        repeated(settings, Job("tally", 0.01, work), lambda: len(done) > 2)
    assert line in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    ("error", "entry", "code"),
    [
        (ListDenied("stripe", Denied("http_401", "no such key")), "http_401", "http_401"),
        (NotListed("stripe did not list its refunds: no route", "stripe", None), None, None),
    ],
)
def test_list_that_fails_names_processor_code_and_entry(
    settings: Settings, caplog: pytest.LogCaptureFixture, error: NotListed, entry: str | None, code: str | None
) -> None:
    done: list[float] = []

    def work(_context: object) -> None:
        done.append(time.monotonic())
        raise error

    with caplog.at_level(logging.WARNING, "refund_worker"):
        repeated(settings, Job("look", 0.01, work), lambda: len(done) > 2)
    (line,) = caplog.records
    assert line.getMessage() == f"the job look waits: {error.message}"
    named = {name: vars(line)[name] for name in ("alarm", "processor", "code", "runbook")}
    runbook = runbook_link(entry or Condition.LISTING_STALE)
    assert named == {"alarm": Condition.LISTING_STALE, "processor": "stripe", "code": code, "runbook": runbook}


def test_jobs_that_hold_their_connections_starve_no_other(settings: Settings) -> None:
    runs: list[int] = []
    freed = threading.Event()

    def hold(context: Context) -> None:
        with context.database.read(), context.database.read():
            freed.wait(30)

    slow = [Job(f"slow-{number}", 0.01, hold) for number in range(6)]

    def count_run(context: Context) -> None:
        ping(context.database)
        runs.append(1)

    quick = Job("quick", 0.01, count_run)
    scheduler = Scheduler(settings, [*slow, quick])
    thread = threading.Thread(target=scheduler.run)
    thread.start()
    try:
        wait_for(lambda: scheduler._database.engine.pool.checkedout() >= 12)
        before = len(runs)
        wait_for(lambda: len(runs) > before + 3)
    finally:
        freed.set()
        scheduler.stop.set()
        thread.join()


def test_runtime_leaves_a_shared_database_open(settings: Settings) -> None:
    with closing(open_database(settings, pool_size=1, more=0)) as shared:
        for _ in range(2):
            runtime = WorkerRuntime(settings, shared)
            assert runtime.open().database is shared
            runtime.close()
            assert shared.engine.pool.checkedin() == 1  # type: ignore[attr-defined]


def test_only_jobs_marked_at_once_run_directly_after_a_start(settings: Settings) -> None:
    assert {job.name for job in jobs_of(settings) if job.at_once is True} == {"look", "clock", "sums"}
    assert {job.name for job in jobs_of(settings) if job.at_once is not False} == {"look", "clock", "sums"}
    done: list[str] = []
    repeated(settings, Job("look", HOUR, lambda _: done.append("look"), at_once=True), lambda: bool(done))
    later = Job("seal", HOUR, lambda _: done.append("seal"))
    began = time.monotonic()
    repeated(settings, later, lambda: time.monotonic() > began + 0.3)
    assert done == ["look"]


def test_lists_of_each_account_are_read_while_the_scheduler_runs() -> None:
    tables = {"stripe": {"api_key": "sk_test_1"}, "stripe:old": {"api_key": "sk_test_2"}, "acme": {"adapter": "manual"}}
    names = [job.name for job in jobs_of(load_settings({"REFUND_WORKER_PROCESSORS": json.dumps(tables)}))]
    listed = ("look", "watch", "connected", "connected-all", "funds")
    assert {name: names.count(name) for name in listed} == dict.fromkeys(listed, 2)


def test_paid_refunds_of_accounts_without_a_list_are_read_again() -> None:
    paypal = {"client_id": "A" * 30, "client_secret": "E" * 30}
    tables = {"stripe": {"api_key": "sk_test_1"}, "paypal": paypal, "paypal:old": paypal}
    jobs = jobs_of(load_settings({"REFUND_WORKER_PROCESSORS": json.dumps(tables)}))
    reading = [job for job in jobs if job.name == "reread"]
    assert [job.work.keywords for job in reading] == [{"processor": "paypal"}, {"processor": "paypal:old"}]  # type: ignore[attr-defined]
    assert [job.interval_seconds for job in reading] == [10.0, 10.0]


def test_sweep_without_a_database_logs_the_reason(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    away = load_settings(
        {
            PREFIX + "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/nothing",
            PREFIX + "BROKER_URL": "memory://",
        }
    )
    scheduler = Scheduler(away, [])
    runtime = scheduler_module.WorkerRuntime(away)
    with caplog.at_level(logging.WARNING, "refund_worker"):
        scheduler._sweep_safely(runtime)
    runtime.close()
    assert any(record.getMessage().startswith("the sweep waits: ") for record in caplog.records)
    assert "None" not in caplog.text


@dataclass
class Counted:
    """A heartbeat that only counts."""

    beats: int = 0
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def beat(self) -> None:
        self.beats += 1


def test_scheduler_beats_between_rare_sweeps(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "BEAT_SECONDS", 0.01)
    scheduler, counted = Scheduler(settings, []), Counted()
    scheduler.heartbeat = counted  # type: ignore[assignment]
    scheduler._rest(0.5)
    assert counted.beats > 3


def test_worker_beats_when_it_is_ready_and_periodically(settings: Settings) -> None:
    app, counted = Celery("beats"), Counted()
    before = set(app.steps["worker"])
    add_heartbeat(app, counted)  # type: ignore[arg-type]
    (step,) = set(app.steps["worker"]) - before

    class Timer:
        def call_repeatedly(self, *asked: Any, **options: Any) -> None:
            counted.calls.append(asked)

    class Worker:
        timer = Timer()

    step(Worker()).start(Worker())
    assert counted.beats == 0, "its broker may refuse it before it is ever ready"
    signals.worker_ready.send(sender=None)
    assert counted.beats == 1
    assert counted.calls == [(scheduler_module.BEAT_SECONDS, counted.beat)]


def test_any_broker_error_becomes_broker_unavailable() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    publisher = Publisher(load_settings({PREFIX + "BROKER_URL": url}), url, socket_seconds=0.2)
    for asked in (lambda: publisher.waiting(bulk=True), lambda: publisher.publish(["rf_1"], bulk=False)):
        with pytest.raises(BrokerUnavailable) as raised:
            asked()
        assert raised.value.line == "the broker cannot be reached (ConnectionError)", "not kombu's error for all"
    publisher.close()


def test_log_record_is_one_line_of_json() -> None:
    say = """
import logging
from refund_worker.logs import set_up_logging
set_up_logging("info", "json", "scheduler")
log = logging.getLogger("refund_worker.worker.tasks")
log.debug("of no concern")
log.info("the worker is ready")
"""
    done = subprocess.run([sys.executable, "-c", say], capture_output=True, text=True, check=True, timeout=60)
    (line,) = done.stderr.splitlines()
    assert "the worker is ready" in json.loads(line).values()


def test_worker_can_run_in_a_thread_without_signals() -> None:
    calls: list[str] = []

    def run() -> None:
        with on_signals(lambda *_: None, STOPS):
            calls.append("ran")

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert (calls, signal.getsignal(signal.SIGTERM)) == (["ran"], before)
    with on_signals(calls.append, STOPS):  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGTERM) == calls.append
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("at_start", [signal.SIG_DFL, signal.SIG_IGN], ids=["of a terminal", "nohup"])
def test_hang_up_stops_what_nohup_did_not_start(at_start: signal.Handlers) -> None:
    received: list[int] = []
    earlier = signal.signal(signal.SIGHUP, at_start)
    try:
        with on_signals(lambda number, _: received.append(number), STOPS):
            # Raised with its default action, it would end the tests.
            assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL
            signal.raise_signal(signal.SIGHUP)
        assert received == ([] if at_start is signal.SIG_IGN else [signal.SIGHUP])
        assert signal.getsignal(signal.SIGHUP) is at_start
    finally:
        signal.signal(signal.SIGHUP, earlier)


def test_stop_during_the_restart_pause_exits_with_0(settings: Settings) -> None:
    supervisor = _Supervisor(settings, None, ["refunds"], 1)

    def ends_at_once() -> int:
        return 1

    def is_stopped_meanwhile(_seconds: float) -> None:
        supervisor._on_signal(signal.SIGTERM, None)

    supervisor._run_child = ends_at_once  # type: ignore[method-assign]
    supervisor._wait = is_stopped_meanwhile  # type: ignore[method-assign]
    stops = (*STOPS, signal.SIGHUP)
    earlier = [signal.getsignal(number) for number in stops]
    try:
        assert supervisor.run() == 0
    finally:
        for number, handler in zip(stops, earlier, strict=True):  # the process does not end with this test
            signal.signal(number, handler)


def test_failed_start_of_the_embedded_broker_raises_an_alarm(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        @property
        def url(self) -> str:
            raise Unavailable("the embedded broker did not start")

    with caplog.at_level(logging.ERROR, "refund_worker"):
        assert _url(load_settings({}), Broken()) == "memory://"  # type: ignore[arg-type]
    assert [record.getMessage() for record in caplog.records] == ["alarm: the embedded broker did not start"]


def test_closing_a_worker_runtime_ends_its_calls(settings: Settings) -> None:
    ended: list[str] = []

    async def call() -> None:
        try:
            await asyncio.sleep(HOUR)
        finally:
            await asyncio.sleep(0.1)  # a connection takes some time to close
            ended.append("cleaned up")

    async def begin() -> list[Any]:
        begun.append(asyncio.ensure_future(call()))
        await asyncio.sleep(0)
        return []

    begun: list[asyncio.Future[None]] = []
    runtime = scheduler_module.WorkerRuntime(settings)
    runtime.open().run(begin())
    runtime.close()
    assert ended == ["cleaned up"]


def test_message_with_a_failed_acknowledgement_holds_no_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker may deliver it again, which does no harm; a slot that stays taken would block the worker."""

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the broker has gone")

    class Channel:
        qos = None
        unacked_key = unacked_index_key = "k"
        do_restore = False

    for act in ("ack", "reject"):
        qos = QoS(Channel(), prefetch_count=1)
        monkeypatch.setattr(kombu_redis.QoS, act, fail)
        qos._delivered["tag"] = object()
        assert not qos.can_consume()
        with pytest.raises(ConnectionError):
            getattr(qos, act)("tag")
        assert qos.can_consume()


def test_platform_without_a_server_has_no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform without a wheel of Valkey."""
    monkeypatch.setattr(embedded_module, "valkey_program", lambda: None)
    settings = load_settings({PREFIX + "DATABASE_URL": f"sqlite:///{tmp_path}/refunds.db"})
    broker = EmbeddedBroker(settings)
    assert (broker.url, "no broker" in broker.description) == ("memory://", True)
    broker.stop()


def test_unused_embedded_broker_ends(tmp_path: Path) -> None:
    """Its server ends too: no process of ours stays on the machine."""
    settings = load_settings({PREFIX + "DATABASE_URL": f"sqlite:///{tmp_path}/refunds.db"})
    broker = EmbeddedBroker(settings, grace_seconds=0.1).start()
    url = broker.url
    publisher = Publisher(settings, url, socket_seconds=2)
    assert publisher.waiting(bulk=False) == 0
    publisher.close()
    broker.stop()

    def is_away() -> bool:
        again = Publisher(settings, url, socket_seconds=0.5)
        try:
            again.waiting(bulk=False)
        except BrokerUnavailable:
            return True
        finally:
            again.close()
        return False

    wait_for(is_away)
