"""The ports of one schedule: everything that its processes and its people share."""

from __future__ import annotations

from functools import partial

from refund_worker.processors.accounts import Accounts, default_accounts
from refund_worker.processors.base import Processor
from refund_worker.processors.manual import ManualProcessor
from tests.simulation.allowed_changes import ENDS
from tests.simulation.bank import Bank
from tests.simulation.bank_records import SILENT, VOID, BankRefund
from tests.simulation.database import simulated_database
from tests.simulation.faults import Faults, draw_rates
from tests.simulation.kernel import Violation, World
from tests.simulation.observer import Watch
from tests.simulation.plan import DAY, START, Plan, compose
from tests.simulation.receiver import SimulatedDeliverer
from tests.simulation.second_account import add_second_account
from tests.simulation.send_checks import check_calling, check_sending
from tests.simulation.silent_bank import SilentBank, silent_bank
from tests.simulation.silent_processor import SilentProcessor, silent_account
from tests.simulation.simulated_processor import SimulatedProcessor
from tests.simulation.statement_gate import FaultyGate

# After the faults and the processor's last change: polling waits at most a day, a quiet window is a quarter of one.
IN_TIME_SECONDS = 3 * DAY


class Wiring:
    """The world of one seed, its plan, the engine's faulty ports, and the watch over what the engine does with them."""

    watch_type: type[Watch] = Watch

    def __init__(self, seed: int, plan: Plan | None = None, faults: type[Faults] = Faults) -> None:
        self.world = world = World(seed, START)
        self.plan: Plan = plan or compose(world.random)
        if plan is None:
            add_second_account(self.plan, seed)
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
        self.watch = self.watch_type(world, self.bank, self.connection, plan.policy, plan.threshold)
        self.watch.velocity_count = plan.velocity_count
        self.bank.on_call = partial(check_calling, self.watch)
        self.bank.on_send = partial(check_sending, self.watch)
        if not plan.very_late:  # an effect after days contradicts the person who abandoned the leg
            self.bank.on_created = self.watch.created
        self.gate = FaultyGate(world, self.faults, plan.database_outages)
        self.connection.gate = self.gate
        self.processors: dict[str, Processor] = {"stripe": SimulatedProcessor(self.bank), "manual": ManualProcessor()}
        self.accounts = default_accounts()
        self.silent = self._second_account()
        self.receiver = SimulatedDeliverer(self.faults) if plan.notify else None
        self.healing = False

    def _second_account(self) -> SilentBank | None:
        """Wire the silent processor, if this schedule has one. It shares the rows of the other bank, and the watch."""
        second = self.plan.second
        if second is None:
            return None
        self.faults.rates.update(second.rates)
        bank = silent_bank(self.bank, second.rules)
        bank.outages, bank.denials = second.outages, second.denials
        bank.on_call, bank.on_send, bank.on_created = self.bank.on_call, self.bank.on_send, self.bank.on_created
        self.processors[SILENT] = SilentProcessor(bank)
        self.accounts = Accounts({**self.accounts, SILENT: silent_account(second.rules)})
        self.watch.silent = second.rules
        self.watch.captured = {payment.payment_id: payment.captured_at for payment in self.plan.payments}
        return bank

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
        moving = [item for item in self.bank.refund_objects if self._is_moving(item, since)]
        linked = self.watch.legs_of_objects()
        legs = {leg_id for item in moving if (leg_id := item.leg_id or linked.get(item.id))}
        busy = {self.watch.legs[leg_id]["refund_id"] for leg_id in legs}
        for refund_id, refund in self.watch.refunds.items():
            done = refund["status"] in ("needs_attention", "awaiting_approval", *ENDS)
            if not done and refund_id not in busy and self.watch.seen_since[refund_id] <= since:
                raise Violation(f"L1 {refund_id} is still {refund['status']} days after anything happened to it")

    def _is_moving(self, item: BankRefund, since: float) -> bool:
        """Return True if the object changes, or if an event about it was not overdue at `since`."""
        if item.said_at > since or item.status not in ("succeeded", *VOID):
            return True
        if item.account != SILENT or self.silent is None or item.told == item.status:
            return False
        last = self.bank.sent[f"{item.leg_id}:{item.attempt}"][-1].at
        return last + self.silent.report_seconds > since
