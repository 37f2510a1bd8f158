"""Each scripted fault has its documented effect on the client, on the book and on the key."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stripe
from tests.processors.sandbox.customer import Customer
from tests.support.deployment import wait_until


def test_timeout_without_effect_stores_neither_refund_nor_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"timeout": {"effect": "none"}})
    customer.fails(stripe.APIConnectionError, None)
    assert customer.in_book() == []
    assert customer.ask().amount == 300
    assert len(customer.in_book()) == 1


def test_timeout_after_the_effect_is_replayed_to_the_same_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"timeout": {"effect": "now"}})
    customer.fails(stripe.APIConnectionError, None)
    (made,) = customer.in_book()
    assert customer.ask().id == made["id"]
    assert len(customer.in_book()) == 1


def test_late_request_keeps_its_key_in_use_until_it_takes_effect(patient: Customer) -> None:
    patient.sandbox.add_fault({"timeout": {"effect": "later", "after_seconds": 600}})
    patient.fails(stripe.APIConnectionError, None)
    patient.fails(stripe.APIError, 409)
    assert patient.in_book() == []
    patient.sandbox.advance_clock(601)
    (made,) = patient.in_book()
    assert patient.ask().id == made["id"]
    assert len(patient.in_book()) == 1


def test_late_request_without_its_key_has_no_effect_after_its_retry(patient: Customer) -> None:
    patient.sandbox.add_fault({"timeout": {"effect": "later", "after_seconds": 600, "holds_key": False}})
    patient.fails(stripe.APIConnectionError, None)
    made = patient.ask()
    patient.sandbox.advance_clock(601)
    assert [refund["id"] for refund in patient.in_book()] == [made.id]


def test_late_effect_survives_a_crash_of_the_sandbox(patient: Customer) -> None:
    patient.sandbox.add_fault({"timeout": {"effect": "later", "after_seconds": 600}})
    patient.fails(stripe.APIConnectionError, None)
    patient.sandbox.kill()
    patient.sandbox.start()
    patient.fails(stripe.APIError, 409)
    patient.sandbox.advance_clock(601)
    assert len(patient.in_book()) == 1
    assert patient.ask().id == patient.in_book()[0]["id"]


@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1), ("mid_body", 1)])
def test_reset_connection_does_not_show_if_the_refund_was_created(customer: Customer, when: str, effects: int) -> None:
    customer.sandbox.add_fault({"reset": when})
    customer.fails(stripe.APIConnectionError, None)
    assert len(customer.in_book()) == effects
    refund = customer.ask()
    assert [entry["id"] for entry in customer.in_book()] == [refund.id]


def test_refund_with_a_truncated_answer_is_in_the_book(customer: Customer) -> None:
    customer.sandbox.add_fault({"truncate": True})
    customer.fails(stripe.APIError, 200)
    (made,) = customer.in_book()
    assert customer.ask().id == made["id"]


@pytest.mark.parametrize(
    ("do", "error", "status", "code"),
    [
        ({"conflict": "key_in_use"}, stripe.APIError, 409, "idempotency_key_in_use"),
        ({"lock_timeout": 409}, stripe.APIError, 409, "lock_timeout"),
        ({"lock_timeout": 429}, stripe.RateLimitError, 429, "lock_timeout"),
        ({"rate_limit": {}}, stripe.RateLimitError, 429, "rate_limit"),
        ({"unauthorized": True}, stripe.AuthenticationError, 401, None),
        ({"forbidden": True}, stripe.PermissionError, 403, None),
    ],
)
def test_error_before_execution_stores_neither_refund_nor_key(
    customer: Customer, do: dict[str, Any], error: type[stripe.StripeError], status: int, code: str | None
) -> None:
    customer.sandbox.add_fault(do)
    failure = customer.fails(error, status)
    assert failure.error is not None
    assert failure.error.code == code
    assert customer.in_book() == []
    assert customer.ask().amount == 300


def test_rate_limit_sends_retry_after_only_if_configured(customer: Customer) -> None:
    customer.sandbox.add_fault({"rate_limit": {"retry_after_seconds": 7}})
    customer.sandbox.add_fault({"rate_limit": {}})
    waits = [customer.fails(stripe.RateLimitError, 429).headers.get("retry-after") for _ in range(2)]
    assert waits == ["7", None]


def test_sticky_500_without_effect_is_replayed_to_its_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"server_error": {}})
    customer.fails(stripe.APIError, 500)
    again = customer.fails(stripe.APIError, 500)
    assert again.headers["idempotent-replayed"] == "true"
    assert customer.in_book() == []
    assert customer.ask("-new").amount == 300


def test_sticky_500_with_effect_is_replayed_to_its_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"server_error": {"effect": "now"}})
    customer.fails(stripe.APIError, 500)
    customer.fails(stripe.APIError, 500)
    (made,) = customer.in_book()
    assert customer.listed() == [made["id"]]


def test_500_can_be_rolled_forward_later(patient: Customer) -> None:
    patient.sandbox.add_fault({"server_error": {"effect": "later", "after_seconds": 3600}})
    patient.fails(stripe.APIError, 500)
    assert patient.in_book() == []
    patient.sandbox.advance_clock(3601)
    assert len(patient.in_book()) == 1
    patient.fails(stripe.APIError, 500)
    assert len(patient.in_book()) == 1


def test_retry_of_a_503_that_is_not_sticky_gets_the_answer(customer: Customer) -> None:
    customer.sandbox.add_fault({"server_error": {"status": 503, "sticky": False, "effect": "now"}})
    customer.fails(stripe.APIError, 503)
    (made,) = customer.in_book()
    assert customer.ask().id == made["id"]
    assert len(customer.in_book()) == 1


def test_final_decline_is_stored_under_its_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"refuse": {"code": "expired_or_canceled_card", "message": "No more."}})
    assert customer.fails(stripe.InvalidRequestError, 400).code == "expired_or_canceled_card"
    assert customer.fails(stripe.InvalidRequestError, 400).headers["idempotent-replayed"] == "true"
    assert customer.in_book() == []


@pytest.mark.parametrize(
    "name", ["charge_already_refunded", "charge_disputed", "refund_disputed_payment", "balance_insufficient"]
)
def test_named_refusal_has_its_code(customer: Customer, name: str) -> None:
    customer.sandbox.add_fault({"refuse": name})
    assert customer.fails(stripe.InvalidRequestError, 400).code == name
    assert customer.in_book() == []


def test_empty_balance_can_be_a_card_error_with_only_a_message_code(customer: Customer) -> None:
    customer.sandbox.add_fault({"refuse": "insufficient_balance_for_refund"})
    failure = customer.fails(stripe.CardError, 402)
    assert failure.code is None
    assert isinstance(failure.json_body, dict)
    assert failure.json_body["error"]["message_code"] == "insufficient_balance_for_refund"


@pytest.mark.parametrize("status", ["clearing", None])
def test_unknown_status_is_in_the_answer_and_in_the_book(customer: Customer, status: str | None) -> None:
    customer.sandbox.add_fault({"lifecycle": [{"status": status}]})
    assert customer.ask().status == status
    assert customer.in_book()[0]["status"] == status


@pytest.mark.parametrize(("name", "lie"), [("amount", 1), ("currency", "usd"), ("charge", "ch_other")])
def test_answer_can_be_false_while_the_book_is_true(customer: Customer, name: str, lie: object) -> None:
    customer.sandbox.add_fault({"answer": {name: lie}})
    refund = customer.ask()
    assert refund[name] == lie
    assert customer.in_book()[0][name] != lie
    assert customer.client.v1.refunds.retrieve(refund.id)[name] == customer.in_book()[0][name]


@pytest.mark.parametrize(
    ("life", "statuses"),
    [
        ([("pending", 0), ("succeeded", 60)], ["pending", "succeeded"]),
        ([("pending", 0), ("failed", 60)], ["pending", "failed"]),
        ([("succeeded", 0), ("failed", 60)], ["succeeded", "failed"]),
        ([("requires_action", 0), ("failed", 60)], ["requires_action", "failed"]),
        ([("pending", 0), ("canceled", 60)], ["pending", "canceled"]),
    ],
)
def test_scripted_statuses_continue_after_a_restart(
    patient: Customer, life: list[tuple[str, float]], statuses: list[str]
) -> None:
    steps = [{"status": status, "after_seconds": seconds} for status, seconds in life]
    patient.sandbox.add_fault({"lifecycle": steps})
    refund = patient.ask()
    patient.sandbox.advance_clock(50)
    seen = [refund.status, patient.client.v1.refunds.retrieve(refund.id).status]
    patient.sandbox.kill()
    patient.sandbox.start()
    patient.sandbox.advance_clock(11)
    seen.append(patient.client.v1.refunds.retrieve(refund.id).status)
    assert seen == [statuses[0], statuses[0], statuses[1]]
    reason = patient.in_book()[0]["failure_reason"]
    assert reason == ("unknown" if statuses[1] == "failed" else None)


def test_scripted_step_happens_without_a_request(customer: Customer) -> None:
    customer.sandbox.add_fault({"lifecycle": [{"status": "pending"}, {"status": "succeeded", "after_seconds": 0.2}]})
    refund = customer.ask()
    assert refund.status == "pending"

    def moved() -> list[str]:
        """Return the statuses from the file, because a request for the book would run the step itself."""
        lines = [
            json.loads(line) for line in customer.sandbox.book_path.read_text().splitlines(True) if line[-1] == "\n"
        ]
        changed = (record for line in lines for record in line if record["kind"] == "changed")
        return [record["set"]["status"] for record in changed if record["id"] == refund.id]

    wait_until(moved)
    assert moved() == ["succeeded"]


def test_lagging_list_misses_a_refund_that_can_be_retrieved(patient: Customer) -> None:
    patient.sandbox.change_faults({"list_lag_seconds": 30})
    refund = patient.ask()
    assert patient.listed() == []
    assert patient.client.v1.refunds.retrieve(refund.id).id == refund.id
    patient.sandbox.advance_clock(32)
    assert patient.listed() == [refund.id]


@pytest.mark.parametrize("disorder", ["repeat", "shift"])
def test_pages_can_repeat_or_skip_a_refund(customer: Customer, disorder: str) -> None:
    made = [customer.ask(f"-{number}").id for number in range(3)][::-1]
    customer.sandbox.add_fault({"pages": disorder}, match={"nth": 2})
    walked = customer.client.v1.refunds.list({"charge": customer.charge, "limit": 2}).auto_paging_iter()
    expected = {"repeat": [made[0], made[1], made[1], made[2]], "shift": made[:2]}
    assert [refund.id for refund in walked] == expected[disorder]


def test_requests_are_counted_by_kind_and_outcome(patient: Customer) -> None:
    patient.sandbox.add_fault({"reset": "before"})
    patient.fails(stripe.APIConnectionError, None)
    patient.ask()
    patient.ask()
    assert patient.sandbox.book()["requests"] == {"POST create": {"unanswered": 1, "200": 2, "replayed": 1}}
