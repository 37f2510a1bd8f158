"""The refund objects of the last days, as the processor lists them."""

from __future__ import annotations

from datetime import UTC, datetime

from refund_worker.domain.processor_replies import Found, RefundObject
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable

# A refund can still turn to failed about a month after it succeeded; a few days more cost little.
DAYS = 35


def list_recent(context: Context, processor: str, days: float) -> tuple[float, tuple[RefundObject, ...]]:
    """Since when, by our clock, and what the processor made since. Raises `Unavailable` if it does not list it all."""
    with context.database.read() as connection:
        since = float(int(context.clock(connection) - days * 86_400))

    async def ask() -> list[object]:
        return [await context.processors[processor].recent(datetime.fromtimestamp(since, UTC))]

    (reply,) = context.run(ask())  # type: ignore[arg-type]
    if not isinstance(reply, Found):
        raise Unavailable(f"{processor} did not list its refunds: {type(reply).__name__}, try again later")
    return since, reply.objects
