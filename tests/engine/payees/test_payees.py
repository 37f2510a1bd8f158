"""Payees: the destination is sealed, a change of it makes a new one, and people pause and resume."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, select, update
from tests.support.engine_world import DAY, World
from tests.support.payees import (
    BANK,
    CONNECTED,
    IBAN,
    KEY,
    OTHER_KEY,
    ScriptedRoute,
    a_payee,
    add_payee,
    earn,
    events_about,
    with_payouts,
)

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.payee import Payee, PayeeStatus
from refund_worker.domain.payouts.transfers import Method, PayeeRead, PayeeState, PayeeUnreadable
from refund_worker.domain.processor_replies import Unanswered
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.audit.hash_chain import Sealer, verify
from refund_worker.engine.payees.payees import (
    change_payee,
    load_payee,
    pause_payee,
    record_payee,
    resume_payee,
    reveal_destination,
)
from refund_worker.engine.payees.refresh import refresh_payees
from refund_worker.engine.views.customer_export import export_customer
from refund_worker.errors import (
    AlreadyRecorded,
    DestinationNotPayable,
    DestinationsKeyMissing,
    NotFound,
    ProcessorAccountUnknown,
    RefundWorkerError,
    UnknownCustomer,
)
from refund_worker.sealing import Box
from refund_worker.store.tables import payees as payees_table


@pytest.fixture
def route(world: World) -> ScriptedRoute:
    return with_payouts(world)


def payee_of(world: World, payee_id: str = "p1") -> Payee:
    with world.database.read() as connection:
        return load_payee(connection, payee_id)


def stored(world: World) -> Any:
    with world.database.read() as connection:
        return connection.execute(select(payees_table)).mappings().one()


def test_database_has_no_bank_number(world: World, route: ScriptedRoute) -> None:
    add_payee(world)
    texts = " ".join(str(value) for value in stored(world).values())
    assert IBAN not in texts
    assert IBAN[-10:] not in texts
    assert "M. Example" not in texts


class TestRecording:
    def test_the_same_body_again_changes_nothing(self, world: World, route: ScriptedRoute) -> None:
        first, new = record_payee(world.context, a_payee(), actor="shop")
        assert new
        assert record_payee(world.context, a_payee(), actor="shop") == (first, False)
        assert events_about(world) == ["payee_recorded"]

    @pytest.mark.parametrize(
        "change",
        [{"country": "FR"}, {"destination": replace(BANK, holder="N. Other")}, {"currency": "EUR"}],
    )
    def test_another_body_is_refused(self, world: World, route: ScriptedRoute, change: dict[str, Any]) -> None:
        add_payee(world)
        with pytest.raises(AlreadyRecorded):
            add_payee(world, **change)

    @pytest.mark.parametrize(
        ("change", "refusal"),
        [
            ({"processor": "adyen"}, ProcessorAccountUnknown),
            ({"processor": "stripe/acct_1"}, ProcessorAccountUnknown),
            ({"processor": "manual", "method": Method.INSTANT}, DestinationNotPayable),
            ({"destination": Destination(kind=DestinationKind.MANUAL, text="cash")}, DestinationNotPayable),
            ({"customer_id": "nobody"}, UnknownCustomer),
        ],
    )
    def test_unusable_payee_is_refused(
        self, world: World, route: ScriptedRoute, change: dict[str, Any], refusal: type[RefundWorkerError]
    ) -> None:
        with pytest.raises(refusal):
            add_payee(world, **change)

    def test_bank_account_needs_a_key(self, world: World) -> None:
        with_payouts(world, key=None)
        with pytest.raises(DestinationsKeyMissing, match="REFUND_WORKER_DESTINATIONS_KEY"):
            add_payee(world)
        assert add_payee(world, destination=CONNECTED).destination_masked == "Stripe account acct_•••• cd"

    def test_payee_of_a_merged_customer_is_the_same_payee(self, world: World, route: ScriptedRoute) -> None:
        world.pay(1)
        world.pay(2, customer_id="d")
        add_payee(world, customer_id="c")
        merge_customers(world.context, "c", into="d", actor="op", reason="one person")
        assert record_payee(world.context, a_payee(customer_id="c"), actor="shop")[1] is False


class TestChange:
    def test_another_destination_is_new_and_has_no_verdict(self, world: World, route: ScriptedRoute) -> None:
        before = add_payee(world)
        route.reply = PayeeRead(PayeeState.INCOMPLETE, "past_due", ("iban",))
        refresh_payees(world.context)
        world.pass_time(100)
        canceled: list[Payee] = []
        record = a_payee(destination=CONNECTED)
        after = change_payee(
            world.context,
            record,
            actor="shop",
            cancel_unsent=lambda _c, payee, _fields, _actor: canceled.append(payee),
        )
        assert after.destination_id != before.destination_id
        assert after.destination_changed_at == world.now
        assert (after.verdict, after.verdict_reason, after.verdict_needs) == (None, None, ())
        assert canceled == [after]
        assert stored(world)["refresh_at"] == world.now
        assert reveal_destination(world.context, "p1", actor="boss") == CONNECTED.as_fields()

    def test_the_same_body_changes_nothing(self, world: World, route: ScriptedRoute) -> None:
        before = add_payee(world)
        world.pass_time(100)

        def fail(_connection: Connection, _payee: Payee, _differences: frozenset[str], _actor: str) -> None:
            raise AssertionError

        assert change_payee(world.context, a_payee(), actor="shop", cancel_unsent=fail) == before
        rotated = replace(world.context, box=Box((OTHER_KEY, KEY)))
        assert change_payee(rotated, a_payee(), actor="shop", cancel_unsent=fail) == before

    def test_another_country_keeps_the_destination(self, world: World, route: ScriptedRoute) -> None:
        before = add_payee(world)
        world.pass_time(100)
        after = change_payee(world.context, a_payee(country="FR"), actor="shop")
        assert (after.destination_id, after.destination_changed_at) == (
            before.destination_id,
            before.destination_changed_at,
        )
        assert (after.country, after.version) == ("FR", before.version + 1)

    def test_unknown_payee_cannot_be_changed(self, world: World, route: ScriptedRoute) -> None:
        with pytest.raises(NotFound):
            change_payee(world.context, a_payee(), actor="shop")


def test_the_read_is_in_the_timeline(world: World, route: ScriptedRoute) -> None:
    add_payee(world)
    assert reveal_destination(world.context, "p1", actor="boss")["iban"] == IBAN
    assert events_about(world) == ["payee_recorded", "destination_read"]


class TestReveal:
    def test_rotated_key_still_opens_and_a_lost_one_does_not(self, world: World, route: ScriptedRoute) -> None:
        add_payee(world)
        rotated = replace(world.context, box=Box((OTHER_KEY, KEY)))
        assert reveal_destination(rotated, "p1", actor="boss")["iban"] == IBAN
        with pytest.raises(DestinationsKeyMissing):
            reveal_destination(replace(world.context, box=Box((OTHER_KEY,))), "p1", actor="boss")


class TestPause:
    def test_paused_payee_is_paused_until_resumed(self, world: World, route: ScriptedRoute) -> None:
        add_payee(world)
        paused = pause_payee(world.context, "p1", actor="op", reason="asked by letter")
        assert (paused.status, paused.status_reason) == (PayeeStatus.PAUSED, "asked by letter")
        assert pause_payee(world.context, "p1", actor="other", reason="again").paused_by == "op"
        assert resume_payee(world.context, "p1", actor="op", reason="confirmed").status is PayeeStatus.READY
        resume_payee(world.context, "p1", actor="op", reason="confirmed")
        assert events_about(world) == ["payee_recorded", "payee_paused", "payee_resumed"]


class TestVerdict:
    def test_verdict_is_read_once_a_day(self, world: World, route: ScriptedRoute) -> None:
        add_payee(world)
        route.reply = PayeeRead(PayeeState.INCOMPLETE, "past_due", ("iban", "address"), act_by=world.now + 5)
        assert refresh_payees(world.context) == 1
        payee = payee_of(world)
        assert (payee.status, payee.status_reason) == (PayeeStatus.INCOMPLETE, "past_due")
        assert (payee.verdict_needs, payee.verdict_act_by) == (("iban", "address"), world.now + 5)
        assert route.asked == [BANK]
        assert refresh_payees(world.context) == 0
        world.pass_time(DAY + 1)
        assert refresh_payees(world.context) == 1
        assert events_about(world) == ["payee_recorded", "payee_verdict"]

    def test_no_answer_keeps_the_verdict_and_asks_again(self, world: World, route: ScriptedRoute) -> None:
        add_payee(world)
        refresh_payees(world.context)
        world.pass_time(DAY + 1)
        route.reply = Unanswered("no answer in time")
        assert refresh_payees(world.context) == 0
        assert payee_of(world).verdict is PayeeState.READY
        assert refresh_payees(world.context) == 0
        route.fails = True
        world.pass_time(3_600)
        assert refresh_payees(world.context) == 0
        assert len(route.asked) == 3

    def test_route_that_cannot_ask_is_not_asked_again(self, world: World, route: ScriptedRoute) -> None:
        add_payee(world)
        route.reply = PayeeUnreadable("there is no such call")
        assert refresh_payees(world.context) == 1
        world.pass_time(10 * DAY)
        assert refresh_payees(world.context) == 0
        assert payee_of(world).status is PayeeStatus.READY

    def test_verdict_on_an_earlier_destination_is_dropped(self, world: World, route: ScriptedRoute) -> None:
        add_payee(world)
        route.reply = PayeeRead(PayeeState.REFUSED)
        asked = route.read_payee

        async def change_meanwhile(destination: Destination) -> Any:
            change_payee(world.context, a_payee(destination=CONNECTED), actor="shop")
            return await asked(destination)

        route.read_payee = change_meanwhile  # type: ignore[method-assign]
        refresh_payees(world.context)
        assert payee_of(world).verdict is None
        assert stored(world)["refresh_at"] == world.now


@pytest.mark.parametrize("column", ["destination_box", "destination_id", "processor", "paused_by", "destination_hash"])
def test_change_in_the_database_is_found_by_audit(world: World, route: ScriptedRoute, column: str) -> None:
    add_payee(world)
    pause_payee(world.context, "p1", actor="op", reason="because")
    refresh_payees(world.context)
    earn(world, transaction_id=None)
    Sealer().seal(world.context)
    assert verify(world.context, actor="op").whole
    world.database.run(lambda c: c.execute(update(payees_table).values({column: "another"})))
    assert not verify(world.context, actor="op").whole


def test_export_of_a_customer_has_the_payee_without_the_destination(world: World, route: ScriptedRoute) -> None:
    world.pay()
    add_payee(world, customer_id="c", destination=Destination(kind=DestinationKind.STRIPE_ACCOUNT, account="acct_9Xyz"))
    earn(world, transaction_id=None)
    data = json.loads("".join(export_customer(world.context, "c")))["data"]
    assert [row["payee_id"] for row in data["payees"]] == ["p1"]
    assert [row["earning_id"] for row in data["earnings"]] == ["e1"]
    assert "destination_box" not in data["payees"][0]
