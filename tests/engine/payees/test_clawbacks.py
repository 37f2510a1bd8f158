"""The share of a payee follows the customer's spend: its credits are returned, or their return is undone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.engine_world import World, credit_refund
from tests.support.payees import (
    add_payee,
    an_earning,
    assert_payees_balance,
    balance_of,
    earn,
    earning_of,
    events_about,
    with_payouts,
)

from refund_worker.domain.refund import To
from refund_worker.engine.accounts.corrections import reverse_transaction
from refund_worker.engine.payees import clawbacks
from refund_worker.engine.payees.earnings import _record, record_earnings
from refund_worker.engine.refunds.process import process_due
from refund_worker.store.tables import ledger_transactions, outbox


@pytest.fixture
def shop(world: World) -> Iterator[World]:
    """A customer who spent 50 credits, of which the payee earned 500 minor units."""
    with_payouts(world)
    world.pay()
    world.spend()
    add_payee(world)
    yield world
    with world.database.read() as connection:
        assert_payees_balance(connection)


def refund(shop: World, credits: int, key: str, to: To = To.BALANCE, transaction_id: str = "t") -> str:
    refund_id = shop.request(credit_refund(credits, key, to, transaction_id=transaction_id)).refund_id
    shop.work()
    return refund_id


@pytest.mark.parametrize("to", [To.BALANCE, To.SOURCE])
def test_refunded_spend_takes_its_share_back(shop: World, to: To) -> None:
    earn(shop)
    refund(shop, 20, "k", to)
    assert earning_of(shop).clawed_back_minor == 200
    assert balance_of(shop).net_minor == 300
    assert events_about(shop) == ["payee_recorded", "earning_clawed_back"]


def test_partial_refunds_take_the_whole_share_and_no_more(shop: World) -> None:
    earn(shop, amount_minor=7)
    earn(shop, "e2", amount_minor=3)
    for number in range(10):
        refund(shop, 5, f"k{number}")
    assert [earning_of(shop, name).clawed_back_minor for name in ("e1", "e2")] == [7, 3]
    assert balance_of(shop).net_minor == 0


def test_reserved_refund_takes_nothing_back_before_it_is_posted(shop: World) -> None:
    earn(shop)
    shop.request(credit_refund(20, "k"))
    assert earning_of(shop).clawed_back_minor == 0
    shop.work()
    assert earning_of(shop).clawed_back_minor == 200


def test_delete_of_the_refund_gives_the_share_again(shop: World) -> None:
    earn(shop)
    first, second = refund(shop, 20, "k1"), refund(shop, 10, "k2")
    reverse_transaction(shop.context, f"{first}-credit", actor="op", reason="by mistake")
    assert earning_of(shop).clawed_back_minor == 100
    reverse_transaction(shop.context, f"{first}-credit", actor="op")  # the same entry, once
    assert earning_of(shop).clawed_back_minor == 100
    reverse_transaction(shop.context, f"{second}-credit", actor="op")
    assert balance_of(shop).net_minor == 500
    kinds = ["earning_clawed_back", "earning_clawed_back", "clawback_undone", "clawback_undone"]
    assert events_about(shop) == ["payee_recorded", *kinds]


def test_earning_recorded_after_the_refund_is_clawed_back_at_once(shop: World) -> None:
    refund(shop, 20, "k")
    assert earn(shop).earning.clawed_back_minor == 200
    assert balance_of(shop).net_minor == 300


def test_other_spends_and_earnings_stay_as_they_are(shop: World) -> None:
    shop.spend("t2", 10)
    earn(shop)
    earn(shop, "e2", transaction_id="t2")
    earn(shop, "e3", transaction_id=None)
    refund(shop, 10, "k", transaction_id="t2")
    assert [earning_of(shop, name).clawed_back_minor for name in ("e1", "e2", "e3")] == [0, 500, 0]


def test_what_was_paid_out_becomes_a_debt_that_later_earnings_pay(shop: World) -> None:
    from refund_worker.domain.payouts.payee import BalanceDelta
    from refund_worker.store.payouts.payees import change_balances

    earn(shop, available_at=0.0)
    shop.database.run(lambda c: change_balances(c, {("p1", "USD"): BalanceDelta(paid_minor=500)}))
    refund(shop, 20, "k")
    assert (balance_of(shop).debt_minor, balance_of(shop).payable_minor) == (200, 0)
    earn(shop, "e2", 150, transaction_id=None, available_at=0.0)
    assert (balance_of(shop).debt_minor, balance_of(shop).payable_minor) == (50, 0)
    shop.database.run(lambda c: change_balances(c, {("p1", "USD"): BalanceDelta(paid_minor=-500)}))


def test_notification_names_the_earning_and_the_balance_after(shop: World) -> None:
    shop.context = replace(shop.context, notify=True)
    earn(shop)
    refund(shop, 20, "k")
    with shop.database.read() as connection:
        rows = connection.execute(select(outbox).where(outbox.c.earning_id == "e1")).mappings().all()
    (row,) = rows
    body = json.loads(row["body"])
    assert (row["type"], body["id"]) == ("earning.clawed_back", row["message_id"])
    wanted = {"earning_id": "e1", "payee_id": "p1", "clawed_back_minor": 200, "change_minor": 200, "balance_after": 300}
    assert wanted.items() <= body["data"].items()


def test_entries_name_the_payee_and_no_customer(shop: World) -> None:
    earn(shop)
    refund(shop, 20, "k")
    with shop.database.read() as connection:
        t = ledger_transactions.c
        query = select(t.transaction_id, t.customer_id, t.refers_to).where(t.kind.in_(("earning", "clawback")))
        rows = {tuple(row) for row in connection.execute(query.order_by(t.seq))}
    assert rows == {("earning-e1", None, "t"), ("clawback-1-e1", None, "earning-e1")}


def test_refund_waits_for_an_earning_that_is_recorded_meanwhile(shop: World) -> None:
    """Both would miss each other otherwise: the refund sees no earning yet, and the earning no refund."""
    shop.request(credit_refund(20, "k"))
    worker = threading.Thread(target=process_due, args=[shop.context])
    with shop.database.write() as connection:
        _record(connection, shop.context, [an_earning()], "shop")
        worker.start()
        worker.join(0.5)
        assert worker.is_alive()
    worker.join(30)
    assert earning_of(shop).clawed_back_minor == 200


def test_refunds_of_one_spend_at_the_same_moment_take_back_once(shop: World) -> None:
    earn(shop)
    for number in range(5):
        shop.request(credit_refund(10, f"k{number}"))
    one_each = replace(shop.context, batches=replace(shop.context.batches, claim=1))
    workers = [threading.Thread(target=process_due, args=[one_each]) for _ in range(5)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    shop.work()
    assert earning_of(shop).clawed_back_minor == 500
    assert balance_of(shop).net_minor == 0


def test_one_earning_sent_for_two_payees_at_once_is_stored_once(shop: World) -> None:
    add_payee(shop, "p2")
    answers: list[object] = []

    def send(payee_id: str) -> None:
        answers.extend(record_earnings(shop.context, [an_earning(payee_id=payee_id, transaction_id=None)], actor="a"))

    senders = [threading.Thread(target=send, args=[name]) for name in ("p1", "p2")]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join(30)
    assert sorted(type(answer).__name__ for answer in answers) == ["AlreadyRecorded", "StoredEarning"]
    assert balance_of(shop, "p1").net_minor + balance_of(shop, "p2").net_minor == 500


def test_refund_without_an_earning_costs_one_query(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import event

    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        seen.append(statement)

    event.listen(shop.database.engine, "before_cursor_execute", note)
    refund(shop, 20, "k")
    event.remove(shop.database.engine, "before_cursor_execute", note)
    asked = [statement for statement in seen if "FROM earnings" in statement]
    assert len(asked) == 1
    assert clawbacks.CLAWED_BACK not in events_about(shop)
