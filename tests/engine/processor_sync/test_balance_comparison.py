"""A month of the ledger beside a real sandbox's balance transactions: each difference is named to the minor unit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text
from tests.engine.claims.claim_worlds import claims_of
from tests.support.engine_world import DAY, POLICY, World

from refund_worker.domain.processor_replies import DisputesFound, Found
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.engine.processor_sync import balance_comparison
from refund_worker.engine.processor_sync.balance_comparison import Comparison, Span, State, compare_balance
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.sums.statement import month_bounds
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.adapter import StripeProcessor

DEBIT = "us_bank_account"


@dataclass
class Account:
    """A world whose processor is a sandbox. Both are ten days into the same month."""

    world: World
    sandbox: Sandbox
    adapter: StripeProcessor
    loop: asyncio.AbstractEventLoop
    span: Span

    def pay(self, number: int, **changes: Any) -> None:
        """Record a payment of 1,000 here and there."""
        self.sandbox.register_payment(f"ch_{number}", 1_000, "USD")
        self.world.pay(number, **changes)

    def hear(self) -> None:
        """Record the refunds and disputes of others, as the sync does."""
        since = datetime.fromtimestamp(self.span.begin - 60 * DAY, UTC)
        refunds = self.loop.run_until_complete(self.adapter.recent(since))
        disputes = self.loop.run_until_complete(self.adapter.recent_disputes(since))
        assert isinstance(refunds, Found)
        assert isinstance(disputes, DisputesFound)
        record_outside_refunds(self.world.context, "stripe", refunds.objects)
        record_disputes(self.world.context, "stripe", disputes.objects)

    def compare(self, span: Span | None = None) -> Comparison:
        """Compare, and check that the differences explain the sums to the minor unit."""
        found = compare_balance(self.world.context, "stripe", span or self.span)
        for total in found.totals:
            its = [each for each in found.sums if each.currency == total.currency]
            explained = sum(each.processor_minor - each.ledger_minor for each in its)
            assert explained == total.processor_minor - total.ledger_minor
        return found


@contextmanager
def opened(url: str) -> Iterator[Account]:
    """Open a world on the database, with a sandbox of its own."""
    day = datetime.fromtimestamp(time.time() + 62 * DAY, UTC)
    begin, end = month_bounds(f"{day:%Y-%m}")
    loop = asyncio.new_event_loop()
    with Sandbox() as sandbox:
        sandbox.advance_clock(begin + 10 * DAY - time.time())
        adapter = StripeProcessor("sk_test_reading", base=sandbox.url, timeout_seconds=10)
        policy = replace(POLICY, outside_since=0.0)
        world = World(url, processors={"stripe": adapter}, run=loop.run_until_complete, policy=policy)
        world.now = begin + 10 * DAY + 3_600
        yield Account(world, sandbox, adapter, loop, Span(begin, end))
        world.close()
        loop.run_until_complete(adapter.close())
    loop.close()


@pytest.fixture
def account(migrated_url: str) -> Iterator[Account]:
    with opened(migrated_url) as made:
        yield made


@pytest.fixture
def one_account(migrated_sqlite_url: str) -> Iterator[Account]:
    """An account for what does not depend on the database."""
    with opened(migrated_sqlite_url) as made:
        yield made


def named(found: Comparison) -> set[tuple[str, str, tuple[str, ...], int, int]]:
    """Return (kind, cause, objects, sum in the ledger, sum at the processor) of each difference."""
    return {
        (each.kind, each.cause, each.object_ids, each.ledger_minor, each.processor_minor) for each in found.differences
    }


def test_all_that_agrees_is_no_difference(account: Account) -> None:
    for number in (1, 2, 3):
        account.pay(number)
    account.world.withdraw(30, "own")
    account.world.work()
    account.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=400)
    lost = account.sandbox.act("open_dispute", payment="ch_2")
    account.sandbox.act("move_dispute", dispute=lost["id"], status="lost")
    failed = account.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=100)
    account.hear()
    account.sandbox.act("move_refund", refund=failed["id"], status="failed")
    account.hear()
    account.sandbox.act("new_charge", amount_minor=77, currency="usd")
    found = account.compare()
    assert (found.state, found.sums, found.differences) == (State.AGREES, [], [])
    (total,) = found.totals
    assert (total.currency, total.objects, total.ledger_minor, total.processor_minor) == ("USD", 4, 1_700, 1_700)


def test_each_kind_of_difference_is_named_with_its_object(account: Account) -> None:
    do, pay = account.sandbox.act, account.pay
    for number in (1, 2, 3, 5, 6):
        pay(number)
    pay(4, refunded_minor=100)
    before = int(account.span.begin) - 60
    earlier = do("dashboard_refund", payment="ch_1", amount_minor=200, created=before)["id"]
    known = do("dashboard_refund", payment="ch_4", amount_minor=100)["id"]
    pending = do("dashboard_refund", payment="ch_2", amount_minor=500, status="pending")["id"]
    disputed = do("open_dispute", payment="ch_3")["id"]
    account.sandbox.register_payment("ch_x", 1_000, "USD")
    unknown = do("dashboard_refund", payment="ch_x", amount_minor=60)["id"]
    mark = {"refund_worker_installation": "another", "refund_worker_leg": "rf_1-1"}
    others = do("dashboard_refund", payment="ch_x", amount_minor=70, metadata=mark)["id"]
    account.world.withdraw(30, "own")
    account.world.work()
    (own,) = (each["id"] for each in account.sandbox.refunds() if each["metadata"].get("refund_worker_attempt"))
    account.hear()
    missed = do("dashboard_refund", payment="ch_5", amount_minor=600)["id"]
    never = account.world.refund_in_the_dashboard(250, 6, processor_refund_id="re_never")  # unknown to the sandbox
    record_outside_refunds(account.world.context, "stripe", [never])
    plant(account, own)
    found = account.compare()
    assert named(found) == {
        ("only_here", "refund", ("re_never",), 250, 0),
        ("only_there", "refund", (missed,), 0, 600),
        ("amount", "refund", (own,), 307, 300),
        ("other_month", "refund", (earlier,), 200, 0),
        ("in_flight", "refund", (pending,), 0, 500),
        ("in_flight", "dispute", (disputed,), 0, 1_000),
        ("refunded_before", "refund", (known,), 0, 100),
        ("not_recorded", "refund", (unknown,), 0, 60),
        ("other_installation", "refund", (others,), 0, 70),
    }
    assert found.state is State.DISAGREES
    begin, _ = month_bounds(f"{datetime.fromtimestamp(before, UTC):%Y-%m}")
    last = account.compare(Span(begin, account.span.begin))
    assert named(last) == {("other_month", "refund", (earlier,), 0, 200)}
    assert last.state is State.AGREES
    assert account.compare(Span(account.span.end, account.span.end + 28 * DAY)).totals == []


def plant(account: Account, object_id: str) -> None:
    """Let the ledger have 7 more for the refund of ours, past the program."""
    with account.world.database.write() as connection:
        for where, minor in (("processor:stripe", -7), ("house:refunds", 7)):
            row = f"SELECT transaction_id, '{where}', 'USD', {minor} FROM ledger_transactions WHERE kind = 'payout'"
            insert = "INSERT INTO ledger_entries (transaction_id, account, unit, amount) "
            assert connection.execute(text(insert + row)).rowcount == 1, object_id


def test_charge_that_failed_later_is_named_until_it_is_closed(one_account: Account) -> None:
    one_account.sandbox.act(
        "new_charge", payment="ch_1", amount_minor=1_000, currency="usd", payment_method="us_bank_one_account"
    )
    one_account.world.pay(1)
    one_account.sandbox.act("move_charge", payment="ch_1", status="failed")
    assert {each[:2] + each[3:] for each in named(one_account.compare())} == {("only_there", "payment", 0, 1_000)}


def test_object_that_is_linked_in_part_is_one_object(one_account: Account) -> None:
    one_account.pay(1)
    one_account.world.spend("t", 30)
    one_account.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=400)
    one_account.hear()
    (claim,) = claims_of(one_account.world)
    link_outside_refund(one_account.world.context, claim["claim_id"], transaction_id="t", actor="anna", reason="same")
    found = one_account.compare()
    (total,) = found.totals
    assert (found.state, found.differences) == (State.AGREES, [])
    assert (total.objects, total.ledger_minor, total.processor_minor) == (1, 400, 400)


def test_money_that_goes_out_again_in_another_month_disagrees(one_account: Account) -> None:
    one_account.pay(1)
    one_account.world.withdraw(30, "own")
    one_account.world.work()
    (own,) = (each for each in one_account.sandbox.refunds() if each["metadata"].get("refund_worker_attempt"))
    middle = one_account.span.begin + 11 * DAY
    one_account.sandbox.advance_clock(2 * DAY)
    one_account.world.now += 2 * DAY
    one_account.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=300, metadata=own["metadata"])
    sync_all(one_account.world.context, "stripe")
    spans = Span(one_account.span.begin, middle), Span(middle, one_account.span.end)
    assert [one_account.compare(span).state for span in spans] == [State.AGREES, State.DISAGREES]


def test_pages_that_repeat_and_pieces_change_nothing(one_account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance_comparison, "MOVEMENTS_AT_ONCE", 7)
    monkeypatch.setattr(balance_comparison, "OBJECTS_AT_ONCE", 3)
    one_account.sandbox.register_payment("ch_1", 1_000, "USD")
    one_account.world.pay(1, credits=1_000)
    ids = [one_account.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=1)["id"] for _ in range(110)]
    one_account.hear()
    late = [one_account.sandbox.act("dashboard_refund", payment="ch_1", amount_minor=1)["id"] for _ in range(10)]
    one_account.sandbox.add_fault({"pages": "repeat"}, times=None)
    found = one_account.compare()
    (total,) = found.totals
    assert (total.objects, total.ledger_minor, total.processor_minor) == (120, len(ids), 120)
    assert sorted(each.object_ids[0] for each in found.differences) == sorted(late)


def test_processor_that_cannot_be_read_is_said_to_be_so(one_account: Account) -> None:
    one_account.pay(1)
    one_account.sandbox.add_fault({"forbidden": True}, match={"path_kind": "balance_transactions"}, times=None)
    refused = one_account.compare()
    assert (refused.state, refused.totals, bool(refused.reason)) == (State.NOT_READABLE, [], True)
    one_account.sandbox.clear_faults()
    one_account.sandbox.add_fault({"unauthorized": True}, match={"path_kind": "balance_transactions"}, times=None)
    assert one_account.compare().state is State.NOT_ANSWERED
    one_account.world.context = replace(one_account.world.context, processors={"manual": ManualProcessor()})
    for name in ("manual", "stripe"):
        assert compare_balance(one_account.world.context, name, one_account.span).state is State.NOT_READABLE
