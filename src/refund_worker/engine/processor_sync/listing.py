"""The refund objects of the last days, as the processor lists them."""

from __future__ import annotations

from datetime import UTC, datetime

from refund_worker.domain.processor_replies import Found, RefundObject
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable

# A refund can still fail about a month after it succeeded. A few days more cost little.
DAYS = 35


def list_recent(context: Context, processor: str, days: float) -> tuple[float, tuple[RefundObject, ...]]:
    """List what the processor made in the last `days`. Return (start in epoch seconds by our clock, refund objects).

    Raises `Unavailable` if the processor does not list all of it.
    """
    with context.database.read() as connection:
        since = float(int(context.clock(connection) - days * 86_400))

    async def ask() -> list[object]:
        return [await context.processors[processor].recent(datetime.fromtimestamp(since, UTC))]

    (reply,) = context.run(ask())  # type: ignore[arg-type]
    if not isinstance(reply, Found):
        raise Unavailable(f"{processor} did not list its refunds: {type(reply).__name__}, try again later")
    return since, reply.objects
