"""Reconciliations run in pieces: all planted differences are found, each is mended by its one action."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select, update
from tests.engine.processor_sync.reconciled import LEGS, finished, found, open_ones
from tests.support.planted_shop import FORMS, Shop

from refund_worker.engine.processor_sync.reconciliation import actions
from refund_worker.engine.processor_sync.reconciliation.kinds import ACTIONS, Kind, State
from refund_worker.engine.processor_sync.reconciliation.views import (
    difference_view,
    list_differences,
    list_reconciliations,
    reconciliation_view,
)
from refund_worker.errors import ActionNotAllowed, NotFound
from refund_worker.store import tables

# Kinds whose difference is gone once its action was applied; the others need a person to the end.
MENDED = {"not_recorded", "status", "outside_refund", "dispute", "payment"}


def test_books_that_agree_have_no_difference(shop: Shop) -> None:
    started = finished(shop)
    assert found(shop, started) == []
    with shop.world.database.read() as connection:
        view = reconciliation_view(connection, started)
    assert (view["agrees"], view["compared"], view["progress"]["percent"]) == (True, LEGS, 100)
    assert view["totals"] == [{"currency": "USD", "ledger_minor": 10 * LEGS, "processor_minor": 10 * LEGS}]
    assert shop.processor.pages > 10
    assert view["progress"]["pieces"] > 5


@pytest.mark.parametrize("seed", range(2))
def test_all_planted_differences_are_found_and_none_is_false(shop: Shop, seed: int) -> None:
    planted = shop.plant_all(seed)
    assert open_ones(shop, finished(shop)) == planted
    assert {kind for kind, *_ in planted} == set(Kind)


def test_each_difference_is_mended_by_its_action_or_acknowledged(shop: Shop) -> None:
    context = shop.world.context
    shop.plant_all(1)
    first = finished(shop)
    for row in found(shop, first):
        if ACTIONS[Kind(row["kind"])] is None or (row["kind"] == Kind.NOT_RECORDED and row["leg_id"] is None):
            with pytest.raises(ActionNotAllowed):
                actions.apply_difference(context, first, row["n"], actor="anna", reason="checked")
            done = actions.acknowledge_difference(context, first, row["n"], actor="anna", reason="known")
            assert done["state"] == State.ACKNOWLEDGED
            continue
        done = actions.apply_difference(context, first, row["n"], actor="anna", reason="checked")
        assert (done["state"], done["decided_by"]) == (State.APPLIED, "anna"), row["kind"]
        if row["kind"] not in MENDED:
            assert shop.world.refund(row["refund_id"]).status == "needs_attention", row["kind"]
    left = {kind for kind, *_ in open_ones(shop, finished(shop))}
    assert left == {"not_there", "amount", "currency", "refunded_twice"}, "only what a person decides outside"


def test_a_payment_that_was_closed_is_not_recorded_again(shop: Shop) -> None:
    """The account still has it, with the metadata of a customer."""
    FORMS["payment"](shop, next(iter(shop.processor.objects.values())))
    first = finished(shop)
    done = actions.apply_difference(shop.world.context, first, 1, actor="anna", reason="the debit failed")
    assert done["outcome"] == "the payment is closed"
    assert found(shop, finished(shop)) == []


def test_payment_whose_refund_failed_is_read_again(shop: Shop) -> None:
    """A bank debit failed after the payment was read: its money never came, and its refund failed with it."""
    known = {"word_captured": 1_000, "word_currency": "USD", "word_live": False, "word_disputed": False}
    word = update(tables.payments).where(tables.payments.c.payment_id == "pay1")
    shop.write(word.values(word="read", word_read_at=shop.world.now, **known))
    shop.processor.payments["ch_1"] = replace(shop.processor.payments["ch_1"], captured_minor=0)
    planted = ("payment", "pay1", "ch_1")
    assert planted not in open_ones(shop, finished(shop)), "a reading is good until something speaks against it"
    failed = update(tables.refund_objects).where(tables.refund_objects.c.processor_refund_id == "re_1")
    shop.write(failed.values(state="failed", status="failed"))
    assert planted in open_ones(shop, finished(shop))


def test_an_old_object_that_is_not_what_was_asked_for_is_named_so(shop: Shop) -> None:
    """Only the paid leg leads to it: to adopt it would hide that its amount is another."""
    FORMS["amount:old"](shop, next(iter(shop.processor.objects.values())))
    first = finished(shop)
    (row,) = found(shop, first)
    assert (row["kind"], row["ours"], row["theirs"]) == ("amount", "10", "11")
    done = actions.apply_difference(shop.world.context, first, 1, actor="anna", reason="checked")
    assert (done["state"], shop.world.refund(row["refund_id"]).status) == (State.APPLIED, "needs_attention")


def test_payments_are_listed_up_to_the_clock_of_the_database(shop: Shop) -> None:
    finished(shop)
    assert {at.timestamp() for at in shop.processor.asked_until} == {shop.world.now}


def test_each_sum_that_does_not_hold_for_a_row_is_named(shop: Shop) -> None:
    """One difference has them all: the same row is not listed twice."""
    c = tables.customers.c
    shop.write(update(tables.customers).where(c.customer_id == "c1").values(balance=c.balance + 1, held=3))
    (row,) = found(shop, finished(shop))
    assert (row["kind"], row["subject"], row["customer_id"], row["currency"]) == ("ledger", "c1", "c1", None)
    assert "balance: 61 credits instead of 60" in row["detail"]
    assert "held: 3 credits instead of 0" in row["detail"]


def test_an_action_is_applied_once_and_answers_the_same_again(shop: Shop) -> None:
    (leg,) = list(shop.processor.objects.values())[:1]
    FORMS["status"](shop, leg)
    started = finished(shop)
    args = {"actor": "anna", "reason": "checked"}
    first = actions.apply_difference(shop.world.context, started, 1, **args)
    events = shop.world.events(first["refund_id"])
    again = actions.apply_difference(shop.world.context, started, 1, actor="ben", reason="me too")
    also = actions.acknowledge_difference(shop.world.context, started, 1, actor="ben", reason="me too")
    assert difference_view(first) == difference_view(again) == difference_view(also)
    assert shop.world.events(first["refund_id"]) == events
    assert events.count("difference_applied") == 1


def test_a_difference_that_vanished_changes_nothing(shop: Shop) -> None:
    leg = next(iter(shop.processor.objects.values()))
    FORMS["status"](shop, leg)
    started = finished(shop)
    shop.processor.objects[leg.processor_refund_id] = leg
    (row,) = found(shop, started)
    before = shop.world.refund(row["refund_id"])
    done = actions.apply_difference(shop.world.context, started, 1, actor="anna", reason="checked")
    assert (done["state"], done["outcome"]) == (State.GONE, actions.VANISHED)
    assert shop.world.refund(row["refund_id"]) == before


def test_what_was_acknowledged_is_acknowledged_in_the_next_report(shop: Shop) -> None:
    leg = next(iter(shop.processor.objects.values()))
    FORMS["amount"](shop, leg)
    first = finished(shop)
    actions.acknowledge_difference(shop.world.context, first, 1, actor="anna", reason="known since May")
    (row,) = found(shop, finished(shop))
    assert (row["state"], row["decided_by"], row["reason"]) == (State.ACKNOWLEDGED, "anna", "known since May")
    shop.processor.objects[leg.processor_refund_id] = replace(leg, amount_minor=999)
    (row,) = found(shop, finished(shop))
    assert (row["state"], row["theirs"]) == (State.OPEN, "999"), "it differs in another way now"


def test_reports_are_listed_newest_first_and_differences_by_page(shop: Shop) -> None:
    shop.plant_all(5)
    started = [finished(shop), finished(shop)]
    with shop.world.database.read() as connection:
        page = list_reconciliations(connection, limit=1)
        assert ([each["id"] for each in page["data"]], page["has_more"]) == ([started[1]], True)
        rest = list_reconciliations(connection, limit=5, after=started[1])
        assert [each["id"] for each in rest["data"]] == [started[0]]
        first = list_differences(connection, started[0], kind="status", limit=1)
        second = list_differences(connection, started[0], kind="status", limit=10, after=first["data"][0]["n"])
        assert first["has_more"]
        assert {each["kind"] for each in (*first["data"], *second["data"])} == {"status"}
        with pytest.raises(NotFound):
            list_differences(connection, "rec_none", limit=1)
        count = select(func.count()).select_from(tables.reconciliation_differences)
        assert connection.execute(count).scalar_one() == 2 * LEGS
