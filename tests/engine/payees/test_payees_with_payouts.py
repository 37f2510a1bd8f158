"""Payees and their payouts together: a changed destination, a statement with payouts, and the sums of all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.engine_world import credit_refund
from tests.support.payees import CONNECTED, a_payee, earn, payout_accounts
from tests.support.payout_world import DAY, PayoutWorld

from refund_worker.domain.refund import ObjectState, To
from refund_worker.engine.payees.payees import load_payee
from refund_worker.engine.payouts.destination_changes import change_payee
from refund_worker.engine.sums.payees import find_payee_violations
from refund_worker.engine.sums.statement import month_bounds
from refund_worker.engine.views.payee_statement import payee_statement
from refund_worker.times import iso


@pytest.fixture
def site(migrated_url: str) -> Iterator[PayoutWorld]:
    made = PayoutWorld(migrated_url, accounts=payout_accounts())
    made.pay()
    made.spend()
    try:
        yield made
        assert find_payee_violations(made.database, ["p"]) == []
    finally:
        made.close()


def test_changed_destination_cancels_what_is_unsent(site: PayoutWorld) -> None:
    earn(site, payee_id="p", available_at=0.0)
    payout_id = site.ask(300)
    with site.database.read() as connection:
        before = load_payee(connection, "p")
    after = change_payee(site.context, a_payee("p", destination=CONNECTED), actor="shop")
    assert after.destination_id != before.destination_id
    assert (site.payout(payout_id).status, site.payout(payout_id).failure_code) == ("canceled", "destination_changed")
    assert site.balance().payable_minor == 500
    site.settle(DAY)
    assert site.route.sends() == []


def test_changed_country_cancels_nothing(site: PayoutWorld) -> None:
    change_payee(site.context, a_payee("p", destination=CONNECTED), actor="shop")
    earn(site, payee_id="p", available_at=0.0)
    payout_id = site.ask(300)
    change_payee(site.context, a_payee("p", destination=CONNECTED, country="FR"), actor="shop")
    assert site.payout(payout_id).status == "queued"


def test_statement_with_a_payout_a_claw_back_and_a_return(site: PayoutWorld) -> None:
    earn(site, payee_id="p", available_at=0.0)
    payout_id = site.ask(400)
    site.settle()
    site.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    site.settle(DAY)
    site.request(credit_refund(50, "k", To.BALANCE))
    site.work()
    assert (site.balance().debt_minor, site.balance().payable_minor) == (400, 0)
    month = iso(site.now)[:7]
    with site.database.read() as connection:
        statement = payee_statement(connection, "p", month, *month_bounds(month))
    (line,) = statement["lines"]
    assert (line["earned_minor"], line["clawed_back_minor"], line["paid_minor"]) == (500, 500, 400)
    assert line["closing_minor"] == site.balance().net_minor == -400
    kinds = [(entry["kind"], entry["reference"]) for entry in statement["entries"]]
    assert kinds == [("earning", "e1"), ("payout", payout_id), ("clawback", "e1")]
    assert find_payee_violations(site.database, ["p"]) == []
    site.route.set(f"{payout_id}-1:1", ObjectState.FAILED)
    site.settle(DAY)
    with site.database.read() as connection:
        later = payee_statement(connection, "p", month, *month_bounds(month))
    assert sum(entry["amount_minor"] for entry in later["entries"]) == site.balance().net_minor == 0
    assert later["entries"][-1]["kind"] == "payout_returned"


def test_deleted_notes_do_not_change_what_the_payee_is_owed(site: PayoutWorld) -> None:
    earn(site, payee_id="p", available_at=site.now + DAY)
    site.context = replace(site.context, notify=True)
    site.request(credit_refund(10, "k", To.BALANCE))
    site.work()
    assert (site.balance().held_minor, site.balance().payable_minor) == (400, 0)
    site.pass_time(DAY)
    assert (site.balance().held_minor, site.balance().payable_minor) == (0, 400)
