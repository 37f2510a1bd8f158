"""The engine with Stripe's route at the sandbox: payouts, late failures, reversals, lost answers, empty accounts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.payout_world import DAY, START, TWO_STEPS, PayoutWorld

from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.payouts import StripePayouts

Make = Callable[..., PayoutWorld]
ACCOUNT = "acct_p000"


class Shop:
    """A world whose payee has earned 50.00 USD, at a platform with 100.00 USD."""

    def __init__(self, world: PayoutWorld, sandbox: Sandbox) -> None:
        self.world, self.sandbox = world, sandbox
        self.route = StripePayouts("sk_test_engine", base=sandbox.url, timeout_seconds=2, page_pauses_seconds=())
        sandbox.advance_clock(START - time.time())
        assert isinstance(world.context.routes, dict)
        world.context.routes["stripe"] = self.route
        sandbox.act("top_up", currency="usd", amount_minor=10_000)
        sandbox.act("connect_account", account=ACCOUNT)
        world.earn("e1", 5_000)

    async def close(self) -> None:
        """Close the route on the loop that used it."""
        await self.route.close()
        await asyncio.sleep(0)  # the transports end in a later step of the loop

    def pass_time(self, days: int) -> None:
        """Let days pass at Stripe and here, and process what is due."""
        self.sandbox.advance_clock(days * DAY)
        self.world.settle(days * DAY, step=3_600)

    def status(self, payout_id: str) -> tuple[str, str | None]:
        """Return the payout's status and failure code."""
        payout = self.world.payout(payout_id)
        return str(payout.status), payout.failure_code

    def objects(self) -> tuple[int, int, int]:
        """Return how many transfers, payouts and reversals Stripe has."""
        book = self.sandbox.book()
        return len(book["transfers"]), len(book["payouts"]), len(book["reversals"])

    def money(self) -> tuple[int, int, int]:
        """Return the money of the platform, of the payee's account, and what reached the payee's bank."""
        book = self.sandbox.book()
        sums = (book["balances"][""], book["balances"].get(ACCOUNT, {}), book["banks"].get(ACCOUNT, {}))
        return sums[0].get("usd", 0), sums[1].get("usd", 0), sums[2].get("usd", 0)

    def move(self, status: str, failure_code: str) -> None:
        """Move the only payout at Stripe."""
        (payout,) = self.sandbox.book()["payouts"]
        self.sandbox.act("move_payout", account=ACCOUNT, payout=payout["id"], status=status, failure_code=failure_code)


@pytest.fixture
def shop(make_world: Make) -> Iterator[Shop]:
    loop = asyncio.new_event_loop()
    with Sandbox(faults={"hang_seconds": 0.2}) as sandbox:
        made = Shop(make_world(steps=TWO_STEPS, run=loop.run_until_complete), sandbox)
        yield made
        loop.run_until_complete(made.close())
    loop.close()


def test_payout_reaches_the_bank(shop: Shop) -> None:
    payout_id = shop.world.ask()
    shop.world.settle(60)
    assert shop.status(payout_id) == ("pending", None)
    shop.pass_time(3)
    assert shop.status(payout_id) == ("paid", None)
    assert shop.money() == (5_000, 0, 5_000)
    shop.pass_time(8)
    assert shop.status(payout_id) == ("settled", None)
    assert shop.objects() == (1, 1, 0)


def test_paid_payout_that_fails_brings_the_transfer_back(shop: Shop) -> None:
    payout_id = shop.world.ask()
    shop.world.settle(60)
    shop.pass_time(3)
    shop.move("failed", "account_closed")
    shop.pass_time(2)
    assert shop.status(payout_id)[0] == "returned"
    assert shop.money() == (10_000, 0, 0)
    assert shop.objects() == (1, 1, 1)
    assert shop.world.balance().payable_minor == 5_000
    assert shop.world.payee_row().destination_failure == "account_closed"
    shop.pass_time(3)
    assert shop.objects() == (1, 1, 1)


def test_money_that_left_the_account_is_a_persons_to_decide(shop: Shop) -> None:
    payout_id = shop.world.ask()
    shop.world.settle(60)
    shop.move("failed", "no_account")
    shop.sandbox.act("payout", account=ACCOUNT, currency="usd")
    shop.pass_time(2)
    assert shop.status(payout_id) == ("needs_attention", "transfer_not_undone")
    assert shop.world.payee_row().blocked_by == payout_id
    assert shop.objects() == (1, 2, 0)


@pytest.mark.parametrize("kind", ["create_transfer", "create_payout"])
@pytest.mark.parametrize("fault", [{"reset": "after"}, {"server_error": {"effect": "now"}}, {"truncate": True}])
def test_lost_answer_pays_once(shop: Shop, kind: str, fault: dict[str, object]) -> None:
    shop.sandbox.add_fault(fault, match={"path_kind": kind})
    payout_id = shop.world.ask()
    shop.world.settle(3_600)
    shop.pass_time(3)
    assert shop.status(payout_id) == ("paid", None)
    assert shop.objects() == (1, 1, 0)
    assert shop.money() == (5_000, 0, 5_000)


def test_refused_payout_ends_and_its_transfer_comes_back(shop: Shop) -> None:
    shop.sandbox.act("change_account", account=ACCOUNT, disabled_reason="under_review")
    payout_id = shop.world.ask()
    shop.world.settle(3_600)
    assert shop.status(payout_id) == ("failed", "payouts_not_allowed")
    assert shop.money() == (10_000, 0, 0)
    assert shop.world.balance().payable_minor == 5_000


def test_empty_platform_is_filled_and_pays(shop: Shop) -> None:
    shop.sandbox.act("payout", currency="usd", amount_minor=9_000)
    payout_id = shop.world.ask()
    shop.world.settle(600)
    assert shop.status(payout_id) == ("needs_attention", "balance_insufficient")
    shop.sandbox.act("top_up", currency="usd", amount_minor=9_000)
    shop.world.settle(DAY, step=3_600)
    assert shop.status(payout_id)[0] == "pending"
    assert shop.money() == (5_000, 0, 0)
