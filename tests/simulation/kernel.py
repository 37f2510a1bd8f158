"""Virtual time and processes: a heap of events, and one greenlet for each process. Exactly one of them runs at a time.

A process lets others run only at its ports (the database between transactions, a call, a message). The duration is
drawn from the seed, so the seed alone determines which process runs next.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import heapq
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from greenlet import getcurrent, greenlet


class Died(BaseException):
    """The process was killed (kill -9) at this point.

    Code that runs while it unwinds has no effect: every port is inert.
    """


class Violation(BaseException):
    """A promise was broken. The text begins with the promise's name. No production code may swallow this exception."""


class Process:
    """A process that runs until it ends, dies or fails. `token` is its last lease."""

    def __init__(self, world: World, name: str, work: Callable[[], None], skew: float) -> None:
        self.world = world
        self.name = name
        self.dead = False
        self.waiting = False
        self.token = ""
        self.skew = skew
        self.intent = ""
        self.off: frozenset[str] = frozenset()  # accounts whose refunds are off in its settings
        self._thread = greenlet(lambda: self._run(work), parent=world.hub)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Died:
            self.dead = True
            self.world.note(self.name, "is dead")
        finally:
            self.world.processes.pop(self.name, None)

    def resume(self) -> None:
        """Continue the process."""
        if not self._thread.dead:
            self.world.switch_to(self, self._thread.switch)

    def kill(self) -> None:
        """Kill the process from outside, while it waits at a port."""
        if not self._thread.dead and not self.dead:
            self.dead = True
            self.world.switch_to(self, lambda: self._thread.throw(Died()))

    def awake(self) -> None:
        """Continue the process if it waits, because its answer may be there."""
        if self.waiting:
            self.waiting = False
            self.world.at(self.world.now, self.resume)


class World:
    """Virtual time, the processes, the seed's random numbers, and the trace."""

    def __init__(self, seed: int, start: float) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.now = start
        self.start = start
        self.clock_offset = 0.0  # difference of the database's clock from true time
        self.hub = getcurrent()
        self.running: Process | None = None
        self.processes: dict[str, Process] = {}
        self.trace: list[tuple[Any, ...]] = []
        self.steps = 0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    # --- time --------------------------------------------------------------------------------------------------------

    @property
    def database_now(self) -> float:
        """The time of the database's clock."""
        return self.now + self.clock_offset

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Schedule `what` for a time."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        """Schedule `what` for a number of seconds from now."""
        self.at(self.now + seconds, what)

    def run(self, until: float, steps_max: int = 100_000) -> None:
        """Run everything that is due until `until`, or until nothing is scheduled. Time stops at the last event."""
        while self._heap and self._heap[0][0] <= until:
            self.steps += 1
            if self.steps > steps_max:
                raise Violation(f"L8 no end after {steps_max} steps")
            self.now, _, what = heapq.heappop(self._heap)
            what()

    @property
    def idle(self) -> bool:
        """True if nothing is scheduled."""
        return not self._heap

    # --- processes ---------------------------------------------------------------------------------------------------

    def spawn(self, name: str, work: Callable[[], None], *, skew: float = 0.0) -> Process:
        """Start a process now. `skew` is the error of its own clock in seconds."""
        self._count += 1
        process = Process(self, f"{name}#{self._count}", work, skew)
        self.processes[process.name] = process
        self.at(self.now, process.resume)
        return process

    def switch_to(self, process: Process, switch: Callable[[], object]) -> None:
        """Run the process until it reaches a port."""
        self.running = process
        try:
            switch()
        finally:
            self.running = None

    def sleep(self, seconds: float) -> None:
        """Suspend the running process for a number of seconds."""
        process = self.running
        assert process is not None
        self.after(seconds, process.resume)
        self._give_turn()

    def wait(self) -> None:
        """Suspend the running process until `awake`."""
        process = self.running
        assert process is not None
        process.waiting = True
        self._give_turn()

    def _give_turn(self) -> None:
        """Let others run, and restore this process's event loop afterwards.

        asyncio stores the running loop by thread, and these processes share one thread.
        """
        loop = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            self.hub.switch()
        finally:
            asyncio._set_running_loop(loop)

    def kill_all(self) -> None:
        """Kill all processes and drop everything that is scheduled."""
        for process in list(self.processes.values()):
            process.kill()
        self.processes.clear()
        self._heap.clear()

    # --- the trace ---------------------------------------------------------------------------------------------------

    def note(self, *what: object) -> None:
        """Append a line to the trace."""
        who = self.running.name if self.running else "-"
        self.trace.append((round(self.now - self.start, 3), who, *what))

    def trace_hash(self) -> str:
        """Return a hash of the trace."""
        digest = hashlib.blake2b(digest_size=16)
        for line in self.trace:
            digest.update(repr(line).encode())
        return digest.hexdigest()


class Loop(asyncio.AbstractEventLoop):
    """A minimal event loop for tasks and futures: no sockets, no thread, and timeouts that never expire."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...], contextvars.Context | None]] = deque()

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Any:
        """Queue the callback."""
        self._ready.append((callback, args, context))

    def time(self) -> float:
        """Return the virtual time."""
        return self._world.now

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        """Return a handle that never fires.

        It serves code that waits with a timeout for something that is ready at once.
        """
        return asyncio.TimerHandle(when, callback, args, self, context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing, because the handle was never queued."""

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **_options: Any) -> asyncio.Task[Any]:
        """Return a task of this loop."""
        return asyncio.Task(coro, loop=self)

    def get_debug(self) -> bool:
        """Return False."""
        return False

    def is_running(self) -> bool:
        """Return True."""
        return True

    def is_closed(self) -> bool:
        """Return False."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Ignore the errors of unfinished tasks, which a process that died leaves behind."""

    def _pump(self) -> None:
        asyncio._set_running_loop(self)
        try:
            while self._ready:
                callback, args, context = self._ready.popleft()
                if context is None:
                    callback(*args)
                else:
                    context.run(callback, *args)
        finally:
            asyncio._set_running_loop(None)

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Run calls to their end. Other processes run in between."""
        task = self.create_task(awaitable)
        while True:
            self._pump()
            if task.done():
                return task.result()
            self._world.wait()
