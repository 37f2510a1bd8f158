"""Payouts that a person moves: nothing is sent, and the body has all that the person needs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields

import pytest

from refund_worker.domain.payouts.destination import DestinationKind, read_destination
from refund_worker.domain.payouts.transfers import NotListed, PayeeUnreadable, Step, TransferInstruction
from refund_worker.domain.processor_replies import Blocked, Misconfigured
from refund_worker.processors import manual
from refund_worker.processors.payout_routes import PayoutCapabilities, PayoutRoute, no_transfer

DESTINATIONS = [
    {"kind": "manual", "text": "cash, at the office on Friday"},
    {"kind": "bank", "iban": "DE89 3704 0044 0532 0130 00", "holder": "M. Example"},
    {"kind": "paypal", "email": "payee@example.com"},
    {"kind": "stripe_account", "account": "acct_1Abcdef"},
]


def instruction(given: dict[str, str], step: Step = Step.PAYOUT) -> TransferInstruction:
    return TransferInstruction(
        payout_id="po_1",
        leg_id="po_1-1",
        attempt=2,
        step=step,
        destination=read_destination(given),
        amount_minor=12_50,
        currency="EUR",
        description="November",
        end_to_end_id="po_1-1:2",
    )


def route() -> PayoutRoute:
    assert manual.ENTRY.payouts is not None
    return manual.ENTRY.payouts.make("cash", None, 10)


@pytest.mark.parametrize("given", DESTINATIONS, ids=lambda given: given["kind"])
def test_body_holds_the_whole_payment_and_is_the_same_each_time(given: dict[str, str]) -> None:
    body = route().freeze(instruction(given))
    assert body == route().freeze(instruction(given))
    read = json.loads(body)
    assert read["destination"] == instruction(given).destination.as_fields()
    assert (read["amount"], read["currency"], read["description"]) == (12_50, "EUR", "November")
    ids = [read[f"refund_worker_{name}"] for name in ("payout", "leg", "attempt")]
    assert ids == ["po_1", "po_1-1", 2]


def test_another_step_than_a_payout_is_refused() -> None:
    with pytest.raises(ValueError, match="cash has no step transfer"):
        route().freeze(instruction(DESTINATIONS[0], Step.TRANSFER))


def test_nothing_is_sent_found_or_canceled() -> None:
    async def replies() -> None:
        made = route()
        assert made.name == "cash"
        sent = await made.send("po_1-1:2", "{}")
        assert isinstance(sent, Blocked)
        assert sent.code == "manual_payout"
        assert isinstance(await made.fetch("x", "{}"), Misconfigured)
        assert isinstance(await made.cancel("x", "{}"), Misconfigured)
        assert isinstance(await made.find("po_1-1:2", "{}", 0), NotListed)
        assert isinstance(await made.read_payee(read_destination(DESTINATIONS[0])), PayeeUnreadable)
        await made.close()
        await made.close()

    asyncio.run(replies())


def test_table_says_that_a_person_pays_and_names_its_sources() -> None:
    entry = manual.ENTRY.payouts
    assert entry is not None
    table = entry.capabilities
    assert table.kinds == frozenset(DestinationKind)
    assert (table.steps, table.moves_money, table.cancels) == ((Step.PAYOUT,), False, False)
    assert (table.finds, table.list_proves_absence, table.reads_payees) == (False, False, False)
    assert set(table.sources) == {fact.name for fact in fields(PayoutCapabilities)} - {"sources"}
    assert all(table.sources.values())
    assert entry.transfer_hint is no_transfer
