"""Where passwords are looked at: in threads of their own, so that guessers hold up nobody but each other.

A check takes a tenth of a second and 64 MiB. In the threads that all routes share, sixty guessers were waited for by
every call of the API. Here who comes waits in a line, which costs no thread. Those whose address tried less often in
the last minute go first, and of these who came last: a person's right password does not wait behind all who guess, and
where not all can be served in time, some are.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from refund_worker.engine.access.console_users import TooManyTries
from refund_worker.engine.access.password_attempts import place_of

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 2
# Some seconds' work. Who would wait longer is told at once.
WAITING_MAX = 100
REMEMBERED_SECONDS = 60.0
ADDRESSES_MAX = 10_000


class SignInBusy(TooManyTries):
    """Very many sign in at this moment. This password was not looked at."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.message = "very many people sign in just now: try again in a moment"
        self.args = (self.message,)


class Hashing:
    """Of one process; used on one event loop."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._running, self._waiting_max = 0, waiting_max
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._tries: Counter[str] = Counter()
        self._counted_since = time.monotonic()

    async def run(self, who: str, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What `work` returns, which looks at a password; `who` is the address,
        and counts as the place it is at. Raises `SignInBusy` in a full line."""
        tries = self._count(place_of(who))
        if self._running < THREADS:
            self._running += 1
        else:
            await self._wait(tries)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, functools.partial(work, *args, **named))
        finally:
            self._hand_on()

    def _count(self, who: str) -> int:
        now = time.monotonic()
        if now - self._counted_since > REMEMBERED_SECONDS or len(self._tries) >= ADDRESSES_MAX:
            self._tries.clear()
            self._counted_since = now
        self._tries[who] += 1
        return self._tries[who]

    async def _wait(self, tries: int) -> None:
        """Until a thread is handed on. In a full line, who tried most often gives way."""
        if len(self._line) >= self._waiting_max:
            last = max(self._line, default=None)
            if last is None or last[0] <= tries:
                raise SignInBusy
            self._line.remove(last)
            heapq.heapify(self._line)
            last[2].set_exception(SignInBusy())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (tries, -next(self._numbers), turn))
        await turn

    def _hand_on(self) -> None:
        while self._line:
            _, _, turn = heapq.heappop(self._line)
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def close(self) -> None:
        """End the threads; who still waits hears nothing any more."""
        self._executor.shutdown(cancel_futures=True)
