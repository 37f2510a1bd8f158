"""Payees and earnings over HTTP: who sees the destination, and a statement that adds up."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest
from tests.support.payees import IBAN, KEY, payout_accounts
from tests.web.client import Web

from refund_worker.engine.refunds.process import process_due
from refund_worker.sealing import Box
from refund_worker.web.dependencies import AppState

BANK = {"kind": "bank", "iban": "DE89 3704 0044 0532 0130 00", "holder": "Maria Example"}
BODY = {"processor_account": "stripe", "destination": BANK, "currency": "EUR", "country": "de"}
PAYEE = {"payee_id": "p/1", **BODY}
PATH = "/v1/payees/p%2F1"
EARNING = {
    "earning_id": "earn-1",
    "payee_id": "p/1",
    "amount_minor": 500,
    "currency": "EUR",
    "transaction_id": "tx-1",
    "description": "Private chat",
}
AT = "2026-10-05T12:00:00Z"


@pytest.fixture
def shop(web: Web) -> Web:
    """The application with an account whose payouts go to banks, and a key that seals."""
    state: AppState = web.app.state.shared
    context = replace(state.context, accounts=payout_accounts(), box=Box((KEY,)))
    web.app.state.shared = replace(state, context=context)
    return web


def record(shop: Web, **changes: Any) -> None:
    assert shop.call("POST", "/v1/payees", PAYEE | changes).status_code == 201


@pytest.mark.parametrize("role", ["viewer", "requester", "approver", "operator", "admin"])
def test_only_admins_see_the_whole_destination(shop: Web, role: str) -> None:
    record(shop)
    key = shop.key(role)
    for path in (PATH, "/v1/payees"):
        answer = shop.call("GET", path, key=key)
        assert answer.status_code == 200
        assert "bank DE•• •••• 3000" in answer.text
        assert "0532" not in answer.text
        assert "Maria" not in answer.text
    whole = shop.call("GET", f"{PATH}/destination", key=key)
    assert whole.status_code == (200 if role == "admin" else 403)
    if role == "admin":
        assert whole.json() == {"kind": "bank", "iban": IBAN, "holder": "Maria Example"}
    events = shop.call("GET", f"{PATH}/events").json()["data"]
    assert [event["what"] for event in events] == ["payee_recorded", "destination_read"][: 1 + (role == "admin")]


class TestPayees:
    def test_the_same_body_again_is_200_and_another_409(self, shop: Web) -> None:
        record(shop)
        assert shop.call("POST", "/v1/payees", PAYEE).status_code == 200
        refused = shop.call("POST", "/v1/payees", PAYEE | {"country": "FR"})
        assert (refused.status_code, refused.json()["code"]) == (409, "already_recorded")

    def test_wrong_destination_is_named_without_its_value(self, shop: Web) -> None:
        wrong = PAYEE | {"destination": BANK | {"iban": "DE88 3704 0044 0532 0130 00"}}
        answer = shop.call("POST", "/v1/payees", wrong)
        assert answer.status_code == 422
        assert answer.json()["field"] == "destination.iban"
        assert "0532" not in answer.text

    def test_unknown_country_is_refused(self, shop: Web) -> None:
        for method, path, body in (("POST", "/v1/payees", PAYEE), ("PUT", PATH, BODY)):
            answer = shop.call(method, path, body | {"country": "ZZ"})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert answer.json()["field"] == "country"
        record(shop)
        assert shop.call("GET", PATH).json()["country"] == "DE"

    @pytest.mark.parametrize("destination", [{"kind": "cash"}, {"kind": "bank", "email": "a@b.example"}, {}, None])
    def test_unusable_destination_is_refused(self, shop: Web, destination: object) -> None:
        assert shop.call("POST", "/v1/payees", PAYEE | {"destination": destination}).status_code == 422

    def test_bank_account_without_a_key_says_what_to_set(self, shop: Web) -> None:
        state: AppState = shop.app.state.shared
        shop.app.state.shared = replace(state, context=replace(state.context, box=Box()))
        answer = shop.call("POST", "/v1/payees", PAYEE)
        assert (answer.status_code, answer.json()["code"]) == (422, "destinations_key_missing")
        assert "REFUND_WORKER_DESTINATIONS_KEY" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"customer_id": "nobody"}, "unknown_customer"),
            ({"processor_account": "none"}, "processor_account_unknown"),
            ({"destination": {"kind": "paypal", "email": "a@b.example"}}, "destination_not_payable"),
            ({"method": "instant"}, "destination_not_payable"),
            ({"country": "DEU"}, "invalid_request"),
        ],
    )
    def test_unusable_field_is_named(self, shop: Web, change: dict[str, object], code: str) -> None:
        answer = shop.call("POST", "/v1/payees", PAYEE | change)
        assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (422, code, list(change))

    def test_change_pause_and_resume(self, shop: Web) -> None:
        record(shop)
        first = shop.call("GET", PATH).json()
        assert shop.call("PUT", PATH, BODY).json() == first
        other = BODY | {"destination": {"kind": "stripe_account", "account": "acct_1Abcd"}}
        changed = shop.call("PUT", PATH, other).json()
        assert changed["destination"]["masked"] == "Stripe account acct_•••• cd"
        assert changed["destination"]["id"] != first["destination"]["id"]
        assert shop.call("POST", f"{PATH}/pause", {"reason": "asked"}).json()["status"] == "paused"
        assert shop.call("POST", f"{PATH}/resume", {"reason": "asked"}).json()["status"] == "ready"
        assert shop.call("PUT", "/v1/payees/p2", BODY).status_code == 404

    def test_list_has_pages(self, shop: Web) -> None:
        for number in range(3):
            record(shop, payee_id=f"p{number}")
        page = shop.call("GET", "/v1/payees?limit=2").json()
        assert ([each["payee_id"] for each in page["data"]], page["has_more"]) == (["p0", "p1"], True)
        rest = shop.call("GET", "/v1/payees?limit=2&starting_after=p1").json()
        assert ([each["payee_id"] for each in rest["data"]], rest["has_more"]) == (["p2"], False)
        assert shop.call("GET", "/v1/payees?starting_after=none").status_code == 422


class TestEarnings:
    def test_the_same_body_again_is_200_and_another_409(self, shop: Web) -> None:
        record(shop)
        first = shop.call("POST", "/v1/earnings", EARNING)
        again = shop.call("POST", "/v1/earnings", EARNING)
        assert (first.status_code, again.status_code) == (201, 200)
        assert first.json() == again.json() == shop.call("GET", "/v1/earnings/earn-1").json()
        for change in ({"amount_minor": 501}, {"available_at": AT}, {"description": "other"}, {"transaction_id": None}):
            refused = shop.call("POST", "/v1/earnings", EARNING | change)
            assert (refused.status_code, refused.json()["code"]) == (409, "already_recorded")

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"payee_id": "none"}, "unknown_payee"),
            ({"transaction_id": "none"}, "unknown_transaction"),
            ({"transaction_id": "purchase-pay-1"}, "unknown_transaction"),
            ({"currency": "USD"}, "currency_mismatch"),
            ({"currency": "XXQ"}, "invalid_request"),
            ({"amount_minor": 0}, "invalid_request"),
            ({"amount_minor": -5}, "invalid_request"),
            ({"amount_minor": 1.5}, "invalid_request"),
        ],
    )
    def test_unusable_earning_is_refused(self, shop: Web, change: dict[str, object], code: str) -> None:
        record(shop)
        answer = shop.call("POST", "/v1/earnings", EARNING | change)
        assert (answer.status_code, answer.json()["code"], answer.json()["fields"]) == (422, code, list(change))
        assert shop.call("GET", "/v1/earnings").json()["data"] == []

    def test_earning_is_held_for_the_set_time(self, shop: Web) -> None:
        record(shop)
        shop.call("POST", "/v1/earnings", EARNING)
        (balance,) = shop.call("GET", PATH).json()["balances"]
        assert (balance["held_minor"], balance["payable_minor"]) == (500, 0)
        shop.call("POST", "/v1/earnings", EARNING | {"earning_id": "earn-2", "available_at": AT})
        (balance,) = shop.call("GET", PATH).json()["balances"]
        assert (balance["held_minor"], balance["payable_minor"]) == (500, 500)

    def test_list_is_filtered(self, shop: Web) -> None:
        record(shop)
        record(shop, payee_id="p2")
        shop.call("POST", "/v1/earnings", EARNING)
        shop.call("POST", "/v1/earnings", EARNING | {"earning_id": "earn-2", "payee_id": "p2", "transaction_id": None})

        def ids(query: str) -> list[str]:
            return [each["earning_id"] for each in shop.call("GET", f"/v1/earnings?{query}").json()["data"]]

        assert ids("") == ["earn-1", "earn-2"]
        assert ids("payee_id=p2") == ["earn-2"]
        assert ids("transaction_id=tx-1") == ["earn-1"]


def test_statement_adds_up_as_json_and_csv(shop: Web) -> None:
    record(shop)
    shop.call("POST", "/v1/earnings", EARNING)
    shop.refund("k", kind="credit_refund", to="balance", transaction_id="tx-1", credits=20)
    process_due(shop.context)
    month = shop.call("GET", PATH).json()["created_at"][:7]
    statement = shop.call("GET", f"{PATH}/statement?month={month}").json()
    (line,) = statement["lines"]
    assert line == {
        "currency": "EUR",
        "opening_minor": 0,
        "earned_minor": 500,
        "clawed_back_minor": 200,
        "paid_minor": 0,
        "returned_minor": 0,
        "closing_minor": 300,
    }
    told = [
        (each["kind"], each["reference"], each["amount_minor"], each["balance_minor"]) for each in statement["entries"]
    ]
    assert told == [("earning", "earn-1", 500, 500), ("clawback", "earn-1", -200, 300)]
    for answer in (
        shop.call("GET", f"{PATH}/statement?month={month}&format=csv"),
        shop.call("GET", f"{PATH}/statement?month={month}", headers={"Accept": "text/csv"}),
    ):
        assert answer.headers["content-type"].startswith("text/csv")
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert [(row["kind"], row["balance_minor"]) for row in rows] == [
            ("opening", "0"),
            ("earning", "500"),
            ("clawback", "300"),
            ("closing", "300"),
        ]
    following = f"{int(month[:4]) + 1}-01"
    later = shop.call("GET", f"{PATH}/statement?month={following}").json()
    assert [(each["opening_minor"], each["closing_minor"]) for each in later["lines"]] == [(300, 300)]
    assert shop.call("GET", f"{PATH}/statement?month=2026-13").status_code == 422
    assert shop.call("GET", f"/v1/payees/none/statement?month={month}").status_code == 404


def test_statement_is_csv_by_header_unless_the_format_says_otherwise(shop: Web) -> None:
    record(shop)
    headers = {"Accept": "text/csv"}
    by_header = shop.call("GET", f"{PATH}/statement?month=2026-11", headers=headers)
    assert by_header.headers["Content-Type"].startswith("text/csv")
    as_json = shop.call("GET", f"{PATH}/statement?month=2026-11&format=json", headers=headers)
    assert as_json.json()["month"] == "2026-11"
