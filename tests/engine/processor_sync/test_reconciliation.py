"""Reconciliation while refunds are processed: no false alarm, and every real difference is found."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import astuple, replace
from datetime import datetime

import pytest
from tests.support.engine_world import ScriptedProcessor, World
from tests.support.migrated import migrate

from refund_worker.domain.processor_replies import Answered, Found, Refused, Reply, SearchReply
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.refunds.process import process_due
from refund_worker.store.reporting import reconciliation

REFUSED = Refused("expired_or_canceled_card", "no")


class Lagging(ScriptedProcessor):
    """A processor whose list omits recent objects, and a worker that continues while the list is read."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.objects = world.processor.objects

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return the first object only, after a round of work."""
        shown = Found(tuple(self.objects.values())[:1])
        await asyncio.get_running_loop().run_in_executor(None, self.world.work)
        return shown


def test_paid_refund_missing_in_lagging_list_is_no_difference(world: World) -> None:
    world.pay()
    world.withdraw(20, "k1")
    world.withdraw(20, "k2")
    world.work()
    world.withdraw(20, "k3")  # paid while the list is read
    report = reconcile(replace(world.context, processors={"stripe": Lagging(world)}), "stripe")
    assert (report.differences, report.ledger_minor, report.processor_minor) == ((), 600, 600)
    assert [astuple(total) for total in report.totals] == [("USD", 600, 600)]


def test_time_and_result_of_the_last_comparison_are_recorded(world: World) -> None:
    world.pay()
    world.withdraw(20, "k1")
    world.work()
    assert reconcile(world.context, "stripe").agrees
    world.processor.become("re_1", "failed")
    assert len(reconcile(world.context, "stripe").differences) == 1
    with world.database.read() as connection:
        latest = reconciliation.latest(connection)
        assert {name: (row["compared"], row["differences"]) for name, row in latest.items()} == {"stripe": (1, 1)}
        assert abs(latest["stripe"]["at"] - world.context.clock(connection)) < 60


def test_failed_refund_missing_in_lagging_list_is_a_difference(world: World) -> None:
    world.pay()
    world.withdraw(20, "k1")
    refund_id = world.withdraw(20, "k2")
    world.work()
    world.processor.become("re_2", "failed")
    report = reconcile(replace(world.context, processors={"stripe": Lagging(world)}), "stripe")
    assert [(d.kind, d.subject) for d in report.differences] == [("status", f"{refund_id}-1")]


def strange(world: World, **changes: object) -> str:
    """Return a refund that waits for a person because its object differs from the request by `changes`."""
    world.pay()
    sent = world.processor.send

    async def lies(key: str, body: str) -> Reply:
        answer = await sent(key, body)
        assert isinstance(answer, Answered)
        refund_object = replace(answer.object, **changes)  # type: ignore[arg-type]
        world.processor.objects[refund_object.processor_refund_id] = refund_object
        return Answered(refund_object)

    world.processor.send = lies  # type: ignore[method-assign]
    refund_id = world.withdraw(20)
    world.work_for(86_400)
    assert world.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    return refund_id


@pytest.mark.parametrize("changes", [{"currency": "HUF"}, {"amount_minor": 201}])
def test_mismatch_named_as_manual_payment_is_no_difference(world: World, changes: dict[str, object]) -> None:
    refund_id = strange(world, **changes)
    world.command(refund_id, Action.RESOLVE, "re_1")
    assert reconcile(world.context, "stripe").differences == ()


def test_unanswered_send_named_as_paid_manually_is_no_difference(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", "pays_silently")
    refund_id = world.withdraw(20)
    process_due(world.context)
    world.command(refund_id, Action.RESOLVE, "re_1")
    report = reconcile(world.context, "stripe")
    assert (report.differences, report.resolved, world.processor.paid_minor()) == ((), 0, 200)


def test_the_same_figure_in_another_currency_is_a_difference(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(20)
    world.work()
    world.processor.objects["re_1"] = replace(world.processor.objects["re_1"], currency="HUF")
    report = reconcile(world.context, "stripe")
    found = [(d.kind, d.subject, d.ours, d.theirs) for d in report.differences]
    assert found == [("currency", f"{refund_id}-1", "USD", "HUF")]
    assert [astuple(total) for total in report.totals] == [("HUF", 0, 200), ("USD", 200, 0)]


@pytest.mark.parametrize("reference", ["bank transfer 7", None], ids=["paid_manually", "reverse"])
@pytest.mark.parametrize("changes", [{"currency": "HUF"}, {"amount_minor": 201}])
def test_mismatch_known_when_resolving_is_no_difference(
    world: World, changes: dict[str, object], reference: str | None
) -> None:
    refund_id = strange(world, **changes)
    world.command(refund_id, Action.RESOLVE, reference)
    report = reconcile(world.context, "stripe")
    assert (report.differences, report.resolved) == ((), 1)


def test_mismatch_that_came_after_resolving_is_a_difference(world: World) -> None:
    refund_id = strange(world, amount_minor=201)
    world.command(refund_id, Action.RESOLVE, "bank transfer 7")
    world.pass_time(60)
    world.processor.objects["re_2"] = replace(world.processor.objects["re_1"], processor_refund_id="re_2")
    for _ in range(2):
        sync_all(world.context, "stripe")
        world.pass_time(3_600)
    report = reconcile(world.context, "stripe")
    assert [(d.kind, d.ours, d.theirs) for d in report.differences] == [("amount", 200, 201)]
    assert report.resolved == 1


def test_credits_on_their_way_back_are_no_difference(world: World) -> None:
    world.pay()
    world.processor.script("ch_1", REFUSED)
    refund_id = world.withdraw(20)
    process_due(world.context)
    assert world.refund(refund_id).status is RefundStatus.SENDING, "refused, and not given back yet"
    assert reconcile(world.context, "stripe").differences == ()
    world.work()
    assert (world.refund(refund_id).status, reconcile(world.context, "stripe").differences) == (RefundStatus.FAILED, ())


def test_unknown_status_of_finished_refund_is_recorded_only_once(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(20)
    world.work()
    world.processor.become("re_1", "settling")
    for _ in range(3):
        sync_all(world.context, "stripe")
        world.pass_time(3_600)
    assert world.events(refund_id).count("unknown_status") == 1
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    world.processor.become("re_1", "failed")
    sync_all(world.context, "stripe")
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED


def test_difference_of_two_refunds_for_one_leg_names_both_counts(world: World) -> None:
    world.pay()
    refund_id = world.withdraw(20)
    world.work()
    (first,) = world.processor.objects.values()
    world.processor.objects["re_again"] = replace(first, processor_refund_id="re_again")
    twice = [d for d in reconcile(world.context, "stripe").differences if d.kind == "refunded_twice"]
    assert [(d.subject, d.ours, d.theirs) for d in twice] == [(f"{refund_id}-1", 1, 2)]


def test_two_installations_on_one_account_are_no_difference_to_either(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('other') / 'refunds.db'}"
    migrate(url)  # a separate database with a separate installation id
    with closing(World(url)) as other:
        other.processor.objects = world.processor.objects  # both use one account
        other.context = replace(other.context, processors={"stripe": other.processor})
        for each, amount in ((world, 20), (other, 30)):
            each.pay()
            each.withdraw(amount)
            each.work()
        reports = [reconcile(each.context, "stripe") for each in (world, other)]
    assert [(r.differences, r.foreign, r.other_installations) for r in reports] == [((), 0, 1)] * 2
    assert [(r.ledger_minor, r.processor_minor) for r in reports] == [(200, 200), (300, 300)]


@pytest.mark.parametrize("mark", [{"leg_id": None, "installation": None}, {"installation": "inst_other"}])
def test_a_mark_that_was_edited_makes_ours_no_difference(world: World, mark: dict[str, str | None]) -> None:
    world.pay()
    world.withdraw(20)
    world.work()
    world.processor.objects["re_1"] = replace(world.processor.objects["re_1"], **mark)  # type: ignore[arg-type]
    report = reconcile(world.context, "stripe")
    assert (report.differences, report.foreign, report.other_installations) == ((), 0, 0)
    assert report.processor_minor == 200


def test_our_refund_unknown_to_our_books_is_a_difference(world: World) -> None:
    world.pay()
    world.withdraw(20)
    world.work()
    ours = world.processor.objects["re_1"]
    world.processor.objects["re_2"] = replace(ours, processor_refund_id="re_2", leg_id="rf_lost-1", amount_minor=70)
    assert [(d.kind, d.subject, d.theirs) for d in reconcile(world.context, "stripe").differences] == [
        ("not_recorded", "rf_lost-1", 70)
    ]


def test_refund_of_ours_without_leg_counts_as_outside_refund(world: World) -> None:
    world.pay()
    world.withdraw(20)
    world.work()
    ours = world.processor.objects["re_1"]
    assert ours.installation
    world.processor.objects["re_2"] = replace(ours, processor_refund_id="re_2", leg_id=None)
    report = reconcile(world.context, "stripe")
    assert [(d.kind, d.subject) for d in report.differences] == [("outside_refund", "re_2")]
    assert (report.foreign, report.other_installations) == (1, 0)
