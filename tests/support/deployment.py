"""A deployment in one folder: worker and scheduler as separate processes, with a sandbox as the processor.

By default it uses an SQLite file and the embedded broker. With URLs it uses real servers.
"""

from __future__ import annotations

import contextlib
import itertools
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import redis

from refund_worker.domain.refund import FINAL
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.store import refunds
from refund_worker.worker.embedded_broker import server_process
from refund_worker.worker.embedded_broker.broker import EMBEDDED, url_if_running
from refund_worker.worker.heartbeat import WorkerKind, check_heartbeat
from refund_worker.worker.publisher import make_publisher
from refund_worker.worker.runtime_dir import runtime_folder
from refund_worker.worker.supervisor import CHILD
from tests.support.deployment_processes import Parts
from tests.support.sales import paid, sell, withdrawal

STRIPE_KEY = "sk_test_mustNeverBeSeenAnywhere"
CLOCKS = {"SWEEP_SECONDS": "0.5", "LEASE_SECONDS": "5", "RETRY_BASE_SECONDS": "0.1", "STRIPE_RATE_PER_SECOND": "0"}
CONCURRENCY = 2
SETTLE_SECONDS_MAX = 30.0
STOP_SECONDS_MAX = 20.0
LOG_CHARACTERS_SHOWN = 3000


def wait_until(condition: Callable[[], Any], seconds_max: float = SETTLE_SECONDS_MAX, pause: float = 0.01) -> Any:
    """Return the condition's value once it is true, asked for every `pause` seconds. Fail if it is not true in time."""
    deadline = time.monotonic() + seconds_max
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not so within {seconds_max} s"
        time.sleep(pause)
    return answer


class Deployment:
    """A deployment with database, broker settings and sandbox. `start` and `stop` run its workers and schedulers.

    `environment` is what any other process needs to take part. The exit fails if a process was left behind.
    """

    def __init__(
        self,
        folder: Path,
        clocks: Mapping[str, str] | None = None,
        *,
        database_url: str | None = None,
        broker_url: str = EMBEDDED,
        faults: Mapping[str, Any] | None = None,
    ) -> None:
        """Create the deployment. `clocks` are settings without their prefix that override CLOCKS.

        A `database_url` must be that of a migrated database.
        """
        self.folder = folder
        self.sandbox = Sandbox(book=folder / "book.jsonl", faults=faults)
        self.parts = Parts(folder, None)
        settings = {
            "DATABASE_URL": database_url or f"sqlite:///{folder / 'refunds.db'}",
            "BROKER_URL": broker_url,
            "STRIPE_API_KEY": STRIPE_KEY,
        }
        self.environment = {PREFIX + name: value for name, value in (settings | CLOCKS | dict(clocks or {})).items()}
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self.sandbox.start()
        self.environment[PREFIX + "STRIPE_API_BASE"] = self.sandbox.url
        self.settings: Settings = load_settings(self.environment)
        self.runtime: Runtime = build_runtime(self.settings, processors=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.parts.stop()
        self.runtime.close()
        self.sandbox.close()
        if self.settings.broker_url.get_secret_value() == EMBEDDED:
            wait_until(lambda: url_if_running(self.settings) is None)
        left = self.parts.kill_left_behind()
        if error is None:
            assert left == [], f"processes left behind: {left}"
            return
        for log in sorted(self.folder.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text()[-LOG_CHARACTERS_SHOWN:]}")

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, *names: str) -> None:
        """Start processes: "worker" or "scheduler", or several of a kind, such as "worker-1"."""
        self.parts.environment |= self.environment
        for name in names:
            kind = name.partition("-")[0]
            options = ("--concurrency", str(CONCURRENCY)) if kind == "worker" else ()
            self.parts.add(name, kind, *options)

    def process(self, name: str) -> psutil.Popen:
        """Return the process with this name. For a worker this is its supervisor."""
        process = self.parts.all[name].process
        assert process is not None
        return process

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop a process and return its exit code. Kill it if it does not stop in time."""
        part = self.process(name)
        del self.parts.all[name]
        part.send_signal(how)
        try:
            return int(part.wait(STOP_SECONDS_MAX))
        except psutil.TimeoutExpired:
            part.kill()
            return int(part.wait(5))

    def log(self, name: str) -> str:
        """Return the process's log."""
        return (self.folder / f"{name}.log").read_text()

    def is_alive(self, kind: WorkerKind) -> bool:
        """Return True if a process of this kind has touched its heartbeat file recently."""
        return check_heartbeat(kind, runtime_folder(self.settings))[0]

    def processes(self) -> list[psutil.Process]:
        """Return every process of this deployment, including the embedded broker's."""
        families = [process for part in self.parts.all.values() for process in part.family()]
        details = server_process.read_details(runtime_folder(self.settings))
        if details:
            server = psutil.Process(details["pid"])
            families += [server.parent(), server]
        return families

    def celery(self, name: str = "worker", seconds_max: float = SETTLE_SECONDS_MAX) -> psutil.Process:
        """Return the parent of the pool: the supervisor's only child, once it has its own children."""

        def ready() -> psutil.Process | None:
            for child in psutil.Process(self.process(name).pid).children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if CHILD in child.cmdline() and len(child.children()) == CONCURRENCY:
                        return child
            return None

        found: psutil.Process = wait_until(ready, seconds_max)
        return found

    def broker(self) -> redis.Redis:
        """Return a client of the embedded broker."""
        url = url_if_running(self.settings)
        assert url is not None
        return redis.Redis.from_url(url, socket_timeout=5)

    # --- refunds -----------------------------------------------------------------------------------------------------

    @property
    def context(self) -> Context:
        """The engine's context."""
        return self.runtime.context

    def ask(self, *, publish: bool = False, count: int = 1, bulk: bool = False) -> list[str]:
        """Accept withdrawals of 5.00, each of its own customer, and return their ids.

        Workers are notified only if `publish`.
        """
        numbers = [next(self._numbers) for _ in range(count)]
        sell(self.context, self.sandbox, [paid(number) for number in numbers])
        context = replace(self.context, publish=self._publish) if publish else self.context
        taken = request_refunds(context, [withdrawal(number, bulk=bulk) for number in numbers])
        return [each.refund_id for each in taken if isinstance(each, Accepted)]

    def _publish(self, refund_ids: Sequence[str], bulk: bool) -> None:
        make_publisher(self.settings)(refund_ids, bulk, self.context.installation)

    def statuses(self, ids: Sequence[str]) -> list[str]:
        """Return the refunds' statuses."""
        with self.runtime.database.read() as connection:
            return [str(refund.status) for refund in refunds.load(connection, list(ids))]

    def settle(self, ids: Sequence[str], seconds_max: float = SETTLE_SECONDS_MAX) -> float:
        """Wait until all refunds have succeeded, and return the seconds it took. Fail if one ends otherwise."""
        began = time.monotonic()
        wait_until(lambda: {*self.statuses(ids)} <= FINAL, seconds_max)
        assert {*self.statuses(ids)} == {"succeeded"}
        return time.monotonic() - began

    def paid_minor(self) -> int:
        """Return the refunded amount in the processor's own book, in minor units."""
        return sum(refund["amount"] for refund in self.sandbox.refunds() if refund["status"] == "succeeded")
