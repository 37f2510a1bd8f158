"""The webhook events of the simulated processor: lost, late, repeated, overtaken, or of refunds that are not ours."""

from __future__ import annotations

import json

from refund_worker.engine.context import Context
from refund_worker.store import inbox
from tests.simulation.bank_records import STRIPE, BankDispute, BankRefund
from tests.simulation.people import People
from tests.simulation.plan import DAY, HOUR
from tests.simulation.processes import Processes
from tests.simulation.wiring import IN_TIME_SECONDS, Wiring


class Webhooks:
    """Sends an event for each change of a refund object, unreliably."""

    def __init__(self, wiring: Wiring, processes: Processes, people: People) -> None:
        self.wiring, self.processes, self.people = wiring, processes, people
        self.world, self.plan, self.faults = wiring.world, wiring.plan, wiring.faults
        self.bank, self.watch = wiring.bank, wiring.watch
        self.overtaken: dict[str, tuple[str, str]] = {}
        self.told_disputes = 0
        self.foreign: list[str] = []  # events of refunds that are not ours

    def tell(self, refund_object: BankRefund) -> None:
        """Send a webhook for the change, unreliably. While healing, also schedule the daily listing."""
        if self.wiring.healing:
            self.people.look_at_the_list(2 * HOUR)
            self.world.after(IN_TIME_SECONDS, self.wiring.check_in_time)
        self._edit_marks(refund_object)
        if refund_object.is_void and refund_object.leg_id and self.faults.strikes("asked again after failure"):
            self.people.ask_again(refund_object.leg_id)
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
            self.world.after(late, lambda: self.deliver(event_id, body))
        self.world.after(3, lambda: self._send_overtaken(refund_object.id))

    def tell_dispute(self, dispute: BankDispute) -> None:
        """Send a webhook for the change of a dispute, unreliably."""
        if self.wiring.healing:
            self.people.look_at_the_list(2 * HOUR)
        if not self.plan.webhooks or self.faults.strikes("webhook lost"):
            return
        self.told_disputes += 1
        event_id = f"evt_{dispute.id}_{self.told_disputes}"
        body = json.dumps({"data": {"object": {"object": "dispute", "id": dispute.id, "charge": dispute.payment}}})
        for _ in range(3 if self.faults.strikes("webhook three times") else 1):
            random = self.world.random
            late = random.uniform(HOUR, 3 * DAY) if self.faults.strikes("webhook late") else random.uniform(0, 2)
            self.world.after(late, lambda: self.deliver(event_id, body, "charge.dispute.updated"))

    def _edit_marks(self, refund_object: BankRefund) -> None:
        """Remove our metadata from an object.

        Only from an object that our records know by id: otherwise its leg is unknowable.
        """
        if refund_object.leg_id and refund_object.id in self.watch.objects and self.faults.strikes("marks edited away"):
            self.world.note("MARKS", refund_object.id)
            refund_object.mark = refund_object.installation = None

    def _send_overtaken(self, thing_id: str) -> None:
        if thing_id in self.overtaken:
            self.deliver(*self.overtaken.pop(thing_id))

    def deliver(self, event_id: str, body: str, kind: str = "refund.updated", account: str = STRIPE) -> None:
        """Deliver the event until it is stored and answered."""

        def receive(context: Context) -> None:
            with context.database.write() as connection:
                now = context.clock(connection)
                inbox.insert_event(connection, account, event_id, kind, body, now)
            self.processes.die_if("webhook handler dies")
            self.world.after(0, self.processes.read_news)

        self.processes.client("receiver", receive)
