"""The address for instructions at the doors: syntax, masks, forms."""

from __future__ import annotations

import pytest
from tests.web.client import Web, is_problem
from tests.web.console.visitor import visitor

from refund_worker.engine.intake.schemas import RefundSchema, parse_schema
from refund_worker.errors import InvalidRequest

ADDRESS, MASKED = "jane.doe@example.com", "j***@example.com"
REQUEST = {"kind": "withdrawal", "to": "source", "customer_id": "c", "reason": "asked"}


def test_answer_and_page_show_the_address_masked(web: Web) -> None:
    refund = web.refund("k-1", instructions_email=ADDRESS).json()
    assert refund["instructions_email"] == MASKED
    assert web.refund("k-1", instructions_email=ADDRESS).headers["idempotent-replayed"] == "true"
    changed = web.refund("k-1", instructions_email="joe@example.com")
    assert is_problem(changed, 422, "idempotency_key_reused")
    assert changed.json()["fields"] == ["instructions_email"]
    page = visitor(web, "viewer").get(f"/refunds/{refund['id']}").text
    assert MASKED in page
    assert "jane" not in page


def test_address_for_a_refund_to_the_balance_is_refused(web: Web) -> None:
    body = {"kind": "credit_refund", "to": "balance", "transaction_id": "tx-1", "instructions_email": ADDRESS}
    answer = web.refund("k-1", **body)
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "instructions_email"
    assert "jane" not in answer.text


@pytest.mark.parametrize(
    "address",
    [
        *("", "zoe1", "zoe1@", "@exa.com", "zoe1@example", "a b@example.com", "zoe1@exam ple.com", "zoe1@-x.com"),
        *("zoe1@example.com\n", "zoe1@a..com", ".zoe1@example.com", "zoe1@example.com,joe@example.com"),
        *("x" * 65 + "@a.de", "zoe1@" + "a" * 250 + ".de", "jäne@example.com", 5),
    ],
    ids=str,
)
def test_malformed_address_is_refused_and_not_repeated(address: object) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_schema(RefundSchema, REQUEST | {"instructions_email": address})
    assert error.value.field == "instructions_email"
    assert address == "" or str(address) not in str(error.value)


@pytest.mark.parametrize("address", [ADDRESS, "o'brien+refunds@mail.example.co.uk", "a@b.de", "x" * 64 + "@a-b.de"])
def test_usual_addresses_are_accepted(address: str) -> None:
    assert parse_schema(RefundSchema, REQUEST | {"instructions_email": address}).instructions_email == address


def test_both_forms_for_real_money_take_an_address(web: Web) -> None:
    person = visitor(web, "support", "anna")
    web.call(
        "POST", "/v1/customers/cust-1/corrections", {"credits": -10, "reason": "x"}, headers={"Idempotency-Key": "c"}
    )
    entries = web.call("GET", "/v1/customers/cust-1/transactions").json()["data"]
    correction = next(entry["transaction_id"] for entry in entries if entry["kind"] == "correction")
    for path, id in (("/refund-transaction", "tx-1"), ("/return-money", correction)):
        assert 'name="instructions_email"' in person.get(path, id=id).text, path
