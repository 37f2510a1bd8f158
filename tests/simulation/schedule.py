"""One schedule from its seed: the engine behind faulty ports, a phase of faults, a phase of healing, and the checks."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from refund_worker.domain.limits import Limits
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine import idempotency
from refund_worker.engine.accounts import corrections, payments, spends
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.context import Context
from refund_worker.engine.jobs import clock_rollback
from refund_worker.engine.processor_sync import pause as processor_sync_pause
from refund_worker.engine.processor_sync import reconciliation, sync, webhook_inbox
from refund_worker.engine.refunds import accept, actions
from refund_worker.engine.refunds import process as refund_process
from refund_worker.errors import KeyReused, LostRace, RefundWorkerError, Refusal, Unavailable
from refund_worker.processors.manual import ManualProcessor
from refund_worker.store import inbox
from tests.simulation.allowed_changes import ENDS
from tests.simulation.bank import Bank
from tests.simulation.bank_records import VOID, BankRefund, Payment
from tests.simulation.database import simulated_database
from tests.simulation.faults import Faults, draw_rates
from tests.simulation.final_checks import check_ends
from tests.simulation.kernel import Died, Loop, Process, Violation, World
from tests.simulation.observer import Watch
from tests.simulation.plan import DAY, HOUR, START, Plan, compose
from tests.simulation.receiver import SimulatedDeliverer, check_told
from tests.simulation.send_checks import check_calling, check_sending
from tests.simulation.simulated_processor import SimulatedProcessor
from tests.simulation.statement_gate import FaultyGate
from tests.simulation.watched import Row

HEALING_DAYS = 75
# After the faults and the processor's last change: polling waits at most a day, a quiet window is a quarter of one.
IN_TIME_SECONDS = 3 * DAY
UNKNOWN_LEG = "rf_000099-1"


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
        calls=schedule.bank.calls,
        cpu_seconds=time.process_time() - started,
    )


def run_schedule_briefly(seed: int) -> Result:
    """Run the schedule and drop its trace, which is too large to send between processes."""
    result = run_schedule(seed)
    result.trace.clear()
    return result


class Schedule:
    """The world of one seed: its plan, its ports, and its actors."""

    def __init__(self, seed: int, plan: Plan | None = None, faults: type[Faults] = Faults) -> None:
        self.world = world = World(seed, START)
        self.plan: Plan = plan or compose(world.random)
        store = simulated_database()
        store.fresh()
        self.connection = store.connection
        self.faults = faults(world, draw_rates(world), lambda: self.watch.open > 0)
        plan = self.plan
        self.bank = Bank(world, self.faults, outages=plan.outages, denials=plan.denials, empty=plan.empty)
        self.bank.very_late = plan.very_late
        if plan.very_late:
            self.faults.rates["effect later"] = 0.5
        self.watch = Watch(world, self.bank, self.connection, plan.policy, plan.threshold)
        self.watch.velocity_count = plan.velocity_count
        self.bank.on_call = partial(check_calling, self.watch)
        self.bank.on_send = partial(check_sending, self.watch)
        if not plan.very_late:  # an effect after days contradicts the person who abandoned the leg
            self.bank.on_created = self.watch.created
        self.bank.on_news = self._tell
        self.bank.on_silence = self._fall_silent
        self.bank.recorded_wrong = set(plan.recorded_wrong)
        self.bank.unreadable = plan.unreadable
        self.watch.on_doubt = self._somebody_pays
        self.requests: dict[tuple[str, str], RefundRequest] = {}
        self.overtaken: dict[str, tuple[str, str]] = {}
        self.gate = FaultyGate(world, self.faults, plan.database_outages, self._committed)
        self.connection.gate = self.gate
        self.processors = {"stripe": SimulatedProcessor(self.bank), "manual": ManualProcessor()}
        self.accepted: dict[tuple[str, str], str] = {}
        self.corrections: dict[str, str] = {}
        self.ends: Counter[str] = Counter()
        self.attention: Counter[str] = Counter()
        self.ids = 0
        self.at_work = 0
        self.queue: deque[tuple[Callable[[Context], object], str]] = deque()
        self.sweep_at: float | None = None
        self.receiver = SimulatedDeliverer(self.faults) if plan.notify else None
        self.deliver_at: float | None = None
        self.watch_at: float | None = None
        self.healing = False
        self.foreign: list[str] = []  # events of refunds that are not ours
        self.database = store.database

    def close(self) -> None:
        """Kill all processes and release the database."""
        self.connection.gate = None
        self.world.kill_all()
        self.connection.rollback()

    def outcome(self) -> str | None:
        """Run to the end. Return the first broken promise, or None if there is none."""
        muted = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            self.run()
        except Violation as broken:
            return str(broken)
        except Exception as error:  # a crash of the production code or of the simulation is as bad as a broken promise
            self.world.note("ERROR", traceback.format_exc())
            return f"{type(error).__name__}: {error}"
        finally:
            logging.disable(muted)
            self.close()
        return None

    # --- the two phases ----------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run the phase of faults, the phase of healing, and all final checks."""
        world, plan = self.world, self.plan
        for payment in plan.payments:
            if payment.processor == "stripe" and payment.processor_payment_id not in plan.unknown_payments:
                known = plan.recorded_wrong.get(payment.processor_payment_id)
                self.bank.payments[payment.processor_payment_id] = Payment(
                    *(known or (payment.amount_minor, payment.currency))
                )
        self.client("recorder", self._record)
        for start, end in plan.outages:
            world.at(start, lambda end=end: self.world.note("OUTAGE", round(end - START)))
        for act in plan.acts:
            world.at(START + 1 + act.at, lambda act=act: self._act(act.what, act.arguments))
        end = START + plan.horizon * 1.3 + 60
        world.run(until=end)
        world.now = max(world.now, end)
        self.heal()
        self._settle()
        if plan.polling_only:  # polling does not find refunds that fail after they succeeded
            plan.polling_only = False
            self._look_at_the_list(0)
            self._settle()
        self._people_finish()
        self.ends = check_ends(self.watch, self.bank, self.accepted)
        if self.receiver is not None:
            check_told(self.watch, self.receiver)
        self._check_foreign()
        self._reconcile()
        if self.world.random.random() < 0.25:
            self._audit()

    def heal(self) -> None:
        """Stop the faults and let time pass. Changes that the processor has already started still happen."""
        self.world.note("HEALING")
        self.healing = True
        self.faults.on = False
        bank = self.bank
        bank.outages.clear()
        bank.denials.clear()
        bank.empty.clear()
        self.plan.database_outages.clear()
        self.watch.calm_since = self.world.now
        self._act_resume()
        world_is_awake = (
            self.world.now + 14 * HOUR
        )  # no process is frozen for longer, not even the one that paused the processor
        self.world.at(world_is_awake, self._act_resume)
        self._look_at_the_list(DAY)
        self.world.after(IN_TIME_SECONDS, self._check_in_time)

    def _check_in_time(self) -> None:
        """Check L1: no refund is in progress days after the last fault and the processor's last change."""
        since = self.world.now - IN_TIME_SECONDS
        busy = {
            self.watch.legs[item.leg_id]["refund_id"]
            for item in self.bank.refund_objects
            if item.leg_id and (item.said_at > since or item.status not in ("succeeded", *VOID))
        }
        for refund_id, refund in self.watch.refunds.items():
            done = refund["status"] in ("needs_attention", "awaiting_approval", *ENDS)
            if not done and refund_id not in busy and self.watch.seen_since[refund_id] <= since:
                raise Violation(f"L1 {refund_id} is still {refund['status']} days after anything happened to it")

    def _check_foreign(self) -> None:
        """Check L5: each event about a foreign refund is stored and left to reconciliation."""
        stored = dict(self.connection.raw("SELECT event_id, outcome FROM inbox"))
        for event_id in self.foreign:
            if stored.get(event_id) != "unknown refund: left to reconciliation":
                raise Violation(f"L5 {event_id} is about a refund unknown to us and ended as {stored.get(event_id)}")

    def _settle(self) -> None:
        self.world.run(until=self.world.now + HEALING_DAYS * DAY)
        if self.world.processes:
            raise Violation(f"L1 still running after {HEALING_DAYS} days: {', '.join(self.world.processes)}")
        if not self.world.idle:
            raise Violation(f"L1 something is still due after {HEALING_DAYS} days")

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
                self.client("operator", self._operate_on(row["refund_id"], pick, choice))
            self._look_at_the_list(DAY)
            self._settle()

    def _reconcile(self) -> None:
        """Check L7: both books agree, and a planted difference is found."""
        reports: list[reconciliation.Report] = []
        self.client("reconciler", lambda context: reports.append(reconciliation.reconcile(context, "stripe", days=200)))
        self._settle()
        stuck = any(row["status"] not in ("awaiting_approval", *self._ends()) for row in self.watch.refunds.values())
        # Refunds by another database with our metadata are in none of our books: reconciliation must report them.
        made = {t.mark for t in self.bank.of_others() if t.installation == self._installation()}
        told = [d for d in reports[0].differences if d.subject in made]
        if unknown := made - self.watch.legs.keys() - {d.subject for d in told}:
            raise Violation(f"L7 reconciliation does not tell of {unknown}, which is not in our books")
        false = [d for d in reports[0].differences if d not in told and not (stuck and d.kind == "clearing")]
        if false:
            raise Violation(f"L7 a false alarm: {false}")
        paid = [item for item in self.bank.refund_objects if item.leg_id and item.status == "succeeded"]
        if paid and self.world.random.random() < 0.3:
            paid[0].amount += 1
            self.client(
                "reconciler", lambda context: reports.append(reconciliation.reconcile(context, "stripe", days=200))
            )
            self._settle()
            if not any(d.subject == paid[0].leg_id for d in reports[1].differences):
                raise Violation("L7 a planted difference was not found")

    def _audit(self) -> None:
        """Check L9: the chain over ledger and events is complete, even if a process died while sealing."""
        reports: list[hash_chain.Report] = []

        def work(context: Context) -> None:
            hash_chain.Sealer().seal(context)
            reports.append(hash_chain.verify(context))

        self.client("auditor", work)
        self._settle()
        if not reports[0].whole or reports[0].unsealed:
            raise Violation(f"L9 the chain is not whole: {reports[0]}")

    @staticmethod
    def _ends() -> tuple[str, ...]:
        return ("succeeded", "partially_succeeded", "failed", "rejected", "canceled")

    # --- processes ---------------------------------------------------------------------------------------------------

    def context(self, process: Process) -> Context:
        """Return the engine's context for this process."""
        world = self.world

        def new_id(prefix: str) -> str:
            self.ids += 1
            made = f"{prefix}_{self.ids:06d}"
            if prefix == "lease":
                process.token, process.intent = made, "claim"
            return made

        return Context(
            database=self.database,
            processors=self.processors,
            policy=self.plan.policy,
            limits=Limits(approval_threshold_minor=self.plan.threshold, velocity_count=self.plan.velocity_count),
            notify=self.plan.notify,
            run=lambda calls: Loop(world).run(calls),
            wake=self._wake,
            new_id=new_id,
            clock=lambda _connection: world.database_now,
            monotonic=lambda: world.now + process.skew,
        )

    def process(self, name: str, work: Callable[[Context], object], done: Callable[[bool], None]) -> None:
        """Start a process that does one piece of work. `done` gets True if it finished."""

        def run() -> None:
            process = self.world.running
            assert process is not None
            finished = False
            try:
                work(self.context(process))
                finished = True
            except (Unavailable, LostRace) as error:
                self.world.note("RAISED", type(error).__name__)
            finally:
                self.world.after(0, lambda: done(finished))

        skew = self.world.random.uniform(-300, 300) if self.faults.strikes("clocks differ") else 0.0
        self.world.spawn(name, run, skew=skew)

    def client(self, name: str, work: Callable[[Context], object], tries: int = 12) -> None:
        """Start a client that repeats its request if it gets no answer, or the answer to try again."""

        def done(finished: bool) -> None:
            if not finished and tries > 1:
                wait = self.world.random.choice((0.1, 1, 5, 60, 600))
                self.world.after(wait, lambda: self.client(name, work, tries - 1))
            elif not finished and not self.healing:
                self.world.after(HOUR, lambda: self.client(name, work, tries))
            elif not finished:
                raise Violation(f"L1 {name} was never served")

        self.process(name, work, done)

    def worker(self, work: Callable[[Context], object], name: str = "worker") -> None:
        """Give the work to a free worker, or queue it."""
        if self.at_work >= self.plan.workers:
            self.queue.append((work, name))
            return
        self.at_work += 1

        def done(finished: bool) -> None:
            self.at_work -= 1
            if self.queue:
                self.worker(*self.queue.popleft())
            self._plan_sweep(0.0 if finished else 1.0)

        self.process(name, work, done)

    # --- the broker and the sweep ------------------------------------------------------------------------------------

    def _wake(self, refund_ids: Sequence[str], bulk: bool) -> None:
        process = self.world.running
        assert process is not None
        if process.dead:
            raise Died
        if not self.plan.broker:
            return
        self._die_if("die before the message")
        self.world.note("MESSAGE", *refund_ids)
        if self.faults.strikes("message lost"):
            return
        ids = list(refund_ids)
        for _ in range(2 if self.faults.strikes("message twice") else 1):
            late = self.world.random.uniform(1, 2 * HOUR) if self.faults.strikes("message late") else 0.01
            self.world.after(
                late, lambda: self.worker(lambda context: refund_process.process_due(context, ids, bulk=bulk))
            )
        self._die_if("die after the message")

    def _die_if(self, name: str) -> None:
        process = self.world.running
        if process is not None and self.faults.strikes(name):
            process.dead = True
            raise Died

    def _committed(self, changes: int) -> None:
        if not changes:
            return
        process = self.world.running
        contradicted = len(self.watch.contradicted)
        self.watch.committed(process)
        if len(self.watch.contradicted) > contradicted:
            # The leg was abandoned during its call: the refund was open when this fault began.
            self.faults.count("operator contradicted", while_open=True)
        if process is not None and process.intent == "claim":
            process.intent = "record"
        self._plan_sweep(0.0)
        self._plan_delivery()

    def _plan_delivery(self) -> None:
        """Schedule the delivery of due notifications, one round at a time."""
        if self.receiver is None or self.deliver_at is not None:
            return
        due: float | None = self.connection.raw("SELECT min(next_at) FROM outbox").fetchone()[0]
        if due is None:
            return
        self.deliver_at = max(due - self.world.clock_offset, self.world.now) + 1
        self.world.at(self.deliver_at, self._deliver)

    def _deliver(self) -> None:
        assert self.receiver is not None

        def done(_finished: bool) -> None:
            self.deliver_at = None
            self._plan_delivery()

        self.process("deliverer", self.receiver.deliver, done)

    def _plan_sweep(self, pause: float) -> None:
        """Schedule the sweep for when the next row is due, so that virtual time jumps there."""
        due = self.watch.next_due
        if due is None:
            return
        at = max(due - self.world.clock_offset, self.world.now + pause) + 0.01
        if self.sweep_at is not None and self.sweep_at <= at:
            return
        self.sweep_at = at
        self.world.at(at, lambda: self._sweep(at))

    def _sweep(self, planned: float) -> None:
        if self.sweep_at != planned:
            return  # an earlier sweep replaced this one
        self.sweep_at = None
        self.worker(refund_process.process_due)

    # --- webhook events ----------------------------------------------------------------------------------------------

    def _tell(self, refund_object: BankRefund) -> None:
        """Send a webhook for the change, unreliably. While healing, also schedule the daily listing."""
        if self.healing:
            self._look_at_the_list(2 * HOUR)
            self.world.after(IN_TIME_SECONDS, self._check_in_time)
        self._edit_marks(refund_object)
        if refund_object.is_void and refund_object.leg_id and self.faults.strikes("asked again after failure"):
            self._ask_again(refund_object.leg_id)
        if not self.plan.webhooks or self.faults.strikes("webhook lost"):
            return
        if refund_object.leg_id is None and self.faults.on:
            self.faults.count("webhook of an unknown refund")
        random = self.world.random
        metadata = {"refund_worker_leg": refund_object.mark} if refund_object.mark else {}
        body = json.dumps({"data": {"object": {"object": "refund", "id": refund_object.id, "metadata": metadata}}})
        event_id = f"evt_{refund_object.id}_{len(refund_object.words)}"
        if refund_object.mark is None and refund_object.leg_id is None:
            self.foreign.append(event_id)
        if refund_object.id not in self.overtaken and self.faults.strikes("webhook overtaken"):
            self.overtaken[refund_object.id] = event_id, body
            self.world.after(3 * DAY, lambda: self._send_overtaken(refund_object.id))
            return
        first = self.faults.strikes("webhook before the answer")
        if first:
            self.bank.answers_held_until = self.world.now + random.uniform(2, 20)
        for _ in range(3 if self.faults.strikes("webhook three times") else 1):
            late = 0.0 if first else random.uniform(0, 2)
            if self.faults.strikes("webhook late"):
                late = random.uniform(HOUR, 3 * DAY)
            self.world.after(late, lambda: self._webhook(event_id, body))
        self.world.after(3, lambda: self._send_overtaken(refund_object.id))

    def _somebody_pays(self, leg: Row) -> None:
        """Let an operator who sees an uncertain leg pay it in the dashboard."""
        if self.healing or leg["processor"] != "stripe":
            return
        random, payment = self.world.random, leg["processor_payment_id"]
        if self.faults.strikes("refunded by hand while in doubt"):
            amount = random.choice((leg["amount_minor"], leg["amount_minor"], 1))
            after = random.choice((1, 30, HOUR, 8 * HOUR)) * random.random()
            self.world.after(after, lambda: self._refund_by_others(payment, amount, "refunded elsewhere"))

    def _edit_marks(self, refund_object: BankRefund) -> None:
        """Remove our metadata from an object.

        Only from an object that our records know by id: otherwise its leg is unknowable.
        """
        if refund_object.leg_id and refund_object.id in self.watch.objects and self.faults.strikes("marks edited away"):
            self.world.note("MARKS", refund_object.id)
            refund_object.mark = refund_object.installation = None

    def _send_overtaken(self, thing_id: str) -> None:
        if thing_id in self.overtaken:
            self._webhook(*self.overtaken.pop(thing_id))

    def _webhook(self, event_id: str, body: str) -> None:
        """Deliver the event until it is stored and answered."""

        def receive(context: Context) -> None:
            with context.database.write() as connection:
                now = context.clock(connection)
                inbox.insert_event(connection, "stripe", event_id, "refund.updated", body, now)
            self._die_if("webhook handler dies")
            self.world.after(0, lambda: self.worker(webhook_inbox.process_inbox, "newsreader"))

        self.client("receiver", receive)

    def _look_at_the_list(self, seconds: float) -> None:
        if self.plan.polling_only:
            return
        if self.watch_at is not None and self.watch_at <= self.world.now + seconds:
            return
        self.watch_at = at = self.world.now + seconds

        def look() -> None:
            if self.watch_at == at:
                self.watch_at = None
            self.client(
                "watch", lambda context: (sync.sync_all(context, "stripe"), webhook_inbox.process_inbox(context))
            )
            self.world.after(HOUR, self._resume_beside_another_database)

        self.world.at(at, look)

    # --- people ------------------------------------------------------------------------------------------------------

    def _resume_beside_another_database(self) -> None:
        """Let an operator resume the processor that was paused because another database uses the same account."""
        if self.watch.rows("SELECT 1 FROM processors WHERE code = ?", sync.RESTORED):
            self._act_resume()

    def _record(self, context: Context) -> None:
        payments.record_payments(context, self.plan.payments)
        spends.record_spends(context, self.plan.spends)

    def _act(self, what: str, arguments: dict[str, Any]) -> None:
        self.world.note("ACT", what)
        getattr(self, "_act_" + what.replace(" ", "_"))(**arguments)

    def _act_request(self, requests: list[RefundRequest]) -> None:
        self.watch.acted |= {request.actor for request in requests}
        self.client("client", lambda context: self._request(context, requests))

    def _request(self, context: Context, requests: list[RefundRequest]) -> None:
        promised = dict(self.accepted)  # a refused request may be accepted when it is repeated, but not the reverse
        answers = accept.request_refunds(context, requests)
        for request, answer in zip(requests, answers, strict=True):
            key = (request.client, request.idempotency_key)
            if isinstance(answer, accept.Accepted):
                if self.accepted.setdefault(key, answer.refund_id) != answer.refund_id:
                    raise Violation(f"I6 {key} is {self.accepted[key]} and {answer.refund_id}")
                self.requests[key] = request
                if self.healing:
                    self.world.after(IN_TIME_SECONDS, self._check_in_time)
            elif key in promised and not isinstance(answer, KeyReused):
                raise Violation(f"L5 {key} was accepted as {self.accepted[key]} and is refused now: {answer}")
            self.world.note("REQUEST", *key, answer.code if isinstance(answer, Refusal) else answer.refund_id)

    def _act_correct(self, customer_id: str, credits: int, key: str) -> None:
        self.watch.acted.add("otto")

        def work(context: Context) -> None:
            try:
                row, _ = corrections.correct(
                    context,
                    customer_id=customer_id,
                    credits=credits,
                    reason="put right",
                    client="desk",
                    idempotency_key=key,
                    actor="otto",
                )
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)
                return
            if self.corrections.setdefault(key, row["transaction_id"]) != row["transaction_id"]:
                raise Violation(f"I6 correction {key} was made twice")

        self.client("desk", work)

    def _act_pay_out_correction(self, key: str, correction: str) -> None:
        transaction_id = self.corrections.get(correction)
        if transaction_id is None:
            return
        customer = next(row[2] for row in self.watch.transactions if row[1] == transaction_id)
        request = RefundRequest(
            idempotency_key=key,
            kind=Kind.WITHDRAWAL,
            to=To.SOURCE,
            customer_id=customer,
            transaction_id=transaction_id,
            reason="pay out",
            client="desk",
            actor="otto",
        )
        self._act_request([request])

    def _ask_again(self, leg_id: str) -> None:
        """Request a failed refund again under a new key: a new refund, and a new object."""
        refund = self.watch.refunds[self.watch.legs[leg_id]["refund_id"]]
        request = self.requests.get((refund["client"], refund["idempotency_key"]))
        if request is not None:
            again = replace(request, idempotency_key=f"{request.idempotency_key}-again")
            self.world.after(self.world.random.uniform(60, DAY), lambda: self._act_request([again]))

    def _fall_silent(self) -> None:
        """Start an outage that ends within a second of the end of life of a first send's key.

        At that moment an operator resumes the processor, which makes the waiting refunds due.
        """
        if self.plan.horizon < DAY or self.bank.outages or not self.faults.strikes("silent to the key's edge"):
            return
        now, random = self.world.now, self.world.random
        edge = now + self.plan.policy.key_life_seconds + random.choice((-1, 0, 1))
        self.bank.outages.append((now + random.choice((0, 0.2)), edge - 1.5))
        for at, act in ((edge - 60, self._act_pause), (edge - 0.05, self._act_resume)):
            self.world.at(at, act)

    def _act_delete(self, pick: float) -> None:
        made = [row[1] for row in self.watch.transactions if row[3] in ("credit_refund", "correction")]
        if not made:
            return
        transaction_id = made[int(pick * len(made))]
        self.watch.acted.add("otto")

        def work(context: Context) -> None:
            try:
                corrections.reverse_transaction(context, transaction_id, actor="otto")
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)

        self.client("desk", work)

    def _act_command(self, action: Action, reference: str | None = None) -> None:
        """Perform the action on every open refund."""
        for row in list(self.watch.refunds.values()):
            if row["status"] not in self._ends():
                press = idempotency.Key("desk", f"{action} {row['refund_id']} {self.world.now}")
                self.client("operator", self._command(row["refund_id"], action, "olga", reference, None, press))

    def _act_operate(self, pick: float, choice: float) -> None:
        refunds = [r for r in self.watch.refunds.values() if r["status"] not in self._ends()]
        wanting = [r for r in refunds if r["status"] in ("needs_attention", "awaiting_approval")] or refunds
        if not wanting:
            return
        refund = wanting[int(pick * len(wanting))]
        if (refund["lease_until"] or 0) > self.world.database_now:
            self.faults.count("operator races a worker")
        for _ in range(2 if self.faults.strikes("two operators at once") else 1):
            self.client("operator", self._operate_on(refund["refund_id"], pick, choice))

    def _operate_on(self, refund_id: str, pick: float, choice: float) -> Callable[[Context], None]:
        seen = self.watch.refunds[refund_id]
        if seen["status"] == "awaiting_approval":
            action = Action.APPROVE if choice < 0.7 else Action.REJECT if choice < 0.85 else Action.CANCEL
        elif seen["status"] == "needs_attention":
            action = Action.RETRY if choice < 0.4 and not self.plan.very_late else Action.RESOLVE
        elif choice < 0.4 and self._is_in_doubt(refund_id) and self.faults.strikes("paid by hand while in doubt"):
            return self._command(refund_id, Action.RESOLVE, "olga", f"bank-{refund_id}", None)
        else:
            action = Action.CANCEL if choice < 0.6 else Action.RETRY
        reference = None if choice < 0.8 else f"bank-{refund_id}"

        actor = "olga" if pick < 0.9 else "anna"
        return self._command(refund_id, action, actor, reference, seen["version"] if pick < 0.5 else None)

    def _is_in_doubt(self, refund_id: str) -> bool:
        return any(leg["refund_id"] == refund_id and leg["status"] == "unknown" for leg in self.watch.legs.values())

    def _command(
        self,
        refund_id: str,
        action: Action,
        actor: str,
        reference: str | None,
        version: int | None,
        key: idempotency.Key | None = None,
    ) -> Callable[[Context], None]:
        self.watch.acted.add(actor)

        def work(context: Context) -> None:
            try:
                actions.perform_action(
                    context,
                    refund_id,
                    action,
                    actor=actor,
                    reason="looked into it",
                    reference=reference,
                    version=version,
                    key=key,
                )
                self.world.note("COMMAND", action, refund_id)
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)

        return work

    def _act_pause(self) -> None:
        self.watch.acted.add("olga")
        self.client(
            "operator", lambda c: processor_sync_pause.pause_processor(c, "stripe", actor="olga", reason="maintenance")
        )

    def _act_resume(self) -> None:
        self.watch.acted.add("olga")
        self.client("operator", lambda context: processor_sync_pause.resume_processor(context, "stripe", actor="olga"))

    def _act_refund_elsewhere(self, payment: str, part: float) -> None:
        if payment in self.bank.payments:
            self._refund_by_others(payment, int(self.bank.room(payment) * part), "refunded elsewhere")

    def _act_refund_by_another_installation(self, payment: str, part: float) -> None:
        """Refund with metadata that look like ours. Even the leg's name can be one of ours."""
        if payment in self.bank.payments:
            ours = sorted(self.watch.legs)
            mark = ours[0] if ours and self.world.random.random() < 0.5 else UNKNOWN_LEG
            amount = int(self.bank.room(payment) * part)
            self._refund_by_others(payment, amount, "refunded by another installation", mark)

    def _act_refund_by_an_older_database(self, payment: str, part: float) -> None:
        """Refund as a copy of our database that also sends: our installation's id, and a leg that is unknown here."""
        if payment in self.bank.payments:
            amount = int(self.bank.room(payment) * part)
            why = "refunded by an older database"
            self._refund_by_others(payment, amount, why, UNKNOWN_LEG, self._installation())

    def _act_refund_with_copied_marks(self, payment: str, part: float) -> None:
        """Refund another payment with the copied metadata of one of our legs."""
        marks = sorted(known for known, leg in self.watch.legs.items() if leg["processor_payment_id"] != payment)
        if payment in self.bank.payments and marks:
            mark, room = self.world.random.choice(marks), self.bank.room(payment)
            amount = self.world.random.choice((int(room * part), min(room, self.watch.legs[mark]["amount_minor"])))
            self._refund_by_others(payment, amount, "our marks copied", mark, self._installation())

    def _installation(self) -> str:
        return str(self.watch.rows("SELECT installation_id FROM installation")[0]["installation_id"])

    def _refund_by_others(
        self, payment: str, amount: int, why: str, mark: str | None = None, installation: str | None = None
    ) -> None:
        if payment in self.bank.payments and 0 < amount <= self.bank.room(payment):
            self.faults.count(why)
            self.bank.add(payment, amount, None, None, installation or ("inst_other" if mark else None), mark)

    def _act_dispute(self, payment: str, part: float) -> None:
        if payment in self.bank.payments:
            self.faults.count("disputed")
            self.bank.payments[payment].disputed = True

    def _act_seal(self) -> None:
        self.client("auditor", lambda context: hash_chain.Sealer().seal(context))

    def _act_look_at_the_list(self) -> None:
        self._look_at_the_list(0)

    def _act_clock_jump(self, seconds: float) -> None:
        self.faults.count("clock jump")
        self.world.clock_offset += seconds
        self.sweep_at = None
        self._plan_sweep(0.0)
        # The next run of the scheduler's periodic job.
        self.world.after(
            self.world.random.uniform(0, 60), lambda: self.client("clock", clock_rollback.handle_clock_rollback)
        )
