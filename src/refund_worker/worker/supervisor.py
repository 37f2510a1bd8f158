"""The two long-running processes: the worker under its supervisor, and the scheduler."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from types import FrameType

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.dangers import warn_of_dangers
from refund_worker.errors import BadSettings, Unavailable
from refund_worker.logs import set_up_logging
from refund_worker.settings import PREFIX, Settings
from refund_worker.stop_signals import on_signals, set_from_handler
from refund_worker.tracing import end_tracing, set_up_tracing
from refund_worker.worker.celery_app.child_config import order
from refund_worker.worker.embedded_broker.broker import EMBEDDED, MEMORY, EmbeddedBroker
from refund_worker.worker.process_reports import BeatPipe, ProcessReports
from refund_worker.worker.queues import HARD_LIMIT_SECONDS, QUEUES

log = logging.getLogger(__name__)

CONCURRENCY = 2
CHILD = "refund_worker.worker.celery_app.child_process"
CHECK_SECONDS = 0.1
BROKER_CHECK_SECONDS = 2.0
# Seconds. The worker is back within 5 seconds, start included; after a child that lived STEADY_SECONDS the shortest
# pause applies again.
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX, STEADY_SECONDS = 0.2, 3.0, 30.0
# Seconds. A signal of another kind within them is the same stop, not a second one.
ECHO_SECONDS = 1.0
STOP_SECONDS_MAX = HARD_LIMIT_SECONDS + 30
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# Celery's pool then ends a process with QUIT, and its processes ignore TERM: a TERM to all processes of a service would
# otherwise end each in the middle of its call.
CHILD_ENVIRONMENT = {"REMAP_SIGTERM": "SIGQUIT"}


def run_worker(settings: Settings, queues: list[str] | None = None, concurrency: int | None = None) -> int:
    """Run the worker until TERM, INT or HUP and return the exit code. A second TERM or INT interrupts running tasks.

    Celery stops on some messages; the supervisor starts it again. Without a broker that processes can share, this
    process works as a scheduler. Raises `BadSettings` for an unknown queue.
    """
    set_up_logging(settings.log_level, settings.log_format, "worker")
    warn_of_dangers(settings, log)
    queues = queues or list(QUEUES)
    unknown = set(queues) - set(QUEUES)
    if unknown:
        raise BadSettings(f"there is no queue {sorted(unknown)[0]}: choose among {', '.join(QUEUES)}")
    embedded = EmbeddedBroker(settings) if settings.broker_url.get_secret_value() == EMBEDDED else None
    try:
        url = _url(settings, embedded)
        if url.startswith(MEMORY):
            log.warning(
                "there is no broker that processes can share: this worker finds its work itself, as a scheduler does"
            )
            return run_scheduler(settings)
        return _Supervisor(settings, embedded, queues, concurrency or CONCURRENCY).run()
    finally:
        if embedded is not None:
            embedded.stop()


def run_scheduler(settings: Settings) -> int:
    """Run the scheduler until TERM, INT or HUP; return the exit code."""
    from refund_worker.worker.scheduler import Scheduler  # the supervisor does not import the engine, which is heavy

    set_up_logging(settings.log_level, settings.log_format, "scheduler")
    warn_of_dangers(settings, log)
    if settings.broker_url.get_secret_value().startswith(MEMORY):
        log.warning("%sBROKER_URL=memory:// reaches no other process: the scheduler does the work itself", PREFIX)
    set_up_tracing("scheduler")
    scheduler = Scheduler(settings)
    reports = ProcessReports(
        settings, "scheduler", is_alive=scheduler.heartbeat.beaten, broker=lambda: scheduler.broker_state
    )
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        set_from_handler(scheduler.stop)

    with on_signals(stop, STOPS, afterwards=signal.SIG_IGN), reports:
        log.info("the scheduler is ready: it sweeps every %g s", settings.sweep_seconds)
        scheduler.run()
    end_tracing()
    log.info("the scheduler has stopped (%s)", _reason(received[0] if received else None))
    return 0


def _reason(number: int | None) -> str:
    return "no signal" if number is None else f"signal {signal.Signals(number).name}"


def _url(settings: Settings, embedded: EmbeddedBroker | None) -> str:
    if embedded is None:
        return settings.broker_url.get_secret_value()
    try:
        return embedded.url
    except Unavailable as error:
        raise_alarm(log, Alarm.EMBEDDED_BROKER_FAILED, "%s", error.message)
        return MEMORY


class _Supervisor:
    """Keeps one Celery worker running as a child process."""

    def __init__(
        self, settings: Settings, embedded: EmbeddedBroker | None, queues: list[str], concurrency: int
    ) -> None:
        self._settings, self._embedded = settings, embedded
        self._queues, self._concurrency = queues, concurrency
        self._child: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._stops = 0
        self._hung_up = False
        self._first_signal: int | None = None
        self._last_signal, self._signalled_at = 0, 0.0
        self._pipe = BeatPipe()

    def run(self) -> int:
        """Run the child until a signal; return its exit code."""
        pause = PAUSE_SECONDS_MIN
        reports = ProcessReports(self._settings, "worker", self._queues, is_alive=self._pipe.beaten)
        stops = on_signals(self._on_signal, STOPS, afterwards=signal.SIG_IGN)
        with closing(self._pipe), stops, reports:
            while not self._is_stopping():
                began = time.monotonic()
                code = self._run_child()
                if self._is_stopping():
                    log.info("the worker has stopped (%s)", _reason(self._first_signal))
                    return max(code, 0)
                pause = PAUSE_SECONDS_MIN if time.monotonic() - began > STEADY_SECONDS else pause
                raise_alarm(
                    log, Alarm.WORKER_RESTARTED, "the worker ended unexpectedly (code %s) and is started again", code
                )
                self._wait(pause)
                pause = min(pause * 2, PAUSE_SECONDS_MAX)
        return 0

    def _run_child(self) -> int:
        self._url = _url(self._settings, self._embedded)
        if self._url.startswith(MEMORY):
            return 1  # the embedded broker has not restarted yet
        ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
        child = self._child = subprocess.Popen(
            [sys.executable, "-m", CHILD],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            env=ours | CHILD_ENVIRONMENT,
            pass_fds=[self._pipe.write_end],
        )
        assert child.stdin is not None
        try:
            with child.stdin as stdin:
                stdin.write(order(self._settings, self._url, self._queues, self._concurrency, self._pipe.write_end))
        except BrokenPipeError:
            raise_alarm(log, Alarm.WORKER_RESTARTED, "the worker ended before it read its configuration")
        if self._is_stopping():  # the signal came before the child existed
            self._pass_on()
        return self._watch(child)

    def _watch(self, child: subprocess.Popen[bytes]) -> int:
        checked_at = time.monotonic()
        stop_by = float("inf")
        while child.poll() is None:
            time.sleep(CHECK_SECONDS)
            now = time.monotonic()
            if self._stops:
                stop_by = min(stop_by, now + STOP_SECONDS_MAX)
                if now > stop_by:
                    child.kill()
            elif self._embedded is not None and now - checked_at >= BROKER_CHECK_SECONDS:
                checked_at = now
                if _url(self._settings, self._embedded) != self._url:
                    log.warning("the embedded broker restarted on another port: the worker is started again")
                    child.terminate()
        self._child = None
        return child.returncode

    def _is_stopping(self) -> bool:
        return self._stops > 0  # a signal may change it between any two statements

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # A service manager may send both TERM and HUP, which does not mean hurry, in either order. Ctrl-C
        # in a terminal sends INT to all processes, and a Procfile's runner then sends TERM.
        before, self._last_signal = self._last_signal, number
        self._first_signal = self._first_signal or number
        is_echo = number != before and time.monotonic() - self._signalled_at < ECHO_SECONDS
        self._signalled_at = time.monotonic()
        if self._stops and (number == signal.SIGHUP or (is_echo and number != signal.SIGQUIT)):
            return
        if number == signal.SIGTERM and self._hung_up:
            self._hung_up = False
            return
        self._hung_up = number == signal.SIGHUP
        self._stops += 2 if number == signal.SIGQUIT else 1
        self._pass_on()

    def _pass_on(self) -> None:
        """Pass the signal on to the child.

        The first signal lets running tasks finish, the second interrupts them, the third kills the child.
        """
        child = self._child
        if child is not None and child.poll() is None:
            child.send_signal({1: signal.SIGTERM, 2: signal.SIGQUIT}.get(self._stops, signal.SIGKILL))

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stops and time.monotonic() < until:
            time.sleep(CHECK_SECONDS)
