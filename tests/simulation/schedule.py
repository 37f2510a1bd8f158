"""One schedule from its seed: the engine behind faulty ports, a phase of faults, a phase of healing, and the checks."""

from __future__ import annotations

import logging
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from typing import Any

from refund_worker.alarms import Alarm
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync import reconciliation
from refund_worker.engine.sums.statement import make_statement
from refund_worker.errors import InvalidRequest
from refund_worker.metrics import ALARMS, COUNTS
from refund_worker.processors.accounts import MANUAL
from tests.simulation.allowed_changes import ENDS
from tests.simulation.bank_records import STRIPE, Payment
from tests.simulation.bookkeepers import Bookkeepers
from tests.simulation.faults import Faults
from tests.simulation.final_checks import check_ends, paid_besides
from tests.simulation.kernel import Violation
from tests.simulation.outsiders import Outsiders
from tests.simulation.people import People
from tests.simulation.plan import DAY, HOUR, START, Plan
from tests.simulation.processes import Processes
from tests.simulation.receiver import check_told
from tests.simulation.silent_events import SilentEvents
from tests.simulation.webhooks import Webhooks
from tests.simulation.wiring import IN_TIME_SECONDS, Wiring

HEALING_DAYS = 75
# A listing goes back 35 days, and in production it is made several times a day.
POLLING_DAYS = 30
# Alarms that tell of a fault of this program.
FAULTS_OF_OURS = {Alarm.INTERNAL_ERROR, Alarm.BATCH_FAILED, Alarm.ADAPTER_FAILED, Alarm.JOB_FAILED}


@dataclass(slots=True)
class Result:
    """The result of one schedule. `violation` is the first broken promise, or None."""

    seed: int
    violation: str | None
    trace: list[tuple[Any, ...]]
    trace_hash: str
    faults: int
    faults_while_open: Counter[str]
    refunds: int
    ends: Counter[str]
    attention: Counter[str]
    commits: int
    calls: int
    cpu_seconds: float


def run_schedule(seed: int) -> Result:
    """Run the schedule of `seed` from beginning to end. The same seed gives the same trace."""
    started = time.process_time()
    schedule = Schedule(seed)
    violation = schedule.outcome()
    return Result(
        seed=seed,
        violation=violation,
        trace=schedule.world.trace,
        trace_hash=schedule.world.trace_hash(),
        faults=schedule.faults.struck,
        faults_while_open=schedule.faults.while_open,
        refunds=len(schedule.watch.refunds),
        ends=schedule.ends,
        attention=schedule.attention,
        commits=schedule.watch.commits,
        calls=schedule.bank.calls + (schedule.silent.calls if schedule.silent is not None else 0),
        cpu_seconds=time.process_time() - started,
    )


def run_schedule_briefly(seed: int) -> Result:
    """Run the schedule and drop its trace, which is too large to send between processes."""
    result = run_schedule(seed)
    result.trace.clear()
    return result


class Schedule(Wiring):
    """One seed's wiring with its actors, its two phases, and its final checks."""

    runner: type[Processes] = Processes

    def __init__(self, seed: int, plan: Plan | None = None, faults: type[Faults] = Faults) -> None:
        super().__init__(seed, plan, faults)
        self.processes = self.runner(self)
        self.people = People(self, self.processes)
        self.outsiders = Outsiders(self)
        self.bookkeepers = Bookkeepers(self, self.processes)
        self.webhooks = Webhooks(self, self.processes, self.people)
        self.bank.on_news = self.webhooks.tell
        self.bank.on_dispute = self.webhooks.tell_dispute
        self.bank.on_silence = self.people.fall_silent
        self.silent_events: SilentEvents | None = None
        if self.silent is not None:
            self.silent_events = SilentEvents(self, self.silent, self.webhooks)
            self.silent.on_news = self.silent_events.tell
            self.silent.on_silence = self.silent.fall_silent
        self.watch.records_outside = self.plan.policy.outside_since == 0
        self.watch.on_doubt = self.outsiders.somebody_pays
        self.ends: Counter[str] = Counter()
        self.attention: Counter[str] = Counter()

    def outcome(self) -> str | None:
        """Run to the end. Return the first broken promise, or None if there is none."""
        muted = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        COUNTS.take()
        try:
            self.run()
            self._check_no_fault_of_ours()
        except Violation as broken:
            return str(broken)
        except Exception as error:  # a crash of the production code or of the simulation is as bad as a broken promise
            self.world.note("ERROR", traceback.format_exc())
            return f"{type(error).__name__}: {error}"
        finally:
            logging.disable(muted)
            self.close()
        return None

    def run(self) -> None:
        """Run the phase of faults, the phase of healing, and all final checks."""
        world, plan = self.world, self.plan
        for payment in plan.payments:
            if payment.processor != MANUAL and payment.processor_payment_id not in plan.unknown_payments:
                known = plan.recorded_wrong.get(payment.processor_payment_id)
                self.bank.payments[payment.processor_payment_id] = Payment(
                    *(known or (payment.amount_minor, payment.currency))
                )
        self.processes.client("recorder", self.people.record)
        for start, end in plan.outages:
            world.at(start, lambda end=end: self.world.note("OUTAGE", round(end - START)))
        for act in plan.acts:
            world.at(START + 1 + act.at, lambda act=act: self._act(act.what, act.arguments))
        end = START + plan.horizon * 1.3 + 60
        world.run(until=end)
        world.now = max(world.now, end)
        self.heal()
        if plan.polling_only:  # polling does not find refunds that fail after they succeeded
            world.run(until=world.now + POLLING_DAYS * DAY)
            plan.polling_only = False
            self.people.look_at_the_list(0)
        self._settle()
        self._finish()
        self.ends = check_ends(self.watch, self.bank, self.people.accepted)
        if self.receiver is not None:
            check_told(self.watch, self.receiver)
        self._check_foreign()
        self._reconcile()
        if self.world.random.random() < 0.25:
            self._audit()
            self._check_statement()

    def heal(self) -> None:
        """Stop the faults and let time pass. Changes that the processor has already started still happen."""
        self.world.note("HEALING")
        self.healing = True
        self.faults.on = False
        for bank in (self.bank, self.silent):
            if bank is not None:
                bank.outages.clear()
                bank.denials.clear()
                bank.empty.clear()
        if self.silent_events is not None:
            self.silent_events.send_what_was_lost()
            self.world.after(self.silent_events.bank.report_seconds + IN_TIME_SECONDS, self.check_in_time)
            for account in self.plan.policy.processors:
                self.people.act_switch_refunds(account, on=True)
        self.plan.database_outages.clear()
        self.watch.calm_since = self.world.now
        self.people.act_resume_all()
        world_is_awake = (
            self.world.now + 14 * HOUR
        )  # no process is frozen for longer, not even the one that paused the processor
        self.world.at(world_is_awake, self.people.act_resume_all)
        self.people.look_at_the_list(DAY)
        self.world.after(IN_TIME_SECONDS, self.check_in_time)

    def _act(self, what: str, arguments: dict[str, Any]) -> None:
        self.world.note("ACT", what)
        name = "act_" + what.replace(" ", "_")
        actors = (self.people, self.outsiders, self.bookkeepers)
        next(getattr(actor, name) for actor in actors if hasattr(actor, name))(**arguments)

    @staticmethod
    def _check_no_fault_of_ours() -> None:
        """Check L1: no batch, job or adapter of this program broke, even if the engine survived it."""
        told = {labels[0] for name, labels, _ in COUNTS.take() if name == ALARMS.name}
        if broken := sorted(told & FAULTS_OF_OURS):
            raise Violation(f"L1 this program broke: {', '.join(broken)}")

    def _check_foreign(self) -> None:
        """Check L5: each event about a foreign refund is stored, and the refund recorded or left to reconciliation."""
        stored = dict(self.connection.raw("SELECT event_id, outcome FROM inbox"))
        ends = {"unknown refund: left to reconciliation"}
        ends |= {"taken in: a refund that others made"} if self.watch.records_outside else set()
        linked = {row[0] for row in self.connection.raw("SELECT object_id FROM claims WHERE refund_id IS NOT NULL")}
        claimed = {row[0] for row in self.connection.raw("SELECT object_id FROM claims")}
        for event_id in self.webhooks.foreign:
            # A person linked it to a refund of ours before the event came.
            object_id = event_id.removeprefix("evt_").rpartition("_")[0]
            good = ends | ({"taken in"} if object_id in linked else set())
            if object_id in claimed or not self.watch.records_outside:  # the list has told of it
                good = good | {"the processor did not answer: left to polling"}
            if stored.get(event_id) not in good:
                raise Violation(f"L5 {event_id} is about a refund unknown to us and ended as {stored.get(event_id)}")

    def _settle(self) -> None:
        self.world.run(until=self.world.now + HEALING_DAYS * DAY)
        if self.world.processes:
            raise Violation(f"L1 still running after {HEALING_DAYS} days: {', '.join(self.world.processes)}")
        if not self.world.idle:
            raise Violation(f"L1 something is still due after {HEALING_DAYS} days")

    def _finish(self) -> None:
        """Let people finish. They ask the silent processor for what it never told, before that or after it."""
        early = self.silent_events is not None and self.world.random.random() < 0.5
        if self.silent_events is not None and early:
            self.silent_events.send_what_people_ask_for()
            self._settle()
        self._people_finish()
        if self.silent_events is not None and not early:
            self.silent_events.send_what_people_ask_for()
            self._settle()

    def _people_finish(self) -> None:
        """Let operators finish about half of the refunds that wait for a person, then let time pass again."""
        for row in self.watch.refunds.values():
            for leg in self.watch.legs.values():
                if leg["refund_id"] == row["refund_id"] and leg["attention"] and row["status"] == "needs_attention":
                    self.attention[leg["attention"]] += 1
        for _ in range(3):
            stuck = [r for r in self.watch.refunds.values() if r["status"] in ("needs_attention", "awaiting_approval")]
            if not stuck or self.world.random.random() < 0.3:
                return
            for row in stuck:
                pick, choice = 0.0, self.world.random.random()
                self.processes.client("operator", self.people.operate_on(row["refund_id"], pick, choice))
            self.people.look_at_the_list(DAY)
            self._settle()

    def _reconcile(self) -> None:
        """Check L7: both books agree, and a planted difference is found."""
        reports: list[reconciliation.Report] = []
        self.processes.client(
            "reconciler", lambda context: reports.append(reconciliation.reconcile(context, "stripe", days=200))
        )
        self._settle()
        stuck = any(row["status"] not in ("awaiting_approval", *ENDS) for row in self.watch.refunds.values())
        # Refunds by another database with our metadata are in none of our books: reconciliation must report them.
        made = {t.mark for t in self.bank.of_others() if t.installation == self.installation()}
        told = [d for d in reports[0].differences if d.subject in made]
        if unknown := made - self.watch.legs.keys() - {d.subject for d in told}:
            raise Violation(f"L7 reconciliation does not tell of {unknown}, which is not in our books")
        others = [d for d in reports[0].differences if d not in told and not self._is_true(d)]
        false = [d for d in others if not (stuck and d.subject == "clearing")]
        if false:
            raise Violation(f"L7 a false alarm: {false}")
        paid = [
            item
            for item in self.bank.refund_objects
            if item.leg_id and item.status == "succeeded" and item.account == STRIPE
        ]
        if paid and self.world.random.random() < 0.3:
            paid[0].amount += 1
            self.processes.client(
                "reconciler", lambda context: reports.append(reconciliation.reconcile(context, "stripe", days=200))
            )
            self._settle()
            if not any(d.subject == paid[0].leg_id for d in reports[1].differences):
                raise Violation("L7 a planted difference was not found")

    def _check_statement(self) -> None:
        """Check that the figures of the months add up: a schedule lasts at most some months."""
        wrong: list[str] = []

        def make(context: Context) -> None:
            for month in ("2026-09", "2026-10", "2026-11", "2026-12"):
                try:
                    wrong.extend(f"{month} {c}" for c in make_statement(context, month).disagreements)
                except InvalidRequest:  # the month has not begun
                    break

        self.processes.client("bookkeeper", make)
        self._settle()
        if wrong:
            raise Violation(f"the statement does not add up: {wrong}")

    def _is_true(self, difference: reconciliation.Difference) -> bool:
        """Return True for a difference that the schedule has made, and that stands at its end."""
        if difference.kind == "outside_refund":
            return difference.subject in {t.id for t in self.bank.refund_objects if t.leg_id is None}
        if difference.kind == "payment":
            there = self.bank.payments.get(difference.object_id)
            return there is None or (there.amount, there.currency) != (difference.ours, difference.currency)
        return difference.kind == "refunded_twice" and difference.subject in paid_besides(self.watch, self.bank)

    def _audit(self) -> None:
        """Check L9: the chain over ledger and events is complete, even if a process died while sealing."""
        reports: list[hash_chain.Report] = []

        def work(context: Context) -> None:
            hash_chain.Sealer().seal(context)
            reports.append(hash_chain.verify(context))

        self.processes.client("auditor", work)
        self._settle()
        if not reports[0].whole or reports[0].unsealed:
            raise Violation(f"L9 the chain is not whole: {reports[0]}")
