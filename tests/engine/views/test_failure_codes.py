"""Every code that a refund can show is explained, and its advice names only actions that the refund allows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.domain.builders import an_object, answer, begun
from tests.processors.published_codes import GROUPS
from tests.support.pages import ROOT

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
from refund_worker.domain.refund import RefundStatus, RefusalKind
from refund_worker.domain.state_machine import Action, available_actions
from refund_worker.engine.views.failure_codes import FAILURE_CODES, OTHER_CODE, code_with_entry, explain
from refund_worker.engine.views.sending_codes import SENDING_CODES
from refund_worker.processors import registry
from refund_worker.processors.stripe.errors import BLOCKED, ENDS, OURS, PERSON, STRIPE_TYPES, Meaning

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


# The replies whose first argument becomes a failure code; that of `Denied` says why sending stopped.
REPLIES = ("Refused", "Blocked", "Misconfigured", "Denied")
SOURCES = ("processors", "domain", "engine")


def codes_written_in(path: Path) -> Iterator[str]:
    """Yield every code that the file itself gives to a reply, a failure or a stop, as a text or a constant."""
    tree = ast.parse(path.read_text("utf-8"))
    constants = {
        target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = [k.value for k in node.keywords if k.arg in ("failure_code", "attention_code", "code")]
        if ast.unparse(node.func) in REPLIES:
            given += node.args[:1]
        for value in given:
            code = constants.get(ast.unparse(value)) if isinstance(value, ast.Name) else getattr(value, "value", None)
            if isinstance(code, str):
                yield code


def test_every_code_that_the_program_writes_has_an_entry() -> None:
    """A code that a later version adds anywhere needs an entry before it can confuse a person."""
    source = ROOT / "src" / "refund_worker"
    files = [path for part in SOURCES for path in (source / part).rglob("*.py") if "sandbox" not in path.parts]
    written = {code for path in files for code in codes_written_in(path)}
    assert {"bad_payment_id", "manual_processor", "outcome_unknown", "paused_by_hand", "unknown_status"} <= written
    assert {code for code in written if code_with_entry(code) == OTHER_CODE} == set()


def test_every_code_of_a_list_has_an_entry() -> None:
    table = [entry.capabilities for entry in registry.entries()]
    listed = {
        *ENDS,
        *BLOCKED,
        *PERSON,
        *FAILURE_REASONS,
        *(code for capabilities in table for code in capabilities.disputed_codes | capabilities.unfunded_codes),
        *(str(kind) for kind in RefusalKind),
        *GROUPS[Meaning.ENDS],
        *GROUPS[Meaning.BLOCKED],
        *GROUPS[Meaning.PERSON],
    }
    assert {code for code in listed if code_with_entry(code) == OTHER_CODE} == set()


def test_each_code_of_an_adapter_is_explained_by_one_of_ours() -> None:
    explained: dict[str, str] = {}
    for entry in registry.entries():
        for code, ours in entry.explained_by.items():
            assert ours in FAILURE_CODES or ours in SENDING_CODES, (entry.name, code)
            assert explained.setdefault(code, ours) == ours, f"{code}: two adapters disagree"
            assert code not in FAILURE_CODES


def test_every_code_that_stops_sending_has_an_entry() -> None:
    kinds = STRIPE_TYPES - {"api_error", "card_error", "idempotency_error", "rate_limit_error"}
    stops = {"http_401", "http_403", "restored_backup", *OURS, *GROUPS[Meaning.OURS], *kinds}
    assert {code for code in stops if code_with_entry(code) == OTHER_CODE} == set()
    assert set(FAILURE_CODES) & set(SENDING_CODES) == set()


def test_no_general_text_claims_a_fact_of_one_refund() -> None:
    """Whether other payments were tried, and where the credits are, differs from refund to refund."""
    for code, why in FAILURE_CODES.items():
        for text in (why.cause, why.advice, why.at_end or ""):
            assert not re.search("other payments? of the customer were tried|credits (of|are) .* back on", text), code
