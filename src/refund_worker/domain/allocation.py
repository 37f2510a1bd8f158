"""Choose over which of a customer's payments the money goes back, and how much over each. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from refund_worker.domain.money import down_to_step, proportion, smallest_step, split


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundablePayment:
    """A payment, and what refunds in flight or paid have taken of it. Amounts are in minor units.

    Money that went back elsewhere counts as taken, so more can be taken than there is; 0 is left then. `captured_at` is
    in epoch seconds. `only_whole`: the processor refunds all of the payment or nothing. `account_step`: the account's
    amounts in this currency are multiples of it, in minor units.
    """

    payment_id: str
    processor: str
    processor_payment_id: str
    currency: str
    amount_minor: int
    credits: int
    captured_at: float
    credits_taken: int = 0
    money_taken: int = 0
    only_whole: bool = False
    account_step: int = 1

    @property
    def credits_left(self) -> int:
        """Return the credits that refunds have not taken yet, at least 0.

        Where only the whole can be refunded, nothing is left of a payment that is refunded in part, or whose amount is
        not in steps of its currency.
        """
        if self.only_whole and (self.credits_taken > 0 or self.money_taken > 0 or self.amount_minor % self.step):
            return 0
        return max(0, self.credits - self.credits_taken)

    @property
    def step(self) -> int:
        """Return the step of the payment's currency at its account, in minor units."""
        return max(smallest_step(self.currency), self.account_step)

    @property
    def money_left(self) -> int:
        """Return the minor units that the processor can still return: whole steps of the currency."""
        return down_to_step(max(0, self.amount_minor - self.money_taken), self.step)

    @property
    def unreturnable_minor(self) -> int:
        """Return the minor units that no refund can ever return, because they are less than a step of the currency."""
        return max(0, self.amount_minor - self.money_taken) - self.money_left

    def after_refunds_elsewhere(self, captured_minor: int | None, refunded_minor: int) -> RefundablePayment:
        """Return the payment with less left: less was captured, or `refunded_minor` went back elsewhere.

        The money that went back takes its share of the credits with it. Money captured beyond the amount paid for
        something else.
        """
        amount_minor = self.amount_minor if captured_minor is None else min(self.amount_minor, captured_minor)
        refunded_minor = min(refunded_minor, amount_minor)
        return replace(
            self,
            amount_minor=amount_minor,
            credits_taken=self.credits_taken + proportion(self.credits, refunded_minor, amount_minor),
            money_taken=self.money_taken + refunded_minor,
        )

    def without_room(self) -> RefundablePayment:
        """Return the payment with nothing left: it is closed, or a dispute about it is open."""
        return replace(
            self,
            credits_taken=max(self.credits, self.credits_taken),
            money_taken=max(self.amount_minor, self.money_taken),
        )

    def after_reserving(self, credits: int, amount_minor: int) -> RefundablePayment:
        """Return the payment after `credits` and `amount_minor` (minor units) more are taken."""
        return replace(self, credits_taken=self.credits_taken + credits, money_taken=self.money_taken + amount_minor)

    def money_for(self, credits: int) -> int:
        """Return the minor units for `credits` more. Taking all credits, in any parts, returns exactly what was paid.

        If that breaks the currency's step, taking all returns what is left without the `unreturnable_minor`.
        """
        part = self.credits_taken + credits
        # Zero-amount legs that were released can leave more money taken than their share: never ask for less than 0.
        return proportion(self.amount_minor, part, self.credits, self.step, taken_minor=self.money_taken)

    def credits_for(self, amount_minor: int) -> int:
        """Return the fewest credits of this payment that cover `amount_minor` more, at most all that are left."""
        low, high = 0, self.credits_left
        while low < high:
            middle = (low + high) // 2
            if self.money_for(middle) >= amount_minor:
                high = middle
            else:
                low = middle + 1
        return low


@dataclass(frozen=True, slots=True)
class Allocation:
    """A part of a refund that goes back over one payment.

    It carries `credits` of the refund and takes `payment_credits` of the payment's credits; `amount_minor` is in minor
    units. `unreturnable_minor` is what the customer paid and no refund can return. The part that takes the last credits
    of a payment shows it.
    """

    payment: RefundablePayment
    credits: int
    payment_credits: int
    amount_minor: int
    unreturnable_minor: int = 0


@dataclass(frozen=True, slots=True)
class Payable:
    """The most that could be paid out in one currency: its credits, and their money in minor units.

    `payments` are those in this currency, used in the order that `allocation` names.
    """

    currency: str
    credits: int
    amount_minor: int
    payments: tuple[RefundablePayment, ...] = field(default=(), compare=False, repr=False)
    allocation: str = field(default="newest_first", compare=False, repr=False)

    def money_for(self, credits: int) -> int:
        """Return the minor units that as many of `credits` as these can take would return; few can be worth nothing."""
        part = self.credits_for(credits)
        if part == self.credits:
            return self.amount_minor
        return sum(share.amount_minor for share in allocate(part, self.payments, self.allocation))

    def credits_for(self, credits: int) -> int:
        """Return how many of `credits` these payments can take."""
        if credits >= self.credits:
            return self.credits
        return placeable_credits(credits, self.payments, self.allocation)


def payable_by_currency(credits: int, payments: Sequence[RefundablePayment], allocation: str) -> tuple[Payable, ...]:
    """Return, for each currency, how many of `credits` the payments in it could pay out, and the money for them.

    The same credits count in every currency, so the parts can add up to more than `credits`. A currency in which
    nothing can be paid out is left out.
    """
    found = []
    for currency in sorted({p.currency for p in payments}):
        fitting = [p for p in payments if p.currency == currency]
        part = placeable_credits(credits, fitting, allocation)
        shares = allocate(part, fitting, allocation) if part > 0 else ()
        money = sum(share.amount_minor for share in shares)
        found.append(Payable(currency, part, money, tuple(fitting), allocation))
    return tuple(payable for payable in found if payable.amount_minor)


def split_by_currency(credits: int, payable: Iterable[Payable], first: str) -> tuple[tuple[str, int], ...]:
    """Divide `credits` among currencies, each at most as far as it is payable: `first`, then the largest first.

    Return (currency, credits) for each that gets some; what no currency can pay is in none. A part that is worth less
    than a minor unit could never be paid out: it is left out.
    """
    parts = []
    for part in sorted(payable, key=lambda p: (p.currency != first, -p.credits, p.currency)):
        share = part.credits_for(credits)
        if share and part.money_for(share):
            parts.append((part.currency, share))
            credits -= share
    return tuple(parts)


def in_order(payments: Iterable[RefundablePayment], allocation: str) -> list[RefundablePayment]:
    """Return the payments by capture time, then id: the oldest first if `allocation` says so, else the newest first."""
    return sorted(payments, key=lambda p: (p.captured_at, p.payment_id), reverse=allocation != "oldest_first")


def placeable_credits(credits: int, payments: Iterable[RefundablePayment], allocation: str) -> int:
    """Return how many of `credits` the payments can take: some can be refunded only as a whole."""
    ordered = [p for p in in_order(payments, allocation) if p.credits_left > 0]
    return sum(_whole_ones_first(max(0, credits), ordered))


def allocate(credits: int, payments: Iterable[RefundablePayment], allocation: str) -> tuple[Allocation, ...]:
    """Spread `credits` over the credits left on `payments`. Raises `ValueError` if they do not suffice."""
    ordered = [p for p in in_order(payments, allocation) if p.credits_left > 0]
    if any(p.only_whole for p in ordered):
        parts = _whole_ones_first(credits, ordered)
        if sum(parts) < credits:
            raise ValueError("some payments can be refunded only as a whole, and the others have not enough room")
    elif allocation == "pro_rata":
        parts = _pro_rata(credits, ordered)
    else:
        parts = _one_after_another(credits, ordered)
    return tuple(_share(p, part) for p, part in zip(ordered, parts, strict=True) if part)


def _share(payment: RefundablePayment, credits: int) -> Allocation:
    return _part(payment, credits, credits, payment.money_for(credits))


def _part(payment: RefundablePayment, credits: int, payment_credits: int, amount_minor: int) -> Allocation:
    rest = payment.unreturnable_minor if payment_credits == payment.credits_left else 0
    return Allocation(payment, credits, payment_credits, amount_minor, rest)


def replace_share(
    amount_minor: int, credits: int, payments: Iterable[RefundablePayment], allocation: str
) -> tuple[tuple[Allocation, ...], int]:
    """Find other payments for the money of a failed leg. Return the parts, and the credits that no payment can take.

    The credits of the failed leg follow the money by largest remainder. All payments have the same currency. Less than
    a step of it cannot be placed: an earlier version planned such amounts.
    """
    if not amount_minor:  # a few credits can be worth less than a minor unit
        return (), credits
    ordered = [p for p in in_order(payments, allocation) if p.money_left > 0 and p.credits_left > 0]
    in_steps = down_to_step(amount_minor, ordered[0].step) if ordered else 0
    parts = _money_of_each(in_steps, ordered)
    unplaced = amount_minor - sum(parts)
    *credit_parts, credits_unplaced = split(credits, [*parts, unplaced])
    shares = (
        _part(p, credit_part, p.credits_for(part), part)
        for p, part, credit_part in zip(ordered, parts, credit_parts, strict=True)
        if part
    )
    return tuple(shares), credits_unplaced


def _whole_ones_first(credits: int, payments: Sequence[RefundablePayment]) -> list[int]:
    """Take payments that are refunded only as a whole where all of them fits, and the rest over the others.

    The parts are fewer credits than `credits` if the payments cannot take them.
    """
    parts, left = [0] * len(payments), credits
    for place, payment in sorted(enumerate(payments), key=lambda item: not item[1].only_whole):
        fits = not payment.only_whole or payment.credits_left <= left
        parts[place] = min(left, payment.credits_left) if fits else 0
        left -= parts[place]
    return parts


def _money_of_each(total_minor: int, payments: Sequence[RefundablePayment]) -> list[int]:
    """Return the money to take of each payment, in steps of its account; less than `total_minor` if there is not more.

    A payment that is refunded only as a whole is left out where its whole is too much.
    """
    parts = []
    for payment in payments:
        most = min(total_minor, payment.money_left)
        whole = payment.money_left <= total_minor
        part = down_to_step(most, payment.step) if whole or not payment.only_whole else 0
        parts.append(part)
        total_minor -= part
    return parts


def _one_after_another(credits: int, payments: Sequence[RefundablePayment]) -> list[int]:
    parts = _one_after_another_up_to(credits, [p.credits_left for p in payments])
    if sum(parts) < credits:
        raise ValueError("not enough room on the payments")
    return parts


def _one_after_another_up_to(total: int, amounts_left: Sequence[int]) -> list[int]:
    parts = []
    for left in amounts_left:
        parts.append(min(total, left))
        total -= parts[-1]
    return parts


def _pro_rata(credits: int, payments: Sequence[RefundablePayment]) -> list[int]:
    amounts_left = [p.credits_left for p in payments]
    if sum(amounts_left) < credits:
        raise ValueError("not enough room on the payments")
    return list(split(credits, amounts_left)) if amounts_left else []
