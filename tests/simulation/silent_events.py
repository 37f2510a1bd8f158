"""The events of the silent processor: each carries the object itself. They are lost, late, repeated or out of order."""

from __future__ import annotations

from tests.simulation.bank_records import DAY, HOUR, SILENT, VOID, BankRefund
from tests.simulation.kernel import Violation
from tests.simulation.silent_bank import SilentBank
from tests.simulation.silent_processor import KIND, event_body
from tests.simulation.webhooks import Webhooks
from tests.simulation.wiring import IN_TIME_SECONDS, Wiring

# With a person: the event that is missing, a call whose answer was never seen, or another refund with our mark.
WITH_A_PERSON = {"report_overdue", "outcome_unknown", "answer_mismatch"}


class SilentEvents:
    """Sends an event for each change of a refund object. What is lost is kept, and is sent again later."""

    def __init__(self, wiring: Wiring, bank: SilentBank, webhooks: Webhooks) -> None:
        self.wiring, self.bank, self.webhooks = wiring, bank, webhooks
        self.world, self.faults, self.watch = wiring.world, wiring.faults, wiring.watch
        self.never: set[str] = set()  # objects of which no event comes before people ask for it
        self.lost: list[tuple[BankRefund, str | None, str, str]] = []

    def tell(self, refund_object: BankRefund) -> None:
        """Send an event for the object's new status, unreliably."""
        if self.wiring.healing:
            self.world.after(IN_TIME_SECONDS, self.wiring.check_in_time)
            self.world.after(self.bank.report_seconds + IN_TIME_SECONDS, self.wiring.check_in_time)
        if refund_object.is_void and refund_object.leg_id and self.faults.strikes("asked again after failure"):
            self.webhooks.people.ask_again(refund_object.leg_id)
        word = refund_object.status
        event_id = f"evt_{refund_object.id}_{len(refund_object.words)}"
        event = refund_object, word, event_id, event_body(self.bank.describe_as(refund_object, word))
        if refund_object.id not in self.never and self.faults.strikes("event never comes"):
            self.never.add(refund_object.id)
        if refund_object.id in self.never or self.faults.strikes("webhook lost"):
            self.lost.append(event)
            return
        random = self.world.random
        first = self.faults.strikes("webhook before the answer")
        if first:
            self.bank.answers_held_until = self.world.now + random.uniform(2, 20)
        for _ in range(3 if self.faults.strikes("webhook three times") else 1):
            late = 0.0 if first else random.uniform(0, 2)
            if self.faults.strikes("webhook late") or self.faults.strikes("webhook overtaken"):
                late = random.uniform(60, random.choice((HOUR, 3 * DAY)))
            self._send(event, late)

    def _send(self, event: tuple[BankRefund, str | None, str, str], late: float) -> None:
        refund_object, word, event_id, body = event

        def arrive() -> None:
            refund_object.told = word if refund_object.told not in VOID else refund_object.told
            self.webhooks.deliver(event_id, body, KIND, SILENT)

        self.world.after(late, arrive)

    def send_what_was_lost(self) -> None:
        """Send again what was lost by the way, as processors do. What never comes by itself stays away."""
        for event in [event for event in self.lost if event[0].id not in self.never]:
            self.lost.remove(event)
            self._send(event, self.world.random.uniform(0, 2 * DAY))

    def send_what_people_ask_for(self) -> None:
        """Send the rest: people who were shown a missing event asked the processor for it. Check that they were."""
        for refund_object in {event[0].id: event[0] for event in self.lost}.values():
            self._check_shown(refund_object)
        self.never.clear()
        self.send_what_was_lost()

    def _check_shown(self, refund_object: BankRefund) -> None:
        """Check L1: a refund about which no event came is with a person, unless a person has ended it."""
        leg = self.watch.legs[refund_object.leg_id or ""]
        is_open = leg["status"] not in ("succeeded", "failed", "canceled")
        if is_open and leg["attention"] not in WITH_A_PERSON:
            raise Violation(f"L1 no event came about {refund_object.id}, and {leg['leg_id']} is not with a person")
