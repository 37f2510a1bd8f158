"""The payees of `refund-worker dev`: they are made once, and the sandboxes pay them."""

from __future__ import annotations

import time
from pathlib import Path

from refund_worker.cli.dev_payees import make_payees
from refund_worker.cli.stack import Stack
from refund_worker.engine.context import Context
from refund_worker.engine.views.payee_objects import payee_page
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings

SECONDS_MAX = 40.0
CLOCKS = {PREFIX + "PAYEE_COOLDOWN_SECONDS": "0", PREFIX + "SWEEP_SECONDS": "0.3", PREFIX + "POLL_SECONDS": "0.5"}


def test_payees_are_made_once_and_paid_by_the_sandboxes(tmp_path: Path) -> None:
    stack = Stack(tmp_path, settings=CLOCKS, learn=True, with_paypal=True)
    stack.start()
    try:
        with build_runtime(load_settings(stack.environment), processors=False) as runtime:
            assert make_payees(runtime.context, stack)
            assert not make_payees(runtime.context, stack)
            end = time.monotonic() + SECONDS_MAX
            while (seen := (sums(runtime.context), at_stripe(stack))) != EXPECTED and time.monotonic() < end:
                time.sleep(0.2)
        assert seen == EXPECTED
        assert stack.paypal is not None
        assert stack.paypal.book()["received"] == {"ben@example.com": {"USD": "60.00"}}
    finally:
        stack.stop()


def sums(context: Context) -> dict[str, tuple[int, ...]]:
    """Return what each payee can be paid, has held, has in flight and was paid, in minor units."""
    names = ("payable_minor", "held_minor", "in_flight_minor", "paid_minor")
    with context.database.read() as connection:
        found = payee_page(connection, context.clock(connection), limit=10, after=None, customer_id=None)["data"]
    return {payee["payee_id"]: tuple(int(payee["balances"][0][name]) for name in names) for payee in found}


def at_stripe(stack: Stack) -> list[int]:
    """Return the payouts in the sandbox's book, in minor units."""
    return [payout["amount"] for payout in stack.sandbox.book()["payouts"]]


# The payout by Stripe is on its way to the bank for days.
EXPECTED = {"performer-ana": (4_000, 4_500, 8_000, 0), "performer-ben": (0, 0, 0, 6_000)}, [8_000]
