"""Each scripted fault does what it says: to the client, to the book, to the key."""

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
    """Asks for one refund of 300 with one key, again and again, and looks into the book."""

    def __init__(self, client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
        self.client, self.sandbox, self.charge = client, sandbox, charge

    def ask(self, key: str = "") -> stripe.Refund:
        return self.client.v1.refunds.create(
            {"charge": self.charge, "amount": 300}, {"idempotency_key": f"{self.charge}{key}"}
        )

    def fails(self, error: type[stripe.StripeError], status: int | None, key: str = "") -> stripe.StripeError:
        with pytest.raises(error) as raised:
            self.ask(key)
        assert type(raised.value) is error
        assert raised.value.http_status == status
        return raised.value

    def in_book(self) -> list[dict[str, Any]]:
        return [refund for refund in self.sandbox.refunds() if refund["charge"] == self.charge]

    def listed(self) -> list[str]:
        return [refund.id for refund in self.client.v1.refunds.list({"charge": self.charge}).data]


@pytest.fixture
def customer(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> Customer:
    return Customer(client, sandbox, charge)


@pytest.fixture
def patient(own_sandbox: Sandbox, connect: Connect) -> Customer:
    """A customer with a sandbox whose clock may be moved."""
    own_sandbox.register_payment("ch_1", 1000)
    return Customer(connect(own_sandbox), own_sandbox, "ch_1")


def test_a_timeout_without_effect_leaves_nothing_and_the_key_free(customer: Customer) -> None:
    customer.sandbox.add_fault({"timeout": {"effect": "none"}})
    customer.fails(stripe.APIConnectionError, None)
    assert customer.in_book() == []
    assert customer.ask().amount == 300
    assert len(customer.in_book()) == 1


def test_a_timeout_after_the_effect_is_replayed_to_the_same_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"timeout": {"effect": "now"}})
    customer.fails(stripe.APIConnectionError, None)
    (made,) = customer.in_book()
    assert customer.ask().id == made["id"]
    assert len(customer.in_book()) == 1


def test_a_late_effect_holds_its_key_until_it_lands(patient: Customer) -> None:
    patient.sandbox.add_fault({"timeout": {"effect": "later", "after_seconds": 600}})
    patient.fails(stripe.APIConnectionError, None)
    patient.fails(stripe.APIError, 409)
    assert patient.in_book() == []
    patient.sandbox.advance_clock(601)
    (made,) = patient.in_book()
    assert patient.ask().id == made["id"]
    assert len(patient.in_book()) == 1


def test_a_late_request_in_front_of_the_keys_has_no_effect_after_its_retry(patient: Customer) -> None:
    patient.sandbox.add_fault({"timeout": {"effect": "later", "after_seconds": 600, "holds_key": False}})
    patient.fails(stripe.APIConnectionError, None)
    made = patient.ask()
    patient.sandbox.advance_clock(601)
    assert [refund["id"] for refund in patient.in_book()] == [made.id]


def test_a_late_effect_survives_a_crash_of_the_sandbox(patient: Customer) -> None:
    patient.sandbox.add_fault({"timeout": {"effect": "later", "after_seconds": 600}})
    patient.fails(stripe.APIConnectionError, None)
    patient.sandbox.kill()
    patient.sandbox.start()
    patient.fails(stripe.APIError, 409)
    patient.sandbox.advance_clock(601)
    assert len(patient.in_book()) == 1
    assert patient.ask().id == patient.in_book()[0]["id"]


@pytest.mark.parametrize(("when", "effects"), [("before", 0), ("after", 1), ("mid_body", 1)])
def test_a_broken_connection_tells_nothing(customer: Customer, when: str, effects: int) -> None:
    customer.sandbox.add_fault({"reset": when})
    customer.fails(stripe.APIConnectionError, None)
    assert len(customer.in_book()) == effects
    refund = customer.ask()
    assert [entry["id"] for entry in customer.in_book()] == [refund.id]


def test_a_truncated_answer_can_not_be_read_but_is_in_the_book(customer: Customer) -> None:
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
def test_what_is_not_executed_has_no_effect_and_is_not_kept(
    customer: Customer, do: dict[str, Any], error: type[stripe.StripeError], status: int, code: str | None
) -> None:
    customer.sandbox.add_fault(do)
    failure = customer.fails(error, status)
    assert failure.error is not None
    assert failure.error.code == code
    assert customer.in_book() == []
    assert customer.ask().amount == 300


def test_a_rate_limit_says_when_to_come_back_only_if_told_to(customer: Customer) -> None:
    customer.sandbox.add_fault({"rate_limit": {"retry_after_seconds": 7}})
    customer.sandbox.add_fault({"rate_limit": {}})
    waits = [customer.fails(stripe.RateLimitError, 429).headers.get("retry-after") for _ in range(2)]
    assert waits == ["7", None]


def test_a_500_sticks_to_its_key_without_effect(customer: Customer) -> None:
    customer.sandbox.add_fault({"server_error": {}})
    customer.fails(stripe.APIError, 500)
    again = customer.fails(stripe.APIError, 500)
    assert again.headers["idempotent-replayed"] == "true"
    assert customer.in_book() == []
    assert customer.ask("-new").amount == 300


def test_a_500_sticks_to_its_key_although_it_had_its_effect(customer: Customer) -> None:
    customer.sandbox.add_fault({"server_error": {"effect": "now"}})
    customer.fails(stripe.APIError, 500)
    customer.fails(stripe.APIError, 500)
    (made,) = customer.in_book()
    assert customer.listed() == [made["id"]]


def test_a_500_can_be_rolled_forward_later(patient: Customer) -> None:
    patient.sandbox.add_fault({"server_error": {"effect": "later", "after_seconds": 3600}})
    patient.fails(stripe.APIError, 500)
    assert patient.in_book() == []
    patient.sandbox.advance_clock(3601)
    assert len(patient.in_book()) == 1
    patient.fails(stripe.APIError, 500)
    assert len(patient.in_book()) == 1


def test_a_503_that_does_not_stick_is_followed_by_the_answer(customer: Customer) -> None:
    customer.sandbox.add_fault({"server_error": {"status": 503, "sticky": False, "effect": "now"}})
    customer.fails(stripe.APIError, 503)
    (made,) = customer.in_book()
    assert customer.ask().id == made["id"]
    assert len(customer.in_book()) == 1


def test_a_final_decline_is_kept_under_its_key(customer: Customer) -> None:
    customer.sandbox.add_fault({"refuse": {"code": "expired_or_canceled_card", "message": "No more."}})
    assert customer.fails(stripe.InvalidRequestError, 400).code == "expired_or_canceled_card"
    assert customer.fails(stripe.InvalidRequestError, 400).headers["idempotent-replayed"] == "true"
    assert customer.in_book() == []


@pytest.mark.parametrize(
    "name", ["charge_already_refunded", "charge_disputed", "refund_disputed_payment", "balance_insufficient"]
)
def test_a_named_refusal_has_its_code(customer: Customer, name: str) -> None:
    customer.sandbox.add_fault({"refuse": name})
    assert customer.fails(stripe.InvalidRequestError, 400).code == name
    assert customer.in_book() == []


def test_an_empty_balance_can_show_as_a_card_error_with_a_message_code_only(customer: Customer) -> None:
    customer.sandbox.add_fault({"refuse": "insufficient_balance_for_refund"})
    failure = customer.fails(stripe.CardError, 402)
    assert failure.code is None
    assert isinstance(failure.json_body, dict)
    assert failure.json_body["error"]["message_code"] == "insufficient_balance_for_refund"


@pytest.mark.parametrize("status", ["clearing", None])
def test_a_status_nobody_knows_is_in_the_answer_and_in_the_book(customer: Customer, status: str | None) -> None:
    customer.sandbox.add_fault({"lifecycle": [{"status": status}]})
    assert customer.ask().status == status
    assert customer.in_book()[0]["status"] == status


@pytest.mark.parametrize(("name", "lie"), [("amount", 1), ("currency", "usd"), ("charge", "ch_other")])
def test_an_answer_can_lie_while_the_book_does_not(customer: Customer, name: str, lie: object) -> None:
    customer.sandbox.add_fault({"answer": {name: lie}})
    told = customer.ask()
    assert told[name] == lie
    assert customer.in_book()[0][name] != lie
    assert customer.client.v1.refunds.retrieve(told.id)[name] == customer.in_book()[0][name]


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
def test_a_refund_lives_as_scripted_across_a_restart(
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


def test_a_scripted_step_comes_by_itself(customer: Customer) -> None:
    customer.sandbox.add_fault({"lifecycle": [{"status": "pending"}, {"status": "succeeded", "after_seconds": 0.2}]})
    refund = customer.ask()
    assert refund.status == "pending"

    def moved() -> list[str]:
        """From the file: the timer has written it, no look at the book."""
        lines = [
            json.loads(line) for line in customer.sandbox.book_path.read_text().splitlines(True) if line[-1] == "\n"
        ]
        changed = (record for line in lines for record in line if record["kind"] == "changed")
        return [record["set"]["status"] for record in changed if record["id"] == refund.id]

    wait_until(moved)
    assert moved() == ["succeeded"]


def test_a_list_that_lags_misses_a_refund_that_can_be_retrieved(patient: Customer) -> None:
    patient.sandbox.change_faults({"list_lag_seconds": 30})
    refund = patient.ask()
    assert patient.listed() == []
    assert patient.client.v1.refunds.retrieve(refund.id).id == refund.id
    patient.sandbox.advance_clock(32)
    assert patient.listed() == [refund.id]


@pytest.mark.parametrize("disorder", ["repeat", "shift"])
def test_pages_can_repeat_or_pass_over_a_refund(customer: Customer, disorder: str) -> None:
    made = [customer.ask(f"-{number}").id for number in range(3)][::-1]
    customer.sandbox.add_fault({"pages": disorder}, match={"nth": 2})
    walked = customer.client.v1.refunds.list({"charge": customer.charge, "limit": 2}).auto_paging_iter()
    expected = {"repeat": [made[0], made[1], made[1], made[2]], "shift": made[:2]}
    assert [refund.id for refund in walked] == expected[disorder]


def test_rules_choose_by_payment_metadata_turn_and_number_of_times(customer: Customer, sandbox: Sandbox) -> None:
    sandbox.add_fault({"rate_limit": {}}, match={"payment": "ch_other"}, times=None)
    sandbox.add_fault({"rate_limit": {}}, match={"metadata": {"leg": "7"}}, times=None)
    sandbox.add_fault({"forbidden": True}, match={"path_kind": "create", "payment": customer.charge, "nth": [2, 3]})
    customer.ask("-1")
    customer.fails(stripe.PermissionError, 403, "-2")
    customer.ask("-3")  # the second turn of a rule that acts once
    with pytest.raises(stripe.RateLimitError):
        customer.client.v1.refunds.create({"charge": customer.charge, "amount": 1, "metadata": {"leg": "7", "x": "y"}})
    assert len(customer.in_book()) == 2


def test_two_faults_for_the_same_request_come_one_after_the_other(customer: Customer) -> None:
    customer.sandbox.add_fault({"forbidden": True})
    customer.sandbox.add_fault({"lock_timeout": 409})
    customer.fails(stripe.PermissionError, 403)
    customer.fails(stripe.APIError, 409)
    assert customer.ask().amount == 300


def test_a_replay_does_not_use_up_a_fault_of_execution(customer: Customer) -> None:
    first = customer.ask()
    customer.sandbox.add_fault({"server_error": {}})
    assert customer.ask().id == first.id
    customer.fails(stripe.APIError, 500, "-new")


def test_faults_end_when_they_are_cleared(customer: Customer) -> None:
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
    """What twenty refunds over five payments came to, each asked for up to three times with its key."""
    told: list[object] = []
    for number in range(20):
        charge = f"ch_{number % 5}"
        for _ in range(3):
            try:
                refund = client.v1.refunds.create(
                    {"charge": charge, "amount": 10 + number}, {"idempotency_key": f"k{number}"}
                )
            except stripe.StripeError as failure:
                told.append((number, type(failure).__name__, failure.http_status, failure.code))
            else:
                told.append((number, refund.id, refund.status, refund.amount))
                break
    return told


def test_the_same_seed_and_requests_give_the_same_answers_and_another_seed_others(connect: Connect) -> None:
    def run(seed: int) -> list[object]:
        faults = {"seed": seed, "mode": "heavy", "intensity": 0.6, "hang_seconds": 0.1}
        with Sandbox(faults=faults) as running:
            running.register_payments(
                [{"processor_payment_id": f"ch_{n}", "amount_minor": 500, "currency": "gbp"} for n in range(5)]
            )
            told = outcomes(running, connect(running, timeout=10))
            book = running.book()
            for payment in book["payments"]:
                assert 0 <= payment["refunded"] <= payment["amount"]
        return told

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


def test_probability_is_kept_roughly() -> None:
    rule = {"do": {"rate_limit": {}}, "times": None, "probability": 0.25}
    faults = Faults({"seed": 3, "rules": [rule]})
    hits = sum(faults.plan(Subject("POST", "create", f"ch_{n}")).not_executed is not None for n in range(2000))
    assert 400 < hits < 600


@pytest.mark.parametrize("kind", ["create", "retrieve", "list", "cancel", "charge", "webhook"])
def test_every_heavy_action_is_a_known_one(kind: str) -> None:
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
def test_a_fault_file_that_is_not_understood_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "faults.json"
    file.write_text(content)
    with pytest.raises(FaultFileError):
        Faults.read(file)


def test_a_wrong_rule_leaves_the_faults_as_they_were() -> None:
    faults = Faults()
    with pytest.raises(FaultFileError):
        faults.add({"list_lag_seconds": 9, "rules": [{"do": {"truncate": True}}, {"do": {"nonsense": 1}}]})
    assert (faults.list_lag_seconds, faults.rules) == (0.0, [])
