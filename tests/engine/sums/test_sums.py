"""The sums that production checks: a planted row is named with its sum, and a busy or a quiet database shows none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text
from tests.support.engine_world import POLICY, World, credit_refund

from refund_worker.domain.sums import SAYS, Sum, violations
from refund_worker.engine.accounts.corrections import reverse_transaction
from refund_worker.engine.claims.listener import record_outside_refunds
from refund_worker.engine.sums import check, rounds
from refund_worker.engine.sums.check import find_violations
from refund_worker.engine.sums.rounds import SumChecker
from refund_worker.store.reporting import sums
from refund_worker.store.sum_rounds import count_violations, current_round


@pytest.fixture
def busy(migrated_url: str) -> Iterator[World]:
    """Yield refunds of every kind, paid, given back and deleted, and a refund that others made."""
    world = World(migrated_url, policy=replace(POLICY, outside_since=0.0))
    for number in (1, 2, 3):
        world.pay(number)
    world.spend("t", 50)
    world.spend("t2", 20)
    undone = world.request(credit_refund(20, "k1")).refund_id
    world.withdraw(30, "k2")
    world.work()
    with world.database.read() as connection:
        query = text("SELECT transaction_id FROM ledger_transactions WHERE refund_id = :id AND kind = 'credit_refund'")
        entry = connection.execute(query, {"id": undone}).scalar_one()
    reverse_transaction(world.context, entry, actor="anna")
    world.pay(4, customer_id="other")
    record_outside_refunds(world.context, "stripe", [world.refund_in_the_dashboard(400, 3)])
    world.withdraw(10, "k3")
    yield world
    world.close()


class Planted(Exception):
    """Rolls a planted row back."""


def found_with(world: World, statement: str, rows: int = 1) -> dict[Sum, str]:
    """Change a row past the program, and return the subject by sum of what is found. The change is rolled back."""
    found: dict[Sum, str] = {}
    try:
        with world.database.write() as connection:
            assert connection.execute(text(statement)).rowcount == rows
            found = {v.sum: v.subject for v in violations(sums.figures_of(connection, ["c", "other"]))}
            raise Planted
    except Planted:
        return found


ENTRY = "INSERT INTO ledger_entries (transaction_id, account, unit, amount) SELECT min(transaction_id), "
OF_WITHDRAWAL = "FROM ledger_transactions WHERE kind = 'withdrawal'"
PLANTED = {
    Sum.ENTRIES: ENTRY + "'house:sales', 'USD', 7 " + OF_WITHDRAWAL,
    Sum.BALANCE: "UPDATE customers SET balance = balance + 7 WHERE customer_id = 'c'",
    Sum.HELD: "UPDATE customers SET held = held + 7 WHERE customer_id = 'c'",
    Sum.BOUGHT: "UPDATE customers SET bought = bought + 7 WHERE customer_id = 'c'",
    Sum.NET_SPENT: "UPDATE customers SET net_spent = net_spent + 7 WHERE customer_id = 'c'",
    Sum.WITHDRAWN: "UPDATE customers SET withdrawn = withdrawn + 7 WHERE customer_id = 'c'",
    Sum.CLEARING: ENTRY + "'house:clearing', 'credits', 7 " + OF_WITHDRAWAL,
    Sum.PAYMENT_CREDITS: "UPDATE payments SET credits_taken = credits_taken + 7 WHERE payment_id = 'pay1'",
    Sum.PAYMENT_MONEY: "UPDATE payments SET money_taken = money_taken + 7 WHERE payment_id = 'pay1'",
    Sum.TRANSACTION_ROOM: "UPDATE transaction_rooms SET taken = taken + 7 WHERE transaction_id = 't2'",
    Sum.REVERSALS: "UPDATE refunds SET returned_credits = 7 WHERE idempotency_key = 'k2'",
    Sum.PAYOUTS: "UPDATE legs SET amount_minor = amount_minor - 7 WHERE status = 'succeeded'",
    Sum.CLAIM_ENTRIES: "UPDATE claims SET taken = taken - 7",
    Sum.CLAIM_MONEY: "UPDATE claims SET posted_minor = posted_minor + 7",
    Sum.CLAIMED_CREDITS: "UPDATE payments SET claimed_credits = claimed_credits + 7 WHERE payment_id = 'pay3'",
    Sum.CLAIMED_MONEY: "UPDATE payments SET claimed_minor = claimed_minor + 7 WHERE payment_id = 'pay3'",
    Sum.DEBTS: "UPDATE customers SET balance = -7 WHERE customer_id = 'c'",
}


# Sums of which one wrong row is a matter too.
ALSO = {
    Sum.CLEARING: {Sum.ENTRIES},
    Sum.DEBTS: {Sum.BALANCE},
    Sum.CLAIM_ENTRIES: {Sum.WITHDRAWN},
    Sum.PAYOUTS: {Sum.PAYMENT_MONEY},
    Sum.REVERSALS: {Sum.WITHDRAWN, Sum.CLEARING},
}


def test_each_sum_names_the_row_that_was_planted(busy: World) -> None:
    # The sums of payees have tests in tests/engine/payees.
    of_payees = {name for name in Sum if name.startswith("payee_")}
    assert set(PLANTED) == set(Sum) - of_payees
    assert set(Sum) == set(SAYS)
    assert found_with(busy, "UPDATE customers SET created_at = created_at WHERE customer_id = 'c'") == {}
    for name, statement in PLANTED.items():
        found = found_with(busy, statement)
        assert set(found) == {name} | ALSO.get(name, set()), name
        assert found[name]


def test_money_that_came_back_to_a_payment_belongs_to_its_claims(busy: World) -> None:
    for table in ("payments", "claims"):
        found = found_with(busy, f"UPDATE {table} SET returned_minor = 7 WHERE payment_id = 'pay3'")
        assert set(found) == {Sum.CLAIMED_MONEY}, table


def test_an_entry_on_another_customers_account_is_named(busy: World) -> None:
    pair = "(VALUES ('customer:other', 7), ('house:sales', -7)) AS v"
    one = "(SELECT min(transaction_id) FROM ledger_transactions WHERE customer_id = 'c')"
    moved = "INSERT INTO ledger_entries (transaction_id, account, unit, amount) "
    moved += f"SELECT {one}, column1, 'credits', column2 FROM {pair}"
    assert set(found_with(busy, moved, rows=2)) == {Sum.ENTRIES}


def test_rounds_find_a_row_alarm_once_and_end_it_when_it_holds(
    busy: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "AGAIN_SECONDS", 0.01)
    checker = SumChecker()

    def minute() -> dict[Sum, int]:
        busy.pass_time(60)
        caplog.clear()
        assert checker.check(busy.context) > 0
        with busy.database.read() as connection:
            return {name: count for name, count in count_violations(connection).items() if count}

    assert minute() == {}
    with busy.database.read() as connection:
        state = current_round(connection)
    assert state is not None
    assert (state["round_customers"], state["position"]) == (2, None)
    with busy.database.write() as connection:
        connection.execute(text(PLANTED[Sum.BALANCE]))
    assert minute() == {Sum.BALANCE: 1}
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "balance of c" in line
    assert minute() == {Sum.BALANCE: 1}
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    with busy.database.write() as connection:
        connection.execute(text("UPDATE customers SET balance = balance - 7 WHERE customer_id = 'c'"))
    assert minute() == {}


def test_only_one_of_two_schedulers_checks_in_a_minute(busy: World) -> None:
    busy.pass_time(60)
    first, second = SumChecker().check(busy.context), SumChecker().check(busy.context)
    assert first > 0
    assert second == 0


def test_a_round_continues_after_a_restart(busy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "PIECE", 1)
    monkeypatch.setattr(check, "PIECE", 1)
    positions = []
    for _ in range(3):
        busy.pass_time(60)
        SumChecker(budget_seconds=0).check(busy.context)
        with busy.database.read() as connection:
            state = current_round(connection)
        assert state is not None
        positions.append(state["position"])
    assert positions == ["c", "other", None]


def test_no_false_alarm_while_refunds_are_processed(busy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()
    failures: list[Exception] = []

    def work() -> None:
        try:
            for number in range(12):
                busy.withdraw(1, f"load{number}")
                busy.work()
        except Exception as error:
            failures.append(error)
        finally:
            stopped.set()

    worker = threading.Thread(target=work)
    worker.start()
    looks = 0
    try:
        while not stopped.is_set():
            # One snapshot each, without the second reading that an alarm needs.
            assert find_violations(busy.database, ["c", "other"]) == []
            looks += 1
    finally:
        worker.join()
    assert not failures
    assert looks > 0
