"""The circuit of a processor: sending pauses while it accepts no call of ours, and is tried again automatically."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm, runbook_link
from refund_worker.domain.account_names import platform_of
from refund_worker.domain.decision import PAUSE_SECONDS, Event, ProcessorDenied
from refund_worker.domain.processor_replies import Denied
from refund_worker.engine.context import Context
from refund_worker.engine.views.runbook import event_entry
from refund_worker.store import processors, timeline
from refund_worker.store.database import after_commit
from refund_worker.store.waiting import requeue_waiting_for

log = logging.getLogger(__name__)

# Sending is tried again and again while a cause lasts. One alarm a day for each cause is enough.
ALARM_AGAIN_SECONDS = 86_400.0


def denials(answers: Iterable[tuple[str, object]]) -> Iterable[ProcessorDenied]:
    """Return one denial for each account that refused our set-up in `answers`: (processor, answer).

    A connected account is called with the credentials of its platform, so the platform is denied.
    """
    found: Mapping[str, ProcessorDenied] = {
        platform_of(name): ProcessorDenied(platform_of(name), answer.code, answer.message)
        for name, answer in answers
        if isinstance(answer, Denied)
    }
    return found.values()


def open_circuits(connection: Connection, denied: Iterable[ProcessorDenied], now: float) -> None:
    """Stop sending where our configuration is at fault. Alert an operator once a day of each cause, not at each try."""
    for denial in denied:
        name, code = denial.processor, denial.code
        is_new = processors.is_new_cause(connection, name, code, now - ALARM_AGAIN_SECONDS)
        processors.pause(
            connection, name, now, by="refund-worker", code=code, reason=denial.message, until=now + PAUSE_SECONDS
        )
        if is_new:
            processors.record_alarm(connection, name, now)
            after_commit(connection, partial(_raise_alarm, denial))
            detail = {"processor": name, "code": code}
            event = Event("processor_paused", "refund-worker", reason=denial.message, detail=detail, alarm=True)
            timeline.insert_events(connection, [(None, event)], now)


def stop_denied(context: Context, answers: Iterable[tuple[str, object]]) -> bool:
    """Open the circuit of each account that refused our set-up in `answers`; return True if one did.

    `answers` are (processor, answer). Nothing is written if all accepted it.
    """
    denied = list(denials(answers))
    if denied:
        context.database.run(lambda connection: open_circuits(connection, denied, context.clock(connection)))
    return bool(denied)


def close_circuit(connection: Connection, processor: str, at: float, now: float) -> None:
    """Send again, because the processor has accepted a call that began at `at`: the refunds that wait are due `now`.

    A circuit that was opened after `at` stays open, and so does a person's pause.
    """
    if processors.end_automatic_pause(connection, processor, at, until=at + PAUSE_SECONDS):
        requeue_waiting_for(connection, processor, now)


def _raise_alarm(denial: ProcessorDenied) -> None:
    raise_alarm(
        log,
        Alarm.SENDING_STOPPED,
        "nothing more is sent to %s: %s: %s",
        denial.processor,
        denial.code,
        denial.message,
        processor=denial.processor,
        code=denial.code,
        runbook=runbook_link(event_entry("processor_paused", None, denial.code)),
    )
