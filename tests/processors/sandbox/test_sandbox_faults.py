"""Each scripted fault has its documented effect on the client, on the book and on the key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import stripe
from tests.support.deployment import wait_until

from refund_worker.processors.sandbox import FaultFileError, Sandbox
from refund_worker.processors.sandbox.actions import make_plan
from refund_worker.processors.sandbox.faults import NOTHING, Faults, Subject
from refund_worker.processors.sandbox.heavy import heavy_actions

Connect = Callable[..., stripe.StripeClient]


class Customer:
    """Requests one refund of 3.00 with one key, repeatedly, and reads the result from the book."""

    def __init__(self, client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
        self.client, self.sandbox, self.charge = client, sandbox, charge

    def ask(self, key: str = "") -> stripe.Refund:
        """Request the refund. `key` is appended to the idempotency key."""
        return self.client.v1.refunds.create(
            {"charge": self.charge, "amount": 300}, {"idempotency_key": f"{self.charge}{key}"}
        )

    def fails(self, error: type[stripe.StripeError], status: int | None, key: str = "") -> stripe.StripeError:
        """Request the refund and check that the client raises exactly this error. Return the error."""
        with pytest.raises(error) as raised:
            self.ask(key)
        assert type(raised.value) is error
        assert raised.value.http_status == status
        return raised.value

    def in_book(self) -> list[dict[str, Any]]:
        """Return the charge's refunds in the book."""
        return [refund for refund in self.sandbox.refunds() if refund["charge"] == self.charge]

    def listed(self) -> list[str]:
        """Return the ids of the charge's refunds in the API's list."""
        return [refund.id for refund in self.client.v1.refunds.list({"charge": self.charge}).data]


@pytest.fixture
def customer(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> Customer:
    """A customer of the shared sandbox."""
    return Customer(client, sandbox, charge)


@pytest.fixture
def patient(own_sandbox: Sandbox, connect: Connect) -> Customer:
    """A customer with an own sandbox, so that the test may advance its clock."""
    own_sandbox.register_payment("ch_1", 1000)
    return Customer(connect(own_sandbox), own_sandbox, "ch_1")


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


def test_rules_match_by_payment_metadata_nth_and_times(customer: Customer, sandbox: Sandbox) -> None:
    sandbox.add_fault({"rate_limit": {}}, match={"payment": "ch_other"}, times=None)
    sandbox.add_fault({"rate_limit": {}}, match={"metadata": {"leg": "7"}}, times=None)
    sandbox.add_fault({"forbidden": True}, match={"path_kind": "create", "payment": customer.charge, "nth": [2, 3]})
    customer.ask("-1")
    customer.fails(stripe.PermissionError, 403, "-2")
    customer.ask("-3")  # the rule matches again, but it acts only once
    with pytest.raises(stripe.RateLimitError):
        customer.client.v1.refunds.create({"charge": customer.charge, "amount": 1, "metadata": {"leg": "7", "x": "y"}})
    assert len(customer.in_book()) == 2


def test_two_faults_for_one_request_act_one_after_the_other(customer: Customer) -> None:
    customer.sandbox.add_fault({"forbidden": True})
    customer.sandbox.add_fault({"lock_timeout": 409})
    customer.fails(stripe.PermissionError, 403)
    customer.fails(stripe.APIError, 409)
    assert customer.ask().amount == 300


def test_replay_does_not_use_up_a_fault_of_execution(customer: Customer) -> None:
    first = customer.ask()
    customer.sandbox.add_fault({"server_error": {}})
    assert customer.ask().id == first.id
    customer.fails(stripe.APIError, 500, "-new")


def test_cleared_faults_no_longer_act(customer: Customer) -> None:
    customer.sandbox.add_fault({"forbidden": True}, times=None)
    customer.fails(stripe.PermissionError, 403)
    customer.sandbox.clear_faults()
    assert customer.ask().amount == 300


def test_requests_are_counted_by_kind_and_outcome(patient: Customer) -> None:
    patient.sandbox.add_fault({"reset": "before"})
    patient.fails(stripe.APIConnectionError, None)
    patient.ask()
    patient.ask()
    assert patient.sandbox.book()["requests"] == {"POST create": {"unanswered": 1, "200": 2, "replayed": 1}}


def outcomes(sandbox: Sandbox, client: stripe.StripeClient) -> list[object]:
    """Return the outcomes of twenty refunds over five payments, each requested up to three times with its key."""
    results: list[object] = []
    for number in range(20):
        charge = f"ch_{number % 5}"
        for _ in range(3):
            try:
                refund = client.v1.refunds.create(
                    {"charge": charge, "amount": 10 + number}, {"idempotency_key": f"k{number}"}
                )
            except stripe.StripeError as failure:
                results.append((number, type(failure).__name__, failure.http_status, failure.code))
            else:
                results.append((number, refund.id, refund.status, refund.amount))
                break
    return results


def test_answers_depend_only_on_the_seed_and_the_requests(connect: Connect) -> None:
    def run(seed: int) -> list[object]:
        faults = {"seed": seed, "mode": "heavy", "intensity": 0.6, "hang_seconds": 0.1}
        with Sandbox(faults=faults) as running:
            running.register_payments(
                [{"processor_payment_id": f"ch_{n}", "amount_minor": 500, "currency": "gbp"} for n in range(5)]
            )
            results = outcomes(running, connect(running, timeout=10))
            book = running.book()
            for payment in book["payments"]:
                assert 0 <= payment["refunded"] <= payment["amount"]
        return results

    first = run(11)
    assert run(11) == first
    assert run(12) != first
    assert len({str(entry[1:]) for entry in first if isinstance(entry, tuple)}) > 5


# -- without a process ------------------------------------------------------------------------------------------------


def test_chance_does_not_depend_on_how_payments_are_interleaved() -> None:
    def plans(order: list[str]) -> list[tuple[str, object]]:
        faults = Faults({"seed": 5, "mode": "heavy"})
        return sorted(((name, repr(faults.plan(Subject("POST", "create", name)))) for name in order), key=str)

    names = [f"ch_{number % 7}" for number in range(70)]
    assert plans(names) == plans(sorted(names))


def test_probability_is_approximately_right() -> None:
    rule = {"do": {"rate_limit": {}}, "times": None, "probability": 0.25}
    faults = Faults({"seed": 3, "rules": [rule]})
    hits = sum(faults.plan(Subject("POST", "create", f"ch_{n}")).not_executed is not None for n in range(2000))
    assert 400 < hits < 600


@pytest.mark.parametrize("kind", ["create", "retrieve", "list", "cancel", "charge", "webhook"])
def test_every_heavy_action_is_known(kind: str) -> None:
    for weight, do in heavy_actions(kind, denials=True):
        assert weight > 0
        assert make_plan(do) != NOTHING


@pytest.mark.parametrize(
    "content",
    [
        "not json",
        '{"rules": [{"do": {}}]}',
        '{"rules": [{"do": {"reset": "never"}}]}',
        '{"rules": [{"do": {"refuse": "no_such_refusal"}}]}',
        '{"rules": [{"do": {"lifecycle": []}}]}',
        '{"rules": [{"do": {"truncate": true}, "timess": 1}]}',
        '{"mode": "mild"}',
        '{"balance": {"gbp": "much"}}',
        "5",
    ],
)
def test_malformed_fault_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "faults.json"
    file.write_text(content)
    with pytest.raises(FaultFileError):
        Faults.read(file)


def test_malformed_rule_leaves_the_faults_unchanged() -> None:
    faults = Faults()
    with pytest.raises(FaultFileError):
        faults.add({"list_lag_seconds": 9, "rules": [{"do": {"truncate": True}}, {"do": {"nonsense": 1}}]})
    assert (faults.list_lag_seconds, faults.rules) == (0.0, [])
