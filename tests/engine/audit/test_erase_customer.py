"""After an erasure no text of the customer is left anywhere; ids, amounts and the audit trail stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from tests.engine.audit.test_hash_chain import end_after_kills, findings, seal, tamper
from tests.engine.claims.claim_worlds import dispute
from tests.support.engine_world import START, World, credit_refund, withdrawal

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.decision import Event
from refund_worker.domain.processor_replies import UnknownRefusal
from refund_worker.domain.refund import Kind
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.audit.erase_customer import erase_customer
from refund_worker.engine.audit.hash_chain import Finding
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.views.customer_export import export_customer
from refund_worker.errors import Conflict, KeyReused, NotFound
from refund_worker.store import accounts, dead_letters, inbox, timeline
from refund_worker.store.tables import metadata

NAME = "Vera Sommer"
MAIL = "vera@example.org"
ASKED = {"reason": f"{NAME} moved", "note": f"write to {MAIL}", "metadata": {"who": NAME}}


def corrected(world: World, customer_id: str = "c") -> tuple[Any, bool]:
    return correct(
        world.context, customer_id=customer_id, credits=5, reason=NAME, client="a", idempotency_key="x", actor="op"
    )


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a world with texts about "c" and about "b", who was merged into "c", in every place that stores texts."""
    made = World(migrated_url, notify=True)
    made.pay()
    made.spend("t", 50, description=f"Chat with {NAME}")
    made.pay(2, customer_id="b", amount_minor=100, credits=10)
    made.spend("b-t", 3, customer_id="b", description=NAME)
    merge_customers(made.context, "b", into="c", reason=f"{NAME} registered twice", actor="op")
    corrected(made)
    refund_id = made.request(withdrawal(10, **ASKED)).refund_id
    made.request(credit_refund(5, "k2", **ASKED))
    made.work()
    with made.database.write() as connection:
        event = Event("note", "anna", reason=NAME, detail={"to": MAIL})
        timeline.insert_events(connection, [(refund_id, event)], START)
        webhook = {"id": "evt_1", "data": {"object": {"id": "re_1", "payment_intent": "ch_1", "receipt_email": MAIL}}}
        inbox.insert_event(connection, "stripe", "evt_1", "refund.updated", json.dumps(webhook), START)
        inbox.mark_processed(connection, [("stripe", "evt_1", "taken")], START)
        letter = {"door": "celery", "client": "a", "idempotency_key": "z", "code": "unknown_transaction"}
        body = json.dumps({"customer_id": "b", "reason": NAME, "note": MAIL})
        dead_letters.insert_refused(connection, letter | {"message": f"no {MAIL}", "body": body}, START)
        connection.execute(text("UPDATE refund_objects SET emailed_to = 'v***@example.org'"))
    with_claims(made)
    yield made
    made.close()


def with_claims(world: World) -> None:
    """Add a lost dispute with a text, and decisions of a person about it and about a difference of a reconciliation."""
    policy = replace(world.context.policy, shortfall="person")
    world.pay(3, amount_minor=100, credits=10)
    world.spend("t3", world.account.available)
    lost = dispute(world, "lost", 100, payment_refs=("ch_3",), reason=f"{NAME} never came")
    record_disputes(replace(world.context, policy=policy), "stripe", [lost])
    with world.database.write() as connection:
        (claim_id,) = connection.execute(text("SELECT claim_id FROM claims")).scalars()
        about = {"reconciliation": "rc_1", "n": 1, "kind": "payment", "subject": "pay3"}
        event = Event("difference_acknowledged", "anna", reason=NAME, detail=about)
        timeline.insert_events(connection, [(None, event)], START)
    write_off = {"kind": ClaimKind.DISPUTE, "decision": ShortfallRule.WRITE_OFF}
    decide_claim(world.context, claim_id, **write_off, actor="anna", reason=f"for {NAME}")
    world.pay(4, captured_at=0.5)


def erase(world: World, customer_id: str = "c") -> str:
    return erase_customer(world.context, customer_id, reason="asked for", actor="admin")


def left(world: World) -> list[str]:
    """Return the rows with a text of the customer."""
    found = []
    with world.database.read() as connection:
        for table in metadata.sorted_tables:
            for row in map(tuple, connection.execute(select(table))):  # a row itself prints long texts cut
                if any(word in str(row) for word in ("Vera", "vera", "v***")):
                    found.append(f"{table.name}: {row}")
    return found


@pytest.mark.parametrize("sealed", [True, False])
def test_no_text_is_left_and_the_trail_verifies(world: World, sealed: bool) -> None:
    if sealed:
        seal(world)
    assert len({row.partition(":")[0] for row in left(world)}) >= 8, "texts are in many tables before"
    before = world.account
    assert erase(world, "b") == "c"
    assert left(world) == []
    assert findings(world) == []
    seal(world)
    assert findings(world) == []
    assert world.account == before

    with world.database.read() as connection:
        bodies = connection.execute(text("SELECT body FROM outbox WHERE claim_id IS NOT NULL")).scalars()
    assert [json.loads(body)["data"]["amount_minor"] for body in bodies] == [100, 100], "the rest of a message stays"


def test_a_change_is_still_found_after_an_erasure(world: World) -> None:
    seal(world)
    erase(world)
    seal(world)
    with world.database.read() as connection:
        seq = connection.execute(text("SELECT seq FROM ledger_transactions WHERE transaction_id = 't'")).scalar_one()
    tamper(world, f"UPDATE ledger_transactions SET credits = credits + 1 WHERE seq = {seq}")
    assert findings(world) == [Finding("ledger_transactions", seq, seq, "changed")]


def test_keys_of_erased_requests_and_records_still_replay(world: World) -> None:
    first = world.request(withdrawal(10, **ASKED))
    made, _ = corrected(world)
    erase(world)
    for texts in (ASKED, {"reason": "", "note": None, "metadata": {}}):
        again = world.request(withdrawal(10, **texts))
        assert (again.refund_id, again.replayed) == (first.refund_id, True)
    with pytest.raises(KeyReused):
        world.request(withdrawal(11, **ASKED))
    row, new = corrected(world)
    assert (row["transaction_id"], new) == (made["transaction_id"], False)
    world.spend("t", 50, description=f"Chat with {NAME}")
    assert left(world) == []


def test_nothing_is_erased_while_anything_is_under_way(world: World) -> None:
    world.processor.script("ch_1", "pending")
    refund_id = world.request(withdrawal(5, "k3", **ASKED)).refund_id
    world.work()
    before = left(world)
    with pytest.raises(Conflict, match=f"refund {refund_id} \\(pending\\)"):
        erase(world)
    assert left(world) == before
    with pytest.raises(NotFound):
        erase(world, "nobody")


def test_an_unread_webhook_event_is_under_way(world: World) -> None:
    with world.database.write() as connection:
        body = json.dumps({"id": "evt_2", "data": {"object": {"id": "re_1"}}})
        inbox.insert_event(connection, "stripe", "evt_2", "refund.updated", body, START)
    with pytest.raises(Conflict, match="webhook event evt_2"):
        erase(world)


def test_an_erasure_that_was_killed_anywhere_is_finished_by_the_next(world: World) -> None:
    seal(world)
    assert end_after_kills(world, lambda: erase(world), 40) > 10
    assert left(world) == []
    with world.database.read() as connection:
        assert accounts.erased_at(connection, "c") == world.now


def test_the_texts_of_others_stay(world: World) -> None:
    world.pay(7, customer_id="e", amount_minor=500, credits=50)
    world.spend("e-t", 5, customer_id="e", description="Emil's chat")
    world.request(withdrawal(5, "e-k", customer_id="e", reason="Emil asked"))
    erase(world)
    with world.database.read() as connection:
        spend = text("SELECT description FROM ledger_transactions WHERE transaction_id = 'e-t'")
        assert connection.execute(spend).scalar() == "Emil's chat"
        assert connection.execute(text("SELECT reason FROM refunds WHERE customer_id = 'e'")).scalar() == "Emil asked"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_transactions SET description = '', salt = NULL, credits = 1",
        "UPDATE ledger_transactions SET description = 'x', salt = NULL",
        "UPDATE ledger_transactions SET description = ''",
        "UPDATE events SET reason = '', detail = '{}', salt = NULL, actor = 'x'",
        "UPDATE events SET reason = NULL, detail = '{}', salt = NULL",
        "DELETE FROM events",
    ],
)
def test_the_database_allows_an_erasure_and_no_other_change(world: World, change: str) -> None:
    with pytest.raises(DBAPIError), world.database.engine.begin() as connection:
        connection.execute(text(change))


@pytest.fixture
def bare(migrated_url: str) -> Iterator[World]:
    """Yield a world in which "c" bought 100 credits and spent 50."""
    made = World(migrated_url)
    made.pay()
    made.spend("t", 50)
    yield made
    made.close()


@pytest.mark.parametrize("sealed", [True, False])
def test_a_reason_of_one_word_is_erased_wherever_it_stands(bare: World, sealed: bool) -> None:
    bare.processor.script("ch_1", UnknownRefusal("odd", "odd"))
    refund_id = bare.withdraw(20)
    bare.work()
    perform_action(bare.context, refund_id, Action.RETRY, actor="anna", reason="Vera", reference=None)
    bare.work_for(1_000)
    context = replace(bare.context, policy=replace(bare.context.policy, outside_since=0.0))
    record_outside_refunds(context, "stripe", [bare.refund_in_the_dashboard(100)])
    with bare.database.read() as connection:
        (claim_id,) = connection.execute(text("SELECT claim_id FROM claims")).scalars()
    link_outside_refund(bare.context, claim_id, transaction_id="t", actor="anna", reason="Vera-Sommer")
    before = left(bare)
    for kind in ("retry_requested", "linked"):
        assert any(kind in row for row in before)
    if sealed:
        seal(bare)
    erase(bare)
    assert (left(bare), findings(bare)) == ([], [])


def test_an_inquiry_is_under_way_until_it_is_closed(bare: World) -> None:
    inquiry = dispute(bare, "warning_needs_response", 100)
    record_disputes(bare.context, "stripe", [inquiry])
    with pytest.raises(Conflict, match="dispute cl_"):
        erase(bare)
    record_disputes(bare.context, "stripe", [replace(inquiry, status="warning_closed")])
    assert erase(bare) == "c"


def exported(world: World, customer_id: str = "c") -> dict[str, list[dict[str, Any]]]:
    data: dict[str, list[dict[str, Any]]] = json.loads("".join(export_customer(world.context, customer_id)))["data"]
    return data


def test_the_reason_of_an_erasure_is_exported_and_erased_by_the_next(bare: World) -> None:
    for reason in ("Vera asked", "asked again"):
        erase_customer(bare.context, "c", reason=reason, actor="admin")
        made = [row for row in exported(bare)["events"] if row["kind"] == "customer_erased"]
        assert [row["reason"] for row in made] == [reason]
        seal(bare)
    assert (left(bare), findings(bare)) == ([], [])


def test_an_export_has_the_snapshots_of_the_customers_rows(bare: World) -> None:
    refund_id = bare.withdraw(20)
    bare.work()
    bare.pay(7, customer_id="e")
    kept = {(row["table_name"], row["row_id"]) for row in exported(bare)["snapshots"]}
    assert kept == {("payments", "pay1"), ("refunds", refund_id), ("legs", f"{refund_id}-1")}


def test_an_export_has_every_row_of_the_customer_and_none_of_others(world: World) -> None:
    world.pay(7, customer_id="e", amount_minor=500, credits=50)
    world.spend("e-t", 5, customer_id="e", description="Emil's chat")
    exported = json.loads("".join(export_customer(world.context, "b")))
    assert (exported["customer_id"], exported["merged_ids"]) == ("c", ["b"])
    whole = json.dumps(exported)
    assert "Emil" not in whole
    missing = [row for row in left(world) if row.partition(":")[0] not in exported["data"]]
    assert missing == []
    assert {row["payment_id"] for row in exported["data"]["payments"]} == {"pay1", "pay2", "pay3", "pay4"}
    types = {row["type"] for row in exported["data"]["outbox"] if row["claim_id"]}
    assert types == {"dispute.lost", "dispute.decided"}
    assert len(exported["data"]["refunds"]) == 2
    assert Kind.WITHDRAWAL in {row["kind"] for row in exported["data"]["refunds"]}
    assert "salt" not in whole
    erase(world)
    assert "Vera" not in "".join(export_customer(world.context, "c"))
