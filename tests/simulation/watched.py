"""The observer's copies of all rows, and the facts that its checks have noted from commit to commit."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from refund_worker.domain.decision import Policy
from tests.simulation.bank import Bank
from tests.simulation.bank_records import KEY_SECONDS, LATE_SECONDS_MAX, SILENT, SilentRules
from tests.simulation.database import GatedConnection
from tests.simulation.kernel import World

Row = dict[str, Any]


@dataclass(slots=True)
class Watched:
    """The rows as the last commit left them, and the events, acts and times noted since the beginning."""

    world: World
    bank: Bank
    connection: GatedConnection
    policy: Policy
    threshold: int | None
    velocity_count: int | None = None
    calm_since: float | None = None  # faults have ended: loops are bounded from here on
    open: int = 0
    commits: int = 0
    refunds: dict[str, Row] = field(default_factory=dict)
    seen_since: dict[str, float] = field(default_factory=dict)
    legs: dict[str, Row] = field(default_factory=dict)
    objects: dict[str, str | None] = field(default_factory=dict)
    sums: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    entries: list[tuple[Any, ...]] = field(default_factory=list)
    transactions: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    paid: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    contradicted: set[str] = field(default_factory=set)
    approved_by: dict[str, str] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)  # legs, by a person
    returned_by_person: set[str] = field(default_factory=set)  # refunds whose credits a person gave back
    asked: dict[str, tuple[int, int]] = field(default_factory=dict)  # money and credits, by refund
    by_hand: set[str] = field(default_factory=set)  # legs that a person called paid
    paid_apart: set[str] = field(default_factory=set)  # legs that had ended unpaid when a person paid them by hand
    paid_in_doubt: set[str] = field(default_factory=set)  # legs that a person called paid while in doubt
    displaced: set[str] = field(default_factory=set)  # legs whose payment others took money of before they were sent
    linked: set[str] = field(default_factory=set)  # legs that a refund of others pays, as a person said
    with_links: set[str] = field(default_factory=set)  # the refunds of these legs
    records_outside: bool = False  # refunds of others are recorded as claims in this schedule
    # Refunds of others that a retry has accepted, by refund and payment.
    accepted_others: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    claimed_at: dict[str, float] = field(default_factory=dict)  # true time of the first commit with a claim, by object
    acted: set[str] = field(default_factory=set)  # persons who have acted
    on_doubt: Callable[[Row], None] = lambda _leg: None
    intents: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)  # true time, database's time
    claims: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))
    next_due: float | None = None
    silent: SilentRules | None = None  # the second account's, if this schedule has one
    captured: dict[str, float] = field(default_factory=dict)  # epoch seconds, by payment
    paused_since: dict[str, float] = field(default_factory=dict)  # true time, of the accounts that a person has paused

    def rows(self, sql: str, *parameters: object) -> list[Row]:
        """Return the rows of a query as dictionaries."""
        cursor = self.connection.raw(sql, parameters)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def legs_of_objects(self) -> dict[str, str]:
        """Return the leg of each refund object that we know as a leg's: its own, or one that a person linked to it."""
        return dict(self.connection.raw("SELECT processor_refund_id, leg_id FROM refund_objects"))

    def is_silent(self, leg: Row) -> bool:
        """Return True if the leg goes over the silent processor."""
        return bool(leg["processor"] == SILENT)

    def times_of(self, leg: Row) -> SilentRules:
        """Return the times of the leg's account, in seconds."""
        if self.silent is not None and self.is_silent(leg):
            return self.silent
        policy = self.policy
        return SilentRules(
            KEY_SECONDS, policy.key_life_seconds, policy.quiet_seconds, LATE_SECONDS_MAX, report_seconds=float("inf")
        )
