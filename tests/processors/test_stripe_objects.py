"""Stripe's refund objects are converted to our fields."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.processors.scripted_stripe import INVALID, MESSAGE, Bench, answers, error, refund

from refund_worker.domain.processor_replies import Answered, UnknownRefusal


@pytest.mark.parametrize(
    ("said", "live"), [(True, True), (False, False), ("true", None), (1, None), (None, None)], ids=str
)
def test_livemode_is_read_if_it_is_a_boolean(bench: Bench, said: object, live: bool | None) -> None:
    answered = bench.send(answers(200, refund(livemode=said)))
    assert isinstance(answered, Answered)
    assert answered.object.live is live


def test_refund_object_is_converted_to_our_fields(bench: Bench) -> None:
    reply = bench.send(answers(200, refund(currency="JPY", failure_reason="declined"), Idempotent_Replayed="true"))
    assert isinstance(reply, Answered)
    assert (reply.request_id, reply.replayed) == ("req_1", True)
    answered = reply.object
    assert (answered.processor_refund_id, answered.status, answered.failure_code) == ("re_1", "succeeded", "declined")
    assert (answered.amount_minor, answered.currency) == (1500, "JPY")
    assert (answered.payment_refs, answered.leg_id, answered.attempt) == (("ch_1", "pi_1"), "leg_1", 1)
    assert answered.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert answered.live is None


@pytest.mark.parametrize("status", ["pending", "requires_action", "failed", "canceled", "a_status_of_next_year", None])
def test_any_status_is_passed_on_unchanged(bench: Bench, status: str | None) -> None:
    assert bench.send(answers(200, refund(status=status))).object.status == status


def test_refund_pending_for_our_balance_is_only_pending(bench: Bench) -> None:
    answered = bench.send(answers(200, refund(status="pending", pending_reason="insufficient_funds"))).object
    assert (answered.status, answered.failure_code) == ("pending", None)


@pytest.mark.parametrize(
    ("changes", "refs", "leg_id", "attempt"),
    [
        ({"charge": {"id": "ch_9", "object": "charge"}}, ("ch_9", "pi_1"), "leg_1", 1),
        ({"charge": None, "payment_intent": None}, (), "leg_1", 1),
        ({"metadata": None}, ("ch_1", "pi_1"), None, None),
        ({"metadata": []}, ("ch_1", "pi_1"), None, None),
        ({"metadata": {"refund_worker_leg": "leg_1", "refund_worker_attempt": "٣"}}, ("ch_1", "pi_1"), "leg_1", None),
        ({"metadata": {"refund_worker_leg": 5, "refund_worker_attempt": "9" * 99}}, ("ch_1", "pi_1"), None, None),
        # Databases cannot store these characters, and a list with one of them is read again every minute.
        ({"metadata": {"refund_worker_leg": "leg\x00"}}, ("ch_1", "pi_1"), None, None),
        ({"metadata": {"refund_worker_leg": "leg\ud800", "refund_worker_attempt": "1"}}, ("ch_1", "pi_1"), None, 1),
    ],
)
def test_metadata_and_references_are_read_if_well_formed(
    bench: Bench, changes: dict[str, Any], refs: tuple[str, ...], leg_id: str | None, attempt: int | None
) -> None:
    answered = bench.send(answers(200, refund(**changes))).object
    assert (answered.payment_refs, answered.leg_id, answered.attempt) == (refs, leg_id, attempt)


def test_fetch_and_cancel_classify_their_answers_alike(bench: Bench) -> None:
    adapter = bench.play(
        answers(200, refund(status="canceled")), answers(200, refund(status="pending")), error(400, INVALID, "odd")
    )
    fetched, canceled, refused = (bench.run(adapter.fetch("re_1")), bench.run(adapter.cancel("re_1")), None)
    refused = bench.run(adapter.cancel("re_2"))
    assert isinstance(fetched, Answered)
    assert isinstance(canceled, Answered)
    assert refused == UnknownRefusal("odd", MESSAGE, "req_1")
    asked = [(request.method, request.target, request.body) for request in bench.server.requests]
    assert asked == [
        ("GET", "/v1/refunds/re_1", ""),
        ("POST", "/v1/refunds/re_1/cancel", ""),
        ("POST", "/v1/refunds/re_2/cancel", ""),
    ]
