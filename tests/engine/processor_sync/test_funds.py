"""The money at each account is compared with what refunds need of it, and refunds go on after a top-up."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_world import World

from refund_worker.api_schema import Funds
from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_replies import (
    BalanceRead,
    BalanceReply,
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    NotReadable,
    NotSent,
    Reply,
    Unanswered,
)
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.funds import low_balance_codes, read_balance
from refund_worker.engine.views.funds import funds_sentence, funds_view
from refund_worker.store import funds as store
from refund_worker.store.tables import events

EMPTY = Blocked("balance_insufficient", "the balance is too low")


@pytest.fixture(autouse=True)
def _reads(world: World) -> None:
    world.processor.reads_balance = True


def read(world: World, available: int | None = None, pending: int = 0, **others: int) -> bool:
    """Read a balance in USD, and in the other currencies that are named."""
    sums = others if available is None else {"USD": available, **others}
    world.processor.balance_reply = BalanceRead(sums, {"USD": pending} if available is not None else {})
    return read_balance(world.context, "stripe")


def view(world: World) -> list[Funds]:
    with world.database.read() as connection:
        return funds_view(connection, world.context)


def usd(world: World) -> dict[str, Any]:
    (found,) = [fund for fund in view(world) if fund["currency"] == "USD"]
    return dict(found)


def pick(fund: dict[str, Any], *names: str) -> tuple[Any, ...]:
    return tuple(fund[name] for name in names)


def events_about_funds(world: World) -> list[tuple[str, bool]]:
    with world.database.read() as connection:
        rows = connection.execute(events.select().where(events.c.refund_id.is_(None)).order_by(events.c.seq))
        return [(row.kind, bool(row.alarm)) for row in rows]


def status(world: World, refund_id: str) -> RefundStatus:
    return world.refund(refund_id).status


# --- what is needed ---------------------------------------------------------------------------------------------------


def test_nothing_known_and_nothing_needed_shows_nothing(world: World) -> None:
    assert view(world) == []


def test_queued_refund_is_needed_and_a_paid_one_is_not(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    read(world, 1_000, pending=300)
    fund = usd(world)
    assert pick(fund, "processor_account", "state", "available_minor", "pending_minor") == (
        "stripe",
        "current",
        1_000,
        300,
    )
    assert pick(fund, "queued_minor", "approved_minor", "blocked_minor", "needed_minor") == (600, 0, 0, 600)
    assert pick(fund, "shortfall_minor", "shortfall_date", "covered_by_pending") == (0, None, None)
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED
    assert pick(usd(world), "queued_minor", "needed_minor") == (0, 0)


def test_awaiting_approval_counts_apart_and_approved_counts(world: World) -> None:
    world.context = replace(world.context, limits=Limits(approval_threshold_minor=100))
    world.pay()
    refund_id = world.withdraw(60)
    assert status(world, refund_id) is RefundStatus.AWAITING_APPROVAL
    read(world, 500)
    fund = usd(world)
    assert pick(fund, "needed_minor", "awaiting_approval_minor") == (0, 600)
    assert pick(fund, "shortfall_minor", "shortfall_if_approved_minor") == (0, 100)
    assert "would be missing" in (funds_sentence(view(world)[0]) or "")
    world.command(refund_id, Action.APPROVE)
    fund = usd(world)
    assert pick(fund, "queued_minor", "approved_minor", "awaiting_approval_minor") == (0, 600, 0)
    assert pick(fund, "needed_minor", "shortfall_minor") == (600, 100)


def test_call_under_way_is_not_counted_because_its_money_may_be_gone(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    world.withdraw(60)
    world.work()
    read(world, 400)
    assert usd(world)["needed_minor"] == 0
    assert events_about_funds(world) == []


def test_refund_that_is_pending_for_lack_of_money_is_blocked(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pending")
    world.withdraw(60)
    world.work()
    read(world, 400)
    assert usd(world)["blocked_minor"] == 0
    made = world.processor.objects["re_1"]
    world.processor.objects["re_1"] = replace(made, details=replace(made.details, pending_reason="insufficient_funds"))
    world.work_for(1_000)
    assert pick(usd(world), "blocked_minor", "queued_minor") == (600, 0)


@pytest.mark.parametrize(
    ("answer", "blocked_minor"),
    [(Blocked("charge_disputed", "disputed"), 0), (Misconfigured("amount", "no"), 0), (EMPTY, 600)],
    ids=["dispute", "person", "lack of money"],
)
def test_refund_that_is_stopped_for_another_cause_needs_nothing(
    world: World, answer: Reply, blocked_minor: int
) -> None:
    world.pay()
    world.processor.script("ch_1", answer)
    refund_id = world.withdraw(60)
    world.work()
    assert status(world, refund_id) is RefundStatus.NEEDS_ATTENTION
    read(world, 400)
    fund = usd(world)
    assert pick(fund, "queued_minor", "blocked_minor", "needed_minor") == (0, blocked_minor, blocked_minor)
    assert [kind for kind, _ in events_about_funds(world)] == ["funds_short"] * bool(blocked_minor)


def test_refund_that_waits_for_an_unreachable_processor_is_needed(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", *[NotSent("away")] * 40)
    refund_id = world.withdraw(60)
    world.work_for(3_000)
    assert world.refund(refund_id).legs[0].attention_code == "processor_unreachable"
    read(world, 400)
    assert pick(usd(world), "queued_minor", "needed_minor") == (600, 600)


def test_account_in_debt_is_missing_its_debt_too(world: World) -> None:
    world.pay()
    read(world, -250)
    assert usd(world)["shortfall_minor"] == 0
    world.withdraw(60)
    assert usd(world)["shortfall_minor"] == 850


# --- what is unknown --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        NotReadable("no such path"),
        Denied("more_permissions_required", "no such path"),
        Misconfigured("x", "no such path"),
        Busy("no such path"),
        NotSent("no such path"),
        Unanswered("no such path"),
    ],
    ids=lambda reply: type(reply).__name__,
)
def test_unreadable_balance_is_unknown_and_stops_nothing(world: World, reply: BalanceReply) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    assert usd(world)["state"] == "not_read"
    world.processor.balance_reply = reply
    assert not read_balance(world.context, "stripe")
    fund = usd(world)
    assert pick(fund, "state", "problem", "needed_minor") == ("unreadable", "no such path", 600)
    unknown = ("available_minor", "pending_minor", "shortfall_minor", "shortfall_date", "shortfall_if_approved_minor")
    assert pick(fund, *unknown, "read_at", "covered_by_pending") == (None,) * 7
    assert "is unknown" in (funds_sentence(view(world)[0]) or "")
    assert events_about_funds(world) == []
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED


def test_old_balance_is_stale_and_its_shortfall_unknown(world: World) -> None:
    world.pay()
    world.withdraw(60)
    read(world, 100)
    assert pick(usd(world), "state", "shortfall_minor") == ("current", 500)
    world.processor.balance_reply = Unanswered("away")
    world.pass_time(290)
    read_balance(world.context, "stripe")
    assert pick(usd(world), "state", "shortfall_minor", "problem") == ("current", 500, "away")
    world.pass_time(20)
    fund = usd(world)
    assert pick(fund, "state", "available_minor", "shortfall_minor") == ("stale", 100, None)
    assert fund["read_at"] is not None


def test_currency_without_a_balance_is_unknown_and_not_zero(world: World) -> None:
    world.pay()
    world.withdraw(60)
    read(world, None, EUR=5_000)
    assert pick(usd(world), "state", "available_minor", "shortfall_minor") == ("no_balance", None, None)
    assert [fund["currency"] for fund in view(world)] == ["EUR", "USD"]
    assert events_about_funds(world) == []


def test_processor_without_a_balance_is_never_asked(world: World) -> None:
    world.processor.reads_balance = False
    assert not read(world, 100)
    assert not read_balance(world.context, "another")
    assert view(world) == []


def test_reading_takes_a_slot_of_its_own_rate(world: World) -> None:
    taken = []

    class Slots:
        async def acquire(self, processor: str) -> None:
            await asyncio.sleep(0)
            taken.append(processor)

    world.context = replace(world.context, limiter=Slots())
    assert read(world, 100)
    assert taken == ["stripe reads"]


# --- shortfalls -------------------------------------------------------------------------------------------------------


def test_shortfall_raises_one_alarm_and_its_end_is_noted(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.pay()
    world.processor.script("ch_1", *[EMPTY] * 9)
    world.withdraw(60)
    world.work()
    read(world, 100, pending=200)
    assert events_about_funds(world) == [("funds_short", True)]
    assert [record.alarm for record in caplog.records if hasattr(record, "alarm")].count("funds_short") == 1
    fund = usd(world)
    assert pick(fund, "shortfall_minor", "covered_by_pending", "blocked_minor") == (500, False, 600)
    assert fund["shortfall_date"] == "2027-01-15"
    world.pass_time(86_400)
    read(world, 150, pending=500)
    assert pick(usd(world), "shortfall_minor", "shortfall_date", "covered_by_pending") == (450, "2027-01-15", True)
    assert "since 2027-01-15: what is pending there covers it" in (funds_sentence(view(world)[0]) or "")
    read(world, 700)
    assert events_about_funds(world) == [("funds_short", True), ("funds_suffice", False)]
    assert pick(usd(world), "shortfall_minor", "shortfall_date") == (0, None)
    read(world, 100)
    assert [kind for kind, _ in events_about_funds(world)] == ["funds_short", "funds_suffice", "funds_short"]


# --- after a top-up ---------------------------------------------------------------------------------------------------


def blocked(world: World, *, tries: int = 1) -> str:
    """Return a refund of 600 USD cents that was blocked for lack of money."""
    world.pay()
    world.processor.script("ch_1", *[EMPTY] * tries)
    refund_id = world.withdraw(60)
    world.work()
    assert world.refund(refund_id).legs[0].failure_code == "balance_insufficient"
    return refund_id


def test_blocked_refund_goes_on_once_the_balance_suffices(world: World) -> None:
    refund_id = blocked(world)
    world.pass_time(10)
    read(world, 599)
    assert world.work() == 0
    world.pass_time(10)
    read(world, 600)
    world.processor.asked.clear()
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED
    assert world.processor.asked  # the list was read before the new attempt
    assert len({key for key, _ in world.processor.sends}) == 2


def test_refund_that_gave_up_trying_goes_on_after_a_top_up(world: World) -> None:
    refund_id = blocked(world, tries=50)
    for _ in range(60):
        world.work_for(700)
    assert world.refund(refund_id).legs[0].next_at is None
    world.processor.rescript("ch_1")
    read(world, 600)
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED


def test_object_that_failed_for_funds_is_tried_again_after_a_top_up(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pending")
    refund_id = world.withdraw(60)
    world.work()
    made = world.processor.become("re_1", "failed")
    world.processor.objects["re_1"] = replace(made, failure_code="insufficient_funds")
    world.work_for(300)
    assert status(world, refund_id) is RefundStatus.NEEDS_ATTENTION
    read(world, 600)
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED


def test_balance_that_does_not_rise_is_not_tried_again_each_time(world: World) -> None:
    """The processor can refuse although the balance seems to suffice: then RETRY_MAX_SECONDS holds as before."""
    blocked(world, tries=9)
    for expected in (2, 3, 4, 4, 4):
        world.pass_time(10)
        read(world, 1_000)
        world.work()
        assert len(world.processor.sends) == expected
    world.pass_time(10)
    read(world, 1_001)
    world.work()
    assert len(world.processor.sends) == 5


@pytest.mark.parametrize("tries", [1, 50], ids=["waits for the next try", "gave up trying"])
def test_money_that_went_and_came_back_between_readings_suffices(world: World, tries: int) -> None:
    read(world, 2_000)
    world.pass_time(1)
    refund_id = blocked(world, tries=tries)
    if tries > 1:
        for _ in range(60):
            world.work_for(700)
            read(world, 0)
        assert world.refund(refund_id).legs[0].next_at is None
        read(world, 600)
        world.work()
        assert (len(world.processor.sends), status(world, refund_id)) == (tries, RefundStatus.NEEDS_ATTENTION)
    world.pass_time(1)
    read(world, 600)
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED


def test_reading_from_before_the_refusal_tries_nothing(world: World) -> None:
    (leg,) = world.refund(blocked(world)).legs
    assert leg.last_sent_at is not None
    fund = store.Fund(available_minor=1_000, pending_minor=0, rose_at=0.0, short_since=None)
    for read_at, tried in ((leg.last_sent_at, 0), (leg.last_sent_at + 1, 1)):
        with world.database.write() as connection:
            codes = low_balance_codes(world.context, "stripe")
            found = store.requeue_funded(connection, "stripe", read_at, {"USD": fund}, codes, world.now)
        assert len(found) == tried


def test_person_who_retries_too_early_does_not_end_the_tries(world: World) -> None:
    read(world, 2_000)
    world.pass_time(1)
    refund_id = blocked(world, tries=2)
    world.command(refund_id, Action.RETRY)
    world.work()
    assert (len(world.processor.sends), status(world, refund_id)) == (2, RefundStatus.NEEDS_ATTENTION)
    world.pass_time(1)
    read(world, 2_000)
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED


def test_refusal_recorded_after_the_rise_was_read_goes_on_too(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", EMPTY)

    def top_up() -> None:
        world.pass_time(1)
        other_process = threading.Thread(target=read_balance, args=(world.context, "stripe"))
        other_process.start()
        other_process.join(30)

    world.processor.balance_reply = BalanceRead({"USD": 1_000}, {})
    world.processor.while_sending = top_up
    refund_id = world.withdraw(60)
    world.work()
    world.processor.while_sending = lambda: None
    assert status(world, refund_id) is RefundStatus.NEEDS_ATTENTION
    world.pass_time(1)
    read_balance(world.context, "stripe")
    world.work()
    assert status(world, refund_id) is RefundStatus.SUCCEEDED


def test_only_what_fits_goes_on_the_oldest_first(world: World) -> None:
    for number, credits in ((3, 60), (2, 90), (1, 30)):  # the newest payment is refunded first
        world.pay(number, amount_minor=credits * 10, credits=credits)
        world.processor.script(f"ch_{number}", EMPTY)
    ids = [world.withdraw(credits, f"k{credits}") for credits in (60, 90, 30)]
    world.work()
    blocked_ones = [refund_id for refund_id in ids if status(world, refund_id) is RefundStatus.NEEDS_ATTENTION]
    assert len(blocked_ones) == 3
    world.pass_time(1)
    read(world, 1_000)
    world.work()
    ends = [status(world, refund_id) for refund_id in ids]
    assert ends == [RefundStatus.SUCCEEDED, RefundStatus.NEEDS_ATTENTION, RefundStatus.SUCCEEDED]


def test_refund_stopped_for_another_cause_stays_where_it_is(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", Blocked("charge_disputed", "disputed"))
    refund_id = world.withdraw(60)
    world.work()
    world.pass_time(1)
    read(world, 1_000)
    assert world.work() == 0
    assert status(world, refund_id) is RefundStatus.NEEDS_ATTENTION


def test_stored_reading_replaces_the_one_before(world: World) -> None:
    read(world, 100, EUR=5)
    read(world, 50)
    with world.database.read() as connection:
        assert {key[1]: fund.available_minor for key, fund in store.funds_of(connection).items()} == {"USD": 50}
