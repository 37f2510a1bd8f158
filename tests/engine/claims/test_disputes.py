"""Disputes: the payment is closed for sending and its credits are held; a loss takes them, a win frees them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.engine.claims.claim_worlds import (
    assert_sums_hold,
    balance_of,
    claims_of,
    dispute,
    entries_of,
    report,
    report_disputes,
    with_rule,
)
from tests.support.engine_world import World

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.processor_replies import Blocked
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.errors import ActionNotAllowed, NoRefundablePayment
from refund_worker.store.tables import outbox


def test_open_dispute_holds_its_share(world: World) -> None:
    world.pay()
    assert [report_disputes(world, dispute(world, amount_minor=400)) for _ in range(2)] == [1, 0]
    assert balance_of(world) == (100, 40)
    with pytest.raises(NoRefundablePayment):
        world.withdraw(10)


def test_dispute_is_told_alike_however_it_is_heard(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A dispute alarms once its payment is known, no matter which of the two came first."""
    world.context = replace(world.context, notify=True)
    world.pay(1)
    other = {"dispute_id": "dp_2", "payment_refs": ("ch_2",)}
    for _ in range(2):
        report_disputes(world, dispute(world), dispute(world, **other))
    assert (alarms(caplog), told(world)) == (["dispute_opened"], ["dispute.opened"])
    for _ in range(2):
        world.pay(2)
    report_disputes(world, dispute(world, **other))
    assert (alarms(caplog), told(world)) == (["dispute_opened"] * 2, ["dispute.opened"] * 2)


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the alarms so far."""
    return [record.alarm for record in caplog.records if hasattr(record, "alarm")]


def told(world: World) -> list[str]:
    """Return the types of the notifications so far."""
    with world.database.read() as connection:
        return list(connection.execute(select(outbox.c.type)).scalars())


@pytest.mark.parametrize("status", ["warning_needs_response", "warning_under_review"])
def test_inquiry_holds_nothing(world: World, status: str) -> None:
    world.pay()
    report_disputes(world, dispute(world, status))
    assert balance_of(world) == (100, 0)
    world.withdraw(100)
    world.work()
    assert world.processor.paid_minor() == 1_000, "a refund is the best reply to an inquiry"


def test_loss_takes_the_credits_once(world: World) -> None:
    world.pay()
    report_disputes(world, dispute(world))
    assert [report_disputes(world, dispute(world, "lost")) for _ in range(2)] == [1, 0]
    assert balance_of(world) == (0, 0)
    assert entries_of(world, "chargeback") == [(-100, "pay1")]


OPEN, LOST = "needs_response", "lost"
Reports = tuple[tuple[str, int], ...]
EARLIER_REPORTS: tuple[Reports, ...] = (
    (),
    ((OPEN, 1_000),),
    ((OPEN, 1_000), (OPEN, 400)),
    ((OPEN, 200), (OPEN, 1_000)),
    ((LOST, 1_000),),
    ((OPEN, 1_000), (LOST, 700)),
    ((LOST, 1_000), (OPEN, 400)),
)


@pytest.mark.parametrize("rule", list(ShortfallRule))
@pytest.mark.parametrize("spent", [30, 80])
@pytest.mark.parametrize("last", [OPEN, LOST])
def test_smaller_amount_ends_as_if_it_had_been_the_first(
    tmp_path: Path, sqlite_template: Path, last: str, spent: int, rule: ShortfallRule
) -> None:
    for number, earlier in enumerate(EARLIER_REPORTS):
        path = shutil.copyfile(sqlite_template, tmp_path / f"{number}.db")
        end = end_of(path, rule, spent, (*earlier, (last, 400)))
        if number == 0:
            alone = end
        assert end == alone, earlier


def end_of(path: Path, rule: ShortfallRule, spent: int, reports: Reports) -> tuple[object, ...]:
    """Return what a dispute has done in the end, if it was reported like this."""
    world = with_rule(World(f"sqlite:///{path}"), rule)
    world.pay()
    world.spend(credits=spent)
    for status, amount_minor in reports:
        report_disputes(world, dispute(world, status, amount_minor))
    world.pay(2)  # what was written off is not taken of a later purchase
    report_disputes(world, dispute(world, *reports[-1], reason="general"))
    assert_sums_hold(world)
    (claim,) = claims_of(world)
    figures = tuple(claim[name] for name in ("credits", "held", "taken", "debt", "posted_minor"))
    end = balance_of(world), world.account.payable, figures
    world.close()
    return end


def test_smaller_amount_is_a_reversal_of_a_part_of_the_loss(world: World) -> None:
    world.pay()
    report_disputes(world, dispute(world, LOST))
    report_disputes(world, dispute(world, LOST, 400))
    (claim,) = claims_of(world)
    assert entries_of(world, "chargeback") == [(-100, "pay1")]
    assert entries_of(world, "reversal") == [(60, f"{claim['claim_id']}-1")]
    assert claim["posted_minor"] == 400
    report_disputes(world, dispute(world, "won", 400))
    (claim,) = claims_of(world)
    assert (balance_of(world), claim["posted_minor"]) == ((100, 0), 0)


def test_money_of_a_loss_follows_where_it_took_no_credits(world: World) -> None:
    world.pay()
    world.withdraw(100)
    world.work()
    for amount_minor in (1_000, 400):
        report_disputes(world, dispute(world, LOST, amount_minor))
    (claim,) = claims_of(world)
    assert (claim["credits"], claim["posted_minor"]) == (0, 400)
    assert entries_of(world, "reversal") == [(0, f"{claim['claim_id']}-1")]


@pytest.mark.parametrize("status", [OPEN, LOST])
def test_credits_of_a_smaller_dispute_go_to_a_refund_without(world: World, status: str) -> None:
    world.pay()
    world.spend(credits=60)
    report_disputes(world, dispute(world, status, 500))
    report(world, world.refund_in_the_dashboard(500))
    assert [claim["taken"] for claim in claims_of(world) if claim["kind"] == "outside_refund"] == [0]
    report_disputes(world, dispute(world, status, 100))
    lost, outside = claims_of(world)
    assert (lost["held"] + lost["taken"], outside["taken"], outside["credits"]) == (10, 30, 50)


def test_smaller_loss_takes_its_share_after_unsent_legs_have_left(world: World) -> None:
    """The rule for shortfalls concerns only what is missing then."""
    with_rule(world, "debt")
    world.pay()
    world.spend(credits=40)
    pause_processor(world.context, "stripe", actor="op", reason="later")
    world.withdraw(60)
    report_disputes(world, dispute(world))
    report_disputes(world, dispute(world, LOST, 400))
    (claim,) = claims_of(world)
    assert (claim["taken"], claim["debt"], balance_of(world)) == (40, 0, (20, 0))


@pytest.mark.parametrize("status", ["won", "warning_closed", "prevented"])
@pytest.mark.parametrize("before", [(), ("needs_response",), ("needs_response", "under_review")])
def test_end_without_loss_frees_everything(world: World, status: str, before: tuple[str, ...]) -> None:
    world.pay()
    for earlier in before:
        report_disputes(world, dispute(world, earlier))
    report_disputes(world, dispute(world, status))
    assert balance_of(world) == (100, 0)
    world.withdraw(100)
    world.work()
    assert world.processor.paid_minor() == 1_000


def test_money_reinstated_after_a_loss_undoes_it_once(world: World) -> None:
    world.pay()
    report_disputes(world, dispute(world, "lost", money_returned=False))
    assert balance_of(world) == (0, 0)
    assert [report_disputes(world, dispute(world, "lost", money_returned=True)) for _ in range(2)] == [1, 0]
    assert balance_of(world) == (100, 0)
    assert [credits for credits, _ in entries_of(world, "reversal")] == [100]


def test_loss_takes_what_is_available_then(world: World) -> None:
    world.pay()
    world.spend(credits=70)
    report_disputes(world, dispute(world))
    assert balance_of(world) == (30, 30)
    world.pay(2, credits=20, amount_minor=200)
    report_disputes(world, dispute(world, "lost"))
    (claim,) = claims_of(world)
    assert (claim["taken"], claim["credits"], balance_of(world)) == (50, 100, (0, 0))


def test_stopped_leg_goes_on_after_a_win(world: World) -> None:
    world.pay()
    pause_processor(world.context, "stripe", actor="op", reason="later")
    refund_id = world.withdraw(100)
    report_disputes(world, dispute(world))
    resume_processor(world.context, "stripe", actor="op")
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, refund.failure_code) == (RefundStatus.NEEDS_ATTENTION, "charge_disputed")
    assert world.processor.sends == []
    report_disputes(world, dispute(world, "won"))
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED


@pytest.mark.parametrize("ended", [("won", None), ("prevented", None), ("lost", True)])
def test_leg_goes_on_if_the_dispute_is_heard_of_after_its_end(world: World, ended: tuple[str, bool | None]) -> None:
    world.pay()
    world.processor.script("ch_1", *[Blocked("charge_disputed", "the charge is disputed")] * 60)
    refund_id = world.withdraw(100)
    world.work_for(100_000)
    assert world.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    world.processor.rescript("ch_1")
    status, returned = ended
    report_disputes(world, dispute(world, status, money_returned=returned))
    world.work()
    assert (world.refund(refund_id).status, world.processor.paid_minor()) == (RefundStatus.SUCCEEDED, 1_000)


def test_stopped_leg_goes_over_another_payment_after_a_loss(world: World) -> None:
    world.pay(1, captured_at=2.0)
    world.pay(2, captured_at=1.0)
    pause_processor(world.context, "stripe", actor="op", reason="later")
    refund_id = world.withdraw(100)
    report_disputes(world, dispute(world))
    resume_processor(world.context, "stripe", actor="op")
    world.work()
    report_disputes(world, dispute(world, "lost"))
    world.work()
    refund = world.refund(refund_id)
    assert (refund.status, [leg.payment_id for leg in refund.legs]) == (RefundStatus.SUCCEEDED, ["pay1", "pay2"])
    assert balance_of(world) == (0, 0)


def test_new_request_avoids_the_disputed_payment(world: World) -> None:
    world.pay(1, captured_at=2.0)
    world.pay(2, captured_at=1.0)
    report_disputes(world, dispute(world))
    refund_id = world.withdraw(50)
    assert [leg.payment_id for leg in world.refund(refund_id).legs] == ["pay2"]


def test_refund_over_a_disputed_payment_alerts_once(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(60)
    world.work()
    for status in ("needs_response", "under_review", "lost"):
        report_disputes(world, dispute(world, status))
    assert world.events(refund_id).count("refund_and_dispute") == 1
    assert balance_of(world) == (0, 0)
    (claim,) = claims_of(world)
    assert claim["credits"] == 40, "the refund took the other 60"


def test_late_answer_over_a_disputed_payment_alerts_once(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw(60)
    world.work()
    report_disputes(world, dispute(world))
    world.work_for(1_200)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert world.events(refund_id).count("refund_and_dispute") == 1, "before anything more is heard of the dispute"
    report_disputes(world, dispute(world, "lost"))
    assert world.events(refund_id).count("refund_and_dispute") == 1


def test_all_three_together_never_take_more_than_there_is(world: World) -> None:
    world.pay()
    world.withdraw(30)
    world.work()
    report(world, world.refund_in_the_dashboard(500))
    report_disputes(world, dispute(world, "lost"), dispute(world, "lost", 500, dispute_id="dp_2"))
    assert balance_of(world) == (0, 0)
    assert [claim["credits"] for claim in claims_of(world)] == [50, 20, 0]


@pytest.mark.parametrize(("decision", "balance"), [(ShortfallRule.WRITE_OFF, 0), (ShortfallRule.DEBT, -60)])
def test_person_decides_about_a_shortfall_once(world: World, decision: ShortfallRule, balance: int) -> None:
    with_rule(world, "person")
    world.pay()
    world.spend(credits=60)
    report_disputes(world, dispute(world, "lost"))
    (claim,) = claims_of(world)
    terms = {"kind": ClaimKind.DISPUTE, "actor": "op", "reason": "because"}
    for _ in range(2):
        decide_claim(world.context, claim["claim_id"], decision=decision, **terms)  # type: ignore[arg-type]
    assert balance_of(world) == (balance, 0)
    other = ShortfallRule.DEBT if decision is ShortfallRule.WRITE_OFF else ShortfallRule.WRITE_OFF
    with pytest.raises(ActionNotAllowed):
        decide_claim(world.context, claim["claim_id"], decision=other, **terms)  # type: ignore[arg-type]
    report_disputes(world, dispute(world, "won"))
    assert balance_of(world) == (40, 0)
