"""A step with two objects, one of which may have paid and is not understood: the other's failure decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.payout_world import DAY, START, TWO_STEPS, WINDOW, PayoutWorld

from refund_worker.domain.decision_builder import BLOCKED_TRIES
from refund_worker.domain.payouts.decision import TransferReplied
from refund_worker.domain.payouts.transfers import Fault, TransferObject, TransfersFound
from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.replies import record_transfer_replies

Make = Callable[..., PayoutWorld]
CONNECTED = "processor:stripe/acct_p000"


def begun(make_world: Make, *words: str, seconds: float = 60, **options: Any) -> tuple[PayoutWorld, str]:
    """Return a world and its payout of 50.00 USD after some seconds. `words` are the answers to its calls."""
    world = make_world(**options)
    world.earn("e1", 5_000)
    world.route.script = list(words)
    payout_id = world.ask()
    world.settle(seconds)
    return world, payout_id


def with_two(make_world: Make, words: tuple[str, ...] = ("pending",), **options: Any) -> tuple[PayoutWorld, str, str]:
    """Return a world, its payout and the key of its last step: its object waits, beside tr_9 of an unknown status."""
    world, payout_id = begun(make_world, *words, **options)
    key = list(world.route.book)[-1]
    world.route.book["another"] = replace(world.route.book[key], object_id="tr_9", state=None, status="resting")
    world.report(payout_id, world.route.book["another"])
    return world, payout_id, key


def failed_beside(make_world: Make, steps: int = 1, **values: Any) -> tuple[PayoutWorld, str]:
    """Return a payout whose last step failed beside tr_9. `values` are those of the failure."""
    options: dict[str, Any] = {} if steps == 1 else {"steps": TWO_STEPS}
    words = ("pending",) if steps == 1 else ("succeeded", "pending", "succeeded")
    world, payout_id, key = with_two(make_world, words, **options)
    world.report(payout_id, world.route.set(key, ObjectState.FAILED, **values))
    world.settle(3_600, step=600)
    assert world.payout(payout_id).status == "needs_attention"
    return world, payout_id


def steps_of(world: PayoutWorld, payout_id: str) -> list[str]:
    return [str(leg.step) for leg in world.payout(payout_id).legs]


@pytest.mark.parametrize("fault", [None, Fault.OURS, Fault.PROCESSOR])
def test_failure_beside_an_unknown_status_is_a_persons(
    make_world: Make, fault: Fault | None, caplog: pytest.LogCaptureFixture
) -> None:
    world, payout_id = failed_beside(make_world, fault=fault, failure_code="declined")
    payout = world.payout(payout_id)
    assert payout.failure_code == "unknown_status"
    assert payout.failure_message is not None
    assert "tr_9" in payout.failure_message
    assert [line.alarm for line in caplog.records if hasattr(line, "alarm")] == ["unknown_status", "payout_returned"]
    assert len(world.route.sends()) == 1
    assert (world.balance().in_flight_minor, world.balance().payable_minor) == (5_000, 0)
    world.act_on(payout_id, "resolve")
    world.settle(3 * DAY, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.due_at, world.balance().payable_minor) == ("failed", None, 5_000)


@pytest.mark.parametrize("steps", [1, 2])
def test_retry_asks_and_gives_nothing_back_before_the_answer(make_world: Make, steps: int) -> None:
    world, payout_id = failed_beside(make_world, steps)
    world.route.set("another", ObjectState.SUCCEEDED)
    world.act_on(payout_id, "retry")
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("needs_attention", 0)
    world.settle(60)
    payout = world.payout(payout_id)
    assert (payout.status, payout.legs[-1].object_id, world.balance().paid_minor) == ("paid", "tr_9", 5_000)
    assert (len(world.route.sends()), len(payout.legs)) == (steps, steps)


@pytest.mark.parametrize("steps", [1, 2])
def test_retry_without_news_leaves_it_with_the_person(make_world: Make, steps: int) -> None:
    world, payout_id = failed_beside(make_world, steps)
    for _ in range(2):
        world.act_on(payout_id, "retry")
        world.settle(3_600, step=600)
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("needs_attention", 0)
    assert len(world.payout(payout_id).legs) == steps
    assert world.events(payout_id).count("unknown_status") == 1


@pytest.mark.parametrize(("state", "status"), [(ObjectState.SUCCEEDED, "paid"), (ObjectState.FAILED, "failed")])
def test_it_is_asked_about_daily_while_a_person_decides(make_world: Make, state: ObjectState, status: str) -> None:
    world, payout_id = failed_beside(make_world)
    world.route.calls.clear()
    world.settle(3 * DAY, step=3_600)
    assert 2 <= world.route.calls.count(("fetch", "tr_9")) <= 4
    world.route.set("another", state)
    world.settle(DAY + 3_600, step=3_600)
    assert world.payout(payout_id).status == status


@pytest.mark.parametrize(("reference", "undone"), [(None, True), ("tr_9", False), ("wire-7", False)])
def test_transfer_is_undone_once_nothing_was_paid(make_world: Make, reference: str | None, undone: bool) -> None:
    world, payout_id = failed_beside(make_world, steps=2)
    assert steps_of(world, payout_id) == ["transfer", "payout"]
    world.act_on(payout_id, "resolve", reference=reference)
    world.settle(DAY, step=3_600)
    assert ("reversal" in steps_of(world, payout_id)) is undone
    assert world.balance().payable_minor == (5_000 if undone else 0)


@pytest.mark.parametrize(("reference", "alarms"), [("tr_9", 0), ("wire-7", 1)])
def test_named_payment_raises_no_alarm_at_the_end(make_world: Make, reference: str, alarms: int) -> None:
    world, payout_id = failed_beside(make_world)
    world.act_on(payout_id, "resolve", reference=reference)
    world.settle(3 * WINDOW, step=3_600)
    assert world.payout(payout_id).status == "settled"
    assert world.events(payout_id).count("object_never_understood") == alarms


def test_transfer_never_understood_is_shown_at_the_end(make_world: Make) -> None:
    world, payout_id = begun(make_world, "succeeded", "succeeded", steps=TWO_STEPS)
    world.report(payout_id, replace(world.route.book[f"{payout_id}-1:1"], object_id="tr_9", state=None, status="x"))
    world.act_on(payout_id, "retry")
    world.settle(3 * WINDOW, step=3_600)
    if world.payout(payout_id).status == "needs_attention":
        world.act_on(payout_id, "resolve")
        world.settle(60)
    assert world.payout(payout_id).status == "settled"
    assert world.events(payout_id).count("object_never_understood") == 1
    world.report(payout_id, world.route.book[f"{payout_id}-2:1"])
    assert world.events(payout_id).count("object_never_understood") == 1


@pytest.mark.parametrize("unknown_first", [True, False])
def test_order_in_a_list_decides_nothing(make_world: Make, unknown_first: bool) -> None:
    world = make_world()
    world.earn("e1", 5_000)
    world.route.script = ["lost"]
    payout_id = world.ask()
    world.step()
    failed = world.route.set(f"{payout_id}-1:1", ObjectState.FAILED, failure_code="account_closed")
    unknown = replace(failed, object_id="tr_9", state=None, status="resting", failure_code=None)
    found: tuple[TransferObject, ...] = (unknown, failed) if unknown_first else (failed, unknown)
    record_transfer_replies(world.context, [TransferReplied(payout_id, f"{payout_id}-1", None, TransfersFound(found))])
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "unknown_status")
    assert world.balance().payable_minor == 0


def test_answer_about_one_object_ends_no_doubt_about_the_other(make_world: Make) -> None:
    world, payout_id = begun(make_world, "succeeded")
    world.report(payout_id, replace(world.route.book[f"{payout_id}-1:1"], object_id="tr_9", state=None, status="x"))
    assert world.payout(payout_id).status == "needs_attention"
    world.settle(2 * DAY, step=3_600)
    assert world.payout(payout_id).status == "needs_attention"


def undoing(
    make_world: Make, state: ObjectState, fault: Fault | None, *, beside: bool, **options: Any
) -> tuple[PayoutWorld, str]:
    """Return a payout whose reversal ended as `state` with this fault, perhaps beside trr_9 of an unknown status."""
    world, payout_id = begun(make_world, "succeeded", "failed", "pending", "pending", steps=TWO_STEPS, **options)
    pending = world.route.book[f"{payout_id}-3:1"]
    if beside:
        world.route.book["another"] = replace(pending, object_id="trr_9", state=None, status="resting")
        world.report(payout_id, world.route.book["another"])
    ended = world.route.set(f"{payout_id}-3:1", state, fault=fault, failure_code="balance_insufficient")
    world.report(payout_id, ended)
    return world, payout_id


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("finds", [True, False])
@pytest.mark.parametrize(
    ("state", "fault"), [(ObjectState.FAILED, None), (ObjectState.FAILED, Fault.OURS), (ObjectState.CANCELED, None)]
)
def test_failed_reversal_gives_nothing_back(
    make_world: Make, state: ObjectState, fault: Fault | None, finds: bool, beside: bool
) -> None:
    """The payee has the money of the transfer: the amount goes back only once a person lets the transfer stand."""
    world, payout_id = undoing(make_world, state, fault, beside=beside, finds=finds)
    sent = len(world.route.sends())
    world.act_on(payout_id, "retry")
    world.settle(2 * DAY, step=3_600)
    assert world.balance().payable_minor == 0
    assert world.accounts()[CONNECTED] == 5_000
    if beside:
        assert len(world.route.sends()) == sent, "the other one may have worked"
        assert world.payout(payout_id).status == "needs_attention"
        assert world.payee_row().blocked_by == payout_id
        world.act_on(payout_id, "resolve")
        assert world.events(payout_id).count("transfer_stands") == 1
        assert (world.payout(payout_id).status, world.payee_row().blocked_by) == ("failed", None)
    else:
        assert len(world.route.sends()) > sent, "a retry undoes the transfer again"


@pytest.mark.parametrize(("state", "status"), [(ObjectState.SUCCEEDED, "failed"), (ObjectState.FAILED, None)])
def test_reversal_in_doubt_ends_with_the_other_object(make_world: Make, state: ObjectState, status: str | None) -> None:
    world, payout_id = undoing(make_world, ObjectState.FAILED, None, beside=True)
    world.route.set("another", state)
    world.settle(DAY + 3_600, step=3_600)
    payout = world.payout(payout_id)
    if status:
        assert (payout.status, world.balance().payable_minor) == (status, 5_000)
        assert world.payee_row().blocked_by is None
    else:
        assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_not_undone")
        assert world.balance().payable_minor == 0


@pytest.mark.parametrize("state", [ObjectState.FAILED, ObjectState.CANCELED])
def test_reversal_that_failed_for_good_is_a_persons(
    make_world: Make, state: ObjectState, caplog: pytest.LogCaptureFixture
) -> None:
    world, payout_id = undoing(make_world, state, None, beside=False)
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_not_undone")
    assert [line.alarm for line in caplog.records if hasattr(line, "alarm")].count("payout_stopped") == 1
    assert world.payee_row().blocked_by == payout_id
    sent = len(world.route.sends())
    world.settle(2 * DAY, step=3_600)
    assert len(world.route.sends()) == sent
    world.act_on(payout_id, "resolve")
    assert "transfer_stands" in world.events(payout_id)
    assert world.payout(payout_id).status == "failed"


@pytest.mark.parametrize("fault", [Fault.PROCESSOR, Fault.OURS])
@pytest.mark.parametrize("state", [ObjectState.FAILED, ObjectState.CANCELED])
def test_reversal_is_tried_again_a_bounded_number_of_times(
    make_world: Make, state: ObjectState, fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    world, payout_id = undoing(make_world, state, fault, beside=False)
    for _ in range(BLOCKED_TRIES + 2):
        world.settle(3_700, step=1_850)
        leg = world.payout(payout_id).legs[2]
        world.report(payout_id, world.route.set(f"{leg.leg_id}:{leg.attempt}", state, fault=fault, failure_code="x"))
        if world.payout(payout_id).failure_code == "transfer_not_undone":
            break
    assert world.payout(payout_id).failure_code == "transfer_not_undone"
    assert world.payee_row().blocked_by == payout_id
    alarms = [line.alarm for line in caplog.records if hasattr(line, "alarm")]
    assert alarms.count("payout_stopped") == 2, "when it failed first, and when it became a person's"


def test_reversal_that_fails_late_takes_the_amount_again(make_world: Make) -> None:
    world, payout_id = begun(make_world, "succeeded", "failed", "succeeded", steps=TWO_STEPS)
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)
    world.report(payout_id, world.route.set(f"{payout_id}-3:1", ObjectState.FAILED))
    payout = world.payout(payout_id)
    assert (payout.status, payout.failure_code) == ("needs_attention", "transfer_not_undone")
    assert (world.balance().payable_minor, world.payee_row().blocked_by) == (0, payout_id)
    world.act_on(payout_id, "retry")
    world.settle(3_600, step=600)
    assert world.payout(payout_id).status == "needs_attention"
    world.act_on(payout_id, "resolve")
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)
    assert "transfer_stands" in world.events(payout_id)


def test_report_after_a_persons_decision_takes_nothing_again(make_world: Make) -> None:
    world, payout_id, key = with_two(make_world)
    world.route.book["third"] = replace(world.route.book["another"], object_id="tr_10")
    world.report(payout_id, world.route.book["third"])
    world.report(payout_id, world.route.set(key, ObjectState.CANCELED))
    world.act_on(payout_id, "resolve")
    assert world.balance().payable_minor == 5_000
    for name in (key, "third"):
        world.report(payout_id, world.route.set(name, ObjectState.FAILED))
    assert (world.payout(payout_id).due_at, world.balance().payable_minor) == (None, 5_000)
    assert world.payout(payout_id).legs[0].attention_code is None


def test_unknown_status_of_a_canceled_payout_is_only_an_alarm(make_world: Make) -> None:
    world = make_world()
    world.earn("e1", 5_000)
    payout_id = world.ask()
    world.act_on(payout_id, "cancel")
    leg = world.payout(payout_id).legs[0]
    item = TransferObject(
        object_id="tr_9",
        step=leg.step,
        state=None,
        status="resting",
        amount_minor=5_000,
        currency="USD",
        leg_id=leg.leg_id,
        attempt=1,
        created_at=datetime.fromtimestamp(START, UTC),
    )
    world.report(payout_id, item)
    assert (world.payout(payout_id).status, world.payout(payout_id).legs[0].attention_code) == ("canceled", None)
    assert "unknown_status" in world.events(payout_id)


def unanswered_reversal(make_world: Make, *, finds: bool) -> tuple[PayoutWorld, str]:
    """Return a payout whose reversal was sent and not answered, so that a person looks it up."""
    world, payout_id = begun(make_world, "succeeded", "failed", "lost", steps=TWO_STEPS, finds=finds, seconds=1)
    world.route.down = True
    world.settle(12_000, step=100)
    assert world.payout(payout_id).status == "needs_attention"
    world.route.down = False
    return world, payout_id


@pytest.mark.parametrize("state", [ObjectState.FAILED, ObjectState.CANCELED])
def test_reversal_that_a_person_gave_up_is_not_in_doubt_again(make_world: Make, state: ObjectState) -> None:
    world, payout_id = unanswered_reversal(make_world, finds=False)
    world.act_on(payout_id, "resolve")
    assert "transfer_stands" in world.events(payout_id)
    world.report(payout_id, world.route.set(f"{payout_id}-3:1", state))
    world.settle(DAY, step=3_600)
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)
    assert (world.payout(payout_id).due_at, world.payee_row().blocked_by) == (None, None)


def test_payment_in_another_way_leaves_a_reversal_to_its_look_up(make_world: Make) -> None:
    world, payout_id = unanswered_reversal(make_world, finds=True)
    assert world.payout(payout_id).legs[2].status == "unknown"
    world.act_on(payout_id, "resolve", reference="wire-7")
    assert "transfer_stands" not in world.events(payout_id)
    world.route.set(f"{payout_id}-3:1", ObjectState.SUCCEEDED)
    world.settle(2 * DAY, step=3_600)
    payout = world.payout(payout_id)
    assert (payout.status, payout.legs[2].status) == ("paid", "succeeded")
    assert world.accounts().get(CONNECTED, 0) == 0


def test_unknown_status_after_the_amount_went_back_is_only_an_alarm(make_world: Make) -> None:
    world, payout_id = begun(make_world, "pending")
    key = f"{payout_id}-1:1"
    world.report(payout_id, world.route.set(key, ObjectState.FAILED, failure_code="declined"))
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)
    world.report(payout_id, replace(world.route.book[key], object_id="tr_9", state=None, status="resting"))
    assert (world.payout(payout_id).status, world.balance().payable_minor) == ("failed", 5_000)
    assert world.events(payout_id).count("unknown_status") == 1
