"""A customer is merged, exported and erased on the customer's page, by the roles that may do it over HTTP."""

from __future__ import annotations

from sqlalchemy import select
from tests.web.client import PAYMENT, Web
from tests.web.console.visitor import text_of, visitor

from refund_worker.store.tables import ledger_transactions

OTHER = PAYMENT | {"payment_id": "pay-2", "customer_id": "cust-2", "processor_payment_id": "ch_2"}


def customer(web: Web, customer_id: str) -> dict[str, object]:
    """Return the customer over HTTP."""
    found: dict[str, object] = web.call("GET", f"/v1/customers/{customer_id}").json()
    return found


def test_operator_merges_a_customer_into_another(web: Web) -> None:
    assert web.call("POST", "/v1/payments", OTHER).status_code == 201
    tom = visitor(web, "operator")
    page = tom.get("/customer", id="cust-2")
    for into in ("nobody", "cust-2", "", "a\tb"):
        wrong = tom.submit(page, "/customer/merge", into=into, reason="registered twice")
        assert (wrong.status_code, "This was not done" in text_of(wrong)) == (422, True), into
    assert "registered twice" in wrong.text
    assert tom.submit(page, "/customer/merge", into="cust-1", reason=" ").status_code == 422
    assert customer(web, "cust-2")["customer_id"] == "cust-2"
    done = tom.follow(tom.submit(page, "/customer/merge", into="cust-1", reason="registered twice"))
    assert "Also known as cust-2" in text_of(done)
    assert "Merged: payments" in text_of(done)
    assert customer(web, "cust-2") == customer(web, "cust-1")
    with web.context.database.read() as connection:
        query = select(ledger_transactions.c.actor).where(ledger_transactions.c.kind == "merge")
        assert list(connection.execute(query).scalars()) == ["console/operator"] * 2


def test_admin_erases_a_customer_whose_id_is_typed_again(web: Web) -> None:
    mia = visitor(web, "admin")
    page = mia.get("/customer", id="cust-1")
    for again, reason in (("cust-2", "asked for"), ("", "asked for"), ("cust-1", " ")):
        wrong = mia.submit(page, "/customer/erase", again=again, reason=reason)
        assert (wrong.status_code, customer(web, "cust-1")["erased_at"]) == (422, None)
    done = mia.follow(mia.submit(page, "/customer/erase", again="cust-1", reason="asked for"))
    assert "The texts of this customer were erased" in text_of(done)
    assert customer(web, "cust-1")["erased_at"]
    entries = web.call("GET", "/v1/customers/cust-1/transactions").json()["data"]
    assert {row["description"] for row in entries if row["kind"] == "spend"} == {""}
    forged = mia.post("/customer/erase", {"customer_id": "nobody", "again": "nobody", "reason": "x", "token": "x"})
    assert forged.status_code == 403


def test_operator_exports_a_customer_as_the_api_does(web: Web) -> None:
    tom = visitor(web, "operator")
    assert "/console/customer.json?id=cust-1" in tom.get("/customer", id="cust-1").text
    file = tom.get("/customer.json", id="cust-1")
    assert file.json() == web.call("GET", "/v1/customers/cust-1/export").json()
    assert file.headers["content-disposition"] == 'attachment; filename="customer-cust-1.json"'
    assert file.headers["cache-control"] == "no-store"
    assert tom.call("HEAD", "/customer.json?id=cust-1").content == b""
    assert tom.get("/customer.json", id="nobody").status_code == 404


def test_page_shows_only_the_acts_of_the_role(web: Web) -> None:
    acts = ("/customer.json", "/customer/merge", "/customer/erase")
    shown = {}
    for role in ("viewer", "support", "operator", "approver", "admin"):
        text = visitor(web, role).get("/customer", id="cust-1").text
        shown[role] = [act for act in acts if f"/console{act}" in text]
    none: list[str] = []
    assert shown == {"viewer": none, "support": none, "approver": none, "operator": list(acts[:2]), "admin": list(acts)}
