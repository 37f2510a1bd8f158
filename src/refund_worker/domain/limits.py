"""Limits on refunds and payouts: which need a second person, and which come too often or are too much.

The total of a time window decides, not the single amount: splitting a refund into small ones changes nothing.
These are pure functions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from refund_worker.domain.payouts.payout import Payout
from refund_worker.domain.refund import Refund
from refund_worker.errors import Quota, VelocityExceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that are set; a limit of None does not apply.

    Amounts are in minor units and apply to each currency separately. The window is in seconds.
    """

    approval_threshold_minor: int | None = None
    velocity_count: int | None = None
    velocity_amount_minor: int | None = None
    window_seconds: float = 86_400

    @property
    def any(self) -> bool:
        """Return True if any limit is set."""
        return self.approval_threshold_minor is not None or self.velocity

    @property
    def velocity(self) -> bool:
        """Return True if the number or the amount of refunds in the window is limited."""
        return self.velocity_count is not None or self.velocity_amount_minor is not None


# Of whom a sum is: ("actor" | "customer" | "payment" | "payee", its id).
Subject = tuple[str, str]
# Payouts are counted apart from refunds: their sums are read from other tables.
Limited = Refund | Payout


@dataclass(slots=True)
class Usage:
    """The totals of the requests in the window and in the batch at hand, for each subject.

    `money` is in minor units, `oldest` in epoch seconds.
    """

    money: Counter[tuple[Subject, str]] = field(default_factory=Counter)
    requests: Counter[Subject] = field(default_factory=Counter)
    oldest: dict[Subject, float] = field(default_factory=dict)  # when the first of them was asked for

    def add(self, refund: Limited) -> None:
        """Count this refund too."""
        for subject, currency, amount in _money(refund):
            self.money[subject, currency] += amount
        self.requests.update(_subjects(refund))
        for subject in _subjects(refund):
            self.oldest.setdefault(subject, refund.created_at)

    def add_all(self, other: Usage) -> None:
        """Add all that `other` has counted."""
        self.money.update(other.money)
        self.requests.update(other.requests)
        self.oldest.update(other.oldest)


def check_velocity(refund: Limited, usage: Usage, limits: Limits) -> None:
    """Check the velocity limits. Raises `VelocityExceeded` if this refund, added to `usage`, exceeds one."""
    for subject in _subjects(refund):
        if limits.velocity_count is not None and usage.requests[subject] + 1 > limits.velocity_count:
            raise _exceeded(f"{limits.velocity_count} {_kind(refund)}s", subject, refund, usage, limits)
    for (subject, currency), amount in _totals(refund, usage).items():
        if limits.velocity_amount_minor is not None and amount > limits.velocity_amount_minor:
            most = f"{limits.velocity_amount_minor} {currency} (minor units)"
            raise _exceeded(most, subject, refund, usage, limits)


def exceeds_velocity(refund: Limited, usage: Usage, limits: Limits) -> bool:
    """Return True if this refund, added to `usage`, exceeds a velocity limit."""
    try:
        check_velocity(refund, usage, limits)
    except VelocityExceeded:
        return True
    return False


def _exceeded(most: str, subject: Subject, refund: Limited, usage: Usage, limits: Limits) -> VelocityExceeded:
    """Return the error, with the seconds until the oldest counted request leaves the window.

    If nothing is counted yet, this refund alone is too much. No wait helps then, and the error gives the whole window.
    """
    return VelocityExceeded(
        f"{_named(subject)}: more than {most} within {limits.window_seconds:.0f} s",
        retry_after_seconds=_reset_seconds(subject, refund, usage, limits),
        quotas=quotas(refund, usage, limits),
    )


def _reset_seconds(subject: Subject, refund: Limited, usage: Usage, limits: Limits) -> int:
    passes_at = usage.oldest.get(subject, refund.created_at) + limits.window_seconds
    return min(max(1, math.ceil(passes_at - refund.created_at)), math.ceil(limits.window_seconds))


def quotas(refund: Limited, usage: Usage, limits: Limits) -> tuple[Quota, ...]:
    """Return what is left of each velocity limit that is set, for the actor, customer or payment with the least."""
    counted = [(usage.requests[subject], subject) for subject in _subjects(refund)]
    money = [(usage.money[subject, currency], subject) for subject, currency, _ in _money(refund)]
    found = []
    for limit, used, is_money in (
        (limits.velocity_count, counted, False),
        (limits.velocity_amount_minor, money, True),
    ):
        if limit is not None and used:
            most, subject = max(used)
            reset = _reset_seconds(subject, refund, usage, limits)
            found.append(Quota(limit, limits.window_seconds, max(0, limit - most), reset, is_money))
    return tuple(found)


def needs_approval(refund: Limited, usage: Usage, limits: Limits) -> bool:
    """Return True if a second person must approve: the total of a customer, a payment or a payee exceeds the
    threshold."""
    return exceeding_total(refund, usage, limits) is not None


def exceeding_total(refund: Limited, usage: Usage, limits: Limits) -> int | None:
    """Return the highest total that exceeds the approval threshold, in minor units and this request included, or None.

    The totals are those of a customer, a payment or a payee in the window, in one currency.
    """
    threshold = limits.approval_threshold_minor
    if threshold is None:
        return None
    totals = _totals(refund, usage)
    return max((total for (of, _), total in totals.items() if of[0] != "actor" and total > threshold), default=None)


def _totals(refund: Limited, usage: Usage) -> Counter[tuple[Subject, str]]:
    asked: Counter[tuple[Subject, str]] = Counter()
    for subject, currency, amount in _money(refund):
        asked[subject, currency] += amount
    return Counter({key: amount + usage.money[key] for key, amount in asked.items()})


def _money(request: Limited) -> Iterator[tuple[Subject, str, int]]:
    if isinstance(request, Payout):
        for subject in _subjects(request):
            yield subject, request.currency, request.amount_minor
        return
    for leg in request.legs:
        for subject in (
            ("actor", request.requested_by),
            ("customer", request.customer_id),
            ("payment", leg.payment_id),
        ):
            yield subject, leg.currency, leg.amount_minor


def _subjects(request: Limited) -> list[Subject]:
    if isinstance(request, Payout):
        # A run is compared with its actor's limits as a whole, when it is planned.
        actor = [("actor", request.requested_by)] if request.run_id is None else []
        return [*actor, ("payee", request.payee_id)]
    payments = {("payment", leg.payment_id) for leg in request.legs}
    return [("actor", request.requested_by), ("customer", request.customer_id), *sorted(payments)]


def _kind(request: Limited) -> str:
    return "payout" if isinstance(request, Payout) else "refund"


def _named(subject: Subject) -> str:
    return f"{subject[0]} {subject[1]}"
