"""The silent processor: an answer to a send is never the outcome, nothing can be asked, and only events tell more.

Its book shares the rows of the other bank, so that every check counts both. Its keys, its times and its outages are its
own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from refund_worker.domain.processor_replies import Answered, Denied, RefundObject, Reply, UnknownRefusal
from tests.simulation.bank import Bank
from tests.simulation.bank_records import DAY, HOUR, SILENT, VOID, BankRefund, Payment, SilentRules
from tests.simulation.lives import Life

# Only the send itself may be slow for so long: the rest of a late effect's bound is for its way.
WAY_SHARE = 0.9
# Seconds from the end of a key's use to the end of an outage.
EDGES = (-HOUR, -60, -1, 0, 1, 60, HOUR)


@dataclass(slots=True)
class SilentBank(Bank):
    """The silent processor's rules over the rows that it shares with the other bank."""

    key_use_seconds: float = 6 * DAY
    report_seconds: float = 5 * DAY
    tells_no_sooner_than: float = 1.0  # seconds after the send

    def new_id(self) -> str:
        """Return the id of the next refund object."""
        return f"si_{len(self.refund_objects) + 1}"

    def create(self, order: dict[str, Any]) -> Reply:
        """Take the order. Even what will be refused is pending at first."""
        if self.faults.strikes("refusal of an unknown code"):
            return UnknownRefusal("905_1", "not in this country")
        if self.faults.strikes("our set-up refused"):
            return Denied("901", "Invalid account", maybe_kept=True)
        self.payments.setdefault(order["payment"], Payment(0, order["currency"]))  # an unknown one has no money
        refund_object = self.add(
            order["payment"], order["amount"], order["leg"], order["attempt"], order["installation"]
        )
        return Answered(self.describe(refund_object))

    def describe(self, refund_object: BankRefund) -> RefundObject:
        """Return the refund object as an answer shows it: as received."""
        return self.describe_as(refund_object, "pending")

    def describe_as(self, refund_object: BankRefund, word: str | None) -> RefundObject:
        """Return the refund object as it was with this status."""
        failure = refund_object.failure if word in VOID else None
        return replace(Bank.describe(self, refund_object), status=word, failure_code=failure, live=None)

    def life(self, payment: str, amount: int) -> Life:
        """Return the statuses of a new object: received, then paid or refused, and perhaps returned weeks later."""
        strikes, random, its = self.faults.strikes, self.world.random, self.payments[payment]
        soon = random.uniform(1, random.choice((20, 60, HOUR, 2 * DAY, 1.3 * self.report_seconds)))
        soon = max(soon, self.tells_no_sooner_than)
        life: Life = [(0, "pending", None)]
        if amount > self.room(payment):
            return [*life, (soon, "failed", "insufficient_payment")]
        if its.declines or strikes("declined"):
            its.declines = "refused_by_bank"
            return [*life, (soon, "failed", its.declines)]
        if strikes("balance empty, told by the object"):
            return [*life, (soon, "failed", "insufficient_funds")]
        if strikes("failed at once") or strikes("pending, then failed"):
            return [*life, (soon, "failed", "account_closed")]
        life.append((soon, "succeeded", None))
        if strikes("failed later"):
            life.append(
                (random.uniform(self.fails_no_sooner_than, random.choice((HOUR, 30 * DAY))), "failed", "returned")
            )
        return life

    def fall_silent(self) -> None:
        """Start an outage at a first send that ends about when its key is not used any more."""
        if self.outages or not self.faults.strikes("silent to the key's edge"):
            return
        edge = min(self.key_use_seconds, self.key_seconds - self.late_seconds_max)
        random = self.world.random
        self.outages.append((self.world.now + random.choice((0, 0.2)), self.world.now + edge + random.choice(EDGES)))

    def seconds_there(self) -> float:
        """Return how long a request is under way: it must arrive within the account's own quiet window."""
        return min(Bank.seconds_there(self), WAY_SHARE * self.late_seconds_max)


def silent_bank(beside: Bank, rules: SilentRules) -> SilentBank:
    """Return the silent processor, whose book shares the rows of the other bank."""
    return SilentBank(
        **beside.shared_book(),
        account=SILENT,
        key_seconds=rules.key_seconds,
        key_use_seconds=rules.key_use_seconds,
        late_seconds_max=rules.late_seconds_max,
        report_seconds=rules.report_seconds,
    )
