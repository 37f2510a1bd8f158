"""The harm of a chaos run, in an order decided by the seed.

Processes are killed or frozen. Servers crash, lose their data or are full, those of the processors too. A person
refunds the same payments in the dashboards, banks dispute them, and odd messages reach the broker.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable

import psutil
import redis

from tests.chaos.others import decide_dispute, dispute, odd_message, refund_by_hand
from tests.chaos.stage import LEASE_SECONDS, Stage
from tests.support.deployment_processes import Part

REVIVE_SECONDS = 0.5
REDIS_SECONDS = 2.0
PAYPAL_SECONDS = 2.0


class Harm:
    """Does harm to a stage. `ways` counts each way of harm; `done` counts the harm by kind.

    A way returns True if it found something to harm: a process that is dead or frozen cannot be killed.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._chance = random.Random(stage.seed)
        kinds = ("kills", "freezes", "pg_crashes", "failovers", "redis_losses", "processor_crashes")
        kinds += ("processor_faults", "by_hand", "disputes", "odd_messages")
        self.done: Counter[str] = Counter(dict.fromkeys(kinds, 0))
        self._later: list[tuple[float, Callable[[], object]]] = []
        self.ways: Counter[str] = Counter()
        self._ways: list[tuple[float, Callable[[], bool]]] = [
            (5, self._kill_child),
            (2, self._kill_pool_parent),
            (1.5, self._kill_supervisor),
            (1.5, self._kill_scheduler),
            (2, self._kill_web_in_mid_request),
            (2, self._freeze_child),
            (1.5, self._freeze_worker),
            (1, self._freeze_scheduler),
            (2, self._crash_postgres),
            (1, self._fail_over),
            (1, self._kill_redis),
            (1, self._flush_redis),
            (1, self._fill_redis),
            (1.5, self._crash_stripe),
            (1.5, self._crash_paypal),
            (1, self._freeze_paypal),
            (1, self._empty_paypal),
            (1, self._revoke_paypal),
            (2, self._refund_in_the_dashboard),
            (2, self._refund_at_paypal),
            (2, self._dispute),
            (3, self._write_odd_messages),
        ]

    def go_on(self, until: float, tick: Callable[[], object] = lambda: None) -> None:
        """Do harm until that time (`time.monotonic`), and restart dead processes. `tick` is called often."""
        weights = [weight for weight, _ in self._ways]
        next_at = time.monotonic()
        # The first round has one of each, so that even a short run has every kind of harm.
        first = [way for _, way in self._ways]
        self._chance.shuffle(first)
        while time.monotonic() < until:
            self.tend()
            tick()
            if time.monotonic() >= next_at:
                way = first.pop() if first else self._chance.choices(self._ways, weights)[0][1]
                if way():
                    self.ways[way.__name__] += 1
                elif way.__name__ not in self.ways:
                    first.insert(0, way)
                next_at = time.monotonic() + self._chance.uniform(0.5, 2.5)
            time.sleep(0.05)

    def tend(self) -> None:
        """Restart dead processes, and undo the harm that is due to be undone."""
        now = time.monotonic()
        due = [undo for at, undo in self._later if at <= now]
        self._later = [(at, undo) for at, undo in self._later if at > now]
        for undo in due:
            undo()
        self._stage.paypal.read_book(self._in)
        self._stage.parts.revive(REVIVE_SECONDS)

    def _in(self, seconds: float, what: Callable[[], object]) -> None:
        """Do something in so many seconds, or when all harm is undone."""
        self._later.append((time.monotonic() + seconds, what))

    def heal(self) -> None:
        """Undo all harm now and crash the broker for the last time.

        So no process that loses its broker connection is killed and restarted by chance afterwards.
        """
        self._stage.parts.thaw_all()
        self._later = [(0.0, undo) for _, undo in self._later]
        self.tend()
        self._kill_redis()
        self._stage.sandbox.clear_faults()
        self._stage.paypal.heal()

    # --- processes ---------------------------------------------------------------------------------------------------

    def _part(self, kind: str) -> Part | None:
        """Return a process of this kind that runs and is not frozen."""
        fit = [p for p in self._stage.parts.all.values() if p.name.startswith(kind) and not p.frozen and p.family()]
        return self._chance.choice(fit) if fit else None

    def _kill(self, processes: list[psutil.Process]) -> bool:
        killed = 0
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                killed += 1
        self.done["kills"] += killed
        return killed > 0

    def _kill_child(self) -> bool:
        return self._kill(self._one_of(self._members("worker")[2:]))

    def _kill_pool_parent(self) -> bool:
        return self._kill(self._members("worker")[1:2])

    def _kill_supervisor(self) -> bool:
        return self._kill(self._members("worker")[:1])

    def _kill_scheduler(self) -> bool:
        return self._kill(self._members("scheduler")[:1])

    def _kill_web_in_mid_request(self) -> bool:
        web = self._members("web")[:1]
        deadline = time.monotonic() + 0.5
        while not self._stage.promises.asking and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._stage.promises.asking > 0 and self._kill(web)

    def _one_of(self, processes: list[psutil.Process]) -> list[psutil.Process]:
        return [self._chance.choice(processes)] if processes else []

    def _members(self, kind: str) -> list[psutil.Process]:
        part = self._part(kind)
        return part.family() if part else []

    def _freeze(self, kind: str, only: Callable[[list[psutil.Process]], list[psutil.Process]]) -> bool:
        part = self._part(kind)
        processes = only(part.family()) if part else []
        if not part or not processes:
            return False
        self._stage.parts.freeze(part, processes, LEASE_SECONDS + self._chance.uniform(0.3, 2))
        self.done["freezes"] += 1
        return True

    def _freeze_child(self) -> bool:
        return self._freeze("worker", lambda family: self._one_of(family[2:]))

    def _freeze_worker(self) -> bool:
        return self._freeze("worker", list)

    def _freeze_scheduler(self) -> bool:
        return self._freeze("scheduler", list)

    # --- others ------------------------------------------------------------------------------------------------------

    def _refund_in_the_dashboard(self) -> bool:
        made = refund_by_hand(self._stage, self._chance)
        self.done["by_hand"] += made
        return made

    def _refund_at_paypal(self) -> bool:
        self._stage.paypal.refund_by_hand()
        self.done["by_hand"] += 1
        return True

    def _dispute(self) -> bool:
        """Open a dispute, and let the bank decide it some seconds later, or when all harm is undone."""
        dispute_id, status = dispute(self._stage, self._chance), self._chance.choice(("won", "lost"))
        self.done["disputes"] += 1
        self._in(self._chance.uniform(0.5, 8), lambda: decide_dispute(self._stage, dispute_id, status))
        return True

    def _write_odd_messages(self) -> bool:
        messages = [odd_message(self._chance) for _ in range(self._chance.randint(1, 5))]
        with redis.from_url(self._stage.valkey.url, socket_timeout=5) as client:
            try:
                client.lpush(self._chance.choice(("refunds", "bulk")), *messages)
            except redis.RedisError:  # the broker is full now
                return False
        self.done["odd_messages"] += len(messages)
        return True

    # --- the processors ----------------------------------------------------------------------------------------------

    def _crash_stripe(self) -> bool:
        self._stage.crash_stripe(self._chance.uniform(0, 1.5))
        self.done["processor_crashes"] += 1
        return True

    def _crash_paypal(self) -> bool:
        self._stage.paypal.crash(self._chance.uniform(0, 1.5))
        self.done["processor_crashes"] += 1
        return True

    def _freeze_paypal(self) -> bool:
        self._stage.paypal.freeze(self._chance.uniform(0.5, LEASE_SECONDS + 1))
        self.done["processor_faults"] += 1
        return True

    def _empty_paypal(self) -> bool:
        """Let the account at PayPal have no money for a while."""
        self._stage.paypal.server.control("settings", balance={"USD": 0})
        self._in(PAYPAL_SECONDS, lambda: self._stage.paypal.server.control("settings", balance=None))
        self.done["processor_faults"] += 1
        return True

    def _revoke_paypal(self) -> bool:
        """Make PayPal's tokens invalid, and let it give no new ones for a while."""
        server, fault = self._stage.paypal.server, self._chance.choice(("error500", "html", "429"))
        server.control("settings", revoke_tokens=True, token_fault=fault)
        self._in(PAYPAL_SECONDS, lambda: server.control("settings", token_fault=""))
        self.done["processor_faults"] += 1
        return True

    # --- servers -----------------------------------------------------------------------------------------------------

    def _crash_postgres(self) -> bool:
        self._stage.postgres.crash()
        self.done["pg_crashes"] += 1
        time.sleep(self._chance.uniform(0, 1.5))
        self._stage.postgres.start()
        return True

    def _fail_over(self) -> bool:
        done = self._stage.fail_over()
        self.done["failovers"] += done
        return done

    def _kill_redis(self) -> bool:
        self._stage.valkey.crash()
        self.done["redis_losses"] += 1
        time.sleep(self._chance.uniform(0, 1.5))
        self._stage.valkey.start()
        return True

    def _flush_redis(self) -> bool:
        with redis.from_url(self._stage.valkey.url, socket_timeout=5) as client:
            client.flushall()
        self.done["redis_losses"] += 1
        return True

    def _fill_redis(self) -> bool:
        self._limit_redis("1kb")
        self.done["redis_losses"] += 1
        self._in(REDIS_SECONDS, lambda: self._limit_redis("0"))
        return True

    def _limit_redis(self, memory: str) -> None:
        with redis.from_url(self._stage.valkey.url, socket_timeout=5) as client:
            client.config_set("maxmemory", memory)
