"""The rules of scripted faults: their match, order, chance and seed, and the refusal of malformed ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import stripe
from tests.processors.sandbox.customer import Customer

from refund_worker.processors.sandbox import FaultFileError, Sandbox
from refund_worker.processors.sandbox.actions import make_plan
from refund_worker.processors.sandbox.faults import NOTHING, Faults, Subject
from refund_worker.processors.sandbox.heavy import heavy_actions

Connect = Callable[..., stripe.StripeClient]


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
