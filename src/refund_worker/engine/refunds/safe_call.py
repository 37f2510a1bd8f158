"""Call processors safely, whatever their adapters do, and log each call and its answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable
from typing import TypeVar

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.payouts.payee import REFUSED_BY_PROCESSOR
from refund_worker.domain.payouts.transfers import TransferAnswered
from refund_worker.domain.processor_replies import (
    Answered,
    BalanceRead,
    Found,
    NotSent,
    PaymentRead,
    Unanswered,
)
from refund_worker.engine.context import Context
from refund_worker.engine.views.payout_texts import is_of_compliance
from refund_worker.metrics import ATTEMPTS, CALL_SECONDS, count, observe
from refund_worker.tracing import describe, span

log = logging.getLogger(__name__)

A = TypeVar("A")

# Pending refunds, payments and balances are read again and again: their usual answers are logged at `debug`.
FREQUENT = frozenset({"fetch", "verify", "balance"})


async def call_safely(context: Context, processor: str, name: str, call: Awaitable[A]) -> A | Unanswered:
    """Return the answer, or `Unanswered` if the adapter raises: adapters promise not to, so the outcome is unknown.

    `name` is the kind of call, such as `send`. An interrupt from outside, such as a time limit, is no `Exception` and
    is raised.
    """
    fields = {"processor": processor, "call": name}
    log.log(logging.DEBUG if name in FREQUENT else logging.INFO, "call sent", extra=fields)
    began = context.monotonic()
    answer: A | Unanswered
    try:
        with span(f"{processor} {name}", "client"):
            answer = await call
            outcome, code = outcome_of(answer)
            describe(refund_worker__outcome=outcome, refund_worker__code=code)
    except Exception as error:  # noqa: BLE001 - an alarm, and an answer that decides nothing
        raise_alarm(log, Alarm.ADAPTER_FAILED, "the %s adapter raised an exception", processor, error=error, **fields)
        answer = Unanswered(f"the adapter raised {type(error).__name__}")
    seconds = context.monotonic() - began
    observe(CALL_SECONDS, seconds, processor, name)
    if name == "send":
        count(ATTEMPTS, processor, *outcome_of(answer))
    _log_answer(name, answer, {**fields, "duration_ms": round(seconds * 1000, 1)})
    return answer


def outcome_of(answer: object) -> tuple[str, str | None]:
    """Return the class of an answer, such as `not_sent`, and its code: the processor's, or its object's status.

    They are for logs, metrics and traces, which say of a compliance outcome only that the processor refused.
    """
    outcome = re.sub("(?<=[a-z])(?=[A-Z])", "_", type(answer).__name__).lower()
    if isinstance(answer, Answered | TransferAnswered):
        return outcome, answer.object.status
    code = getattr(answer, "code", None)
    return outcome, REFUSED_BY_PROCESSOR if is_of_compliance(code) else code


def _log_answer(name: str, answer: object, fields: dict[str, object]) -> None:
    outcome, code = outcome_of(answer)
    usual = name in FREQUENT and isinstance(answer, Answered | BalanceRead | Found | PaymentRead)
    reason = f": {answer.reason}" if isinstance(answer, NotSent | Unanswered) else ""
    log.log(
        logging.DEBUG if usual else logging.INFO,
        "call answered%s",
        reason,
        extra={**fields, "outcome": outcome, "code": code},
    )
