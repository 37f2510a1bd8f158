"""The sums of payees hold after every change, and a figure that another program changed is found."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Table, update
from tests.support.engine_world import World, credit_refund
from tests.support.payees import add_payee, earn, with_payouts

from refund_worker.domain.refund import To
from refund_worker.domain.sums import Sum
from refund_worker.engine.sums import check
from refund_worker.engine.sums.payees import find_payee_violations
from refund_worker.engine.sums.rounds import SumChecker
from refund_worker.store import sum_rounds
from refund_worker.store.tables import earnings, ledger_entries, payee_balances, payee_entries


@pytest.fixture
def shop(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Two payees with earnings of one spend, half of which was refunded."""
    monkeypatch.setattr(check, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr("refund_worker.engine.sums.rounds.AGAIN_SECONDS", 0.0)
    with_payouts(world)
    world.pay()
    world.spend()
    for name in ("p1", "p2"):
        add_payee(world, name)
        earn(world, f"of-{name}", 300, payee_id=name)
    earn(world, "more", 51)
    world.request(credit_refund(25, "k", To.BALANCE))
    world.work()
    return world


def test_sums_hold_after_earnings_and_claw_backs(shop: World) -> None:
    assert find_payee_violations(shop.database, ["p1", "p2"]) == []
    assert check.check_all(shop.context).holds


@pytest.mark.parametrize(
    ("table", "column", "sums"),
    [
        (payee_balances, "earned_minor", {Sum.PAYEE_EARNED, Sum.PAYEE_BALANCE}),
        (payee_balances, "clawed_back_minor", {Sum.PAYEE_CLAWED_BACK, Sum.PAYEE_BALANCE}),
        (payee_balances, "paid_minor", {Sum.PAYEE_BALANCE}),
        (earnings, "amount_minor", {Sum.PAYEE_EARNED}),
        (earnings, "clawed_back_minor", {Sum.PAYEE_CLAWED_BACK}),
        (payee_entries, "amount_minor", {Sum.PAYEE_ENTRIES}),
    ],
)
def test_changed_figure_is_found(shop: World, table: Table, column: str, sums: set[Sum]) -> None:
    where = table.c.payee_id == "p1"
    shop.database.run(lambda c: c.execute(update(table).where(where).values({column: table.c[column] + 1})))
    found = find_payee_violations(shop.database, ["p1", "p2"])
    assert {violation.sum for violation in found} == sums
    assert {violation.subject for violation in found} == {"p1"}
    assert not check.check_all(shop.context).holds


def test_posting_that_does_not_sum_to_zero_is_found(shop: World) -> None:
    def post(account: str, amount: int) -> None:
        row = {"transaction_id": "earning-more", "account": account, "unit": "USD", "amount": amount}
        shop.database.run(lambda c: c.execute(ledger_entries.insert().values(row)))

    post("payee:p1", 1)
    found = {violation.sum: violation.subject for violation in find_payee_violations(shop.database, ["p1"])}
    assert found == {Sum.ENTRIES: "earning-more", Sum.PAYEE_BALANCE: "p1", Sum.PAYEE_ENTRIES: "p1"}
    post("payee:p1", -1)


def test_scheduler_finds_a_changed_figure_and_ends_it_once_it_holds(shop: World) -> None:
    b = payee_balances.c

    def change(by: int) -> None:
        shop.database.run(
            lambda c: c.execute(
                update(payee_balances).where(b.payee_id == "p2").values(earned_minor=b.earned_minor + by)
            )
        )

    def open_rows() -> set[tuple[str, str]]:
        with shop.database.read() as connection:
            return {(row["sum"], row["subject"]) for row in sum_rounds.open_violations(connection, 100)}

    change(5)
    SumChecker().check(shop.context)
    assert open_rows() == {("payee_earned", "p2"), ("payee_balance", "p2")}
    change(-5)
    shop.pass_time(100)
    SumChecker().check(shop.context)
    assert open_rows() == set()
