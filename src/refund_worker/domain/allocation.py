"""Which of a customer's payments the money goes back over, and how much over each. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from refund_worker.domain.money import proportion, smallest_step, split


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentRoom:
    """A payment and what is already taken of it, by refunds in flight or paid; amounts in minor units."""

    payment_id: str
    processor: str
    processor_payment_id: str
    currency: str
    amount_minor: int
    credits: int
    captured_at: float
    credits_taken: int = 0
    money_taken: int = 0

    @property
    def credits_left(self) -> int:
        return self.credits - self.credits_taken

    @property
    def money_left(self) -> int:
        return self.amount_minor - self.money_taken

    def less(self, credits: int, amount_minor: int) -> PaymentRoom:
        """The room after so many credits and so much money more are taken."""
        return replace(self, credits_taken=self.credits_taken + credits, money_taken=self.money_taken + amount_minor)

    def worth(self, credits: int) -> int:
        """Minor units for `credits` more, cumulative, so that taking all returns exactly what was paid."""
        step = smallest_step(self.currency, self.amount_minor)
        so_far = proportion(self.amount_minor, self.credits_taken + credits, self.credits, step)
        # Legs of zero worth that were released again can leave more money taken than their share: never ask below 0.
        return max(0, so_far - self.money_taken)

    def credits_for(self, amount_minor: int) -> int:
        """The fewest credits of this payment that cover `amount_minor` more, at most all that is left."""
        target = self.money_taken + amount_minor
        low, high = 0, self.credits_left
        step = smallest_step(self.currency, self.amount_minor)
        while low < high:
            middle = (low + high) // 2
            if proportion(self.amount_minor, self.credits_taken + middle, self.credits, step) >= target:
                high = middle
            else:
                low = middle + 1
        return low


@dataclass(frozen=True, slots=True)
class Share:
    """A part to give back over one payment: `credits` of the refund, taking `payment_credits` of the payment's room."""

    payment: PaymentRoom
    credits: int
    payment_credits: int
    amount_minor: int


def in_order(payments: Iterable[PaymentRoom], allocation: str) -> list[PaymentRoom]:
    """Newest first by capture and then id, or the oldest first."""
    return sorted(payments, key=lambda p: (p.captured_at, p.payment_id), reverse=allocation != "oldest_first")


def allocate(credits: int, payments: Iterable[PaymentRoom], allocation: str) -> tuple[Share, ...]:
    """Spread `credits` over the room of `payments`; raises ValueError when there is not enough of it."""
    ordered = [p for p in in_order(payments, allocation) if p.credits_left > 0]
    parts = _pro_rata(credits, ordered) if allocation == "pro_rata" else _one_after_another(credits, ordered)
    return tuple(Share(p, part, part, p.worth(part)) for p, part in zip(ordered, parts, strict=True) if part)


def replace_share(
    amount_minor: int, credits: int, payments: Iterable[PaymentRoom], allocation: str
) -> tuple[tuple[Share, ...], int]:
    """Another way for a leg that failed: the same money over other payments, and the credits for which there is none.

    The credits of the failed leg follow the money by largest remainder.
    """
    ordered = [p for p in in_order(payments, allocation) if p.money_left > 0 and p.credits_left > 0]
    parts = _one_after_another_up_to(amount_minor, [p.money_left for p in ordered])
    unplaced = amount_minor - sum(parts)
    *credit_parts, credits_unplaced = split(credits, [*parts, unplaced])
    shares = (
        Share(p, credit_part, p.credits_for(part), part)
        for p, part, credit_part in zip(ordered, parts, credit_parts, strict=True)
        if part
    )
    return tuple(shares), credits_unplaced


def _one_after_another(credits: int, payments: Sequence[PaymentRoom]) -> list[int]:
    parts = _one_after_another_up_to(credits, [p.credits_left for p in payments])
    if sum(parts) < credits:
        raise ValueError("not enough room on the payments")
    return parts


def _one_after_another_up_to(total: int, rooms: Sequence[int]) -> list[int]:
    parts = []
    for room in rooms:
        parts.append(min(total, room))
        total -= parts[-1]
    return parts


def _pro_rata(credits: int, payments: Sequence[PaymentRoom]) -> list[int]:
    rooms = [p.credits_left for p in payments]
    if sum(rooms) < credits:
        raise ValueError("not enough room on the payments")
    return list(split(credits, rooms)) if rooms else []
