"""Every code that a refund can show is explained, and its advice names only actions that the refund allows."""

from __future__ import annotations

import re

import pytest
from tests.domain.builders import an_object, answer, begun
from tests.processors.published_codes import GROUPS

from refund_worker.domain.decision import Decision
from refund_worker.domain.processor_replies import (
    UNKNOWN_REFUSAL,
    AlreadyRefunded,
    Answered,
    Blocked,
    Found,
    KeyConflict,
    Misconfigured,
    Refused,
    Reply,
    UnknownRefusal,
)
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.views.failure_codes import FAILURE_CODES, explain
from refund_worker.processors.stripe.errors import BLOCKED, ENDS, PERSON, Meaning

# Source: docs.stripe.com/api/refunds, the reasons why a refund object fails.
FAILURE_REASONS = (
    *("lost_or_stolen_card", "expired_or_canceled_card", "charge_for_pending_refund_disputed", "insufficient_funds"),
    *("declined", "merchant_request", "unknown"),
)
ACTS = re.compile(r"\b(retry|retried|resolve|resolved)\b", re.IGNORECASE)


def of_a_call() -> list[tuple[str, Reply]]:
    """Return (code, reply) for every refusal of a call that the adapter knows."""
    known = [(code, Refused(code, "no")) for code in sorted(ENDS)]
    known += [(code, Blocked(code, "no")) for code in sorted(BLOCKED)]
    known += [(code, Misconfigured(code, "no")) for code in sorted(PERSON | {"not_found", "parameter_invalid_integer"})]
    known += [(UNKNOWN_REFUSAL, UnknownRefusal(code, "no")) for code in sorted(GROUPS[Meaning.UNKNOWN])]
    return [*known, ("charge_already_refunded", AlreadyRefunded("no")), ("idempotency_key_conflict", KeyConflict("no"))]


def test_every_refusal_code_has_advice_that_fits_allowed_actions() -> None:
    for code, reply in of_a_call():
        decision = answer(begun(), reply)
        if isinstance(reply, AlreadyRefunded):
            decision = _looked_up(decision)
        check(code, decision)


@pytest.mark.parametrize("reason", [*FAILURE_REASONS, None])
@pytest.mark.parametrize("late", [False, True])
def test_every_reason_of_a_failed_object_has_one_too(reason: str | None, late: bool) -> None:
    refund = begun()
    if late:
        refund = answer(refund, Answered(an_object("succeeded"))).after
    decision = answer(refund, Answered(an_object("failed", failure_code=reason)))
    check(reason or "failed", decision)


def check(code: str, decision: Decision) -> None:
    """Check that the code is shown, explained, and paired with advice that the refund's state allows."""
    leg = decision.after.legs[0]
    assert code in (leg.attention_code, leg.failure_code)
    assert code in FAILURE_CODES or code.startswith("parameter_"), f"{code} is not explained"
    with_a_person = decision.after.status is RefundStatus.NEEDS_ATTENTION
    why = explain(code, ended=not with_a_person)
    if with_a_person:
        assert Action.RETRY in available_actions(decision.after)
    else:
        assert not ACTS.search(why.advice), f"{code}: {why.advice}"
        assert not why.retry_helps


def _looked_up(decision: Decision) -> Decision:
    from tests.domain.builders import START, found

    return found(decision.after, Found(()), START + 2)


@pytest.mark.parametrize("code", [*sorted(FAILURE_CODES), "a_code_of_next_year", "parameter_unknown", None])
def test_no_advice_for_what_has_ended_names_an_act_that_is_not_there(code: str | None) -> None:
    why = explain(code, ended=True)
    assert not ACTS.search(why.advice), f"{code}: {why.advice}"
    assert not why.retry_helps


def test_a_code_without_an_entry_is_not_said_to_be_worth_a_retry() -> None:
    why = explain("a_code_of_next_year")
    assert not ACTS.search(why.advice)
    assert not why.retry_helps
