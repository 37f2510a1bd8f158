"""A process dies at each possible place: what it leaves behind, and how the next process finishes the work.

`make crashes` dies before and after every statement, commit, call and message, singly and in pairs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import Connection, Table, event, func, select
from sqlalchemy.exc import OperationalError
from tests.support.engine_world import Died, ScriptedProcessor, World, credit_refund, withdrawal

from refund_worker.domain.processor_replies import RefundObject, Reply, SearchReply, Unanswered
from refund_worker.domain.refund import RefundRequest, RefundStatus
from refund_worker.engine.context import Batches
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.intake.file_import import import_payments, submit_requests
from refund_worker.engine.jobs import due as due_refunds
from refund_worker.engine.processor_sync import reconciliation, sync, webhook_inbox
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import Unavailable
from refund_worker.store import inbox, tables


def count(world: World, table: Table) -> int:
    """Return the number of rows of the table."""
    with world.database.read() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# --- accepting requests -----------------------------------------------------------------------------------------------


def test_repeat_of_request_that_died_before_commit_is_accepted(world: World) -> None:
    world.pay()
    before = world.account
    world.database.dies_before = 1
    with pytest.raises(Died):
        world.request(withdrawal())
    assert (count(world, tables.refunds), count(world, tables.events), world.account) == (0, 0, before)
    assert not world.request(withdrawal()).replayed


def test_repeat_of_request_that_died_after_commit_is_replayed(world: World) -> None:
    world.pay()
    world.database.dies_after = 1
    with pytest.raises(Died):
        world.request(withdrawal())
    assert count(world, tables.refunds) == 1
    held = world.account.held
    again = world.request(withdrawal())
    assert again.replayed
    assert (count(world, tables.refunds), world.account.held) == (1, held)


@contextmanager
def commit_without_an_answer(world: World, *, applied: bool) -> Iterator[None]:
    """Lose the connection at the commit inside the block, after the commit took effect if `applied`, else before."""

    def lose(connection: Connection) -> None:
        if applied:
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.commit()
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    event.listen(world.database.engine, "commit", lose)
    try:
        with pytest.raises(Unavailable):
            yield
    finally:
        event.remove(world.database.engine, "commit", lose)


def test_a_commit_that_was_done_and_not_answered_is_found_by_its_key(world: World) -> None:
    world.pay()
    with commit_without_an_answer(world, applied=True):
        world.request(withdrawal())
    assert count(world, tables.refunds) == 1
    again = world.request(withdrawal())
    assert again.replayed
    assert (count(world, tables.refunds), world.account.held) == (1, 100)


def test_unanswered_commit_that_failed_is_made_once_on_repeat(world: World) -> None:
    world.pay()
    before = world.account
    with commit_without_an_answer(world, applied=False):
        world.request(withdrawal())
    assert (count(world, tables.refunds), count(world, tables.events), world.account) == (0, 0, before)
    assert not world.request(withdrawal()).replayed
    assert (count(world, tables.refunds), world.account.held) == (1, 100)


def _with_publish(world: World, publish: Callable[[Sequence[str], bool], None]) -> None:
    world.context = replace(world.context, publish=publish)


def test_refund_whose_wake_up_was_never_sent_is_found_by_sweep(world: World) -> None:
    world.pay()

    def dies(refund_ids: Sequence[str], bulk: bool) -> None:
        raise Died

    _with_publish(world, dies)
    with pytest.raises(Died):
        world.request(withdrawal())
    (due,) = due_refunds.due_ids(world.context, bulk=False, limit=10)
    process_due(world.context, [due])
    assert world.refund(due).status is RefundStatus.SUCCEEDED


def test_repeated_wake_up_after_its_sender_died_pays_once(world: World) -> None:
    world.pay()
    messages: list[list[str]] = []

    def tells_and_dies(refund_ids: Sequence[str], bulk: bool) -> None:
        messages.append(list(refund_ids))
        raise Died

    _with_publish(world, tells_and_dies)
    with pytest.raises(Died):
        world.request(withdrawal())
    assert world.request(withdrawal()).replayed
    for message in (*messages, *messages, due_refunds.due_ids(world.context, bulk=False, limit=10)):
        process_due(world.context, message)
    assert len(world.processor.sends) == len(world.processor.objects) == 1


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_messages_in_any_order_and_days_late_come_to_the_same_end(world: World, order: tuple[int, ...]) -> None:
    world.pay()
    messages: list[list[str]] = []
    _with_publish(world, lambda refund_ids, bulk: messages.append(list(refund_ids)))
    asked = [world.withdraw(20, f"k{number}") for number in range(3)]
    for number in order:
        process_due(world.context, messages[number])
        world.pass_time(86_400)
        process_due(world.context, messages[0])  # an old message again
    assert [world.refund(refund_id).status for refund_id in asked] == [RefundStatus.SUCCEEDED] * 3
    assert (len(world.processor.sends), world.processor.paid_minor(), world.account.balance) == (3, 600, 40)


# --- files and batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transaction", [1, 2, 3])
@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_payment_import_dying_midway_completes_when_run_again(world: World, transaction: int, when: str) -> None:
    world.context = replace(world.context, batches=Batches(intake=1))
    payment = world.pay(1)
    rows = [
        (line, replace(payment, payment_id=f"pay{line}", processor_payment_id=f"ch_{line}", captured_at=float(line)))
        for line in (1, 2, 3)
    ]
    setattr(world.database, when, transaction)
    with pytest.raises(Died):
        import_payments(world.context, rows)
    import_payments(world.context, rows)
    assert count(world, tables.payments) == 3
    assert world.account.balance == 3 * payment.credits


@pytest.mark.parametrize("transaction", [1, 2, 3])
@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_request_file_dying_midway_completes_when_run_again(world: World, transaction: int, when: str) -> None:
    world.context = replace(world.context, batches=Batches(intake=1))
    world.pay()
    requests: list[tuple[int, RefundRequest]] = [(n, withdrawal(20, f"k{n}")) for n in (1, 2, 3)]
    setattr(world.database, when, transaction)
    with pytest.raises(Died):
        submit_requests(world.context, requests)
    stored = count(world, tables.refunds)
    report = submit_requests(world.context, requests)
    assert (report.accepted, report.replayed, report.rejected) == (3 - stored, stored, [])
    assert (count(world, tables.refunds), world.account.held) == (3, 60)


def test_batch_that_dies_before_noting_progress_is_replayed(world: World) -> None:
    world.context = replace(world.context, batches=Batches(intake=1))
    world.pay()
    requests = [withdrawal(20, f"k{n}") for n in (1, 2)]
    world.database.dies_after = 2  # the first chunk's refund is stored, but not the batch's progress
    with pytest.raises(Died):
        accept_batch(world.context, requests, client="default", actor="anna")
    assert count(world, tables.refunds) == 1
    made = accept_batch(world.context, requests, client="default", actor="anna")
    assert (made["accepted"], made["replayed"], made["rejected"]) == (1, 1, [])
    assert (count(world, tables.refunds), world.account.held) == (2, 40)


# --- webhook events and reconciliation --------------------------------------------------------------------------------


def refund_with_failure_event(world: World) -> str:
    """Return a refund that has succeeded here and failed since: the webhook event is stored, but not processed."""
    world.pay()
    refund_id = world.withdraw()
    world.work()
    world.processor.become("re_1", "failed")
    body = json.dumps({"data": {"object": {"object": "refund", "id": "re_1", "metadata": {}}}})
    with world.database.write() as connection:
        inbox.insert_event(connection, "stripe", "evt_1", "refund.failed", body, world.now)
    return refund_id


@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_news_whose_handler_dies_is_taken_in_once_by_the_next_one(world: World, when: str) -> None:
    refund_id = refund_with_failure_event(world)
    setattr(world.database, when, 1)
    with pytest.raises(Died):
        webhook_inbox.process_inbox(world.context)
    webhook_inbox.process_inbox(world.context)
    world.work()
    assert world.events(refund_id).count("leg_object_failed") == 1
    assert (world.refund(refund_id).status, world.account.balance) == (RefundStatus.FAILED, 100)


class OutForAWhile(ScriptedProcessor):
    """A processor that answers no fetch of an object until `back` is set."""

    back = False

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return HTTP 503, or the object once `back` is set."""
        self.asked.append(processor_refund_id)
        return await super().fetch(processor_refund_id) if self.back else Unanswered("HTTP 503", server_error=True)


def test_webhook_event_during_an_outage_is_applied_after_it(world: World) -> None:
    """A succeeded refund is not polled: only this webhook event or the hourly full sync reports its failure."""
    out = OutForAWhile()
    out.objects = world.processor.objects
    refund_id = refund_with_failure_event(world)
    world.context = replace(world.context, processors={"stripe": out})
    for _ in range(3_600 * 4):  # the scheduler runs once a second
        webhook_inbox.process_inbox(world.context)
        world.pass_time(1)
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert len(out.asked) < 100, "an outage is no reason to ask every second"
    out.back = True
    for _ in range(3_600):
        if webhook_inbox.process_inbox(world.context):
            break
        world.pass_time(1)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED


@pytest.mark.parametrize("name", ["re_\ud800", "re_1\u0000", "", "re_" + "1" * 300, 7, None])
def test_an_event_that_names_no_id_is_put_aside_and_holds_up_no_other(world: World, name: object) -> None:
    world.pay()
    refund_id = world.withdraw()
    world.work()
    world.processor.become("re_1", "failed")
    with world.database.write() as connection:
        for number, named in enumerate((name, "re_1")):
            body = json.dumps({"data": {"object": {"object": "refund", "id": named, "metadata": {}}}})
            inbox.insert_event(connection, "stripe", f"evt_{number}", "refund.failed", body, world.now)
    assert webhook_inbox.process_inbox(world.context) == 2
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED


def test_webhook_event_of_an_outside_refund_changes_nothing(
    world: World,
) -> None:
    """A person refunded the rest of the payment in the processor's dashboard."""
    world.pay()
    refund_id = world.withdraw(60)
    world.work()
    before = world.refund(refund_id), world.account, count(world, tables.ledger_transactions)
    foreign: RefundObject = replace(
        world.processor.objects["re_1"], processor_refund_id="re_foreign", leg_id=None, attempt=None, amount_minor=400
    )
    world.processor.objects["re_foreign"] = foreign
    body = json.dumps({"data": {"object": {"object": "refund", "id": "re_foreign", "metadata": {}}}})
    with world.database.write() as connection:
        assert inbox.insert_event(connection, "stripe", "evt_1", "refund.created", body, world.now)
    assert webhook_inbox.process_inbox(world.context) == 1
    world.work()
    assert (world.refund(refund_id), world.account, count(world, tables.ledger_transactions)) == before
    with world.database.read() as connection:
        (kept,) = connection.execute(select(tables.inbox)).mappings()
    assert (kept["body"], kept["outcome"]) == (body, "unknown refund: left to reconciliation")
    assert world.processor.asked == ["re_foreign"]
    report = reconciliation.reconcile(world.context, "stripe")
    assert [(d.kind, d.subject) for d in report.differences] == [("outside_refund", "re_foreign")]
    assert (report.foreign, report.processor_minor) == (1, 600)


@pytest.mark.parametrize("when", ["dies_before", "dies_after"])
def test_full_sync_dying_midway_completes_when_run_again(world: World, when: str) -> None:
    world.pay()
    world.spend(credits=20)
    world.withdraw(50, "late")
    world.work()
    world.request(credit_refund(10))
    world.work()
    world.processor.become("re_1", "failed")
    setattr(world.database, when, 1)
    with pytest.raises(Died):
        sync.sync_all(world.context, "stripe")
    sync.sync_all(world.context, "stripe")
    world.work()
    report = reconciliation.reconcile(world.context, "stripe")
    assert report.agrees
    assert report == reconciliation.reconcile(world.context, "stripe")
    assert world.account.balance == 90
    assert world.account.withdrawn == 0


class DiesListing(ScriptedProcessor):
    """A processor during whose listing the process dies."""

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Raise `Died`."""
        raise Died


def test_a_reconciliation_that_dies_while_it_reads_leaves_no_trace(world: World) -> None:
    world.pay()
    world.withdraw()
    world.work()
    before = world.account, count(world, tables.events), reconciliation.reconcile(world.context, "stripe")

    with pytest.raises(Died):
        reconciliation.reconcile(replace(world.context, processors={"stripe": DiesListing()}), "stripe")
    assert (world.account, count(world, tables.events), reconciliation.reconcile(world.context, "stripe")) == before
