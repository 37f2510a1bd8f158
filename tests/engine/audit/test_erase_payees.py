"""Erasing a customer erases what is stored of their payees: destinations, texts of payouts and earnings, bank files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text, update
from tests.engine.audit.test_hash_chain import end_after_kills, findings, seal
from tests.engine.payouts.test_bank_files import answer, bank_world, reference
from tests.support.engine_world import START, withdrawal
from tests.support.payees import KEY, OTHER_KEY, a_payee, an_earning, payout_accounts
from tests.support.payout_world import PayoutWorld

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import Payee, PayeeStatus
from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.audit.erase_customer import erase_customer
from refund_worker.engine.idempotency import Key
from refund_worker.engine.payees.earnings import StoredEarning, record_earnings
from refund_worker.engine.payees.payees import pause_payee, record_payee, resume_payee, reveal_destination
from refund_worker.engine.payouts.actions import perform_payout_action
from refund_worker.engine.payouts.bank_files import CSV, content_of, export_file
from refund_worker.engine.payouts.destination_changes import change_payee
from refund_worker.engine.views.customer_export import export_customer
from refund_worker.engine.views.payout_objects import payout_views
from refund_worker.errors import AlreadyRecorded, Conflict, DestinationsKeyMissing, KeyReused, NotFound
from refund_worker.processors.accounts import Accounts
from refund_worker.sealing import Box
from refund_worker.store import inbox
from refund_worker.store.tables import metadata, payouts

MAIL = "sue@example.org"
PAYPAL = Destination(kind=DestinationKind.PAYPAL, email=MAIL)
TIM = Destination(kind=DestinationKind.PAYPAL, email="tim@example.org")
MANUAL = Destination(kind=DestinationKind.MANUAL, text="Sue Winter, Elm Street 1")
CONNECTED = Destination(kind=DestinationKind.STRIPE_ACCOUNT, account="acct_1Sue")
SPEND = {"transaction_id": None, "description": f"Chat, receipt to {MAIL}"}


def any_destination() -> Accounts:
    """Return accounts that pay to destinations of every kind."""
    found = dict(payout_accounts().items())
    stripe = found["stripe"]
    assert stripe.entry.payouts is not None
    every = replace(stripe.entry.payouts.capabilities, kinds=frozenset(DestinationKind))
    payouts = replace(stripe.entry.payouts, capabilities=every)
    return Accounts({**found, "stripe": replace(stripe, entry=replace(stripe.entry, payouts=payouts))})


@pytest.fixture
def world(migrated_url: str) -> Iterator[PayoutWorld]:
    """Yield a world in which "sue" has two payees with balances, and "tim" one."""
    made = PayoutWorld(migrated_url, accounts=any_destination(), notify=True)
    with made.database.write() as connection:
        connection.execute(text("DELETE FROM payees"))  # the one of `PayoutWorld` has no snapshot
    made.pay(1, customer_id="sue")
    made.pay(2, customer_id="tim")
    for payee_id, customer_id, destination in (
        ("sue-p", "sue", PAYPAL),
        ("sue-m", "sue", MANUAL),
        ("tim-p", "tim", None),
    ):
        named = destination or Destination(kind=DestinationKind.PAYPAL, email="tim@example.org")
        record = a_payee(payee_id, customer_id=customer_id, destination=named)
        record_payee(made.context, record, actor="shop")
        description = SPEND["description"] if customer_id == "sue" else "Tim's chat"
        earned = an_earning(f"e-{payee_id}", 1_000, payee_id=payee_id, **SPEND | {"description": description})
        record_earnings(made.context, [earned], actor="shop")
    made.now += 60 * 86_400
    yield made
    made.close()


def paid(world: PayoutWorld, key: str = "k", amount: int = 300, *, payee_id: str = "sue-p", **values: Any) -> str:
    """Pay out, with a text about Sue; return the payout's id."""
    world.route.script = ["succeeded"]
    payout_id = world.ask(amount, key, payee_id=payee_id, **({"description": "October for Sue"} | values))
    world.settle()
    assert world.payout(payout_id).status is PayoutStatus.PAID
    return payout_id


def with_texts(world: PayoutWorld) -> str:
    """Put texts about Sue wherever the program stores texts about a payee; return the id of a paid payout."""
    payout_id = paid(world, requested_by=f"for {MAIL}")
    world.route.script = ["blocked"]
    refused = world.ask(100, "k2", payee_id="sue-m", description="Sue again")
    world.settle()
    key, why = Key("shop", "act"), f"Sue Winter asked, {MAIL}"
    perform_payout_action(world.context, refused, PayoutAction.RESOLVE, actor="bob", reason=why, key=key)
    pause_payee(world.context, "sue-m", actor="bob", reason="Sue asked")
    with world.database.write() as connection:
        object_id = world.payout(payout_id).legs[0].object_id
        told = {"resource": {"payout_batch_id": object_id, "payout_item": {"receiver": MAIL}}}
        inbox.insert_event(connection, "stripe", "evt_1", "PAYMENT.PAYOUTS-ITEM.SUCCEEDED", json.dumps(told), START)
        inbox.mark_processed(connection, [("stripe", "evt_1", "taken")], START)
    return payout_id


def erase(world: PayoutWorld, customer_id: str = "sue") -> None:
    erase_customer(world.context, customer_id, reason="asked for", actor="admin")


def left(world: PayoutWorld) -> list[str]:
    """Return the rows with a text of Sue. Snapshots are left out: they have masked destinations, and never change."""
    found = []
    with world.database.read() as connection:
        for table in metadata.sorted_tables:
            for row in map(tuple, connection.execute(select(table)) if table.name != "snapshots" else ()):
                if any(word in str(row) for word in ("Sue", MAIL, "s•••@", "Elm")):
                    found.append(f"{table.name}: {row}")
    return found


def payee(world: PayoutWorld, payee_id: str = "sue-p") -> Payee:
    return world.payee_row(payee_id)


@pytest.mark.parametrize("sealed", [True, False])
def test_no_text_or_destination_is_left_and_amounts_stay(world: PayoutWorld, sealed: bool) -> None:
    payout_id = with_texts(world)
    if sealed:
        seal(world)
    tables = {row.partition(":")[0] for row in left(world)}
    assert tables >= {"payees", "earnings", "payouts", "payout_attempts", "ledger_transactions", "outbox"}
    assert tables >= {"events", "keyed_acts"}
    before, accounts = world.balance("sue-p"), world.accounts()
    erase(world)
    assert left(world) == []
    assert findings(world) == []
    seal(world)
    assert findings(world) == []
    assert (world.balance("sue-p"), world.accounts()) == (before, accounts)
    assert before.net_minor == 700
    payout = world.payout(payout_id)
    assert (payout.amount_minor, payout.status, payout.idempotency_key) == (300, PayoutStatus.PAID, "k")
    with world.database.read() as connection:
        (shown,) = payout_views(connection, [payout])
        entry = text("SELECT description FROM ledger_transactions WHERE transaction_id = 'earning-e-tim-p'")
        assert connection.execute(entry).scalar() == "Tim's chat"
    assert (shown["description"], shown["destination"]) == ("", "erased")
    assert payee(world, "tim-p").destination_masked == "PayPal t•••@example.org"


@pytest.mark.parametrize("word", ["pending", "requires_action", "lost", "blocked", "unknown"])
def test_a_payout_under_way_refuses_the_erasure_and_is_named(world: PayoutWorld, word: str) -> None:
    world.route.script = [word]
    payout_id = world.ask(300, payee_id="tim-p")
    world.step()
    status = world.payout(payout_id).status
    with pytest.raises(Conflict, match=f"payout {payout_id} \\({status}\\)"):
        erase(world, "tim")
    assert payee(world, "tim-p").destination_masked == "PayPal t•••@example.org"


def test_a_held_payout_is_under_way(world: PayoutWorld) -> None:
    pause_payee(world.context, "tim-p", actor="bob", reason="")
    payout_id = world.ask(300, payee_id="tim-p")
    world.settle()
    with pytest.raises(Conflict, match=f"payout {payout_id} \\(held\\)"):
        erase(world, "tim")


def test_nothing_is_paid_to_an_erased_payee_before_a_new_place(world: PayoutWorld) -> None:
    erase(world)
    assert (payee(world).status, payee(world).status_reason) == (PayeeStatus.INCOMPLETE, "customer_erased")
    assert reveal_destination(world.context, "sue-p", actor="admin") == {"kind": "manual", "text": "erased"}
    pause_payee(world.context, "sue-p", actor="bob", reason="")
    resume_payee(world.context, "sue-p", actor="bob", reason="")
    payout_id = world.ask(300, payee_id="sue-p")
    world.settle(86_400, 3_600)
    assert (world.payout(payout_id).status, world.route.sends()) == (PayoutStatus.HELD, [])
    change_payee(world.context, a_payee("sue-p", customer_id="sue", destination=PAYPAL), actor="shop")
    assert world.payout(payout_id).status is PayoutStatus.CANCELED
    assert paid(world, "k3", 700)
    erase(world)
    assert payee(world).status is PayeeStatus.INCOMPLETE


def test_payout_of_the_customers_refund_to_another_is_erased(world: PayoutWorld) -> None:
    """The payee belongs to another customer now, and is not erased."""
    refund_id = world.request(withdrawal(10, "w", customer_id="sue")).refund_id
    world.work()
    payout_id = paid(world, payee_id="tim-p")
    with world.database.write() as connection:
        connection.execute(update(payouts).where(payouts.c.payout_id == payout_id).values(refund_id=refund_id))
    erase(world)
    assert left(world) == []
    assert payee(world, "tim-p").destination_failure is None


def test_an_erasure_of_payees_killed_anywhere_is_finished(world: PayoutWorld) -> None:
    with_texts(world)
    seal(world)
    assert end_after_kills(world, lambda: erase(world), 60) > 10
    assert (left(world), findings(world)) == ([], [])
    changed = payee(world)
    erase(world)
    assert payee(world) == changed, "the second erasure changes no payee"


def test_keys_of_erased_payouts_and_earnings_still_replay(world: PayoutWorld) -> None:
    payout_id = paid(world)
    erase(world)
    assert world.ask(300, "k", payee_id="sue-p", description="October for Sue") == payout_id
    with pytest.raises(KeyReused):
        world.ask(301, "k", payee_id="sue-p", description="October for Sue")
    same = an_earning("e-sue-p", 1_000, payee_id="sue-p", **SPEND)
    (again,), (other,) = (
        record_earnings(world.context, [record], actor="shop") for record in (same, replace(same, amount_minor=999))
    )
    assert isinstance(again, StoredEarning)
    assert not again.new
    assert isinstance(other, AlreadyRecorded)
    assert left(world) == []


def test_a_payout_that_comes_back_after_the_erasure_is_given_back(world: PayoutWorld) -> None:
    payout_id = paid(world)
    erase(world)
    (key,) = world.route.book
    world.report(payout_id, world.route.set(key, ObjectState.FAILED))
    world.settle(86_400, 3_600)
    assert (world.payout(payout_id).status, world.balance("sue-p").net_minor) == (PayoutStatus.RETURNED, 1_000)
    assert left(world) == []


def test_the_connected_account_of_a_payout_stays(world: PayoutWorld) -> None:
    tims = replace(CONNECTED, account="acct_1Tim")
    for payee_id, customer_id, destination in (("sue-c", "sue", CONNECTED), ("tim-c", "tim", tims)):
        record_payee(world.context, a_payee(payee_id, customer_id=customer_id, destination=destination), actor="shop")
        record_earnings(world.context, [an_earning(f"e-{payee_id}", 500, payee_id=payee_id, **SPEND)], actor="shop")
    world.now += 60 * 86_400
    payout_id = paid(world, payee_id="sue-c")
    paid(world, "k-t", payee_id="tim-c")
    with world.database.write() as connection:
        mine = {"account": "acct_1Sue", "data": {"object": {"id": "acct_1Sue", "email": MAIL}}}
        others = {"account": "acct_1Sue", "data": {"object": {"id": "ch_9", "description": "of another"}}}
        inbox.insert_event(connection, "stripe", "evt_1", "account.updated", json.dumps(mine), START)
        inbox.insert_event(connection, "stripe", "evt_2", "charge.updated", json.dumps(others), START)
        about_tim = {"account": "acct_1Tim", "data": {"object": {"id": "acct_1Tim", "email": "tim@example.org"}}}
        inbox.insert_event(connection, "stripe", "evt_3", "account.updated", json.dumps(about_tim), START)
        read = [("stripe", event_id, "taken") for event_id in ("evt_1", "evt_2", "evt_3")]
        inbox.mark_processed(connection, read, START)
    erase(world)
    assert payee(world, "sue-c").destination_ref is None
    payout = world.payout(payout_id)
    kept = {"kind": "stripe_account", "account": "acct_1Sue"}
    assert json.loads(world.context.box.open(payout.destination_box)) == kept, "a transfer can still be undone"
    with world.database.read() as connection:
        bodies = dict(connection.execute(text("SELECT event_id, body FROM inbox")).all())
    assert (MAIL in bodies["evt_1"], "of another" in bodies["evt_2"]) == (False, True)
    assert "tim@example.org" in bodies["evt_3"]


def test_an_erasure_needs_the_key_of_the_destinations(world: PayoutWorld) -> None:
    world.context = replace(world.context, box=Box((KEY,)))
    record = a_payee("sue-b", customer_id="sue")
    record_payee(world.context, record, actor="shop")
    record_earnings(world.context, [an_earning("e-b", 500, payee_id="sue-b", **SPEND)], actor="shop")
    world.now += 60 * 86_400
    payout_id = paid(world, payee_id="sue-b")
    sealed = world.payout(payout_id).destination_box
    here = world.context
    world.context = replace(here, box=Box((OTHER_KEY,)))
    with pytest.raises(DestinationsKeyMissing):
        erase(world)
    assert world.payout(payout_id).description == "October for Sue"
    world.context = here
    erase(world)
    payout = world.payout(payout_id)
    assert payout.destination_box != sealed
    assert json.loads(here.box.open(payout.destination_box)) == {"kind": "manual", "text": "erased"}
    with world.database.read() as connection:
        (body,) = connection.execute(text("SELECT body FROM payout_attempts")).scalars()
    assert "M. Example" not in here.box.open(body)


def test_a_bank_file_is_erased_once_all_in_it_are_paid(migrated_url: str) -> None:
    world = bank_world(lambda: PayoutWorld(migrated_url))
    world.pay(1, customer_id="sue")
    world.change_payee("b1", customer_id="sue")
    ids = [world.ask(2_000, f"k-{each}", payee_id=each, currency="EUR") for each in ("b1", "b2")]
    world.settle()
    file = export_file(world.context, "bank_file", form=CSV, actor="ann").file
    assert file is not None
    with pytest.raises(Conflict, match=f"payout {ids[0]}"):
        erase(world)
    answer(world, f"{reference(world, ids[0])},paid,,2026-11-02,,")
    with pytest.raises(Conflict, match=f"bank file {file.file_id}"):
        erase(world)
    assert "Example" in content_of(world.context, file.file_id)[1].decode()
    answer(world, f"{reference(world, ids[1])},rejected,AC04,2026-11-02,,")
    for _ in range(2):
        erase(world)
    with pytest.raises(NotFound, match="erased"):
        content_of(world.context, file.file_id)
    answer(world, f"{reference(world, ids[0])},returned,AC04,2026-11-09,,")
    assert world.payout(ids[0]).status is PayoutStatus.RETURNED, "the bank's answers are still taken"
    world.close()


def test_an_export_has_the_payouts_and_no_whole_destination(world: PayoutWorld) -> None:
    payout_id = with_texts(world)
    other = paid(world, "k-t", payee_id="tim-p", description="Tim's October")
    whole = "".join(export_customer(world.context, "sue"))
    data = json.loads(whole)["data"]
    assert payout_id in {row["payout_id"] for row in data["payouts"]}
    legs = {row["leg_id"] for row in data["payout_legs"]}
    assert {row["leg_id"] for row in data["payout_attempts"]} == legs
    assert {row["leg_id"] for row in data["transfer_objects"]} == {f"{payout_id}-1"}
    kinds = {row["kind"] for row in data["ledger_transactions"]}
    assert kinds >= {"earning", "payee_withdrawal"}
    assert {row["kind"] for row in data["events"]} >= {"payee_recorded", "payout_accepted", "payout_paid"}
    assert {row["type"] for row in data["outbox"]} >= {"payout.paid"}
    assert len(data["keyed_acts"]) == 1
    assert {row["event_id"] for row in data["inbox"]} == {"evt_1"}
    assert {row["row_id"] for row in data["snapshots"] if row["table_name"] == "payees"} == {"sue-p", "sue-m"}
    assert (other in whole, "tim-p" in whole, "Elm Street" in whole) == (False, False, False)
    assert not any("body" in row for row in data["payout_attempts"])
