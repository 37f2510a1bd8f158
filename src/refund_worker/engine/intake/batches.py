"""Many requests in one call: each with its own key and its own answer, one commit for each chunk.

A crash loses nothing: each chunk is stored whole, with the results of its rows. A batch without progress for a while is
shown as stopped; the same call again continues where it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, RowMapping

from refund_worker.api_schema import Batch, BatchStatus, Reject
from refund_worker.batching import batched
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.errors import NotFound, Refusal
from refund_worker.store import batches
from refund_worker.times import iso

TAKING_IN: Final = "taking_in"
COMPLETE: Final = "complete"
STOPPED: Final = "stopped"
# A chunk takes seconds. A process that is slower than this may find that another one has continued.
STOPPED_SECONDS = 180.0

# The index of a row in its batch, and its request, or the refusal of a row that could not be read.
_NumberedRow = tuple[int, RefundRequest | Refusal]


def accept_batch(
    context: Context,
    requests: Iterable[RefundRequest | Refusal],
    *,
    client: str,
    actor: str,
    body_sha256: str | None = None,
) -> Batch:
    """Accept all rows in order; a row that could not be read is passed as its `Refusal`. Return the view of the batch.

    A stopped batch with the same client and `body_sha256` continues after its stored rows. Raises `Unavailable` if the
    database cannot be used; chunks that are already stored stay.
    """
    batch_id, first = context.database.run(
        lambda connection: _begun(connection, context, client=client, actor=actor, body_sha256=body_sha256)
    )
    for chunk in batched(islice(enumerate(requests), first, None), context.batches.intake):
        missing: Sequence[_NumberedRow] = chunk
        while missing and (stored := _accept_chunk(context, batch_id, missing)):
            missing = [(row, request) for row, request in missing if row >= stored]
    context.database.run(
        lambda connection: batches.touch(connection, batch_id, status=COMPLETE, now=context.clock(connection))
    )
    with context.database.read() as connection:
        return batch_view(connection, batch_id, now=context.clock(connection))


def _begun(
    connection: Connection, context: Context, *, client: str, actor: str, body_sha256: str | None
) -> tuple[str, int]:
    """Return the batch to fill, and the index of its first missing row."""
    now = context.clock(connection)
    if body_sha256 is not None:
        stopped = batches.take_over(connection, client, body_sha256, TAKING_IN, now - STOPPED_SECONDS, now)
        if stopped is not None:
            return stopped, batches.next_row(connection, stopped)
    batch_id = context.new_id("rb")
    named = {"client": client, "actor": actor, "body_sha256": body_sha256, "status": TAKING_IN}
    batches.insert_batch(connection, {"batch_id": batch_id, **named}, now)
    return batch_id, 0


class _AlreadyStored(Exception):
    """Another process has stored the batch's rows before `next_row` meanwhile."""

    def __init__(self, next_row: int) -> None:
        super().__init__(next_row)
        self.next_row = next_row


def _accept_chunk(context: Context, batch_id: str, chunk: Sequence[_NumberedRow]) -> int | None:
    """Accept the rows of the chunk in one commit. Return None, or the batch's next row if some are stored already.

    Then nothing is accepted here. A process that was frozen finds that another one has continued its batch: a row that
    was rejected there must not be accepted now.
    """
    first = chunk[0][0]

    def keep(connection: Connection, answers: Sequence[Accepted | Refusal]) -> None:
        # This takes the lock of the batch: the next row is read after the commit of any other process that stores rows.
        batches.touch(connection, batch_id, status=TAKING_IN, now=context.clock(connection))
        next_row = batches.next_row(connection, batch_id)
        if next_row > first:
            raise _AlreadyStored(next_row)
        all_answers = _answers([request for _, request in chunk], iter(answers))
        rows = [{"row": first + place, **_row(answer)} for place, answer in enumerate(all_answers)]
        batches.insert_rows(connection, batch_id, rows)

    try:
        request_refunds(context, [request for _, request in chunk if isinstance(request, RefundRequest)], keep)
    except _AlreadyStored as stored:
        return stored.next_row
    return None


def _answers(
    chunk: Sequence[RefundRequest | Refusal], answers: Iterator[Accepted | Refusal]
) -> Iterator[Accepted | Refusal]:
    """Yield the answer of each row, in order."""
    for row in chunk:
        yield row if isinstance(row, Refusal) else next(answers)


def _row(answer: Accepted | Refusal) -> dict[str, Any]:
    if isinstance(answer, Accepted):
        return {"refund_id": answer.refund_id, "replayed": answer.replayed, "code": None, "message": None}
    return {"refund_id": None, "replayed": False, "code": answer.code, "message": answer.message}


def batch_view(
    connection: Connection, batch_id: str, *, now: float, client: str | None = None, rejects: int | None = None
) -> Batch:
    """Return a batch with its rejects (at most `rejects` of them, if given) and its refunds counted by status.

    Raises `NotFound` for an unknown batch, or one of another client.
    """
    batch = batches.find_batch(connection, batch_id)
    if batch is None or (client is not None and batch["client"] != client):
        raise NotFound(f"batch {batch_id} is not known")
    status = status_of(batch, now)
    accepted, replayed = batches.count_rows(connection, batch_id)
    return {
        "batch_id": batch_id,
        "status": status,
        "message": _what_to_do(batches.next_row(connection, batch_id)) if status == STOPPED else None,
        "accepted": accepted,
        "replayed": replayed,
        "rejected": [_reject(row) for row in batches.rejected_rows(connection, batch_id, rejects)],
        "refunds_by_status": batches.count_refunds_by_status(connection, batch_id),
        "created_at": iso(batch["created_at"]),
        "updated_at": iso(batch["updated_at"]),
    }


def list_batches(connection: Connection, *, now: float, limit: int, after: str | None = None) -> dict[str, Any]:
    """Return the batches of all clients, newest first, as {data, has_more}, each with the number of its rows."""
    found = batches.latest_batches(connection, limit=limit + 1, after=after)
    data = [
        {
            "batch_id": row["batch_id"],
            "status": status_of(row, now),
            "rows": row["rows"],
            "client": row["client"],
            "actor": row["actor"],
            "created_at": iso(row["created_at"]),
            "updated_at": iso(row["updated_at"]),
        }
        for row in found[:limit]
    ]
    return {"data": data, "has_more": len(found) > limit}


def status_of(batch: RowMapping, now: float) -> BatchStatus:
    """Return the status: complete, being accepted, or stopped (no progress for `STOPPED_SECONDS`)."""
    if batch["status"] == COMPLETE:
        return COMPLETE
    return STOPPED if batch["updated_at"] <= now - STOPPED_SECONDS else TAKING_IN


def _what_to_do(rows: int) -> str:
    return f"stopped after {rows} rows: send the same batch again to continue from there; nothing is done twice"


def _reject(row: RowMapping) -> Reject:
    return {"index": row["row"], "code": row["code"], "message": row["message"]}
