"""Interrupted batches: shown as stopped, continued by the same call, and no row is accepted twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.support.engine_world import Died, World, withdrawal

from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.context import Batches
from refund_worker.engine.intake.batches import STOPPED_SECONDS, accept_batch, batch_view
from refund_worker.errors import InvalidRequest, Refusal
from refund_worker.store.batches import latest_batches

ROWS = 10
Rows = Sequence[RefundRequest | Refusal]


@pytest.fixture
def asked(world: World) -> Rows:
    """Return ten rows for chunks of three: the third cannot be read, and the last asks for too much."""
    world.context = replace(world.context, batches=Batches(intake=3))
    world.pay(credits=100)
    rows: list[RefundRequest | Refusal] = [withdrawal(10, f"k{n}", bulk=True) for n in range(ROWS - 1)]
    rows[2] = InvalidRequest("not readable")
    return [*rows, withdrawal(1_000, "k-much")]


def take(world: World, rows: Rows | Iterator[RefundRequest | Refusal], **others: Any) -> dict[str, Any]:
    """Accept the rows as a batch of client "shop" and return the batch as the API shows it."""
    return accept_batch(world.context, rows, **{"client": "shop", "actor": "shop/anna", "body_sha256": "h", **others})


def only(world: World) -> dict[str, Any]:
    """Return the only batch as the API shows it."""
    with world.database.read() as connection:
        (row,) = latest_batches(connection, limit=10)
        return batch_view(connection, row["batch_id"], now=world.now)


def test_each_batch_is_listed_with_the_rows_of_its_own(world: World, asked: Rows) -> None:
    take(world, asked)
    take(world, asked[:1], actor="shop/bob", body_sha256="h2")
    with world.database.read() as connection:
        listed = latest_batches(connection, limit=10)
    assert {row["actor"]: row["rows"] for row in listed} == {"shop/anna": len(asked), "shop/bob": 1}


def figures(view: dict[str, Any]) -> tuple[Any, ...]:
    """Return (status, accepted, replayed, indexes of the rejected rows) of a batch."""
    return view["status"], view["accepted"], view["replayed"], [reject["index"] for reject in view["rejected"]]


# One transaction to begin, four with chunks, one to complete. The process dies before each of the last five, and after
# the first and the third.
@pytest.mark.parametrize(
    ("place", "done"), [("dies_after", 1), *(("dies_before", n) for n in range(2, 7)), ("dies_after", 3)]
)
def test_dead_batch_is_shown_as_stopped_and_same_call_resumes_it(
    world: World, asked: Rows, place: str, done: int
) -> None:
    setattr(world.database, place, done)
    with pytest.raises(Died):
        take(world, asked)
    assert (only(world)["status"], only(world)["message"]) == ("taking_in", None)
    world.pass_time(STOPPED_SECONDS)
    stopped = only(world)
    chunks = done - 1 if place == "dies_after" else done - 2
    assert stopped["status"] == "stopped"
    assert f"after {min(chunks * 3, ROWS)} rows" in stopped["message"]
    assert "again" in stopped["message"]

    resumed = take(world, asked)
    assert resumed["batch_id"] == stopped["batch_id"]
    assert figures(only(world)) == figures(resumed) == ("complete", ROWS - 2, 0, [2, 9])
    assert resumed["message"] is None
    assert world.account.held == (ROWS - 2) * 10


def test_batch_that_may_still_run_is_not_resumed_but_replayed(world: World, asked: Rows) -> None:
    world.database.dies_before = 3
    with pytest.raises(Died):
        take(world, asked)
    world.pass_time(STOPPED_SECONDS - 1)
    first = only(world)
    again = take(world, asked)
    assert again["batch_id"] != first["batch_id"]
    assert figures(again) == ("complete", ROWS - 4, 2, [2, 9])
    assert world.account.held == (ROWS - 2) * 10


@pytest.mark.parametrize("others", [{"client": "other"}, {"body_sha256": "other"}, {"body_sha256": None}])
def test_another_clients_or_another_batch_is_not_gone_on_with(
    world: World, asked: Rows, others: dict[str, Any]
) -> None:
    world.database.dies_before = 3
    with pytest.raises(Died):
        take(world, asked)
    world.pass_time(STOPPED_SECONDS)
    stopped = only(world)["batch_id"]
    assert take(world, asked[:1], **others)["batch_id"] != stopped


def test_process_frozen_mid_batch_changes_nothing_on_resuming(world: World, asked: Rows) -> None:
    def frozen() -> Iterator[RefundRequest | Refusal]:
        yield from asked[:5]
        world.pass_time(STOPPED_SECONDS)
        assert figures(take(world, asked)) == ("complete", ROWS - 2, 0, [2, 9])
        yield from asked[5:]

    assert figures(take(world, frozen())) == ("complete", ROWS - 2, 0, [2, 9])
    assert only(world)["refunds_by_status"] == {"queued": ROWS - 2}
    assert world.account.held == (ROWS - 2) * 10


def test_frozen_process_accepts_no_rows_that_another_one_rejected(world: World) -> None:
    """Its refund would be paid although the batch says rejected; the caller may have requested it again."""
    rows = [withdrawal(100, f"row{number}") for number in range(3)]
    world.pay(1)

    def frozen() -> Iterator[RefundRequest | Refusal]:
        yield from rows[:1]
        world.pass_time(STOPPED_SECONDS)
        assert figures(take(world, rows)) == ("complete", 1, 0, [1, 2])
        world.pay(2)
        yield from rows[1:]

    world.context = replace(world.context, batches=replace(world.context.batches, intake=1))
    assert figures(take(world, frozen())) == ("complete", 1, 0, [1, 2])
    assert (only(world)["refunds_by_status"], world.account.held) == ({"queued": 1}, 100)


def test_frozen_process_continues_within_a_chunk(world: World, asked: Rows) -> None:
    """The other process died after two rows of this one's next chunk: the rest is still to be accepted."""
    whole = world.context

    def frozen() -> Iterator[RefundRequest | Refusal]:
        yield from asked[:4]
        world.pass_time(STOPPED_SECONDS)
        world.context = replace(whole, batches=replace(whole.batches, intake=1))
        world.database.dies_before = 4  # after two rows
        with pytest.raises(Died):
            take(world, asked)
        yield from asked[4:]

    world.context = replace(whole, batches=replace(whole.batches, intake=4))
    assert figures(take(world, frozen())) == ("complete", ROWS - 2, 0, [2, 9])
    assert world.account.held == (ROWS - 2) * 10


def test_complete_batch_sent_again_is_new_batch_of_replays(world: World, asked: Rows) -> None:
    first = take(world, asked)
    world.pass_time(STOPPED_SECONDS)
    again = take(world, asked)
    assert again["batch_id"] != first["batch_id"]
    assert figures(again) == ("complete", 0, ROWS - 2, [2, 9])
