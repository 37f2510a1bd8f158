"""Payments of an installation with several accounts, and the kill switch of each account, over HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import AT, Web, settings_for
from tests.web.console.visitor import visitor

from refund_worker.store.processors import paused_processors

__all__ = ["migrated_sqlite_url", "sqlite_template"]

ACCOUNTS = {
    "stripe": {"api_key": "sk_test_1", "webhook_secret": "whsec_1"},
    "stripe:old": {"api_key": "sk_test_2", "webhook_secret": "whsec_2"},
    "acme": {"adapter": "manual"},
    "acme:two": {"adapter": "manual"},
    "beta": {"adapter": "manual"},
}
PAYMENT = {
    "payment_id": "pay-1",
    "customer_id": "cust-1",
    "processor": "stripe",
    "processor_payment_id": "ch_1",
    "amount_minor": 2000,
    "currency": "EUR",
    "credits": 200,
    "captured_at": AT,
}


@pytest.fixture
def web(migrated_sqlite_url: str) -> Iterator[Web]:
    with Web(settings_for(migrated_sqlite_url, PROCESSORS=json.dumps(ACCOUNTS))) as served:
        yield served


def record(web: Web, **changes: Any) -> Any:
    return web.call("POST", "/v1/payments", PAYMENT | changes)


def test_payment_of_a_processor_with_several_accounts_names_its_own(web: Web) -> None:
    missing = record(web)
    assert missing.status_code == 422
    assert missing.json()["code"] == "processor_account_missing"
    assert "stripe, stripe:old" in missing.json()["detail"]
    assert record(web, processor_account="stripe:old").status_code == 201
    shown = web.call("GET", "/v1/payments/pay-1").json()
    assert (shown["processor"], shown["processor_account"], shown["connect"]) == ("stripe", "stripe:old", None)


def test_payment_that_is_recorded_again_keeps_its_account(web: Web) -> None:
    assert record(web, processor_account="stripe:old").status_code == 201
    assert record(web).status_code == 200
    assert record(web, processor_account="stripe:old").status_code == 200
    other = record(web, processor_account="stripe")
    assert (other.status_code, other.json()["code"]) == (409, "already_recorded")


def test_only_account_of_a_processor_needs_no_name(web: Web) -> None:
    assert record(web, processor="beta", processor_payment_id="till 7").status_code == 201
    assert web.call("GET", "/v1/payments/pay-1").json()["processor_account"] == "beta"


def test_processor_without_an_account_is_left_to_a_person(web: Web) -> None:
    assert record(web, processor="gamma", processor_payment_id="x 1").status_code == 201
    shown = web.call("GET", "/v1/payments/pay-1").json()
    assert (shown["processor"], shown["processor_account"]) == ("gamma", "gamma")


def test_account_that_does_not_exist_is_refused(web: Web) -> None:
    unknown = record(web, processor_account="stripe:new")
    assert (unknown.status_code, unknown.json()["code"]) == (422, "processor_account_unknown")
    assert web.call("GET", "/v1/payments/pay-1").status_code == 404


@pytest.mark.parametrize("account", ["acme", "Stripe", "stripe:", "stripe:old:er", "", "all"])
def test_account_of_another_processor_or_of_no_form_is_refused(web: Web, account: str) -> None:
    wrong = record(web, processor_account=account)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "invalid_request")
    assert wrong.json()["field"] == "processor_account"


def test_same_payment_id_at_two_accounts_is_two_payments(web: Web) -> None:
    assert record(web, processor_account="stripe").status_code == 201
    assert record(web, payment_id="pay-2", processor_account="stripe:old").status_code == 201
    third = record(web, payment_id="pay-3", processor_account="stripe:old")
    assert (third.status_code, third.json()["code"]) == (409, "already_recorded")


def test_connected_account_is_part_of_the_payment(web: Web) -> None:
    connect = {"account": "acct_1", "refund_application_fee": True}
    assert record(web, processor_account="stripe", connect=connect).status_code == 201
    shown = web.call("GET", "/v1/payments/pay-1").json()
    assert (shown["processor"], shown["processor_account"]) == ("stripe", "stripe")
    assert shown["connect"] == {"account": "acct_1", "reverse_transfer": None, "refund_application_fee": True}
    assert record(web, processor_account="stripe", connect=connect).status_code == 200
    assert record(web, processor_account="stripe").status_code == 409
    assert record(web, processor_account="stripe", connect=connect | {"account": "acct_2"}).status_code == 409


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"connect": {"account": "ac_1"}}, "connect.account"),
        ({"connect": {"account": "acct_1/x"}}, "connect.account"),
        ({"connect": {"reverse_transfer": "yes"}}, "connect.reverse_transfer"),
        ({"connect": {"acount": "acct_1"}}, "connect.acount"),
        ({"connect": "acct_1"}, "connect"),
        ({"processor": "acme", "processor_account": "acme", "connect": {"account": "acct_1"}}, "connect"),
    ],
)
def test_wrong_connected_account_is_refused(web: Web, changes: dict[str, Any], field: str) -> None:
    wrong = record(web, **({"processor_account": "stripe"} | changes))
    assert (wrong.status_code, wrong.json()["field"]) == (422, field)
    assert web.call("GET", "/v1/payments/pay-1").status_code == 404


def paused(web: Web) -> set[str]:
    with web.context.database.read() as connection:
        return set(paused_processors(connection, 0.0))


def switch(web: Web, name: str, to: str) -> int:
    return int(web.call("POST", f"/v1/processors/{name}/{to}", {"reason": "test"}).status_code)


def test_pause_of_a_processor_stops_each_of_its_accounts(web: Web) -> None:
    assert switch(web, "stripe", "pause") == 200
    assert paused(web) == {"stripe", "stripe:old"}
    assert switch(web, "stripe", "resume") == 200
    assert paused(web) == set()
    assert switch(web, "acme", "pause") == 200  # no adapter has this name
    assert paused(web) == {"acme", "acme:two"}


def test_pause_of_one_account_stops_no_other(web: Web) -> None:
    assert switch(web, "stripe:old", "pause") == 200
    assert paused(web) == {"stripe:old"}


def test_pause_of_an_adapter_stops_each_account_that_uses_it(web: Web) -> None:
    assert switch(web, "manual", "pause") == 200
    assert paused(web) == {"manual", "acme", "acme:two", "beta"}
    assert switch(web, "beta", "resume") == 200
    assert paused(web) == {"manual", "acme", "acme:two"}


def test_pause_of_an_unknown_name_is_refused(web: Web) -> None:
    assert switch(web, "stripe:new", "pause") == 404
    assert switch(web, "stripe:old:er", "pause") == 404
    assert paused(web) == set()


def test_events_of_each_account_have_their_own_address(web: Web) -> None:
    for name, status in (("stripe:old", 400), ("stripe", 400), ("acme", 404), ("nobody", 404)):
        assert web.call("POST", f"/webhooks/{name}", key=None, content=b"{}").status_code == status, name


def deliver(web: Web, to: str, secret: str, **event: Any) -> int:
    """Send an event that this secret signed to the address of the account `to`, and return the status of the answer."""
    body = json.dumps({"id": "evt_1", "type": "refund.updated", "data": {"object": {"id": "re_1"}}} | event).encode()
    at = int(time.time())
    signature = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    headers = {"Stripe-Signature": f"t={at},v1={signature}"}
    return int(web.call("POST", f"/webhooks/{to}", key=None, headers=headers, content=body).status_code)


def stored_at(web: Web) -> list[str]:
    """Return the accounts of the stored events."""
    with web.context.database.read() as connection:
        return list(connection.execute(text("SELECT processor FROM inbox ORDER BY processor")).scalars())


def test_secret_of_one_account_proves_no_event_of_another(web: Web) -> None:
    assert deliver(web, "stripe:old", "whsec_1") == 400
    assert deliver(web, "stripe", "whsec_2") == 400
    assert stored_at(web) == []
    assert deliver(web, "stripe:old", "whsec_2") == 200
    assert deliver(web, "stripe", "whsec_1") == 200  # the same id at another account is another event
    assert stored_at(web) == ["stripe", "stripe:old"]


def test_event_of_a_connected_account_belongs_to_its_platform(web: Web) -> None:
    assert deliver(web, "stripe:old", "whsec_2", account="acct_1") == 200
    assert deliver(web, "stripe:old", "whsec_2", id="evt_2", account="stripe/acct_1") == 200  # no account's id
    assert stored_at(web) == ["stripe:old", "stripe:old/acct_1"]


PAYEE = "acct_1AbcDEFghiJKLmno"
OF_PAYOUTS = {
    "payout.paid": {"id": "po_1", "object": "payout"},
    "transfer.reversed": {"id": "tr_1", "object": "transfer"},
    "account.updated": {"id": PAYEE, "object": "account"},
}


@pytest.mark.parametrize("kind", OF_PAYOUTS)
def test_event_of_a_payee_shows_its_account_masked(web: Web, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="refund_worker")
    assert deliver(web, "stripe", "whsec_1", type=kind, account=PAYEE, data={"object": OF_PAYOUTS[kind]}) == 200
    assert stored_at(web) == [f"stripe/{PAYEE}"]
    (line,) = [vars(record) for record in caplog.records if "stored an event" in record.getMessage()]
    assert (line["event_id"], line["processor"]) == ("evt_1", "stripe/acct_•••• Lmno")
    assert [record for record in caplog.records if PAYEE in str(vars(record))] == []
    page = visitor(web, "operator").get("/webhooks").text
    assert PAYEE not in page
    assert "acct_•••• Lmno" in page


def test_event_of_a_payment_names_its_connected_account(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    """It took the payment: it is no destination, and its refunds are searched for by it."""
    caplog.set_level(logging.INFO, logger="refund_worker")
    assert deliver(web, "stripe", "whsec_1", account=PAYEE) == 200
    (line,) = [vars(record) for record in caplog.records if "stored an event" in record.getMessage()]
    assert line["processor"] == f"stripe/{PAYEE}"
