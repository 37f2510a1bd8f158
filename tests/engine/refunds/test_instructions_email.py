"""The customer's address for instructions: frozen in the send, masked where it is shown, erased after the end."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.support.engine_world import DAY, ScriptedProcessor, World, credit_refund, withdrawal

from refund_worker.domain.refund import RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.intake.dead_letters import keep_refused, refused_requests
from refund_worker.engine.jobs.erase_addresses import KEPT_SECONDS, erase_addresses
from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.engine.refunds import address_hash
from refund_worker.engine.views.api_objects import refund_view, timeline
from refund_worker.errors import InvalidRequest, KeyReused
from refund_worker.store import inbox, tables
from refund_worker.store.tables import attempts, metadata, outbox, refunds

ADDRESS = "jane.doe@example.com"
MASKED = "j***@example.com"


def asked(world: World, key: str = "k", address: str | None = ADDRESS, **changes: object) -> str:
    return world.request(withdrawal(50, key, instructions_email=address, **changes)).refund_id


def places_of(world: World) -> set[str]:
    """Return the tables in which the address stands."""
    with world.database.read() as connection:
        rows = {table.name: connection.execute(table.select()).all() for table in metadata.sorted_tables}
    return {name for name, found in rows.items() if any("jane" in str(tuple(row)) for row in found)}


def bodies(world: World) -> list[dict[str, object]]:
    with world.database.read() as connection:
        return [json.loads(body) for body in connection.execute(select(attempts.c.body)).scalars()]


def test_address_is_sent_and_shown_masked(world: World) -> None:
    world.context = replace(world.context, notify=True)
    world.pay()
    refund_id = asked(world)
    world.work()
    assert [body["instructions_email"] for body in bodies(world)] == [ADDRESS]
    refund = world.refund(refund_id)
    assert refund_view(refund)["instructions_email"] == MASKED
    assert "jane" not in repr(refund)
    with world.database.read() as connection:
        told = str(timeline(connection, refund_id)) + " ".join(connection.execute(select(outbox.c.body)).scalars())
        stored = connection.execute(select(refunds.c.body)).scalar_one()
    assert "jane" not in told + stored
    assert MASKED in told
    assert places_of(world) == {"refunds", "attempts"}


def test_address_is_not_sent_to_a_processor_that_does_not_take_it(world: World) -> None:
    manual = ScriptedProcessor("manual")  # it would write the address down
    world.context = replace(world.context, processors={**world.context.processors, "manual": manual})
    world.pay(processor="manual", processor_payment_id="cash-1")
    asked(world)
    world.work()
    assert [body["instructions_email"] for body in bodies(world)] == [None]


def test_repeated_key_compares_the_address(world: World) -> None:
    world.pay()
    first = asked(world)
    assert asked(world) == first
    for other in ("joe@example.com", "Jane.doe@example.com", None):
        with pytest.raises(KeyReused) as error:
            asked(world, address=other)
        assert error.value.fields == ("instructions_email",)


def test_key_of_a_request_without_address_refuses_one(world: World) -> None:
    world.pay()
    first = asked(world, address=None)
    assert asked(world, address=None) == first
    with pytest.raises(KeyReused):
        asked(world)


def test_address_is_erased_35_days_after_the_end(world: World) -> None:
    world.pay()
    first = asked(world)
    world.work()
    assert world.refund(first).status is RefundStatus.SUCCEEDED
    world.pass_time(KEPT_SECONDS - 1)
    assert erase_addresses(world.context) == 0
    world.pass_time(2)
    before = world.refund(first)
    assert erase_addresses(world.context) == 1
    assert places_of(world) == set()
    assert [body["instructions_email"] for body in bodies(world)] == ["[erased]"]
    after = world.refund(first)
    assert refund_view(after)["instructions_email"] is None
    assert replace(after, instructions_email=ADDRESS, version=before.version) == before
    assert erase_addresses(world.context) == 0
    assert asked(world) == first, "a repeated key is still answered"
    with pytest.raises(KeyReused):
        asked(world, address="joe@example.com")


def test_open_refund_keeps_its_address(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "requires_action")
    refund_id = asked(world)
    world.work_for(10 * DAY)
    world.pass_time(2 * KEPT_SECONDS)
    assert erase_addresses(world.context) == 0
    world.processor.become("re_1", "succeeded")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert erase_addresses(world.context) == 0, "the time begins at the end"
    world.pass_time(KEPT_SECONDS + 1)
    assert erase_addresses(world.context) == 1


def test_address_of_a_canceled_request_is_erased_too(world: World) -> None:
    world.pay()
    world.command(asked(world), Action.CANCEL)
    world.pass_time(KEPT_SECONDS + 1)
    assert erase_addresses(world.context) == 1
    assert places_of(world) == set()


def told(world: World, event_id: str) -> None:
    """Store an event about the refund's object, which names the address twice, as Stripe sends it."""
    sent = {"email_sent_at": 1, "email_sent_to": ADDRESS}
    shown = {"type": "display_details", "display_details": {"email_sent": sent}}
    item = {"object": "refund", "id": "re_1", "instructions_email": ADDRESS, "next_action": shown, "reason": None}
    event = {"id": event_id, "type": "refund.updated", "data": {"object": item}}
    with world.database.write() as connection:
        inbox.insert_event(connection, "stripe", event_id, "refund.updated", json.dumps(event, indent=2), world.now)


def test_no_event_keeps_the_address_after_its_erasure(world: World) -> None:
    world.pay()
    asked(world)
    world.work()
    told(world, "evt_early")
    assert webhook_inbox.process_inbox(world.context) == 1
    world.pass_time(KEPT_SECONDS + 1)
    assert erase_addresses(world.context) == 1
    assert places_of(world) == set()
    told(world, "evt_late")
    assert places_of(world) == {"inbox"}, "an event stays as it came until it is processed"
    assert webhook_inbox.process_inbox(world.context) == 1
    assert places_of(world) == set()
    with world.database.read() as connection:
        bodies = connection.execute(select(tables.inbox.c.body)).scalars().all()
    told_of = {body["id"]: body["data"]["object"] for body in map(json.loads, bodies)}
    assert {event_id: item["instructions_email"] for event_id, item in told_of.items()} == dict.fromkeys(
        ("evt_early", "evt_late"), "[erased]"
    )
    assert [item["id"] for item in told_of.values()] == ["re_1", "re_1"], "the rest of an event stays"


def test_event_without_the_address_is_processed_again(world: World) -> None:
    world.pay()
    refund_id = asked(world)
    world.work()
    told(world, "evt_1")
    for _ in range(2):
        with world.database.write() as connection:
            connection.execute(tables.inbox.update().values(taken_at=None, outcome=None))
        assert webhook_inbox.process_inbox(world.context) == 1
    told(world, "evt_1")  # a duplicate is not stored
    assert places_of(world) == {"refunds", "attempts"}
    with world.database.read() as connection:
        (row,) = connection.execute(select(tables.inbox)).mappings().all()
        assert webhook_inbox.refunds_of_events(connection, world.context, [row]) == {("stripe", "evt_1"): refund_id}
    assert row["outcome"] == webhook_inbox.PROCESSED


def test_refund_to_the_balance_takes_no_address(world: World) -> None:
    world.pay()
    world.spend()
    with pytest.raises(InvalidRequest) as error:
        world.request(credit_refund(20, to=To.BALANCE, instructions_email=ADDRESS))
    assert (error.value.status, error.value.field) == (422, "instructions_email")


def test_refused_request_is_kept_with_the_address_masked(world: World) -> None:
    keep_refused(world.context, "celery", {"instructions_email": ADDRESS, "kind": "x"}, InvalidRequest("no"))
    with world.database.read() as connection:
        (kept,) = refused_requests(connection)
    assert json.loads(kept["body"])["instructions_email"] == MASKED
    assert places_of(world) == set()


def test_hash_has_a_salt_of_its_own_each_time() -> None:
    one, two = address_hash.of(ADDRESS), address_hash.of(ADDRESS)
    assert one != two
    assert "jane" not in str(one)
    assert address_hash.is_of(ADDRESS, one)
    assert not address_hash.is_of("joe@example.com", one)
    assert not address_hash.is_of(None, one)
    assert address_hash.is_of(None, None)
    assert not address_hash.is_of(ADDRESS, "sha256:broken")
