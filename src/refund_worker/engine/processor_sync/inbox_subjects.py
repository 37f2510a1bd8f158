"""Webhook events about other objects than refunds: how each kind is asked for, and who records the answer.

A new kind of subject is one more entry of `HANDLERS`.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.processor_replies import Answer, DisputeRead, WarningRead
from refund_worker.engine.accounts.fraud_warnings import record_warnings
from refund_worker.engine.claims.listener import record_disputes
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.processors.base import Processor

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SubjectHandler:
    """How events about one kind of object are processed.

    `ask` fetches the object by its id. `answer` is the type of an answer that describes it, in its field `object`.
    `record` gets the objects that one processor described. `outcome` is how such an event ends.
    """

    call: str
    ask: Callable[[Processor, str], Awaitable[Answer]]
    answer: type[Any]
    record: Callable[[Context, str, Sequence[Any]], object]
    outcome: str


HANDLERS: Mapping[str, SubjectHandler] = {
    "dispute": SubjectHandler(
        call="fetch_dispute",
        ask=lambda processor, object_id: processor.fetch_dispute(object_id),
        answer=DisputeRead,
        record=record_disputes,
        outcome="taken in: a dispute",
    ),
    "warning": SubjectHandler(
        call="fetch_warning",
        ask=lambda processor, object_id: processor.fetch_warning(object_id),
        answer=WarningRead,
        record=record_warnings,
        outcome="taken in: an early fraud warning",
    ),
}


def is_described(kind: str, answer: Answer | None) -> bool:
    """Return True if the answer describes the object that was asked for."""
    return kind in HANDLERS and isinstance(answer, HANDLERS[kind].answer)


def record_subjects(context: Context, answers: Iterable[tuple[str, str, Any]]) -> frozenset[tuple[str, str]]:
    """Record what processors described; return (processor, kind) of those that could be recorded.

    `answers` are (processor, kind, answer). If recording fails, the events are tried again later, and the others are
    not held up.
    """
    grouped: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for processor, kind, answer in answers:
        grouped[processor, kind].append(answer.object)
    recorded = set()
    for (processor, kind), objects in grouped.items():
        if run_safely(context, f"the {kind} objects of {processor}", HANDLERS[kind].record, processor, objects):
            recorded.add((processor, kind))
    return frozenset(recorded)


def run_safely(context: Context, subject: str, record: Callable[..., object], *arguments: object) -> bool:
    """Call `record(context, *arguments)`; return False, with an alarm, if this program fails on it."""
    try:
        record(context, *arguments)
    except Unavailable:
        raise
    except Exception as error:  # noqa: BLE001 -- an alarm, and the events are tried again
        raise_alarm(log, Alarm.BATCH_FAILED, "%s could not be recorded", subject, error=error)
        return False
    return True
