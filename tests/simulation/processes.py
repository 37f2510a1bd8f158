"""The processes of one schedule: clients, workers, the broker's messages, the sweep, and the deliverer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from refund_worker.domain.limits import Limits
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.engine.refunds import process as refund_process
from refund_worker.errors import LostRace, Unavailable
from tests.simulation.kernel import Died, Loop, Process, Violation
from tests.simulation.plan import HOUR
from tests.simulation.wiring import Wiring

NEWSREADER = "newsreader"
NEWS_SECONDS = 600


class Processes:
    """Starts each process, and plans the sweep and the deliveries after each commit."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.world, self.plan, self.faults = wiring.world, wiring.plan, wiring.faults
        self.watch, self.receiver = wiring.watch, wiring.receiver
        wiring.gate.on_commit = self.committed
        self.ids = 0
        self.at_work = 0
        self.queue: deque[tuple[Callable[[Context], object], str]] = deque()
        self.sweep_at: float | None = None
        self.deliver_at: float | None = None
        self.news_at: float | None = None

    def context(self, process: Process) -> Context:
        """Return the engine's context for this process."""
        world = self.world

        rules = self.plan.policy.processors
        process.off = frozenset(name for name in rules if not rules[name].refunds_on)

        def new_id(prefix: str) -> str:
            self.ids += 1
            made = f"{prefix}_{self.ids:06d}"
            if prefix == "lease":
                process.token, process.intent = made, "claim"
            return made

        return Context(
            database=self.wiring.database,
            processors=self.wiring.processors,
            accounts=self.wiring.accounts,
            policy=self.plan.policy,
            limits=Limits(approval_threshold_minor=self.plan.threshold, velocity_count=self.plan.velocity_count),
            notify=self.plan.notify,
            run=lambda calls: Loop(world).run(calls),
            publish=self._publish,
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
        healing = self.wiring.healing  # a try that began before may have met a fault, however late it ends

        def done(finished: bool) -> None:
            if not finished and tries > 1:
                wait = self.world.random.choice((0.1, 1, 5, 60, 600))
                self.world.after(wait, lambda: self.client(name, work, tries - 1))
            elif not finished and not healing:
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
            if name == NEWSREADER:
                self._plan_news()
            if self.queue:
                self.worker(*self.queue.popleft())
            self.plan_sweep(0.0 if finished else 1.0)

        self.process(name, work, done)

    def read_news(self) -> None:
        """Process the stored webhook events."""
        self.news_at = None
        self.worker(webhook_inbox.process_inbox, NEWSREADER)

    def _plan_news(self) -> None:
        """Schedule the next reading of the events that still wait. In production the scheduler does it more often."""
        if self.news_at is not None:
            return
        sql = "SELECT min(received_at + tries * tries * ?) FROM inbox WHERE taken_at IS NULL"
        due: float | None = self.wiring.connection.raw(sql, (self.plan.policy.retry_base_seconds,)).fetchone()[0]
        if due is None:
            return
        self.news_at = at = max(due - self.world.clock_offset, self.world.now + NEWS_SECONDS)
        self.world.at(at, lambda: self.read_news() if self.news_at == at else None)

    def _publish(self, refund_ids: Sequence[str], bulk: bool) -> None:
        process = self.world.running
        assert process is not None
        if process.dead:
            raise Died
        if not self.plan.broker:
            return
        self.die_if("die before the message")
        self.world.note("MESSAGE", *refund_ids)
        if self.faults.strikes("message lost"):
            return
        ids = list(refund_ids)
        for _ in range(2 if self.faults.strikes("message twice") else 1):
            late = self.world.random.uniform(1, 2 * HOUR) if self.faults.strikes("message late") else 0.01
            self.world.after(
                late, lambda: self.worker(lambda context: refund_process.process_due(context, ids, bulk=bulk))
            )
        self.die_if("die after the message")

    def die_if(self, name: str) -> None:
        """Let the running process die if this fault strikes."""
        process = self.world.running
        if process is not None and self.faults.strikes(name):
            process.dead = True
            raise Died

    def committed(self, changes: int) -> None:
        """Check what a commit changed, and plan what is due after it."""
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
        self.plan_sweep(0.0)
        self._plan_delivery()

    def _plan_delivery(self) -> None:
        """Schedule the delivery of due notifications, one round at a time."""
        if self.receiver is None or self.deliver_at is not None:
            return
        due: float | None = self.wiring.connection.raw("SELECT min(next_at) FROM outbox").fetchone()[0]
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

    def plan_sweep(self, pause: float) -> None:
        """Schedule the sweep for when the next row is due, so that virtual time jumps there."""
        due = self.watch.next_due
        if due is None:
            return
        at = max(due - self.world.clock_offset, self.world.now + pause) + 0.01
        if self.sweep_at is not None and self.sweep_at <= at:
            return
        self.sweep_at = at
        self.world.at(at, lambda: self._sweep(at))

    def plan_sweep_again(self) -> None:
        """Forget the planned sweep, because the clock has jumped, and plan another."""
        self.sweep_at = None
        self.plan_sweep(0.0)

    def _sweep(self, planned: float) -> None:
        if self.sweep_at != planned:
            return  # an earlier sweep replaced this one
        self.sweep_at = None
        self.worker(refund_process.process_due)
