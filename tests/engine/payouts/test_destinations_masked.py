"""A processor's text that repeats a payee's destination is stored, shown and logged with the destination masked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.engine.payouts.test_resolved_by_a_person import transferred
from tests.engine.payouts.test_sync_payout import ask
from tests.engine.payouts.test_transfer_events import told, with_events
from tests.support.payees import KEY
from tests.support.payout_world import PayoutWorld

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import PayeeRead, PayeeState, TransferReply
from refund_worker.domain.processor_replies import (
    Blocked,
    Denied,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.engine.payees.refresh import refresh_payees
from refund_worker.engine.views.payout_objects import payout_timeline, show_payout
from refund_worker.errors import ProcessorUnavailable
from refund_worker.sealing import Box
from refund_worker.store import timeline
from refund_worker.store.tables import metadata

Make = Callable[..., PayoutWorld]
ACCOUNT = "acct_DI200000002xyz"
DESTINATIONS = {
    ACCOUNT: Destination(kind=DestinationKind.STRIPE_ACCOUNT, account=ACCOUNT),
    "DE89370400440532013000": Destination(kind=DestinationKind.BANK, iban="DE89370400440532013000", holder="M"),
    "00123456": Destination(kind=DestinationKind.BANK, account_number="00123456", routing="110000000", holder="M"),
    "mara@example.com": Destination(kind=DestinationKind.PAYPAL, email="mara@example.com"),
    "ABCDEFGHJKLM2": Destination(kind=DestinationKind.PAYPAL, payer_id="ABCDEFGHJKLM2"),
}
WHOLE = "No such destination: '{}'; look it up."
# Each is for the processor or for admins, is sealed where there is a key, or names an account of the ledger.
MAY_BE_WHOLE = {
    *("payees.destination_box", "payees.destination_ref", "payouts.destination_box", "payouts.connected_account"),
    *("payout_attempts.body", "ledger_entries.account"),
}


def paid_to(world: PayoutWorld, destination: Destination) -> str:
    """Let the world's payee have this destination and 50.00 USD, and ask for a payout. Return its id."""
    sealed = world.context.box.seal(json.dumps(destination.as_fields()))
    world.change_payee(
        destination_box=sealed,
        destination_kind=destination.kind,
        destination_masked=destination.masked,
        destination_ref=destination.account,
    )
    world.earn("e1", 5_000)
    return world.ask()


def places_of(world: PayoutWorld, value: str) -> set[str]:
    """Return the columns of the database in which the value stands."""
    found = set()
    with world.database.read() as connection:
        for table in metadata.tables.values():
            for row in connection.execute(select(table)).mappings():
                found |= {f"{table.name}.{name}" for name, held in row.items() if value in str(held)}
    return found


ANSWERS: dict[str, Callable[[str], TransferReply]] = {
    "blocked": lambda text: Blocked("balance_insufficient", text),
    "conflict": KeyConflict,
    "denied": lambda text: Denied("no_permission", text),
    "misconfigured": lambda text: Misconfigured("resource_missing", text),
    "not sent": NotSent,
    "refused": lambda text: Refused("no_account", text),
    "unanswered": Unanswered,
    "unknown": lambda text: UnknownRefusal("strange", text),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_answer_shows_the_destination_whole(make_world: Make, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="refund_worker")
    world = make_world()
    world.context = replace(world.context, notify=True)
    payout_id = paid_to(world, DESTINATIONS[ACCOUNT])
    world.route.answers[f"{payout_id}-1:1"] = ANSWERS[kind](WHOLE.format(ACCOUNT))
    world.settle(120)
    assert world.route.sends() != []
    with world.database.read() as connection:
        payout = world.payout(payout_id)
        shown = json.dumps([show_payout(connection, payout), payout_timeline(connection, payout)], ensure_ascii=False)
    assert ACCOUNT not in shown
    assert places_of(world, ACCOUNT) <= MAY_BE_WHOLE
    assert [record for record in caplog.records if ACCOUNT in record.getMessage() + str(vars(record))] == []
    assert places_of(world, "No such destination: 'acct_•••• 2xyz'; look it up.") != set()


@pytest.mark.parametrize("value", DESTINATIONS)
def test_no_kind_of_destination_is_shown_whole(make_world: Make, value: str) -> None:
    world = make_world()
    payout_id = paid_to(world, DESTINATIONS[value])
    world.route.answers[f"{payout_id}-1:1"] = ANSWERS["refused"](WHOLE.format(value))
    world.settle()
    assert world.payout(payout_id).status == "failed"
    message = str(world.payout(payout_id).failure_message)
    assert value not in message
    assert message.startswith("No such destination: '")
    assert message.endswith("'; look it up.")
    assert places_of(world, value) <= MAY_BE_WHOLE


def test_sealed_destination_is_masked_too(make_world: Make) -> None:
    world = make_world()
    world.context = replace(world.context, box=Box((KEY,)))
    payout_id = paid_to(world, DESTINATIONS["00123456"])
    world.route.answers[f"{payout_id}-1:1"] = ANSWERS["refused"](WHOLE.format("00123456"))
    world.settle()
    assert places_of(world, "00123456") == set()
    assert str(world.payout(payout_id).failure_message) == WHOLE.format("•••• 3456")


def test_question_of_a_person_shows_it_masked(world: PayoutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    payout_id = paid_to(world, DESTINATIONS[ACCOUNT])
    world.settle()

    async def denied(object_id: str, body: str) -> TransferReply:
        return ANSWERS["denied"](WHOLE.format(ACCOUNT))

    monkeypatch.setattr(world.route, "fetch", denied)
    with pytest.raises(ProcessorUnavailable) as caught:
        ask(world, payout_id)
    assert ACCOUNT not in caught.value.message
    assert places_of(world, ACCOUNT) <= MAY_BE_WHOLE
    assert places_of(world, "acct_•••• 2xyz'; look it up.") != set()


def test_answer_about_an_event_shows_it_masked(
    make_world: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world = with_events(make_world)
    world.route.script = ["lost"]
    world.change_payee(destination_box=world.context.box.seal(json.dumps(DESTINATIONS[ACCOUNT].as_fields())))
    payout_id = world.ask()
    world.step()
    world.route.down = True
    world.settle(12_000, step=100)

    async def denied(object_id: str, body: str) -> TransferReply:
        return ANSWERS["denied"](WHOLE.format(ACCOUNT))

    monkeypatch.setattr(world.route, "fetch", denied)
    told(world, "tr_1", f"{payout_id}-1")
    assert places_of(world, ACCOUNT) <= MAY_BE_WHOLE
    assert "acct_•••• 2xyz" in caplog.text
    assert ACCOUNT not in caplog.text


def test_verdict_on_a_payee_shows_it_masked(world: PayoutWorld) -> None:
    paid_to(world, DESTINATIONS[ACCOUNT])
    world.change_payee(refresh_at=world.now)
    world.route.payee = PayeeRead(PayeeState.INCOMPLETE, WHOLE.format(ACCOUNT))
    assert refresh_payees(world.context) == 1
    assert world.payee_row().verdict_reason == WHOLE.format("acct_•••• 2xyz")
    assert places_of(world, ACCOUNT) <= MAY_BE_WHOLE


def test_timeline_masks_the_account_whose_transfer_stands(make_world: Make) -> None:
    world, payout_id = transferred(make_world, "refused")
    for _ in range(2):
        world.act_on(payout_id, "resolve", reference="wire-7")
        world.settle(600)
    with world.database.read() as connection:
        (event,) = [e for e in timeline.events_about(connection, payout_id) if e["kind"] == "transfer_stands"]
    assert "acct_p000" not in str(dict(event))
    assert json.loads(event["detail"])["account"] == "acct_•••• 00"
