"""The paths of payouts that are crashed at every point, and one run of such a path with crashes at chosen points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import Method
from tests.crashes.crash_path import LATER, Path
from tests.crashes.crash_run import Crashed, Crashes, digest_of_the_rest, result_of
from tests.simulation.kernel import Violation
from tests.simulation.payouts.payout_plan import PayoutPlan, destination_of
from tests.simulation.payouts.payout_schedule import PayoutSchedule
from tests.simulation.payouts.transfer_bank import ONE_STEP, TWO_STEPS
from tests.simulation.plan import DAY, START, Act

EARNED, ASKED = 5_000, 3_000
EARNING = EarningRecord(earning_id="e1", payee_id="p1", amount_minor=EARNED, currency="EUR", available_at=START)
EARNS = Act(2, "earn", {"records": [EARNING]})
REQUEST = PayoutRequest(
    idempotency_key="k1", payee_id="p1", amount_minor=ASKED, currency="EUR", description="your share", actor="anna"
)
ASKS = Act(600, "ask payouts", {"requests": [REQUEST]})


@dataclass(frozen=True, slots=True)
class PayoutPath:
    """One path. `life` names the faults at the processor, `end` is the final status, `got` what the payee's bank has.

    The tests crash at each n-th point (`every`).
    """

    name: str
    processor: str
    end: str
    got: int
    life: tuple[str, ...] = ()
    acts: tuple[Act, ...] = ()
    every: int = 37


PAYOUT_PATHS = (
    PayoutPath("transfer, payout, paid", TWO_STEPS, "settled", ASKED),
    PayoutPath("returned after it was paid, undone, given back", TWO_STEPS, "returned", 0, life=("failed later",)),
    PayoutPath("lost answers of one step", ONE_STEP, "settled", ASKED, life=("answer lost", "answer cut")),
    PayoutPath("a server error after the effect", TWO_STEPS, "settled", ASKED, life=("500, effect",)),
    PayoutPath(
        "unclaimed, called off by a person",
        ONE_STEP,
        "canceled",
        0,
        life=("unclaimed",),
        acts=(Act(2 * LATER, "operate payout", {"pick": 0.0, "choice": 0.1}),),
    ),
)


class PayoutCrashRun(PayoutSchedule):
    """Runs the path's plan. Processes that die are restarted as in the simulation; then the promised end is checked."""

    def __init__(self, path: PayoutPath, crash_at: Collection[int] = ()) -> None:
        payee = PayeeRecord(
            payee_id="p1",
            customer_id=None,
            processor=path.processor,
            destination=destination_of(path.processor, "p1", 1),
            currency="EUR",
            country="DE",
            method=Method.STANDARD,
        )
        plan = Path(path.name, (EARNS, ASKS, *path.acts), (), 0, 0).plan()
        super().__init__(1, plan, PayoutPlan(payees=[payee], window_seconds=2 * DAY), Crashes)
        self.path = path
        assert isinstance(self.faults, Crashes)
        self.crashes = self.faults
        self.gate.near_statements = True
        self.crashes.crash_at = frozenset(crash_at)
        self.crashes.life = Counter(path.life)
        for bank in self.banks.values():
            # A payee who claims before a person acts, or a failure before the success is recorded, is another path.
            bank.fails_no_sooner_than = DAY
            bank.acts_no_sooner_than = DAY
        self.world.at(self.world.start + ASKS.at, self._begin)
        self.rest = ""

    def _begin(self) -> None:
        self.crashes.counting = True

    def run(self) -> None:
        """Run the path and check its promised end."""
        super().run()
        ends = tuple(row["status"] for row in self.payout_watch.payouts.values())
        if ends != (self.path.end,):
            raise Violation(f"the payout ends as {ends} instead of {self.path.end}")
        bank = self.banks[self.path.processor]
        if sum(bank.at_payees.values()) != self.path.got:
            raise Violation(f"the payee got {sum(bank.at_payees.values())} instead of {self.path.got}")
        balance = self.payout_watch.sums["payee:p1", "EUR"]
        if balance != EARNED - self.path.got:
            raise Violation(f"the balance is {balance} instead of {EARNED - self.path.got}")
        self.rest = digest_of_the_rest(self, self.crashes)

    def _reconcile(self) -> None:
        """Do nothing, because the simulation covers this."""


def run_payout_path(path: PayoutPath, crash_at: Collection[int] = ()) -> Crashed:
    """Run the path with crashes at these points."""
    return result_of(PayoutCrashRun(path, crash_at))
