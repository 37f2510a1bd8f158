"""One run of a path with crashes at chosen points, by the simulation's world without its random faults."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.crashes.paths import Path
from tests.simulation.bank import DAY
from tests.simulation.faults import Faults
from tests.simulation.final_checks import check_ends
from tests.simulation.kernel import Violation
from tests.simulation.schedule import Schedule

# Salts are random, and what is hashed with them differs as they do.
_RANDOM = re.compile(r"[0-9a-f]{32,64}")

# Before and after every statement, commit, call and publication.
POINTS = frozenset(
    {
        "die before a statement",
        "die after a statement",
        "die before the commit",
        "die after the commit",
        "die before the call",
        "die after the call",
        "die before the message",
        "die after the message",
    }
)


@dataclass(slots=True)
class Crashes(Faults):
    """Counts the points from the request on and strikes at the chosen ones; `life` strikes on its first occasion."""

    counting: bool = False
    passed: int = 0
    crash_at: frozenset[int] = frozenset()
    life: set[str] = field(default_factory=set)

    def strikes(self, name: str) -> bool:
        if not self.on:
            return False
        if name in POINTS:
            self.passed += self.counting
            if self.counting and self.passed in self.crash_at:
                self.count(f"{name} (point {self.passed})")
                return True
            return False
        if name in self.life:
            self.life.discard(name)
            self.count(name)
            return True
        return False


class CrashRun(Schedule):
    """The path's plan; everything that dies is started anew as in the simulation; then the end must be as promised."""

    def __init__(self, path: Path, crash_at: Collection[int] = ()) -> None:
        super().__init__(1, path.plan(), Crashes)
        self.path = path
        assert isinstance(self.faults, Crashes)
        self.crashes = self.faults
        self.gate.near_statements = True
        self.crashes.crash_at = frozenset(crash_at)
        self.crashes.life = set(path.life)
        # A failure that comes before anybody has heard of the success is another path: another payment is tried.
        self.bank.fails_no_sooner_than = DAY
        self.world.at(self.world.start + 1.5, self._begin)
        self.rest = ""

    def _begin(self) -> None:
        self.crashes.counting = True
        for payment in self.path.declines:
            self.bank.payments[payment].declines = "expired_or_canceled_card"

    def run(self) -> None:
        super().run()
        check_ends(self.watch, self.bank, self.accepted)
        ends = tuple(row["status"] for row in self.watch.refunds.values())
        if ends != self.path.ends:
            raise Violation(f"the refunds end as {ends} instead of {self.path.ends}")
        balance = self.watch.sums["customer:c1", "credits"]
        if balance != self.path.balance:
            raise Violation(f"the balance is {balance} instead of {self.path.balance}")
        paid = sum(item.amount for item in self.bank.refund_objects if item.status == "succeeded")
        if paid != self.path.paid:
            raise Violation(f"the processor gave back {paid} instead of {self.path.paid}")
        if len(self.crashes.crash_at) == 1:
            self.rest = self._digest_of_the_rest()

    def _digest_of_the_rest(self) -> str:
        """Of all that came after the one crash: the trace with its times, and every row at the end."""
        struck = max(
            n for n, line in enumerate(self.world.trace) if f"(point {min(self.crashes.crash_at)})" in str(line)
        )
        digest = hashlib.sha256(repr(self.world.trace[struck + 1 :]).encode())
        self.connection.gate = None
        for statement in self.connection.iterdump():
            digest.update(_RANDOM.sub("", statement).encode())
        return digest.hexdigest()

    def _reconcile(self) -> None:
        """Left to the simulation."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """How a run ended: its first broken promise, how many points it passed, and a digest of all after its one crash.

    Two crashes with as many points after them and the same `rest` left the same world, as any two within one
    transaction do: what a second crash leads to is then the same, too.
    """

    violation: str | None
    points: int
    rest: str = ""


def run_path(path: Path, crash_at: Collection[int] = ()) -> Crashed:
    run = CrashRun(path, crash_at)
    return Crashed(run.outcome(), run.crashes.passed, run.rest)


def trace_of(path: Path, crash_at: Collection[int]) -> list[tuple[object, ...]]:
    run = CrashRun(path, crash_at)
    run.outcome()
    return run.world.trace
