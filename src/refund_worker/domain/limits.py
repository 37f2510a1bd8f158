"""Limits, pure: who needs a second person, and who asks too much too fast. Kept by sums over a window of time.

The window's total decides, not the single amount: splitting a refund into small ones changes nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from refund_worker.domain.refund import Refund
from refund_worker.errors import VelocityExceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """None is no limit; amounts in minor units of each currency for itself, the window in seconds."""

    approval_threshold_minor: int | None = None
    velocity_count: int | None = None
    velocity_amount_minor: int | None = None
    window_seconds: float = 86_400

    @property
    def any(self) -> bool:
        return self.approval_threshold_minor is not None or self.velocity

    @property
    def velocity(self) -> bool:
        return self.velocity_count is not None or self.velocity_amount_minor is not None


# Of whom a sum is: ("actor" | "customer" | "payment", its id).
Subject = tuple[str, str]


@dataclass(slots=True)
class Usage:
    """What was asked for in the window, and is asked for in the batch at hand."""

    money: Counter[tuple[Subject, str]] = field(default_factory=Counter)
    requests: Counter[Subject] = field(default_factory=Counter)
    oldest: dict[Subject, float] = field(default_factory=dict)  # when the first of them was asked for

    def add(self, refund: Refund) -> None:
        """Count this refund too."""
        for subject, currency, amount in _money(refund):
            self.money[subject, currency] += amount
        self.requests.update(_subjects(refund))
        for subject in _subjects(refund):
            self.oldest.setdefault(subject, refund.created_at)

    def add_all(self, other: Usage) -> None:
        """Count what another has counted, too."""
        self.money.update(other.money)
        self.requests.update(other.requests)
        self.oldest.update(other.oldest)


def check_velocity(refund: Refund, usage: Usage, limits: Limits) -> None:
    """Raises `VelocityExceeded` where this refund, with what `usage` has without it, is above a limit."""
    for subject in _subjects(refund):
        if limits.velocity_count is not None and usage.requests[subject] + 1 > limits.velocity_count:
            raise _exceeded(f"{limits.velocity_count} refunds", subject, refund, usage, limits)
    for (subject, currency), amount in _totals(refund, usage).items():
        if limits.velocity_amount_minor is not None and amount > limits.velocity_amount_minor:
            most = f"{limits.velocity_amount_minor} {currency} (minor units)"
            raise _exceeded(most, subject, refund, usage, limits)


def _exceeded(most: str, subject: Subject, refund: Refund, usage: Usage, limits: Limits) -> VelocityExceeded:
    """Where nothing is counted yet, the refund alone is too much: no wait helps, and the whole window is said."""
    passes_at = usage.oldest.get(subject, refund.created_at) + limits.window_seconds
    wait = min(max(1, math.ceil(passes_at - refund.created_at)), math.ceil(limits.window_seconds))
    return VelocityExceeded(f"{_named(subject)}: more than {most} in the window", retry_after_seconds=wait)


def needs_approval(refund: Refund, usage: Usage, limits: Limits) -> bool:
    """Whether a second person must approve: the total of the customer or of a payment is above the threshold."""
    threshold = limits.approval_threshold_minor
    if threshold is None:
        return False
    totals = _totals(refund, usage)
    return any(amount > threshold for (subject, _), amount in totals.items() if subject[0] != "actor")


def _totals(refund: Refund, usage: Usage) -> Counter[tuple[Subject, str]]:
    asked: Counter[tuple[Subject, str]] = Counter()
    for subject, currency, amount in _money(refund):
        asked[subject, currency] += amount
    return Counter({key: amount + usage.money[key] for key, amount in asked.items()})


def _money(refund: Refund) -> Iterator[tuple[Subject, str, int]]:
    for leg in refund.legs:
        for subject in (
            ("actor", refund.requested_by),
            ("customer", refund.customer_id),
            ("payment", leg.payment_id),
        ):
            yield subject, leg.currency, leg.amount_minor


def _subjects(refund: Refund) -> list[Subject]:
    payments = {("payment", leg.payment_id) for leg in refund.legs}
    return [("actor", refund.requested_by), ("customer", refund.customer_id), *sorted(payments)]


def _named(subject: Subject) -> str:
    return f"{subject[0]} {subject[1]}"
