"""The soft time limit ends a task wherever it strikes, and no code can take it for something else."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import sqlalchemy as sa
from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded

from refund_worker.alarms import Alarm
from refund_worker.domain.processor_replies import Answer, Unanswered
from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.queues import ADVANCE_DUE, REQUEST_REFUND
from refund_worker.worker.soft_limit import TimeIsUp, run_within_limit, soft_limit
from refund_worker.worker.tasks import WorkerRuntime, add_tasks

ANSWER = Unanswered("a test")
SECONDS_MAX = 20.0

Calls = Callable[[], Awaitable[list[Answer]]]
Handler = Callable[[int, FrameType | None], None]


def strike(*_: object) -> None:
    """Send this process what Celery sends at the soft limit."""
    signal.raise_signal(signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handler_of_celery() -> Iterator[Handler]:
    """Install a handler that raises, as in a worker's child process."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        raise SoftTimeLimitExceeded

    earlier = signal.signal(signal.SIGUSR1, handler)
    yield handler
    signal.signal(signal.SIGUSR1, earlier)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


async def strikes_in_a_callback() -> list[Answer]:
    """A callback of the loop is struck, for example one of a connection that opens."""
    asyncio.get_running_loop().call_soon(strike)
    await asyncio.sleep(SECONDS_MAX)
    return [ANSWER]


async def strikes_in_an_adapter() -> list[Answer]:
    """The code of an adapter is struck, which takes every exception for an unknown outcome."""
    try:
        strike()
        await asyncio.sleep(SECONDS_MAX)
    except Exception:
        return [ANSWER]
    return [ANSWER]


async def strikes_while_all_wait() -> list[Answer]:
    """The loop is struck while it waits for the network."""
    threading.Timer(0.2, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)).start()
    await asyncio.gather(*(asyncio.sleep(SECONDS_MAX) for _ in range(3)))
    return [ANSWER]


async def strikes_at_the_end() -> list[Answer]:
    """The last step is struck: the answers are there, but the round is too long already."""
    strike()
    return [ANSWER]


@pytest.mark.parametrize(
    "calls", [strikes_in_a_callback, strikes_in_an_adapter, strikes_while_all_wait, strikes_at_the_end]
)
def test_limit_ends_calls_soon_wherever_it_strikes(loop: asyncio.AbstractEventLoop, calls: Calls) -> None:
    began = time.monotonic()
    with pytest.raises(TimeIsUp):
        run_within_limit(loop, calls())
    assert time.monotonic() - began < SECONDS_MAX / 2
    assert not asyncio.all_tasks(loop)


class Struck(sa.types.TypeDecorator[Any]):
    """A type whose values are struck while their statement is compiled."""

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: sa.Dialect) -> Any:
        """Strike."""
        strike()
        return value


def test_limit_in_a_statement_is_no_fault_of_the_statement() -> None:
    statement = sa.select(sa.literal(1, Struck()))
    engine = sa.create_engine("sqlite://")
    with pytest.raises(SoftTimeLimitExceeded), soft_limit(), engine.connect() as connection:
        connection.execute(statement)
    with pytest.raises(sa.exc.StatementError), engine.connect() as connection:
        connection.execute(statement)  # what Celery's own handler leads to
    engine.dispose()


def test_handler_of_celery_is_back_afterwards(loop: asyncio.AbstractEventLoop, handler_of_celery: Handler) -> None:
    async def answers() -> list[Answer]:
        return [ANSWER]

    async def fails() -> list[Answer]:
        raise KeyError("a test")

    for calls in (fails, strikes_at_the_end):
        with pytest.raises((KeyError, TimeIsUp)):
            run_within_limit(loop, calls())
        assert signal.getsignal(signal.SIGUSR1) is handler_of_celery
    with soft_limit():
        inside = signal.getsignal(signal.SIGUSR1)
        assert run_within_limit(loop, answers()) == [ANSWER]
        assert signal.getsignal(signal.SIGUSR1) is inside is not handler_of_celery
    assert signal.getsignal(signal.SIGUSR1) is handler_of_celery


def test_another_thread_has_no_limit(loop: asyncio.AbstractEventLoop) -> None:
    async def answers() -> list[Answer]:
        return [ANSWER]

    heard: list[list[Answer]] = []

    def run() -> None:
        with soft_limit():
            heard.append(run_within_limit(loop, answers()))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(SECONDS_MAX)
    assert heard == [[ANSWER]]


@pytest.fixture
def runtime(migrated_url: str) -> Iterator[WorkerRuntime]:
    made = WorkerRuntime(load_settings({PREFIX + "DATABASE_URL": migrated_url, PREFIX + "BROKER_URL": "memory://"}))
    yield made
    made.close()


def test_calls_of_a_worker_keep_the_limit(runtime: WorkerRuntime) -> None:
    with pytest.raises(TimeIsUp):
        runtime.open().run(strikes_in_a_callback())
    assert runtime.open().run(answer_soon()) == [ANSWER]


async def answer_soon() -> list[Answer]:
    """Answer after a step of the loop."""
    await asyncio.sleep(0)
    return [ANSWER]


@pytest.fixture
def statement_that_takes_too_long() -> Iterator[list[str]]:
    """Return words, to be filled in: at the first statement with one of them the limit strikes, and at no later one."""
    words: list[str] = []

    def hear(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if any(word in statement for word in words):
            words.clear()
            strike()

    sa.event.listen(sa.Engine, "before_cursor_execute", hear)
    yield words
    sa.event.remove(sa.Engine, "before_cursor_execute", hear)


def test_round_that_took_too_long_raises_an_alarm(
    runtime: WorkerRuntime, statement_that_takes_too_long: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery()
    add_tasks(app, runtime)
    runtime.open()
    statement_that_takes_too_long.append("SELECT")
    app.tasks[ADVANCE_DUE].run()
    alarms = [record.alarm for record in caplog.records if hasattr(record, "alarm")]
    assert alarms == [Alarm.ROUND_INTERRUPTED]


def test_request_that_took_too_long_comes_again(
    runtime: WorkerRuntime, statement_that_takes_too_long: list[str]
) -> None:
    app = Celery()
    add_tasks(app, runtime)
    fields = {"kind": "withdrawal", "to": "source", "customer_id": "c", "credits": 10, "reason": "asked"}
    runtime.open()
    statement_that_takes_too_long.append("SELECT")
    with pytest.raises(Reject) as rejected:
        app.tasks[REQUEST_REFUND].run(**fields, idempotency_key="a key")
    assert rejected.value.requeue
