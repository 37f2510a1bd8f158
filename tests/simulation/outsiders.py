"""Acts at the processor that bypass this program: refunds by others, and disputes."""

from __future__ import annotations

from functools import partial

from tests.simulation.plan import HOUR
from tests.simulation.watched import Row
from tests.simulation.wiring import Wiring

UNKNOWN_LEG = "rf_999999-1"  # no schedule makes so many ids
# The later states of a dispute.
COURSES = (["lost"], ["won"], ["under_review", "lost"], ["under_review", "won"], ["prevented"], ["lost", "reinstated"])


class Outsiders:
    """Operators in the processor's dashboard, other installations, older databases, and customers who dispute."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.world, self.faults = wiring.world, wiring.faults
        self.bank, self.watch = wiring.bank, wiring.watch

    def somebody_pays(self, leg: Row) -> None:
        """Let an operator who sees an uncertain leg pay it in the dashboard."""
        if self.wiring.healing or leg["processor"] != "stripe":
            return
        random, payment = self.world.random, leg["processor_payment_id"]
        if self.faults.strikes("refunded by hand while in doubt"):
            amount = random.choice((leg["amount_minor"], leg["amount_minor"], 1))
            after = random.choice((1, 30, HOUR, 8 * HOUR)) * random.random()
            self.world.after(after, lambda: self._refund_by_others(payment, amount, "refunded elsewhere"))

    def act_refund_elsewhere(self, payment: str, part: float) -> None:
        """Refund a part of the payment in the dashboard."""
        if payment in self.bank.payments:
            self._refund_by_others(payment, int(self.bank.room(payment) * part), "refunded elsewhere")

    def act_refund_by_another_installation(self, payment: str, part: float) -> None:
        """Refund with metadata that look like ours. Even the leg's name can be one of ours."""
        if payment in self.bank.payments:
            ours = sorted(self.watch.legs)
            mark = ours[0] if ours and self.world.random.random() < 0.5 else UNKNOWN_LEG
            amount = int(self.bank.room(payment) * part)
            self._refund_by_others(payment, amount, "refunded by another installation", mark)

    def act_refund_by_an_older_database(self, payment: str, part: float) -> None:
        """Refund as a copy of our database that also sends: our installation's id, and a leg that is unknown here."""
        if payment in self.bank.payments:
            amount = int(self.bank.room(payment) * part)
            why = "refunded by an older database"
            self._refund_by_others(payment, amount, why, UNKNOWN_LEG, self.wiring.installation())

    def act_refund_with_copied_marks(self, payment: str, part: float) -> None:
        """Refund another payment with the copied metadata of one of our legs."""
        marks = sorted(known for known, leg in self.watch.legs.items() if leg["processor_payment_id"] != payment)
        if payment in self.bank.payments and marks:
            mark, room = self.world.random.choice(marks), self.bank.room(payment)
            amount = self.world.random.choice((int(room * part), min(room, self.watch.legs[mark]["amount_minor"])))
            self._refund_by_others(payment, amount, "our marks copied", mark, self.wiring.installation())

    def _refund_by_others(
        self, payment: str, amount: int, why: str, mark: str | None = None, installation: str | None = None
    ) -> None:
        if payment in self.bank.payments and 0 < amount <= self.bank.room(payment):
            self.faults.count(why)
            self.bank.add(payment, amount, None, None, installation or ("inst_other" if mark else None), mark)

    def act_lost_dispute(self, payment: str, part: float, after: float) -> None:
        """Dispute the payment, and decide against us this many seconds later."""
        dispute = self.bank.open_dispute(payment, int(self.bank.payments[payment].amount * part), "needs_response")
        self.world.after(after, partial(self.bank.dispute_becomes, dispute, "lost"))

    def act_dispute(self, payment: str, part: float) -> None:
        """Dispute the payment, perhaps after an inquiry: it is won or lost, or the money comes back after a loss."""
        if payment not in self.bank.payments:
            return
        self.faults.count("disputed")
        random, bank = self.world.random, self.bank
        amount = max(1, int(bank.payments[payment].amount * part))
        course = random.choice(COURSES)
        first = "needs_response"
        if random.random() < 0.2:
            first, course = "warning_needs_response", random.choice((["warning_closed"], ["needs_response", *course]))
        dispute = bank.open_dispute(payment, amount, first)
        at = self.world.now
        for status in course:
            at += random.uniform(1, random.choice((60, HOUR, 20 * 24 * HOUR)))
            word, returned = ("lost", True) if status == "reinstated" else (status, False)
            self.world.at(at, partial(bank.dispute_becomes, dispute, word, returned=returned))
