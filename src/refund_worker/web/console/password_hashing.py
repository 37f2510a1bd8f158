"""Password checks in threads of their own, so that guessers delay only each other.

A check takes a tenth of a second and 64 MiB. In the threads that all routes share, sixty guessers delayed every call of
the API. Here requests wait in a queue, which costs no thread. Requests from addresses with fewer tries in the last
minute go first, and among these the latest: a person's right password does not wait behind all guessers, and if not all
requests can be served in time, at least some are.
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
# The work of some seconds. A request that would wait longer is refused at once.
WAITING_MAX = 100
REMEMBERED_SECONDS = 60.0
ADDRESSES_MAX = 10_000


class SignInBusy(TooManyTries):
    """Too many sign-ins at this moment; this password was not checked."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.message = "too many people are signing in right now: try again in a moment"
        self.args = (self.message,)


class Hashing:
    """The password checks of one process; used on one event loop."""

    def __init__(self, waiting_max: int = WAITING_MAX) -> None:
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._running, self._waiting_max = 0, waiting_max
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._tries: Counter[str] = Counter()
        self._counted_since = time.monotonic()

    async def run(self, who: str, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """Return the result of `work`, which checks a password, run in a thread.

        `who` is the client's address; addresses of one network count as one (`place_of`). Raises `SignInBusy` if the
        queue is full.
        """
        tries = self._count(place_of(who))
        if self._running < THREADS:
            self._running += 1
        else:
            await self._wait(tries)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, functools.partial(work, *args, **named))
        finally:
            self._free_thread()

    def _count(self, who: str) -> int:
        now = time.monotonic()
        if now - self._counted_since > REMEMBERED_SECONDS or len(self._tries) >= ADDRESSES_MAX:
            self._tries.clear()
            self._counted_since = now
        self._tries[who] += 1
        return self._tries[who]

    async def _wait(self, tries: int) -> None:
        """Wait for a free thread. In a full queue the request of the address with the most tries is refused."""
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

    def _free_thread(self) -> None:
        while self._line:
            _, _, turn = heapq.heappop(self._line)
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1

    def close(self) -> None:
        """Stop the threads; requests that still wait get no answer."""
        self._executor.shutdown(cancel_futures=True)
