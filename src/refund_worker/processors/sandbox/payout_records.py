"""Transfers to connected accounts, their reversals, payouts to banks, and the facts about an account that they need."""

from __future__ import annotations

from dataclasses import dataclass, field

from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.records import Ordered

# A payout in one of these states has its money back on the account that it came from.
RETURNED_STATUSES = frozenset({"failed", "canceled"})
PAID, IN_TRANSIT, PENDING = "paid", "in_transit", "pending"


@dataclass(slots=True)
class Moved:
    """A transfer, a reversal or a payout as Stripe shows it, its key, and its place in the order of creation.

    `reversals` are those of a transfer.
    """

    object: JsonObject
    idempotency_key: str | None
    sequence: int
    reversals: Ordered[Moved] = field(default_factory=Ordered)

    @property
    def id(self) -> str:
        """The object's id."""
        object_id: str = self.object["id"]
        return object_id

    @property
    def created(self) -> int:
        """When it was created, in epoch seconds."""
        second: int = self.object["created"]
        return second


@dataclass(slots=True)
class Profile:
    """The facts about a connected account that decide if it can be paid. A new account lacks nothing.

    `transfers` is the state of its capability: active, inactive or pending. `currency` is the only one in which its
    bank account can be paid, None for all. `instant`: its bank takes instant payouts. The bank account is the `banks`th
    one of the account. `transfer_delay_seconds` is how long money of a transfer is pending there.
    """

    payouts_enabled: bool = True
    transfers: str = "active"
    country: str = "US"
    currency: str | None = None
    instant: bool = True
    transfer_delay_seconds: int = 0
    disabled_reason: str | None = None
    currently_due: list[str] = field(default_factory=list)
    past_due: list[str] = field(default_factory=list)
    pending_verification: list[str] = field(default_factory=list)
    current_deadline: int | None = None
    banks: int = 1
    bank_status: str = "new"
