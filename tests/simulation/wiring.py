"""The ports of one schedule: everything that its processes and its people share."""

from __future__ import annotations

from functools import partial

from refund_worker.processors.manual import ManualProcessor
from tests.simulation.allowed_changes import ENDS
from tests.simulation.bank import Bank
from tests.simulation.bank_records import VOID
from tests.simulation.database import simulated_database
from tests.simulation.faults import Faults, draw_rates
from tests.simulation.kernel import Violation, World
from tests.simulation.observer import Watch
from tests.simulation.plan import DAY, START, Plan, compose
from tests.simulation.receiver import SimulatedDeliverer
from tests.simulation.send_checks import check_calling, check_sending
from tests.simulation.simulated_processor import SimulatedProcessor
from tests.simulation.statement_gate import FaultyGate

# After the faults and the processor's last change: polling waits at most a day, a quiet window is a quarter of one.
IN_TIME_SECONDS = 3 * DAY


class Wiring:
    """The world of one seed, its plan, the engine's faulty ports, and the watch over what the engine does with them."""

    def __init__(self, seed: int, plan: Plan | None = None, faults: type[Faults] = Faults) -> None:
        self.world = world = World(seed, START)
        self.plan: Plan = plan or compose(world.random)
        store = simulated_database()
        store.fresh()
        self.database, self.connection = store.database, store.connection
        self.faults = faults(world, draw_rates(world), lambda: self.watch.open > 0)
        plan = self.plan
        self.bank = Bank(world, self.faults, outages=plan.outages, denials=plan.denials, empty=plan.empty)
        self.bank.very_late = plan.very_late
        if plan.very_late:
            self.faults.rates["effect later"] = 0.5
        self.bank.recorded_wrong = set(plan.recorded_wrong)
        self.bank.unreadable = plan.unreadable
        self.watch = Watch(world, self.bank, self.connection, plan.policy, plan.threshold)
        self.watch.velocity_count = plan.velocity_count
        self.bank.on_call = partial(check_calling, self.watch)
        self.bank.on_send = partial(check_sending, self.watch)
        if not plan.very_late:  # an effect after days contradicts the person who abandoned the leg
            self.bank.on_created = self.watch.created
        self.gate = FaultyGate(world, self.faults, plan.database_outages)
        self.connection.gate = self.gate
        self.processors = {"stripe": SimulatedProcessor(self.bank), "manual": ManualProcessor()}
        self.receiver = SimulatedDeliverer(self.faults) if plan.notify else None
        self.healing = False

    def close(self) -> None:
        """Kill all processes and release the database."""
        self.connection.gate = None
        self.world.kill_all()
        self.connection.rollback()

    def installation(self) -> str:
        """Return the id of our installation."""
        return str(self.watch.rows("SELECT installation_id FROM installation")[0]["installation_id"])

    def check_in_time(self) -> None:
        """Check L1: no refund is in progress days after the last fault and the processor's last change."""
        since = self.world.now - IN_TIME_SECONDS
        moving = [
            item for item in self.bank.refund_objects if item.said_at > since or item.status not in ("succeeded", *VOID)
        ]
        linked = self.watch.legs_of_objects()
        legs = {leg_id for item in moving if (leg_id := item.leg_id or linked.get(item.id))}
        busy = {self.watch.legs[leg_id]["refund_id"] for leg_id in legs}
        for refund_id, refund in self.watch.refunds.items():
            done = refund["status"] in ("needs_attention", "awaiting_approval", *ENDS)
            if not done and refund_id not in busy and self.watch.seen_since[refund_id] <= since:
                raise Violation(f"L1 {refund_id} is still {refund['status']} days after anything happened to it")
