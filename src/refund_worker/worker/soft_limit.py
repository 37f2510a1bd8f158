"""The soft time limit of a task.

At the limit Celery sends SIGUSR1, and its handler raises `SoftTimeLimitExceeded` in whatever code runs at that moment.
Other code handles this exception: SQLAlchemy wraps it in its own, and an adapter takes it for a failed call. An event
loop logs it and continues. So a task keeps its limit by `soft_limit`, and what it runs in an event loop by
`run_within_limit`.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import FrameType

from celery.exceptions import SoftTimeLimitExceeded

from refund_worker.domain.processor_replies import Answer

SIGNAL = signal.SIGUSR1


class TimeIsUp(BaseException):
    """The limit has come. It is no `Exception`, so that no code takes it for a failure of its own."""


@contextmanager
def soft_limit() -> Iterator[None]:
    """Interrupt the block at the limit, wherever it is, and raise `SoftTimeLimitExceeded`.

    Only a main thread receives signals; in another thread the block simply runs.
    """
    if not _is_main_thread():
        yield
        return
    earlier = signal.signal(SIGNAL, _interrupt)
    try:
        yield
    except TimeIsUp:
        raise SoftTimeLimitExceeded from None
    finally:
        signal.signal(SIGNAL, earlier)


def run_within_limit(loop: asyncio.AbstractEventLoop, calls: Awaitable[list[Answer]]) -> list[Answer]:
    """Run the calls and return their answers. At the limit, cancel the calls and raise `TimeIsUp`."""
    if not _is_main_thread():
        return loop.run_until_complete(calls)
    is_over = False

    async def run() -> list[Answer]:
        return await calls

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        loop.call_soon_threadsafe(task.cancel)  # it also wakes a loop that waits for the network

    task = loop.create_task(run())
    earlier = signal.signal(SIGNAL, stop)
    try:
        answers = loop.run_until_complete(task)
    except asyncio.CancelledError:
        if not is_over:
            raise
    finally:
        signal.signal(SIGNAL, earlier)
    if is_over:
        raise TimeIsUp
    return answers


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise TimeIsUp


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
