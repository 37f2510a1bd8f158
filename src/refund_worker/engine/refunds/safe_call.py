"""Call processors safely, whatever their adapters do."""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.processor_replies import Answer, Unanswered
from refund_worker.engine.context import Context

log = logging.getLogger(__name__)


async def call_safely(context: Context, processor: str, call: Awaitable[Answer]) -> Answer:
    """Return the answer, or `Unanswered` if the adapter raises: adapters promise not to, so the outcome is unknown.

    An interrupt from outside (`context.interrupts`, for example a time limit) is raised.
    """
    try:
        return await call
    except context.interrupts:
        raise
    except Exception as error:  # noqa: BLE001 - an alarm, and an answer that decides nothing
        raise_alarm(log, Alarm.ADAPTER_FAILED, "the %s adapter raised an exception", processor, error=error)
        return Unanswered(f"the adapter raised {type(error).__name__}")
