"""One schedule from its seed, with payouts beside the refunds: both behind faulty ports, and all checks."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.engine.context import Context
from refund_worker.engine.jobs.advance import advance_due
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.engine.refunds.process import process_due
from refund_worker.processors.accounts import Accounts
from refund_worker.processors.payout_routes import PayoutRoute
from tests.simulation.bank_records import DAY, KEY_SECONDS, SilentRules
from tests.simulation.faults import Faults
from tests.simulation.kernel import Process, Violation
from tests.simulation.payouts.payout_checks import check_payouts
from tests.simulation.payouts.payout_people import PayoutPeople
from tests.simulation.payouts.payout_plan import PayoutPlan, add_payouts, plan_of_refunds
from tests.simulation.payouts.payout_watch import PAYOUT_ENDS, PayoutWatch, check_transfer_sending
from tests.simulation.payouts.routes import (
    PayoutsOnly,
    SimulatedRoute,
    account_with_payouts,
    payout_capabilities,
    payouts_only_account,
)
from tests.simulation.payouts.transfer_bank import ONE_STEP, TWO_STEPS, Transfer, TransferBank
from tests.simulation.plan import Plan
from tests.simulation.processes import Processes
from tests.simulation.schedule import HEALING_DAYS, Result, Schedule
from tests.simulation.send_checks import check_calling
from tests.simulation.silent_processor import silent_account

# An unclaimed payout waits 30 days, and then the window of its route and a late return pass.
PAYOUT_DAYS = 120


class PayoutProcesses(Processes):
    """The processes of refunds, whose context has routes too, and whose sweep processes both."""

    schedule: PayoutSchedule

    def context(self, process: Process) -> Context:
        """Return the engine's context for this process."""
        schedule = self.schedule
        policy = replace(self.plan.policy, earnings_hold_seconds=schedule.payout_plan.hold_seconds)
        return replace(
            super().context(process), routes=schedule.routes, payout_policy=schedule.payout_policy, policy=policy
        )

    def _sweep(self, planned: float) -> None:
        if self.sweep_at != planned:
            return  # an earlier sweep replaced this one
        self.sweep_at = None
        watch, now = self.schedule.payout_watch, self.world.database_now
        refunds, payouts = ((due is not None and due <= now) for due in (watch.refunds_due, watch.payouts_due))
        # Only to save time: in production every sweep processes both.
        self.worker(process_due_payouts if payouts and not refunds else advance_due if payouts else process_due)


class PayoutSchedule(Schedule):
    """One seed's schedule of refunds with payouts in it."""

    runner = PayoutProcesses
    watch_type = PayoutWatch

    def __init__(
        self, seed: int, plan: Plan | None = None, theirs: PayoutPlan | None = None, faults: type[Faults] = Faults
    ) -> None:
        super().__init__(seed, plan or plan_of_refunds(seed), faults)
        self.payout_plan = theirs or add_payouts(self.plan, seed)
        self.faults.rates.update(self.payout_plan.rates)
        self.banks: dict[str, TransferBank] = {}
        self.routes: dict[str, PayoutRoute] = {}
        self._make_banks()
        self._make_watch()
        assert isinstance(self.processes, PayoutProcesses)
        self.processes.schedule = self
        self.payout_people = PayoutPeople(self, self.processes, self.payout_plan, self.payout_watch, self.banks)
        self.payout_ends: Counter[str] = Counter()

    def _make_banks(self) -> None:
        plan, theirs = self.plan, self.payout_plan
        facts = {
            TWO_STEPS: payout_capabilities(two_steps=True, window=theirs.window_seconds),
            ONE_STEP: payout_capabilities(
                two_steps=False,
                window=theirs.window_seconds,
                key_seconds=theirs.key_seconds,
                key_use_seconds=theirs.key_use_seconds,
            ),
        }
        model = silent_account(SilentRules(KEY_SECONDS, KEY_SECONDS, 1, 1, 1))
        self.accounts = Accounts(
            {
                **self.accounts,
                TWO_STEPS: account_with_payouts(self.accounts[TWO_STEPS], facts[TWO_STEPS]),
                ONE_STEP: payouts_only_account(model, facts[ONE_STEP]),
            }
        )
        self.processors[ONE_STEP] = PayoutsOnly(self.bank)
        rules = {name: each.rules() for name, each in facts.items()}
        limit = {} if theirs.maximum_minor is None else {"": theirs.maximum_minor}
        self.payout_policy = PayoutPolicy(
            calls=replace(plan.policy, processors=rules),
            routes={name: each.route() for name, each in facts.items()},
            cooldown_seconds=theirs.cooldown_seconds,
            interval_seconds=theirs.interval_seconds,
            maximum_minor=limit,
        )
        for name, key_seconds in ((TWO_STEPS, KEY_SECONDS), (ONE_STEP, theirs.key_seconds)):
            bank = TransferBank(
                self.world,
                self.faults,
                account=name,
                key_seconds=key_seconds,
                outages=plan.outages if name == TWO_STEPS else theirs.outages,
                denials=plan.denials if name == TWO_STEPS else theirs.denials,
                empty=theirs.empty,
                two_steps=name == TWO_STEPS,
                keeps_errors=name == TWO_STEPS,
                own_failures=theirs.persons_decide,
            )
            self.banks[name] = bank
            self.routes[name] = SimulatedRoute(bank)
            bank.on_change = partial(self._tell, bank)

    def _make_watch(self) -> None:
        assert isinstance(self.watch, PayoutWatch)
        self.payout_watch = watch = self.watch
        watch.payout_banks, watch.cooldown_seconds = self.banks, self.payout_plan.cooldown_seconds
        for bank in self.banks.values():
            bank.on_call = partial(check_calling, watch)
            bank.on_transfer_send = partial(check_transfer_sending, watch, bank)

    def _tell(self, bank: TransferBank, item: Transfer) -> None:
        self.payout_people.report(bank, item)

    def run(self) -> None:
        """Run the schedule, with the payees recorded first."""
        self.processes.client("recorder", self.payout_people.record)
        super().run()

    def heal(self) -> None:
        """Stop the faults, of the payouts' processors too."""
        for bank in self.banks.values():
            bank.outages.clear()
            bank.denials.clear()
            bank.empty.clear()
        self.world.after(14 * 3_600, self.payout_people.resume_all)
        self.world.after(14 * 3_600, lambda: self.people.act_resume(ONE_STEP))
        self.world.after(14 * 3_600, lambda: self.people.act_resume("all"))
        super().heal()

    def _act(self, what: str, arguments: dict[str, Any]) -> None:
        name = "act_" + what.replace(" ", "_")
        if hasattr(self.payout_people, name):
            self.world.note("ACT", what)
            getattr(self.payout_people, name)(**arguments)
        else:
            super()._act(what, arguments)

    def _settle(self) -> None:
        self.world.run(until=self.world.now + (HEALING_DAYS + PAYOUT_DAYS) * DAY)
        if self.world.processes:
            raise Violation(f"L1 still running after {PAYOUT_DAYS} days: {', '.join(self.world.processes)}")
        if not self.world.idle:
            raise Violation(f"L1 something is still due after {PAYOUT_DAYS} days")

    def _people_finish(self) -> None:
        """Let operators finish about half of the payouts that wait for a person too."""
        super()._people_finish()
        for _ in range(3):
            stuck = [p for p in self.payout_watch.payouts.values() if p["status"] not in PAYOUT_ENDS]
            if not stuck or self.world.random.random() < 0.3:
                break
            for row in stuck:
                choice = self.world.random.random()
                work = self.payout_people.operate_on(row["payout_id"], 0.0, choice)
                self.processes.client("operator", work)
            self._settle()
        self.payout_ends = check_payouts(self.payout_watch, self.banks, self.payout_people.accepted)


def run_payout_schedule(seed: int) -> Result:
    """Run the schedule of `seed` from beginning to end. The same seed gives the same trace."""
    started = time.process_time()
    schedule = PayoutSchedule(seed)
    violation = schedule.outcome()
    return Result(
        seed=seed,
        violation=violation,
        trace=schedule.world.trace,
        trace_hash=schedule.world.trace_hash(),
        faults=schedule.faults.struck,
        faults_while_open=schedule.faults.while_open,
        refunds=len(schedule.watch.refunds),
        ends=schedule.payout_ends,
        attention=schedule.attention,
        commits=schedule.watch.commits,
        calls=sum(bank.calls for bank in schedule.banks.values()),
        cpu_seconds=time.process_time() - started,
    )


def run_payout_schedule_briefly(seed: int) -> Result:
    """Run the schedule and drop its trace, which is too large to send between processes."""
    result = run_payout_schedule(seed)
    result.trace.clear()
    return result
