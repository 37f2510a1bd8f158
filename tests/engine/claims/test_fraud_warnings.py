"""Early fraud warnings: stored once in any order, shown with a suggested refund while one helps, never acted upon."""

from __future__ import annotations

import json
import logging
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event as events
from sqlalchemy import select
from tests.engine.claims.claim_worlds import balance_of, dispute, report, report_disputes
from tests.engine.processor_sync.test_thin_events import told as hear_event
from tests.support.engine_world import World
from tests.support.outside_objects import MADE_AT, outside_refund, warning

from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.processor_replies import (
    FraudWarning,
    NotReadable,
    WarningRead,
    WarningReply,
    WarningsFound,
    WarningsReply,
)
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.fraud_warnings import record_warnings
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.processor_sync.dispute_sync import WARNINGS, ListSync
from refund_worker.engine.views.customer_export import export_customer
from refund_worker.engine.views.fraud_warning_objects import refund_command, warning_page
from refund_worker.store import fraud_warnings
from refund_worker.store.claims import ClaimFilters, list_claims
from refund_worker.store.fraud_warnings import WarningFilters, count_open
from refund_worker.store.tables import outbox

ISSFR = warning("issfr_1")


@pytest.fixture
def world(world: World) -> World:
    """Return the world of claims with notifications."""
    world.context = replace(world.context, notify=True)
    return world


def heard(world: World, *warnings: FraudWarning) -> int:
    return record_warnings(world.context, "stripe", warnings)


def listed(world: World, **filters: Any) -> list[Any]:
    with world.database.read() as connection:
        page: list[Any] = warning_page(connection, WarningFilters(limit=50, **filters))["data"]
        for status in ("unmatched", "open", "closed"):
            found = warning_page(connection, WarningFilters(limit=50, condition=status, **filters))["data"]
            assert found == [each for each in page if each["status"] == status], "the filter and the status agree"
        if not filters:
            assert count_open(connection) == sum(each["status"] == "open" for each in page)
    return page


def state(world: World) -> tuple[str, int | None]:
    """Return the status of the only warning, and the money of its suggested refund."""
    (row,) = listed(world)
    suggested = row["suggested_refund"]
    return row["status"], suggested and suggested["amount_minor"]


def told(world: World) -> list[Any]:
    with world.database.read() as connection:
        rows = connection.execute(select(outbox).order_by(outbox.c.message_id)).mappings()
        found = [(json.loads(row["body"]), row["fraud_warning_id"]) for row in rows]
    assert all(body["data"]["id"] == warning_id for body, warning_id in found)
    return [body for body, _ in found]


def test_warning_is_stored_once_and_suggests_the_rest_of_the_payment(world: World) -> None:
    world.pay()
    assert [heard(world, ISSFR) for _ in range(2)] == [1, 0]
    (row,) = listed(world)
    assert {name: row[name] for name in ("object_id", "payment_id", "customer_id", "fraud_type", "actionable")} == {
        "object_id": "issfr_1",
        "payment_id": "pay1",
        "customer_id": "c",
        "fraud_type": "made_with_stolen_card",
        "actionable": True,
    }
    assert row["suggested_refund"] == {
        "amount_minor": 1_000,
        "currency": "USD",
        "credits": 100,
        "payable_credits": 100,
    }
    assert (row["id"].startswith("fw_"), row["warned_at"]) == (True, "2026-11-02T09:00:00Z")
    assert (balance_of(world), world.processor.sends) == ((100, 0), []), "nothing is refunded by itself"


def test_suggestion_is_what_is_left_and_goes_when_nothing_is(world: World) -> None:
    world.pay()
    heard(world, ISSFR)
    world.withdraw(30)
    world.work()
    report(world, replace(outside_refund("re_9", 200, currency="USD"), created_at=MADE_AT))
    assert state(world) == ("open", 500)
    world.withdraw(50, "rest")
    assert state(world) == ("closed", None)


def test_suggestion_comes_back_with_the_money_of_an_earlier_refund(world: World) -> None:
    world.pay(refunded_minor=1_000)
    heard(world, ISSFR)
    made = replace(outside_refund("re_9", 1_000, currency="USD"), created_at=MADE_AT)
    states = []
    for status in ("pending", "failed"):
        report(world, replace(made, status=status))
        states.append(state(world))
    assert states == [("closed", None), ("open", 1_000)]


def test_dispute_ends_the_suggestion_and_an_inquiry_does_not(world: World) -> None:
    disputed = ("needs_response", "under_review", "won", "lost", "prevented", None)
    inquiries = ("warning_needs_response", "warning_under_review", "warning_closed")
    for number, status in enumerate((*disputed, *inquiries)):
        refs, object_id = (f"ch_{number}",), f"dp_{number}"
        world.pay(number)
        heard(world, warning(f"issfr_{number}", payment=f"ch_{number}"))
        its = dispute(world, amount_minor=400, dispute_id=object_id, payment_refs=refs)
        report_disputes(world, replace(its, status=status))
    found = {row["payment_id"]: row["status"] for row in listed(world)}
    assert [found[f"pay{number}"] for number in range(9)] == ["closed"] * 6 + ["open"] * 3


def test_closed_payment_has_no_suggestion(world: World) -> None:
    world.pay()
    heard(world, ISSFR)
    close_payment(world.context, "pay1", actor="cli:a", reason="the debit failed")
    assert state(world) == ("closed", None)


def test_processors_own_word_ends_the_suggestion(world: World) -> None:
    world.pay(credits=150, amount_minor=150, currency="ISK")
    heard(world, ISSFR)
    assert state(world) == ("open", 100), "whole steps of the currency"
    assert heard(world, replace(ISSFR, actionable=False)) == 1
    assert (state(world), listed(world)[0]["actionable"]) == (("closed", None), False)
    assert heard(world, replace(ISSFR, actionable=None)) == 1
    assert state(world) == ("open", 100), "a processor that does not say leaves it to what is recorded"
    report(world, replace(outside_refund("re_9", 100, currency="ISK"), created_at=MADE_AT))
    assert state(world) == ("closed", None), "less than a step of the currency cannot be returned"


def test_order_and_repetition_do_not_matter(world: World) -> None:
    for before in range(3):
        for number in range(3):
            if number == before:
                world.pay(before)
            heard(world, warning(f"issfr_{before}", payment=f"ch_{before}"))
    assert [row["status"] for row in listed(world)] == ["open"] * 3
    assert [(body["type"], body["data"]["payment_id"]) for body in told(world)] == [
        ("payment.fraud_warning", f"pay{number}") for number in range(3)
    ]


def test_unmatched_warning_is_told_once_its_payment_is_recorded(world: World) -> None:
    heard(world, ISSFR)
    assert (state(world), told(world)) == (("unmatched", None), [])
    world.pay(2)
    assert state(world) == ("unmatched", None), "another payment"
    world.pay()
    assert (state(world), len(told(world))) == (("open", 1_000), 1)


def test_each_change_is_told_with_the_balance_and_one_alarm(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    with caplog.at_level(logging.ERROR):
        for reported in (ISSFR, ISSFR, replace(ISSFR, actionable=False)):
            heard(world, reported)
    first, second = (body["data"] for body in told(world))
    assert (first["status"], first["balance_after"], second["status"]) == ("open", 100, "closed")
    assert (first["suggested_refund"]["credits"], second["suggested_refund"]) == (100, None)
    alarms = [record for record in caplog.records if getattr(record, "alarm", None) == "fraud_warning"]
    assert [("pay1" in r.getMessage(), "issfr_1" in r.getMessage()) for r in alarms] == [(True, True)]


def test_export_of_the_customer_has_warnings_and_their_messages(world: World) -> None:
    heard(world, ISSFR, warning("issfr_9", payment="ch_9"))
    world.pay()
    exported = json.loads("".join(export_customer(world.context, "c")))["data"]
    assert [row["object_id"] for row in exported["fraud_warnings"]] == ["issfr_1"]
    assert [row["ref"] for row in exported["fraud_warning_refs"]] == ["ch_1"]
    assert [row["type"] for row in exported["outbox"]] == ["payment.fraud_warning"]


def test_merged_customer_brings_the_warning_and_commands_quote_ids(world: World) -> None:
    hostile = "a'; rm -rf $HOME"
    world.pay()
    world.pay(2, customer_id=hostile)
    heard(world, ISSFR)
    merge_customers(world.context, "c", into=hostile, actor="cli:a", reason="the same person")
    for customer in ("c", hostile):
        assert [row["customer_id"] for row in listed(world, customer_id=customer)] == [hostile]
    assert shlex.split(refund_command(listed(world)[0]) or "") == [
        *("refund-worker", "refunds", "create", "--kind", "withdrawal", "--to", "source"),
        *("--customer", hostile, "--credits", "100", "--currency", "USD"),
        *("--reason", "early fraud warning issfr_1"),
    ]


# --- heard by webhook and by the sync --------------------------------------------------------------------------------


class Account:
    """The processor's answers about its early fraud warnings."""

    def __init__(self, world: World, *warnings: FraudWarning) -> None:
        self.warnings = {each.warning_id: each for each in warnings}
        self.readable = True
        self.asked: list[str] = []
        world.processor.reads_disputes = True
        world.processor.fetch_warning = self.fetch_warning  # type: ignore[method-assign]
        world.processor.recent_warnings = self.recent_warnings  # type: ignore[method-assign]

    async def fetch_warning(self, warning_id: str) -> WarningReply:
        self.asked.append(warning_id)
        return WarningRead(self.warnings[warning_id])

    async def recent_warnings(self, created_gte: datetime) -> WarningsReply:
        self.asked.append("list")
        if not self.readable:
            return NotReadable("no such path")
        return WarningsFound(tuple(w for w in self.warnings.values() if w.created_at >= created_gte))


def event(kind: str, **shown: Any) -> dict[str, Any]:
    its = {"id": "issfr_1", "object": "radar.early_fraud_warning", "charge": "ch_1", **shown}
    return {"type": f"radar.early_fraud_warning.{kind}", "data": {"object": its}}


def test_webhook_is_a_hint_and_the_fetched_warning_counts(world: World) -> None:
    world.pay()
    account = Account(world, replace(ISSFR, actionable=False))
    assert hear_event(world, event("created", actionable=True)) == "taken in: an early fraud warning"
    assert (state(world), account.asked) == (("closed", None), ["issfr_1"])
    account.warnings["issfr_1"] = ISSFR
    hear_event(world, event("updated", actionable=False), event_id="evt_2")
    assert state(world) == ("open", 1_000)


def test_lost_webhooks_are_made_up_for_by_the_sync(world: World) -> None:
    world.pay()
    account = Account(world, replace(ISSFR, created_at=datetime.fromtimestamp(world.now, UTC)))
    listing = ListSync(WARNINGS)
    listing.sync_recent(world.context, "stripe")
    assert account.asked == [], "the hourly round comes first"
    listing.sync_all(world.context, "stripe")
    assert (state(world), account.asked) == (("open", 1_000), ["list"])
    world.now += 300
    account.warnings["issfr_2"] = replace(warning("issfr_2"), created_at=datetime.fromtimestamp(world.now, UTC))
    listing.sync_recent(world.context, "stripe")
    assert sorted(row["object_id"] for row in listed(world)) == ["issfr_1", "issfr_2"]


def test_old_warning_is_fetched_until_it_is_answered(world: World) -> None:
    world.pay()
    heard(world, ISSFR)
    account = Account(world, replace(ISSFR, actionable=False))
    for expected in (["list", "issfr_1"], ["list", "issfr_1", "list"]):
        ListSync(WARNINGS).sync_all(world.context, "stripe")
        assert account.asked == expected
    assert state(world) == ("closed", None)


def test_server_without_warnings_is_asked_once_an_hour(world: World) -> None:
    account = Account(world)
    account.readable = False
    listing = ListSync(WARNINGS)
    for _ in range(3):
        listing.sync_all(world.context, "stripe")
    world.now += 3_601
    listing.sync_all(world.context, "stripe")
    assert account.asked == ["list", "list"]


def test_unchanged_warnings_take_no_write_lock(world: World) -> None:
    world.pay()
    heard(world, ISSFR, warning("issfr_2", payment="ch_unknown"))
    world.database.dies_before = 1  # any transaction that writes
    assert heard(world, ISSFR, warning("issfr_2", payment="ch_unknown")) == 0


def test_many_warnings_are_recorded_at_once(world: World) -> None:
    world.pay()
    many = [warning(f"issfr_{n}") for n in range(350)]
    assert heard(world, *many) == 350
    with world.database.read() as connection:
        assert count_open(connection) == 350
        assert len(fraud_warnings.warnings_to_fetch(connection, "stripe", 500)) == 350


def test_the_newest_warnings_are_fetched_first(world: World) -> None:
    world.pay()
    for day in (2, 1, 3):
        heard(world, replace(warning(f"issfr_{day}"), created_at=MADE_AT + timedelta(days=day)))
    with world.database.read() as connection:
        assert fraud_warnings.warnings_to_fetch(connection, "stripe", 2) == ["issfr_3", "issfr_2"]


def test_every_name_of_a_new_payment_matches_what_came_before(world: World) -> None:
    record_warnings(world.context, "stripe", [warning("issfr_1", payment="ch_1")])
    report(world, world.refund_in_the_dashboard(100))
    record = PaymentRecord(
        payment_id="pay1",
        customer_id="c",
        processor="stripe",
        processor_payment_id="pi_1",
        amount_minor=1_000,
        currency="USD",
        credits=100,
        captured_at=1.0,
    )
    record_payments(world.context, [record], {"pay1": ("ch_1", "pi_1")})
    with world.database.read() as connection:
        assert len(warning_page(connection, WarningFilters(limit=5, payment_id="pay1"))["data"]) == 1
    assert balance_of(world) == (90, 0)


def test_lists_know_the_second_id_of_a_payment(world: World) -> None:
    world.pay(recorded_by="webhook")
    world.pay(payment_id="mine")
    record_warnings(world.context, "stripe", [warning("issfr_1", payment="ch_1")])
    report(world, world.refund_in_the_dashboard(100))
    with world.database.read() as connection:
        for name in ("pay1", "mine"):
            assert len(warning_page(connection, WarningFilters(limit=5, payment_id=name))["data"]) == 1
            outside = ClaimFilters(kind=ClaimKind.OUTSIDE_REFUND, limit=5, payment_id=name)
            assert len(list_claims(connection, outside)) == 1


def test_recording_more_payments_needs_no_more_statements(world: World) -> None:
    counted = []
    record = world.pay()
    for number in (10, 60):
        names = [f"{number}-{each}" for each in range(number)]
        batch = [replace(record, payment_id=f"p{name}", processor_payment_id=f"ch_{name}") for name in names]
        asked: list[str] = []

        def note(_connection: object, _cursor: object, statement: str, *_: object, to: list[str] = asked) -> None:
            to.append(statement)

        events.listen(world.database.engine, "before_cursor_execute", note)
        record_payments(world.context, batch)
        events.remove(world.database.engine, "before_cursor_execute", note)
        counted.append(len(asked))
    assert counted[0] == counted[1]
