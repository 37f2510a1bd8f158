"""Payments that are recorded again after a closing: the new record has what others took and what our refunds paid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.engine.claims.claim_worlds import (
    claims_of,
    dispute,
    entries_of,
    report,
    report_disputes,
    with_rule,
)
from tests.engine.claims.test_closed_payments import close
from tests.support.engine_world import World, assert_books_balance

from refund_worker.domain.claims.claim import Claim, ClaimKind, Phase
from refund_worker.domain.processor_replies import RefundObject
from refund_worker.domain.sums import violations
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.claims.recording import record_claims
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.errors import InvalidRequest
from refund_worker.store import accounts, claims, ledger, payment_refs
from refund_worker.store.reporting.sums import figures_of


def again(world: World, **changes: Any) -> None:
    """Record the processor's payment ch_1 again, and check the books afterwards."""
    world.pay(**{"payment_id": "again", **changes})
    check(world)


def check(world: World) -> None:
    """Check the books and the sums of both customers."""
    assert_books_balance(world.database)
    with world.database.read() as connection:
        assert not list(violations(figures_of(connection, ["c", "d"])))


def balances(world: World, customer_id: str = "c") -> tuple[int, int]:
    """Return (balance, held) of the customer."""
    with world.database.read() as connection:
        account = accounts.find_customer(connection, customer_id)
    assert account is not None
    return account.balance, account.held


def claim_of(world: World, kind: str = "outside_refund") -> dict[str, Any]:
    """Return the only claim of this kind."""
    (found,) = [claim for claim in claims_of(world) if claim["kind"] == kind]
    return found


def hear(world: World, item: RefundObject, status: str) -> None:
    """Report the object with this status."""
    report(world, replace(item, status=status))
    check(world)


@pytest.mark.parametrize("recorded", [1, 2, 3])
@pytest.mark.parametrize(("end", "balance"), [("succeeded", (50, 0)), ("failed", (100, 0))])
def test_refund_of_others_goes_over_to_the_new_record(
    world: World, recorded: int, end: str, balance: tuple[int, int]
) -> None:
    """The processor's reports and the two steps of the correction end the same in any order."""
    world.pay(credits=200)
    item = world.refund_in_the_dashboard(500)
    steps: list[Callable[[], None]] = [lambda: hear(world, item, "pending"), lambda: hear(world, item, end)]
    steps.insert(recorded - 1, lambda: close(world))
    steps.insert(recorded, lambda: again(world))
    for step in steps:
        step()
        check(world)
    stays = recorded == 3 and end == "failed"  # it took nothing of the new record, and never will
    claim = claim_of(world)
    assert (claim["payment_id"], balances(world)) == ("pay1" if stays else "again", balance)


def test_room_of_the_new_record_lacks_what_others_took(world: World) -> None:
    world.pay()
    report(world, world.refund_in_the_dashboard(500))
    close(world)
    again(world)
    assert world.account.payable == 50
    world.withdraw(None)
    world.work()
    assert world.processor.paid_minor() == 1_000
    assert balances(world) == (0, 0)


def test_refund_that_failed_before_stays_where_it_was(world: World) -> None:
    world.pay(refunded_minor=500)
    item = world.refund_in_the_dashboard(500)
    report(world, item)
    hear(world, item, "failed")
    close(world)
    again(world)
    assert (claim_of(world)["payment_id"], balances(world)) == ("pay1", (100, 0))


@pytest.mark.parametrize("rule", ["write_off", "debt", "person"])
@pytest.mark.parametrize("spent", [0, 70, 150])
def test_old_customer_ends_as_after_the_closing_alone(world: World, rule: str, spent: int) -> None:
    """The wrong record was another customer's, who buys more before the payment is recorded again."""
    with_rule(world, rule)
    world.pay(customer_id="d", credits=200)
    if spent:
        world.spend(customer_id="d", credits=spent)
    report(world, world.refund_in_the_dashboard(500))
    close(world)
    world.pay(2, customer_id="d")
    again(world)
    left = 100 - spent if rule == "debt" else 100 - max(0, spent - 200)
    assert balances(world, "d") == (left, 0)
    assert claim_of(world, "close")["credits"] == 200
    assert (claim_of(world)["customer_id"], balances(world)) == ("c", (50, 0))


@pytest.mark.parametrize("end", ["lost", "won"])
@pytest.mark.parametrize("recorded", ["open", "ended"])
def test_dispute_goes_over_to_the_new_record(world: World, recorded: str, end: str) -> None:
    world.pay(customer_id="d", credits=200)
    report_disputes(world, dispute(world))
    close(world)
    if recorded == "open":
        again(world)
        assert (balances(world, "d"), balances(world)) == ((0, 0), (100, 100))
    report_disputes(world, dispute(world, end))
    check(world)
    if recorded == "ended":
        again(world)
    assert balances(world, "d") == (0, 0)
    assert balances(world) == ((0, 0) if end == "lost" else (100, 0))
    report_disputes(world, dispute(world, end, money_returned=True))
    check(world)
    assert (balances(world, "d"), balances(world)) == ((0, 0), (100, 0))


def test_reversal_names_the_entry_of_the_new_record(world: World) -> None:
    world.pay(customer_id="d")
    item = world.refund_in_the_dashboard(500)
    report(world, item)
    close(world)
    again(world)
    hear(world, item, "failed")
    claim_id = claim_of(world)["claim_id"]
    assert [refers_to for _, refers_to in entries_of(world, "reversal")] == [f"{claim_id}-1", f"{claim_id}-3"]
    with world.database.read() as connection:
        entries = ledger.transactions_by_id(connection, [f"{claim_id}-{n}" for n in (3, 4)])
    assert {entry["customer_id"] for entry in entries.values()} == {"c"}


def test_refund_that_was_linked_stays_and_counts_as_ours(world: World) -> None:
    world.pay()
    world.spend(credits=40)
    report(world, world.refund_in_the_dashboard(500))
    link_outside_refund(world.context, claim_of(world)["claim_id"], transaction_id="t", actor="op", reason="the same")
    close(world)
    with pytest.raises(InvalidRequest) as refused:
        again(world, refunded_minor=499)
    assert "at least 500" in refused.value.message
    again(world, refunded_minor=500)
    assert claim_of(world)["payment_id"] == "pay1"
    assert world.account.payable == 50


def test_what_our_refunds_paid_must_be_in_the_new_record(world: World) -> None:
    world.pay()
    world.withdraw(50)
    world.work()
    close(world)
    with pytest.raises(InvalidRequest) as refused:
        again(world)
    assert refused.value.field == "refunded_minor"
    assert refused.value.message == (
        "refunded_minor: must be at least 500: refunds over the closed payment pay1 have paid or may have paid 500 "
        "of ch_1"
    )
    again(world, refunded_minor=500)
    assert balances(world) == (50, 0)
    world.withdraw(None, "rest")
    world.work()
    assert world.processor.paid_minor() == 1_000


def test_new_record_needs_none_of_what_a_refund_that_failed_asked(world: World) -> None:
    world.pay()
    world.withdraw(50)
    world.work()
    (own,) = world.processor.objects
    world.processor.become(own, "failed")
    sync_all(world.context, "stripe")
    world.work()
    close(world)
    again(world)
    assert balances(world) == (100, 0)


@pytest.mark.parametrize("heard", ["before", "after"])
def test_refunds_of_others_count_beside_ours(world: World, heard: str) -> None:
    """`refunded_minor` stands for them first: without them it would stand for ours no longer."""
    world.pay()
    world.withdraw(50)
    world.work()
    item = world.refund_in_the_dashboard(300)
    if heard == "before":
        report(world, item)
    close(world)
    if heard == "after":
        report(world, item)
    with pytest.raises(InvalidRequest) as refused:
        again(world, refunded_minor=799)
    assert "at least 800" in refused.value.message
    assert "and others refunded 300" in refused.value.message
    again(world, refunded_minor=800)
    assert (world.account.payable, balances(world)) == (20, (20, 0))


def test_smaller_record_needs_no_more_than_its_amount(world: World) -> None:
    world.pay()
    world.withdraw(50)
    world.work()
    close(world)
    again(world, amount_minor=400, refunded_minor=400)
    assert balances(world) == (0, 0)


def test_other_name_of_the_closed_payment_counts_too(world: World) -> None:
    world.pay()
    with world.database.write() as connection:
        payment_refs.add_refs(connection, "stripe", [("ch_1", "pi_1")])
    report(world, world.refund_in_the_dashboard(500))
    close(world)
    again(world, processor_payment_id="pi_1")
    assert (claim_of(world)["payment_id"], balances(world)) == ("again", (50, 0))


def test_claims_go_over_from_record_to_record(world: World) -> None:
    world.pay(credits=300)
    item = world.refund_in_the_dashboard(500)
    report(world, item)
    close(world)
    again(world, credits=200)
    close(world, "again")
    world.pay(payment_id="right")
    check(world)
    assert (claim_of(world)["payment_id"], balances(world)) == ("right", (50, 0))
    hear(world, item, "failed")
    assert balances(world) == (100, 0)


def test_record_in_another_currency_gets_nothing(world: World) -> None:
    world.pay()
    report(world, world.refund_in_the_dashboard(500))
    close(world)
    again(world, currency="EUR")
    assert (claim_of(world)["payment_id"], balances(world)) == ("pay1", (100, 0))


def test_report_that_meets_the_claim_elsewhere_follows_it(world: World) -> None:
    """The listener saw the claim on the closed payment, and the payment was recorded again before it wrote."""
    world.pay()
    report(world, world.refund_in_the_dashboard(500))
    with world.database.read() as connection:
        found = claims.find_claim(connection, claim_of(world)["claim_id"], ClaimKind.OUTSIDE_REFUND)
    assert found is not None
    close(world)
    again(world)

    def newer(before: Claim, reported: Claim) -> Claim:
        return replace(before, phase=reported.phase, object_status=reported.object_status)

    record_claims(world.context, "pay1", [replace(found, phase=Phase.RELEASED, object_status="failed")], newer)
    check(world)
    assert (claim_of(world)["payment_id"], balances(world)) == ("again", (100, 0))


def test_one_refused_record_leaves_the_others(world: World) -> None:
    first = world.pay()
    world.withdraw(50)
    world.work()
    close(world)
    records = [replace(first, payment_id="again"), replace(first, payment_id="pay2", processor_payment_id="ch_2")]
    refused, stored = record_payments(world.context, records)
    check(world)
    assert isinstance(refused, InvalidRequest)
    assert getattr(stored, "new", False)
