"""Calls to processors, whatever their adapters do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from refund_worker.domain.processor_replies import Answer, Unanswered
from refund_worker.engine.context import Context

log = logging.getLogger("refund_worker.calls")


async def call_safely(context: Context, processor: str, call: Awaitable[Answer]) -> Answer:
    """The answer; `Unanswered` where the adapter raises, which it promised not to: what happened is not known."""
    try:
        return await call
    except context.interrupts:
        raise
    except Exception as error:
        log.exception("the %s adapter raised an exception", processor)
        return Unanswered(f"the adapter raised {type(error).__name__}")
