"""What goes wrong, in an order that the seed decides: kills, freezes, and servers that crash, forget or are full."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable

import psutil
import redis

from tests.chaos.stage import LEASE_SECONDS, Stage
from tests.support.parts import Part

REVIVE_SECONDS = 0.5
REDIS_SECONDS = 2.0


class Harm:
    """Does harm to a stage; `done` counts kills, freezes, pg_crashes and redis_losses."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._chance = random.Random(stage.seed)
        self.done: Counter[str] = Counter(kills=0, freezes=0, pg_crashes=0, redis_losses=0)
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._ways: list[tuple[float, Callable[[], None]]] = [
            (5, self._kill_child),
            (2, self._kill_pool_parent),
            (1.5, self._kill_supervisor),
            (1.5, self._kill_scheduler),
            (2, self._kill_web_in_mid_request),
            (2, self._freeze_child),
            (1.5, self._freeze_worker),
            (1, self._freeze_scheduler),
            (2, self._crash_postgres),
            (1, self._kill_redis),
            (1, self._flush_redis),
            (1, self._fill_redis),
        ]

    def go_on(self, until: float, tick: Callable[[], object] = lambda: None) -> None:
        """Harm after harm until that time (`time.monotonic`), the dead started again all the while; `tick` is called
        often."""
        weights = [weight for weight, _ in self._ways]
        next_at = time.monotonic()
        # The first round has one of each, so that a short run has seen everything.
        first = [way for _, way in self._ways]
        self._chance.shuffle(first)
        while time.monotonic() < until:
            self.tend()
            tick()
            if time.monotonic() >= next_at:
                way = first.pop() if first else self._chance.choices(self._ways, weights)[0][1]
                way()
                next_at = time.monotonic() + self._chance.uniform(0.5, 2.5)
            time.sleep(0.05)

    def tend(self) -> None:
        """Start the dead again, and undo what is due to be undone."""
        now = time.monotonic()
        due = [undo for at, undo in self._later if at <= now]
        self._later = [(at, undo) for at, undo in self._later if at > now]
        for undo in due:
            undo()
        self._stage.parts.revive(REVIVE_SECONDS)

    def heal(self) -> None:
        """Undo everything now."""
        self._stage.parts.thaw_all()
        self._later = [(0.0, undo) for _, undo in self._later]
        self.tend()
        self._stage.sandbox.clear_faults()

    # --- processes ---------------------------------------------------------------------------------------------------

    def _worker(self) -> Part | None:
        return self._part("worker")

    def _part(self, kind: str) -> Part | None:
        """One of its kind that runs and is not frozen."""
        fit = [p for p in self._stage.parts.all.values() if p.name.startswith(kind) and not p.frozen and p.family()]
        return self._chance.choice(fit) if fit else None

    def _kill(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                self.done["kills"] += 1

    def _kill_child(self) -> None:
        if (part := self._worker()) and (children := part.family()[2:]):
            self._kill([self._chance.choice(children)])

    def _kill_pool_parent(self) -> None:
        if part := self._worker():
            self._kill(part.family()[1:2])

    def _kill_supervisor(self) -> None:
        if part := self._worker():
            self._kill(part.family()[:1])

    def _kill_scheduler(self) -> None:
        if part := self._part("scheduler"):
            self._kill(part.family()[:1])

    def _kill_web_in_mid_request(self) -> None:
        part = self._part("web")
        deadline = time.monotonic() + 0.5
        while not self._stage.promises.asking and time.monotonic() < deadline:
            time.sleep(0.001)
        if part:
            self._kill(part.family()[:1])

    def _freeze(self, part: Part, processes: list[psutil.Process]) -> None:
        if processes:
            self._stage.parts.freeze(part, processes, LEASE_SECONDS + self._chance.uniform(0.3, 2))
            self.done["freezes"] += 1

    def _freeze_child(self) -> None:
        if (part := self._worker()) and (children := part.family()[2:]):
            self._freeze(part, [self._chance.choice(children)])

    def _freeze_worker(self) -> None:
        if part := self._worker():
            self._freeze(part, part.family())

    def _freeze_scheduler(self) -> None:
        if part := self._part("scheduler"):
            self._freeze(part, part.family())

    # --- servers -----------------------------------------------------------------------------------------------------

    def _crash_postgres(self) -> None:
        self._stage.postgres.crash()
        self.done["pg_crashes"] += 1
        time.sleep(self._chance.uniform(0, 1.5))
        self._stage.postgres.start()

    def _kill_redis(self) -> None:
        self._stage.valkey.crash()
        self.done["redis_losses"] += 1
        time.sleep(self._chance.uniform(0, 1.5))
        self._stage.valkey.start()

    def _flush_redis(self) -> None:
        with redis.from_url(self._stage.valkey.url, socket_timeout=5) as client:
            client.flushall()
        self.done["redis_losses"] += 1

    def _fill_redis(self) -> None:
        self._limit_redis("1kb")
        self.done["redis_losses"] += 1
        self._later.append((time.monotonic() + REDIS_SECONDS, lambda: self._limit_redis("0")))

    def _limit_redis(self, memory: str) -> None:
        with redis.from_url(self._stage.valkey.url, socket_timeout=5) as client:
            client.config_set("maxmemory", memory)
