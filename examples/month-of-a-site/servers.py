"""The local servers of Stripe and PayPal, and the clock that they share with the program."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

from refund_worker.processors.paypal.sandbox import PayPalSandbox
from refund_worker.processors.sandbox import Sandbox

STRIPE, PAYPAL = "stripe", "paypal"
DAY, HOUR = 86_400.0, 3_600.0
# How long a payout of Stripe takes until it is at the bank: not a multiple of the time between two questions for it.
STRIPE_PAYOUT_SECONDS = 46 * HOUR


class Servers:
    """Both servers with their books in `folder`, as a context manager. `now` is the virtual time in epoch seconds.

    The servers' clocks run by themselves too. Each step of the virtual time takes them to the same second again.
    """

    def __init__(self, folder: Path, now: float, *, environment: Mapping[str, str] | None = None) -> None:
        self.now = now
        self._ahead = 0.0  # of the servers' clocks, before the clock of this machine
        self._stack = ExitStack()
        faults = {"seed": 1, "payout_seconds": STRIPE_PAYOUT_SECONDS}
        self.stripe = Sandbox(book=folder / "stripe-book.jsonl", faults=faults, environment=environment)
        self.paypal = PayPalSandbox(book=folder / "paypal-book.jsonl", environment=environment)

    def __enter__(self) -> Servers:
        with ExitStack() as stack, ThreadPoolExecutor() as pool:
            # Each needs a second or more to start.
            for started in [pool.submit(stack.enter_context, each) for each in (self.stripe, self.paypal)]:
                started.result()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def advance_to(self, moment: float) -> None:
        """Let it be `moment` (epoch seconds) for the program and both servers."""
        behind = moment - time.time() - self._ahead
        if behind > 0:
            self.stripe.advance_clock(behind)
            self.paypal.control("clock", seconds=behind)
            self._ahead += behind
        self.now = moment


def minor(amount: str) -> int:
    """Return an amount of PayPal, such as "12.50", in minor units."""
    return int(Decimal(amount).scaleb(2))


def payout_item(paypal: PayPalSandbox, receiver: str) -> dict[str, Any] | None:
    """Return the newest payout to a receiver in PayPal's book, or None."""
    items = [item for batch in paypal.book()["payouts"] for item in batch["items"]]
    return next((item for item in reversed(items) if item["payout_item"]["receiver"] == receiver), None)


def payout_of_account(stripe: Sandbox, account: str) -> dict[str, Any] | None:
    """Return the newest payout of a connected account in Stripe's book, or None."""
    return next((each for each in reversed(stripe.book()["payouts"]) if each.get("account") == account), None)
