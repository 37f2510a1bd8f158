"""One run of a path with crashes at chosen points, in the simulation's world without its random faults."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from refund_worker.engine.processor_sync.reread import reread
from tests.crashes.crash_path import PAYPAL, Path, payment_id_at
from tests.crashes.other_accounts import add_account
from tests.simulation.bank import Bank
from tests.simulation.bank_records import DAY, HOUR, SILENT, STRIPE
from tests.simulation.faults import Faults
from tests.simulation.final_checks import check_ends
from tests.simulation.kernel import Violation, World
from tests.simulation.schedule import Schedule

# Salts are random, so their hashes are random too.
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
    """Counts the points after the request and strikes at the chosen ones. Each fault in `life` strikes so often."""

    counting: bool = False
    passed: int = 0
    crash_at: frozenset[int] = frozenset()
    life: Counter[str] = field(default_factory=Counter)

    def strikes(self, name: str) -> bool:
        """Return True if the process dies at this point, or if the path's fault strikes now."""
        if not self.on:
            return False
        if name in POINTS:
            self.passed += self.counting
            if self.counting and self.passed in self.crash_at:
                self.count(f"{name} (point {self.passed})")
                return True
            return False
        if self.life[name]:
            self.life[name] -= 1
            self.count(name)
            return True
        return False


class CrashRun(Schedule):
    """Runs the path's plan. Processes that die are restarted as in the simulation; then the promised end is checked."""

    def __init__(self, path: Path, crash_at: Collection[int] = ()) -> None:
        super().__init__(1, path.plan(), Crashes)
        self.path = path
        assert isinstance(self.faults, Crashes)
        self.crashes = self.faults
        self.gate.near_statements = True
        self.crashes.crash_at = frozenset(crash_at)
        self.crashes.life = Counter(path.life)
        self.crashes.ends_without_customer = ("failed" if "expired" in path.life else "canceled",)
        self.account_of = {payment_id_at(path.accounts[n], f"p{n + 1}"): path.accounts[n] for n in range(2)}
        self.bank.its_payments = frozenset(self._payments_at(STRIPE))
        others = [self._add(name) for name in sorted({*path.accounts} - {STRIPE, SILENT})]
        for bank in (self.bank, self.silent, *others):
            if bank is not None:
                # A failure before the success is recorded is another path: another payment is tried.
                bank.fails_no_sooner_than = DAY
                bank.acts_no_sooner_than = DAY  # a customer who acts before a person cancels is another path, too
        if self.silent is not None:
            self.silent.tells_no_sooner_than = HOUR  # only the answers and the keys help until then
        self.world.at(self.world.start + 1.5, self._begin)
        self.rest = ""

    def _payments_at(self, name: str) -> list[str]:
        return [known for known, account in self.account_of.items() if account == name]

    def _add(self, name: str) -> Bank:
        bank = add_account(self, name, self._payments_at(name))
        bank.on_news = self.webhooks.tell
        return bank

    def _act(self, what: str, arguments: dict[str, Any]) -> None:
        """Do what a path does, the job of the scheduler that reads paid refunds again included."""
        if what == "reread":
            self.processes.worker(partial(reread, processor=PAYPAL), "scheduler")
        else:
            super()._act(what, arguments)

    def _begin(self) -> None:
        self.crashes.counting = True
        for payment in self.path.declines:
            self.bank.payments[payment].declines = "expired_or_canceled_card"

    def run(self) -> None:
        """Run the path and check its promised end."""
        super().run()
        check_ends(self.watch, self.bank, self.people.accepted)
        ends = tuple(row["status"] for row in self.watch.refunds.values())
        if ends != self.path.ends:
            raise Violation(f"the refunds end as {ends} instead of {self.path.ends}")
        balance = self.watch.sums[f"customer:{self.path.customer}", "credits"]
        if balance != self.path.balance:
            raise Violation(f"the balance is {balance} instead of {self.path.balance}")
        paid = sum(item.amount for item in self.bank.refund_objects if item.status == "succeeded")
        if paid != self.path.paid:
            raise Violation(f"the processor gave back {paid} instead of {self.path.paid}")
        for item in self.bank.refund_objects:
            if item.account != self.account_of[item.payment]:
                raise Violation(f"{item.payment} of {self.account_of[item.payment]} is refunded at {item.account}")
        self.rest = digest_of_the_rest(self, self.crashes)

    def _reconcile(self) -> None:
        """Do nothing, because the simulation covers this."""


def digest_of_the_rest(run: Schedule, crashes: Crashes) -> str:
    """Return a hash of everything after a single crash: the trace with its times, and every row at the end.

    After none or several crashes it is empty.
    """
    if len(crashes.crash_at) != 1:
        return ""
    struck = max(n for n, line in enumerate(run.world.trace) if f"(point {min(crashes.crash_at)})" in str(line))
    digest = hashlib.sha256(repr(run.world.trace[struck + 1 :]).encode())
    run.connection.gate = None
    for statement in run.connection.iterdump():
        digest.update(_RANDOM.sub("", statement).encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Crashed:
    """The result of a run: its first broken promise, its number of points, and a hash of everything after its crash.

    Two crashes with the same number of points after them and the same `rest` left the same world, like any two within
    one transaction. A second crash then has the same result too.
    """

    violation: str | None
    points: int
    rest: str = ""


class Run(Protocol):
    """A run of a refund's path or of a payout's."""

    world: World
    crashes: Crashes
    rest: str

    def outcome(self) -> str | None: ...


def result_of(run: Run) -> Crashed:
    """Run it to its end, and return its result."""
    return Crashed(run.outcome(), run.crashes.passed, run.rest)


def run_path(path: Path, crash_at: Collection[int] = ()) -> Crashed:
    """Run the path with crashes at these points."""
    return result_of(CrashRun(path, crash_at))


def trace_of(path: Path, crash_at: Collection[int]) -> list[tuple[object, ...]]:
    """Return the trace of the path with crashes at these points."""
    run = CrashRun(path, crash_at)
    run.outcome()
    return run.world.trace
