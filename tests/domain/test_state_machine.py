"""The transition tables, written a second time: a change to them is a change to this file, and is seen."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import pytest
from tests.domain.builders import a_leg, a_refund

import refund_worker
from refund_worker.domain.refund import FINAL, Leg, LegStatus, RefundStatus
from refund_worker.domain.state_machine import (
    ACTIONS,
    LEG_TABLE,
    REFUND_TABLE,
    Action,
    ImpossibleMove,
    LegOutcome,
    RefundOutcome,
    asked_minor,
    available_actions,
    combined_outcome,
    next_leg_status,
    next_refund_status,
)

# One column a leg outcome, one row a state; a dot where the move is impossible.
LEGS = """
                sent    accepted asks_customer   paid      object_failed object_canceled refused blocked not_executed silence absent  given_up paid_by_hand unfunded  released cancel_asked displaced
planned         sending pending  requires_action succeeded failed        canceled        .       blocked .            .       .       canceled succeeded    blocked canceled        .        canceled
sending         .       pending  requires_action succeeded failed        canceled        failed  blocked waiting      unknown .       .        .            blocked    .        .        .
waiting         sending pending  requires_action succeeded failed        canceled        .       blocked .            .       .       canceled succeeded    blocked    .        .        canceled
unknown         sending pending  requires_action succeeded failed        canceled        failed  blocked .            unknown waiting .        succeeded    blocked    .        .        .
blocked         sending pending  requires_action succeeded failed        canceled        .       blocked .            unknown .       canceled succeeded    blocked    .        .        canceled
pending         .       pending  requires_action succeeded failed        canceled        .       .       .            unknown .       canceled succeeded    blocked    .        .        .
requires_action .       pending  requires_action succeeded failed        canceled        .       .       .            unknown .       .        .            blocked    .        requires_action        .
succeeded       .       pending  requires_action succeeded failed        canceled        .       .       .            .       .       canceled .            .        canceled        .        .
failed          .       pending  requires_action succeeded failed        canceled        .       .       .            .       .       .        succeeded    .    .        .        .
canceled        .       pending  requires_action succeeded failed        canceled        .       .       .            .       .       .        succeeded    .    .        .        .
"""  # noqa: E501
LEGS_COME_TO = "needs_attention sending pending reversing succeeded partially_succeeded failed"
REFUNDS = f"""
                    credited  posted  approved rejected canceled stuck asking waiting returning paid paid_in_part paid_nothing
queued              succeeded sending .        .        canceled .     .      .       .         .    .            .
awaiting_approval   .         sending queued   rejected canceled .     .      .       .         .    .            .
sending             .         .       .        .        .        {LEGS_COME_TO}
pending             .         .       .        .        .        {LEGS_COME_TO}
reversing           .         .       .        .        .        {LEGS_COME_TO}
needs_attention     .         .       .        .        .        {LEGS_COME_TO}
succeeded           .         .       .        .        .        {LEGS_COME_TO}
partially_succeeded .         .       .        .        .        {LEGS_COME_TO}
failed              .         .       .        .        .        {LEGS_COME_TO}
rejected            .         sending .        .        .        .     .      .       .         .    .            .
canceled            .         sending .        .        .        .     .      .       .         .    .            .
"""  # noqa: E501


def read(literal: str) -> dict[tuple[str, str], str]:
    """Return the cells of a table by status and outcome."""
    header, *rows = (line.split() for line in literal.strip().splitlines())
    return {(row[0], outcome): cell for row in rows for outcome, cell in zip(header, row[1:], strict=True)}


def test_second_tables_name_every_status_and_outcome() -> None:
    assert set(read(LEGS)) == {(str(s), str(o)) for s, o in product(LegStatus, LegOutcome)}
    assert set(read(REFUNDS)) == {(str(s), str(o)) for s, o in product(RefundStatus, RefundOutcome)}


@pytest.mark.parametrize("status", LegStatus)
def test_leg_transitions_match_the_second_table(status: LegStatus) -> None:
    for outcome in LegOutcome:
        expected = read(LEGS)[status, outcome]
        if expected == ".":
            with pytest.raises(ImpossibleMove):
                next_leg_status(status, outcome)
        else:
            assert next_leg_status(status, outcome) == expected


@pytest.mark.parametrize("status", RefundStatus)
def test_refund_transitions_match_the_second_table(status: RefundStatus) -> None:
    for outcome in RefundOutcome:
        expected = read(REFUNDS)[status, outcome]
        if expected == ".":
            with pytest.raises(ImpossibleMove):
                next_refund_status(status, outcome)
        else:
            assert next_refund_status(status, outcome) == expected


def test_tables_have_exactly_the_known_statuses() -> None:
    assert set(LEG_TABLE) == set(LegStatus)
    assert set(REFUND_TABLE) == set(RefundStatus)


def test_rejected_or_canceled_refund_reopens_only_if_it_was_sent() -> None:
    assert REFUND_TABLE[RefundStatus.REJECTED] == REFUND_TABLE[RefundStatus.CANCELED]
    assert set(REFUND_TABLE[RefundStatus.CANCELED]) == {RefundOutcome.POSTED}


def test_final_refund_offers_no_action() -> None:
    for status in FINAL:
        assert available_actions(a_refund(status=status)) == ()


@pytest.mark.parametrize(
    ("status", "leg", "actions"),
    [
        ("queued", "planned", "cancel"),
        ("awaiting_approval", "planned", "approve reject cancel"),
        ("sending", "sending", ""),
        ("sending", "waiting", ""),
        ("sending", "unknown", "resolve"),
        ("pending", "pending", ""),
        ("reversing", "failed", ""),
        ("needs_attention", "blocked", "retry resolve"),
        ("needs_attention", "waiting", "retry resolve"),
        ("needs_attention", "unknown", "retry resolve"),
        ("needs_attention", "sending", "retry"),
        ("needs_attention", "pending", "retry"),
        ("pending", "requires_action", "cancel"),
        ("sending", "requires_action", "cancel"),
        ("needs_attention", "requires_action", "cancel retry"),
    ],
)
def test_available_actions_are_exactly_these(status: str, leg: str, actions: str) -> None:
    refund = a_refund(a_leg(status=LegStatus(leg)), status=RefundStatus(status))
    assert " ".join(available_actions(refund)) == actions
    assert set(ACTIONS) == set(Action)


def legs_of(*statuses: str) -> list[Leg]:
    """Return one leg for each status."""
    return [a_leg(number, status=LegStatus(status), reallocated=True) for number, status in enumerate(statuses, 1)]


@pytest.mark.parametrize(
    ("statuses", "to_return", "expected"),
    [
        ("succeeded", 0, "paid"),
        ("succeeded succeeded", 0, "paid"),
        ("succeeded failed", 0, "paid_in_part"),
        ("succeeded failed", 5, "returning"),
        ("failed", 5, "returning"),
        ("failed", 0, "paid_nothing"),
        ("failed canceled", 0, "paid_nothing"),
        ("succeeded pending", 0, "waiting"),
        ("requires_action failed", 5, "waiting"),
        ("pending sending", 0, "asking"),
        ("succeeded unknown", 5, "asking"),
        ("succeeded planned", 0, "asking"),
        ("blocked", 0, "asking"),
        ("waiting", 0, "asking"),
    ],
)
def test_combined_outcome_of_legs(statuses: str, to_return: int, expected: str) -> None:
    assert combined_outcome(legs_of(*statuses.split()), to_return) == expected


def test_leg_that_needs_a_person_outweighs_all_others() -> None:
    assert (
        combined_outcome([a_leg(attention_code="x"), a_leg(2, status=LegStatus.UNKNOWN)], 7)
        is RefundOutcome.NEEDS_ATTENTION
    )


def test_replacement_legs_ask_for_no_new_money() -> None:
    legs = [a_leg(status=LegStatus.FAILED, reallocated=True), a_leg(2, status=LegStatus.SUCCEEDED, replaces="r-1")]
    assert asked_minor(legs) == 1_000
    assert combined_outcome(legs, 0) is RefundOutcome.PAID


def places_that_set_a_status(source: Path) -> set[str]:
    """Return `file:function` of every call in the domain and the engine that gives a leg or a refund a status.

    The status of a refund object is the processor's: it does not count.
    """
    found = set()
    for path in sorted(file for part in ("domain", "engine") for file in (source / part).rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(_sets_a_status(call) for call in calls):
                    found.add(f"{path.name}:{function.name}")
    return found


def _sets_a_status(call: ast.Call) -> bool:
    of_an_object = bool(call.args) and ast.unparse(call.args[0]) == "refund_object"
    named = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
    sets = any(keyword.arg == "status" for keyword in call.keywords)
    makers = {"replace", "Leg", "Refund", "Payout", "PayoutLeg", "update_leg", "transition_leg"}
    return sets and named in makers and not of_an_object


def test_status_is_changed_by_the_tables_only() -> None:
    assert places_that_set_a_status(Path(refund_worker.__file__).parent) == {
        "decision_builder.py:transition_leg",  # next_leg_status
        "decision_builder.py:transition_refund",  # next_refund_status
        "credit_postings.py:release",  # next_leg_status
        "acceptance.py:accept",  # first_refund_status
        "acceptance.py:accepted",  # first_refund_status
        "acceptance.py:_planned",  # first_leg_status
        "builder.py:transition_leg",  # next_leg_status, of payouts
        "builder.py:transition_payout",  # next_payout_status
        "acceptance.py:planned_payout",  # first_payout_status
        "acceptance.py:accepted_payout",  # first_payout_status
        "runs.py:become",  # the table of runs
    }


@pytest.mark.parametrize("line", ["replace(leg, status=LegStatus.FAILED)", "builder.update_leg(leg, status=new)"])
def test_another_place_that_sets_a_status_is_found(tmp_path: Path, line: str) -> None:
    file = tmp_path / "domain" / "other.py"
    file.parent.mkdir()
    file.write_text(f"def decide(leg):\n    return {line}\n", "utf-8")
    assert places_that_set_a_status(tmp_path) == {"other.py:decide"}
