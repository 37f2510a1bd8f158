"""The rows of the simulated processor's book, and its times.

Times are true time, not the database's clock. Late effects have bounds: `LATE_SECONDS_MAX` after the call, and
`LAG_SECONDS_MAX` until lists show them. Together they stay below the quiet window. This is the engine's one
assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

from refund_worker.domain.processor_replies import Reply

HOUR, DAY = 3_600.0, 86_400.0
KEY_SECONDS = 24 * HOUR
LATE_SECONDS_MAX = 4.9 * HOUR
LAG_SECONDS_MAX = 1 * HOUR
VOID = ("failed", "canceled")
STRIPE, SILENT = "stripe", "silent"


@dataclass(slots=True)
class BankRefund:
    """A refund object with its statuses over time. The last one is the current status."""

    id: str
    payment: str
    amount: int
    currency: str
    leg_id: str | None  # the true leg, or None if others made the refund
    attempt: int | None
    created: float
    listed_from: float
    words: list[str | None]
    said_at: float  # the time of the last status
    failure: str | None = None
    mark: str | None = None  # the leg in its metadata, which any user of the account can edit
    installation: str | None = None
    account: str = STRIPE
    told: str | None = None  # at the silent processor: the last status that an event has brought here

    @property
    def status(self) -> str | None:
        """The current status."""
        return self.words[-1]

    @property
    def is_void(self) -> bool:
        """True if the refund moved no money."""
        return self.status in VOID


@dataclass(frozen=True, slots=True)
class SilentRules:
    """What the silent processor allows in one schedule. All figures are in seconds.

    `late_seconds_max` is the bound of its late effects, below its quiet window.
    """

    key_seconds: float
    key_use_seconds: float
    quiet_seconds: float
    late_seconds_max: float
    report_seconds: float
    window_seconds: float | None = None
    partial_refunds: bool = True


@dataclass(slots=True)
class KeyRecord:
    """The request and the answer stored under an idempotency key."""

    body: str
    reply: Reply | None  # is None while the first call is running
    until: float


@dataclass(slots=True)
class Payment:
    """A payment at the processor; `amount` is in minor units."""

    amount: int
    currency: str
    disputed: bool = False
    was_disputed: bool = False
    declines: str | None = None


@dataclass(slots=True)
class BankDispute:
    """A dispute in the bank's book; `amount` is in minor units. `returned`: its money was reinstated after a loss."""

    id: str
    payment: str
    amount: int
    currency: str
    created: float
    status: str = "needs_response"
    returned: bool = False

    @property
    def takes_money(self) -> bool:
        """Return True while the bank has the money of the dispute, and refuses refunds of its payment."""
        return self.status in ("needs_response", "under_review") or (self.status == "lost" and not self.returned)


@dataclass(frozen=True, slots=True)
class Listing:
    """The content of a payment's list when it was last read: the time, and the refunds that others had made by then."""

    at: float
    others: frozenset[str]


@dataclass(slots=True)
class Sent:
    """One call with a key: its true time, and the answer that really reached the sender, if any."""

    at: float
    told: Reply | None = None
