"""Ids, keys and names over HTTP: which are accepted, which object a URL names, and which are refused."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import text
from tests.web.client import PAYMENT, SPEND, Web, is_problem
from tests.web.test_payments_over_http import correct

ODD_IDS = [
    "auth0|5f7c",
    "_V1St",
    "-V1St",
    "O'Brien & Søn",
    "a/b",
    "shop/transactions",
    "mia/corrections",
    "a//b/",
    "50%",
    "%2F",
    "a%2Fb",
    "客户 7?#",
]


def pay(web: Web, customer: str, number: int = 9, **changes: Any) -> Any:
    odd = {"payment_id": f"p-{number}", "processor_payment_id": f"ch_{number}", "customer_id": customer}
    return web.call("POST", "/v1/payments", PAYMENT | odd | changes)


def at(web: Web, *parts: str, **options: Any) -> Any:
    return web.call("GET", "/v1/" + "/".join(quote(part, safe="") for part in parts), **options)


@pytest.mark.parametrize("id", ODD_IDS)
def test_an_id_names_its_own_object_on_every_route(web: Web, id: str) -> None:
    assert pay(web, id).status_code == 201
    assert at(web, "customers", id).json()["customer_id"] == id
    spent = web.call("POST", "/v1/transactions", SPEND | {"transaction_id": f"{id}=", "customer_id": id, "credits": 30})
    assert spent.status_code == 201
    entry = correct(web, 5, "c-1", quote(id, safe=""))
    assert entry.status_code == 201
    listed = at(web, "customers", id, "transactions").json()["data"]
    assert [each["transaction_id"] for each in listed[1:]] == [f"{id}=", "purchase-p-9"]
    assert is_problem(web.call("DELETE", f"/v1/transactions/{quote(id + '=', safe='')}"), 409, "not_reversible")
    asked = web.refund("k", customer_id=id, kind="credit_refund", transaction_id=f"{id}=", to="balance", credits=3)
    assert asked.status_code == 202
    found = web.call("GET", "/v1/refunds", params={"customer_id": id}).json()["data"]
    assert [refund["id"] for refund in found] == [asked.json()["id"]]


@pytest.mark.parametrize("id", ODD_IDS)
def test_a_payments_id_names_it_and_a_slash_divides_the_path(web: Web, id: str) -> None:
    assert pay(web, "cust-1", payment_id=id).status_code == 201
    assert at(web, "payments", id).json()["payment_id"] == id
    if "/" in id:
        assert is_problem(web.raw("GET", f"/v1/payments/{quote(id)}"), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/customers/a/%2e%2e/cust-1",
        "/v1/customers/%2e%2e/customers/cust-1",
        "/v1/customers/a%2F..%2Fcust-1",
        "/v1/customers/a%5C..%5Ccust-1",
        "/v1/customers/%2e%2e",
        "/v1/customers/..%2Fcust-1",
        "/v1/customers//cust-1",
        "/v1/customers/cust-1/",
        "/v1/customers/cust-1%20",
        "/v1/customers/cust-1%00",
        "/v1/customers/%FFcust-1",
        "/v1/customers/cust-1%2Ftransactions",
        "/v1/customers/a/cust-1/transactions",
    ],
)
def test_no_other_path_reaches_a_customer(web: Web, path: str) -> None:
    answer = web.raw("GET", path)
    assert is_problem(answer, 404, "not_found")
    assert "balance" not in answer.text


BAD_IDS = [" mia", "mia ", "a\x00", "a\u202eb", "a\u200bb", "..", "a/../mia", "", "x" * 201, 7, None]


@pytest.mark.parametrize("bad", BAD_IDS)
@pytest.mark.parametrize("field", ["payment_id", "customer_id"])
def test_invalid_id_is_refused_by_field_name_and_not_stored(web: Web, field: str, bad: Any) -> None:
    answer = web.call(
        "POST", "/v1/payments", PAYMENT | {"payment_id": "p-9", "processor_payment_id": "ch_9", field: bad}
    )
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == field
    assert count(web, "payments") == 1


@pytest.mark.parametrize("bad", [each for each in BAD_IDS if each is not None])
def test_invalid_id_is_refused_in_spends_and_requests(web: Web, bad: Any) -> None:
    assert is_problem(web.call("POST", "/v1/transactions", SPEND | {"transaction_id": bad}), 422, "invalid_request")
    for field in ("customer_id", "transaction_id"):
        answer = web.refund("k", **{field: bad})
        # Ids that an earlier version could have stored are still found.
        codes = ("invalid_request", "unknown_customer", "unknown_transaction")
        assert (answer.status_code, answer.json()["code"] in codes) == (422, True)
    assert count(web, "refunds") == 0


def test_unicode_spellings_of_an_id_name_one_customer(web: Web) -> None:
    assert pay(web, "Zoe\u0308").json()["customer_id"] == "Zo\u00eb"
    assert pay(web, "Zo\u00eb").status_code == 200
    assert at(web, "customers", "Zoe\u0308").json()["balance"] == 200
    assert web.refund("k", customer_id="Zoe\u0308").status_code == 202
    found = web.call("GET", "/v1/refunds", params={"customer_id": "Zoe\u0308"}).json()["data"]
    assert len(found) == 1


def test_id_accepted_by_an_earlier_version_stays_reachable(web: Web) -> None:
    with web.context.database.write() as connection:
        connection.execute(text("INSERT INTO customers (customer_id, created_at) VALUES ('a/../mia', 1)"))
    assert at(web, "customers", "a/../mia").json()["customer_id"] == "a/../mia"
    assert correct(web, 5, "c-1", "a%2F..%2Fmia").status_code == 201


@pytest.mark.parametrize("prefix", ["purchase-", "reversal-"])
def test_spend_with_a_reserved_id_is_refused(web: Web, prefix: str) -> None:
    entry = correct(web, 5, "c-1").json()["transaction_id"]
    spend = web.call("POST", "/v1/transactions", SPEND | {"transaction_id": f"{prefix}{entry}", "credits": 1})
    assert is_problem(spend, 422, "invalid_request")
    assert web.call("DELETE", f"/v1/transactions/{entry}").json()["refers_to"] == entry


# --- ids that the processor does not accept --------------------------------------------------------------------------

SECRET = "pi_3MtwBwLkdIwHu7ix28a3tqPa_secret_YrKJUKribcBjcG8HVhfZluoGH"


@pytest.mark.parametrize("id", ["ch_a.b", "ch_a/b", "ch_a b", "ch_é", "re_1", "cs_test_1", "CH_1", SECRET])
def test_invalid_stripe_payment_id_is_refused_and_not_repeated(web: Web, id: str) -> None:
    answer = web.call("POST", "/v1/payments", PAYMENT | {"payment_id": "p-9", "processor_payment_id": id})
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "processor_payment_id"
    assert id not in answer.text
    assert count(web, "payments") == 1


def test_other_processors_have_free_payment_ids_but_none_is_named_all(web: Web) -> None:
    assert pay(web, "mia", processor="manual", processor_payment_id="INV 2026/11").status_code == 201
    answer = pay(web, "mia", 8, processor="all")
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "processor"


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["ticket-9 ", "ticket-9   ", "ticket-9\t", " ticket-9", "\t ticket-9 \t"])
def test_blanks_around_the_header_are_not_part_of_the_key(web: Web, sent: str) -> None:
    first = web.refund("ticket-9")
    again = web.refund(sent)
    assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
    assert again.headers["idempotent-replayed"] == "true"
    assert correct(web, -1, "c").json() == correct(web, -1, " c ").json()
    assert is_problem(web.refund(" "), 400, "idempotency_key_missing")


def test_the_filter_finds_a_key_with_or_without_blanks_around_it(web: Web) -> None:
    id = web.refund("ticket-9").json()["id"]
    for key in ("ticket-9", "ticket-9 ", " ticket-9"):
        found = web.call("GET", "/v1/refunds", params={"idempotency_key": key}).json()["data"]
        assert [refund["id"] for refund in found] == [id]


@pytest.mark.parametrize("key", ["B-1 ", " B-1", "B-1\t"])
def test_a_batchs_key_with_blanks_is_refused_by_name(web: Web, key: str) -> None:
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 1, "reason": "asked"}
    rows = [{"idempotency_key": each, **body} for each in ("B-1", key)]
    batch = web.call("POST", "/v1/refund-batches", {"refunds": rows}).json()
    assert (batch["accepted"], [reject["index"] for reject in batch["rejected"]]) == (1, [1])
    assert "blanks at its ends" in batch["rejected"][0]["message"]


# --- names of metadata -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["4111 1111 1111 1111", "card 4111-1111-1111-1111", "a\x00b", "a\x1b", "", "x" * 41])
def test_metadata_names_obey_the_rules_of_values(web: Web, name: str) -> None:
    answer = web.refund("k", metadata={name: "x"})
    assert is_problem(answer, 422, "invalid_request")
    assert "4111" not in answer.text
    assert count(web, "refunds") == 0


def test_unknown_field_named_like_a_card_number_is_not_repeated(web: Web) -> None:
    answer = web.refund("k", **{"4111 1111 1111 1111": 1})
    assert is_problem(answer, 422, "invalid_request")
    assert "4111" not in answer.text


# --- corrections -----------------------------------------------------------------------------------------------------


def test_requester_deletes_only_corrections_of_its_own_client(web: Web) -> None:
    entry = correct(web, -5, "c-1").json()["transaction_id"]  # of the client "backend"
    path = f"/v1/transactions/{entry}"
    assert is_problem(web.call("DELETE", path, key=web.key("requester", client="other")), 404, "not_found")
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 145
    mine = web.call("DELETE", path, key=web.key("requester"))
    assert (mine.status_code, mine.json()["refers_to"]) == (200, entry)
    # A repeat is refused too: the other client must not learn that it was deleted.
    assert is_problem(web.call("DELETE", path, key=web.key("requester", client="other")), 404, "not_found")


@pytest.mark.parametrize("role", ["operator", "admin"])
def test_roles_that_see_all_clients_delete_any_correction(web: Web, role: str) -> None:
    entry = correct(web, -5, "c-1").json()["transaction_id"]
    assert web.call("DELETE", f"/v1/transactions/{entry}", key=web.key(role, client="other")).status_code == 200


def count(web: Web, table: str) -> int:
    with web.context.database.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
