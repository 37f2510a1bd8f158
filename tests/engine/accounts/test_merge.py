"""A merged customer's id is another name of the surviving customer: nothing under way stops, and no credit is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Connection, text
from tests.engine.processor_sync.test_sync_refund import access
from tests.support.deployment import wait_until
from tests.support.engine_world import World, assert_books_balance, credit_refund, withdrawal
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases

from refund_worker.domain.acceptance import CustomerAccount
from refund_worker.domain.refund import RefundStatus
from refund_worker.engine import context
from refund_worker.engine.accounts.corrections import correct, reverse_transaction
from refund_worker.engine.accounts.merge import merge_customers
from refund_worker.engine.audit.hash_chain import Sealer, verify
from refund_worker.engine.processor_sync.sync_refund import sync_refund
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.engine.views import api_objects, lists
from refund_worker.engine.views.search import search
from refund_worker.errors import Conflict, InvalidRequest, NotFound, RefundWorkerError, UnknownCustomer
from refund_worker.store import accounts, refunds


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a world in which "c" bought 100 credits and spent 50, and "d" bought 40."""
    made = World(migrated_url)
    made.pay()
    made.spend("t", 50)
    made.pay(2, customer_id="d", amount_minor=400, credits=40)
    yield made
    assert_books_balance(made.database)
    made.close()


@pytest.fixture
def postgres_world(postgres_server: PostgresDatabases) -> Iterator[World]:
    url = postgres_server.create(migrate)
    made = World(url)
    made.pay()
    made.spend("t", 50)
    made.pay(2, customer_id="d", amount_minor=400, credits=40)
    yield made
    assert_books_balance(made.database)
    made.close()
    postgres_server.drop(url)


def merge(world: World, one: str = "c", into: str = "d") -> str:
    return merge_customers(world.context, one, into=into, reason="registered twice", actor="op")


def of(world: World, customer: str) -> CustomerAccount:
    with world.database.read() as connection:
        found = accounts.find_customer(connection, customer)
    assert found is not None
    return found


def test_both_ids_show_one_account_with_the_sum(world: World) -> None:
    assert merge(world) == "d"
    assert of(world, "c") == of(world, "d")
    assert (of(world, "d").balance, of(world, "d").payable) == (90, 90)
    with world.database.read() as connection:
        page = api_objects.transactions(connection, "c")
        assert page == api_objects.transactions(connection, "d")
        moved = [entry for entry in page["data"] if entry["kind"] == "merge"]
        assert sorted(entry["credits"] for entry in moved) == [-50, 50]
        assert {entry["refers_to"] for entry in moved} == {entry["transaction_id"] for entry in moved}
        assert sum(entry["credits"] for entry in page["data"]) == 90
        assert api_objects.customer(connection, "c", world.context.policy)["merged_ids"] == ["c"]
        payments = lists.payments(connection, world.context, customer_id="c", limit=10)["data"]
        assert {payment["payment_id"] for payment in payments} == {"pay1", "pay2"}
        assert search(connection, "c").customer_id == "d"


def test_the_same_merge_again_is_the_same_and_another_is_refused(world: World) -> None:
    world.pay(3, customer_id="e")
    merge(world)
    before = of(world, "d")
    assert merge(world) == "d"
    assert of(world, "d") == before
    refused: list[tuple[str, str, type[RefundWorkerError]]] = [
        ("c", "e", Conflict),
        ("d", "d", InvalidRequest),
        ("d", "c", InvalidRequest),
        ("nobody", "d", NotFound),
        ("d", "nobody", UnknownCustomer),
    ]
    for one, into, error in refused:
        with pytest.raises(error):
            merge(world, one, into)
    assert of(world, "d") == before


def test_a_chain_of_merges_leads_to_the_last_customer(world: World) -> None:
    world.pay(3, customer_id="e")
    merge(world)
    assert merge(world, "d", "e") == "e"
    assert [of(world, id).customer_id for id in ("c", "d", "e")] == ["e", "e", "e"]
    assert of(world, "c").balance == 190
    assert merge(world, "c", "d") == "e"


def test_a_merge_into_a_merged_id_is_one_into_the_survivor(world: World) -> None:
    world.pay(3, customer_id="e")
    merge(world)
    for into in ("c", "c", "d"):
        assert merge(world, "e", into) == "d"
    assert [of(world, id).customer_id for id in ("c", "d", "e")] == ["d", "d", "d"]
    assert of(world, "e").balance == 190
    with pytest.raises(InvalidRequest, match="into: e is another id of this customer"):
        merge(world, "d", "e")
    with world.database.read() as connection:
        found = api_objects.transactions(connection, "d")["data"]
        assert "Merged into customer d: registered twice" in {entry["description"] for entry in found}


def test_records_and_requests_of_the_old_id_are_those_of_the_survivor(world: World) -> None:
    merge(world)
    world.pay()
    world.spend("t", 50)
    assert of(world, "d").balance == 90, "the same records again change nothing"
    world.pay(4)
    world.spend("t4", 30)
    world.pay(1, customer_id="d")
    first = correct(
        world.context, customer_id="c", credits=-10, reason="r", client="a", idempotency_key="x", actor="op"
    )
    again = correct(
        world.context, customer_id="d", credits=-10, reason="r", client="a", idempotency_key="x", actor="op"
    )
    assert (first[1], again[1], first[0]["customer_id"]) == (True, False, "d")
    assert of(world, "c").balance == 150
    refund_id = world.withdraw(150)
    assert world.refund(refund_id).customer_id == "d"
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert of(world, "d").balance == 0
    with world.database.read() as connection:
        assert refunds.find_ids(connection, refunds.Filters(customer_id="c")) == [refund_id]


def test_a_key_used_before_the_merge_replays_with_both_ids(world: World) -> None:
    refund_id = world.withdraw(10)
    corrected = {"credits": 5, "reason": "r", "client": "a", "idempotency_key": "x", "actor": "op"}
    made, _ = correct(world.context, customer_id="c", **corrected)  # type: ignore[arg-type]
    merge(world)
    for id in ("c", "d"):
        answer = world.request(withdrawal(10, customer_id=id))
        assert (answer.refund_id, answer.replayed) == (refund_id, True)
        row, new = correct(world.context, customer_id=id, **corrected)  # type: ignore[arg-type]
        assert (row["transaction_id"], new) == (made["transaction_id"], False)


def test_entries_from_before_the_merge_are_reversed_on_the_survivor(world: World) -> None:
    row, _ = correct(world.context, customer_id="c", credits=7, reason="r", client="a", idempotency_key="x", actor="op")
    merge(world)
    reversal = reverse_transaction(world.context, row["transaction_id"], actor="op")
    assert (reversal["customer_id"], of(world, "d").balance) == ("d", 90)
    refund_id = world.request(credit_refund(20, customer_id="d")).refund_id
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    assert of(world, "c").balance == 110


@pytest.mark.parametrize("merged", ["before the posting", "during the call", "before the late failure"])
def test_a_refund_under_way_goes_on_and_ends_on_the_survivor(world: World, merged: str) -> None:
    refund_id = world.withdraw(50)
    if merged == "before the posting":
        merge(world)
        assert (of(world, "d").held, of(world, "d").available) == (50, 40)
    if merged == "during the call":
        world.processor.while_sending = lambda: merge(world) and None
    world.work()
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    if merged == "before the late failure":
        merge(world)
    assert (world.refund(refund_id).customer_id, of(world, "c").balance, of(world, "c").held) == ("d", 40, 0)
    world.processor.become("re_1", "failed")
    sync_refund(world.context, access(world), refund_id)
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert (of(world, "d").balance, of(world, "d").payable) == (90, 90)


def test_the_trail_covers_a_merge_and_verifies(world: World) -> None:
    sealer = Sealer()
    world.withdraw(10)
    for _ in range(2):
        sealer.seal(world.context)
    merge(world)
    for _ in range(2):
        sealer.seal(world.context)
    assert verify(world.context).whole
    with world.database.write() as connection:
        connection.execute(text("UPDATE payments SET customer_id = 'c' WHERE payment_id = 'pay1'"))
    assert [finding.what for finding in verify(world.context).findings] == ["changed: customer_id of pay1"]
    with world.database.write() as connection:
        connection.execute(text("UPDATE payments SET customer_id = 'd' WHERE payment_id = 'pay1'"))


def test_what_waits_for_a_merge_lands_on_the_survivor(postgres_world: World) -> None:
    """Each waits for the row of the old id, which a merge has locked and not committed yet."""
    world = postgres_world
    acts: list[Callable[[], object]] = [
        lambda: world.withdraw(60),
        lambda: world.pay(5),
        lambda: world.spend("t5", 5),
        lambda: correct(
            world.context, customer_id="c", credits=5, reason="r", client="a", idempotency_key="x", actor="op"
        ),
        lambda: reverse_transaction(world.context, early["transaction_id"], actor="op"),
    ]
    early, _ = correct(
        world.context, customer_id="c", credits=3, reason="r", client="a", idempotency_key="y", actor="op"
    )
    with ThreadPoolExecutor(len(acts)) as pool:
        started: list[Future[object]] = []

        def new_id(prefix: str) -> str:
            """Start the acts in the middle of the merge's transaction, and wait until all wait for its locks."""
            if not started:
                started.extend(pool.submit(act) for act in acts)
                wait_until(lambda: waiting_for_locks(world) == len(acts))
            return context.new_id(prefix)

        merge_customers(replace(world.context, new_id=new_id), "c", into="d", reason="twice", actor="op")
        done = [each.result(timeout=30) for each in started]
    assert world.refund(str(done[0])).customer_id == "d"
    assert of(world, "d").balance == 50 + 40 + 100 - 5 + 5
    with world.database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM payments WHERE customer_id = 'c'")).scalar() == 0
        late = text("SELECT count(*) FROM ledger_transactions WHERE customer_id = 'c' AND transaction_id IN ('t5')")
        assert connection.execute(late).scalar() == 0


def waiting_for_locks(world: World) -> int:
    with world.database.read() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return int(connection.execute(text(query)).scalar_one())


def test_a_request_accepted_between_the_locks_moves_too(postgres_world: World) -> None:
    """The merge has locked the refunds, and waits for the customer, whom a request under way has locked."""
    world = postgres_world
    locked = threading.Event()

    def keep(_connection: Connection, _answers: object) -> None:
        locked.set()
        wait_until(lambda: waiting_for_locks(world) == 1)

    with ThreadPoolExecutor(2) as pool:
        asked = pool.submit(request_refunds, world.context, [withdrawal(20)], keep)
        assert locked.wait(timeout=30)
        merged = pool.submit(merge, world)
        (answer,) = asked.result(timeout=30)
        merged.result(timeout=30)
    assert isinstance(answer, Accepted)
    assert world.refund(answer.refund_id).customer_id == "d"
    assert (of(world, "d").held, of(world, "d").balance) == (20, 90)
