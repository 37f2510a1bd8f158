"""The soft time limit of a task.

At the limit Celery sends SIGUSR1, and its handler raises `SoftTimeLimitExceeded` in whatever code runs at that moment.
Other code handles this exception: SQLAlchemy wraps it in its own, and an adapter takes it for a failed call. An event
loop logs it and continues. So a task keeps its limit by `soft_limit`, and what it runs in an event loop by
`run_within_limit`.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from types import FrameType

from celery.exceptions import SoftTimeLimitExceeded

from refund_worker.domain.processor_replies import Answer
from refund_worker.stop_signals import handled

SIGNAL = signal.SIGUSR1


class TimeIsUp(BaseException):
    """The limit has come. It is no `Exception`, so that no code takes it for a failure of its own."""


@contextmanager
def soft_limit() -> Iterator[None]:
    """Interrupt the block at the limit, wherever it is, and raise `SoftTimeLimitExceeded`.

    Only a main thread receives signals; in another thread the block simply runs.
    """
    try:
        with handled(_interrupt, [SIGNAL]):
            yield
    except TimeIsUp:
        raise SoftTimeLimitExceeded from None


def run_within_limit(loop: asyncio.AbstractEventLoop, calls: Awaitable[list[Answer]]) -> list[Answer]:
    """Run the calls and return their answers. At the limit, cancel the calls and raise `TimeIsUp`."""
    is_over = False

    async def run() -> list[Answer]:
        return await calls

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        is_over = True
        loop.call_soon_threadsafe(task.cancel)  # it also wakes a loop that waits for the network

    task = loop.create_task(run())
    try:
        with handled(stop, [SIGNAL]):
            answers = loop.run_until_complete(task)
    except asyncio.CancelledError:
        if not is_over:
            raise
    if is_over:
        raise TimeIsUp
    return answers


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise TimeIsUp
