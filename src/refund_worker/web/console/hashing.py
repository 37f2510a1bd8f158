"""Where passwords are looked at: in threads of their own, so that guessers hold up nobody but each other.

A check takes a tenth of a second and 64 MiB. In the threads that all routes share, sixty guessers were waited for by
every call of the API. Here who comes waits in a line, which costs no thread; a line that is full is told at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from refund_worker.engine.console_users import TooManyTries

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
# Some seconds' work: a person in this line has an answer before they would give up.
WAITING_MAX = 100


class SignInBusy(TooManyTries):
    """Very many sign in at this moment. This password was not looked at and counts for nothing."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.message = "very many people sign in just now: try again in a moment"
        self.args = (self.message,)


class Hashing:
    """Of one process; used on one event loop."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._count, self._count_max = 0, THREADS + waiting_max

    async def run(self, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `work` returns, which looks at a password. Raises `SignInBusy` where the line is full."""
        if self._count >= self._count_max:
            raise SignInBusy
        self._count += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, functools.partial(work, *args, **named))
        finally:
            self._count -= 1

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)
