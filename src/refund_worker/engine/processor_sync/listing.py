"""The refund objects of the last days, as the processor lists them, and single calls within the rate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from refund_worker.domain.account_names import connected_of
from refund_worker.domain.processor_replies import Answer, Denied, Found, Misconfigured, RefundObject
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.processors.base import Processor

# A refund can still fail about a month after it succeeded. A few days more cost little.
DAYS = 35


class NotListed(Unavailable):
    """A processor has not listed all of its refunds. `processor_code` is its own code, if it answered with one."""

    def __init__(self, message: str, processor: str, code: str | None) -> None:
        super().__init__(message)
        self.processor, self.processor_code = processor, code


class ListDenied(NotListed):
    """The processor does not accept our key, our account or our requests, so it lists nothing. `denied` says why."""

    def __init__(self, processor: str, denied: Denied) -> None:
        message = f"{processor} refused to list its refunds: {denied.code}: {denied.message}"
        super().__init__(message, processor, denied.code)
        self.denied = denied


class ListRefused(NotListed):
    """The processor refuses this one list, and accepts our key: it is a fault of the account that is listed."""


def list_recent(context: Context, processor: str, days: float) -> tuple[float, tuple[RefundObject, ...]]:
    """List what the processor made in the last `days`. Return (start in epoch seconds by our clock, refund objects).

    Raises `ListDenied` if the processor does not accept our set-up, `ListRefused` if it refuses this list alone, and
    `NotListed` if it does not list all of it.
    """
    with context.database.read() as connection:
        since = float(int(context.clock(connection) - days * 86_400))

    async def ask() -> list[object]:
        if connected_of(processor):  # there can be many of them, and the rate is their platform's
            await context.limiter.acquire(processor)
        return [await context.processors[processor].recent(datetime.fromtimestamp(since, UTC))]

    (reply,) = context.run(ask())
    if not isinstance(reply, Found):
        raise not_listed(processor, reply)
    return since, reply.objects


def not_listed(processor: str, reply: object) -> NotListed:
    """Return the error for a reply that is no list."""
    if isinstance(reply, Denied):
        return ListDenied(processor, reply)
    kind = ListRefused if isinstance(reply, Misconfigured) else NotListed
    code = getattr(reply, "code", None)
    why = getattr(reply, "message", None) or getattr(reply, "reason", None) or code
    return kind(f"{processor} did not list its refunds: {why}", processor, code)


def ask_one(context: Context, processor: str, call: Callable[[Processor], Awaitable[Answer]]) -> Answer:
    """Make one call within the rate and return its answer."""

    async def ask() -> list[Answer]:
        await context.limiter.acquire(processor)
        return [await call(context.processors[processor])]

    answer: Answer = context.run(ask())[0]
    return answer
